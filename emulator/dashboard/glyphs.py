"""Small drawings in a line of text: bars, sparklines, strips of time; and columns. Legible without colour.

Only the terminal's own 16 colours are used, and none as a background, so that it reads on light and dark alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from emulator.dashboard.activity import COMPUTE, DOWN_BITS, DOWNLOAD, UP_BITS, UPLOAD, Bins

NOTHING = "–"
LEVELS = "▁▂▃▄▅▆▇█"
MARKS = {COMPUTE: ("█", "green"), UPLOAD: ("▀", "magenta"), DOWNLOAD: ("▄", "cyan")}
WAIT_MARK = "·"
STYLES = {"compute": "green", "upload": "magenta", "download": "cyan", "wait": "", "away": "yellow"}
STYLES |= {"starting": "dim", "finished": "dim"}
TROUBLE = "bold red"  # of any other state
LEGEND = (("█", "green", "compute"), ("▀", "magenta", "upload"), ("▄", "cyan", "download"), ("·", "", "wait"))


class ColumnHeader(NamedTuple):
    """``head`` over ``width`` columns of a table."""

    head: str
    width: int
    right: bool = False


def row(cells: Sequence[Text | str], columns: Sequence[ColumnHeader], style: str = "") -> Text:
    """One line of a table: each cell cut or padded to its column, a space between."""
    line = Text(style=style, end="")
    for i, (cell, column) in enumerate(zip(cells, columns, strict=True)):
        if i:
            line.append(" ")
        line.append_text(fitted(cell, column.width, column.right))
    return line


def fitted(cell: Text | str, width: int, right: bool = False) -> Text:
    """A cell of exactly ``width`` columns; what is cut ends with …"""
    text = cell.copy() if isinstance(cell, Text) else Text(cell)
    missing = width - text.cell_len
    if missing < 0:
        text.truncate(width, overflow="ellipsis")
    elif right:
        text.pad_left(missing)
    else:
        text.pad_right(missing)
    return text


def headers(columns: Sequence[ColumnHeader]) -> Text:
    """The line above a table."""
    return row([column.head for column in columns], columns, "bold")


def bar(share: float, width: int, style: str, peak: float = 0.0) -> Text:
    """``share`` of 1 in full cells, up to ``peak`` in half-tone; anything above 0 is seen, and nothing is over 1."""
    full, half = (min(max(round(part * width), 1 if part > 0 else 0), width) for part in (share, peak))
    half = max(half, full)
    text = Text("█" * full + "▒" * (half - full), style=style)
    return text.append("░" * (width - half), style="dim")


def levels(shares: Iterable[float], style: str) -> Text:
    """A sparkline of values from 0 to 1; 0 is a space, so that the least that is something is seen."""
    marks = "".join(LEVELS[min(int(share * len(LEVELS)), len(LEVELS) - 1)] if share > 0 else " " for share in shares)
    return Text(marks, style=style)


def strip(bins: Bins, width: int, now_ns: int, window_ns: int, ongoing: Iterable[tuple[int, int]], nodes: int) -> Text:
    """A strip of cells, each with what ``nodes`` did most: nothing, where over half the time, else the longest."""
    text = Text()
    for sums, span_ns in bins.cells(width, now_ns, window_ns, tuple(ongoing)):
        if not span_ns:
            text.append(" ")
            continue
        most = max(MARKS, key=lambda state: sums[state])
        waited = span_ns * nodes - sum(sums[state] for state in MARKS)
        text.append(*(MARKS[most] if 2 * waited <= span_ns * nodes else (WAIT_MARK, "")))
    return text


def rate_texts(bins: Bins, width: int, now_ns: int, window_ns: int, up: bool, full_bps: float) -> Text:
    """A sparkline of the bits a second against ``full_bps``."""
    way, style = (UP_BITS, "magenta") if up else (DOWN_BITS, "cyan")
    cells = bins.cells(width, now_ns, window_ns)
    return levels((_over(sums[way] * 1e9, span_ns * full_bps) for sums, span_ns in cells), style)


def use(
    bins: Bins, width: int, now_ns: int, window_ns: int, full: float, ongoing: Iterable[tuple[int, int]] = ()
) -> Text:
    """A sparkline of the first sum against ``full`` a ns."""
    cells = bins.cells(width, now_ns, window_ns, tuple(ongoing))
    return levels((_over(sums[0], span_ns * full) for sums, span_ns in cells), "green")


def _over(part: float, whole: float) -> float:
    return min(part / whole, 1.0) if whole > 0 else 0.0


def short(value: float) -> str:
    """At most four characters, below 10,000."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def seconds(value_s: float) -> str:
    """A length of time with at most two units."""
    if value_s < 100:
        return f"{value_s:.1f} s" if value_s < 10 else f"{value_s:.0f} s"
    minutes = round(value_s / 60)
    if minutes < 60:
        return f"{int(value_s) // 60} min {int(value_s) % 60} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def ends(left: Text, right: Text, width: int) -> Text:
    """Two texts at the ends of a line of exactly ``width`` columns; the left one is cut."""
    line = fitted(left, max(width - right.cell_len - 2, 0))
    return fitted(line.append("  ").append_text(right), width)


def cut(text: str, width: int) -> str:
    """``text`` without its end where it is longer than ``width`` columns."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
