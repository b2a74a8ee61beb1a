"""Lateness of transfers on an otherwise idle emulator: one at a time, over rates and sizes, in both directions."""

from __future__ import annotations

from benchmarks.lateness import MS, Spread, Transfer, spread, transfers
from benchmarks.report import Section, Target, rate_text, size_text
from benchmarks.scenes import device, link, scene
from benchmarks.stage import Stage

RATES_BPS = (60_000, 300_000, 1_000_000, 5_000_000, 20_000_000, 100_000_000)
SIZES_BYTES = (1_000, 10_000, 100_000, 1_000_000, 4_000_000)
ONE_WAY_NS = 2 * MS  # the least of the shipped access networks (wifi5)
LONGEST_S = 6.0
SPARE_NS = 2 * MS
TARGET_PERCENT = 95.0


def run(stage: Stage, quick: bool) -> Section:
    """Echo payloads of every size over every rate that carries them in ``LONGEST_S``."""
    board = device("board")
    scenario = scene("links", [(board, link(rate_text(r), r, r, ONE_WAY_NS)) for r in RATES_BPS])
    sizes = {
        client.name: [size for size in SIZES_BYTES for _ in range(_times(8 * size / rate_bps, quick))]
        for client, rate_bps in zip(scenario.clients, RATES_BPS, strict=True)
    }
    played = stage.perform("links", scenario, "benchmarks.players.echo", {"sizes": sizes})
    found = [transfer for transfer in transfers(played.events, scenario) if transfer.kind == "ball"]
    cells: dict[tuple[int, int], list[Transfer]] = {}
    for transfer in found:
        cells.setdefault((transfer.rate_bps, transfer.payload_bytes), []).append(transfer)
    rows = [["rate", "payload", "due, s", "transfers", "p50, ms", "p95, ms", "max, ms", "left p95, ms", "in time"]]
    listed: list[dict[str, object]] = []
    for (rate_bps, size_bytes), some in sorted(cells.items()):
        cell, due_s = spread(some, SPARE_NS), some[0].alone_ns / 1e9
        rows.append([rate_text(rate_bps), size_text(size_bytes), f"{due_s:.4f}", *spread_cells(cell)])
        listed.append({"rate_bps": rate_bps, "payload_bytes": size_bytes, "due_s": due_s, **cell._asdict()})
    total = spread(found, SPARE_NS)
    rows.append(["all", "", "", *spread_cells(total)])
    long_enough = [transfer for transfer in found if transfer.alone_ns >= MS]
    share = spread(long_enough, SPARE_NS).share
    wrong = sum(not transfer.exact for transfer in found)
    figures = {
        "one_way_ms": ONE_WAY_NS / MS,
        "cells": listed,
        "all": total._asdict(),
        "from_1_ms_share": share,
        "not_by_closed_form": wrong,
    }
    return Section(
        "links",
        f"lateness (actual - due) of single transfers, both directions, one-way delay {ONE_WAY_NS / MS:g} ms",
        rows,
        figures,
        [
            Target("within 2 ms + 1 % of the due duration", 100 * total.share, "%", TARGET_PERCENT, True),
            Target("carried at other times than the closed form's", wrong, "transfers", 1, False),
        ],
        [f"Of the transfers that take 1 ms or more, {100 * share:.1f} % are in time."],
    )


def spread_cells(found: Spread) -> list[str]:
    """The cells of a table's row, from the number of transfers on."""
    times = (found.p50_ms, found.p95_ms, found.max_ms, found.left_p95_ms)
    return [str(found.transfers), *(f"{ms:.2f}" for ms in times), f"{100 * found.share:.1f} %"]


def _times(due_s: float, quick: bool) -> int:
    """How often a transfer of ``due_s`` is repeated (each way)."""
    if quick:
        return int(due_s < LONGEST_S / 10) * 3
    return 0 if due_s > LONGEST_S else min(max(int(1.5 / due_s), 3), 20)
