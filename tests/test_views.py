"""Tables, progress and dashboard: what they say agrees with the ledger, and fits where it is shown."""

from __future__ import annotations

import csv
import io
import random

import pytest
from rich.cells import cell_len
from rich.console import Console
from toy import GLOBAL, MB, MIB, MS, UPDATE, at, edit, make_manifest, make_nodes, make_timeline, span

from emulator.dashboard import FRAME_LINES, Dashboard, PlainLines, make_screen
from emulator.ledger import (
    Clamped,
    Computed,
    Ended,
    Evaluated,
    Ledger,
    Memory,
    Received,
    RoundEnded,
    Started,
    Timeline,
    Waiting,
)
from emulator.progress import Progress
from emulator.summary import summarize
from emulator.tables import print_tables, to_csv, to_markdown

NAMES = ["fedavg", "sl", "splitfed-v1", "splitfed-v2", "local-loss", "cse-fsl", "fsl-sage"]


def make_summary(*changes):
    timelines = {name: make_timeline(clients=10) for name in NAMES}
    for change in changes:
        change(timelines)
    return summarize(make_manifest(10, algorithms=NAMES, profile="iot-4g"), timelines)


def unfit(timelines):
    def last_words(event):
        if event.node == "client-3":
            return {"outcome": "does-not-fit", "phase": "receive global", "asked_bytes": 8 * MIB}
        return {"outcome": "peer-lost"}

    events = edit(make_timeline(1, clients=10), lambda e: isinstance(e, Ended), last_words)
    timelines["fedavg"] = edit(
        events, lambda e: isinstance(e, Timeline) and e.outcome != "", lambda _: {"outcome": "does-not-fit"}
    )


def delay(timelines):
    timelines["sl"] = edit(
        timelines["sl"], lambda e: isinstance(e, RoundEnded), lambda e: {"actual_ns": e.due_ns + 10**9}
    )


def on_terminal(summary, width=80):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_tables(summary, console)
    return console.file.getvalue()


# --- tables -------------------------------------------------------------------------------------------------------


def test_tables_fit_80_columns_with_whole_names():
    text = on_terminal(make_summary(unfit))
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    rows = [line.split()[0] for line in text.splitlines() if line.startswith(" ") and line.split()]
    for name in NAMES:
        assert rows.count(name) == 4  # latency, bytes, memory (one kind of device), time


def test_figures_in_the_tables():
    text = to_markdown(make_summary())
    per_round_down = 2 / 3 * GLOBAL / 1000  # two of three rounds send a global beside the initial one
    total = 30 * (UPDATE + GLOBAL) / MB
    assert "| fsl-sage | finished | 3 | 0.10 | 0.30 | 0.20 | 0.30 | 93.00 |" in text
    assert f"| fsl-sage | {UPDATE / 1000:.2f} | {per_round_down:.2f} | {total:.2f} |" in text
    assert "| fsl-sage | pi-zero-2w | 16.00 | 100.0 | 42.00 | – | 42.00 | 10 of 10 |" in text
    assert "| fsl-sage | 30.00 | 50.00 | 20.00 | 0.06 | 0.03 | 0.01 |" in text


def test_markdown_rows_have_as_many_cells_as_their_heads():
    widths = set()
    for line in to_markdown(make_summary(unfit)).splitlines():
        if line.startswith("|"):
            widths.add(line.count("|"))
        else:
            assert len(widths) <= 1
            widths.clear()


def test_a_bad_verdict_stands_above_the_tables_with_its_reasons():
    summary = make_summary(delay)
    assert summary["health"]["verdict"] == "bad"
    for text in (on_terminal(summary, 200), to_markdown(summary)):
        above = text[: text.index("Latency")]
        assert "BAD" in above
        assert all(reason in above for reason in summary["health"]["reasons"])
    assert "BAD" not in to_markdown(make_summary())


def test_who_does_not_fit_is_told_with_phase_and_budget():
    for text in (on_terminal(make_summary(unfit), 200), to_markdown(make_summary(unfit))):
        assert "fedavg does not fit: client-3 (pi-zero-2w), in phase receive global, budget 100.0 MiB" in text
        assert "asked for 8.00 MiB more" in text
    assert "does not fit:" not in to_markdown(make_summary())


def test_what_was_not_reached_or_measured_is_not_a_zero():
    def start_only(timelines):
        timelines["sl"] = [event for event in timelines["sl"] if isinstance(event, Started)]

    (row,) = [r for r in to_markdown(make_summary(start_only)).splitlines() if r.startswith("| sl | partial")]
    assert row == "| sl | partial | 0 | – | – | – | – | – |"


