"""Timelines of methods played in this process."""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from algorithms import ALGORITHMS
from algorithms.workload.task import Task, prepare
from emulator.ledger.events import Event
from emulator.ledger.timeline import Timeline
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import dry_run
from emulator.profiles.reading import load_scenario


def merged(events: dict[str, list[Event]]) -> Timeline:
    """As a reader of the ledger sees them."""
    own = [(node, seq, event) for node, lines in events.items() for seq, event in enumerate(lines)]
    named: list[Any] = [msgspec.structs.replace(event, node=node, seq=seq) for node, seq, event in own]
    return Timeline(named)


CLIENTS = 3


@functools.cache
def timeline(method: str) -> Timeline:
    """Two rounds of a method with three clients, as a reader of the ledger sees them."""
    events: dict[str, list[Any]] = {}
    with TemporaryDirectory() as folder:
        task = prepare(Task(clients=CLIENTS, samples_per_client=64), Path(folder))
        settings = {"rounds": 2, "stop_after_s": None, "task": msgspec.to_builtins(task)}
        scenario = load_scenario("iot-4g", CLIENTS)
        record = lambda node: events.setdefault(node, []).append  # noqa: E731
        dry_run(ALGORITHMS[method], settings, scenario, 1, ProfilingResult(), record)
    return merged(events)
