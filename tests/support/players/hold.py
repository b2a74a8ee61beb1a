"""A client holds so many MiB: in its model, from a message, from computations. All pages are written."""

from __future__ import annotations

import torch

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, ServerNode

FLOATS_A_MIB = 2**18


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    model_mib: int = 0
    message_mib: int = 0
    step_mib: int = 0
    steps: int = 1


class Blob(Message, frozen=True, kw_only=True):
    """Server to client, once."""

    x: torch.Tensor


class Done(Message, frozen=True, kw_only=True):
    """Client to server, at its end."""


MESSAGES: tuple[type[Message], ...] = (Blob, Done)


def fill(mib: int) -> torch.Tensor:
    return torch.ones(mib * FLOATS_A_MIB)


async def client(node: ClientNode, config: Config) -> None:
    held = [fill(config.model_mib)]
    held.append((await node.recv(Blob)).x)
    for _ in range(config.steps):
        held.append(await node.compute(fill, config.step_mib))
    node.report(0, held_bytes=float(sum(tensor.nbytes for tensor in held)))
    await node.post("server", Done(round=0))


async def server(node: ServerNode, config: Config) -> None:
    for name in node.clients:
        await node.post(name, Blob(round=0, x=fill(config.message_mib)))
    for name in node.clients:
        await node.recv(Done, source=name)
