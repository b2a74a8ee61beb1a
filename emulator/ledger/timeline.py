"""One algorithm's events in memory: by their type, by node, and how the timeline ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from emulator.ledger.events import (
    AnyEvent,
    Computed,
    Event,
    Posted,
    Received,
    RoundEnded,
    Timeline,
)

E = TypeVar("E", bound=Event)


class Sorted(list[AnyEvent]):
    """Events that are also at hand by their type: for views that ask many times for a few of very many."""

    def __init__(self, events: Iterable[AnyEvent]) -> None:
        super().__init__(events)
        self.by_type: dict[type, list[Any]] = defaultdict(list)
        for event in self:
            self.by_type[type(event)].append(event)


def only(events: Iterable[AnyEvent], kind: type[E]) -> list[E]:
    """The events of one type, in their order."""
    if isinstance(events, Sorted):
        return list(events.by_type.get(kind, ()))
    return [event for event in events if isinstance(event, kind)]


def by_node(events: Iterable[AnyEvent], kind: type[E]) -> dict[str, list[E]]:
    """Events of one type by node, in the order in which the node wrote them."""
    grouped: dict[str, list[E]] = defaultdict(list)
    for event in only(events, kind):
        grouped[event.node].append(event)
    return {node: sorted(found, key=lambda event: event.seq) for node, found in sorted(grouped.items())}


def ending_of(events: Iterable[AnyEvent]) -> str:
    """How the supervisor saw a timeline end; "partial" where it did not live to see it."""
    outcomes = [event.outcome for event in only(events, Timeline) if event.outcome]
    return outcomes[-1] if outcomes else "partial"


def length_of(events: Sequence[AnyEvent]) -> int:
    """Length of a timeline in ns: the latest due time of anything that takes place in emulated time."""
    lasting = (only(events, kind) for kind in (Posted, Received, Computed, RoundEnded))
    return max((event.due_ns for found in lasting for event in found), default=0)
