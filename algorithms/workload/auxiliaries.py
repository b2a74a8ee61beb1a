"""The auxiliary heads that stand in for the server's half at a client: z -> what the model returns.

z is [B, D], a sequence [B, L, D], of a convolution [B, D, L], or a map, [B, C, H, W] or, inside Swin transformers,
[B, H, W, C]. Where each position has an output, a sequence's head is one layer for all positions, and a map's a 1x1
convolution, resized.
"""

from __future__ import annotations

import copy

import msgspec
import torch
from torch import Tensor, nn

from algorithms.data import user_objects
from algorithms.workload import models
from algorithms.workload.cut_costs import Cut
from algorithms.workload.cutting import cuttable
from algorithms.workload.models import ModelShapes, pooled_head
from emulator.errors import UserError

KINDS = ("linear", "pool", "stage", "server")
LINEAR_VALUES = 16_384  # a linear layer on a larger z would weigh more than most client halves

_STAGES = ("layer1", "layer2", "layer3")  # of ResNets, where the FSL-SAGE authors take the stage that follows


class AuxiliarySpec(msgspec.Struct, frozen=True):
    """What an auxiliary is built of."""

    kind: str
    model: str
    cut: str
    smashed: tuple[int, ...]  # shape of one sample's z
    follower: str  # the module next to the cut, for ``stage``

    @property
    def channels_last(self) -> bool:
        """Swin transformers work on [B, H, W, C] until they permute it, before their last pool."""
        return self.model.startswith("swin") and self.cut.partition(".")[0] in ("features", "norm")


class DimensionMean(nn.Module):
    """The mean over the dimensions ``over``."""

    def __init__(self, *over: int) -> None:
        super().__init__()
        self.over = over

    def forward(self, z: Tensor) -> Tensor:
        return z.mean(self.over)

    def extra_repr(self) -> str:
        return f"over={self.over}"


class FeaturesLast(nn.Module):
    """[B, D, L] -> [B, L, D]."""

    def forward(self, z: Tensor) -> Tensor:
        return z.transpose(1, 2)


def auxiliary_spec(kind: str, model: str, cut: Cut, sizes: ModelShapes) -> AuxiliarySpec:
    """The layout of the auxiliary ``kind`` ("": the cut's default) of a cut; UserError with those that fit it."""
    own = user_objects.is_named(kind)
    if kind and kind not in KINDS and not own:
        raise UserError(f"aux: there is no {kind!r}: say one of {', '.join(KINDS)}, or FILE.py:NAME")

    def of(kind: str) -> AuxiliarySpec:
        return AuxiliarySpec(kind, model, cut.name, cut.smashed, cut.point.follower)

    if not kind:
        kind = default_auxiliary(model, cut)
        return of(kind if _fits(of(kind), sizes) else "linear")
    if not own and not _fits(of(kind), sizes):
        fitting = ", ".join(other for other in KINDS if _fits(of(other), sizes))
        size = "x".join(map(str, cut.smashed))
        raise UserError(f"aux: {kind} does not fit the cut {cut.name} of {model}, a z of {size}: say one of {fitting}")
    return of(kind)


def default_auxiliary(model: str, cut: Cut) -> str:
    """``linear`` for our own models; the next stage of ResNets; else ``linear`` where z is small, and ``pool``."""
    if model in models.OWN:
        return "linear"
    if cut.name in _STAGES:
        return "stage"
    return "linear" if torch.Size(cut.smashed).numel() <= LINEAR_VALUES else "pool"


def build_auxiliary(about: AuxiliarySpec, sizes: ModelShapes, seed: int) -> nn.Module:
    """The auxiliary with initial weights of a stream of its own."""
    model, kind = map(models.stream_name, (about.model, about.kind))
    purpose = f"{model}:{about.cut}:auxiliary:{kind}"
    return models.seeded(lambda: make(about, sizes), seed, purpose)


def meta_auxiliary(about: AuxiliarySpec, sizes: ModelShapes) -> nn.Module:
    """The auxiliary on the meta device."""
    with models.on_meta_device():
        return make(about, sizes).to("meta")


def make(about: AuxiliarySpec, sizes: ModelShapes) -> nn.Module:
    """The auxiliary with weights from the generator as it stands.

    ``linear``: one linear layer on the flat z. ``pool``: the mean over everything but channels (of tokens: features),
    then linear. ``stage``: the module that follows the cut, initialised afresh, then pool and linear (the FSL-SAGE
    authors' for ResNet-18 after layer2). ``server``: all that follows the cut, initialised afresh. A user's callable
    is given ``smashed``, the shape of one sample's z, and what a model is given.
    """
    if user_objects.is_named(about.kind):
        return models.make_own("aux", about.kind, {"smashed": about.smashed, **sizes.given()})
    if about.kind == "linear" and len(sizes.result) > 1:
        return _of_positions(about.smashed, sizes)
    if about.kind == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(about.smashed).numel(), sizes.classes))
    if about.kind == "pool":
        return _head(about.smashed, about.channels_last, sizes.classes)
    if about.kind == "server":
        return cuttable(models.reinitialised(about.model, "", sizes), about.model).half(about.cut, "server")
    follower = models.reinitialised(about.model, about.follower, sizes)
    return nn.Sequential(follower, *_head(_shape_after(follower, about.smashed), about.channels_last, sizes.classes))


def _shape_after(module: nn.Module, smashed: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one sample after ``module``, found on a copy on the meta device, in eval mode."""
    with torch.no_grad():
        out = copy.deepcopy(module).to("meta").eval()(torch.empty(2, *smashed, device="meta"))
    return tuple(out.shape[1:])


def _head(smashed: tuple[int, ...], channels_last: bool, classes: int) -> nn.Sequential:
    """Pool, where there is something to pool, and a linear layer."""
    if len(smashed) == 3 and not channels_last:
        return pooled_head(smashed[0], classes)
    over = tuple(range(1, len(smashed)))
    return nn.Sequential(*([DimensionMean(*over)] if over else []), nn.Linear(smashed[-1], classes))


def _of_positions(smashed: tuple[int, ...], sizes: ModelShapes) -> nn.Module:
    """One linear layer for all positions, where z has them; else one on the flat z."""
    result, classes = sizes.result, sizes.classes
    if len(result) == len(smashed) == 2 and smashed[0] == result[0]:
        return nn.Linear(smashed[1], classes)
    if len(result) == len(smashed) == 2 and smashed[1] == result[0]:  # as of a convolution over the sequence
        return nn.Sequential(FeaturesLast(), nn.Linear(smashed[0], classes))
    if len(result) == len(smashed) == 3:
        return nn.Sequential(nn.Conv2d(smashed[0], classes, 1), nn.Upsample(result[1:], mode="bilinear"))
    values = torch.Size(smashed).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(values, torch.Size(result).numel()), nn.Unflatten(1, result))


def _fits(about: AuxiliarySpec, sizes: ModelShapes) -> bool:
    """Whether the auxiliary can be built and takes z."""
    if about.kind == "linear":
        return True
    if len(sizes.result) > 1 and about.kind != "server":
        return False
    if about.kind == "pool":
        return len(about.smashed) in (2, 3)
    if about.kind == "stage" and not about.follower:
        return False
    try:
        made = meta_auxiliary(about, sizes)
        made.eval()(torch.empty(2, *about.smashed, device="meta"))
    except Exception:  # a follower that takes more than z, say
        return False
    return about.kind == "server" or any(True for _ in made[0].parameters())  # type: ignore[index]
