"""A fabric that lives in a node's own event loop, where all nodes share one: rehearsals and dry runs."""

from __future__ import annotations

from collections.abc import Callable

from emulator.clock.loop import NETWORK_RANK, EmulatedLoop, Entry
from emulator.errors import UserError
from emulator.network.fabric import Fabric, Happening


class InlineFabric:
    """Lets happen what happens in ``fabric`` when the loop has come to it, before anything else at that moment."""

    def __init__(self, loop: EmulatedLoop, fabric: Fabric) -> None:
        self._loop, self._fabric = loop, fabric
        self._entry: Entry | None = None
        self._left: dict[tuple[str, int], Callable[[Happening], None]] = {}

    def post(
        self,
        source: str,
        destination: str,
        counter: int,
        wire_bytes: int,
        stamp_ns: int,
        left: Callable[[Happening], None],
    ) -> None:
        """Carry a message; ``left`` is called when its last bit has left."""
        self._left[source, counter] = left
        self._fabric.post(source, destination, counter, wire_bytes, stamp_ns)
        self._plan()

    def _plan(self) -> None:
        due_ns = self._fabric.next_ns()
        if self._entry is not None:
            if due_ns == self._entry.due_ns:
                return
            self._entry.cancelled = True
        self._entry = None if due_ns is None else self._loop.at(due_ns, self._advance, NETWORK_RANK, what="network")

    def _advance(self) -> None:
        self._entry = None
        try:
            happenings = self._fabric.advance()
        except UserError as error:  # asyncio would only log it, in a callback
            self._loop.failure = error
            return
        for happening in happenings:
            if happening.departs:
                self._left.pop((happening.source, happening.counter))(happening)
        self._plan()
