"""What is said of a run before it: wall time, and a client's memory from its tensors."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from processes import Board, Command, write_scenario

from algorithms import ALGORITHMS
from algorithms.workload.task import Task, prepare
from emulator.compute.tensor_account import TensorAccount, owned_by
from emulator.preflight import estimate as preflight_estimate
from emulator.preflight.dilation import AlgorithmEstimate, ProfilingResult
from emulator.preflight.estimate import estimate_algorithm
from emulator.preflight.memory_estimate import estimate_memory, needed_bytes
from emulator.profiles.reading import load_scenario
from emulator.testing.stage import SECOND

KIB = 1024
EMPTY = ProfilingResult({}, [], 0, 0, {}, {})


# --- tensors ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 64), st.booleans()), min_size=1, max_size=20))
def test_the_account_is_the_sum_of_what_is_alive_and_its_peak(steps: list[tuple[int, bool]]) -> None:
    kept: list[torch.Tensor] = []
    most = alive = 0
    with TensorAccount() as account, owned_by("me"):
        for kib, drop in steps:
            if drop and kept:
                alive -= kept[0].nbytes
                del kept[0]
            kept.append(torch.zeros(kib * KIB, dtype=torch.uint8))
            alive += kib * KIB
            most = max(most, alive)
            assert account.live["me"] == alive
    assert account.peaks["me"].total_bytes == most


def test_views_and_changes_in_place_are_no_further_bytes() -> None:
    with TensorAccount() as account:
        whole = torch.zeros(KIB)
        parts = whole.view(32, 32), whole[:10], whole.add_(1), whole.detach()
    assert account.live[""] == 4 * KIB
    assert len(parts) == 4


def test_what_a_backward_pass_keeps_is_counted_and_given_back() -> None:
    """Input, weight, output and loss; then a gradient like the weight, and the graph is gone."""
    with TensorAccount() as account, owned_by("net"):
        x, weight = torch.ones(8, 16), torch.ones(16, 4, requires_grad=True)
        y = torch.relu(x @ weight)
        y.sum().backward()
        del y
    gc.collect()
    assert account.live["net"] == 4 * (8 * 16 + 16 * 4 + 16 * 4)
    assert account.peaks["net"].total_bytes > account.live["net"]


def test_bytes_belong_to_who_made_them() -> None:
    with TensorAccount() as account:
        with owned_by("one"):
            first = torch.zeros(10)
        with owned_by("other"):
            second = first + 1
    assert (account.live["one"], account.live["other"]) == (40, 40)
    assert second.sum() == 10


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    yield msgspec.to_builtins(prepare(Task(clients=2, samples_per_client=48), tmp_path_factory.mktemp("data")))


def test_a_client_that_keeps_a_whole_model_needs_more_than_one_with_a_half(task: dict[str, object]) -> None:
    scenario = load_scenario("iot-4g", 2)
    settings = {"rounds": 1, "stop_after_s": None, "task": task}
    names = ("fedavg", "sl", "local-loss")
    breakdowns = {name: estimate_memory(ALGORITHMS[name], settings, scenario, 1)[0] for name in names}
    needs = {name: account.needed_bytes for name, account in breakdowns.items()}
    assert needs["sl"] < needs["local-loss"] < needs["fedavg"]
    # Weights, gradients and Adam's two moments of the whole model (41,650 weights) are alive at once.
    assert needs["fedavg"] == needed_bytes(breakdowns["fedavg"].total_bytes) > needed_bytes(4 * 4 * 41_650)


# --- wall time --------------------------------------------------------------------------------------------------------


def test_wall_time_is_emulated_time_on_the_real_clock_and_work_over_cores_on_the_virtual() -> None:
    estimate = AlgorithmEstimate(EMPTY, elapsed_ns=600 * SECOND, host_ns=90 * SECOND, complete=True)
    assert estimate.wall_s(dilation=3, cores=2) == 1800
    assert estimate.wall_s(dilation=None, cores=2) == 45


def test_the_time_of_many_rounds_is_foreseen_from_those_that_were_looked_at(
    task: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rounds of this method take equally long, but for the first with its initial weights and set-up."""
    monkeypatch.setattr(preflight_estimate, "MOST_COMPUTATIONS", 3_000)
    scenario = load_scenario("iot-4g", 2)

    def foreseen_s(rounds: int) -> float:
        settings = {"rounds": rounds, "stop_after_s": None, "task": task}
        estimate = estimate_algorithm(ALGORITHMS["cse-fsl"], settings, scenario, 1)
        assert not estimate.profiled.complete
        return estimate.elapsed_ns / SECOND

    assert foreseen_s(6000) / foreseen_s(3000) == pytest.approx(2, rel=0.01)


def test_a_run_over_an_hour_is_refused_before_it_begins_unless_forced(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path / "one", [(1, Board(dispatch_us=1_000_000))])
    flags = "--algorithm", "cse-fsl", "--rounds", 500, "--samples-per-client", 32
    with Command(tmp_path / "run", "--profile", scenario, *flags) as command:
        assert command.finish() == 2
        assert re.fullmatch(r"run.py: --profile .*: this run will take over .* --force .*\n", command.err)
    assert not (tmp_path / "run").exists()
