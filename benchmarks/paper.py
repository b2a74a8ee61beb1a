"""A round of the paper's size: ten clients with 5,000 CIFAR-10-shaped images each, ResNet-18, batches of 256.

Every method plays one round on the virtual clock with the authors' settings, the alignment of round 0 among them. Wall
seconds stand beside the CPU seconds of a plain sequential loop over the same work (``plain``): one client's share,
measured, times ten. FSL-SAGE's and SplitFed V2's bytes must be those of the authors' accounting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from algorithms import ALGORITHMS
from algorithms.experiments import reading
from algorithms.workload.task import Task
from benchmarks import plain
from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from benchmarks.virtual import SCENARIO, play_virtual

CLIENTS, EXPERIMENT = 10, "fsl-sage-cifar10"
DATASET = "synthetic:3x32x32:10:50000"
OFFICIAL_BYTES = {"splitfed-v2": 874_000_960, "fsl-sage": 222_881_120}  # of a round; FSL-SAGE's with its alignment
QUICK = "synthetic:3x32x32:10:2000"


class Round(NamedTuple):
    """One method's round: seconds on the wall and of the plain loop, emulated seconds, official bytes."""

    wall_s: float
    plain_cpu_s: float
    emulated_s: float
    official_bytes: int

    def cells(self) -> list[str]:
        seconds = f"{self.wall_s:.1f}", f"{self.plain_cpu_s:.1f}", f"{self.wall_s / self.plain_cpu_s:.2f}"
        return [*seconds, f"{self.emulated_s:.0f}", f"{self.official_bytes:,}"]


def play(folder: Path, method: str, dataset: str) -> Round:
    """One method's round, and the plain loop of its client times the clients."""
    (folder / "scenario.toml").write_text(SCENARIO)
    data = {"dataset": dataset, "augment": "none", "normalise": "none"}
    flags = ["--profile", str(folder / "scenario.toml"), "--experiment", EXPERIMENT, "--algorithm", method]
    flags += ["--rounds", "1", "--set", "server_order=arrival"]
    flags += [word for key, value in data.items() for word in (f"--{key}", value)]
    summary = play_virtual(folder / method, flags).summary.algorithms[method]
    task = Task(**(reading.find_experiment(EXPERIMENT).task | data), clients=CLIENTS)
    plain_s = CLIENTS * plain.cpu_s(task, method)
    assert summary.wall_s is not None
    return Round(summary.wall_s, plain_s, summary.length_s, summary.official_bytes)


def run(stage: Stage, quick: bool) -> Section:
    """One command a method, and the plain loop of its client."""
    rows = [["method", "wall s", "plain CPU s", "wall / plain", "emulated s", "official bytes"]]
    figures: dict[str, Any] = {}
    targets = []
    folder = stage.new_folder("paper")
    for method in ALGORITHMS if not quick else ("splitfed-v2", "cse-fsl"):
        played = play(folder, method, QUICK if quick else DATASET)
        figures[method] = played._asdict() | {"ratio": played.wall_s / played.plain_cpu_s}
        rows.append([method, *played.cells()])
        if method in OFFICIAL_BYTES and not quick:
            off = abs(played.official_bytes - OFFICIAL_BYTES[method])
            targets.append(Target(f"{method}, bytes off the authors' accounting", off, "B", 1, False))
    remarks = ["Two cores: a wall / plain of 0.5 would be a perfect share of the same work."]
    return Section("paper", f"one round of {CLIENTS} x 5,000 images, ResNet-18", rows, figures, targets, remarks)
