"""First module that the fork server imports: it must not outlive the supervisor.

The fork server is the parent of every node. When the supervisor dies, however it dies, the kernel ends the fork
server, and with it (each node asks for the same) every node. Without this all of them would live on.
"""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
SUPERVISOR_VARIABLE = "SPLITBED_SUPERVISOR"


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send ``number`` when the parent, process ``parent``, ends; end at once if it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if SUPERVISOR_VARIABLE in os.environ:
    die_with_parent(int(os.environ.pop(SUPERVISOR_VARIABLE)))
