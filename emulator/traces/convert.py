"""Logs that people hold, as traces: columns by name, their units, repeated times, missing values.

``convert`` reads a table (CSV, or separated by semicolons, tabs or white space; with the names of its columns above it,
or without) and gives the text of a CSV as ``traces`` reads it, with a few lines that say what was done. Times and rates
are exact until they are written, in ns and whole bit/s, rounded down.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from statistics import median_low
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from emulator.errors import UserError
from emulator.inputs.text_files import profile_error, shown
from emulator.inputs.text_tables import TextRow, TextTable, table_of
from emulator.piecewise import StepFunction
from emulator.traces.format import LONGEST_DELAY_MS, Rate
from emulator.traces.reading import LONGEST_S, Form, parsed, plausible
from emulator.traces.rows import MOST_BPS, NUMBER, RATES, TIMES, unit_written

MISSING = ("", "-", "--", "nan", "na", "n/a", "null", "none", "?")
UNIT_IN_NAME = re.compile(r"(?:^|[\s_(\[])([a-z/]+)[)\]]?$", re.IGNORECASE)
SPAN = re.compile(r"(\d+\.?\d*|\.\d+)\s*(s|ms|us)", re.ASCII)
WIDE = 10  # a gap of so many times the usual one is told
HEADS = {"up": "up_mbps", "down": "down_mbps", "rtt": "rtt_ms"}
MOST = Fraction(10**20)  # of a time in its unit
Missing = Literal["", "drop", "hold", "zero"]


class ConvertOptions(Struct, frozen=True):
    """Options of a log's conversion: columns by name or number (from 1). ``time_format``: s, ms, us, iso or a pattern.

    ``step``: rows, or the numbers in the time's column, are so far apart, such as 1s. ``missing``: what becomes of
    values that are not there; "" refuses them. ``gap``: where rows are further apart, such as 10s, they are taken as
    apart by the usual (median) gap: a recording that paused.
    """

    time: str = ""
    time_format: str = ""
    step: str = ""
    up: str = ""
    down: str = ""
    rtt: str = ""
    rate: Rate = ""
    missing: Missing = ""
    gap: str = ""
    drop_bad: bool = False


class Converted(NamedTuple):
    """The text of a CSV, lines that say what was done, and the steps that the text comes to."""

    text: str
    notes: list[str]
    steps: dict[str, StepFunction]


class _Bad(Exception):
    """A row that cannot be used; ``reason`` is the same for all of a kind."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


class _Sample(NamedTuple):
    """A row: its time, and its values in bit/s or ms (None: missing)."""

    where: str
    time_ns: int
    values: tuple[Fraction | None, ...]


