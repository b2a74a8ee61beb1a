"""What clients needed of their memory, as tables: by device, and what the tightest device's peak is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from emulator.ledger import MEMORY_KINDS
from emulator.sheets import NOTHING, Sheet, number

Json = Mapping[str, Any]

JUDGED = ("fits", "does-not-fit", "would-not-fit")
NAMES = {"auxiliary": "auxiliary model", "messages": "messages out", "received": "messages in"}


def by_device(algorithms: Json) -> Sheet:
    """Peaks beside budgets, and who fits."""
    rows = []
    for name, algorithm in algorithms.items():
        devices: dict[str, list[Json]] = {}
        for client in algorithm["clients"]:
            devices.setdefault(client["device"], []).append(client)
        for device, clients in devices.items():
            keys = ("baseline_mib", "budget_mib", "peak_mib", "tensors_mib", "needed_mib")
            rows.append([name, device, *(number(_largest(clients, key)) for key in keys), _fitting(clients)])
    heads = ["baseline\nMiB", "budget\nMiB", "peak\nMiB", "tensors\nMiB", "needs\nMiB", "clients\nthat fit"]
    return Sheet(
        title="Client memory",
        heads=["algorithm", "device", *heads],
        names=2,
        rows=rows,
        meaning="Baseline: the process before its model exists (on the host). Budget: what the device leaves for "
        "training. Peak: largest growth above the baseline that the system measured over the clients of this device. "
        "Tensors: the same by an account of every tensor, played beforehand. Needs: the peak, or where a training was "
        "stopped, what the account says. A client fits when its peak is within the budget. 'no (1)': one client did "
        "not fit, which ended the others before they could show; 'would not (1)': it was let go on "
        "(--memory-cap account, dry runs).",
    )


def _fitting(clients: list[Json]) -> str:
    outcomes = [client["outcome"] for client in clients]
    would = outcomes.count("would-not-fit")
    if would:
        return f"would not ({would})"
    if all(outcome in JUDGED for outcome in outcomes):
        return f"{outcomes.count('fits')} of {len(clients)}"
    unfit = outcomes.count("does-not-fit")
    return f"no ({unfit})" if unfit else NOTHING


def by_category(algorithms: Json) -> list[Sheet]:
    """What the peak of the tightest device is made of; nothing where no account was kept."""
    known = {
        name: clients
        for name, algorithm in algorithms.items()
        if (clients := [client for client in algorithm["clients"] if client["account_mib"]])
    }
    if not known:
        return []
    everyone = [client for clients in known.values() for client in clients]
    tightest = min(everyone, key=lambda client: math.inf if client["budget_mib"] is None else client["budget_mib"])[
        "device"
    ]
    shown = {name: [c for c in clients if c["device"] == tightest] for name, clients in known.items()}
    shown = {name: clients for name, clients in shown.items() if clients}
    rows = [
        [NAMES.get(kind, kind), *(number(clients[0]["account_mib"][kind] or None) for clients in shown.values())]
        for kind in MEMORY_KINDS
    ]
    rows.append(["tensors", *(number(clients[0]["tensors_mib"]) for clients in shown.values())])
    rows.append(["allocator\nand workspace", *(number(_largest(clients, "beside_mib")) for clients in shown.values())])
    rows.append(["peak, measured", *(_peak(clients) for clients in shown.values())])
    sheet = Sheet(
        title=f"What a client's memory is made of ({tightest}, MiB)",
        heads=["", *(name.replace("-", "\n-", 1) for name in shown)],
        names=1,
        rows=rows,
        meaning="The tensors of one client when they were most, by what they were for; messages are its copies on the "
        "way out and what came in, temporaries what was being computed (–: none). Allocator and workspace: the "
        "measured peak less the tensors, where the training was not stopped ('>': it was).",
    )
    return [sheet]


def _peak(clients: list[Json]) -> str:
    stopped = all(client["beside_mib"] is None for client in clients)
    return (">" if stopped else "") + number(_largest(clients, "peak_mib"))


def _largest(rows: list[Json], key: str) -> float | None:
    return max((row[key] for row in rows if row[key] is not None), default=None)
