"""Flow changes a second: messages of many clients in several cells with unequal limits, all at once under way."""

from __future__ import annotations

import random
import time
from typing import Any

from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from emulator.network.fabric import Fabric
from emulator.profiles.scenario import Cell, ClientSpec, Device, Direction, Network, Scenario, ServerSpec

MBIT = 10**6
TARGET = 2000  # flow changes a second with 200 flows
CELLS = 5
DEVICE = Device("none", 1, 0, 0, 1, 1, 1, 0, 1)


def scenario(clients: int) -> Scenario:
    """Clients of unequal links in cells of unequal capacities, on a server whose link binds all of them together."""
    draw = random.Random(clients)
    specs = []
    for i in range(clients):
        up, down = (Direction(draw.randrange(1, 50) * MBIT, 10**7, 0) for _ in range(2))
        specs.append(ClientSpec(f"client-{i}", i, DEVICE, Network("n", up, down), cell=f"cell-{i % CELLS}"))
    cells = tuple(Cell(f"cell-{i}", (i + 1) * 20 * MBIT, (i + 1) * 30 * MBIT) for i in range(CELLS))
    wide = Direction(200 * MBIT, 0, 0)
    return Scenario("b", "", ServerSpec("server", DEVICE, Network("s", wide, wide), 1), tuple(specs), {}, cells)


def changes_a_second(clients: int, changes: int) -> float:
    """Every client always has a message under way to the server; each that has left is a flow's end and a start."""
    fabric, draw, counter, done = Fabric(scenario(clients), 1), random.Random(1), 0, 0
    for i in range(clients):
        fabric.post(f"client-{i}", "server", counter, draw.randrange(10_000, 500_000), 0)
        counter += 1
    fabric.advance()
    begun_s = time.perf_counter()
    while done < changes:
        for event in fabric.advance():
            if event.departs:
                fabric.post(event.source, "server", counter, draw.randrange(10_000, 500_000), event.due_ns)
                counter += 1
                done += 2
    return done / (time.perf_counter() - begun_s)


def run(stage: Stage, quick: bool) -> Section:
    """At 10, 50 and 200 clients."""
    del stage
    found = {clients: changes_a_second(clients, 200 if quick else 4000) for clients in (10, 50, 200)}
    rows = [["flows", "changes/s"], *([str(clients), f"{rate:,.0f}"] for clients, rate in found.items())]
    figures: dict[str, Any] = {f"{clients}_flows": rate for clients, rate in found.items()}
    target = Target("flow changes a second with 200 flows", found[200], "/s", TARGET, True)
    return Section("sharing", "flows that share cells and the server's link", rows, figures, [target], [])
