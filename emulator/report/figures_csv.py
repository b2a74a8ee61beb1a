"""The run's figures as ``tables.csv``, from ``summary.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.analysis import model_memory
from emulator.analysis.client_memory import budget_share, clients_that_fit
from emulator.analysis.communication import SIZES
from emulator.analysis.latency import CAUSES
from emulator.analysis.metrics import most, payload_per_share, seconds_per_round, total_bytes
from emulator.tables import communication
from emulator.tables.table import Value, csv_text

Json = Mapping[str, Any]


def to_csv(summary: Json) -> str:
    """Long form: a row for each algorithm, then for its kinds of messages, then for its clients.

    Cells that do not apply are empty. A client's rows have its own bytes and times, an algorithm's the totals over
    clients, but for ``latency_..._s``, the mean over clients, and peak and need of memory, the largest over clients.
    Bytes are whole bytes. What ``overview`` prints besides, in rows of algorithms: ``round_..._s``, the same of a mean
    round; ``round_up_bytes`` and ``round_down_bytes``, of a client in a round in which it sent something, without
    initial weights; ``total_payload_bytes``, each message once; ``budget_share``, the largest share of a budget; how
    many clients fit; and with a paper's model (``model_memory``) what a client needs, and how many would fit for sure
    and at most.
    """
    sizes = [(size, way) for size in SIZES for way in ("up", "down")]
    headers = ["row", "algorithm", "name", "device", "network", "outcome", "rounds", "seconds_s"]
    headers += ["accuracy", "balanced_accuracy", "loss"]
    headers += ["messages", "official_bytes", *(f"{size}_{way}_bytes" for size, way in sizes)]
    headers += ["to_0.85_s", "to_0.85_bytes", "to_0.9_s", "to_0.9_bytes"]
    headers += ["server_busy_s", "server_align_s", "server_queue_wait_s", "server_align_wait_s", "server_held_mib"]
    headers += ["budget_mib", "baseline_mib", "peak_mib", "tensors_mib", "beside_mib", "needed_mib"]
    headers += ["compute_s", "transfer_s", "wait_s", *(f"latency_{cause}_s" for cause in CAUSES)]
    headers += ["round_s", *(f"round_{cause}_s" for cause in CAUSES), "round_up_bytes", "round_down_bytes"]
    headers += ["total_payload_bytes", "budget_share", "clients_that_fit", "clients"]
    headers += ["model_tensors_mib", "model_needed_mib", "model_fit_least", "model_fit_most"]
    model = model_memory.of(summary)
    rows: list[dict[str, Value]] = []
    for name, algorithm in summary["algorithms"].items():
        row = {
            key: algorithm[key]
            for key in ("outcome", "rounds", "accuracy", "balanced_accuracy", "loss", "official_bytes")
        }
        row |= {"row": "algorithm", "algorithm": name, "seconds_s": algorithm["seconds"], **_latencies(algorithm)}
        row |= {f"{size}_{way}_bytes": algorithm["bytes"][size][way] for size, way in sizes}
        for target, reached in algorithm["to_target"].items():
            row[f"to_{target}_s"] = reached["seconds"] if reached else ""
            row[f"to_{target}_bytes"] = reached["bytes"] if reached else ""
        for key in ("busy_s", "align_s", "queue_wait_s", "align_wait_s", "held_mib"):
            row[f"server_{key}"] = (algorithm["server"] or {}).get(key, "")
        rows.append(row | _printed(algorithm) | _with_model(algorithm, model.methods.get(name) if model else None))
        for kind, sent in communication.kinds(algorithm).items():
            row = {"row": "kind", "algorithm": name, "name": kind, "messages": sent["messages"]}
            row |= {f"{size}_{way}_bytes": sent[way][size] for size, way in sizes}
            rows.append(row | {"official_bytes": sent["official"]})
        for client in algorithm["clients"]:
            row = {key: value for key, value in client.items() if key in headers}
            row |= {"row": "client", "algorithm": name, **_latencies(client)}
            row |= {f"{size}_{way}_bytes": client["bytes"][size][way] for size, way in sizes}
            rows.append(row)
    return csv_text(headers, ([row.get(head) for head in headers] for row in rows))


def _latencies(entry: Json) -> dict[str, float]:
    return {f"latency_{cause}_s": seconds for cause, seconds in (entry["latency_s"] or {}).items()}


def _printed(algorithm: Json) -> dict[str, Any]:
    """What the tables that a run prints say of a method and its other columns do not."""
    split = algorithm["round_latency_s"] or {}
    row: dict[str, Any] = {f"round_{cause}_s": seconds for cause, seconds in split.items()}
    row |= {f"round_{way}_bytes": payload_per_share(algorithm, way) for way in ("up", "down")}
    row |= {key: most(algorithm, key) for key in ("peak_mib", "needed_mib")}
    row |= {"round_s": seconds_per_round(algorithm), "total_payload_bytes": total_bytes(algorithm, "payload")}
    fit = clients_that_fit(algorithm["clients"])
    return row | {
        "budget_share": budget_share(algorithm),
        "clients_that_fit": fit,
        "clients": len(algorithm["clients"]),
    }


def _with_model(algorithm: Json, need: model_memory.Need | None) -> dict[str, Any]:
    if need is None:
        return {}
    fit = model_memory.fitting(need, algorithm["clients"])
    sizes = {"model_tensors_mib": need.tensors_mib, "model_needed_mib": need.needed_mib}
    return {**sizes, "model_fit_least": fit.least, "model_fit_most": fit.most}
