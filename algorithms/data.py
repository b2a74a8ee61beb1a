"""Data sets, and the files that are prepared of them.

Images are uint8 on disk (a device's flash) and become float32 one batch at a time. ``task.prepare`` writes one pair of
``.npy`` files for each client and one for the test part; a shard maps its own pair and nothing else.

Every random draw comes from a stream of its own, named ``f"{seed}:{purpose}"``: one more draw here moves nothing there.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from algorithms import vision
from emulator.errors import UserError

_DIGITS = Path(__file__).parent / "digits" / "digits.npz"
_DIGITS_TRAIN = 1500  # of 1,797; the file's order is a fixed random one
_CHUNK = 256  # images made or written at a time: bounds the memory of preparing
_ABOUT = "dataset.json"


class Description(NamedTuple):
    """What a data set is, without its samples: image shape (C, H, W) and sizes; ``levels`` is the value of white."""

    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    levels: int


class Samples(NamedTuple):
    """Images uint8 [N, C, H, W] and their labels int64 [N]."""

    images: np.ndarray[Any, Any] | vision.Files
    labels: np.ndarray[Any, Any]


def stream_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, the same in every process (no ``hash``)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8], "big") >> 1


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The named random stream ``f"{seed}:{purpose}"``."""
    return np.random.default_rng(stream_seed(seed, purpose))


def describe(dataset: str, data_dir: str) -> Description:
    """Shapes and sizes of ``dataset``, without loading its images; UserError where there is no such data set."""
    if dataset == "digits":
        return Description((1, 8, 8), 10, _DIGITS_TRAIN, 1797 - _DIGITS_TRAIN, 16)
    if dataset.startswith("synthetic:"):
        return _describe_synthetic(dataset)
    if dataset.startswith("folder:"):
        return Description(*vision.describe_folder(dataset, data_dir), 255)
    if dataset in vision.KNOWN:
        known = vision.KNOWN[dataset]
        return Description(known.shape, known.classes, known.train, known.test, 255)
    return _describe_archive(_archive(dataset, data_dir))


def load(dataset: str, data_dir: str) -> tuple[Samples, Samples]:
    """The train and the test part; images of folders are decoded when they are taken, others are in memory.

    A data set depends on its name alone, never on a task's seed.
    """
    if dataset == "digits":
        with np.load(_DIGITS) as archive:
            images, labels = archive["images"][:, None], archive["labels"].astype(np.int64)
        cut = _DIGITS_TRAIN
        return Samples(images[:cut], labels[:cut]), Samples(images[cut:], labels[cut:])
    if dataset.startswith("synthetic:"):
        about = _describe_synthetic(dataset)
        return _synthetic(dataset, about, "train", about.train), _synthetic(dataset, about, "test", about.test)
    if dataset.startswith("folder:"):
        decoded, judged = vision.load_folder(dataset, data_dir)
        return Samples(*decoded), Samples(*judged)
    if dataset in vision.KNOWN:
        train, test = vision.load(dataset, data_dir)
        return Samples(*train), Samples(*test)
    path = _archive(dataset, data_dir)
    shape = _describe_archive(path).shape
    return _part(path, "", shape), _part(path, "test_", shape)


def _archive(dataset: str, data_dir: str) -> Path:
    path = Path(data_dir) / f"{dataset}.npz"
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", dataset) or not path.is_file():
        raise UserError(
            f"dataset: there is no {dataset!r}: say digits, {', '.join(vision.KNOWN)}, folder:CxHxW,"
            " synthetic:CxHxW:CLASSES:SAMPLES (such as synthetic:3x32x32:10:5000), or NAME for a file NAME.npz in the"
            f" folder {data_dir!r}"
        )
    return path


def _describe_archive(path: Path) -> Description:
    """From the headers of the images and from the labels; UserError where they are not as they must be."""
    shapes: dict[str, tuple[int, ...]] = {}
    labels: dict[str, np.ndarray[Any, Any]] = {}
    for part in ("", "test_"):
        dtype, shape = _header(path, f"{part}images")
        if dtype != np.uint8 or len(shape) not in (3, 4) or shape[1:] != shapes.get("", shape)[1:]:
            raise UserError(f"{path}: {part}images: must be uint8 of shape [N, H, W] or [N, C, H, W]")
        found = _array(path, f"{part}labels")
        if found.dtype.kind not in "iu" or found.shape != shape[:1] or not len(found) or found.min() < 0:
            raise UserError(f"{path}: {part}labels: must be one class number from 0 for each of {part}images")
        shapes[part], labels[part] = shape, found
    *channels, height, width = shapes[""][1:]
    classes = int(max(found.max() for found in labels.values())) + 1
    shape = (channels[0] if channels else 1, height, width)
    return Description(shape, classes, len(labels[""]), len(labels["test_"]), 255)


def _part(path: Path, part: str, shape: tuple[int, int, int]) -> Samples:
    images, labels = _array(path, f"{part}images"), _array(path, f"{part}labels")
    return Samples(images.reshape(-1, *shape), labels.astype(np.int64))


def _array(path: Path, name: str) -> np.ndarray[Any, Any]:
    with _reading(path), np.load(path) as archive:
        array: np.ndarray[Any, Any] = archive[name]
        return array


def _header(path: Path, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape of an array of the archive, which is not read."""
    with _reading(path), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        return dtype, shape


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path}: not an archive of images, labels, test_images and test_labels (numpy.savez): {error}"
        ) from None


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


def count(folder: str, name: str) -> int:
    """How many samples a prepared part has."""
    return len(read(folder, name).labels)


def write_about(folder: Path, about: Description) -> None:
    """Write down what the data set is, so that nodes need not look at the data set itself."""
    (folder / _ABOUT).write_bytes(msgspec.json.encode(about))


def read_about(folder: str) -> Description:
    """What the data set prepared in ``folder`` is; UserError where there is none."""
    try:
        return msgspec.json.decode((Path(folder) / _ABOUT).read_bytes(), type=Description)
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"{folder}: folder: no data set was prepared there: {error}") from None
