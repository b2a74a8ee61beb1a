"""Runs one of our own commands inside another: it is told of every signal, and its end is waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from emulator.processes import die_with_parent

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_subcommand(command: Sequence[str], log: Path | None = None) -> int:
    """Its exit status, or minus the number of the signal that ended it. It never outlives this process.

    ``log``: a file for all that it prints, which is shown where it is None.
    """
    with log.open("wb") if log else contextlib.nullcontext() as output:
        path = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": path},
            preexec_fn=partial(die_with_parent, os.getpid()),
        )

    def forward(number: int, _frame: object) -> None:
        process.send_signal(number)

    wanted = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in wanted}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_status(status: int) -> str:
    """How it ended, in words."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
