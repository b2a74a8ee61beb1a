"""What an algorithm's computations cost, from playing it on one client of each kind of device (``in_process``).

The work of each distinct computation is counted at its first few runs, and its time on the host is taken at all.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from emulator.compute.device import Work
from emulator.preflight.dilation import ProfilingResult, Span
from emulator.preflight.in_process import (
    BUDGET_NS,
    MEASURED_BUDGET_NS,
    InProcessHost,
    InProcessRun,
    representatives,
    run_in_process,
)
from emulator.profiles.scenario import Scenario


def profile_costs(
    module_name: str, settings: dict[str, Any], scenario: Scenario, seed: int, budget_ns: int = BUDGET_NS
) -> ProfilingResult:
    """Play ``module_name`` with one client of each kind of device, until it ends or the budget is used up."""
    specs = representatives(module_name, settings, scenario)
    where = module_name, settings, scenario, seed, specs
    measured_ns = _measured(run_in_process(*where, MEASURED_BUDGET_NS)) if scenario.host else {}
    run = run_in_process(*where, budget_ns, measured_ns=measured_ns)
    table = run.costs.table
    overhead_ns = _counting_overhead_ns(table, run.hosts.values())
    spans: list[Span] = []
    host_ns_of: dict[str, int] = {}
    for name, host in run.hosts.items():
        device, host_ns_of[name] = run.nodes[name].device, 0
        for key in sorted(host.host_ns.keys() | host.counted_ns.keys()):
            plain, counted = host.host_ns.get(key, []), host.counted_ns.get(key, [])
            counting_ns = int(table[key].operations * overhead_ns)
            host_ns = int(statistics.median(plain)) if plain else max(min(counted) - counting_ns, 0)
            times, repeats = len(plain) + len(counted), run.costs.repeats[key]
            host_ns_of[name] += host_ns * repeats * times
            if times > 1 or repeats > 1:  # a first run pays for what torch prepares once for each shape
                function, span_ns = (
                    key.split("(")[0].rpartition(".")[2],
                    repeats * run.costs.duration_ns(key, device),
                )
                spans.append(Span(device.name, function, span_ns, repeats * host_ns, times))
    return ProfilingResult(
        costs=table,
        spans=spans,
        elapsed_ns=run.elapsed_ns,
        server_host_ns=host_ns_of[scenario.server.name],
        client_host_ns={client.device.name: host_ns_of[client.name] for client in specs},
        clients={client.device.name: 1 for client in specs},
        complete=run.complete,
        measured_ns=measured_ns,
        uncharged=run.uncharged,
        rounds=run.rounds,
        events=run.events,
    )


def _measured(run: InProcessRun) -> dict[str, int]:
    """CPU time by cost key: the median of all runs in which nothing was counted."""
    runs: dict[str, list[int]] = {}
    for host in run.hosts.values():
        for key, cpu_ns in host.cpu_ns.items():
            runs.setdefault(key, []).extend(cpu_ns)
    return {key: int(statistics.median(cpu_ns)) for key, cpu_ns in sorted(runs.items())}


def _counting_overhead_ns(table: dict[str, Work], hosts: Iterable[InProcessHost]) -> float:
    """What counting adds to the host time of one operation: the median over what ran both ways."""
    found = [
        (min(host.counted_ns[key]) - statistics.median(plain)) / max(table[key].operations, 1)
        for host in hosts
        for key, plain in host.host_ns.items()
        if key in host.counted_ns
    ]
    return max(statistics.median(found), 0.0) if found else 0.0
