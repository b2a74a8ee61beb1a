"""The dashboard's view of the clients: a row each, or their groups and the slowest; the server; what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.text import Text

from emulator.dashboard.glyphs import (
    NOTHING,
    STYLES,
    TROUBLE,
    ColumnHeader,
    bar,
    fitted,
    headers,
    rate_texts,
    row,
    short,
    strip,
    use,
)
from emulator.dashboard.node_state import ChannelState, NodeGroup, NodeState, rate_bps
from emulator.dashboard.progress import Progress

WIDE = 110  # columns from which on there is room for devices, networks, and what exactly a client does
MBIT, MB, MIB = 10**6, 10**6, 2**20
STATES = ("compute", "upload", "download", "wait", "away", "starting", "finished")


class ColumnWidths(NamedTuple):
    """Widths of the columns that have no fixed width, in characters."""

    name: int
    about: int  # device and network; 0: not shown
    state: int
    strip: int
    spark: int
    memory: int

    def columns(self, window: str) -> list[ColumnHeader]:
        return [
            ColumnHeader("client", self.name),
            *([ColumnHeader("device, network", self.about)] if self.about else []),
            ColumnHeader("now", self.state),
            ColumnHeader(window, self.strip),
            ColumnHeader("up Mbit/s", self.spark + 5),
            ColumnHeader("down", self.spark + 5),
            ColumnHeader("MB up/dn", 9, True),
            ColumnHeader("memory", self.memory, True),
            ColumnHeader("rnd", 3, True),
            ColumnHeader("loss", 4, True),
        ]


def column_widths(progress: Progress, width: int, grouped: bool) -> ColumnWidths:
    """Columns of names as wide as they must be, those of time as wide as there is room for."""
    longest = max((len(client.name) for client in progress.clients), default=8)
    if width < WIDE:
        name = min(max([longest, *(len(group.name) for group in progress.groups if grouped)]), 14 if grouped else 10)
        return ColumnWidths(name, 0, 8, max(width - name - 8 - 9 - 9 - 9 - 8 - 3 - 4 - 8, 1), 4, 8)
    name = min(longest, 16)
    about = min(max((len(_about(client)) for client in progress.nodes.values()), default=0), width // 6)
    left = width - name - about - 22 - 9 - 23 - 3 - 4 - 9 - 2 * 5
    spark = max(left // 5, 4)
    return ColumnWidths(name, about, 22, max(left - 2 * spark, 1), spark, 23)


SORTS: dict[str, Callable[[Progress, NodeState], object]] = {
    "name": lambda _progress, _client: 0,
    "slowest": lambda progress, client: (
        client.round if client.round is not None else -1,
        client.waited_ns(progress.now_ns, progress.window_ns),
    ),
    "memory": lambda _progress, client: -(client.memory_share or 0.0),
    "upload": lambda _progress, client: -client.up_bytes,
    "loss": lambda _progress, client: -client.loss if client.loss is not None else 1.0,
}


def ordered(progress: Progress, sort: str) -> list[NodeState]:
    """The clients by one of ``SORTS``; equal ones stay in their order. Those out of the run are not slow."""
    if sort == "slowest":
        return sorted(progress.clients, key=lambda client: (bool(client.outcome), SORTS[sort](progress, client)))
    return sorted(progress.clients, key=lambda client: SORTS[sort](progress, client))  # type: ignore[arg-type,return-value]


def draw_clients(progress: Progress, width: int, height: int, sort: str) -> list[Text]:
    """At most ``height`` lines: heads, clients or groups, the server, the capacities that are shared."""
    now_ns, window_ns = progress.now_ns, progress.window_ns
    clients = ordered(progress, sort)
    room = height - 1 - (2 if progress.server else 0)
    grouped = len(clients) > room
    sizes = column_widths(progress, width, grouped)
    columns = sizes.columns(f"last {window_ns // 10**9} s" if sizes.strip >= 9 else "past")
    shared = sorted((c for c in progress.capacities if c.shared), key=lambda c: -c.used(now_ns, window_ns))
    shared = shared[: height // 4 if grouped else room - len(clients)]
    room = max(room - len(shared), 1)
    if grouped:
        rows = _groups(progress, columns, sizes, room, sort)
    else:
        rows = [_client(progress, client, columns, sizes) for client in clients]
    below = [draw_capacity(progress, capacity, width) for capacity in shared]
    if progress.server:
        below = [_server(progress, progress.server, columns, sizes), _queue(progress.server, width), *below]
    return [headers(columns), *rows, *below]


def _groups(
    progress: Progress, columns: Sequence[ColumnHeader], sizes: ColumnWidths, room: int, sort: str
) -> list[Text]:
    """The groups, then as many clients as there is room for: the slowest, or the first by another order."""
    first = "slowest" if sort == "name" else sort
    rows = [_group(progress, group, columns, sizes) for group in progress.groups]
    width = sum(column.width + 1 for column in columns) - 1
    if len(rows) >= room - 1:
        hidden = len(rows) - room + 1
        return [*rows[: room - 1], fitted(Text(f"… and {hidden} more groups", style="dim"), width)]
    clients = ordered(progress, first)[: room - len(rows) - 1]
    words = {"slowest": "slowest", "memory": "fullest", "upload": "largest uploads", "loss": "largest losses"}[first]
    title = fitted(Text(f"the {len(clients)} {words} of {len(progress.clients)} clients", style="dim"), width)
    return [*rows, title, *(_client(progress, client, columns, sizes) for client in clients)]


def _about(node: NodeState) -> str:
    return f"{node.device}, {node.network}"


def _client(progress: Progress, client: NodeState, columns: Sequence[ColumnHeader], sizes: ColumnWidths) -> Text:
    now_ns, window_ns = progress.now_ns, progress.window_ns
    state = Text(client.state, style=STYLES.get(client.state, TROUBLE))
    if sizes.about and client.what:
        state.append(f" {client.what}", style="dim")
    cells: list[Text | str] = [
        client.name,
        *([_about(client)] if sizes.about else []),
        state,
        strip(client.bins, sizes.strip, now_ns, window_ns, client.ongoing, 1),
        _rate(client, sizes.spark, progress, True),
        _rate(client, sizes.spark, progress, False),
        f"{short(client.up_bytes / MB)}/{short(client.down_bytes / MB)}",
        _memory(client, sizes.memory),
        _round(client.round),
        NOTHING if client.loss is None else short(client.loss),
    ]
    return row(cells, columns)


def _rate(client: NodeState, spark: int, progress: Progress, up: bool) -> Text:
    full_bps = client.up_bps if up else client.down_bps
    text = rate_texts(client.bins, spark, progress.now_ns, progress.window_ns, up, full_bps)
    return text.append(" ").append(short(client.rate_bps(up, progress.now_ns) / MBIT).rjust(4), style="not dim")


def _group(progress: Progress, group: NodeGroup, columns: Sequence[ColumnHeader], sizes: ColumnWidths) -> Text:
    """Counts of states; sums of rates and bytes; the fullest memory; the least round; the mean loss."""
    now_ns, window_ns, count = progress.now_ns, progress.window_ns, len(group.members)
    states = group.states
    if sizes.about:
        state = Text(" ").join(
            Text(f"{states[word]} {word[:4]}", style=STYLES[word]) for word in STATES if states[word]
        )
    else:
        word, most = max(states.items(), key=lambda item: item[1])
        state = Text(f"{most} {word}", style=STYLES.get(word, TROUBLE))
    sparks = []
    for up in (True, False):
        full_bps = sum(member.up_bps if up else member.down_bps for member in group.members)
        bps = rate_bps(group.bins, up, now_ns)
        spark = rate_texts(group.bins, sizes.spark, now_ns, window_ns, up, full_bps)
        sparks.append(spark.append(" ").append(short(bps / MBIT).rjust(4)))
    sent, received = (sum(getattr(member, f"{way}_bytes") for member in group.members) / MB for way in ("up", "down"))
    cells: list[Text | str] = [
        group.name if not sizes.about else f"{count} x",
        *([f"{group.device}, {group.network}"] if sizes.about else []),
        state,
        strip(group.bins, sizes.strip, now_ns, window_ns, group.ongoing, count),
        *sparks,
        f"{short(sent)}/{short(received)}",
        _memory(group.fullest, sizes.memory),
        _round(group.rounds[0] if group.rounds else None),
        NOTHING if group.loss is None else short(group.loss),
    ]
    return row(cells, columns, "bold")


def _server(progress: Progress, server: NodeState, columns: Sequence[ColumnHeader], sizes: ColumnWidths) -> Text:
    """Its workers' use as a sparkline. Up and down are seen from the clients: what it receives is what they send."""
    now_ns, window_ns = progress.now_ns, progress.window_ns
    busy = Text("compute", style=STYLES["compute"]) if server.state == "compute" else Text(server.state)
    if sizes.about and server.what:
        busy.append(f" {server.what}", style="dim")
    up_bps, down_bps = server.rate_bps(False, now_ns), server.rate_bps(True, now_ns)
    cells: list[Text | str] = [
        server.name,
        *([_about(server)] if sizes.about else []),
        busy,
        use(server.bins, sizes.strip, now_ns, window_ns, server.workers, server.ongoing),
        Text(short(up_bps / MBIT).rjust(sizes.spark + 5)),
        Text(short(down_bps / MBIT).rjust(sizes.spark + 5)),
        f"{short(server.down_bytes / MB)}/{short(server.up_bytes / MB)}",
        _busy(progress, server),
        _round(server.round),
        "",
    ]
    return row(cells, columns, "bold")


