"""FLOPs of torch's operators on the CPU, by formulas of their shapes.

- Operators that use each operand many times, so that arithmetic decides (products, convolutions, recurrent layers,
  attention, distances), count FLOPs alone. Those that use it a few times (FFT, sampling between grid points, sums of
  embeddings) count FLOPs and bytes.
- A multiply-add is two FLOPs, four times as much between complex numbers, and the same for every real type.
- ``aten.convolution`` is what is dispatched, whatever kernel carries it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count

from emulator.compute.device import Work

RESULT = "result of the operator"
Given = Mapping[str, Any]  # an operator's arguments by the names of its schema, and ``RESULT``
Formula = Callable[[Given], Work]


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in a nest of lists, tuples and dictionaries."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _product(flops: int, operand: torch.Tensor) -> Work:
    return Work(operations=1, dense_flops=4 * flops if operand.is_complex() else flops)


def _matrices(left: str, right: str) -> Formula:
    """[.., M, K] by [K] or [.., K, N]: each value of the result has K multiply-adds, summed over what is summed."""

    def formula(given: Given) -> Work:
        a, b = given[left], given[right]
        columns = b.shape[-1] if b.dim() > 1 else 1
        return _product(2 * a.numel() * columns, a)

    return formula


def _transposed_weight(left: str, right: str) -> Formula:
    """[.., K] by the transpose of [N, K]."""
    return lambda given: _product(2 * given[left].numel() * given[right].shape[0], given[left])


def _outer(given: Given) -> Work:
    return _product(2 * given[RESULT].numel(), given[RESULT])


def _trilinear(given: Given) -> Work:
    """Two products in turn, i1 by i2 and that by i3; an index in ``expand`` is one that a tensor does not have.

    Of a ``nn.Bilinear``: 2 B O I J + 2 B O J. What i3 lacks is summed in the first.
    """
    tensors = [given["i1"], given["i2"], given["i3"]]
    lacks = [set(given["expand1"]), set(given["expand2"]), set(given["expand3"])]
    sizes = [1] * (tensors[0].dim() + len(lacks[0]))
    for tensor, missing in zip(tensors, lacks, strict=True):
        present = [index for index in range(len(sizes)) if index not in missing]
        for index, size in zip(present, tensor.shape, strict=True):
            sizes[index] = max(sizes[index], size)
    summed_first = set(given["sumdim"]) & lacks[2]
    first = math.prod(size for index, size in enumerate(sizes) if index not in lacks[0] & lacks[1])
    second = math.prod(size for index, size in enumerate(sizes) if index not in summed_first)
    return _product(2 * (first + second), tensors[0])


def _convolved(flops: int, weight: torch.Tensor, groups: int) -> Work:
    """Devices have a rate of their own for depthwise ones."""
    depthwise = groups > 1 and weight.shape[1] == 1
    return Work(1, 0, int(flops)) if depthwise else Work(1, int(flops))


def _convolution(source: str, transposed: bool = False) -> Formula:
    def formula(given: Given) -> Work:
        x, w = given[source], given["weight"]
        flops = conv_flop_count(x.shape, w.shape, given[RESULT].shape, given.get("transposed", transposed))
        return _convolved(flops, w, given.get("groups", 1))

    return formula


def _convolution_backward(given: Given) -> Work:
    """Each gradient asked for costs as much as the forward, for any ``groups``: torch's own formula counts a depthwise
    one 65 times too dear."""
    grad, x, w = given["grad_output"], given["input"], given["weight"]
    forward = conv_flop_count(x.shape, w.shape, grad.shape, given["transposed"])
    return _convolved(forward * sum(given["output_mask"][:2]), w, given["groups"])


def _deformed_convolution(given: Given) -> Work:
    return Work(1, int(conv_flop_count(given["input"].shape, given["weight"].shape, given[RESULT].shape)))


def _recurrent(weights: tuple[str, str], times: int) -> Formula:
    """One layer in one direction: each step of each sequence is multiplied by both matrices, [4H, I] and [4H, H].

    The gates are a part of the kernel and not counted. Backward: the gradients of operands and of weights.
    """

    def formula(given: Given) -> Work:
        steps = math.prod(given["input"].shape[:-1])
        return Work(1, times * 2 * steps * sum(given[weight].numel() for weight in weights))

    return formula


def _attended(query: int, key: int, causal: bool) -> int:
    """Pairs of a query and a key that it attends to: causal, query i the first i + 1."""
    if not causal:
        return query * key
    few = min(query, key)
    return few * (few + 1) // 2 + (query - few) * key


def _attention(scores: int, values: int) -> Formula:
    """Products over the D of queries and keys and over the D of values, by how often the kernel has either.

    Forward: scores, then values: 4 B H L S D. Backward: the kernel computes the scores anew, 10 B H L S D. The kernel
    passes over what causality leaves out, so that is not counted; under a mask it computes all. Softmax is a part of
    the kernel.
    """

    def formula(given: Given) -> Work:
        query, key, value = given["query"], given["key"], given["value"]
        pairs = _attended(query.shape[-2], key.shape[-2], given["is_causal"]) * math.prod(query.shape[:-2])
        return Work(1, 2 * pairs * (scores * query.shape[-1] + values * value.shape[-1]))

    return formula


def _whole_attention(source: str, *weights: str) -> Formula:
    """Layers that are one operator where nothing is learnt: linear layers and attention over [B, L, E].

    Of sequences of unequal length, as if all had their mean.
    """

    def formula(given: Given) -> Work:
        x = given[source]
        rows = x.numel() // given["embed_dim"]
        scores = rows * (rows // x.size(0))
        linear = rows * sum(given[weight].numel() for weight in ("qkv_weight", "proj_weight", *weights))
        return Work(1, 2 * linear + 4 * scores * given["embed_dim"])

    return formula


def _distances(coordinates: Callable[[Given], int]) -> Formula:
    """A difference, its power and a sum for each pair and coordinate; the gradient alike."""
    return lambda given: Work(1, 3 * coordinates(given))


def _pairs_of_one(given: Given) -> int:
    rows, columns = given["self"].shape
    return int(rows * (rows - 1) // 2 * columns)


def _touched(flops: float, given: Given) -> Work:
    return Work(1, int(flops), moved_bytes=tensor_bytes(tuple(given.values())))


def _fourier(real: str) -> Formula:
    """5 N log2 N for N complex points, half of that where input or output is ``real`` (the convention of FFTW, of the
    radix-2 algorithm: Frigo and Johnson, The Design and Implementation of FFTW3, Proc. IEEE 93, 2005)."""

    def formula(given: Given) -> Work:
        points = given[RESULT] if real == "out" else given["self"]
        length = math.prod(points.shape[dim] for dim in given["dim"])
        each = 5.0 if real == "" else 2.5
        return _touched(each * points.numel() * math.log2(max(length, 1)), given)

    return formula


def _sampled(given: Given) -> Work:
    """A multiply-add for each neighbour: 2^d between the nearest, 4^d cubic, none where one value is copied; the same
    for either gradient."""
    grid, channels = given["grid"], given["input"].shape[1]
    positions, dimensions = grid.numel() // grid.shape[-1], grid.shape[-1]
    neighbours = {0: 2**dimensions, 1: 0, 2: 4**dimensions}[given["interpolation_mode"]]
    times = sum(given.get("output_mask", (True,)))
    return _touched(2 * neighbours * positions * channels * times, given)


def _affine_grid(given: Given) -> Work:
    """Each position by a matrix of d rows and d + 1 columns."""
    return _product(2 * given[RESULT].numel() * (given[RESULT].shape[-1] + 1), given[RESULT])


def _resized(neighbours: int, source: str = "") -> Formula:
    """A multiply-add for each neighbour of each value of the larger image's side of the operator."""

    def formula(given: Given) -> Work:
        values = given[source].numel() if source else given[RESULT].numel()
        return _touched(2 * neighbours * values, given)

    return formula


