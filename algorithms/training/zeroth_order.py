"""Training without backward passes: two-point estimates of the slope of the loss along random directions.

    u  a direction, standard normal, over all parameters θ of the parts together
    L± = loss(θ ± μ u),  slope = (L+ − L−) / 2μ,  step: θ ← θ − lr · slope · u, averaged over the directions

J. Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation", IEEE TAC
1992. Nothing here keeps a graph, so the memory is that of inference. A direction is either kept for as long as it is
used (as large as the parameters), or drawn again from its seed each time: S. Malladi et al., "Fine-Tuning Language
Models with Just Forward Passes", NeurIPS 2023, https://arxiv.org/abs/2305.17333 (MeZO), Algorithm 1.

What a batch norm keeps of its batches moves once a step, as in every other method: in the first of the step's passes,
which is as close to θ as any. The other passes, and that of ``smash``, leave it at rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from algorithms.training.steps import Part, at_rest
from emulator.compute.counting import computation


@computation("smash")
def smash(client: Part, x: Tensor) -> Tensor:
    """z, without a graph."""
    with torch.no_grad(), at_rest(client.module):
        z: Tensor = client.module(x)
    return z


def _drawn(parameters: Sequence[Tensor], draws: torch.Generator) -> Iterator[Tensor]:
    return (torch.randn(parameter.shape, generator=draws) for parameter in parameters)


def _two_points(
    client: Part, aux: Part, x: Tensor, y: Tensor, move: Callable[[float], None], radius: float, *, first: bool
) -> tuple[Tensor, Tensor]:
    """Slope and mean loss along the direction in which ``move`` shifts the parameters; they end where they were.

    What layers draw, such as dropout's masks, is the same for both losses, or their difference would be the masks'.
    ``first``: of a step's directions, in whose first pass a batch norm's statistics move.
    """
    losses: list[Tensor] = []
    drawn = torch.get_rng_state()
    for shift in (radius, -2 * radius):
        torch.set_rng_state(drawn)
        move(shift)
        moves = first and not losses
        with contextlib.nullcontext() if moves else at_rest(client.module, aux.module):
            losses.append(aux.loss(client.module(x), y))
    move(radius)
    return (losses[0] - losses[1]) / (2 * radius), (losses[0] + losses[1]) / 2


@computation("kept_step")
@torch.no_grad()
def kept_step(
    client: Part, aux: Part, x: Tensor, y: Tensor, draws: torch.Generator, directions: int, radius: float
) -> Tensor:
    """A step of client and auxiliary by their own optimizers, with the estimate as gradient; the mean of the losses.

    ``radius`` is μ; directions come from ``draws``, one after another, and each is kept while it is used.
    """
    parameters = [*client.trained, *aux.trained]
    losses: list[Tensor] = []
    for _ in range(directions):
        u = list(_drawn(parameters, draws))

        def move(shift: float, u: list[Tensor] = u) -> None:
            for parameter, along in zip(parameters, u, strict=True):
                parameter.add_(along, alpha=shift)

        slope, loss = _two_points(client, aux, x, y, move, radius, first=not losses)
        losses.append(loss)
        for parameter, along in zip(parameters, u, strict=True):
            along.mul_(slope / directions)
            parameter.grad = along if parameter.grad is None else parameter.grad.add_(along)
    aux.step()
    client.step()
    return torch.stack(losses).mean()


@computation("replayed_step")
@torch.no_grad()
def replayed_step(
    client: Part, aux: Part, x: Tensor, y: Tensor, draws: torch.Generator, directions: int, radius: float, lr: float
) -> Tensor:
    """The same step by plain gradient descent, where no direction is kept: each is drawn again from its seed."""
    parameters = [*client.trained, *aux.trained]
    found: list[tuple[Tensor, Tensor]] = []
    losses: list[Tensor] = []
    for _ in range(directions):
        seed = draws.get_state()

        def move(shift: float, seed: Tensor = seed) -> None:
            draws.set_state(seed)
            for parameter, along in zip(parameters, _drawn(parameters, draws), strict=True):
                parameter.add_(along, alpha=shift)

        slope, loss = _two_points(client, aux, x, y, move, radius, first=not losses)
        losses.append(loss)
        found.append((seed, slope / directions))
    following = draws.get_state()
    for seed, slope in found:
        draws.set_state(seed)
        for parameter, along in zip(parameters, _drawn(parameters, draws), strict=True):
            parameter.addcmul_(along, slope, value=-lr)
    draws.set_state(following)
    return torch.stack(losses).mean()
