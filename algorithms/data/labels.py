"""What labels say: the classes of a data set, or why they cannot be meant. numpy alone, no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from emulator.errors import UserError

MOST = 1000  # classes, as ImageNet has; more are believed where at least a tenth of them occur
SPARSE = 10
SHOWN = 10  # of a list, in one line
SKEWED = 0.5, 1.5  # of the test part in one class, and times its even share: above both accuracy says little

Labels = np.ndarray[Any, Any]
RENUMBER = "number the classes from 0 without gaps (numpy.unique(labels, return_inverse=True)[1], both parts together)"


def shown(name: str) -> str:
    """A name as it can be printed and written, whatever its bytes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def some(items: Sequence[object], most: int = SHOWN) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def numbers(where: str, found: Labels) -> Labels:
    """Labels as int64 [N], from any array of whole numbers [N] or [N, 1]; UserError, naming ``where``, else."""
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim == 2:
        raise UserError(f"{where}: must be one class number a sample: of one-hot rows take labels.argmax(1)")
    if found.ndim != 1 or found.dtype.kind not in "biuf":
        raise UserError(f"{where}: must be one class number from 0 a sample, not {found.dtype} of shape {found.shape}")
    if not len(found):
        raise UserError(f"{where}: there is no label: add samples")
    if found.dtype.kind == "f" and (odd := ~(np.isfinite(found) & (found == np.rint(found)))).any():
        raise UserError(f"{where}: must be whole numbers: a label is {found[odd][0]}")
    least, most = int(found.min()), int(found.max())
    if least < 0:
        raise UserError(f"{where}: must be class numbers from 0: a label is {least}")
    if most >= np.iinfo(np.int64).max:
        raise UserError(f"{where}: a label is {most}, no class number: {RENUMBER}")
    return found.astype(np.int64)


def count_classes(where: str, train: Labels, test: Labels, names: Sequence[str] = ()) -> int:
    """How many classes a model needs for these labels; UserError where they cannot be meant.

    ``names``: of the classes, where they have some; else the largest label says how many there are.
    """
    occur, judged = np.unique(train), np.unique(test)
    classes = len(names) or int(max(occur[-1], judged[-1])) + 1
    both = len(np.union1d(occur, judged))
    if classes > MOST and classes > SPARSE * both:
        raise UserError(f"{where}: the largest is {classes - 1}, but only {both} classes occur: {RENUMBER}")
    if len(occur) < 2:
        one = names[int(occur[0])] if names else occur[0]
        raise UserError(f"{where}: all training samples are of one class ({one}): at least 2 are needed to learn")
    if only := [names[label] if names else label for label in np.setdiff1d(judged, occur).tolist()]:
        raise UserError(
            f"{where}: the test part has classes that no training sample has: {some(only)}: add training samples of"
            " them, leave them out of the test part, or number the classes of both parts alike"
        )
    return classes


def remarks(train: Labels, test: Labels, classes: int, names: Sequence[str] = ()) -> list[str]:
    """What is odd about labels that were accepted."""
    found = []
    trained, judged = (np.bincount(labels, minlength=classes) for labels in (train, test))

    def named(which: np.ndarray[Any, Any]) -> str:
        return some([names[label] if names else label for label in np.flatnonzero(which).tolist()])

    if not trained.all():
        found.append(
            f"{int((trained == 0).sum())} of {classes} classes have no training sample ({named(trained == 0)}), and the"
            f" model has outputs for them: {RENUMBER}"
        )
    if missing := int(((trained > 0) & (judged == 0)).sum()):
        found.append(f"{missing} classes have no test sample ({named((trained > 0) & (judged == 0))}): never judged")
    largest = int(judged.argmax())
    share, name = judged[largest] / len(test), names[largest] if names else largest
    if share > max(SKEWED[0], SKEWED[1] / (trained > 0).sum()):
        found.append(
            f"{share:.1%} of the test part is of class {name}: always saying so would have that accuracy; see the"
            " balanced accuracy in tables.csv"
        )
    return found
