"""SplitFed V1: clients train in parallel, each against a copy of the server half of its own; both halves are averaged.

C. Thapa et al., "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022, https://arxiv.org/abs/2004.12088
(Algorithms 1 and 2).

    c_i, s_i    client i's half, and the server half that serves it
    z [B, ...]  smashed batch c_i(x)     dz  gradient of the loss at z
    n_i / N     a client's share of all samples

Per client and round: every batch z and y up and dz down; c up, c down. One server does the work of the paper's main
and its federated server, so averaging the s_i costs no traffic (``server_averaging``). Same updates as FedAvg's, bit
for bit, with equal learning rates.

Differences: Adam, whose states (one a client half, one a server copy) last over all rounds and are never averaged;
mean weighted by n_i / N. The loss rides in the header of ``Gradient`` so that a client can report it.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal

from algorithms.training import rounds, steps
from algorithms.training.messages import Global, Gradient, Initial, Smashed, Update
from algorithms.training.settings import Settings
from algorithms.workload.loader import Shard
from emulator.node import ClientNode, Message, ServerNode, StateDict


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """The server order has no effect: no two clients share a server half.

    ``server_averaging``: where the server halves are averaged. ``local``: on the server, without traffic. ``network``:
    on a federated server of its own, to which each s_i goes and from which the mean comes back for each; it sits
    behind the same access link, so they pass through the server's own uplink and downlink.
    """

    server_averaging: Literal["local", "network"] = "local"


class ServerHalf(Message, frozen=True, kw_only=True, tag="server-half"):
    """Main server to federated server and back, where halves are averaged over the network."""

    official: ClassVar[tuple[str, ...]] = ("server",)
    server: StateDict


MESSAGES: tuple[type[Message], ...] = (Initial, Smashed, Gradient, Update, Global, ServerHalf, *rounds.CONTROL_MESSAGES)


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


async def serve(
    node: ServerNode, collector: rounds.RoundCollector[Update], name: str, half: steps.Part, wanted: bool
) -> None:
    """One client's round against its own server half; ``wanted``: whether the client has use for dz."""
    async for smashed in collector.messages(Smashed, clients=(name,)):
        loss, dz = await node.compute(steps.cut_step, half, smashed.z, smashed.y, wanted)
        await node.post(name, Gradient(round=smashed.round, step=smashed.step, loss=loss.item(), dz=dz))


async def over_the_network(node: ServerNode, round: int, states: list[StateDict]) -> list[StateDict]:
    """The states, after each has gone from the server to the server."""
    for state in states:
        await node.post(node.name, ServerHalf(round=round, server=state))
    return [(await node.recv(ServerHalf, source=node.name)).server for _ in states]


async def server(node: ServerNode, config: Config) -> None:
    halves = {
        name: steps.Part(config.task.server_half(), config.server_optimizer, objective=config.task.objective())
        for name in node.clients
    }
    whole = steps.Part(config.task.client_half(), None)
    client, frozen = steps.weights(whole), rounds.FrozenWeights(node, config, whole)
    server_mean = steps.weights(steps.Part(config.task.server_half(), None))
    round, cohort = 0, config.cohort(node.clients, 0)

    node.begin_round(0)
    await frozen.give(cohort)
    for name in cohort:
        await node.post(name, Initial(round=-1, client=client))
    while cohort:
        collector = rounds.RoundCollector(node, config, round, cohort, Update)
        async with asyncio.TaskGroup() as group:
            for name in cohort:
                group.create_task(serve(node, collector, name, halves[name], steps.trains(whole)))
        updates = await collector.conclude()
        client = await rounds.mean(node, [update.client for update in updates], updates, client)
        trained = [steps.weights(halves[update.sender]) for update in updates]
        if config.server_averaging == "network":
            trained = await over_the_network(node, round, trained)
        server_mean = await rounds.mean(node, trained, updates, server_mean)
        if config.server_averaging == "network":
            copies = await over_the_network(node, round, [server_mean] * len(updates))
            server_mean = copies[0] if copies else server_mean
        for half in halves.values():
            await node.compute(steps.load_weights, half, server_mean)
        node.snapshot(round, {"client": client, "server": server_mean})

        following = rounds.begin_next(node, config, round)
        await frozen.give(following)
        for name in following or cohort:
            await node.post(name, Global(round=round, last=not following, client=client))
        if not following:
            await rounds.dismiss(node, cohort, round)
        round, cohort = round + 1, following
