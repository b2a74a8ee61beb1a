"""Every child's first call: it ends with the supervisor, and shows that it is alive and what it is doing."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from emulator.host import liveness
from emulator.processes import die_with_parent
from emulator.runtime.launch_spec import ORPHANED, LaunchSpec


class Watchdog(threading.Thread):
    """Watches over one child: shows that it lives and what it is ``doing``, ends it when the supervisor is gone."""

    def __init__(self, spec: LaunchSpec, lifeline: Connection) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._spec, self._lifeline = spec, lifeline
        self._heartbeats = os.open(spec.heartbeat_file, os.O_WRONLY)
        self.doing: Callable[[], liveness.Activity | None] = liveness.main_thread
        self.last_words: Callable[[str], None] = lambda _reason: None

    def run(self) -> None:
        while True:
            beat = liveness.slot(self.doing())
            os.pwrite(self._heartbeats, beat, self._spec.number * liveness.SLOT_BYTES)
            # The supervisor never writes: readable means that it is gone.
            if select.select([self._lifeline], [], [], liveness.BEAT_S)[0]:
                self.last_words("the supervisor is gone")
                os._exit(ORPHANED)


def enter(spec: LaunchSpec, lifeline: Connection, parent: int) -> Watchdog:
    """To be called first in every child."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what Ctrl-C means
    sys.setswitchinterval(0.0005)  # the event loop must not wait 5 ms for a computing thread's GIL
    threading.stack_size(512 * 1024)  # the default 8 MiB of each would count against the limit
    watchdog = Watchdog(spec, lifeline)
    watchdog.start()
    return watchdog
