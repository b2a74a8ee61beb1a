"""A quantity that changes in steps: what a trace says of a link, as arithmetic.

``StepFunction`` holds each value until the next step begins, and starts over after its length: a trace of ten minutes
repeats; ``PointwiseMax`` is the larger of two such functions at each moment. Times are integer nanoseconds; values are
integers in whatever unit their user needs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate, pairwise

from msgspec import Struct


class StepFunction(Struct, frozen=True, dict=True):
    """``values[i]`` holds from ``starts_ns[i]`` to the next start; the first starts at 0, the last ends at the length.

    ``ahead_ns``: how far into the steps time 0 is, so that two links can play one trace at different places.
    """

    starts_ns: tuple[int, ...]
    values: tuple[int, ...]
    length_ns: int
    ahead_ns: int = 0

    def __post_init__(self) -> None:
        edges = self.edges_ns
        if len(self.values) != len(self.starts_ns) or edges[0] != 0 or any(b <= a for a, b in pairwise(edges)):
            raise ValueError("steps must begin at 0 and rise, one value each")

    @cached_property
    def sums(self) -> tuple[int, ...]:
        """The sum of value x ns from time 0 of the steps to each start, and to the end of the length."""
        parts = (value * (b - a) for value, (a, b) in zip(self.values, pairwise(self.edges_ns), strict=True))
        return tuple(accumulate(parts, initial=0))

    @property
    def least(self) -> int:
        """The smallest value."""
        return min(self.values)

    @property
    def edges_ns(self) -> tuple[int, ...]:
        """The starts and the end of the length: the edges of all steps."""
        return (*self.starts_ns, self.length_ns)

    def at(self, t_ns: int) -> int:
        """The value at a moment; that of the step which begins there, where one does."""
        return self.values[bisect_right(self.starts_ns, (t_ns + self.ahead_ns) % self.length_ns) - 1]

    def next_ns(self, t_ns: int) -> int:
        """The end of the step at ``t_ns``, in ns. The value of the next step may be the same."""
        laps, within_ns = divmod(t_ns + self.ahead_ns, self.length_ns)
        i = bisect_right(self.starts_ns, within_ns)
        end_ns = self.starts_ns[i] if i < len(self.starts_ns) else self.length_ns
        return laps * self.length_ns + end_ns - self.ahead_ns

    def change_ns(self, t_ns: int) -> int | None:
        """The next time, ns, at which the value differs from that at ``t_ns``; None: never."""
        value, next_ns = self.at(t_ns), self.next_ns(t_ns)
        for _ in self.values:
            if self.at(next_ns) != value:
                return next_ns
            next_ns = self.next_ns(next_ns)
        return None

    def until(self, t_ns: int) -> int:
        """The sum of value x ns from the beginning of the steps to ``t_ns``."""
        laps, within_ns = divmod(t_ns + self.ahead_ns, self.length_ns)
        i = bisect_right(self.starts_ns, within_ns) - 1
        return laps * self.sums[-1] + self.sums[i] + self.values[i] * (within_ns - self.starts_ns[i])

    def integral(self, from_ns: int, to_ns: int) -> int:
        """The sum of value x ns between two moments."""
        return self.until(to_ns) - self.until(from_ns)

    def shifted(self, ahead_ns: int) -> StepFunction:
        """The same steps from another place on."""
        return StepFunction(self.starts_ns, self.values, self.length_ns, ahead_ns % self.length_ns)


def merged(starts_ns: Iterable[int], values: Iterable[int], length_ns: int) -> StepFunction:
    """The steps in which equal neighbours are one."""
    steps: list[tuple[int, int]] = []
    for start_ns, value in zip(starts_ns, values, strict=True):
        if not steps or steps[-1][1] != value:
            steps.append((start_ns, value))
    return StepFunction(tuple(start for start, _ in steps), tuple(value for _, value in steps), length_ns)


class PointwiseMax(Struct, frozen=True):
    """The larger of two at each moment; of different lengths too, which may not start over together for days."""

    first: StepFunction
    second: StepFunction

    @property
    def length_ns(self) -> int:
        """The length of the longer of the two, ns."""
        return max(self.first.length_ns, self.second.length_ns)

    @property
    def least(self) -> int:
        """A value that it never falls below."""
        return max(self.first.least, self.second.least)

    def at(self, t_ns: int) -> int:
        """The value at a moment."""
        return max(self.first.at(t_ns), self.second.at(t_ns))

    def next_ns(self, t_ns: int) -> int:
        """The end of the step at ``t_ns``, in ns, in whichever of the two it ends first."""
        return min(self.first.next_ns(t_ns), self.second.next_ns(t_ns))

    def change_ns(self, t_ns: int) -> int | None:
        """The next time, ns, at which either of the two differs from its value at ``t_ns``; None: never."""
        changes = [change_ns for part in (self.first, self.second) if (change_ns := part.change_ns(t_ns)) is not None]
        return min(changes, default=None)

    def integral(self, from_ns: int, to_ns: int) -> int:
        """The sum of value x ns between two moments, step by step."""
        total = 0
        while from_ns < to_ns:
            until_ns = min(self.next_ns(from_ns), to_ns)
            total += self.at(from_ns) * (until_ns - from_ns)
            from_ns = until_ns
        return total


def pointwise_max(first: StepFunction, second: StepFunction) -> StepFunction | PointwiseMax:
    """The larger of both at each moment: one of them, where it is never the smaller."""
    same = (first.starts_ns, first.length_ns, first.ahead_ns) == (second.starts_ns, second.length_ns, second.ahead_ns)
    pairs = list(zip(first.values, second.values, strict=True)) if same else []
    if first.least >= max(second.values) or (same and all(a >= b for a, b in pairs)):
        return first
    if second.least >= max(first.values) or (same and all(b >= a for a, b in pairs)):
        return second
    return PointwiseMax(first, second)


def constant(value: int) -> StepFunction:
    """One value for ever."""
    return StepFunction((0,), (value,), 1)
