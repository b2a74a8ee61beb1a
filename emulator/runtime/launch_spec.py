"""What a child process is told when it starts, and the exit statuses by which it answers."""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from emulator.compute.device import Work
from emulator.profiles.scenario import Scenario

# Exit status of a node
FINISHED, DOES_NOT_FIT, FAILED, ABORTED, ORPHANED, REFUSED = 0, 3, 4, 5, 7, 8


class LaunchSpec(msgspec.Struct, frozen=True):
    """The specification of a child process: which node it is and what it runs. ``settings`` becomes the ``Config``
    of the method's module."""

    node: str
    role: str  # server | client | network | evaluator
    number: int  # its slot among the signs of life
    algorithm: str
    module: str
    evaluate: str  # dotted name of the function that judges a snapshot
    save: str  # none | final | best: which of the judged models
    saved: str  # dotted name of the module with ``improves`` and ``save``
    model_file: str
    settings: dict[str, Any]
    scenario: Scenario
    seed: int
    clock: str
    dilation: int
    memory_cap: str
    address: str
    ledger_folder: str
    snapshot_folder: str
    heartbeat_file: str
    costs: dict[str, Work]
    measured_ns: dict[str, int]


def run_target(name: str, *arguments: Any) -> None:
    """In the child: call ``name`` of ``targets``, which only a child loads."""
    getattr(importlib.import_module("emulator.runtime.targets"), name)(*arguments)
