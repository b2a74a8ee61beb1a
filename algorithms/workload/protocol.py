"""What a method may ask of what it trains: the ``Workload`` protocol, which ``Task`` implements.

A method knows no data, model, loss or metric by itself: ``config.task`` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from algorithms.workload.objectives import Objective
    from emulator.transport.messages import StateDict


class ClientData(Protocol):
    """The training samples of one client; ``len`` is their number."""

    def __len__(self) -> int: ...

    @property
    def steps(self) -> int:
        """Batches in a round."""

    def batches(self, round: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(x [B, ...], y [B, ...]) of a round, in an order that depends on seed, client and epoch alone."""


class Workload(Protocol):
    """What is trained and how it is judged, the same for every method.

    Models take x [B, ...] and return what the objective's loss takes. The two halves' states together are the whole
    model's; a half and the auxiliary have the same initial weights wherever they are built, and a client's half is
    built without memory for the server's.
    """

    @property
    def seed(self) -> int:
        """Of every draw."""

    @property
    def clients(self) -> int:
        """How many there are."""

    def check(self) -> None:
        """UserError, one line, for the first value that cannot be; without torch."""

    def objective(self) -> Objective:
        """Loss, metrics and targets."""

    def example_batch(self, samples: int) -> tuple[Tensor, Tensor]:
        """x and y of so many samples of the shapes and types of a batch; their values mean nothing."""

    def client_half(self) -> nn.Module:
        """The model up to the cut: x -> z [B, ...], the smashed batch."""

    def server_half(self) -> nn.Module:
        """The model after the cut: z -> output."""

    def full_model(self) -> nn.Module:
        """The model in one piece."""

    def auxiliary(self) -> nn.Module:
        """The auxiliary head at the cut: z -> output; the same initial weights for every client."""

    def halves(self, state: StateDict) -> dict[str, StateDict]:
        """The state of a whole model as ``{"client": ..., "server": ...}``."""

    def shard(self, index: int) -> ClientData:
        """The samples of client ``index`` (from 0)."""

    def shard_samples(self) -> list[int]:
        """How many samples each client has."""

    def steps(self) -> int:
        """Batches in a round of the client with the most samples."""

    def largest_batch(self, samples: int) -> int:
        """The most samples of a batch of a client with so many."""
