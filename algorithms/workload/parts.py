"""The parts of one task's model, client half, server half and auxiliary, with their initial weights.

A node builds the structure of a part on the meta device, without memory for weights, and reads the weights of that
part alone from a file: a client never holds what is the server's. The files are written once, before nodes start.
Without a folder of files the whole model is built in process, which gives the same weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import nn

from algorithms.data.user_objects import guarded
from algorithms.models.lora import adapt, is_matrix
from algorithms.models.lora_options import lora_options
from algorithms.models.weights import read_weights
from algorithms.workload import auxiliaries, models, split
from algorithms.workload.auxiliaries import AuxiliarySpec
from algorithms.workload.cut_costs import chosen, cuts
from algorithms.workload.cutting import Given, Layered, cuttable, result_shape
from algorithms.workload.models import ModelShapes
from emulator.compute.counting import uncounted
from emulator.errors import UserError
from emulator.host.resources import filling
from emulator.transport.messages import StateDict

LAYOUT = "auxiliary.json"


class Parts(NamedTuple):
    """Model, cut and auxiliary by name, "" for the defaults; ``folder``: where ``write`` wrote them, or "";
    ``init``: a file of the whole model's weights, or "" for those that the seed draws; ``lora``: its adapters."""

    model: str
    cut: str
    aux: str
    sizes: ModelShapes
    seed: int
    folder: str = ""
    init: str = ""
    lora: str = ""

    def half(self, which: str) -> nn.Module:
        """The ``client``'s or the ``server``'s half, in train mode."""
        if self.folder:
            return self._filled(self._skeleton().half(self.cut, which), which)
        return self._built().half(self.layout().cut, which)

    def full_model(self) -> nn.Module:
        """The model in one piece, in train mode."""
        if self.folder:
            return self._filled(self._bare(), *split.HALVES)
        return self._whole()

    def auxiliary(self) -> nn.Module:
        """The auxiliary, in train mode."""
        if self.folder:
            about = msgspec.json.decode((Path(self.folder) / LAYOUT).read_bytes(), type=AuxiliarySpec)
            return self._filled(auxiliaries.meta_auxiliary(about, self.sizes), "auxiliary")
        return auxiliaries.build_auxiliary(self.layout(), self.sizes, self.seed)

    def divide(self, state: StateDict) -> dict[str, StateDict]:
        """The state of the whole model as ``{"client": ..., "server": ...}``."""
        client = self._stored("client") if self.folder else self.half("client").state_dict()
        return split.divide_state(state, set(client))

    def write(self, folder: Path) -> Parts:
        """Write the initial weights of all parts to ``folder``; the parts to give to nodes, all by name.

        UserError, one line, for a model, cut or auxiliary that cannot be, or halves that are not the model.
        """
        about = self.layout()
        traced = self._built()
        halves: dict[str, nn.Module] = {which: traced.half(about.cut, which) for which in split.HALVES}
        modules = {**halves, "auxiliary": auxiliaries.build_auxiliary(about, self.sizes, self.seed)}
        _check_joined(self, about, traced, modules)
        if not any(parameter.requires_grad for parameter in traced.module.parameters()):
            raise UserError(f"model: {self.model} trains nothing: all its parameters are frozen (requires_grad)")
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in modules.items():
            with filling():
                torch.save(dict(module.state_dict()), folder / f"{name}.pt")
        (folder / LAYOUT).write_text(json.dumps(msgspec.to_builtins(about)))
        return self._replace(cut=about.cut, aux=about.kind, folder=str(folder))

    def frozen(self) -> tuple[int, int]:
        """How many of how many parameters the model does not train."""
        parameters = list(self._bare().parameters())
        return sum(p.numel() for p in parameters if not p.requires_grad), sum(p.numel() for p in parameters)

    def layout(self) -> AuxiliarySpec:
        """The auxiliary's layout, and so the cut, with defaults filled in."""
        cut = chosen(self.model, self.cut, cuts(self.model, self.sizes))
        return auxiliaries.auxiliary_spec(self.aux, self.model, cut, self.sizes)

    def _skeleton(self) -> split.Traced | Layered | Given:
        return cuttable(self._bare(), self.model)

    def _built(self) -> split.Traced | Layered | Given:
        return cuttable(self._whole(), self.model)

    def _whole(self) -> nn.Module:
        """The model with its initial weights: the seed's, or those of ``init``."""
        model = models.build_model(self.model, self.sizes, self.seed)
        if self.lora:
            model = models.seeded(lambda: self._adapted(model), self.seed, f"{models.stream_name(self.model)}:lora")
        if self.init:
            state = model.state_dict()
            models.load_state(model, {**state, **read_weights(self.init, state, may_lack=is_matrix)})
        return model

    def _bare(self) -> nn.Module:
        """The model on the meta device, without weights."""
        with models.on_meta_device():
            return self._adapted(models.meta_model(self.model, self.sizes))

    def _adapted(self, model: nn.Module) -> nn.Module:
        return adapt(model, lora_options(self.lora), self.model) if self.lora else model

    @uncounted()
    def _stored(self, name: str) -> StateDict:
        """A part's initial weights, mapped from its file: nothing is read before it is looked at."""
        state: StateDict = torch.load(Path(self.folder) / f"{name}.pt", mmap=True, weights_only=True)
        return state

    @uncounted()
    def _filled(self, module: nn.Module, *names: str) -> nn.Module:
        """A skeleton with memory, and in it the weights of the files ``names``, copied; strict, so none is garbage."""
        module.to_empty(device="cpu")
        models.load_state(module, {key: tensor for name in names for key, tensor in self._stored(name).items()})
        return module


