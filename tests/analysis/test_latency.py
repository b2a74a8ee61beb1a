"""What a client's time goes into: every instant has one cause, by hand and against an instant-by-instant oracle."""

from __future__ import annotations

from itertools import chain

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import latency_split
from toy import MS, at, edit, make_manifest, make_nodes, make_timeline, renumber, span

from emulator.analysis.latency import CAUSES, latency_splits
from emulator.analysis.summarize import SECOND_NS, summarize
from emulator.ledger.events import Computed, RoundEnded, Transmitted
from emulator.ledger.timeline import Timeline

LENGTH_MS = 60


def by_node(node, event, seq=0):
    return msgspec.structs.replace(event, node=node, seq=seq)


def transmitted(source, destination, posted_ms, start_ms, left_ms, arrival_ms, counter=0):
    times = {"posted_ns": posted_ms * MS, "start_ns": start_ms * MS, "arrival_ns": arrival_ms * MS}
    sizes = {"wire_bytes": 1, "payload_bytes": 1}
    ends = {"source": source, "destination": destination, "kind": "update", "counter": counter}
    return by_node("network", Transmitted(**at(left_ms * MS), **ends, **times, **sizes))


def ms(**causes):
    return {cause: causes.get(cause, 0) * MS for cause in CAUSES}


def both(events):
    return latency_splits(["client-0", "client-1"], Timeline(events), Timeline(events).length_ns)[0]


END = by_node("server", RoundEnded(**at(LENGTH_MS * MS), round=0, started_ns=0))


def test_a_toy_round_by_hand():
    """Three rounds of 100 ms: global 0-10 and 10-20, step 20-50, update 50-70 and 70-80; then the server."""
    each = ms(compute=90, serialisation=90, propagation=60, waiting=60)
    assert both(make_timeline()) == {"client-0": each, "client-1": each}


def test_a_message_that_waits_for_its_link_is_queued_until_its_first_bit_leaves():
    events = [transmitted("client-0", "server", 5, 12, 20, 33), END]
    assert latency_split("client-0", events) == ms(queueing=7, serialisation=8, propagation=13, waiting=32)
    assert latency_split("server", events) == latency_split("client-0", events)
    assert latency_split("client-1", events) == ms(waiting=60)


@pytest.mark.parametrize(
    ("compute", "split"),
    [
        ((0, 60), {"compute": 60}),
        ((5, 12), {"compute": 7, "serialisation": 8, "propagation": 13, "waiting": 32}),
        ((16, 24), {"compute": 8, "queueing": 7, "serialisation": 4, "propagation": 9, "waiting": 32}),
    ],
)
def test_what_happens_during_a_computation_costs_no_time(compute, split):
    events = [transmitted("client-0", "server", 5, 12, 20, 33), by_node("client-0", span("step", *compute)), END]
    assert latency_split("client-0", events) == ms(**split)


def test_bits_that_leave_come_before_bits_on_their_way_and_those_before_bits_that_queue():
    first = transmitted("client-0", "server", 0, 0, 10, 40)
    second = transmitted("client-0", "server", 0, 20, 30, 60, counter=1)
    assert latency_split("client-0", [first, second, END]) == ms(serialisation=20, propagation=40)


@pytest.mark.parametrize("sources", [("client-0", "client-1"), (None, None)], ids=["said", "older-record"])
def test_the_servers_queue_is_that_of_the_client_whose_message_waits_in_it(sources):
    """With one worker and the same links, the second client's computation starts when the first one's has ended."""
    nodes = make_nodes(1)
    queued = [span("cut_step", 80, 85, 0, sources[0]), span("cut_step", 85, 90, 5, sources[1])]
    kept = [event for event in nodes["server"] if not isinstance(event, Computed)]
    nodes["server"] = [msgspec.structs.replace(e, node="server", seq=i) for i, e in enumerate([*kept, *queued])]
    splits = both(Timeline(chain.from_iterable(nodes.values())))
    alike = {"compute": 30, "serialisation": 30, "propagation": 20}
    assert splits == {"client-0": ms(**alike, waiting=20), "client-1": ms(**alike, queueing=5, waiting=15)}


@pytest.mark.parametrize("source", ["", None], ids=["said", "older-record"])
def test_a_servers_computation_for_nobody_is_nobodys_queue(source):
    """In the toy, "average" was queued for 3 ms, and no message had arrived when it was asked for."""
    events = edit(make_timeline(), lambda e: isinstance(e, Computed), lambda _: {"source": source})
    assert all(split["queueing"] == 0 for split in both(events).values())


