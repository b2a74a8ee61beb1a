"""``run.py report`` on a record of a million events: SplitFed V2 as it would be recorded of 20 clients over 50 rounds.

The ledger is written straight into files, lawful in bytes, order and times; nothing is played. ``report`` then runs as
a command of its own, whose time and peak memory are measured.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Section, Target
from benchmarks.stage import Broken, Stage
from benchmarks.virtual import ROOT
from emulator.ledger import events
from emulator.ledger.events import Event
from emulator.ledger.files import Ledger
from emulator.ledger.manifest import write_manifest
from emulator.profiles.reading import load_scenario
from emulator.runtime import run_manifest

CLIENTS, ROUNDS, STEPS = 20, 50, 100  # ten events a step
STEP_NS = 300_000_000
UP_NS, DOWN_NS, DELAY_NS = 110_000_000, 80_000_000, 36_000_000  # a message on its way; its delay alone
SECONDS_AT_MOST, MIB_AT_MOST = 30, 1024
METHOD = "splitfed-v2"


def run(stage: Stage, quick: bool) -> Section:
    """One record, one report."""
    rounds = 2 if quick else ROUNDS
    folder = stage.new_folder("views") / "run"
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
    peak_mib = usage.ru_maxrss / 1024
    rows = [["events", "s", "peak MiB", "report.html MB"]]
    rows.append([f"{count:,}", f"{seconds:.1f}", f"{peak_mib:.0f}", f"{size_bytes / 1e6:.1f}"])
    targets = [
        Target("report, wall", seconds, "s", SECONDS_AT_MOST, False),
        Target("report, peak resident memory", peak_mib, "MiB", MIB_AT_MOST, False),
    ]
    figures: dict[str, Any] = {"events": count, "seconds": seconds, "peak_mib": peak_mib}
    return Section("views", f"run.py report on {CLIENTS} clients and {rounds} rounds", rows, figures, targets)


class _Record:
    """The ledgers of one method; ``count``: how many events were written."""

    def __init__(self, folder: Path, nodes: list[str]) -> None:
        self.files = {name: Ledger(folder, name) for name in nodes}
        self._sent = dict.fromkeys(nodes, 0)
        self.count = 0

    def note(self, node: str, event_type: type[Event], at_ns: int, fields: dict[str, Any]) -> None:
        self.files[node].write(event_type(due_ns=at_ns, actual_ns=at_ns, **fields))
        self.count += 1

    def send(self, source: str, destination: str, kind: str, round: int, posted_ns: int, arrival_ns: int) -> None:
        ends = {"counter": self._sent[source], "kind": kind}
        self._sent[source] += 1
        sizes = {"payload_bytes": 16_448, "framed_bytes": 16_600, "wire_bytes": 17_000}
        posted = {"destination": destination, "round": round, "official_bytes": 16_384}
        self.note(source, events.Posted, posted_ns, ends | sizes | posted)
        transmitted = {"source": source, "destination": destination, "wire_bytes": 17_000, "payload_bytes": 16_448}
        times = {"posted_ns": posted_ns, "start_ns": posted_ns, "arrival_ns": arrival_ns}
        self.note("network", events.Transmitted, arrival_ns - DELAY_NS, ends | transmitted | times)
        self.note(destination, events.Received, arrival_ns, ends | sizes | {"source": source})

    def compute(self, node: str, function: str, start_ns: int, end_ns: int) -> None:
        work = {"operations": 14, "dense_flops": 10**6, "depthwise_flops": 0, "moved_bytes": 10**5}
        times = {"start_ns": start_ns, "queued_ns": 0, "host_ns": 10**6, "host_late_ns": 0}
        self.note(node, events.Computed, end_ns, work | times | {"function": function})


def _write(folder: Path, rounds: int) -> int:
    """A run's folder without summary and tables; how many events it has."""
    scenario = load_scenario("iot-4g", CLIENTS)
    settings = {METHOD: {"rounds": rounds, "stop_after_s": None}}
    manifest = run_manifest.make_manifest(scenario, settings, argv=["views"], clock="virtual", seed=1, dilation=None)
    folder.mkdir()
    write_manifest(folder, manifest)
    (folder / "ledger" / METHOD).mkdir()
    names = [client.name for client in scenario.clients]
    made = _Record(folder / "ledger" / METHOD, ["network", "supervisor", "evaluator", "server", *names])
    made.note("supervisor", events.Lifecycle, 0, {"outcome": ""})
    made.note("server", events.Started, 0, {"role": "server", "pid": 1, "device": "edge-server"})
    budgets = {client.name: client.device.budget_bytes for client in scenario.clients}
    for name, budget_bytes in budgets.items():
        made.note(name, events.Started, 0, {"role": "client", "pid": 1, "budget_bytes": budget_bytes})
    for round in range(rounds):
        begun_ns = round * STEPS * STEP_NS
        for step, (index, name) in itertools.product(range(STEPS), enumerate(names)):
            at_ns = begun_ns + step * STEP_NS + index * 1000
            made.compute(name, "forward", at_ns, at_ns + 5_000_000)
            made.send(name, "server", "smashed", round, at_ns + 5_000_000, there_ns := at_ns + 5_000_000 + UP_NS)
            made.compute("server", "cut_step", there_ns, there_ns + 900)
            made.send("server", name, "gradient", round, there_ns + 900, back_ns := there_ns + 900 + DOWN_NS)
            made.note(name, events.Waiting, at_ns + 5_000_000, {"kinds": ["gradient"], "sources": ["server"]})
            made.compute(name, "backward", back_ns, back_ns + 5_000_000)
        end_ns = begun_ns + STEPS * STEP_NS
        made.note("server", events.RoundEnded, end_ns, {"round": round, "started_ns": begun_ns})
        loss = 0.9 / (round + 2)
        made.note("evaluator", events.Evaluated, end_ns, {"round": round, "accuracy": 1 - loss, "loss": loss})
    end_ns = rounds * STEPS * STEP_NS
    for name, budget_bytes in budgets.items():
        sizes = {"growth_bytes": 2**21, "peak_bytes": 2**22, "budget_bytes": budget_bytes}
        made.note(name, events.Memory, end_ns, sizes)
    for name in ("server", "network", *names):
        made.note(name, events.Ended, end_ns, {"outcome": "finished"})
    made.note("supervisor", events.Lifecycle, end_ns, {"outcome": "finished", "wall_s": 1.0})
    for file in made.files.values():
        file.close()
    return made.count
