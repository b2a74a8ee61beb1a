"""Clients as a table: a row a client, whose columns override keys of its group's device and network.

A column is named like the key that it overrides, or like it in another unit (``up_bps``, ``memory_gib``); besides there
are ``rate_…`` for up and down alike, and ``gflops`` (``flop_per_s``, …) for a device's dense rate, whose depthwise rate
keeps its proportion to it. A column ``client``, ``name`` or ``id`` is for the reader. Numbers are exact decimals,
rounded to the whole bit/s, ns, bytes and FLOP/s that are used inside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from emulator.inputs.text_files import decoded, profile_error, read, shown
from emulator.inputs.text_tables import TextTable, table_of
from emulator.profiles.schema import DeviceFile, NetworkFile, Number, unit_of
from emulator.traces.rows import NUMBER
from emulator.validation import nearest

LARGEST_BYTES = 16 * 2**20
LABELS = ("client", "name", "id")
EXACT = Context(prec=120)
UNITS = {  # by the unit of a profile's key: other units, in the integer unit used inside
    "mbps": {"mbps": 10**6, "kbps": 10**3, "bps": 1, "mbit_per_s": 10**6, "kbit_per_s": 10**3, "bit_per_s": 1},
    "ms": {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1},
    "s": {"s": 10**9, "ms": 10**6},
    "us": {"ms": 10**6, "us": 10**3, "ns": 1},
    "percent": {"percent": 10**7},
    "mib": {"gib": 2**30, "mib": 2**20, "kib": 2**10, "gb": 10**9, "mb": 10**6, "bytes": 1},
    "gflops": {"tflops": 10**12, "gflops": 10**9, "mflops": 10**6, "flops": 1, "gflop_per_s": 10**9, "flop_per_s": 1},
    "w": {"w": 10**9, "mw": 10**6},
    "gbps": {"gbps": 10**9, "gbytes_per_s": 10**9, "mbytes_per_s": 10**6},
}
SIDED = ("one_way_ms", "jitter_ms", "loss_percent")
FLOPS = "gflops"  # of dense work, with depthwise in proportion


class ColumnSpec(Struct, frozen=True):
    """``keys`` of a profile that it sets; a number is so many times ``scale`` of ``inside``."""

    name: str
    keys: tuple[str, ...]
    scale: int
    inside: str


def _columns() -> Iterator[ColumnSpec]:
    for schema in (NetworkFile, DeviceFile):
        for key in schema.__struct_fields__:
            stem, _, unit = key.rpartition("_")
            if stem and unit in UNITS and "_per_" not in key:
                yield from (ColumnSpec(f"{stem}_{u}", (key,), n, unit_of(key).inside) for u, n in UNITS[unit].items())
    yield from (ColumnSpec(f"rate_{u}", ("up_mbps", "down_mbps"), n, "bit/s") for u, n in UNITS["mbps"].items())
    yield from (ColumnSpec(u, (FLOPS,), n, "FLOP/s") for u, n in UNITS["gflops"].items())


COLUMNS = {column.name: column for column in _columns()}


class Override(Struct, frozen=True):
    """A client's own numbers, by key; ``where`` is their file and line."""

    where: str
    numbers: dict[str, Number]

    @property
    def has_network(self) -> bool:
        """Whether any of the numbers is a network's."""
        return any(key in NetworkFile.__struct_fields__ for key in self.numbers)

    def device(self, typed: DeviceFile) -> DeviceFile:
        """The device with this client's numbers."""
        own = {key: number for key, number in self.numbers.items() if key in DeviceFile.__struct_fields__}
        if FLOPS in self.numbers:
            dense = self.numbers[FLOPS].value
            ratio = Fraction(typed.depthwise_gflops.value) / Fraction(typed.dense_gflops.value)
            own |= {
                "dense_gflops": Number(dense),
                "depthwise_gflops": _number(round(ratio * Fraction(dense) * 10**9), 10**9),
            }
        return replace(typed, **own)

    def network(self, typed: NetworkFile) -> NetworkFile:
        """The network with this client's numbers; one for a direction leaves the other's as it was."""
        for key, number in self.numbers.items():
            if key not in NetworkFile.__struct_fields__:
                continue
            side, _, shared = key.partition("_")
            if side in ("up", "down") and shared in SIDED:
                typed = replace(_split(typed, shared), **{key: number})
            elif key in SIDED or key == "rtt_ms":
                typed = replace(_without(typed, "one_way_ms" if key == "rtt_ms" else key), **{key: number})
            else:
                typed = replace(typed, **{key: number})
        return typed


