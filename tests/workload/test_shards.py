"""Unequal partitions, local epochs, last batches and augmentation: what a client sees of its samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.data import datasets, partition
from algorithms.training.settings import rare_uploads
from algorithms.workload.loader import IMAGENET, PADDING, Preprocessing, Shard, flip_crop, tensors
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError

GREY = Preprocessing(255)


def numbered(count: int, shape: tuple[int, int, int] = (1, 1, 1)) -> datasets.Samples:
    """Samples whose label is their number and whose pixels are too, up to 255."""
    labels = np.arange(count)
    return datasets.Samples(
        np.broadcast_to((labels % 256).astype(np.uint8)[:, None, None, None], (count, *shape)), labels
    )


def labels_of(shard: Shard, round: int) -> list[list[int]]:
    return [y.tolist() for _, y in shard.batches(round)]


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(20, 300),
    clients=st.integers(1, 6),
    classes=st.integers(1, 12),
    alpha=st.sampled_from(["0.5", "3", "1e6"]),
    seed=st.integers(0, 2**31),
)
def test_an_unequal_partition_gives_each_sample_to_one_client_or_says_who_is_left_without(
    samples: int, clients: int, classes: int, alpha: str, seed: int
) -> None:
    labels = np.arange(samples) % classes
    try:
        parts = partition.divide(labels, clients, f"dirichlet-unequal:{alpha}", seed)
    except UserError as error:
        assert f"in none of {partition.MOST_DRAWS} draws" in str(error)
    else:
        assert sorted(np.concatenate(parts).tolist()) == list(range(samples))
        assert min(map(len, parts)) > 0


def test_a_large_alpha_shares_every_class_out_alike_and_a_small_one_does_not() -> None:
    labels = np.arange(10_000) % 10
    alike = [len(part) for part in partition.divide(labels, 10, "dirichlet-unequal:1e6", 1)]
    assert max(alike) - min(alike) < 50
    unlike = [len(part) for part in partition.divide(labels, 10, "dirichlet-unequal:0.5", 1)]
    assert max(unlike) > 2 * min(unlike)


def test_the_share_of_a_client_in_a_class_has_the_moments_of_dirichlet() -> None:
    labels, alpha, clients = np.zeros(10_000, int), 2.0, 5
    shares = np.array(
        [[len(p) for p in partition.divide(labels, clients, f"dirichlet-unequal:{alpha}", seed)] for seed in range(300)]
    )
    mean, variance = 1 / clients, (clients - 1) / (clients**2 * (clients * alpha + 1))
    assert (shares / 10_000).mean() == pytest.approx(mean)
    assert (shares / 10_000).var() == pytest.approx(variance, rel=0.15)


def test_an_unequal_partition_is_drawn_until_every_client_has_its_least_and_a_first_draw_that_serves_is_kept() -> None:
    """At alpha 0.1 and 50 clients a single draw leaves someone without a sample for about every second seed."""
    labels = np.arange(1500) % 10
    for seed in range(20):
        parts = partition.divide(labels, 50, "dirichlet-unequal:0.1", seed)
        assert min(map(len, parts)) >= 1
        assert sorted(np.concatenate(parts).tolist()) == list(range(1500))
    few, many = (partition.divide(labels, 10, f"dirichlet-unequal:0.5{least}", 1) for least in (":1", ":100"))
    assert min(map(len, few)) < 100 <= min(map(len, many))
    size = min(map(len, few))
    again = partition.divide(labels, 10, f"dirichlet-unequal:0.5:{size}", 1)
    assert all(np.array_equal(one, other) for one, other in zip(few, again, strict=True))
    with pytest.raises(UserError, match="10 clients with 151 are more than 1500 samples"):
        partition.divide(labels, 10, "dirichlet-unequal:0.5:151", 1)


def test_sizes_of_unequal_shards_are_known_before_and_after_they_are_prepared(tmp_path: Path) -> None:
    task = Task(clients=4, partition="dirichlet-unequal:1")
    prepared = prepare(task, tmp_path / "made")
    sizes = [len(prepared.shard(index)) for index in range(4)]
    assert task.shard_samples() == prepared.shard_samples() == sizes
    assert sum(sizes) == 1500
    assert len(set(sizes)) > 1


def test_a_partition_that_leaves_a_client_empty_is_refused_when_data_are_prepared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"in none of 1000 draws \(the client with the fewest had 0") as caught:
        prepare(Task(clients=10, partition="dirichlet-unequal:1e-200"), tmp_path / "made")
    assert "\n" not in str(caught.value)


def test_a_round_of_two_epochs_is_two_rounds_of_one() -> None:
    one, two = (Shard(numbered(10), 4, GREY, 7, 0, epochs) for epochs in (1, 2))
    assert labels_of(two, 0) == labels_of(one, 0) + labels_of(one, 1)
    assert labels_of(two, 1) == labels_of(one, 2) + labels_of(one, 3)
    assert (one.steps, two.steps) == (3, 6)


@pytest.mark.parametrize(
    ("count", "allow_batch_of_one", "sizes"),
    [
        (9, True, [4, 4, 1]),
        (9, False, [4, 5]),
        (10, False, [4, 4, 2]),
        (8, False, [4, 4]),
        (3, False, [3]),
        (1, False, [1]),
        (5, False, [5]),
    ],
)
def test_a_last_sample_that_may_not_stand_alone_joins_the_batch_before(
    count: int, allow_batch_of_one: bool, sizes: list[int]
) -> None:
    shard = Shard(numbered(count), 4, GREY, 1, 0, allow_batch_of_one=allow_batch_of_one)
    batches = labels_of(shard, 0)
    assert [len(batch) for batch in batches] == sizes
    assert shard.steps == len(sizes)
    assert sorted(label for batch in batches for label in batch) == list(range(count))


def test_where_a_model_has_batch_norm_no_batch_has_one_sample(tmp_path: Path) -> None:
    task = Task(dataset="synthetic:3x32x32:2:18", model="resnet18", clients=2, batch=4)  # 9 samples each
    for one in (task, prepare(task, tmp_path / "made")):
        assert [len(y) for _, y in one.shard(0).batches(0)] == [4, 5]
    assert [len(y) for _, y in Task(dataset=task.dataset, clients=2, batch=4).shard(0).batches(0)] == [4, 4, 1]


def test_how_many_steps_a_round_has_is_known_without_its_batches() -> None:
    """Of the client with the most samples; a q beyond them is warned of."""
    for model, steps in (("resnet18", 2), ("cnn", 3)):
        task = Task(dataset="synthetic:3x32x32:2:17", model=model, clients=2, batch=4, epochs=2)
        assert task.steps() == task.shard(0).steps == 2 * steps
        assert rare_uploads(task, 2 * steps, 1, restart_each_round=True) == []
        assert len(rare_uploads(task, 2 * steps + 1, 1, restart_each_round=True)) == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"batch": 1}, "^batch: resnet18 .*say 2"),
        ({"clients": 18, "batch": 4}, "^partition: .*client-0 has one sample"),
    ],
)
def test_batch_norm_of_one_sample_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    task = Task(**{"dataset": "synthetic:3x32x32:2:18", "model": "resnet18", "clients": 2, **changes})
    with pytest.raises(UserError, match=text):
        prepare(task, tmp_path / "made")


def test_an_augmented_image_is_a_window_of_the_padded_one_or_its_mirror_and_every_window_comes() -> None:
    image = np.arange(1, 26, dtype=np.uint8).reshape(1, 1, 5, 5)
    padded = np.pad(image[0], ((0, 0), (PADDING,) * 2, (PADDING,) * 2))
    places = range(2 * PADDING + 1)
    windows = [padded[:, i : i + 5, j : j + 5] for i in places for j in places]
    allowed = {window.tobytes() for window in windows} | {window[..., ::-1].tobytes() for window in windows}
    drawn = flip_crop(np.repeat(image, 5000, 0), np.random.default_rng(1))
    assert {one.tobytes() for one in drawn} == allowed
    middle = {image[0].tobytes(), np.ascontiguousarray(image[0, ..., ::-1]).tobytes()}
    share = np.mean([one.tobytes() in middle for one in drawn])
    assert share == pytest.approx(1 / len(windows), abs=0.006)


def test_augmentation_is_repeatable_differs_by_epoch_and_spares_the_test_part() -> None:
    task = Task(dataset="synthetic:3x8x8:2:40", clients=2, augment="flip-crop")
    shard = task.shard(0)
    once, again, later = ([x for x, _ in shard.batches(round)] for round in (0, 0, 1))
    assert all(map(torch.equal, once, again))
    assert not all(map(torch.equal, once, later))
    plain = [x for x, _ in Task(dataset=task.dataset, clients=2).shard(0).batches(0)]
    assert not any(map(torch.equal, once, plain))
    assert [x.shape for x in once] == [x.shape for x in plain]
    test, rows = datasets.load_all(task.dataset, "data")[1], np.arange(4)
    assert torch.equal(tensors(test, rows, task._preprocessing())[0], tensors(test, rows, GREY)[0])


def test_normalising_shifts_and_scales_each_channel() -> None:
    samples = numbered(3, (3, 2, 2))
    plain, _ = tensors(samples, np.arange(3), GREY)
    x, _ = tensors(samples, np.arange(3), GREY._replace(normalise="imagenet"))
    for channel, (mean, deviation) in enumerate(zip(*IMAGENET, strict=True)):
        assert torch.allclose(x[:, channel] * deviation + mean, plain[:, channel], atol=1e-6)


@pytest.mark.parametrize("partition", ["iid", "dirichlet-unequal:0.5", "shards:2"])
def test_a_client_has_two_sizes_of_a_batch_at_most(partition: str, tmp_path: Path) -> None:
    """torch keeps memory for each: a full batch and the last one of its samples, in every round and epoch."""
    made = prepare(Task(clients=5, samples_per_client=0, batch=16, epochs=2, partition=partition), tmp_path)
    for index in range(5):
        shard = made.shard(index)
        assert len({len(y) for round in range(3) for _, y in shard.batches(round)}) <= 2
