"""Low-rank adapters: a layer keeps its weight, and a product of two small matrices beside it is trained.

    y = layer(x) + alpha / rank · B(A(dropout(x)))      A [rank, in], uniform in ±1/√in;  B [out, rank], zero at first

E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, https://arxiv.org/abs/2106.09685. Of a
convolution A has its kernel, stride and padding, and B is 1x1. A layer is adapted in place: its weight keeps its name
and place in the model, so that a model's initial weights and cuts are those without adapters; its matrices are
``NAME.lora_A`` and ``NAME.lora_B``. Masks of dropout are drawn as those of the model's own dropout layers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from algorithms.models.lora_options import LoraOptions
from emulator.errors import UserError

MATRICES = ("lora_A", "lora_B")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MOST_NAMED = 8  # layers, in one line


class Adapted(nn.Module):
    """What an adapted layer has besides: mixed in before the layer's own class."""

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    lora_options: LoraOptions

    def forward(self, x: Tensor) -> Tensor:
        options, p = self.lora_options, self.lora_options.dropout
        given = functional.dropout(x, p, self.training) if p else x
        whole: Tensor = super().forward(x)
        return torch.add(whole, self.update(given), alpha=options.alpha / options.rank)

    def update(self, x: Tensor) -> Tensor:
        """B(A(x))."""
        return functional.linear(functional.linear(x, self.lora_A), self.lora_B)

    def extra_repr(self) -> str:
        options = self.lora_options
        return f"{super().extra_repr()}, rank={options.rank}, alpha={options.alpha:g}, dropout={options.dropout:g}"


class AdaptedConvolution(Adapted):
    """The same of a convolution."""

    stride: Any
    padding: Any
    dilation: Any

    def update(self, x: Tensor) -> Tensor:
        convolve = getattr(functional, f"conv{self.lora_A.dim() - 2}d")
        found: Tensor = convolve(convolve(x, self.lora_A, None, self.stride, self.padding, self.dilation), self.lora_B)
        return found


def adapt(module: nn.Module, options: LoraOptions, model: str) -> nn.Module:
    """``module`` with adapters beside the layers that ``options`` name, all else frozen but what they train; the same
    object. Matrices are drawn from the generator as it stands. UserError, naming ``model``, where names match nothing,
    or the rank is above a layer's smaller side."""
    layers = {name: layer for name, layer in module.named_modules() if _sides(layer) is not None}
    by_weight = _used_by_weight(module)
    usable = {name: layer for name, layer in layers.items() if name not in by_weight}
    if not usable:
        raise UserError(f"lora: {model} has no linear layer or convolution of its own: leave --lora out")
    inner = {name: part for name, part in module.named_modules() if name}
    whole = [part for name in options.trained for part in _matching("train", name, inner, model).values()]
    trained = {id(parameter) for part in whole for parameter in part.parameters()}
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in trained)
    chosen = {name: layer for name, layer in usable.items() if not isinstance(layer, CONVOLUTIONS)}
    if options.targets:
        chosen = {}
        for target in options.targets:
            chosen |= _matching("target", target, usable, model)
    for name, layer in chosen.items():
        if not any(id(parameter) in trained for parameter in layer.parameters()):
            _adapt_layer(name, layer, options)
    if not any(isinstance(layer, Adapted) for layer in module.modules()):
        raise UserError(f"lora: {model} has no linear layer that is not trained whole: say target={_some(usable)}")
    if any(isinstance(layer, nn.TransformerEncoderLayer) for layer in module.modules()):
        torch.backends.mha.set_fastpath_enabled(False)  # it goes by weights, past the layers
    return module


def is_matrix(name: str) -> bool:
    """Whether a name in a state is of an adapter."""
    return name.rpartition(".")[2] in MATRICES


def _matching(key: str, name: str, among: dict[str, nn.Module], model: str) -> dict[str, nn.Module]:
    """The modules of this name, or whose names end with it; UserError where there is none."""
    found = {other: module for other, module in among.items() if f".{other}".endswith(f".{name}")}
    if not found:
        raise UserError(f"lora: {key}: {name!r} matches nothing in {model}: say {_some(among)}")
    return found


def _some(names: dict[str, nn.Module]) -> str:
    ends = list(dict.fromkeys(name if name[-1].isdigit() else name.rpartition(".")[2] for name in names))
    return " or ".join(ends[:MOST_NAMED]) + (" …" if len(ends) > MOST_NAMED else "")


def _used_by_weight(module: nn.Module) -> set[str]:
    """The layers that torch's attention has for their weights: it never calls them."""
    found = [name for name, layer in module.named_modules() if isinstance(layer, nn.MultiheadAttention)]
    return {f"{name}.out_proj" if name else "out_proj" for name in found}


def _sides(layer: nn.Module) -> tuple[int, int] | None:
    """What A takes and what B gives, in values; None for a layer that has no adapter."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, CONVOLUTIONS) and layer.groups == 1 and layer.padding_mode == "zeros":
        return layer.in_channels * math.prod(layer.kernel_size), layer.out_channels
    if type(layer).__name__ == "Conv1D" and type(layer).__module__.startswith("transformers."):  # of GPT-2: [in, out]
        inputs, outputs = layer.weight.shape  # type: ignore[misc]
        return int(inputs), int(outputs)
    return None


def _adapt_layer(name: str, layer: nn.Module, options: LoraOptions) -> None:
    sides, weight = _sides(layer), layer.weight
    assert sides is not None and isinstance(weight, Tensor)
    inputs, outputs = sides
    if options.rank > min(sides):
        raise UserError(
            f"lora: rank {options.rank} is above {min(sides)}, the smaller side of {name}: say less, or another target"
        )
    kernel: Sequence[int] = layer.kernel_size if isinstance(layer, CONVOLUTIONS) else ()
    taken = (layer.in_channels, *kernel) if isinstance(layer, CONVOLUTIONS) else (inputs,)
    bound, changed = 1 / math.sqrt(inputs), cast(Any, layer)
    changed.lora_A = nn.Parameter(weight.new_empty(options.rank, *taken).uniform_(-bound, bound))
    changed.lora_B = nn.Parameter(weight.new_zeros(outputs, options.rank, *([1] * len(kernel))))
    changed.lora_options = options
    changed.__class__ = _adapted(cast(Any, type(layer)))


@functools.cache
def _adapted(own: type[nn.Module]) -> type[nn.Module]:
    mixed = AdaptedConvolution if issubclass(own, CONVOLUTIONS) else Adapted
    return type(f"Lora{own.__name__}", (mixed, own), {})
