"""Traces as rows of numbers: pairs of a time and a rate, or a CSV whose columns name their units.

A row holds until the next one, the last for the usual (median) gap between rows; or, where ``holds`` is "before", from
the row before it until its own time, as the simulators of video streaming read pairs: the first row then only begins
the trace. A trace that does not begin at 0 is moved there.

Numbers are read as exact decimals; rates are rounded down to bit/s, times to ns, losses to 10^-9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal
from itertools import pairwise
from statistics import median_low

from msgspec import Struct

from emulator.errors import ProfileError
from emulator.inputs.text_files import SourceLine, profile_error, shown
from emulator.piecewise import StepFunction, merged
from emulator.traces.format import LONGEST_DELAY_MS, Holds
from emulator.validation import nearest

MOST_S = 10**7  # of a trace's length: 116 days
MOST_BPS = 10**12
EXACT = Context(prec=80)  # more digits than a number may have
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
WITH_COMMA = re.compile(r"[+-]?\d+([.,]\d+)+", re.ASCII)
TIMES = {"s": 10**9, "ms": 10**6, "us": 10**3}  # in ns
RATES = {  # in bit/s, and as they are written
    "bps": (1, "bit/s"),
    "kbps": (10**3, "kbit/s"),
    "mbps": (10**6, "Mbit/s"),
    "bytes_per_s": (8, "bytes/s"),
    "kbytes_per_s": (8 * 10**3, "kbytes/s"),
    "mbytes_per_s": (8 * 10**6, "Mbytes/s"),
}
WRITTEN = {name: unit for unit, (_, written) in RATES.items() for name in (unit, written.lower())}
BITS_OR_BYTES = re.compile(r"([kKmM]?)([bB])(?:ps|/s)")
HEAD = "time_s,up_mbps,down_mbps"
NAME_TIME = 'name the unit: time = "ms" in a profile, --time ms for traces show'
ONE_COLUMN = "run.py traces convert FILE --rate mbps --step 1s reads rates, one a line"
DROP = "run.py traces convert FILE --drop-bad leaves such rows out"
CONVERT = "run.py traces convert FILE --time COLUMN --down COLUMN --up COLUMN makes a trace of other columns"


class TraceColumn(Struct, frozen=True):
    """A quantity of a trace: a number becomes ``number * scale // parts`` of the unit used inside.

    ``number * scale`` is ``most`` at most. ``quantity``: time, up, down, rtt or loss; ``name``: what errors call it.
    """

    quantity: str
    name: str
    scale: int
    most: int
    unit: str
    remedy: str
    parts: int = 1


def unit_written(text: str) -> str:
    """The unit of a rate that is written so, "" for none: a capital B is a byte, and what BPS is nobody knows."""
    if found := BITS_OR_BYTES.fullmatch(text):
        return f"{found[1].lower()}{'bps' if found[2] == 'b' else 'bytes_per_s'}"
    return "" if text.endswith("BPS") else WRITTEN.get(text.lower(), "")


def time_column(unit: str) -> TraceColumn:
    return TraceColumn("time", f"time_{unit}", TIMES[unit], 10**20, unit, NAME_TIME)


def rate_column(quantity: str, unit: str) -> TraceColumn:
    scale, written = RATES[unit]
    name = f"{quantity}_{unit}" if quantity else written
    remedy = "give Mbit/s, not bit/s" if unit == "mbps" else f"give {written}"
    return TraceColumn(quantity, name, scale, MOST_BPS, written, remedy)


RTT = TraceColumn("rtt", "rtt_ms", 10**6, LONGEST_DELAY_MS * 2 * 10**6, "ms", "give the round trip in ms", parts=2)
LOSS = TraceColumn("loss", "loss", 10**9, 10**9, "", "loss is a fraction from 0 to 1: 2 % is 0.02")
COLUMNS = {
    column.name: column
    for column in (
        *(time_column(unit) for unit in TIMES),
        *(rate_column(way, unit) for way in ("up", "down") for unit in RATES),
        *(RTT, LOSS),
    )
}
USUAL = ("time_s", "up_mbps", "down_mbps", "rtt_ms", "loss")


def pairs(file: str, lines: list[SourceLine], time: str, rate: str, holds: Holds) -> StepFunction:
    """White space between a time and a rate; their units, by default seconds and Mbit/s."""
    columns = [time_column(time or "s"), rate_column("", rate or "mbps")]
    form = f"pairs of {'seconds' if columns[0].unit == 's' else columns[0].unit} and {columns[1].unit}"
    return _rows(file, lines, form, None, columns, holds)[""]


def csv(file: str, lines: list[SourceLine], holds: Holds) -> dict[str, StepFunction]:
    """The columns of a CSV by their quantity: up or down or both, perhaps rtt and loss."""
    head = lines[0]
    names = [name.strip().strip('"') for name in head.text.split(",")]
    if all(NUMBER.fullmatch(name) for name in names):
        raise trace_error(head, f"a CSV begins with its columns' names; write {HEAD} above the numbers")
    words = head.text.split()
    if len(words) > 1 and all(NUMBER.fullmatch(word) or WITH_COMMA.fullmatch(word) for word in words):
        raise trace_error(head, f"{shown(next(w for w in words if ',' in w))} has a comma; write a point, as in 2.5")
    if not any(name in COLUMNS for name in names):
        some = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        raise trace_error(head, f"has {len(names)} columns ({some}) and none of {', '.join(USUAL)}; {CONVERT}")
    for i, name in enumerate(names):
        if name not in COLUMNS:
            guess = nearest(name, (*USUAL, *COLUMNS))
            raise trace_error(head, f"unknown column {shown(name)}; {guess}Columns: {', '.join(USUAL)}; {CONVERT}")
        if name in names[:i]:
            raise trace_error(head, f"column {name} is there twice; leave one out")
    columns = [COLUMNS[name] for name in names]
    quantities = [column.quantity for column in columns]
    for quantity, name in (("time", "time_s"), ("up", "up_mbps"), ("down", "down_mbps"), ("rtt", ""), ("loss", "")):
        if quantities.count(quantity) > 1:
            raise trace_error(head, f"has {quantity} in {quantities.count(quantity)} units; leave all but one out")
        if quantity == "time" and quantity not in quantities:
            raise trace_error(head, f"column {name} is missing; write {HEAD}, and rtt_ms, loss if known")
    if "up" not in quantities and "down" not in quantities:
        raise trace_error(head, f"columns up_mbps and down_mbps are missing; write {HEAD}, or one of the two")
    return _rows(file, lines[1:], "CSV", ",", columns, holds)


def _rows(
    file: str, lines: list[SourceLine], form: str, mark: str | None, columns: list[TraceColumn], holds: Holds
) -> dict[str, StepFunction]:
    """Each column but the time's as steps; ``mark`` lies between the numbers, None: white space."""
    times: list[int] = []
    values: dict[str, list[int]] = {column.quantity: [] for column in columns if column.quantity != "time"}
    for line in lines:
        cells = line.text.split(mark)
        if len(cells) != len(columns):
            wanted = (mark or " ").join(column.name for column in columns)
            comma = "; a comma in a number? write a point" if mark == "," and len(cells) > len(columns) else ""
            raise trace_error(
                line, f"has {len(cells)} numbers, not {len(columns)}; read as {form}, a line is {wanted}{comma}"
            )
        for column, cell in zip(columns, cells, strict=True):
            value = parse_integer(line, column, cell.strip().strip('"'))
            if column.quantity != "time":
                values[column.quantity].append(value)
            elif times and value <= times[-1]:
                problem = f"{cell.strip()} {column.unit} is not after the time before it"
                raise trace_error(
                    line, f"{problem}; rows must be in order, one for each time; {DROP}, averages repeats"
                )
            else:
                times.append(value)
    if len(times) < 2:
        some = f"has {len(times) or 'no'} row{'s' * (not times)}"
        raise profile_error(file, "", f"{some}; give two or more, for the gap between them")
    return stepped(file, times, values, holds)


