"""The tables of communication: what each method sends, in all and by kind of message. A view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.analysis.communication import SIZES
from emulator.analysis.metrics import KB, MB, total_bytes
from emulator.tables.figure_columns import figure_column, finished
from emulator.tables.table import BEST_MEANS, Column, Table, TableRow, count, figure, from_columns, number

Json = Mapping[str, Any]


def in_all(algorithms: Json) -> Table:
    """One row an algorithm."""
    each = [*algorithms.values()]
    totals = {size: [total_bytes(algorithm, size) for algorithm in each] for size in SIZES}
    totals["official"] = [algorithm["official_bytes"] for algorithm in each]
    return from_columns(
        [
            Column("algorithm", [*algorithms]),
            *(figure_column(algorithms, key) for key in ("up_kb", "down_kb")),
            *(Column(f"{size}\nMB", [figure(sent, 1 / MB) for sent in sizes]) for size, sizes in totals.items()),
            *(figure_column(algorithms, key) for key in ("mb_to_85", "mb_to_90")),
        ],
        title="Communication volume",
        caption="Up, down: payload (tensor bytes) that clients send and receive until the last round's end, without "
        "initial weights, per client and round in which it sent something. The others are of all messages, each once: "
        "payload, framed (with headers), wire (with TCP/IP headers, estimated; what the links carry) and official "
        "(without labels and initial weights) of the whole run; payload posted until the end of the first round with "
        f"85 or 90 % accuracy, what goes out at that instant included. A kB is 1000 bytes. {BEST_MEANS}",
        results=_besides(algorithms),
        ranked=finished(algorithms),
    )


def _besides(algorithms: Json) -> list[str]:
    """What the links carried besides the messages."""
    acks = {name: sum(algorithm["ack_bytes"].values()) for name, algorithm in algorithms.items()}
    resent = {name: algorithm["resent_bytes"] for name, algorithm in algorithms.items() if algorithm["resent_bytes"]}
    lines = []
    if any(acks.values()):
        wire_bytes = sum(total_bytes(algorithm, "wire") for algorithm in algorithms.values())
        share = 100 * sum(acks.values()) / max(wire_bytes, 1)
        lines.append(f"TCP's acknowledgements are counted apart: {number(share)} % of wire, on the way back.")
    if resent:
        each = ", ".join(f"{name} {number(size, 1 / MB)} MB" for name, size in resent.items())
        lines.append(f"Sent again after an absence, not in the figures above: {each}.")
    return lines


def kinds(algorithm: Json) -> dict[str, dict[str, Any]]:
    """For each kind its messages, official and ``total`` bytes, and those ``up`` and ``down``, by payload, framed and
    wire: what clients sent and what they received."""
    found = {}
    for kind, all_of_it in algorithm["by_kind"].items():
        ways = {
            way: {size: sum(sent.get(kind, {}).get(size, 0) for sent in each) for size in SIZES}
            for way in ("up", "down")
            if (each := [client["by_kind"][way] for client in algorithm["clients"]]) is not None
        }
        total = {size: all_of_it[size] for size in SIZES}
        found[kind] = {"messages": all_of_it["messages"], "official": all_of_it["official"], "total": total, **ways}
    return found


def by_kind(algorithms: Json) -> Table:
    """One row for each kind of message of an algorithm."""
    rows: list[TableRow] = []
    for name, algorithm in algorithms.items():
        for kind, found in kinds(algorithm).items():
            ways = [found["up"]["payload"], found["down"]["payload"]]
            cells = [*ways, *(found["total"][size] for size in SIZES[1:]), found["official"]]
            kilobytes = (figure(size, 1 / KB) if size else count(0) for size in cells)
            rows.append([name, kind, count(found["messages"]), *kilobytes])
    return Table(
        title="Communication volume by kind of message",
        headers=["algorithm", "kind", "messages", *(f"{head}\nkB" for head in ("up", "down", *SIZES[1:], "official"))],
        label_columns=2,
        rows=rows,
        caption="Messages of the whole run. Up, down: payload that clients send and receive; what goes from client to "
        "client is in both, from the server to itself in neither. The others have each message once, as above.",
    )
