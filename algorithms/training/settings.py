"""The settings that all methods have: rounds, optimizers, participation, deadline.

``Settings`` is the base of every algorithm's ``Config``. Plain configuration: no torch.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import msgspec

from algorithms.data.streams import stream
from algorithms.workload.task import Task, check_at_least, check_rates
from emulator.errors import UserError

DEFAULT_ROUNDS = 12
DEFAULT_STOP_AFTER_S = 15.0
MOST_ROUNDS = 10**6  # of a run: more is a slip of the pen
LONGEST_S = 1e9  # thirty years, in ns far within an integer of 64 bits


class OptimizerSpec(msgspec.Struct, frozen=True):
    """The optimizer of one part of a model: torch's of this name, with its hyperparameters."""

    kind: Literal["adam", "adamw", "sgd"]
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings that every method's ``Config`` has.

    ``optimizer`` with ``weight_decay``, ``momentum`` (sgd) and ``betas`` (adam, adamw) is that of client and server
    half; auxiliaries have the same without weight decay, as in the FSL-SAGE authors' code.

    ``server_order``: the order in which one server half sees the clients' batches of a round. ``arrival``: as they
    come. ``blocked``: all of one client's before the next client's, as in that code, which plays one client after
    another. Without effect where the server keeps no half of its own.

    ``participation``: the fraction of clients that takes part in a round, drawn for each. ``deadline_s``: emulated
    seconds after a round's first post, at which the server drops the clients that have not sent their update.
    """

    has_auxiliary: ClassVar[bool] = False  # whether a head at the client stands in for the server's half
    has_cut: ClassVar[bool] = True  # whether its figures depend on where the model is cut

    task: Task = msgspec.field(default_factory=Task)
    rounds: int = DEFAULT_ROUNDS
    stop_after_s: float | None = DEFAULT_STOP_AFTER_S
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    client_lr: float = 1e-3
    server_lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    server_order: Literal["arrival", "blocked"] = "arrival"
    participation: float = 1.0
    deadline_s: float | None = None

    @property
    def client_optimizer(self) -> OptimizerSpec:
        """The optimizer of client halves, and of FedAvg's full models."""
        return OptimizerSpec(self.optimizer, self.client_lr, self.weight_decay, self.momentum, self.betas)

    @property
    def server_optimizer(self) -> OptimizerSpec:
        """The optimizer of server halves."""
        return OptimizerSpec(self.optimizer, self.server_lr, self.weight_decay, self.momentum, self.betas)

    def auxiliary_optimizer(self, lr: float) -> OptimizerSpec:
        """The optimizer of auxiliaries."""
        return OptimizerSpec(self.optimizer, lr, 0.0, self.momentum, self.betas)

    def has_next_round(self, round: int, now_ns: int) -> bool:
        """Whether there is a ``round`` (from 0) that could start at ``now_ns``; there always is a first one."""
        if round == 0:
            return True
        return round < self.rounds and (self.stop_after_s is None or now_ns < self.stop_after_s * 1e9)

    def cohort(self, clients: tuple[str, ...], round: int) -> tuple[str, ...]:
        """The clients of ``round``, in client order: at least one, drawn from a random stream of that round."""
        count = max(1, round_half_up(self.participation * len(clients)))
        if count == len(clients):
            return clients
        draws = stream(self.task.seed, f"participants of round {round}")
        return tuple(clients[i] for i in sorted(draws.choice(len(clients), count, replace=False)))

    def for_profiling(self) -> Self:
        """The same for profiling, which has few clients: all take part, and none is too late, so that each kind is
        seen; whether a deadline can be met, only all clients show."""
        return msgspec.structs.replace(self, participation=1.0, deadline_s=None)

    def heaviest(self, indices: list[int]) -> int:
        """Which of these clients holds the most samples at once: the first of those with the largest batch."""
        samples = self.task.shard_samples()
        return max(indices, key=lambda index: self.task.largest_batch(samples[index]))

    def server_turns(self, clients: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The groups of clients whose messages of a round the server takes as they come, one group after another."""
        return [clients] if self.server_order == "arrival" else [(client,) for client in clients]

    def check(self) -> None:
        """UserError, one line, for the first value that cannot be."""
        self.task.check()
        check_at_least(1, rounds=self.rounds)
        if self.rounds > MOST_ROUNDS:
            raise UserError(f"rounds: must be at most {MOST_ROUNDS}, not {self.rounds}")
        check_rates(client_lr=self.client_lr, server_lr=self.server_lr)
        for name, value in (("weight_decay", self.weight_decay), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                raise UserError(f"{name}: must be from 0 up to 1, not {value}")
        if self.momentum and self.optimizer != "sgd":
            raise UserError(f"momentum: {self.optimizer} has none: say optimizer=sgd, or set betas")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas: must be two numbers from 0 up to 1, not {list(self.betas)}")
        if not 0 < self.participation <= 1:
            raise UserError(f"participation: must be above 0 and at most 1, not {self.participation}")
        for name, seconds in (("stop_after_s", self.stop_after_s), ("deadline_s", self.deadline_s)):
            if seconds is not None and not 0 < seconds <= LONGEST_S:
                raise UserError(f"{name}: must be above 0 and at most {LONGEST_S:.0f} seconds, not {seconds}")


def round_half_up(value: float) -> int:
    """The nearest integer, halves up (``round`` takes halves to the even one)."""
    return int(value + 0.5)


def should_upload(
    q: int, step: int, steps: int, rounds_done: int, *, restart_each_round: bool, upload_last: bool = False
) -> bool:
    """Whether a client uploads in this step, the first (or last) of each block of ``q``.

    ``rounds_done``: how many rounds of ``steps`` each it has begun before. Blocks continue across rounds, unless
    ``restart_each_round``; then a round's last block may be shorter. ``upload_last``: the last step of a block uploads.
    """
    tau = step if restart_each_round else rounds_done * steps + step
    if upload_last:
        return tau % q == q - 1 or (restart_each_round and step == steps - 1)
    return tau % q == 0


def rare_uploads(task: Task, q: int, rounds: int, *, restart_each_round: bool) -> list[str]:
    """A warning where ``q`` is more than a client's steps until its counter restarts or the training ends."""
    steps = task.steps()
    if q <= (steps if restart_each_round else steps * rounds):
        return []
    if restart_each_round:
        return [f"q: {q} exceeds the {steps} steps of a round: with q_per_round each client uploads once a round"]
    return [f"q: {q} exceeds the {steps * rounds} steps of {rounds} rounds: each client uploads once in the whole run"]
