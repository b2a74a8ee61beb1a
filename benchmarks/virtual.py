"""The virtual clock: how close a run comes to the bound set by its arithmetic, and what an event costs.

The bound is that of two processes that share the run's computations (``bound``); every figure is a ratio within one
run. ``emulated s per wall s`` says how much faster than its links a scenario plays.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bound import makespan_s, tasks
from benchmarks.report import Section, Target
from benchmarks.scenes import UNTHROTTLED_BPS, device, link, scenario_text, scene
from benchmarks.stage import Broken, Stage
from emulator.analysis.recorded import RunRecord, recorded
from emulator.ledger.events import Reported
from emulator.ledger.timeline import only
from emulator.processes import die_with_parent

ROOT = Path(__file__).parent.parent
PROCESSES = 2
JUDGED = ("fedavg", "cse-fsl", "fsl-sage")
RATIO_AT_MOST = 1.15
TICKS = 100_000
RESNET = ["--model", "resnet18", "--cut", "layer2", "--batch", "32", "--rounds", "1"]
SAMPLES = 5_000  # of all clients; a round of the paper's has ten times as many
MORE_SAMPLES = 20_000
ALIGNMENT = [f"fsl-sage:{option}" for option in ("align_epochs=2", "align_batch=100", "buffer=100")]
SCENARIO = scenario_text(10, "pi-4b", "iot-4g")  # boards with memory for a whole ResNet-18


def run(stage: Stage, quick: bool) -> Section:
    """ResNet-18 parts on ten clients, with 500 and 2,000 samples a client; farm-nb-iot; ticks of 10 and 200 clients."""
    rows = [["", "computations", "CPU s", "bound s", "wall s", "wall / bound", "emulated s per wall s"]]
    figures: dict[str, Any] = {}
    targets = []
    judged = ",".join(JUDGED)
    folder = stage.new_folder("virtual")
    (folder / "scenario.toml").write_text(SCENARIO)
    options = [word for option in ALIGNMENT for word in ("--set", option)]
    common = ["--profile", str(folder / "scenario.toml"), *RESNET, *options]
    runs = {}
    for samples, which in ((SAMPLES, "all"), (MORE_SAMPLES, judged)):
        if samples == SAMPLES or not quick:
            data = ["--dataset", f"synthetic:3x32x32:10:{samples}", "--algorithm", judged if quick else which]
            runs[f"resnet18/{samples}"] = play_virtual(folder / str(samples), [*common, *data])
    farm = ["--profile", "farm-nb-iot", "--rounds", "3", "--algorithm", judged]
    runs["farm-nb-iot"] = play_virtual(folder / "farm", farm)
    for where, played in runs.items():
        for algorithm, events in played.timelines.items():
            work, summary = tasks(events), played.summary.algorithms[algorithm]
            assert summary.wall_s is not None
            wall_s, emulated_s = summary.wall_s, summary.length_s
            bound_s, cpu_s = makespan_s(work, PROCESSES), sum(task.cpu_ns for task in work) / 1e9
            figure = {"computations": len(work), "cpu_s": cpu_s, "bound_s": bound_s, "wall_s": wall_s}
            figures[f"{where}/{algorithm}"] = {**figure, "ratio": wall_s / bound_s, "speed": emulated_s / wall_s}
            cells = [f"{value:.2f}" for value in (cpu_s, bound_s, wall_s, wall_s / bound_s)]
            rows.append([f"{where} {algorithm}", str(len(work)), *cells, f"{emulated_s / wall_s:.1f}"])
            if where.startswith("resnet18/") and algorithm in JUDGED:
                what = f"{where} {algorithm}, wall / bound"
                targets.append(Target(what, wall_s / bound_s, "", RATIO_AT_MOST, False))
    costs = {clients: _coordination(stage, clients, quick) for clients in (10, 200)}
    figures["coordination"] = {str(clients): cost for clients, cost in costs.items()}
    targets.append(Target("coordination messages, 10 clients", costs[10], "/s", 10_000, True))
    ratio = costs[10] / costs[200]
    targets.append(Target("cost of one at 200 clients over that at 10", ratio, "", 2.0, False))
    remarks = [f"coordination messages a second: {costs[10]:.0f} with 10 clients, {costs[200]:.0f} with 200"]
    title = f"virtual clock against {PROCESSES} processes that share its computations without links or a clock"
    return Section("virtual", title, rows, figures, targets, remarks)


def play_virtual(folder: Path, flags: list[str]) -> RunRecord:
    """The record of one command on the virtual clock, or of a dry run where ``flags`` ask for one."""
    return play_run(folder, flags if "--dry-run" in flags else [*flags, "--clock", "virtual"])


def play_run(folder: Path, flags: list[str]) -> RunRecord:
    """The record of one command."""
    command = [sys.executable, str(ROOT / "run.py"), *flags, "--no-dashboard", "--out", str(folder)]
    alone = partial(die_with_parent, os.getpid())
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=alone)
    if ended.returncode:
        raise Broken(f"run.py {' '.join(flags)}: {ended.stdout[-500:]}")
    return recorded(folder)


def _coordination(stage: Stage, clients: int, quick: bool) -> float:
    """Promises and grants a second."""
    ticks = TICKS // clients // (10 if quick else 1)
    unthrottled = link("unthrottled", UNTHROTTLED_BPS, UNTHROTTLED_BPS)
    scenario = scene("ticks", [(device("client"), unthrottled)] * clients)
    played = stage.perform(f"ticks-{clients}", scenario, "benchmarks.players.ticks", {"ticks": ticks}, "virtual")
    walls = [event.values["wall_s"] for event in only(played.events, Reported)]
    return 2 * ticks * clients / (max(walls) - min(walls))
