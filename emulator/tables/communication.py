"""The tables of communication: what each method sends, in all and by kind of message. A view."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.analysis.communication import WAYS
from emulator.analysis.metrics import KB, MB, figures, keys
from emulator.analysis.summary import Algorithms, ClientSummary, Size, Way
from emulator.ledger.criteria import Criteria
from emulator.tables.figure_columns import figure_column, finished
from emulator.tables.table import BEST_MEANS, Column, Table, TableRow, count, figure, from_columns, number

KINDS = ("up", "down", "framed", "wire", "official")


def in_all(algorithms: Algorithms, criteria: Criteria) -> Table:
    """One row an algorithm."""
    of, reaching = figures(criteria), criteria.reaching()
    until = f"; payload posted until the end of the first round with {reaching}, what goes out at that instant included"
    each = [*algorithms.values()]
    totals = {
        "payload": [algorithm.total_bytes.payload for algorithm in each],
        "framed": [algorithm.total_bytes.framed for algorithm in each],
        "wire": [algorithm.total_bytes.wire for algorithm in each],
        "official": [algorithm.official_bytes for algorithm in each],
    }
    return from_columns(
        [
            Column("algorithm", [*algorithms]),
            *(figure_column(algorithms, of[key]) for key in ("up_kb", "down_kb")),
            *(Column(f"{size}\nMB", [figure(sent, 1 / MB) for sent in sizes]) for size, sizes in totals.items()),
            *(figure_column(algorithms, of[key]) for key in keys(criteria).mb_to),
        ],
        title="Communication volume",
        caption="Up, down: payload (tensor bytes) that clients send and receive until the last round's end, without "
        "initial weights, per client and round in which it sent something. The others are of all messages, each once: "
        "payload, framed (with headers), wire (with TCP/IP headers, estimated; what the links carry) and official "
        f"(without labels and initial weights) of the whole run{until if reaching else ''}. A kB is 1000 bytes. "
        f"{BEST_MEANS}",
        results=_besides(algorithms),
        ranked=finished(algorithms),
    )


def _besides(algorithms: Algorithms) -> list[str]:
    """What the links carried besides the messages."""
    acks = {name: algorithm.ack_bytes.up + algorithm.ack_bytes.down for name, algorithm in algorithms.items()}
    resent = {name: algorithm.resent_bytes for name, algorithm in algorithms.items() if algorithm.resent_bytes}
    lines = []
    if any(acks.values()):
        wire_bytes = sum(algorithm.total_bytes.wire for algorithm in algorithms.values())
        share = 100 * sum(acks.values()) / max(wire_bytes, 1)
        lines.append(f"TCP's acknowledgements are counted apart: {number(share)} % of wire, on the way back.")
    if resent:
        each = ", ".join(f"{name} {number(size, 1 / MB)} MB" for name, size in resent.items())
        lines.append(f"Sent again after an absence, not in the figures above: {each}.")
    return lines


def sent(clients: Sequence[ClientSummary], kind: str, size: Size, way: Way) -> int:
    """Bytes of a kind of message that clients sent, or received."""
    return sum(getattr(each[kind], size) for client in clients if kind in (each := getattr(client.by_kind, way)))


def by_kind(algorithms: Algorithms) -> Table:
    """One row for each kind of message of an algorithm."""
    rows: list[TableRow] = []
    for name, algorithm in algorithms.items():
        for kind, found in algorithm.by_kind.items():
            up, down = (sent(algorithm.clients, kind, "payload", way) for way in WAYS)
            cells = (up, down, found.framed, found.wire, found.official)
            kilobytes = (figure(size, 1 / KB) if size else count(0) for size in cells)
            rows.append([name, kind, count(found.messages), *kilobytes])
    return Table(
        title="Communication volume by kind of message",
        headers=["algorithm", "kind", "messages", *(f"{head}\nkB" for head in KINDS)],
        label_columns=2,
        rows=rows,
        caption="Messages of the whole run. Up, down: payload that clients send and receive; what goes from client to "
        "client is in both, from the server to itself in neither. The others have each message once, as above.",
    )
