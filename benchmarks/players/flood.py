"""Pairs of clients: one sends as fast as its send queue lets it, the other takes. The server does nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import torch

from emulator.node.node import ClientNode, ServerNode
from emulator.transport.messages import Message

BEGIN_S = 0.1


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each sender sends. Clients 0, 2, … send to clients 1, 3, …"""

    task: dict[str, Any] = {}
    messages: int = 1
    payload_bytes: int = 100

    def for_profiling(self) -> Config:
        """No message: nothing is computed, and what a client needs is found out without its pair."""
        return msgspec.structs.replace(self, messages=0)


class Drop(Message, frozen=True, kw_only=True):
    """One of many."""

    bytes: torch.Tensor


MESSAGES: tuple[type[Message], ...] = (Drop,)


async def client(node: ClientNode, config: Config) -> None:
    if node.index % 2:
        for _ in range(config.messages):
            await node.recv(Drop)
        return
    await asyncio.sleep(BEGIN_S)
    payload = torch.zeros(config.payload_bytes, dtype=torch.uint8)
    for _ in range(config.messages):
        await node.post(f"client-{node.index + 1}", Drop(round=0, bytes=payload))


async def server(node: ServerNode, config: Config) -> None:
    del node, config
    await asyncio.sleep(BEGIN_S)  # a node must wait for something once, or the clock does not start
