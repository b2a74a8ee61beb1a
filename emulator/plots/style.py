"""How all plots look: colours, the frame with title and source, files that are the same whenever they are drawn.

Made to be read 800 pixels wide, by the colour-blind, and in grey: a curve has its marker, areas differ in lightness.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import matplotlib
from matplotlib.figure import Figure, SubFigure

from emulator.analysis.summary import Summary
from emulator.tables.headline import clock_of, trained, verdict_label

WIDTH = 8.0  # inches: 800 pixels at 100 dpi, in which sizes of letters are meant
DPI = 200  # of a PNG: sharp on a screen that shows it at half its size
SETTINGS: Any = {
    "figure.dpi": DPI,
    "savefig.dpi": "figure",
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
HEAD, FOOT, LINE = 0.6, 0.24, 0.17  # inches
LINE_LETTERS = 95  # fit into the width
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
ENERGY_LOOKS = {  # the same of what joules go into
    "compute": ("#004488", ""),
    "sending": ("#DDAA33", ""),
    "receiving": ("#BB5566", "////"),
    "tail": ("#AA3377", "xxxx"),
    "idle": ("#E4E4E4", ""),
}
KINDS = {  # of strips
    "compute": "#004488",
    "upload": "#DDAA33",
    "download": "#BB5566",
    "waiting": "#E4E4E4",
}


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


class FigurePage(NamedTuple):
    """A picture: ``body`` is what to draw into; above it are title and result, below it the source."""

    whole: Figure
    body: SubFigure


def page(title: str, result: str, height: float, summary: Summary) -> FigurePage:
    """An empty one: ``title`` says what is seen, ``result`` what comes out; ``height`` of the body in inches.

    What must not be trusted, or is not whole, says so across the picture.
    """
    warning, stamp = doubts(summary)
    lines = textwrap.wrap(result, LINE_LETTERS)
    head, foot = HEAD + LINE * (len(lines) - 1), FOOT * (2 if warning else 1)
    whole = Figure(figsize=(WIDTH, head + height + foot), dpi=DPI, layout="constrained")
    above, body, below = whole.subfigures(3, 1, squeeze=False, height_ratios=[head, height, foot])[:, 0]
    scenario = Path(summary.profile or "").stem
    above.text(
        0.01, 1 - 0.28 * HEAD / head, f"{scenario}: {title}", va="center", fontsize=14, fontweight="bold", color=DARK
    )
    above.text(0.01, (1 - 0.6 * HEAD / head) / 2, "\n".join(lines), va="center", color=DARK)
    source = source_of(summary) + (f"\n{warning}" if warning else "")
    below.text(0.01, 0.5, source, va="center", fontsize=9, color=ALARM if warning else FAINT)
    if stamp:
        middle: Any = {"ha": "center", "va": "center", "rotation": 20, "zorder": 10}
        whole.text(0.5, 0.5, stamp, fontsize=60, fontweight="bold", color=ALARM, alpha=0.16, **middle)
    return FigurePage(whole, body)


def source_of(summary: Summary) -> str:
    """One line: which run it was, and its verdict on itself."""
    dilation = summary.dilation or 1
    slowed = f", dilation {dilation}" if dilation != 1 else ""
    verdict = f"; verdict: {verdict_label(summary)}" if trained(summary) else ""
    return f"splitbed, profile {summary.profile}, {clock_of(summary)}{slowed}, seed {summary.seed}{verdict}"


def doubts(summary: Summary) -> tuple[str, str]:
    """A line that says why this run is no good, not whole, or without some method, and a stamp; empty where it is not.

    That a method does not fit or diverges is a result, and nothing to stamp the others with.
    """
    endings = {name: each.outcome for name, each in summary.algorithms.items()}
    cut_short = {n: o for n, o in endings.items() if o not in ("finished", "diverged", "does-not-fit", "would-not-fit")}
    found = [each for each in summary.health.findings if each.severity == "reason"]
    others = [each for each in found if each.law != cut_short.get(each.algorithm)]
    if others:
        more = f" (and {len(others) - 1} more reasons)" if len(others) > 1 else ""
        return _short(f"Do not trust it: {others[0]}{more}"), "BAD RUN"
    if cut_short:
        return _short(
            f"Not whole: {', '.join(f'{name}: {outcome}' for name, outcome in cut_short.items())}"
        ), "PARTIAL RUN"
    lines = {
        "Stopped, since it does not fit": "does-not-fit",
        f"Diverged, so without {summary.criteria.metric.words}": "diverged",
    }
    results = [
        f"{what}: {', '.join(names)}"
        for what, outcome in lines.items()
        if (names := [name for name, ended in endings.items() if ended == outcome])
    ]
    return _short("; ".join(results)), ""


def _short(line: str) -> str:
    return line if len(line) <= 110 else line[:109] + "…"


def save(made: FigurePage, folder: Path, name: str) -> list[Path]:
    """PNG and SVG, the same bytes whenever they are drawn with the same matplotlib; the paths."""
    _lay_out(made.whole)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    made.whole.savefig(paths[0], metadata={"Software": None})
    made.whole.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


def _lay_out(whole: Figure) -> None:
    """Once, to six digits: the solver's last ones differ from time to time, and names in an SVG hash them."""
    whole.draw_without_rendering()
    whole.set_layout_engine("none")
    for part in whole.subfigs:
        box = part.bbox_relative
        box.p0, box.p1 = box.p0.round(6), box.p1.round(6)
    for axes in whole.axes:
        axes.set_position(tuple(round(share, 6) for share in axes.get_position().bounds))
