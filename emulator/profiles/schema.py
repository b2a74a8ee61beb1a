"""The format of profile files: keys, types and units, and for every mistake one line with the remedy.

``find`` reads a file and returns it typed, with its numbers still in human units and with their sources; what they
mean in ns, bytes and bit/s is for ``profiles`` to say, through ``to_integer_unit``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from emulator.inputs import toml_files
from emulator.inputs.shipped import ROOT
from emulator.inputs.text_files import profile_error
from emulator.traces.format import LONGEST_DELAY_MS, Holds, Rate, Time

KINDS = ("scenario", "network", "device")
AT_MOST = {  # in its own unit, without up_ and down_; why: nothing real is above, and a slip of the unit is
    "one_way_ms": (LONGEST_DELAY_MS, "a delay is in ms"),
    "rtt_ms": (2 * LONGEST_DELAY_MS, "a round trip is in ms"),
    "jitter_ms": (LONGEST_DELAY_MS, "jitter is in ms"),
    "dispatch_us": (10**6, "the overhead of an operation is in µs"),
    "mean_present_s": (10**7, "10^7 s are 116 days"),
    "mean_absent_s": (10**7, "10^7 s are 116 days"),
    **dict.fromkeys(("idle_w", "busy_w", "suspended_w"), (2000, "a device's power is in W, not in mW")),
    **dict.fromkeys(
        ("tx_w", "rx_w", "base_w", "connected_w", "drx_w", "sleep_w", "promotion_w"),
        (20, "a radio's power is in W, not in mW"),
    ),
    **dict.fromkeys(("tx_w_per_mbps", "rx_w_per_mbps"), (1000, "W for each Mbit/s, not mW")),
    **dict.fromkeys(("tail_s", "drx_s"), (86_400, "a day")),
    "promotion_ms": (60_000, "a minute"),
    "supply_efficiency": (1, "a supply gives at most what it takes"),
    "battery_wh": (10**6, "a battery's energy is in Wh"),
}
LARGEST = 10**9  # of any number in its own unit: far above anything real, and 10^9 × 10^9 still fits 63 bits


class Number(Struct, frozen=True, forbid_unknown_fields=True):
    """A number of a profile with where it comes from. ``date``: year-month in which it was looked up or chosen."""

    value: Decimal
    grade: Literal["", "A", "B", "C", "R"] = ""
    source: str = ""
    date: Annotated[str, msgspec.Meta(pattern=r"^(\d{4}-\d{2}(-\d{2})?)?$")] = ""


class TraceFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A trace and what its file does not say: fields of ``traces.Form``."""

    file: str
    time: Time = ""
    rate: Rate = ""
    format: Literal["", "mahimahi"] = ""
    holds: Holds = "after"


class NetworkFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["network"]
    description: str
    up_mbps: Number | None = None
    down_mbps: Number | None = None
    trace: str | TraceFile | None = None
    up_trace: str | TraceFile | None = None
    down_trace: str | TraceFile | None = None
    trace_start_s: Number | None = None
    one_way_ms: Number | None = None
    up_one_way_ms: Number | None = None
    down_one_way_ms: Number | None = None
    rtt_ms: Number | None = None
    jitter_ms: Number | None = None
    up_jitter_ms: Number | None = None
    down_jitter_ms: Number | None = None
    loss_percent: Number | None = None
    up_loss_percent: Number | None = None
    down_loss_percent: Number | None = None
    duplex: Literal["full", "half"] = "full"
    transport: Literal["tcp", "ideal"] = "tcp"
    rate_kind: Literal["goodput", "link"] = "goodput"
    tx_w: Number | None = None
    rx_w: Number | None = None
    base_w: Number | None = None
    tx_w_per_mbps: Number | None = None
    rx_w_per_mbps: Number | None = None
    connected_w: Number | None = None
    tail_s: Number | None = None
    drx_w: Number | None = None
    drx_s: Number | None = None
    sleep_w: Number | None = None
    promotion_ms: Number | None = None
    promotion_w: Number | None = None


class DeviceFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["device"]
    description: str
    memory_mib: Number
    os_reserved_mib: Number
    runtime_mib: Number
    dense_gflops: Number
    depthwise_gflops: Number
    memory_gbps: Number
    dispatch_us: Number
    send_queue_mib: Number | None = None
    idle_w: Number | None = None
    busy_w: Number | None = None
    supply_efficiency: Number | None = None
    sleeps_while_waiting: bool = False
    suspended_w: Number | None = None
    battery_wh: Number | None = None


class ServerPart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    device: str
    network: str
    workers: Number


class CellPart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    up_mbps: Number | None = None
    down_mbps: Number | None = None
    trace: str | TraceFile | None = None
    up_trace: str | TraceFile | None = None
    down_trace: str | TraceFile | None = None
    duplex: Literal["full", "half"] = "full"


class AbsencePart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["outage", "away"]
    mean_present_s: Number | None = None
    mean_absent_s: Number | None = None
    file: str | None = None


class ClientGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    count: Number | None = None
    table: str | None = None
    ignore: tuple[str, ...] = ()
    device: str
    network: str
    cell: str | None = None
    absence: AbsencePart | None = None


class ScenarioFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["scenario"]
    description: str
    server: ServerPart
    clients: tuple[ClientGroup, ...]
    cells: tuple[CellPart, ...] = ()


SCHEMAS: dict[str, type[NetworkFile | DeviceFile | ScenarioFile]] = {
    "network": NetworkFile,
    "device": DeviceFile,
    "scenario": ScenarioFile,
}


PARTS: dict[Any, type[Struct]] = {ServerPart: ServerPart, AbsencePart | None: AbsencePart}
OR_TABLES: dict[Any, type[Struct]] = {str | TraceFile | None: TraceFile}  # text, or a table with more of it
LISTS: dict[Any, type[Struct]] = {tuple[ClientGroup, ...]: ClientGroup, tuple[CellPart, ...]: CellPart}


class Unit(Struct, frozen=True):
    text: str
    factor: int  # of the unit in the integer unit used inside
    inside: str


UNITS = {  # by the last word of a key, or by its last three
    "mbps": Unit("Mbit/s", 10**6, "bit/s"),
    "ms": Unit("ms", 10**6, "ns"),
    "s": Unit("s", 10**9, "ns"),
    "percent": Unit("%", 10**7, "parts in 10^9"),
    "us": Unit("µs", 10**3, "ns"),
    "mib": Unit("MiB", 2**20, "bytes"),
    "gflops": Unit("GFLOP/s", 10**9, "FLOP/s"),
    "gbps": Unit("GB/s (10^9 bytes a second)", 10**9, "bytes/s"),
    "w": Unit("W", 10**9, "nW"),
    "w_per_mbps": Unit("W per Mbit/s", 10**12, "aJ/bit"),
    "wh": Unit("Wh", 3600 * 10**6, "µJ"),
    "efficiency": Unit("", 10**9, "parts in 10^9"),
    "count": Unit("", 1, "clients"),
    "workers": Unit("", 1, "workers"),
}
MAY_BE_ZERO = {
    *("one_way_ms", "rtt_ms", "jitter_ms", "loss_percent", "trace_start_s"),
    *("dispatch_us", "os_reserved_mib", "runtime_mib"),
    *("tx_w", "rx_w", "connected_w", "drx_w", "sleep_w", "suspended_w", "tail_s"),
}
HINTS = {  # what people try, without its unit: the key that is meant, and how it differs
    "rtt": ("rtt_ms", "write rtt_ms, in ms"),
    "latency": ("one_way_ms", "write one_way_ms, in ms"),
    "delay": ("one_way_ms", "write one_way_ms, in ms"),
    "loss": ("loss_percent", "write loss_percent, in % (a measured throughput contains it already)"),
    "ram": ("memory_mib", "write memory_mib, in MiB"),
}


def unit_of(key: str) -> Unit:
    """The unit that the last word of ``key`` names, or its last three."""
    return UNITS["_".join(key.rsplit("_", 3)[-3:])] if "_per_" in key else UNITS[key.rpartition("_")[2]]


def shipped_profiles(kind: str) -> tuple[str, ...]:
    """Names of the profiles of a kind that come with splitbed, sorted."""
    return tuple(sorted(path.stem for path in (ROOT / f"{kind}s").glob("*.toml")))


