"""A table of cells with a value and a text, and its renderings: a terminal's, made for 80 columns, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment, Segments
from rich.table import Table as RichTable
from rich.text import Text

from emulator.processes import forget_output
from emulator.validation import printable

WIDEST = 10_000  # columns
NOTHING = "–"  # not reached, not measured
BEST = "*"  # follows the best value of a column
MARKED = "{}" + BEST
BEST_MEANS = f"{BEST}: the best of its column, by the value and not by its digits here."


Best = Literal["least", "most"]
Value = float | str | None  # None: an empty field of a CSV file


class TableCell(NamedTuple):
    """A figure: ``value``, in its column's unit, is what is ranked; ``text`` what is read. None: there is none."""

    value: float | None
    text: str


TableRow = Sequence[TableCell | str]  # a word stands for itself


class Column(NamedTuple):
    """A column with its head; ``best``: which of its values is the best, where one is."""

    head: str
    cells: TableRow
    best: Best | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table: headers and texts may hold line breaks; the first ``label_columns`` columns are text, others numbers."""

    title: str
    headers: list[str]
    label_columns: int
    rows: Sequence[TableRow]
    caption: str
    results: list[str] = []  # sentences that belong to rows: what does not fit
    best: dict[int, Best] = {}  # by column
    groups: dict[int, str] = {}  # titles over several columns, by the first of each
    ranked: list[int] | None = None  # rows among which the best is looked for; None: all

    def best_cells(self) -> set[tuple[int, int]]:
        """TableRow and column of the best values, several where they are equal; none in a column where all are."""
        found = set()
        among = range(len(self.rows)) if self.ranked is None else self.ranked
        for column, which in self.best.items():
            cells = [(row, self.rows[row][column]) for row in among]
            values = {row: cell.value for row, cell in cells if isinstance(cell, TableCell) and cell.value is not None}
            if len(set(values.values())) > 1:
                best = min(values.values()) if which == "least" else max(values.values())
                found |= {(row, column) for row, value in values.items() if value == best}
        return found

    def texts(self, mark: str = "{}") -> list[list[str]]:
        """The rows as they are read, the best of a column put into ``mark``."""
        best = self.best_cells()
        return [
            [mark.format(text) if (r, c) in best else text for c, text in enumerate(map(_text, row))]
            for r, row in enumerate(self.rows)
        ]


def from_columns(columns: Sequence[Column], *, title: str, caption: str, **more: Any) -> Table:
    """A table of columns; ``more`` are fields of a table."""
    return Table(
        title=title,
        headers=[column.head for column in columns],
        rows=[*zip(*(column.cells for column in columns), strict=True)],
        caption=caption,
        best={index: column.best for index, column in enumerate(columns) if column.best},
        **{"label_columns": 1} | more,
    )


class Output(Console):
    """The standard output. Where its reader has had enough (``| head``), what prints goes on without one."""

    def on_broken_pipe(self) -> None:
        forget_output()


def show(table: Table, console: Console | None = None) -> None:
    """Print a table to a terminal (default: standard output), with its results and its caption below."""
    console = console or Output()
    drawn = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        padding=(0, 1),
    )
    for index, head in enumerate(table.headers):
        drawn.add_column(
            head, justify="left" if index < table.label_columns else "right", no_wrap=True, vertical="bottom"
        )
    for row in table.texts(MARKED):
        drawn.add_row(*map(printable, row))
    console.print()
    # A terminal that is too narrow wraps lines; a number that was cut would be another number.
    natural = Measurement.get(console, console.options.update(max_width=WIDEST), drawn).maximum
    wide = console.options.update(width=max(natural, console.width))
    for line in console.render_lines(drawn, wide, pad=False):
        console.print(Segments([*_without_padding(line), Segment.line()]), end="", crop=False)
    for text, style in (*((result, "bold") for result in table.results), (table.caption, "dim")):
        for part in wrapped(text, console.width):
            console.print(Text(part, style=style), soft_wrap=True)


def wrapped(text: str, width: int) -> list[str]:
    """Its lines on a terminal, without a space at their ends; a word that is longer stays whole."""
    return wrap(printable(text), width, break_long_words=False, break_on_hyphens=False)


def _without_padding(line: list[Segment]) -> list[Segment]:
    """Without spaces at its end."""
    last = next((place for place in reversed(range(len(line))) if line[place].text.strip()), -1)
    return [*line[:last], line[last]._replace(text=line[last].text.rstrip())] if last >= 0 else []


def markdown(table: Table) -> list[str]:
    """The lines of a table in Markdown."""
    rules = ["---" if index < table.label_columns else "---:" for index in range(len(table.headers))]
    headers = [_plain(head) for head in table.headers]
    lines = [f"## {table.title}", ""]
    rows = [[_plain(text) for text in row] for row in table.texts("**{}**")]
    lines += [f"| {' | '.join(cells)} |" for cells in (headers, rules, *rows)]
    for text in (*table.results, table.caption):
        lines += ["", text]
    return [*lines, ""]


def csv_text(headers: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """A file of values; of none where a row has None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(rows)
    return text.getvalue()


def _text(cell: TableCell | str) -> str:
    return cell.text if isinstance(cell, TableCell) else cell


def _plain(text: str) -> str:
    """In one line, and in one column."""
    return " ".join(text.split()).replace("|", "\\|")


def figure(value: float | None, factor: float = 1.0, *, signed: bool = False, fine: bool = False) -> TableCell:
    """``value * factor`` as it is, and as ``number`` writes it."""
    return TableCell(None if value is None else value * factor, number(value, factor, signed=signed, fine=fine))


def count(value: int) -> TableCell:
    """A whole number, all digits of it."""
    return TableCell(value, str(value))


def short(value: float, digits: int = 4) -> str:
    """So many digits that count and all before the point, without an exponent or zeros at the end."""
    after = max(digits - 1 - math.floor(math.log10(abs(value))), 0) if value else 0
    return np.format_float_positional(value, precision=after, unique=False, trim="-")


def number(value: float | None, factor: float = 1.0, *, signed: bool = False, fine: bool = False) -> str:
    """``value * factor`` with three digits or more, at most seven characters wide up to a million; ``signed``: with a
    plus where it is more than a zero; ``fine``: below 1 with three digits that count."""
    if value is None:
        return NOTHING
    scaled = value * factor
    if fine and 0 < abs(scaled) < 1:
        return f"{'+' if signed and scaled > 0 else ''}{short(scaled, 3)}"
    digits = 0 if abs(scaled) >= 1000 else 1 if abs(scaled) >= 100 else 2
    return f"{'+' if signed and round(scaled, digits) > 0 else ''}{scaled:z.{digits}f}"
