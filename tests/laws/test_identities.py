"""Algorithms that must do the same arithmetic do it, to the last bit, through real processes and real sockets.

What is compared is accuracy and loss of the joined model on the test set after each round, and each client's training
losses. A hundred thousandth of a weight would show in a test loss of 17 digits.
"""

from __future__ import annotations

import pytest
import torch
from processes import LARGE_BATCH, ROUNDS, Played

from algorithms.workload.judging import judge
from algorithms.workload.task import Task
from emulator.ledger.events import Evaluated, Posted, Reported


def judged(played: Played, algorithm: str) -> list[tuple[float, float]]:
    """Accuracy and test loss after each round."""
    found = [(e.accuracy, e.loss) for e in played.events(algorithm, Evaluated)]
    assert len(found) == ROUNDS
    return found


def losses(played: Played, algorithm: str) -> dict[tuple[str, int], float]:
    """Mean training loss of each client in each round."""
    reported = [event for event in played.events(algorithm, Reported) if event.node != "server"]
    return {(event.node, event.round): event.values["loss"] for event in reported}


def test_fedavg_is_splitfed_v1_for_any_number_of_clients(three_clients: Played) -> None:
    assert judged(three_clients, "fedavg") == judged(three_clients, "splitfed-v1")
    # One reports the mean of float32 losses, the other of the same numbers as they came in message headers.
    assert losses(three_clients, "fedavg") == pytest.approx(losses(three_clients, "splitfed-v1"), rel=1e-6)


def test_cse_fsl_on_the_same_clients_is_another_model(three_clients: Played) -> None:
    """The witness that equal test losses are no matter of course."""
    assert judged(three_clients, "fedavg") != judged(three_clients, "cse-fsl")


@pytest.mark.parametrize("algorithm", ["sl", "splitfed-v1", "splitfed-v2"])
def test_with_one_client_it_is_plain_training_of_the_joined_model(algorithm: str, one_client: Played) -> None:
    task = Task(clients=1, batch=LARGE_BATCH)
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
        scores = judge(task, task.halves(model.state_dict())).scores
        expected.append((scores["accuracy"], scores["loss"]))
    assert judged(one_client, algorithm) == expected
    assert losses(one_client, algorithm) == means


def test_local_loss_is_cse_fsl_with_an_upload_every_step(blocked: Played) -> None:
    assert judged(blocked, "local-loss") == judged(blocked, "cse-fsl-1")
    assert losses(blocked, "local-loss") == losses(blocked, "cse-fsl-1")


def test_a_client_of_cse_fsl_does_not_depend_on_q_but_the_server_does(blocked: Played) -> None:
    assert losses(blocked, "cse-fsl-1") == losses(blocked, "cse-fsl-5")
    assert judged(blocked, "cse-fsl-1") != judged(blocked, "cse-fsl-5")


def test_fsl_sage_that_never_aligns_is_cse_fsl_with_a_frozen_auxiliary(blocked: Played) -> None:
    assert judged(blocked, "fsl-sage-never") == judged(blocked, "cse-fsl-frozen")
    assert losses(blocked, "fsl-sage-never") == losses(blocked, "cse-fsl-frozen")
    assert judged(blocked, "cse-fsl-5") != judged(blocked, "cse-fsl-frozen")
    assert "aligned" not in {event.kind for event in blocked.events("fsl-sage-never", Posted)}
