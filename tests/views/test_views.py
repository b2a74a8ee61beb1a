"""Tables: what they say agrees with the summary, and fits where it is shown."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console
from toy import GLOBAL, MB, MIB, UPDATE, edit, make_manifest, make_timeline

from emulator.analysis.summarize import summarize
from emulator.ledger.events import (
    Ended,
    Lifecycle,
    RoundEnded,
    Started,
)
from emulator.report.figures_csv import to_csv
from emulator.tables.headline import headline
from emulator.tables.overview import print_run
from emulator.tables.run import TABLES, named, to_markdown
from emulator.tables.table import MARKED, NOTHING, Table, TableCell, csv_text, figure, markdown, number

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
        events, lambda e: isinstance(e, Lifecycle) and e.outcome != "", lambda _: {"outcome": "does-not-fit"}
    )


def delay(timelines):
    timelines["sl"] = edit(
        timelines["sl"], lambda e: isinstance(e, RoundEnded), lambda e: {"actual_ns": e.due_ns + 10**9}
    )


def on_terminal(summary, width=80, more=()):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_run(summary, console, more)
    return console.file.getvalue()


# --- tables -------------------------------------------------------------------------------------------------------


def test_all_tables_fit_80_columns_with_whole_names():
    text = on_terminal(make_summary(unfit), more=[name for name in TABLES if name != "computations"])  # 99 wide
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    rows = [line.split()[0] for line in text.splitlines() if line.startswith(" ") and line.split()]
    for name in NAMES:
        assert rows.count(name) >= 8  # latency, causes, volume, two kinds of it, memory twice (one device), server


def test_figures_in_the_tables():
    text = to_markdown(make_summary())
    per_round_down = 2 / 3 * GLOBAL / 1000  # two of three rounds send a global beside the initial one
    total = 30 * (UPDATE + GLOBAL) / MB
    assert "| fsl-sage | finished | 3 | 0.10 | 0.30 | 0.20 | 0.30 | 93.00 |" in text
    assert f"| fsl-sage | {UPDATE / 1000:.2f} | {per_round_down:.2f} | {total:.2f} |" in text
    assert "| fsl-sage | pi-zero-2w | 16.00 | 100.0 | 42.00 | – | 42.00 | 10 of 10 |" in text
    assert "| fsl-sage | 0.06 | 0.03 | 0.01 |" in text
    split = make_summary().algorithms["fsl-sage"].round_latency_s
    assert f"| fsl-sage | {' | '.join(f'{seconds:.2f}' for seconds in split.values())} | 0.10 |" in text


def test_the_best_of_a_column_is_marked_among_those_that_finished_and_not_where_all_are_equal():
    values = {"one": (3.0, 5.0, 1.0), "two": (2.0, None, 1.0), "three": (1.0, 9.0, 1.0)}
    found = Table(
        title="t",
        headers=["a", "x", "y", "z"],
        label_columns=1,
        rows=[[name, *map(figure, each)] for name, each in values.items()],
        caption="m",
        best={1: "least", 2: "most", 3: "least"},
        ranked=[0, 1],
    )
    assert found.texts(MARKED) == [
        ["one", "3.00", "5.00", "1.00"],
        ["two", "2.00*", NOTHING, "1.00"],
        ["three", "1.00", "9.00", "1.00"],
    ]
    assert not msgspec.structs.replace(found, ranked=[]).best_cells()
    assert "| two | **2.00** | – | 1.00 |" in markdown(found)


def test_the_best_is_found_by_value_and_not_by_what_is_printed():
    """Two rounds of 0.6109 and 0.6149 s are both printed as 0.61; equal values are both the best."""
    summary = make_summary()
    names = ("cse-fsl", "fsl-sage", "fedavg", "sl")
    summary.algorithms = {name: summary.algorithms[name] for name in names}
    for name, seconds in zip(names, (6.109, 6.149, 6.109, 7.0), strict=True):
        summary.algorithms[name].seconds, summary.algorithms[name].rounds = seconds, 10
    summary.algorithms["sl"].client_rounds += 10**-6  # fewer bytes a share, by less than is printed
    latency, sent = named(summary, ["latency", "volume"])
    assert [row[3] for row in latency.texts(MARKED)] == ["0.61*", "0.61", "0.61*", "0.70"]
    assert [row[1].endswith("*") for row in sent.texts(MARKED)] == [False, False, False, True]
    assert len({row[1] for row in sent.texts()}) == 1


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(0.004, True, "0.00"), (-0.004, True, "0.00"), (-0.004, False, "0.00"), (0.005001, True, "+0.01")],
)
def test_a_zero_has_no_sign_and_a_cell_keeps_the_value_that_it_was_written_of(value, signed, text):
    assert figure(value, signed=signed) == TableCell(value, text)
    assert csv_text(["x"], [[figure(value).value], [None]]) == f'x\n{value}\n""\n'


def test_one_sentence_says_who_wins_on_what():
    said = headline(make_summary())
    assert said.startswith("What the numbers say: ")
    assert said.endswith(".")
    algorithms = make_summary().algorithms
    fewest = min(found.bytes for each in algorithms.values() if (found := each.to_target[0.9]))
    assert f"{fewest / 1e6:.2f} MB" in said
    assert "cannot be trusted" in headline(make_summary(delay))


def test_the_sentence_of_a_run_that_was_cut_short_says_how_many_methods_it_is_about():
    def cut(timelines):
        del timelines["fsl-sage"]
        timelines["cse-fsl"] = [event for event in timelines["cse-fsl"] if not isinstance(event, Lifecycle | Ended)]

    assert headline(make_summary(cut)).startswith("What the numbers say of the 5 of 7 methods that finished: ")


@pytest.mark.parametrize(
    ("peaks_mib", "said"),
    [
        ((2.0, 1.5, 2.1), "sl needs the least client memory (1.50 MiB)"),
        ((1.7, 1.5, 1.6), "all need about the same client memory"),
        ((25.5, 25.2, 25.3), "all need about the same client memory"),
        ((37.0, 25.2, 37.0), "sl needs the least client memory (25.20 MiB)"),
        ((1.6, 2.0, 1.5), "cse-fsl and fedavg need the least client memory (1.50 to 1.60 MiB)"),
    ],
)
def test_peaks_that_differ_by_no_more_than_when_played_again_are_called_alike(peaks_mib, said):
    summary = make_summary()
    names = ("fedavg", "sl", "cse-fsl")
    summary.algorithms = {name: summary.algorithms[name] for name in names}
    for name, peak_mib in zip(names, peaks_mib, strict=True):
        for client in summary.algorithms[name].clients:
            client.peak_mib = peak_mib
    assert said in headline(summary)


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
    assert summary.health.verdict == "bad"
    for text in (on_terminal(summary, 200), to_markdown(summary)):
        above = text[: text.index("Latency")]
        assert "BAD" in above
        assert all(reason in above for reason in summary.health.reasons)
    assert "BAD" not in to_markdown(make_summary())


def test_who_does_not_fit_is_told_with_phase_and_budget():
    for text in (on_terminal(make_summary(unfit), 200), to_markdown(make_summary(unfit))):
        assert "fedavg does not fit: client-3 (pi-zero-2w), in phase receive global, budget 100.0 MiB" in text
        assert "asked for 8.00 MiB more" in text
    assert "does not fit:" not in to_markdown(make_summary())


def test_bytes_by_kind_are_the_summarys_in_kilobytes():
    summary = make_summary()
    text = to_markdown(summary)
    for name, algorithm in summary.algorithms.items():
        sent = algorithm.by_kind["update"]
        sizes = (number(size / 1000) for size in (sent.framed, sent.wire, sent.official))
        row = [name, "update", str(sent.messages), number(sent.payload / 1000), "0", *sizes]
        assert f"| {' | '.join(row)} |" in text


def test_what_was_not_reached_or_measured_is_not_a_zero():
    def start_only(timelines):
        timelines["sl"] = [event for event in timelines["sl"] if isinstance(event, Started)]

    (row,) = [r for r in to_markdown(make_summary(start_only)).splitlines() if r.startswith("| sl | partial")]
    assert row == "| sl | partial | 0 | – | – | – | – | – |"


def test_csv_says_what_the_summary_says():
    summary = make_summary(unfit)
    rows = list(csv.DictReader(io.StringIO(to_csv(summary))))
    for name, algorithm in summary.algorithms.items():
        own = [row for row in rows if row["algorithm"] == name]
        (first,), kinds, clients = (
            [row for row in own if row["row"] == what] for what in ("algorithm", "kind", "client")
        )
        assert first["name"] == ""
        assert [row["name"] for row in kinds] == list(algorithm.by_kind)
        for size in ("payload", "framed", "wire"):
            for way in ("up", "down"):
                column = f"{size}_{way}_bytes"
                assert int(first[column]) == getattr(getattr(algorithm.bytes, size), way)
                assert int(first[column]) == sum(int(row[column]) for row in clients)
                assert int(first[column]) == sum(int(row[column]) for row in kinds)
        for row in (first, *clients):
            entry = algorithm if row is first else algorithm.clients[clients.index(row)]
            for cause, seconds in entry.latency_s.items():
                assert float(row[f"latency_{cause}_s"]) == seconds
        assert first["to_0.9_s"] == ("" if name == "fedavg" else str(algorithm.to_target[0.9].seconds))
        for row, client in zip(clients, algorithm.clients, strict=True):
            for key in ("name", "device", "network", "outcome"):
                assert row[key] == getattr(client, key)
            for key in ("budget_mib", "baseline_mib", "peak_mib", "compute_s", "transfer_s", "wait_s"):
                assert float(row[key]) == getattr(client, key)
