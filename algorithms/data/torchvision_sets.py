"""torchvision's data sets, as arrays; downloaded by torchvision where there is a network."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from emulator.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset


class TorchvisionSet(NamedTuple):
    """A data set: torchvision's class, where its files are below the data folder, shape, classes, sizes."""

    type_name: str
    files: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int


KNOWN = {
    "mnist": TorchvisionSet("MNIST", "MNIST/raw", (1, 28, 28), 10, 60_000, 10_000),
    "fashion-mnist": TorchvisionSet("FashionMNIST", "FashionMNIST/raw", (1, 28, 28), 10, 60_000, 10_000),
    "cifar10": TorchvisionSet("CIFAR10", "cifar-10-batches-py", (3, 32, 32), 10, 50_000, 10_000),
    "cifar100": TorchvisionSet("CIFAR100", "cifar-100-python", (3, 32, 32), 100, 50_000, 10_000),
}


def load_torchvision(name: str, data_dir: str) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
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


def _arrays(dataset: VisionDataset, about: TorchvisionSet) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    images = np.asarray(dataset.data)
    labels = np.asarray(dataset.targets, np.int64)
    if images.ndim == 4:  # CIFAR: channels last
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images.reshape(-1, *about.shape)), labels