def _resized_smoothly(neighbours: int, source: str = "") -> Formula:
    """First along the rows and then along the columns; the filter widens as the image becomes smaller."""

    def formula(given: Given) -> Work:
        large = given["input_size"] if source else given["self" if "self" in given else "input"].shape
        height, width = (given[source] if source else given[RESULT]).shape[-2:]
        across, down = (neighbours * max(n / m, 1.0) for n, m in ((large[3], width), (large[2], height)))
        images = large[0] * large[1]
        return _touched(2 * images * width * (large[2] * across + height * down), given)

    return formula


def _looked_up(given: Given) -> Work:
    """The rows asked for, not the table: read and written."""
    return Work(
        1, moved_bytes=2 * given[RESULT].numel() * given[RESULT].element_size() + tensor_bytes(given["indices"])
    )


def _bags(given: Given) -> Work:
    """A sum over the rows of each bag, weighted or not; of the table the rows asked for."""
    weight, indices = given["weight"], given["indices"]
    values = indices.numel() * weight.shape[1]
    each = 1 if given["per_sample_weights"] is None else 2
    rest = tensor_bytes((indices, given["offsets"], given["per_sample_weights"], given[RESULT][0]))
    return Work(1, each * values, moved_bytes=values * weight.element_size() + rest)


def _bags_backward(given: Given) -> Work:
    grad, indices = given["grad"], given["indices"]
    return Work(1, indices.numel() * grad.shape[1], moved_bytes=tensor_bytes((grad, indices, given[RESULT])))