def test_csv_says_what_the_summary_says():
    summary = make_summary(unfit)
    rows = list(csv.DictReader(io.StringIO(to_csv(summary))))
    assert len(rows) == len(NAMES) * (1 + 10)
    for name, algorithm in summary["algorithms"].items():
        first, *clients = [row for row in rows if row["algorithm"] == name]
        assert (first["row"], first["name"]) == ("algorithm", "")
        for size in ("payload", "framed", "wire"):
            for way in ("up", "down"):
                assert int(first[f"{size}_{way}_bytes"]) == sum(int(c[f"{size}_{way}_bytes"]) for c in clients)
        assert first["to_0.9_s"] == ("" if name == "fedavg" else str(algorithm["to_target"]["0.9"]["seconds"]))
        for row, client in zip(clients, algorithm["clients"], strict=True):
            for key in ("name", "device", "network", "outcome"):
                assert row[key] == client[key]
            for key in ("budget_mib", "baseline_mib", "peak_mib", "compute_s", "transfer_s", "wait_s"):
                assert float(row[key]) == client[key]


# --- progress -----------------------------------------------------------------------------------------------------


def follow(events, **changes):
    progress = Progress(make_manifest(**changes))
    progress.begin("fedavg")
    for event in events:
        progress.apply(event)
    return progress


def outline(progress):
    """What does not depend on the order in which files of different nodes were read."""
    nodes = [
        (n.name, n.doing, n.round, n.loss, n.up_bytes, n.down_bytes, n.uploads.kind, n.downloads.kind, n.peak_bytes)
        for n in progress.nodes.values()
    ]
    return nodes, progress.now_ns, progress.payload_of_round, progress.ended, progress.scores, progress.worst_lag_ns


def test_the_order_of_reading_files_changes_nothing():
    nodes = list(make_nodes().values())
    expected = outline(follow(make_timeline()))
    for seed in range(5):
        random.Random(seed).shuffle(nodes)
        assert outline(follow(event for lines in nodes for event in lines)) == expected


@pytest.mark.parametrize(
    ("until_ms", "doing"),
    [(0, "receiving global"), (10, "receiving global"), (69, "computing step"), (101, "receiving global")],
)
def test_what_a_client_is_doing(until_ms, doing):
    progress = follow(event for event in make_timeline() if event.due_ns <= until_ms * MS)
    assert progress.nodes["client-0"].doing == doing


def test_a_client_that_waits_is_sending_until_its_message_has_left():
    def played(until_ms):
        timeline = [e for e in make_timeline(1) if e.due_ns <= until_ms * MS]
        wait = Waiting(**at(50 * MS), node="client-0", kinds=["global", "stop"], sources=["server"])
        return follow([*timeline, wait]).nodes["client-0"].doing

    assert played(69) == "sending update"
    assert played(70) == "awaiting global or stop"


def test_a_client_starts_and_ends():
    assert follow([]).nodes["client-0"].doing == "starting"
    words = Ended(**at(MS), node="client-0", outcome="does-not-fit", phase="compute step")
    assert follow([words]).nodes["client-0"].doing == "does not fit: compute step"
    assert follow(make_timeline()).nodes["client-0"].doing == "finished"


def test_rates_by_hand():
    """Until 0.3 s, each client has sent three updates and received three globals."""
    progress = follow(make_timeline())
    client = progress.nodes["client-0"]
    assert progress.now_ns == 300 * MS
    assert client.rate_bps(True, progress.now_ns) == pytest.approx(3 * 8 * (UPDATE + 200) / 0.3)
    assert client.rate_bps(False, progress.now_ns) == pytest.approx(3 * 8 * (GLOBAL + 200) / 0.3)


def test_rates_count_the_last_two_seconds_only():
    client = follow(make_timeline()).nodes["client-0"]
    assert client.rate_bps(True, 2_060 * MS) == pytest.approx(2.5 * 8 * (UPDATE + 200) / 2)  # from 0.06 s on
    assert client.rate_bps(True, 10_000 * MS) == 0


def test_totals_lag_and_clamps():
    progress = follow(make_timeline())
    assert progress.payload_bytes == 6 * (UPDATE + GLOBAL)
    assert progress.payload_until(0) == 2 * (UPDATE + GLOBAL)
    assert (progress.worst_lag_ns, progress.clamps) == (MS, 0)
    progress.apply(Clamped(**at(0), node="client-0", by_ns=5 * MS, what="posted"))
    assert (progress.clamps, progress.clamped_ns) == (1, 5 * MS)
    progress.begin("sl")
    assert (progress.payload_bytes, progress.clamps, progress.worst_lag_ns, progress.ended) == (0, 0, 0, {})


def test_memory_is_shown_against_the_budget():
    client = follow(make_timeline()).nodes["client-1"]
    assert (client.growth_bytes, client.peak_bytes, client.budget_bytes) == (10 * MIB, 42 * MIB, 100 * MIB)


# --- dashboard ----------------------------------------------------------------------------------------------------


