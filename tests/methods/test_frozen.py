"""Weights that a model does not train: neither sent, averaged, optimised nor differentiated; closed forms of each."""

from __future__ import annotations

import copy
import importlib
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch.nn.functional import cross_entropy

from algorithms import ALGORITHMS
from algorithms.training import rounds, steps
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task, facts, prepare
from emulator.compute.counting import WorkCounter
from emulator.compute.tensor_account import TEMPORARIES, TensorAccount, owned_by
from emulator.errors import UserError
from emulator.ledger.events import Posted
from emulator.testing import record

NET = """
from collections import OrderedDict
from torch import nn

def net(shape, classes, frozen=("first", "norm")):
    layers = OrderedDict(
        first=nn.Conv2d(1, 4, 3, padding=1), norm=nn.BatchNorm2d(4), second=nn.Conv2d(4, 6, 3, padding=1),
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), third=nn.Linear(6, 6), act=nn.ReLU(),
        head=nn.Linear(6, classes),
    )
    for name in frozen:
        layers[name].requires_grad_(False)
    return nn.Sequential(layers)

def client_frozen(shape, classes):
    return net(shape, classes, ("first", "norm", "second"))

def all_frozen(shape, classes):
    return net(shape, classes, ("first", "norm", "second", "third", "head"))

def trained(shape, classes):
    return net(shape, classes, ())
"""
FIRST = {"first.weight", "first.bias", "norm.weight", "norm.bias"}
KEPT = FIRST | {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
KEPT_BYTES = 4 * (4 * 9 + 4 + 4 * 4) + 8
SGD = OptimizerSpec("sgd", 0.05)


def task(folder: Path, name: str = "net", **options: Any) -> Task:
    (folder / "net.py").write_text(NET)
    options = {"dataset": "synthetic:1x8x8:4:24", "clients": 2, "batch": 4, "cut": "second", "aux": "pool"} | options
    return Task(model=f"{folder / 'net.py'}:{name}", **options)


def config_of(name: str, task: Task, **more: Any) -> tuple[Any, Any]:
    module = importlib.import_module(ALGORITHMS[name])
    return module, module.Config(task=task, rounds=2, stop_after_s=None, **more)


def posted(played: Any, kind: str) -> list[Posted]:
    return [e for events in played.events.values() for e in events if isinstance(e, Posted) and e.kind == kind]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_frozen_weights_are_sent_once_to_each_client_and_are_in_no_other_message(name: str, tmp_path: Path) -> None:
    sent, had, trained = (
        record(*config_of(name, task(tmp_path, which, frozen=frozen)))
        for which, frozen in (("net", "sent"), ("net", "preinstalled"), ("trained", "sent"))
    )
    frozen = posted(sent, "frozen")
    assert [(e.destination, e.round, e.payload_bytes) for e in frozen] == [
        (client, -1, KEPT_BYTES) for client in ("client-0", "client-1")
    ]
    assert not posted(had, "frozen") + posted(trained, "frozen")
    for kind in {e.kind for events in trained.events.values() for e in events if isinstance(e, Posted)}:
        of_all, without = (sorted(e.payload_bytes for e in posted(played, kind)) for played in (trained, had))
        assert without == sorted(e.payload_bytes for e in posted(sent, kind))
        saved = {one - other for one, other in zip(of_all, without, strict=True)}
        assert saved <= {0, KEPT_BYTES}
        assert (saved == {KEPT_BYTES}) == (kind in ("initial", "update", "global", "handover", "turn")), kind
    for snapshot in sent.snapshots:
        assert not KEPT & {*snapshot["client"], *snapshot["server"]}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_method_plays_with_a_client_half_that_trains_nothing(name: str, tmp_path: Path) -> None:
    played = record(*config_of(name, task(tmp_path, "client_frozen")))
    before = task(tmp_path, "client_frozen").full_model().state_dict()
    assert all(not snapshot["client"] for snapshot in played.snapshots)
    assert not sum(event.payload_bytes for event in posted(played, "gradient"))  # it has no use for dz
    assert any(not torch.equal(tensor, before[key]) for key, tensor in played.snapshots[-1]["server"].items())


def test_fedavg_of_one_client_is_plain_training_bit_for_bit_and_what_is_frozen_stands_still(tmp_path: Path) -> None:
    one = task(tmp_path, clients=1)
    played = record(*config_of("fedavg", one, optimizer="sgd", client_lr=0.05))
    model = one.full_model()
    before = copy.deepcopy(model.state_dict())
    model.norm.eval()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for round in range(2):
        for x, y in one.shard(0).batches(round):
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    found = {key: x for part in played.snapshots[-1].values() for key, x in part.items()}
    after = model.state_dict()
    assert found.keys() == after.keys() - KEPT
    assert all(torch.equal(tensor, after[key]) for key, tensor in found.items())
    assert all(torch.equal(before[key], after[key]) for key in KEPT)


def flops(part: steps.Part) -> int:
    x = torch.rand(4, 1, 8, 8)
    with WorkCounter() as counter:
        steps.train_step(part, x, torch.zeros(4, dtype=torch.int64))
    return counter.work.dense_flops


def test_backward_passes_end_where_nothing_below_is_trained_and_go_through_what_is_frozen_between() -> None:
    """A frozen first layer costs no gradient of its weights, and the second none of its input; one between costs no
    gradient of its weights alone."""
    first, second = 4 * 2 * 64 * 9 * 4, 4 * 2 * 64 * 9 * 4 * 6
    scope: dict[str, Any] = {}
    exec(NET, scope)
    made = {
        which: flops(steps.Part(scope["net"]((1, 8, 8), 4, frozen), SGD, objective=Classification()))
        for which, frozen in (("none", ()), ("first", ("first", "norm")), ("second", ("second",)))
    }
    assert made["none"] - made["first"] == first + second
    assert made["none"] - made["second"] == second


def test_no_gradient_and_no_state_of_an_optimizer_is_kept_for_a_frozen_weight(tmp_path: Path) -> None:
    part = steps.Part(task(tmp_path).full_model(), OptimizerSpec("adam", 1e-3), objective=Classification())
    steps.train_step(part, torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    assert part.optimizer is not None
    state = {id(parameter) for parameter in part.optimizer.state}
    for name, parameter in part.module.named_parameters():
        assert (id(parameter) in state) == (name not in FIRST), name
    assert {*steps.weights(part)} == {*part.module.state_dict()} - KEPT
    assert {*steps.frozen_weights(part)} == KEPT


@pytest.mark.parametrize("frozen", [(), (0,), (0, 1), (1,), (1, 2)])
def test_the_account_has_gradients_state_and_activations_of_what_is_trained_alone(frozen: tuple[int, ...]) -> None:
    """Of five layers [W, W] in a row: the input of a trained one is kept for its gradient, that of a frozen one is
    not; x, which is the first one's, is the batch."""
    width, classes, batch = 64, 4, 1024
    trained = [layer for layer in range(5) if layer not in frozen]
    weights = sum(width * (classes if layer == 4 else width) for layer in trained)

    def peak(samples: int) -> dict[str, int]:
        sizes = [width] * 4 + [classes]
        layers = torch.nn.Sequential(*(torch.nn.Linear(width, size, bias=False) for size in sizes))
        for layer in frozen:
            layers[layer].requires_grad_(False)
        with TensorAccount() as account, owned_by("client", TEMPORARIES):
            part = steps.Part(layers, OptimizerSpec("adam", 1e-3), objective=Classification())
            for _ in range(2):
                with owned_by("client"):
                    x, y = torch.rand(samples, width), torch.zeros(samples, dtype=torch.int64)
                steps.train_step(part, x, y)
            return account.peaks["client"].by_kind

    of_one, of_many = peak(1), peak(batch)  # when most: in the optimizer's step, and in the forward pass
    assert of_one["gradients"] == 4 * weights
    assert of_one["optimizer"] == 2 * 4 * weights + 4 * len(trained)  # two moments, and a counter for each
    assert of_many["activations"] == 4 * batch * width * len([layer for layer in trained if layer > 0])


def test_a_run_says_what_is_frozen_and_refuses_a_model_that_trains_nothing(tmp_path: Path) -> None:
    kept = sum(math.prod(shape) for shape in ((4, 1, 3, 3), (4,), (4,), (4,)))
    total = sum(parameter.numel() for parameter in task(tmp_path).full_model().parameters())
    made = prepare(task(tmp_path), tmp_path / "made")
    said = [line for line in facts(made)["remarks"] if "frozen" in line]
    assert said == [f"{kept} of {total} parameters of {made.model} are frozen: sent to each client once"]
    had = msgspec.structs.replace(task(tmp_path), frozen="preinstalled")
    assert facts(prepare(had, tmp_path / "had"))["remarks"][-1].endswith("are frozen: preinstalled, so never sent")
    with pytest.raises(UserError, match="all_frozen trains nothing: all its parameters are frozen"):
        prepare(task(tmp_path, "all_frozen"), tmp_path / "none")


def test_frozen_weights_are_no_rounds_bytes() -> None:
    assert rounds.Frozen in rounds.CONTROL_MESSAGES
    assert rounds.Frozen(round=-1, state={}).official == ()
