"""What an alignment does: to the auxiliary's estimates, to the client's time, and to nothing else.

Played on a stage, where links carry 1 Mbit/s and an operation that torch dispatches takes 1 ms, so who waits for whom
follows from the settings. ``test_steps`` has the arithmetic of one alignment.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
from losses import client_losses, server_losses
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy

from algorithms import cse_fsl, splitfed_v2
from algorithms.data import datasets
from algorithms.fsl_sage import alignment
from algorithms.fsl_sage import method as fsl_sage
from algorithms.training import steps
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.loader import Preprocessing, tensors
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task
from emulator.errors import UserError
from emulator.ledger.events import Computed, Event, Posted, Received, Reported
from emulator.testing.recording import Recording, RecordingHost, close, record
from emulator.testing.stage import make_scenario

HELD_OUT = 100  # of the 297 digits of the test part, which no client trains on
SEEDS = (1, 2, 3)
ROUNDS = 4  # of the default workload: aligned in rounds 0 and 3
SMALL = Task(dataset="synthetic:1x8x8:4:80", clients=2, batch=8)


def sage(task: Task = SMALL, **settings: Any) -> Recording:
    return record(fsl_sage, fsl_sage.Config(**{"task": task, "rounds": 2, "stop_after_s": None, **settings}))


def posts(recorded: Recording, kind: str) -> list[tuple[str, int]]:
    """Who was sent it, and in which round."""
    return [(e.destination, e.round) for e in recorded.events["server"] if isinstance(e, Posted) and e.kind == kind]


def of(recorded: Recording, node: str, kind: type[Event]) -> list[Any]:
    return [event for event in recorded.events[node] if isinstance(event, kind)]


def gradient(module: nn.Module, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of the mean loss at z, flat."""
    cut = z.detach().requires_grad_()
    (found,) = torch.autograd.grad(cross_entropy(module(cut), y), cut)
    return found.flatten()


# --- the estimates ----------------------------------------------------------------------------------------------------


def measured(seed: int, monkeypatch: pytest.MonkeyPatch) -> dict[int, list[tuple[float, float]]]:
    """For each aligned round, of each client: the cosine of ĝ and G on held-out samples before and after.

    The samples are smashed by the client's half as it is then: it waits for its auxiliary.
    """
    task, found, hosts = Task(seed=seed), dict[int, list[tuple[float, float]]](), dict[str, RecordingHost]()
    test = datasets.load_all(task.dataset, task.data_dir)[1]
    x, y = tensors(test, np.arange(HELD_OUT), Preprocessing(datasets.describe(task.dataset, task.data_dir).levels))
    align = alignment.align

    async def watched(node: Any, config: Any, name: str, round: int, estimator: Any, true: Any) -> tuple[float, float]:
        server, client = hosts["server"].part("server_step"), hosts[name].part("forward")
        with torch.no_grad():
            z = client.module(x)
        exact = gradient(server.module, z, y)
        before = cosine_similarity(gradient(estimator.aux.module, z, y), exact, dim=0).item()
        errors = await align(node, config, name, round, estimator, true)
        after = cosine_similarity(gradient(estimator.aux.module, z, y), exact, dim=0).item()
        found.setdefault(round, []).append((before, after))
        return errors

    monkeypatch.setattr(alignment, "align", watched)
    config = fsl_sage.Config(task=task, rounds=ROUNDS, stop_after_s=None)
    recorded = record(fsl_sage, config, make_scenario(task.clients), hosts.update)
    monkeypatch.undo()
    errors = [event.values for event in of(recorded, "server", Reported)]
    assert all(error["align_error_after"] < error["align_error_before"] for error in errors)
    assert len(errors) == len(found)
    return found


def test_alignment_turns_the_estimates_towards_the_true_gradients_of_samples_it_has_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the mean over clients and seeds, in each aligned round; one client's may turn away."""
    runs = [measured(seed, monkeypatch) for seed in SEEDS]
    for round in (0, 3):
        pairs = [pair for run in runs for pair in run[round]]
        assert len(pairs) == 10 * len(SEEDS)
        assert mean(after for _, after in pairs) > mean(before for before, _ in pairs) + 0.05


