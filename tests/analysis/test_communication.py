"""Bytes until a round's end are those posted by then, whatever round they are labelled with; up and down are clients'
own."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any

import pytest
from played import play
from timelines import merged
from toy import make_manifest

from emulator.analysis.metrics import FIGURES, KB, MB, figures
from emulator.analysis.recorded import RunRecord
from emulator.analysis.summarize import summarize
from emulator.analysis.summary import AlgorithmSummary
from emulator.dashboard.progress import SECOND_NS, Progress
from emulator.ledger.criteria import OLDER
from emulator.ledger.events import Evaluated, Posted, Received, RoundEnded, Transmitted
from emulator.ledger.timeline import Timeline, only
from emulator.plots.data import curves, done
from emulator.report.compare import comparison_tables as compared
from emulator.tables.run import to_markdown
from emulator.tables.table import number
from emulator.testing.stage import Stage, blob, make_scenario, note, operations

NAMES = ("client-0", "client-1", "client-2")
MERGES, ROUNDS = 3, 4  # updates that make a round of a server without rounds
MANIFEST = make_manifest(len(NAMES), algorithms=["method"])
ACCURACIES = (0.5, 0.7, 0.86, 0.91)


def judged(events: list[Any]) -> list[Any]:
    """As a reader of the ledger has them, with the network's lines and an accuracy for each round."""
    arrival_ns = {(event.source, event.counter): event.due_ns for event in only(events, Received)}
    transmitted = [
        Transmitted(
            due_ns=e.due_ns,
            actual_ns=e.due_ns,
            node="network",
            seq=i,
            counter=e.counter,
            source=e.node,
            destination=e.destination,
            kind=e.kind,
            wire_bytes=e.wire_bytes,
            payload_bytes=e.payload_bytes,
            posted_ns=e.due_ns,
            start_ns=e.due_ns,
            arrival_ns=arrival_ns[e.node, e.counter],
        )
        for i, e in enumerate(only(events, Posted))
        if (e.node, e.counter) in arrival_ns
    ]
    ends = sorted(only(events, RoundEnded), key=lambda event: event.due_ns)
    scores = [
        Evaluated(due_ns=e.due_ns, actual_ns=e.actual_ns, node="evaluator", seq=i, round=e.round, accuracy=a, loss=1.0)
        for i, (e, a) in enumerate(zip(ends, ACCURACIES, strict=False))
    ]
    return sorted([*events, *transmitted, *scores], key=lambda event: (event.due_ns, event.node, event.seq))


