"""Sources of the events that a view shows: a run's files while they grow, or a record by its due times."""

from __future__ import annotations

import platform
from bisect import bisect_right
from pathlib import Path
from typing import Protocol

import psutil

from emulator.dashboard.progress import SECOND_NS, Progress
from emulator.errors import UserError
from emulator.ledger.events import AnyEvent, Ended, Evaluated, Lifecycle
from emulator.ledger.files import Tail, read_timeline
from emulator.ledger.manifest import Manifest

SAME_S = 1.0  # two begins of a process that are as close are of the same process


def player(manifest: Manifest) -> Path | None:
    """A path that exists as long as the process that plays a run; None where that cannot be known (another host)."""
    process = manifest.process
    if process is None or process.host != platform.node():
        return None
    own = Path(f"/proc/{process.pid}")
    try:
        same = abs(psutil.Process(process.pid).create_time() - process.began) < SAME_S
    except psutil.NoSuchProcess:
        same = False
    return own if same else own / "of another process"


class EventSource(Protocol):
    """A source of events: ``advance`` folds in those of this moment, and says whether there were any."""

    def advance(self, progress: Progress) -> bool: ...
    @property
    def over(self) -> bool: ...


class Follower:
    """Follows the ledger files of a run from one algorithm to the next.

    The server's file is read before the clients': whatever led to a line of the server's is then in the same batch.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._ledger = folder / "ledger"
        self._to_come = list(manifest.algorithms)
        nodes = [node.name for node in manifest.nodes]
        self._names = ["evaluator", "server", "network", "supervisor", *(name for name in nodes if name != "server")]
        self._tails: list[Tail] = []
        self._folder: Path | None = None
        self._inode = 0  # of the folder that is followed: an attempt that is abandoned is moved out of the way
        self._player = player(manifest)
        self.cut = False  # its process is gone, without an end

    def advance(self, progress: Progress) -> bool:
        """Read what there is; whether anything was."""
        gone = self._player is not None and not self._player.exists()
        changed = self._read_on(progress)
        self.cut = gone and not changed  # what was read after its end is all that there will be
        return changed

    def _read_on(self, progress: Progress) -> bool:
        changed = self._begin_again(progress)
        while self._tails or self._next(progress):
            events = self._read()
            changed |= bool(events)
            if any(isinstance(event, Lifecycle) and event.outcome for event in events):
                events += self._read()  # what was written before, to files that were read before
            progress.take(events)
            if progress.over is None:
                return changed
            progress.end()
            self._tails = []
        return changed

    def _read(self) -> list[AnyEvent]:
        return [event for tail in self._tails for event in tail.read()]

    def _next(self, progress: Progress) -> bool:
        """Begin the next algorithm where its folder is there."""
        if not self._to_come or not (self._ledger / self._to_come[0]).is_dir():
            return False
        algorithm = self._to_come.pop(0)
        self._folder = self._ledger / algorithm
        self._open(progress)
        return True

    def _open(self, progress: Progress) -> None:
        assert self._folder is not None
        self._inode = self._folder.stat().st_ino
        self._tails = [Tail(self._folder / f"{name}.jsonl") for name in self._names]
        progress.begin(self._folder.name)

    def _begin_again(self, progress: Progress) -> bool:
        """Start over where another attempt has taken the followed one's place; whether that is so."""
        if not self._tails or self._folder is None or not self._folder.is_dir():
            return False
        if self._folder.stat().st_ino == self._inode:
            return False
        self._open(progress)
        return True

    @property
    def over(self) -> bool:
        """Whether the last algorithm has ended, or the run without that."""
        return self.cut or (not self._to_come and not self._tails)


class Replay:
    """Plays a record again: each event when emulated time, moved on by ``pass_s``, has come to its due time."""

    def __init__(self, folder: Path, manifest: Manifest, speed: float = 1.0) -> None:
        folders = [folder / "ledger" / name for name in manifest.algorithms]
        self._to_come = [path for path in folders if path.is_dir()]
        if not self._to_come:
            raise UserError(f"{folder}: nothing was played in this run; name one with a ledger")
        self.speed = speed
        self._events: list[AnyEvent] = []
        self._moments: list[int] = []
        self._played = 0
        self._now_ns = 0
        self._begun = False

    def pass_s(self, seconds: float) -> None:
        """Let so many seconds of the watcher's pass."""
        self._now_ns += int(seconds * self.speed * SECOND_NS)

    def advance(self, progress: Progress) -> bool:
        """Fold in what is due by now; whether anything was."""
        if not self._begun:
            if not self._to_come:
                return False
            self._open(progress)
        until = bisect_right(self._moments, self._now_ns)
        due, self._played = self._events[self._played : until], until
        progress.take(due)
        if until == len(self._events):
            self._begun = False
            progress.end()
        return bool(due) or not self._begun

    def skip(self) -> None:
        """To the end of the algorithm that is played."""
        self._now_ns = max([self._now_ns, *self._moments[-1:]])

    def _open(self, progress: Progress) -> None:
        path = self._to_come.pop(0)
        events = read_timeline(path)
        last_ns = max((event.due_ns for event in events), default=0)
        # Last words and judgements are told when they were known: at the end, and not at time 0.
        moments = [last_ns if isinstance(event, Lifecycle) and event.outcome else event.due_ns for event in events]
        order = sorted(
            range(len(events)), key=lambda i: (moments[i], isinstance(events[i], Ended | Evaluated | Lifecycle))
        )
        self._events, self._moments = [events[i] for i in order], [moments[i] for i in order]
        self._played, self._now_ns, self._begun = 0, 0, True
        progress.begin(path.name)

    @property
    def over(self) -> bool:
        """Whether the last algorithm has been played to its end."""
        return not self._to_come and not self._begun
