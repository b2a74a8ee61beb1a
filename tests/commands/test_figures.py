"""Every figure of ``tables.csv`` is one that ``load`` gives, under the same name or by adding up its columns."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from runs import slower, write_run
from toy import edit, make_manifest, make_timeline

from algorithms import load
from emulator.analysis import model_memory
from emulator.analysis.metrics import FIGURES
from emulator.ledger.events import Evaluated, MemoryEstimated
from emulator.ledger.timeline import Timeline
from emulator.profiles.power import DevicePower, Graded
from emulator.profiles.reading import load_device, load_network
from emulator.report import record

LABELS = {"row", "algorithm", "name"}
SIZES, WAYS = ("payload", "framed", "wire"), ("up", "down")
Row = dict[str, str]
ACCOUNTS = [
    MemoryEstimated(
        node="supervisor",
        seq=1000 + i,
        due_ns=0,
        actual_ns=0,
        device=name,
        kinds={"parameters": 2**19},
        during="",
        needed_bytes=2**20,
    )
    for i, name in enumerate(sorted({node.device for node in make_manifest().nodes}))
]


def with_power() -> dict[str, Any]:
    """Nodes and scenario of a manifest whose devices and networks have power numbers."""
    nodes = [msgspec.to_builtins(node) for node in make_manifest(2).nodes]
    names, links = ([*dict.fromkeys(node[key] for node in nodes)] for key in ("device", "network"))
    power = DevicePower(idle=Graded(10**9), busy=Graded(2 * 10**9), battery=Graded(10**12))
    parts = {
        "description": "",
        "devices": [msgspec.to_builtins(msgspec.structs.replace(load_device(name), power=power)) for name in names],
        "networks": [msgspec.to_builtins(load_network(name)) for name in links],
        "cells": [],
        "host": None,
    }
    for node in nodes:
        node |= {"device_number": names.index(node["device"]), "network_number": links.index(node["network"])}
    return {"nodes": nodes, "scenario": parts}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy = Timeline([*edit(make_timeline(), lambda e: isinstance(e, Evaluated), lambda _: {"balanced": 0.5}), *ACCOUNTS])
    made = write_run(tmp_path / "mine", {"fedavg": toy, "sl": slower(toy, 20)}, clock="virtual", **with_power())
    record.rebuild(made)
    return made


def rows_of(columns: dict[str, list[Any]], **where: str) -> list[dict[str, Any]]:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


def test_every_figure_of_the_table_is_what_load_gives(folder: Path) -> None:
    run = load(folder)
    expected: dict[str, Callable[[Row], dict[str, Any]]] = {
        "algorithm": lambda row: of_method(run, row["algorithm"]),
        "kind": lambda row: of_kind(run, row["algorithm"], row["name"]),
        "client": lambda row: of_client(run, row["algorithm"], row["name"]),
    }
    with (folder / "tables.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["row"] for row in rows} == expected.keys()
    assert [head for head in rows[0] if not any(row[head] for row in rows)] == []  # no column goes unseen
    for row in rows:
        given = {key: value for key, value in expected[row["row"]](row).items() if value is not None}
        printed = {key: text for key, text in row.items() if text and key not in LABELS}
        assert printed == {key: str(value) for key, value in given.items()}


def of_client(run: Any, method: str, name: str) -> dict[str, Any]:
    (found,) = rows_of(run.clients(), algorithm=method, client=name)
    (memory,) = rows_of(run.memory(), algorithm=method, client=name)
    (client,) = [each for each in run.summary.algorithms[method].clients if each.name == name]
    causes = {f"{cause}_s": found[f"{cause}_s"] for cause in client.latency_s}
    kept = {key: value for key, value in found.items() if key not in (*causes, "algorithm", "client")}
    times = {"compute_s": client.compute_s, "transfer_s": client.transfer_s, "wait_s": client.wait_s}
    latencies = {f"latency_{key}": value for key, value in causes.items()}
    assert memory["peak_mib"] == found["peak_mib"]
    return kept | times | latencies | {"beside_mib": client.beside_mib}


def of_kind(run: Any, method: str, kind: str) -> dict[str, Any]:
    sent = rows_of(run.messages(), algorithm=method, kind=kind)
    found = {key: sum(row[key] for row in sent) for key in ("messages", "official_bytes")}
    for size in SIZES:
        for way in WAYS:
            found[f"{size}_{way}_bytes"] = sum(row[f"{size}_bytes"] for row in sent if row["direction"] == way)
    return found


def of_method(run: Any, method: str) -> dict[str, Any]:
    algorithm, need = run.summary.algorithms[method], model_memory.computed().methods[method]
    clients, last = rows_of(run.clients(), algorithm=method), rows_of(run.rounds(), algorithm=method)[-1]
    found = {"outcome": algorithm.outcome, "rounds": last["round"], "seconds_s": last["actual_s"]}
    found |= {key: last[key] for key in ("accuracy", "balanced_accuracy", "loss")}
    found |= {f"{size}_{way}_bytes": sum(c[f"{size}_{way}_bytes"] for c in clients) for size in SIZES for way in WAYS}
    found["official_bytes"] = sum(row["official_bytes"] for row in rows_of(run.messages(), algorithm=method))
    found["total_payload_bytes"] = sum(row["payload_bytes"] for row in rows_of(run.messages(), algorithm=method))
    for target, reached in algorithm.to_target.items():
        found |= {f"to_{target}_s": reached.seconds, f"to_{target}_bytes": reached.bytes}
    server = algorithm.server
    found |= {"server_busy_s": server.busy_s, "server_align_s": server.align_s, "server_held_mib": server.held_mib}
    found |= {"server_queue_wait_s": server.queue_wait_s, "server_align_wait_s": server.align_wait_s}
    found |= {key: max(client[key] for client in clients) for key in ("peak_mib", "needed_mib")}
    found["budget_share"] = max(client["peak_mib"] / client["budget_mib"] for client in clients)
    found |= {"clients": len(clients), "clients_that_fit": sum(client["outcome"] == "fits" for client in clients)}
    found |= {f"latency_{cause}_s": seconds for cause, seconds in algorithm.latency_s.items()}
    found |= {f"round_{cause}_s": seconds for cause, seconds in algorithm.round_latency_s.items()}
    found["round_s"] = FIGURES["s_per_round"].of(algorithm)
    shares = algorithm.client_rounds
    found["round_up_bytes"] = (last["payload_up_bytes"] - algorithm.initial_bytes.payload.up) / shares
    found["round_down_bytes"] = (last["payload_down_bytes"] - algorithm.initial_bytes.payload.down) / shares
    energy = algorithm.energy
    found |= {"joules": last["joules"], "round_joules": last["joules"] / energy.clients / algorithm.rounds}
    found |= {f"{cause}_joules": joules for cause, joules in energy.causes.items()}
    found |= {"least_joules": energy.least_joules, "most_joules": energy.most_joules}
    fit = model_memory.fitting(need, algorithm.clients)
    found |= {"model_tensors_mib": need.tensors_mib, "model_needed_mib": need.needed_mib}
    return found | {"model_fit_least": fit.least, "model_fit_most": fit.most}
