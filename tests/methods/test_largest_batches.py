"""A last sample that joined the batch before it, and clients of few samples: who stands for the others beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from algorithms import ALGORITHMS, splitfed_v1
from algorithms.fsl_sage import method as fsl_sage
from algorithms.training.settings import Settings
from algorithms.workload.task import Task, prepare
from emulator.ledger.events import Reported
from emulator.preflight.memory_estimate import estimate_memory
from emulator.preflight.profiling import profile_costs
from emulator.testing.recording import record
from emulator.testing.stage import make_scenario


def settings_of(task: Task, folder: Path) -> dict[str, Any]:
    return {"rounds": 1, "stop_after_s": None, "task": msgspec.to_builtins(prepare(task, folder))}


@pytest.mark.parametrize("name", ["fedavg", "cse-fsl", "splitfed-v1"])
def test_the_client_with_the_largest_batch_stands_for_those_of_its_kind(name: str, tmp_path: Path) -> None:
    """Of 10 and 9 samples in batches of 4, the second client's last one joins: 4, 5; the first has 4, 4, 2."""
    joined = Task(dataset="synthetic:1x8x8:2:19", clients=2, batch=4, allow_batch_of_one=False)
    five = Task(dataset="synthetic:1x8x8:2:20", clients=2, batch=5)
    assert [len(y) for _, y in joined.shard(1).batches(0)] == [4, 5]
    where = ALGORITHMS[name], settings_of(joined, tmp_path / "joined"), make_scenario(2), 1
    (account,) = estimate_memory(*where)
    (expected,) = estimate_memory(ALGORITHMS[name], settings_of(five, tmp_path / "five"), make_scenario(2), 1)
    assert account.total_bytes == expected.total_bytes
    assert account.kinds == expected.kinds
    assert any("[5, " in key for key in profile_costs(*where).costs)


def test_the_largest_batch_is_that_of_the_batches_themselves() -> None:
    for samples in range(1, 20):
        for batch in (2, 4, 16):
            for allow_batch_of_one in (True, False):
                task = Task(
                    dataset=f"synthetic:1x4x4:2:{samples + 1}",
                    clients=1,
                    batch=batch,
                    allow_batch_of_one=allow_batch_of_one,
                )
                task = msgspec.structs.replace(task, samples_per_client=samples)
                assert task.largest_batch(samples) == max(len(y) for _, y in task.shard(0).batches(0))


def test_of_unequal_clients_the_first_with_the_largest_batch_is_the_heaviest(tmp_path: Path) -> None:
    prepared = prepare(Task(clients=12, partition="dirichlet-unequal:0.5", batch=200), tmp_path / "made")
    settings, sizes = Settings(task=prepared), prepared.shard_samples()
    largest = [min(size, 200) for size in sizes]
    assert len(set(largest)) > 3
    for indices in (list(range(12)), [5, 3, 8], [2]):
        assert largest[settings.heaviest(indices)] == max(largest[index] for index in indices)
    assert settings.heaviest(list(range(12))) == largest.index(max(largest))


def test_batch_norm_in_the_server_half_alone_joins_the_last_sample_at_the_client_too() -> None:
    task = Task(dataset="synthetic:3x32x32:2:18", model="resnet18", cut="conv1", clients=2, batch=4)
    client, server = task.client_half(), task.server_half()
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in client.modules())
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in server.modules())
    done = record(splitfed_v1, {"rounds": 1, "task": task})
    batches = [len(step.result[1]) for step in done.hosts["server"].done if step.function == "cut_step"]
    assert sorted(batches) == [4, 4, 5, 5]


@pytest.mark.parametrize("partition", ["shards:1", "dirichlet:0.001"])
@pytest.mark.parametrize("name", ["fsl-sage", "heron-sfl"])
def test_clients_of_one_label_train_and_align_to_finite_numbers(name: str, partition: str) -> None:
    import importlib

    task = Task(dataset="synthetic:1x8x8:4:40", partition=partition, clients=4, batch=4)
    labels = [torch.cat([y for _, y in task.shard(index).batches(0)]).unique() for index in range(4)]
    assert min(map(len, labels)) == 1
    module = importlib.import_module(ALGORITHMS[name])
    played = record(module, msgspec.convert({"rounds": 2, "task": msgspec.to_builtins(task)}, module.Config))
    states = [tensor for parts in played.snapshots for part in parts.values() for tensor in part.values()]
    assert len(played.snapshots) == 2 and all(torch.isfinite(tensor).all() for tensor in states)
    reports = [event for events in played.events.values() for event in events if isinstance(event, Reported)]
    assert reports and not any(report.not_finite for report in reports)
    if module is fsl_sage:
        errors = [report.values for report in reports if "align_error_before" in report.values]
        assert errors and all(each["align_error_after"] < each["align_error_before"] for each in errors)