class ClientTable(Struct, frozen=True):
    """The rows of a table of clients. ``note``: what was rounded, "" for nothing."""

    file: str
    sha256: str
    rows: tuple[Override, ...]
    note: str


def load_client_table(path: Path, asker: str, key: str, ignored: tuple[str, ...]) -> ClientTable:
    """Reads the clients of ``path``, which ``asker`` names in ``key``; columns ``ignored`` are passed over."""
    file = str(path)
    try:
        content = read(path, LARGEST_BYTES)
    except OSError as error:
        problem = f"cannot read {file} ({error.strerror or 'it cannot be opened'}); name a CSV file with a row a client"
        raise profile_error(asker, key, problem) from None
    if len(content) > LARGEST_BYTES:
        raise profile_error(file, "", f"is larger than {LARGEST_BYTES >> 20} MiB; write fewer clients")
    table = table_of(file, decoded(file, content))
    columns = _known(table, ignored)
    rows: list[Override] = []
    rounded: dict[str, int] = {}
    for row in table.rows:
        if len(row.cells) != len(table.names):
            problem = f"has {len(row.cells)} cells, not {len(table.names)} as the first line"
            raise profile_error(
                row.where,
                "",
                f"{problem}; a comma or a unit in a number? write a point, and the unit in the column's name",
            )
        numbers: dict[str, Number] = {}
        for place, column in columns.items():
            exact = _value(row.where, column, row.cells[place])
            whole = round(exact)
            if whole != exact:
                rounded[column.inside] = rounded.get(column.inside, 0) + 1
            for name in column.keys:
                numbers[name] = _number(whole, 10**9 if name == FLOPS else unit_of(name).factor)
        rows.append(Override(row.where, numbers))
    if not rows:
        raise profile_error(file, "", "has no rows; write a row for each client")
    some = ", ".join(f"{count} to a whole number of {inside}" for inside, count in rounded.items())
    note = f"{file}: numbers were rounded: {some}" if some else ""
    return ClientTable(file, hashlib.sha256(content).hexdigest(), tuple(rows), note)


def _known(table: TextTable, ignored: tuple[str, ...]) -> dict[int, ColumnSpec]:
    """The columns that override something, by their place."""
    head = f"{table.file}: first line"
    if not table.is_named:
        raise profile_error(
            head, "", "begins with numbers; write the names of the columns above, such as up_mbps,memory_mib"
        )
    for name in ignored:
        table.column(name, "ignore")
    found: dict[int, ColumnSpec] = {}
    taken: dict[str, str] = {}
    for place, name in enumerate(table.names):
        if name in ignored or name.lower() in LABELS:
            continue
        column = COLUMNS.get(name)
        if column is None:
            near = nearest(name, COLUMNS, 0.7)
            remedy = f'{near}A column is a key of devices or networks; to pass it over: ignore = ["{name}"]'
            raise profile_error(head, "", f"unknown column {shown(name)}; {remedy}")
        for key in ("dense_gflops", "depthwise_gflops") if column.keys == (FLOPS,) else column.keys:
            if key in taken:
                raise profile_error(head, "", f"{taken[key]} and {name} both say {key}; leave one out")
            taken[key] = name
        found[place] = column
    if not found:
        raise profile_error(head, "", "has no column that overrides anything; write count = NUMBER instead of a table")
    return found


def _value(where: str, column: ColumnSpec, text: str) -> Fraction:
    """A cell in the integer unit used inside, not rounded yet."""
    if not NUMBER.fullmatch(text) or len(text) > 60:
        comma = "; write a point, and nothing between thousands" if "," in text else ""
        raise profile_error(where, column.name, f"is {shown(text)}; it must be a finite number such as 2.5{comma}")
    return Fraction(Decimal(text)) * column.scale


def _number(whole: int, factor: int) -> Number:
    return Number(EXACT.divide(Decimal(whole), Decimal(factor)))


def _split(typed: NetworkFile, key: str) -> NetworkFile:
    """The network with a number for each direction where it has one for both."""
    both = getattr(typed, key)
    if key == "one_way_ms" and typed.rtt_ms is not None:
        both = Number(EXACT.divide(typed.rtt_ms.value, Decimal(2)))
    if both is None:
        return typed
    return replace(_without(typed, key), **{f"up_{key}": both, f"down_{key}": both})


def _without(typed: NetworkFile, key: str) -> NetworkFile:
    keys = [key, f"up_{key}", f"down_{key}"] + ["rtt_ms"] * (key == "one_way_ms")
    return replace(typed, **dict.fromkeys(keys))
