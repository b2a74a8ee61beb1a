"""Split learning: the clients take turns with one client half, and wait for every gradient.

O. Gupta, R. Raskar, "Distributed learning of deep neural network over multiple agents", 2018,
https://arxiv.org/abs/1810.06060. The baseline as in C. Thapa et al., https://arxiv.org/abs/2004.12088.

    c, s        client half, server half
    z [B, ...]  smashed batch c(x)       dz  gradient of the loss at z

Per client and round: c down (its turn), every batch z and y up and dz down, c up. The weights go from client to client
through the server (two hops). A round is one turn of each client, in client order, so its time is the clients' sum.

Differences: Adam; each client keeps its own Adam state between its turns, it does not travel with c. The loss rides
in the header of ``Gradient`` so that a client can report it. Evaluated with the last client's c. The training ends
with an empty ``Finish``.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from algorithms import steps
from algorithms.task import Settings
from emulator.node import ClientNode, ServerNode
from emulator.wire import Message, StateDict


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


class Turn(Message, frozen=True, kw_only=True):
    """Server to client: it is your turn, with the weights of the client before you."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    client: StateDict


class Smashed(Message, frozen=True, kw_only=True):
    """Client to server, every batch."""

    official: ClassVar[tuple[str, ...]] = ("z",)
    step: int
    z: torch.Tensor
    y: torch.Tensor


class Gradient(Message, frozen=True, kw_only=True):
    """Server to client, every batch."""

    official: ClassVar[tuple[str, ...]] = ("dz",)
    step: int
    loss: float
    dz: torch.Tensor


class Update(Message, frozen=True, kw_only=True):
    """Client to server, at the end of its turn."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    client: StateDict


class Finish(Message, frozen=True, kw_only=True):
    """Server to client: there will be no further turn."""


MESSAGES: tuple[type[Message], ...] = (Turn, Smashed, Gradient, Update, Finish)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_lr)

    while isinstance(turn := await node.recv(Turn, Finish), Turn):
        round = turn.round
        await node.compute(steps.load_weights, half, turn.client)
        del turn
        losses = []
        for step, (x, y) in enumerate(shard.batches(round)):
            z = await node.compute(steps.forward, half, x)
            await node.post("server", Smashed(round=round, step=step, z=z.detach(), y=y))
            gradient = await node.recv(Gradient)
            await node.compute(steps.backward, half, z, gradient.dz)
            losses.append(gradient.loss)
            del z, gradient
        node.report(round, loss=sum(losses) / len(losses))
        await node.post("server", Update(round=round, client=steps.weights(half)))


async def server(node: ServerNode, config: Config) -> None:
    half = steps.Part(config.task.server_half(), config.server_lr)
    client = steps.weights(steps.Part(config.task.client_half(), None))

    round = 0
    while config.another(round, node.now()):
        node.begin_round(round)
        for name in node.clients:
            await node.post(name, Turn(round=round, client=client))
            while isinstance(message := await node.recv(Smashed, Update, source=name), Smashed):
                loss, dz = await node.compute(steps.cut_step, half, message.z, message.y)
                await node.post(name, Gradient(round=round, step=message.step, loss=loss.item(), dz=dz))
            client = message.client
        node.snapshot(round, {"client": client, "server": steps.weights(half)})
        round += 1
    for name in node.clients:
        await node.post(name, Finish(round=round))
