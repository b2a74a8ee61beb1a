"""One round of an algorithm as strips over time: who computes, sends, receives and waits when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from emulator.latency import Spans
from emulator.plot_data import Lane, Strip, slowest
from emulator.plot_style import DARK, KINDS, WAITING, figure
from emulator.sheets import number

Json = Mapping[str, Any]

SECOND_NS = 10**9
MOST = 24  # clients in the picture of one algorithm
MOST_EACH = 10  # in the picture of all
STEPS = 1500  # of the time axis: what lies closer together is drawn as one
LANE = 0.21  # inches
LANE_EACH = 0.085


def one(strip: Strip, summary: Json) -> Figure:
    """A typical round of one algorithm, a row a node."""
    lanes = [strip.server, *slowest(strip, MOST)]
    made = figure(f"A round of {strip.algorithm}", 1.6 + LANE * len(lanes), summary)
    axes = made.add_subplot()
    _draw(axes, lanes, strip.length_ns)
    axes.set_yticks(range(len(lanes)), [f"{lane.node}  {lane.device}".rstrip() for lane in lanes], fontsize=9)
    axes.set_title(f"{_which(strip)}: {number(strip.length_ns / SECOND_NS)} s{_left_out(strip, MOST)}", color=DARK)
    axes.set_xlim(0, strip.length_ns / SECOND_NS)
    axes.set_xlabel("emulated seconds since the round began")
    _legend(made)
    return made


def together(strips: Sequence[Strip], summary: Json) -> Figure:
    """A typical round of each algorithm on one time axis, the shortest first."""
    ranked = sorted(strips, key=lambda strip: strip.length_ns)
    groups = [[strip.server, *slowest(strip, MOST_EACH)] for strip in ranked]
    longest_ns = ranked[-1].length_ns
    height = 1.6 + sum(LANE_EACH * len(lanes) + 0.12 for lanes in groups)
    made = figure("One round of each method, to the same scale", height, summary)
    panels = made.subplots(len(ranked), 1, sharex=True, squeeze=False, height_ratios=[len(lanes) for lanes in groups])
    for strip, lanes, axes in zip(ranked, groups, panels[:, 0], strict=True):
        _draw(axes, lanes, longest_ns)
        axes.set_yticks([len(lanes) / 2 - 0.5], [strip.algorithm])
        axes.tick_params(axis="both", length=0)
        axes.spines["bottom"].set_visible(False)
        seconds = strip.length_ns / SECOND_NS
        words = f"{number(seconds)} s" + _left_out(strip, MOST_EACH)
        inside = strip.length_ns > 0.8 * longest_ns
        axes.annotate(
            words,
            (seconds, len(lanes) / 2 - 0.5),
            xytext=(-6 if inside else 6, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            color=DARK,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5} if inside else None,
        )
    panels[-1, 0].set_xlim(0, longest_ns / SECOND_NS)
    panels[-1, 0].set_xlabel("emulated seconds since the round began")
    _legend(made)
    return made


def _draw(axes: Axes, lanes: Sequence[Lane], shown_ns: int) -> None:
    """Rows from above: the server, then clients; what is drawn later hides what is below it."""
    closer_ns = max(shown_ns // STEPS, 1)
    for row, lane in enumerate(lanes):
        for kind in ("download", "upload", "compute"):
            spans = _coarse(lane.spans[kind], closer_ns)
            axes.broken_barh(
                [(start / SECOND_NS, (end - start) / SECOND_NS) for start, end in spans],
                (row - 0.42, 0.84),
                facecolor=KINDS[kind],
                linewidth=0,
            )
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", linewidth=0.6)


def _coarse(spans: Spans, closer_ns: int) -> Iterable[tuple[int, int]]:
    """The same where gaps of less than ``closer_ns`` are closed."""
    joined: Spans = []
    for start, end in spans:
        if joined and start - joined[-1][1] < closer_ns:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _which(strip: Strip) -> str:
    return "Unfinished, from the start" if strip.round is None else f"Round {strip.round}, of median length"


def _left_out(strip: Strip, most: int) -> str:
    return f" (the {most} slowest of {len(strip.clients)} clients)" if len(strip.clients) > most else ""


def _legend(made: Figure) -> None:
    handles = [Patch(color=colour, label=kind) for kind, colour in KINDS.items()]
    handles.append(Patch(color=WAITING, label="waiting"))
    made.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=1.2)
