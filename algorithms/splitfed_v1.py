"""SplitFed V1: clients train in parallel, each against a copy of the server half of its own; both halves are averaged.

C. Thapa et al., "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022, https://arxiv.org/abs/2004.12088
(Algorithms 1 and 2).

    c_i, s_i    client i's half, and the server half that serves it
    z [B, ...]  smashed batch c_i(x)     dz  gradient of the loss at z
    n_i / N     a client's share of all samples

Per client and round: every batch z and y up and dz down; c up, c down. One server does the work of the paper's main
and its federated server, so averaging the s_i costs no traffic. Same updates as FedAvg's, bit for bit, with equal
learning rates.

Differences: Adam, whose states (one a client half, one a server copy) last over all rounds and are never averaged;
mean weighted by n_i / N. The loss rides in the header of ``Gradient`` so that a client can report it.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import torch

from algorithms import steps
from algorithms.task import Settings
from emulator.node import ClientNode, ServerNode
from emulator.wire import Message, StateDict


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own. The server order has no effect: no two clients share a server half."""


class Initial(Message, frozen=True, kw_only=True):
    """Server to client, once."""

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
    """Client to server, at the end of a round."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    samples: int
    client: StateDict


class Global(Message, frozen=True, kw_only=True):
    """Server to client: the mean of the round; ``last`` ends the training."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    last: bool
    client: StateDict


MESSAGES: tuple[type[Message], ...] = (Initial, Smashed, Gradient, Update, Global)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_lr)

    initial = await node.recv(Initial)
    await node.compute(steps.load_weights, half, initial.client)
    del initial
    round, last = 0, False
    while not last:
        losses = []
        for step, (x, y) in enumerate(shard.batches(round)):
            z = await node.compute(steps.forward, half, x)
            await node.post("server", Smashed(round=round, step=step, z=z.detach(), y=y))
            gradient = await node.recv(Gradient)
            await node.compute(steps.backward, half, z, gradient.dz)
            losses.append(gradient.loss)
            del z, gradient
        node.report(round, loss=sum(losses) / len(losses))
        await node.post("server", Update(round=round, samples=len(shard), client=steps.weights(half)))

        mean = await node.recv(Global)
        await node.compute(steps.load_weights, half, mean.client)
        round, last = round + 1, mean.last
        del mean


async def serve(node: ServerNode, name: str, half: steps.Part) -> Update:
    """One client's round against its own server half; its update."""
    while isinstance(message := await node.recv(Smashed, Update, source=name), Smashed):
        loss, dz = await node.compute(steps.cut_step, half, message.z, message.y)
        await node.post(name, Gradient(round=message.round, step=message.step, loss=loss.item(), dz=dz))
    return message


async def server(node: ServerNode, config: Config) -> None:
    halves = {name: steps.Part(config.task.server_half(), config.server_lr) for name in node.clients}
    client = steps.weights(steps.Part(config.task.client_half(), None))

    node.begin_round(0)
    for name in node.clients:
        await node.post(name, Initial(round=-1, client=client))
    round, last = 0, False
    while not last:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(serve(node, name, halves[name])) for name in node.clients]
        updates = [task.result() for task in tasks]
        samples = [update.samples for update in updates]
        client = await node.compute(steps.weighted_mean, [update.client for update in updates], samples)
        mean = await node.compute(steps.weighted_mean, [steps.weights(half) for half in halves.values()], samples)
        for half in halves.values():
            await node.compute(steps.load_weights, half, mean)
        node.snapshot(round, {"client": client, "server": mean})

        last = not config.another(round + 1, node.now())
        if not last:
            node.begin_round(round + 1)
        for name in node.clients:
            await node.post(name, Global(round=round, last=last, client=client))
        round += 1
