"""Losses and metrics of each kind of task against their definitions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional

from algorithms.training import steps
from algorithms.workload.objectives import IGNORE, KINDS, Metric, MultiLabel, Objective, PerPosition, objective_of
from algorithms.workload.task import Task
from emulator.errors import ProtocolError, UserError
from emulator.runtime.evaluator import evaluated_event

if TYPE_CHECKING:
    from algorithms.workload.protocol import Workload

    fulfilled: Workload = Task()


def drawn(kind: str, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and labels of three classes, or three values."""
    torch.manual_seed(samples)
    if kind == "classification":
        return torch.randn(samples, 3), torch.randint(3, (samples,))
    if kind == "per-position":
        y = torch.randint(3, (samples, 5))
        y[:, 3:] = IGNORE
        return torch.randn(samples, 5, 3), y
    if kind == "multilabel":
        return torch.randn(samples, 3), torch.randint(2, (samples, 3), dtype=torch.uint8)
    return torch.randn(samples, 3), torch.randn(samples, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_summed_loss_is_the_mean_times_its_terms_and_adds_up_over_batches(kind: str) -> None:
    objective = objective_of(kind)
    output, y = drawn(kind, 7)
    whole = objective.loss(output, y, "sum")
    assert whole.item() == pytest.approx(objective.loss(output, y).item() * objective.terms(y), rel=1e-5)
    parts = [objective.loss(output[rows], y[rows], "sum").item() for rows in (slice(4), slice(4, None))]
    assert sum(parts) == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_that_is_asked_for_is_one_that_the_loss_takes(kind: str) -> None:
    objective = objective_of(kind)
    output, y = drawn(kind, 2)
    assert objective.output_shape(tuple(y.shape[1:]), 3) == tuple(output.shape[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_is_scored_and_batches_do_not_matter(kind: str) -> None:
    objective = objective_of(kind)
    output, y = drawn(kind, 9)
    whole, parts = objective.tally(), objective.tally()
    whole.add(output, y)
    for rows in (slice(2), slice(2, None)):
        parts.add(output[rows], y[rows])
    assert parts.scores() == pytest.approx(whole.scores())
    assert whole.scores().keys() == {metric.name for metric in objective.metrics}


def scores(objective: Objective, output: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    tally = objective.tally()
    tally.add(output, y)
    return tally.scores()


def test_classes_are_scored_by_hand_count() -> None:
    said, y = torch.tensor([0, 0, 1, 1, 2, 0]), torch.tensor([0, 1, 1, 1, 1, 0])
    found = scores(objective_of("classification"), functional.one_hot(said, 4).float(), y)
    recall = [2 / 2, 2 / 4]
    f1 = [2 * 2 / (3 + 2), 2 * 2 / (2 + 4), 0.0]  # of class 2 there is none, but it was said; of class 3 neither
    expected = {"accuracy": 4 / 6, "balanced_accuracy": sum(recall) / 2, "macro_f1": sum(f1) / 3}
    assert found == pytest.approx(expected)


def test_padding_counts_in_neither_loss_nor_metric() -> None:
    objective = PerPosition(ignore_index=0)
    output, y = torch.randn(2, 4, 3), torch.tensor([[1, 2, 0, 0], [2, 2, 1, 0]])
    other = torch.where((y == 0)[..., None], torch.randn(2, 4, 3), output)
    assert torch.equal(objective.loss(output, y), objective.loss(other, y))
    assert scores(objective, output, y) == scores(objective, other, y)
    assert objective.terms(y) == 5
    loss = functional.cross_entropy(output[y != 0], y[y != 0])
    assert scores(objective, output, y)["perplexity"] == pytest.approx(math.exp(loss.item()), rel=1e-5)


def test_a_map_has_its_classes_second_and_a_sequence_last() -> None:
    y, logits = torch.randint(3, (2, 4, 6)), torch.randn(2, 3, 4, 6)
    flat = PerPosition().loss(logits.flatten(2).transpose(1, 2), y.flatten(1))
    assert torch.equal(PerPosition().loss(logits, y), flat)
    sequence, image = (
        scores(PerPosition(), logits.flatten(2).transpose(1, 2), y.flatten(1)),
        scores(PerPosition(), logits, y),
    )
    assert sequence == pytest.approx(image)


def test_several_labels_are_scored_by_hand_count() -> None:
    y = torch.tensor([[1, 0], [1, 1], [0, 0]], dtype=torch.uint8)
    found = scores(MultiLabel(), torch.tensor([[1.0, 1.0], [-1.0, 2.0], [-1.0, -3.0]]), y)
    assert found == pytest.approx({"macro_f1": (2 / 3 + 2 / 3) / 2, "label_accuracy": 4 / 6})


def test_what_is_better_and_by_what_a_task_is_judged() -> None:
    first = {kind: objective_of(kind).metrics[0] for kind in KINDS}
    assert first["classification"] == Metric("accuracy", "higher", True, (0.85, 0.9))
    assert {kind: metric.better for kind, metric in first.items() if metric.better == "lower"} == {
        "regression": "lower"
    }
    assert {metric.name: metric.better for metric in PerPosition().metrics}["perplexity"] == "lower"
    with pytest.raises(UserError, match="there is no 'ranking': say one of classification"):
        objective_of("ranking")


def test_a_part_without_a_loss_says_how_it_gets_one() -> None:
    part = steps.Part(torch.nn.Linear(2, 2), None)
    with pytest.raises(ProtocolError, match=r"objective=config\.task\.objective\(\)"):
        steps.server_step(part, torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))


def test_a_task_without_an_accuracy_has_none_and_has_not_diverged() -> None:
    parts = {"client": {}, "server": {"w": torch.ones(1)}}
    event = evaluated_event(0, 1, 1, parts, {"loss": 2.0, "mean_squared_error": 2.0, "perplexity": math.inf})
    assert (event.accuracy, event.loss, event.scores) == (None, 2.0, {"mean_squared_error": 2.0})
