"""Each option, and each flag that can be varied, moves a time, a byte, a loss or a model, or is said to move none."""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

import msgspec
import pytest
from played import module_of, play
from words import settings_of_words

from algorithms import ALGORITHMS, config_of
from algorithms.commands.sweep.grid import varied
from algorithms.training import idle_options
from emulator.checks.digest import timeline_digest
from emulator.errors import UserError
from emulator.ledger.events import Posted, Reported
from emulator.ledger.timeline import Timeline

# Another value of each, with what it is said beside.
OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rounds": (1, {}),
    "stop_after_s": (0.1, {}),
    "optimizer": ("sgd", {}),
    "client_lr": (5e-3, {}),
    "server_lr": (5e-3, {}),
    "weight_decay": (0.1, {}),
    "momentum": (0.5, {"optimizer": "sgd"}),
    "betas": ([0.5, 0.9], {}),
    "server_order": ("blocked", {}),
    "participation": (0.5, {}),
    "deadline_s": (5.0, {}),
    "q": (2, {}),
    "q_per_round": (True, {"q": 2}),
    "upload": ("last", {}),
    "aux_lr": (5e-3, {}),
    "l": (1, {}),
    "align": ("overlap", {}),
    "align_epochs": (3, {}),
    "align_batch": (10, {}),
    "align_lr": (1e-3, {}),
    "buffer": (16, {"l": 1}),
    "stop_align": (1, {"l": 1}),
    "refresh_mode": ("eval", {}),
    "warm_start": (True, {}),
    "relay": ("peer", {}),
    "server_averaging": ("network", {}),
    "server_copies": ("each", {}),
    "client_momentum": (0.5, {}),
    "update": ("replay", {}),
    "directions": (2, {}),
    "radius": (1e-2, {}),
}
TINY = {"clients": 2, "samples_per_client": 48}
LATE_S = {"deadline_s": 20.0}  # so late does the last client come


class NodeState(NamedTuple):
    """What of a play a user sees: when, how many bytes, which numbers."""

    timeline: str | None
    sent: list[Any]
    reported: list[Any]
    models: list[Any]


@functools.cache
def seen(name: str, late_s: float, said: str) -> NodeState:
    found = play(name, members=2, late_s=late_s, **{"rounds": 2, "task": TINY, **json.loads(said)})
    events = [event for node in sorted(found.events) for event in found.events[node]]
    sent = [(e.node, e.kind, e.official_bytes, e.payload_bytes) for e in events if isinstance(e, Posted)]
    reported = [(e.node, e.round, sorted(e.values.items())) for e in events if isinstance(e, Reported)]
    models = [
        {key: tensor.tolist() for state in model.values() for key, tensor in state.items()} for model in found.models
    ]
    return NodeState(timeline_digest(Timeline(events))[0], sent, reported, models)


def warned(name: str, key: str, **said: Any) -> list[str]:
    """What a method says of this option itself, once the model is known."""
    module = module_of(name)
    config = msgspec.convert({"task": TINY, **said}, module.Config)
    lines = getattr(module, "warnings", lambda _config: [])(config)
    return [line for line in lines if line.startswith(f"{key}: ") and line.endswith("it changes nothing")]


def differ(name: str, key: str, value: Any, beside: dict[str, Any]) -> bool:
    late_s = LATE_S.get(key, 0.0)
    plain, changed = (seen(name, late_s, json.dumps(said)) for said in (beside, {**beside, key: value}))
    return plain != changed


def test_every_option_of_every_method_has_another_value_here() -> None:
    fields = {field for name in ALGORITHMS for field in config_of(name).__struct_fields__}
    assert fields - {"task"} == OTHERS.keys()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_option_changes_what_is_seen_or_is_said_to_change_nothing(name: str) -> None:
    silent = []
    for key in config_of(name).__struct_fields__:
        if key != "task":
            value, beside = OTHERS[key]
            told = bool(
                idle_options.warnings({name: {**beside, key: value}}) or warned(name, key, **beside, **{key: value})
            )
            if differ(name, key, value, beside) == told:
                silent.append(f"{key}={value} {'is said to change nothing' if told else 'changes nothing'}")
    assert silent == []


