"""From the start of the first process to a running clock, and what the fork server needs once before that."""

from __future__ import annotations

import statistics

from benchmarks.report import Section
from benchmarks.scenes import device, link, scene
from benchmarks.stage import Played, Stage
from emulator.ledger.events import Reported

CLIENTS = (10, 50)
TIMES = {10: 5, 50: 3}


def run(stage: Stage, quick: bool) -> Section:
    """Start timelines of ten and of fifty clients several times."""
    rows = [["", "s, median", "s, max", "times"], ["fork server with preload, once", f"{stage.preload_s:.2f}", "", "1"]]
    rows.append(["one empty child, start to end", f"{stage.child_s:.3f}", "", "1"])
    figures: dict[str, object] = {"preload_s": stage.preload_s, "empty_child_s": stage.child_s}
    for clients in CLIENTS:
        scenario = scene("startup", [(device("board"), link("any", 10**9, 10**9))] * clients)
        times = 1 if quick else TIMES[clients]
        seconds = [
            _start_s(stage.perform(f"startup-{clients}-{i}", scenario, "benchmarks.players.presence", {}))
            for i in range(times)
        ]
        median_s, max_s = statistics.median(seconds), max(seconds)
        rows.append([f"{clients} clients, server, network, evaluator", f"{median_s:.2f}", f"{max_s:.2f}", str(times)])
        figures[f"clients_{clients}_s"] = seconds
    return Section("startup", "from the start of the first process to emulated time 0", rows, figures)


def _start_s(played: Played) -> float:
    """Seconds of host time from the first process's start to time 0 of the timeline."""
    event = next(e for e in played.events if isinstance(e, Reported) and "monotonic_ns" in e.values)
    return (event.values["monotonic_ns"] - event.actual_ns - played.starting_ns) / 1e9
