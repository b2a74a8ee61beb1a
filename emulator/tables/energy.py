"""The tables of energy: joules of clients by method and cause, with their range, and by kind of device. A view."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from emulator.analysis.metrics import FIGURES, joules_to
from emulator.analysis.summary import ClientSummary, RunEnergy, Summary
from emulator.energy.consumption import CAUSES
from emulator.energy.powers import GRADES
from emulator.tables.figure_columns import figure_column, finished
from emulator.tables.table import BEST_MEANS, NOTHING, Column, Table, TableCell, TableRow, figure, from_columns

SHARES = ("com-\npute %", "send-\ning %", "recei-\nving %", "tail\n%", "idle\n%")
KEYS = {"device": "idle_w and busy_w", "network": "tx_w, rx_w, connected_w, tail_s and sleep_w"}
FLAGS = {"device": "--device-power", "network": "--network-power"}


def tables(summary: Summary) -> list[Table]:
    """Both tables; none of a record in which no client's power is known."""
    if not any(each.energy for each in summary.algorithms.values()):
        return []
    return [_by_method(summary), _by_device(summary)]


def missing_lines(energy: RunEnergy | None) -> list[str]:
    """A sentence for each device and network without power numbers, and what to do."""
    return [
        f"No joules for {each.clients} client{'s' * (each.clients != 1)}: {each.kind} {each.name} has no "
        f"{KEYS[each.kind]}; name a profile that has: run.py energy DIR {FLAGS[each.kind]} FILE."
        for each in (energy.missing if energy else [])
    ]


def _by_method(summary: Summary) -> Table:
    each = summary.algorithms
    found = [algorithm.energy for algorithm in each.values()]
    shares = [
        [_percent(one.causes[cause] / one.joules if one and one.joules else None) for one in found] for cause in CAUSES
    ]
    played = [algorithm.rounds for algorithm in each.values()]
    rounds = [count * (one.clients if one else 1) for count, one in zip(played, found, strict=True)]
    low, high, worst = (
        [figure(total / of if one and of else None) for one, total, of in zip(found, totals, by, strict=True)]
        for totals, by in (
            ([one.least_joules if one else 0.0 for one in found], rounds),
            ([one.most_joules if one else 0.0 for one in found], rounds),
            ([one.worst_joules if one else 0.0 for one in found], played),
        )
    )
    to_goal = [
        Column(f"J to\n{goal.short}", [figure(joules_to(one, goal)) for one in each.values()], "least")
        for goal in summary.criteria.goals[-1:]
    ]
    return from_columns(
        [
            Column("algorithm", [*each]),
            figure_column(each, FIGURES["j_per_round"]),
            Column("least", low),
            Column("most", high),
            Column("worst\nclient", worst),
            *to_goal,
            *(Column(head, cells) for head, cells in zip(SHARES, shares, strict=True)),
        ],
        title="Energy",
        caption="Joules of a client and round, mean until the last round's end; the least and the most that power "
        f"numbers of these grades allow (the worst: {_worst(summary)}); the client that draws most; until the target, "
        "mean over clients. Shares: the board while it computes; the radio while a message leaves, and while one "
        "arrives; promotions, and connected or in DRX after a message; the board idle, the radio asleep. The server is "
        f"left out. {BEST_MEANS}",
        ranked=finished(each),
        results=[*_told_apart(summary.energy), *missing_lines(summary.energy)],
    )


def _percent(share: float | None) -> TableCell:
    return TableCell(None, NOTHING) if share is None else TableCell(100 * share, f"{100 * share:.0f}")


def _worst(summary: Summary) -> str:
    return max((one.energy.grade for one in summary.algorithms.values() if one.energy), key=GRADES.index)


def _told_apart(energy: RunEnergy | None) -> list[str]:
    if energy is None or not energy.least:
        return []
    if not energy.alike:
        return [f"{energy.least} draws the fewest joules a round, by all ends of the power numbers."]
    return [f"{energy.least} draws the fewest joules a round; not told apart from it: {', '.join(energy.alike)}."]


def _by_device(summary: Summary) -> Table:
    rows: list[TableRow] = []
    for name, algorithm in summary.algorithms.items():
        kinds: dict[tuple[str, str], list[ClientSummary]] = {}
        for client in algorithm.clients:
            if client.joules:
                kinds.setdefault((client.device, client.network), []).append(client)
        for (device, network), clients in kinds.items():
            rows.append([name, device, network, *_of_device(clients, algorithm.rounds)])
    return Table(
        title="Energy by device",
        headers=["algorithm", "device", "network", "clients", "J per\nround", "worst", "battery\ndays"],
        label_columns=3,
        rows=rows,
        caption="Joules of a client and round. Battery: days that it lasts at one mean round an hour, between which "
        "the board idles and the radio is asleep; –: the device's profile has no battery_wh.",
    )


def _of_device(clients: Sequence[ClientSummary], rounds: int) -> TableRow:
    totals = [sum(client.joules.values()) / rounds for client in clients if client.joules]
    days = [client.battery_days for client in clients if client.battery_days is not None]
    return [str(len(clients)), figure(fmean(totals)), figure(max(totals)), figure(min(days)) if days else NOTHING]
