"""Work that takes no emulated time is seen: by file, line and operator, and the run is not good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from players import early_bird, free_rider
from toy import make_manifest

from algorithms import ALGORITHMS
from algorithms.workload.task import Task, prepare
from emulator.checks.health import check_health
from emulator.ledger.events import AnyEvent, Computed, Lifecycle
from emulator.preflight.profiling import profile_costs
from emulator.profiles.reading import load_scenario
from emulator.testing.stage import MS, make_scenario

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "fedavg": [{}, {"optimizer": "sgd", "momentum": 0.9}],
    "sl": [{}, {"relay": "peer"}],
    "splitfed-v1": [{}, {"server_averaging": "network"}],
    "splitfed-v2": [{}, {"server_order": "blocked"}],
    "local-loss": [{}, {"server_copies": "each"}],
    "cse-fsl": [{}, {"upload": "last", "q_per_round": True}],
    "fsl-sage": [{"l": 1}, {"l": 1, "align": "overlap", "warm_start": True}, {"align": "none"}],
    "heron-sfl": [{}, {"update": "replay"}],
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return msgspec.to_builtins(prepare(Task(clients=10, batch=32), tmp_path_factory.mktemp("task")))


def found(module: str, task: Any, **settings: Any) -> list[str]:
    whole = {"rounds": 2, "stop_after_s": None, "task": task, **settings}
    return profile_costs(module, whole, load_scenario("iot-4g"), 1).uncharged


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_shipped_method_works_outside_its_computations(name: str, task: Any) -> None:
    assert {str(more): found(ALGORITHMS[name], task, **more) for more in OPTIONS[name]} == {
        str(more): [] for more in OPTIONS[name]
    }


def test_work_outside_a_computation_is_named_by_its_line(task: Any) -> None:
    lines = found("players.free_rider", task)
    source = Path(free_rider.__file__).read_text().splitlines()
    line = next(i for i, text in enumerate(source, 1) if "forgotten" in text)
    (found_line,) = lines
    assert found_line.startswith(f"free_rider.py:{line} (convolution, ")


def test_a_few_flops_outside_are_named_whatever_else_is_computed_and_before_the_first_wait(task: Any) -> None:
    """A forward pass of one image while the client is built, beside a whole training."""
    (early,) = found("players.early_bird", task)
    source = Path(early_bird.__file__).read_text().splitlines()
    line = next(i for i, text in enumerate(source, 1) if "too early" in text)
    assert early.startswith(f"early_bird.py:{line} (convolution), ")


def begun(**fields: Any) -> list[AnyEvent]:
    return [Lifecycle(due_ns=0, actual_ns=0, node="supervisor", outcome="", **fields)]


@pytest.mark.parametrize("clock", ["real", "virtual", "dry-run"])
def test_figures_without_that_work_are_not_good(clock: str) -> None:
    health = check_health(make_manifest(0, clock=clock), {"mine": begun(uncharged=["mine.py:31 (addmm), 3 ms"])})
    (reason,) = [text for text in health.reasons if "node.compute" in text]
    assert reason.startswith("mine: tensor work outside node.compute takes no time here: mine.py:31 (addmm), 3 ms")
    assert health.verdict != "good"
    assert not any(
        "node.compute" in text for text in check_health(make_manifest(0, clock=clock), {"mine": begun()}).reasons
    )


def test_an_operator_of_unknown_arithmetic_is_noted_once_with_its_computation() -> None:
    spans = [
        Computed(
            due_ns=(i + 1) * MS,
            actual_ns=(i + 1) * MS,
            node="client-0",
            function="whiten",
            start_ns=i * MS,
            queued_ns=0,
            host_ns=1,
            cpu_ns=1,
            host_late_ns=0,
            operations=1,
            dense_flops=0,
            depthwise_flops=0,
            moved_bytes=1,
            unknown=("aten::_linalg_svd",),
        )
        for i in range(2)
    ]
    health = check_health(make_manifest(0, clock="virtual"), {"mine": [*begun(), *spans]})
    (note,) = [text for text in health.notes if "linalg_svd" in text]
    assert note.startswith("mine: aten::_linalg_svd in whiten: counted by the bytes that it moves")


def test_in_one_process_work_outside_is_told_apart_from_that_of_computations() -> None:
    from emulator.compute.uncharged import Uncharged

    scenario = make_scenario()
    (client,) = scenario.clients[:1]
    watch = Uncharged({client.name: client.device})
    from emulator.compute.counting import uncounted
    from emulator.compute.tensor_account import owned_by

    a = torch.rand(8, 8)
    with watch, owned_by(client.name):
        a + a  # before all have built
        watch.arm()
        with watch.computing():
            a @ a
        with uncounted():
            a @ a
        torch.rand(2) + 1  # a look at a few values
        assert watch.lines({client.name: MS}) == []
        a + a
        assert watch.lines({client.name: 1000 * MS}) == []  # moves no figure
        a @ a
    (line,) = watch.lines({client.name: 1000 * MS})
    assert line.startswith("test_uncharged.py:")
    assert "(mm)" in line
