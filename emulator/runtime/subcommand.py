"""Runs one of our own commands inside another: it is told of every signal, and its end is waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from emulator.processes import die_with_parent

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start_subcommand(
    command: Sequence[str], log: Path | None = None, cores: Collection[int] = ()
) -> subprocess.Popen[bytes]:
    """Start it from this thread, with whose process it ends.

    ``log``: a file for all that it prints, which is shown where it is None. ``cores``: those that it may run on; empty:
    all.
    """
    parent = os.getpid()

    def before() -> None:
        die_with_parent(parent)
        if cores:
            os.sched_setaffinity(0, cores)

    with log.open("wb") if log else contextlib.nullcontext() as output:
        path = os.pathsep.join(path for path in sys.path if path)
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": path},
            preexec_fn=before,
        )


@contextlib.contextmanager
def forwarded(running: Collection[subprocess.Popen[bytes]], told: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hand on the signals that end a program to all that are ``running``; ``told`` is called for each."""

    def forward(number: int, _frame: object) -> None:
        told()
        for process in [*running]:
            process.send_signal(number)

    wanted = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_subcommand(command: Sequence[str], log: Path | None = None) -> int:
    """Its exit status, or minus the number of the signal that ended it. It never outlives this process."""
    process = start_subcommand(command, log)
    with forwarded([process]):
        return process.wait()


def describe_status(status: int) -> str:
    """How it ended, in words."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