def draw(progress, width, height):
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    console.print(make_screen(progress, width, height))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("until_ms", [-1, 5, 30, 60, 99, 150, 300])
@pytest.mark.parametrize(("width", "height"), [(80, 23), (100, 30), (160, 50)])
def test_the_screen_shows_ten_clients_within_its_size(width, height, until_ms):
    progress = Progress(make_manifest(10, algorithms=NAMES, profile="iot-4g", rounds=12, stop_after_s=15.0))
    for name in NAMES[:2]:
        progress.end(name, "finished: 12 rounds in 14.2 s, accuracy 96.6 %, 40.1 MB")
    progress.begin("splitfed-v1")
    for event in make_timeline(clients=10):
        if event.due_ns <= until_ms * MS:
            progress.apply(event)
    lines = draw(progress, width, height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    for i in range(10):
        assert len([line for line in lines if line.startswith(f"client-{i} pi-zero-2w ")]) == 1
    text = "\n".join(lines)
    assert "algorithm 3 of 7" in text
    assert "0 clamps" in text
    assert "done: sl: finished" in text
    assert "…" not in lines[-1] + "".join(lines[:4])  # header and legend are whole


@pytest.mark.parametrize("clients", [13, 14, 200])
def test_clients_beyond_the_screen_are_counted(clients):
    lines = draw(follow(make_timeline(1, clients=clients), clients=clients), 80, 23)
    shown = len([line for line in lines if line.startswith("client-")])
    assert len(lines) <= 23
    if clients == 23 - FRAME_LINES:
        assert shown == clients
    else:
        assert any(f"… and {clients - shown} more" in line for line in lines)


class Hand:
    """A clock that is set by hand."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def write_run(folder, algorithm, lines):
    (folder / "ledger" / algorithm).mkdir(parents=True)
    for node, events in lines.items():
        ledger = Ledger(folder / "ledger" / algorithm, node)
        for event in events:
            ledger.write(event)
        ledger.close()


def test_plain_lines_tell_each_round_once(tmp_path):
    write_run(tmp_path, "fedavg", make_nodes())
    told, clock = [], Hand()
    with PlainLines(make_manifest(), tmp_path, told.append, clock) as view:
        view.begin("fedavg")
        for _ in range(3):
            clock.now_s += 1
            view.tick()
        view.end("fedavg", "finished")
    per_round = (UPDATE + GLOBAL) * 2 / MB
    assert told == [
        "splitbed: toy, real clock, seed 1, 2 clients; fedavg",
        "[1/1] fedavg: starts",
        f"[1/1] fedavg: round 1 of 3 ended at 0.10 s, accuracy 50.0 %, test loss 0.300, {per_round:.2f} MB so far",
        f"[1/1] fedavg: round 2 of 3 ended at 0.20 s, accuracy 87.0 %, test loss 0.300, {2 * per_round:.2f} MB so far",
        f"[1/1] fedavg: round 3 of 3 ended at 0.30 s, accuracy 93.0 %, test loss 0.300, {3 * per_round:.2f} MB so far",
        "[1/1] fedavg: finished",
    ]


def test_plain_lines_tell_who_does_not_fit(tmp_path):
    words = Ended(**at(MS), outcome="does-not-fit", phase="compute step", detail="asked for 9.0 MiB")
    write_run(tmp_path, "fedavg", {"client-1": [words]})
    told = []
    with PlainLines(make_manifest(), tmp_path, told.append, Hand()) as view:
        view.begin("fedavg")
        view.end("fedavg", "does not fit")
    assert told[2] == "[1/1] fedavg: client-1 (pi-zero-2w) at 0.00 s: does not fit: compute step asked for 9.0 MiB"


def test_the_dashboard_reads_at_most_twice_a_second_and_shows_the_result(tmp_path):
    (tmp_path / "ledger" / "fedavg").mkdir(parents=True)
    ledger = Ledger(tmp_path / "ledger" / "fedavg", "client-0")
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=True)
    clock = Hand()
    with Dashboard(make_manifest(), tmp_path, console, clock) as view:
        view.begin("fedavg")
        client = view.progress.nodes["client-0"]
        ledger.write(span("steps.local_step", 0, 1))
        clock.now_s = 0.49
        view.tick()
        assert client.doing == "starting"
        clock.now_s = 0.5
        view.tick()
        assert client.doing == "computing local_step"
        view.end("fedavg", "finished: accuracy 93.0 %")
    ledger.close()
    assert "fedavg: finished: accuracy 93.0 %" in console.file.getvalue()


def test_an_algorithm_starts_with_a_clean_slate(tmp_path):
    write_run(tmp_path, "fedavg", make_nodes())
    write_run(tmp_path, "sl", {"client-0": [span("step", 0, 1)]})
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=True)
    with Dashboard(make_manifest(algorithms=["fedavg", "sl"]), tmp_path, console, Hand()) as view:
        view.begin("fedavg")
        view.end("fedavg", "finished")
        assert len(view.progress.scores) == 3
        view.begin("sl")
        assert (view.progress.number, view.progress.scores, view.progress.payload_bytes) == (2, {}, 0)
        assert view.progress.results == [("fedavg", "finished")]


def test_progress_needs_every_kind_of_line_it_shows():
    """Ablation: without a kind of line, what it tells is missing."""
    for kind, missing in (
        (Memory, lambda p: p.nodes["client-0"].peak_bytes is None),
        (Evaluated, lambda p: p.score is None),
        (RoundEnded, lambda p: p.ended == {}),
        (Received, lambda p: p.nodes["client-0"].downloads.kind == "global"),
        (Computed, lambda p: p.nodes["client-0"].function == ""),
    ):
        assert not missing(follow(make_timeline()))
        assert missing(follow(event for event in make_timeline() if not isinstance(event, kind)))
