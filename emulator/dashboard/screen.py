"""Screen of the dashboard: a pure function of a run's state, the size of the screen and what the keys have chosen.

Up and down are seen from the client, in the server's row too. Rounds are counted from 1 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from emulator.checks.clock_limits import limits_of
from emulator.dashboard.clients import MB, MBIT, MIB, SORTS, draw_clients
from emulator.dashboard.glyphs import (
    LEGEND,
    NOTHING,
    ColumnHeader,
    bar,
    cut,
    ends,
    fitted,
    headers,
    levels,
    row,
    seconds,
    short,
    use,
)
from emulator.dashboard.progress import SECOND_NS, AlgorithmProgress, Progress
from emulator.ledger.criteria import Metric

VIEWS = ("clients", "links", "algorithms", "log")
LEAST_SPARK = 8
SLIM, SHORT = 60, 12  # below this there is only the header


@dataclass
class ScreenState:
    """The choices made by keys: view, order, pause."""

    view: str = VIEWS[0]
    sort: str = "name"
    paused: bool = False
    said: str = ""  # an answer to the last key

    def press(self, key: str) -> None:
        """Act on a key; an unknown one does nothing."""
        self.said = ""
        if key in (" ", "p"):
            self.paused = not self.paused
        elif key == "s":
            names = list(SORTS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
            self.said = f"sorted by {self.sort}"
        elif key in ("\t", "v"):
            self.view = VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)]
        elif key.isdigit() and 1 <= int(key) <= len(VIEWS):
            self.view = VIEWS[int(key) - 1]


def make_screen(
    progress: Progress, width: int, height: int, choice: ScreenState, badge: str = "live", keys: tuple[str, ...] = ()
) -> list[Text]:
    """Lines of exactly ``width`` columns, at most ``height``. ``badge``: what is shown; ``keys``: more of them."""
    lines = _header(progress, width, choice, badge)
    footer = [_legend(width), _footer(width, choice, keys)] if height >= SHORT else []
    room = height - len(lines) - len(footer) - 1
    if room > 2 and width >= SLIM:
        draw = {"clients": _clients, "links": _links, "algorithms": _algorithms, "log": _log}[choice.view]
        body = draw(progress, width, room, choice)[:room]
        spare = room - len(body)
        if choice.view == "clients" and spare > len(progress.algorithms) + 5:  # a tall screen
            body += [_blank(width), *_algorithms(progress, width, room, choice)]
            spare = room - len(body)
        if choice.view == "clients" and spare > 1:
            body += [_blank(width), *_log(progress, width, spare - 1, choice)]
        body += [_blank(width)] * (room - len(body))
        lines += [_blank(width), *body]
    return [fitted(line, width) for line in [*lines, *footer][:height]]


def _blank(width: int) -> Text:
    return Text(" " * width)


def _header(progress: Progress, width: int, choice: ScreenState, badge: str) -> list[Text]:
    manifest = progress.manifest
    slowed = f", dilation {progress.dilation}" if progress.dilation != 1 else ""
    title = Text("splitbed  ", style="bold").append(f"{manifest.profile}, {len(progress.clients)} clients, ")
    title.append(f"{manifest.clock} clock{slowed}, seed {manifest.seed}")
    right = Text(" paused ", style="bold reverse") if choice.paused else Text(badge, style="bold")
    return [
        ends(title, right, width),
        *(fitted(line, width) for line in (_where(progress, width), _round(progress), _health(progress))),
    ]


def _where(progress: Progress, width: int) -> Text:
    """The algorithm, a bar of it, and how long it will take; time left is the watcher's, once the speed is known."""
    done, total = len(progress.ended), progress.rounds
    share = done / total if total else 0.0
    if progress.stop_after_s:
        share = max(share, min(progress.now_ns / SECOND_NS / progress.stop_after_s, 1.0))
    words = f"  {seconds(progress.now_ns / SECOND_NS)} emulated"
    left_ns = progress.left_ns()
    if progress.over is not None:
        share, words = 1.0, f"{words}, {progress.over.outcome}"
    elif left_ns is not None:
        left_s = left_ns / SECOND_NS / (progress.speed or 1.0)
        words += f", {seconds(left_s)} left{_all_left(progress, left_s)}"
    line = Text(progress.algorithm or "starting", style="bold cyan")
    line.append(f"  {progress.number} of {len(progress.algorithms)}  " if progress.number else "  ", style="not bold")
    line.append_text(bar(share, max(min(width - line.cell_len - len(words), 40), 4), "cyan"))
    return line.append(words, style="default not bold")


def _all_left(progress: Progress, left_s: float) -> str:
    """The least time left of all algorithms, in words, by those that have ended; "" where it is not known."""
    others_s = progress.others_wall_s()
    return f", all {seconds(left_s + others_s)}+" if others_s and progress.speed else ""


def _round(progress: Progress) -> Text:
    done, total = len(progress.ended), progress.rounds
    current = min(done + 1, total) if total else done + 1
    line = Text(f"round {current}{f' of {total}' if total else ''}")
    line.append(f" (none starts after {progress.stop_after_s:g} s)" if progress.stop_after_s else "")
    score = progress.metric.text(progress.scores[-1]) if progress.scores else NOTHING
    score = f"{NOTHING} (diverged)" if progress.diverged else score
    line.append(", ").append(f"{progress.metric.words} {score}", style="bold")
    return line.append(f", {progress.payload_bytes / MB:.2f} MB so far")


