"""SplitFed V2 and FSL-SAGE as plain loops over plain sockets: the same parts and data, none of the emulator.

They follow ``algorithms.splitfed_v2`` and ``algorithms.fsl_sage`` with everybody in every round, ``align = "wait"``
and batches in order of arrival. The server computes one thing at a time. Each function sets a node up, off the clock,
and returns its training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from algorithms import splitfed_v2
from algorithms.data.streams import stream_seed
from algorithms.fsl_sage import method as fsl_sage
from algorithms.training import steps
from algorithms.training.settings import should_upload
from benchmarks.plain_wire import Letter, Node

Rounds = list[tuple[float, float]]  # begin and end of each, monotonic seconds


def client_splitfed_v2(node: Node, config: splitfed_v2.Config, index: int) -> Callable[[], None]:
    half, shard = steps.Part(config.task.client_half(), config.client_optimizer), config.task.shard(index)

    def train() -> None:
        for round in range(config.rounds):
            node.compute(steps.load_weights, half, node.recv().tensors)
            for x, y in shard.batches(round):
                z = node.compute(steps.forward, half, x)
                node.send("server", "smashed", {"z": z, "y": y})
                node.compute(steps.backward, half, z, node.recv().tensors["dz"])
            node.send("server", "update", steps.weights(half), samples=len(shard))
        node.recv()

    return train


def server_splitfed_v2(node: Node, config: splitfed_v2.Config, clients: list[str]) -> Callable[[], Rounds]:
    half = steps.Part(config.task.server_half(), config.server_optimizer)

    def serve(letter: Letter, round: int) -> None:
        loss, dz = node.compute(steps.cut_step, half, letter.tensors["z"], letter.tensors["y"])
        node.send(letter.sender, "gradient", {"dz": dz}, loss=loss.item(), round=round)

    return _rounds(node, config, clients, serve)


def client_fsl_sage(node: Node, config: fsl_sage.Config, index: int) -> Callable[[], None]:
    half, shard = steps.Part(config.task.client_half(), config.client_optimizer), config.task.shard(index)
    aux = steps.Part(config.task.auxiliary(), None)

    def train_round(round: int) -> None:
        aligns = round % config.l == 0
        for step, (x, y) in enumerate(shard.batches(round)):
            if should_upload(config.q, step, shard.steps, round, restart_each_round=config.q_per_round) or (
                aligns and step == 0
            ):
                z = node.compute(steps.forward, half, x)
                node.send("server", "smashed", {"z": z, "y": y}, align=aligns and step == 0)
                if aligns and step == 0:
                    node.compute(steps.load_weights, aux, node.recv().tensors)
                node.compute(steps.estimated_step, half, aux, z, y)
            else:
                node.compute(steps.whole_estimated_step, half, aux, x, y)

    def train() -> None:
        for round in range(config.rounds):
            node.compute(steps.load_weights, half, node.recv().tensors)
            train_round(round)
            node.send("server", "update", steps.weights(half), samples=len(shard))
        node.recv()

    return train


def server_fsl_sage(node: Node, config: fsl_sage.Config, clients: list[str]) -> Callable[[], Rounds]:
    half = steps.Part(config.task.server_half(), config.server_optimizer)
    auxiliaries = {
        name: steps.Part(config.task.auxiliary(), config.auxiliary_optimizer(config.align_lr)) for name in clients
    }
    seed = config.task.seed
    buffers = {name: steps.Buffer(config.buffer, stream_seed(seed, f"align:{name}")) for name in clients}

    def serve(letter: Letter, round: int) -> None:
        aux, buffer = auxiliaries[letter.sender], buffers[letter.sender]
        node.compute(steps.server_step, half, letter.tensors["z"], letter.tensors["y"])
        buffer.append(letter.tensors["z"], letter.tensors["y"])
        if letter.fields["align"]:
            z, y = buffer.samples()
            g, _ = node.compute(steps.refresh, half, z, y)
            for epoch in steps.epochs([*buffer.orders(config.align_epochs)]):
                node.compute(steps.align_epoch, aux, z, g, y, epoch, config.align_batch)
            node.send(letter.sender, "aligned", steps.weights(aux), round=round)

    return _rounds(node, config, clients, serve)


def _rounds(node: Node, config: Any, clients: list[str], serve: Callable[[Letter, int], None]) -> Callable[[], Rounds]:
    """Of each round: send the client half, serve until everybody's update is here, average."""
    initial = steps.weights(steps.Part(config.task.client_half(), None))

    def train() -> Rounds:
        state, found = initial, Rounds()
        for round in range(config.rounds):
            begun_s = time.monotonic() if not found else found[-1][1]
            for name in clients:
                node.send(name, "global" if round else "initial", state, round=round)
            updates: dict[str, Letter] = {}
            while len(updates) < len(clients):
                letter = node.recv()
                if letter.kind == "update":
                    updates[letter.sender] = letter
                else:
                    serve(letter, round)
            told = [updates[name] for name in clients]
            samples = [letter.fields["samples"] for letter in told]
            state = node.compute(steps.weighted_mean, [letter.tensors for letter in told], samples)
            found.append((begun_s, time.monotonic()))
        for name in clients:
            node.send(name, "global", state, round=config.rounds)
        return found

    return train


CONFIGS: dict[str, Any] = {"splitfed-v2": splitfed_v2.Config, "fsl-sage": fsl_sage.Config}
CLIENTS: dict[str, Callable[..., Callable[[], None]]] = {
    "splitfed-v2": client_splitfed_v2,
    "fsl-sage": client_fsl_sage,
}
SERVERS: dict[str, Callable[..., Callable[[], Rounds]]] = {
    "splitfed-v2": server_splitfed_v2,
    "fsl-sage": server_fsl_sage,
}
