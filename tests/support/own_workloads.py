"""Models and data as a user brings them: windows, a regression, tokens; small."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

PADDING = -7
Part = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def windows() -> tuple[Part, Part, np.ndarray[Any, Any]]:
    """[6, 128] of three frequencies, of nine subjects."""
    draws = np.random.default_rng(1)
    y = np.arange(60) % 3
    phase = 2 * np.pi * (y[:, None, None] + 1) * np.arange(128) / 32 + draws.random((60, 6, 1))
    x = np.sin(phase) + draws.normal(0, 0.3, (60, 6, 128))
    return (x[:44], y[:44]), (x[44:], y[44:]), np.sqrt(np.arange(44) * 1.8).astype(int)


def vectors() -> tuple[Dataset[Any], Dataset[Any]]:
    """20 floats and a value."""
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(60, 20, generator=draws)
    y = x.mean(1) + x[:, 0]
    return TensorDataset(x[:44], y[:44]), TensorDataset(x[44:], y[44:])


def tokens() -> dict[str, Any]:
    """Tokens of length 64, each with a tag, padded."""
    draws = np.random.default_rng(1)
    x = draws.integers(0, 30, (60, 64))
    y = np.where(np.arange(64) < draws.integers(20, 65, (60, 1)), x % 4, PADDING)
    return {"train": (x[:44], y[:44]), "test": (x[44:], y[44:]), "vocabulary": 30}


def conv(shape: tuple[int, ...], classes: int) -> nn.Module:
    layers = nn.Conv1d(shape[0], 8, 5), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(8, 8, 5), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(32, classes))


class Recurrent(nn.Module):
    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(shape[0], 8, batch_first=True), nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, (h, _) = self.lstm(x.transpose(1, 2))
        out: torch.Tensor = self.head(h[-1])
        return out


def mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(shape[0], 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, classes))


class Tagger(nn.Module):
    def __init__(self, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(vocabulary, 8), nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z, _ = self.lstm(self.embed(x))
        out: torch.Tensor = self.head(z)
        return out
