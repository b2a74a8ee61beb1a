"""What a dry run foresees is nowhere called measured, and never stands beside what was measured as if it were."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from runs import write_run
from sweeps import result
from toy import MIB, edit, make_manifest, make_timeline, renumber

from algorithms import ALGORITHMS
from algorithms.commands.records import compare as compare_command
from emulator.analysis import recorded
from emulator.analysis.metrics import FIGURES
from emulator.analysis.summarize import summarize
from emulator.analysis.summary import Summary
from emulator.dashboard.progress import Progress
from emulator.dashboard.screen import ScreenState, make_screen
from emulator.ledger.events import MEMORY_KINDS, AnyEvent, Ended, Evaluated, Event, Memory, MemoryEstimated, Reported
from emulator.ledger.timeline import only
from emulator.plots import data
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import dry_run
from emulator.profiles.reading import load_scenario
from emulator.report import compare, html, perfetto, record
from emulator.tables import computations as table_of_computations
from emulator.tables import memory as memory_sheets
from emulator.tables import run as tables
from emulator.tables import sweep
from emulator.tables.headline import headline
from emulator.tables.table import NOTHING, markdown

TENSORS, NEEDED, BUDGET = 30 * MIB, 35 * MIB, 100 * MIB  # the toy run's clients have that budget


def account(needed_bytes: int = NEEDED) -> MemoryEstimated:
    kinds = dict.fromkeys(MEMORY_KINDS, 0) | {"parameters": TENSORS}
    return MemoryEstimated(
        due_ns=0,
        actual_ns=0,
        node="supervisor",
        device="pi-zero-2w",
        kinds=kinds,
        during="step",
        needed_bytes=needed_bytes,
    )


def dry_events(needed_bytes: int = NEEDED) -> list[AnyEvent]:
    """The toy run as a dry run records it."""
    trained = (Memory, Evaluated, Reported)
    return renumber([*(e for e in make_timeline() if not isinstance(e, trained)), account(needed_bytes)])


def older_events(needed_bytes: int = NEEDED) -> list[AnyEvent]:
    """As it was recorded when what is foreseen was written down like a reading."""
    ends = [event for event in dry_events() if isinstance(event, Ended) and event.node.startswith("client")]
    readings = [
        Memory(due_ns=e.due_ns, actual_ns=e.due_ns, node=e.node, growth_bytes=1, peak_bytes=needed_bytes) for e in ends
    ]
    return renumber([*dry_events(needed_bytes), *readings])


def dry_manifest(*names: str) -> dict[str, Any]:
    memory = {"cap": "account", "limit": None}
    return make_manifest(clock="dry-run", algorithms=list(names), memory=memory)


def summary_of(events: Sequence[AnyEvent], **others: Sequence[AnyEvent]) -> dict[str, Any]:
    timelines = {"fedavg": events} | others
    return summarize(dry_manifest(*timelines), timelines)


def words(summary: Summary) -> str:
    """All that the tables say about memory."""
    shown = [memory_sheets.by_device(summary.algorithms), *memory_sheets.by_category(summary.algorithms)]
    return "\n".join(line for table in shown for line in markdown(table))


@functools.cache
def recorded_of_a_dry_run() -> tuple[Event, ...]:
    events: list[Event] = []
    settings = {"rounds": 1, "stop_after_s": None}
    dry_run(
        ALGORITHMS["cse-fsl"], settings, load_scenario("iot-4g", 2), 1, ProfilingResult(), lambda _node: events.append
    )
    return tuple(events)


def test_a_dry_run_records_no_reading_of_anybodys_memory() -> None:
    assert only(recorded_of_a_dry_run(), Ended)  # type: ignore[arg-type]
    assert not any(isinstance(event, Memory) for event in recorded_of_a_dry_run())


@pytest.mark.parametrize("events", [dry_events, older_events])
def test_a_client_of_a_dry_run_has_no_peak_but_what_it_would_need(events: Any) -> None:
    for needed, outcome in ((NEEDED, "would-fit"), (BUDGET, "would-fit"), (BUDGET + 1, "would-not-fit")):
        summary = summary_of(events(needed))
        algorithm = summary.algorithms["fedavg"]
        assert algorithm.foreseen is True
        for client in algorithm.clients:
            assert (client.peak_mib, client.beside_mib, client.needed_mib) == (None, None, needed / MIB)
            assert (client.outcome, client.tensors_mib) == (outcome, TENSORS / MIB)
        assert FIGURES["peak_mib"].of(algorithm) is None
        assert FIGURES["needed_mib"].of(algorithm) == needed / MIB
        assert algorithm.outcome == ("finished" if outcome == "would-fit" else "would-not-fit")


def test_an_older_dry_run_without_an_account_keeps_what_it_foresaw() -> None:
    events = renumber([event for event in older_events() if not isinstance(event, MemoryEstimated)])
    (client, _) = summary_of(events).algorithms["fedavg"].clients
    assert (client.peak_mib, client.needed_mib, client.outcome) == (None, NEEDED / MIB, "would-fit")


def test_a_run_that_trained_has_the_peak_that_the_system_measured() -> None:
    """The witness: the same words are there where something was measured."""
    summary = summarize(make_manifest(), {"fedavg": renumber([*make_timeline(), account()])})
    client = summary.algorithms["fedavg"].clients[0]
    assert (client.peak_mib, client.needed_mib, client.beside_mib) == (42.0, 42.0, 12.0)
    assert summary.algorithms["fedavg"].foreseen is False
    text = words(summary)
    assert "| peak, measured | 42.00 |" in text
    assert "| allocator and workspace | 12.00 |" in text
    assert "oreseen, not measured" not in text


@pytest.mark.parametrize("events", [dry_events, older_events])
def test_the_tables_of_a_dry_run_call_nothing_measured(events: Any) -> None:
    summary = summary_of(events())
    text = words(summary)
    assert "Foreseen, not measured." in text
    assert "| fedavg | pi-zero-2w | 100.0 | 30.00 | 35.00 | 2 of 2 |" in text
    assert "peak, fore- seen MiB | clients that would fit |" in text
    assert "| peak, foreseen | 35.00 |" in text
    assert "| allocator and workspace" not in text
    assert "measured" not in tables.to_markdown(summary).replace("not measured", "")
    (latency,) = [table for table in tables.run_tables(summary) if table.title == "Latency"]
    assert latency.texts()[0][1] == "foreseen"
    host = [row[-1] for row in table_of_computations.computations_table(summary.algorithms).texts()]
    assert host and set(host) == {NOTHING}  # a dry run carries out few computations


def test_who_would_not_fit_is_said_as_foreseen() -> None:
    summary = summary_of(dry_events(BUDGET + MIB), sl=dry_events())
    said = tables.to_markdown(summary)
    assert (
        "fedavg would not fit: client-0 (pi-zero-2w) is foreseen to need about 101.0 MiB, its budget is 100.0 MiB."
        in said
    )
    assert "would not (2)" in said
    assert "fedavg would not fit in memory of 100.0 MiB (foreseen)" in headline(summary)


def test_the_sentence_says_who_would_need_the_least() -> None:
    found = headline(summary_of(dry_events(), sl=dry_events(50 * MIB), cse=dry_events(80 * MIB)))
    assert "fedavg would need the least client memory (35.00 MiB, foreseen)" in found
    assert "needs" not in found


def test_the_plot_of_memory_shows_what_is_foreseen_as_such() -> None:
    (row,) = data.memory_rows(summary_of(dry_events(BUDGET + MIB)))
    assert (row.mib, row.foreseen, row.unfit, row.would) == (101.0, True, 2, True)


def test_a_bench_of_dry_runs_says_foreseen_and_has_no_column_for_what_only_training_shows() -> None:
    results = [result("a", 1, 2.0), result("b", 1, 3.0)]
    foreseen = [msgspec.structs.replace(each, foreseen=True) for each in results]
    for some, dry in ((results, False), (foreseen, True)):
        shown = sweep.benchmark(sweep.Results(some, (1,)), "p")
        memory, text = shown[-1], "\n".join(line for table in shown for line in markdown(table))
        assert ("Foreseen, not measured" in text, "Measured, not modelled" in text) == (dry, not dry)
        assert ("accuracy" in " ".join(head for table in shown for head in table.headers)) is not dry
        assert memory.headers[2:] == (["peak, fore-\nseen MiB"] if dry else ["peak\nMiB", "needed\nMiB"])


def test_what_is_foreseen_is_compared_with_no_measured_peak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry, run = tmp_path / "dry", tmp_path / "run"
    write_run(dry, {"fedavg": dry_events()}, clock="dry-run", memory={"cap": "account"})
    write_run(run, {"fedavg": make_timeline()})
    (table,) = compare.comparison_tables([recorded.recorded(folder) for folder in (dry, run)], ["dry", "run"])
    rows = {row[0]: row[1:] for row in table.texts()}
    assert rows["peak MiB"] == [NOTHING, "42.00", NOTHING]
    assert rows[compare.FORESEEN] == ["35.00", NOTHING, NOTHING]
    assert compare_command.command([str(dry), str(run)]) == 0
    said = capsys.readouterr().out
    assert "dry: toy, dry run: foreseen, nothing was trained\n" in said
    assert "run: toy, real clock, verdict" in said


def test_the_page_of_a_dry_run_says_that_nothing_was_trained_or_measured(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "dry", {"fedavg": dry_events()}, clock="dry-run", memory={"cap": "account"})
    text = html.write(folder, record.rebuild(folder)).read_text()
    assert "Nothing was trained, so nothing is judged." in text
    assert "Peaks are measured by the kernel" not in text
    assert "those of real training" not in text
    page = html._clients("fedavg", recorded.recorded(folder).summary.algorithms["fedavg"])
    assert page.headers[-2:] == ["budget\nMiB", "peak, fore-\nseen MiB"]
    assert page.texts()[0][-2:] == ["100.0", "35.00"]


@pytest.mark.parametrize("events", [dry_events, older_events])
def test_dashboard_and_trace_show_no_reading_of_a_dry_run(events: Any) -> None:
    progress = Progress(dry_manifest("fedavg"))
    progress.begin("fedavg")
    progress.take(events())
    assert progress.result().peak_bytes is None
    assert progress.result().unfit == 0
    named = [str(line) for line in perfetto.lines(dry_manifest("fedavg"), {"fedavg": events()})]
    assert not any("memory MiB" in line or "host_ns" in line for line in named)
    trained = [str(line) for line in perfetto.lines(make_manifest(), {"fedavg": make_timeline()})]
    assert any("memory MiB" in line for line in trained) and any("host_ns" in line for line in trained)


def test_a_clock_that_cannot_be_late_is_not_praised_for_being_in_time() -> None:
    """Under it actual times are due times by rule; the verdict says what was checked beside that."""
    exact = edit(make_timeline(), lambda _event: True, lambda event: {"actual_ns": event.due_ns})
    said = {
        clock: tables.verdict(summarize(make_manifest(clock=clock), {"fedavg": exact}))[0]
        for clock in ("real", "virtual")
    }
    assert said["real"] == "Verdict: good. Every round ended and every message arrived exactly when it was due."
    assert "seconds are the model's" in said["virtual"]
    assert "exactly when" not in said["virtual"]


def test_the_dashboard_of_a_dry_run_claims_no_health() -> None:
    for manifest, words in (
        (dry_manifest("fedavg"), "dry run: foreseen"),
        (make_manifest(), "health good so far: rounds"),
    ):
        progress = Progress(manifest)
        progress.begin("fedavg")
        progress.take(dry_events())
        screen = "\n".join(line.plain for line in make_screen(progress, 100, 30, ScreenState()))
        assert words in screen
        assert ("health" in screen) is ("health" in words)
