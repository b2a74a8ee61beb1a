"""The live dashboard: a process of its own that reads the ledger's files and draws. Stopping it changes no figure.

``run.py watch DIR`` (which a run in a terminal starts for itself), and ``run.py replay DIR``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from emulator.dashboard.follow import EventSource, Follower, Replay
from emulator.dashboard.plain_lines import PlainLines
from emulator.dashboard.progress import Progress
from emulator.dashboard.screen import ScreenState, make_screen
from emulator.dashboard.terminal import Terminal, is_ours
from emulator.ledger.manifest import read_manifest
from emulator.processes import CALL

SMALL, FEW = (80, 24), 50  # a screen up to this with so many clients is drawn twice a second, a larger one once
SMALL_S, LARGE_S = 0.5, 1.0
LOWEST = 19  # of all priorities: what is computed goes first


class Suspended(Exception):
    """Ctrl-Z."""


class Dashboard:
    """Draws a state whenever it has changed, and takes keys."""

    def __init__(self, progress: Progress, source: EventSource, terminal: Terminal, owned: bool) -> None:
        self.progress, self.choice = progress, ScreenState()
        self._source, self._terminal, self._owned = source, terminal, owned
        self._next_s = 0.0
        self._at_s = time.monotonic()
        self._left = False

    def show(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Until it is left by a key (where it is not owned) or by a signal."""
        try:
            self._at_s = clock()
            while not self._left:
                try:
                    self.step(clock)
                except Suspended:
                    self._terminal.close()
                    os.kill(os.getpid(), signal.SIGSTOP)  # until fg or bg
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP):
                signal.signal(number, signal.SIG_IGN)
            self._terminal.close()

    def step(self, clock: Callable[[], float]) -> None:
        """Read, draw and wait for a key, once."""
        begun_s = clock()
        fresh = not self._terminal.is_open and self._terminal.open()
        size = self._terminal.size()
        small = size[0] <= SMALL[0] and size[1] <= SMALL[1] and len(self.progress.nodes) <= FEW + 1
        interval_s = SMALL_S if small else LARGE_S
        if begun_s >= self._next_s:
            fresh |= self._read(begun_s)
            self._next_s = begun_s + interval_s
        if self._terminal.is_open and (fresh or size != self._terminal.drawn_size):
            self._draw(size)
        keys = self._terminal.keys(max(self._next_s - clock(), 0.0))
        for key in keys:
            self._press(key)
        if keys:
            self._draw(self._terminal.size())

    def _read(self, now_s: float) -> bool:
        passed_s, self._at_s = now_s - self._at_s, now_s
        if self.choice.paused:
            return False
        if isinstance(self._source, Replay):
            self._source.pass_s(passed_s)
        return self._source.advance(self.progress)

    def _draw(self, size: tuple[int, int]) -> None:
        lines = make_screen(self.progress, *size, self.choice, self._badge, self._more_keys)
        self._terminal.paint(lines, size)

    @property
    def _badge(self) -> str:
        if isinstance(self._source, Replay):
            return f"replay x{self._source.speed:g}" + (", over" if self._source.over else "")
        return "over" if self._source.over else "live"

    @property
    def _more_keys(self) -> tuple[str, ...]:
        if isinstance(self._source, Replay):
            return ("q quit", "+- speed", "n next")
        return ("Ctrl-C ends the run",) if self._owned else ("q quit",)

    def _press(self, key: str) -> None:
        self.choice.press(key)
        if key == "q" and self._owned:
            self.choice.said = "q does not end the run; Ctrl-C does"
        elif key == "q":
            self._left = True
        elif isinstance(self._source, Replay) and key in "+-":
            self._source.speed *= 2.0 if key == "+" else 0.5
        elif isinstance(self._source, Replay) and key == "n":
            self._source.skip()


@contextlib.contextmanager
def signals(owned: bool) -> Iterator[None]:
    """SIGTERM leaves, Ctrl-Z suspends; Ctrl-C is the run's where there is one. Touching the terminal never stops us."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(0)

    def suspend(_number: int, _frame: object) -> None:
        raise Suspended

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, leave),
        signal.SIGTSTP: signal.signal(signal.SIGTSTP, suspend),
    }
    for number in (signal.SIGTTOU, signal.SIGTTIN, *([signal.SIGINT] if owned else [])):
        before[number] = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def can_draw() -> bool:
    """Whether the standard output is a terminal that can be drawn on, and is not in a shell's background."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown", "") and is_ours(1)


def draw_screen(progress: Progress, source: EventSource, owned: bool) -> None:
    """In a terminal the dashboard, else the log's lines as they come."""
    os.nice(LOWEST)
    if can_draw():
        with signals(owned):
            Dashboard(progress, source, Terminal(colour="NO_COLOR" not in os.environ), owned).show()
        return
    lines = PlainLines(progress, source, print)
    while not source.over:
        time.sleep(SMALL_S)
        if isinstance(source, Replay):
            source.pass_s(SMALL_S)
        lines.read()


def watch(folder: Path, owned: bool = False) -> None:
    """Show the run of ``folder``, which goes on; ``owned``: by that run, whose end alone ends it."""
    manifest = read_manifest(folder)
    follower = Follower(folder, manifest)
    draw_screen(Progress(manifest), follower, owned)
    if follower.cut:
        print(f"{folder}: its process is gone; '{CALL} report {folder}' shows what it recorded")


def replay(folder: Path, speed: float) -> None:
    """Show a recorded run again, at ``speed`` emulated seconds a second."""
    manifest = read_manifest(folder)
    draw_screen(Progress(manifest), Replay(folder, manifest, speed), owned=False)
