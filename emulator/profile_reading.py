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
from pathlib import Path

from msgspec import Struct, structs

from emulator import absence_files, traces
from emulator.profile_files import (
    KINDS,
    AbsencePart,
    CellPart,
    DeviceFile,
    Document,
    NetworkFile,
    Number,
    ScenarioFile,
    find,
    is_path,
    shipped,
    unit_of,
    whole,
)
from emulator.profiles import Absence, Cell, ClientSpec, Device, Direction, Network, Scenario, ServerSpec
from emulator.steps import Steps
from emulator.text_files import profile_error

MAX_CLIENTS = 10_000  # every client is a process of the operating system; more is a slip of the finger
SIDES = ("up", "down")


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
    return _network(find("network", name_or_path, f"network {name_or_path}"), {})


def load_device(name_or_path: str) -> Device:
    return _device(find("device", name_or_path, f"device {name_or_path}"))


def with_host(scenario: Scenario, name_or_path: str) -> Scenario:
    """The scenario with the profile of the machine that plays it, where durations come from that machine's CPU time."""
    document = find("device", name_or_path, f"--host-device {name_or_path}")
    return structs.replace(scenario, host=_device(document), files=scenario.files | {document.listed: document.sha256})


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


class _Link(Struct, frozen=True):
    """The rates of a link or a cell, and of its traces what the file says beside them."""

    rates_bps: tuple[int, int]
    traces: tuple[traces.Trace | None, traces.Trace | None]


def _link(file: str, where: str, part: NetworkFile | CellPart, base: Path, files: dict[str, str]) -> _Link:
    """Rates up and down: numbers of the file, or what its traces say."""
    each = [getattr(part, f"{side}_trace") for side in SIDES]
    if part.trace is not None and each != [None, None]:
        raise profile_error(file, f"{where}trace", "give either trace, or up_trace and down_trace, not both")
    own = each if part.trace is None else [part.trace, part.trace]
    if own.count(None) == 1:
        missing = f"{where}{SIDES[own.index(None)]}_trace"
        raise profile_error(file, missing, "missing; both directions follow traces, or none does")
    found: list[traces.Trace | None] = []
    rates: list[int] = []
    for side, name in zip(SIDES, own, strict=True):
        key, number = f"{where}{side}_mbps", getattr(part, f"{side}_mbps")
        if name is None:
            if number is None:
                raise profile_error(file, key, f"missing; write {side}_mbps = NUMBER, in Mbit/s, or trace = NAME")
            found.append(None)
            rates.append(whole(file, key, number))
            continue
        if number is not None:
            raise profile_error(file, key, "the rate comes from the trace; leave one of the two out")
        trace = traces.find(name, file, f"{where}{side}_trace" if part.trace is None else f"{where}trace", base)
        files[trace.file.removeprefix("netprofiles/")] = trace.sha256
        found.append(trace)
        rates.append(max((trace.up if side == "up" else trace.down).values))
    return _Link((rates[0], rates[1]), (found[0], found[1]))


