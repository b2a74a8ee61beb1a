"""Loops that never end, as an author makes them: in a coroutine that does not wait, or that only yields, or in a
computation; in profiling already, or first where another client's turn comes."""

from __future__ import annotations

import asyncio
from typing import Literal

from algorithms.training.settings import Settings
from emulator.node import ClientNode, Message, ServerNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``profiling``: whether the first client, which is profiled, has the loop too."""

    where: Literal["coroutine", "yielding", "computation"] = "coroutine"
    profiling: bool = False


class Hello(Message, frozen=True, kw_only=True):
    """Server to a client."""


MESSAGES: tuple[type[Message], ...] = (Hello,)


def endless() -> None:
    while True:
        pass  # computation


async def client(node: ClientNode, config: Config) -> None:
    await node.recv(Hello)
    if node.index == 0 and not config.profiling:
        return
    if config.where == "computation":
        await node.compute(endless)
    while config.where == "yielding":
        await asyncio.sleep(0)  # yielding
    while True:
        pass  # coroutine


async def server(node: ServerNode, config: Config) -> None:
    del config
    for client in node.clients:
        await node.post(client, Hello(round=0))
