"""A node's send queue: a copy of each message that has not left yet, and the tasks that wait for room in it."""

from __future__ import annotations

import asyncio

import torch

from emulator.transport.messages import Message, Parcel


class Outbox:
    """Messages on their way out. ``room_bytes``: the payload that the queue holds at most; None: no limit.

    A message that is larger than the queue enters it when it is empty.
    """

    def __init__(self, room_bytes: int | None = None) -> None:
        self.room_bytes, self.held_bytes = room_bytes, 0
        self._held: dict[int, tuple[Parcel, asyncio.Future[None]]] = {}
        self._sending = 0  # tasks that wait for their message to have left
        self._turn = asyncio.Lock()
        self._draining = False

    @property
    def parcels(self) -> list[Parcel]:
        """The messages that have not left, in the order of the posts."""
        return [parcel for parcel, _ in self._held.values()]

    @property
    def awaited(self) -> bool:
        """Whether a task waits for something to have left."""
        return self._sending > 0 or self._turn.locked()

    @property
    def waits(self) -> bool:
        """Whether a task waits for anything here."""
        return self.awaited or self._draining

    async def room_for(self, size_bytes: int) -> None:
        """Return when it is the caller's turn and there is room; it must then ``put`` its message without a wait.

        Tasks take their turns in order.
        """
        if self.room_bytes is None:
            return
        async with self._turn:
            while self._held and self.held_bytes > self.room_bytes - size_bytes:
                await asyncio.wait([left for _, left in self._held.values()], return_when=asyncio.FIRST_COMPLETED)

    def put(self, parcel: Parcel, left: asyncio.Future[None]) -> None:
        """Hold ``parcel`` until it has left; that is when ``left`` is done."""
        self._held[parcel.header.counter] = (parcel, left)
        self.held_bytes += parcel.sizes.payload

    def on_transmitted(self, counter: int) -> None:
        """The last bit of that message has left."""
        parcel, left = self._held.pop(counter)
        self.held_bytes -= parcel.sizes.payload
        left.set_result(None)

    async def until(self, left: asyncio.Future[None]) -> None:
        """Return when a message has left. Cancelling stops only the waiting."""
        self._sending += 1
        try:
            await asyncio.shield(left)
        finally:
            self._sending -= 1

    async def drained(self) -> None:
        """Return when everything has left."""
        self._draining = True
        while self._held:
            await asyncio.shield(next(iter(self._held.values()))[1])


def payload_bytes(message: Message) -> int:
    """The size of a message's tensors, in bytes."""
    total = 0
    for field in message.__struct_fields__:
        value = getattr(message, field)
        if isinstance(value, torch.Tensor):
            total += value.nbytes
        elif isinstance(value, dict):
            total += sum(tensor.nbytes for tensor in value.values())
    return total
