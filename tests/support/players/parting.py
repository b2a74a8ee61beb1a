"""A server whose last message nobody waits for: all have ended before it arrives."""

from __future__ import annotations

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, ServerNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


class Hello(Message, frozen=True, kw_only=True):
    """Server to each client, once."""


class Goodbye(Message, frozen=True, kw_only=True):
    """Server to each client, once."""


MESSAGES: tuple[type[Message], ...] = (Hello, Goodbye)


async def client(node: ClientNode, config: Config) -> None:
    del config
    await node.recv(Hello)


async def server(node: ServerNode, config: Config) -> None:
    del config
    for message in (Hello(round=0), Goodbye(round=0)):
        for name in node.clients:
            await node.post(name, message)
