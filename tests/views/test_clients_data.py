"""Samples and classes of every client: counted where data are prepared, shown at a run's begin, kept in its record."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from toy import make_manifest, make_timeline

from algorithms.data import datasets
from algorithms.workload.judging import judge
from algorithms.workload.task import Task, facts, prepare
from emulator.analysis import columns
from emulator.analysis.recorded import RunRecord
from emulator.analysis.summarize import summarize
from emulator.ledger.census import Census
from emulator.ledger.events import Evaluated
from emulator.ledger.timeline import Timeline
from emulator.report import figures_csv
from emulator.tables import clients_data
from emulator.tables import run as tables


def census(clients: int = 2, **changes: Any) -> Census:
    return msgspec.convert(counted(clients, **changes), Census)


def counted(clients: int = 2, **changes: Any) -> dict[str, Any]:
    """Three classes; client i has 10 + i samples of class 0, and i of class 1."""
    held = [{"samples": 10 + 2 * i, "classes": {"0": 10 + i} | ({"1": i} if i else {})} for i in range(clients)]
    about = {"dataset": "mine", "shape": [1, 8, 8], "least": 0, "most": 16, "white": 255, "names": []}
    about |= {"partition": "iid", "overlap": False, "remarks": []}
    train = {"samples": 22, "classes": {"0": 21, "1": 1}}
    return about | {"train": train, "test": {"samples": 4, "classes": {"0": 3, "2": 1}}, "clients": held} | changes


@pytest.mark.parametrize(
    "task",
    [
        Task(clients=10, partition="dirichlet:0.1"),
        Task(clients=3, partition="shards:2", dataset="synthetic:1x4x4:7:100"),
        Task(clients=4, partition="dirichlet-unequal:1"),
        Task(clients=4, samples_per_client=200),
    ],
)
def test_what_is_counted_is_what_clients_train_on(task: Task, tmp_path: Path) -> None:
    prepared = prepare(task, tmp_path / "made")
    found = facts(prepared)
    for index, held in enumerate(found["clients"]):
        labels = torch.cat([y for _, y in prepared.shard(index).batches(0)])
        assert held["samples"] == len(labels) == prepared.shard_samples()[index]
        assert held["classes"] == {str(label): int((labels == label).sum()) for label in labels.unique().tolist()}
    train, test, *_ = datasets.load_all(task.dataset, task.data_dir)
    if not task.samples_per_client:
        for label, count in found["train"]["classes"].items():
            assert sum(held["classes"].get(label, 0) for held in found["clients"]) == count
    assert [found[part]["samples"] for part in ("train", "test")] == [len(train.labels), len(test.labels)]
    white = datasets.describe(task.dataset, task.data_dir).levels
    assert (found["least"], found["most"], found["white"]) == (0, white, white) or task.dataset != "digits"
    assert found["overlap"] == bool(task.samples_per_client)
    assert found["remarks"] == []


def test_flip_crop_of_small_images_is_named(tmp_path: Path) -> None:
    (said,) = facts(prepare(Task(augment="flip-crop"), tmp_path / "made"))["remarks"]
    assert said.startswith("augment: flip-crop mirrors, and shifts by up to 4 pixels: much of an image of 8x8")
    large = Task(dataset="synthetic:3x16x16:2:40", clients=2, augment="flip-crop")
    assert facts(prepare(large, tmp_path / "large"))["remarks"] == []


def test_a_run_begins_with_at_most_four_lines_about_its_data() -> None:
    assert clients_data.first_lines(census()) == [
        "Data: mine, 1x8x8, pixels 0 to 16 of 255; 22 samples to train, 4 to test.",
        "Classes: 2, 1 to 21 samples each; the largest is 75.00 % of the test part.",
        "Clients: 2, iid; 10 to 12 samples, 1 to 2 classes each, the largest 92 to 100 %.",
    ]
    *_, surprises = clients_data.first_lines(census(remarks=["one", "two", "three"]))
    assert surprises == "But: one; two; and 1 more below the tables."
    assert len(clients_data.first_lines(census(remarks=["one", "two", "three"]))) == 4
    assert clients_data.first_lines(None) == []


def test_few_clients_and_classes_stand_one_by_one_and_many_as_least_median_and_most() -> None:
    (table,) = clients_data.clients_data_tables(census(names=["cat", "dog", "cow"]))
    assert table.headers == ["", "samples", "classes", "largest\n%", "cat", "dog", "cow"]
    assert table.texts() == [
        ["client-0", "10", "1", "100.0", "10", "0", "0"],
        ["client-1", "12", "2", "91.67", "11", "1", "0"],
        ["least of clients", "10", "1", "91.67", "10", "0", "0"],
        ["median of clients", "11", "1.5", "95.83", "10.5", "0.5", "0"],
        ["most of clients", "12", "2", "100.0", "11", "1", "0"],
        ["training part", "22", "2", "95.45", "21", "1", "0"],
        ["test part", "4", "2", "75.00", "3", "0", "1"],
    ]
    (table,) = clients_data.clients_data_tables(census(100))
    assert [row[:3] for row in table.texts()[:3]] == [
        ["least of clients", "10", "1"],
        ["median of clients", "109", "2"],
        ["most of clients", "208", "2"],
    ]
    many = census(train={"samples": 50, "classes": {str(label): 1 for label in range(50)}})
    assert {len(row) for row in clients_data.clients_data_tables(many)[0].texts()} == {4}


def test_all_of_it_is_in_a_csv() -> None:
    rows = list(csv.reader(io.StringIO(clients_data.to_csv(census(names=["cat", "a,b", "cow"])))))
    assert rows == [
        ["part", "samples", "cat", "a,b", "cow"],
        ["client-0", "10", "10", "0", "0"],
        ["client-1", "12", "11", "1", "0"],
        ["train", "22", "21", "1", "0"],
        ["test", "4", "3", "0", "1"],
    ]


def test_tables_have_it_and_the_accuracy_of_naming_the_largest_class_and_older_records_go_without() -> None:
    timelines = {"fedavg": make_timeline()}
    summary = summarize(make_manifest(data=counted(remarks=["odd | data"])), timelines)
    text = tables.to_markdown(summary)
    assert "## Clients' data" in text and "| client-1 | 12 | 2 | 91.67 |" in text
    assert "Naming the largest class of the test set always would have 75.00 %." in text
    assert "Note: data: odd | data" in text
    older = tables.to_markdown(summarize(make_manifest(), timelines))
    assert "Clients' data" not in older and "largest class" not in older


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_are_judged(tmp_path: Path) -> None:
    """A model that always names class 2 of three, whose test part is 6 x class 0 and 2 x class 2."""
    images = np.random.default_rng(1).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    judged = np.array([0] * 6 + [2] * 2)
    arrays = {"images": images, "labels": np.arange(12) % 3, "test_images": images[:8], "test_labels": judged}
    np.savez(tmp_path / "mine.npz", **arrays)  # type: ignore[arg-type]
    task = Task(dataset="mine", data_dir=str(tmp_path), clients=2)
    state = task.full_model().state_dict()
    last = list(state)[-1]
    state[last] = torch.tensor([0.0, 0.0, 1e6])
    scores = judge(task, task.halves(state)).scores
    assert (scores["accuracy"], scores["balanced_accuracy"]) == (2 / 8, 1 / 2)


def test_balanced_accuracy_is_in_history_summary_and_csv_and_older_ledgers_have_none() -> None:
    old = make_timeline()
    new = [msgspec.structs.replace(event, balanced=0.25) if isinstance(event, Evaluated) else event for event in old]
    for played, expected in ((new, 0.25), (old, None)):
        algorithm = summarize(make_manifest(), {"fedavg": played}).algorithms["fedavg"]
        assert algorithm.balanced_accuracy == expected
        assert [row.balanced_accuracy for row in algorithm.history] == [expected] * len(algorithm.history)
    text = figures_csv.to_csv(summarize(make_manifest(), {"fedavg": new}))
    assert next(csv.DictReader(io.StringIO(text)))["balanced_accuracy"] == "0.25"


def test_a_task_without_accuracy_has_its_loss_and_its_metrics_by_round_and_one_with_it_too() -> None:
    scores = {"mean_squared_error": 0.5}
    changes = {"accuracy": None, "balanced": None, "loss": 0.5, "scores": scores}
    events = [
        msgspec.structs.replace(event, **changes) if isinstance(event, Evaluated) else event
        for event in make_timeline()
    ]
    timelines = {"fedavg": Timeline(events)}
    run = RunRecord(make_manifest(), timelines, summarize(make_manifest(), timelines))
    algorithm = run.summary.algorithms["fedavg"]
    assert (algorithm.accuracy, algorithm.loss, algorithm.scores, algorithm.diverged) == (None, 0.5, scores, None)
    assert columns.rounds(run)["score_mean_squared_error"] == [0.5] * len(algorithm.history)
