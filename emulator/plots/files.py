"""A run in pictures: ``draw`` writes ``DIR/plots/``, PNG and SVG, from manifest and ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from emulator.analysis.recorded import RunRecord, recorded
from emulator.analysis.summary import Summary
from emulator.errors import UserError
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import Timeline
from emulator.plots import charts, data, gantt
from emulator.plots.style import save, style
from emulator.tables.headline import trained


class PlotFiles(NamedTuple):
    """The files, and what is in none of them, or not of all algorithms."""

    paths: list[Path]
    left_out: list[str]


def write(folder: Path) -> list[Path]:
    """Draw a run's plots into ``plots/`` of its folder; the files' paths. UserError where it is no run's folder."""
    return draw_plots(folder, recorded(folder)).paths


def draw_plots(folder: Path, run: RunRecord) -> PlotFiles:
    """The same of a run that has been read already."""
    try:
        (folder / "plots").mkdir(exist_ok=True)
        with style():
            return _draw(folder / "plots", run.manifest, run.summary, run.timelines)
    except OSError as error:
        raise UserError(
            f"plots {folder}: cannot write plots/ ({error.strerror}); copy the run to where you can"
        ) from None


def _draw(folder: Path, manifest: Manifest, summary: Summary, timelines: Mapping[str, Timeline]) -> PlotFiles:
    drawn = PlotFiles([], [])

    def keep(name: str, made: Any) -> None:
        drawn.paths.extend(save(made, folder, name))

    def leave_out(what: str, shown: Iterable[str]) -> None:
        missing = [name for name in summary.algorithms if name not in shown]
        if missing:
            drawn.left_out.append(f"{what}: {', '.join(missing)}")

    curves, words = data.curves(summary), summary.criteria.metric.words
    if curves:
        for against in charts.against(curves):
            keep(f"{charts.name_of(summary)}-{against.name.lower()}", charts.scores(curves, against, summary))
    shown = {curve.algorithm for curve in curves}
    if at_once := [name for name, each in summary.algorithms.items() if each.diverged and name not in shown]:
        drawn.left_out.append(f"{words} (diverged in the first round): {', '.join(at_once)}")
    why = "no round was judged" if trained(summary) else "a dry run trains nothing"
    leave_out(f"{words} ({why})", shown | {*at_once})

    stacks = data.stacks(summary)
    if stacks:
        keep("latency", charts.stack_chart(stacks, charts.LATENCY, summary))
    leave_out("seconds of a round (none has ended)", stacks)

    if joules := data.energy_stacks(summary):
        keep("energy", charts.stack_chart(joules, charts.ENERGY, summary))

    rows = [row for row in data.memory_rows(summary) if row.mib is not None]
    if rows:
        keep("memory", charts.memory_chart(rows, summary))
    leave_out("memory (none was measured)", {row.algorithm for row in rows})

    done = {name: found for name, events in timelines.items() if (found := data.done(manifest.clients, events))}
    if done:
        keep("clients", charts.clients(done, summary))
    leave_out("when clients are done (no round has ended)", done)

    strips = [strip for name, events in timelines.items() if (strip := data.strip(name, manifest.nodes, events))]
    if strips:
        keep("rounds", gantt.together(strips, summary))
        for strip in strips:
            keep(f"round-{strip.algorithm}", gantt.one(strip, summary))
    leave_out("a round over time (nothing happened)", {strip.algorithm for strip in strips})
    return drawn
