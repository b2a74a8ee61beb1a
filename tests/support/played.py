"""Methods played in this process: what was sent, and what should have been."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import torch

from algorithms import ALGORITHMS
from emulator.ledger.events import Event, Posted, Received, Reported, RoundEnded
from emulator.profiles.reading import load_scenario
from emulator.profiles.scenario import Scenario
from emulator.testing.stage import SECOND, Stage
from emulator.transport.messages import StateDict

CLIENTS, ROUNDS = 2, 4  # rounds 0 and 3 of FSL-SAGE are aligned (l = 3)


# The default workload: 150 samples a client in batches of 16, z of 1 KiB a sample.
SAMPLES, BATCH, Q = 150, 16, 5


C, S, A, E = 10_176, 156_424, 10_280, 1024  # bytes of client half, server half, auxiliary, one sample's z


UPLOADED = 2 * BATCH  # steps 0 and 5 of a round: the counter runs on, and 10 steps are twice q


def module_of(name: str) -> ModuleType:
    return importlib.import_module(ALGORITHMS[name])


@functools.cache
def played(name: str, **settings: Any) -> dict[str, list[Event]]:
    """The events of a few rounds with two of the scenario's ten clients, in this process."""
    module = module_of(name)
    scenario = load_scenario("iot-4g")
    config = msgspec.convert({"rounds": ROUNDS, "stop_after_s": None, **settings}, module.Config)
    members = tuple(client.name for client in scenario.clients[:CLIENTS])
    with Stage(scenario, *module.MESSAGES, members=members) as stage:
        roles = [module.client(stage.nodes[member], config) for member in members]
        stage.play(*roles, module.server(stage.server, config))
        assert all(node._inbox.awaiting == [] for node in stage.nodes.values())
    return stage.events


def sent(events: dict[str, list[Event]], round: int, size: str) -> dict[str, tuple[int, int]]:
    """Bytes up and down of each client in a round, by one accounting."""
    up, down = Counter[str](), Counter[str]()
    for node, lines in events.items():
        for event in lines:
            if isinstance(event, Posted) and event.round == round:
                side, client = (down, event.destination) if node == "server" else (up, node)
                side[client] += getattr(event, size)
    return {client: (up[client], down[client]) for client in events if client != "server"}


def closed_form(name: str, round: int) -> tuple[int, int]:
    """Official bytes a client sends up and gets down in a round: no labels, no initial weights."""
    aligned = round % 3 == 0
    return {
        "fedavg": (C + S, C + S),
        "sl": (SAMPLES * E + C, SAMPLES * E + C),
        "splitfed-v1": (SAMPLES * E + C, SAMPLES * E + C),
        "splitfed-v2": (SAMPLES * E + C, SAMPLES * E + C),
        "local-loss": (SAMPLES * E + C + A, C + A),
        "cse-fsl": (UPLOADED * E + C + A, C + A),
        "fsl-sage": (UPLOADED * E + C, C + aligned * A),
        "heron-sfl": (UPLOADED * E + C + A, C + A),
    }[name]


def timeline(events: dict[str, list[Event]]) -> list[Any]:
    """Everything but what the host needed for it."""
    host = ("actual_ns", "host_ns", "cpu_ns", "host_late_ns")
    return [
        {key: value for key, value in msgspec.structs.asdict(event).items() if key not in host}
        for node in sorted(events)
        for event in events[node]
    ]


SMALL = {"clients": 3, "samples_per_client": 48}  # three batches of 16


Parts = dict[str, StateDict]


class Play(NamedTuple):
    """What every node recorded, and the joined model after each round."""

    events: dict[str, list[Event]]
    models: list[Parts]

    def of(self, node: str, kind: type[Event]) -> list[Any]:
        return [event for event in self.events[node] if isinstance(event, kind)]

    @property
    def ends_ns(self) -> list[int]:
        return [ended.due_ns for ended in self.of("server", RoundEnded)]

    @property
    def longest_s(self) -> float:
        """Of its rounds."""
        return max(ended.due_ns - ended.started_ns for ended in self.of("server", RoundEnded)) / SECOND

    def told(self, client: str, kind: str) -> list[Received]:
        """A client's messages of a kind."""
        return [event for event in self.of(client, Received) if event.kind == kind]

    def trained(self, client: str) -> list[int]:
        """The rounds that a client has reported."""
        return [event.round for event in self.of(client, Reported)]


def play(
    name: str,
    scenario: Scenario | None = None,
    *,
    members: int = 3,
    late_s: float = 0.0,
    disturb: Callable[[Stage], None] = lambda _stage: None,
    **settings: Any,
) -> Play:
    """An algorithm with the scenario's first ``members``, of which the last one comes ``late_s``."""
    module = module_of(name)
    config = msgspec.convert({"rounds": 3, "stop_after_s": None, "task": SMALL, **settings}, module.Config)
    config.check()
    scenario = scenario or load_scenario("iot-4g")
    names = tuple(client.name for client in scenario.clients[:members])
    models: list[Parts] = []
    with Stage(scenario, *module.MESSAGES, members=names) as stage:
        stage.server.on_snapshot = lambda _round, parts, _awaits: models.append(copied(parts))
        disturb(stage)

        async def client(name: str) -> None:
            if name == names[-1]:
                await asyncio.sleep(late_s)
            await module.client(stage.nodes[name], config)

        stage.play(*map(client, names), module.server(stage.server, config))
        assert all(node._inbox.awaiting == [] for node in stage.nodes.values())
        assert asyncio.all_tasks(stage.loop) == set()
    return Play(stage.events, models)


def copied(parts: Parts) -> Parts:
    return {part: {key: tensor.clone() for key, tensor in state.items()} for part, state in parts.items()}


def same(one: Parts, other: Parts) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[part][key]) for part, state in one.items() for key, tensor in state.items()
    )
