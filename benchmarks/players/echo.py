"""One transfer at a time: the server sends a payload to a client, which sends one of the same size back.

Before each there is a pause: a chain of stamps without slack hands the lateness of one transfer on to the next.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import torch

from emulator.node.node import ClientNode, ServerNode
from emulator.transport.messages import Message


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``sizes``: the payloads for each client, in bytes, in order; the clients follow one another."""

    task: dict[str, Any] = {}
    sizes: dict[str, list[int]] = {}
    pause_s: float = 0.05


class Ball(Message, frozen=True, kw_only=True):
    """To be sent back."""

    bytes: torch.Tensor


class Rest(Message, frozen=True, kw_only=True):
    """Server to client: that was all."""


MESSAGES: tuple[type[Message], ...] = (Ball, Rest)


async def client(node: ClientNode, config: Config) -> None:
    while isinstance(message := await node.recv(Ball, Rest), Ball):
        await asyncio.sleep(config.pause_s)
        await node.post("server", message)


async def server(node: ServerNode, config: Config) -> None:
    for name in node.clients:
        for size_bytes in config.sizes[name]:
            ball = Ball(round=0, bytes=torch.zeros(size_bytes, dtype=torch.uint8))
            await asyncio.sleep(config.pause_s)
            await node.post(name, ball)
            await node.recv(Ball, source=name)
        await node.post(name, Rest(round=0))
