"""Omissions of a run's model of compute, in lines: work outside computations, operators of unknown arithmetic."""

from __future__ import annotations

from emulator.ledger.events import Computed, Lifecycle
from emulator.ledger.timeline import Timeline


def uncharged(events: Timeline) -> list[str]:
    """Lines of the method whose tensor work takes no emulated time: the figures lack it."""
    lines = dict.fromkeys(line for event in events.of(Lifecycle) for line in event.uncharged)
    return [f"tensor work outside node.compute takes no time here: {line}; pass it to node.compute" for line in lines]


def unknown_arithmetic(events: Timeline) -> list[str]:
    """Which operators were counted by their bytes because nothing is known of their arithmetic, and in what."""
    where: dict[str, dict[str, None]] = {}
    for event in events.of(Computed):
        for operator in event.unknown:
            where.setdefault(operator, {})[event.function] = None
    return [
        f"{operator} in {', '.join(functions)}: counted by the bytes that it moves, since nothing is known of its"
        " arithmetic; torch.utils.flop_counter.register_flop_formula tells it"
        for operator, functions in where.items()
    ]
