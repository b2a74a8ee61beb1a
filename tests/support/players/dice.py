"""Every client reports what a computation has drawn from torch's own generator, as dropout does."""

from __future__ import annotations

import torch

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, ServerNode

DRAWS = 5


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """Nothing of its own."""


class Nothing(Message, frozen=True, kw_only=True):
    """Server to client, once."""


MESSAGES: tuple[type[Message], ...] = (Nothing,)


async def client(node: ClientNode, config: Config) -> None:
    del config
    kept = torch.nn.functional.dropout(torch.ones(1000))  # before the first wait, when a node builds what it needs
    await node.recv(Nothing)
    for _ in range(DRAWS):
        kept = await node.compute(torch.nn.functional.dropout, kept)
    node.report(0, **{str(i): value for i, value in enumerate(kept.tolist())})


async def server(node: ServerNode, config: Config) -> None:
    del config
    for name in node.clients:
        await node.post(name, Nothing(round=0))
