"""Plots of a run's figures: how good models are, where a round's time goes, client memory, when clients are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import floor, log10
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from emulator.analysis.latency import CAUSES
from emulator.analysis.summary import Summary
from emulator.energy.consumption import CAUSES as CAUSES_OF_ENERGY
from emulator.ledger.criteria import Goal, Metric
from emulator.plots.data import ClientFinish, Curve, CurvePoint, MemoryRow
from emulator.plots.style import ALARM, DARK, ENERGY_LOOKS, LOOKS, FigurePage, mark_of, page
from emulator.tables.table import NOTHING, number

WIDE = 8  # times the least: from there on an axis is logarithmic
FAR = 4  # times the median: from there on a bar is cut off in the enlarged panel
FULL_PERCENT = 100.0
ROW = 0.28  # inches
WORDS = {"serialisation": "serialisation (bits leave)", "propagation": "propagation (on the way)"}
plain = FuncFormatter(lambda value, _position: f"{value:g}")


class ScoreAxis(NamedTuple):
    """What the metric that a run is judged by is drawn against."""

    name: str
    label: str
    unit: str
    of: Callable[[CurvePoint], float]

    def show(self, point: CurvePoint) -> str:
        value = self.of(point)
        return f"{self.unit} {value:.0f}" if self.unit == "round" else f"{number(value)} {self.unit}"


AGAINST = [
    ScoreAxis("seconds", "emulated seconds since the start", "s", lambda point: point.seconds),
    ScoreAxis("MB", "payload posted so far, all messages, MB", "MB", lambda point: point.mb),
    ScoreAxis("rounds", "rounds", "round", lambda point: float(point.round)),
    ScoreAxis("joules", "joules of all clients whose power is known", "J", lambda point: point.joules or 0.0),
]


def against(curves: Sequence[Curve]) -> list[ScoreAxis]:
    """Those of ``AGAINST`` that every point has."""
    known = all(point.joules is not None for curve in curves for point in curve.points)
    return [axis for axis in AGAINST if known or axis.name != "joules"]


def name_of(summary: Summary) -> str:
    """What the files of these plots begin with."""
    return summary.criteria.metric.name.replace("_", "-")


def scores(curves: Sequence[Curve], against: ScoreAxis, summary: Summary) -> FigurePage:
    """The metric that the run is judged by, of the joined model after each round; the legend ranks by what it took to
    the hardest target, where there is one."""
    metric = summary.criteria.metric
    goals = summary.criteria.of(metric)
    goal = goals[-1] if goals else None
    ranked = sorted(curves, key=lambda curve: _rank(curve, against, metric, goal))
    made = page(f"{metric.words} against {against.name}", _winner(ranked, against, metric, goal), 4.0, summary)
    axes = made.body.add_subplot()
    handles = []
    for curve in ranked:
        mark = mark_of(curve.algorithm)
        shown = _reached(curve, against, metric, goal)
        (line,) = axes.plot(
            [against.of(point) for point in curve.points],
            [metric.factor * point.score for point in curve.points],
            color=mark.colour,
            marker=mark.marker,
            markersize=(10 if mark.marker == "*" else 6) + 3 * (len(curve.points) == 1),
            markeredgecolor="white",
            markeredgewidth=0.5,
            linewidth=1.8,
            clip_on=False,
            label=f"{shown}  {curve.algorithm}{' (diverged)' * curve.diverged}",
        )
        handles.append(line)
    for each in goals:
        level = metric.factor * each.value
        axes.axhline(level, color=DARK, linewidth=1, linestyle=(0, (2, 3)), zorder=1.5)
        axes.annotate(each.short, (0.01, level), xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    ends = [against.of(curve.points[-1]) for curve in curves]
    wide = against.unit != "round" and max(ends) > WIDE * min(ends) > 0
    if wide:
        _logarithmic(axes)
    else:
        axes.set_xlim(left=0)
    if against.unit == "round":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(against.label + (" (logarithmic)" if wide else ""))
    axes.set_ylabel(f"test {metric.words}{', %' * metric.percent} ({metric.better} is better)")
    if metric.percent:
        axes.set_ylim(top=101)
    axes.grid(linewidth=0.6)
    axes.legend(
        handles=handles,
        title=f"{f'to {goal.short}' if goal else 'at the end'}, best first",
        alignment="left",
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    return made


def _logarithmic(axes: Axes) -> None:
    """With numbers at tens, twos and fives."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(FuncFormatter(_twos_and_fives))


