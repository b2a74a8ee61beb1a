"""Display of a run while it goes on: by a dashboard's process, or by plain lines. Neither can hold it up.

A terminal that is stopped (Ctrl-S, a stalled connection) stops whoever writes to it: that is another process, or
another thread, and the supervisor waits for neither before the run's end.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol, Self

import psutil

from emulator.dashboard.follow import Follower
from emulator.dashboard.plain_lines import PlainLines
from emulator.dashboard.progress import Progress
from emulator.dashboard.terminal import LEAVE, is_ours, modes_of, restore
from emulator.ledger.manifest import Manifest
from emulator.processes import die_with_parent

READ_S = 0.5
LEAVE_S = 2.0  # from the end of the run to the kill of a dashboard that hangs on a stopped terminal
STOP_S = 1.0  # for it to leave the terminal at Ctrl-Z
PROGRAM = "import sys, pathlib; from emulator.dashboard import app; app.watch(pathlib.Path(sys.argv[1]), owned=True)"


class View(Protocol):
    """Shows a run while it goes on; ``tick`` is called often and does nothing most of the time."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def tick(self) -> None: ...


class DashboardProcess:
    """The dashboard, in a process of its own; whatever becomes of that, the terminal is given back as it was."""

    def __init__(self, _manifest: Manifest, folder: Path) -> None:
        self._command = [sys.executable, "-c", PROGRAM, str(folder.absolute())]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._modes = modes_of(0)
        self._suspend = signal.getsignal(signal.SIGTSTP)
        if self._suspend is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._on_suspend)
        path = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            self._command,
            env=os.environ | {"PYTHONPATH": path},
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),
        )
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.send_signal(signal.SIGCONT)
            try:
                ended = process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                ended = process.wait()
            if ended:
                self._give_back()
        signal.signal(signal.SIGTSTP, self._suspend)

    def tick(self) -> None:
        """Tell where the dashboard has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
            threading.Thread(target=self._give_back, daemon=True).start()  # the terminal may be stopped

    def _give_back(self) -> None:
        """Restore the terminal, for a dashboard that has ended without doing so."""
        restore(0, self._modes)
        if is_ours(1):
            with contextlib.suppress(OSError):  # hung up
                os.write(1, LEAVE.encode() + b"The dashboard was ended.\r\n")

    def _on_suspend(self, _number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: the dashboard leaves the terminal first, since the shell takes it over when we stop."""
        deadline_s = time.monotonic() + STOP_S
        with contextlib.suppress(psutil.Error):
            drawing = psutil.Process(self._process.pid) if self._process else None
            while drawing and drawing.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline_s:
                time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGSTOP)


class PlainOutput:
    """Plain lines on the standard output, written by a thread."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="lines", daemon=True)
        self._lines = PlainLines(Progress(manifest, explains=False), Follower(folder, manifest), self._queue.put)
        self._next_s = 0.0

    def __enter__(self) -> Self:
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.read()
        self._queue.put(None)
        self._writer.join()

    def tick(self) -> None:
        if time.monotonic() >= self._next_s:
            self._lines.read()
            self._next_s = time.monotonic() + READ_S

    def _write(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reader has had enough; the run goes on
            while (line := self._queue.get()) is not None:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
