"""``run.py export DIR``: a record's figures as files with a column each, for notebooks and spreadsheets."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from algorithms.commands.options.flags import Flags
from algorithms.commands.options.run_flags import TRACKERS
from emulator.analysis.columns import TABLES, Columns
from emulator.analysis.recorded import recorded
from emulator.errors import UserError


def command(argv: list[str]) -> int:
    """Write ``export/rounds.csv`` and its like into a run's folder, or as Parquet; the exit status."""
    flags = Flags(prog="run.py export", description="A run's figures in columns: " + ", ".join(TABLES) + ".")
    flags.add_argument("folder", metavar="DIR", type=Path, help="the folder of a run")
    flags.add_argument(
        "--to",
        choices=("csv", "parquet", *TRACKERS),
        default="csv",
        help="csv (default), parquet (needs pyarrow), or an experiment tracker (needs its library)",
    )
    chosen = flags.parse_args(argv)
    run = recorded(chosen.folder)
    if chosen.to in TRACKERS:
        from algorithms.commands.records import tracking

        print(f"Tracked: {tracking.track(chosen.to, chosen.folder, run)}")
        return 0
    write = write_parquet if chosen.to == "parquet" else write_csv
    for name, table in TABLES.items():
        path = chosen.folder / "export" / f"{name}.{chosen.to}"
        try:
            path.parent.mkdir(exist_ok=True)
            write(path, table(run))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); copy the run to where you can") from None
        print(path)
    return 0


def write_csv(path: Path, columns: Columns) -> None:
    """A head, then a row a line; None is empty, and what is no number or text is JSON."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else json.dumps(value)


def write_parquet(path: Path, columns: Columns) -> None:
    """By pyarrow; UserError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError("--to parquet: pyarrow is not installed; pip install pyarrow, or take --to csv") from None
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
