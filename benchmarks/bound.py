"""How fast a run could have been: its recorded computations on a pool of processes, by arithmetic.

A task is one recorded computation with its CPU time. It can begin when the computation before it on its node has ended
(a node computes one at a time, in order) and when everything that its node had received by its emulated start has been
computed by the senders before they posted it. Links take no time. Of the tasks that can begin, the pool takes the one
that began first in emulated time (greedy).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from emulator.ledger.events import AnyEvent, Computed, Posted, Received
from emulator.ledger.timeline import only


class Task(NamedTuple):
    """A computation; ``after``: the indices of those that must have ended."""

    start_ns: int
    cpu_ns: int
    after: list[int]


def tasks(events: Sequence[AnyEvent]) -> list[Task]:
    """The computations of a timeline, by emulated start, with what they depend on."""
    spans = sorted(only(events, Computed), key=lambda span: (span.start_ns, span.node, span.seq))
    of_node: dict[str, list[int]] = {}
    for index, span in enumerate(spans):
        of_node.setdefault(span.node, []).append(index)
    posted_ns = {(post.node, post.counter): post.due_ns for post in only(events, Posted)}
    received: dict[str, list[Received]] = {}
    for message in only(events, Received):
        received.setdefault(message.node, []).append(message)

    def last_before(node: str, time_ns: int) -> int | None:
        """The last computation of ``node`` that had ended by then; those before it precede it anyway."""
        ended = [index for index in of_node.get(node, []) if spans[index].due_ns <= time_ns]
        return max(ended, default=None)

    found = [Task(span.start_ns, span.cpu_ns, []) for span in spans]
    for node, indices in of_node.items():
        inbox = sorted(received.get(node, []), key=lambda message: message.due_ns)
        taken = 0
        for place, index in enumerate(indices):
            after = found[index].after
            if place:
                after.append(indices[place - 1])
            while taken < len(inbox) and inbox[taken].due_ns <= spans[index].start_ns:
                source = last_before(inbox[taken].source, posted_ns[inbox[taken].source, inbox[taken].counter])
                after += [source] if source is not None else []
                taken += 1
    return found


def makespan_s(of: Iterable[Task], processes: int) -> float:
    """Seconds that a pool of so many processes needs for all tasks."""
    work = list(of)
    missing = [len(task.after) for task in work]
    followers: dict[int, list[int]] = {}
    for index, task in enumerate(work):
        for before in task.after:
            followers.setdefault(before, []).append(index)
    ready = [index for index, count in enumerate(missing) if not count]  # sorted by emulated start: a heap already
    running: list[tuple[int, int]] = []
    now_ns = 0
    while ready or running:
        while ready and len(running) < processes:
            index = heapq.heappop(ready)
            heapq.heappush(running, (now_ns + work[index].cpu_ns, index))
        now_ns, ended = heapq.heappop(running)
        for index in followers.get(ended, []):
            missing[index] -= 1
            if not missing[index]:
                heapq.heappush(ready, index)
    return now_ns / 1e9
