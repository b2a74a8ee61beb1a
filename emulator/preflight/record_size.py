"""How large a run's record will be, and what reading it at the end needs, from the events that are foreseen."""

from __future__ import annotations

import shutil
from pathlib import Path

from emulator.errors import UserError
from emulator.host import cgroups

# Measured on all methods with ten clients: a line of the ledger has 265 to 282 B, and stands in a node's file and in
# the merged one; in memory an event, its place among those of its type and its part of the summary take 0.8 kB.
DISK_BYTES, READING_BYTES = 560, 800
WORTH_SAYING = 1_000_000  # events; fewer are read in seconds


def warning(events: int, folder: Path, proc: Path = cgroups.PROC) -> str:
    """What to say of a run with about ``events`` events; "" where they are few.

    UserError where the disk of ``folder`` has no room for them, or this host's memory for reading them.
    """
    if events < WORTH_SAYING:
        return ""
    disk_bytes, reading_bytes = events * DISK_BYTES, events * READING_BYTES
    free_bytes, limit = shutil.disk_usage(folder).free, cgroups.memory_limit(proc)
    said = f"about {events / 1e6:.0f} million events"
    if disk_bytes > free_bytes:
        raise UserError(
            f"--out {folder}: {said} will take {disk_bytes / 1e9:.1f} GB, and {free_bytes / 1e9:.1f} GB are free there;"
            " take fewer --rounds, or name a folder with more room"
        )
    if reading_bytes > limit.free_bytes:
        raise UserError(
            f"--rounds: {said} will need {reading_bytes / 1e9:.1f} GB of memory when they are read at the end, and"
            f" {limit.what} leaves {limit.free_bytes / 1e9:.1f} GB; take fewer rounds, or one --algorithm at a time"
        )
    return (
        f"record: {said}, which take {disk_bytes / 1e9:.1f} GB under {folder}"
        f" and {reading_bytes / 1e9:.1f} GB of memory when they are read at the end"
    )
