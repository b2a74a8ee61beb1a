"""A round of the paper's size: ten clients with 5,000 CIFAR-10-shaped images each, ResNet-18, batches of 256.

Every method plays one round on the virtual clock with the authors' settings, the alignment of round 0 among them. Wall
seconds stand beside the CPU seconds of a plain sequential loop over the same work (``plain``): one client's share,
measured, times ten. FSL-SAGE's and SplitFed V2's bytes must be those of the authors' accounting.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from algorithms import ALGORITHMS, experiment_files
from algorithms.task import Task
from benchmarks import plain
from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from benchmarks.virtual import SCENARIO, play_virtual

CLIENTS = 10
DATASET = "synthetic:3x32x32:10:50000"
OFFICIAL_BYTES = {"splitfed-v2": 874_000_960, "fsl-sage": 222_881_120}  # of a round; FSL-SAGE's with its alignment
QUICK = "synthetic:3x32x32:10:2000"


def run(stage: Stage, quick: bool) -> Section:
    """One command a method, and the plain loop of its client."""
    del stage
    experiment = experiment_files.find("fsl-sage-cifar10")
    dataset = QUICK if quick else DATASET
    settings = experiment.task | {"dataset": dataset, "augment": "none", "normalise": "none"}
    rows = [["method", "wall s", "plain CPU s", "wall / plain", "emulated s", "official MB"]]
    figures: dict[str, Any] = {}
    targets = []
    with tempfile.TemporaryDirectory(prefix="splitbed-bench-") as name:
        folder = Path(name)
        (folder / "scenario.toml").write_text(SCENARIO)
        common = ["--profile", str(folder / "scenario.toml"), "--experiment", "fsl-sage-cifar10", "--rounds", "1"]
        common += ["--dataset", dataset, "--augment", "none", "--normalise", "none", "--server-order", "arrival"]
        for method in ALGORITHMS if not quick else ("splitfed-v2", "cse-fsl"):
            played = play_virtual(folder / method, [*common, "--algorithm", method])
            summary = played.summary["algorithms"][method]
            task = Task(**settings, clients=CLIENTS, seed=1)
            plain_s = CLIENTS * plain.cpu_s(task, method)
            wall_s, official = summary["wall_s"], summary["official_bytes"]
            figures[method] = {"wall_s": wall_s, "plain_cpu_s": plain_s, "ratio": wall_s / plain_s}
            figures[method] |= {"emulated_s": summary["length_s"], "official_bytes": official}
            cells = [f"{wall_s:.1f}", f"{plain_s:.1f}", f"{wall_s / plain_s:.2f}", f"{summary['length_s']:.0f}"]
            rows.append([method, *cells, f"{official / 1e6:.6f}"])
            if method in OFFICIAL_BYTES and not quick:
                off = abs(official - OFFICIAL_BYTES[method])
                targets.append(Target(f"{method}, bytes off the authors' accounting", off, "B", 1, False))
    remarks = ["Two cores: a wall / plain of 0.5 would be a perfect share of the same work."]
    return Section("paper", f"one round of {CLIENTS} x 5,000 images, ResNet-18", rows, figures, targets, remarks)
