"""CSE-FSL with a client that computes before it first waits, outside ``node.compute``."""

from __future__ import annotations

from algorithms import cse_fsl
from algorithms.cse_fsl import MESSAGES, Config, server
from algorithms.training import steps
from emulator.node import ClientNode

__all__ = ["MESSAGES", "Config", "server"]


async def client(node: ClientNode, config: Config) -> None:
    half = steps.Part(config.task.client_half(), None)
    for x, _ in config.task.shard(node.index).batches(0):
        steps.forward(half, x[:1])  # too early
        break
    await cse_fsl.client(node, config)
