"""Measured compute: emulated step times on a device calibrated here, beside plain PyTorch steps in this process.

``run.py calibrate`` writes this machine's profile; a client with that very profile then trains with ``--compute
measured``, so that its steps should take what they take here without an emulator.
"""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from algorithms.workload.task import Task
from benchmarks.report import Section, Target
from benchmarks.scenes import scenario_text
from benchmarks.stage import Broken, Stage
from benchmarks.virtual import ROOT, play_virtual
from emulator.ledger.events import Computed
from emulator.ledger.timeline import only

WORKLOADS = {
    "resnet18": {"model": "resnet18", "batch": 32, "dataset": "synthetic:3x32x32:10:320"},
    "mobilenet_v2": {"model": "mobilenet_v2", "batch": 32, "dataset": "synthetic:3x32x32:10:320"},
    "cnn": {"model": "cnn", "batch": 16, "dataset": "digits"},
}
STEPS, WARM, TURNS = 20, 3, 5
SCENARIO = scenario_text(1, "host.toml", "ethernet-100m")


def run(stage: Stage, quick: bool) -> Section:
    """FedAvg's steps, which are those of the whole model; plain steps before and after each run.

    A plain step itself drifts by a tenth from one quarter of a minute to the next, hence several turns.
    """
    rows = [["model", "batch", "plain ms", "emulated ms", "off %", "of all turns", "client's CPU ms"]]
    figures: dict[str, Any] = {}
    targets = []
    folder = stage.new_folder("measured")
    (folder / "scenario.toml").write_text(SCENARIO)
    calibrate = [sys.executable, str(ROOT / "run.py"), "calibrate", "--out", str(folder / "host.toml")]
    done = subprocess.run([*calibrate, *(["--quick"] * quick)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"calibrate: {done.stderr[-500:]}")
    for model, workload in WORKLOADS.items():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            found = [_compared(folder, f"{model}-{turn}", workload, fresh) for turn in range(1 if quick else TURNS)]
        plain_ms, emulated_ms, cpu_ms = (statistics.median(column) for column in zip(*found, strict=True))
        offs = sorted(100 * (emulated / plain - 1) for plain, emulated, _ in found)
        off = statistics.median(offs)
        figures[model] = {"plain_ms": plain_ms, "emulated_ms": emulated_ms, "off_percent": off, "all_off": offs}
        cells = (f"{value:.2f}" for value in (plain_ms, emulated_ms))
        spread = f"{offs[0]:+.1f} to {offs[-1]:+.1f}"
        rows.append([model, str(workload["batch"]), *cells, f"{off:+.1f}", spread, f"{cpu_ms:.2f}"])
        targets.append(Target(f"{model}, emulated step off a plain one", abs(off), "%", 10, False))
    remarks = [
        "Medians of the turns. Plain: CPU times. The client's own steps are slower: its allocator gives memory back"
        " in the first rounds."
    ]
    title = "steps of --compute measured on a device calibrated here"
    return Section("measured", title, rows, figures, targets, remarks)


def _compared(folder: Path, name: str, workload: dict[str, Any], fresh: Executor) -> tuple[float, float, float]:
    """Milliseconds of a step: plain, emulated, and CPU time of the client.

    Plain in a process that has trained nothing else: after ResNet-18 its allocator keeps more, and MobileNetV2 is
    faster by 6 %.
    """
    before = fresh.submit(_plain_s, workload).result()
    spans = _spans(folder, name, workload)
    plain_ms = 1e3 * statistics.median([*before, *fresh.submit(_plain_s, workload).result()])
    emulated_ms = statistics.median(span.due_ns - span.start_ns for span in spans) / 1e6
    return plain_ms, emulated_ms, statistics.median(span.cpu_ns for span in spans) / 1e6


def _spans(folder: Path, name: str, workload: dict[str, Any]) -> list[Computed]:
    flags = ["--profile", str(folder / "scenario.toml"), "--rounds", "1", "--algorithm", "fedavg"]
    flags += ["--compute", "measured", "--host-device", str(folder / "host.toml")]
    flags += [word for key, value in workload.items() for word in (f"--{key}", str(value))]
    events = play_virtual(folder / name, flags).timelines["fedavg"]
    return [span for span in only(events, Computed) if span.function == "train_step"]


def _plain_s(workload: dict[str, Any]) -> list[float]:
    """CPU seconds of steps by a plain loop."""
    torch.set_num_threads(1)
    task = Task(**workload, clients=1)
    model, shard = task.full_model(), task.shard(0)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds: list[float] = []
    while len(seconds) < STEPS + WARM:
        for x, y in shard.batches(0):
            begun_s = time.thread_time()
            torch.autograd.backward(cross_entropy(model(x), y))
            adam.step()
            adam.zero_grad()
            seconds.append(time.thread_time() - begun_s)
    return seconds[WARM : STEPS + WARM]
