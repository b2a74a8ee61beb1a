"""Batch norm's running statistics, by which accuracy is judged: each training step moves them once, in every method."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from torch import nn

from algorithms import ALGORITHMS, heron_sfl
from algorithms.training import steps, zeroth_order
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task
from emulator.testing.recording import close, record
from emulator.transport.messages import StateDict

TASK = Task(dataset="synthetic:1x8x8:4:48", clients=2, batch=8)
STEPS = 3  # of a client in a round: 24 samples
RULE = OptimizerSpec("sgd", 0.0)


def with_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each half of the model begins with one."""
    client, server = TASK.client_half(), TASK.server_half()
    halves = {
        "client_half": nn.Sequential(nn.BatchNorm2d(1), client),
        "server_half": nn.Sequential(nn.BatchNorm2d(16), server),
        "auxiliary": nn.Sequential(nn.BatchNorm2d(16), TASK.auxiliary()),
        "full_model": nn.Sequential(nn.BatchNorm2d(1), client, nn.BatchNorm2d(16), server),
    }
    for name, half in halves.items():
        monkeypatch.setattr(Task, name, lambda _task, half=half: copy.deepcopy(half))
    monkeypatch.setattr(Task, "halves", lambda _task, state: {"client": state, "server": {}})


def moved(state: StateDict, before: int = 0) -> dict[str, int]:
    """How often each statistic of a state was moved."""
    return {key: int(tensor) - before for key, tensor in state.items() if key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_clients_statistics_move_once_a_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where some steps upload and others do not, in the second round as in the first."""
    with_batch_norm(monkeypatch)
    module = importlib.import_module(ALGORITHMS[name])
    more: dict[str, Any] = {"q": 2} if "q" in module.Config.__struct_fields__ else {}
    played = record(module, module.Config(task=TASK, rounds=2, stop_after_s=None, **more))
    turns = TASK.clients if name == "sl" else 1  # its one client half goes from client to client
    for round, snapshot in enumerate(played.snapshots, 1):
        assert moved(snapshot["client"])["0.num_batches_tracked"] == round * STEPS * turns


@pytest.mark.parametrize("directions", [1, 4])
@pytest.mark.parametrize("update", ["sgd", "replay"])
def test_a_step_without_backward_pass_moves_them_as_one_forward_pass_would(directions: int, update: str) -> None:
    """To within what a shift by μ does to them; both parts' alike."""
    torch.manual_seed(0)
    half, aux = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), nn.Sequential(nn.BatchNorm2d(4), nn.Flatten())
    x, y = torch.randn(8, 1, 4, 4), torch.randint(16, (8,))
    mine, its = (
        [steps.Part(copy.deepcopy(module), RULE, objective=Classification()) for module in (half, aux)]
        for _ in range(2)
    )
    its[1].module(its[0].module(x))
    zeroth_order.smash(mine[0], x)
    draws, more = torch.Generator().manual_seed(1), () if update == "sgd" else (0.0,)
    step = zeroth_order.kept_step if update == "sgd" else zeroth_order.replayed_step
    step(*mine, x, y, draws, directions, 1e-4, *more)
    for part, other in zip(mine, its, strict=True):
        assert close(steps.weights(part), steps.weights(other), 1e-3)
        assert set(moved(steps.weights(part)).values()) == {1}


def test_the_accuracy_of_heron_does_not_hang_on_its_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is learnt, its client half after a round is the same for any number of them, to within μ."""
    with_batch_norm(monkeypatch)
    halves = []
    for directions in (1, 4):
        config = heron_sfl.Config(task=TASK, rounds=1, stop_after_s=None, client_lr=0.0, directions=directions)
        halves.append(record(heron_sfl, config).snapshots[0]["client"])
    assert close(*halves, 1e-4)
