"""A model cut in two after a named stage, and the auxiliary head that stands in for the server's half.

    x [B, C, H, W] -> client half -> z (the smashed batch) -> server half -> logits [B, classes]
                                     z -> auxiliary ----------------------> logits [B, classes]

State dict keys begin with the name of their stage, so the two halves' states together are the whole model's.
"""

from __future__ import annotations

import torch
from torch import nn

from algorithms.models import STAGES, Shape, build, pooled_head, seeded
from emulator.wire import StateDict


def stage_names(model: str, cut: str, half: str) -> list[str]:
    """The stages of one half (``client``: up to and with the stage ``cut``; ``server``: the others)."""
    names = list(STAGES[model])
    behind = names.index(cut) + 1
    return names[:behind] if half == "client" else names[behind:]


def half(model: str, cut: str, which: str, shape: Shape, classes: int, seed: int) -> nn.Sequential:
    """The client's or the server's half of ``model``."""
    return build(model, stage_names(model, cut, which), shape, classes, seed)


def whole(model: str, shape: Shape, classes: int, seed: int) -> nn.Sequential:
    """The model in one piece; bit for bit the two halves one after the other."""
    return build(model, STAGES[model], shape, classes, seed)


def divide_state(state: StateDict, model: str, cut: str) -> dict[str, StateDict]:
    """The state of a whole model as ``{"client": ..., "server": ...}``; the tensors are shared, not copied."""
    client = set(stage_names(model, cut, "client"))
    parts: dict[str, StateDict] = {"client": {}, "server": {}}
    for key, tensor in state.items():
        parts["client" if key.split(".", 1)[0] in client else "server"][key] = tensor
    return parts


def smashed_shape(client_half: nn.Module, shape: Shape) -> tuple[int, ...]:
    """Shape of one sample's z, without the batch dimension."""
    training = client_half.training
    with torch.no_grad():
        z = client_half.eval()(torch.zeros(1, *shape))  # eval: batch statistics stay as they are
    client_half.train(training)
    return tuple(z.shape[1:])


def auxiliary(kind: str, model: str, cut: str, shape: Shape, classes: int, seed: int) -> nn.Module:
    """The auxiliary head for ``cut``, with initial weights of its own stream.

    ``linear``: one linear layer on the flat z. ``pool``: global average pool, then linear. ``stage``: the stage that
    follows the cut, initialised afresh, then pool and linear (the FSL-SAGE authors' for ResNet-18 after layer2).
    """
    smashed = smashed_shape(half(model, cut, "client", shape, classes, seed), shape)
    purpose = f"{model}:{cut}:auxiliary:{kind}"

    def linear() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(torch.Size(smashed).numel()), classes))

    def pool() -> nn.Module:
        return pooled_head(smashed[0], classes)

    def stage() -> nn.Module:
        follower = STAGES[model][stage_names(model, cut, "server")[0]](shape, classes)
        channels = next(layer.out_channels for layer in follower.modules() if isinstance(layer, nn.Conv2d))
        return nn.Sequential(follower, *pooled_head(channels, classes))

    return seeded({"linear": linear, "pool": pool, "stage": stage}[kind], model, seed, purpose)
