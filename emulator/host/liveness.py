"""Signs of life: what a process shows of itself twice a second, and what its watcher makes of it.

Each process has a slot of one small file. It writes there when it last wrote, and what it has been doing since when
where that takes longer than a moment: a computation, or a coroutine that does not wait. A step that is slow goes on;
a process is *silent* only where it neither writes nor uses a core nor waits for one, as when it is stopped.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Protocol

BEAT_S = 0.5
LATE_S = 1.0  # since the last beat: from then on the process is looked at
STOPPED_S = 4.0  # a stopped process is silent after it
QUIET_S = 30.0  # and any other: it may wait for a disk
SLOT_BYTES = 256
SAMPLES, SAMPLE_S = 50, 0.001
MOMENT_S = 2.0  # what takes longer is said where it happens
TOLD_FROM_S = 30.0
STEP_LEAST_S, STEP_FACTOR = 3600.0, 50.0  # no step is taken for an endless one before; times the longest profiled
NS = 10**9

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OURS = str(Path(__file__).parent.parent)


class Pulse:
    """The activity of this process's main thread, and its begin by CLOCK_MONOTONIC, ns; 0: it waits."""

    what = "coroutine"
    since_ns = 0

    def begin(self, what: str = "") -> None:
        """From now on it does ``what``, or something else of the same kind."""
        self.what = what or self.what
        self.since_ns = time.monotonic_ns()

    def rest(self) -> None:
        """From now on it waits."""
        self.since_ns = 0


PULSE = Pulse()


class Activity(NamedTuple):
    """An activity of a process since ``since_ns`` (CLOCK_MONOTONIC), and the place in the program where it is."""

    what: str
    since_ns: int
    where: str

    @property
    def for_s(self) -> float:
        return max(time.monotonic_ns() - self.since_ns, 0) / NS


def where_in_source(thread: int | None) -> str:
    """File, line and function of the innermost frame of a thread that is of the user's or an algorithm's own code.

    A coroutine that only yields is seldom in it: it is looked for a few times.
    """
    for _ in range(SAMPLES):
        frame = sys._current_frames().get(thread or 0)
        innermost = frame
        while frame is not None:
            if not frame.f_code.co_filename.startswith((*_LIBRARIES, _OURS, "<")):
                return _named(frame)
            frame = frame.f_back
        time.sleep(SAMPLE_S)
    return _named(innermost) if innermost is not None else ""


