"""The golden ledgers in tests/golden/: what a round of each method sends, and when, a line an event.

Two clients with two batches each, in one process, on 1 Mbit/s and 10 ms. Their boards compute in next to no time, so
that the times are those of the links and depend on no kernel; losses are left out. After a change that is meant:

    python tests/support/golden.py

writes them anew, and the difference in git is what changed.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import msgspec

from algorithms import ALGORITHMS
from emulator.ledger.events import Computed, Event, Posted, Received, RoundEnded
from emulator.profiles.scenario import Device
from emulator.testing.stage import Stage, make_scenario

FOLDER = Path(__file__).parents[1] / "golden"
TASK = {"dataset": "synthetic:1x8x8:10:32", "clients": 2, "batch": 8}
AT_ONCE = Device("board", 2**30, 2**20, 2**20, 10**18, 10**18, 10**18, 0, 2**30)  # a computation takes some ns
HEAD = "due_ns node event kind from to round official payload framed wire"


def ledger(name: str) -> str:
    """A method's golden ledger as it is now."""
    module = importlib.import_module(ALGORITHMS[name])
    config = msgspec.convert({"rounds": 1, "stop_after_s": None, "task": TASK}, module.Config)
    with Stage(make_scenario(2, device=AT_ONCE), *module.MESSAGES) as stage:
        clients = [node for node in stage.nodes if node != "server"]
        stage.play(*(module.client(stage.nodes[node], config) for node in clients), module.server(stage.server, config))
    lines = [
        (event.due_ns, node, position, line)
        for node, events in stage.events.items()
        for position, event in enumerate(events)
        if (line := line_of(node, event))
    ]
    return "\n".join([HEAD, *(line for *_, line in sorted(lines))]) + "\n"


def line_of(node: str, event: Event) -> str:
    """Empty for what is not kept."""
    match event:
        case Posted():
            ends = node, event.destination
        case Received():
            ends = event.source, node
        case Computed():
            return f"{event.due_ns} {node} computed {event.function}"
        case RoundEnded():
            return f"{event.due_ns} {node} round_ended - - - {event.round}"
        case _:
            return ""
    sizes = getattr(event, "official_bytes", "-"), event.payload_bytes, event.framed_bytes, event.wire_bytes
    what = type(event).__name__.lower()
    return " ".join(map(str, (event.due_ns, node, what, event.kind, *ends, getattr(event, "round", "-"), *sizes)))


if __name__ == "__main__":
    for method in ALGORITHMS:
        (FOLDER / f"{method}.txt").write_text(ledger(method))
