"""``run.py profiles [NAME]``: the shipped profiles, or one with its sources."""

from __future__ import annotations

import shutil

from algorithms.commands.options.flags import Flags
from emulator.profiles.reading import describe_profile
from emulator.tables.profiles import NARROWEST, WIDEST, list_lines, profile_lines


def show_profiles(name: str | None) -> None:
    """Prints what ships, or with ``name`` (or a path) every profile of that name with its sources."""
    width = max(NARROWEST, min(shutil.get_terminal_size().columns, WIDEST))
    print("\n".join(profile_lines(describe_profile(name), width) if name else list_lines(width)))


def command(argv: list[str]) -> int:
    """``run.py profiles [NAME]``; the exit status."""
    flags = Flags(prog="run.py profiles", description="The shipped profiles; of one, every number with its source.")
    flags.add_argument("name", metavar="NAME|FILE", nargs="?", help="one of them, or a profile's file")
    show_profiles(flags.parse_args(argv).name)
    return 0
