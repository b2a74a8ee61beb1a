"""Nodes that are only there: each client reports its private memory before it would build a model.

The first report of the server says what the host's clock showed at emulated time about 0.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec

from emulator.node.node import ClientNode, ServerNode
from emulator.transport.messages import Message


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``stay_s``: how long the nodes stay, in emulated seconds."""

    task: dict[str, Any] = {}
    stay_s: float = 0.2


class Nothing(Message, frozen=True, kw_only=True):
    """Never sent."""


MESSAGES: tuple[type[Message], ...] = (Nothing,)


def private_bytes() -> int:
    """Memory of this process that it shares with no other; see proc(5), smaps_rollup."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    return 1024 * (int(fields["Private_Clean"]) + int(fields["Private_Dirty"]))


async def client(node: ClientNode, config: Config) -> None:
    node.report(0, private_bytes=private_bytes())
    await asyncio.sleep(config.stay_s)


async def server(node: ServerNode, config: Config) -> None:
    await asyncio.sleep(0.001)
    node.report(0, monotonic_ns=time.monotonic_ns())
    await asyncio.sleep(config.stay_s)
