"""How long an algorithm will take on the wall, before anything of it is trained.

From its profiling, where that came to its end and is far from any limit; else from a dry run, which is broken off
after a while and then says how long the rounds will take by those that it has seen. On the real clock wall time is
emulated time times the dilation; on the virtual clock it is what the host has to compute, on all its cores, by a host
that is assumed (``in_process.REFERENCE``).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from emulator.errors import UserError
from emulator.ledger.events import Event, RoundEnded
from emulator.network.jitter import SECOND_NS
from emulator.preflight.dilation import LIMIT_S, AlgorithmEstimate, ProfilingResult
from emulator.preflight.dry_run import Bounds, dry_run
from emulator.preflight.memory_estimate import estimate_memory
from emulator.preflight.profiling import profile_costs
from emulator.profiles.scenario import Scenario

MOST_COMPUTATIONS = 20_000  # of a dry run: some seconds
SURELY = 10  # profiling that is so many times below the limit, however its clients get in each other's way


def estimate_algorithm(module: str, settings: dict[str, Any], scenario: Scenario, seed: int) -> AlgorithmEstimate:
    """The estimate of a method's time and memory, by profiling and, where that does not settle it, a dry run."""
    estimate = _estimate_time(module, settings, scenario, seed)
    breakdowns = estimate_memory(module, settings, scenario, seed)
    events = estimate.events or _events(estimate.profiled, settings, scenario)
    return msgspec.structs.replace(estimate, breakdowns=breakdowns, events=events)


def _events(profiled: ProfilingResult, settings: dict[str, Any], scenario: Scenario) -> int:
    """The number of events of a run: as many a round and client as in profiling; a lower bound where no round ended."""
    rounds, stop_after_s = int(settings.get("rounds", 1)), settings.get("stop_after_s")
    if stop_after_s is not None and profiled.rounds:
        rounds = min(rounds, int(stop_after_s * SECOND_NS * profiled.rounds / max(profiled.elapsed_ns, 1)) + 1)
    clients = len(scenario.clients) / max(sum(profiled.clients.values()), 1)
    return int(profiled.events / max(profiled.rounds, 1) * clients * rounds)


def _estimate_time(module: str, settings: dict[str, Any], scenario: Scenario, seed: int) -> AlgorithmEstimate:
    profiled = profile_costs(module, settings, scenario, seed)
    devices = Counter(client.device.name for client in scenario.clients)
    times = len(scenario.clients) / len(devices)  # as if all clients took turns
    host_ns = (profiled.server_host_ns + sum(profiled.client_host_ns.values())) * times
    limit_ns = int(LIMIT_S * SECOND_NS)
    if profiled.complete and max(profiled.elapsed_ns, host_ns) * times * SURELY < limit_ns:
        return AlgorithmEstimate(profiled, int(profiled.elapsed_ns * times), int(host_ns), True)
    rounds: list[RoundEnded] = []
    recorded = until_round = 0

    def note(event: Event) -> None:
        nonlocal recorded, until_round
        recorded += 1
        if isinstance(event, RoundEnded):
            rounds.append(event)
            until_round = recorded

    bounds = Bounds(limit_ns + SECOND_NS, MOST_COMPUTATIONS)  # to see that it is passed
    try:
        found = dry_run(module, settings, scenario, seed, profiled, lambda _node: note, bounds=bounds)
    except UserError:  # the run will say so itself
        return AlgorithmEstimate(profiled, profiled.elapsed_ns, int(host_ns), False)
    if found.complete or not rounds:
        return AlgorithmEstimate(profiled, found.elapsed_ns, found.host_ns, found.complete, events=recorded)
    more = _rounds_of(settings, rounds) / len(rounds)
    elapsed_ns, host_ns = int(rounds[-1].due_ns * more), int(found.host_ns * more)
    return AlgorithmEstimate(profiled, elapsed_ns, host_ns, True, events=int(until_round * more))


def _rounds_of(settings: dict[str, Any], rounds: list[RoundEnded]) -> float:
    """How many rounds there will be, by how long those so far took."""
    stop_after_s: float | None = settings.get("stop_after_s")
    wanted = int(settings.get("rounds", 1))
    if stop_after_s is None:
        return wanted
    return min(wanted, stop_after_s * SECOND_NS / rounds[-1].due_ns * len(rounds) + 1)
