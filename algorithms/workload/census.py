"""What was prepared: samples and classes of every client, and what is odd about the data. Plain values, for the record.

    {"dataset", "shape": [C, H, W], "least", "most", "white": pixels, "names": [class names] or [],
     "partition", "overlap": whether clients draw for themselves, "remarks": [...],
     "train", "test": {"samples", "classes": {class number: samples}},
     "clients": [the same for each],
     "judged": {"task", "metric", "better", "percent", "targets", "others": [metrics], "naive", "naive_score",
                "by_client": ``TEST``, ``LABELS`` or ""}}

``white`` is 0 where inputs are no pixels. Classes without a sample are left out of ``classes``, whose keys are text, as
in JSON; it is empty for a regression, and counts positions where each has a label.

The metric of a client is over its own test samples (``TEST``), where the partition is by the data set's own key and the
test part has that key too; else, where the metric is a share of right labels, by its training labels (``LABELS``;
``judging``); else it is not told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from algorithms.data import labels as classes
from algorithms.data.image_folders import Files
from algorithms.data.labels import shown
from emulator.errors import UserError
from emulator.ledger.criteria import Metric
from emulator.validation import unknown_key

if TYPE_CHECKING:
    from algorithms.data.datasets import Description, Loaded, PixelCensus
    from algorithms.workload.task import Task

PADDING = 4  # of a random crop
LEAST_SIDE = 4 * PADDING  # a crop moves a smaller image by more than a quarter
DARK = 0.25  # of white: where no pixel is brighter, the range of the pixels was not what it was taken for
EXAMPLES = "0.8,0.9, or of another metric of the task perplexity:40"
MOSTLY = 0.5  # of a part's images
TEST, LABELS = "own test samples", "training labels"  # what a client's metric is of
_BY_LABELS = ("classification", "per-position")  # their first metric is a mean of recalls
_FILE = "facts.json"


def take(
    task: Task,
    about: Description,
    loaded: Loaded,
    shards: Sequence[np.ndarray[Any, Any]],
    written: Sequence[PixelCensus],
) -> dict[str, Any]:
    """The facts. ``written``: of each client, and last of the test part."""
    *clients, test = written
    labels = loaded.train.labels, loaded.test.labels
    remarks = [
        *(classes.remarks(*labels, about.classes, loaded.names) if about.kind == "classification" else ()),
        *(_pixels("training", about.levels, clients) if about.levels else ()),
        *(_pixels("test", about.levels, [test]) if about.levels else ()),
        *loaded.remarks,
    ]
    for name, part in (("training", loaded.train), ("test", loaded.test)):
        remarks += part.images.remarks(name) if isinstance(part.images, Files) else []
    seen = {digest for part in clients for digest in part.digests}
    what, how = ("images", "pixel by pixel") if len(about.shape) == 3 else ("samples", "value by value")
    if twice := sum(digest in seen for digest in test.digests):
        remarks.append(f"{twice} of {len(test.digests)} test {what} are training {what} too, {how}")
    divided = sum(len(rows) for rows in shards)
    if divided < (held := len(loaded.train.labels)) and not task.samples_per_client:
        remarks.append(
            f"partition: {task.partition}: {divided} of {held} training samples are in use: those of the"
            f" {len(shards)} owners that were drawn"
        )
    if task.augment == "flip-crop" and min(about.shape[1:]) < LEAST_SIDE:
        height, width = about.shape[1:]
        remarks.append(
            f"augment: flip-crop mirrors, and shifts by up to {PADDING} pixels: much of an image of {height}x{width};"
            " it is meant for 32x32 and more"
        )
    return {
        "dataset": shown(task.dataset),
        "shape": list(about.shape),
        "least": min(part.least for part in written),
        "most": max(part.most for part in written),
        "white": about.levels,
        "names": list(loaded.names),
        "partition": task.partition,
        "overlap": bool(task.samples_per_client),
        "remarks": remarks,
        "train": _held(loaded.train.labels, about.kind, task.ignore_index),
        "test": _held(loaded.test.labels, about.kind, task.ignore_index),
        "clients": [_held(loaded.train.labels[rows], about.kind, task.ignore_index) for rows in shards],
        "judged": _judged(task, about.kind, loaded),
    }


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Write the facts beside the data that were prepared in ``folder``."""
    (folder / _FILE).write_bytes(msgspec.json.encode(facts))