class Document(Struct, frozen=True):
    """A file that was read and has the right keys; ``shown`` names it in errors, ``listed`` in a manifest."""

    path: Path
    shown: str
    listed: str
    sha256: str
    typed: NetworkFile | DeviceFile | ScenarioFile


def is_path(name: str) -> bool:
    return "/" in name or name.endswith(".toml")


def meant(name: str, known: Collection[str], base: Path | None = None) -> str:
    """What ``name`` was to be, in words: a file in ``base`` that is called so, else the nearest of ``known``; or ""."""
    if any(path.stem == name for path in (base or Path()).glob("*.toml")):
        return f"; there is a file of this name: write {name}.toml"
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def find_profile(kind: str | None, name: str, asker: str, key: str = "", base: Path | None = None) -> Document:
    """The profile ``name``, as ``asker`` (a file or a flag) asks for it in ``key``; paths are relative to ``base``."""
    known = f"shipped {kind}s: {', '.join(shipped_profiles(kind))}" if kind else ""
    if is_path(name):
        path = base / name if base else Path(name)
        shown = listed = str(path)
    elif kind and name in shipped_profiles(kind):
        listed = f"{kind}s/{name}.toml"
        path, shown = ROOT / listed, f"netprofiles/{listed}"
    else:
        others = [other for other in KINDS if other != kind and name in shipped_profiles(other)]
        problem = f"is a {others[0]}, not a {kind}" if others else f"no such {kind}"
        guess = meant(name, shipped_profiles(kind or ""), base)
        quoted = f'"{name}" ' if key else ""
        raise profile_error(asker, key, f"{quoted}{problem}{guess}; give a path ending in .toml, or one of the {known}")
    try:
        content = toml_files.content_of(path)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        remedy = f"give the path of a profile, or one of the {known}" if known else "give the path of a profile"
        raise profile_error(asker, key, f"cannot read {shown} ({reason}); {remedy}") from None
    return Document(path, shown, listed, hashlib.sha256(content).hexdigest(), _typed(shown, content, kind))


def _typed(file: str, content: bytes, kind: str | None) -> NetworkFile | DeviceFile | ScenarioFile:
    """The content of a profile file with its keys and types checked; ``kind`` None accepts all three."""
    table = toml_files.parsed(file, content, "up_mbps = 2.0")
    given = table.get("kind")
    wanted = kind or given
    if not isinstance(given, str) or given not in SCHEMAS or given != wanted:
        right = f'"{kind}"' if kind else 'one of "network", "device", "scenario"'
        problem = f"is {_show(given)}" if "kind" in table else "missing"
        raise profile_error(file, "kind", f"{problem}; kind must be {right} here")
    schema = SCHEMAS[given]
    try:
        return msgspec.convert(_checked(file, "", table, schema), schema)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        if "matching regex" in problem:
            problem = 'write the date as a string "YYYY-MM"'
        problem = problem.replace("Expected `str | object | null`, got", "Expected `str`, got")
        problem = problem.replace("Expected `str`, got", "must be text in quotes, not").replace("`", "")
        raise profile_error(file, place.rstrip("`"), problem) from None


def _checked(file: str, where: str, table: Any, schema: type[Struct]) -> dict[str, Any]:
    """``table`` with unknown and missing keys refused, by name, and every number as a table with its value."""
    if not isinstance(table, dict):
        headers = {ClientGroup: "[[clients]]", CellPart: "[[cells]]", AbsencePart: "[clients.absence]"}
        header = headers.get(schema, f"[{where}]")
        raise profile_error(file, where, f"must be a table that begins with {header}, not {_show(table)}")
    fields = {field.name: field for field in msgspec.structs.fields(schema)}
    checked: dict[str, Any] = {}
    for key, value in table.items():
        place = f"{where}.{key}" if where else key
        if key not in fields:
            raise profile_error(file, place, _unknown(key, list(fields)))
        kind = fields[key].type
        if kind in (Number, Number | None):
            entry = _checked(file, place, value, Number) if isinstance(value, dict) else {"value": value}
            checked[key] = {**entry, "value": _finite(file, place, entry["value"])}
        elif kind in OR_TABLES:
            checked[key] = _checked(file, place, value, OR_TABLES[kind]) if isinstance(value, dict) else value
        elif kind in PARTS:
            checked[key] = _checked(file, place, value, PARTS[kind])
        elif kind in LISTS:
            if not isinstance(value, list) or not value:
                remedy = f"write at least one group, each beginning with the line [[{key}]]"
                raise profile_error(file, place, f"must be a list of groups, not {_show(value)}; {remedy}")
            checked[key] = [_checked(file, f"{place}[{i}]", group, LISTS[kind]) for i, group in enumerate(value)]
        elif get_origin(kind) is Literal and value not in get_args(kind):
            choices = ", ".join(filter(None, get_args(kind)))
            more = " (see docs/profiles.md)" if key == "grade" else ""
            raise profile_error(file, place, f"must be one of {choices}{more}, not {_show(value)}")
        else:
            checked[key] = value
    for key, field in fields.items():
        if field.required and key not in table:
            if field.type in (Number, Decimal):
                unit = UNITS.get(key.rpartition("_")[2])
                example = f"{key} = NUMBER" + (f", in {unit.text}" if unit and unit.text else "")
            else:
                example = {"server": "[server]", "clients": "[[clients]]"}.get(key, f'{key} = "…"')
            raise profile_error(file, f"{where}.{key}" if where else key, f"missing; write {example}")
    return checked


