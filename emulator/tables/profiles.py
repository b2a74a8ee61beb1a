"""Profiles as text: what ships, and one profile with the sources of its numbers. Plain lines, no colour, no boxes."""

from __future__ import annotations

from collections import Counter
from textwrap import wrap

from emulator.piecewise import PointwiseMax, StepFunction
from emulator.processes import CALL
from emulator.profiles.availability import Absence
from emulator.profiles.capacity import VaryingRate, wider
from emulator.profiles.reading import Profile, Row, describe_profile
from emulator.profiles.scenario import Cell, Device, Network
from emulator.profiles.schema import KINDS, shipped_profiles
from emulator.tables.table import short

NARROWEST, WIDEST = 80, 100  # narrower terminals wrap by themselves; longer lines of prose are hard to read
GRADES = (
    "Grades: A measured, open data or many users; B standard or data sheet; "
    "C secondary page or a single tester; R assumption, no source found."
)


def list_lines(width: int) -> list[str]:
    """All shipped profiles, one entry each, with the numbers that matter most."""
    lines: list[str] = []
    for kind in KINDS:
        lines += _entry(*HEADINGS[kind], width)
        for name in shipped_profiles(kind):
            profile = next(profile for profile in describe_profile(name) if profile.kind == kind)
            lines += _entry(_columns(profile), profile.description, width)
        lines.append("")
    remedy = f"`{CALL} profiles NAME` shows one with its sources; --profile takes a scenario."
    return [*lines, *_wrapped(remedy, width, 0)]


def profile_lines(profiles: list[Profile], width: int) -> list[str]:
    """Each profile with what it comes to, then every number with grade, date and source."""
    lines: list[str] = []
    for profile in profiles:
        lines += _wrapped(f"{profile.kind} {profile.name}: {profile.description}", width, 0)
        lines += [profile.file, ""]
        for fact in _facts(profile):
            lines += _wrapped(fact, width, 2)
        lines.append("")
        for row in profile.rows:
            lines += _number(row, width)
        lines.append("")
    return [*lines, *_wrapped(GRADES, width, 0)]


HEADINGS = {
    "scenario": (f"{'scenarios':<20}{'clients':>7}{'workers':>9}", "workers: computations the server does at once"),
    "network": (f"{'networks':<20}{'up':>7}{'down':>8}{'RTT':>7}", "Mbit/s, a trace's mean; RTT in ms"),
    "device": (f"{'devices':<20}{'memory':>7}{'budget':>8}{'GFLOP/s':>9}", "MiB fitted, MiB left to train in"),
}


def _columns(profile: Profile) -> str:
    """The name and key numbers of a profile, under the heading of its kind."""
    name, content = f"  {profile.name:<18}", profile.content
    if isinstance(content, Network):
        up, down = (_short(_mean_bps(side.rates, side.rate_bps), 10**6, 4) for side in (content.up, content.down))
        return f"{name}{up:>7}{down:>8}{_short(_rtt_ns(content), 10**6, 4):>7}"
    if isinstance(content, Device):
        memory = f"{_short(content.memory_bytes, 2**20):>7}{_short(content.budget_bytes, 2**20):>8}"
        return f"{name}{memory}{_short(content.dense_flops, 10**9):>9}"
    return f"{name}{len(content.clients):>7}{content.server.workers:>9}"


def _facts(profile: Profile) -> list[str]:
    """What the numbers of a profile come to, in sentences."""
    content = profile.content
    if isinstance(content, Network):
        return _link_facts(content, [row.value for row in profile.rows if row.key.endswith(("trace", "trace.file"))])
    if isinstance(content, Device):
        parts = (content.memory_bytes, content.os_reserved_bytes, content.runtime_bytes)
        sizes = " - ".join(_short(part, 2**20) for part in parts)
        return [f"training budget: {sizes} = {_short(content.budget_bytes, 2**20)} MiB (memory - system - runtime)"]
    server = content.server
    workers = f"{server.workers} worker{'s' if server.workers > 1 else ''}"
    facts = [f"server: {server.device.name} on {server.network.name}, {workers}"]
    for cell in content.cells:
        inside = sum(client.cell == cell.name for client in content.clients)
        who = f"{inside} client{'s share' if inside != 1 else ' has'}"
        facts.append(f"cell {cell.name}: {who} {_capacity(cell)}")
    groups = Counter((c.device, c.network, c.cell, c.absence) for c in content.clients)
    for (device, network, where, absence), count in groups.items():
        who = f"{count} client{'s' if count > 1 else ''}: {device.name}"
        rates = f"{_rates(network)} Mbit/s" + (", a trace's mean" if network.up.rates or network.down.rates else "")
        own = f"{_short(device.dense_flops, 10**9, 4)} GFLOP/s, " if "#" in device.name else ""
        fact = f"{who} ({own}{_short(device.budget_bytes, 2**20)} MiB to train in) on {network.name} ({rates})"
        fact += f" in {where}" if where else ""
        facts.append(fact + (f"; {_absence(absence)}" if absence else ""))
    facts += content.notes
    return [*facts, "profiles NAME shows each of these with its sources"]