def read(folder: str) -> dict[str, Any]:
    """The facts of the data that were prepared in ``folder``."""
    found: dict[str, Any] = msgspec.json.decode((Path(folder) / _FILE).read_bytes())
    return found


def targets_of(text: str) -> dict[str, list[float]]:
    """The targets that ``--target`` says, by metric; "": the one that a run is judged by. UserError for no number."""
    found: dict[str, list[float]] = {}
    for word in text.split(",") if text else ():
        name, _, value = word.strip().rpartition(":")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"--target {text}: {value or 'nothing'} is no number: say {EXAMPLES}")
        found.setdefault(name, []).append(number)
    return found


def metrics_of(text: str, metrics: Sequence[Metric]) -> list[Metric]:
    """The metrics of a task with the targets that ``--target`` says, or with their own where it says nothing; UserError
    for what is none of them, or can be no value of one."""
    said = targets_of(text)
    known = {"": metrics[0].name} | {metric.name: metric.name for metric in metrics}
    found: dict[str, list[float]] = {}
    for name, targets in said.items():
        if name not in known:
            raise UserError(f"--target {text}: {unknown_key(name, [*known][1:])}")
        found.setdefault(known[name], []).extend(targets)
    for metric in metrics:
        for value in found.get(metric.name, ()):
            if metric.percent and not 0 <= value <= 1:
                raise UserError(f"--target {text}: {metric.name} is a share: say 0 to 1, such as 0.9, not {value:g}")
            if value < metric.least:
                raise UserError(f"--target {text}: {metric.words} is at least {metric.least:g}, and never {value:g}")
    given = {name: tuple(dict.fromkeys(targets)) for name, targets in found.items()}
    return [msgspec.structs.replace(each, targets=given.get(each.name, ())) if text else each for each in metrics]


def _judged(task: Task, kind: str, loaded: Loaded) -> dict[str, Any]:
    first, *others = metrics_of(task.target, task.objective().metrics)
    has_key = loaded.test_owners is not None and task.partition == "natural"
    naive, score = _naive(kind, loaded, task.ignore_index)
    about = {"task": kind, "metric": first.name, "better": first.better, "percent": first.percent}
    return about | {
        "targets": list(first.targets),
        "others": msgspec.to_builtins(others),
        "naive": naive,
        "naive_score": score,
        "by_client": TEST if has_key else LABELS if kind in _BY_LABELS else "",
    }


def _naive(kind: str, loaded: Loaded, ignore_index: int) -> tuple[str, float | None]:
    """An answer that needs no training, in words, and the first metric of it on the test part."""
    if kind == "regression":
        test = loaded.test.labels.astype(np.float64)
        score = float(((test - loaded.train.labels.mean(0, dtype=np.float64)) ** 2).mean())
        return "saying the mean of the training part always", score
    if kind == "multilabel":
        return "", None
    labels = loaded.test.labels[loaded.test.labels != ignore_index]
    return "naming the largest class of the test set always", float(np.bincount(labels).max() / len(labels))


def _held(labels: np.ndarray[Any, Any], kind: str, ignore_index: int) -> dict[str, Any]:
    if kind == "regression":
        return {"samples": len(labels), "classes": {}}
    if kind == "multilabel":
        return {"samples": len(labels), "classes": {str(k): int(n) for k, n in enumerate(labels.sum(0)) if n}}
    found, counts = np.unique(labels[labels != ignore_index] if labels.ndim > 1 else labels, return_counts=True)
    return {"samples": len(labels), "classes": dict(zip(map(str, found.tolist()), counts.tolist(), strict=True))}


def _pixels(name: str, white: int, written: Sequence[PixelCensus]) -> list[str]:
    """What is odd about a part's pixels."""
    images = sum(len(part.digests) for part in written)
    constant = sum(part.constant for part in written)
    if constant >= MOSTLY * images:
        return [
            f"{constant} of {images} images of the {name} part are nearly constant: are their pixels read as meant?"
        ]
    found = [f"{constant} of {images} images of the {name} part are nearly constant"] if constant else []
    if (most := max(part.most for part in written)) < DARK * white:
        found.append(f"the {name} part is dark: its brightest pixel is {most}, and white {white}: scale its pixels")
    return found
