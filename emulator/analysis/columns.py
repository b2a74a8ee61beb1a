"""A record as columns with units in their names, for notebooks: what pandas, polars and pyarrow take as they are.

Each function gives ``{column: values}``, all of one length; the first column is ``algorithm``. Rounds count from 1.
Times are emulated seconds, on the real clock as well, but for ``actual_s``, which its clock showed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import asdict

from emulator.analysis.recorded import RunRecord
from emulator.ledger.criteria import ACCURACY
from emulator.ledger.events import Event, Posted

SECOND_NS = 10**9
Columns = dict[str, list[Any]]
OF_CLIENT = ("device", "network", "outcome", "budget_mib", "baseline_mib", "peak_mib", "tensors_mib", "needed_mib")
OF_MEMORY = ("budget_mib", "baseline_mib", "peak_mib", "needed_mib", "tensors_mib")
SIZES = ("official_bytes", "payload_bytes", "framed_bytes", "wire_bytes")


def rounds(run: RunRecord) -> Columns:
    """When each round began and ended, how good its model was by each of the task's metrics, and payload sent until its
    end, since the beginning."""
    histories = [algorithm.history for algorithm in run.summary.algorithms.values()]
    accuracy = run.summary.criteria.metric.name == ACCURACY.name  # these two columns are older than ``scores``
    metrics = sorted({metric for history in histories for each in history for metric in each.scores})
    rows = [
        {
            "algorithm": name,
            "round": each.round + 1,
            "start_s": each.started_s,
            "end_s": each.due_s,
            "actual_s": each.actual_s,
            **({"accuracy": each.accuracy, "balanced_accuracy": each.balanced_accuracy} if accuracy else {}),
            "loss": each.loss,
            **{f"score_{metric}": each.scores.get(metric) for metric in metrics},
            "payload_bytes": each.payload_bytes,
            "payload_up_bytes": each.payload_up,
            "payload_down_bytes": each.payload_down,
            "official_bytes": each.official_bytes,
            **({"joules": each.joules} if each.joules is not None else {}),
        }
        for name, algorithm in run.summary.algorithms.items()
        for each in algorithm.history
    ]
    return _columns(rows)


def client_columns(run: RunRecord) -> Columns:
    """Each client over a whole run: where its time went in seconds, bytes both ways, memory in MiB, how it ended, the
    last model's metric for it (``ClientSpread``), and joules by cause where its power is known."""
    rows = []
    for name, algorithm in run.summary.algorithms.items():
        for client in algorithm.clients:
            row = {"algorithm": name, "client": client.name} | {key: getattr(client, key) for key in OF_CLIENT}
            if algorithm.client_spread:
                row[f"score_{algorithm.client_spread.metric}"] = client.score
            row |= {f"{cause}_s": seconds for cause, seconds in (client.latency_s or {}).items()}
            for size, both in asdict(client.bytes).items():
                row |= {f"{size}_{way}_bytes": count for way, count in asdict(both).items()}
            if client.joules:
                row |= {"joules": sum(client.joules.values())}
                row |= {f"{cause}_joules": joules for cause, joules in client.joules.items()}
                row |= {"battery_days": client.battery_days}
            rows.append(row)
    return _columns(rows)


def messages(run: RunRecord) -> Columns:
    """Messages and their bytes by client, round, kind and direction: ``up`` is what the client sent.

    A message belongs to the round that it names; 0 are those before the first. From one client to another it is in two
    rows.
    """
    found: dict[tuple[str, str, int, str, str], Counter[str]] = {}
    for name, events in run.timelines.items():
        clients = {node.name for node in run.manifest.clients}
        for event in events.of(Posted):
            for client, way in ((event.node, "up"), (event.destination, "down")):
                if client in clients:
                    row = found.setdefault((name, client, event.round + 1, event.kind, way), Counter())
                    row["messages"] += 1
                    row.update({size: getattr(event, size) for size in SIZES})
    keys = ("algorithm", "client", "round", "kind", "direction")
    return _columns(
        {**dict(zip(keys, key, strict=True)), **{each: counts[each] for each in ("messages", *SIZES)}}
        for key, counts in found.items()
    )


def computation_columns(run: RunRecord) -> Columns:
    """What was computed, by device and function: how often; work and emulated seconds, summed; the host's median."""
    return _columns(
        {"algorithm": name, **asdict(row)}
        for name, algorithm in run.summary.algorithms.items()
        for row in algorithm.computations
    )


def memory_columns(run: RunRecord) -> Columns:
    """What a client's tensors were at their most, by kind, beside what was measured of its process; MiB."""
    rows = []
    for name, algorithm in run.summary.algorithms.items():
        for client in algorithm.clients:
            kinds = {f"{kind}_mib": mib for kind, mib in (client.account_mib or {}).items()}
            kept = {key: getattr(client, key) for key in OF_MEMORY}
            rows.append({"algorithm": name, "client": client.name, **kept, **kinds})
    return _columns(rows)


def events(run: RunRecord, kind: type[Event]) -> Columns:
    """The events of one type as they were recorded (``emulator.ledger.events``), times in ns and sizes in bytes."""
    return _columns(
        {"algorithm": name, **{field: _plain(getattr(event, field)) for field in kind.__struct_fields__}}
        for name, found in run.timelines.items()
        for event in found.of(kind)
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else msgspec.to_builtins(value)


def _columns(rows: Iterable[Mapping[str, Any]]) -> Columns:
    """Rows turned into columns, in the order in which they first come; None where a row has none."""
    kept = list(rows)
    names = dict.fromkeys(name for row in kept for name in row)
    return {name: [row.get(name) for row in kept] for name in names}


TABLES = {
    "rounds": rounds,
    "clients": client_columns,
    "messages": messages,
    "computations": computation_columns,
    "memory": memory_columns,
}