def convert(file: str, text: str, choice: ConvertOptions) -> Converted:
    """The table in ``text`` as a trace; ``file`` names it in errors."""
    table = table_of(file, text)
    is_guess = not (table.is_named or choice.rate or choice.time_format or choice.step)
    choice = _completed(table, choice)
    columns = {name: said for name in HEADS if (said := getattr(choice, name))}
    places = [table.column(said, f"--{name}") for name, said in columns.items()]
    units = [_unit(table, choice, name, i) for name, i in zip(columns, places, strict=True)]
    samples, bad = _samples(table, choice, _clock(table, choice), list(zip(places, units, strict=True)))
    rows, repeated = _averaged(samples)
    rows, missing = _filled(rows, choice, table, places)
    if len(rows) < 2:
        raise profile_error(file, "", f"has {len(rows) or 'no'} row{'s' * (not rows)} that can be used; two are needed")
    rows, pauses = _without_pauses(rows, span_ns("--gap", choice.gap) if choice.gap else None)
    lines = [",".join([_decimal(row.time_ns, 9), *map(_cell, columns, row.values)]) for row in rows]
    origin = ", ".join(f"{HEADS[name]} is {table.names[i]}" for name, i in zip(columns, places, strict=True))
    head = _one_line(f"# Made by run.py traces convert from {Path(file).name}: {origin}")
    made = "\n".join([head, ",".join(["time_s", *(HEADS[name] for name in columns)]), *lines, ""])
    steps = parsed(file, made, Form())
    length_s = next(iter(steps.values())).length_ns / 10**9
    if length_s > LONGEST_S and not choice.gap:
        remedy = "say --gap 10s to take longer pauses out, or a --gap above all of them if it is so long"
        raise profile_error(file, "", f"lasts {length_s:,.0f} s, more than a day; {remedy}")
    if is_guess:
        plausible(file, next(iter(steps.values())), Form(), is_mahimahi=False)
    did = [f"{len(table.rows)} rows"]
    did += [f"{repeated} repeat{'s' * (repeated > 1)} of a time averaged"] * bool(repeated)
    did += [f"{count} left out: {reason}" for reason, count in bad.items()]
    did += [f"{pauses} pause{'s' * (pauses > 1)} above {choice.gap} taken out"] * bool(pauses)
    did += [f"{missing} without a value: {choice.missing or 'left out'}"] * bool(missing)
    return Converted(made, [f"{file}: {'; '.join(did)}.", *_outcome(rows, steps)], steps)


def _completed(table: TextTable, choice: ConvertOptions) -> ConvertOptions:
    """The choice with what a table of one or two columns without names leaves no doubt about."""
    if not table.is_named and len(table.names) <= 2 and not (choice.up or choice.down):
        rate = str(len(table.names))
        choice = replace(choice, up=rate, down=rate)
        if len(table.names) == 2 and not choice.time:
            choice = replace(choice, time="1")
        if len(table.names) == 2:
            choice = replace(choice, rate=choice.rate or "mbps")
            if not choice.time_format and not choice.step:
                choice = replace(choice, time_format="s")
    if not choice.up and not choice.down:
        raise profile_error(
            table.file, "", f"say which column is the rate: --down COLUMN, --up COLUMN. {table.listed()}"
        )
    if not choice.time and not choice.step:
        remedy = "--time COLUMN, or --step 1s for rows so far apart"
        raise profile_error(table.file, "", f"say which column is the time: {remedy}. {table.listed()}")
    if choice.time and choice.time_format and choice.step:
        raise UserError("--step: the time has a --time-format; leave one of the two out")
    return choice


class _Unit(NamedTuple):
    """``scale``: bit/s (of round trips: ms) in the unit of a column. ``most``: of its numbers."""

    scale: int
    most: Fraction


def _unit(table: TextTable, choice: ConvertOptions, name: str, place: int) -> _Unit:
    """The unit of a column of rates, that its name or the user says; round trips are in ms."""
    if name == "rtt":
        return _Unit(1, Fraction(2 * LONGEST_DELAY_MS))
    found = UNIT_IN_NAME.search(table.names[place])
    named = unit_written(found[1]) if found else ""
    if named not in ("", unit := choice.rate or named):
        raise profile_error(table.file, "", f"{shown(table.names[place])} says {named}, and --rate {unit}; say one")
    if not unit:
        units = ", ".join(RATES)
        raise profile_error(table.file, "", f"say the unit of {shown(table.names[place])}: --rate, one of {units}")
    return _Unit(RATES[unit][0], Fraction(MOST_BPS, RATES[unit][0]))


# --- times ------------------------------------------------------------------------------------------------------------


