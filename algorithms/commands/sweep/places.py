"""Runs side by side: how many this host has room for, and the cores that each has to itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from algorithms.commands.sweep.grid import SweepRun

TRAINING_BYTES = 32 * 2**20  # of a client, about: of what runs are planned beside each other by


class Playing(NamedTuple):
    """A run that goes on. ``log``: of what it prints, or None; ``cores``: those that it may run on."""

    process: subprocess.Popen[bytes]
    job: list[SweepRun]
    run: Path
    log: Path | None
    cores: frozenset[int]
    started: float


def places(jobs: int) -> list[frozenset[int]]:
    """The cores that each of so many runs has to itself; those of one are all."""
    cores = sorted(os.sched_getaffinity(0))
    return [frozenset(cores[i::jobs]) for i in range(jobs)]


def jobs_for(clients: int) -> int:
    """How many runs with so many ``clients`` this host has cores and memory for at a time."""
    from emulator.host import cgroups
    from emulator.preflight.dilation import CLIENT_BYTES, SHARED_BYTES

    needed_bytes = SHARED_BYTES + clients * (CLIENT_BYTES + TRAINING_BYTES)
    return max(min(int(cgroups.cores()), cgroups.memory_limit().free_bytes // needed_bytes), 1)
