"""Data sets, and the files that are prepared of them.

Images are uint8 on disk (a device's flash) and become float32 one batch at a time. ``task.prepare`` writes one pair of
``.npy`` files for each client and one for the test part; a shard maps its own pair and nothing else.

Every random draw comes from a stream of its own, named ``f"{seed}:{purpose}"``: one more draw here moves nothing there.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithms import vision
from emulator.errors import UserError

_DIGITS = Path(__file__).parent / "digits" / "digits.npz"
_DIGITS_TRAIN = 1500  # of 1,797; the file's order is a fixed random one
_CHUNK = 256  # images made or written at a time: bounds the memory of preparing


class Description(NamedTuple):
    """What a data set is, without its samples: image shape (C, H, W) and sizes; ``levels`` is the value of white."""

    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    levels: int


class Samples(NamedTuple):
    """Images uint8 [N, C, H, W] and their labels int64 [N]."""

    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]


def stream_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, the same in every process (no ``hash``)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8], "big") >> 1


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The named random stream ``f"{seed}:{purpose}"``."""
    return np.random.default_rng(stream_seed(seed, purpose))


def describe(dataset: str, data_dir: str) -> Description:
    """Shapes and sizes of ``dataset``; UserError where there is no such data set."""
    if dataset == "digits":
        return Description((1, 8, 8), 10, _DIGITS_TRAIN, 1797 - _DIGITS_TRAIN, 16)
    if dataset.startswith("synthetic:"):
        return _describe_synthetic(dataset)
    if dataset.startswith("folder:"):
        return Description(*vision.describe_folder(dataset, data_dir), 255)
    if dataset in vision.KNOWN:
        known = vision.KNOWN[dataset]
        return Description(known.shape, known.classes, known.train, known.test, 255)
    archive = _open(dataset, data_dir)
    shape, count = _image_shape(archive["images"]), len(archive["labels"])
    classes = int(max(archive["labels"].max(), archive["test_labels"].max())) + 1
    return Description(shape, classes, count, len(archive["test_labels"]), 255)


def load(dataset: str, data_dir: str) -> tuple[Samples, Samples]:
    """The train and the test part, in memory. A data set depends on its name alone, never on a task's seed."""
    if dataset == "digits":
        with np.load(_DIGITS) as archive:
            images, labels = archive["images"][:, None], archive["labels"].astype(np.int64)
        cut = _DIGITS_TRAIN
        return Samples(images[:cut], labels[:cut]), Samples(images[cut:], labels[cut:])
    if dataset.startswith("synthetic:"):
        about = _describe_synthetic(dataset)
        return _synthetic(dataset, about, "train", about.train), _synthetic(dataset, about, "test", about.test)
    if dataset.startswith("folder:"):
        train, test = vision.load_folder(dataset, data_dir)
        return Samples(*train), Samples(*test)
    if dataset in vision.KNOWN:
        train, test = vision.load(dataset, data_dir)
        return Samples(*train), Samples(*test)
    archive = _open(dataset, data_dir)
    channels_first = (-1, *_image_shape(archive["images"]))
    return (
        Samples(archive["images"].reshape(channels_first), archive["labels"].astype(np.int64)),
        Samples(archive["test_images"].reshape(channels_first), archive["test_labels"].astype(np.int64)),
    )


def _open(dataset: str, data_dir: str) -> dict[str, np.ndarray[Any, Any]]:
    path = Path(data_dir) / f"{dataset}.npz"
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", dataset) or not path.is_file():
        raise UserError(
            f"dataset: there is no {dataset!r}: say digits, {', '.join(vision.KNOWN)}, folder:CxHxW,"
            " synthetic:CxHxW:CLASSES:SAMPLES (such as synthetic:3x32x32:10:5000), or NAME for a file NAME.npz in the"
            f" folder {data_dir!r}"
        )
    try:
        with np.load(path) as file:
            archive = {name: file[name] for name in ("images", "labels", "test_images", "test_labels")}
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not an archive of images, labels, test_images and test_labels (numpy.savez): {error}"
        ) from None
    for part in ("", "test_"):
        images, labels = archive[f"{part}images"], archive[f"{part}labels"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[1:] != archive["images"].shape[1:]:
            raise UserError(f"{path}: {part}images: must be uint8 of shape [N, H, W] or [N, C, H, W]")
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1] or not len(labels) or labels.min() < 0:
            raise UserError(f"{path}: {part}labels: must be one class number from 0 for each of {part}images")
    return archive


def _image_shape(images: np.ndarray[Any, Any]) -> tuple[int, int, int]:
    *channels, height, width = images.shape[1:]
    return (channels[0] if channels else 1, height, width)


def _describe_synthetic(dataset: str) -> Description:
    match = re.fullmatch(r"synthetic:(\d+)x(\d+)x(\d+):(\d+):(\d+)", dataset)
    numbers = [int(number) for number in match.groups()] if match else [0]
    if min(numbers) < 1:
        raise UserError(
            f"dataset: {dataset!r} is not synthetic:CxHxW:CLASSES:SAMPLES with positive numbers,"
            " such as synthetic:3x32x32:10:5000"
        )
    channels, height, width, classes, samples = numbers
    if classes < 2 or samples < 2:
        raise UserError(f"dataset: {dataset!r} needs at least 2 classes and 2 samples")
    return Description((channels, height, width), classes, samples, max(1, samples // 5), 255)


def _synthetic(dataset: str, about: Description, part: str, count: int) -> Samples:
    """For each class a random texture (4x4 pixels, repeated), and on every pixel noise of an eighth of the range."""
    channels, height, width = about.shape
    tiles = stream(0, f"{dataset}:textures").uniform(64, 192, (about.classes, channels, 4, 4))
    textures = tiles[:, :, np.arange(height) % 4][:, :, :, np.arange(width) % 4]
    draws = stream(0, f"{dataset}:{part}")
    labels = draws.permutation(np.arange(count) % about.classes).astype(np.int64)
    images = np.empty((count, *about.shape), np.uint8)
    for start in range(0, count, _CHUNK):
        clean = textures[labels[start : start + _CHUNK]]
        images[start : start + _CHUNK] = np.clip(clean + draws.normal(0, 32, clean.shape), 0, 255)
    return Samples(images, labels)


def write(folder: Path, name: str, samples: Samples, rows: np.ndarray[Any, Any] | None = None) -> None:
    """Write ``name.images.npy`` and ``name.labels.npy`` (the given rows, or all), a few images at a time."""
    rows = np.arange(len(samples.labels)) if rows is None else rows
    np.save(folder / f"{name}.labels.npy", samples.labels[rows])
    shape = (len(rows), *samples.images.shape[1:])
    images = np.lib.format.open_memmap(folder / f"{name}.images.npy", mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, len(rows), _CHUNK):
        images[start : start + _CHUNK] = samples.images[rows[start : start + _CHUNK]]
    images.flush()


def read(folder: str, name: str) -> Samples:
    """A prepared part as read-only memory maps; UserError where it was not prepared."""
    try:
        maps = (np.load(Path(folder) / f"{name}.{field}.npy", mmap_mode="r") for field in Samples._fields)
        return Samples(*(np.asarray(array) for array in maps))  # plain views: np.memmap is slow to index
    except OSError as error:
        raise UserError(f"{folder}: folder: the part {name!r} of the data was not prepared there: {error}") from None
