"""A method with a mistake of its author's: where it fails, and what it says, must be the first that is told."""

from __future__ import annotations

import asyncio

import msgspec

from algorithms.workload.task import Task
from emulator.node import ClientNode, Message, ServerNode


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    task: Task = msgspec.field(default_factory=Task)
    rounds: int = 1
    stop_after_s: float | None = None

    def check(self) -> None:
        self.task.check()


class Hello(Message, frozen=True, kw_only=True):
    pass


MESSAGES: tuple[type[Message], ...] = (Hello,)


async def client(node: ClientNode, _config: Config) -> None:
    await node.post("server", Hello(round=0))
    async with asyncio.TaskGroup() as group:
        group.create_task(stumble())


async def stumble() -> None:
    await asyncio.sleep(1)
    {}["labels"]  # the mistake


async def server(node: ServerNode, _config: Config) -> None:
    for _ in node.clients:
        await node.recv(Hello)
    await asyncio.sleep(60)
