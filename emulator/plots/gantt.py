"""One round of an algorithm as strips over time: who computes, sends, receives and waits when."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from emulator.analysis.summary import Summary
from emulator.plots.data import Lane, Strip, slowest
from emulator.plots.style import DARK, KINDS, FigurePage, page
from emulator.spans import Spans
from emulator.tables.table import number

SECOND_NS = 10**9
MOST = 24  # clients in the picture of one algorithm
MOST_EACH = 10  # in the picture of all
STEPS = 1500  # of the time axis: nothing is drawn shorter, no gap either
SECONDS = "emulated seconds since the round began"
NOTABLY = 0.05  # of the median round: a mean that differs by more is told
LANE = 0.21  # inches
LANE_EACH = 0.056


def one(strip: Strip, summary: Summary) -> FigurePage:
    """A typical round of one algorithm, a row a node."""
    lanes = [strip.server, *slowest(strip, MOST)]
    which = "From the start" if strip.round is None else f"Round {strip.round}, of median length"
    made = page(f"a round of {strip.algorithm}", f"{which}: {_told(strip, MOST)}", 1.0 + LANE * len(lanes), summary)
    axes = made.body.add_subplot()
    _draw(axes, lanes, strip.length_ns, strip.length_ns)
    axes.set_yticks(range(len(lanes)), [f"{lane.node}  {lane.device}".rstrip() for lane in lanes], fontsize=9)
    axes.set_xlim(0, strip.length_ns / SECOND_NS)
    axes.set_xlabel(SECONDS)
    _legend(made)
    return made


def together(strips: Sequence[Strip], summary: Summary) -> FigurePage:
    """A typical round of each algorithm on one time axis, the shortest first."""
    ranked = sorted(strips, key=lambda strip: strip.length_ns)
    groups = [[strip.server, *slowest(strip, MOST_EACH)] for strip in ranked]
    longest_ns = ranked[-1].length_ns
    height = 1.0 + sum(LANE_EACH * len(lanes) + 0.27 for lanes in groups)
    result = "Each method's median round on one time scale. First row of each: the server; below: clients."
    made = page("one round of each method", result, height, summary)
    panels = made.body.subplots(
        len(ranked), 1, sharex=True, squeeze=False, height_ratios=[len(lanes) for lanes in groups]
    )[:, 0]
    for strip, lanes, axes in zip(ranked, groups, panels, strict=True):
        _draw(axes, lanes, strip.length_ns, longest_ns)
        axes.set_yticks([])
        axes.tick_params(axis="both", length=0)
        axes.spines["bottom"].set_visible(False)
        name, told = strip.algorithm, _told(strip, MOST_EACH)
        numbered = f"{name}, round {strip.round}" if strip.round is not None else name
        axes.set_title(f"{numbered}: {told}", fontsize=10, color=DARK, pad=2)
    panels[-1].set_xlim(0, longest_ns / SECOND_NS)
    panels[-1].set_xlabel(SECONDS)
    _legend(made)
    return made


def _told(strip: Strip, most: int) -> str:
    clients = len(strip.clients)
    unfinished = "unfinished, " if strip.round is None else ""
    words = (
        f"{unfinished}{number(strip.length_ns / SECOND_NS)} s, {strip.at_work:.1f} of {clients} clients busy at a time"
    )
    if strip.mean_ns is not None and abs(strip.mean_ns - strip.length_ns) >= NOTABLY * strip.length_ns:
        words += f"; mean of all rounds: {number(strip.mean_ns / SECOND_NS)} s"
    return words + (f" (shown: the {most} slowest)" if clients > most else "")


def _draw(axes: Axes, lanes: Sequence[Lane], length_ns: int, shown_ns: int) -> None:
    """Rows from above; what is drawn later hides what is below it. ``shown_ns``: the length of the axis."""
    least_ns = max(shown_ns // STEPS, 1)
    for row, lane in enumerate(lanes):
        for kind in ("waiting", "download", "upload", "compute"):
            spans = [(0, length_ns)] if kind == "waiting" else _coarse(lane.spans[kind], least_ns)
            axes.broken_barh(
                [(start / SECOND_NS, (end - start) / SECOND_NS) for start, end in spans],
                (row - 0.42, 0.84),
                facecolor=KINDS[kind],
                linewidth=0,
            )
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _coarse(spans: Spans, least_ns: int) -> Spans:
    """The same where what is shorter than ``least_ns`` has that length, and gaps of less are closed."""
    joined: Spans = []
    for start, end in spans:
        if joined and start - joined[-1][1] < least_ns:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, max(end, start + least_ns)))
    return joined


def _legend(made: FigurePage) -> None:
    handles = [Patch(color=colour, label=kind) for kind, colour in KINDS.items()]
    made.body.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.2)
