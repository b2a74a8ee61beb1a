"""FedAvg: every client trains the whole model; the server averages.

H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
https://arxiv.org/abs/1602.05629 (Algorithm 1, with all clients in every round and one local epoch).

    w           model            whole model of the task, state dict
    x [B, ...]  images           y [B] labels; stay on the client
    n_i / N     a client's share of all samples

Per client and round: w up, w down. The client holds the whole model, its gradients and its Adam.

Differences from the paper: Adam (its state stays on the client and is never averaged) for SGD, as in the FSL-SAGE
comparison. This is the true FedAvg: the model is not shared between clients while they train.
"""

from __future__ import annotations

from typing import ClassVar

from algorithms import steps
from algorithms.task import Settings
from emulator.node import ClientNode, ServerNode
from emulator.wire import Message, StateDict


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``client_lr`` is the rate of the whole model."""


class Initial(Message, frozen=True, kw_only=True):
    """Server to client, once."""

    model: StateDict


class Update(Message, frozen=True, kw_only=True):
    """Client to server, at the end of a round."""

    official: ClassVar[tuple[str, ...]] = ("model",)
    samples: int
    model: StateDict


class Global(Message, frozen=True, kw_only=True):
    """Server to client: the mean of the round; ``last`` ends the training."""

    official: ClassVar[tuple[str, ...]] = ("model",)
    last: bool
    model: StateDict


MESSAGES: tuple[type[Message], ...] = (Initial, Update, Global)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    model = steps.Part(config.task.whole(), config.client_lr)

    message = await node.recv(Initial)
    await node.compute(steps.load_weights, model, message.model)
    del message
    round, last = 0, False
    while not last:
        losses = []
        for x, y in shard.batches(round):
            losses.append(await node.compute(steps.train_step, model, x, y))
        node.report(round, loss=steps.mean_of(losses))
        await node.post("server", Update(round=round, samples=len(shard), model=steps.weights(model)))

        mean = await node.recv(Global)
        await node.compute(steps.load_weights, model, mean.model)
        round, last = round + 1, mean.last
        del mean


async def server(node: ServerNode, config: Config) -> None:
    model = steps.Part(config.task.whole(), None)

    node.begin_round(0)
    for name in node.clients:
        await node.post(name, Initial(round=-1, model=steps.weights(model)))
    round, last = 0, False
    while not last:
        updates: dict[str, Update] = {}
        while len(updates) < len(node.clients):
            update = await node.recv(Update)
            updates[update.sender] = update
        ordered = [updates[name] for name in node.clients]
        mean = await node.compute(
            steps.weighted_mean, [update.model for update in ordered], [update.samples for update in ordered]
        )
        node.snapshot(round, config.task.halves(mean))

        last = not config.another(round + 1, node.now())
        if not last:
            node.begin_round(round + 1)
        for name in node.clients:
            await node.post(name, Global(round=round, last=last, model=mean))
        round += 1
