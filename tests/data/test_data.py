"""Data sets, partitions and shards: what every client sees is complete, disjoint and the same everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.data import datasets, streams
from algorithms.data import partition as partition_of
from algorithms.training.settings import Settings
from algorithms.workload.judging import judge
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError

PARTITIONS = ("iid", "dirichlet:1e-200", "dirichlet:0.01", "dirichlet:0.5", "dirichlet:1e6", "shards:1", "shards:3")
PRINT_DIGEST = """
import hashlib, sys
from algorithms.data import datasets, streams
from algorithms.data import partition as partition_of
digest = hashlib.sha256()
train, *_ = datasets.load_all("synthetic:1x4x4:7:300", "data")
digest.update(train.images.tobytes())
for partition in ("iid", "dirichlet:0.1", "shards:2"):
    for shard in partition_of.divide(train.labels, 6, partition, 3):
        digest.update(shard.tobytes())
digest.update(streams.stream(3, "order:0:0").permutation(100).tobytes())
assert "torch" not in sys.modules
print(digest.hexdigest())
"""


def test_digits_are_1500_to_train_and_297_to_test_with_every_class_in_both() -> None:
    train, test, *_ = datasets.load_all("digits", "data")
    assert train.images.shape == (1500, 1, 8, 8)
    assert test.images.shape == (297, 1, 8, 8)
    assert (train.images.max(), train.images.dtype, train.labels.dtype) == (16, np.uint8, np.int64)
    assert (np.bincount(train.labels).min(), np.bincount(test.labels).min()) == (141, 18)
    about = datasets.describe("digits", "data")
    assert about == datasets.Description((1, 8, 8), 10, len(train.labels), len(test.labels), 16)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 300),
    clients=st.integers(1, 40),
    classes=st.integers(1, 12),
    partition=st.sampled_from(PARTITIONS),
    seed=st.integers(0, 2**31),
)
def test_a_partition_gives_each_sample_to_one_client_in_shards_of_equal_size(
    samples: int, clients: int, classes: int, partition: str, seed: int
) -> None:
    clients = min(clients, samples)
    labels = np.arange(samples) % classes
    shards = partition_of.divide(labels, clients, partition, seed)
    assert sorted(np.concatenate(shards).tolist()) == list(range(samples))
    sizes = [len(shard) for shard in shards]
    assert sizes == partition_of.shard_sizes(samples, clients)
    assert max(sizes) - min(sizes) <= 1


def test_a_small_alpha_gives_the_first_client_fewer_classes_than_iid_does() -> None:
    train, *_ = datasets.load_all("digits", "data")

    def largest_share(partition: str) -> float:
        first = partition_of.divide(train.labels, 10, partition, 1)[0]
        return float(np.bincount(train.labels[first]).max() / len(first))

    assert largest_share("iid") < 0.25
    assert largest_share("dirichlet:0.01") > 0.9


def test_shards_give_a_client_few_classes() -> None:
    train, *_ = datasets.load_all("digits", "data")
    for parts, most in (("shards:1", 2), ("shards:2", 4)):
        shards = partition_of.divide(train.labels, 10, parts, 1)
        assert max(len(set(train.labels[shard].tolist())) for shard in shards) <= most


@given(
    clients=st.integers(1, 30),
    size=st.integers(1, 60),
    partition=st.sampled_from(["iid", "dirichlet:0.01", "dirichlet:5"]),
    seed=st.integers(0, 2**31),
)
def test_overlapping_parts_have_their_size_no_sample_twice_and_do_not_depend_on_the_number_of_clients(
    clients: int, size: int, partition: str, seed: int
) -> None:
    labels = np.arange(60) % 7
    parts = partition_of.draw_partition(labels, clients, partition, seed, size)
    assert [len(set(part.tolist())) for part in parts] == [size] * clients
    more = partition_of.draw_partition(labels, clients + 1, partition, seed, size)
    assert all((one == other).all() for one, other in zip(parts, more, strict=False))


def test_data_partitions_and_orders_do_not_depend_on_the_hash_seed_and_need_no_torch() -> None:
    root = Path(__file__).parents[2]
    digests = {
        subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_is_another_partition_and_another_order() -> None:
    one, other = (partition_of.divide(np.zeros(50, int), 2, "iid", seed)[0].tolist() for seed in (1, 2))
    assert one != other
    one, other = (streams.stream(1, f"order:{client}:0").permutation(50).tolist() for client in (0, 1))
    assert one != other


def test_an_epoch_shows_each_sample_once_and_the_next_epoch_in_another_order() -> None:
    shard = Task(clients=11, batch=16).shard(0)
    assert (len(shard), shard.steps) == (137, 9)
    first, again, second = (list(shard.batches(epoch)) for epoch in (0, 0, 1))
    assert [len(y) for _, y in first] == [16] * 8 + [9]

    def rows(epoch: list[tuple[object, object]]) -> list[bytes]:
        return [image.numpy().tobytes() for x, _ in epoch for image in x]  # type: ignore[attr-defined]

    assert rows(first) == rows(again)
    assert rows(first) != rows(second)
    assert sorted(rows(first)) == sorted(rows(second))


def test_pixels_are_float32_from_0_to_1() -> None:
    x, y = next(Task().shard(3).batches(0))
    assert (str(x.dtype), str(y.dtype), tuple(x.shape)) == ("torch.float32", "torch.int64", (16, 1, 8, 8))
    assert (x.min().item(), x.max().item()) == (0.0, 1.0)
    assert bool((x * 16 == (x * 16).round()).all())


@pytest.mark.parametrize("dataset", ["digits", "synthetic:3x6x5:4:700"])
def test_prepared_files_hold_what_a_node_would_load_and_no_other_client_s_samples(dataset: str, tmp_path: Path) -> None:
    task = Task(dataset=dataset, clients=3, batch=50, partition="dirichlet:0.5")
    prepared = prepare(task, tmp_path / "made")
    for index in range(3):
        plain, mapped = task.shard(index), prepared.shard(index)
        assert isinstance(mapped._samples.images.base, np.memmap)
        assert not mapped._samples.images.flags.writeable
        assert len(plain) == len(mapped) == mapped._samples.images.shape[0]
        for (x1, y1), (x2, y2) in zip(plain.batches(2), mapped.batches(2), strict=True):
            assert bool((x1 == x2).all())
            assert bool((y1 == y2).all())
    whole = task.full_model()
    parts = task.halves(whole.state_dict())
    assert judge(task, parts).scores == judge(prepared, parts).scores


def test_synthetic_data_are_classes_that_a_nearest_mean_tells_apart() -> None:
    train, test, *_ = datasets.load_all("synthetic:1x8x8:5:1000", "data")
    assert (len(train.labels), len(test.labels)) == (1000, 200)
    means = np.stack([train.images[train.labels == label].mean(0) for label in range(5)])
    distances = ((test.images[:, None].astype(float) - means) ** 2).sum((2, 3, 4))
    assert (distances.argmin(1) == test.labels).mean() > 0.95


BAD_TASKS = {
    "unknown data set": ({"dataset": "cifar11"}, "dataset: there is no 'cifar11'"),
    "a path as data set": ({"dataset": "../digits"}, "dataset: there is no"),
    "synthetic without sizes": ({"dataset": "synthetic:3x32:10:5000"}, "synthetic:CxHxW:CLASSES:SAMPLES"),
    "synthetic of nothing": ({"dataset": "synthetic:3x32x32:10:0"}, "positive"),
    "synthetic without end": ({"dataset": "synthetic:3x99999x99999:10:5000"}, "GiB, more than this host's memory"),
    "synthetic classes without end": ({"dataset": "synthetic:1x8x8:999999999:10"}, "more than this host's memory"),
    "synthetic of thousands of digits": ({"dataset": f"synthetic:1x8x8:10:{'9' * 5000}"}, "with positive numbers"),
    "one class": ({"dataset": "synthetic:3x32x32:1:10"}, "at least 2 classes"),
    "images too small": ({"dataset": "synthetic:1x2x2:2:100"}, "at least 4 pixels"),
    "unknown partition": ({"partition": "blobs"}, "partition: 'blobs'"),
    "shards without number": ({"partition": "shards"}, "shards:N"),
    "no shards": ({"partition": "shards:0"}, "shards:N"),
    "overlapping shards": ({"partition": "shards:2", "samples_per_client": 5}, "leave out --samples-per-client"),
    "negative samples": ({"samples_per_client": -1}, "--samples-per-client -1: say 1 to 1500"),
    "more samples than there are": ({"samples_per_client": 1501}, "say 1 to 1500"),
    "alpha of zero": ({"partition": "dirichlet:0"}, "above 0"),
    "negative alpha": ({"partition": "dirichlet:-1"}, "above 0"),
    "alpha not a number": ({"partition": "dirichlet:nan"}, "above 0"),
    "alpha missing": ({"partition": "dirichlet"}, "above 0"),
    "no batch": ({"batch": 0}, "batch: must be at least 1, not 0"),
    "no clients": ({"clients": 0}, "clients: must be at least 1, not 0"),
    "too many clients": ({"clients": 1501}, "more than the 1500 samples"),
    "no epochs": ({"epochs": 0}, "epochs: must be at least 1"),
    "unequal parts that overlap": (
        {"partition": "dirichlet-unequal:1", "samples_per_client": 5},
        "leave out --samples-per-client",
    ),
    "unknown augmentation": ({"augment": "mixup"}, "augment: there is no 'mixup': say none or flip-crop"),
    "unknown normalisation": ({"normalise": "cifar"}, "normalise: there is no 'cifar': say none or imagenet"),
    "grey images like ImageNet's": ({"normalise": "imagenet"}, "normalise: imagenet is for 3 channels"),
}


@pytest.mark.parametrize("case", BAD_TASKS)
def test_a_bad_task_is_refused_in_one_line_that_names_the_key(case: str) -> None:
    values, text = BAD_TASKS[case]
    with pytest.raises(UserError) as caught:
        Task(**values).check()  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [{"model": "vgg"}, {"cut": "layer9"}, {"aux": "big"}])
def test_a_model_cut_or_auxiliary_that_is_none_is_refused_when_it_is_prepared(
    values: dict[str, str], tmp_path: Path
) -> None:
    ((key, value),) = values.items()
    with pytest.raises(UserError, match=rf"^{key}: .*'{value}': say ") as caught:
        prepare(Task(**values), tmp_path / "made")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [{"rounds": 0}, {"stop_after_s": -1.0}, {"client_lr": float("nan")}])
def test_bad_settings_are_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(values))):
        Settings(**values).check()  # type: ignore[arg-type]


def test_what_was_not_prepared_is_said_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data set was prepared there") as caught:
        Task(folder=str(tmp_path)).shard_samples()
    assert str(tmp_path) in str(caught.value)


def test_no_round_starts_after_the_time_limit_but_the_first_one() -> None:
    timed = Settings(rounds=3, stop_after_s=15.0)
    assert [timed.has_next_round(round, 14_999_999_999) for round in range(4)] == [True, True, True, False]
    assert [timed.has_next_round(round, 15_000_000_000) for round in range(4)] == [True, False, False, False]
    assert Settings(rounds=3, stop_after_s=None).has_next_round(2, 10**15)
