"""Clients that only let time pass: every tick is a promise to the network process and a grant from it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from emulator.node.node import ClientNode, ServerNode
from emulator.transport.messages import Message


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often each client ticks."""

    task: dict[str, Any] = {}
    ticks: int = 1000


MESSAGES: tuple[type[Message], ...] = ()


async def client(node: ClientNode, config: Config) -> None:
    await asyncio.sleep(0.001)
    node.report(0, wall_s=time.monotonic())
    for _ in range(config.ticks):
        await asyncio.sleep(0.001 + node.index * 1e-6)
    node.report(1, wall_s=time.monotonic())


async def server(node: ServerNode, config: Config) -> None:
    del node, config
    await asyncio.sleep(0.001)
