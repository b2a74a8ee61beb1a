"""Networks, devices and scenarios: TOML files in human units, typed integers (ns, bytes, bit/s) out.

Every number in a file has its unit in its key, and carries its source and grade::

    up_mbps = { value = 2.0, grade = "R", source = "about 40 % of the Cat-1bis peak", date = "2026-11" }

A bare ``up_mbps = 2.0`` is read too, and shown as having no source. Files are read with exact decimals, so 0.026
Mbit/s is 26,000 bit/s; a value that is no whole number of bit/s, ns or bytes is refused rather than rounded.
``netprofiles/README.md`` describes the format. Every mistake in a file raises ``ProfileError``: one line with the
file, the key and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

from msgspec import Struct

from emulator.profile_files import (
    KINDS,
    DeviceFile,
    Document,
    NetworkFile,
    Number,
    ScenarioFile,
    find,
    is_path,
    profile_error,
    shipped,
    unit_of,
    whole,
)
from emulator.steps import Steps

MAX_CLIENTS = 10_000  # every client is a process of the operating system; more is a slip of the finger


class Direction(Struct, frozen=True):
    """One direction of a link: rate in bit/s, one-way delay in ns, jitter (scale of |N(0, σ)|) in ns, loss in 10^-9.

    Where the link follows a trace, ``rates`` are its rates in bit/s and ``rate_bps`` the largest of them; ``delays``
    (ns) and ``losses`` (10^-9) are there where the trace has them.
    """

    rate_bps: int
    one_way_ns: int
    jitter_ns: int
    loss_ppb: int = 0
    rates: Steps | None = None
    delays: Steps | None = None
    losses: Steps | None = None


class Network(Struct, frozen=True):
    """An access link. ``up`` leaves the node that the link belongs to, ``down`` reaches it.

    ``duplex`` half: both directions share one capacity, the larger of their rates. ``rate_kind`` says what the rates
    are: "goodput" (a speed test's figure: loss is in it already) or "link". ``transport`` "ideal" leaves TCP out.
    ``trace_start_ns``: where in its trace a link begins; None: a place drawn for each client.
    """

    name: str
    up: Direction
    down: Direction
    duplex: Literal["full", "half"] = "full"
    transport: Literal["ideal", "tcp"] = "ideal"
    rate_kind: Literal["goodput", "link"] = "goodput"
    trace_start_ns: int | None = None


class Cell(Struct, frozen=True):
    """A capacity in bit/s that the links in it share; half duplex: one, the larger, for both directions."""

    name: str
    up_bps: int
    down_bps: int
    duplex: Literal["full", "half"] = "full"
    up_rates: Steps | None = None
    down_rates: Steps | None = None


class Absence(Struct, frozen=True):
    """When a client cannot be reached: spans from-to in ns, or drawn, present and absent in turn, with these means.

    An "outage" stops the link and what is on it goes on afterwards; a client that is "away" has lost its connections:
    what was being sent starts over when it is back.
    """

    kind: Literal["outage", "away"]
    spans: tuple[tuple[int, int], ...] = ()
    mean_present_ns: int = 0
    mean_absent_ns: int = 0


class Device(Struct, frozen=True):
    """A board: memory in bytes, rates of one worker in FLOP/s and bytes/s, overhead an operation in ns."""

    name: str
    memory_bytes: int
    os_reserved_bytes: int
    runtime_bytes: int
    dense_flops: int
    depthwise_flops: int
    memory_rate_bytes: int
    dispatch_ns: int
    send_queue_bytes: int

    @property
    def budget_bytes(self) -> int:
        """The training budget: what the operating system and the Python and torch runtime leave."""
        return self.memory_bytes - self.os_reserved_bytes - self.runtime_bytes


class ClientSpec(Struct, frozen=True):
    """A client. ``cell``: the name of the cell that its link is in, "" for none."""

    name: str
    index: int
    device: Device
    network: Network
    cell: str = ""
    absence: Absence | None = None


class ServerSpec(Struct, frozen=True):
    name: str
    device: Device
    network: Network
    workers: int


class Scenario(Struct, frozen=True):
    """Who takes part. ``files`` maps every profile and trace file read for it to the SHA-256 of its bytes."""

    name: str
    description: str
    server: ServerSpec
    clients: tuple[ClientSpec, ...]
    files: dict[str, str]
    cells: tuple[Cell, ...] = ()


class Row(Struct, frozen=True):
    """One number of a profile, as a reader wants to see it."""

    key: str
    value: str
    unit: str
    grade: str
    source: str
    date: str


class Profile(Struct, frozen=True):
    """A profile file as a reader wants to see it; ``content`` is what it means to the emulator."""

    kind: str
    name: str
    file: str
    description: str
    rows: tuple[Row, ...]
    content: Network | Device | Scenario


def load_scenario(name_or_path: str, clients: int | None = None) -> Scenario:
    """Reads a shipped scenario by name, or any by its path, scaled to ``clients`` clients if that is given."""
    if clients is not None and not 0 < clients <= MAX_CLIENTS:
        raise profile_error(f"--clients {clients}", "", f"give a number of clients from 1 to {MAX_CLIENTS}")
    return _scenario(find("scenario", name_or_path, f"--profile {name_or_path}"), clients)


def load_network(name_or_path: str) -> Network:
    return _network(find("network", name_or_path, f"network {name_or_path}"))


def load_device(name_or_path: str) -> Device:
    return _device(find("device", name_or_path, f"device {name_or_path}"))


def describe(name_or_path: str) -> list[Profile]:
    """Every profile of that name (a network and a scenario may share one), with the sources of its numbers."""
    if is_path(name_or_path):
        kinds: list[str | None] = [None]
    else:
        kinds = [kind for kind in KINDS if name_or_path in shipped(kind)]
        if not kinds:
            known = "; ".join(f"{kind}s: {', '.join(shipped(kind))}" for kind in KINDS)
            raise profile_error(f"profiles {name_or_path}", "", f"no profile of this name; {known}")
    found = [find(kind, name_or_path, f"profiles {name_or_path}") for kind in kinds]
    return [_profile(document) for document in found]


def share_out(counts: list[int], total: int) -> list[int]:
    """``total`` in the proportions of ``counts`` by largest remainder, the earlier group first where they tie."""
    quotas = [Fraction(count * total, sum(counts)) for count in counts]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(counts)), key=lambda i: (shares[i] - quotas[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def _network(document: Document) -> Network:
    typed, file = document.typed, document.shown
    assert isinstance(typed, NetworkFile)

    def both_or_each(key: str, default: int | None) -> Iterator[int]:
        shared, sides = getattr(typed, key), [getattr(typed, f"{side}_{key}") for side in ("up", "down")]
        if shared and any(sides):
            raise profile_error(file, key, f"give either {key}, or up_{key} and down_{key}, not both")
        for side, own in zip(("up", "down"), sides, strict=True):
            if own or shared:
                yield whole(file, f"{side}_{key}" if own else key, own or shared)
            elif default is None or any(sides):
                missing = f"{side}_{key}" if any(sides) else key
                raise profile_error(file, missing, f"missing; write {key} = NUMBER in ms, or up_{key} and down_{key}")
            else:
                yield default

    rates = (whole(file, "up_mbps", typed.up_mbps), whole(file, "down_mbps", typed.down_mbps))
    directions = zip(rates, both_or_each("one_way_ms", None), both_or_each("jitter_ms", 0), strict=True)
    up, down = (Direction(*values) for values in directions)
    return Network(document.path.stem, up, down)


def _device(document: Document) -> Device:
    typed, file = document.typed, document.shown
    assert isinstance(typed, DeviceFile)
    keys = [key for key in DeviceFile.__struct_fields__ if key not in ("kind", "description")]
    device = Device(document.path.stem, *(whole(file, key, getattr(typed, key)) for key in keys))
    if device.budget_bytes <= 0:
        parts = " - ".join(f"{part.value}" for part in (typed.memory_mib, typed.os_reserved_mib, typed.runtime_mib))
        problem = f"{parts} MiB leave no memory to train in; memory_mib must exceed os_reserved_mib + runtime_mib"
        raise profile_error(file, "memory_mib", problem)
    return device


def _scenario(document: Document, wanted: int | None) -> Scenario:
    typed, file = document.typed, document.shown
    assert isinstance(typed, ScenarioFile)
    files = {document.listed: document.sha256}

    def part(kind: str, name: str, key: str) -> Document:
        found = find(kind, name, file, key, document.path.parent)
        files[found.listed] = found.sha256
        return found

    server = typed.server
    workers = whole(file, "server.workers", server.workers, MAX_CLIENTS)
    server_device = _device(part("device", server.device, "server.device"))
    server_network = _network(part("network", server.network, "server.network"))
    groups = []
    for i, group in enumerate(typed.clients):
        count = whole(file, f"clients[{i}].count", group.count, MAX_CLIENTS)
        device = _device(part("device", group.device, f"clients[{i}].device"))
        groups.append((count, device, _network(part("network", group.network, f"clients[{i}].network"))))
    counts = [count for count, _, _ in groups]
    if wanted is not None:
        counts = share_out(counts, wanted)
    elif sum(counts) > MAX_CLIENTS:
        raise profile_error(file, "clients", f"{sum(counts)} clients in all; at most {MAX_CLIENTS} are possible")
    parts = [group[1:] for count, group in zip(counts, groups, strict=True) for _ in range(count)]
    clients = tuple(ClientSpec(f"client-{i}", i, device, network) for i, (device, network) in enumerate(parts))
    spec = ServerSpec("server", server_device, server_network, workers)
    return Scenario(document.path.stem, typed.description, spec, clients, files)


def _profile(document: Document) -> Profile:
    typed = document.typed
    content: Network | Device | Scenario
    if isinstance(typed, NetworkFile):
        content = _network(document)
    elif isinstance(typed, DeviceFile):
        content = _device(document)
    else:
        content = _scenario(document, None)
    rows = tuple(_rows("", typed))
    return Profile(typed.kind, document.path.stem, document.shown, typed.description, rows, content)


def _rows(where: str, part: Struct) -> Iterator[Row]:
    for key in part.__struct_fields__:
        value, place = getattr(part, key), f"{where}{key}"
        if isinstance(value, Number):
            text = f"{value.value.normalize():f}"
            yield Row(place, text, unit_of(key).text, value.grade, value.source or "no source given", value.date)
        elif isinstance(value, Struct):
            yield from _rows(f"{place}.", value)
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                yield from _rows(f"{place}[{i}].", item)
