"""Data of a user's own: a callable's training and test part, read once, as arrays, or why they cannot be meant.

The callable returns ``(train, test)``, ``(train, test, owners)``, ``(train, test, owners, test_owners)`` or a mapping
with these keys and ``names`` (of classes), ``task`` and ``vocabulary``. A part is a ``torch.utils.data.Dataset`` or a
pair (inputs, labels) of arrays or tensors. Inputs: uint8 become 0 to 1 by 255; floats are float32 as they are; other
whole numbers are tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithms.data import archives, owners, user_objects
from algorithms.data import labels as classes
from emulator.errors import UserError

KINDS = ("classification", "multilabel", "regression", "per-position")
_KEYS = ("train", "test", "owners", "test_owners")
MOST_TOKENS = 10**7  # of a vocabulary: more is a slip, such as a measurement in whole numbers

Array = np.ndarray[Any, Any]


class UserData(NamedTuple):
    """What was read. ``inputs`` and ``labels``: of the training and of the test part; ``kind``: of the task;
    ``classes``: how many, or values of a regression; ``vocabulary``: 0 where inputs are no tokens."""

    inputs: tuple[Array, Array]
    labels: tuple[Array, Array]
    kind: str
    classes: int
    vocabulary: int
    names: list[str]
    owners: Array | None
    test_owners: Array | None
    remarks: list[str]


@functools.lru_cache(maxsize=1)
def read(word: str, data_dir: str, kind: str, ignore_index: int) -> UserData:
    """The data of the callable ``word``; ``kind``: of the task, "" for what the labels show. Read once in a process;
    UserError where it cannot be."""
    where = f"dataset: {word}"
    return _meant(where, word, user_objects.call("dataset", word, {"data_dir": data_dir}), kind, ignore_index)


@functools.lru_cache(maxsize=1)
def read_archive(path: Path, changed_ns: int, kind: str, ignore_index: int) -> UserData:
    """The same of an archive with arrays ``inputs``; ``changed_ns``: when, so that it is read once as it is."""
    del changed_ns
    return _meant(f"dataset: {path}", str(path), archives.inputs(path), kind, ignore_index)


def _meant(where: str, word: str, made: Any, kind: str, ignore_index: int) -> UserData:
    found = _mapping(where, made)
    parts = [_part(where, word, name, found[name]) for name in ("train", "test")]
    inputs, vocabulary, remarks = _inputs(where, [x for x, _ in parts], int(found.get("vocabulary") or 0))
    names = [str(name) for name in found.get("names") or ()]
    said = kind or str(found.get("task") or "") or _kind_of(where, parts[0][1])
    if said not in KINDS:
        raise UserError(f"{where}: task: there is no {said!r}: say one of {', '.join(KINDS)}")
    labels, count = _labels(where, said, [y for _, y in parts], names, ignore_index)
    given = [None if found.get(key) is None else _array(found[key]) for key in ("owners", "test_owners")]
    whose = owners.of_both(where, given[0], given[1], (len(labels[0]), len(labels[1])))
    return UserData((inputs[0], inputs[1]), (labels[0], labels[1]), said, count, vocabulary, names, *whose, remarks)


def _mapping(where: str, made: Any) -> dict[str, Any]:
    if isinstance(made, tuple | list) and len(made) in (2, 3, 4):
        made = dict(zip(_KEYS, made, strict=False))
    if not isinstance(made, Mapping) or not {"train", "test"} <= {*made}:
        raise UserError(f"{where}: must return (train, test), each a Dataset or a pair (inputs, labels)")
    known = (*_KEYS, "names", "task", "vocabulary")
    if strange := [str(key) for key in made if key not in known]:
        raise UserError(f"{where}: returns {strange[0]!r}, which is none of {', '.join(known)}")
    return dict(made)


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):  # a tensor, without importing torch
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _part(where: str, word: str, name: str, part: Any) -> tuple[Array, Array]:
    """Inputs and labels of a part, [N, ...] each."""
    if isinstance(part, tuple | list) and len(part) == 2:
        x, y = user_objects.guarded("dataset", word, lambda: (_array(part[0]), _array(part[1])))
    elif hasattr(part, "__getitem__") and hasattr(part, "__len__") and not hasattr(part, "dtype"):
        x, y = user_objects.guarded("dataset", word, lambda: _samples(where, name, part))
    else:
        raise UserError(f"{where}: {name} must be a Dataset or a pair (inputs, labels), not {type(part).__name__}")
    if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
        counts = " and ".join(str(len(array)) if array.ndim else "no" for array in (x, y))
        raise UserError(f"{where}: {name} must have a label for each of its inputs: there are {counts}")
    for what, array in (("inputs", x), ("labels", y)):
        if array.dtype.kind not in "biuf":
            raise UserError(f"{where}: {name}: {what} must be numbers of one shape, not {array.dtype}")
    return x, y


def _samples(where: str, name: str, part: Any) -> tuple[Array, Array]:
    pairs = [part[index] for index in range(len(part))]
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        raise UserError(f"{where}: {name}: a sample must be a pair (input, label)")
    both = [[_array(pair[side]) for pair in pairs] for side in (0, 1)]
    for arrays in both:
        odd = next((index for index, array in enumerate(arrays) if array.shape != arrays[0].shape), None)
        if odd is not None:
            raise UserError(
                f"{where}: {name}: sample {odd} has shape {list(arrays[odd].shape)}, and sample 0"
                f" {list(arrays[0].shape)}: pad or crop them"
            )
    x, y = (np.stack(arrays) if arrays else np.empty(0) for arrays in both)
    return x, y


def _inputs(where: str, parts: list[Array], vocabulary: int) -> tuple[list[Array], int, list[str]]:
    """Both parts by one rule: uint8, float32 or int64; the vocabulary of tokens, and what to say."""
    train, test = parts
    if train.shape[1:] != test.shape[1:]:
        raise UserError(
            f"{where}: a training sample has shape {list(train.shape[1:])}, and a test sample {list(test.shape[1:])}"
        )
    if train.ndim < 2 or min(train.shape[1:]) < 1:
        raise UserError(f"{where}: inputs must be [N, ...] with at least one axis a sample, not {list(train.shape)}")
    if train.dtype.kind != test.dtype.kind:
        raise UserError(f"{where}: training inputs are {train.dtype}, and test inputs {test.dtype}: make them alike")
    if train.dtype.kind == "f":
        made = [_finite(where, name, part) for name, part in (("train", train), ("test", test))]
        return made, 0, []
    if all(part.dtype == np.uint8 for part in parts) and not vocabulary:
        return parts, 0, ["inputs are bytes: taken as 0 to 1, by 255"]
    least, most = min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)
    if least < 0 or most >= (vocabulary or MOST_TOKENS):
        raise UserError(
            f"{where}: inputs are whole numbers from {least} to {most}, no tokens from 0 below"
            f" {vocabulary or MOST_TOKENS}: make them float32 if they are measurements"
        )
    size = vocabulary or most + 1
    return [part.astype(np.int64) for part in parts], size, [f"inputs are taken as tokens of a vocabulary of {size}"]


def _finite(where: str, name: str, part: Array) -> Array:
    made = part.astype(np.float32)
    if not np.isfinite(made).all():
        row = int(np.flatnonzero(~np.isfinite(made).reshape(len(made), -1).all(1))[0])
        raise UserError(f"{where}: {name}: sample {row} has values that are infinite or no numbers: leave it out")
    return made


def _kind_of(where: str, y: Array) -> str:
    if y.dtype.kind == "f":
        return "regression"
    if y.ndim == 1:
        return "classification"
    if y.ndim == 2 and y.shape[1] > 1 and int(y.max()) <= 1 and int(y.min()) >= 0:
        raise UserError(f"{where}: labels of 0 and 1 may be several of a sample or one a position: say --task-kind")
    return "per-position"


def _labels(where: str, kind: str, parts: list[Array], names: list[str], ignore: int) -> tuple[list[Array], int]:
    """Labels of both parts as the task has them, and how many classes there are."""
    if parts[0].shape[1:] != parts[1].shape[1:]:
        raise UserError(f"{where}: labels of train and test must be of one shape a sample")
    each = list(zip(("train", "test"), parts, strict=True))
    if kind == "classification":
        made = [classes.numbers(f"{where}: {name} labels", part) for name, part in each]
        if names and (most := max(int(part.max()) for part in made)) >= len(names):
            raise UserError(
                f"{where}: labels go to {most}, and there are {len(names)} names, for 0 to {len(names) - 1}"
            )
        return made, classes.count_classes(f"{where}: labels", made[0], made[1], names)
    if kind == "regression":
        made = [_finite(where, f"{name} labels", part).reshape(len(part), -1) for name, part in each]
        return made, made[0].shape[1]
    if any(part.dtype.kind == "f" for part in parts):
        raise UserError(f"{where}: labels must be whole numbers for {kind}, not {parts[0].dtype}")
    if parts[0].ndim not in ((2,) if kind == "multilabel" else (2, 3)):
        shape = "[N, K] of 0 and 1" if kind == "multilabel" else "[N, L] or [N, H, W]"
        raise UserError(f"{where}: labels must be {shape} for {kind}, not {list(parts[0].shape)}")
    if kind == "multilabel":
        for name, part in each:
            if int(part.min()) < 0 or int(part.max()) > 1:
                raise UserError(
                    f"{where}: {name} labels must be 0 or 1: one is {int(part[(part < 0) | (part > 1)][0])}"
                )
        return [part.astype(np.uint8) for part in parts], parts[0].shape[1]
    for name, part in each:
        counts = part != ignore
        if (odd := part[counts & (part < 0)]).size:
            raise UserError(
                f"{where}: {name} labels must be from 0, or {ignore} where they do not count: one is {odd[0]}"
            )
        if not (some := counts.reshape(len(part), -1).any(1)).all():
            raise UserError(f"{where}: {name}: no label of sample {int(np.flatnonzero(~some)[0])} counts: leave it out")
    trained, judged = (int(part[part != ignore].max()) for part in parts)
    count = len(names) or max(trained, judged) + 1
    if max(trained, judged) >= count or judged > trained:
        raise UserError(f"{where}: test labels go to {judged} and training labels to {trained}: number them alike")
    return [part.astype(np.int64) for part in parts], max(count, 2)
