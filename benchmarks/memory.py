"""Private memory of a client's process when it would begin to build its model."""

from __future__ import annotations

import statistics

from benchmarks.report import Section, Target
from benchmarks.scenes import MIB, device, link, scene
from benchmarks.stage import Stage
from emulator.ledger.events import Reported

CLIENTS = 10
TARGET_MIB = 20.0


def run(stage: Stage, quick: bool) -> Section:
    """Ten clients, each of which reads its own /proc/self/smaps_rollup."""
    del quick
    scenario = scene("memory", [(device("board"), link("any", 10**9, 10**9))] * CLIENTS)
    played = stage.perform("memory", scenario, "benchmarks.players.presence", {})
    reports = [event.values for event in played.events if isinstance(event, Reported)]
    private_mib = [values["private_bytes"] / MIB for values in reports if "private_bytes" in values]
    median_mib, max_mib = statistics.median(private_mib), max(private_mib)
    return Section(
        "memory",
        f"private memory (Private_Clean + Private_Dirty) of {CLIENTS} client processes before their models",
        [["", "MiB"], ["median", f"{median_mib:.1f}"], ["max", f"{max_mib:.1f}"]],
        {"median_mib": median_mib, "max_mib": max_mib, "clients_mib": private_mib},
        [Target("largest client", max_mib, "MiB", TARGET_MIB, False)],
    )
