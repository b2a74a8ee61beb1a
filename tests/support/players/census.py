"""Every node reports the names of the modules that its process has loaded."""

from __future__ import annotations

import sys

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, Node, ServerNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


class Nothing(Message, frozen=True, kw_only=True):
    """Server to client, once."""


MESSAGES: tuple[type[Message], ...] = (Nothing,)


def count(node: Node) -> None:
    node.report(0, **dict.fromkeys(sorted(sys.modules), 1.0))


async def client(node: ClientNode, config: Config) -> None:
    del config
    await node.recv(Nothing)
    count(node)


async def server(node: ServerNode, config: Config) -> None:
    del config
    for name in node.clients:
        await node.post(name, Nothing(round=0))
    count(node)
