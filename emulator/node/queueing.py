"""For which message the server computes, and how long that message queued: one rule for every way to write a server.

A computation is for the message whose tensors, or views of them, are among its arguments; where they hold none of any
message, for the one that its task dealt with last: received, or computed for, itself or before the task that started
it. One whose arguments come from several nodes, such as a mean, is for nobody.

The first computation for a message has queued from the message's arrival, or where it ended later, from the end of the
last computation for the same sender. What counts is that the message was there, not who held it: the inbox, a loop that
served others, a list, a task that waited for a worker. Only while a task had received it *and* the server computed
nothing at all, it did not queue: the algorithm waited for something else, such as others or a deadline. Every other
computation has queued from when it was asked for, that is for a free worker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch.utils.weak import WeakIdKeyDictionary, WeakTensorKeyDictionary

from emulator.node.inbox import Arrived
from emulator.transport.messages import Message


class ServedMessage(NamedTuple):
    """The message that a computation is for: its ``source`` and ``counter`` ("" and -1: for none; None: not
    determined), and the queueing delay before the computation, in ns."""

    source: str | None
    counter: int
    queued_ns: int


class Queueing:
    """The queueing of a client, at which no messages queue: its computations wait for a worker alone."""

    def take(self, arrived: Arrived) -> None:
        """Note that a task of the node has received ``arrived``."""

    @contextlib.contextmanager
    def turn(self, arguments: Sequence[tuple[Any, ...]], asked_ns: int, start_ns: int) -> Iterator[ServedMessage]:
        """Context of a computation over all of the ``arguments``; entered as it begins."""
        del arguments
        yield ServedMessage(None, -1, start_ns - asked_ns)


class _Taken:
    """A message that a task has received; ``idle_ns``: how long the server had computed nothing by then."""

    def __init__(self, arrived: Arrived, idle_ns: int) -> None:
        self.source, self.counter, self.arrived_ns = arrived.message.sender, arrived.counter, arrived.at_ns
        self.idle_ns = idle_ns
        self.answered = False


_dealt_with: ContextVar[_Taken | None] = ContextVar("dealt_with", default=None)  # by the task, last


class ServerQueueing(Queueing):
    """The queueing of messages at the server. ``now``: emulated time in ns."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._of = WeakTensorKeyDictionary()  # _Taken by tensor
        # Those that are not answered, by storage: a dry run's messages share theirs.
        self._in = WeakIdKeyDictionary()
        self._served: dict[str, tuple[int, int]] = {}  # end of the last computation for a sender; idle time by then
        self._computing = 0
        self._idle_ns = self._since_ns = 0  # idle time until the last computation began; end of the last one

    def take(self, arrived: Arrived) -> None:
        taken = _Taken(arrived, self._idle_until())
        for tensor in _tensors(arrived.message):
            self._of[tensor] = taken
            before = self._in.get(tensor.untyped_storage(), ())  # type: ignore[no-untyped-call]
            self._in[tensor.untyped_storage()] = [*(other for other in before if not other.answered), taken]
        _dealt_with.set(taken)

    @contextlib.contextmanager
    def turn(self, arguments: Sequence[tuple[Any, ...]], asked_ns: int, start_ns: int) -> Iterator[ServedMessage]:
        turn = self._turn(arguments, asked_ns, start_ns)
        self._idle_ns = self._idle_until()
        self._computing += 1
        try:
            yield turn
        finally:
            self._computing -= 1
            self._since_ns = self._now()
            if turn.source:
                self._served[turn.source] = self._since_ns, self._idle_ns

    def _turn(self, arguments: Sequence[tuple[Any, ...]], asked_ns: int, start_ns: int) -> ServedMessage:
        found = [taken for tensor in _tensors(arguments) if (taken := self._taken(tensor))]
        if not found and (dealt_with := _dealt_with.get()):
            found = [dealt_with]
        if len({taken.source for taken in found}) != 1:
            _dealt_with.set(None)
            return ServedMessage("", -1, start_ns - asked_ns)
        last = max(found, key=lambda taken: (taken.arrived_ns, taken.counter))
        queued_ns = start_ns - asked_ns if last.answered else self._since_arrival(last, start_ns)
        for taken in found:
            taken.answered = True
        _dealt_with.set(last)
        return ServedMessage(last.source, last.counter, queued_ns)

    def _taken(self, tensor: torch.Tensor) -> _Taken | None:
        """The message that holds ``tensor`` or its storage; of several with one storage, the first not answered."""
        taken: _Taken | None = self._of.get(tensor)  # type: ignore[no-untyped-call]
        if taken is None and tensor.layout is torch.strided:
            sharing: list[_Taken] = self._in.get(tensor.untyped_storage(), [])  # type: ignore[no-untyped-call]
            taken = next((each for each in sharing if not each.answered), sharing[-1] if sharing else None)
        return taken

    def _since_arrival(self, taken: _Taken, start_ns: int) -> int:
        served_ns, idle_ns = self._served.get(taken.source, (0, 0))
        idle_ns = self._idle_until() - max(taken.idle_ns, idle_ns)
        return start_ns - max(taken.arrived_ns, served_ns) - idle_ns

    def _idle_until(self) -> int:
        """The time in ns for which the server has computed nothing until now."""
        return self._idle_ns if self._computing else self._idle_ns + self._now() - self._since_ns


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in messages, dicts and sequences, nested or not."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors([*value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Message):
        yield from _tensors([getattr(value, field) for field in value.__struct_fields__])
