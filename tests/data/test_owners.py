"""Partitions that nobody draws: by a file, or by the data set's own key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from algorithms.data import datasets, identity, owners
from algorithms.workload.task import Task, facts, prepare
from emulator.errors import UserError

SYNTHETIC = "synthetic:1x4x4:2:6"


def table(folder: Path, text: str) -> str:
    (folder / "parts.csv").write_text(text)
    return f"file:{folder / 'parts.csv'}"


def archive(folder: Path, **arrays: object) -> Task:
    draws = np.random.default_rng(1)
    images = draws.integers(0, 255, (8, 4, 4), np.uint8)
    labels = np.arange(8) % 2
    parts = {"images": images[:6], "labels": labels[:6], "test_images": images[6:], "test_labels": labels[6:]}
    np.savez(folder / "mine.npz", **parts, **arrays)
    return Task(dataset="mine", data_dir=str(folder), partition="natural", clients=3, batch=2)


def prepared(task: Task, folder: Path) -> list[list[int]]:
    """The rows of each client, found by its images."""
    train, *_ = datasets.load_all(task.dataset, task.data_dir)
    row = {image.tobytes(): index for index, image in enumerate(train.images)}
    made = prepare(task, folder / "made")
    assert made.shard_samples() == task.shard_samples() == [len(made.shard(index)) for index in range(task.clients)]
    return [
        [row[image.tobytes()] for image in datasets.read(made.folder, f"client-{index}").images]
        for index in range(task.clients)
    ]


def test_a_file_says_whose_each_sample_is_in_any_order_and_10_comes_after_2(tmp_path: Path) -> None:
    parts = table(tmp_path, "sample,client\n5,10\n0,2\n1, 10\n\n2,7\n3,2\n4,7\n")
    task = Task(dataset=SYNTHETIC, partition=parts, clients=3, batch=2)
    assert prepared(task, tmp_path) == [[0, 3], [2, 4], [1, 5]]


def test_an_archive_says_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", client=np.array(["b", "a", "b", "a", "a", "c"]))
    task = Task(dataset=SYNTHETIC, partition=f"file:{tmp_path / 'p.npz'}", clients=3, batch=2)
    assert prepared(task, tmp_path) == [[1, 3, 4], [0, 2], [5]]


@pytest.mark.parametrize("name", ["owners", "subjects"])
def test_a_data_set_has_a_key_of_its_own(tmp_path: Path, name: str) -> None:
    task = archive(tmp_path, **{name: np.array([30, 1, 2, 1, 30, 2])})
    assert prepared(task, tmp_path) == [[1, 3], [2, 5], [0, 4]]


def test_of_more_owners_than_clients_some_are_drawn_and_the_run_says_how_many_is_in_use(tmp_path: Path) -> None:
    task = msgspec.structs.replace(archive(tmp_path, users=np.array([0, 0, 1, 1, 2, 2])), clients=2)
    drawn = set()
    for seed in range(12):
        rows = task._shards(datasets.load_all("mine", str(tmp_path)))
        drawn.add(str([part.tolist() for part in rows]))
        task = msgspec.structs.replace(task, seed=seed)
    assert drawn == {"[[0, 1], [2, 3]]", "[[0, 1], [4, 5]]", "[[2, 3], [4, 5]]"}
    said = [line for line in facts(prepare(task, tmp_path / "made"))["remarks"] if line.startswith("partition")]
    assert said == ["partition: natural: 4 of 6 training samples are in use: those of the 2 owners that were drawn"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("client,sample\n", "parts.csv: begins with 'client,sample': its first line is sample,client"),
        ("", "begins with ''"),
        ("sample,client\n0,a\n0,a\n", "parts.csv:3: sample 0 is there twice"),
        ("sample,client\n6,a\n", "parts.csv:2: there is no sample 6: the training part has 6, from 0"),
        ("sample,client\n-1,a\n", "parts.csv:2: '-1,a' is no line SAMPLE,CLIENT"),
        ("sample,client\n1\n", "'1' is no line"),
        ("sample,client\n1,\n", "'1,' is no line"),
        ("sample,client\n0,a\n2,b\n", "4 of 6 training samples have no client: 1, 3, 4, 5: give each one line"),
        ("sample,client\n" + "".join(f"{i},{i}\n" for i in range(6)), "has 6 clients: say --clients 6"),
        (
            "sample,client\n" + "".join(f"{i},a\n" for i in range(6)),
            "1 owners, and there are 3 clients: say --clients 1",
        ),
    ],
)
def test_a_file_that_misses_or_doubles_a_sample_is_refused_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    task = Task(dataset=SYNTHETIC, partition=table(tmp_path, text), clients=3)
    with pytest.raises(UserError) as caught:
        prepare(task, tmp_path / "made")
    assert str(caught.value).startswith("partition: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.arange(5), "client: must be the client of each of 6 training samples, not shape [5]"),
        (np.linspace(0, 1, 6), "must be whole numbers or names, not float64"),
        (np.array([None] * 6), "cannot be read"),
    ],
)
def test_an_array_that_says_it_otherwise_is_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.savez(tmp_path / "p.npz", client=array)
    with pytest.raises(UserError, match="partition: ") as caught:
        owners.read_owners(tmp_path / "p.npz", 6)
    assert said in str(caught.value)


def test_files_that_are_none_and_keys_that_are_missing_are_refused(tmp_path: Path) -> None:
    for name in ("nowhere.csv", "nowhere.npz"):
        with pytest.raises(UserError, match=f"partition: .*{name}: cannot be read"):
            owners.read_owners(tmp_path / name, 6)
    with pytest.raises(UserError, match="natural: this data set does not say whose its samples are"):
        prepare(Task(dataset=SYNTHETIC, partition="natural", clients=2), tmp_path / "made")
    with pytest.raises(UserError, match=r"npz: users: must be a number or a name for each of 6 samples, not .* \[2\]"):
        prepare(archive(tmp_path, users=np.arange(2)), tmp_path / "made")
    with pytest.raises(UserError, match="has owners and groups: leave one of them out"):
        prepare(archive(tmp_path, owners=np.arange(6), groups=np.arange(6)), tmp_path / "made")
    with pytest.raises(UserError, match="natural says which samples a client has: leave out --samples-per-client"):
        Task(partition="natural", samples_per_client=5).check()


def test_the_file_of_a_partition_is_part_of_what_the_data_are(tmp_path: Path) -> None:
    one = identity.identity("digits", "data", table(tmp_path, "sample,client\n0,a\n"))
    other = identity.identity("digits", "data", table(tmp_path, "sample,client\n0,b\n"))
    assert len({one["sha256"], other["sha256"], identity.identity("digits", "data")["sha256"]}) == 3
