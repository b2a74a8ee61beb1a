"""Every model counted without values, as ``cuts`` and ``boards`` do, beside the count of a step that is carried out."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch

from algorithms.workload import models
from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from emulator.compute.counting import WorkCounter
from emulator.compute.device import Work
from emulator.compute.imagined import Imagined

BATCH, SIDE, CLASSES = 2, 64, 10
SIDES = {"maxvit_t": 224, "inception_v3": 75, "vit_h_14": 70}  # that take no others as small
QUICK = ("cnn", "resnet18", "mobilenet_v3_small", "swin_t", "vit_b_32")


def step_of(model: str, where: AbstractContextManager[Any]) -> tuple[Work, Work]:
    """A training step's forward pass, and its backward pass with SGD, of ``BATCH`` images."""
    side = SIDES.get(model, SIDE)
    module = models.meta_model(model, models.ModelShapes((3, side, side), CLASSES))
    with where:
        module.to_empty(device="cpu")
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.detach().zero_()  # drawing millions of weights would take longer than all else
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        with WorkCounter() as forward:
            y = module(torch.zeros(BATCH, 3, side, side))
        with WorkCounter() as backward:
            torch.autograd.backward(y.sum())
            optimizer.step()
    return forward.work, backward.work


def run(stage: Stage, quick: bool) -> Section:
    """All models; those of which a single operation, FLOP or byte differs."""
    del stage
    rows = [["model", "operations", "dense MFLOP", "depthwise MFLOP", "moved MB", "without values"]]
    figures: dict[str, Any] = {}
    for model in QUICK if quick else models.known():
        carried_out, without = step_of(model, contextlib.nullcontext()), step_of(model, Imagined())
        same, work = carried_out == without, carried_out[0] + carried_out[1]
        sizes = [f"{size / 1e6:,.1f}" for size in (work.dense_flops, work.depthwise_flops, work.moved_bytes)]
        rows.append([model, str(work.operations), *sizes, "the same" if same else "DIFFERENT"])
        figures[model] = {"same": same, "operations": work.operations, "unknown": list(work.unknown)}
    different = sum(not found["same"] for found in figures.values())
    unknown = sum(bool(found["unknown"]) for found in figures.values())
    targets = [
        Target("models counted otherwise without values", different, "", 1, False),
        Target("models with an operator that the counter does not know", unknown, "", 1, False),
    ]
    title = f"training steps of {BATCH} images, counted with and without values"
    return Section("one_count", title, rows, figures, targets)
