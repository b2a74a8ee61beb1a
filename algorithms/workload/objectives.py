"""What is learned and how it is judged: loss, metrics and targets of each kind of task.

    kind            labels y                                   output of the model
    classification  class numbers int64 [B]                    logits [B, C]
    multilabel      0 or 1, uint8 [B, K]                        logits [B, K]
    regression      float32 [B, K]                             values [B, K]
    per-position    class numbers int64 [B, L] or [B, H, W]    logits [B, L, C] or [B, C, H, W]

Per-position labels of ``ignore_index`` (padding) count in neither loss nor metric. Losses are means over the batch's
terms (samples; of several labels or values a sample, all of them; positions) unless ``sum`` is said.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from emulator.compute.counting import uncounted
from emulator.errors import UserError
from emulator.ledger.criteria import ACCURACY, Metric

Reduction = Literal["mean", "sum"]
IGNORE = -100  # torch's own


class Tally(Protocol):
    """Adds up batches of the test part."""

    def add(self, output: Tensor, y: Tensor) -> None:
        """Judge a batch's output."""

    def scores(self) -> dict[str, float]:
        """The metrics by name over all that was added; one that has no finite value is left out."""

    def recall(self) -> Tensor:
        """The share of each class's labels that were known, [C]; NaN where there was none; [0] without classes."""


