"""Bandwidth traces: what a link carried, as somebody recorded it, turned into steps.

``load`` recognises three formats by their first line that is no comment:

Mahimahi        one whole number of ms a line, each an opportunity to send 1500 bytes at that millisecond; repeats mean
                several; the last is the length after which the trace starts over (Netravali et al., USENIX ATC 2015).
                The same rates hold up and down.
pairs           seconds and Mbit/s, separated by white space; the same rates hold up and down
CSV             a line ``time_s,up_mbps,down_mbps[,rtt_ms][,loss]``, the columns in any order, then rows of numbers;
                loss is a fraction from 0 to 1

A row of pairs or CSV holds until the next one, the last for the usual (median) gap between rows; a trace that does not
begin at 0 is moved there. Opportunities are counted in bins of ``BIN_MS``: short enough that a message of a few kB sees
a link change, long enough that a link changes some 50 times a second rather than at each packet. Blank lines, comments
(``#``), Windows line ends, a byte order mark and spaces at the end of a line are accepted.

Numbers are read as exact decimals; rates are rounded down to bit/s, times to ns, losses to 10^-9. Every mistake raises
``ProfileError``: one line with the file, the number of the line and the remedy.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator
from decimal import Context, Decimal
from difflib import get_close_matches
from itertools import accumulate, pairwise
from math import isqrt
from pathlib import Path
from statistics import median_low

from msgspec import Struct

from emulator.errors import ProfileError
from emulator.profile_files import ROOT
from emulator.steps import Steps
from emulator.text_files import profile_error

BIN_MS = 20
OPPORTUNITY_BITS = 1500 * 8
SUFFIXES = (".csv", ".txt", ".up", ".down", ".trace", ".log")
LARGEST_BYTES = 128 * 2**20  # of a file; an hour of Mahimahi at 100 Mbit/s has 240
MOST_S = 10**7  # of a trace's length: 116 days
EXACT = Context(prec=80)  # more digits than a number may have
LAG_NS = 10**9  # of the autocorrelation
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
FORMATS = "whole numbers of ms (Mahimahi), pairs of seconds and Mbit/s, or CSV with a line time_s,up_mbps,down_mbps"


class Trace(Struct, frozen=True):
    """``file`` names it in errors. ``up``, ``down``: bit/s; ``delays``: one way (half of a round trip) in ns;
    ``losses``: parts in 10^9."""

    name: str
    file: str
    sha256: str
    up: Steps
    down: Steps
    delays: Steps | None = None
    losses: Steps | None = None


class Spread(Struct, frozen=True):
    """How a quantity spreads over a lap of its trace, every step weighted by its time.

    ``p5``, ``p50``, ``p95``: the smallest value at or below which it is for that share of the time. ``zero_share``: of
    the time; ``longest_zero_s``: without a break, across the wrap too. ``variation``: standard deviation over mean.
    ``autocorrelation``: of the steps with themselves 1 s later, across the wrap too; None for a constant.
    """

    length_s: float
    steps: int
    mean: float
    std: float
    least: float
    p5: float
    p50: float
    p95: float
    most: float
    zero_share: float
    longest_zero_s: float
    variation: float
    autocorrelation: float | None


class Statistics(Struct, frozen=True):
    """Of a trace: rates in Mbit/s, the round trip in ms, the share that is lost."""

    up_mbps: Spread
    down_mbps: Spread
    rtt_ms: Spread | None = None
    loss: Spread | None = None


class Column(Struct, frozen=True):
    """A quantity of a trace: a number becomes ``number * 10^digits // parts`` of the unit used inside."""

    name: str
    digits: int
    most: int
    unit: str
    remedy: str
    parts: int = 1


TIME = Column("time_s", 9, 10**11, "s", "give seconds")
COLUMNS = {
    column.name: column
    for column in (
        TIME,
        Column("up_mbps", 6, 10**6, "Mbit/s", "give Mbit/s, not bit/s"),
        Column("down_mbps", 6, 10**6, "Mbit/s", "give Mbit/s, not bit/s"),
        Column("rtt_ms", 6, 10**6, "ms", "give the round trip in ms", parts=2),
        Column("loss", 9, 1, "", "loss is a fraction from 0 to 1: 2 % is 0.02"),
    )
}
NEEDED = ("time_s", "up_mbps", "down_mbps")
RATE = Column("Mbit/s", 6, 10**6, "Mbit/s", "give Mbit/s, not bit/s")