def stepped(file: str, times: list[int], values: Mapping[str, list[int]], holds: Holds) -> dict[str, StepFunction]:
    """Rows at rising ``times`` in ns as steps of each quantity."""
    length_ns = times[-1] - times[0]
    if holds == "after":
        length_ns += median_low(b - a for a, b in pairwise(times))
    if length_ns > MOST_S * 10**9:
        problem = f"lasts longer than {MOST_S} s; times must be in the unit named (time_s: seconds), without a jump"
        raise profile_error(file, "", problem)
    starts = [t - times[0] for t in times]
    if holds == "before":
        return {name: merged(starts[:-1], column[1:], length_ns) for name, column in values.items()}
    return {name: merged(starts, column, length_ns) for name, column in values.items()}


def parse_integer(line: SourceLine, column: TraceColumn, text: str, otherwise: str = DROP) -> int:
    """A number of a column in the unit used inside, rounded down; ``otherwise``: what else a user can do."""
    end = f"; {otherwise}" if otherwise else ""
    if not NUMBER.fullmatch(text) or len(text) > 60:
        hint = "; write a point, as in 2.5" if WITH_COMMA.fullmatch(text) else ""
        raise trace_error(line, f"{column.name} is {shown(text)}; it must be a finite number such as 2.5{hint}{end}")
    value = Decimal(text)
    if value < 0:
        raise trace_error(line, f"{column.name} is {shown(text)}; it must be 0 or more{end}")
    exact = EXACT.multiply(value, Decimal(column.scale))
    if exact > column.most:
        most = f"{Decimal(column.most) / column.scale:f}"
        raise trace_error(
            line, f"{column.name} is {shown(text)}, above {most} {column.unit}".rstrip() + f"; {column.remedy}"
        )
    return int(exact) // column.parts


def trace_error(line: SourceLine, problem: str) -> ProfileError:
    return profile_error(line.where, "", problem)
