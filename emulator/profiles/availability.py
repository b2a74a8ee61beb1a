"""Absences of a client: listed spans, or drawn ones, in the order in which they come."""

from __future__ import annotations

import random
from bisect import bisect_right
from typing import Literal

from msgspec import Struct

MS = 10**6


class Absence(Struct, frozen=True):
    """The absences of a client: spans from-to in ns, or alternating random periods with these means.

    During an "outage" the link stands still, and its message goes on afterwards; a client that is "away" has lost its
    connections, and the message in transmission starts over when it is back.
    """

    kind: Literal["outage", "away"]
    spans: tuple[tuple[int, int], ...] = ()
    mean_present_ns: int = 0
    mean_absent_ns: int = 0


class Absences:
    """The spans of one client's absences. Random periods are exponential, in whole milliseconds."""

    def __init__(self, absence: Absence | None, stream: str) -> None:
        self.kind = absence.kind if absence else ""
        self._absence = absence
        self._random = random.Random(stream)
        self._from: list[int] = [start for start, _ in absence.spans] if absence else []
        self._to: list[int] = [end for _, end in absence.spans] if absence else []

    def __bool__(self) -> bool:
        return self._absence is not None

    def _reach(self, t_ns: int) -> None:
        """Draw random periods until a span ends after ``t_ns``."""
        absence = self._absence
        while absence and absence.mean_absent_ns and (not self._to or self._to[-1] <= t_ns):
            begin_ns = (self._to[-1] if self._to else 0) + self._draw_ns(absence.mean_present_ns)
            self._from.append(begin_ns)
            self._to.append(begin_ns + self._draw_ns(absence.mean_absent_ns))

    def _draw_ns(self, mean_ns: int) -> int:
        return max(round(self._random.expovariate(1 / mean_ns) / MS), 1) * MS

    def back_ns(self, t_ns: int) -> int:
        """The time, ns, at which the client can be reached again; ``t_ns`` itself where it can be."""
        self._reach(t_ns)
        i = bisect_right(self._from, t_ns) - 1
        return max(self._to[i], t_ns) if i >= 0 else t_ns

    def next_ns(self, t_ns: int) -> int | None:
        """The next begin or end of a span after ``t_ns``; None: there is none."""
        self._reach(t_ns)
        back_ns = self.back_ns(t_ns)
        if back_ns > t_ns:
            return back_ns
        i = bisect_right(self._from, t_ns)
        return self._from[i] if i < len(self._from) else None

    def begun(self, after_ns: int, until_ns: int) -> list[tuple[int, int]]:
        """Begin and end of the spans that begin after ``after_ns`` and not after ``until_ns``."""
        self._reach(until_ns)
        first, last = (bisect_right(self._from, t_ns) for t_ns in (after_ns, until_ns))
        return list(zip(self._from[first:last], self._to[first:last], strict=True))


def of_client(absence: Absence | None, seed: int, client: str) -> Absences:
    """The absences of a client in a run of this seed."""
    return Absences(absence, f"{seed}:absence:{client}")
