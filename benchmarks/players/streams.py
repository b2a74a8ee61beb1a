"""Every client and the server send each other messages at random moments, at a given share of the link's rate.

Moments: a Poisson process; sizes: drawn from a list; both from a named stream for each (sender, receiver). Meanwhile
every client trains a small network, one step at a time with pauses in between.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from typing import Any

import msgspec
import torch
from torch import nn

from emulator.clock.loop import to_ns
from emulator.node.node import ClientNode, Node, ServerNode
from emulator.transport.messages import Message


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``share``: of the rates; ``step_every_s``: from the start of a client's step to the start of its next."""

    task: dict[str, Any] = {}
    seconds: float = 10.0
    share: float = 0.8
    up_bps: int = 1_000_000
    down_bps: int = 1_000_000
    sizes: tuple[int, ...] = (1000,)
    step_every_s: float = 0.1


class Load(Message, frozen=True, kw_only=True):
    """Some payload; the ``last`` one of a stream carries none."""

    last: bool
    bytes: torch.Tensor


MESSAGES: tuple[type[Message], ...] = (Load,)


class Trainee:
    """A small network and its optimizer, as small as the client half of the default workload."""

    cost_key = "trainee"

    def __init__(self) -> None:
        self.model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters())


def step(trainee: Trainee, x: torch.Tensor, y: torch.Tensor) -> None:
    """One training step on a batch."""
    trainee.optimizer.zero_grad()
    torch.autograd.backward(nn.functional.cross_entropy(trainee.model(x), y))
    trainee.optimizer.step()


async def send_stream(node: Node, destination: str, rate_bps: int, config: Config) -> None:
    draw = random.Random(f"{node.name}>{destination}")
    pause_s = 8 * statistics.mean(config.sizes) / rate_bps / config.share
    end_ns = to_ns(config.seconds)
    while True:
        await asyncio.sleep(draw.expovariate(1 / pause_s))
        if node.now() >= end_ns:
            break
        payload = torch.zeros(draw.choice(config.sizes), dtype=torch.uint8)
        await node.post(destination, Load(round=0, last=False, bytes=payload))
    await node.post(destination, Load(round=0, last=True, bytes=torch.zeros(0, dtype=torch.uint8)))


async def take_streams(node: Node, streams: int) -> None:
    while streams:
        message = await node.recv(Load)
        streams -= message.last


async def train(node: Node, config: Config) -> None:
    trainee, x, y = Trainee(), torch.zeros(16, 1, 8, 8), torch.zeros(16, dtype=torch.int64)
    draw = random.Random(f"{node.name}:first step")
    next_ns = to_ns(draw.uniform(0, config.step_every_s))
    while next_ns < to_ns(config.seconds):
        await asyncio.sleep(max(next_ns - node.now(), 0) / 1e9)
        await node.compute(step, trainee, x, y)
        next_ns += to_ns(config.step_every_s)


async def client(node: ClientNode, config: Config) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(take_streams(node, 1))
        group.create_task(send_stream(node, "server", config.up_bps, config))
        group.create_task(train(node, config))


async def server(node: ServerNode, config: Config) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(take_streams(node, len(node.clients)))
        for name in node.clients:
            group.create_task(send_stream(node, name, config.down_bps, config))
