"""The computations of one client's round as a plain sequential PyTorch loop: no processes, links or messages.

Every method's loop trains the same ResNet-18, cut after layer2, on the same batches with the same optimizers as the
emulator's; the server's work for that client is part of it. What it returns is CPU seconds of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from algorithms.workload.task import Task

Q = 5  # steps between uploads
ALIGN_EPOCHS, PLAYED_EPOCHS = 100, 10  # of an alignment; so many are played, and scaled up
DIRECTIONS, RADIUS = 4, 1e-3
Batches = Iterator[tuple[Tensor, Tensor]]


class Models:
    """One client's half, the server's half and the auxiliary, each with its Adam."""

    def __init__(self, task: Task) -> None:
        self.client, self.server, self.aux = task.client_half(), task.server_half(), task.auxiliary()
        self.adam = {
            id(module): torch.optim.Adam(module.parameters(), weight_decay=decay)
            for module, decay in ((self.client, 1e-4), (self.server, 1e-4), (self.aux, 0.0))
        }

    def step(self, *modules: nn.Module) -> None:
        for module in modules:
            self.adam[id(module)].step()
            self.adam[id(module)].zero_grad(set_to_none=True)


def whole(models: Models, batches: Batches) -> None:
    """FedAvg, and the true gradients of split learning: the same arithmetic."""
    for x, y in batches:
        cross_entropy(models.server(models.client(x)), y).backward()  # type: ignore[no-untyped-call]
        models.step(models.client, models.server)


def local(models: Models, batches: Batches, q: int) -> None:
    """The auxiliary's loss on the client, and a step of the server for every ``q``-th batch."""
    for step, (x, y) in enumerate(batches):
        z = models.client(x)
        cross_entropy(models.aux(z), y).backward()  # type: ignore[no-untyped-call]
        models.step(models.client, models.aux)
        if step % q == 0:
            serve(models, z.detach(), y)


def serve(models: Models, z: Tensor, y: Tensor) -> None:
    cross_entropy(models.server(z), y).backward()  # type: ignore[no-untyped-call]
    models.step(models.server)


def estimated(models: Models, batches: Batches) -> None:
    """FSL-SAGE without its alignment."""
    models.aux.requires_grad_(False)
    for step, (x, y) in enumerate(batches):
        z = models.client(x)
        if step % Q == 0:
            serve(models, z.detach(), y)
        cut = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(models.aux(cut), y), cut)
        z.backward(gradient)
        models.step(models.client)
    models.aux.requires_grad_(True)


def align(models: Models, x: Tensor, y: Tensor) -> None:
    """Some epochs of an alignment on one batch, and the true gradients for it."""
    with torch.no_grad():
        z = models.client(x)
    cut = z.requires_grad_()
    (true,) = torch.autograd.grad(cross_entropy(models.server(cut), y, reduction="sum"), cut)
    for _ in range(PLAYED_EPOCHS):
        loss = cross_entropy(models.aux(cut), y, reduction="sum")
        (guess,) = torch.autograd.grad(loss, cut, create_graph=True)
        ((guess - true).square().sum() / len(y) ** 2).backward(inputs=list(models.aux.parameters()))
        models.step(models.aux)


@torch.no_grad()
def forward_only(models: Models, batches: Batches) -> None:
    """HERON-SFL: two forward passes for each direction."""
    parameters = [*models.client.parameters(), *models.aux.parameters()]
    for step, (x, y) in enumerate(batches):
        if step % Q == 0:
            with torch.enable_grad():
                serve(models, models.client(x).detach(), y)
        for _ in range(DIRECTIONS):
            u, losses = [torch.randn_like(parameter) for parameter in parameters], []
            for shift in (RADIUS, -2 * RADIUS):
                for parameter, along in zip(parameters, u, strict=True):
                    parameter.add_(along, alpha=shift)
                losses.append(cross_entropy(models.aux(models.client(x)), y))
            slope = float(losses[0] - losses[1]) / (2 * RADIUS * DIRECTIONS)
            for parameter, along in zip(parameters, u, strict=True):
                parameter.add_(along, alpha=RADIUS - 1e-2 * slope)


def cpu_s(task: Task, method: str) -> float:
    """CPU seconds of one client's round, the server's work for it included, in one thread."""
    torch.set_num_threads(1)
    models, shard = Models(task), task.shard(0)
    for x, y in islice(shard.batches(0), 1):
        whole(models, iter([(x, y)]))  # what torch prepares once
        first = x, y
    loops: dict[str, Callable[[], None]] = {
        "local-loss": lambda: local(models, shard.batches(0), 1),
        "cse-fsl": lambda: local(models, shard.batches(0), Q),
        "fsl-sage": lambda: estimated(models, shard.batches(0)),
        "heron-sfl": lambda: forward_only(models, shard.batches(0)),
    }
    spent_s = _timed(loops.get(method, lambda: whole(models, shard.batches(0))))
    if method == "fsl-sage":
        spent_s += _timed(lambda: align(models, *first)) * ALIGN_EPOCHS / PLAYED_EPOCHS
    return spent_s


def _timed(loop: Callable[[], None]) -> float:
    started = time.thread_time()
    loop()
    return time.thread_time() - started
