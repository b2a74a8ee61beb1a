"""Local-loss split learning: a client trains on the loss of its own auxiliary head, and uploads every batch.

D.-J. Han et al., "Accelerating Federated Learning with Split Learning on Locally Generated Losses", ICML 2021 workshop
on federated learning, https://fl-icml.github.io/2021/papers/FL-ICML21_paper_6.pdf.

    c_i, a_i    client i's half and its auxiliary     s   the server half
    z [B, ...]  smashed batch c_i(x)                  y   labels
    n_i / N     a client's share of all samples

Per client and round: z and y of every batch up, nothing comes back for them; c and a up, c and a down. The client waits
for nothing but the mean of the round; the server steps on uploads in order of arrival. It is CSE-FSL with q = 1.

Differences: papers that cite this one disagree on whether the server keeps one half for all clients or a copy for each,
averaged with the rest: ``server_copies``. Adam for SGD; its states are not averaged.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal

from algorithms.training import rounds, steps
from algorithms.training.messages import GlobalWithAuxiliary as Global
from algorithms.training.messages import InitialWithAuxiliary as Initial
from algorithms.training.messages import Smashed
from algorithms.training.messages import UpdateWithAuxiliary as Update
from algorithms.training.settings import Settings
from algorithms.workload.loader import Shard
from algorithms.workload.task import check_rates
from emulator.node import ClientNode, Message, ServerNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``aux_lr`` is the rate of the auxiliary, which learns on the client. ``server_copies``: ``one`` server half for
    all clients, or one for ``each``; a copy sees its own client's batches only, so the server order has no effect.
    """

    has_auxiliary: ClassVar[bool] = True

    server_copies: Literal["one", "each"] = "one"
    aux_lr: float = 1e-3

    def check(self) -> None:
        super().check()
        check_rates(aux_lr=self.aux_lr)


MESSAGES: tuple[type[Message], ...] = (Initial, Smashed, Update, Global, *rounds.CONTROL_MESSAGES)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_optimizer)
    aux = steps.Part(
        config.task.auxiliary(),
        config.auxiliary_optimizer(config.aux_lr),
        auxiliary=True,
        objective=config.task.objective(),
    )

    async for start in rounds.starts(node, Initial, Global):
        await node.compute(steps.load_weights, half, start.client)
        await node.compute(steps.load_weights, aux, start.aux)
        round, last = start.round + 1, isinstance(start, Global) and start.last
        del start
        if not last:
            await rounds.until_dropped(node, config, train(node, shard, half, aux, round))


async def train(node: ClientNode, shard: Shard, half: steps.Part, aux: steps.Part, round: int) -> None:
    """A client's round."""
    losses = []
    for step, (x, y) in enumerate(shard.batches(round)):
        z = await node.compute(steps.forward, half, x)
        await node.post("server", Smashed(round=round, step=step, z=z.detach(), y=y))
        losses.append(await node.compute(steps.local_step, half, aux, z, y))
        del z
    node.report(round, loss=steps.mean_of(losses))
    update = Update(round=round, samples=len(shard), client=steps.weights(half), aux=steps.weights(aux))
    await node.post("server", update)


async def serve(
    node: ServerNode, collector: rounds.RoundCollector[Update], names: tuple[str, ...], half: steps.Part
) -> None:
    """The batches of these clients' round against one server half."""
    async for smashed in collector.messages(Smashed, clients=names):
        await node.compute(steps.server_step, half, smashed.z, smashed.y)


async def server(node: ServerNode, config: Config) -> None:
    copies = node.clients if config.server_copies == "each" else ("",)
    halves = {
        name: steps.Part(config.task.server_half(), config.server_optimizer, objective=config.task.objective())
        for name in copies
    }
    parts = steps.Part(config.task.client_half(), None), steps.Part(config.task.auxiliary(), None)
    client, aux = map(steps.weights, parts)
    frozen = rounds.FrozenWeights(node, config, *parts)
    mean = steps.weights(steps.Part(config.task.server_half(), None))  # of the copies
    round, cohort = 0, config.cohort(node.clients, 0)

    node.begin_round(0)
    await frozen.give(cohort)
    for name in cohort:
        await node.post(name, Initial(round=-1, client=client, aux=aux))
    while cohort:
        collector = rounds.RoundCollector(node, config, round, cohort, Update)
        if config.server_copies == "one":
            await serve(node, collector, cohort, halves[""])
        else:
            async with asyncio.TaskGroup() as group:
                for name in cohort:
                    group.create_task(serve(node, collector, (name,), halves[name]))
        updates = await collector.conclude()
        client = await rounds.mean(node, [update.client for update in updates], updates, client)
        aux = await rounds.mean(node, [update.aux for update in updates], updates, aux)
        if config.server_copies == "each":
            mean = await rounds.mean(node, [steps.weights(halves[u.sender]) for u in updates], updates, mean)
            for half in halves.values():
                await node.compute(steps.load_weights, half, mean)
        joined = mean if config.server_copies == "each" else steps.weights(halves[""])
        node.snapshot(round, {"client": client, "server": joined})

        following = rounds.begin_next(node, config, round)
        await frozen.give(following)
        for name in following or cohort:
            await node.post(name, Global(round=round, last=not following, client=client, aux=aux))
        if not following:
            await rounds.dismiss(node, cohort, round)
        round, cohort = round + 1, following
