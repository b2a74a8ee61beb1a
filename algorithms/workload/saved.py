"""Models that a run saves: client and server joined, as ``--init`` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from algorithms.workload.task import Task
    from emulator.transport.messages import StateDict

Scores = Mapping[str, float]


def improves(task: Task, found: Scores, best: Scores) -> bool:
    """Whether a model with the scores ``found`` is better than one with ``best``, by the task's first metric; one that
    has none, as after a divergence, never is."""
    metric = task.objective().metrics[0]
    if metric.name not in found or metric.name not in best:
        return metric.name in found
    one, other = found[metric.name], best[metric.name]
    return one > other if metric.better == "higher" else one < other


def save(task: Task, parts: dict[str, StateDict], path: Path) -> None:
    """Write the whole model's state dict, frozen weights among it; the file is complete whenever it is looked at."""
    whole = {**task.full_model().state_dict(), **parts["client"], **parts["server"]}
    path.parent.mkdir(exist_ok=True)
    torch.save(whole, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)
