"""A method played on a stage with everything that its computations returned.

Profiling takes the first of many equal computations for all of them; here each is carried out, as in a run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import torch

from emulator.compute.counting import Costs, HostRun
from emulator.ledger.events import Event
from emulator.preflight.in_process import InProcessHost
from emulator.profiles.scenario import Scenario
from emulator.testing.stage import Stage, make_scenario
from emulator.transport.messages import StateDict


class Computation(NamedTuple):
    """One call: the function's name, its first argument (a part, mostly), what it returned."""

    function: str
    first: Any
    result: Any


class RecordingHost(InProcessHost):
    """Carries out every computation of one node, and keeps it."""

    def __init__(self, costs: Any) -> None:
        super().__init__(costs)
        self.done: list[Computation] = []

    def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun:
        key, function, arguments = fn.args  # type: ignore[attr-defined]
        counted = fn.keywords["counted"]  # type: ignore[attr-defined]

        def carry_out() -> list[Any]:
            results = Costs.carry_out(self._costs, key, function, arguments, counted=counted)
            name = function.__name__
            self.done += [Computation(name, call[0], result) for call, result in zip(arguments, results, strict=True)]
            return results

        return super().submit(carry_out, clock, wake)

    def losses(self, functions: set[str]) -> list[float]:
        """What the computations of these names returned, in their order."""
        results = [done.result for done in self.done if done.function in functions]
        return [(result[0] if isinstance(result, tuple) else result).item() for result in results]

    def part(self, function: str) -> Any:
        """The first argument of the last computation of this name."""
        return next(done.first for done in reversed(self.done) if done.function == function)


class Recording(NamedTuple):
    """``snapshots``: the joined model's halves after each round, as handed to the evaluator."""

    hosts: dict[str, RecordingHost]
    events: dict[str, list[Event]]
    snapshots: list[dict[str, StateDict]]


def record(
    module: ModuleType,
    config: Any,
    scenario: Scenario | None = None,
    begin: Callable[[dict[str, RecordingHost]], None] = lambda _hosts: None,
    host_type: type[RecordingHost] = RecordingHost,
) -> Recording:
    """Play ``module`` to its end with all clients of the task; ``begin`` is given the hosts before it starts."""
    settings = msgspec.convert(config, module.Config) if isinstance(config, dict) else config
    made: list[RecordingHost] = []

    def host(costs: Any) -> RecordingHost:
        made.append(host_type(costs))
        return made[-1]

    snapshots: list[dict[str, StateDict]] = []
    scenario = scenario or make_scenario(settings.task.clients)
    with Stage(scenario, *module.MESSAGES, host=host) as stage:
        hosts = dict(zip(stage.nodes, made, strict=True))
        begin(hosts)
        stage.server.on_snapshot = lambda _round, parts, _awaits: snapshots.append(copy.deepcopy(parts))
        roles = [module.client(node, settings) for name, node in stage.nodes.items() if name != "server"]
        stage.play(*roles, module.server(stage.server, settings))
    return Recording(hosts, stage.events, snapshots)


def close(one: StateDict, other: StateDict, within: float) -> bool:
    """Whether two states have the same keys, and values that differ by at most ``within``."""
    return one.keys() == other.keys() and all(
        torch.allclose(tensor.double(), other[key].double(), rtol=0, atol=within) for key, tensor in one.items()
    )
