"""A model counted without values, as cuts and boards do, costs what it costs in a run: one count, whoever counts."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from layers import layers
from torch.utils._pytree import tree_leaves

from algorithms import models
from emulator.device import Work
from emulator.work import WorkCounter, imagined

# One model of each family, the smallest; benchmarks.one_count has them all.
FAMILIES = (
    *("cnn", "simple_conv", "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s"),
    *(
        "googlenet",
        "inception_v3",
        "maxvit_t",
        "resnext50_32x4d",
        "mnasnet0_5",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "regnet_x_400mf",
    ),
    *("regnet_y_400mf", "resnet18", "resnet50", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t"),
    *("vgg11_bn", "vit_b_32", "wide_resnet50_2"),
)
SIDE = {"maxvit_t": 224, "inception_v3": 75}
# Whose tensors without values lie in memory in another order at some place, so that a view more or less is taken.
OTHER_VIEWS = {"efficientnet_b0", "efficientnet_v2_s", "swin_t", "swin_v2_t"}


def step_of(name: str, mode: AbstractContextManager[Any]) -> tuple[Work, Work]:
    """Forward and backward of a batch of two."""
    side = SIDE.get(name, 64)
    model = models.skeleton(name, (3, side, side), 10)
    with mode:
        model.to_empty(device="cpu")
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.detach().zero_()
        x = torch.zeros(2, 3, side, side)
        with WorkCounter() as forward:
            y = model(x)
        with WorkCounter() as backward:
            torch.autograd.backward(y.sum())
    return forward.work, backward.work


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_without_values_costs_what_it_costs_in_a_run(name: str) -> None:
    imaginary, real = step_of(name, imagined()), step_of(name, contextlib.nullcontext())
    assert [flops_of(work) for work in imaginary] == [flops_of(work) for work in real]
    if name in OTHER_VIEWS:
        assert sum(w.operations for w in imaginary) == pytest.approx(sum(w.operations for w in real), rel=0.02)
    else:
        assert imaginary == real
    assert all(work.dense_flops and not work.unknown for work in real)


def flops_of(work: Work) -> tuple[int, int]:
    return work.dense_flops, work.depthwise_flops


def layer_of(name: str, mode: AbstractContextManager[Any]) -> Work:
    with mode, WorkCounter() as counter:
        layer = layers()[name]
        module, inputs = layer.make(), layer.inputs()
        outs = [leaf for leaf in tree_leaves(module(*inputs)) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        torch.autograd.backward([out.sum() for out in outs])
    return counter.work


@pytest.mark.parametrize(
    "name", [f"{cell}{how}" for cell in ("LSTM", "GRU", "RNN") for how in ("", ":deep", "Cell")] + ["LSTM:projected"]
)
def test_a_recurrent_layer_has_the_flops_of_a_run(name: str) -> None:
    assert layer_of(name, imagined()).dense_flops == layer_of(name, contextlib.nullcontext()).dense_flops > 0


@pytest.mark.parametrize("name", ["MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer"])
def test_attention_has_the_flops_of_a_run(name: str) -> None:
    assert layer_of(name, imagined()).dense_flops == layer_of(name, contextlib.nullcontext()).dense_flops > 0


def test_the_models_of_the_families_are_of_all_that_there_are() -> None:
    def family(name: str) -> str:
        return name.split("_")[0].rstrip("0123456789")

    assert set(map(family, models.known())) <= set(map(family, FAMILIES))