def _network(document: Document, files: dict[str, str]) -> Network:
    typed, file = document.typed, document.shown
    assert isinstance(typed, NetworkFile)

    def both_or_each(key: str, default: int | None) -> Iterator[int]:
        shared, sides = getattr(typed, key), [getattr(typed, f"{side}_{key}") for side in SIDES]
        if shared and any(sides):
            raise profile_error(file, key, f"give either {key}, or up_{key} and down_{key}, not both")
        for side, own in zip(SIDES, sides, strict=True):
            if own or shared:
                yield whole(file, f"{side}_{key}" if own else key, own or shared)
            elif default is None or any(sides):
                missing = f"{side}_{key}" if any(sides) else key
                remedy = f"{key} = NUMBER, in {unit_of(key).text}, or up_{key} and down_{key}"
                raise profile_error(file, missing, f"missing; write {remedy}")
            else:
                yield default

    def delays() -> Iterator[int]:
        if typed.rtt_ms is None:
            yield from both_or_each("one_way_ms", 0 if all(t and t.delays for t in link.traces) else None)
            return
        if typed.one_way_ms or typed.up_one_way_ms or typed.down_one_way_ms:
            raise profile_error(file, "rtt_ms", "give either rtt_ms or one_way_ms, not both")
        rtt_ns = whole(file, "rtt_ms", typed.rtt_ms)
        yield from (rtt_ns // 2, rtt_ns - rtt_ns // 2)

    link = _link(file, "", typed, document.path.parent, files)
    directions = zip(
        SIDES,
        link.rates_bps,
        delays(),
        both_or_each("jitter_ms", 0),
        both_or_each("loss_percent", 0),
        link.traces,
        strict=True,
    )
    up, down = (
        Direction(rate, delay, jitter, loss, *(_followed(side, trace) if trace else (None, None, None)))
        for side, rate, delay, jitter, loss, trace in directions
    )
    for side, direction in (("up", up), ("down", down)):
        if direction.loss_ppb >= 10**9:
            key = "loss_percent" if typed.loss_percent else f"{side}_loss_percent"
            raise profile_error(file, key, "must be below 100: nothing would ever arrive")
    start_ns = whole(file, "trace_start_s", typed.trace_start_s) if typed.trace_start_s else None
    if start_ns is not None and not any(link.traces):
        raise profile_error(file, "trace_start_s", "this link follows no trace; leave it out, or write trace = NAME")
    return Network(
        document.path.stem, up, down, typed.duplex, typed.transport, typed.rate_kind, trace_start_ns=start_ns
    )


def _followed(side: str, trace: traces.Trace) -> tuple[Steps | None, Steps | None, Steps | None]:
    return (trace.up if side == "up" else trace.down), trace.delays, trace.losses


def _cell(file: str, i: int, part: CellPart, base: Path, files: dict[str, str]) -> Cell:
    link = _link(file, f"cells[{i}].", part, base, files)
    up, down = link.traces
    rates = up.up if up else None, down.down if down else None
    return Cell(part.name, *link.rates_bps, part.duplex, *rates)


def _absence(file: str, where: str, part: AbsencePart, base: Path, files: dict[str, str]) -> Absence:
    means = part.mean_present_s, part.mean_absent_s
    if part.file:
        if any(means):
            raise profile_error(file, where, "give either file, or mean_present_s and mean_absent_s, not both")
        listed = absence_files.load(base / part.file, file, f"{where}.file")
        files[listed.file] = listed.sha256
        return Absence(part.kind, listed.spans)
    if not all(means):
        raise profile_error(file, where, 'write mean_present_s and mean_absent_s, in s, or file = "x.csv"')
    present, absent = (
        whole(file, f"{where}.{key}", number)
        for key, number in zip(("mean_present_s", "mean_absent_s"), means, strict=True)
        if number is not None
    )
    return Absence(part.kind, (), present, absent)


def _device(document: Document) -> Device:
    typed, file = document.typed, document.shown
    assert isinstance(typed, DeviceFile)
    keys = [key for key in DeviceFile.__struct_fields__ if key not in ("kind", "description", "send_queue_mib")]
    device = Device(document.path.stem, *(whole(file, key, getattr(typed, key)) for key in keys))
    if typed.send_queue_mib is not None:
        device = structs.replace(device, send_queue_bytes=whole(file, "send_queue_mib", typed.send_queue_mib))
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

    base, server = document.path.parent, typed.server
    workers = whole(file, "server.workers", server.workers, MAX_CLIENTS)
    server_device = _device(part("device", server.device, "server.device"))
    server_network = _network(part("network", server.network, "server.network"), files)
    cells = tuple(_cell(file, i, cell, base, files) for i, cell in enumerate(typed.cells))
    names = [cell.name for cell in cells]
    for i, name in enumerate(names):
        if not name:
            raise profile_error(file, f"cells[{i}].name", 'must not be empty; write a name such as "mast"')
        if name in names[:i]:
            raise profile_error(file, f"cells[{i}].name", f'"{name}" is a cell already; give each a name of its own')
        if not any(group.cell == name for group in typed.clients):
            raise profile_error(file, f"cells[{i}].name", f'no client is in cell "{name}"; write cell = "{name}"')
    groups = []
    for i, group in enumerate(typed.clients):
        where = f"clients[{i}]"
        count = whole(file, f"{where}.count", group.count, MAX_CLIENTS)
        device = _device(part("device", group.device, f"{where}.device"))
        network = _network(part("network", group.network, f"{where}.network"), files)
        if group.cell is not None and group.cell not in names:
            known = f"cells here: {', '.join(names)}" if names else "this scenario has no [[cells]]"
            raise profile_error(file, f"{where}.cell", f'no cell "{group.cell}"; {known}')
        absence = _absence(file, f"{where}.absence", group.absence, base, files) if group.absence else None
        groups.append((count, device, network, group.cell or "", absence))
    counts = [group[0] for group in groups]
    if wanted is not None:
        counts = share_out(counts, wanted)
    elif sum(counts) > MAX_CLIENTS:
        raise profile_error(file, "clients", f"{sum(counts)} clients in all; at most {MAX_CLIENTS} are possible")
    parts = [group[1:] for count, group in zip(counts, groups, strict=True) for _ in range(count)]
    clients = tuple(ClientSpec(f"client-{i}", i, *group) for i, group in enumerate(parts))
    spec = ServerSpec("server", server_device, server_network, workers)
    return Scenario(document.path.stem, typed.description, spec, clients, files, cells)


def _profile(document: Document) -> Profile:
    typed = document.typed
    content: Network | Device | Scenario
    if isinstance(typed, NetworkFile):
        content = _network(document, {})
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
        elif isinstance(value, str) and key in ("trace", "up_trace", "down_trace", "file"):
            yield Row(place, value, "", "", "see the file", "")
        elif isinstance(value, Struct):
            yield from _rows(f"{place}.", value)
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                yield from _rows(f"{place}[{i}].", item)
