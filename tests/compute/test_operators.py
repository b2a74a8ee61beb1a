"""What operators cost, against closed forms; that no layer of torch has one that the counter does not know."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from layers import NOT_LAYERS, Layer, layers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula

from emulator.compute.counting import WorkCounter
from emulator.compute.device import Work

FLOAT = 4
B, H, L, S, D = 2, 4, 64, 48, 32
HEADS = torch.rand(B, H, L, D)
OTHERS = torch.rand(B, H, S, D)


def count(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Work:
    with WorkCounter() as counter:
        fn(*args, **kwargs)
    return counter.work


def gradients(fn: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Work:
    """What the backward pass costs, all that is floating asking for a gradient."""
    inputs = [
        arg.clone().requires_grad_() if isinstance(arg, Tensor) and arg.is_floating_point() else arg for arg in args
    ]
    out = fn(*inputs, **kwargs)
    return count(torch.autograd.backward, out, torch.ones_like(out))


# --- attention --------------------------------------------------------------------------------------------------------


def attend(query: Tensor, key: Tensor, **options: Any) -> Tensor:
    return F.scaled_dot_product_attention(query, key, key.clone(), **options)


def test_attention_is_two_products_forward_and_five_backward() -> None:
    """The kernel computes the scores anew in its backward pass."""
    assert count(attend, HEADS, OTHERS).dense_flops == 4 * B * H * L * S * D
    assert gradients(attend, HEADS, OTHERS).dense_flops == 10 * B * H * L * S * D
    with sdpa_kernel(SDPBackend.MATH):
        apart = count(attend, HEADS, OTHERS), gradients(attend, HEADS, OTHERS)
    assert [work.dense_flops for work in apart] == [4 * B * H * L * S * D, 8 * B * H * L * S * D]


def test_a_mask_leaves_out_nothing_and_causality_what_it_passes_over() -> None:
    mask = torch.ones(L, S, dtype=torch.bool)
    assert count(attend, HEADS, OTHERS, attn_mask=mask).dense_flops == 4 * B * H * L * S * D
    pairs = sum(min(query + 1, S) for query in range(L))
    assert count(attend, HEADS, OTHERS, is_causal=True).dense_flops == 4 * B * H * pairs * D
    assert gradients(attend, HEADS, OTHERS, is_causal=True).dense_flops == 10 * B * H * pairs * D
    assert count(attend, HEADS, HEADS, is_causal=True).dense_flops == 2 * B * H * L * (L + 1) * D


def test_an_encoder_layer_costs_its_products_whichever_way_torch_carries_it_out() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0).eval()
    x = torch.rand(2, 5, 16)
    products = 2 * 10 * (3 * 16 * 16 + 16 * 16 + 2 * 16 * 32) + 4 * 2 * 5 * 5 * 16
    assert count(layer, x).dense_flops == products
    with torch.no_grad():
        fused = count(layer, x)
    assert (fused.operations, fused.dense_flops) == (1, products)


# --- recurrent layers -------------------------------------------------------------------------------------------------

T, N, WIDTH, HIDDEN = 7, 3, 5, 8


def test_an_lstms_layer_multiplies_each_step_by_both_matrices() -> None:
    lstm, x = nn.LSTM(WIDTH, HIDDEN), torch.rand(T, N, WIDTH)
    one = 2 * T * N * 4 * HIDDEN * (WIDTH + HIDDEN)
    assert count(lstm, x).dense_flops == one
    assert gradients(lambda x: lstm(x)[0], x).dense_flops == 2 * one
    deep = nn.LSTM(WIDTH, HIDDEN, 2, bidirectional=True, batch_first=True)
    above = 2 * T * N * 4 * HIDDEN * (2 * HIDDEN + HIDDEN)
    assert count(deep, torch.rand(N, T, WIDTH)).dense_flops == 2 * one + 2 * above


@pytest.mark.parametrize(("cls", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_a_recurrent_layer_costs_the_same_in_one_kernel_or_step_by_step(cls: Any, gates: int) -> None:
    """oneDNN has no double precision: torch then takes an LSTM apart, as it does the others."""
    layer, x = cls(WIDTH, HIDDEN), torch.rand(T, N, WIDTH)
    products = 2 * T * N * gates * HIDDEN * (WIDTH + HIDDEN)
    assert count(layer, x).dense_flops == products
    assert count(layer.double(), x.double()).dense_flops == products


# --- everything else with arithmetic ----------------------------------------------------------------------------------

M, K, P = 6, 5, 4
LEFT, RIGHT, SUM = torch.rand(M, K), torch.rand(K, P), torch.rand(M, P)
ROWS, COLUMNS = torch.rand(3, M, K), torch.rand(3, K, P)
COMPLEX = torch.complex(LEFT, LEFT)
IMAGES = torch.rand(2, 3, 12, 12)
FILTER = torch.rand(4, 3, 3, 3)
GRID = torch.rand(2, 5, 5, 2)
MANY = torch.rand(40, K)
FLOPS: dict[str, tuple[Callable[[], Any], float]] = {
    "mm": (lambda: LEFT @ RIGHT, 2 * M * K * P),
    "addmm": (lambda: torch.addmm(SUM, LEFT, RIGHT), 2 * M * K * P),
    "addmm_": (lambda: SUM.clone().addmm_(LEFT, RIGHT), 2 * M * K * P),
    "mm out": (lambda: torch.mm(LEFT, RIGHT, out=torch.empty(M, P)), 2 * M * K * P),
    "bmm": (lambda: ROWS @ COLUMNS, 2 * 3 * M * K * P),
    "baddbmm_": (lambda: torch.zeros(3, M, P).baddbmm_(ROWS, COLUMNS), 2 * 3 * M * K * P),
    "addbmm": (lambda: torch.addbmm(SUM, ROWS, COLUMNS), 2 * 3 * M * K * P),
    "mv": (lambda: LEFT @ RIGHT[:, 0], 2 * M * K),
    "dot": (lambda: LEFT[0] @ RIGHT[:, 0], 2 * K),
    "addr": (lambda: torch.addr(SUM, SUM[:, 0], SUM[0]), 2 * M * P),
    "einsum": (lambda: torch.einsum("bmk,bkp->bmp", ROWS, COLUMNS), 2 * 3 * M * K * P),
    "integers": (lambda: LEFT.long() @ RIGHT.long(), 2 * M * K * P),
    "bfloat16": (lambda: LEFT.bfloat16() @ RIGHT.bfloat16(), 2 * M * K * P),
    "complex": (lambda: COMPLEX @ COMPLEX.T, 4 * 2 * M * K * M),
    "bilinear": (lambda: F.bilinear(LEFT, LEFT, torch.rand(7, K, K)), 2 * M * 7 * K * K + 2 * M * 7 * K),
    "convolution": (lambda: F.conv2d(IMAGES, FILTER), 2 * 2 * 4 * 100 * 27),
    "transposed": (lambda: F.conv_transpose2d(IMAGES, FILTER.transpose(0, 1)), 2 * 2 * 3 * 144 * 36),
    "its own operator": (
        lambda: torch.ops.aten.mkldnn_convolution(IMAGES, FILTER, None, [0] * 2, [1] * 2, [1] * 2, 1),
        21600 * 2,
    ),
    "slow": (lambda: torch.ops.aten._slow_conv2d_forward(IMAGES, FILTER, [3, 3], None, [1, 1], [0, 0]), 21600 * 2),
    "few distances": (lambda: torch.cdist(LEFT, LEFT), 3 * M * M * K),
    "many distances": (lambda: torch.cdist(MANY, MANY), 3 * 40 * 40 * K),
    "distances within": (lambda: F.pdist(LEFT), 3 * M * (M - 1) / 2 * K),
    "fft": (lambda: torch.fft.fft(torch.complex(*torch.rand(2, 9, 64))), 5 * 9 * 64 * 6),
    "real fft": (lambda: torch.fft.rfft(torch.rand(9, 64)), 2.5 * 9 * 64 * 6),
    "back to real": (lambda: torch.fft.irfft(torch.rand(9, 33) + 0j), 2.5 * 9 * 64 * 6),
    "fft of images": (lambda: torch.fft.rfft2(torch.rand(9, 8, 16)), 2.5 * 9 * 128 * 7),
    "grid": (lambda: F.grid_sample(IMAGES, GRID, align_corners=False), 2 * 4 * 2 * 25 * 3),
    "bilinear resize": (lambda: F.interpolate(IMAGES, scale_factor=2, mode="bilinear"), 2 * 4 * IMAGES.numel() * 4),
    "smooth resize": (
        lambda: F.interpolate(IMAGES, size=(4, 4), mode="bilinear", antialias=True),
        2 * 6 * (2 * 3 * 12 * 4 + 2 * 3 * 4 * 4),  # a filter of 2 x 12 / 4 values, along the rows and the columns
    ),
    "bags": (lambda: F.embedding_bag(torch.arange(6).view(2, 3), RIGHT.new_zeros(9, 8), mode="sum"), 6 * 8),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOPS)
def test_an_operator_in_closed_form(name: str) -> None:
    fn, flops = FLOPS[name]
    work = count(fn)
    assert (work.dense_flops, work.unknown) == (flops, ())


def test_backward_of_distances_grids_and_resizes() -> None:
    assert gradients(torch.cdist, LEFT, LEFT + 1).dense_flops == 2 * 3 * M * M * K
    assert gradients(F.pdist, LEFT).dense_flops == 3 * M * (M - 1) / 2 * K
    grid = gradients(F.grid_sample, IMAGES, GRID, align_corners=False)
    assert grid.dense_flops == 2 * 2 * 4 * 2 * 25 * 3  # that of the images and that of the grid
    resize = gradients(F.interpolate, IMAGES, scale_factor=2, mode="bilinear")
    assert resize.dense_flops == 2 * 4 * IMAGES.numel() * 4
    bilinear = gradients(F.bilinear, LEFT, LEFT, torch.rand(7, K, K))
    assert bilinear.dense_flops >= 3 * 2 * M * 7 * K * K


def test_an_embedding_moves_the_rows_that_it_is_asked_for() -> None:
    table, asked = torch.rand(1000, 8), torch.arange(6)
    assert count(F.embedding, asked, table).moved_bytes == 2 * 6 * 8 * FLOAT + 6 * 8
    bag = count(F.embedding_bag, asked.view(2, 3), table, mode="sum")
    assert bag.moved_bytes < 1000


def test_inference_mode_costs_what_it_costs_without_gradients() -> None:
    """Torch shows a mode whole layers there, and not what they consist of."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 5)
    )
    with torch.no_grad():
        expected = count(model, IMAGES)
    with torch.inference_mode():
        found = count(model, IMAGES.clone())
    assert (found, found.unknown) == (expected, ())
    assert found.dense_flops == 43200 + 2 * 2 * 100 * 5


