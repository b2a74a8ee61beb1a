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
from emulator.runtime.launch_spec import ORPHANED, Placement


class Vigil(threading.Thread):
    """Watches over one child: shows that it lives and what it is ``doing``, ends it when the supervisor is gone."""

    def __init__(self, placement: Placement, lifeline: Connection) -> None:
        super().__init__(name="vigil", daemon=True)
        self._placement, self._lifeline = placement, lifeline
        self._heartbeats = os.open(placement.heartbeat_file, os.O_WRONLY)
        self.doing: Callable[[], liveness.Doing | None] = liveness.main_thread
        self.last_words: Callable[[str], None] = lambda _reason: None

    def run(self) -> None:
        while True:
            beat = liveness.slot(self.doing())
            os.pwrite(self._heartbeats, beat, self._placement.number * liveness.SLOT_BYTES)
            # The supervisor never writes: readable means that it is gone.
            if select.select([self._lifeline], [], [], liveness.BEAT_S)[0]:
                self.last_words("the supervisor is gone")
                os._exit(ORPHANED)


def enter(placement: Placement, lifeline: Connection, parent: int) -> Vigil:
    """To be called first in every child."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what Ctrl-C means
    sys.setswitchinterval(0.0005)  # the event loop must not wait 5 ms for a computing thread's GIL
    threading.stack_size(512 * 1024)
    vigil = Vigil(placement, lifeline)
    vigil.start()
    return vigil
