"""One count: what ``cuts`` and the boards' table count without values is what a run counts, operation by operation."""

from __future__ import annotations

import contextlib

import pytest
import torch
from layers import layers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from algorithms.workload import models
from algorithms.workload.cut_costs import BATCH, CLASSES, cuts
from algorithms.workload.models import ModelShapes
from algorithms.workload.parts import Parts
from benchmarks.one_count import step_of
from emulator.compute.counting import WorkCounter
from emulator.compute.device import Work
from emulator.compute.imagined import Imagined

# One model of each family, the smallest; ``python -m benchmarks one_count`` has them all.
FAMILIES = (
    *("cnn", "simple_conv", "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s"),
    *("googlenet", "inception_v3", "maxvit_t", "resnext50_32x4d", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"),
    *("regnet_x_400mf", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t"),
    *("vgg11_bn", "vit_b_32", "wide_resnet50_2"),
)
# how many samples are in which cluster; lengths; whether a variance is negative: nothing of a model before its loss
VALUES_DECIDE = frozenset({"AdaptiveLogSoftmaxWithLoss", "CTCLoss", "GaussianNLLLoss"})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_without_values_costs_what_it_costs_in_a_run(name: str) -> None:
    run = step_of(name, contextlib.nullcontext())
    assert step_of(name, Imagined()) == run
    assert all(work.dense_flops and not work.unknown for work in run)


def test_the_models_of_the_families_are_of_all_that_there_are() -> None:
    def family(name: str) -> str:
        return name.split("_")[0].rstrip("0123456789")

    images = set(models.known()) - {"cnn1d", "tiny-gpt"}  # which take windows, and tokens
    assert set(map(family, images)) <= set(map(family, FAMILIES))


def both_ways(module: nn.Module, inputs: tuple[Tensor, ...]) -> Work:
    with WorkCounter() as counter:
        outs = [out for out in tree_leaves(module(*inputs)) if isinstance(out, Tensor) and out.requires_grad]
        torch.autograd.backward([out.sum() for out in outs])
    module.zero_grad()
    return counter.work


@pytest.mark.filterwarnings("ignore")
def test_every_layer_of_torch_costs_the_same_without_values() -> None:
    different = {}
    for name, layer in layers().items():
        if name in VALUES_DECIDE:
            continue
        module, inputs = layer.make(), layer.inputs()
        run = both_ways(module, inputs)
        with Imagined():
            without = both_ways(module, inputs)
        if without != run:
            different[name] = without, run
    assert different == {}


def test_attention_and_an_lstm_are_one_kernel_each_and_not_what_the_meta_device_makes_of_them() -> None:
    heads = torch.rand(2, 4, 64, 32)
    lstm, x = nn.LSTM(32, 32, batch_first=True), torch.rand(16, 128, 32)
    for fn, args, flops in [
        (F.scaled_dot_product_attention, (heads, heads, heads), 4 * 2 * 4 * 64 * 64 * 32),
        (lstm, (x,), 2 * 16 * 128 * 4 * 32 * 64),
    ]:
        with WorkCounter() as run:
            fn(*args)
        with Imagined(), WorkCounter() as without:
            fn(*args)
        assert without.work == run.work
        assert run.work.dense_flops == flops
        assert run.work.operations < 20


def test_what_cuts_says_of_a_vision_transformers_half_is_what_a_run_charges_and_keeps() -> None:
    shape = (3, 64, 64)
    (cut,) = (cut for cut in cuts("vit_b_32", ModelShapes(shape, 10)) if cut.name == "encoder.layers.encoder_layer_0")
    half = Parts("vit_b_32", cut.name, "", ModelShapes(shape, CLASSES), 1).half("client")
    own = {parameter.untyped_storage().data_ptr() for parameter in half.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), WorkCounter() as counter:
        half(torch.rand(BATCH, *shape))
    assert counter.work.dense_flops // BATCH == cut.flops
    assert sum(kept.values()) // BATCH == cut.activation_bytes


def test_nothing_is_computed_without_values_and_no_memory_is_taken() -> None:
    with Imagined():
        x = torch.ones(1000, 1000, 1000)  # 4 GB
        y = (x @ x).relu_()
    assert y.shape == x.shape
