"""How all plots look: colours, the frame with title and source, files that are the same whenever they are drawn.

Made to be read 800 pixels wide, by the colour-blind, and in grey: a curve has its marker, areas differ in lightness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import matplotlib
from matplotlib.figure import Figure

Json = Mapping[str, Any]

WIDTH = 8.0  # inches: 800 pixels at 100 dpi, in which sizes of letters are meant
DPI = 200  # of a PNG: sharp on a screen that shows it at half its size
SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 11.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "splitbed",  # ids in an SVG are drawn from it
}
DARK, FAINT, ALARM = "#222222", "#666666", "#B00020"


class Mark(NamedTuple):
    """How an algorithm is recognised in every plot."""

    colour: str
    marker: str


# The colours of Okabe and Ito (2008) but for their yellow, which is too faint for a line on white.
MARKS = {
    "fedavg": Mark("#000000", "o"),
    "sl": Mark("#D55E00", "s"),
    "splitfed-v1": Mark("#0072B2", "^"),
    "splitfed-v2": Mark("#56B4E9", "v"),
    "local-loss": Mark("#CC79A7", "D"),
    "cse-fsl": Mark("#E69F00", "P"),
    "fsl-sage": Mark("#009E73", "*"),
    "heron-sfl": Mark("#888888", "X"),
}
FURTHER = [Mark(c, m) for m in "<>hp" for c in ("#332288", "#882255", "#999933", "#117733", "#AA4499")]
LOOKS = {  # of causes: colour, and hatch that tells it apart in grey
    "compute": ("#004488", ""),
    "serialisation": ("#DDAA33", ""),
    "propagation": ("#4C9A6A", "////"),
    "queueing": ("#AA3377", "xxxx"),
    "waiting": ("#E4E4E4", ""),
}
KINDS = {"compute": "#004488", "upload": "#DDAA33", "download": "#BB5566"}
WAITING = "#ECECEC"


def mark_of(algorithm: str) -> Mark:
    """The same whatever else is in the run; one that is not known here is given a mark by its name."""
    return MARKS.get(algorithm) or FURTHER[crc32(algorithm.encode()) % len(FURTHER)]


@contextmanager
def style() -> Iterator[None]:
    """Our settings and no user's, until the end of the block."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def figure(title: str, height: float, summary: Json) -> Figure:
    """An empty one: ``title`` above it says what is seen, and where; its source stands below.

    ``height`` in inches. What must not be trusted, or is not whole, says so across the picture.
    """
    made = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    made.suptitle(
        f"{title} ({Path(summary['profile']).stem})", x=0.01, ha="left", fontsize=14, fontweight="bold", color=DARK
    )
    warning, stamp = doubts(summary)
    source = source_of(summary) + (f"\n{warning}" if warning else "")
    made.supxlabel(source, x=0.01, ha="left", fontsize=9, color=ALARM if warning else FAINT)
    if stamp:
        made.text(
            *(0.5, 0.5, stamp),
            ha="center",
            va="center",
            rotation=24,
            fontsize=64,
            fontweight="bold",
            color=ALARM,
            alpha=0.16,
            zorder=10,
        )
    return made


def source_of(summary: Json) -> str:
    """One line: which run it was, and its verdict on itself."""
    clock = "dry run: foreseen, nothing was trained" if not trained(summary) else f"{summary['clock']} clock"
    dilation = summary.get("dilation") or 1
    slowed = f", dilation {dilation}" if dilation != 1 else ""
    verdict = f"; verdict: {summary['health']['verdict']}" if trained(summary) else ""
    return f"splitbed, profile {summary['profile']}, {clock}{slowed}, seed {summary['seed']}{verdict}"


def trained(summary: Json) -> bool:
    """Whether there was anything to judge: in a dry run there is not."""
    return bool(summary["health"]["verdict"] != "none")


def doubts(summary: Json) -> tuple[str, str]:
    """A line that says why this run is no good or not whole, and a word for it; empty where it is both."""
    cut_short = [
        f"{name} {each['outcome']}"
        for name, each in summary["algorithms"].items()
        if each["outcome"] not in ("finished", "does-not-fit", "would-not-fit")
    ]
    reasons = summary["health"]["reasons"]
    others = [reason for reason in reasons if not reason.endswith(": refused")]
    if others and not cut_short:
        more = f" (and {len(others) - 1} more reasons)" if len(others) > 1 else ""
        return _short(f"Do not trust it: {others[0]}{more}"), "BAD RUN"
    if cut_short:
        return _short(f"Not whole: {', '.join(cut_short)}"), "PARTIAL RUN"
    return "", ""


def _short(line: str) -> str:
    return line if len(line) <= 110 else line[:109] + "…"


def save(made: Figure, folder: Path, name: str) -> list[Path]:
    """PNG and SVG, the same bytes whenever they are drawn with the same matplotlib; the paths."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    made.savefig(paths[0], dpi=DPI, metadata={"Software": None})
    made.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths
