"""``run.py report DIR``: everything that comes from a run's ledger, written anew, or a part of it."""

from __future__ import annotations

from pathlib import Path

from algorithms.commands.options.flags import Flags
from emulator.analysis import recorded
from emulator.errors import UserError

PARTS = ("tables", "plots", "trace", "page")


def command(argv: list[str]) -> int:
    """Write the summary, tables, plots, trace and page of some runs from their ledgers; the exit status."""
    from emulator.tables import run as tables

    flags = Flags(prog="run.py report", description="Summary, tables, plots and report.html anew, from a run's ledger.")
    flags.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="the folder of a run")
    flags.add_argument(
        "--only", choices=PARTS, help="one of them: plots as PNG and SVG, a trace for Perfetto (default: all)"
    )
    flags.add_argument("--tables", metavar="all|A,B", help=f"print these tables of a run: {tables.listed()}")
    chosen = flags.parse_args(argv)
    shown = tables.chosen(chosen.tables)
    from emulator.plots import files as plots
    from emulator.report import html, perfetto, record
    from emulator.tables.headline import headline, incomplete_lines
    from emulator.tables.table import show

    if shown and chosen.only not in (None, "tables"):
        raise UserError(f"--tables {chosen.tables}: --only {chosen.only} leaves them out; say one of the two")
    for folder in chosen.folders:
        run = recorded.recorded(folder) if chosen.only in ("plots", "trace") else record.rebuild(folder)
        if chosen.only in (None, "tables"):
            print(f"{folder}: {', '.join(record.WRITTEN)}")
        if chosen.only in (None, "trace"):
            print(
                f"Trace: {perfetto.write(folder, run)} (open it at ui.perfetto.dev, or in any viewer of Chrome traces)"
            )
        if chosen.only == "plots":
            drawn = plots.draw_plots(folder, run)
            for path in drawn.paths:
                print(path)
            for what in drawn.left_out or ["everything: nothing is recorded yet"] * (not drawn.paths):
                print(f"left out: {what}")
        if chosen.only in (None, "page"):
            print(f"Report: {html.write(folder, run)}")
        if chosen.only in (None, "tables"):
            for table in tables.named(run.summary, shown):
                show(table)
            print(*incomplete_lines(run.summary), headline(run.summary), sep="\n")
    return 0
