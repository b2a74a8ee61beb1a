"""A run's manifest: everything that is needed to play it again, as ``manifest.json`` holds it. Written and read here.

Records made before have less: what their manifests do not say is None, or empty.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from emulator.errors import UserError
from emulator.inputs.text_files import read
from emulator.ledger.census import Census, criteria_of
from emulator.ledger.criteria import Criteria
from emulator.ledger.events import SCHEMA
from emulator.piecewise import PointwiseMax, StepFunction, constant
from emulator.profiles.availability import Absence
from emulator.profiles.scenario import Cell, ClientSpec, Device, Network, Scenario, ServerSpec
from emulator.validation import printable

LARGEST_BYTES = 2**30  # of a manifest: 10,000 clients take some 10 MB
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


class NodeFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node: its device and link by name and, where the record has them, by number in the manifest's ``parts``.

    ``up_channels``, ``down_channels``: numbers of the channels that its messages leave and arrive by, in order.
    """

    name: str
    role: str = ""  # "client" | "server"
    device: str = ""
    network: str = ""
    transport: str = ""
    workers: int | None = None
    up_bps: int | None = None
    down_bps: int | None = None
    up_one_way_ns: int | None = None  # the least
    down_one_way_ns: int | None = None
    up_channels: list[int] = []
    down_channels: list[int] = []
    budget_bytes: int | None = None  # a client's cap
    training_bytes: int | None = None  # what its device has to train in
    send_queue_bytes: int | None = None
    cell: str = ""
    absence: Absence | None = None
    device_number: int | None = None
    network_number: int | None = None


class TracePlace(Struct, frozen=True):
    """One of the manifest's ``traces``, begun ``ahead_ns`` within it."""

    trace: int
    ahead_ns: int = 0


class ChannelFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A capacity between nodes: ``bps`` at most; where it varies, the trace that it follows, or the larger of two."""

    name: str
    bps: int
    trace: int | None = None
    ahead_ns: int = 0
    larger_of: tuple[TracePlace, TracePlace] | None = None


class ScenarioParts(Struct, frozen=True, kw_only=True):
    """A scenario's devices and links, once each, and its cells; in links and cells a trace is a ``TracePlace``."""

    description: str
    devices: list[Device]
    networks: list[dict[str, Any]]
    cells: list[dict[str, Any]]
    host: Device | None


class PlayedBy(Struct, frozen=True):
    """The process that plays a run, and when it began, s since the epoch."""

    host: str
    pid: int
    began: float


class MemoryPolicy(Struct, frozen=True, kw_only=True):
    """``cap``: "rlimit", or "account" where none is enforced; ``limit``: its rule; ``malloc``: options of it."""

    cap: str | None = None
    limit: str | None = None
    malloc: dict[str, int] = {}


class Dependencies(Struct, frozen=True, kw_only=True):
    """What a run's figures depend on besides: SHA-256 of the scenario as it was read and of the data, how this CPU's
    kernels are chosen, and by method (and for ``emulator``) that of each source file."""

    scenario: str
    data: dict[str, Any]
    arithmetic: dict[str, Any]
    sources: dict[str, dict[str, str]]


