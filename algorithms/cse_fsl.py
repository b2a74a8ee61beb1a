"""CSE-FSL: a client trains on the loss of its own auxiliary head, and uploads a smashed batch every q steps.

Y. Mu, C. Shen, "Communication and Storage Efficient Federated Split Learning", ICC 2023,
https://arxiv.org/abs/2302.05599; extended in https://arxiv.org/abs/2507.15816.

    c_i, a_i    client i's half and its auxiliary     s   the one server half
    z [B, ...]  smashed batch c_i(x)                  y   labels
    q           steps between uploads (the paper's h) τ   a client's step counter
    n_i / N     a client's share of all samples

Per client and round: z and y of every q-th batch up, nothing comes back for them; c and a up, c and a down. The client
waits for nothing but the mean of the round; the server steps on uploads in order of arrival.

Differences: a block's first batch is uploaded (τ mod q = 0), as in the FSL-SAGE authors' version, not its last. τ runs
on across rounds (``q_per_round``: it begins anew in each, as in that code). Adam for SGD; its states are not averaged.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from algorithms import steps
from algorithms.task import Settings, at_least, rare_uploads, rates
from emulator.node import ClientNode, ServerNode
from emulator.wire import Message, StateDict


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``aux_lr`` is the rate of the auxiliary, which learns on the client."""

    q: int = 5
    q_per_round: bool = False
    aux_lr: float = 1e-3

    def check(self) -> None:
        super().check()
        at_least(1, q=self.q)
        rates(aux_lr=self.aux_lr)


def warnings(config: Config) -> list[str]:
    """What is allowed but hardly meant."""
    return rare_uploads(config.task, config.q) if config.q_per_round else []


class Initial(Message, frozen=True, kw_only=True):
    """Server to client, once."""

    client: StateDict
    aux: StateDict


class Smashed(Message, frozen=True, kw_only=True):
    """Client to server, every q-th batch."""

    official: ClassVar[tuple[str, ...]] = ("z",)
    step: int
    z: torch.Tensor
    y: torch.Tensor


class Update(Message, frozen=True, kw_only=True):
    """Client to server, at the end of a round."""

    official: ClassVar[tuple[str, ...]] = ("client", "aux")
    samples: int
    client: StateDict
    aux: StateDict


class Global(Message, frozen=True, kw_only=True):
    """Server to client: the means of the round; ``last`` ends the training."""

    official: ClassVar[tuple[str, ...]] = ("client", "aux")
    last: bool
    client: StateDict
    aux: StateDict


MESSAGES: tuple[type[Message], ...] = (Initial, Smashed, Update, Global)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_lr)
    aux = steps.Part(config.task.auxiliary(), config.aux_lr)

    initial = await node.recv(Initial)
    await node.compute(steps.load_weights, half, initial.client)
    await node.compute(steps.load_weights, aux, initial.aux)
    del initial
    tau, round, last = 0, 0, False
    while not last:
        tau = 0 if config.q_per_round else tau
        losses = []
        for step, (x, y) in enumerate(shard.batches(round)):
            if tau % config.q == 0:
                z = await node.compute(steps.forward, half, x)
                await node.post("server", Smashed(round=round, step=step, z=z.detach(), y=y))
                losses.append(await node.compute(steps.local_step, half, aux, z, y))
                del z
            else:
                losses.append(await node.compute(steps.whole_local_step, half, aux, x, y))
            tau += 1
        node.report(round, loss=steps.mean_of(losses))
        await node.post(
            "server",
            Update(round=round, samples=len(shard), client=steps.weights(half), aux=steps.weights(aux)),
        )

        mean = await node.recv(Global)
        await node.compute(steps.load_weights, half, mean.client)
        await node.compute(steps.load_weights, aux, mean.aux)
        round, last = round + 1, mean.last
        del mean


async def server(node: ServerNode, config: Config) -> None:
    half = steps.Part(config.task.server_half(), config.server_lr)
    client = steps.weights(steps.Part(config.task.client_half(), None))
    aux = steps.weights(steps.Part(config.task.auxiliary(), None))

    node.begin_round(0)
    for name in node.clients:
        await node.post(name, Initial(round=-1, client=client, aux=aux))
    round, last = 0, False
    while not last:
        updates: dict[str, Update] = {}
        for names in config.turns(node.clients):
            while not all(name in updates for name in names):
                message = await node.recv(Smashed, Update, source=names)
                if isinstance(message, Update):
                    updates[message.sender] = message
                else:
                    await node.compute(steps.server_step, half, message.z, message.y)
        ordered = [updates[name] for name in node.clients]
        samples = [update.samples for update in ordered]
        client = await node.compute(steps.weighted_mean, [update.client for update in ordered], samples)
        aux = await node.compute(steps.weighted_mean, [update.aux for update in ordered], samples)
        node.snapshot(round, {"client": client, "server": steps.weights(half)})

        last = not config.another(round + 1, node.now())
        if not last:
            node.begin_round(round + 1)
        for name in node.clients:
            await node.post(name, Global(round=round, last=last, client=client, aux=aux))
        round += 1
