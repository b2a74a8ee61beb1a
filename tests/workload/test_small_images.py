"""Models on small grey images: a run, or one line before it. All of torchvision's: ``python -m benchmarks models``."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from algorithms import fedavg, splitfed_v1
from algorithms.workload.judging import judge
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError
from emulator.testing.recording import record

PLAYED = [("mnasnet0_5", 8), ("shufflenet_v2_x0_5", 8), ("squeezenet1_1", 28), ("mobilenet_v3_small", 28)]
REFUSED = [("alexnet", 28), ("squeezenet1_1", 8), ("googlenet", 8), ("vit_b_32", 28), ("maxvit_t", 28)]


def task_of(model: str, size: int) -> Task:
    return Task(dataset=f"synthetic:1x{size}x{size}:10:8", model=model, clients=2, batch=2)


@pytest.mark.parametrize(("model", "size"), PLAYED)
def test_a_model_that_takes_small_images_is_prepared_trained_averaged_and_judged(
    model: str, size: int, tmp_path: Path
) -> None:
    prepared = prepare(task_of(model, size), tmp_path / "made")
    for module in (fedavg, splitfed_v1):
        played = record(module, {"rounds": 1, "task": msgspec.to_builtins(prepared)})
        scores = judge(prepared, played.snapshots[0]).scores
        assert 0 <= scores["accuracy"] <= 1 and 0 <= scores["balanced_accuracy"] <= 1


@pytest.mark.parametrize(("model", "size"), REFUSED)
def test_a_model_that_does_not_take_them_is_refused_in_one_line(model: str, size: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^model: {model} does not take images of 1x{size}x{size} \(") as caught:
        prepare(task_of(model, size), tmp_path / "made")
    assert "\n" not in str(caught.value)


def test_weights_from_a_file_are_those_of_mnasnet_s_version(tmp_path: Path) -> None:
    """torchvision takes a state without a version, as in files and messages, for one of an older network."""
    task = task_of("mnasnet0_5", 8)
    made, built = prepare(task, tmp_path / "made").full_model(), task.full_model()
    assert all(map(torch.equal, made.state_dict().values(), built.state_dict().values()))
