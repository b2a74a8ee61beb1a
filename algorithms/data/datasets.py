"""Data sets, and the files that are prepared of them.

Images are uint8 on disk (a device's flash) and become float32 one batch at a time. ``task.prepare`` writes one pair of
``.npy`` files for each client and one for the test part; a shard maps its own pair and nothing else.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psutil

from algorithms.data import archives, image_folders, texts, torchvision_sets, user_data, user_objects, windows
from algorithms.data import labels as classes
from algorithms.data.streams import stream
from emulator.errors import UserError
from emulator.host.resources import fill_holes
from emulator.validation import nearest

_DIGITS = Path(__file__).parent / "digits" / "digits.npz"
_DIGITS_TRAIN = 1500  # of 1,797; the file's order is a fixed random one
_CHUNK = 256  # images made or written at a time: bounds the memory of preparing
_ABOUT = "dataset.json"
_TEST_CLIENTS = "test.clients.npy"
_TEXTURE_BYTES = 8  # of a value of a class's texture, while synthetic images are made
CONSTANT = 0.02  # of white: an image whose pixels differ by no more shows nothing


class Description(NamedTuple):
    """What a data set is, without its samples: the shape of one, such as (C, H, W), and sizes.

    ``levels``: the value of white, by which inputs are divided; 0: they are as they are. ``kind``: of the task;
    ``vocabulary``: inputs are tokens below it, 0: numbers; ``positions``: the shape of one sample's labels, () for one.
    """

    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    levels: int
    kind: str = "classification"
    vocabulary: int = 0
    positions: tuple[int, ...] = ()


class Samples(NamedTuple):
    """Images uint8 [N, C, H, W] and their labels int64 [N]; of a user's data inputs [N, ...] and labels [N, ...]."""

    images: np.ndarray[Any, Any] | image_folders.Files
    labels: np.ndarray[Any, Any]


class Loaded(NamedTuple):
    """A data set. ``names``: of its classes, where they have some; ``remarks``: what had to be understood; ``owners``
    [N], ``test_owners`` [M]: whose each training and each test sample is, where the data set says it."""

    train: Samples
    test: Samples
    names: Sequence[str] = ()
    remarks: Sequence[str] = ()
    owners: np.ndarray[Any, Any] | None = None
    test_owners: np.ndarray[Any, Any] | None = None


class PixelCensus(NamedTuple):
    """Of a part that was written: its least and largest pixel, how many images are nearly constant, and of each image
    a digest."""

    least: float
    most: float
    constant: int
    digests: list[bytes]


def is_own(dataset: str) -> bool:
    """Whether it is a callable of a user's."""
    return user_objects.is_named(dataset) and not dataset.startswith(("folder:", "synthetic:"))


def _own(dataset: str, data_dir: str, kind: str, ignore_index: int) -> user_data.UserData | None:
    """What a user's callable returns, or an archive has whose samples are no images; None for any other data set."""
    if is_own(dataset):
        return user_data.read(dataset, data_dir, kind, ignore_index)
    path = Path(data_dir) / f"{dataset}.npz"
    shipped = dataset == "digits" or dataset.startswith(("synthetic:", "folder:")) or dataset in torchvision_sets.KNOWN
    if shipped or not path.is_file() or not archives.holds_inputs(_archive(dataset, data_dir)):
        return None
    return user_data.read_archive(path, path.stat().st_mtime_ns, kind, ignore_index)


