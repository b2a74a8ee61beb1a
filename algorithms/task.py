"""What is trained: data set, model, cut, auxiliary, partition, batch and seed; and how a result is judged.

``Task`` is plain configuration, the same for every algorithm: it imports torch only when asked for modules, so that
a supervisor can check it without. ``Settings`` is the base of every algorithm's ``Config``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from algorithms import data
from emulator.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from algorithms.parts import Parts
    from emulator.wire import StateDict

_CNN_LEAST_PIXELS = 4  # two pools halve height and width
_TEST_BATCH = 256


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The workload. ``cut`` and ``aux`` empty: the model's default; ``prepare`` checks that they exist and fit.
    ``folder``: where ``prepare`` wrote the data and initial weights (empty: every node loads the data set itself, keeps
    its own part, and builds the model)."""

    dataset: str = "digits"
    model: str = "cnn"
    cut: str = ""
    aux: str = ""
    partition: str = "iid"
    batch: int = 16
    seed: int = 1
    clients: int = 10
    samples_per_client: int = 0  # 0: the training part is divided among the clients; else shards overlap
    data_dir: str = "data"
    folder: str = ""

    def check(self) -> None:
        """UserError, one line, for the first value that cannot be."""
        at_least(1, batch=self.batch, clients=self.clients)
        at_least(0, seed=self.seed)
        about = data.describe(self.dataset, self.data_dir)
        if data.parse_partition(self.partition).kind == "shards" and self.samples_per_client:
            raise UserError("partition: shards divide all samples among the clients: leave out --samples-per-client")
        if not self.samples_per_client and self.clients > about.train:
            raise UserError(
                f"clients: {self.clients} are more than the {about.train} samples of {self.dataset}: take fewer, or let"
                " shards overlap with --samples-per-client"
            )
        if not 0 <= self.samples_per_client <= about.train:
            raise UserError(
                f"--samples-per-client {self.samples_per_client}: say 1 to {about.train}, the training samples of"
                f" {self.dataset}, or leave it out"
            )
        pixels = min(about.shape[1:])
        if self.model == "cnn" and pixels < _CNN_LEAST_PIXELS:
            raise UserError(f"dataset: the cnn needs images of at least {_CNN_LEAST_PIXELS} pixels a side")

    def client_half(self) -> nn.Module:
        """The model up to the cut."""
        return self._parts().half("client")

    def server_half(self) -> nn.Module:
        """The model after the cut."""
        return self._parts().half("server")

    def whole(self) -> nn.Module:
        """The model in one piece."""
        return self._parts().whole()

    def auxiliary(self) -> nn.Module:
        """The auxiliary head for the cut; the same initial weights for every client."""
        return self._parts().auxiliary()

    def halves(self, state: StateDict) -> dict[str, StateDict]:
        """The state of a whole model as ``{"client": ..., "server": ...}``."""
        return self._parts().divide(state)

    def shard(self, index: int) -> data.Shard:
        """The samples of client ``index`` (from 0)."""
        about = data.describe(self.dataset, self.data_dir)
        if self.folder:
            samples = data.read(self.folder, f"client-{index}")
        else:
            train, _ = data.load(self.dataset, self.data_dir)
            rows = self._shards(train)[index]
            samples = data.Samples(train.images[rows], train.labels[rows])
        return data.Shard(samples, self.batch, about.levels, self.seed, index)

    def shard_samples(self) -> list[int]:
        """How many samples each client has."""
        if self.samples_per_client:
            return [self.samples_per_client] * self.clients
        return data.shard_sizes(data.describe(self.dataset, self.data_dir).train, self.clients)

    def _shards(self, train: data.Samples) -> list[np.ndarray[Any, Any]]:
        """The rows of each client."""
        how = self.clients, self.partition, self.seed
        if self.samples_per_client:
            return data.draw(train.labels, *how, self.samples_per_client)
        return data.divide(train.labels, *how)

    def _parts(self) -> Parts:
        from algorithms.parts import Parts

        about = data.describe(self.dataset, self.data_dir)
        return Parts(self.model, self.cut, self.aux, about.shape, about.classes, self.seed, self.folder)


