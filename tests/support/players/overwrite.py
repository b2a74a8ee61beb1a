"""Both sides post tensors and overwrite them in place while they are under way; the receiver compares.

``optimizer_steps``: a client posts its weights as they are and takes so many steps of Adam behind the post.
"""

from __future__ import annotations

import torch

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, ServerNode, StateDict

VALUES = 2**20  # 4 MiB: far above the 64 KiB up to which ZeroMQ copies by itself


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    optimizer_steps: int = 3


class Tensor(Message, frozen=True, kw_only=True):
    """Server to client."""

    x: torch.Tensor


class Weights(Message, frozen=True, kw_only=True):
    """Client to server."""

    state: StateDict


MESSAGES: tuple[type[Message], ...] = (Tensor, Weights)


def values(seed: int) -> torch.Tensor:
    return torch.rand(VALUES, generator=torch.Generator().manual_seed(seed))


def train(x: torch.Tensor, steps: int) -> None:
    """Steps of an optimizer, each of which changes x in place."""
    adam = torch.optim.Adam([x], lr=1.0)
    for _ in range(steps):
        x.grad = torch.ones_like(x)
        adam.step()


async def client(node: ClientNode, config: Config) -> None:
    message = await node.recv(Tensor)
    node.report(0, unchanged=float(torch.equal(message.x, values(0))))

    x = values(1 + node.index).requires_grad_()
    await node.post("server", Weights(round=0, state={"x": x.detach()}))
    await node.compute(train, x, config.optimizer_steps)
    node.report(1, overwritten=float((x != values(1 + node.index)).all()))


async def server(node: ServerNode, config: Config) -> None:
    del config
    x = values(0)
    for name in node.clients:
        await node.post(name, Tensor(round=0, x=x))
    x.zero_()
    node.report(1, overwritten=float((x != values(0)).any()))
    for index, name in enumerate(node.clients):
        message = await node.recv(Weights, source=name)
        node.report(0, unchanged=float(torch.equal(message.state["x"], values(1 + index))))
