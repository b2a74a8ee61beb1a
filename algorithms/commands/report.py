"""``run.py report DIR``: everything that comes from a run's ledger, written anew, or a part of it."""

from __future__ import annotations

from pathlib import Path

from algorithms.commands.options.flags import Flags
from emulator.analysis import recorded

PARTS = ("tables", "plots", "trace", "page")


def command(argv: list[str]) -> int:
    """Write the summary, tables, plots, trace and page of some runs from their ledgers; the exit status."""
    flags = Flags(prog="run.py report", description="Summary, tables, plots and report.html anew, from a run's ledger.")
    flags.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="the folder of a run")
    flags.add_argument(
        "--only", choices=PARTS, help="one of them: plots as PNG and SVG, a trace for Perfetto (default: all)"
    )
    chosen = flags.parse_args(argv)
    from emulator.plots import files as plots
    from emulator.report import html, perfetto, record
    from emulator.tables.headline import partial, sentence

    for folder in chosen.folders:
        run = recorded.recorded(folder) if chosen.only in ("plots", "trace") else record.rebuild(folder)
        if chosen.only in (None, "tables"):
            print(f"{folder}: {', '.join(record.WRITTEN)}")
        if chosen.only in (None, "trace"):
            print(
                f"Trace: {perfetto.write(folder, run)} (open it at ui.perfetto.dev, or in any viewer of Chrome traces)"
            )
        if chosen.only == "plots":
            drawn = plots.draw(folder, run)
            for path in drawn.paths:
                print(path)
            for what in drawn.left_out or ["everything: nothing is recorded yet"] * (not drawn.paths):
                print(f"left out: {what}")
        if chosen.only in (None, "page"):
            print(f"Report: {html.write(folder, run)}")
        if chosen.only in (None, "tables"):
            print(*partial(run.summary), sentence(run.summary), sep="\n")
    return 0
