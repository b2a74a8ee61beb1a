"""A run's folder: manifest before anything starts; summary and tables from the ledger, whenever it ended."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import psutil

from emulator import sources
from emulator.analysis import clients_data
from emulator.analysis.summary import summarize
from emulator.checks.clock_agreement import Comparison, sheet, verdict_of
from emulator.checks.invariants import Sorted
from emulator.compute.memory import LIMIT_FACTOR, LIMIT_SPARE_BYTES, MALLOC
from emulator.dashboard.follow import read_manifest
from emulator.errors import UserError
from emulator.host import cgroups
from emulator.host.device_profile import cpu_name
from emulator.ledger.events import SCHEMA, AnyEvent, merged_lines, read_merged, read_timeline
from emulator.network.topology import Topology, least_delay_ns
from emulator.piecewise import Larger, Steps
from emulator.profiles.scenario import ClientSpec, Scenario, ServerSpec
from emulator.tables import run as tables
from emulator.tables.table import markdown

MERGED = "ledger.jsonl"
WRITTEN = (MERGED, "summary.json", "tables.md", "tables.csv")
LIMIT = f"RLIMIT_DATA: budget x {LIMIT_FACTOR} + {LIMIT_SPARE_BYTES} B"
PACKAGES = (*("splitbed", "torch", "torchvision", "pillow", "pyzmq", "msgpack", "msgspec", "numpy", "psutil", "rich"),)


def open_folder(out: str | Path | None, profile: str, what: str) -> Path:
    """A new, empty folder: ``out``, or ``runs/<time>-<profile>-<what>``; UserError where it cannot be."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(profile).stem}-{what}"
    folder = Path(out) if out else Path("runs") / stem
    try:
        if not out:
            return _first_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(
                f"--out {folder}: the folder is not empty and nothing recorded is overwritten; name a new one"
            )
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); name a folder that can") from None
    return folder


def _first_free(folder: Path) -> Path:
    """``folder``, made now, or where another run has begun in the same second, it with a number."""
    for number in itertools.count(1):
        free = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):
            free.mkdir(parents=True)
            return free
    raise AssertionError


def withdraw_folder(folder: Path, refused: Iterable[str] = ()) -> None:
    """Remove what ``open_folder`` and ``write_manifest`` made, and the ledgers of the algorithms ``refused``, where
    nothing else is in it."""
    for name in refused:
        shutil.rmtree(folder / "ledger" / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / "ledger").rmdir()
        (folder / "manifest.json").unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


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
            "memory_allowed_mib": cgroups.memory().limit_bytes // 2**20,
            "system": f"{platform.system()} {platform.release()}",
        },
    }


def _node(spec: ClientSpec | ServerSpec, topology: Topology) -> dict[str, Any]:
    end = topology.ends[spec.name]
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

    def followed(rates: Steps) -> dict[str, int]:
        steps = (rates.starts_ns, rates.values, rates.length_ns)
        if steps not in traces:
            traces.append(steps)
        return {"trace": traces.index(steps), "ahead_ns": rates.ahead_ns}

    channels = []
    for channel in topology.channels:
        described: dict[str, Any] = {"name": channel.name, "bps": channel.peak_bps}
        if isinstance(channel.rates, Larger):
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


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """The first thing in a run's folder, beside an empty ledger; written anew once all defaults are known."""
    (folder / "ledger").mkdir(exist_ok=True)
    new = folder / "manifest.json.new"
    new.write_text(json.dumps(manifest, indent=1) + "\n")
    new.replace(folder / "manifest.json")


def read_timelines(folder: Path, manifest: dict[str, Any]) -> dict[str, list[AnyEvent]]:
    """The merged events of each algorithm that has begun, in the order of the manifest: from its folder, or where that
    is gone from ``ledger.jsonl``."""
    folders = {name: folder / "ledger" / name for name in manifest["algorithms"]}
    merged = folder / MERGED
    kept = read_merged(merged) if merged.exists() and not all(path.is_dir() for path in folders.values()) else {}
    return {
        name: read_timeline(path) if path.is_dir() else kept[name]
        for name, path in folders.items()
        if path.is_dir() or name in kept
    }


class Run(NamedTuple):
    """A run that has ended."""

    summary: dict[str, Any]
    timelines: dict[str, list[AnyEvent]]


def read(folder: Path) -> Run:
    """A run from its folder."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return Run(json.loads((folder / "summary.json").read_text()), read_timelines(folder, manifest))


class Recorded(NamedTuple):
    """A run as its manifest and ledger say it was, whether it has ended, was cut short, or still goes on."""

    manifest: dict[str, Any]
    timelines: Mapping[str, Sequence[AnyEvent]]
    summary: dict[str, Any]


def recorded(folder: Path) -> Recorded:
    """A run from its folder, for views; UserError where the folder holds none."""
    manifest = read_manifest(folder)
    gc.disable()  # a million events that live until the end would be looked through again and again
    try:
        timelines = {name: Sorted(events) for name, events in read_timelines(folder, manifest).items()}
    except OSError as error:
        raise UserError(f"{folder}: its ledger cannot be read ({error.strerror}); name a run's folder") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: is no record that this version can read ({error}); name a run's folder") from None
    else:
        return Recorded(manifest, timelines, summarize(manifest, timelines))
    finally:
        gc.enable()


def write_comparison(folder: Path, comparisons: dict[str, Comparison]) -> None:
    """``verify.json`` and ``verify.md`` above the folders of the two runs."""
    found = {
        "schema": SCHEMA,
        "verdict": verdict_of(comparisons),
        "algorithms": {name: msgspec.to_builtins(comparison) for name, comparison in comparisons.items()},
    }
    (folder / "verify.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "verify.md").write_text("\n".join(markdown(sheet(comparisons))))


@functools.cache
def made_by() -> str:
    """A digest of what makes a summary of a ledger: where it differs, figures of the same ledger may."""
    return hashlib.sha256(json.dumps(sources.digests("emulator.analysis.summary")).encode()).hexdigest()[:16]


def rebuild(folder: Path) -> Recorded:
    """Write what is ``WRITTEN`` from the ledger. UserError where the folder holds no run, or cannot be written."""
    run = recorded(folder)
    with _anew(folder / MERGED, keeps=True) as merged:
        for name, events in run.timelines.items():
            merged.writelines(merged_lines(name, events))
    write_anew(folder / "summary.json", json.dumps({**run.summary, "made_by": made_by()}, indent=1) + "\n")
    write_anew(folder / "tables.md", tables.to_markdown(run.summary))
    write_anew(folder / "tables.csv", tables.to_csv(run.summary))
    if data := run.summary["data"]:
        write_anew(folder / clients_data.NAME, clients_data.to_csv(data))
    return run


def conclude(folder: Path) -> dict[str, Any]:
    """The same at the end of a run; its summary."""
    return rebuild(folder).summary


def write_anew(path: Path, text: str) -> None:
    """Write a file whole or not at all; UserError where it cannot be."""
    with _anew(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def _anew(path: Path, keeps: bool = False) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when it is whole; with ``keeps`` only if it is no shorter."""
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("wb") as file:
            yield file
        if keeps and path.exists() and new.stat().st_size < path.stat().st_size:
            raise UserError(
                f"{path}: holds more than the files of ledger/ beside it, some of which are gone or cut; restore them, "
                f"or remove them all: it is read in their place"
            )
        new.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); copy the run to where you can") from None
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
