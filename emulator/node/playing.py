"""A node's part in a timeline: its method's coroutine, and what that has posted, until all has left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from emulator.node.node import Node


async def play(node: Node, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What ``coroutine`` returns, when all that was posted has left; raises what fails around it meanwhile."""

    async def to_the_end() -> Any:
        result = await coroutine
        await node.drained()
        return result

    playing = asyncio.ensure_future(to_the_end())
    await asyncio.wait((playing, node.failed), return_when=asyncio.FIRST_COMPLETED)
    if not playing.done():
        playing.cancel()
        await asyncio.wait((playing,))
        node.failed.result()
    return playing.result()
