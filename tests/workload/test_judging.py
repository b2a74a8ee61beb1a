"""The metric of the joined model for each client: over its own test samples, or by the labels that it has."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from algorithms.data import datasets
from algorithms.workload import judging
from algorithms.workload.judging import by_labels, judge
from algorithms.workload.task import Task, facts, prepare
from emulator.errors import UserError
from emulator.ledger.census import Census
from emulator.runtime.evaluator import evaluated_event

OWN = Path(__file__).parents[1] / "support" / "own_workloads.py"


def judged(task: Task, folder: Path) -> tuple[Task, judging.Judgement, Census]:
    prepared = prepare(task, folder)
    found = judge(prepared, prepared.halves(prepared.full_model().state_dict()))
    return prepared, found, msgspec.convert(facts(prepared), Census)


def test_by_labels_a_recall_counts_as_often_as_its_class_and_an_unjudged_class_does_not() -> None:
    recall = np.array([0.5, 0.9, np.nan])
    assert by_labels(recall, {"0": 3, "1": 1}) == pytest.approx((3 * 0.5 + 1 * 0.9) / 4)
    assert by_labels(recall, {"1": 2, "2": 7}) == pytest.approx(0.9)
    assert by_labels(recall, {"2": 7}) is None


def test_clients_whose_labels_are_distributed_as_the_test_part_s_have_its_accuracy_each(tmp_path: Path) -> None:
    name = "synthetic:1x8x8:4:80"
    train, test, *_ = datasets.load_all(name, "data")
    assert np.bincount(test.labels).tolist() == [4] * 4
    even = np.argsort(np.argsort(train.labels, kind="stable"), kind="stable") % 2  # ten of each class for each of two
    for whose, equal in ((even, True), ((train.labels > 1).astype(int), False)):
        np.savez(tmp_path / "parts.npz", client=whose)
        task = Task(dataset=name, clients=2, partition=f"file:{tmp_path / 'parts.npz'}", seed=3)
        _, found, census = judged(task, tmp_path / f"made-{equal}")
        assert census.judged is not None
        assert census.judged.by_client == "training labels"
        assert (found.clients == [pytest.approx(found.scores["accuracy"])] * 2) == equal
        assert np.mean([score for score in found.clients if score is not None]) == pytest.approx(
            found.scores["accuracy"]
        )


@pytest.mark.parametrize(("dataset", "model"), [("windows", "Recurrent"), ("tokens", "Tagger")])
def test_all_training_labels_together_weigh_recalls_as_the_confusion_by_hand(
    dataset: str, model: str, tmp_path: Path
) -> None:
    words = {"dataset": f"{OWN}:{dataset}", "model": f"{OWN}:{model}", "ignore_index": -7}
    task, found, census = judged(Task(**words, clients=2, seed=3), tmp_path / "made")
    test = datasets.read(task.folder, "test")
    with torch.no_grad():
        said = task.full_model().eval()(torch.from_numpy(np.array(test.images))).argmax(-1).numpy()
    expected = []
    for client in census.clients:
        shares = {int(c): n / sum(client.classes.values()) for c, n in client.classes.items()}
        expected.append(sum(p * np.mean(said[test.labels == c] == c) for c, p in shares.items()))
    assert found.clients == pytest.approx(expected)


def test_by_the_data_set_s_own_key_a_client_is_judged_by_its_own_test_samples(tmp_path: Path) -> None:
    (tmp_path / "keyed.py").write_text(
        f"import sys\nsys.path.append({str(OWN.parent)!r})\nimport numpy as np\nfrom own_workloads import windows\n"
        "def data():\n    train, test, whose = windows()\n"
        "    return train, test, whose, np.array([0, 1, 1, 2, 99] + [4] * 11)\n"
        "def values():\n    (x, _), (t, _), whose, tests = data()\n"
        "    return (x[:, 0, :20], x[:, 1, 0]), (t[:, 0, :20], t[:, 1, 0]), whose, tests\n"
    )
    natural = {"partition": "natural", "clients": 9, "seed": 3}
    word = str(tmp_path / "keyed.py")
    task, found, census = judged(Task(dataset=f"{word}:data", model=f"{OWN}:conv", **natural), tmp_path / "a")
    assert census.judged is not None
    assert census.judged.by_client == "own test samples"
    test = datasets.read(task.folder, "test")
    with torch.no_grad():
        said = task.full_model().eval()(torch.from_numpy(np.array(test.images))).argmax(1).numpy()
    right = (said == test.labels).astype(float)
    expected = [right[0], right[1:3].mean(), right[3], None, right[5:].mean(), None, None, None, None]
    assert found.clients == [None if value is None else pytest.approx(value) for value in expected]
    _, found, _ = judged(Task(dataset=f"{word}:values", model=f"{OWN}:mlp", **natural), tmp_path / "b")
    weights = [1, 2, 1, 0, 11, 0, 0, 0, 0]
    mean = sum(w * score for w, score in zip(weights, found.clients, strict=True) if score is not None) / 15
    whole = found.scores["mean_squared_error"]
    assert mean != pytest.approx(whole, rel=1e-6)  # the sample of 99, who has no client, is in the whole alone
    _, found, census = judged(Task(dataset=f"{word}:values", model=f"{OWN}:mlp", clients=9), tmp_path / "c")
    assert census.judged is not None
    assert (found.clients, census.judged.by_client) == ([], "")


@pytest.mark.parametrize(
    ("tests", "text"),
    [
        ("np.zeros(15)", "test_owners: must be a number or a name for each of 16 samples, not float64 of shape"),
        ("np.array(['a'] * 16)", "test_owners: are <U1, and owners int64: name both alike"),
    ],
)
def test_owners_of_the_test_part_that_cannot_be_are_refused(tests: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        f"import sys\nsys.path.append({str(OWN.parent)!r})\nimport numpy as np\nfrom own_workloads import windows\n"
        f"def data():\n    return *windows(), {tests}\n"
    )
    with pytest.raises(UserError, match=text):
        prepare(Task(dataset=f"{tmp_path / 'bad.py'}:data", model=f"{OWN}:conv", clients=2), tmp_path / "made")


def test_a_model_of_no_numbers_has_no_metric_for_any_client() -> None:
    parts = {"client": {"w": torch.tensor([torch.nan])}}
    assert evaluated_event(0, 1, 1, parts, {"loss": 1.0, "accuracy": 0.5}, [0.5, 0.4]).clients == []