def _twos_and_fives(value: float, _position: int | None) -> str:
    return f"{value:g}" if round(value / 10 ** floor(log10(value))) in (2, 5) else ""


def _first_at(curve: Curve, goal: Goal | None) -> CurvePoint | None:
    return curve.reached.get(goal.value) if goal else None


def _reached(curve: Curve, against: ScoreAxis, metric: Metric, goal: Goal | None) -> str:
    """What a curve took to the target, or where there is none, its end."""
    if goal is None:
        return NOTHING if curve.diverged else metric.text(curve.points[-1].score)
    point = _first_at(curve, goal)
    return against.show(point) if point else NOTHING


def _rank(curve: Curve, against: ScoreAxis, metric: Metric, goal: Goal | None) -> tuple[bool, float, bool, float]:
    point = _first_at(curve, goal)
    end = metric.rank(curve.points[-1].score)
    return point is None, against.of(point) if point else 0.0, curve.diverged, -end


def _winner(ranked: Sequence[Curve], against: ScoreAxis, metric: Metric, goal: Goal | None) -> str:
    reached = [(curve.algorithm, point) for curve in ranked if (point := _first_at(curve, goal))]
    if goal is None or not reached:
        whole = [curve for curve in ranked if not curve.diverged]
        if not whole:
            return "All have diverged"
        best = max(whole, key=lambda curve: metric.rank(curve.points[-1].score))
        score = number(best.points[-1].score, metric.factor, fine=not metric.percent) + " %" * metric.percent
        ended = f"{best.algorithm} ended at {score}"
        return f"None came to {goal.text}; {ended}" if goal else f"{metric.superlative} {metric.words}: {ended}"
    told = [f"{reached[0][0]} is first at {goal.text}: {against.show(reached[0][1])}"]
    if len(reached) > 1:
        told.append(f"{reached[-1][0]} last: {against.show(reached[-1][1])}")
    if never := [curve.algorithm for curve in ranked if not _first_at(curve, goal)]:
        told.append(f"not reached by {never[0] if len(never) == 1 else f'{len(never)} of {len(ranked)}'}")
    return "; ".join(told)


# --- where the time goes ------------------------------------------------------------------------------------------


class Stack(NamedTuple):
    """What bars of a mean round are made of, mean over clients."""

    causes: Sequence[str]
    looks: Mapping[str, tuple[str, str]]
    unit: str
    title: str


LATENCY = Stack(CAUSES, LOOKS, "s", "where the seconds of a round go")
ENERGY = Stack(CAUSES_OF_ENERGY, ENERGY_LOOKS, "J", "where the joules of a round go")


def stack_chart(stacks: Mapping[str, Mapping[str, float]], what: Stack, summary: Summary) -> FigurePage:
    """Bars of a mean round by cause; where one is far longer than the others, to scale and enlarged."""
    totals = {name: sum(stack.values()) for name, stack in stacks.items()}
    far = FAR * median(totals.values())
    near = [total for total in totals.values() if total <= far]
    enlarged = len(near) < len(totals)
    made = page(what.title, _told(stacks, what.unit), 1.2 + ROW * len(stacks), summary)
    widths = [1, 2] if enlarged else [1]
    panels = made.body.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    _bars(panels[0], stacks, max(totals.values()), what)
    if enlarged:
        panels[0].set_title("to scale", color=DARK)
        _bars(panels[1], stacks, max(near), what)
        panels[1].tick_params(labelleft=True)
        panels[1].set_title("enlarged: long bars are cut off", color=DARK)
    handles, labels = panels[0].get_legend_handles_labels()
    made.body.legend(handles, labels, loc="outside upper left", ncols=len(labels), handlelength=1.2, columnspacing=1.2)
    return made


