"""The run's figures as ``tables.csv``, from ``summary.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from emulator.analysis import model_memory
from emulator.analysis.client_memory import budget_share, clients_that_fit
from emulator.analysis.communication import SIZES, WAYS
from emulator.analysis.latency import CAUSES
from emulator.analysis.metrics import FIGURES, joules_per_share, payload_per_share, seconds_per_round
from emulator.analysis.summary import AlgorithmSummary, BothWays, ByteSizesBothWays, Size, Summary
from emulator.energy.consumption import CAUSES as CAUSES_OF_ENERGY
from emulator.tables.communication import sent
from emulator.tables.table import Value, csv_text

OF_ACCURACY = ("accuracy", "balanced_accuracy")  # what a task that is judged by accuracy has in this file


def to_csv(summary: Summary) -> str:
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
    criteria = summary.criteria
    metrics, goals = [metric.name for metric in criteria.metrics], criteria.goals
    headers += [*(OF_ACCURACY if metrics[0] == OF_ACCURACY[0] else metrics), "loss"]
    headers += ["messages", "official_bytes", *(f"{size}_{way}_bytes" for size, way in sizes)]
    headers += [f"to_{goal.key(1)}_{unit}" for goal in goals for unit in ("s", "bytes")]
    headers += ["server_busy_s", "server_align_s", "server_queue_wait_s", "server_align_wait_s", "server_held_mib"]
    headers += ["budget_mib", "baseline_mib", "peak_mib", "tensors_mib", "beside_mib", "needed_mib"]
    headers += ["compute_s", "transfer_s", "wait_s", *(f"latency_{cause}_s" for cause in CAUSES)]
    headers += ["round_s", *(f"round_{cause}_s" for cause in CAUSES), "round_up_bytes", "round_down_bytes"]
    headers += ["total_payload_bytes", "budget_share", "clients_that_fit", "clients"]
    headers += ["model_tensors_mib", "model_needed_mib", "model_fit_least", "model_fit_most"]
    headers += ["joules", "least_joules", "most_joules", *(f"{cause}_joules" for cause in CAUSES_OF_ENERGY)]
    headers += ["round_joules", "battery_days"]
    model = model_memory.of(summary)
    rows: list[dict[str, Value]] = []
    for name, algorithm in summary.algorithms.items():
        about = {"row": "algorithm", "algorithm": name, "seconds_s": algorithm.seconds}
        row = _fields(algorithm) | about | _sizes(algorithm.bytes) | _by_cause("latency", algorithm.latency_s)
        row |= {name: algorithm.scores.get(name) for name in metrics}
        for goal in goals:
            key, reached = goal.key(1), algorithm.reached(goal)
            row |= {f"to_{key}_s": reached.seconds, f"to_{key}_bytes": reached.bytes} if reached else {}
        server = _fields(algorithm.server) if algorithm.server else {}
        row |= {f"server_{key}": value for key, value in server.items()}
        row |= _energy(algorithm)
        rows.append(row | _printed(algorithm) | _with_model(algorithm, model.methods.get(name) if model else None))
        for kind, found in algorithm.by_kind.items():
            row = {"row": "kind", "algorithm": name, "name": kind, "messages": found.messages}
            row |= {f"{size}_{way}_bytes": sent(algorithm.clients, kind, size, way) for size in SIZES for way in WAYS}
            rows.append(row | {"official_bytes": found.official})
        for client in algorithm.clients:
            about = {"row": "client", "algorithm": name}
            row = _fields(client) | about | _sizes(client.bytes) | _by_cause("latency", client.latency_s)
            rows.append(row | (_joules(client.joules) if client.joules else {}))
    return csv_text(headers, ([row.get(head) for head in headers] for row in rows))


def _fields(of: msgspec.Struct) -> dict[str, Value]:
    """Its numbers and words, by their names in the summary."""
    return {key: value for key, value in msgspec.structs.asdict(of).items() if isinstance(value, int | float | str)}


def _sizes(both: ByteSizesBothWays) -> dict[str, Value]:
    sizes: dict[Size, BothWays] = {"payload": both.payload, "framed": both.framed, "wire": both.wire}
    return {f"{key}_{way}_bytes": count for key, ways in sizes.items() for way, count in _fields(ways).items()}


def _by_cause(what: str, split: Mapping[str, float] | None) -> dict[str, Value]:
    return {f"{what}_{cause}_s": seconds for cause, seconds in (split or {}).items()}


def _joules(causes: Mapping[str, float]) -> dict[str, Value]:
    """All of them, and each cause's."""
    return {"joules": sum(causes.values()), **{f"{cause}_joules": causes[cause] for cause in CAUSES_OF_ENERGY}}


def _energy(algorithm: AlgorithmSummary) -> dict[str, Value]:
    """Joules of all clients whose power is known, until the last round's end; ``round_joules``: of one and a round."""
    if (energy := algorithm.energy) is None:
        return {}
    ends: dict[str, Value] = {"least_joules": energy.least_joules, "most_joules": energy.most_joules}
    return _joules(energy.causes) | ends | {"joules": energy.joules, "round_joules": joules_per_share(algorithm)}


def _printed(algorithm: AlgorithmSummary) -> dict[str, Value]:
    """What the tables that a run prints say of a method and its other columns do not."""
    ways = {f"round_{way}_bytes": payload_per_share(algorithm, way) for way in WAYS}
    return (
        _by_cause("round", algorithm.round_latency_s)
        | ways
        | {
            "round_s": seconds_per_round(algorithm),
            "peak_mib": FIGURES["peak_mib"].of(algorithm),
            "needed_mib": FIGURES["needed_mib"].of(algorithm),
            "total_payload_bytes": algorithm.total_bytes.payload,
            "budget_share": budget_share(algorithm),
            "clients_that_fit": clients_that_fit(algorithm.clients),
            "clients": len(algorithm.clients),
        }
    )


def _with_model(algorithm: AlgorithmSummary, need: model_memory.Need | None) -> dict[str, Value]:
    if need is None:
        return {}
    fit = model_memory.fitting(need, algorithm.clients)
    sizes = {"model_tensors_mib": need.tensors_mib, "model_needed_mib": need.needed_mib}
    return {**sizes, "model_fit_least": fit.least, "model_fit_most": fit.most}