def _check_joined(
    parts: Parts, about: AuxiliarySpec, built: split.Traced | Layered | Given, modules: dict[str, nn.Module]
) -> None:
    """UserError unless the halves compute what the whole does, bit for bit, and have all of its state between them, and
    the auxiliary returns what the whole does by shape."""
    whole = built.module
    client, server, auxiliary = (modules[name] for name in (*split.HALVES, "auxiliary"))
    keys = [*client.state_dict(), *server.state_dict()]
    x = parts.sizes.example(2)
    others = parts.sizes.other_examples(2) if isinstance(built, Given) else []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        expected, z = guarded("model", parts.model, lambda: (whole.eval()(x), client.eval()(x.clone())))
        result_shape(parts.model, parts.sizes, expected, len(x))
        if not isinstance(z, torch.Tensor) or len(z) != len(x):
            raise UserError(f"cut: {parts.model}: its client returns no tensor [B, ...] at {about.cut}: cut elsewhere")
        joined = guarded("cut", parts.model, lambda: server.eval()(z.clone()))
        guessed = guarded("aux", about.kind, lambda: auxiliary.eval()(z.clone()))
        alike = _same(expected, joined) and all(_joins(parts.model, whole, client, server, other) for other in others)
    for module in (whole, *modules.values()):
        module.train()
    if sorted(keys) != sorted(whole.state_dict()) or not alike:
        how = "take another cut, or let split(model, cut) return halves that do in turn what forward does"
        raise UserError(f"cut: {parts.model} cut after {about.cut} is not the model it was: {how}")
    result_shape(about.kind, parts.sizes, guessed, len(x), "aux")


def _joins(model: str, whole: nn.Module, client: nn.Module, server: nn.Module, x: torch.Tensor) -> bool:
    """Whether the halves do with ``x`` what the whole does. A whole that fails takes no such values, which its data may
    never have, such as a negative index of an embedding: then there is nothing to compare."""
    try:
        expected = whole(x.clone())
    except Exception:
        return True
    return _same(expected, guarded("cut", model, lambda: server(client(x.clone()))))


def _same(one: torch.Tensor, other: Any) -> bool:
    """Whether two outputs are equal bit for bit; NaN, such as a logarithm's of a negative value, is equal to NaN."""
    if not isinstance(other, torch.Tensor) or (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