# --- what is known ----------------------------------------------------------------------------------------------------

ARITHMETIC = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
ARITHMETIC += (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer)
ALL = layers()


def test_every_layer_of_torch_is_there() -> None:
    names = {name for name in nn.modules.__all__ if not name.startswith("Lazy")}
    assert {name.partition(":")[0] for name in ALL} == names - NOT_LAYERS


def played(layer: Layer, *, learns: bool) -> Work:
    """Forward and backward, or forward alone as an evaluation has it."""
    module, inputs = layer.make(), layer.inputs()
    if not learns:
        with torch.no_grad():
            return count(module.eval(), *inputs)

    def both() -> None:
        out = module(*(inputs[0].requires_grad_(inputs[0].is_floating_point()), *inputs[1:]))
        found = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.requires_grad]
        torch.autograd.backward([leaf.sum() for leaf in found])

    return count(both)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("learns", [True, False])
def test_no_layer_has_an_operator_that_the_counter_does_not_know(learns: bool) -> None:
    works = {name: played(layer, learns=learns) for name, layer in ALL.items()}
    assert {name: work.unknown for name, work in works.items() if work.unknown} == {}
    idle = [name for name, work in works.items() if work == Work() and name != "Identity"]
    assert [
        name for name in idle if learns or not ("Dropout" in name or name == "Flatten")
    ] == []  # without effect there
    silent = [name for name, layer in ALL.items() if isinstance(layer.make(), ARITHMETIC) and not flops_of(works[name])]
    assert silent == []