class Objective(Protocol):
    """Loss and metrics of one kind of task; pure functions of tensors."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Its metrics; a run is judged by the first."""

    def loss(self, output: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
        """The loss of a batch's output: one number, differentiable."""

    def terms(self, y: Tensor) -> int:
        """The number of terms that a summed loss of these labels adds up, by which its mean divides."""

    def output_shape(self, y: tuple[int, ...], classes: int) -> tuple[int, ...]:
        """The shape of one sample's output, for labels of shape ``y`` a sample."""

    def tally(self) -> Tally:
        """A judgement of a test part, at its begin."""


class Classification:
    """One label a sample."""

    metrics = (ACCURACY, Metric("balanced_accuracy"), Metric("macro_f1"))

    def loss(self, output: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
        return functional.cross_entropy(output, y, reduction=reduction)

    def terms(self, y: Tensor) -> int:
        return len(y)

    def output_shape(self, y: tuple[int, ...], classes: int) -> tuple[int, ...]:
        del y
        return (classes,)

    def tally(self) -> Tally:
        return _Classes("accuracy")


class PerPosition:
    """One label a position: language modelling, tagging, segmentation."""

    metrics = (
        Metric("token_accuracy", targets=(0.85, 0.9)),
        Metric("perplexity", "lower", percent=False, least=1.0),
        Metric("macro_f1"),
    )

    def __init__(self, ignore_index: int = IGNORE) -> None:
        self._ignore = ignore_index

    def loss(self, output: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
        return functional.cross_entropy(_classes_second(output, y), y, ignore_index=self._ignore, reduction=reduction)

    def terms(self, y: Tensor) -> int:
        with uncounted():
            return int((y != self._ignore).sum())

    def output_shape(self, y: tuple[int, ...], classes: int) -> tuple[int, ...]:
        return (*y, classes) if len(y) == 1 else (classes, *y)

    def tally(self) -> Tally:
        return _Positions(self, self._ignore)


class _Values:
    """Several values a sample, each a term of the loss: outputs are of the labels' shape."""

    def terms(self, y: Tensor) -> int:
        return y.numel()

    def output_shape(self, y: tuple[int, ...], classes: int) -> tuple[int, ...]:
        del classes
        return y


class MultiLabel(_Values):
    """Several labels a sample, each there or not."""

    metrics = (Metric("macro_f1", targets=(0.85, 0.9)), Metric("label_accuracy"))

    def loss(self, output: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, y.to(output.dtype), reduction=reduction)

    def tally(self) -> Tally:
        return _Labels()


class Regression(_Values):
    """Values."""

    metrics = (Metric("mean_squared_error", "lower", percent=False),)

    def loss(self, output: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
        return functional.mse_loss(output, y, reduction=reduction)

    def tally(self) -> Tally:
        return _Mean(self)


KINDS: dict[str, Any] = {
    "classification": Classification,
    "multilabel": MultiLabel,
    "regression": Regression,
    "per-position": PerPosition,
}


def objective_of(kind: str, ignore_index: int = IGNORE) -> Objective:
    """The objective of a kind of task; UserError where there is none such."""
    if kind not in KINDS:
        raise UserError(f"task: there is no {kind!r}: say one of {', '.join(KINDS)}")
    made: Objective = PerPosition(ignore_index) if kind == "per-position" else KINDS[kind]()
    return made


def _classes_second(output: Tensor, y: Tensor) -> Tensor:
    """Logits as torch takes them: of sequences, [B, L, C], with their classes before the positions."""
    return output.transpose(1, 2) if y.ndim == 2 else output


def _f1(right: Tensor, said: Tensor, held: Tensor) -> float:
    """The mean of 2·right / (said + held) over the classes that occur in labels or predictions."""
    occur = said + held > 0
    return (2 * right[occur] / (said + held)[occur]).mean().item()


class _Classes:
    """Counts by class. ``name``: what the share of right ones is called."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._right = self._said = self._held = torch.zeros((), dtype=torch.int64)

    def add(self, output: Tensor, y: Tensor) -> None:
        said, classes = output.argmax(1), output.shape[1]
        self._right = self._right + torch.bincount(y[said == y], minlength=classes)
        self._said = self._said + torch.bincount(said, minlength=classes)
        self._held = self._held + torch.bincount(y, minlength=classes)

    def scores(self) -> dict[str, float]:
        right, held = self._right, self._held
        return {
            self._name: int(right.sum()) / int(held.sum()),
            "balanced_accuracy": (right[held > 0] / held[held > 0]).mean().item(),
            "macro_f1": _f1(right, self._said, held),
        }

    def recall(self) -> Tensor:
        return self._right / self._held


class _Mean:
    """The mean loss."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._sum, self._terms = 0.0, 0

    def add(self, output: Tensor, y: Tensor) -> None:
        self._sum += self._objective.loss(output, y, "sum").item()
        self._terms += self._objective.terms(y)

    @property
    def mean(self) -> float:
        return self._sum / self._terms

    def scores(self) -> dict[str, float]:
        return {"mean_squared_error": self.mean}

    def recall(self) -> Tensor:
        return torch.zeros(0)


class _Positions:
    """Counts by class over the positions that count, and the perplexity."""

    def __init__(self, objective: Objective, ignore_index: int) -> None:
        self._classes, self._mean, self._ignore = _Classes("token_accuracy"), _Mean(objective), ignore_index

    def add(self, output: Tensor, y: Tensor) -> None:
        self._mean.add(output, y)
        flat = _classes_second(output, y).movedim(1, -1).flatten(0, -2)
        counts = y.flatten() != self._ignore
        self._classes.add(flat[counts], y.flatten()[counts])

    def scores(self) -> dict[str, float]:
        found = self._classes.scores()
        del found["balanced_accuracy"]
        return found | ({"perplexity": math.exp(self._mean.mean)} if self._mean.mean < 700 else {})

    def recall(self) -> Tensor:
        return self._classes.recall()


class _Labels:
    """Counts by label of what is there; a logit above 0 says that it is."""

    def __init__(self) -> None:
        self._right = self._said = self._held = torch.zeros(())
        self._alike = self._all = 0

    def add(self, output: Tensor, y: Tensor) -> None:
        said, held = output > 0, y > 0
        self._right = self._right + (said & held).sum(0)
        self._said, self._held = self._said + said.sum(0), self._held + held.sum(0)
        self._alike += int((said == held).sum())
        self._all += y.numel()

    def scores(self) -> dict[str, float]:
        return {
            "macro_f1": _f1(self._right, self._said, self._held),
            "label_accuracy": self._alike / self._all,
        }

    def recall(self) -> Tensor:
        return torch.zeros(0)