@pytest.mark.parametrize(("buffer", "align_batch"), [(16, 16), (8, 1000), (40, 16), (23, 7)])
def test_with_the_server_half_as_auxiliary_nothing_is_left_to_align_whatever_the_sizes(
    buffer: int, align_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the client takes SplitFed V2's steps: its estimates are true. The server half rests, or they would part."""
    monkeypatch.setattr(Task, "auxiliary", Task.server_half)
    common = {"task": SMALL, "rounds": 2, "stop_after_s": None, "server_lr": 0.0}
    own = {"q": 1, "l": 1, "buffer": buffer, "align_batch": align_batch, "align_epochs": 3, "align_lr": 1e-3}
    estimated = record(fsl_sage, fsl_sage.Config(**common, **own, optimizer="sgd", client_lr=0.05))
    true = record(splitfed_v2, splitfed_v2.Config(**common, optimizer="sgd", client_lr=0.05))
    errors = [event.values for event in of(estimated, "server", Reported)]
    assert len(errors) == 2
    assert all(max(values.values()) <= 1e-10 for values in errors)
    for mine, its in zip(estimated.snapshots, true.snapshots, strict=True):
        assert close(mine["client"], its["client"], 1e-6)
    # The witness: a round is more than the tolerance.
    assert not close(true.snapshots[0]["client"], true.snapshots[1]["client"], 1e-3)


def test_an_alignment_changes_one_auxiliary_and_leaves_the_server_half() -> None:
    never, aligned = (sage(rounds=1, l=l, align_lr=0.0, server_order="blocked") for l in (0, 1))  # noqa: E741
    assert close(never.snapshots[0]["server"], aligned.snapshots[0]["server"], 0.0)
    assert close(never.snapshots[0]["client"], aligned.snapshots[0]["client"], 0.0)
    taught = sage(rounds=1, l=1, server_order="blocked")
    assert not close(never.snapshots[0]["client"], taught.snapshots[0]["client"], 1e-4)


@pytest.mark.parametrize(
    ("model", "aux", "said"),
    [
        ("vit_b_32", "stage", ""),  # attention has one, fused kernels of it have none
        ("mobilenet_v3_small", "linear", ""),
        ("mobilenet_v3_small", "stage", "aux: stage of mobilenet_v3_small has no second derivative, .* say linear or"),
    ],
)
def test_an_auxiliary_without_a_second_derivative_is_refused_before_anything_is_played(
    model: str, aux: str, said: str
) -> None:
    task = Task(dataset="synthetic:3x32x32:4:40", model=model, aux=aux, clients=2)
    with pytest.raises(UserError, match=said) if said else contextlib.nullcontext():
        fsl_sage.try_out(fsl_sage.Config(task=task))
    for never in ({"align": "none"}, {"l": 0}, {"stop_align": 0}):
        fsl_sage.try_out(fsl_sage.Config(task=task, **never))


@pytest.mark.parametrize("key", ["buffer", "align_batch"])
def test_batch_norm_takes_no_buffer_and_no_batch_of_one_sample(key: str) -> None:
    task = Task(dataset="synthetic:3x32x32:4:40", model="resnet18", clients=2)
    with pytest.raises(UserError, match=f"{key}: resnet18 has batch norm, .*: say 2 or more"):
        fsl_sage.try_out(fsl_sage.Config(task=task, **{key: 1}))
    fsl_sage.try_out(fsl_sage.Config(task=SMALL, **{key: 1}))


# --- when there is one ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"l": 2}, [0, 2, 4]),
        ({"l": 1}, [0, 1, 2, 3, 4]),
        ({"l": 0}, []),
        ({"align": "none", "l": 1}, []),
        ({"l": 1, "stop_align": 2}, [0, 1]),
        ({"l": 2, "stop_align": 0}, []),
        ({"l": 2, "warm_start": True}, [1, 3]),
        ({"l": 2, "align": "overlap"}, [0, 2, 4]),
    ],
)
def test_every_client_gets_its_auxiliary_in_the_rounds_that_the_settings_say(
    settings: dict[str, Any], expected: list[int]
) -> None:
    recorded = sage(rounds=5, align_epochs=1, **settings)
    assert sorted(posts(recorded, "aligned")) == [(f"client-{i}", round) for i in range(2) for round in expected]
    assert [event.round for event in of(recorded, "server", Reported)] == expected
    for i in range(2):
        got = [event for event in of(recorded, f"client-{i}", Received) if event.kind == "aligned"]
        assert len(got) == len(expected)


