"""SplitFed V2: clients train in parallel against one server half, which takes their batches one at a time.

C. Thapa et al., "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022, https://arxiv.org/abs/2004.12088
(section "SplitFedV2").

    c_i, s      client i's half, the one server half
    z [B, ...]  smashed batch c_i(x)     dz  gradient of the loss at z
    n_i / N     a client's share of all samples

Per client and round: every batch z and y up and dz down; c up, c down. Only the client halves are averaged.

Differences: batches are served as they arrive, where the paper takes the clients one after another in a random order
(``server_order = "blocked"``: one after another, in client order). Adam, whose states last over all rounds and are
never averaged; mean weighted by n_i / N. The loss rides in the header of ``Gradient`` so that a client can report it.
"""

from __future__ import annotations

from algorithms.training import rounds, steps
from algorithms.training.messages import Global, Gradient, Initial, Smashed, Update
from algorithms.training.settings import Settings
from algorithms.workload.loader import Shard
from emulator.node import ClientNode, Message, ServerNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


MESSAGES: tuple[type[Message], ...] = (Initial, Smashed, Gradient, Update, Global, *rounds.CONTROL_MESSAGES)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_optimizer)

    async for start in rounds.starts(node, Initial, Global):
        await node.compute(steps.load_weights, half, start.client)
        round, last = start.round + 1, isinstance(start, Global) and start.last
        del start
        if not last:
            await rounds.until_dropped(node, config, train(node, shard, half, round))


async def train(node: ClientNode, shard: Shard, half: steps.Part, round: int) -> None:
    """A client's round."""
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


async def server(node: ServerNode, config: Config) -> None:
    half = steps.Part(config.task.server_half(), config.server_optimizer, objective=config.task.objective())
    whole = steps.Part(config.task.client_half(), None)
    client, frozen = steps.weights(whole), rounds.FrozenWeights(node, config, whole)
    wanted = steps.trains(whole)
    round, cohort = 0, config.cohort(node.clients, 0)

    node.begin_round(0)
    await frozen.give(cohort)
    for name in cohort:
        await node.post(name, Initial(round=-1, client=client))
    while cohort:
        collector = rounds.RoundCollector(node, config, round, cohort, Update)
        async for smashed in collector.messages(Smashed):
            loss, dz = await node.compute(steps.cut_step, half, smashed.z, smashed.y, wanted)
            await node.post(smashed.sender, Gradient(round=round, step=smashed.step, loss=loss.item(), dz=dz))
        updates = await collector.conclude()
        client = await rounds.mean(node, [update.client for update in updates], updates, client)
        node.snapshot(round, {"client": client, "server": steps.weights(half)})

        following = rounds.begin_next(node, config, round)
        await frozen.give(following)
        for name in following or cohort:
            await node.post(name, Global(round=round, last=not following, client=client))
        if not following:
            await rounds.dismiss(node, cohort, round)
        round, cohort = round + 1, following