def _unknown(key: str, known: list[str]) -> str:
    """The refusal of an unknown ``key``, with the right one: by its unit, by its spelling, or all that there are."""

    def with_unit(name: str) -> str:
        unit = UNITS.get(name.rpartition("_")[2])
        return f"{name}, in {unit.text}" if unit and unit.text else name

    stem = key.rpartition("_")[0] or key
    meant, hint = HINTS.get(stem, ("", ""))
    if meant in known:
        return f"unknown key; {hint}"
    same = [name for name in known if "_" in name and name.rpartition("_")[0] in (key, stem)]
    if same:
        return f"unknown key or unit; write {', or '.join(map(with_unit, same))}"
    close = get_close_matches(key, known, n=1)
    guess = f"did you mean {with_unit(close[0])}? " if close else ""
    return f"unknown key; {guess}Keys here: {', '.join(known)}"


def _finite(file: str, place: str, value: Any) -> Decimal:
    """``value`` if it is a finite number of a sane size; anything else is refused before its size can cost time."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise profile_error(file, place, f"must be a number such as 2.0, without quotes, not {_show(value)}")
    number = Decimal(value)
    if not number.is_finite():
        raise profile_error(file, place, f"must be a finite number, not {number}")
    if not -LARGEST <= number <= LARGEST:  # abs() would overflow the decimal context
        raise profile_error(file, place, f"must be at most {LARGEST}; check the unit")
    return number


def _show(value: Any) -> str:
    """A value of a file, short enough for an error of one line."""
    if isinstance(value, list | dict):
        return "an empty list" if value == [] else f"a {'list' if isinstance(value, list) else 'table'}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a huge number"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:40] + "…"


def to_integer_unit(file: str, place: str, number: Number, at_most: int | None = None) -> int:
    """The number in the integer unit used inside, exactly; the key's last word names the unit."""
    key, value = place.rpartition(".")[2], number.value
    unit = unit_of(key)
    bare_key = key.removeprefix("up_").removeprefix("down_")
    if value < 0 or (value == 0 and bare_key not in MAY_BE_ZERO):
        bound = "0 or more" if bare_key in MAY_BE_ZERO else "above 0"
        raise profile_error(file, place, f"must be {bound}, not {value}")
    most, why = AT_MOST.get(bare_key, (LARGEST, ""))
    if value > most:
        bound = f"must be at most {most} {unit.text}".rstrip()
        raise profile_error(file, place, f"{bound}, not {_show(value)}; {why}")
    # The exponent is looked at first: 1e-999999999 as a fraction would not fit in memory.
    exponent = value.as_tuple().exponent
    scaled = Fraction(value) * unit.factor if isinstance(exponent, int) and exponent > -50 else Fraction(1, 2)
    if scaled.denominator != 1:
        problem = f"{_show(value)} {unit.text}".rstrip() + f" is no whole number of {unit.inside}"
        raise profile_error(file, place, f"{problem}; write fewer decimals")
    if at_most is not None and scaled > at_most:
        raise profile_error(file, place, f"must be at most {at_most}, not {value}")
    return int(scaled)