def flops_of(work: Work) -> int:
    return work.dense_flops + work.depthwise_flops


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "RMSprop", "NAdam"])
@pytest.mark.parametrize("foreach", [False, True])
def test_no_optimizer_has_one_either(name: str, foreach: bool) -> None:
    weight = nn.Parameter(torch.rand(3, 3))
    weight.grad = torch.rand(3, 3)
    optimizer = getattr(torch.optim, name)([weight], lr=0.1, foreach=foreach)
    assert count(optimizer.step).unknown == ()


def test_an_operator_of_which_nothing_is_known_counts_its_bytes_and_is_named_once() -> None:
    square = torch.rand(8, 8)

    def twice() -> None:
        torch.linalg.svd(square)
        torch.linalg.svd(square)

    work = count(twice)
    assert work.unknown == ("aten::_linalg_svd",)
    assert work.moved_bytes >= 2 * 4 * 8 * 8
    assert (work + work).unknown == work.unknown


def test_a_users_operator_is_known_once_its_formula_is_registered() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        @torch.library.custom_op("splitbed_test::twice", mutates_args=())
        def twice(x: Tensor) -> Tensor:
            return x + x

    assert count(twice, LEFT).unknown == ("splitbed_test::twice",)
    packet = torch.ops.splitbed_test.twice
    try:

        @register_flop_formula(packet)
        def flops(*_: Any, **__: Any) -> int:
            return 3 * M * K

        work = count(twice, LEFT)
    finally:
        flop_registry.pop(packet, None)
    assert (work.dense_flops, work.unknown) == (3 * M * K, ())