def _capacity(cell: Cell) -> str:
    """What a cell carries, as the emulator plays it: half duplex is one capacity, the larger at each moment."""
    ways = {"up": VaryingRate(cell.up_bps, cell.up_rates), "down": VaryingRate(cell.down_bps, cell.down_rates)}
    means = {side: _short(_mean_bps(way.rates, way.peak_bps), 10**6, 4) for side, way in ways.items()}
    mean = ", a trace's mean" if cell.up_rates or cell.down_rates else ""
    if cell.duplex == "half":
        wide = wider(*ways.values())
        slower = "".join(f", {side} at most {means[side]}" for side, way in ways.items() if way != wide)
        both = _short(_mean_bps(wide.rates, wide.peak_bps), 10**6, 4)
        return f"{both} Mbit/s, both directions together{slower}{mean}"
    return f"{means['up']} Mbit/s up and {means['down']} down{mean}"


def _link_facts(network: Network, traces: list[str]) -> list[str]:
    up, down = network.up, network.down
    up_s, down_s = (_short(8 * 10**15 // _mean_bps(side.rates, side.rate_bps), 10**9, 3) for side in (up, down))
    facts = [
        f"1 MB takes {up_s} s up and {down_s} s down, and the delay.",
        f"RTT {_short(_rtt_ns(network), 10**6, 4)} ms of this link alone; {network.duplex} duplex; transport "
        f"{network.transport}; rates are those of "
        + ("the link, which loss lowers." if network.rate_kind == "link" else "measured transfers, loss included."),
    ]
    losses = [max(side.losses.values) if side.losses else side.loss_ppb for side in (up, down)]
    if any(losses):
        most = ", at most" if up.losses or down.losses else ""
        facts.append("loss: " + " / ".join(f"{_short(loss, 10**7, 3)} %" for loss in losses) + f" up / down{most}")
    followed = [rates for rates in (up.rates, down.rates) if rates]
    if followed:
        sides = zip(traces, followed, strict=False)  # one name where both are of one trace
        names = " and ".join(f"{name} ({_short(rates.length_ns, 10**9)} s)" for name, rates in sides)
        start_ns = network.trace_start_ns
        begins = "a place of its own" if start_ns is None else f"{_short(start_ns, 10**9)} s"
        facts.append(f"follows {names}, mean {_rates(network)} Mbit/s; each client begins at {begins}")
    return facts


def _rates(network: Network) -> str:
    up, down = (_short(_mean_bps(side.rates, side.rate_bps), 10**6, 4) for side in (network.up, network.down))
    return f"{up} up, {down} down"


def _mean_bps(rates: StepFunction | PointwiseMax | None, otherwise_bps: int) -> int:
    """The mean of the rates that a link or a cell follows, or the one rate that it has."""
    return max(rates.integral(0, rates.length_ns) // rates.length_ns, 1) if rates else otherwise_bps


def _rtt_ns(network: Network) -> int:
    ways = [(way.delays, way.one_way_ns) for way in (network.up, network.down)]
    return sum(steps.integral(0, steps.length_ns) // steps.length_ns if steps else fixed for steps, fixed in ways)


def _absence(absence: Absence) -> str:
    what = "link gone" if absence.kind == "outage" else "away"
    if absence.spans:
        return f"{what} {len(absence.spans)} times, as its file says"
    cycle_ns = absence.mean_present_ns + absence.mean_absent_ns
    return f"{what} {_short(absence.mean_absent_ns, 10**9)} s of every {_short(cycle_ns, 10**9)} s, in the mean"


def _number(row: Row, width: int) -> list[str]:
    """One number: key, value, unit, grade and date, and beneath it the source."""
    grade = f"  grade {row.grade}" if row.grade else ""
    date = f"  {row.date}" if row.date else ""
    return [f"  {row.key:<18} {f'{row.value} {row.unit}'.strip()}{grade}{date}", *_wrapped(row.source, width, 6)]


def _entry(columns: str, description: str, width: int) -> list[str]:
    """Columns with the description after them, which goes on beneath itself when the line is full."""
    lead = f"{columns}  "
    return _wrapped(description, width, len(lead), lead)


def _wrapped(text: str, width: int, indent: int, lead: str | None = None) -> list[str]:
    """``text`` in lines of ``width``, indented; the first begins with ``lead``."""
    first = " " * indent if lead is None else lead
    return wrap(text, width, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False) or [first]


def _short(value: int, unit: int, digits: int = 6) -> str:
    """``value`` in units of ``unit``, without trailing zeros or an exponent."""
    return short(value / unit, digits)
