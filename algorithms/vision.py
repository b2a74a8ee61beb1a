"""torchvision's data sets, as arrays; downloaded by torchvision where there is a network. Folders of images."""

from __future__ import annotations

import contextlib
import os
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
        where = Path(data_dir) / KNOWN[name].files
        missing = [folder for folder in (where, *where.parents) if not folder.exists()]
        try:
            made = make(data_dir, train=train, download=True)
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            for folder in missing:  # torchvision makes them before it downloads
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise UserError(
                f"dataset: {name} is not in {where}: put torchvision's files there, or name the folder that has them"
                f" with --data-dir; it cannot be downloaded ({' '.join(str(error).split())})"
            ) from None
    return made


def _arrays(dataset: VisionDataset, about: Known) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    images = np.asarray(dataset.data)
    labels = np.asarray(dataset.targets, np.int64)
    if images.ndim == 4:  # CIFAR: channels last
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images.reshape(-1, *about.shape)), labels


# --- folders of images ------------------------------------------------------------------------------------------------

# torchvision.datasets.folder.IMG_EXTENSIONS, which cannot be had without importing torch; a test compares the two.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

Shape = tuple[int, int, int]


class Files:
    """Images of a folder as if they were an array uint8 [N, C, H, W]: those asked for are decoded and resized then.

    So a data set larger than memory can be prepared. UserError names an image that cannot be read.
    """

    def __init__(self, paths: list[str], shape: Shape) -> None:
        self._paths = paths
        self.shape = (len(paths), *shape)

    def __getitem__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, row in zip(images, rows, strict=True):
            image[:] = self._decode(self._paths[row])
        return images

    def _decode(self, path: str) -> np.ndarray[Any, Any]:
        from PIL import Image

        _, channels, height, width = self.shape
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB" if channels == 3 else "L").resize((width, height)))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's, by format
            raise UserError(f"{path}: not an image that can be read: {error}") from None
        return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def describe_folder(dataset: str, data_dir: str) -> tuple[Shape, int, int, int]:
    """Image shape, classes, training and test samples of ``folder:CxHxW``; no image is opened and torch not imported.

    UserError where the folder is not as it must be.
    """
    match = re.fullmatch(r"folder:([13])x(\d+)x(\d+)", dataset)
    channels, height, width = map(int, match.groups()) if match else (0, 0, 0)
    if not channels * height * width:
        raise UserError(f"dataset: {dataset!r}: say folder:CxHxW with 1 or 3 channels, such as folder:3x64x64")
    train, test = (_count(part) for part in _parts(dataset, data_dir))
    if train.keys() != test.keys():
        odd = ", ".join(sorted(train.keys() ^ test.keys()))
        raise UserError(f"dataset: {dataset}: {data_dir}: train and test part differ in classes: {odd}")
    return (channels, height, width), len(train), sum(train.values()), sum(test.values())


def load_folder(dataset: str, data_dir: str) -> list[tuple[Files, np.ndarray[Any, Any]]]:
    """Train and test part: images to be decoded when asked for, and labels int64 [N]."""
    from torchvision.datasets import ImageFolder

    shape = describe_folder(dataset, data_dir)[0]
    found = [ImageFolder(str(part)) for part in _parts(dataset, data_dir)]
    return [(Files([path for path, _ in part.samples], shape), np.asarray(part.targets, np.int64)) for part in found]


def _parts(dataset: str, data_dir: str) -> list[Path]:
    """The folders of the training and the test part."""
    root = Path(data_dir)
    tests = [root / name for name in ("test", "val") if (root / name).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise UserError(
            f"dataset: {dataset}: {root} has no train/CLASS/IMAGE and test/CLASS/IMAGE (or val): name the folder that"
            " has them with --data-dir"
        )
    return [root / "train", tests[0]]


def _count(part: Path) -> dict[str, int]:
    """Images of each class as ImageFolder finds them: a class is a folder, and its images are anywhere below it."""
    counts = {}
    for name in sorted(entry.name for entry in os.scandir(part) if entry.is_dir()):
        walk = os.walk(part / name, followlinks=True)
        counts[name] = sum(file.lower().endswith(EXTENSIONS) for _, _, files in walk for file in files)
        if not counts[name]:
            raise UserError(f"{part / name}: a class without images: add some ({', '.join(EXTENSIONS)}), or remove it")
    if not counts:
        raise UserError(f"{part}: no class: images are in folders CLASS, one a class")
    return counts