@functools.cache
def asynchronous() -> list[Any]:
    """Three clients of unequal speed, whose updates are merged as they come; each labels what it sends with its own
    count, and the server answers with the label that it got. A round is every third merge."""
    with Stage(make_scenario(len(NAMES))) as stage:

        async def client(name: str, milliseconds: int) -> None:
            node, round = stage.nodes[name], 0
            while getattr(await node.recv(), "number", 0) == 0:
                await node.compute(operations, milliseconds)
                await node.post("server", blob(3000, round=round))
                await node.post("server", blob(2000, round=round))
                round += 1

        async def server() -> None:
            node, merges = stage.server, 0
            for name in NAMES:
                await node.post(name, blob(7000, round=-1))
            while merges < MERGES * ROUNDS:
                await node.recv()
                update = await node.recv()
                await node.compute(operations, 2)
                merges += 1
                if merges % MERGES == 0:
                    node.snapshot(merges // MERGES - 1, {})
                    node.begin_round(merges // MERGES)
                await node.post(update.sender, blob(5000, round=update.round))
            for name in NAMES:
                await node.post(name, note(1))

        stage.play(*map(client, NAMES, (40, 90, 400)), server())
        return judged(merged(stage.events))


@functools.cache
def under_a_deadline() -> list[Any]:
    """A method whose clients post without waiting, of which the last comes late: it posts until it hears that the
    round went on without it."""
    longest_s = play("local-loss").longest_s
    found = play("local-loss", late_s=longest_s, deadline_s=1.1 * longest_s)
    return judged(merged(found.events))


RUNS = {"asynchronous": asynchronous, "deadline": under_a_deadline}
each_run = pytest.mark.parametrize("events", [found() for found in RUNS.values()], ids=RUNS.keys())


def method(events: list[Any]) -> AlgorithmSummary:
    return summarize(MANIFEST, {"method": events}).algorithms["method"]


def posted_until(events: list[Any], due_ns: int) -> int:
    return sum(event.payload_bytes for event in only(events, Posted) if event.due_ns <= due_ns)


@each_run
def test_bytes_to_an_accuracy_are_the_ledgers_sum_by_time(events: list[Any]) -> None:
    found = method(events)
    for target, accuracy in ((0.85, 0.86), (0.9, 0.91)):
        score = next((e for e in only(events, Evaluated) if e.accuracy == accuracy), None)
        if score is None:
            assert found.to_target[target] is None
            continue
        reached = found.to_target[target]
        assert reached.bytes == posted_until(events, score.due_ns)
        figure = figures(OLDER)[f"mb_to_{target * 100:.0f}"].of(found)
        assert figure == pytest.approx(reached.bytes / MB)
    ends = {ended.round: ended.due_ns for ended in only(events, RoundEnded)}
    assert [row.payload_bytes for row in found.history] == [
        posted_until(events, ends[row.round]) for row in found.history
    ]


@each_run
def test_labels_would_say_something_else(events: list[Any]) -> None:
    """So the law above is none of them by accident."""
    history = method(events).history
    posted = only(events, Posted)
    labelled = [sum(e.payload_bytes for e in posted if e.round <= row.round) for row in history]
    assert labelled != [row.payload_bytes for row in history]


@each_run
def test_plots_and_the_dashboards_log_say_the_same(events: list[Any]) -> None:
    history = method(events).history
    (curve,) = curves(summarize(MANIFEST, {"method": events}))
    progress = Progress(MANIFEST)
    progress.begin("method")
    progress.take(events)
    ended = [line for line in progress.log if " ended at " in line]
    assert len(ended) == len(history) == len(curve.points)
    for row, point, line in zip(history, curve.points, ended, strict=True):
        assert point.mb == row.payload_bytes / MB
        assert line.endswith(f"{row.payload_bytes / MB:.2f} MB so far")
    assert progress.payload_bytes == sum(event.payload_bytes for event in only(events, Posted))


@each_run
def test_a_share_is_what_clients_sent_and_received_over_the_rounds_in_which_they_sent_something(
    events: list[Any],
) -> None:
    ends = [0, *sorted(event.due_ns for event in only(events, RoundEnded))]
    posted = [event for event in only(events, Posted) if event.due_ns <= ends[-1]]
    spans = [(name, *span) for name in NAMES for span in pairwise(ends)]
    shares = sum(any(e.node == name and a < e.due_ns <= b for e in posted) for name, a, b in spans)
    up = sum(event.payload_bytes for event in posted if event.node in NAMES)
    down = sum(event.payload_bytes for event in posted if event.destination in NAMES and event.round >= 0)
    assert FIGURES["up_kb"].of(method(events)) == pytest.approx(up / shares / KB)
    assert FIGURES["down_kb"].of(method(events)) == pytest.approx(down / shares / KB)


def test_when_a_client_was_done_counts_from_the_round_in_which_it_posted() -> None:
    """Labels of its own would place a client's messages in rounds that were over, or that never were."""
    events = Timeline(asynchronous())
    ends = sorted(only(events, RoundEnded), key=lambda event: event.due_ns)
    for client in done(MANIFEST.clients, events):
        assert len(client.seconds) <= ROUNDS
        assert all(seconds > 0 for seconds in client.seconds)
    longest_s = max(b.due_ns - a.due_ns for a, b in pairwise(ends)) / SECOND_NS
    fast = next(client for client in done(MANIFEST.clients, events) if client.client == NAMES[0])
    assert fast.typical < 2 * longest_s


# --- up and down are clients' own -----------------------------------------------------------------------------------

VARIANTS = {
    "federated server": ("splitfed-v1", {"server_averaging": "network"}),
    "peer to peer": ("sl", {"relay": "peer"}),
    "plain": ("splitfed-v1", {}),
}


@functools.cache
def varied(variant: str) -> list[Any]:
    name, settings = VARIANTS[variant]
    return judged(merged(play(name, **settings).events))


@pytest.mark.parametrize("variant", VARIANTS)
def test_down_is_what_clients_receive_and_up_what_they_send(variant: str) -> None:
    events = varied(variant)
    found = method(events)
    for way, end in (("up", "node"), ("down", "destination")):
        own = {name: [e for e in only(events, Posted) if getattr(e, end) == name] for name in NAMES}
        for client in found.clients:
            total = sum(event.payload_bytes for event in own[client.name])
            assert getattr(client.bytes.payload, way) == total
            assert sum(kind.payload for kind in getattr(client.by_kind, way).values()) == total
        assert getattr(found.bytes.payload, way) == sum(getattr(client.bytes.payload, way) for client in found.clients)
        shared = sum(event.payload_bytes for posted in own.values() for event in posted if event.round >= 0)
        kilobytes = shared / (len(NAMES) * 3) / KB  # three rounds, each client in each
        assert FIGURES[f"{way}_kb"].of(found) == pytest.approx(kilobytes, rel=1e-2)  # a turn may go out beyond the end
    assert found.total_bytes.payload == sum(event.payload_bytes for event in only(events, Posted))


def test_what_goes_past_clients_changes_no_clients_bytes() -> None:
    """The server halves go from the server to the server; each handover from one client to the next."""
    network, plain = method(varied("federated server")), method(varied("plain"))
    assert [FIGURES[key].of(network) for key in ("up_kb", "down_kb")] == [
        FIGURES[key].of(plain) for key in ("up_kb", "down_kb")
    ]
    assert network.total_bytes.payload > network.bytes.payload.up + network.bytes.payload.down
    peer = method(varied("peer to peer"))
    handed = peer.by_kind["handover"].payload
    assert handed
    assert peer.bytes.payload.up + peer.bytes.payload.down - peer.total_bytes.payload == handed


def test_tables_and_comparisons_show_the_same_figure() -> None:
    events = varied("federated server")
    summary = summarize(MANIFEST, {"method": events})
    down = FIGURES["down_kb"].of(summary.algorithms["method"])
    assert f" {number(down)} |" in to_markdown(summary)
    run = RunRecord(MANIFEST, {"method": events}, summary)
    (table,) = compared([run, run], ["a", "b"])
    shown = {row[0]: row[1:3] for row in table.texts()}
    assert shown["down kB"] == [number(down)] * 2
    kinds = next(line for line in to_markdown(summary).splitlines() if "| server-half |" in line)
    assert [cell.strip() for cell in kinds.split("|")[4:6]] == ["0", "0"]
