"""A node that runs ahead plays the same timeline as one that waits for a grant of every event: event by event."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from relay import play

from emulator.clock.conductors import CLOCKS, STRICT, Clock
from emulator.ledger.events import Clamped, Event, Memory, Transmitted
from emulator.ledger.files import read_timeline
from emulator.ledger.timeline import only
from emulator.node import ClientNode, ServerNode
from emulator.testing.stage import MS, Blob, Note, blob, note, operations

CLIENTS, ROUNDS = 3, 4


async def client(node: ClientNode) -> list[tuple[str, int]]:
    """Computes long and short in a row, posts between, waits for an answer or looks whether there is one, now and then
    in two tasks at once."""
    draws, seen = random.Random(node.index), []
    for round in range(ROUNDS):
        for _ in range(draws.randint(0, 6)):
            await node.compute(operations, draws.choice((1, 2, 3, 7)))
        await node.post("server", blob(draws.choice((10, 900, 4000)), fill=round))
        for _ in range(draws.randint(0, 8)):
            await node.compute(operations, draws.choice((1, 4, 25)))  # the way there and back takes 40
        if draws.random() < 0.5:
            both = [asyncio.create_task(node.compute(operations, 2)), asyncio.create_task(node.compute(operations, 2))]
            await asyncio.gather(*both)
        try:  # an answer that is here already, or comes in time
            message = await node.recv(Note, until_ns=node.now() + draws.choice((0, 3 * MS)))
        except TimeoutError:
            message = await node.recv(Note)
        seen.append((message.sender, node.now()))
    return seen


async def server(node: ServerNode) -> list[tuple[str, int]]:
    """Answers late, computing meanwhile while more arrives."""
    draws, seen = random.Random(99), []
    for _ in range(CLIENTS * ROUNDS):
        message = await node.recv(Blob)
        for _ in range(draws.randint(1, 4)):
            await node.compute(operations, draws.choice((1, 2, 5)))
        seen.append((message.sender, node.now()))
        await node.post(message.sender, note(0))
    return seen


def played(folder: Path, clock: Clock, jitter_ns: int, workers: int) -> tuple[list[Any], list[dict[str, Any]]]:
    folder.mkdir()
    _, results = play(folder, CLIENTS, server, client, clock, workers=workers, jitter_ns=jitter_ns)
    timeline = read_timeline(folder)
    assert only(timeline, Clamped) == []
    return results, sorted((told(event) for event in timeline if not isinstance(event, Memory)), key=repr)


HOST = {"seq", "host_ns", "cpu_ns", "host_late_ns"}


def told(event: Event) -> dict[str, Any]:
    """What an event says of emulated time. The network knows a departure beforehand, more or less so."""
    beside = HOST | {"actual_ns"} if isinstance(event, Transmitted) else HOST
    fields = {"type": type(event).__name__, **msgspec.structs.asdict(event)}
    return {name: value for name, value in fields.items() if name not in beside}


@pytest.mark.parametrize(("jitter_ns", "workers"), [(0, 1), (3 * MS, 1), (0, 2)])
def test_it_plays_what_a_strict_order_plays(tmp_path: Path, jitter_ns: int, workers: int) -> None:
    ahead, strict = (
        played(tmp_path / name, clock, jitter_ns, workers) for name, clock in (("a", CLOCKS["virtual"]), ("s", STRICT))
    )
    assert ahead == strict