def _busy(progress: Progress, server: NodeState) -> str:
    used = server.bins.total(0, progress.now_ns, progress.window_ns)
    span_ns = min(progress.window_ns, max(progress.now_ns, 1)) * server.workers
    return f"busy{100 * min(used / span_ns, 1.0):3.0f}%"


def _queue(server: NodeState, width: int) -> Text:
    queued = f"computations queued for {server.queued_ns / 10**9:.2f} s in all, "
    line = Text(f"  {queued}{len(server.downloads)} messages on the way to it", style="")
    return fitted(line, width)


def _round(round: int | None) -> str:
    return NOTHING if round is None or round < 0 else str(round + 1)


def _memory(node: NodeState, width: int) -> Text:
    """A bar of the budget: growth above the baseline now, and the peak so far; the figure is the peak's."""
    share = node.memory_share
    if share is None or node.growth_bytes is None or node.peak_bytes is None or not node.budget_bytes:
        return Text(NOTHING, style="dim")
    style = "red" if share > 1 else "yellow" if share > 0.8 else "green"
    cells, figures = (3, f" {100 * share:.0f}%")
    if width > 12:
        cells, figures = 6, f" {short(node.peak_bytes / MIB)} of {node.budget_bytes / MIB:.0f} MiB"
    return bar(node.growth_bytes / node.budget_bytes, cells, style, share).append(figures.rjust(width - cells))


def draw_capacity(progress: Progress, capacity: ChannelState, width: int) -> Text:
    """A capacity in one line: use, rate, what waits for it."""
    now_ns, window_ns = progress.now_ns, progress.window_ns
    used = capacity.used(now_ns, window_ns)
    words = f" {100 * used:3.0f} % of {short(capacity.rate_bps(now_ns) / MBIT)} Mbit/s, "
    line = fitted(capacity.name, 16).append(" ").append_text(bar(used, 10, "cyan")).append(words)
    line.append(f"{len(capacity.waiting)} messages on it")
    return fitted(line, width)
