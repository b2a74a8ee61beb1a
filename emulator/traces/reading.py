"""Bandwidth traces: what a link carried, as somebody recorded it, turned into steps.

``load`` recognises the format by the first line that is no comment:

Mahimahi        one whole number of ms a line, each an opportunity to send 1500 bytes: ``mahimahi``
pairs           a time and a rate, separated by white space, in seconds and Mbit/s or the units named: ``trace_rows``
CSV             a line of columns that name their units, such as ``time_s,up_mbps,down_mbps[,rtt_ms][,loss]``
periods         JSON: a list of ``{"duration_ms": …, "bandwidth_kbps": …, "latency_ms": …}``: ``trace_periods``

A CSV may have the rates of one direction alone; in the others the same rates hold up and down. Blank lines, comments
(``#``), Windows line ends, a byte order mark, UTF-16 and spaces at the end of a line are accepted. Every mistake raises
``ProfileError``: one line with the file, the number of the line and the remedy. So does a trace in units that nobody
named, where they make it implausible.
"""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from msgspec import Struct

from emulator.inputs.shipped import ROOT
from emulator.inputs.text_files import decoded, lines, profile_error, read, shown
from emulator.piecewise import StepFunction
from emulator.traces import mahimahi, rows
from emulator.traces import periods as trace_periods
from emulator.traces.format import Holds, Rate, Time
from emulator.traces.rows import CONVERT, HEAD, NUMBER, ONE_COLUMN

SUFFIXES = (".csv", ".txt", ".up", ".down", ".trace", ".log", ".json")
LARGEST_BYTES = 128 * 2**20  # of a file; an hour of Mahimahi at 100 Mbit/s has 240
MOST_MEAN_BPS, LEAST_MEAN_BPS, LONGEST_S = 10**9, 10**3, 86400  # where the units are a guess
FORMATS = (
    f"whole numbers of ms (Mahimahi), pairs of seconds and Mbit/s, CSV with a line {HEAD}, or JSON of periods"
    f"; {CONVERT}"
)


class Form(Struct, frozen=True):
    """The form of a trace file, as far as its user says it: the units of pairs, Mahimahi, when a row's rate holds."""

    time: Time = ""
    rate: Rate = ""
    format: Literal["", "mahimahi"] = ""
    holds: Holds = "after"


class Trace(Struct, frozen=True):
    """``file`` names it in errors. ``up``, ``down``: bit/s, at least one of them; ``delays``: one way (half of a round
    trip) in ns; ``losses``: parts in 10^9."""

    name: str
    file: str
    sha256: str
    up: StepFunction | None
    down: StepFunction | None
    delays: StepFunction | None = None
    losses: StepFunction | None = None


def shipped_traces() -> tuple[str, ...]:
    """Names of the traces that come with splitbed, sorted."""
    return tuple(sorted(path.stem for path in (ROOT / "traces").glob("*.csv")))


def is_path(name: str) -> bool:
    return "/" in name or name.endswith(SUFFIXES)


