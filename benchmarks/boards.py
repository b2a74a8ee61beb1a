"""Published training times of two Raspberry Pis beside what their profiles predict.

Images a second in training, batch 16, 224x224, one tester: github.com/jafermarq/federated-embedded-vision. The
profiles' dense and depthwise rates are fitted to ResNet-18 and MobileNetV2 alone (``fitted``); the other five models
are predictions. What a MobileNet's blocks or attention cost on a board, two rates cannot say: that is the range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models.vision_transformer import VisionTransformer

from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from emulator.compute.counting import WorkCounter
from emulator.compute.device import Work, duration_ns
from emulator.compute.imagined import Imagined
from emulator.profiles.reading import load_device
from emulator.profiles.scenario import Device

BATCH, SIDE, CLASSES = 16, 224, 1000
BOARDS = ("pi-5", "pi-4b")
FITTED = ("resnet18", "mobilenetv2")
LEAST, MOST = -0.22, 0.54  # of a prediction, beyond the measured time
PUBLISHED = {  # images/s on BOARDS
    "resnet18": (2.74, 1.47),
    "mobilenetv2": (2.22, 1.05),
    "resnet50": (0.99, 0.49),
    "mobilenetv2-0.5": (4.34, 2.10),
    "mobilenetv3-small": (6.75, 3.36),
    "mobilenetv3-large": (2.79, 1.30),
    "vit-tiny": (5.35, 2.63),
}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": torchvision.models.resnet18,
    "mobilenetv2": torchvision.models.mobilenet_v2,
    "resnet50": torchvision.models.resnet50,
    "mobilenetv2-0.5": lambda: torchvision.models.mobilenet_v2(width_mult=0.5),
    "mobilenetv3-small": torchvision.models.mobilenet_v3_small,
    "mobilenetv3-large": torchvision.models.mobilenet_v3_large,
    "vit-tiny": lambda: VisionTransformer(SIDE, 16, 12, 3, 192, 768),  # of the original's sizes
}


def works() -> dict[str, Work]:
    """A training step of each model with SGD, counted as in a run but without values."""
    found = {}
    for name, make in MODELS.items():
        with torch.device("meta"):
            model = make()
        with Imagined():
            model.to_empty(device="cpu")
            x, y = torch.empty(BATCH, 3, SIDE, SIDE), torch.empty(BATCH, dtype=torch.int64)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            with WorkCounter() as counter:
                torch.autograd.backward(cross_entropy(model(x), y))
                optimizer.step()
        found[name] = counter.work
    return found


def measured_s(model: str, board: str) -> float:
    """Seconds of a step, as published."""
    return BATCH / PUBLISHED[model][BOARDS.index(board)]


def fitted(board: str, counted: dict[str, Work]) -> tuple[float, float]:
    """Dense and depthwise FLOP/s that give both models of ``FITTED`` their times; the other terms are the profile's."""
    device = load_device(board)
    terms, rest = [], []
    for model in FITTED:
        work = counted[model]
        others = Work(operations=work.operations, moved_bytes=work.moved_bytes)
        terms.append([work.dense_flops, work.depthwise_flops])
        rest.append(measured_s(model, board) - duration_ns(others, device) / 1e9)
    dense_s, depthwise_s = np.linalg.solve(np.array(terms, float), np.array(rest))
    return float(1 / dense_s), float(1 / depthwise_s)


def beyond(board: Device, model: str, counted: dict[str, Work]) -> float:
    """How far a prediction is beyond the measured time, as a fraction of it."""
    return duration_ns(counted[model], board) / 1e9 / measured_s(model, board.name) - 1


def run(stage: Stage, quick: bool) -> Section:
    """Every model on both boards."""
    del stage, quick
    counted = works()
    rows = [["model", *(f"{board} {what}" for board in BOARDS for what in ("measured s", "predicted s", "off %"))]]
    figures: dict[str, Any] = {}
    for model, work in counted.items():
        row = [f"{model} (fitted)" if model in FITTED else model]
        for name in BOARDS:
            board = load_device(name)
            seconds, off = measured_s(model, name), beyond(board, model, counted)
            row += [f"{seconds:.2f}", f"{duration_ns(work, board) / 1e9:.2f}", f"{round(100 * off):+d}"]
            figures[f"{name}/{model}"] = {"measured_s": seconds, "off": off}
        rows.append(row)
    offs = [figures[f"{name}/{model}"]["off"] for name in BOARDS for model in MODELS if model not in FITTED]
    targets = [
        Target("lowest prediction off", 100 * min(offs), "%", 100 * LEAST, True),
        Target("highest prediction off", 100 * max(offs), "%", 100 * MOST, False),
    ]
    return Section("boards", "training steps of Raspberry Pis, published and predicted", rows, figures, targets, [])