class Line(Struct, frozen=True):
    """A line that is neither blank nor a comment; ``where`` is its file and number, for errors."""

    where: str
    text: str


def shipped() -> tuple[str, ...]:
    """Names of the traces that come with splitbed, sorted."""
    return tuple(sorted(path.stem for path in (ROOT / "traces").glob("*.csv")))


def is_path(name: str) -> bool:
    return "/" in name or name.endswith(SUFFIXES)


def find(name: str, asker: str, key: str = "", base: Path | None = None) -> Trace:
    """The trace ``name``, as ``asker`` (a file or a flag) asks for it in ``key``; paths are relative to ``base``."""
    known = f"one of the shipped traces: {', '.join(shipped())}"
    if is_path(name):
        path = base / name if base else Path(name)
        shown = str(path)
    elif name in shipped():
        path, shown = ROOT / "traces" / f"{name}.csv", f"netprofiles/traces/{name}.csv"
    else:
        close = get_close_matches(name, shipped(), n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        quoted = f'"{name}" ' if key else ""
        endings = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        problem = f"{quoted}no such trace{guess}; give a path with a / or ending in {endings}, or {known}"
        raise profile_error(asker, key, problem)
    try:
        return load(path, shown)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no file name"
        raise profile_error(asker, key, f"cannot read {shown} ({reason}); give a trace's path, or {known}") from None


def load(path: Path, shown: str) -> Trace:
    """The trace in a file, which errors call ``shown``. Raises ``OSError`` where it cannot be read."""
    with path.open("rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise profile_error(shown, "", f"is larger than {LARGEST_BYTES >> 20} MiB; cut it, or give rates a second")
    lines = list(_lines(shown, content))
    if not lines:
        raise profile_error(shown, "", f"has no lines; write {FORMATS}")
    parts = lines[0].text.split()
    if "," in lines[0].text:
        columns = _csv(shown, lines)
    elif len(parts) == 1 and parts[0].isascii() and parts[0].isdigit():
        rates = _mahimahi(shown, lines)
        columns = {"up_mbps": rates, "down_mbps": rates}
    elif len(parts) == 2 and all(NUMBER.fullmatch(part) for part in parts):
        rates = _rows(shown, lines, "pairs of seconds and Mbit/s", None, [TIME, RATE])["Mbit/s"]
        columns = {"up_mbps": rates, "down_mbps": rates}
    else:
        raise _wrong(lines[0], f"{_show(lines[0].text)} begins no trace; write {FORMATS}")
    for name, unsent in (("up_mbps", "sent"), ("down_mbps", "received")):
        if not any(columns[name].values):
            raise profile_error(
                shown, "", f"{name} is 0 from beginning to end, nothing could ever be {unsent}; give it a rate"
            )
    if "loss" in columns and min(columns["loss"].values) == 10**9:
        raise profile_error(
            shown, "", "loss is 1 from beginning to end, nothing would ever arrive; give a fraction below 1"
        )
    name = path.stem if path.suffix in (".csv", ".txt", ".trace", ".log") else path.name
    sha256 = hashlib.sha256(content).hexdigest()
    steps = (columns["up_mbps"], columns["down_mbps"], columns.get("rtt_ms"), columns.get("loss"))
    return Trace(name, shown, sha256, *steps)


def _lines(file: str, content: bytes) -> Iterator[Line]:
    """The lines that say something."""
    zero = content.find(b"\0")
    if zero >= 0:
        number = content.count(b"\n", 0, zero) + 1
        raise profile_error(f"{file}:{number}", "", "is not text; save the trace as text in UTF-8, uncompressed")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        problem = f"byte {error.object[error.start]:#04x} is not UTF-8 text; save the trace as text in UTF-8"
        raise profile_error(f"{file}:{number}", "", problem) from None
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        said = line.partition("#")[0].strip()
        if said:
            yield Line(f"{file}:{number}", said)


def _mahimahi(file: str, lines: list[Line]) -> Steps:
    """Opportunities as rates in bit/s, every bit of them; that of ms t fills the ms that ends at t, as at the wrap.

    An opportunity at 0 is counted in the first bin. Neighbouring bins of one rate are one step.
    """
    counts: dict[int, int] = {}
    last_ms = 0
    for line in lines:
        if not (line.text.isascii() and line.text.isdigit() and len(line.text) <= 15):
            raise _wrong(line, f"{_show(line.text)} is no whole number of ms; the file is read as Mahimahi: one a line")
        ms = int(line.text)
        if ms < last_ms:
            problem = f"{ms} ms comes after {last_ms}; the file is read as Mahimahi: ms of each packet, never less"
            raise _wrong(line, problem)
        if ms > MOST_S * 1000:
            raise _wrong(line, f"{ms} ms are more than {MOST_S} s; a Mahimahi trace has ms, and begins near 0")
        counts[max(ms - 1, 0) // BIN_MS] = counts.get(max(ms - 1, 0) // BIN_MS, 0) + 1
        last_ms = ms
    if last_ms == 0:
        raise profile_error(file, "", "ends at 0 ms; the last number of a Mahimahi trace is its length, above 0")
    steps: list[tuple[int, int]] = []  # start in ns, bit/s
    end_ms = 0
    for number, count in counts.items():
        start_ms = number * BIN_MS
        if start_ms > end_ms:
            steps.append((end_ms * 10**6, 0))
        end_ms = min(start_ms + BIN_MS, last_ms)
        span_ns = (end_ms - start_ms) * 10**6
        # A last bin that is shorter may have no whole rate: it is 1 bit/s faster at first, so that no bit is lost.
        rate, faster_ns = divmod(count * OPPORTUNITY_BITS * 10**9, span_ns)
        if faster_ns:
            steps.append((start_ms * 10**6, rate + 1))
        steps.append((start_ms * 10**6 + faster_ns, rate))
    kept = [steps[0], *(b for a, b in pairwise(steps) if b[1] != a[1])]
    return Steps(tuple(start for start, _ in kept), tuple(rate for _, rate in kept), last_ms * 10**6)


def _csv(file: str, lines: list[Line]) -> dict[str, Steps]:
    """The columns of a CSV, by name."""
    head = lines[0]
    names = [name.strip() for name in head.text.split(",")]
    if all(NUMBER.fullmatch(name) for name in names):
        raise _wrong(head, "a CSV begins with its columns' names; write time_s,up_mbps,down_mbps above the numbers")
    for i, name in enumerate(names):
        if name not in COLUMNS:
            close = get_close_matches(name, COLUMNS, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise _wrong(head, f"unknown column {_show(name)}; {guess}Columns: {', '.join(COLUMNS)}")
        if name in names[:i]:
            raise _wrong(head, f"column {name} is there twice; leave one out")
    for name in NEEDED:
        if name not in names:
            raise _wrong(head, f"column {name} is missing; write {','.join(NEEDED)}, and rtt_ms, loss if known")
    return _rows(file, lines[1:], "CSV", ",", [COLUMNS[name] for name in names])


def _rows(file: str, lines: list[Line], form: str, mark: str | None, columns: list[Column]) -> dict[str, Steps]:
    """Each column but the time's as steps; ``mark`` lies between the numbers, None: white space."""
    times: list[int] = []
    values: dict[str, list[int]] = {column.name: [] for column in columns if column is not TIME}
    for line in lines:
        cells = line.text.split(mark)
        if len(cells) != len(columns):
            wanted = (mark or " ").join(column.name for column in columns)
            raise _wrong(line, f"has {len(cells)} numbers, not {len(columns)}; read as {form}, a line is {wanted}")
        for column, cell in zip(columns, cells, strict=True):
            value = _whole(line, column, cell.strip())
            if column is not TIME:
                values[column.name].append(value)
            elif times and value <= times[-1]:
                problem = f"{cell.strip()} s is not after the time before it; rows must be in order, one for each time"
                raise _wrong(line, problem)
            else:
                times.append(value)
    if len(times) < 2:
        raise profile_error(
            file, "", f"has {len(times) or 'no'} row{'s' * (not times)}; give two or more, for the gap between them"
        )
    length_ns = times[-1] - times[0] + median_low(b - a for a, b in pairwise(times))
    if length_ns > MOST_S * 10**9:
        raise profile_error(file, "", f"lasts longer than {MOST_S} s; time_s must be in seconds, without a jump")
    starts = tuple(t - times[0] for t in times)
    return {name: Steps(starts, tuple(column), length_ns) for name, column in values.items()}


def _whole(line: Line, column: Column, text: str) -> int:
    """A number of a column in the unit used inside, rounded down."""
    if not NUMBER.fullmatch(text) or len(text) > 60:
        raise _wrong(line, f"{column.name} is {_show(text)}; it must be a finite number such as 2.5")
    value = Decimal(text)
    if value < 0:
        raise _wrong(line, f"{column.name} is {_show(text)}; it must be 0 or more")
    if value > column.most:
        raise _wrong(
            line, f"{column.name} is {_show(text)}, above {column.most} {column.unit}".rstrip() + f"; {column.remedy}"
        )
    return int(value.scaleb(column.digits, EXACT)) // column.parts


def _wrong(line: Line, problem: str) -> ProfileError:
    return profile_error(line.where, "", problem)


def _show(text: str) -> str:
    """A word of a file, short enough for an error of one line."""
    return f'"{text}"' if len(text) <= 40 else f'"{text[:40]}…"'


def statistics(trace: Trace) -> Statistics:
    """How rates, delays and losses spread over one lap."""
    rtt = spread(trace.delays, 2, 10**6) if trace.delays else None
    loss = spread(trace.losses, 1, 10**9) if trace.losses else None
    return Statistics(spread(trace.up, 1, 10**6), spread(trace.down, 1, 10**6), rtt, loss)


def spread(steps: Steps, factor: int, unit: int) -> Spread:
    """Of ``value * factor / unit``. Sums are whole numbers until the last division, so a constant deviates by 0."""
    lengths = [b - a for a, b in pairwise(steps.edges_ns)]
    timed = list(zip(steps.values, lengths, strict=True))
    span = steps.length_ns
    total, squares = steps.sums[-1], sum(value * value * length for value, length in timed)
    spread_of = span * squares - total * total  # the variance, times the square of the length
    shown = factor / unit
    mean, std = total / span * shown, isqrt(spread_of) / span * shown
    percentiles = [value * factor / unit for value in _percentiles(timed, (5, 50, 95))]
    return Spread(
        length_s=span / 10**9,
        steps=len(timed),
        mean=mean,
        std=std,
        least=min(steps.values) * factor / unit,
        p5=percentiles[0],
        p50=percentiles[1],
        p95=percentiles[2],
        most=max(steps.values) * factor / unit,
        zero_share=sum(length for value, length in timed if not value) / span,
        longest_zero_s=_longest_zero_ns(timed) / 10**9,
        variation=std / mean if mean else 0.0,
        autocorrelation=(span * _product(steps, LAG_NS) - total * total) / spread_of if spread_of else None,
    )


def _percentiles(timed: list[tuple[int, int]], shares: tuple[int, ...]) -> Iterator[int]:
    """For each share in percent, the smallest value at or below which the steps are for that share of the time."""
    ordered = sorted(timed)
    passed = list(accumulate(length for _, length in ordered))
    for share in shares:
        yield ordered[bisect_left(passed, passed[-1] * share, key=lambda ns: ns * 100)][0]


def _longest_zero_ns(timed: list[tuple[int, int]]) -> int:
    """The longest time at zero, over the wrap too."""
    longest = run = 0
    for value, length in (*timed, *timed):
        run = 0 if value else run + length
        longest = max(longest, run)
    return min(longest, sum(length for _, length in timed))


def _product(steps: Steps, lag_ns: int) -> int:
    """The sum over a lap of value x value ``lag_ns`` later x ns."""
    edges = sorted({*steps.starts_ns, *((start - lag_ns) % steps.length_ns for start in steps.starts_ns)})
    spans = pairwise((*edges, steps.length_ns))
    return sum(steps.at(a) * steps.at(a + lag_ns) * (b - a) for a, b in spans)
