"""FedAvg: every client trains the whole model; the server averages.

H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
https://arxiv.org/abs/1602.05629 (Algorithm 1).

    w           model            whole model of the task, state dict
    x [B, ...]  images           y [B] labels; stay on the client
    n_i / N     a client's share of all samples

Per client and round: w up, w down. The client holds the whole model, its gradients and its Adam.

Differences from the paper: Adam (its state stays on the client and is never averaged) for SGD, as in the FSL-SAGE
comparison. This is the true FedAvg: the model is not shared between clients while they train.
"""

from __future__ import annotations

from typing import ClassVar

from algorithms.training import rounds, steps
from algorithms.training.settings import Settings
from algorithms.workload.loader import Shard
from emulator.node import ClientNode, Message, ServerNode, StateDict


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``client_lr`` is the rate of the whole model."""

    has_cut: ClassVar[bool] = False


class Initial(Message, frozen=True, kw_only=True, tag="initial"):
    """Server to client, once."""

    model: StateDict


class Update(Message, frozen=True, kw_only=True, tag="update"):
    """Client to server, at the end of a round."""

    official: ClassVar[tuple[str, ...]] = ("model",)
    samples: int
    model: StateDict


class Global(Message, frozen=True, kw_only=True, tag="global"):
    """Server to client: the mean of the round; ``last`` ends the training."""

    official: ClassVar[tuple[str, ...]] = ("model",)
    last: bool
    model: StateDict


MESSAGES: tuple[type[Message], ...] = (Initial, Update, Global, *rounds.CONTROL_MESSAGES)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    model = steps.Part(config.task.full_model(), config.client_optimizer, objective=config.task.objective())

    async for start in rounds.starts(node, Initial, Global):
        await node.compute(steps.load_weights, model, start.model)
        round, last = start.round + 1, isinstance(start, Global) and start.last
        del start
        if not last:
            await rounds.until_dropped(node, config, train(node, shard, model, round))


async def train(node: ClientNode, shard: Shard, model: steps.Part, round: int) -> None:
    """A client's round."""
    losses = []
    for x, y in shard.batches(round):
        losses.append(await node.compute(steps.train_step, model, x, y))
    node.report(round, loss=steps.mean_of(losses))
    await node.post("server", Update(round=round, samples=len(shard), model=steps.weights(model)))


async def server(node: ServerNode, config: Config) -> None:
    whole = steps.Part(config.task.full_model(), None)
    model, frozen = steps.weights(whole), rounds.FrozenWeights(node, config, whole)
    round, cohort = 0, config.cohort(node.clients, 0)

    node.begin_round(0)
    await frozen.give(cohort)
    for name in cohort:
        await node.post(name, Initial(round=-1, model=model))
    while cohort:
        collector = rounds.RoundCollector(node, config, round, cohort, Update)
        await collector.all()
        updates = await collector.conclude()
        model = await rounds.mean(node, [update.model for update in updates], updates, model)
        node.snapshot(round, config.task.halves(model))

        following = rounds.begin_next(node, config, round)
        await frozen.give(following)
        for name in following or cohort:
            await node.post(name, Global(round=round, last=not following, model=model))
        if not following:
            await rounds.dismiss(node, cohort, round)
        round, cohort = round + 1, following
