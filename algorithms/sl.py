"""Split learning: the clients take turns with one client half, and wait for every gradient.

O. Gupta, R. Raskar, "Distributed learning of deep neural network over multiple agents", 2018,
https://arxiv.org/abs/1810.06060. The baseline as in C. Thapa et al., https://arxiv.org/abs/2004.12088.

    c, s        client half, server half
    z [B, ...]  smashed batch c(x)       dz  gradient of the loss at z

Per client and round: c down (its turn), every batch z and y up and dz down, c up. The weights go from client to client
through the server (two hops), or straight to the next one (``relay = "peer"``: one hop; the server then sends an empty
``Turn`` and hears an empty ``Done``; the last client hands c on to the first one in the last round too, where it is not
taken up: every round then has the same bytes, and whether time allows another is not known yet). A round is one turn of
each client, in client order, so its time is their sum.

Differences: Adam; each client keeps its own Adam state between its turns, it does not travel with c. The loss rides
in the header of ``Gradient`` so that a client can report it. Evaluated with the last client's c. A client
that a deadline leaves out gives nothing on: the next one has the c from before its turn.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from algorithms.training import rounds, steps
from algorithms.training.messages import Gradient, Initial, Smashed
from algorithms.training.settings import Settings
from algorithms.workload.loader import Shard
from emulator.errors import UserError
from emulator.node import ClientNode, Message, ServerNode, StateDict


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``relay``: how c goes to the next client, through the ``server`` or from ``peer`` to peer."""

    relay: Literal["server", "peer"] = "server"

    def check(self) -> None:
        super().check()
        if self.relay == "peer" and (self.participation < 1 or self.deadline_s is not None):
            raise UserError("relay: from peer to peer all clients take part in every round, without a deadline")


class Turn(Message, frozen=True, kw_only=True, tag="turn"):
    """Server to client: the turn is the client's, with the weights of the previous client, or to be awaited from
    ``peer``."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    client: StateDict
    peer: str = ""
    next: str = ""


class Handover(Message, frozen=True, kw_only=True, tag="handover"):
    """Client to the next client: the weights, from peer to peer."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    client: StateDict


class Update(Message, frozen=True, kw_only=True, tag="update"):
    """Client to server, at the end of its turn."""

    official: ClassVar[tuple[str, ...]] = ("client",)
    client: StateDict


class Done(Message, frozen=True, kw_only=True, tag="done"):
    """Client to server, in place of its weights, which went to the next client."""


MESSAGES: tuple[type[Message], ...] = (Turn, Initial, Handover, Smashed, Gradient, Update, Done)
MESSAGES += rounds.CONTROL_MESSAGES


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_optimizer)

    async for turn in rounds.starts(node, Turn):
        weights = (await node.recv(Handover, Initial, source=turn.peer)).client if turn.peer else turn.client
        await node.compute(steps.load_weights, half, weights)
        round, following = turn.round, turn.next
        del turn, weights
        await rounds.until_dropped(node, config, train(node, shard, half, round, following))


async def train(node: ClientNode, shard: Shard, half: steps.Part, round: int, following: str) -> None:
    """A client's turn; the weights then go to the server, or to the ``following`` client."""
    losses = []
    for step, (x, y) in enumerate(shard.batches(round)):
        z = await node.compute(steps.forward, half, x)
        await node.post("server", Smashed(round=round, step=step, z=z.detach(), y=y))
        gradient = await node.recv(Gradient, source="server")
        await node.compute(steps.backward, half, z, gradient.dz)
        losses.append(gradient.loss)
        del z, gradient
    node.report(round, loss=sum(losses) / len(losses))
    if following:
        node.publish_part(round, "client", steps.weights(half))  # the last client's of the round is what stays
        await node.post(following, Handover(round=round, client=steps.weights(half)))
        await node.post("server", Done(round=round))
    else:
        await node.post("server", Update(round=round, client=steps.weights(half)))


async def server(node: ServerNode, config: Config) -> None:
    half = steps.Part(config.task.server_half(), config.server_optimizer, objective=config.task.objective())
    whole = steps.Part(config.task.client_half(), None)
    client, frozen = steps.weights(whole), rounds.FrozenWeights(node, config, whole)
    wanted = steps.trains(whole)
    update = Done if config.relay == "peer" else Update
    round = 0

    while config.has_next_round(round, node.now()):
        node.begin_round(round)
        cohort = config.cohort(node.clients, round)
        collector: rounds.RoundCollector[Update | Done] = rounds.RoundCollector(node, config, round, cohort, update)
        for place, name in enumerate(cohort):
            if collector.over:
                break
            await frozen.give((name,))
            if config.relay == "server":
                await node.post(name, Turn(round=round, client=client))
            else:
                first = round == place == 0
                peer, following = node.name if first else cohort[place - 1], cohort[(place + 1) % len(cohort)]
                await node.post(name, Turn(round=round, client={}, peer=peer, next=following))
                if first:
                    await node.post(name, Initial(round=-1, client=client))
            async for smashed in collector.messages(Smashed, clients=(name,)):
                loss, dz = await node.compute(steps.cut_step, half, smashed.z, smashed.y, wanted)
                await node.post(name, Gradient(round=round, step=smashed.step, loss=loss.item(), dz=dz))
            if isinstance(done := collector.updates.get(name), Update):
                client = done.client
        await collector.conclude()
        if config.relay == "server":
            node.snapshot(round, {"client": client, "server": steps.weights(half)})
        else:
            node.snapshot(round, {"server": steps.weights(half)}, missing_part="client")
        round += 1
    await rounds.dismiss(node, (), round - 1)