def find_trace(name: str, asker: str, key: str = "", base: Path | None = None, form: Form | None = None) -> Trace:
    """The trace ``name``, as ``asker`` (a file or a flag) asks for it in ``key``; paths are relative to ``base``."""
    known = f"one of the shipped traces: {', '.join(shipped_traces())}"
    if is_path(name) or (name not in shipped_traces() and _is_file(base, name)):
        path = base / name if base else Path(name)
        display = str(path)
    elif name in shipped_traces():
        path, display = ROOT / "traces" / f"{name}.csv", f"netprofiles/traces/{name}.csv"
    else:
        close = get_close_matches(name, shipped_traces(), n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        quoted = f'"{name}" ' if key else ""
        endings = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        problem = f"{quoted}no such trace{guess}; give a path with a / or ending in {endings}, or {known}"
        raise profile_error(asker, key, problem)
    try:
        return load_trace(path, display, form)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise profile_error(asker, key, f"cannot read {display} ({reason}); give a trace's path, or {known}") from None


def _is_file(base: Path | None, name: str) -> bool:
    try:
        return (base / name if base else Path(name)).is_file()
    except OSError:  # a name that is too long
        return False


def load_trace(path: Path, display: str, form: Form | None = None) -> Trace:
    """The trace in a file, which errors call ``display``. Raises ``OSError`` where it cannot be read."""
    content = read(path, LARGEST_BYTES)
    if len(content) > LARGEST_BYTES:
        raise profile_error(display, "", f"is larger than {LARGEST_BYTES >> 20} MiB; cut it, or give rates a second")
    steps = parsed(display, decoded(display, content), form or Form())
    name = path.stem if path.suffix in (".csv", ".txt", ".trace", ".log", ".json") else path.name
    sha256 = hashlib.sha256(content).hexdigest()
    return Trace(name, display, sha256, steps.get("up"), steps.get("down"), steps.get("rtt"), steps.get("loss"))


def parsed(file: str, text: str, form: Form) -> dict[str, StepFunction]:
    """The steps of up and down (bit/s), rtt (one way, in ns) and loss (10^-9) in the text of a trace."""
    if text.lstrip()[:1] in ("[", "{"):
        _only_for_rows(file, form, "JSON of periods", "its keys name the units")
        steps = trace_periods.read(file, text)
    else:
        steps = _of_lines(file, text, form)
    for quantity, unsent in (("up", "sent"), ("down", "received")):
        if quantity in steps and not any(steps[quantity].values):
            problem = f"{quantity} is 0 from beginning to end, nothing could ever be {unsent}; give it a rate"
            raise profile_error(file, "", problem)
    if "loss" in steps and min(steps["loss"].values) == 10**9:
        problem = "loss is 1 from beginning to end, nothing would ever arrive; give a fraction below 1"
        raise profile_error(file, "", problem)
    return steps


def _of_lines(file: str, text: str, form: Form) -> dict[str, StepFunction]:
    found = list(lines(file, text))
    if not found:
        raise profile_error(file, "", f"has no lines; write {FORMATS}")
    parts = found[0].text.split()
    if form.format or (len(parts) == 1 and parts[0].isascii() and parts[0].isdigit()):
        _only_for_rows(file, form, "Mahimahi", "it has ms and packets of 1500 bytes")
        rates = mahimahi.mahimahi_rates(file, found, named=bool(form.format))
    elif "," in found[0].text:
        if form.time or form.rate:
            problem = "its columns name their units (time_ms, up_kbps); leave time and rate out"
            raise profile_error(file, "", f"is read as CSV: {problem}")
        return rows.csv(file, found, form.holds)
    elif len(parts) == 2 and all(NUMBER.fullmatch(part) for part in parts):
        rates = rows.pairs(file, found, form.time, form.rate, form.holds)
    elif len(parts) == 1 and NUMBER.fullmatch(parts[0]):
        raise rows.trace_error(found[0], f"{shown(parts[0])} has no time beside it; {ONE_COLUMN}")
    elif ";" in found[0].text or "\t" in found[0].text:
        problem = f"{shown(found[0].text)} is separated by {'semicolons' if ';' in found[0].text else 'tabs'}"
        raise rows.trace_error(found[0], f"{problem}; write commas (and points in numbers), or {CONVERT}")
    else:
        raise rows.trace_error(found[0], f"{shown(found[0].text)} begins no trace; write {FORMATS}")
    plausible(file, rates, form, is_mahimahi=len(parts) == 1)
    return {"up": rates, "down": rates}


def _only_for_rows(file: str, form: Form, what: str, why: str) -> None:
    said = [name for name, value in (("time", form.time), ("rate", form.rate)) if value]
    said += ["holds"] * (form.holds == "before")
    if said:
        raise profile_error(file, "", f"is read as {what}: {why}; leave {' and '.join(said)} out")
    if form.format and what != "Mahimahi":
        raise profile_error(file, "", f"is read as {what}; leave format out")


def plausible(file: str, rates: StepFunction, form: Form, is_mahimahi: bool) -> None:
    """Refuse what is probably in other units than those it was read in, where nobody named them."""
    if form.format:
        return
    mean_bps, length_s = rates.sums[-1] // rates.length_ns, rates.length_ns / 10**9
    if not form.rate and mean_bps > MOST_MEAN_BPS:
        problem = f"its mean rate is {mean_bps / 10**6:,.0f} Mbit/s, above {MOST_MEAN_BPS // 10**6:,} Mbit/s"
    elif not form.rate and any(rates.values) and mean_bps < LEAST_MEAN_BPS:
        problem = f"its mean rate is {mean_bps} bit/s, below {LEAST_MEAN_BPS:,} bit/s"
    elif not form.time and length_s > LONGEST_S:
        problem = f"it lasts {length_s:,.0f} s, more than a day"
    else:
        return
    read_as = "Mahimahi (ms of packets)" if is_mahimahi else f"{form.time or 's'} and {form.rate or 'mbps'}"
    units = 'format = "mahimahi"' if is_mahimahi else 'time = "ms", rate = "kbps"'
    flags = "--format mahimahi" if is_mahimahi else "--time ms --rate kbps"
    remedy = f'if it is, or in other units, name them: trace = {{ file = "{Path(file).name}", {units} }} in a profile'
    raise profile_error(file, "", f"read as {read_as}, {problem}; {remedy}, {flags} for traces show")
