"""``run.py watch DIR`` and ``run.py replay DIR``: the dashboard of a run that goes on, or of a record."""

from __future__ import annotations

from pathlib import Path

from algorithms.commands.options.flags import Flags
from emulator.dashboard import app
from emulator.errors import UserError

FASTEST = 1_000_000  # times emulated time


def watch(argv: list[str]) -> int:
    """Show a run that goes on."""
    flags = Flags(prog="run.py watch", description="The dashboard of a run that goes on, e.g. in another terminal.")
    flags.add_argument("folder", metavar="DIR", type=Path, help="the run's folder")
    app.watch(flags.parse_args(argv).folder)
    return 0


def replay(argv: list[str]) -> int:
    """Show a run again."""
    flags = Flags(prog="run.py replay", description="The dashboard of a run again, by its emulated time.")
    flags.add_argument("folder", metavar="DIR", type=Path, help="the run's folder; it may have been interrupted")
    flags.add_argument("--speed", type=float, default=1.0, metavar="N", help="so many emulated seconds a second")
    chosen = flags.parse_args(argv)
    if not 0 < chosen.speed <= FASTEST:
        raise UserError(f"--speed {chosen.speed:g}: say a number above 0, up to {FASTEST:,}")
    app.replay(chosen.folder, chosen.speed)
    return 0
