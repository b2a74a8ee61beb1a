"""Algorithms that must do the same arithmetic do it, to the last bit, in one process and in real ones over sockets.

What is compared is accuracy and loss of the joined model on the test set after each round, and each client's training
losses. A hundred thousandth of a weight would show in a test loss of 17 digits.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from played import Parts, play
from processes import BATCH, ROUNDS, Played
from timelines import merged

from algorithms.workload.judging import judge
from algorithms.workload.task import Task
from emulator.ledger.events import Evaluated, Posted, Reported
from emulator.profiles.reading import load_scenario

ONE, TWO = ({"clients": clients, "batch": BATCH, "samples_per_client": 320} for clients in (1, 2))
THREE = {"clients": 3, "batch": BATCH}
Judgements = list[tuple[float | None, float | None]]
Losses = dict[tuple[str, int], float]


def judgements(task: Task, models: list[Parts]) -> Judgements:
    found = [judge(task, parts).scores for parts in models]
    return [(scores["accuracy"], scores["loss"]) for scores in found]


def losses_of(reports: list[Reported]) -> Losses:
    """Mean training loss of each client in each round."""
    return {(event.node, event.round): event.values["loss"] for event in reports if event.node != "server"}


def judged(played: Played, algorithm: str) -> Judgements:
    """Accuracy and test loss after each round."""
    found = [(e.accuracy, e.loss) for e in played.events(algorithm, Evaluated)]
    assert len(found) == ROUNDS
    return found


def losses(played: Played, algorithm: str) -> Losses:
    return losses_of(played.events(algorithm, Reported))


def test_fedavg_is_splitfed_v1_for_any_number_of_clients(three_clients: Played) -> None:
    assert judged(three_clients, "fedavg") == judged(three_clients, "splitfed-v1")
    # One reports the mean of float32 losses, the other of the same numbers as they came in message headers.
    assert losses(three_clients, "fedavg") == pytest.approx(losses(three_clients, "splitfed-v1"), rel=1e-6)


def test_cse_fsl_on_the_same_clients_is_another_model(three_clients: Played) -> None:
    """The witness that equal test losses are no matter of course."""
    assert judged(three_clients, "fedavg") != judged(three_clients, "cse-fsl")


class Here:
    """A method played in this process."""

    def __init__(self, name: str, scenario: Any, task: dict[str, int], settings: dict[str, Any]) -> None:
        clients = task["clients"]
        found = play(name, scenario, members=clients, task=task, rounds=ROUNDS, **settings)
        self.events = merged(found.events)
        self.judged = judgements(Task(**task), found.models)
        assert len(self.judged) == ROUNDS
        self.losses = losses_of(self.events.of(Reported))


@pytest.mark.parametrize("algorithm", ["fedavg", "splitfed-v1", "cse-fsl"])
def test_processes_and_sockets_change_no_bit_and_no_nanosecond(algorithm: str, three_clients: Played) -> None:
    """What is compared in one process below would be the same in many."""
    here = Here(algorithm, load_scenario(str(three_clients.folder.parent / "three" / "scenario.toml")), THREE, {})
    assert judged(three_clients, algorithm) == here.judged
    assert losses(three_clients, algorithm) == here.losses
    posts, ours = (
        [(event.due_ns, event.node, event.kind, event.framed_bytes) for event in events]
        for events in (three_clients.events(algorithm, Posted), here.events.of(Posted))
    )
    assert posts == ours != []


@pytest.mark.parametrize("algorithm", ["sl", "splitfed-v1", "splitfed-v2"])
def test_with_one_client_it_is_plain_training_of_the_joined_model(algorithm: str) -> None:
    here, task = Here(algorithm, None, ONE, {}), Task(**ONE)
    model, shard = task.full_model().train(), task.shard(0)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    expected, means = [], {}
    for round in range(ROUNDS):
        found = []
        for x, y in shard.batches(round):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()
            found.append(loss.item())
        means["client-0", round] = sum(found) / len(found)
        expected += judgements(task, [task.halves(model.state_dict())])
    assert here.judged == expected
    assert here.losses == means


@functools.cache
def blocked(name: str, **settings: Any) -> Here:
    """What follows from a local loss, on two clients whose uploads the server takes one client after the other."""
    return Here(name, None, TWO, {"server_order": "blocked", **settings})


def test_local_loss_is_cse_fsl_with_an_upload_every_step() -> None:
    one, other = blocked("local-loss"), blocked("cse-fsl", q=1)
    assert (one.judged, one.losses) == (other.judged, other.losses)


def test_a_client_of_cse_fsl_does_not_depend_on_q_but_the_server_does() -> None:
    one, other = blocked("cse-fsl", q=1), blocked("cse-fsl", q=5)
    assert one.losses == other.losses
    assert one.judged != other.judged


def test_fsl_sage_that_never_aligns_is_cse_fsl_with_a_frozen_auxiliary() -> None:
    never, frozen = blocked("fsl-sage", l=0), blocked("cse-fsl", aux_lr=0)
    assert (never.judged, never.losses) == (frozen.judged, frozen.losses)
    assert blocked("cse-fsl", q=5).judged != frozen.judged
    assert "aligned" not in {event.kind for event in never.events.of(Posted)}
