"""CSE-FSL: a client trains on the loss of its own auxiliary head, and uploads a smashed batch every q steps.

Y. Mu, C. Shen, "Communication and Storage Efficient Federated Split Learning", ICC 2023,
https://arxiv.org/abs/2302.05599; extended in https://arxiv.org/abs/2507.15816.

    c_i, a_i    client i's half and its auxiliary     s   the one server half
    z [B, ...]  smashed batch c_i(x)                  y   labels
    q           steps between uploads (the paper's h) τ   a client's step counter
    n_i / N     a client's share of all samples

Per client and round: z and y of every q-th batch up, nothing comes back for them; c and a up, c and a down. The client
waits for nothing but the mean of the round; the server steps on uploads in order of arrival.

Differences: a block's first batch is uploaded (τ mod q = 0), as in the FSL-SAGE authors' version; ``upload = "last"``:
its last, as in the CSE-FSL authors'. τ runs on across rounds (``q_per_round``: it begins anew in each, as in both).
Adam for SGD; its states are not averaged.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from algorithms.training import rounds, steps
from algorithms.training.messages import GlobalWithAuxiliary as Global
from algorithms.training.messages import InitialWithAuxiliary as Initial
from algorithms.training.messages import Smashed
from algorithms.training.messages import UpdateWithAuxiliary as Update
from algorithms.training.settings import Settings, rare_uploads, should_upload
from algorithms.workload.loader import Shard
from algorithms.workload.task import check_at_least, check_rates
from emulator.node import ClientNode, Message, ServerNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``aux_lr`` is the rate of the auxiliary, which learns on the client. ``upload``: which step of each q."""

    has_auxiliary: ClassVar[bool] = True

    q: int = 5
    q_per_round: bool = False
    upload: Literal["first", "last"] = "first"
    aux_lr: float = 1e-3

    def check(self) -> None:
        super().check()
        check_at_least(1, q=self.q)
        check_rates(aux_lr=self.aux_lr)


def warnings(config: Config) -> list[str]:
    """What is allowed but hardly meant."""
    return rare_uploads(config.task, config.q, config.rounds, restart_each_round=config.q_per_round)


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
    rounds_done = 0  # rounds of this client

    async for start in rounds.starts(node, Initial, Global):
        await node.compute(steps.load_weights, half, start.client)
        await node.compute(steps.load_weights, aux, start.aux)
        round, last = start.round + 1, isinstance(start, Global) and start.last
        del start
        if not last:
            await rounds.until_dropped(node, config, train(node, config, shard, half, aux, round, rounds_done))
            rounds_done += 1


async def train(
    node: ClientNode, config: Config, shard: Shard, half: steps.Part, aux: steps.Part, round: int, rounds_done: int
) -> None:
    """A client's round."""
    losses, last = [], config.upload == "last"
    for step, (x, y) in enumerate(shard.batches(round)):
        if should_upload(
            config.q, step, shard.steps, rounds_done, restart_each_round=config.q_per_round, upload_last=last
        ):
            z = await node.compute(steps.forward, half, x)
            await node.post("server", Smashed(round=round, step=step, z=z.detach(), y=y))
            losses.append(await node.compute(steps.local_step, half, aux, z, y))
            del z
        else:
            losses.append(await node.compute(steps.whole_local_step, half, aux, x, y))
    node.report(round, loss=steps.mean_of(losses))
    update = Update(round=round, samples=len(shard), client=steps.weights(half), aux=steps.weights(aux))
    await node.post("server", update)


async def server(node: ServerNode, config: Settings) -> None:
    """HERON-SFL's too."""
    half = steps.Part(config.task.server_half(), config.server_optimizer, objective=config.task.objective())
    parts = steps.Part(config.task.client_half(), None), steps.Part(config.task.auxiliary(), None)
    client, aux = map(steps.weights, parts)
    frozen = rounds.FrozenWeights(node, config, *parts)
    round, cohort = 0, config.cohort(node.clients, 0)

    node.begin_round(0)
    await frozen.give(cohort)
    for name in cohort:
        await node.post(name, Initial(round=-1, client=client, aux=aux))
    while cohort:
        collector = rounds.RoundCollector(node, config, round, cohort, Update)
        async for smashed in collector.messages(Smashed):
            await node.compute(steps.server_step, half, smashed.z, smashed.y)
        updates = await collector.conclude()
        client = await rounds.mean(node, [update.client for update in updates], updates, client)
        aux = await rounds.mean(node, [update.aux for update in updates], updates, aux)
        node.snapshot(round, {"client": client, "server": steps.weights(half)})

        following = rounds.begin_next(node, config, round)
        await frozen.give(following)
        for name in following or cohort:
            await node.post(name, Global(round=round, last=not following, client=client, aux=aux))
        if not following:
            await rounds.dismiss(node, cohort, round)
        round, cohort = round + 1, following
