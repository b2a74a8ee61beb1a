"""What a run is doing, live: a screen on a terminal, plain lines elsewhere; both only read the ledger's files.

``make_screen`` draws a state and a size, and nothing else; ``Dashboard`` is a loop around it. Stopping either view
changes no figure. Up and down are seen from the client, in the server's row too. Rounds are counted from 1 here.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emulator.ledger import AnyEvent, Ended, Evaluated, Tail
from emulator.progress import Progress, Seen

REFRESH_S = 0.5
FRAME_LINES = 10  # above and below the rows of clients: header 4, blank, heads 2, server, blank, legend
WIDE = 110  # columns from which on there is room for memory in MiB
SECOND_NS = 10**9
MBIT, MB, MIB = 10**6, 10**6, 2**20
NOTHING = "–"
STYLES = {
    "computing": "green",
    "sending": "cyan",
    "receiving": "blue",
    "awaiting": "yellow",
    "finished": "dim",
    "starting": "dim",
}


class View(Protocol):
    """Shows a run while it goes on; ``tick`` is called often and does nothing most of the time."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def begin(self, algorithm: str) -> None: ...
    def tick(self) -> None: ...
    def end(self, algorithm: str, row_summary_text: str) -> None: ...


# --- the screen ---------------------------------------------------------------------------------------------------