def _clock(table: TextTable, choice: ConvertOptions) -> Callable[[TextRow, int], int]:
    """The function from a row's cells and number (from 0) to its time, ns; ProfileError where the unit is unclear."""
    step_ns = span_ns("--step", choice.step) if choice.step else 0
    if not choice.time:
        return lambda _row, number: number * step_ns
    place = table.column(choice.time, "--time")
    name, form = table.names[place], choice.time_format
    if not step_ns and not form:
        found = UNIT_IN_NAME.search(name)
        form = found[1].lower() if found and found[1].lower() in TIMES else ""
    if step_ns or form in TIMES:
        scale = step_ns or TIMES[form]
        return lambda row, _number: int(_number_of(name, row.cells[place]) * scale)
    if form != "iso" and "%" not in form:
        remedy = (
            "--time-format s, ms, us, iso or a pattern such as %Y-%m-%d_%H:%M:%S, or --step 1s where rows are counted"
        )
        raise profile_error(table.file, "", f"say what {shown(name)} is: {remedy}")
    return lambda row, _number: _instant_ns(name, row.cells[place], form)


def span_ns(flag: str, text: str) -> int:
    """``1s``, ``0.5s`` or ``20ms`` in ns; UserError for anything else."""
    found = SPAN.fullmatch(text.strip())
    value = int(Fraction(found[1]) * TIMES[found[2]]) if found and len(text) < 30 else 0
    if value <= 0:
        raise UserError(f"{flag} {text}: say a time with its unit, such as 1s, 0.5s or 20ms")
    return value


def _instant_ns(name: str, text: str, form: str) -> int:
    """ns since 1970 of a date and time; without a zone it is taken as UTC."""
    try:
        when = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)
    except (ValueError, re.error, OverflowError) as error:
        if "directive" in str(error) or "stray %" in str(error) or isinstance(error, re.error):
            raise UserError(f"--time-format {form}: {error}; see the directives of Python's strptime") from None
        raise _Bad("time not of the form", f"{name} is {shown(text)}, not of the form {form}") from None
    since = when.replace(tzinfo=when.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86400 + since.seconds) * 10**6 + since.microseconds) * 1000


# --- rows -------------------------------------------------------------------------------------------------------------


def _samples(
    table: TextTable, choice: ConvertOptions, clock: Callable[[TextRow, int], int], columns: Sequence[tuple[int, _Unit]]
) -> tuple[list[_Sample], Counter[str]]:
    """The rows that can be used, and how many cannot, by reason; refused is the first such, unless they are dropped."""
    bad: Counter[str] = Counter()
    samples: list[_Sample] = []
    for number, row in enumerate(table.rows):
        try:
            if len(row.cells) != len(table.names):
                detail = f"has {len(row.cells)} cells, not {len(table.names)} as the first line"
                raise _Bad("other number of cells", detail)
            values = tuple(_value_of(table.names[place], row.cells[place], unit) for place, unit in columns)
            time_ns = clock(row, number)
            if samples and time_ns < samples[-1].time_ns:
                raise _Bad("time goes back", "its time is before that of the row above it")
        except _Bad as problem:
            if not choice.drop_bad:
                raise profile_error(row.where, "", f"{problem.detail}; --drop-bad leaves such rows out") from None
            bad[problem.reason] += 1
        else:
            samples.append(_Sample(row.where, time_ns, values))
    return samples, bad


def _value_of(name: str, text: str, unit: _Unit) -> Fraction | None:
    return None if text.lower() in MISSING else _number_of(name, text, unit.most) * unit.scale


def _number_of(name: str, text: str, most: Fraction = MOST) -> Fraction:
    if not NUMBER.fullmatch(text) or len(text) > 60:
        comma = " (a number with a comma? write a point)" if re.fullmatch(r"[\d.,]+", text) else ""
        raise _Bad("no number", f"{name} is {shown(text)}, which is no number{comma}")
    value = Fraction(Decimal(text))
    if value < 0:
        raise _Bad("negative", f"{name} is {shown(text)}, below 0")
    if value > most:
        raise _Bad("too large", f"{name} is {shown(text)}, above {float(most):.15g}; is it in another unit?")
    return value


