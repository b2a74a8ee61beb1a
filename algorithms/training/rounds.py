"""The bounds of a round, for all methods: its cohort, the messages that the server collects, and the stragglers.

A server collects the messages of a round's cohort until each client has sent its ``Update`` or the deadline has passed.
Messages that have arrived by then count, even if the server handles them later. A straggler gets ``StragglerDropped``
and stops training; its update is in no mean, but a server half for all clients has learnt from its batches in time.
The mean of a round goes to the cohort of the next, after the last round to the cohort of that round; the other clients
get ``Finish``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Generic, TypeVar, overload

from algorithms.training import steps
from algorithms.training.settings import Settings, round_half_up
from emulator.errors import UserError
from emulator.node import ClientNode, Message, ServerNode, StateDict

U = TypeVar("U", bound=Message)
M1 = TypeVar("M1", bound=Message)
M2 = TypeVar("M2", bound=Message)
M3 = TypeVar("M3", bound=Message)
M4 = TypeVar("M4", bound=Message)


class StragglerDropped(Message, frozen=True, kw_only=True, tag="left-out"):
    """Server to client: the round has ended without this client's update."""


class Finish(Message, frozen=True, kw_only=True, tag="finish"):
    """Server to client: there will be no further round."""


class Frozen(Message, frozen=True, kw_only=True, tag="frozen"):
    """Server to client, once, before its first round: weights that are not trained."""

    state: StateDict


CONTROL_MESSAGES: tuple[type[Message], ...] = (StragglerDropped, Finish, Frozen)


class FrozenWeights:
    """The frozen weights of clients' ``parts``, and which clients lack them: none, where they are preinstalled."""

    def __init__(self, node: ServerNode, config: Settings, *parts: steps.Part) -> None:
        self._node = node
        self._state = {key: tensor for part in parts for key, tensor in steps.frozen_weights(part).items()}
        self._lack = {*node.clients} if self._state and config.task.frozen == "sent" else set()

    async def give(self, names: Iterable[str]) -> None:
        """Send them to those of ``names`` that lack them."""
        for name in names:
            if name in self._lack:
                self._lack.remove(name)
                await self._node.post(name, Frozen(round=-1, state=self._state))


class RoundCollector(Generic[U]):
    """Collects a cohort's messages at the server until all updates have arrived or the deadline has passed."""

    def __init__(
        self, node: ServerNode, config: Settings, round: int, cohort: tuple[str, ...], update: type[U]
    ) -> None:
        self._node, self._config, self._round, self._cohort, self._type = node, config, round, cohort, update
        deadline_s = config.deadline_s
        self._until_ns = None if deadline_s is None else node.round_started_ns + round_half_up(deadline_s * 1e9)
        self.updates: dict[str, U] = {}

    @overload
    def messages(self, *, clients: tuple[str, ...] | None = None) -> AsyncIterator[Message]: ...
    @overload
    def messages(self, type1: type[M1], /, *, clients: tuple[str, ...] | None = None) -> AsyncIterator[M1]: ...
    @overload
    def messages(
        self, type1: type[M1], type2: type[M2], /, *, clients: tuple[str, ...] | None = None
    ) -> AsyncIterator[M1 | M2]: ...
    async def messages(self, *types: type[Any], clients: tuple[str, ...] | None = None) -> AsyncIterator[Any]:
        """The round's messages of ``types``, in the server's order, until an update of each of ``clients`` is here.

        Messages of an older round, by a client that was dropped from it, are ignored.
        """
        for names in self._config.server_turns(self._cohort if clients is None else clients):
            while not all(name in self.updates for name in names):
                try:
                    message = await self._node.recv(*types, self._type, source=names, until_ns=self._until_ns)
                except TimeoutError:
                    break  # the next ones may have been in time
                if isinstance(message, self._type) and message.round == self._round:
                    self.updates[message.sender] = message
                elif message.round == self._round:
                    yield message
                del message

    async def all(self) -> None:
        """Wait for the updates alone."""
        async for _ in self.messages():
            pass

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self._until_ns is not None and self._node.now() >= self._until_ns

    async def conclude(self) -> list[U]:
        """The updates in client order, so that sums do not depend on who came first; late clients are told.

        UserError where a deadline lets nobody of its cohort end the first round.
        """
        late = [name for name in self._cohort if name not in self.updates]
        for name in late:
            await self._node.post(name, StragglerDropped(round=self._round))
        if self._round == 0 and not self.updates:
            raise UserError(
                f"deadline_s: no client ends the first round within {self._config.deadline_s} s: allow more"
            )
        if late:
            self._node.report(self._round, left_out=len(late), counted=len(self.updates))
        return [self.updates[name] for name in self._cohort if name in self.updates]


async def mean(node: ServerNode, states: Iterable[StateDict], updates: Iterable[Any], before: StateDict) -> StateDict:
    """The mean of ``states``, weighted by the ``samples`` of their updates; ``before`` where there are none."""
    found, samples = list(states), [update.samples for update in updates]
    if not found:
        return before
    averaged: StateDict = await node.compute(steps.weighted_mean, found, samples)
    return averaged


def begin_next(node: ServerNode, config: Settings, round: int) -> tuple[str, ...]:
    """Begin the round after ``round``, if there is one; return its cohort, which is empty after the last round."""
    if not config.has_next_round(round + 1, node.now()):
        return ()
    node.begin_round(round + 1)
    return config.cohort(node.clients, round + 1)


async def dismiss(node: ServerNode, told: tuple[str, ...], round: int) -> None:
    """Tell the clients that have not been ``told`` that the training is over."""
    for name in node.clients:
        if name not in told:
            await node.post(name, Finish(round=round))


@overload
def starts(node: ClientNode, type1: type[M1], /) -> AsyncIterator[M1]: ...
@overload
def starts(node: ClientNode, type1: type[M1], type2: type[M2], /) -> AsyncIterator[M1 | M2]: ...
@overload
def starts(
    node: ClientNode, type1: type[M1], type2: type[M2], type3: type[M3], type4: type[M4], /
) -> AsyncIterator[M1 | M2 | M3 | M4]: ...
async def starts(node: ClientNode, *types: type[Any]) -> AsyncIterator[Any]:
    """The messages of ``types`` with which a client's rounds begin, until one says that it is the ``last``.

    Keeps no reference to what it hands out.
    """
    control = (StragglerDropped, Finish, Frozen)
    while not isinstance(message := await node.recv(*types, *control, source="server"), Finish):
        if isinstance(message, StragglerDropped | Frozen):  # the one crossed this client's update, the other it has
            continue
        handed, last = [message], getattr(message, "last", False)
        del message
        yield handed.pop()
        if last:
            return


async def until_dropped(node: ClientNode, config: Settings, training: Coroutine[Any, Any, None]) -> None:
    """Train for a round, or until the server says that it goes on without this client.

    ``training`` must end with the post of its update: from then on the server may be in the next round.
    """
    if config.deadline_s is None:
        await training
        return
    work = asyncio.ensure_future(training)
    told = asyncio.ensure_future(node.recv(StragglerDropped, source="server", leave_others=True))
    try:
        await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        told.cancel()
        await asyncio.wait((work, told))
    for task in (work, told):
        if not task.cancelled():
            task.result()