def _bars(axes: Axes, stacks: Mapping[str, Mapping[str, float]], most: float, what: Stack) -> None:
    names = list(stacks)
    left = [0.0] * len(names)
    for cause in what.causes:
        widths = [stacks[name][cause] for name in names]
        colour, hatch = what.looks[cause]
        axes.barh(
            names,
            widths,
            left=left,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.4,
            height=0.72,
            label=WORDS.get(cause, cause),
        )
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for row, total in enumerate(left):
        if total > most * 1.001:
            words = f"{number(total)} {what.unit} ▸"
            box = {"facecolor": "white", "edgecolor": DARK, "linewidth": 0.8, "boxstyle": "round,pad=0.2"}
            axes.text(most * 1.33, row, words, va="center", ha="right", fontweight="bold", color=DARK, bbox=box)
        else:
            axes.text(total + most * 0.015, row, f"{number(total)} {what.unit}", va="center", color=DARK)
    axes.set_xlim(0, most * 1.35)
    axes.set_xlabel(f"{what.unit} per round, mean client")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", linewidth=0.6)
    axes.yaxis.set_inverted(True)


def _clients(row: MemoryRow) -> str:
    return f"{row.clients} client{'s' * (row.clients != 1)}"


def _told(stacks: Mapping[str, Mapping[str, float]], unit: str) -> str:
    told = []
    for name, stack in stacks.items():
        total, (cause, most) = sum(stack.values()), max(stack.items(), key=lambda item: item[1])
        told.append(f"{number(total)} {unit} for {name}, {FULL_PERCENT * most / total:.0f} % of it {cause}")
    return f"A mean round: {told[0]}" if len(told) == 1 else f"A mean round: from {told[0]}, to {told[-1]}"


# --- memory -------------------------------------------------------------------------------------------------------


def memory_chart(rows: Sequence[MemoryRow], summary: Summary) -> FigurePage:
    """The largest peak of the clients of a device against what the device leaves for training, a panel a device."""
    shown = [row for row in rows if row.mib is not None]
    devices = list(dict.fromkeys(row.device for row in shown))
    made = page("client memory against the cap", _fits(rows), 0.6 + ROW * len(shown) + 0.5 * len(devices), summary)
    counts = [sum(row.device == device for row in shown) for device in devices]
    panels = made.body.subplots(len(devices), 1, squeeze=False, sharex=True, height_ratios=counts)[:, 0]
    sizes = [size for row in shown for size in (row.mib, row.budget_mib) if size]
    for device, axes in zip(devices, panels, strict=True):
        _caps(axes, [row for row in shown if row.device == device], max(sizes))
    panels[-1].set_xscale("log")
    room = 30 if any(row.unfit for row in shown) else 2  # for words beyond a cap
    panels[-1].set_xlim(min(sizes) / 2, max(sizes) * room)
    panels[-1].xaxis.set_major_formatter(plain)
    panels[-1].set_xlabel("MiB above the bare process, largest client (logarithmic)")
    return made


def _fits(rows: Sequence[MemoryRow]) -> str:
    if unfit := [f"{row.algorithm} on {row.device}" for row in rows if row.unfit]:
        verb = "Would not fit" if all(row.would for row in rows if row.unfit) else "Does not fit"
        return f"{verb}: {', '.join(unfit[:3])}" + (f" and {len(unfit) - 3} more" if len(unfit) > 3 else "")
    shares = [(row.mib / row.budget_mib, row) for row in rows if row.mib is not None and row.budget_mib]
    if not shares:
        return "No device of this run has a cap"
    share, row = max(shares, key=lambda pair: pair[0])
    return f"None is above its cap; closest is {row.algorithm} on {row.device}: {number(share, FULL_PERCENT)} % of it"