moments = st.integers(0, LENGTH_MS + 10)
messages = st.tuples(st.booleans(), st.lists(moments, min_size=4, max_size=4).map(sorted))
computations = st.lists(moments, min_size=2, max_size=2, unique=True).map(sorted)


@given(st.lists(messages, max_size=6), st.lists(computations, max_size=4), st.integers(1, LENGTH_MS + 10))
def test_each_instant_has_the_first_cause_that_holds_and_none_is_lost(messages, computations, until_ms):
    """Whatever overlaps, and wherever the timeline is cut."""
    ends = ("client-0", "server")
    events = [transmitted(*(ends if up else ends[::-1]), *times, counter=i) for i, (up, times) in enumerate(messages)]
    events += [by_node("client-0", span("step", *times), i) for i, times in enumerate(computations)]
    expected = dict.fromkeys(CAUSES, 0)
    for t in range(until_ms):
        holds = {
            "compute": any(start <= t < end for start, end in computations),
            "serialisation": any(start <= t < left for _, (_, start, left, _) in messages),
            "propagation": any(left <= t < arrival for _, (_, _, left, arrival) in messages),
            "queueing": any(posted <= t < start for _, (posted, start, _, _) in messages),
            "waiting": True,
        }
        expected[next(cause for cause in CAUSES if holds[cause])] += MS
    assert latency_split("client-0", events, until_ms * MS) == expected


def test_splits_of_a_mixed_run_sum_to_its_length_in_whole_ns():
    shifted = edit(
        make_timeline(clients=3),
        lambda e: isinstance(e, Transmitted),
        lambda e: {"start_ns": e.start_ns + e.counter * 12_345, "arrival_ns": e.arrival_ns + e.counter * 777_777},
    )
    extra = by_node("client-1", span("more", 33, 171), 10**6)
    events = renumber([*shifted, extra])
    ends_ns = [0, 1, 33 * MS + 7, Timeline(events).length_ns, 10**12]
    names = [f"client-{i}" for i in range(3)]
    for end_ns, splits in zip(ends_ns, latency_splits(names, events, *ends_ns), strict=True):
        for name in names:
            assert sum(splits[name].values()) == end_ns
            assert all(isinstance(spent, int) and spent >= 0 for spent in splits[name].values())
            assert splits[name] == latency_split(name, events, end_ns)


# --- in summary.json ----------------------------------------------------------------------------------------------


def test_the_summary_holds_the_split_of_each_client_and_their_mean():
    events = edit(
        make_timeline(),
        lambda e: isinstance(e, Transmitted) and e.destination == "client-1",
        lambda e: {"arrival_ns": e.arrival_ns - 5 * MS},
    )
    algorithm = summarize(make_manifest(), {"fedavg": events}).algorithms["fedavg"]
    for client in algorithm.clients:
        split = latency_split(client.name, events)
        assert client.latency_s == {cause: split[cause] / SECOND_NS for cause in CAUSES}
    for cause in CAUSES:
        each = [client.latency_s[cause] for client in algorithm.clients]
        assert algorithm.latency_s[cause] == pytest.approx(sum(each) / len(each), abs=1e-12)
    assert sum(algorithm.latency_s.values()) == pytest.approx(algorithm.length_s, abs=1e-12)


def test_a_mean_round_ends_with_the_last_round_and_not_with_what_follows_it():
    """The last weights' way to the clients is a part of the timeline, and of no round."""
    after = transmitted("server", "client-0", 300, 300, 310, 320, counter=99)
    later = by_node("server", span("late", 300, 400), 10**6)
    algorithm = summarize(make_manifest(), {"fedavg": [*make_timeline(), after, later]}).algorithms["fedavg"]
    assert algorithm.length_s == 0.4
    assert sum(algorithm.latency_s.values()) == pytest.approx(0.4)
    toy = {"compute": 0.03, "serialisation": 0.03, "propagation": 0.02, "queueing": 0.0, "waiting": 0.02}
    assert algorithm.round_latency_s == pytest.approx(toy)


def test_without_a_round_there_is_no_mean_round():
    events = [event for event in make_timeline() if not isinstance(event, RoundEnded)]
    algorithm = summarize(make_manifest(), {"fedavg": renumber(events)}).algorithms["fedavg"]
    assert algorithm.round_latency_s is None
    assert sum(algorithm.latency_s.values()) == pytest.approx(algorithm.length_s)