def prepare(task: Task, folder: Path) -> Task:
    """Write every client's samples, the test part and the model's parts to ``folder``, once, before nodes start.

    Returns the task to give them, cut and auxiliary named; UserError for a model, cut or auxiliary that cannot be.
    """
    parts = task._parts().write(folder)
    train, test = data.load(task.dataset, task.data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for index, rows in enumerate(task._shards(train)):
        data.write(folder, f"client-{index}", train, rows)
    data.write(folder, "test", test)
    return msgspec.structs.replace(task, cut=parts.cut, aux=parts.aux, folder=str(folder))


def evaluate(task: Task, parts: dict[str, StateDict]) -> tuple[float, float]:
    """Top-1 accuracy (0 to 1) and mean negative log-likelihood of ``client`` and ``server`` joined, on the test part.

    In eval mode; other parts are not looked at.
    """
    import numpy as np
    import torch
    from torch.nn import functional

    about = data.describe(task.dataset, task.data_dir)
    test = data.read(task.folder, "test") if task.folder else data.load(task.dataset, task.data_dir)[1]
    model = task.whole()
    model.load_state_dict({**parts["client"], **parts["server"]})
    model.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, about.test, _TEST_BATCH):
            rows = np.arange(start, min(start + _TEST_BATCH, about.test))
            x, y = data.tensors(test, rows, about.levels)
            logits = model(x)
            loss += functional.cross_entropy(logits, y, reduction="sum").item()
            correct += int((logits.argmax(1) == y).sum().item())
    return correct / about.test, loss / about.test


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every algorithm's ``Config`` has. Learning rates are Adam's.

    ``server_order``: the order in which one server half sees the clients' batches of a round. ``arrival``: as they
    come. ``blocked``: all of one client's before the next client's, as in the FSL-SAGE authors' code, which plays one
    client after another. Without effect where the server keeps no half of its own.
    """

    task: Task = msgspec.field(default_factory=Task)
    rounds: int = 12
    stop_after_s: float | None = 15.0
    client_lr: float = 1e-3
    server_lr: float = 1e-3
    server_order: Literal["arrival", "blocked"] = "arrival"

    def another(self, round: int, now_ns: int) -> bool:
        """Whether ``round`` (from 0) is played when it could start at ``now_ns``; the first one always is."""
        if round == 0:
            return True
        return round < self.rounds and (self.stop_after_s is None or now_ns < self.stop_after_s * 1e9)

    def turns(self, clients: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The groups of clients whose messages of a round the server takes as they come, one group after another."""
        return [clients] if self.server_order == "arrival" else [(client,) for client in clients]

    def check(self) -> None:
        """UserError, one line, for the first value that cannot be."""
        self.task.check()
        at_least(1, rounds=self.rounds)
        if self.stop_after_s is not None and not self.stop_after_s > 0:
            raise UserError(f"stop_after_s: must be above 0 seconds, not {self.stop_after_s}")
        rates(client_lr=self.client_lr, server_lr=self.server_lr)


def rates(**values: float) -> None:
    """UserError for a learning rate that is none; 0 is one (nothing is learnt)."""
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise UserError(f"{name}: must be a learning rate from 0 on, not {value}")


def at_least(least: int, **values: int) -> None:
    """UserError for a number below ``least``."""
    for name, value in values.items():
        if value < least:
            raise UserError(f"{name}: must be at least {least}, not {value}")


def rare_uploads(task: Task, q: int) -> list[str]:
    """A warning where a counter that begins anew in each round reaches ``q`` in none of them."""
    steps = -(-max(task.shard_samples()) // task.batch)
    if q <= steps:
        return []
    return [f"q: {q} exceeds the {steps} steps of a round: with q_per_round each client uploads once a round"]
