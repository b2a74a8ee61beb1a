"""Traces as text: which ship, and one of them drawn over its time. Without colour, 80 columns wide."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from math import floor, log10

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.text import Text

from emulator.piecewise import StepFunction
from emulator.processes import CALL
from emulator.tables.table import NOTHING, Table, TableCell, TableRow, short, show
from emulator.traces import reading
from emulator.traces.reading import Trace
from emulator.traces.statistics import Spread, spread

COLUMNS = 68  # of a drawing: 80 less the labels of its axis
ROWS = 6
BLOCKS = " ▁▂▃▄▅▆▇█"
TICKS = 5  # of the time axis, the one at 0 apart


class Quantity(Struct, frozen=True):
    """What a trace has steps of; shown as ``value * factor / per`` in the unit."""

    name: str
    unit: str
    steps: StepFunction
    factor: int
    per: int

    @property
    def is_rate(self) -> bool:
        return self.unit.endswith("bit/s")


def quantities(trace: Trace) -> list[Quantity]:
    """What the trace has of up, down, round trip and loss; slow rates in kbit/s."""
    rates = {name: steps for name, steps in (("up", trace.up), ("down", trace.down)) if steps}
    slow = max(max(steps.values) for steps in rates.values()) < 10**6
    unit, per = ("kbit/s", 10**3) if slow else ("Mbit/s", 10**6)
    found = [Quantity(name, unit, steps, 1, per) for name, steps in rates.items()]
    if trace.delays:
        found.append(Quantity("round trip", "ms", trace.delays, 2, 10**6))
    if trace.losses:
        found.append(Quantity("loss", "%", trace.losses, 100, 10**9))
    return found


def show_traces(console: Console) -> None:
    """What ships, a row a direction."""
    rows: list[TableRow] = []
    for name in reading.shipped_traces():
        for i, rate in enumerate(quantities(reading.find_trace(name, "traces"))[:2]):
            found = spread(rate.steps, rate.factor, rate.per)
            values = (found.mean, found.p5, found.p50, found.p95, found.zero_share * 100, found.longest_zero_s)
            cells = [TableCell(value, short(value, 3)) for value in values]
            length = "" if i else TableCell(found.length_s, f"{found.length_s:g}")
            variation = TableCell(found.variation, f"{found.variation:.2f}")
            rows.append(["" if i else name, rate.name, rate.unit, length, *cells, variation])
    headers = ["trace", "", "", "length\ns", "mean", "p5", "p50", "p95", "at 0\n%", "outage\ns", "CV"]
    caption = (
        "p5, p50, p95: at or below this 5, 50, 95 % of the time. at 0: share of the time; outage: longest time at 0."
        " CV: standard deviation over mean."
    )
    show(Table(title="Bandwidth traces", headers=headers, label_columns=3, rows=rows, caption=caption), console)
    console.print(f"\n'{CALL} traces show NAME|FILE' draws one; 'traces convert --help' tells how to bring your own.")


def show_trace(trace: Trace, console: Console) -> None:
    """One trace: rates, round trip and loss over time, and the statistics."""
    for line in trace_lines(trace):
        console.print(Text(line), soft_wrap=True)
    show(trace_table(trace), console)


def trace_lines(trace: Trace) -> list[str]:
    """The drawing of a trace."""
    drawn = quantities(trace)
    length_s, steps = drawn[0].steps.length_ns / 10**9, len(drawn[0].steps.values)
    some = f"{steps} steps" if steps > 1 else "one step"
    lines = [f"trace {trace.name}: {length_s:g} s in {some}, then it starts over", trace.file]
    if trace.up == trace.down:
        drawn = [msgspec.structs.replace(drawn[0], name="up and down alike"), *drawn[2:]]
    for quantity in drawn:
        lines += ["", f"{quantity.name}, {quantity.unit}", *chart(quantity)]
        lines += [*time_axis(quantity.steps.length_ns), *(outages(quantity.steps) if quantity.is_rate else [])]
    column_s = short(length_s / COLUMNS, 3)
    marks = "; ×: at 0 for some of them" if any("×" in line for line in lines) else ""
    return [*lines, "", f"Time in s. A column is the mean over {column_s} s{marks}."]


def chart(quantity: Quantity) -> list[str]:
    """Its means over as many spans as there are columns, as bars from 0."""
    spans = list(pairwise(edges(quantity.steps.length_ns)))
    means = [quantity.steps.integral(a, b) / (b - a) * quantity.factor / quantity.per for a, b in spans]
    top = nice(max(means))
    heights = [min(max(round(mean / top * ROWS * 8), 1 if mean else 0), ROWS * 8) for mean in means]  # in eighths
    lines = []
    for row in reversed(range(ROWS)):
        bars = "".join(BLOCKS[min(max(height - row * 8, 0), 8)] for height in heights)
        labels = {ROWS: short(top, 3), ROWS // 2: short(top / 2, 3)}
        lines.append(f"{labels.get(row + 1, ''):>8} │{bars}".rstrip())
    return lines


def edges(length_ns: int) -> list[int]:
    """Where the columns of a drawing begin, and the last ends; each is 1 ns long at least."""
    return [max(length_ns * i // COLUMNS, i) for i in range(COLUMNS + 1)]


def outages(steps: StepFunction) -> list[str]:
    """A line that marks the columns in which there is no rate for some of the time; none where there always is."""
    columns = edges(steps.length_ns)
    marked: set[int] = set()
    for (a, b), value in zip(pairwise(steps.edges_ns), steps.values, strict=True):
        if value == 0:
            marked.update(range(bisect_right(columns, a) - 1, bisect_right(columns, b - 1)))
    marks = "".join("×" if i in marked else " " for i in range(COLUMNS))
    return [f"{'at 0':>8}  {marks}".rstrip()] if marked else []


def time_axis(length_ns: int) -> list[str]:
    """A line, and below it numbers in s where their moments are."""
    length_s = length_ns / 10**9
    step = nice(length_s / TICKS)
    labels = [" "] * COLUMNS
    rule = ["─"] * COLUMNS
    for i in range(int(length_s / step) + 1):
        place = min(round(i * step / length_s * COLUMNS), COLUMNS - 1)
        rule[place] = "┴"
        text = short(i * step, 4)
        begin = min(place, COLUMNS - len(text))
        labels[begin : begin + len(text)] = text
    return [f"{'0':>8} └{''.join(rule)}", f"{'':>10}{''.join(labels)}".rstrip()]


def nice(value: float) -> float:
    """The next number from ``value`` on that is 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def trace_table(trace: Trace) -> Table:
    """The statistics of a trace as a table, a column a quantity."""
    shown = quantities(trace)
    spreads = [spread(quantity.steps, quantity.factor, quantity.per) for quantity in shown]
    rows = [[name, *map(cell, spreads)] for name, cell in STATISTICS.items()]
    headers = ["", *(f"{quantity.name}\n{quantity.unit}" for quantity in shown)]
    caption = "Every step is weighted by its time; outages and autocorrelation go on where the trace starts over."
    return Table(title="Statistics", headers=headers, label_columns=1, rows=rows, caption=caption)


STATISTICS: dict[str, Callable[[Spread], str]] = {
    "mean": lambda spread: short(spread.mean),
    "standard deviation": lambda spread: short(spread.std),
    "smallest": lambda spread: short(spread.least),
    "5 % of the time at or below": lambda spread: short(spread.p5),
    "50 % (median)": lambda spread: short(spread.p50),
    "95 %": lambda spread: short(spread.p95),
    "largest": lambda spread: short(spread.most),
    "share of the time at 0, %": lambda spread: short(spread.zero_share * 100),
    "longest time at 0, s": lambda spread: short(spread.longest_zero_s),
    "coefficient of variation": lambda spread: f"{spread.variation:.2f}",
    "autocorrelation at 1 s": lambda spread: (
        NOTHING if spread.autocorrelation is None else f"{spread.autocorrelation:.2f}"
    ),
}
