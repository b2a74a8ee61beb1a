"""Tables, targets and JSON of benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec


class Target(msgspec.Struct, frozen=True):
    """A figure that is judged; ``at_least``: it must not be below ``target``, else: it must be below."""

    what: str
    figure: float
    unit: str
    target: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.figure >= self.target if self.at_least else self.figure < self.target

    def line(self) -> str:
        bound = "at least" if self.at_least else "below"
        verdict = "met" if self.met else "MISSED"
        unit = f" {self.unit}" if self.unit else ""
        figure = f"{self.figure:,.{2 if self.figure < 10 else 1}f}"
        return f"{self.what}: {figure}{unit} (target: {bound} {self.target:g}{unit}) {verdict}"


class Section(msgspec.Struct, frozen=True):
    """What one benchmark found: ``table`` with its header in the first row, remarks, and the same as figures."""

    name: str
    title: str
    table: list[list[str]]
    figures: dict[str, Any]
    targets: list[Target] = []
    remarks: list[str] = []

    def text(self) -> str:
        lines = [f"== {self.name}: {self.title}", "", *table_lines(self.table), ""]
        lines += [target.line() for target in self.targets]
        lines += self.remarks
        return "\n".join(lines).rstrip() + "\n"

    def markdown(self) -> str:
        """Its table alone, for a page that includes it."""
        heads, *rows = self.table
        rules = ["---", *("---:" for _ in heads[1:])]
        return "".join(f"| {' | '.join(row)} |\n" for row in (heads, rules, *rows))

    def as_json(self) -> dict[str, Any]:
        judged = [msgspec.to_builtins(target) | {"met": target.met} for target in self.targets]
        return {"title": self.title, "figures": self.figures, "targets": judged, "remarks": self.remarks}


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to their widest cell: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = [
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pairs))
        for pairs in (zip(row, widths, strict=True) for row in rows)
    ]
    return [aligned[0], "  ".join("-" * width for width in widths), *aligned[1:]]


def rate_text(rate_bps: int) -> str:
    return f"{rate_bps / 1e6:g} Mbit/s"


def size_text(size_bytes: int) -> str:
    """Decimal units, as links count."""
    if size_bytes >= 10**6:
        return f"{size_bytes / 1e6:g} MB"
    return f"{size_bytes / 1e3:g} kB" if size_bytes >= 1000 else f"{size_bytes} B"
