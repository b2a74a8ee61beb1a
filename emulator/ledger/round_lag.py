"""How far off its due time the end of a round may be, on a clock that shows wall time.

1 % of the round's length + 5 ms in 95 % of an algorithm's rounds (what timers and scheduling of a sound host cost), and
5 % + 50 ms in every one (a pause of the host, once).
"""

from __future__ import annotations

from collections.abc import Sequence

from emulator.ledger.events import RoundEnded

MS = 10**6
LAG_SHARE, LAG_NS, LAG_ROUNDS_SHARE = 0.01, 5 * MS, 0.95
LAG_WORST_SHARE, LAG_WORST_NS = 0.05, 50 * MS
CLAMP_SHARE = 0.01  # of a run's length, that a node's clamps may add up to


def off_ns(ended: RoundEnded) -> int:
    """By how much a round ended off its due time."""
    return abs(ended.actual_ns - ended.due_ns)


def beyond(rounds: Sequence[RoundEnded]) -> list[RoundEnded]:
    """The rounds that ended farther off than most may."""
    return [each for each in rounds if off_ns(each) > LAG_SHARE * (each.due_ns - each.started_ns) + LAG_NS]


def far(rounds: Sequence[RoundEnded]) -> list[RoundEnded]:
    """The rounds that ended farther off than any may."""
    return [each for each in rounds if off_ns(each) > LAG_WORST_SHARE * (each.due_ns - each.started_ns) + LAG_WORST_NS]
