"""FLOPs of what the methods compute on ResNet-18, by closed forms; double backward; a client's time adds up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from algorithms.training import steps
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task
from emulator.compute.counting import WorkCounter
from emulator.compute.device import Work

TASK = Task(model="resnet18", dataset="synthetic:3x32x32:10:100")
BATCH = 4
SGD = OptimizerSpec("sgd", 1e-3)


class Layer(NamedTuple):
    """A convolution's or product's multiply-adds a sample; ``entry``: it takes what the part is given."""

    inputs: int
    outputs: int
    kernel: int
    side: int  # of its output
    entry: bool = False

    @property
    def flops(self) -> int:
        return 2 * self.inputs * self.outputs * self.kernel**2 * self.side**2


def stage(inputs: int, outputs: int, side: int, entry: bool = False) -> list[Layer]:
    """Two basic blocks, the first of which has a shortcut of its own."""
    first = Layer(inputs, outputs, 3, side, entry), Layer(inputs, outputs, 1, side, entry)
    return [*first, *[Layer(outputs, outputs, 3, side)] * 3]


CLIENT = [Layer(3, 64, 7, 16, entry=True), *[Layer(64, 64, 3, 8)] * 4, *stage(64, 128, 4)]
AUXILIARY = [*stage(128, 256, 2, entry=True), Layer(256, 10, 1, 1)]
SERVER = [*stage(128, 256, 2, entry=True), *stage(256, 512, 1), Layer(512, 10, 1, 1)]


def flops(layers: list[Layer], times: int, entries: int = 0) -> int:
    """So many passes over all layers, less ``entries`` over those that take what the part is given."""
    return BATCH * (times * sum(x.flops for x in layers) - entries * sum(x.flops for x in layers if x.entry))


def count(fn: Callable[..., Any], *args: Any) -> Work:
    with WorkCounter() as counter:
        fn(*args)
    return counter.work


class Parts(NamedTuple):
    client: steps.Part
    aux: steps.Part
    server: steps.Part
    x: torch.Tensor
    y: torch.Tensor
    z: torch.Tensor


@pytest.fixture
def parts() -> Parts:
    """On the meta device: nothing is computed."""
    made = [module.to("meta") for module in (TASK.client_half(), TASK.auxiliary(), TASK.server_half())]
    z, y = torch.empty(BATCH, 128, 4, 4, device="meta"), torch.empty(BATCH, dtype=torch.int64, device="meta")
    return Parts(
        *(steps.Part(m, SGD, objective=Classification()) for m in made),
        torch.empty(BATCH, 3, 32, 32, device="meta"),
        y,
        z,
    )


def test_the_layers_are_the_papers_in_millions_of_multiply_adds() -> None:
    sizes = [sum(layer.flops for layer in layers) / 2e6 for layers in (CLIENT, AUXILIARY, SERVER)]
    assert sizes == pytest.approx([20.2, 8.4, 16.8], abs=0.05)


def test_a_clients_forward_and_backward(parts: Parts) -> None:
    z = None

    def forward() -> None:
        nonlocal z
        z = steps.forward(parts.client, parts.x)

    assert count(forward).dense_flops == flops(CLIENT, 1)
    back = count(steps.backward, parts.client, z, parts.z)
    assert back.dense_flops == flops(CLIENT, 2, entries=1)  # images ask for no gradient
    assert back.depthwise_flops == 0
    assert (flops(CLIENT, 3, entries=1)) / BATCH / 1e6 == pytest.approx(117, abs=0.5)


def test_what_an_auxiliary_adds_to_a_client(parts: Parts) -> None:
    """FSL-SAGE: a forward pass and the gradients of activations alone; CSE-FSL: those of weights too."""
    frozen = steps.Part(parts.aux.module, None, objective=Classification())
    estimated = count(steps.estimate_gradient, frozen, parts.z, parts.y)
    assert estimated.dense_flops == flops(AUXILIARY, 2)
    assert flops(AUXILIARY, 2) / BATCH / 1e6 == pytest.approx(34, abs=0.5)
    trained = steps.Part(TASK.auxiliary().to("meta"), SGD, objective=Classification())
    z = steps.forward(parts.client, parts.x)
    both = count(steps.local_step, parts.client, trained, z, parts.y)
    assert both.dense_flops == flops(AUXILIARY, 3) + flops(CLIENT, 2, entries=1)
    assert flops(AUXILIARY, 3) / BATCH / 1e6 == pytest.approx(50, abs=0.5)


def test_a_servers_step_with_and_without_the_gradient_at_the_cut(parts: Parts) -> None:
    assert count(steps.cut_step, parts.server, parts.z, parts.y).dense_flops == flops(SERVER, 3)
    assert flops(SERVER, 3) / BATCH / 1e6 == pytest.approx(101, abs=0.5)
    assert count(steps.server_step, parts.server, parts.z, parts.y).dense_flops == flops(SERVER, 3, entries=1)


def test_an_alignment_costs_six_forward_passes(parts: Parts) -> None:
    """Forward; gradients of activations; of those, by weights and by what came to them; and the ordinary backward."""
    g = torch.empty_like(parts.z)
    cut = parts.z.requires_grad_()

    def align() -> None:
        loss = cross_entropy(parts.aux.module(cut), parts.y, reduction="sum")
        (estimated,) = torch.autograd.grad(loss, cut, create_graph=True)
        squared = (estimated - g).square().sum()
        torch.autograd.backward(squared, inputs=list(parts.aux.module.parameters()))

    found = count(align).dense_flops
    assert found == flops(AUXILIARY, 6)
    assert found / BATCH / 1e6 == pytest.approx(101, abs=0.5)
    real = steps.Part(TASK.auxiliary(), SGD, objective=Classification())
    z, y = torch.rand(BATCH, 128, 4, 4), torch.zeros(BATCH, dtype=torch.int64)
    aligned = count(steps.align_epoch, real, z, torch.rand_like(z), y, steps.Epoch(torch.arange(BATCH)), BATCH)
    assert aligned.dense_flops == found


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_double_backward_of_a_chain_of_convolutions_in_closed_form(groups: int) -> None:
    """Two layers, a non-linearity between them and a quadratic loss: the first layer's input gradient is not asked.

    torch takes the weight gradient of a grouped convolution's gradient group by group, as dense convolutions.
    """
    layers = [nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False) for _ in range(2)]
    model = nn.Sequential(layers[0], nn.Tanh(), layers[1])
    x = torch.rand(BATCH, 8, 6, 6, requires_grad=True)
    forward = BATCH * 2 * 8 * (8 // groups) * 9 * 36

    def twice() -> None:
        (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        torch.autograd.backward(gradient.square().sum(), inputs=list(model.parameters()))

    work = count(twice)
    assert work.dense_flops + work.depthwise_flops == 2 * 6 * forward - forward
    assert (work.depthwise_flops > work.dense_flops) is (groups == 8)