def _health(progress: Progress) -> Text:
    concerns, remarks, limits = progress.concerns(), progress.remarks(), limits_of(progress.manifest.clock)
    if concerns:
        return Text("health bad", style="bold red").append(f": {concerns[0]}", style="not bold")
    if not limits.trains:
        return Text("dry run: foreseen, nothing is trained", style="green")
    line = Text("health good so far", style="green").append(": ", style="default")
    if not limits.host_matters and not progress.worst_lag_ns:
        return line.append("this clock lets everything take place when it is due", style="default")
    line.append(f"rounds ended at most {progress.worst_lag_ns / 10**6:.1f} ms off, ", style="default")
    line.append(f"{progress.clamps} clamps ({progress.clamped_ns / 10**6:.1f} ms)", style="default")
    return line.append(f"; {remarks[0]}", style="yellow") if remarks else line


def _legend(width: int) -> Text:
    line = Text()
    for mark, style, word in LEGEND:
        line.append(mark, style=style).append(f" {word}  ")
    line.append("memory: █ now, ▒ and figure its peak, of the budget" if width >= 90 else "memory: ▒ and % its peak")
    return fitted(line, width)


def _footer(width: int, choice: ScreenState, keys: tuple[str, ...]) -> Text:
    line = Text()
    for number, view in enumerate(VIEWS, 1):
        line.append(f"{number} {view}", style="bold reverse" if view == choice.view else "").append(" ")
    if choice.said:
        return ends(line, Text(choice.said, style="bold"), width)
    for more in (*keys[:1], "p pause", f"s sort: {choice.sort}", *keys[1:], "tab next"):  # those that fit, in turn
        if line.cell_len + len(more) + 2 <= width:
            line.append(f"  {more}")
    return line


# --- views ----------------------------------------------------------------------------------------------------------


def _clients(progress: Progress, width: int, room: int, choice: ScreenState) -> list[Text]:
    return draw_clients(progress, width, room, choice.sort)


def _links(progress: Progress, width: int, room: int, choice: ScreenState) -> list[Text]:
    """The capacities between nodes, what is shared first, then by use (by name where the sort is by name)."""
    now_ns, window_ns = progress.now_ns, progress.window_ns
    spark = max(width - 61, 8)
    columns = [
        ColumnHeader("capacity", 18),
        ColumnHeader("Mbit/s", 6, True),
        ColumnHeader(f"used in last {window_ns // SECOND_NS} s", 17),
        ColumnHeader("over time", spark),
        ColumnHeader("waiting", 7, True),
        ColumnHeader("MB wire", 8, True),
    ]
    use_of = {capacity.name: capacity.used(now_ns, window_ns) for capacity in progress.capacities}
    by_use = sorted(progress.capacities, key=lambda c: (not c.shared, choice.sort != "name" and -use_of[c.name]))
    shown = by_use if len(by_use) < room else by_use[: room - 2]
    lines = [headers(columns)]
    for capacity in shown:
        used = use_of[capacity.name]
        cells: list[Text | str] = [
            Text(capacity.name, style="bold" if capacity.shared else ""),
            short(capacity.rate_bps(now_ns) / MBIT),
            bar(used, 10, "cyan").append(f" {100 * used:3.0f} %"),
            use(capacity.bins, spark, now_ns, window_ns, capacity.peak_bps / SECOND_NS),
            str(len(capacity.waiting)),
            f"{capacity.wire_bytes / MB:.2f}",
        ]
        lines.append(row(cells, columns))
    if len(shown) < len(by_use):
        lines.append(Text(f"… and {len(by_use) - len(shown)} more", style="dim"))
    return lines


def _algorithms(progress: Progress, width: int, _room: int, _choice: ScreenState) -> list[Text]:
    """A row for each algorithm of the run as far as it came."""
    words = progress.metric.words
    known = {result.algorithm: result for result in progress.results}
    if progress.algorithm and progress.algorithm not in known:
        known[progress.algorithm] = progress.result()
    spark = width - 62 - max(len(words), 8)
    by_round = [ColumnHeader("by round", spark)] if spark >= LEAST_SPARK else []  # else the metric's name needs it
    columns = [
        ColumnHeader("algorithm", 14),
        ColumnHeader("outcome", 12),
        ColumnHeader("rounds", 6, True),
        ColumnHeader("s", 7, True),
        ColumnHeader(words, max(len(words), 8), True),
        *by_round,
        ColumnHeader("MB", 8, True),
        ColumnHeader("peak MiB", 8, True),
    ]
    lines = [headers(columns)]
    for name in progress.algorithms:
        result = known.get(name)
        if result is None:
            lines.append(row([name, "to come", *[""] * (len(columns) - 2)], columns, "dim"))
        else:
            lines.append(
                row(
                    [name, *_result(result, spark if by_round else 0, progress.metric)],
                    columns,
                    "bold" if result.outcome == "running" else "",
                )
            )
    return lines


def _result(result: AlgorithmProgress, spark: int, metric: Metric) -> list[Text | str]:
    running = result.outcome == "running"
    style = "cyan" if running else "" if result.outcome == "finished" else "bold red"
    return [
        Text(result.outcome, style=style),
        str(result.rounds),
        f"{result.length_ns / SECOND_NS:.2f}",
        metric.text(result.scores[-1], digits=2) if result.scores and not result.diverged else NOTHING,
        *([levels(shares(result.scores, metric)[-spark:], "green")] if spark else []),
        f"{result.payload_bytes / MB:.2f}",
        f"{result.peak_bytes / MIB:.2f}" if result.peak_bytes is not None else NOTHING,
    ]


def shares(scores: Sequence[float], metric: Metric) -> list[float]:
    """Scores as heights from 0 to 1: shares as they are, others of the largest."""
    most = 1.0 if metric.percent else max(map(abs, scores), default=0.0) or 1.0
    return [max(score, 0.0) / most for score in scores]


def _log(progress: Progress, width: int, room: int, _choice: ScreenState) -> list[Text]:
    """The last lines of what was told."""
    return [Text(cut(line, width)) for line in list(progress.log)[-room:]]
