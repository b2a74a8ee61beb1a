"""Every classification model of torchvision on small grey images: prepared, or refused in one line; never else."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from benchmarks.virtual import ROOT

DATASETS = ("digits", "synthetic:1x28x28:10:200")
PROGRAM = """
import sys, tempfile
from pathlib import Path
import torch
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError
torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    try:
        prepared = prepare(Task(model=sys.argv[1], dataset=sys.argv[2], clients=2, batch=4), Path(folder) / "made")
        prepared.full_model()
    except UserError as error:
        assert "\\n" not in str(error)
        sys.exit(2)
"""


def run(stage: Stage, quick: bool) -> Section:
    """A process for each, since some have hundreds of millions of weights."""
    del stage
    from torchvision import models

    names = models.list_models(module=models)
    counts, broken = Counter[tuple[str, int]](), []
    for name in names[:: 20 if quick else 1]:
        for dataset in DATASETS:
            command = [sys.executable, "-c", PROGRAM, name, dataset]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            counts[dataset, done.returncode] += 1
            if done.returncode not in (0, 2):
                broken.append(f"{name} on {dataset}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    rows = [["data set", "prepared", "refused", "broken"]]
    for dataset in DATASETS:
        others = sum(count for (of, status), count in counts.items() if of == dataset and status not in (0, 2))
        rows.append([dataset, str(counts[dataset, 0]), str(counts[dataset, 2]), str(others)])
    targets = [Target("neither prepared nor refused in one line", len(broken), "", 1, False)]
    return Section("models", "torchvision's models on small images", rows, {"broken": broken}, targets)
