"""Activity of the last minute: sums over bins of emulated time; messages that are under way; bytes until rounds' ends.
Pure arithmetic.

Of many nodes, each is looked at twice a second: so the bins are filled as events are read, once, and only a screen's
cells are summed up when it is drawn.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

BIN_NS = 250 * 10**6
BINS = 240  # the newest: a minute, until they are widened
COMPUTE, UPLOAD, DOWNLOAD, UP_BITS, DOWN_BITS = range(5)  # the sums of a node: ns of each state, bits each way


class Bins:
    """Several sums over equal bins of time since 0, of which the newest ``BINS`` are kept."""

    def __init__(self, sums: int = 5) -> None:
        self.width_ns = BIN_NS
        self._newest = 0
        self._sums = [[0.0] * BINS for _ in range(sums)]

    def add(self, which: int, start_ns: int, end_ns: int, amount: float) -> None:
        """Spread ``amount`` evenly from ``start_ns`` to ``end_ns``; what lies before the oldest bin is forgotten."""
        width_ns, sums = self.width_ns, self._sums[which]
        last = max(end_ns - 1, start_ns) // width_ns
        self._reach(last)
        first = start_ns // width_ns
        if first == last:  # most spans are short
            if first > self._newest - BINS:
                sums[first % BINS] += amount
            return
        per_ns = amount / (end_ns - start_ns)
        for number in range(max(first, self._newest - BINS + 1), last + 1):
            overlap_ns = min(end_ns, (number + 1) * width_ns) - max(start_ns, number * width_ns)
            sums[number % BINS] += per_ns * overlap_ns

    def widen(self) -> None:
        """Join bins by two, so that twice the time is kept."""
        joined = [[0.0] * BINS for _ in self._sums]
        for number in range(max(self._newest - BINS + 1, 0), self._newest + 1):
            for new, old in zip(joined, self._sums, strict=True):
                new[number // 2 % BINS] += old[number % BINS]
        self._sums, self._newest, self.width_ns = joined, self._newest // 2, 2 * self.width_ns

    def cells(
        self, count: int, now_ns: int, window_ns: int, ongoing: Iterable[tuple[int, int]] = ()
    ) -> list[tuple[list[float], int]]:
        """Each sum in ``count`` cells of equal time, the last of them with ``now_ns``, and the ns of each so far.

        Together they cover at least ``window_ns``. A cell keeps its place in time while it moves to the left, so that
        what is past does not change; one before time 0, or before what is kept, has 0 ns. ``ongoing``: (sum, since
        when) of what goes on at ``now_ns``, a ns a ns.
        """
        per_cell = max(-(-window_ns // (count * self.width_ns)), 1)
        self._reach(now_ns // self.width_ns)
        first = now_ns // self.width_ns // per_cell - count + 1
        found = []
        for cell in range(first, first + count):
            begin, end = max(cell * per_cell, self._newest - BINS + 1, 0), min((cell + 1) * per_cell, self._newest + 1)
            begin_ns, end_ns = begin * self.width_ns, min(end * self.width_ns, now_ns)
            sums = [_between(row, begin, end) for row in self._sums]
            for which, since_ns in ongoing:
                sums[which] += max(end_ns - max(since_ns, begin_ns), 0)
            found.append((sums, max(end_ns - begin_ns, 0)))
        return found

    def total(self, which: int, now_ns: int, window_ns: int) -> float:
        """One sum over the bins that began in the last ``window_ns``."""
        first = self.since_ns(now_ns, window_ns) // self.width_ns
        return _between(self._sums[which], first, self._newest + 1)

    def since_ns(self, now_ns: int, window_ns: int) -> int:
        """The begin of the first bin of the last ``window_ns``, ns."""
        self._reach(now_ns // self.width_ns)
        return max(-((window_ns - now_ns) // self.width_ns), self._newest - BINS + 1, 0) * self.width_ns

    def _reach(self, number: int) -> None:
        """Begin the bins up to ``number``."""
        if number > self._newest:
            for fresh in range(max(self._newest + 1, number - BINS + 1), number + 1):
                for sums in self._sums:
                    sums[fresh % BINS] = 0.0
            self._newest = number


def _between(ring: list[float], first: int, end: int) -> float:
    """The sum over the bins from ``first`` to before ``end``, which are at most as many as are kept."""
    if first >= end:
        return 0.0
    begin, last = first % BINS, (end - 1) % BINS + 1
    return sum(ring[begin:last]) if begin < last else sum(ring[begin:]) + sum(ring[:last])


class UnderWay:
    """Messages that were posted and are not yet done, in whichever order the two are learnt."""

    def __init__(self) -> None:
        self._posted: dict[tuple[str, int], tuple[str, int]] = {}
        self._done: set[tuple[str, int]] = set()

    def begin(self, source: str, counter: int, kind: str, posted_ns: int) -> None:
        if (source, counter) in self._done:
            self._done.remove((source, counter))
        else:
            self._posted[(source, counter)] = (kind, posted_ns)

    def end(self, source: str, counter: int) -> None:
        if self._posted.pop((source, counter), None) is None:
            self._done.add((source, counter))

    def __len__(self) -> int:
        return len(self._posted)

    @property
    def oldest(self) -> tuple[str, int]:
        """Kind and posting time of the message that was learnt of first; ("", 0) when there is none."""
        return next(iter(self._posted.values()), ("", 0))


class SentByTime:
    """Bytes that were posted until the end of each round, that instant included, in whichever order the two are learnt;
    of messages themselves only those after the last end are kept."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._ends_ns: list[int] = []
        self._bytes: list[int] = []  # between each end and the one before
        self._after: list[tuple[int, int]] = []  # when, bytes

    def add(self, posted_ns: int, size_bytes: int) -> None:
        self.total_bytes += size_bytes
        place = bisect_left(self._ends_ns, posted_ns)
        if place < len(self._ends_ns):
            self._bytes[place] += size_bytes
        else:
            self._after.append((posted_ns, size_bytes))

    def round_ended(self, due_ns: int) -> None:
        """Rounds end in the order of their times."""
        self._ends_ns.append(due_ns)
        self._bytes.append(sum(size_bytes for posted_ns, size_bytes in self._after if posted_ns <= due_ns))
        self._after = [each for each in self._after if each[0] > due_ns]

    def until_bytes(self, due_ns: int) -> int:
        """Until the end of the round that ended at ``due_ns``."""
        return sum(self._bytes[: bisect_right(self._ends_ns, due_ns)])