def make_screen(progress: Progress, width: int, height: int) -> RenderableType:
    """Draw the run's state on ``width`` columns and ``height`` lines, from 80 x 24 on with ten clients."""
    clients = progress.clients
    room = max(height - FRAME_LINES, 1)
    shown = clients if len(clients) <= room else clients[: room - 1]
    left_over = len(clients) - len(shown)
    table = Table(box=None, width=width, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    memory_width = 24 if width >= WIDE else 10
    table.add_column("\nclient", no_wrap=True)
    table.add_column("\ndevice", no_wrap=True, max_width=11)
    table.add_column("\ndoing", no_wrap=True, ratio=1, overflow="ellipsis")
    for head, columns in (
        ("up/down\nMbit/s", 9),
        ("up/down\nMB so far", 9),
        ("memory\nof budget", memory_width),
        ("\nround", 5),
        ("\nloss", 5),
    ):
        table.add_column(head, justify="right", no_wrap=True, min_width=columns)
    for client in shown:
        table.add_row(*_cells(client, progress.now_ns, memory_width))
    if left_over:
        table.add_row(Text(f"… and {left_over} more", style="dim"))
    if progress.server is not None:
        table.add_row(*_cells(progress.server, progress.now_ns, memory_width), style="bold")
    legend = "Mbit/s: on the link, last 2 s. MB: tensors. Memory: █ now, ▒ and % its peak."
    if width >= WIDE:
        legend = (
            "Mbit/s: on the link, last 2 s. MB: payload (tensors). Memory: █ now, ▒ and MiB peak, above the baseline."
        )
    lines: list[RenderableType] = [*_header(progress, width), Text(), table, Text()]
    spare = room - len(shown) - bool(left_over)
    for name, result in progress.results[-spare:] if spare > 0 else []:
        lines.append(Text(f"done: {name}: {result}", style="dim", no_wrap=True, overflow="ellipsis"))
    lines.append(Text(legend, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def _header(progress: Progress, width: int) -> Iterator[Text]:
    manifest = progress.manifest
    slowed = f", dilation {progress.dilation}" if progress.dilation != 1 else ""
    title = f"splitbed  {manifest.get('profile')}, {manifest.get('clock')} clock{slowed}, seed {manifest.get('seed')}"
    yield Text(title, style="bold", no_wrap=True, overflow="ellipsis")

    done, total = len(progress.ended), progress.rounds
    share = done / total if total else 0.0
    if progress.stop_after_s:
        share = max(share, min(progress.now_ns / SECOND_NS / progress.stop_after_s, 1.0))
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(progress.algorithm or "starting", style="bold cyan")
    line.append(f"  algorithm {progress.number} of {len(progress.algorithms)}  " if progress.number else "  ")
    line.append_text(_bar(share, share, 20 if width < WIDE else 40, "cyan"))
    line.append(f"  {progress.now_ns / SECOND_NS:.1f} s emulated")
    yield line

    current = min(done + 1, total) if total else done + 1
    line = Text(f"round {current}{f' of {total}' if total else ''}", no_wrap=True, overflow="ellipsis")
    line.append(f" (none starts after {progress.stop_after_s:g} s)" if progress.stop_after_s else "")
    score = progress.score
    line.append(f", accuracy {100 * score.accuracy:.1f} %" if score else ", accuracy –", style="bold")
    line.append(f", {progress.payload_bytes / MB:.2f} MB so far")
    yield line

    health = Text("health so far: ", no_wrap=True, overflow="ellipsis")
    health.append(f"rounds ended at most {progress.worst_lag_ns / 10**6:.1f} ms off, ")
    health.append(f"{progress.clamps} clamps ({progress.clamped_ns / 10**6:.1f} ms)")
    yield health


def _cells(node: Seen, now_ns: int, memory_width: int) -> list[Text | str]:
    up, down = node.rate_bps(True, now_ns) / MBIT, node.rate_bps(False, now_ns) / MBIT
    sent, received = node.up_bytes / MB, node.down_bytes / MB
    if node.role == "server":
        # What the server receives is what clients send up.
        up, down, sent, received = down, up, received, sent
    verb = node.doing.partition(" ")[0].rstrip(":")
    return [
        node.name,
        node.device,
        Text(node.doing, style=STYLES.get(verb, "bold red")),
        f"{_short(up)}/{_short(down)}",
        f"{_short(sent)}/{_short(received)}",
        _memory(node, memory_width),
        NOTHING if node.round is None or node.round < 0 else str(node.round + 1),
        NOTHING if node.loss is None else _short(node.loss),
    ]


def _memory(node: Seen, width: int) -> Text:
    """A bar of the budget: growth above the baseline now, and the peak so far; the figure is the peak's."""
    if node.growth_bytes is None or node.peak_bytes is None or not node.budget_bytes:
        return Text(NOTHING, style="dim")
    share, peak = node.growth_bytes / node.budget_bytes, node.peak_bytes / node.budget_bytes
    style = "red" if peak > 1 else "yellow" if peak > 0.8 else "green"
    if width >= 20:
        figures = f" {node.peak_bytes / MIB:.0f} of {node.budget_bytes / MIB:.0f} MiB"
    else:
        figures = f" {100 * peak:.0f} %"
    text = _bar(share, peak, 10 if width >= 20 else 5, style)
    text.append(figures.rjust(width - len(text)))
    return text


def _bar(share: float, peak: float, cells: int, style: str) -> Text:
    """``share`` in full cells, up to ``peak`` in half-tone; both cut at the bar's end."""
    full, half = (min(round(part * cells), cells) for part in (share, peak))
    return Text("█" * full + "▒" * (half - full) + "░" * (cells - half), style=style)


def _short(value: float) -> str:
    """At most four characters, below 1000."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


# --- following the files ------------------------------------------------------------------------------------------


class Follower:
    """Follows the ledger files of one algorithm.

    The server's file is read before the clients': whatever led to a line of the server's is then in the same batch.
    """

    def __init__(self, folder: Path, nodes: list[str]) -> None:
        servers_first = sorted(nodes, key=lambda name: name != "server")
        names = ["evaluator", servers_first[0], "network", "supervisor", *servers_first[1:]] if nodes else []
        self._tails = [Tail(folder / f"{name}.jsonl") for name in names]

    def read(self) -> list[AnyEvent]:
        return [event for tail in self._tails for event in tail.read()]


class Dashboard:
    """The live screen; redraws at most twice a second."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        run_folder: Path,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.progress = Progress(manifest)
        self._ledger = run_folder / "ledger"
        self._nodes = [node["name"] for node in manifest.get("nodes", [])]
        self._follower = Follower(self._ledger, [])
        self._console = console or Console()
        self._clock = clock
        self._next_s = clock()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def begin(self, algorithm: str) -> None:
        self.progress.begin(algorithm)
        self._follower = Follower(self._ledger / algorithm, self._nodes)
        self._draw()

    def tick(self) -> None:
        if self._clock() >= self._next_s:
            self._draw()

    def end(self, algorithm: str, row_summary_text: str) -> None:
        self.progress.end(algorithm, row_summary_text)
        self._draw()

    def _draw(self) -> None:
        for event in self._follower.read():
            self.progress.apply(event)
        size = self._console.size
        self._live.update(make_screen(self.progress, size.width, size.height - 1), refresh=True)
        self._next_s = self._clock() + REFRESH_S


class PlainLines:
    """One line a round, for output that is no terminal."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        run_folder: Path,
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.progress = Progress(manifest)
        self._ledger = run_folder / "ledger"
        self._nodes = [node["name"] for node in manifest.get("nodes", [])]
        self._follower = Follower(self._ledger, [])
        self._write = write or _print_line
        self._clock = clock
        self._next_s = clock()

    def __enter__(self) -> Self:
        manifest = self.progress.manifest
        self._write(
            f"splitbed: {manifest.get('profile')}, {manifest.get('clock')} clock, seed {manifest.get('seed')}, "
            f"{len(self.progress.clients)} clients; {', '.join(self.progress.algorithms)}"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self, algorithm: str) -> None:
        self.progress.begin(algorithm)
        self._follower = Follower(self._ledger / algorithm, self._nodes)
        self._say("starts")

    def tick(self) -> None:
        if self._clock() >= self._next_s:
            self._read()

    def end(self, algorithm: str, row_summary_text: str) -> None:
        self._read()
        self.progress.end(algorithm, row_summary_text)
        self._say(row_summary_text)

    def _read(self) -> None:
        events = self._follower.read()
        for event in events:
            self.progress.apply(event)
        for event in events:
            if isinstance(event, Evaluated):
                self._say(self._round_line(event))
            elif isinstance(event, Ended) and event.node in self.progress.nodes and event.outcome != "finished":
                node = self.progress.nodes[event.node]
                self._say(
                    f"{node.name} ({node.device}) at {event.due_ns / SECOND_NS:.2f} s: {node.doing} {event.detail}"
                )
        self._next_s = self._clock() + REFRESH_S

    def _round_line(self, event: Evaluated) -> str:
        progress = self.progress
        of_total = f" of {progress.rounds}" if progress.rounds and not progress.stop_after_s else ""
        loss = "diverged" if event.loss is None else f"test loss {event.loss:.3f}"
        return (
            f"round {event.round + 1}{of_total} ended at {event.due_ns / SECOND_NS:.2f} s, "
            f"accuracy {100 * event.accuracy:.1f} %, {loss}, "
            f"{progress.payload_until(event.round) / MB:.2f} MB so far"
        )

    def _say(self, text: str) -> None:
        progress = self.progress
        self._write(f"[{progress.number}/{len(progress.algorithms)}] {progress.algorithm}: {text}".rstrip())


def _print_line(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the reader has had enough; the run goes on
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
