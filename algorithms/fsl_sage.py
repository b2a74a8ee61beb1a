"""FSL-SAGE: a client trains by gradients that a frozen auxiliary estimates, which the server aligns with true ones.

S. Nair et al., "FSL-SAGE: Accelerating Federated Split Learning via Smashed Activation Gradient Estimation", ICML
2025, https://arxiv.org/abs/2505.23182; code https://github.com/srijith1996/FSL-SAGE, commit 437e77b.

    c_i         client i's half                 s     the one server half
    a_i         client i's auxiliary: trained on the server, frozen on the client, never averaged
    z [B, ...]  smashed batch c_i(x)            y     labels, sent with z
    ĝ  like z   ∂ loss(a_i(z), y) / ∂z          Z, Y  the client's most recent smashed samples, on the server
    G  like Z   ∂ loss(s(Z), Y) / ∂Z            q     steps between uploads; τ a client's step counter
    l           rounds between alignments       n_i / N  a client's share of all samples

Per client and round: z and y of every q-th batch up, nothing comes back for them; c up, c down. In rounds 0, l, 2l, …
also a_i down, once. There the client waits in its first step; otherwise it waits for nothing but the round's mean.
An aligned step, in this order: client forward; upload; the server half steps on the batch; the batch joins (Z, Y); G
with the server half after its step; alignment; a_i down; the client finishes its step with it.

Differences from the code: scale. There the loss of alignment is Σ|ĝ − G|² of gradients of mean losses, right only where
a batch is the whole buffer; here of summed losses over n² (``steps.align``), the same in that case and right in every
other. Second-order graphs only in the alignment. τ runs on across rounds (``q_per_round``: it begins anew in each, as
there); the first batch of an aligned round is uploaded whatever τ is. Batches in order of arrival (``server_order``:
``blocked`` as there), alignments of several clients side by side. No weight decay. Sizes for a small workload; the
paper's: l = 10, align_epochs = 100, buffer = align_batch = 1000, align_lr = 1e-3.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import torch

from algorithms import steps
from algorithms.data import stream_seed
from algorithms.task import Settings, at_least, rare_uploads, rates
from emulator.node import ClientNode, ServerNode
from emulator.wire import Message, StateDict


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``l`` 0: never align. ``buffer`` and ``align_batch`` in samples. ``align_lr``: of the auxiliary's Adam."""

    q: int = 5
    q_per_round: bool = False
    l: int = 3  # noqa: E741  the paper's name
    align_epochs: int = 20
    align_batch: int = 160
    align_lr: float = 5e-3
    buffer: int = 160

    def check(self) -> None:
        super().check()
        at_least(1, q=self.q, align_epochs=self.align_epochs, align_batch=self.align_batch, buffer=self.buffer)
        at_least(0, l=self.l)
        rates(align_lr=self.align_lr)

    def aligns(self, round: int, step: int) -> bool:
        """Whether this step of a client ends with an alignment."""
        return self.l > 0 and round % self.l == 0 and step == 0


def warnings(config: Config) -> list[str]:
    """What is allowed but hardly meant."""
    return rare_uploads(config.task, config.q) if config.q_per_round else []


class Initial(Message, frozen=True, kw_only=True):
    """Server to client, once. No auxiliary: its first one comes aligned, in round 0."""

    client: StateDict


class Smashed(Message, frozen=True, kw_only=True):
    """Client to server: every q-th batch, and the first of an aligned round."""

    official: ClassVar[tuple[str, ...]] = ("z",)
    step: int
    z: torch.Tensor
    y: torch.Tensor


class Aligned(Message, frozen=True, kw_only=True):
    """Server to client: its own auxiliary, in aligned rounds."""

    official: ClassVar[tuple[str, ...]] = ("aux",)
    aux: StateDict


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


