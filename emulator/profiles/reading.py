"""Networks, devices and scenarios: TOML files in human units, typed integers (ns, bytes, bit/s) out.

Every number in a file has its unit in its key, and carries its source and grade::

    up_mbps = { value = 2.0, grade = "R", source = "about 40 % of the Cat-1bis peak", date = "2026-11" }

A bare ``up_mbps = 2.0`` is read too, and shown as having no source. Files are read with exact decimals, so 0.026
Mbit/s is 26,000 bit/s; a value that is no whole number of bit/s, ns or bytes is refused rather than rounded.
``docs/profiles.md`` describes the format. Every mistake in a file raises ``ProfileError``: one line with the
file, the key and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, structs

from emulator.inputs.text_files import profile_error
from emulator.profiles import absence_files, client_tables
from emulator.profiles.availability import Absence
from emulator.profiles.client_tables import ClientTable
from emulator.profiles.networks import cell_of, network_of
from emulator.profiles.power_reading import device_power
from emulator.profiles.scenario import ClientSpec, Device, Network, Scenario, ServerSpec
from emulator.profiles.schema import (
    KINDS,
    AbsencePart,
    ClientGroup,
    DeviceFile,
    Document,
    NetworkFile,
    Number,
    ScenarioFile,
    TraceFile,
    find_profile,
    is_path,
    meant,
    shipped_profiles,
    to_integer_unit,
    unit_of,
)

MAX_CLIENTS = 10_000  # every client is a process of the operating system; more is a slip of the finger


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
    return _scenario(find_profile("scenario", name_or_path, f"--profile {name_or_path}"), clients)


def load_network(name_or_path: str) -> Network:
    return network_of(find_profile("network", name_or_path, f"network {name_or_path}"), {})


def load_device(name_or_path: str) -> Device:
    return _device(find_profile("device", name_or_path, f"device {name_or_path}"))


def with_host(scenario: Scenario, name_or_path: str) -> Scenario:
    """The scenario with the profile of the machine that plays it, where durations come from that machine's CPU time."""
    document = find_profile("device", name_or_path, f"--host-device {name_or_path}")
    return structs.replace(scenario, host=_device(document), files=scenario.files | {document.listed: document.sha256})


def describe_profile(name_or_path: str) -> list[Profile]:
    """Every profile of that name (a network and a scenario may share one), with the sources of its numbers."""
    if is_path(name_or_path):
        kinds: list[str | None] = [None]
    else:
        kinds = [kind for kind in KINDS if name_or_path in shipped_profiles(kind)]
        if not kinds:
            known = "; ".join(f"{kind}s: {', '.join(shipped_profiles(kind))}" for kind in KINDS)
            guess = meant(name_or_path, [name for kind in KINDS for name in shipped_profiles(kind)])
            raise profile_error(f"profiles {name_or_path}", "", f"no profile of this name{guess}; {known}")
    found = [find_profile(kind, name_or_path, f"profiles {name_or_path}") for kind in kinds]
    return [_profile(document) for document in found]


