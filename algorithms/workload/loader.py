"""What one client sees of its samples: batches, in an order of their own for each epoch, augmented where asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from algorithms.data.datasets import Samples
from algorithms.data.partition import batch_starts
from algorithms.data.streams import stream
from algorithms.workload.census import PADDING

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of its channels, of 0..1


class Preprocessing(NamedTuple):
    """The conversion of samples to tensors. ``levels``: the value of white, 0 where values are as they are; the other
    fields as in ``Task``."""

    levels: int
    normalise: Literal["none", "imagenet"] = "none"
    augment: Literal["none", "flip-crop"] = "none"


def tensors(
    samples: Samples, rows: np.ndarray[Any, Any], preprocessing: Preprocessing
) -> tuple[torch.Tensor, torch.Tensor]:
    """The given rows as x float32 [B, C, H, W], 0..1 or normalised, and y int64 [B]; never augmented. Of data of a
    user's own x may be any float32 [B, ...], or tokens int64, and y of any shape."""
    return _tensor(samples.images[rows], preprocessing), torch.from_numpy(np.array(samples.labels[rows]))


def _tensor(images: np.ndarray[Any, Any], preprocessing: Preprocessing) -> torch.Tensor:
    if not preprocessing.levels:
        return torch.from_numpy(np.array(images))
    x = np.asarray(images, np.float32) / np.float32(preprocessing.levels)
    if preprocessing.normalise == "imagenet":
        mean, deviation = (np.array(values, np.float32).reshape(3, 1, 1) for values in IMAGENET)
        x = (x - mean) / deviation
    return torch.from_numpy(x)


def flip_crop(images: np.ndarray[Any, Any], draws: np.random.Generator) -> np.ndarray[Any, Any]:
    """Each image mirrored or not, and the window of its size at a random place of it padded by 4 black pixels.

    uint8 [B, C, H, W] -> the same; torchvision's RandomHorizontalFlip and RandomCrop(size, padding=4), a draw a sample.
    """
    count, _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    down, right = draws.integers(0, 2 * PADDING + 1, (2, count))
    cropped = windows[np.arange(count), :, down, right]
    mirrored = draws.random(count) < 0.5
    return np.where(mirrored[:, None, None, None], cropped[..., ::-1], cropped)


class Shard:
    """The samples of one client. ``allow_batch_of_one``: whether a last batch of one sample may stand alone."""

    def __init__(
        self,
        samples: Samples,
        batch: int,
        preprocessing: Preprocessing,
        seed: int,
        index: int,
        epochs: int = 1,
        allow_batch_of_one: bool = True,
    ) -> None:
        self._samples, self._batch, self._preprocessing = samples, batch, preprocessing
        self._seed, self._index, self._epochs, self._allow_batch_of_one = seed, index, epochs, allow_batch_of_one

    def __len__(self) -> int:
        return len(self._samples.labels)

    @property
    def steps(self) -> int:
        """The number of batches in a round: the last one of an epoch may be smaller, or larger by one
        (``allow_batch_of_one``)."""
        return self._epochs * len(self._starts())

    def _starts(self) -> list[int]:
        return batch_starts(len(self), self._batch, self._allow_batch_of_one)

    def batches(self, round: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(x float32 [B, C, H, W], y int64 [B]) in the order of (seed, client, epoch), whatever the algorithm."""
        starts = self._starts()
        for epoch in range(round * self._epochs, (round + 1) * self._epochs):
            order = stream(self._seed, f"order:{self._index}:{epoch}").permutation(len(self))
            draws = stream(self._seed, f"augment:{self._index}:{epoch}")
            for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
                rows = order[start:end]
                images = self._samples.images[rows]
                if self._preprocessing.augment == "flip-crop":
                    images = flip_crop(images, draws)
                yield _tensor(images, self._preprocessing), torch.from_numpy(np.array(self._samples.labels[rows]))
