"""How late a host ends the computations of a timeline at a dilation, and the least at which none is too late.

The timeline says when each computation begins and when it is due; the host has so many cores, and each node one thread.
Computations that begin together queue for the cores, which a sum over the whole run does not show.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

LATE_NS, LATE_SHARE = 5_000_000, 0.01  # as the end of a round may be: of emulated time, and of a round's length
CORE_SHARE = 0.9  # of the cores: the rest is the evaluator's and the system's
MOST = 100_000  # no dilation is larger


class Job(NamedTuple):
    """A computation of ``node``: its emulated span, and what it takes of one core of the host."""

    node: str
    start_ns: int
    due_ns: int
    host_ns: int


def worst_late_ns(jobs: Sequence[Job], dilation: int, cores: float) -> float:
    """The emulated time by which the worst of the ``jobs`` ends too late, or negative, on ``cores`` cores, which take
    them in the order in which they are ready."""
    threads = max(math.ceil(cores), 1)
    slower = threads / cores
    of_node: dict[str, list[Job]] = defaultdict(list)
    for job in sorted(jobs, key=lambda each: each.start_ns):
        of_node[job.node].append(job)
    ready = [(float(some[0].start_ns * dilation), name, 0) for name, some in of_node.items()]
    heapq.heapify(ready)
    free = [0.0] * threads
    worst = -math.inf
    while ready:
        ready_ns, name, at = heapq.heappop(ready)
        job = of_node[name][at]
        ended_ns = max(ready_ns, free[0]) + job.host_ns * slower
        heapq.heapreplace(free, ended_ns)
        worst = max(worst, ended_ns - job.due_ns * dilation)
        if at + 1 < len(of_node[name]):
            follows = of_node[name][at + 1]
            heapq.heappush(ready, (max(ended_ns, float(follows.start_ns * dilation)), name, at + 1))
    return worst / dilation


def least_dilation(jobs: Sequence[Job], round_ns: int, cores: float, at_least: int = 1) -> int:
    """The least dilation from ``at_least`` on at which no job is later than a round's end of ``round_ns`` may be."""
    allowed_ns = LATE_NS + LATE_SHARE * round_ns

    def enough(dilation: int) -> bool:
        return worst_late_ns(jobs, dilation, cores * CORE_SHARE) <= allowed_ns

    low = high = at_least
    while high < MOST and not enough(high):
        low, high = high + 1, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
