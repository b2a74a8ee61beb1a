"""Where a model can be cut, by its graph, between the layers of a sequence, or as a function of its author says.

A shipped model is cut by its graph (``split``). So is a user's, unless ``split(model, cut) -> (client, server)`` stands
beside it; one that cannot be traced is cut between its layers where it is an ``nn.Sequential``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from algorithms.data import user_objects
from algorithms.workload.models import ModelShapes
from algorithms.workload.split import NORMS, CutPoint, Traced, named
from emulator.errors import UserError

SPLIT, CUTS = "split", "CUTS"  # what may stand beside a user's model
UNNAMED = "split"  # the cut of a function where there are no CUTS


def cuttable(module: nn.Module, model: str) -> Traced | Layered | Given:
    """The model with the points where it can be cut; UserError where there are none."""
    if not user_objects.is_named(model):
        return Traced(module, model)
    divide = user_objects.beside("model", model, SPLIT)
    if divide is not None:
        return Given(module, model, divide, user_objects.beside("model", model, CUTS))
    try:
        return Traced(module, model)
    except UserError:
        if isinstance(module, nn.Sequential) and len(module) > 1:
            return Layered(module, model)
        raise


def result_shape(model: str, sizes: ModelShapes, output: Any, samples: int, what: str = "model") -> None:
    """UserError unless ``output``, of so many samples, is one tensor of what a model must return."""
    expected = [samples, *sizes.result]
    if not isinstance(output, torch.Tensor):
        raise UserError(
            f"{what}: {model} returns a {type(output).__name__}: its forward must return one tensor, the output alone"
        )
    if list(output.shape) != expected:
        lacks = ", without a batch dimension" if output.ndim < 2 or len(output) != samples else ""
        raise UserError(
            f"{what}: {model} returns {list(output.shape)} for a batch of {samples}{lacks}: it must return {expected}"
        )


class Layered:
    """A sequence of layers, cut behind each of them that is not the last."""

    def __init__(self, module: nn.Sequential, model: str) -> None:
        self.module, self.model = module.train(), model
        names = [name for name, _ in module.named_children()]
        sizes = [sum(parameter.numel() for parameter in layer.parameters()) for layer in module]
        self.points = [
            CutPoint(name, (), "", sum(sizes[: place + 1]), sum(sizes[place + 1 :]), names[place + 1], norm)
            for place, name in enumerate(names[:-1])
            for norm in [isinstance(module[place + 1], NORMS)]
            if sum(sizes[: place + 1]) and sum(sizes[place + 1 :])
        ]

    def half(self, cut: str, which: str) -> nn.Module:
        """The client's or the server's half; it shares parameters and buffers with the model."""
        layers = list(self.module.named_children())
        end = [name for name, _ in layers].index(named(self.model, cut, self.points).name) + 1
        return nn.Sequential(OrderedDict(layers[:end] if which == "client" else layers[end:]))


class Given:
    """A model and the function of its author that gives its halves; ``cuts``: the names that it knows, or None."""

    def __init__(self, module: nn.Module, model: str, divide: Callable[..., Any], cuts: Any) -> None:
        self.module, self.model, self._divide = module.train(), model, divide
        self._cuts = [str(cut) for cut in cuts] if cuts else [UNNAMED]
        self._halves: dict[str, tuple[GivenHalf, GivenHalf]] = {}
        self.points = [self._point(cut) for cut in self._cuts]

    def half(self, cut: str, which: str) -> nn.Module:
        """The client's or the server's half; it shares parameters and buffers with the model."""
        client, server = self._divided(named(self.model, cut, self.points).name)
        return client if which == "client" else server

    def _point(self, cut: str) -> CutPoint:
        client, server = (sum(tensor.numel() for tensor in half.parameters()) for half in self._divided(cut))
        return CutPoint(cut, (), "", client, server, "", False)

    def _divided(self, cut: str) -> tuple[GivenHalf, GivenHalf]:
        if cut not in self._halves:
            self._halves[cut] = self._made(cut)
        return self._halves[cut]

    def _made(self, cut: str) -> tuple[GivenHalf, GivenHalf]:
        where = f"cut: {self.model}: split(model, {cut!r})"
        made = user_objects.guarded("cut", self.model, lambda: self._divide(self.module, cut))
        if not (isinstance(made, tuple) and len(made) == 2 and all(isinstance(half, nn.Module) for half in made)):
            raise UserError(f"{where} returns no (client, server), two nn.Modules")
        whole: dict[int, list[str]] = {}
        for key, tensor in self.module.state_dict(keep_vars=True).items():
            whole.setdefault(id(tensor), []).append(key)
        sides: list[dict[str, str]] = []
        for half, side in zip(made, ("client", "server"), strict=True):
            own: dict[int, list[str]] = {}
            for key, tensor in half.state_dict(keep_vars=True).items():
                if id(tensor) not in whole:
                    raise UserError(f"{where}: {key} of the {side} is none of the model's: use the model's own layers")
                own.setdefault(id(tensor), []).append(key)
            if not any(True for _ in half.parameters()):
                raise UserError(f"{where}: the {side} has no parameter: cut elsewhere")
            sides.append({key: name for at, keys in own.items() for name, key in zip(keys, whole[at], strict=False)})
        if both := sorted(sides[0].keys() & sides[1].keys()):
            raise UserError(f"{where}: {both[0]} is on both sides: give each half its own layers alone")
        order = [key for keys in whole.values() for key in keys]
        if missing := [key for key in order if key not in sides[0] and key not in sides[1]]:
            raise UserError(f"{where}: {missing[0]} is in neither half")
        client, server = (
            GivenHalf(half, {key: side[key] for key in self.module.state_dict() if key in side}, f"{cut}, {name}")
            for half, side, name in zip(made, sides, ("client", "server"), strict=True)
        )
        return client, server


class GivenHalf(nn.Module):
    """A half of an author's own, with the whole model's names of its weights. ``keys``: the whole's -> its own."""

    def __init__(self, half: nn.Module, keys: dict[str, str], name: str) -> None:
        super().__init__()
        self.inner, self._keys, self._name = half, keys, name

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner(x)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        own = super().state_dict(*args, **kwargs)
        return OrderedDict((key, own[f"inner.{name}"]) for key, name in self._keys.items())

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        renamed = OrderedDict(
            (f"inner.{self._keys[key]}" if key in self._keys else key, value) for key, value in state_dict.items()
        )
        renamed._metadata = getattr(state_dict, "_metadata", None)  # type: ignore[attr-defined]
        return super().load_state_dict(renamed, strict, assign)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        whole = {f"inner.{name}": key for key, name in self._keys.items()}
        return ((whole.get(name, name), tensor) for name, tensor in super().named_parameters(*args, **kwargs))

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, torch.Tensor]]:
        whole = {f"inner.{name}": key for key, name in self._keys.items()}
        return ((whole.get(name, name), tensor) for name, tensor in super().named_buffers(*args, **kwargs))

    def extra_repr(self) -> str:
        return self._name
