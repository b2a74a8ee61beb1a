"""``run.py compare DIR DIR ...``: runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from algorithms.commands.options.flags import Flags
from emulator.analysis import recorded
from emulator.report.compare import algorithm_counts, comparison_tables, differences
from emulator.tables.headline import clock_of, incomplete_lines, trained, verdict_label
from emulator.tables.table import show
from emulator.validation import printable


def command(argv: list[str]) -> int:
    """Print runs side by side; the exit status."""
    flags = Flags(prog="run.py compare", description="The figures of several runs side by side, and what differs.")
    flags.add_argument("first", metavar="DIR", type=Path, help="the run that the others are compared with")
    flags.add_argument("others", metavar="DIR", type=Path, nargs="+", help="other runs")
    chosen = flags.parse_args(argv)
    folders = [chosen.first, *chosen.others]
    runs = [recorded.recorded(folder) for folder in folders]
    names = _names(folders)
    for name, run in zip(names, runs, strict=True):
        health = run.summary.health
        verdict = f", verdict {verdict_label(run.summary)}" if trained(run.summary) else ""
        print(f"{name}: {run.summary.profile}, {clock_of(run.summary)}{verdict}")
        for line in (*incomplete_lines(run.summary), *health.reasons):
            print(printable(f"  - {line}"))
    for table in comparison_tables(runs, names):
        show(table)
    if alone := [name for name, count in algorithm_counts(runs).items() if count == 1]:
        print(f"In one run alone: {', '.join(alone)}")
    found = differences(runs, names)
    print("\n".join(["", "What differs in the manifests:", *found] if found else ["", "The manifests say the same."]))
    return 0


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their paths where two have the same."""
    own = [folder.resolve().name for folder in folders]
    return own if len(set(own)) == len(own) else [str(folder) for folder in folders]