BESIDE = [
    ("fedavg", "betas", [0.5, 0.9], {"optimizer": "sgd"}),
    ("local-loss", "server_order", "blocked", {"server_copies": "each"}),
    ("fsl-sage", "aux_lr", 5e-3, {"warm_start": True}),
    *(("fsl-sage", key, OTHERS[key][0], {"align": "none"}) for key in idle_options.OF_ALIGNMENT if key != "align"),
    *(("fsl-sage", key, OTHERS[key][0], {"l": 0}) for key in ("align", "buffer", "stop_align")),
]


@pytest.mark.parametrize(("name", "key", "value", "beside"), BESIDE, ids=lambda part: str(part))
def test_what_changes_nothing_beside_others_is_said_and_only_that(
    name: str, key: str, value: Any, beside: dict[str, Any]
) -> None:
    said = {**beside, key: value}
    told = [line for line in idle_options.warnings({name: said}) if line.startswith(f"{key}={value}: ")]
    assert bool(told) != differ(name, key, value, beside)


TASK = {  # of the flags that can be varied
    "aux": "pool",
    "batch": 8,
    "epochs": 2,
    "model": "simple_conv",
    "cut": "conv1",
    "dataset": "synthetic:1x8x8:10:300",
    "augment": "flip-crop",
    "partition": "dirichlet:0.5",
    "samples_per_client": 32,
}
REFUSED = {"normalise": "imagenet"}  # the small data set has one channel


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_flag_of_the_task_changes_what_is_seen_or_is_said_to_change_nothing(name: str) -> None:
    silent = []
    for key, value in TASK.items():
        told = bool(idle_options.warnings({name: {"task": {key: value}}}))
        if differ(name, "task", {**TINY, key: value}, {"rounds": 1, "task": TINY}) == told:
            silent.append(f"{key}={value} {'is said to change nothing' if told else 'changes nothing'}")
    assert silent == []


def test_every_flag_that_can_be_varied_is_tried_here() -> None:
    elsewhere = {"clients", "rounds"}  # a scenario of another size, an option above
    elsewhere |= {
        "init",
        "data_dir",
        "bad_images",
        "frozen",
        "task_kind",
        "ignore_index",
    }  # of files and models of one's own
    assert varied().keys() - elsewhere == TASK.keys() | REFUSED.keys()


@pytest.mark.parametrize(
    ("name", "words", "why"),
    [
        ("fedavg", ["--set", "fedavg:server_lr=1"], "its server trains no half"),
        ("sl", ["--set", "sl:server_order=blocked"], "its clients train one after another"),
        ("fedavg", ["--algorithm", "fedavg", "--set", "server_lr=1"], "its server trains no half"),
    ],
)
def test_an_option_of_one_method_that_never_changes_anything_in_it_is_refused(
    name: str, words: list[str], why: str
) -> None:
    with pytest.raises(UserError) as caught:
        settings_of_words(*words)
    assert str(caught.value) == f"--set {words[-1]}: changes nothing in {name}: {why}; leave it out"


def test_an_option_for_all_methods_that_changes_nothing_in_some_is_said_in_one_line() -> None:
    words = ("--set", "server_order=blocked", "--aux", "pool", "--algorithm", "fedavg,sl,splitfed-v2,fsl-sage")
    settings = settings_of_words(*words)
    assert idle_options.warnings(settings) == [
        "server_order=blocked: changes nothing in fedavg: its server trains no half",
        "aux=pool: changes nothing in fedavg, sl, splitfed-v2: it has no auxiliary",
        "server_order=blocked: changes nothing in sl: its clients train one after another",
    ]