MESSAGES: tuple[type[Message], ...] = (Initial, Smashed, Aligned, Update, Global)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_lr)
    aux = steps.Part(config.task.auxiliary(), None)

    initial = await node.recv(Initial)
    await node.compute(steps.load_weights, half, initial.client)
    del initial
    tau, round, last = 0, 0, False
    while not last:
        tau = 0 if config.q_per_round else tau
        losses = []
        for step, (x, y) in enumerate(shard.batches(round)):
            if tau % config.q == 0 or config.aligns(round, step):
                z = await node.compute(steps.forward, half, x)
                await node.post("server", Smashed(round=round, step=step, z=z.detach(), y=y))
                if config.aligns(round, step):
                    aligned = await node.recv(Aligned)
                    await node.compute(steps.load_weights, aux, aligned.aux)
                    del aligned
                losses.append(await node.compute(steps.estimated_step, half, aux, z, y))
                del z
            else:
                losses.append(await node.compute(steps.whole_estimated_step, half, aux, x, y))
            tau += 1
        node.report(round, loss=steps.mean_of(losses))
        await node.post("server", Update(round=round, samples=len(shard), client=steps.weights(half)))

        mean = await node.recv(Global)
        await node.compute(steps.load_weights, half, mean.client)
        round, last = round + 1, mean.last
        del mean


class Estimator:
    """What the server keeps for one client: its auxiliary with its Adam, and its buffer."""

    def __init__(self, config: Config, name: str) -> None:
        self.aux = steps.Part(config.task.auxiliary(), config.align_lr)
        self.buffer = steps.Buffer(config.buffer, stream_seed(config.task.seed, f"align:{name}"))


async def align(
    node: ServerNode, config: Config, name: str, round: int, estimator: Estimator, gradients: torch.Tensor
) -> tuple[float, float]:
    """Fit one client's auxiliary to the true gradients of its buffer and send it; the error before and after."""
    z, y = estimator.buffer.samples()
    orders = list(estimator.buffer.orders(config.align_epochs))
    errors: tuple[float, float] = await node.compute(
        steps.align, estimator.aux, z, gradients, y, orders, config.align_batch
    )
    await node.post(name, Aligned(round=round, aux=steps.weights(estimator.aux)))
    return errors


async def server(node: ServerNode, config: Config) -> None:
    half = steps.Part(config.task.server_half(), config.server_lr)
    estimators = {name: Estimator(config, name) for name in node.clients}
    client = steps.weights(steps.Part(config.task.client_half(), None))

    node.begin_round(0)
    for name in node.clients:
        await node.post(name, Initial(round=-1, client=client))
    round, last = 0, False
    while not last:
        updates: dict[str, Update] = {}
        alignments: list[asyncio.Task[tuple[float, float]]] = []
        async with asyncio.TaskGroup() as group:
            for names in config.turns(node.clients):
                while not all(name in updates for name in names):
                    message = await node.recv(Smashed, Update, source=names)
                    if isinstance(message, Update):
                        updates[message.sender] = message
                        continue
                    estimator = estimators[message.sender]
                    await node.compute(steps.server_step, half, message.z, message.y)
                    estimator.buffer.append(message.z, message.y)
                    if config.aligns(round, message.step):
                        gradients = await node.compute(steps.refresh, half, *estimator.buffer.samples())
                        task = align(node, config, message.sender, round, estimator, gradients)
                        alignments.append(group.create_task(task))
        if alignments:
            before, after = zip(*(task.result() for task in alignments), strict=True)
            count = len(alignments)
            node.report(round, align_error_before=sum(before) / count, align_error_after=sum(after) / count)
        ordered = [updates[name] for name in node.clients]
        client = await node.compute(
            steps.weighted_mean, [update.client for update in ordered], [update.samples for update in ordered]
        )
        node.snapshot(round, {"client": client, "server": steps.weights(half)})

        last = not config.another(round + 1, node.now())
        if not last:
            node.begin_round(round + 1)
        for name in node.clients:
            await node.post(name, Global(round=round, last=last, client=client))
        round += 1
