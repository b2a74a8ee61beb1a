"""The tables of communication: what each method sends, in all and by kind of message. A view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.figures import KB, MB, payload_per_share, to_target
from emulator.sheets import BEST_MEANS, Sheet, number

Json = Mapping[str, Any]
SIZES = ("payload", "framed", "wire")


def in_all(algorithms: Json, ranked: list[int]) -> Sheet:
    """One row an algorithm; the best is looked for among the rows ``ranked``."""
    rows = []
    for name, algorithm in algorithms.items():
        rows.append([name, *(number(payload_per_share(algorithm, way), 1 / KB) for way in ("up", "down"))])
        for size in ("payload", "framed", "wire"):
            rows[-1].append(number(sum(algorithm["bytes"][size].values()), 1 / MB))
        rows[-1].append(number(algorithm["official_bytes"], 1 / MB))
        rows[-1] += [number(to_target(algorithm, target, "bytes"), 1 / MB) for target in ("0.85", "0.9")]
    heads = [
        "up\nkB",
        "down\nkB",
        "payload\nMB",
        "framed\nMB",
        "wire\nMB",
        "official\nMB",
        "MB to\n85 %",
        "MB to\n90 %",
    ]
    return Sheet(
        title="Bytes",
        heads=["algorithm", *heads],
        names=1,
        rows=rows,
        meaning="Up, down: payload (tensor bytes) per client and round that it took part in, without the initial "
        "weights. The others are totals of all clients, both ways: payload, framed (with headers), wire (with TCP/IP "
        "headers, estimated; what the links carry), official (without labels and initial weights), and payload until "
        f"85 or 90 % accuracy. A kB is 1000 bytes. {BEST_MEANS}",
        results=_besides(algorithms),
        best=dict.fromkeys((1, 2, 7, 8), "least"),
        ranked=ranked,
    )


def _besides(algorithms: Json) -> list[str]:
    """What the links carried besides the messages."""
    acks = {name: sum(algorithm["ack_bytes"].values()) for name, algorithm in algorithms.items()}
    resent = {name: algorithm["resent_bytes"] for name, algorithm in algorithms.items() if algorithm["resent_bytes"]}
    lines = []
    if any(acks.values()):
        share = (
            100
            * sum(acks.values())
            / max(sum(sum(algorithm["bytes"]["wire"].values()) for algorithm in algorithms.values()), 1)
        )
        lines.append(f"TCP's acknowledgements are counted apart: {number(share)} % of wire, on the way back.")
    if resent:
        each = ", ".join(f"{name} {number(size, 1 / MB)} MB" for name, size in resent.items())
        lines.append(f"Sent again after an absence, not in the figures above: {each}.")
    return lines


def kinds(algorithm: Json) -> dict[str, dict[str, Any]]:
    """For each kind its messages, official bytes, and ``up`` and ``down`` by payload, framed and wire, in bytes.

    Up is what clients send, to the server or to each other.
    """
    found = {}
    for kind, total in algorithm["by_kind"].items():
        sent = [client["by_kind"]["up"][kind] for client in algorithm["clients"] if kind in client["by_kind"]["up"]]
        up = {size: sum(each[size] for each in sent) for size in SIZES}
        down = {size: total[size] - up[size] for size in SIZES}
        found[kind] = {"messages": total["messages"], "official": total["official"], "up": up, "down": down}
    return found


def by_kind(algorithms: Json) -> Sheet:
    """One row for each kind of message of an algorithm."""
    rows = []
    for name, algorithm in algorithms.items():
        for kind, found in kinds(algorithm).items():
            up, down = found["up"], found["down"]
            cells = [up["payload"], down["payload"], *(up[size] + down[size] for size in SIZES[1:]), found["official"]]
            kilobytes = (number(size, 1 / KB) if size else "0" for size in cells)
            rows.append([name, kind, str(found["messages"]), *kilobytes])
    return Sheet(
        title="Bytes by kind of message",
        heads=["algorithm", "kind", "messages", *(f"{head}\nkB" for head in ("up", "down", *SIZES[1:], "official"))],
        names=2,
        rows=rows,
        meaning="Messages of the whole run. Up: payload that clients send, to the server or to each other; down: "
        "payload from the server. The others are totals of both ways, as above.",
    )
