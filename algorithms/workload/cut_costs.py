"""Where a model can be cut, and what each cut costs a client: parameters, FLOPs, activations, smashed bytes.

Measured in one training pass over the model's skeleton, which computes no values but chooses the CPU's kernels: FLOPs
as computations are counted in a run (forward; a multiply-add is two), activations as what autograd keeps for the
backward pass, parameters left out.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from algorithms.data import user_objects
from algorithms.workload import models
from algorithms.workload.cutting import SPLIT, cuttable, result_shape
from algorithms.workload.models import ModelShapes
from algorithms.workload.split import CutPoint, Traced, named
from emulator.compute.counting import WorkCounter
from emulator.compute.imagined import Imagined
from emulator.errors import UserError

BATCH = 8  # batch norm needs more than one; what is kept once for a batch counts an eighth a sample
CLASSES = 10

DEFAULTS = {"cnn": "conv2", "cnn1d": "conv1", "simple_conv": "flatten", "tiny-gpt": "blocks.0"}
RESNETS = "layer2"  # the FSL-SAGE authors' cut of ResNet-18
LEAST_SHARE = 0.05  # of the forward FLOPs: a client that computes less has hardly a model


class Cut(NamedTuple):
    """One cut. Bytes and FLOPs are for one sample."""

    point: CutPoint
    smashed: tuple[int, ...]  # shape of z, without the batch
    flops: int
    share: float  # of the whole model's FLOPs
    activation_bytes: int
    smashed_bytes: int

    @property
    def name(self) -> str:
        return self.point.name


def cuts(model: str, sizes: ModelShapes) -> list[Cut]:
    """Every cut of ``model`` for such samples, from the input on.

    UserError where there is no such model or it does not take such samples. Where what follows overwrites z in place
    there is no cut: the server would overwrite a message. Measured once in a process: every part of a task asks.
    """
    return list(_measured(model, sizes))


@functools.lru_cache(maxsize=64)
def _measured(model: str, sizes: ModelShapes) -> tuple[Cut, ...]:
    try:
        made = cuttable(models.meta_model(model, sizes), model)
    except UserError:
        if user_objects.is_named(model) and user_objects.beside("model", model, SPLIT) is None:
            _run(models.build_model(model, sizes, 1), sizes, model)  # a fault of its own, on real samples too, is told
        raise
    try:
        readings, output = _of_graph(made, sizes) if isinstance(made, Traced) else _of_halves(model, sizes)
    except UserError:
        raise
    except Exception as error:  # whatever a layer says to a shape that it does not take
        what = "images" if len(sizes.shape) == 3 and not sizes.vocabulary else "samples"
        raise UserError(f"model: {model} does not take {what} of {sizes} ({models.first_line(error)})") from None
    result_shape(model, sizes, output.value, BATCH)
    whole = output.flops
    found = []
    for point in made.points:
        reading = readings[point.name]
        z = reading.value
        if not isinstance(z, torch.Tensor) or not z.is_floating_point() or z._version != reading.version:
            continue
        if z.ndim < 2 or len(z) != BATCH:  # such as of layers that take the batch second
            continue
        found.append(
            Cut(
                point=point,
                smashed=tuple(z.shape[1:]),
                flops=reading.flops // BATCH,
                share=reading.flops / max(whole, 1),
                activation_bytes=reading.kept_bytes // BATCH,
                smashed_bytes=z.nbytes // BATCH,
            )
        )
    if not found:
        raise UserError(f"model: there is nowhere that {model} can be cut: take another")
    return tuple(found)


def _of_graph(traced: Traced, sizes: ModelShapes) -> tuple[dict[str, _Reading], _Reading]:
    """What each point costs and the whole, of one pass that computes no values."""
    with torch.random.fork_rng(devices=[]), Imagined():
        traced.module.to_empty(device="cpu")
        meter = _Meter(traced)
        meter.measure(sizes.example(BATCH) if sizes.vocabulary else torch.empty(BATCH, *sizes.shape))
    last = list(meter.readings.values())[-1]
    flops = max(reading.flops for reading in meter.readings.values())
    return {point.name: meter.readings[point.node] for point in traced.points}, last._replace(flops=flops)


def _of_halves(model: str, sizes: ModelShapes) -> tuple[dict[str, _Reading], _Reading]:
    """The same of a model that has no graph: a pass of each client half, with values, on which its ways may depend."""
    made = cuttable(models.build_model(model, sizes, 1), model)
    readings = {point.name: _run(made.half(point.name, "client"), sizes, model) for point in made.points}
    return readings, _run(made.module, sizes, model)


def _run(module: nn.Module, sizes: ModelShapes, model: str) -> _Reading:
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.random.fork_rng(devices=[]), hooks, WorkCounter() as counter:
        value = user_objects.guarded("model", model, lambda: module(sizes.example(BATCH)))
    version = value._version if isinstance(value, torch.Tensor) else 0
    return _Reading(value, version, counter.work.dense_flops + counter.work.depthwise_flops, sum(kept.values()))


def default_cut(model: str, found: list[Cut]) -> Cut:
    """Where ``model`` is cut if nobody says: where its tables cut it, else the first cut with so many FLOPs before it.

    Not between a layer and its normalisation, which are one to most people.
    """
    name = DEFAULTS.get(model, RESNETS)
    tables = [cut for cut in found if cut.name == name]
    enough = [cut for cut in found if cut.share >= LEAST_SHARE and not cut.point.before_norm]
    return next(iter(tables + enough), found[-1])


def chosen(model: str, name: str, found: list[Cut]) -> Cut:
    """The cut called ``name``, or the default for ""; UserError with those that exist."""
    if not name:
        return default_cut(model, found)
    point = named(model, name, [cut.point for cut in found])
    return next(cut for cut in found if cut.point is point)


class _Reading(NamedTuple):
    """What was counted up to a node, and its value."""

    value: Any
    version: int
    flops: int
    kept_bytes: int


class _Meter(fx.Interpreter):
    """Runs a traced skeleton in train mode and reads the counters after each node."""

    def __init__(self, traced: Traced) -> None:
        super().__init__(traced.module, garbage_collect_values=False, graph=traced.train_graph)
        self.readings: dict[str, _Reading] = {}
        self._own = {parameter.untyped_storage()._cdata for parameter in traced.module.parameters()}
        self._kept: dict[int, int] = {}
        self._counter = WorkCounter()

    def measure(self, x: torch.Tensor) -> None:
        """Run it on ``x``, an imagined batch."""
        hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        with hooks, self._counter:
            self.run(x)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        version = value._version if isinstance(value, torch.Tensor) else 0
        work = self._counter.work
        self.readings[n.name] = _Reading(
            value, version, work.dense_flops + work.depthwise_flops, sum(self._kept.values())
        )
        return value

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._own:
            self._kept[storage._cdata] = storage.nbytes()
        return tensor