def describe(dataset: str, data_dir: str, kind: str = "", ignore_index: int = -100) -> Description:
    """Shapes and sizes of ``dataset``, without loading its images; UserError where there is no such data set.

    ``kind`` and ``ignore_index``: of the task, for data of a user's own.
    """
    if own := _own(dataset, data_dir, kind, ignore_index):
        (train, test), levels = own.inputs, 255 if own.inputs[0].dtype == np.uint8 else 0
        sizes = own.classes, len(train), len(test), levels
        return Description(train.shape[1:], *sizes, own.kind, own.vocabulary, own.labels[0].shape[1:])
    if dataset == "digits":
        return Description((1, 8, 8), 10, _DIGITS_TRAIN, 1797 - _DIGITS_TRAIN, 16)
    if dataset.startswith("synthetic:"):
        return _describe_synthetic(dataset)
    if dataset.startswith("folder:"):
        folder = image_folders.describe(dataset, data_dir)
        return Description(folder.shape, len(folder.classes), folder.train.size, folder.test.size, 255)
    if dataset == windows.NAME:
        trains, tests = map(sum, windows.sizes())
        return Description(windows.SHAPE, len(windows.ACTIVITIES), trains, tests, 0)
    if dataset == texts.NAME:
        text, length = texts.load(), (texts.LENGTH,)
        tokens, numbers = len(text.characters), (len(text.train.x), len(text.test.x))
        return Description(length, tokens, *numbers, 0, "per-position", tokens, length)
    if dataset in torchvision_sets.KNOWN:
        known = torchvision_sets.KNOWN[dataset]
        return Description(known.shape, known.classes, known.train, known.test, 255)
    archive = archives.read(_archive(dataset, data_dir))
    train, test = archive.labels
    return Description(archive.shape, archive.classes, len(train), len(test), archives.WHITE)


def load_all(dataset: str, data_dir: str, skip_bad: bool = False, kind: str = "", ignore_index: int = -100) -> Loaded:
    """The train and the test part, and all else that is known of it; ``skip_bad``: without the images of a folder that
    cannot be read. Images of folders are decoded when they are taken, others are in memory.

    A data set depends on its name alone, never on a task's seed.
    """
    if own := _own(dataset, data_dir, kind, ignore_index):
        train, test = (Samples(x, y) for x, y in zip(own.inputs, own.labels, strict=True))
        return Loaded(train, test, own.names, own.remarks, own.owners, own.test_owners)
    if dataset == "digits":
        with np.load(_DIGITS) as archive:
            images, labels = archive["images"][:, None], archive["labels"].astype(np.int64)
        cut = _DIGITS_TRAIN
        return Loaded(Samples(images[:cut], labels[:cut]), Samples(images[cut:], labels[cut:]))
    if dataset.startswith("synthetic:"):
        about = _describe_synthetic(dataset)
        train, test = _synthetic(dataset, about, "train", about.train), _synthetic(dataset, about, "test", about.test)
        return Loaded(train, test)
    if dataset.startswith("folder:"):
        return _folder(dataset, data_dir, skip_bad)
    if dataset == windows.NAME:
        made = windows.load()
        train, test = (Samples(part.x, part.y) for part in made)
        return Loaded(train, test, windows.ACTIVITIES, owners=made[0].subjects)
    if dataset == texts.NAME:
        text = texts.load()
        train, test = (Samples(part.x, part.y) for part in (text.train, text.test))
        return Loaded(train, test, owners=text.train.books, test_owners=text.test.books)
    if dataset in torchvision_sets.KNOWN:
        train, test = (Samples(*part) for part in torchvision_sets.load_torchvision(dataset, data_dir))
        return Loaded(train, test)
    found = archives.read(_archive(dataset, data_dir))
    *parts, remarks = archives.images(found)
    train, test = (Samples(images, labels) for images, labels in zip(parts, found.labels, strict=True))
    whose, test_whose = archives.owners(found)
    return Loaded(train, test, remarks=[*found.remarks, *remarks], owners=whose, test_owners=test_whose)


def _folder(dataset: str, data_dir: str, skip_bad: bool) -> Loaded:
    folder = image_folders.describe(dataset, data_dir)
    parts, remarks = [], []
    for name, (files, labels) in zip(("training", "test"), image_folders.load_image_folder(folder), strict=True):
        rows = files.whole() if skip_bad else range(len(labels))
        if files.broken:
            left_out = classes.some([classes.shown(path) for path in files.broken], 3)
            remarks.append(
                f"left out {len(files.broken)} of {len(labels)} {name} images that cannot be read: {left_out}"
            )
        if not rows:
            image_folders.refuse_broken(files)
        parts.append(Samples(files.of(rows), labels[np.array(rows)]))
    train, test = parts
    classes.count_classes(f"dataset: {dataset}: {data_dir}", train.labels, test.labels, folder.classes)
    return Loaded(train, test, folder.classes, [*remarks, *folder.remarks])