def _named(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{frame.f_lineno} {frame.f_code.co_name}"


def main_thread() -> Activity | None:
    """The activity of this process's main thread; None where it has lasted no longer than a moment (2 s)."""
    since_ns, what = PULSE.since_ns, PULSE.what
    return lasting(what, since_ns, threading.main_thread().ident)


def lasting(what: str, since_ns: int, thread: int | None) -> Activity | None:
    """``what`` a thread has been doing since then (0: nothing), where that takes longer than a moment."""
    if not since_ns or time.monotonic_ns() - since_ns < MOMENT_S * NS:
        return None
    return Activity(what, since_ns, where_in_source(thread))


def slot(doing: Activity | None) -> bytes:
    """The bytes of a process's slot now: the time and the activity's begin, 8 bytes each, and its words."""
    since_ns, text = (doing.since_ns, f"{doing.what}\0{doing.where}") if doing else (0, "")
    words = text.encode()
    if len(words) > SLOT_BYTES - 16:  # the end of a path says more than its begin
        head, end = f"{doing.what if doing else ''}\0..".encode(), words[-(SLOT_BYTES - 64) :]
        words = head + end
    return (time.monotonic_ns().to_bytes(8, "little") + since_ns.to_bytes(8, "little") + words).ljust(SLOT_BYTES, b"\0")


class Process(Protocol):
    """A process that is watched: as ``multiprocessing`` has it."""

    @property
    def pid(self) -> int | None: ...
    @property
    def exitcode(self) -> int | None: ...


def step_limit_s(asked: float | None, slowest_s: float = 0.0) -> float:
    """The longest that one step of a process may take on the host, s: as the user says (infinite: for ever), or much
    more than any took in profiling (at least an hour)."""
    return asked if asked is not None else max(STEP_LEAST_S, STEP_FACTOR * slowest_s)


class LivenessReading(NamedTuple):
    """Of one process: for how long it has been silent (0: it is not), and what it has been doing for long."""

    name: str
    silent_s: float
    doing: Activity | None


class LivenessMonitor:
    """Reads the slots of processes, in the order of their numbers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_s = time.monotonic()
        self._quiet: dict[str, tuple[float, float]] = {}  # CPU seconds, and for how long they have been the same

    def look(self, processes: Mapping[str, Process]) -> Iterator[LivenessReading]:
        """The signs of those that have not ended. Call it often: time in which nobody looked counts for a moment."""
        text, now_ns = self._path.read_bytes(), time.monotonic_ns()
        passed_s, self._looked_s = min(now_ns / NS - self._looked_s, LATE_S), now_ns / NS
        for number, (name, process) in enumerate(processes.items()):
            if process.exitcode is not None or process.pid is None:
                continue
            mine = text[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]
            beat_ns, since_ns = (int.from_bytes(mine[i : i + 8], "little") for i in (0, 8))
            what, _, place = mine[16:].rstrip(b"\0").decode(errors="replace").partition("\0")
            doing = Activity(what, since_ns, place) if since_ns else None
            silent_s = 0.0
            if now_ns - beat_ns > LATE_S * NS:
                silent_s = self._silent_s(name, process.pid, passed_s)
                if beat_ns and doing is None:  # it runs, and lets no other thread run that could say what
                    doing = Activity("process", beat_ns, "a place that keeps Python's lock")
            else:
                self._quiet.pop(name, None)
            yield LivenessReading(name, silent_s, doing)

    def _silent_s(self, name: str, pid: int, passed_s: float) -> float:
        """For how long a process has not used a core, where that is too long for its state."""
        found = _state(pid)
        if found is None:
            return 0.0
        cpu_s, stopped, runnable = found
        before_s, quiet_s = self._quiet.get(name, (cpu_s, 0.0))
        quiet_s = 0.0 if runnable or cpu_s != before_s else quiet_s + passed_s
        self._quiet[name] = cpu_s, quiet_s
        return quiet_s if quiet_s >= (STOPPED_S if stopped else QUIET_S) else 0.0


def _state(pid: int) -> tuple[float, bool, bool] | None:
    """CPU seconds of a process so far, whether it is stopped, and whether a thread of it wants a core; None: gone."""
    try:
        state, *numbers = _stat(Path(f"/proc/{pid}/stat"))
        threads = [_stat(path)[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (OSError, IndexError):
        return None
    return (int(numbers[10]) + int(numbers[11])) / os.sysconf("SC_CLK_TCK"), state in "Tt", "R" in threads


def _stat(path: Path) -> list[str]:
    """The fields of proc_pid_stat(5) behind the name: the state first, user and system time as eleventh and twelfth."""
    return path.read_text().rpartition(")")[2].split()


class DurationReporter:
    """Which of the things that last long are to be told: each place first after a while, then as it has doubled."""

    def __init__(self, from_s: float = TOLD_FROM_S) -> None:
        self._from_s = from_s
        self._told_s: dict[str, float] = {}

    def is_news(self, place: str, for_s: float) -> bool:
        """Whether what lasts for so long at ``place`` has not been told."""
        if for_s < max(self._from_s, 2 * self._told_s.get(place, 0.0)):
            return False
        self._told_s[place] = for_s
        return True


def longest(signs: Iterable[LivenessReading]) -> LivenessReading | None:
    """The reading of the process that has been doing one thing for longest; None where none has an activity."""
    busy = [sign for sign in signs if sign.doing]
    return max(busy, key=lambda sign: sign.doing.for_s if sign.doing else 0.0, default=None)


def describe_activity(name: str, doing: Activity) -> str:
    """The activity of the process ``name`` in words: its kind, its seconds so far and its place."""
    article = "an" if doing.what[:1] in "aeiou" else "a"
    place = doing.where or "an unknown place"
    return f"{name}: {article} {doing.what} has been going on for {doing.for_s:.0f} s, now in {place}"


Reporter = Callable[[str], None]  # takes what lasts long, in words
