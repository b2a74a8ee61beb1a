"""torch's optimizers for model parts, with their state made before the first step: all steps cost the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from algorithms.training.settings import OptimizerSpec
from emulator.compute.counting import uncounted


def make_optimizer(parameters: list[nn.Parameter], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """torch's optimizer of this kind, with these hyperparameters."""
    lr, decay = spec.lr, spec.weight_decay
    if spec.kind == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=decay, momentum=spec.momentum)
    make = torch.optim.AdamW if spec.kind == "adamw" else torch.optim.Adam
    return make(parameters, lr=lr, weight_decay=decay, betas=spec.betas)


def cost_key(spec: OptimizerSpec | None) -> str:
    """A key that is equal for optimizers whose steps cost the same; None: no optimizer."""
    if spec is None:
        return "frozen"
    return spec.kind + ":decay" * (spec.weight_decay > 0) + ":momentum" * (spec.momentum > 0)


def begin(optimizer: torch.optim.Optimizer) -> None:
    """Create the optimizer's state outside the count, which it would create in its first step: every step then costs
    the same.

    Zeros are the initial state of each optimizer: SGD's first buffer is 0 · momentum + gradient.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    groups = optimizer.state_dict()["param_groups"]
    with uncounted():
        if isinstance(optimizer, torch.optim.Adam):  # AdamW is one
            state = {
                i: {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                for i, p in enumerate(parameters)
            }
        elif groups[0]["momentum"]:
            state = {i: {"momentum_buffer": torch.zeros_like(p)} for i, p in enumerate(parameters)}
        else:
            return
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def state_of(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """The tensors that the optimizer keeps from step to step."""
    return (value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor))
