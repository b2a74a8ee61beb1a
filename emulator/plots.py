"""A run in pictures: ``run.py plots DIR`` writes ``DIR/plots/``, PNG and SVG, from manifest and ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from emulator import charts, gantt, plot_data
from emulator.errors import UserError
from emulator.flags import Flags
from emulator.ledger import AnyEvent
from emulator.plot_style import save, style, trained
from emulator.record import Recorded, recorded

Json = Mapping[str, Any]


class Drawn(NamedTuple):
    """The files, and a sentence for each picture that there is nothing to draw for."""

    paths: list[Path]
    left_out: list[str]


def write(folder: Path) -> list[Path]:
    """Draw a run's plots into ``plots/`` of its folder; the files' paths. UserError where it is no run's folder."""
    return draw(folder, recorded(folder)).paths


def draw(folder: Path, run: Recorded) -> Drawn:
    """The same of a run that has been read already."""
    try:
        (folder / "plots").mkdir(exist_ok=True)
        with style():
            return _draw(folder / "plots", run.manifest, run.summary, run.timelines)
    except OSError as error:
        raise UserError(
            f"plots {folder}: cannot write plots/ ({error.strerror}); copy the run to where you can"
        ) from None


def _draw(folder: Path, manifest: Json, summary: Json, timelines: Mapping[str, Sequence[AnyEvent]]) -> Drawn:
    drawn = Drawn([], [])

    def keep(name: str, made: Any) -> None:
        drawn.paths.extend(save(made, folder, name))

    if curves := plot_data.curves(summary):
        for against in charts.AGAINST:
            keep(f"accuracy-{against.name.lower()}", charts.accuracy(curves, against, summary))
    else:
        why = "no round has been judged" if trained(summary) else "a dry run trains nothing"
        drawn.left_out.append(f"accuracy: {why}")

    if stacks := plot_data.stacks(summary):
        keep("latency", charts.latency(stacks, summary))
    else:
        drawn.left_out.append("seconds of a round: none has ended")

    if rows := [row for row in plot_data.memory(summary) if row.mib is not None]:
        keep("memory", charts.memory(rows, summary))
    else:
        drawn.left_out.append("memory: none was measured")

    nodes = manifest["nodes"]
    members = [node for node in nodes if node["role"] == "client"]
    done = {name: plot_data.done(members, events) for name, events in timelines.items()}
    if done := {name: found for name, found in done.items() if found}:
        keep("clients", charts.clients(done, summary))
    else:
        drawn.left_out.append("rounds of clients: none has ended")

    strips = {name: plot_data.strip(name, nodes, events) for name, events in timelines.items()}
    if seen := [strip for strip in strips.values() if strip]:
        keep("rounds", gantt.together(seen, summary))
        for strip in seen:
            keep(f"round-{strip.algorithm}", gantt.one(strip, summary))
    drawn.left_out.extend(f"a round of {name}: nothing happened" for name, strip in strips.items() if strip is None)
    return drawn


def command(argv: list[str]) -> int:
    """Write a run's plots and list them."""
    flags = Flags(prog="run.py plots", description="A run's plots, PNG and SVG, from its record.")
    flags.add_argument("folder", metavar="DIR", type=Path, help="the folder of a run")
    folder = flags.parse_args(argv).folder
    drawn = draw(folder, recorded(folder))
    console = Console()
    for path in drawn.paths:
        console.print(str(path), soft_wrap=True, highlight=False)
    for what in drawn.left_out:
        console.print(f"left out: {what}", soft_wrap=True, highlight=False)
    return 0