def share_out(counts: list[int], total: int) -> list[int]:
    """``total`` in the proportions of ``counts`` by largest remainder, the earlier group first where they tie."""
    quotas = [Fraction(count * total, sum(counts)) for count in counts]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(counts)), key=lambda i: (shares[i] - quotas[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def _absence(file: str, where: str, part: AbsencePart, base: Path, files: dict[str, str]) -> Absence:
    means = part.mean_present_s, part.mean_absent_s
    if part.file:
        if any(means):
            raise profile_error(file, where, "give either file, or mean_present_s and mean_absent_s, not both")
        listed = absence_files.load_absences(base / part.file, file, f"{where}.file")
        files[listed.file] = listed.sha256
        return Absence(part.kind, listed.spans)
    if not all(means):
        raise profile_error(file, where, 'write mean_present_s and mean_absent_s, in s, or file = "x.csv"')
    present, absent = (
        to_integer_unit(file, f"{where}.{key}", number)
        for key, number in zip(("mean_present_s", "mean_absent_s"), means, strict=True)
        if number is not None
    )
    return Absence(part.kind, (), present, absent)


def _device(document: Document) -> Device:
    typed, file = document.typed, document.shown
    assert isinstance(typed, DeviceFile)
    keys = [field.name for field in structs.fields(DeviceFile) if field.type is Number]
    memory, system, runtime, dense, depthwise, rate, dispatch = (
        to_integer_unit(file, key, getattr(typed, key)) for key in keys
    )
    device = Device(
        *(document.path.stem, memory, system, runtime, dense, depthwise, rate, dispatch),
        power=device_power(file, typed),
    )
    if typed.send_queue_mib is not None:
        device = structs.replace(device, send_queue_bytes=to_integer_unit(file, "send_queue_mib", typed.send_queue_mib))
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
        found = find_profile(kind, name, file, key, document.path.parent)
        files[found.listed] = found.sha256
        return found

    base, server = document.path.parent, typed.server
    workers = to_integer_unit(file, "server.workers", server.workers, MAX_CLIENTS)
    server_device = _device(part("device", server.device, "server.device"))
    server_network = network_of(part("network", server.network, "server.network"), files)
    cells = tuple(cell_of(file, i, cell, base, files) for i, cell in enumerate(typed.cells))
    names = [cell.name for cell in cells]
    for i, group in enumerate(typed.clients):
        if group.cell is not None and group.cell not in names:
            known = f"cells here: {', '.join(names)}" if names else "this scenario has no [[cells]]"
            raise profile_error(file, f"clients[{i}].cell", f'no cell "{group.cell}"; {known}')
    for i, name in enumerate(names):
        if not name:
            raise profile_error(file, f"cells[{i}].name", 'must not be empty; write a name such as "mast"')
        if name in names[:i]:
            raise profile_error(file, f"cells[{i}].name", f'"{name}" is a cell already; give each a name of its own')
        if not any(group.cell == name for group in typed.clients):
            raise profile_error(file, f"cells[{i}].name", f'no client is in cell "{name}"; write cell = "{name}"')
    groups: list[_Group] = []
    notes: list[str] = []
    for i, group in enumerate(typed.clients):
        where = f"clients[{i}]"
        count, table = _count_or_table(file, where, group, base)
        if table:
            files[table.file] = table.sha256
            notes += [table.note] * bool(table.note)
        documents = part("device", group.device, f"{where}.device"), part("network", group.network, f"{where}.network")
        pairs = [(_device(documents[0]), network_of(documents[1], files))]
        absence = _absence(file, f"{where}.absence", group.absence, base, files) if group.absence else None
        if table:
            pairs = _overridden(table, *documents, files)
        members = [(*pair, group.cell or "", absence) for pair in pairs]
        groups.append(_Group(count, members, table.file if table else ""))
    counts = [group.clients for group in groups]
    if wanted is not None:
        counts = share_out(counts, wanted)
        for group_of, count in zip(groups, counts, strict=True):
            if group_of.table and count > group_of.clients:
                problem = f"asks for {count} clients of {group_of.table}, which has {group_of.clients} rows, a row each"
                raise profile_error(f"--clients {wanted}", "", f"{problem}; write more rows, or take fewer clients")
    elif sum(counts) > MAX_CLIENTS:
        raise profile_error(file, "clients", f"{sum(counts)} clients in all; at most {MAX_CLIENTS} are possible")
    parts = [member for count, group_of in zip(counts, groups, strict=True) for member in group_of.first(count)]
    clients = tuple(ClientSpec(f"client-{i}", i, *member) for i, member in enumerate(parts))
    spec = ServerSpec("server", server_device, server_network, workers)
    return Scenario(document.path.stem, typed.description, spec, clients, files, cells, notes=tuple(notes))


class _Group(NamedTuple):
    """``members``: device, network, cell and absence of each client of a table, or the one of all others."""

    clients: int
    members: list[tuple[Device, Network, str, Absence | None]]
    table: str

    def first(self, count: int) -> list[tuple[Device, Network, str, Absence | None]]:
        return self.members[:count] if self.table else self.members * count


def _count_or_table(file: str, where: str, group: ClientGroup, base: Path) -> tuple[int, ClientTable | None]:
    if group.table is None:
        if group.count is None:
            raise profile_error(file, f"{where}.count", 'missing; write count = NUMBER, or table = "clients.csv"')
        if group.ignore:
            raise profile_error(file, f"{where}.ignore", "names columns of a table, and there is none; leave it out")
        return to_integer_unit(file, f"{where}.count", group.count, MAX_CLIENTS), None
    if group.count is not None:
        raise profile_error(file, f"{where}.count", "a table has a row for each client; leave one of the two out")
    table = client_tables.load_client_table(base / group.table, file, f"{where}.table", group.ignore)
    return len(table.rows), table


def _overridden(
    table: ClientTable, device: Document, network: Document, files: dict[str, str]
) -> list[tuple[Device, Network]]:
    """Device and network of each row; those that are alike are one, named after the first row that has it."""
    assert isinstance(device.typed, DeviceFile)
    assert isinstance(network.typed, NetworkFile)
    plain = _device(device)
    devices: dict[Device, Device] = {plain: plain}
    base = network_of(network, files)
    networks: dict[Network, Network] = {base: base}  # clients share them: they may hold an hour of a trace
    pairs: list[tuple[Device, Network]] = []
    for i, row in enumerate(table.rows):
        own = _device(structs.replace(device, shown=row.where, typed=row.device(device.typed)))
        link = base
        if row.has_network:
            link = network_of(structs.replace(network, shown=row.where, typed=row.network(network.typed)), {})
        board = devices.setdefault(own, structs.replace(own, name=f"{own.name}#{i}"))
        pairs.append((board, networks.setdefault(link, structs.replace(link, name=f"{link.name}#{i}"))))
    return pairs


def _profile(document: Document) -> Profile:
    typed = document.typed
    content: Network | Device | Scenario
    if isinstance(typed, NetworkFile):
        content = network_of(document, {})
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
        elif isinstance(part, TraceFile) and key != "file":
            if value not in ("", "after"):
                yield Row(place, value, "", "", "as named", "")
        elif isinstance(value, str) and key in ("trace", "up_trace", "down_trace", "file", "table"):
            yield Row(place, value, "", "", "see the file", "")
        elif isinstance(value, Struct):
            yield from _rows(f"{place}.", value)
        elif key == "ignore" and value:
            yield Row(place, ", ".join(value), "", "", "columns passed over", "")
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                yield from _rows(f"{place}[{i}].", item)