FORMULAS: dict[str, Formula] = {
    "aten::mm": _matrices("self", "mat2"),
    "aten::addmm": _matrices("mat1", "mat2"),
    "aten::bmm": _matrices("self", "mat2"),
    "aten::baddbmm": _matrices("batch1", "batch2"),
    "aten::addbmm": _matrices("batch1", "batch2"),
    "aten::mv": _matrices("self", "vec"),
    "aten::addmv": _matrices("mat", "vec"),
    "aten::dot": _matrices("self", "tensor"),
    "aten::vdot": _matrices("self", "other"),
    "aten::addr": _outer,
    "aten::_int_mm": _matrices("self", "mat2"),
    "aten::_addmm_activation": _matrices("mat1", "mat2"),
    "aten::linear": _transposed_weight("input", "weight"),
    "aten::mkldnn_linear": _transposed_weight("self", "weight"),
    "aten::_weight_int8pack_mm": _transposed_weight("self", "mat2"),
    "aten::_trilinear": _trilinear,
    "aten::convolution": _convolution("input"),
    "aten::_convolution": _convolution("input"),
    "aten::mkldnn_convolution": _convolution("self"),
    "aten::_nnpack_spatial_convolution": _convolution("input"),
    "aten::_slow_conv2d_forward": _convolution("self"),
    "aten::slow_conv3d_forward": _convolution("self"),
    "aten::slow_conv_dilated2d": _convolution("self"),
    "aten::slow_conv_dilated3d": _convolution("self"),
    "aten::slow_conv_transpose2d": _convolution("self", transposed=True),
    "aten::slow_conv_transpose3d": _convolution("self", transposed=True),
    "aten::conv_tbc": lambda given: Work(1, 2 * math.prod(given[RESULT].shape[:2]) * given["weight"].numel()),
    "aten::convolution_backward": _convolution_backward,
    "torchvision::deform_conv2d": _deformed_convolution,
    "aten::mkldnn_rnn_layer": _recurrent(("weight0", "weight1"), 1),
    "aten::mkldnn_rnn_layer_backward": _recurrent(("weight1", "weight2"), 2),
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention(1, 1),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": _attention(3, 2),
    "aten::_native_multi_head_attention": _whole_attention("query"),
    "aten::_transformer_encoder_layer_fwd": _whole_attention("src", "ffn_weight_1", "ffn_weight_2"),
    "aten::_cdist_forward": _distances(lambda given: given[RESULT].numel() * given["x1"].shape[-1]),
    "aten::_cdist_backward": _distances(lambda given: given["cdist"].numel() * given["x1"].shape[-1]),
    "aten::_euclidean_dist": _distances(lambda given: given[RESULT].numel() * given["x1"].shape[-1]),
    "aten::_pdist_forward": _distances(_pairs_of_one),
    "aten::_pdist_backward": _distances(_pairs_of_one),
    "aten::_fft_c2c": _fourier(""),
    "aten::_fft_r2c": _fourier("in"),
    "aten::_fft_c2r": _fourier("out"),
    **{
        f"aten::{kind}{way}": _sampled
        for kind in ("grid_sampler_2d", "_grid_sampler_2d_cpu_fallback", "grid_sampler_3d")
        for way in ("", "_backward")
    },
    "aten::affine_grid_generator": _affine_grid,
    "aten::embedding": _looked_up,
    "aten::_embedding_bag": _bags,
    "aten::_embedding_bag_forward_only": _bags,
    "aten::_embedding_bag_backward": _bags_backward,
    "aten::_embedding_bag_dense_backward": _bags_backward,
}
for _kind_of_resize, _neighbours in {"linear1d": 2, "bilinear2d": 4, "trilinear3d": 8, "bicubic2d": 16}.items():
    FORMULAS[f"aten::upsample_{_kind_of_resize}"] = _resized(_neighbours)
    FORMULAS[f"aten::upsample_{_kind_of_resize}_backward"] = _resized(_neighbours, "grad_output")
for _kind_of_resize, _neighbours in {"bilinear2d": 2, "bicubic2d": 4}.items():
    FORMULAS[f"aten::_upsample_{_kind_of_resize}_aa"] = _resized_smoothly(_neighbours)
    FORMULAS[f"aten::_upsample_{_kind_of_resize}_aa_backward"] = _resized_smoothly(_neighbours, "grad_output")
