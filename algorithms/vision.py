"""torchvision's data sets, as arrays; downloaded by torchvision where there is a network. Folders of images."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from emulator.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset


class Known(NamedTuple):
    """A data set: torchvision's class, where its files are below the data folder, shape, classes, sizes."""

    type_name: str
    files: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int


KNOWN = {
    "mnist": Known("MNIST", "MNIST/raw", (1, 28, 28), 10, 60_000, 10_000),
    "fashion-mnist": Known("FashionMNIST", "FashionMNIST/raw", (1, 28, 28), 10, 60_000, 10_000),
    "cifar10": Known("CIFAR10", "cifar-10-batches-py", (3, 32, 32), 10, 50_000, 10_000),
    "cifar100": Known("CIFAR100", "cifar-100-python", (3, 32, 32), 100, 50_000, 10_000),
}


def load(name: str, data_dir: str) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Train and test part: images uint8 [N, C, H, W] and labels int64 [N]; UserError where the files are not there."""
    return [_arrays(_open(name, data_dir, train), KNOWN[name]) for train in (True, False)]


def _open(name: str, data_dir: str, train: bool) -> VisionDataset:
    from torchvision import datasets

    make = getattr(datasets, KNOWN[name].type_name)
    try:
        made: VisionDataset = make(data_dir, train=train, download=False)
    except (RuntimeError, OSError, EOFError, ValueError):  # not there, or not whole
        try:
            made = make(data_dir, train=train, download=True)
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            where = Path(data_dir) / KNOWN[name].files
            raise UserError(
                f"dataset: {name} is not in {where} and cannot be downloaded ({' '.join(str(error).split())}): put"
                " torchvision's files there, or name the folder that has them with --data-dir"
            ) from None
    return made


def _arrays(dataset: VisionDataset, about: Known) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    images = np.asarray(dataset.data)
    labels = np.asarray(dataset.targets, np.int64)
    if images.ndim == 4:  # CIFAR: channels last
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images.reshape(-1, *about.shape)), labels


# --- folders of images ------------------------------------------------------------------------------------------------

Folder = tuple[tuple[int, int, int], int, int, int]  # image shape, classes, training and test samples


def _parts(dataset: str, data_dir: str) -> tuple[tuple[int, int, int], list[Any]]:
    """The shape that ``folder:CxHxW`` asks for, and torchvision's ImageFolder of train and test (or val)."""
    from torchvision.datasets import ImageFolder

    match = re.fullmatch(r"folder:([13])x(\d+)x(\d+)", dataset)
    if match is None or min(map(int, match.groups())) < 1:
        raise UserError(f"dataset: {dataset!r}: say folder:CxHxW with 1 or 3 channels, such as folder:3x64x64")
    root = Path(data_dir)
    tests = [name for name in ("test", "val") if (root / name).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise UserError(
            f"dataset: {dataset}: {root} has no train/CLASS/IMAGE and test/CLASS/IMAGE (or val): name the folder that"
            " has them with --data-dir"
        )
    try:
        found = [ImageFolder(str(root / name)) for name in ("train", tests[0])]
    except (FileNotFoundError, OSError) as error:
        raise UserError(f"dataset: {dataset}: {error}") from None
    if found[0].classes != found[1].classes:
        odd = sorted(set(found[0].classes) ^ set(found[1].classes))
        raise UserError(f"dataset: {dataset}: {root}: train and {tests[0]} differ in classes: {', '.join(odd)}")
    channels, height, width = map(int, match.groups())
    return (channels, height, width), found


@functools.lru_cache(maxsize=1)
def describe_folder(dataset: str, data_dir: str) -> Folder:
    """Shape, classes and sizes, without opening an image; UserError where the folder is not as it must be."""
    shape, (train, test) = _parts(dataset, data_dir)
    return shape, len(train.classes), len(train), len(test)


def load_folder(dataset: str, data_dir: str) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Train and test part, every image resized to the shape; UserError names an image that cannot be read."""
    shape, found = _parts(dataset, data_dir)
    return [_read_folder(part, shape) for part in found]


def _read_folder(part: Any, shape: tuple[int, int, int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    from PIL import Image

    channels, height, width = shape
    images = np.empty((len(part), *shape), np.uint8)
    for row, (path, _) in enumerate(part.samples):
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB" if channels == 3 else "L").resize((width, height)))
        except OSError as error:
            raise UserError(f"{path}: not an image that can be read: {error}") from None
        images[row] = pixels.reshape(height, width, channels).transpose(2, 0, 1)
    return images, np.asarray(part.targets, np.int64)
