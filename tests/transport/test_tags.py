"""What a digest hashes are declared tags: renaming a class or a function moves none."""

from __future__ import annotations

import importlib

import pytest
import torch

from algorithms import ALGORITHMS
from algorithms.training import steps, zeroth_order
from emulator.compute.counting import computation, cost_key, tag_of
from emulator.transport.messages import Message, Parcel, kind_of

COMPUTATIONS = {
    steps: (
        *("train_step", "forward", "backward", "cut_step", "server_step", "local_step", "whole_local_step"),
        *("estimated_step", "whole_estimated_step", "refresh", "align_epoch", "load_weights", "weighted_mean"),
    ),
    zeroth_order: ("smash", "kept_step", "replayed_step"),
}
KINDS = {
    "fedavg": {"initial", "update", "global"},
    "sl": {"turn", "initial", "handover", "smashed", "gradient", "update", "done"},
    "splitfed-v1": {"initial", "smashed", "gradient", "update", "global", "server-half"},
    "splitfed-v2": {"initial", "smashed", "gradient", "update", "global"},
    "local-loss": {"initial", "smashed", "update", "global"},
    "cse-fsl": {"initial", "smashed", "update", "global"},
    "fsl-sage": {"initial", "smashed", "update", "global", "aligned", "warm"},
    "heron-sfl": {"initial", "smashed", "update", "global"},
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_message_of_a_shipped_method_declares_its_tag(name: str) -> None:
    messages = importlib.import_module(ALGORITHMS[name]).MESSAGES
    tags = {message.__struct_config__.tag for message in messages}
    assert tags - {"left-out", "finish", "frozen"} == KINDS[name]
    assert tags == set(map(kind_of, messages))


@pytest.mark.parametrize(("module", "tags"), COMPUTATIONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_every_computation_that_methods_share_declares_its_tag(module, tags) -> None:
    declared = {fn.tag for fn in vars(module).values() if callable(fn) and hasattr(fn, "tag")}
    assert declared == set(tags)


def test_renaming_a_message_moves_neither_its_kind_nor_a_byte() -> None:
    class Smashed(Message, frozen=True, kw_only=True, tag="smashed"):
        z: torch.Tensor

    class ActivationsOfABatch(Message, frozen=True, kw_only=True, tag="smashed"):
        z: torch.Tensor

    before, after = (Parcel(kind(round=0, z=torch.zeros(3)), 0) for kind in (Smashed, ActivationsOfABatch))
    assert before.header.kind == after.header.kind == "smashed"
    assert before.sizes == after.sizes


def test_renaming_a_computation_keeps_its_tag_and_an_undeclared_one_has_its_own_name() -> None:
    @computation("cut_step")
    def split_server_step() -> None: ...

    def undeclared() -> None: ...

    assert tag_of(split_server_step) == "cut_step"
    assert tag_of(undeclared) == undeclared.__qualname__


def test_a_mean_costs_the_same_whatever_its_weights_so_a_dry_run_remembers_it_once() -> None:
    states = [{"w": torch.zeros(3)}, {"w": torch.ones(3)}]
    keys = {cost_key(steps.weighted_mean, (states, counts)) for counts in ([1, 2], [5, 7], [100, 3])}
    assert len(keys) == 1
    assert cost_key(steps.weighted_mean, (states * 2, [1, 2, 3, 4])) not in keys
    assert cost_key(steps.train_step, (1, 2, 3)) != cost_key(steps.train_step, (1, 2, 4))
