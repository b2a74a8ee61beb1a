"""What every algorithm's module offers; and what each sends a round, against the closed forms of the papers' tables."""

from __future__ import annotations

import inspect
from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from played import (
    BATCH,
    CLIENTS,
    ROUNDS,
    SAMPLES,
    UPLOADED,
    A,
    C,
    E,
    Q,
    S,
    closed_form,
    module_of,
    played,
    sent,
    timeline,
)

from algorithms import ALGORITHMS
from algorithms.fsl_sage import alignment, warm_start
from algorithms.training import rounds
from algorithms.training.settings import Settings
from algorithms.workload.task import Task
from emulator.ledger.events import Posted, Received, Reported, RoundEnded
from emulator.transport.messages import Message, kind_of

LABEL = 8
STEPS = 10  # 9 batches of 16 and one of 6


# --- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_is_a_config_messages_a_client_and_a_server(name: str) -> None:
    module = module_of(name)
    assert issubclass(module.Config, Settings)
    assert module.Config.__struct_config__.frozen
    assert module.Config.__struct_config__.forbid_unknown_fields
    for role in (module.client, module.server):
        assert inspect.iscoroutinefunction(role)
        assert list(inspect.signature(role).parameters) == ["node", "config"]
    assert inspect.getdoc(module).splitlines()[0].endswith(".")
    assert "https://" in inspect.getdoc(module)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_message_of_an_algorithm_is_listed_once_and_names_tensors_that_it_has(name: str) -> None:
    module = module_of(name)
    classes = [thing for thing in vars(module).values() if inspect.isclass(thing) and issubclass(thing, Message)]
    messages = [thing for thing in classes if thing is not Message]
    shared = (*rounds.CONTROL_MESSAGES, *((warm_start.Warm, alignment.Aligned) if name == "fsl-sage" else ()))
    assert sorted(map(kind_of, module.MESSAGES)) == sorted(map(kind_of, [*messages, *shared]))
    assert len({kind_of(message) for message in messages}) == len(messages)
    for message in module.MESSAGES:
        assert set(message.official) <= set(message.__struct_fields__)
        assert message.__struct_config__.frozen


@pytest.mark.parametrize("name", ALGORITHMS)
def test_default_settings_are_sound_and_unknown_ones_refused(name: str) -> None:
    config = module_of(name).Config()
    config.check()
    assert msgspec.convert(msgspec.to_builtins(config), module_of(name).Config) == config
    with pytest.raises(msgspec.ValidationError, match="unknown field `bandwith`"):
        msgspec.convert({"bandwith": 1}, module_of(name).Config)


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_the_default_workload_has_the_sizes_of_the_closed_forms() -> None:
    task = Task()
    parts = (task.client_half(), task.server_half(), task.auxiliary())
    assert [sum(t.nbytes for t in part.state_dict().values()) for part in parts] == [C, S, A]
    batches = [y.shape[0] for _, y in task.shard(0).batches(0)]
    assert (sum(batches), len(batches), batches[0]) == (SAMPLES, STEPS, BATCH)
    assert sum(size for step, size in enumerate(batches) if step % Q == 0) == UPLOADED


def initial(name: str) -> int:
    """Bytes of the weights that a client is given before the first round; SL hands them over in its first turn."""
    return {"fedavg": C + S, "sl": 0, "local-loss": C + A, "cse-fsl": C + A, "heron-sfl": C + A}.get(name, C)


def labels(name: str) -> int:
    """Bytes of the labels that a client sends in a round."""
    samples = {"fedavg": 0, "cse-fsl": UPLOADED, "fsl-sage": UPLOADED, "heron-sfl": UPLOADED}.get(name, SAMPLES)
    return samples * LABEL


@pytest.mark.parametrize("name", ALGORITHMS)
def test_official_bytes_of_every_round_and_client_are_those_of_the_closed_form(name: str) -> None:
    for round in range(ROUNDS):
        assert set(sent(played(name), round, "official_bytes").values()) == {closed_form(name, round)}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_initial_weights_count_to_no_round(name: str) -> None:
    assert set(sent(played(name), -1, "payload_bytes").values()) == {(0, initial(name))}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_payload_is_the_official_part_and_labels(name: str) -> None:
    for round in range(ROUNDS):
        up, down = closed_form(name, round)
        expected = up + labels(name), down
        assert set(sent(played(name), round, "payload_bytes").values()) == {expected}


@pytest.mark.parametrize(
    ("name", "settings", "samples"),
    [
        # Of ten steps the last has 6 samples. Running on, steps 0 3 6 9, then 2 5 8, then 1 4 7, then 0 3 6 9 upload.
        ("cse-fsl", {"q": 3}, [54, 48, 48, 54]),
        ("cse-fsl", {"q": 3, "q_per_round": True}, [54, 54, 54, 54]),
        ("cse-fsl", {"q": 20}, [16, 0, 16, 0]),
        ("fsl-sage", {"q": 3, "l": 0}, [54, 48, 48, 54]),
        ("fsl-sage", {"q": 3, "l": 0, "q_per_round": True}, [54, 54, 54, 54]),
        # The first batch of an aligned round is uploaded whatever the counter is.
        ("fsl-sage", {"q": 3, "l": 1}, [54, 64, 64, 54]),
        ("fsl-sage", {"q": 20, "l": 3}, [16, 0, 16, 16]),
    ],
)
def test_the_upload_counter_runs_on_across_rounds_unless_told_to_begin_anew(
    name: str, settings: dict[str, Any], samples: list[int]
) -> None:
    events = played.__wrapped__(name, **settings)
    weights = C + (A if name == "cse-fsl" else 0)
    ups = [{up for up, _ in sent(events, round, "official_bytes").values()} for round in range(ROUNDS)]
    assert ups == [{count * E + weights} for count in samples]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_posted_message_arrives(name: str) -> None:
    events = played(name)
    posts = Counter((node, e.destination, e.kind) for node in events for e in events[node] if isinstance(e, Posted))
    arrivals = Counter((e.source, node, e.kind) for node in events for e in events[node] if isinstance(e, Received))
    assert posts == arrivals


@pytest.mark.parametrize("name", ALGORITHMS)
def test_rounds_end_one_after_the_other_and_each_is_reported_by_every_client(name: str) -> None:
    ends = [e for e in played(name)["server"] if isinstance(e, RoundEnded)]
    assert [e.round for e in ends] == list(range(ROUNDS))
    assert all(e.started_ns < e.due_ns for e in ends)
    assert all(before.due_ns <= after.started_ns for before, after in pairwise(ends))
    for i in range(CLIENTS):
        reports = [e for e in played(name)[f"client-{i}"] if isinstance(e, Reported)]
        assert [e.round for e in reports] == list(range(ROUNDS))
        assert all(0 < e.values["loss"] < 10 for e in reports)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_same_seed_gives_the_same_timeline(name: str) -> None:
    assert timeline(played(name)) == timeline(played.__wrapped__(name))
