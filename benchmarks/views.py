"""``run.py report`` on a record of a million events: SplitFed V2 as it would be recorded of 20 clients over 50 rounds.

The ledger is written straight into files, lawful in bytes, order and times; nothing is played. ``report`` then runs as
a command of its own, whose time and peak memory are measured.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Section, Target
from benchmarks.stage import Broken, Stage
from benchmarks.virtual import ROOT
from emulator import ledger as events
from emulator import record
from emulator.ledger import Event, Ledger
from emulator.profile_reading import load_scenario

CLIENTS, ROUNDS, STEPS = 20, 50, 100  # ten events a step
STEP_NS = 60_000_000
SECONDS_AT_MOST, MIB_AT_MOST = 30, 1024
METHOD = "splitfed-v2"


def run(stage: Stage, quick: bool) -> Section:
    """One record, one report."""
    del stage
    rounds = 2 if quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="splitbed-bench-") as name:
        folder = Path(name) / "run"
        count = _write(folder, rounds)
        begun_s = time.monotonic()
        command = [sys.executable, str(ROOT / "run.py"), "report", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun_s
        if status:
            raise Broken(f"report: {output[-500:].decode()}")
        size_bytes = (folder / "report.html").stat().st_size
    peak_mib = _peak_mib(usage)
    rows = [["events", "s", "peak MiB", "report.html MB"]]
    rows.append([f"{count:,}", f"{seconds:.1f}", f"{peak_mib:.0f}", f"{size_bytes / 1e6:.1f}"])
    targets = [
        Target("report, wall", seconds, "s", SECONDS_AT_MOST, False),
        Target("report, peak resident memory", peak_mib, "MiB", MIB_AT_MOST, False),
    ]
    figures: dict[str, Any] = {"events": count, "seconds": seconds, "peak_mib": peak_mib}
    return Section("views", f"run.py report on {CLIENTS} clients and {rounds} rounds", rows, figures, targets)


def _peak_mib(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def _write(folder: Path, rounds: int) -> int:
    """A run's folder without summary and tables; how many events it has."""
    scenario = load_scenario("iot-4g", CLIENTS)
    settings = {METHOD: {"rounds": rounds, "stop_after_s": None}}
    manifest = record.make_manifest(scenario, settings, argv=["views"], clock="virtual", seed=1, dilation=None)
    folder.mkdir()
    record.write_manifest(folder, manifest)
    (folder / "ledger" / METHOD).mkdir()
    names = ["network", "supervisor", "evaluator", "server", *(client.name for client in scenario.clients)]
    files = {name: Ledger(folder / "ledger" / METHOD, name) for name in names}
    count = 0

    def note(node: str, event_type: type[Event], due_ns: int, **fields: Any) -> None:
        nonlocal count
        files[node].write(event_type(due_ns=due_ns, actual_ns=due_ns, **fields))
        count += 1

    note("supervisor", events.Timeline, 0, outcome="")
    note("server", events.Started, 0, role="server", pid=1, device="edge-server")
    for client in scenario.clients:
        budget_bytes = client.device.budget_bytes
        note(client.name, events.Started, 0, role="client", pid=1, baseline_bytes=2**28, budget_bytes=budget_bytes)
    counters = dict.fromkeys(["server", *(client.name for client in scenario.clients)], 0)

    def send(source: str, destination: str, kind: str, round: int, posted_ns: int, arrival_ns: int) -> None:
        sizes: dict[str, Any] = {"payload_bytes": 16_448, "framed_bytes": 16_600, "wire_bytes": 17_000}
        counter, middle_ns = counters[source], (posted_ns + arrival_ns) // 2
        counters[source] += 1
        ends: dict[str, Any] = {"counter": counter, "kind": kind}
        note(
            source,
            events.Posted,
            posted_ns,
            destination=destination,
            round=round,
            official_bytes=16_384,
            **ends,
            **sizes,
        )
        carried: dict[str, Any] = {
            "wire_bytes": 17_000,
            "payload_bytes": 16_448,
            "posted_ns": posted_ns,
            "arrival_ns": arrival_ns,
        }
        note(
            *("network", events.Carried, middle_ns),
            source=source,
            destination=destination,
            start_ns=posted_ns,
            **ends,
            **carried,
        )
        note(destination, events.Received, arrival_ns, source=source, **ends, **sizes)

    def compute(node: str, function: str, start_ns: int, end_ns: int) -> None:
        work = {"operations": 14, "dense_flops": 10**6, "depthwise_flops": 0, "moved_bytes": 10**5}
        note(
            node,
            events.Computed,
            end_ns,
            function=function,
            start_ns=start_ns,
            queued_ns=0,
            host_ns=10**6,
            host_late_ns=0,
            **work,
        )

    for round in range(rounds):
        begun_ns = round * STEPS * STEP_NS
        for step in range(STEPS):
            for client in scenario.clients:
                at_ns = begun_ns + step * STEP_NS + client.index * 1000
                compute(client.name, "forward", at_ns, at_ns + 5_000_000)
                send(client.name, "server", "smashed", round, at_ns + 5_000_000, at_ns + 25_000_000)
                compute("server", "cut_step", at_ns + 25_000_000, at_ns + 25_000_900)
                send("server", client.name, "gradient", round, at_ns + 25_000_900, at_ns + 45_000_000)
                note(client.name, events.Waiting, at_ns + 5_000_000, kinds=["gradient"], sources=["server"])
                compute(client.name, "backward", at_ns + 45_000_000, at_ns + 50_000_000)
        end_ns = begun_ns + STEPS * STEP_NS
        note("server", events.RoundEnded, end_ns, round=round, started_ns=begun_ns)
        accuracy = 1 - 0.9 / (round + 2)
        note("evaluator", events.Evaluated, end_ns, round=round, accuracy=accuracy, loss=1 - accuracy)
    end_ns = rounds * STEPS * STEP_NS
    for client in scenario.clients:
        note(
            client.name,
            events.Memory,
            end_ns,
            growth_bytes=2**21,
            peak_bytes=2**22,
            budget_bytes=client.device.budget_bytes,
        )
    for name in (*counters, "network"):
        note(name, events.Ended, end_ns, outcome="finished")
    note("supervisor", events.Timeline, end_ns, outcome="finished", wall_s=1.0)
    for file in files.values():
        file.close()
    return count
