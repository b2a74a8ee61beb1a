"""The manifest of a run that is about to be played: the scenario, the settings, this host and its versions."""

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
from emulator.ledger.manifest import ChannelFacts, Manifest, NodeFacts, PlayedBy, TracePlace
from emulator.network.topology import Channel, Topology, least_delay_ns
from emulator.piecewise import PointwiseMax, StepFunction
from emulator.profiles.scenario import ClientSpec, Device, Network, Scenario, ServerSpec

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
    **more: Any,
) -> Manifest:
    """What is known of a run before its data are prepared; ``more``: further fields."""
    return msgspec.convert(
        {
            "schema": SCHEMA,
            "command": ["run.py", *argv],
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "process": PlayedBy(platform.node(), os.getpid(), psutil.Process().create_time()),
            "profile": scenario.name,
            "profile_files": scenario.files,
            "profile_notes": list(scenario.notes),
            "clock": clock,
            "seed": seed,
            "dilation": dilation,
            "algorithms": list(settings),
            "settings": settings,
            **_network(scenario, seed),
            "memory": {"cap": memory_cap, "limit": LIMIT if memory_cap == "rlimit" else None, "malloc": MALLOC},
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
            **more,
        },
        Manifest,
    )


def _network(scenario: Scenario, seed: int) -> dict[str, Any]:
    """Nodes, channels between them, and the scenario they are of; devices, links and traces stand once each."""
    topology = Topology(scenario, seed)
    traces: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []
    numbers = {channel.name: number for number, channel in enumerate(topology.channels)}
    devices: dict[Device, int] = {}
    links: dict[int, tuple[int, Network]] = {}  # by identity, since clients share them: they may hold hours of a trace

    def place(steps: StepFunction) -> TracePlace:
        trace = (steps.starts_ns, steps.values, steps.length_ns)
        if trace not in traces:
            traces.append(trace)
        return TracePlace(traces.index(trace), steps.ahead_ns)

    def plain(value: Any) -> Any:
        if isinstance(value, StepFunction):
            return msgspec.to_builtins(place(value))
        if isinstance(value, msgspec.Struct):
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        return value

    def node(spec: ClientSpec | ServerSpec) -> NodeFacts:
        end = topology.links[spec.name]
        client = spec if isinstance(spec, ClientSpec) else None
        return NodeFacts(
            name=spec.name,
            role=spec.role,
            device=spec.device.name,
            network=end.network.name,
            transport=end.network.transport,
            workers=spec.workers,
            up_bps=end.network.up.rate_bps,
            down_bps=end.network.down.rate_bps,
            up_one_way_ns=least_delay_ns(end.network.up),
            down_one_way_ns=least_delay_ns(end.network.down),
            up_channels=[numbers[channel.name] for channel in end.up.channels],
            down_channels=[numbers[channel.name] for channel in end.down.channels],
            budget_bytes=client.device.budget_bytes if client else None,
            training_bytes=spec.device.budget_bytes,
            send_queue_bytes=spec.device.send_queue_bytes,
            cell=client.cell if client else "",
            absence=client.absence if client else None,
            device_number=devices.setdefault(spec.device, len(devices)),
            network_number=links.setdefault(id(spec.network), (len(links), spec.network))[0],
        )

    def channel(made: Channel) -> ChannelFacts:
        facts = ChannelFacts(name=made.name, bps=made.peak_bps)
        if isinstance(made.rates, PointwiseMax):
            return msgspec.structs.replace(facts, larger_of=(place(made.rates.first), place(made.rates.second)))
        found = place(made.rates) if made.rates else None
        return msgspec.structs.replace(facts, **msgspec.structs.asdict(found)) if found else facts

    return {
        "nodes": [node(scenario.server), *map(node, scenario.clients)],
        "channels": [channel(made) for made in topology.channels],
        "scenario": {
            "description": scenario.description,
            "devices": list(devices),
            "networks": [plain(network) for _, network in links.values()],
            "cells": [plain(cell) for cell in scenario.cells],
            "host": scenario.host,
        },
        "traces": [StepFunction(*trace) for trace in traces],
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
