"""A run's manifest, read from its folder: of this version, whole, and with values of the kinds that views take."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from emulator.checks.health import LIMITS
from emulator.errors import UserError
from emulator.inputs.text_files import read
from emulator.ledger.events import SCHEMA
from emulator.validation import printable

LARGEST_BYTES = 2**30  # of a manifest: 10,000 clients take some 10 MB


class _NodeFacts(msgspec.Struct):
    name: str
    role: str = ""
    device: str = ""
    network: str = ""
    transport: str = ""
    cell: str = ""
    workers: int = 1
    up_bps: int = 0
    down_bps: int = 0
    up_channels: list[int] = []
    down_channels: list[int] = []
    budget_bytes: int | None = None
    training_bytes: int | None = None
    send_queue_bytes: int | None = None


class _Channel(msgspec.Struct):
    name: str
    bps: int


class _Trace(msgspec.Struct):
    starts_ns: list[int]
    values: list[int]
    length_ns: int


class _ClientSamples(msgspec.Struct):
    samples: int
    classes: dict[str, int]


class _Census(msgspec.Struct):
    dataset: str
    shape: list[int]
    names: list[str]
    partition: str
    remarks: list[str]
    train: _ClientSamples
    test: _ClientSamples
    clients: list[_ClientSamples]


class _Data(msgspec.Struct):
    data: _Census


class _Process(msgspec.Struct):
    host: str
    pid: int
    began: float


class _Manifest(msgspec.Struct):
    """The kinds of what views read of a manifest, whatever else it has; records made before have less."""

    algorithms: list[str]
    nodes: list[_NodeFacts]
    profile: str = ""
    clock: str | None = None
    seed: int = 1
    started: str = ""
    command: list[str] = []
    settings: dict[str, dict[str, Any]] = {}
    channels: list[_Channel] = []
    traces: list[_Trace] = []
    memory: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    profile_files: dict[str, str] = {}
    data: dict[str, Any] | None = None
    depends: dict[str, Any] | None = None
    process: _Process | None = None


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest; UserError where ``folder`` is none's."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(read(path, LARGEST_BYTES))
        schema = manifest["schema"]
        manifest["algorithms"], manifest["nodes"]
    except OSError:
        if (folder / "bench.json").exists():
            raise UserError(f"{folder}: is a bench: see its tables.md, or name one of its runs, in runs/") from None
        if inner := sorted(folder.glob("*/manifest.json")):  # as verify leaves them
            raise UserError(f"{folder}: holds runs: name one of them, such as {inner[0].parent}") from None
        raise UserError(f"{folder}: it has no manifest.json of a run; name a run's folder, as under runs/") from None
    except KeyError as error:
        raise UserError(f"{path}: lacks {error}; name a run's folder, as under runs/") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore it") from None
    if schema != SCHEMA:
        raise UserError(f"{path}: schema: is {schema!r}, and this version reads {SCHEMA!r}; take the one that wrote it")
    if wrong := _mistake(manifest) or _misnamed(manifest):
        raise UserError(f"{path}: {wrong}: restore it")
    scrubbed: dict[str, Any] = _scrubbed(manifest)
    return scrubbed


def _mistake(manifest: Mapping[str, Any]) -> str:
    """The first value of another kind than views take it for, after its key."""
    try:
        if (clock := manifest.get("clock")) and clock not in LIMITS:
            return f"clock: there is no {clock!r}"
        msgspec.convert(manifest, _Manifest)
        if data := manifest.get("data"):  # {} where nothing was prepared yet
            msgspec.convert({"data": data}, _Data)
    except msgspec.ValidationError as error:
        text, _, place = str(error).rpartition(" - at `$.")
        return f"{place.rstrip('`')}: {text}" if text else str(error)
    return ""


NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def _misnamed(manifest: Mapping[str, Any]) -> str:
    """A method or node whose name could be another path than its own in this folder."""
    named = [("algorithms", manifest["algorithms"]), ("nodes", [node["name"] for node in manifest["nodes"]])]
    found = [(key, name) for key, names in named for name in names if not NAME.fullmatch(name)]
    if not found:
        return ""
    return f"{found[0][0]}: there is a {printable(found[0][1])!r}; names are small letters, digits and hyphens"


def _scrubbed(value: Any) -> Any:
    """The same without control characters in its texts."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _scrubbed(item) for key, item in value.items()}
    return [_scrubbed(item) for item in value] if isinstance(value, list) else value
