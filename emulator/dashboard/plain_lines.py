"""A run as lines of text: each round and each algorithm's outcome, for output that is no terminal."""

from __future__ import annotations

from collections.abc import Callable

from emulator.dashboard.follow import EventSource
from emulator.dashboard.progress import Progress


def title(progress: Progress) -> str:
    """The title of a run in one line: profile, clock, seed, clients and algorithms."""
    manifest = progress.manifest
    return (
        f"splitbed: {manifest.profile}, {manifest.clock} clock, seed {manifest.seed}, "
        f"{len(progress.clients)} clients; {', '.join(progress.algorithms)}"
    )


class PlainLines:
    """``read`` writes what the log has got since the last time."""

    def __init__(self, progress: Progress, source: EventSource, write: Callable[[str], object]) -> None:
        self._progress, self._source, self._write = progress, source, write
        self._written = 0
        write(title(progress))

    def read(self) -> None:
        self._source.advance(self._progress)
        new = min(self._progress.told - self._written, len(self._progress.log))
        self._written = self._progress.told
        for line in list(self._progress.log)[len(self._progress.log) - new :]:
            self._write(line)
