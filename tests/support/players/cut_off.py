"""The last client breaks its own connection to the network, and is sent a message afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, ServerNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


class Hello(Message, frozen=True, kw_only=True):
    """Server to client, twice."""


MESSAGES: tuple[type[Message], ...] = (Hello,)


def break_connection() -> None:
    """Shut down every socket of this process whose other end is bound to a path named ``network``."""
    for entry in sorted(Path("/proc/self/fd").iterdir()):
        # OSError: no socket, or without a peer.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as duplicate:
            if str(duplicate.getpeername()).endswith("network"):
                duplicate.shutdown(socket.SHUT_RDWR)


async def client(node: ClientNode, config: Config) -> None:
    await node.recv(Hello)
    if node.index == config.task.clients - 1:
        break_connection()
    await node.recv(Hello)


async def server(node: ServerNode, config: Config) -> None:
    del config
    for _ in range(2):
        for name in node.clients:
            await node.post(name, Hello(round=0))
        await asyncio.sleep(0.5)
