"""Whose each training sample is, as a file or the data set itself says: partitions that nobody draws.

A file of a partition is a table with the columns ``sample`` (the row of the training part, from 0) and ``client``, or a
numpy archive with an array ``client`` [N], the client of each sample. A data set's own key (a writer, a speaker, a
house) is an array [N]. Clients are numbers or names; they are taken in the order of their numbers, else of their names.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from algorithms.data import labels
from emulator.errors import UserError

COLUMNS = ["sample", "client"]
ARRAY = "client"

Array = np.ndarray[Any, Any]


def read_owners(path: Path, samples: int) -> Array:
    """The owner of each of ``samples`` training samples, [N]; UserError, by line, where one is missing or twice."""
    if path.suffix == ".npz":
        return _checked(f"partition: {path}: {ARRAY}", _array(path), samples)
    owners: list[str] = [""] * samples
    with _text(path) as file:
        rows = csv.reader(line for line in file)
        if (header := next(rows, [])) != COLUMNS:
            raise UserError(f"partition: {path}: begins with {','.join(header)!r}: its first line is sample,client")
        for row in rows:
            if row:
                _own(f"partition: {path}:{rows.line_num}", row, owners)
    if missing := [index for index, owner in enumerate(owners) if not owner]:
        raise UserError(
            f"partition: {path}: {len(missing)} of {samples} training samples have no client: {labels.some(missing)}:"
            " give each one line"
        )
    return numbered(np.array(owners))


def _text(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise UserError(f"partition: {path}: cannot be read: {error.strerror}") from None


def _own(where: str, row: list[str], owners: list[str]) -> None:
    """Give a sample to its client."""
    sample, client = (row[0].strip(), row[1].strip()) if len(row) == len(COLUMNS) else ("", "")
    if not client or not (sample.isascii() and sample.isdigit()):
        raise UserError(f"{where}: {','.join(row)!r} is no line SAMPLE,CLIENT such as 0,client-3")
    index = int(sample)
    if index >= len(owners):
        raise UserError(f"{where}: there is no sample {index}: the training part has {len(owners)}, from 0")
    if owners[index]:
        raise UserError(f"{where}: sample {index} is there twice: give each to one client")
    owners[index] = client


def _array(path: Path) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            held = archive.files
            found: Array = archive[ARRAY] if ARRAY in held else archive[held[0]] if len(held) == 1 else np.array(0)
    except Exception as error:  # whatever zipfile and numpy make of bytes
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"partition: {path}: cannot be read: {said[:200]}") from None
    if not found.ndim:
        raise UserError(f"partition: {path}: has {labels.some(held) or 'nothing'}: say numpy.savez(..., client=array)")
    return found


def _checked(where: str, owners: Array, samples: int) -> Array:
    if owners.ndim != 1 or len(owners) != samples:
        raise UserError(
            f"{where}: must be the client of each of {samples} training samples, not shape {list(owners.shape)}"
        )
    if owners.dtype.kind not in "biuU":
        raise UserError(f"{where}: must be whole numbers or names, not {owners.dtype}")
    return owners


def numbered(owners: Array) -> Array:
    """The same as numbers where all are digits, so that 10 comes after 2."""
    plain = owners.dtype.kind == "U" and all(owner.isascii() and owner.isdigit() for owner in owners.tolist())
    return owners.astype(np.int64) if plain else owners


def of_both(
    where: str,
    train: Array | None,
    test: Array | None,
    samples: tuple[int, int],
    names: tuple[str, str] = ("owners", "test_owners"),
) -> tuple[Array | None, Array | None]:
    """The owners of the training and of the test samples as numbers or names; UserError, naming ``where``, unless each
    sample has one and both parts name them alike."""
    for key, whose, count in zip(names, (train, test), samples, strict=True):
        if whose is not None and (whose.shape != (count,) or whose.dtype.kind not in "biuU"):
            raise UserError(
                f"{where}: {key}: must be a number or a name for each of {count} samples, not {whose.dtype} of shape"
                f" {list(whose.shape)}"
            )
    if train is None or test is None:
        if test is not None:
            raise UserError(f"{where}: {names[1]}: there are no owners of the training samples: give both")
        return None if train is None else numbered(train), None
    if (train.dtype.kind == "U") != (test.dtype.kind == "U"):
        raise UserError(f"{where}: {names[1]}: are {test.dtype}, and {names[0]} {train.dtype}: name both alike")
    both = numbered(np.concatenate([train, test]))
    return both[: len(train)], both[len(train) :]


def parts_of(owners: Array) -> list[Array]:
    """For each owner, in order, the rows of its samples."""
    _, which, counts = np.unique(owners, return_inverse=True, return_counts=True)
    return np.split(np.argsort(which, kind="stable"), np.cumsum(counts)[:-1])


def chosen(parts: list[Array], clients: int, draws: np.random.Generator, text: str) -> list[Array]:
    """The parts of so many owners: all, or as many drawn, in their order; UserError where there are fewer."""
    if len(parts) < clients:
        raise UserError(
            f"partition: {text} has samples of {len(parts)} owners, and there are {clients} clients: say --clients"
            f" {len(parts)}"
        )
    if len(parts) == clients:
        return parts
    return [parts[index] for index in np.sort(draws.choice(len(parts), clients, replace=False))]