def _archive(dataset: str, data_dir: str) -> Path:
    path = Path(data_dir) / f"{dataset}.npz"
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", dataset) or not path.is_file():
        named = ["digits", *torchvision_sets.KNOWN, windows.NAME, texts.NAME]
        raise UserError(
            f"dataset: there is no {dataset!r}: {nearest(dataset, named)}say {', '.join(named)},"
            " folder:CxHxW,"
            " synthetic:CxHxW:CLASSES:SAMPLES (such as synthetic:3x32x32:10:5000), or NAME for a file NAME.npz in the"
            f" folder {data_dir!r}{_others(dataset, data_dir)}"
        )
    return path


def _others(dataset: str, data_dir: str) -> str:
    """Files there that may have been meant."""
    folder = Path(data_dir)
    named = [path.name for path in folder.iterdir() if path.stem == dataset] if folder.is_dir() else []
    found = classes.some([classes.shown(name) for name in sorted(named)])
    return f", which has {found}" if found else ""


def _describe_synthetic(dataset: str) -> Description:
    match = re.fullmatch(r"synthetic:(\d{1,9})x(\d{1,9})x(\d{1,9}):(\d{1,9}):(\d{1,9})", dataset, re.ASCII)
    numbers = [int(number) for number in match.groups()] if match else [0]
    if min(numbers) < 1:
        raise UserError(
            f"dataset: {dataset!r} is not synthetic:CxHxW:CLASSES:SAMPLES with positive numbers,"
            " such as synthetic:3x32x32:10:5000"
        )
    channels, height, width, classes, samples = numbers
    if classes < 2 or samples < 2:
        raise UserError(f"dataset: {dataset!r} needs at least 2 classes and 2 samples")
    needed = channels * height * width * (_TEXTURE_BYTES * classes + samples + samples // 5)
    if needed > psutil.virtual_memory().total:
        raise UserError(f"dataset: {dataset!r} needs {needed / 2**30:.0f} GiB, more than this host's memory: say less")
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


def write(
    folder: Path, name: str, samples: Samples, levels: int, rows: np.ndarray[Any, Any] | None = None
) -> PixelCensus:
    """Write ``name.images.npy`` and ``name.labels.npy`` (the given rows, or all), a few images at a time.

    An image that cannot be read is black, and in ``broken`` of ``samples.images``.
    """
    rows = np.arange(len(samples.labels)) if rows is None else rows
    np.save(folder / f"{name}.labels.npy", samples.labels[rows])
    shape = (len(rows), *samples.images.shape[1:])
    path = folder / f"{name}.images.npy"
    dtype = getattr(samples.images, "dtype", np.uint8)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    fill_holes(path)
    least, most, constant, digests = math.inf, -math.inf, 0, []
    for start in range(0, len(rows), _CHUNK):
        some, made = rows[start : start + _CHUNK], samples.images
        chunk = made.decode(some) if isinstance(made, image_folders.Files) else made[some]
        images[start : start + _CHUNK] = chunk
        flat = chunk.reshape(len(chunk), -1)
        lows, highs = flat.min(1), flat.max(1)
        least, most = min(least, lows.min().item()), max(most, highs.max().item())
        constant += int((highs - lows <= CONSTANT * levels).sum())
        digests += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in flat]
    images.flush()
    return PixelCensus(least, most, constant, digests)


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


def write_test_clients(folder: Path, clients: np.ndarray[Any, Any]) -> None:
    """Write the number of the client of each test sample, [M], -1 for none's, beside the test part."""
    np.save(folder / _TEST_CLIENTS, clients)


def read_test_clients(folder: str) -> np.ndarray[Any, Any]:
    """The clients of the test part that was prepared in ``folder``."""
    found: np.ndarray[Any, Any] = np.load(Path(folder) / _TEST_CLIENTS)
    return found


def about_path(folder: Path) -> Path:
    """The file in ``folder`` that says what the data set is."""
    return folder / _ABOUT


def write_about(folder: Path, about: Description) -> None:
    """Write down what the data set is, so that nodes need not look at the data set itself."""
    about_path(folder).write_bytes(msgspec.json.encode(about))


def read_about(folder: str) -> Description:
    """What the data set prepared in ``folder`` is; UserError where there is none."""
    try:
        return msgspec.json.decode(about_path(Path(folder)).read_bytes(), type=Description)
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"{folder}: folder: no data set was prepared there: {error}") from None
