"""A warm start of FSL-SAGE: its round 0 is one of CSE-FSL, which trains the auxiliary on the client by its own loss.

The auxiliaries are averaged, as there; the mean is where every client's alignments begin. Its bytes are counted. Who
trained none in time has it sent before its next round.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from torch import Tensor

from algorithms.training import rounds, steps
from algorithms.training.settings import should_upload
from algorithms.workload.loader import Shard
from emulator.node import ClientNode, Message, ServerNode, StateDict


class Warm(Message, frozen=True, kw_only=True, tag="warm"):
    """Client to server and, averaged, back: an auxiliary that was trained on the client."""

    official: ClassVar[tuple[str, ...]] = ("aux",)
    samples: int
    aux: StateDict


async def local_steps(
    node: ClientNode, shard: Shard, half: steps.Part, aux: steps.Part, q: int
) -> AsyncIterator[tuple[int, Tensor, Tensor]]:
    """A client's round 0 of CSE-FSL; yields (step, z, y) of the steps to upload, before each continues."""
    losses = []
    for step, (x, y) in enumerate(shard.batches(0)):
        if should_upload(q, step, shard.steps, 0, restart_each_round=True):
            z = await node.compute(steps.forward, half, x)
            yield step, z, y
            losses.append(await node.compute(steps.local_step, half, aux, z, y))
            del z
        else:
            losses.append(await node.compute(steps.whole_local_step, half, aux, x, y))
    node.report(0, loss=steps.mean_of(losses))


class MeanAuxiliary:
    """The mean of the auxiliaries, once it exists, and which of the ``clients`` have not been sent it."""

    def __init__(self, clients: Sequence[str]) -> None:
        self._aux: StateDict = {}
        self._lack = set(clients)

    async def share(self, node: ServerNode, auxiliaries: Sequence[steps.Part], trained: Sequence[Warm]) -> None:
        """Average the ``trained`` auxiliaries, load the mean into all, and send it to the clients that trained one."""
        self._aux = await rounds.mean(node, [message.aux for message in trained], trained, {})
        for aux in auxiliaries:
            await node.compute(steps.load_weights, aux, self._aux)
        await self.give(node, [message.sender for message in trained], 0)

    async def give(self, node: ServerNode, names: Sequence[str], round: int) -> None:
        """Send the mean to those of ``names`` that lack it, as messages of ``round``."""
        for name in names:
            if self._aux and name in self._lack:
                self._lack.remove(name)
                await node.post(name, Warm(round=round, samples=0, aux=self._aux))
