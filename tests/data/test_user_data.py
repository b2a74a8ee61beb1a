"""Data of a user's own: read as they are meant, or refused in one line; prepared, divided, judged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from algorithms import fedavg, splitfed_v1
from algorithms.commands.cuts import command as cuts_command
from algorithms.commands.sweep import dependencies
from algorithms.data import datasets, identity, user_data
from algorithms.workload.judging import judge
from algorithms.workload.task import Task, facts, prepare
from emulator.errors import UserCodeError, UserError
from emulator.ledger.census import Census
from emulator.tables import clients_data
from emulator.testing.recording import record

OWN = Path(__file__).parents[1] / "support" / "own_workloads.py"

CASES = [
    ("windows", "conv", "classification", "accuracy", (6, 128), torch.float32),
    ("vectors", "mlp", "regression", "mean_squared_error", (20,), torch.float32),
    ("tokens", "Tagger", "per-position", "token_accuracy", (64,), torch.int64),
]


@pytest.mark.parametrize(("dataset", "model", "kind", "metric", "shape", "dtype"), CASES)
def test_it_is_read_divided_trained_and_judged_by_its_own_metric(
    dataset: str, model: str, kind: str, metric: str, shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    task = Task(dataset=f"{OWN}:{dataset}", model=f"{OWN}:{model}", clients=2, batch=8, ignore_index=-7)
    task.check()
    prepared = prepare(task, tmp_path / "made")
    about = datasets.read_about(prepared.folder)
    assert (about.kind, about.shape, about.train, about.test) == (kind, shape, 44, 16)
    x, y = next(prepared.shard(0).batches(0))
    example_x, example_y = prepared.example_batch(8)
    assert (x.dtype, x.shape, y.dtype, y.shape) == (dtype, example_x.shape, example_y.dtype, example_y.shape)
    played = record(splitfed_v1, {"rounds": 1, "task": msgspec.to_builtins(prepared)})
    scores = judge(prepared, played.snapshots[0]).scores
    assert {"loss", metric} <= scores.keys() and all(np.isfinite(list(scores.values())))
    found = facts(prepared)
    assert (found["judged"]["task"], found["judged"]["metric"]) == (kind, metric)
    assert [held["samples"] for held in found["clients"]] == [22, 22]
    census = msgspec.convert(found, Census)
    lines = clients_data.first_lines(census)
    assert lines[0].startswith(f"Data: {OWN}:{dataset}, {'x'.join(map(str, shape))}, values ")
    assert len(clients_data.clients_data_tables(census)) == 1


def test_labels_of_a_smashed_batch_are_as_many_bytes_as_they_are(tmp_path: Path) -> None:
    """int64 one a position: 8 samples of 64 tokens."""
    task = Task(dataset=f"{OWN}:tokens", model=f"{OWN}:Tagger", clients=1, batch=8, ignore_index=-7)
    _, y = next(prepare(task, tmp_path).shard(0).batches(0))
    assert y.nbytes == 8 * 64 * 8


def test_a_natural_partition_is_by_the_owners_that_the_data_give(tmp_path: Path) -> None:
    task = Task(dataset=f"{OWN}:windows", model=f"{OWN}:conv", clients=9, batch=8, partition="natural")
    owners = user_data.read(task.dataset, "data", "", -100).owners
    assert owners is not None
    expected = np.unique(owners, return_counts=True)[1].tolist()
    assert task.shard_samples() == [len(prepare(task, tmp_path).shard(index)) for index in range(9)] == expected


def test_the_example_of_data_is_divided_by_subject_and_learned(tmp_path: Path) -> None:
    page = OWN.parents[2] / "docs/extending/dataset.md"
    (source,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (tmp_path / "mine.py").write_text(source)
    words = {"dataset": f"{tmp_path}/mine.py:windows", "model": f"{tmp_path}/mine.py:Recurrent"}
    prepared = prepare(Task(**words, partition="natural", clients=9), tmp_path / "made")
    sizes = [held["samples"] for held in facts(prepared)["clients"]]
    assert sum(sizes) == 320 and max(sizes) > 3 * min(sizes)
    settings = {"rounds": 4, "client_lr": 0.01, "stop_after_s": None, "task": msgspec.to_builtins(prepared)}
    losses = [judge(prepared, parts).scores["loss"] for parts in record(fedavg, settings).snapshots]
    assert losses[-1] < losses[0]


def test_the_supervisor_looks_at_no_data_and_the_source_counts(tmp_path: Path) -> None:
    path = tmp_path / "counted_data.py"
    path.write_text("raise RuntimeError")
    word = f"{path}:make"
    Task(dataset=word, clients=1).check()
    before = identity.identity(word, "data")
    path.write_text("raise ValueError")
    after = identity.identity(word, "data")
    assert before["sha256"] != after["sha256"] and before["of"] == "the source that makes them"
    assert dependencies.user_objects.digests(word, "x")["counted_data.py"]


def written(tmp_path: Path, body: str) -> str:
    head = (
        "import numpy as np\nx = np.random.default_rng(1).normal(size=(8, 6)).astype('float32')\ny = np.arange(8) % 2\n"
    )
    (tmp_path / "d.py").write_text(f"{head}def make():\n    {body}\n")
    return f"{tmp_path}/d.py:make"


REFUSED = {
    "return x, y, 1, 2, 3": r"must return \(train, test\), each a Dataset or a pair \(inputs, labels\)$",
    "return x, y": r"train must be a Dataset or a pair \(inputs, labels\), not ndarray$",
    "return (x, y[:7]), (x, y)": r"train must have a label for each of its inputs: there are 8 and 7$",
    "return (x, y - 1), (x, y)": r"train labels: must be class numbers from 0: a label is -1$",
    "return (x, y), (x, y + 1)": r"labels: the test part has classes that no training sample has: 2",
    "return {'train': (x, y), 'test': (x, y), 'names': 'a'}": r"labels go to 1, and there are 1 names",
    "x[3, 2] = np.nan; return (x, y), (x, y)": r"train: sample 3 has values that are infinite or no numbers",
    "return (x, x[:, 0] / 0), (x, x[:, 0])": r"train labels: sample 0 has values that are infinite",
    "return (y, y), (y, y)": r"inputs must be \[N, \.\.\.\] with at least one axis a sample, not \[8\]$",
    "return (x, y), (x[:, :5], y)": r"a training sample has shape \[6\], and a test sample \[5\]$",
    "return ((x * 9).astype(int), y), ((x * 9).astype(int), y)": r"inputs are whole numbers from -\d+ to \d+, no tok",
    "return [(x, np.stack([y, y], 1))] * 2": r"labels of 0 and 1 may be several of a sample or one a position: ",
    "return [(x, np.full((8, 3), -100))] * 2": r"train: no label of sample 0 counts: leave it out$",
    "return [(x, np.full((8, 3), -2))] * 2": r"train labels must be from 0, or -100 where they do not count: one is",
    "return {'train': (x, y), 'tests': (x, y)}": r"must return \(train, test\)",
    "return [[(x[0], 1), (x[0, :3], 0), (x[1], 1)]] * 2": r"train: sample 1 has shape \[3\], and sample 0 \[6\]: pad",
    "return (x, np.array(list('abababab'))), (x, y)": r"train: labels must be numbers of one shape, not <U1$",
    "return {'train': (x, y), 'test': (x, y), 'task': 'ranking'}": r"task: there is no 'ranking': say one of classific",
}


@pytest.mark.parametrize("body", REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line(body: str, tmp_path: Path) -> None:
    word = written(tmp_path, body)
    with np.errstate(divide="ignore"), pytest.raises(UserError, match=f"^dataset: {word}: {REFUSED[body]}") as caught:
        user_data.read(word, "data", "", -100)
    assert "\n" not in str(caught.value)


def test_a_failure_of_the_callable_is_said_by_its_own_line(tmp_path: Path) -> None:
    word = written(tmp_path, "return open('nowhere/at-all')")
    with pytest.raises(
        UserCodeError, match=r"^d\.py:5 \(return open\('nowhere/at-all'\)\): dataset: .* fails: FileNot"
    ):
        user_data.read(word, "data", "", -100)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"partition": "dirichlet:1"}, "partition: dirichlet goes by the class of a sample, which there is not in reg"),
        ({"augment": "flip-crop"}, "normalise, augment: they are for images"),
        (
            {"model": "resnet18"},
            "model: resnet18 takes images CxHxW and returns a value a class, and the samples are 20",
        ),
        ({"task_kind": "multilabel"}, "labels must be whole numbers for multilabel, not float32"),
    ],
)
def test_what_does_not_go_with_a_regression_is_refused(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    task = Task(dataset=f"{OWN}:vectors", model=f"{OWN}:mlp", clients=2)
    with pytest.raises(UserError, match=text):
        prepare(msgspec.structs.replace(task, **changes), tmp_path)


def test_bytes_become_0_to_1_and_several_labels_are_asked_for(tmp_path: Path) -> None:
    word = written(tmp_path, "return [((x * 9).astype('uint8'), np.stack([y, 1 - y, y], 1))] * 2")
    found = user_data.read(word, "data", "multilabel", -100)
    assert (found.kind, found.classes, found.labels[0].dtype) == ("multilabel", 3, np.uint8)
    assert datasets.describe(word, "data", "multilabel").levels == 255
    with pytest.raises(UserError, match="task_kind: digits has one class a sample"):
        Task(task_kind="regression").check()


def test_an_archive_of_inputs_takes_floats_and_tokens_of_any_shape(tmp_path: Path) -> None:
    for name, brought in (("windows", "windows"), ("tagged", "tokens"), ("house", "vectors")):
        own = user_data.read(f"{OWN}:{brought}", "data", "", -7)
        arrays = {"inputs": own.inputs[0], "labels": own.labels[0], "test_inputs": own.inputs[1]}
        whose = {} if own.owners is None else {"subjects": own.owners}
        np.savez(tmp_path / f"{name}.npz", **arrays, test_labels=own.labels[1], **whose)
        read = Task(dataset=name, data_dir=str(tmp_path), model=f"{OWN}:conv", clients=2, ignore_index=-7)
        read.check()
        about = datasets.describe(name, str(tmp_path), "", -7)
        assert about == datasets.describe(f"{OWN}:{brought}", "data", "", -7)
        loaded = datasets.load_all(name, str(tmp_path), ignore_index=-7)
        assert np.array_equal(loaded.train.images, own.inputs[0]) and np.array_equal(loaded.test.labels, own.labels[1])
        assert (loaded.owners is None) == (own.owners is None)
    np.savez(tmp_path / "half.npz", inputs=own.inputs[0], labels=own.labels[0])
    with pytest.raises(UserError, match=r"half\.npz: has inputs, and no test_inputs: save inputs, labels, test_inputs"):
        datasets.describe("half", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Tagger", "--dataset", "{data}:tokens", "--ignore-index=-7"], "samples of 64 tokens of 30, output 64x4"),
        (
            ["Tagger", "--input", "64", "--vocabulary", "30", "--output", "64x4"],
            "samples of 64 tokens of 30, output 64x4",
        ),
        (["mlp", "--dataset", "{data}:vectors"], "samples of 20, output 1"),
        (["mlp", "--dataset", "{data}:vectors", "--classes", "1"], ""),
    ],
)
def test_cuts_takes_the_samples_of_a_data_set(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, *flags = (word.format(data=OWN) for word in words)
    if not said:
        with pytest.raises(UserError, match=r"--classes: --dataset .*vectors says it: leave one of them out"):
            cuts_command([f"{OWN}:{model}", *flags])
    else:
        assert cuts_command([f"{OWN}:{model}", *flags]) == 0
        assert said in " ".join(capsys.readouterr().out.split())