def _caps(axes: Axes, rows: Sequence[MemoryRow], most: float) -> None:
    for place, row in enumerate(rows):
        mark = mark_of(row.algorithm)
        size = row.mib or 0.0
        share = f", {number(size / row.budget_mib, FULL_PERCENT)} % of the cap" if row.budget_mib else ""
        words = f"{number(size)} MiB{share}" + " (foreseen)" * row.foreseen
        if row.unfit:
            words = (
                f"{'would' if row.would else 'does'} not fit: needs {number(size)} MiB" + " (foreseen)" * row.foreseen
            )
        face = "none" if row.foreseen else mark.colour
        axes.plot(
            *([size], [place]),
            marker=mark.marker,
            color=mark.colour,
            markerfacecolor=face,
            markersize=11 if mark.marker == "*" else 8,
            linestyle="",
        )
        axes.hlines(place, 0, size, color=mark.colour, linewidth=1.2)
        axes.annotate(
            words,
            (max(size, row.budget_mib or 0.0) if row.unfit else size, place),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            color=ALARM if row.unfit else DARK,
            fontweight="bold" if row.unfit else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )
    budget = rows[0].budget_mib
    title = f"{rows[0].device}, {_clients(rows[0])}: no cap"
    if budget:
        axes.axvspan(budget, most * 30, color=ALARM, alpha=0.1, linewidth=0)
        axes.axvline(budget, color=ALARM, linewidth=2)
        title = f"{rows[0].device}, {_clients(rows[0])}: the cap is {number(budget)} MiB"
    axes.set_title(title, color=DARK)
    axes.set_yticks(range(len(rows)), [row.algorithm for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", linewidth=0.6)


# --- clients ------------------------------------------------------------------------------------------------------


def clients(done: Mapping[str, Sequence[ClientFinish]], summary: Summary) -> FigurePage:
    """A dot a client: how long after a round's start it was done, median over rounds; hollow: the other devices."""
    devices = list(dict.fromkeys(client.device for found in done.values() for client in found))
    lasts = {name: max(client.typical for client in found) for name, found in done.items()}
    ranked = sorted(done, key=lambda name: lasts[name])
    told = [f"{name}'s last client after {number(lasts[name])} s" for name in (ranked[0], ranked[-1])]
    result = "; ".join(dict.fromkeys(told))
    made = page("when each client is done with its round", result, 1.2 + 0.36 * len(done), summary)
    axes = made.body.add_subplot()
    typical = [client.typical for found in done.values() for client in found]
    for row, name in enumerate(ranked):
        found, mark = done[name], mark_of(name)
        for device in devices:
            own = [(i, client.typical) for i, client in enumerate(found) if client.device == device]
            axes.plot(
                [seconds for _, seconds in own],
                [row - 0.3 + 0.6 * (i + 0.5) / len(found) for i, _ in own],
                marker="o",
                linestyle="",
                markersize=5 if len(found) <= 30 else 3,
                color=mark.colour,
                markerfacecolor=mark.colour if device == devices[0] else "white",
            )
        first, last = min(client.typical for client in found), lasts[name]
        axes.hlines(row, first, last, color=mark.colour, linewidth=1, alpha=0.5)
        axes.annotate(
            f"last: {number(last)} s",
            (last, row),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
        )
    wide = max(typical) > WIDE * min(typical) > 0
    if wide:
        _logarithmic(axes)
        axes.set_xlim(min(typical) / 1.3, max(typical) * 2.2)
    else:
        axes.set_xlim(0, max(typical) * 1.2)
    axes.set_yticks(range(len(ranked)), ranked)
    axes.set_ylim(len(ranked) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("s from a round's start to its last message's arrival, median of rounds" + " (log)" * wide)
    axes.grid(axis="x", linewidth=0.6)
    faces = [DARK] + ["white"] * (len(devices) - 1)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=DARK, markerfacecolor=face, label=f"a client on {device}")
        for device, face in zip(devices[:2], faces, strict=False)
    ]
    if len(devices) > 2:
        handles[1].set_label("a client on another device")
    made.body.legend(handles=handles, loc="outside upper left", ncols=2)
    return made
