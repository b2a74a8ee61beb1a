"""Where a model can be cut, and what each cut costs a client: parameters, FLOPs, activations, smashed bytes.

Measured on the model itself, on one batch: FLOPs as computations are counted in a run (forward; a multiply-add is
two), activations as what autograd keeps for the backward pass, parameters left out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from torch import nn

from algorithms import split
from algorithms.models import STAGES, Shape
from algorithms.task import CUTS
from emulator.errors import UserError
from emulator.sheets import Sheet
from emulator.work import WorkCounter

BATCH = 8  # batch norm needs more than one; what is kept once for a batch counts an eighth a sample
CLASSES = 10


class Cut(NamedTuple):
    """One cut, by the last stage of the client's half. Bytes and FLOPs are for one sample."""

    stage: str
    smashed: tuple[int, ...]  # shape of z, without the batch
    parameters: int
    server_parameters: int
    flops: int
    activation_bytes: int
    smashed_bytes: int


def cuts(model: str, shape: Shape) -> list[Cut]:
    """Every cut of ``model`` for images of ``shape``, from the first stage on; UserError where there is no model."""
    if model not in STAGES:
        raise UserError(f"cuts {model}: there is no such model; say {' or '.join(STAGES)}")
    return [_cut(model, stage, shape) for stage in STAGES[model] if stage in CUTS[model]]


def _cut(model: str, stage: str, shape: Shape) -> Cut:
    client, server = (split.half(model, stage, which, shape, CLASSES, 1) for which in ("client", "server"))
    kept: dict[int, int] = {}
    own = {parameter.data_ptr() for parameter in client.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.rand(BATCH, *shape)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), WorkCounter() as counter:
            z = client(x)
    except (RuntimeError, ValueError) as error:
        size = "x".join(map(str, shape))
        raise UserError(f"cuts {model} --input {size}: the model does not take such images ({error})") from None
    flops = counter.work.dense_flops + counter.work.depthwise_flops
    return Cut(
        stage=stage,
        smashed=tuple(z.shape[1:]),
        parameters=_count(client),
        server_parameters=_count(server),
        flops=flops // BATCH,
        activation_bytes=sum(kept.values()) // BATCH,
        smashed_bytes=z.nbytes // BATCH,
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def parse_shape(text: str) -> Shape:
    """``CxHxW``; UserError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    if match is None or min(map(int, match.groups())) < 1:
        raise UserError(f"--input {text}: say CxHxW with positive numbers, such as 3x32x32")
    channels, height, width = map(int, match.groups())
    return channels, height, width


def sheet(model: str, shape: Shape) -> Sheet:
    """The table that ``run.py cuts`` prints."""
    rows = [
        [
            f"{cut.stage} (default)" if cut.stage == CUTS[model][0] else cut.stage,
            "x".join(map(str, cut.smashed)),
            f"{cut.parameters:,}",
            f"{cut.server_parameters:,}",
            f"{cut.flops / 1e6:.2f}",
            f"{cut.activation_bytes / 1000:.1f}",
            f"{cut.smashed_bytes / 1000:.2f}",
        ]
        for cut in cuts(model, shape)
    ]
    heads = ["cut after", "smashed", "client\nparams", "server\nparams", "forward\nMFLOP", "kept\nkB"]
    return Sheet(
        title=f"Cuts of {model} for images of {'x'.join(map(str, shape))}, {CLASSES} classes",
        heads=[*heads, "smashed\nkB"],
        names=2,
        rows=rows,
        meaning="Params: parameters of each half. For one sample: the client's forward pass (a multiply-add is two "
        "FLOPs), the activations that its backward pass needs, and what it weighs on the link, without its label. "
        "A kB is 1000 bytes.",
    )