def test_no_alignment_is_an_interval_of_zero() -> None:
    none, zero = sage(align="none"), sage(l=0)
    assert client_losses(none) == client_losses(zero)
    assert server_losses(none) == server_losses(zero)
    assert timeline(none) == timeline(zero)


def timeline(recorded: Recording) -> list[tuple[str, str, int]]:
    return [(node, type(event).__name__, event.due_ns) for node, events in recorded.events.items() for event in events]


# --- a client that does not wait --------------------------------------------------------------------------------------

ESTIMATED = ("estimated_step", "whole_estimated_step")


def rests(computed: list[Computed]) -> list[int]:
    """Emulated time between a client's computations, from its first forward pass to its last step."""
    first = next(i for i, event in enumerate(computed) if event.function == "forward")
    last = max(i for i, event in enumerate(computed) if event.function in ESTIMATED)
    played = computed[first : last + 1]
    return [after.start_ns - before.due_ns for before, after in pairwise(played)]


def test_a_client_that_waits_rests_until_its_auxiliary_is_there_and_one_that_overlaps_never_rests() -> None:
    settings = {"task": Task(dataset=SMALL.dataset, clients=1, batch=8), "rounds": 1, "align_epochs": 3}
    waits, overlaps = (sage(align=align, **settings) for align in ("wait", "overlap"))
    for recorded, rest in ((waits, True), (overlaps, False)):
        computed = of(recorded, "client-0", Computed)
        forward = next(event for event in computed if event.function == "forward")
        (arrived,) = (event for event in of(recorded, "client-0", Received) if event.kind == "aligned")
        first, *later = rests(computed)
        assert first == (arrived.due_ns - forward.due_ns if rest else 0)
        assert not any(later)


@pytest.mark.parametrize(("epochs", "in_its_round"), [(1, True), (60, False)])
def test_an_auxiliary_that_was_not_waited_for_is_used_from_the_next_step_or_comes_at_the_end(
    epochs: int, in_its_round: bool
) -> None:
    task = Task(dataset=SMALL.dataset, clients=1, batch=8)
    recorded = sage(task=task, align="overlap", align_epochs=epochs, rounds=1, align_lr=0.1)
    computed = of(recorded, "client-0", Computed)
    functions = [event.function for event in computed]
    (arrived,) = (event.due_ns for event in of(recorded, "client-0", Received) if event.kind == "aligned")
    # Weights are loaded three times: the initial and the last client half, and the auxiliary in between.
    position = [i for i, name in enumerate(functions) if name == "load_weights"][1]
    steps_before = sum(name in ESTIMATED for name in functions[:position])
    started = [event.start_ns for event in computed if event.function in ESTIMATED]
    assert (steps_before < task.shard(0).steps) == in_its_round
    assert computed[position].start_ns >= arrived
    if in_its_round:
        assert started[steps_before - 1] < arrived <= started[steps_before]
    losses, old = client_losses(recorded)["client-0"], client_losses(sage(task=task, align="none", rounds=1))
    same = [mine == its for mine, its in zip(losses, old["client-0"], strict=True)]
    assert same == [step < steps_before for step in range(len(losses))]  # until it is there: the old one


# --- a warm start -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [1, 2])
def test_the_first_round_of_a_warm_start_is_one_of_cse_fsl(clients: int) -> None:
    task = Task(dataset=SMALL.dataset, clients=clients, batch=8)
    common = {"task": task, "q": 3, "aux_lr": 2e-3, "stop_after_s": None, "server_order": "blocked", "rounds": 1}
    cse = record(cse_fsl, cse_fsl.Config(**common, q_per_round=True))
    warm = record(fsl_sage, fsl_sage.Config(**common, warm_start=True))
    assert client_losses(warm) == client_losses(cse)
    assert server_losses(warm) == server_losses(cse)
    assert all(close(warm.snapshots[0][half], cse.snapshots[0][half], 0.0) for half in ("client", "server"))
    assert official(warm) == official(cse)
    assert min(official(cse).values()) > 0


def official(recorded: Recording) -> dict[tuple[str, bool], int]:
    """Official bytes of round 0 of each client, up and down."""
    found: dict[tuple[str, bool], int] = {}
    for node in recorded.events:
        for event in of(recorded, node, Posted):
            if event.round == 0:
                key = event.destination if node == "server" else node, node == "server"
                found[key] = found.get(key, 0) + event.official_bytes
    return found


