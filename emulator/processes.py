"""First module that the fork server imports: it must not outlive the supervisor.

The fork server is the parent of every node. When the supervisor dies, however it dies, the kernel ends the fork
server, and with it (each node asks for the same) every node. Without this all of them would live on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence

PR_SET_PDEATHSIG = 1
PROGRAM = "splitbed" if sys.argv[0].rpartition(os.sep)[2] == "splitbed" else "run.py"  # as it was called
CALL = "splitbed" if PROGRAM == "splitbed" else "python run.py"  # so a user calls it
SUPERVISOR_VARIABLE = "SPLITBED_SUPERVISOR"
METHODS_VARIABLE = "SPLITBED_METHODS"  # modules that the fork server imports last, with commas
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send ``number`` when the parent, process ``parent``, ends; end at once if it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def environment(methods: Sequence[str] = ()) -> Iterator[None]:
    """The fork server's environment, which is the caller's own again afterwards: another child of a program that plays
    a run is none of ours, and would end as an orphan. ``methods``: modules of users' own, which may be broken."""
    own = dict.fromkeys(THREAD_VARIABLES, "1") | {SUPERVISOR_VARIABLE: str(os.getpid())}
    own[METHODS_VARIABLE] = ",".join(methods)
    # The fork server takes over neither sys.path nor, when a preload cannot be found, says so.
    own["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    before = {name: os.environ.get(name) for name in own}
    os.environ |= own
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def forget_output() -> None:
    """The reader of our output has had enough: nothing more is printed. (Python flushes once more at its end.)"""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if SUPERVISOR_VARIABLE in os.environ:
    die_with_parent(int(os.environ.pop(SUPERVISOR_VARIABLE)))
