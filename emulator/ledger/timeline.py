"""One algorithm's events in memory: in their order, by their type, by node, and how the timeline ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from emulator.ledger.events import AnyEvent, Computed, Event, Lifecycle, Posted, Received, RoundEnded, Transmitted

E = TypeVar("E", bound=Event)
MessageKey = tuple[str, int]  # the sender and its counter: names one message of a timeline


class Timeline(list[AnyEvent]):
    """The events by (due time, node, the node's own counter), sorted once; nobody changes it afterwards."""

    def __init__(self, events: Iterable[AnyEvent]) -> None:
        super().__init__(events)
        self.sort(key=lambda event: (event.due_ns, event.node, event.seq))
        self._of: dict[type, list[Any]] = defaultdict(list)
        self._by_node: dict[type, dict[str, list[Any]]] = {}
        for event in self:
            self._of[type(event)].append(event)

    def of(self, kind: type[E], node: str = "") -> list[E]:
        """The events of one type, in their order; of one ``node``, as it wrote them."""
        return self.by_node(kind).get(node, []) if node else self._of.get(kind, [])

    @cached_property
    def posted(self) -> dict[MessageKey, Posted]:
        """Each message as its sender posted it."""
        return {(event.node, event.counter): event for event in self.of(Posted)}

    @cached_property
    def transmitted(self) -> dict[MessageKey, Transmitted]:
        """Each message as the network carried it."""
        return {(event.source, event.counter): event for event in self.of(Transmitted)}

    def by_node(self, kind: type[E]) -> dict[str, list[E]]:
        """Events of one type by node, in the order in which the node wrote them."""
        if kind not in self._by_node:
            grouped: dict[str, list[E]] = defaultdict(list)
            for event in self.of(kind):
                grouped[event.node].append(event)
            ordered = {node: sorted(found, key=lambda event: event.seq) for node, found in sorted(grouped.items())}
            self._by_node[kind] = ordered
        return self._by_node[kind]

    @property
    def ending(self) -> str:
        """How the supervisor saw it end; "partial" where it did not live to see it."""
        outcomes = [event.outcome for event in self.of(Lifecycle) if event.outcome]
        return outcomes[-1] if outcomes else "partial"

    @property
    def dilation(self) -> int:
        return max((event.dilation for event in self.of(Lifecycle)), default=1)

    @cached_property
    def length_ns(self) -> int:
        """The latest due time of anything that takes place in emulated time."""
        lasting = (self.of(kind) for kind in (Posted, Received, Computed, RoundEnded))
        return max((found[-1].due_ns for found in lasting if found), default=0)


def timelines_of(events: Mapping[str, Iterable[AnyEvent]]) -> dict[str, Timeline]:
    """The timelines of several algorithms."""
    return {name: each if isinstance(each, Timeline) else Timeline(each) for name, each in events.items()}


def only(events: Iterable[AnyEvent], kind: type[E]) -> list[E]:
    """The events of one type of any, in their order."""
    return [event for event in events if isinstance(event, kind)]
