"""What a data set is by its content: the same name may stand for other data tomorrow.

An archive is known by its bytes, and so is a folder, or torchvision's files, by names and bytes. Above
``CONTENT_BYTES`` in all, the names, sizes and times of change of a folder's files count: reading them would take longer
than many a run.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from algorithms.data import datasets, texts, torchvision_sets, user_objects, windows
from algorithms.data.partition import parse_partition

CONTENT_BYTES = 256 * 2**20  # read in about a second
PARTS = ("train", "test", "val", "valid", "validation")  # of a folder of images, whichever it has
_DIGITS = Path(datasets.__file__).parent / "digits" / "digits.npz"
_CHUNK_BYTES = 2**20


class File(NamedTuple):
    """A file of a data set; ``name`` is below its folder, with ``/``."""

    name: str
    path: str
    size_bytes: int
    changed_ns: int


def identity(dataset: str, data_dir: str, partition: str = "iid", init: str = "") -> dict[str, str]:
    """``sha256`` of the data, and ``of`` what of them; UserError where there is no such data set.

    The file of a partition is part of them, and that of initial weights. torchvision's are downloaded where they are
    not there yet.
    """
    also = {"partition": parse_partition(partition).path, "init": init}
    parts = [_file(Path(path), name) for name, path in also.items() if Path(path).is_file()]
    if datasets.is_own(dataset) and not parts:
        own = json.dumps(user_objects.digests(dataset), sort_keys=True)
        return {"sha256": hashlib.sha256(own.encode()).hexdigest(), "of": "the source that makes them"}
    if dataset == windows.NAME and not parts:
        source = Path(windows.__file__).read_bytes()
        return {"sha256": hashlib.sha256(source).hexdigest(), "of": "the program that makes them"}
    if dataset.startswith("synthetic:") and not parts:
        return {"sha256": hashlib.sha256(dataset.encode()).hexdigest(), "of": "its recipe, which is its name"}
    files = (
        ()
        if dataset.startswith("synthetic:") or dataset == windows.NAME or datasets.is_own(dataset)
        else _files(dataset, Path(data_dir))
    )
    return dict(_of_files(tuple(sorted([*files, *parts]))))


def _files(dataset: str, folder: Path) -> Iterator[File]:
    if dataset == texts.NAME:
        yield _file(texts.FILE, dataset)
        yield _file(Path(texts.__file__), "texts.py")
    elif dataset == "digits":
        yield _file(_DIGITS, "digits")
    elif dataset.startswith("folder:"):
        for part in PARTS:
            yield from _below(folder / part, part)
    elif dataset in torchvision_sets.KNOWN:
        where = folder / torchvision_sets.KNOWN[dataset].files
        if not where.is_dir():
            torchvision_sets.load_torchvision(dataset, str(folder))
        yield from _below(where, dataset)
    else:
        archive = folder / f"{dataset}.npz"
        if not archive.is_file():
            datasets.describe(dataset, str(folder))  # says what is wrong
        yield _file(archive, "archive")


def _file(path: Path, name: str) -> File:
    found = path.stat()
    return File(name, str(path), found.st_size, found.st_mtime_ns)


def _below(folder: Path, name: str) -> Iterator[File]:
    """The files of a folder, wherever below it, but hidden ones; a circle of links is gone round once."""
    for where, folders, files in os.walk(folder, followlinks=True):
        here = Path(where)
        above = [parent.resolve() for parent in here.parents if parent.is_relative_to(folder)]
        if here.resolve() in above:
            folders.clear()
            continue
        folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
        shown = (Path(name) / here.relative_to(folder)).as_posix()
        for file in files:
            if not file.startswith(".") and (here / file).is_file():
                yield _file(here / file, f"{shown}/{file}")


@functools.cache
def _of_files(files: tuple[File, ...]) -> tuple[tuple[str, str], ...]:
    """Kept as long as names, sizes and times are the same: a bench asks for each of its results."""
    whole = len(files) == 1 or sum(file.size_bytes for file in files) <= CONTENT_BYTES
    digest = hashlib.sha256()
    for file in files:
        about = f"{file.name}\0{file.size_bytes}\0"
        digest.update((about if whole else f"{about}{file.changed_ns}\0").encode(errors="surrogateescape"))
        if whole:
            with Path(file.path).open("rb") as opened:
                while chunk := opened.read(_CHUNK_BYTES):
                    digest.update(chunk)
    what = "content" if whole else "names, sizes and times"
    return ("sha256", digest.hexdigest()), ("of", f"{what} of {len(files)} file{'s' * (len(files) != 1)}")