class Manifest(Struct, frozen=True, kw_only=True, dict=True):
    """``run``: the configuration, by knob. ``clock``: "dry-run" where nothing is trained. ``settings``: of each method,
    its ``task`` among them; complete once the data are prepared. ``data``: their census, from then on.
    ``abandoned``: by method, attempts at dilations that were too small, of which no figure is made. ``rounds`` and
    ``stop_after_s`` are those of older records, in which all methods had the same."""

    schema: str
    command: list[str] = []
    run: dict[str, Any] = {}
    started: str = ""
    process: PlayedBy | None = None
    profile: str | None = None
    profile_files: dict[str, str] = {}
    profile_notes: list[str] = []
    clock: Literal["real", "virtual", "dry-run"] | None = None
    seed: int = 1
    dilation: int | None = None
    abandoned: dict[str, list[str]] = {}
    algorithms: list[str]
    settings: dict[str, dict[str, Any]] = {}
    rounds: int | None = None
    stop_after_s: float | None = None
    nodes: list[NodeFacts]
    channels: list[ChannelFacts] = []
    traces: list[StepFunction] = []
    parts: ScenarioParts | None = msgspec.field(default=None, name="scenario")
    memory: MemoryPolicy = MemoryPolicy()
    compute: str = ""
    threads: dict[str, int] = {}
    versions: dict[str, Any] = {}
    host: dict[str, Any] = {}
    experiment: dict[str, Any] | None = None
    data: Census | None = None
    depends: Dependencies | None = None

    @cached_property
    def criteria(self) -> Criteria:
        """What models are judged by; until the data are prepared, and of older records, accuracy."""
        return criteria_of(self.data.judged if self.data else None)

    @cached_property
    def by_name(self) -> dict[str, NodeFacts]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @property
    def clients(self) -> list[NodeFacts]:
        return [node for node in self.nodes if node.role == "client"]

    @property
    def servers(self) -> list[NodeFacts]:
        return [node for node in self.nodes if node.role == "server"]

    def rates_of(self, number: int) -> StepFunction | PointwiseMax:
        """What a channel can carry over time, in bit/s."""
        channel = self.channels[number]
        if channel.larger_of:
            return PointwiseMax(*(self.traces[place.trace].shifted(place.ahead_ns) for place in channel.larger_of))
        if channel.trace is not None:
            return self.traces[channel.trace].shifted(channel.ahead_ns)
        return constant(channel.bps)

    @cached_property
    def scenario(self) -> Scenario | None:
        """The scenario as it was played, every number of it; None in a record that does not hold it."""
        if self.parts is None:
            return None
        networks = [msgspec.convert(self._followed(network), Network) for network in self.parts.networks]
        specs: list[ClientSpec | ServerSpec] = []
        for node in self.nodes:
            assert node.device_number is not None and node.network_number is not None
            device, network = self.parts.devices[node.device_number], networks[node.network_number]
            if node.role == "server":
                specs.append(ServerSpec(node.name, device, network, node.workers or 1))
            else:
                specs.append(ClientSpec(node.name, len(specs) - 1, device, network, node.cell, node.absence))
        server, *clients = specs
        assert isinstance(server, ServerSpec)
        return Scenario(
            self.profile or "",
            self.parts.description,
            server,
            tuple(client for client in clients if isinstance(client, ClientSpec)),
            self.profile_files,
            tuple(msgspec.convert(self._followed(cell), Cell) for cell in self.parts.cells),
            self.parts.host,
            tuple(self.profile_notes),
        )

    def _followed(self, value: Any) -> Any:
        """The same with the traces themselves."""
        if not isinstance(value, dict):
            return value
        if value.keys() == {"trace", "ahead_ns"}:
            return self.traces[value["trace"]]
        return {key: self._followed(item) for key, item in value.items()}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """The first thing in a run's folder, beside an empty ledger; written anew once all defaults are known."""
    (folder / "ledger").mkdir(exist_ok=True)
    new = folder / "manifest.json.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    new.replace(folder / "manifest.json")


def read_manifest(folder: Path) -> Manifest:
    """A run's manifest; UserError where ``folder`` is none's, or it is not of this version, or not whole."""
    path = folder / "manifest.json"
    try:
        found: dict[str, Any] = json.loads(read(path, LARGEST_BYTES))
        schema = found["schema"]
        found["algorithms"], found["nodes"]
        found["data"] = found.get("data") or None  # {} in older records where nothing was prepared yet
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
    try:
        manifest = msgspec.convert(_scrubbed(found), Manifest)
        if wrong := _misnamed(manifest):
            raise UserError(f"{path}: {wrong}: restore it")
        assert manifest.scenario is None or manifest.scenario.members
    except msgspec.ValidationError as error:
        text, _, place = str(error).rpartition(" - at `$.")
        wrong = f"{place.rstrip('`')}: {text}" if text else str(error)
        raise UserError(f"{path}: {wrong}: restore it") from None
    except (AssertionError, LookupError, TypeError, ValueError):
        raise UserError(f"{path}: scenario: does not belong to the nodes: restore it") from None
    return manifest


def _misnamed(manifest: Manifest) -> str:
    """A method or node whose name could be another path than its own in this folder."""
    named = [("algorithms", manifest.algorithms), ("nodes", [node.name for node in manifest.nodes])]
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