def test_after_a_warm_start_every_client_follows_the_mean_of_the_auxiliaries_until_it_is_aligned() -> None:
    """CSE-FSL's second round begins with that mean, and a first step on it has the same loss."""
    common = {"task": SMALL, "q": 3, "stop_after_s": None, "server_order": "blocked", "rounds": 2}
    cse = record(cse_fsl, cse_fsl.Config(**common, q_per_round=True))
    warm = record(fsl_sage, fsl_sage.Config(**common, warm_start=True, align="none"))
    for i in range(SMALL.clients):
        second = SMALL.shard(i).steps
        mine, its = (client_losses(recorded)[f"client-{i}"] for recorded in (warm, cse))
        assert mine[: second + 1] == its[: second + 1]
        assert mine[second + 1 :] != its[second + 1 :]  # the one is frozen, the other learns


def test_whoever_was_not_in_the_first_round_has_the_mean_of_a_warm_start_before_its_first_one() -> None:
    task = Task(dataset="synthetic:1x8x8:4:80", clients=4, batch=8)
    config = fsl_sage.Config(
        task=task, participation=0.5, warm_start=True, align="none", rounds=8, stop_after_s=None, align_lr=0.0
    )
    recorded = record(fsl_sage, config)
    cohorts = [config.cohort(tuple(f"client-{i}" for i in range(4)), round) for round in range(8)]
    first = {name: min(r for r, cohort in enumerate(cohorts) if name in cohort) for name in set().union(*cohorts)}
    assert set(first.values()) > {0}
    assert sorted(posts(recorded, "warm")) == [(name, max(first[name] - 1, 0)) for name in sorted(first)]
    for name in first:
        kinds = [e.kind for e in of(recorded, name, Received)]
        assert kinds[:2] == (["initial", "warm"] if first[name] == 0 else ["warm", "global"])
    loaded = [d.first for name in first for d in recorded.hosts[name].done if d.function == "load_weights"]
    frozen = [part.module.state_dict() for part in loaded if part.optimizer is None]
    assert len(frozen) == 4 and all(close(state, frozen[0], 0.0) for state in frozen)
    sizes = {e.official_bytes for e in of(recorded, "server", Posted) if e.kind == "warm"}
    assert sizes == {sum(tensor.nbytes for tensor in task.auxiliary().state_dict().values())}


# --- batch norm -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "seen"), [("train", True), ("eval", False)])
def test_true_gradients_in_eval_mode_leave_the_statistics_of_the_server_half_alone(
    mode: str, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass over the buffer is a batch more, or none; either way the server half goes on in train mode."""
    changed: list[bool] = []
    refresh = steps.refresh

    @functools.wraps(refresh)
    def watched(server: steps.Part, *others: Any) -> tuple[torch.Tensor, torch.Tensor]:
        before = copy.deepcopy(server.module.state_dict())
        true = refresh(server, *others)
        changed.append(not close(before, server.module.state_dict(), 0.0))
        assert server.module.training
        return true

    half = nn.Sequential(nn.BatchNorm2d(16), SMALL.server_half())
    monkeypatch.setattr(Task, "server_half", lambda _task: copy.deepcopy(half))
    monkeypatch.setattr(steps, "refresh", watched)
    recorded = sage(refresh_mode=mode, rounds=1)
    assert changed == [seen] * SMALL.clients
    batches = recorded.snapshots[0]["server"]["0.num_batches_tracked"].item()
    assert batches == len(server_losses(recorded)) + seen * SMALL.clients


def test_true_gradients_in_eval_mode_are_those_of_the_running_statistics() -> None:
    torch.manual_seed(0)
    server = steps.Part(
        nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), OptimizerSpec("sgd", 0.1), objective=Classification()
    )
    z, y = torch.randn(6, 4) * 5, torch.randint(3, (6,))
    mine, _ = steps.refresh(server, z, y, batch_statistics=False)
    linear = server.module[1]
    logits = linear(z / (1 + 1e-5) ** 0.5)  # running mean 0 and variance 1 before anything was seen
    error = logits.softmax(1) - nn.functional.one_hot(y, 3)
    assert torch.allclose(mine, error @ linear.weight / (1 + 1e-5) ** 0.5, atol=1e-6)
    theirs, _ = steps.refresh(server, z, y)
    assert not torch.allclose(mine, theirs, atol=1e-2)
