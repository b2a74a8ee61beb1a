"""Each law of a run's health: it holds in the toy run, and a fault put into the ledger breaks it."""

from __future__ import annotations

from math import ceil

import msgspec
import pytest
from toy import MS, at, edit, is_message, make_manifest, make_timeline, renumber

from emulator.checks.health import CUT_OFF, check_health, percentile
from emulator.ledger.events import (
    Clamped,
    Computed,
    Ended,
    Evaluated,
    Host,
    Lifecycle,
    Posted,
    Received,
    Refused,
    Reported,
    RoundEnded,
    Transmitted,
    Undelivered,
)


def judge(events, **changes):
    return check_health(make_manifest(**changes), {"fedavg": events})


def append(events, event):
    """A further line at the end of a node's ledger."""
    return renumber([*events, msgspec.structs.replace(event, seq=10**6)])


@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_the_toy_run_is_good(clock):
    health = judge(make_timeline(), clock=clock)
    assert (health.verdict, health.reasons, health.notes) == ("good", [], [])


# --- faults -------------------------------------------------------------------------------------------------------


def drop(events):
    return edit(events, lambda e: is_message(e, Received, "client-0", 1), lambda _: None)


def drop_before_the_link(events):
    return edit(drop(events), lambda e: is_message(e, Transmitted, "client-0", 1), lambda _: None)


def double(events):
    return append(events, next(e for e in events if is_message(e, Received, "client-0", 1)))


def both_received_and_undelivered(events):
    lost = Undelivered(
        **at(300 * MS),
        node="network",
        counter=1,
        source="client-0",
        destination="server",
        kind="update",
        payload_bytes=1,
    )
    return append(events, lost)


def invent(events):
    received = next(e for e in events if is_message(e, Received, "client-0", 2))
    return append(events, msgspec.structs.replace(received, counter=99))


def reorder(events):
    """The second update of client-0 is handed over before the first, each when it was due."""
    return edit(
        events,
        lambda e: isinstance(e, Received) and e.source == "client-0" and e.counter < 2,
        lambda e: {"counter": 1 - e.counter},
    )


def turn_back_time(events):
    return edit(events, lambda e: is_message(e, Received, "client-0", 0), lambda e: {"due_ns": e.due_ns + 150 * MS})


def serve_1_percent_too_fast(events):
    def sooner(event):
        by = (event.due_ns - event.start_ns) // 100
        return {"due_ns": event.due_ns - by, "arrival_ns": event.arrival_ns - by}

    return edit(events, lambda e: is_message(e, Transmitted, "client-0", 1), sooner)


