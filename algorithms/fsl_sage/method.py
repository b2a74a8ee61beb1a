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
also a_i down, once. There the client waits in its first step (``align = "overlap"``: it goes on with the old a_i until
the new one is there); otherwise it waits for nothing but the round's mean. An aligned step, in this order: client
forward; upload; the server half steps on the batch; the batch joins (Z, Y); G with the server half after its step;
alignment; a_i down; the client finishes its step with it. A client that has missed rounds aligns when l have passed.

Differences from the code: scale. There the loss of alignment is Σ|ĝ − G|² of gradients of mean losses, right only where
a batch is the whole buffer; here of summed losses over n² (``steps.align``), the same in that case and right in every
other. Second-order graphs only in the alignment. τ runs on across rounds (``q_per_round``: it begins anew in each, as
there); the first batch of an aligned round is uploaded whatever τ is. Batches in order of arrival (``server_order``:
``blocked`` as there), alignments of several clients side by side. ``warm_start``'s bytes are counted. Sizes for a small
workload; the paper's are in the experiments ``fsl-sage-cifar10`` and ``fsl-sage-cifar100``.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import torch

from algorithms.fsl_sage import alignment, warm_start
from algorithms.training import rounds, steps
from algorithms.training.messages import Global, Initial, Update
from algorithms.training.settings import rare_uploads, should_upload
from algorithms.workload.loader import Shard
from algorithms.workload.task import check_at_least, check_rates
from emulator.node import ClientNode, Message, ServerNode


class Config(alignment.Options, frozen=True, forbid_unknown_fields=True):
    """``warm_start``: round 0 is one of CSE-FSL, with ``aux_lr``."""

    has_auxiliary: ClassVar[bool] = True

    q: int = 5
    q_per_round: bool = False
    warm_start: bool = False
    aux_lr: float = 1e-3

    def check(self) -> None:
        super().check()
        check_at_least(1, q=self.q)
        check_rates(aux_lr=self.aux_lr)

    def aligns(self, round: int, aligned: int | None) -> bool:
        return round >= self.warm_start and super().aligns(round, aligned)


def warnings(config: Config) -> list[str]:
    """What is allowed but hardly meant."""
    rare = rare_uploads(config.task, config.q, config.rounds, restart_each_round=config.q_per_round)
    return rare + alignment.idle_refresh(config)


class Smashed(Message, frozen=True, kw_only=True, tag="smashed"):
    """Client to server: every q-th batch, and the first of an aligned round."""

    official: ClassVar[tuple[str, ...]] = ("z",)
    step: int
    align: bool
    z: torch.Tensor
    y: torch.Tensor


try_out = alignment.try_out
MESSAGES: tuple[type[Message], ...] = (Initial, Smashed, alignment.Aligned, Update, Global, warm_start.Warm)
MESSAGES += rounds.CONTROL_MESSAGES


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_optimizer)
    aux = alignment.Auxiliary(config)
    rounds_done = 0  # rounds of this client

    async for start in rounds.starts(node, Initial, Global, warm_start.Warm, alignment.Aligned):
        if isinstance(start, warm_start.Warm | alignment.Aligned):  # alignment may end after the round's training
            await aux.install(node, start)
            del start
            continue
        await node.compute(steps.load_weights, half, start.client)
        round, last = start.round + 1, isinstance(start, Global) and start.last
        del start
        if not last:
            if config.warm_start and round == 0:
                training = warm_up(node, config, shard, half)
            else:
                training = train(node, config, shard, half, aux, round, rounds_done)
            await rounds.until_dropped(node, config, training)
            rounds_done += 1


async def train(
    node: ClientNode,
    config: Config,
    shard: Shard,
    half: steps.Part,
    aux: alignment.Auxiliary,
    round: int,
    rounds_done: int,
) -> None:
    """A client's round."""
    losses = []
    aligns = config.aligns(round, aux.aligned)
    for step, (x, y) in enumerate(shard.batches(round)):
        if config.align == "overlap":
            await aux.install_what_is_here(node)
        if should_upload(config.q, step, shard.steps, rounds_done, restart_each_round=config.q_per_round) or (
            aligns and step == 0
        ):
            z = await node.compute(steps.forward, half, x)
            await node.post("server", Smashed(round=round, step=step, align=aligns and step == 0, z=z.detach(), y=y))
            if aligns and step == 0 and config.align == "wait":
                await aux.install(node, await node.recv(alignment.Aligned, source="server"))
            losses.append(await node.compute(steps.estimated_step, half, aux.part, z, y))
            del z
        else:
            losses.append(await node.compute(steps.whole_estimated_step, half, aux.part, x, y))
    node.report(round, loss=steps.mean_of(losses))
    await node.post("server", Update(round=round, samples=len(shard), client=steps.weights(half)))


async def warm_up(node: ClientNode, config: Config, shard: Shard, half: steps.Part) -> None:
    """Round 0 of a warm start."""
    learner = steps.Part(
        config.task.auxiliary(), config.auxiliary_optimizer(config.aux_lr), objective=config.task.objective()
    )
    async for step, z, y in warm_start.local_steps(node, shard, half, learner, config.q):
        await node.post("server", Smashed(round=0, step=step, align=False, z=z.detach(), y=y))
    await node.post("server", warm_start.Warm(round=0, samples=len(shard), aux=steps.weights(learner)))
    await node.post("server", Update(round=0, samples=len(shard), client=steps.weights(half)))


async def server(node: ServerNode, config: Config) -> None:
    half = steps.Part(config.task.server_half(), config.server_optimizer, objective=config.task.objective())
    estimators = {name: alignment.Estimator(config, name) for name in node.clients}
    whole = steps.Part(config.task.client_half(), None)
    client, frozen = steps.weights(whole), rounds.FrozenWeights(node, config, whole)
    batch_statistics = config.refresh_mode == "train"
    shared = warm_start.MeanAuxiliary(node.clients)
    round, cohort = 0, config.cohort(node.clients, 0)

    node.begin_round(0)
    await frozen.give(cohort)
    for name in cohort:
        await node.post(name, Initial(round=-1, client=client))
    while cohort:
        collector = rounds.RoundCollector(node, config, round, cohort, Update)
        alignments: list[asyncio.Task[tuple[float, float]]] = []
        warm: dict[str, warm_start.Warm] = {}
        async with asyncio.TaskGroup() as group:
            async for message in collector.messages(Smashed, warm_start.Warm):
                if isinstance(message, warm_start.Warm):
                    warm[message.sender] = message
                    continue
                estimator = estimators[message.sender]
                await node.compute(steps.server_step, half, message.z, message.y)
                estimator.buffer.append(message.z, message.y)
                if message.align:
                    true = await node.compute(steps.refresh, half, *estimator.buffer.samples(), batch_statistics)
                    task = alignment.align(node, config, message.sender, round, estimator, true)
                    alignments.append(group.create_task(task))
        alignment.report(node, round, [task.result() for task in alignments])
        updates = await collector.conclude()
        if trained := [warm[update.sender] for update in updates if update.sender in warm]:
            await shared.share(node, [estimator.aux for estimator in estimators.values()], trained)
        client = await rounds.mean(node, [update.client for update in updates], updates, client)
        node.snapshot(round, {"client": client, "server": steps.weights(half)})

        following = rounds.begin_next(node, config, round)
        await shared.give(node, following, round)
        await frozen.give(following)
        for name in following or cohort:
            await node.post(name, Global(round=round, last=not following, client=client))
        if not following:
            await rounds.dismiss(node, cohort, round)
        round, cohort = round + 1, following
