"""What becomes of a round's joined model: its loss and metrics, its metric for each client, and the file to keep it in.

A client's metric is the task's first one, of the same joined model for all (``census.by_client``): over the client's
own test samples, or, by its training labels, the mean of the classes' recalls by p_k, the client's share of each class:
Σ p_k(c)·recall(c), which is its accuracy on a test part whose labels are distributed as its own are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from algorithms.data import datasets
from algorithms.workload import census
from algorithms.workload.loader import tensors
from algorithms.workload.models import load_state

if TYPE_CHECKING:
    from algorithms.workload.task import Task
    from emulator.transport.messages import StateDict

Scores = Mapping[str, float]
_TEST_BATCH = 256


class Judgement(NamedTuple):
    """``scores``: ``loss``, its mean, and the objective's metrics by name; ``clients``: the first metric for each
    client, None for one of whose samples or classes there is no test sample; empty where it is not told by client."""

    scores: dict[str, float]
    clients: list[float | None]


def judge(task: Task, parts: dict[str, StateDict]) -> Judgement:
    """Of ``client`` and ``server`` joined, on the test part, in eval mode; other parts are not looked at.

    By client once the task is prepared.
    """
    about, preprocessing, objective = task._about(), task._preprocessing(), task.objective()
    test = datasets.read(task.folder, "test") if task.folder else task._loaded().test
    facts = census.read(task.folder) if task.folder else {"judged": {}, "clients": []}
    how, metric = facts["judged"].get("by_client", ""), objective.metrics[0].name
    whose = datasets.read_test_clients(task.folder) if how == census.TEST else np.full(about.test, -1)
    model = task.full_model()
    load_state(model, {**model.state_dict(), **parts["client"], **parts["server"]})  # frozen ones are in no part
    model.eval()
    tally, loss, terms = objective.tally(), 0.0, 0
    own = [objective.tally() for _ in facts["clients"]]
    with torch.no_grad():
        for start in range(0, about.test, _TEST_BATCH):
            rows = np.arange(start, min(start + _TEST_BATCH, about.test))
            x, y = tensors(test, rows, preprocessing)
            output = model(x)
            loss += objective.loss(output, y, "sum").item()
            terms += objective.terms(y)
            tally.add(output, y)
            for client in set(whose[rows].tolist()) - {-1}:
                its = torch.from_numpy(whose[rows] == client)
                own[client].add(output[its], y[its])
    clients: list[float | None] = []
    if how == census.TEST:
        clients = [each.scores().get(metric) if (whose == k).any() else None for k, each in enumerate(own)]
    elif how == census.LABELS:
        recall = tally.recall().numpy()
        clients = [by_labels(recall, client["classes"]) for client in facts["clients"]]
    return Judgement({"loss": loss / terms, **tally.scores()}, clients)


def by_labels(recall: Any, counts: Mapping[str, int]) -> float | None:
    """The mean of ``recall`` by class [C], NaN for a class that was not judged, weighted by a client's ``counts``."""
    seen = [(count, recall[int(label)]) for label, count in counts.items() if not np.isnan(recall[int(label)])]
    weight = sum(count for count, _ in seen)
    return float(sum(count * share for count, share in seen) / weight) if weight else None


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
