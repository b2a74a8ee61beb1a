"""The emulator's proof about itself: one scenario under both clocks, side by side.

The virtual clock's times are the model's, exactly. What the real clock showed must agree with them: the end of each
round within 1 % of its length + 5 ms, bytes to the last one, and, where every due time is the same, the order in which
nodes received their messages and the numbers that were computed. Where the real run's own verdict is bad, or no round
ended, nothing is concluded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from emulator.analysis.metrics import seconds_per_round
from emulator.analysis.summary import Summary
from emulator.ledger.events import Received
from emulator.ledger.round_lag import LAG_NS, LAG_SHARE
from emulator.ledger.timeline import Timeline

PLAYED = ("virtual", "real")  # in this order
MS_A_SECOND = 1000


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One algorithm under both clocks. ``real_s`` and ``virtual_s`` are actual seconds a round."""

    rounds: int
    real_s: float | None
    virtual_s: float | None
    worst_ms: float | None  # the largest difference between the ends of one round
    rounds_beyond: int  # that differ by more than 1 % of the round's length + 5 ms
    bytes_equal: bool
    deliveries: int
    reordered: int  # least number of deliveries to move for the same order at every node
    same_timeline: bool  # equal timeline digests: every due time is the same
    same_numbers: bool  # equal numerics digests
    verdict: str  # "agrees" | "differs" | "unknown"
    why: str = ""


class ClockRun(Protocol):
    """A run: its summary and the merged events of each algorithm."""

    @property
    def summary(self) -> Summary: ...
    @property
    def timelines(self) -> Mapping[str, Timeline]: ...


def compare(virtually: ClockRun, really: ClockRun) -> dict[str, Comparison]:
    """By algorithm."""
    found: dict[str, Comparison] = {}
    for name, real in really.summary.algorithms.items():
        virtual = virtually.summary.algorithms[name]
        ends = list(zip(real.history, virtual.history, strict=False))
        off = [abs(a.actual_s - b.actual_s) for a, b in ends]
        lengths = [b.actual_s - b.started_s for _, b in ends]
        beyond = sum(o > LAG_SHARE * s + LAG_NS / 1e9 for o, s in zip(off, lengths, strict=True))
        sent = [(each.bytes, each.by_kind, each.official_bytes) for each in (real, virtual)]
        equal = sent[0] == sent[1]
        order = [run.timelines[name].of(Received) for run in (really, virtually)]
        same = [
            real.timeline_digest == virtual.timeline_digest is not None,
            real.numerics_digest == virtual.numerics_digest is not None,
        ]
        moved = reordered(*order)
        verdict, why = "agrees", ""
        if blame := _blame(really, name):
            verdict, why = "unknown", f"the real run cannot be trusted: {blame}"
        elif blame := _blame(virtually, name):
            verdict, why = "differs", f"the virtual run's own verdict is bad: {blame}"
        elif real.outcome != virtual.outcome or real.rounds != virtual.rounds:
            verdict = "differs"
            why = ", ".join(f"{run.outcome} in {run.rounds} rounds" for run in (real, virtual))
        elif not ends:
            verdict, why = "unknown", f"no round to compare: {real.outcome} under both"
        elif not equal:
            verdict, why = "differs", "bytes are not equal"
        elif beyond:
            verdict, why = "differs", f"{beyond} of {len(off)} rounds ended more than 1 % + 5 ms apart"
        elif same[0] and moved:
            verdict, why = "differs", "the same times, but another order of deliveries"
        elif same[0] and not same[1]:
            verdict, why = "differs", "the same timeline, but other numbers"
        found[name] = Comparison(
            rounds=len(ends),
            real_s=seconds_per_round(real),
            virtual_s=seconds_per_round(virtual),
            worst_ms=max(off) * MS_A_SECOND if off else None,
            rounds_beyond=beyond,
            bytes_equal=equal,
            deliveries=len(order[1]),
            reordered=moved,
            same_timeline=same[0],
            same_numbers=same[1],
            verdict=verdict,
            why=why,
        )
    return found


def reordered(one: Sequence[Received], other: Sequence[Received]) -> int:
    """How many deliveries of ``one`` must be moved so that every node receives in the order of ``other``.

    Its deliveries less the longest common order, node by node (patience sorting); one that only one run has counts.
    """
    moved = 0
    for node in {event.node for event in (*one, *other)}:
        first, second = ([(e.source, e.counter) for e in _by_seq(run, node)] for run in (one, other))
        place = {message: i for i, message in enumerate(second)}
        tails: list[int] = []
        for at in (place[message] for message in first if message in place):
            where = bisect_left(tails, at)
            tails[where : where + 1] = [at]
        moved += max(len(first), len(second)) - len(tails)
    return moved


def _by_seq(events: Sequence[Received], node: str) -> list[Received]:
    return sorted((event for event in events if event.node == node), key=lambda event: event.seq)


def _blame(run: ClockRun, name: str) -> str:
    """The first reason for which a run's own verdict on a method is bad."""
    found = run.summary.health.findings
    return next((each.text for each in found if (each.severity, each.algorithm) == ("reason", name)), "")


def verdict_of(comparisons: Mapping[str, Comparison]) -> str:
    """``agrees`` when every algorithm does; ``differs`` when one does; else ``unknown``."""
    verdicts = {comparison.verdict for comparison in comparisons.values()}
    return "differs" if "differs" in verdicts else "agrees" if verdicts == {"agrees"} else "unknown"
