"""A table as text, on a terminal and as Markdown; made for 80 columns."""

from __future__ import annotations

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

NOTHING = "–"  # not reached, not measured


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """One table: heads and names may hold line breaks; the first ``names`` columns are words, the rest numbers."""

    title: str
    heads: list[str]
    names: int
    rows: list[list[str]]
    meaning: str
    results: list[str] = []  # sentences that belong to rows: what does not fit


def show(sheet: Sheet, console: Console | None = None) -> None:
    """Print it to a terminal (default: standard output), with its results and its meaning below."""
    console = console or Console()
    table = Table(
        title=sheet.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        padding=(0, 1),
    )
    for index, head in enumerate(sheet.heads):
        table.add_column(head, justify="left" if index < sheet.names else "right", no_wrap=True, vertical="bottom")
    for row in sheet.rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    for result in sheet.results:
        console.print(Text(result, style="bold"))
    console.print(Text(sheet.meaning, style="dim"))


def markdown(sheet: Sheet) -> list[str]:
    """Its lines."""
    rules = ["---" if index < sheet.names else "---:" for index in range(len(sheet.heads))]
    heads = [" ".join(head.split()) for head in sheet.heads]
    lines = [f"## {sheet.title}", ""]
    rows = [[" ".join(cell.split()) for cell in row] for row in sheet.rows]
    lines += [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]
    for text in (*sheet.results, sheet.meaning):
        lines += ["", text]
    return [*lines, ""]


def number(value: float | None, factor: float = 1.0) -> str:
    """``value * factor`` with three digits or more, at most seven characters wide up to a million."""
    if value is None:
        return NOTHING
    scaled = value * factor
    digits = 0 if abs(scaled) >= 1000 else 1 if abs(scaled) >= 100 else 2
    return f"{scaled:.{digits}f}"
