"""The manifest of a run: everything that is needed to play it again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import Any

import msgspec
import psutil

from emulator import sources
from emulator.compute.memory import LIMIT_FACTOR, LIMIT_SPARE_BYTES, MALLOC
from emulator.host import cgroups
from emulator.host.device_profile import cpu_name
from emulator.ledger.events import SCHEMA
from emulator.network.topology import Topology, least_delay_ns
from emulator.piecewise import PointwiseMax, StepFunction
from emulator.profiles.scenario import ClientSpec, Scenario, ServerSpec

LIMIT = f"RLIMIT_DATA: budget x {LIMIT_FACTOR} + {LIMIT_SPARE_BYTES} B"


PACKAGES = (*("splitbed", "torch", "torchvision", "pillow", "pyzmq", "msgpack", "msgspec", "numpy", "psutil", "rich"),)


def make_manifest(
    scenario: Scenario,
    settings: dict[str, dict[str, Any]],
    *,
    argv: list[str],
    clock: str,
    seed: int,
    dilation: int | None,
    memory_cap: str = "rlimit",
) -> dict[str, Any]:
    """Everything that is needed to run it again, as ``manifest.json`` holds it."""
    topology = Topology(scenario, seed)
    return {
        "schema": SCHEMA,
        "command": ["run.py", *argv],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "process": {"host": platform.node(), "pid": os.getpid(), "began": psutil.Process().create_time()},
        "profile": scenario.name,
        "profile_files": scenario.files,
        "profile_notes": list(scenario.notes),
        "clock": clock,
        "seed": seed,
        "dilation": dilation,
        "algorithms": list(settings),
        "settings": settings,
        "nodes": [_node(scenario.server, topology), *(_node(client, topology) for client in scenario.clients)],
        **_channels(topology),
        "memory": {
            "cap": memory_cap,
            "limit": LIMIT if memory_cap == "rlimit" else None,
            "malloc": MALLOC,
        },
        "compute": f"measured, by the ratio to {scenario.host.name}" if scenario.host else "counted",
        "threads": {"torch_threads_a_node": 1},
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
            "source": sources.project_digest(),
        },
        "host": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "cores_allowed": cgroups.cores(),
            "memory_mib": psutil.virtual_memory().total // 2**20,
            "memory_allowed_mib": cgroups.memory_limit().limit_bytes // 2**20,
            "system": f"{platform.system()} {platform.release()}",
        },
    }


def _node(spec: ClientSpec | ServerSpec, topology: Topology) -> dict[str, Any]:
    end = topology.links[spec.name]
    network, numbers = end.network, {channel.name: i for i, channel in enumerate(topology.channels)}
    node = {
        "name": spec.name,
        "role": "server" if isinstance(spec, ServerSpec) else "client",
        "device": spec.device.name,
        "network": network.name,
        "transport": network.transport,
        "workers": spec.workers if isinstance(spec, ServerSpec) else 1,
        "up_bps": network.up.rate_bps,
        "down_bps": network.down.rate_bps,
        "up_one_way_ns": least_delay_ns(network.up),
        "down_one_way_ns": least_delay_ns(network.down),
        "up_channels": [numbers[channel.name] for channel in end.up.channels],
        "down_channels": [numbers[channel.name] for channel in end.down.channels],
        "budget_bytes": None if isinstance(spec, ServerSpec) else spec.device.budget_bytes,
        "training_bytes": spec.device.budget_bytes,
        "send_queue_bytes": spec.device.send_queue_bytes,
    }
    if isinstance(spec, ClientSpec) and spec.cell:
        node["cell"] = spec.cell
    if isinstance(spec, ClientSpec) and spec.absence:
        node["absence"] = msgspec.to_builtins(spec.absence)
    return node


def _channels(topology: Topology) -> dict[str, Any]:
    """The capacities between nodes; those that follow the same trace from different places on share its steps."""
    traces: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []

    def followed(rates: StepFunction) -> dict[str, int]:
        steps = (rates.starts_ns, rates.values, rates.length_ns)
        if steps not in traces:
            traces.append(steps)
        return {"trace": traces.index(steps), "ahead_ns": rates.ahead_ns}

    channels = []
    for channel in topology.channels:
        described: dict[str, Any] = {"name": channel.name, "bps": channel.peak_bps}
        if isinstance(channel.rates, PointwiseMax):
            described["larger_of"] = [followed(rates) for rates in (channel.rates.first, channel.rates.second)]
        elif channel.rates is not None:
            described |= followed(channel.rates)
        channels.append(described)
    keys = ("starts_ns", "values", "length_ns")
    return {"channels": channels, "traces": [dict(zip(keys, steps, strict=True)) for steps in traces]}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
