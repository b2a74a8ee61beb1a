"""A server that forgets all clients but the first: a deadlock that no profiling with one client shows."""

from __future__ import annotations

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, ServerNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


class Hello(Message, frozen=True, kw_only=True):
    """Server to its first client, and back."""


MESSAGES: tuple[type[Message], ...] = (Hello,)


async def client(node: ClientNode, config: Config) -> None:
    del config
    await node.recv(Hello)
    await node.post("server", Hello(round=0))


async def server(node: ServerNode, config: Config) -> None:
    del config
    await node.post(node.clients[0], Hello(round=0))
    for _ in node.clients:
        await node.recv(Hello)