def serve_1_percent_too_fast_behind_jitter(events):
    """The arrival is late enough; only the time on the link betrays it."""
    return edit(
        events, lambda e: is_message(e, Transmitted, "client-0", 1), lambda e: {"due_ns": e.due_ns - 2 * MS // 10}
    )


def forget_the_delay(events):
    return edit(events, lambda e: is_message(e, Transmitted, "server", 3), lambda e: {"arrival_ns": e.due_ns})


def start_before_posted(events):
    return edit(events, lambda e: is_message(e, Transmitted, "client-0", 1), lambda e: {"start_ns": e.start_ns - 2})


def hand_over_before_arrival(events):
    return edit(events, lambda e: is_message(e, Received, "client-0", 1), lambda e: {"due_ns": e.due_ns - 2})


def carry_two_at_once(events):
    return edit(events, lambda e: is_message(e, Transmitted, "client-0", 0), lambda e: {"due_ns": e.due_ns + 100 * MS})


def carry_twice(events):
    return append(events, next(e for e in events if is_message(e, Transmitted, "client-0", 1)))


def bypass_the_network(events):
    return edit(events, lambda e: is_message(e, Transmitted, "client-0", 1), lambda _: None)


def lose_a_byte(events):
    return edit(
        events, lambda e: is_message(e, Received, "client-0", 1), lambda e: {"payload_bytes": e.payload_bytes - 1}
    )


def lose_a_ledger_line(events):
    return [e for e in events if not (e.node == "client-0" and isinstance(e, Computed))]


def refuse(events):
    return append(events, Refused(**at(300 * MS), node="server", source="client-0", reason="unknown kind"))


def forget_last_words(events):
    return edit(events, lambda e: isinstance(e, Ended) and e.node == "client-1", lambda _: None)


def show_too_early(events):
    return edit(events, lambda e: is_message(e, Received, "client-0", 1), lambda e: {"actual_ns": e.due_ns - 2 * MS})


def clamp_a_node(events):
    """1 % of the run's 300 ms is 3 ms."""
    return append(events, Clamped(**at(300 * MS), node="client-0", by_ns=3 * MS + 1, what="posted"))


def clamp_the_network(events):
    """1 % of the run for each of two clients is 6 ms."""
    return append(events, Clamped(**at(300 * MS), node="network", by_ns=6 * MS + 1, what="posted"))


def slow_host(events):
    """Seven of twelve computations are late; half may be."""
    late = [e for e in events if isinstance(e, Computed)][:7]
    return edit(events, lambda e: e in late, lambda _: {"host_late_ns": 50 * MS + 1})


def lag_beyond_1_percent(events):
    """1 % of a round of 100 ms + 5 ms is 6 ms."""
    return edit(
        events, lambda e: isinstance(e, RoundEnded) and e.round == 1, lambda e: {"actual_ns": e.due_ns + 6 * MS + 1}
    )


def lag_beyond_5_percent(events):
    return edit(
        events, lambda e: isinstance(e, RoundEnded) and e.round == 1, lambda e: {"actual_ns": e.due_ns + 55 * MS + 1}
    )


FAULTS = [
    (drop, "client-0 -> server (update): 1 posted messages (19800 B) were neither received nor undelivered"),
    (drop_before_the_link, "neither received nor undelivered"),
    (double, "received or undelivered more than once"),
    (both_received_and_undelivered, "received or undelivered more than once"),
    (invent, "received but never posted"),
    (reorder, "was overtaken"),
    (turn_back_time, "time ran backwards at server"),
    (serve_1_percent_too_fast, "faster than the links allow"),
    (serve_1_percent_too_fast_behind_jitter, "faster than the links allow"),
    (forget_the_delay, "faster than the links allow"),
    (start_before_posted, "faster than the links allow"),
    (hand_over_before_arrival, "received before the network's arrival"),
    (carry_two_at_once, "two messages on the link at once"),
    (carry_twice, "carried more than once"),
    (bypass_the_network, "received but not carried"),
    (lose_a_byte, "recorded with different sizes"),
    (lose_a_ledger_line, "ledger of client-0 has lost or doubled lines"),
    (refuse, "1 messages refused, first by server: unknown kind"),
    (forget_last_words, "no last words of client-1"),
    (show_too_early, "received before they were due"),
    (clamp_a_node, "clamps of client-0"),
    (clamp_the_network, "clamps of network"),
    (slow_host, "host behind: 7 of 12 computations"),
    (lag_beyond_1_percent, "more than 1 % + 5 ms"),
    (lag_beyond_5_percent, "more than 5 % + 50 ms"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_fault_turns_its_check_red(fault, reason):
    health = judge(fault(make_timeline()))
    assert health.verdict == "bad"
    assert any(reason in text for text in health.reasons), health.reasons
    assert all(text.startswith(("fedavg: ", "lag: ")) for text in health.reasons)
    loaded = [text for text in health.reasons if any(word in text for word in ("clamps of", "host behind", "lag: "))]
    assert all("--clock virtual" in text for text in loaded)


# --- what the limits still allow ----------------------------------------------------------------------------------


def test_what_is_exactly_at_a_limit_is_good():
    def to_the_limit(event):
        if isinstance(event, RoundEnded):
            return {"actual_ns": event.due_ns + 6 * MS}
        if isinstance(event, Received):
            return {"actual_ns": event.due_ns - MS}
        return {"host_late_ns": 50 * MS}

    events = edit(make_timeline(), lambda e: isinstance(e, RoundEnded | Received | Computed), to_the_limit)
    events = append(events, Clamped(**at(300 * MS), node="client-0", by_ns=3 * MS, what="posted"))
    assert judge(events).reasons == []


def test_a_link_may_be_faster_by_the_rounding_of_one_nanosecond():
    def sooner(by_ns):
        return lambda e: {"due_ns": e.due_ns - by_ns, "arrival_ns": e.arrival_ns - by_ns}

    def play(by_ns):
        return judge(edit(make_timeline(), lambda e: is_message(e, Transmitted, "client-0", 1), sooner(by_ns))).verdict

    assert (play(1), play(2)) == ("good", "bad")


@pytest.mark.parametrize(("late", "verdict"), [(1, "good"), (2, "bad")])
def test_one_round_in_twenty_may_lag_between_the_two_limits(late, verdict):
    events = edit(
        make_timeline(rounds=20),
        lambda e: isinstance(e, RoundEnded) and e.round < late,
        lambda e: {"actual_ns": e.due_ns + 50 * MS},
    )
    assert judge(events).verdict == verdict


def test_the_virtual_clock_says_nothing_about_the_host_and_allows_no_clamp():
    events = append(make_timeline(), Host(**at(0), node="supervisor", busy=1.0, steal=0.9, pressure=0.9))
    assert judge(events, clock="real").notes != []
    health = judge(events, clock="virtual")
    assert (health.verdict, health.notes, health.algorithms["fedavg"].bottlenecks) == ("good", [], [])
    clamped = append(events, Clamped(**at(300 * MS), node="client-0", by_ns=1, what="posted"))
    assert judge(clamped, clock="virtual").verdict == "bad"


def test_undelivered_messages_are_accounted_for():
    lost = Undelivered(
        **at(300 * MS),
        node="network",
        counter=2,
        source="client-0",
        destination="server",
        kind="update",
        payload_bytes=19_800,
    )
    events = edit(make_timeline(), lambda e: is_message(e, Received, "client-0", 2), lambda _: None)
    assert judge(events).verdict == "bad"
    health = judge(append(events, lost))
    assert health.reasons == []
    assert judge(append(append(events, lost), msgspec.structs.replace(lost, node="server"))).reasons == []
    assert health.algorithms["fedavg"].undelivered == 1


# --- runs that were cut short -------------------------------------------------------------------------------------


def cut_short(events, outcome, killed=()):
    """From the last round on, nothing arrives; ``killed`` nodes have no last words."""

    def change(event):
        if isinstance(event, Ended):
            return None if event.node in killed else {"outcome": outcome}
        if isinstance(event, Lifecycle):
            return {"outcome": outcome} if event.outcome else {}
        return None

    return edit(
        events,
        lambda e: isinstance(e, Ended | Lifecycle) or (isinstance(e, Received | Transmitted) and e.due_ns > 200 * MS),
        change,
    )


@pytest.mark.parametrize("outcome", ["interrupted", "does-not-fit"])
def test_messages_under_way_at_the_end_are_a_note(outcome):
    health = judge(cut_short(make_timeline(), outcome))
    assert health.verdict == "good"
    assert health.notes == [
        f"fedavg: {outcome}",
        "fedavg: 4 messages were under way when the timeline was cut short",
    ]


@pytest.mark.parametrize("outcome", ["failed", "stuck"])
def test_an_algorithm_that_broke_is_a_reason_and_what_it_left_incomplete_a_note(outcome):
    health = judge(cut_short(make_timeline(), outcome, killed={"network"}))
    assert (health.verdict, health.reasons) == ("bad", [f"fedavg: {outcome}"])
    assert any("network record incomplete" in note for note in health.notes)


def test_a_round_that_was_not_evaluated_is_a_reason():
    health = judge(edit(make_timeline(), lambda e: isinstance(e, Evaluated) and e.round == 1, lambda _: None))
    assert health.reasons == ["fedavg: 1 rounds were not evaluated, the first is round 2"]


def test_a_hole_before_the_end_is_a_reason_even_when_cut_short():
    assert judge(drop(cut_short(make_timeline(), "interrupted"))).verdict == "good"  # the last that was received
    earlier = edit(
        cut_short(make_timeline(), "interrupted"), lambda e: is_message(e, Received, "client-0", 0), lambda _: None
    )
    assert judge(earlier).verdict == "bad"


def test_a_supervisor_that_was_killed_leaves_a_partial_timeline():
    events = [e for e in make_timeline() if not (isinstance(e, Lifecycle | Ended))]
    health = judge(renumber(events))
    assert health.verdict == "good"
    assert f"fedavg: {CUT_OFF}" in health.notes


def test_nothing_recorded_is_no_failed_law():
    assert judge([]).verdict == "good"


# --- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("size", [1, 2, 19, 20, 21, 100])
def test_percentile_is_the_smallest_value_not_exceeded_by_its_share(size, share):
    values = list(range(10, 10 + size))
    found = percentile(reversed(values), share)
    assert sum(value <= found for value in values) == ceil(share * size)
    assert percentile([], share) is None


def test_figures_of_the_toy_run():
    figures = judge(make_timeline()).algorithms["fedavg"]
    assert (figures.rounds, figures.messages, figures.spans, figures.spans_late) == (3, 12, 12, 0)
    assert (figures.lag_max_ms, figures.late_p50_ms, figures.late_max_ms) == (1.0, 1.0, 1.0)
    assert (figures.clamps, figures.clamped_ms, figures.host_busy) == (0, 0.0, None)


def test_the_tightest_spans_are_the_worst_of_each_device_and_function():
    slow = edit(
        make_timeline(),
        lambda e: isinstance(e, Computed) and e.function == "task.step",
        lambda e: {"host_ns": (e.due_ns - e.start_ns) * 9 // 10},
    )
    first, *others = judge(slow).algorithms["fedavg"].bottlenecks
    assert (first.device, first.function, first.ratio) == ("pi-zero-2w", "task.step", 0.9)
    assert [(tight.device, tight.function, tight.ratio) for tight in others] == [
        ("edge-server", "average", 0.5),
        ("edge-server", "steps.align_aux", 0.5),
    ]
    slowed = edit(slow, lambda e: isinstance(e, Lifecycle), lambda _: {"dilation": 3})
    assert judge(slowed).algorithms["fedavg"].bottlenecks[0].ratio == pytest.approx(0.3)


def test_a_troubled_host_is_noted():
    events = append(make_timeline(), Host(**at(MS), node="supervisor", busy=0.9, steal=0.2, pressure=0.5))
    health = judge(events)
    assert health.verdict == "good"
    assert len([note for note in health.notes if note.startswith("host:")]) == 2
    assert health.algorithms["fedavg"].host_steal == 0.2


def test_rounds_in_which_no_update_was_in_time_are_noted():
    events = make_timeline()
    for round, counted in ((0, 1), (1, 0), (2, 0)):
        values = {"left_out": 2.0 - counted, "counted": float(counted)}
        events = append(events, Reported(**at(MS), node="server", round=round, values=values))
    assert judge(events).notes == [
        "fedavg: the deadline left clients out 5 times, in 3 rounds; a longer deadline_s waits for them",
        "fedavg: no update was in time in 2 rounds, the first is round 2; a longer deadline_s waits for them",
    ]


def test_posted_lines_are_what_conservation_starts_from():
    """Ablation: without the senders' lines every receipt is a message from nowhere."""
    events = edit(make_timeline(), lambda e: isinstance(e, Posted), lambda _: None)
    assert any("12 messages received but never posted" in reason for reason in judge(events).reasons)
