"""A table as text, on a terminal and as Markdown; made for 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Literal, NamedTuple

import msgspec
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
BEST_MEANS = f"{BEST}: the best of its column, by the value and not by its digits here."


class Ranked(NamedTuple):
    """A column's values in the order of the rows, of which the least or the most is best; None: no candidate."""

    best: Literal["least", "most"]
    values: Sequence[float | None]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table: headers and cells may hold line breaks; the first ``label_columns`` columns are text, others numbers."""

    title: str
    headers: list[str]
    label_columns: int
    rows: list[list[str]]
    caption: str
    results: list[str] = []  # sentences that belong to rows: what does not fit
    best: dict[int, Ranked] = {}  # by column
    ranked: list[int] | None = None  # rows among which the best is looked for; None: all

    def marked(self) -> list[list[str]]:
        """The rows, the best value of each such column followed by ``BEST``; none where all are equal."""
        rows = [list(row) for row in self.rows]
        among = range(len(rows)) if self.ranked is None else self.ranked
        for column, (which, each) in self.best.items():
            values = {index: value for index in among if (value := each[index]) is not None}
            if len(set(values.values())) > 1:
                best = min(values.values()) if which == "least" else max(values.values())
                for index in (index for index, value in values.items() if value == best):
                    rows[index][column] += BEST
        return rows


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
    for row in table.marked():
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
    rows = [[_bold(_plain(cell)) for cell in row] for row in table.marked()]
    lines += [f"| {' | '.join(cells)} |" for cells in (headers, rules, *rows)]
    for text in (*table.results, table.caption):
        lines += ["", text]
    return [*lines, ""]


def _plain(cell: str) -> str:
    """In one line, and in one column."""
    return " ".join(cell.split()).replace("|", "\\|")


def _bold(cell: str) -> str:
    return f"**{cell.removesuffix(BEST)}**" if cell.endswith(BEST) else cell


def number(value: float | None, factor: float = 1.0) -> str:
    """``value * factor`` with three digits or more, at most seven characters wide up to a million."""
    if value is None:
        return NOTHING
    scaled = value * factor
    digits = 0 if abs(scaled) >= 1000 else 1 if abs(scaled) >= 100 else 2
    return f"{scaled:.{digits}f}"
