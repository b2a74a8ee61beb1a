"""A node's inbox: messages that nobody waited for, and tasks that wait for one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from emulator.transport.messages import Message, kind_of

MOST_AWAITING = 12  # tasks and names in a report


class Arrived(NamedTuple):
    """A message that has arrived: the sender's number of it, and the time of arrival in ns."""

    message: Message
    counter: int
    at_ns: int


class Awaiting:
    """A task that waits in ``recv``; with ``leave_others`` it ignores messages that are of none of its ``types``."""

    def __init__(
        self, types: tuple[type[Message], ...], sources: frozenset[str], since_ns: int, *, leave_others: bool = False
    ) -> None:
        self.types, self.sources, self.since_ns, self.leave_others = types, sources, since_ns, leave_others
        self.future: asyncio.Future[Arrived] = asyncio.get_running_loop().create_future()

    def hopes_for(self, message: Message) -> bool:
        """Whether ``message`` is of one of the awaited types."""
        return not self.types or isinstance(message, self.types)

    def takes(self, message: Message) -> bool:
        """Whether the task is given ``message``, as one that it awaits or as an error of protocol."""
        mine = not self.sources or message.sender in self.sources
        return mine and (not self.leave_others or self.hopes_for(message))

    def __str__(self) -> str:
        kinds = " or ".join(kind_of(t) for t in self.types) or "any message"
        names = sorted(self.sources)
        more = f" and {len(names) - MOST_AWAITING} more" if len(names) > MOST_AWAITING else ""
        whom = f" from {', '.join(names[:MOST_AWAITING])}{more}" if names else ""
        return f"awaits {kinds}{whom} since {self.since_ns / 1e9:.3f} s"


class Inbox:
    """The messages and waiting tasks of a node, both first come, first served; a task that awaits a message's type goes
    first."""

    def __init__(self) -> None:
        self.awaiting: list[Awaiting] = []
        self._kept: deque[Arrived] = deque()

    def put(self, arrived: Arrived) -> None:
        """Give the message to the first task that awaits its type, else to the first that awaits its sender, or keep
        it."""
        if not self._give(arrived):
            self._kept.append(arrived)

    def take(self, waiting: Awaiting, until_ns: int | None) -> Arrived | None:
        """The first kept message for ``waiting``; TimeoutError where that one came after ``until_ns``."""
        for position, arrived in enumerate(self._kept):
            if waiting.takes(arrived.message):
                if until_ns is not None and arrived.at_ns > until_ns:
                    raise TimeoutError
                del self._kept[position]
                return arrived
        return None

    @contextlib.contextmanager
    def await_by(self, waiting: Awaiting) -> Iterator[None]:
        """Context in which a task waits; one that is cancelled as its message arrives loses no message."""
        self.awaiting.append(waiting)
        try:
            yield
        except (asyncio.CancelledError, TimeoutError):
            if waiting.future.done() and not waiting.future.cancelled() and not self._give(waiting.future.result()):
                self._kept.appendleft(waiting.future.result())
            raise
        finally:
            if waiting in self.awaiting:
                self.awaiting.remove(waiting)

    def _give(self, arrived: Arrived) -> bool:
        message = arrived.message
        open_to = [waiting for waiting in self.awaiting if not waiting.future.done() and waiting.takes(message)]
        if not open_to:
            return False
        waiting = next((waiting for waiting in open_to if waiting.hopes_for(message)), open_to[0])
        self.awaiting.remove(waiting)
        waiting.future.set_result(arrived)
        return True

    def __str__(self) -> str:
        """The messages that its tasks wait for, in words."""
        more = len(self.awaiting) - MOST_AWAITING
        shown = [str(waiting) for waiting in self.awaiting[:MOST_AWAITING]] + [f"and {more} more"] * (more > 0)
        return ", ".join(shown) or "awaits nothing that could come"
