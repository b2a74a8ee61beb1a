"""How long an algorithm will take on the wall, before anything of it is trained.

From its rehearsal, where that came to its end and is far from any limit; else from a dry run, which is broken off
after a while and then says how long the rounds will take by those that it has seen. On the real clock wall time is
emulated time times the dilation; on the virtual clock it is what the host has to compute, on all its cores, by a host
that is assumed (``rehearsal.REFERENCE``).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from emulator.errors import UserError
from emulator.ledger.events import Event, RoundEnded
from emulator.network.jitter import SECOND_NS
from emulator.preflight.dilation import LIMIT_S, Outlook, Rehearsed
from emulator.preflight.dry_run import Bounds, dry_run
from emulator.preflight.memory_estimate import account_memory
from emulator.preflight.profiling import rehearse
from emulator.profiles.scenario import Scenario

MOST_COMPUTATIONS = 20_000  # of a dry run: some seconds
SURELY = 10  # a rehearsal that is so many times below the limit, however its clients get in each other's way


def foresee(module: str, settings: dict[str, Any], scenario: Scenario, seed: int) -> Outlook:
    """Rehearse, look further where the rehearsal alone does not settle it, and account for the clients' memory."""
    outlook = _foresee(module, settings, scenario, seed)
    accounts = account_memory(module, settings, scenario, seed)
    return msgspec.structs.replace(outlook, accounts=accounts, events=_events(outlook.rehearsed, settings, scenario))


def _events(rehearsed: Rehearsed, settings: dict[str, Any], scenario: Scenario) -> int:
    """As many a round as in the rehearsal, of as many more clients; where no round ended in it, at least so many."""
    rounds, stop_after_s = int(settings["rounds"]), settings.get("stop_after_s")
    if stop_after_s is not None and rehearsed.rounds:
        rounds = min(rounds, int(stop_after_s * SECOND_NS * rehearsed.rounds / max(rehearsed.elapsed_ns, 1)) + 1)
    clients = len(scenario.clients) / max(sum(rehearsed.clients.values()), 1)
    return int(rehearsed.events / max(rehearsed.rounds, 1) * clients * rounds)


def _foresee(module: str, settings: dict[str, Any], scenario: Scenario, seed: int) -> Outlook:
    rehearsed = rehearse(module, settings, scenario, seed)
    devices = Counter(client.device.name for client in scenario.clients)
    times = len(scenario.clients) / len(devices)  # as if all clients took turns
    host_ns = (rehearsed.server_host_ns + sum(rehearsed.client_host_ns.values())) * times
    limit_ns = int(LIMIT_S * SECOND_NS)
    if rehearsed.whole and max(rehearsed.elapsed_ns, host_ns) * times * SURELY < limit_ns:
        return Outlook(rehearsed, int(rehearsed.elapsed_ns * times), int(host_ns), True)
    rounds: list[RoundEnded] = []

    def note(event: Event) -> None:
        if isinstance(event, RoundEnded):
            rounds.append(event)

    bounds = Bounds(limit_ns + SECOND_NS, MOST_COMPUTATIONS)  # to see that it is passed
    try:
        found = dry_run(module, settings, scenario, seed, rehearsed, lambda _node: note, bounds=bounds)
    except UserError:  # the run will say so itself
        return Outlook(rehearsed, rehearsed.elapsed_ns, int(host_ns), False)
    if found.whole or not rounds:
        return Outlook(rehearsed, found.elapsed_ns, found.host_ns, found.whole)
    more = _rounds_of(settings, rounds) / len(rounds)
    return Outlook(rehearsed, int(rounds[-1].due_ns * more), int(found.host_ns * more), True)


def _rounds_of(settings: dict[str, Any], rounds: list[RoundEnded]) -> float:
    """How many rounds there will be, by how long those so far took."""
    stop_after_s: float | None = settings.get("stop_after_s")
    wanted = int(settings["rounds"])
    if stop_after_s is None:
        return wanted
    return min(wanted, stop_after_s * SECOND_NS / rounds[-1].due_ns * len(rounds) + 1)
