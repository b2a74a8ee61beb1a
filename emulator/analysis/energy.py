"""Joules of a run's clients until the last round's end: of each method and client, by cause and round, with their
range; and which methods the power numbers tell apart.

What is drawn after the last round's end (a tail that goes on) is not counted. The server's energy is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from emulator.analysis.summary import AlgorithmSummary, EnergySummary, MissingPower, RunEnergy
from emulator.energy.activity import activities, powers_of
from emulator.energy.consumption import Consumption, consumption, difference, range_of
from emulator.energy.powers import GRADES, Kind, PowerFiles, Powers, grade_of, numbers_of
from emulator.ledger.events import RoundEnded
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import Timeline

SECOND_NS, HOUR_NS, DAY_HOURS = 10**9, 3600 * 10**9, 24


def add_energy(
    manifest: Manifest,
    timelines: Mapping[str, Timeline],
    algorithms: Mapping[str, AlgorithmSummary],
    files: PowerFiles | None = None,
) -> RunEnergy:
    """Puts joules into the methods' summaries; what is missing of the run's, and the method with the fewest."""
    powers = powers_of(manifest, files or PowerFiles())
    known = [name for name, each in powers.items() if each.board and each.radio]
    drawn: dict[str, Consumption] = {}
    for name, algorithm in algorithms.items():
        ends_ns = [event.due_ns for event in timelines[name].of(RoundEnded)]
        if known and ends_ns:
            drawn[name] = _add(manifest, timelines[name], algorithm, powers, known, ends_ns)
    rounds = {name: algorithms[name].rounds for name in drawn if algorithms[name].outcome == "finished"}
    least = min(rounds, key=lambda name: drawn[name].joules()[-1] / rounds[name], default="") if len(rounds) > 1 else ""
    alike = [name for name in rounds if least and name != least and _alike(drawn, rounds, name, least)]
    return RunEnergy(missing=_missing(powers), least=least, alike=alike)


def _add(
    manifest: Manifest,
    events: Timeline,
    algorithm: AlgorithmSummary,
    powers: Mapping[str, Powers],
    known: Sequence[str],
    ends_ns: Sequence[int],
) -> Consumption:
    moments = np.asarray(ends_ns, np.int64)
    done = activities(known, manifest, events)
    whole = consumption([powers[name] for name in known], [done[name] for name in known], moments)
    joules = dict(zip((event.round for event in events.of(RoundEnded)), whole.joules(), strict=True))
    for row in algorithm.history:
        row.joules = joules.get(row.round)
    last = np.asarray([max(ends_ns)], np.int64)
    worst, worst_joules = "", -1.0
    for client in algorithm.clients:
        if client.name not in done:
            continue
        own = consumption([powers[client.name]], [done[client.name]], last, with_ends=False)
        client.joules = own.by_cause()[0]
        total = sum(client.joules.values())
        client.battery_days = _battery_days(powers[client.name], total, len(ends_ns), max(ends_ns))
        if total > worst_joules:
            worst, worst_joules = client.name, total
    least, most = range_of(whole)
    algorithm.energy = EnergySummary(
        clients=len(known),
        joules=whole.joules()[-1],
        least_joules=least,
        most_joules=most,
        causes=whole.by_cause()[-1],
        grade=_worst_grade(whole),
        worst_client=worst,
        worst_joules=worst_joules,
    )
    return whole


def _alike(drawn: Mapping[str, Consumption], rounds: Mapping[str, int], name: str, least: str) -> bool:
    """Whether power numbers exist by which a method draws no more a round than the one with the fewest joules."""
    low, _ = difference(drawn[name].times(rounds[least]), drawn[least].times(rounds[name]))
    return low <= 0


def _missing(powers: Mapping[str, Powers]) -> list[MissingPower]:
    lacking: dict[tuple[Kind, str], int] = {}
    for each in powers.values():
        keys: list[tuple[Kind, str]] = [("device", each.device)] if each.board is None else []
        for key in [*keys, ("network", each.network)] if each.radio is None else keys:
            lacking[key] = lacking.get(key, 0) + 1
    return [MissingPower(kind=kind, name=name, clients=count) for (kind, name), count in lacking.items()]


def _worst_grade(found: Consumption) -> str:
    """The worst grade of the numbers that anything was drawn by."""
    grades = set()
    for (_, power), shapes in found.uses.items():
        numbers, used = numbers_of(power), {name for (_, name), counts in shapes[0][1].items() if any(counts)}
        shaping = set(numbers) - {name for _, name in shapes[0][1]} - {"battery"}
        grades |= {grade_of(numbers[name]) for name in used | shaping}
    return max(grades, key=GRADES.index)


def _battery_days(powers: Powers, joules: float, rounds: int, length_ns: int) -> float | None:
    """Days that a battery lasts at one mean round an hour, between which the board idles (or sleeps, where it does)
    and the radio is asleep; None without a battery, and where a round takes longer than an hour."""
    board, radio = powers.board, powers.radio
    rest_ns = HOUR_NS - length_ns / rounds
    if board is None or radio is None or board.battery is None or rest_ns < 0:
        return None
    resting_w = (board.suspended or board.idle).value / 10**9
    resting_w *= board.supply_efficiency.value / 10**9 if board.supply_efficiency else 1
    hourly = joules / rounds + (resting_w + radio.sleep.value / 10**9) * rest_ns / SECOND_NS
    return board.battery.value / 10**6 / hourly / DAY_HOURS
