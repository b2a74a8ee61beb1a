"""What clients needed of their memory, as tables: by device, with a paper's model, and what a peak is made of."""

from __future__ import annotations

import math

from emulator.analysis import model_memory
from emulator.analysis.metrics import largest
from emulator.analysis.summary import Algorithms, ClientSummary, Summary
from emulator.ledger.events import MEMORY_KINDS
from emulator.tables.table import NOTHING, Table, TableCell, TableRow, figure, number

JUDGED = ("fits", "does-not-fit", "would-fit", "would-not-fit")
NAMES = {"auxiliary": "auxiliary model", "messages": "messages out", "received": "messages in"}


MEASURED = (
    "Baseline: the process before its model exists (on the host). Budget: what the device leaves for training. Peak: "
    "largest growth above the baseline that the system measured over the clients of this device. Tensors: the same by "
    "an account of every tensor, played beforehand. Needs: the peak, or where a training was stopped, what is foreseen "
    "from the account ('~'). A client fits when its peak is within the budget. 'no (1)': one client did not fit, which "
    "ended the others before they could show; 'would not (1)': it was let go on (--memory-cap account)."
)
WITHIN = "by a fit to other runs: within about 10 % + 1 MiB"
FORESEEN = (
    "Foreseen, not measured. Budget: what the device leaves for training. Tensors: those of one client, by an account "
    f"of every tensor. Peak: how far its process would grow, {WITHIN}. A client would fit when that is within the "
    "budget. 'would not (1)': so many would not."
)


def foreseen(algorithms: Algorithms) -> bool:
    """Whether nobody measured any memory: in a dry run."""
    return any(algorithm.foreseen for algorithm in algorithms.values())


def by_device(algorithms: Algorithms) -> Table:
    """Peaks beside budgets, and who fits; of a dry run, what is foreseen alone."""
    rows: list[TableRow] = []
    dry = foreseen(algorithms)
    for name, algorithm in algorithms.items():
        devices: dict[str, list[ClientSummary]] = {}
        for client in algorithm.clients:
            devices.setdefault(client.device, []).append(client)
        for device, clients in devices.items():
            sizes = [[c.budget_mib for c in clients], [c.tensors_mib for c in clients]]
            if not dry:
                sizes = [[c.baseline_mib for c in clients], sizes[0], [c.peak_mib for c in clients], sizes[1]]
            cells = (figure(largest(each)) for each in sizes)
            rows.append([name, device, *cells, _needed(clients, dry), _fitting(clients)])
    headers = ["baseline\nMiB", "budget\nMiB", "peak\nMiB", "tensors\nMiB", "needs\nMiB", "clients\nthat fit"]
    if dry:
        headers = ["budget\nMiB", "tensors\nMiB", "peak, fore-\nseen MiB", "clients that\nwould fit"]
    return Table(
        title="Client memory",
        headers=["algorithm", "device", *headers],
        label_columns=2,
        rows=rows,
        caption=FORESEEN if dry else MEASURED,
    )


def _needed(clients: list[ClientSummary], dry: bool) -> TableCell | str:
    """What such a client needs; marked where that is foreseen beside what was measured."""
    needed_mib = largest(client.needed_mib for client in clients)
    if needed_mib is None:
        return NOTHING
    peak_mib = next(client.peak_mib for client in clients if client.needed_mib == needed_mib)
    return TableCell(needed_mib, "~" * (not dry and needed_mib != peak_mib) + number(needed_mib))


def _fitting(clients: list[ClientSummary]) -> str:
    outcomes = [client.outcome for client in clients]
    would = outcomes.count("would-not-fit")
    if would:
        return f"would not ({would})"
    if all(outcome in JUDGED for outcome in outcomes):
        return f"{outcomes.count('fits') + outcomes.count('would-fit')} of {len(clients)}"
    unfit = outcomes.count("does-not-fit")
    return f"no ({unfit})" if unfit else NOTHING


def with_model(summary: Summary) -> list[Table]:
    """What a client would need with a paper's model: a row for each method and kind of device."""
    found = model_memory.of(summary)
    if found is None:
        return []
    rows: list[TableRow] = []
    words = {True: "fits", False: "does not fit", None: "open"}
    for name, algorithm in summary.algorithms.items():
        need = found.methods.get(name)
        for device, budget_mib in {c.device: c.budget_mib for c in algorithm.clients}.items():
            sizes = [need.tensors_mib, need.needed_mib] if need else [None, None]
            fit = words[model_memory.fits(need, budget_mib)] if need else NOTHING
            rows.append([name, device, *map(figure, (budget_mib, *sizes)), fit])
    return [
        Table(
            title=f"Client memory with {found.model}, computed and not measured",
            headers=["algorithm", "device", "budget\nMiB", "tensors\nMiB", "at most\nMiB", "a client"],
            label_columns=2,
            rows=rows,
            caption=f"What a client of these devices would need with {found.model} {found.workload}: its tensors by an "
            "account of each, and what its process takes at most (1.12 x tensors + 1.6 MiB); open: the budget lies "
            f"between the two. From {model_memory.SHOWN}, written by `{found.made_by}`; as a dry run: "
            f"`{found.command}`.",
        )
    ]


def by_category(algorithms: Algorithms) -> list[Table]:
    """What the peak of the tightest device is made of; nothing where no account was kept."""
    known = {
        name: clients
        for name, algorithm in algorithms.items()
        if (clients := [client for client in algorithm.clients if client.account_mib])
    }
    if not known:
        return []
    everyone = [client for clients in known.values() for client in clients]
    tightest = min(everyone, key=lambda each: math.inf if each.budget_mib is None else each.budget_mib).device
    shown = {name: [c for c in clients if c.device == tightest] for name, clients in known.items()}
    shown = {name: clients for name, clients in shown.items() if clients}
    accounts = [clients[0].account_mib or {} for clients in shown.values()]
    rows: list[TableRow] = [
        [NAMES.get(kind, kind), *(figure(each.get(kind) or None) for each in accounts)] for kind in MEMORY_KINDS
    ]
    rows.append(["tensors", *(figure(clients[0].tensors_mib) for clients in shown.values())])
    dry = foreseen(algorithms)
    if dry:
        needed = (figure(largest(client.needed_mib for client in clients)) for clients in shown.values())
        rows.append(["peak, foreseen", *needed])
    else:
        beside = (figure(largest(client.beside_mib for client in clients)) for clients in shown.values())
        rows.append(["allocator\nand workspace", *beside])
        rows.append(["peak, measured", *(_peak(clients) for clients in shown.values())])
    last = (
        "Allocator and workspace: the measured peak less the tensors, where the training was not stopped ('>': it was)."
    )
    if dry:
        last = f"Peak, foreseen: what its process would need with allocator and workspace, {WITHIN}."
    table = Table(
        title=f"What a client's memory is made of ({tightest}, MiB)",
        headers=["", *(name.replace("-", "\n-", 1) for name in shown)],
        label_columns=1,
        rows=rows,
        caption="The tensors of one client when they were most, by what they were for; messages are its copies on the "
        f"way out and what came in, temporaries what was being computed (–: none). {last}",
    )
    return [table]


def _peak(clients: list[ClientSummary]) -> TableCell:
    stopped = all(client.beside_mib is None for client in clients)
    peak_mib = largest(client.peak_mib for client in clients)
    return TableCell(peak_mib, (">" if stopped else "") + number(peak_mib))
