"""What was prepared: samples and classes of every client, and what is odd about the data. Plain values, for the record.

    {"dataset", "shape": [C, H, W], "least", "most", "white": pixels, "names": [class names] or [],
     "partition", "overlap": whether clients draw for themselves, "remarks": [...],
     "train", "test": {"samples", "classes": {class number: samples}},
     "clients": [the same for each],
     "judged": {"task", "metric", "better", "targets", "by_client": ``TEST``, ``LABELS`` or ""}}

``white`` is 0 where inputs are no pixels. Classes without a sample are left out of ``classes``, whose keys are text, as
in JSON; it is empty for a regression, and counts positions where each has a label.

The metric of a client is over its own test samples (``TEST``), where the partition is by the data set's own key and the
test part has that key too; else, where the metric is a share of right labels, by its training labels (``LABELS``;
``judging``); else it is not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from algorithms.data import labels as classes
from algorithms.data.image_folders import Files
from algorithms.data.labels import shown

if TYPE_CHECKING:
    from algorithms.data.datasets import Description, Loaded, PixelCensus
    from algorithms.workload.task import Task

PADDING = 4  # of a random crop
LEAST_SIDE = 4 * PADDING  # a crop moves a smaller image by more than a quarter
DARK = 0.25  # of white: where no pixel is brighter, the range of the pixels was not what it was taken for
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
    first = task.objective().metrics[0]
    has_key = loaded.test_owners is not None and task.partition == "natural"
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
        "judged": {
            "task": about.kind,
            "metric": first.name,
            "better": first.better,
            "targets": list(first.targets),
            "by_client": TEST if has_key else LABELS if about.kind in _BY_LABELS else "",
        },
    }


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Write the facts beside the data that were prepared in ``folder``."""
    (folder / _FILE).write_bytes(msgspec.json.encode(facts))


def read(folder: str) -> dict[str, Any]:
    """The facts of the data that were prepared in ``folder``."""
    found: dict[str, Any] = msgspec.json.decode((Path(folder) / _FILE).read_bytes())
    return found


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