def _averaged(samples: list[_Sample]) -> tuple[list[_Sample], int]:
    """One row for each time, with the means of what its rows have; and how many rows were repeats."""
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.time_ns)]
    rows = [
        _Sample(group[0].where, group[0].time_ns, tuple(map(_mean, zip(*(each.values for each in group), strict=True))))
        for group in groups
    ]
    return rows, len(samples) - len(rows)


def _mean(values: tuple[Fraction | None, ...]) -> Fraction | None:
    there = [value for value in values if value is not None]
    return sum(there, Fraction(0)) / len(there) if there else None


def _filled(
    rows: list[_Sample], choice: ConvertOptions, table: TextTable, places: list[int]
) -> tuple[list[_Sample], int]:
    """The rows with what is missing as the user says; and how many rows lacked something."""
    lacking = [row for row in rows if None in row.values]
    if not lacking:
        return rows, 0
    if not choice.missing and not choice.drop_bad:
        name = table.names[places[lacking[0].values.index(None)]]
        some = f"{name} is missing, as {len(lacking)} of {len(rows)} rows lack a value"
        raise profile_error(lacking[0].where, "", f"{some}; say --missing drop, hold (the value before) or zero")
    kept: list[_Sample] = []
    for row in rows:
        values = row.values
        if choice.missing == "zero":
            values = tuple(Fraction(0) if value is None else value for value in values)
        elif choice.missing == "hold" and kept:
            values = tuple(old if new is None else new for old, new in zip(kept[-1].values, values, strict=True))
        if None not in values:  # before the first value there is none to hold
            kept.append(row._replace(values=values))
    return kept, len(lacking)


def _without_pauses(rows: list[_Sample], longest_ns: int | None) -> tuple[list[_Sample], int]:
    """The rows from time 0 on, those that are further apart brought as near as usual; and how many were."""
    gaps = [b.time_ns - a.time_ns for a, b in pairwise(rows)]
    usual_ns = median_low(gaps)
    kept = [usual_ns if longest_ns is not None and gap > longest_ns else gap for gap in gaps]
    times = accumulate(kept, initial=0)
    moved = [row._replace(time_ns=t) for row, t in zip(rows, times, strict=True)]
    return moved, sum(a != b for a, b in zip(gaps, kept, strict=True))


# --- what comes out ---------------------------------------------------------------------------------------------------


def _outcome(rows: list[_Sample], steps: dict[str, StepFunction]) -> list[str]:
    """The summary of a trace in one to three lines: length and mean rates, gaps, a direction that is missing."""
    rates = {name: steps[name] for name in ("up", "down") if name in steps}
    length_s = next(iter(rates.values())).length_ns / 10**9
    means = " and ".join(f"{each.sums[-1] / each.length_ns / 10**6:.4g} Mbit/s {name}" for name, each in rates.items())
    lines = [f"{len(rows)} rows over {length_s:g} s, in the mean {means}."]
    gaps = [b.time_ns - a.time_ns for a, b in pairwise(rows)]
    usual_ns = median_low(gaps)
    wide = [gap for gap in gaps if gap > WIDE * usual_ns]
    if wide:
        some = f"{len(wide)} gap{'s' * (len(wide) > 1)} above {WIDE} times the usual {usual_ns / 10**9:g} s"
        lines.append(f"{some}, up to {max(wide) / 10**9:g} s: the rate before it holds through each.")
    if len(rates) == 1:
        has, lacks = ("up", "down") if "up" in rates else ("down", "up")
        lines.append(f"Rates {has} alone: a profile takes {has}_trace = FILE and {lacks}_mbps = NUMBER.")
    return lines


def _cell(name: str, value: Fraction | None) -> str:
    assert value is not None
    return _decimal(int(value * (10**6 if name == "rtt" else 1)), 6)


def _decimal(value: int, digits: int) -> str:
    """``value / 10^digits``, exactly, without zeros at the end."""
    whole, rest = divmod(value, 10**digits)
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


# --- the command ------------------------------------------------------------------------------------------------------
