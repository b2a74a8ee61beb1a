"""FSL-SAGE's alignment: its options, what a client and the server keep of an auxiliary, and the alignment of one.

Symbols as in ``fsl_sage``: ĝ the estimated and G the true gradient at the smashed samples Z with labels Y.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import nn

from algorithms.data.streams import stream_seed
from algorithms.fsl_sage import warm_start
from algorithms.training import steps
from algorithms.training.settings import Settings
from algorithms.workload.models import has_batch_norm
from algorithms.workload.task import MOST_REPEATS, at_most, check_at_least, check_rates
from emulator.errors import UserError
from emulator.node import ClientNode, Message, ServerNode, StateDict


class Options(Settings, frozen=True, forbid_unknown_fields=True):
    """``l`` rounds lie between alignments of a client (0: none). ``buffer`` and ``align_batch`` in samples;
    ``align_lr``: of the auxiliary's optimizer on the server.

    ``align``: the client ``wait``s for its auxiliary, lets alignment ``overlap`` with its steps, or there is ``none``:
    the control, whose clients follow a random auxiliary. ``stop_align``: none from that round on. ``refresh_mode``: of
    the server's batch norm when it computes G.
    """

    l: int = 3  # noqa: E741  the paper's name
    align: Literal["wait", "overlap", "none"] = "wait"
    align_epochs: int = 20
    align_batch: int = 160
    align_lr: float = 5e-3
    buffer: int = 160
    stop_align: int | None = None
    refresh_mode: Literal["train", "eval"] = "train"

    def check(self) -> None:
        super().check()
        check_at_least(1, align_epochs=self.align_epochs, align_batch=self.align_batch, buffer=self.buffer)
        at_most(MOST_REPEATS, align_epochs=self.align_epochs)
        check_at_least(0, l=self.l, stop_align=self.stop_align or 0)
        check_rates(align_lr=self.align_lr)

    def aligns(self, round: int, aligned: int | None) -> bool:
        """Whether a client's round begins with an alignment; ``aligned``: the round of its last one."""
        if self.align == "none" or self.l == 0 or (self.stop_align is not None and round >= self.stop_align):
            return False
        return aligned is None or round - aligned >= self.l


class Aligned(Message, frozen=True, kw_only=True, tag="aligned"):
    """Server to client: its own auxiliary, in aligned rounds."""

    official: ClassVar[tuple[str, ...]] = ("aux",)
    aux: StateDict


class Auxiliary:
    """A client's auxiliary, frozen, and the round of its last alignment."""

    def __init__(self, config: Options) -> None:
        self.part = steps.Part(config.task.auxiliary(), None, auxiliary=True, objective=config.task.objective())
        self.aligned: int | None = None

    async def install(self, node: ClientNode, message: Aligned | warm_start.Warm) -> None:
        if isinstance(message, Aligned):
            self.aligned = message.round
        await node.compute(steps.load_weights, self.part, message.aux)

    async def install_what_is_here(self, node: ClientNode) -> None:
        with contextlib.suppress(TimeoutError):
            await self.install(node, await node.recv(Aligned, source="server", until_ns=node.now(), leave_others=True))


class Estimator:
    """The server's state for one client: the client's auxiliary with its optimizer, and its buffer."""

    def __init__(self, config: Options, name: str) -> None:
        self.aux = steps.Part(
            config.task.auxiliary(), config.auxiliary_optimizer(config.align_lr), objective=config.task.objective()
        )
        self.buffer = steps.Buffer(config.buffer, stream_seed(config.task.seed, f"align:{name}"))


def try_out(config: Options) -> None:
    """UserError where auxiliaries of the prepared task cannot be aligned: an alignment differentiates twice, and a
    batch norm sees batches of the buffer."""
    task = config.task
    if not (config.aligns(0, None) or config.aligns(1, None)):
        return
    half, aux = (
        task.client_half(),
        steps.Part(task.auxiliary(), config.auxiliary_optimizer(config.align_lr), objective=task.objective()),
    )
    both = nn.ModuleList([aux.module, *([task.server_half()] if config.refresh_mode == "train" else [])])
    for key, module in (("align_batch", aux.module), ("buffer", both)):
        if getattr(config, key) == 1 and has_batch_norm(module):
            raise UserError(f"{key}: {task.model} has batch norm, not defined for a batch of one: say 2 or more")
    x, y = next(task.shard(0).batches(0))
    with torch.no_grad():
        z = half(x[:2])
    try:
        steps.align_epoch(aux, z, torch.zeros_like(z), y[:2], steps.Epoch(torch.arange(len(z))), len(z))
    except (RuntimeError, NotImplementedError):  # whatever torch says of a derivative that it does not have
        raise UserError(
            f"aux: {task.aux} of {task.model} has no second derivative, which fsl-sage needs: say linear or pool"
        ) from None


def idle_refresh(config: Options) -> list[str]:
    """A warning where the server half has no batch norm, so that ``refresh_mode`` changes nothing."""
    if config.refresh_mode == "train" or has_batch_norm(config.task.server_half()):
        return []
    return [f"refresh_mode: {config.refresh_mode}: the server's half has no batch norm, so it changes nothing"]


def report(node: ServerNode, round: int, errors: Sequence[tuple[float, float]]) -> None:
    """The mean of the errors before and after a round's alignments, where there were any."""
    if errors:
        before, after = (sum(column) / len(errors) for column in zip(*errors, strict=True))
        node.report(round, align_error_before=before, align_error_after=after)


async def align(
    node: ServerNode, config: Options, name: str, round: int, estimator: Estimator, true: tuple[torch.Tensor, ...]
) -> tuple[float, float]:
    """Fit one client's auxiliary to the true gradients of its buffer and send it; the error before its first step and
    after its last.

    ``true``: G and its square, as ``steps.refresh`` gives them.
    """
    z, y, g, scale = *estimator.buffer.samples(), *true
    epochs = steps.epochs([*estimator.buffer.orders(config.align_epochs)])
    played = [(estimator.aux, z, g, y, epoch, config.align_batch) for epoch in epochs]
    errors = await node.compute_repeated(steps.align_epoch, played)
    await node.post(name, Aligned(round=round, aux=steps.weights(estimator.aux)))
    (before, _), (_, after) = errors[0], errors[-1]
    return steps.ratio(before, scale), steps.ratio(after, scale)
