"""Every algorithm, step by step, against the same mathematics written down again in plain torch.

The transcriptions play one client after another, so the server order is ``blocked``. Three clients have shards of very
different sizes, so that a mean without the weights n_i / N would show.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transcriptions
from losses import CLIENT_LOSSES, SERVER_LOSSES, client_losses
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils._python_dispatch import TorchDispatchMode
from transcriptions import CLIENT_LR, ROUNDS, SERVER_LR, SETTINGS, Loss, Scene, Trace

from algorithms import ALGORITHMS
from algorithms.data import partition
from algorithms.training import steps, zeroth_order
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task
from emulator.compute.counting import HostRun
from emulator.testing.recording import Recording, RecordingHost, close, record

BATCH = 8
OWN = Path(__file__).parents[1] / "support" / "own_workloads.py"
STATE_WITHIN = 1e-5  # after 3 rounds; a step of Adam is about its rate, 1e-3 and more

ALIGNMENT = {
    "q": transcriptions.Q,
    "l": transcriptions.L,
    "align_lr": transcriptions.ALIGN_LR,
    "buffer": transcriptions.BUFFER,
}
ALIGNMENT |= {"align_batch": transcriptions.ALIGN_BATCH, "align_epochs": transcriptions.ALIGN_EPOCHS}
HERON = {"q": transcriptions.Q, "client_lr": transcriptions.HERON_LR, "radius": transcriptions.RADIUS}

CASES: dict[str, tuple[str, dict[str, Any], Callable[[Scene], Trace]]] = {
    "fedavg": ("fedavg", {}, transcriptions.fedavg),
    "sl": ("sl", {}, transcriptions.sl),
    "sl from peer to peer": ("sl", {"relay": "peer"}, transcriptions.sl),
    "splitfed-v1": ("splitfed-v1", {}, lambda scene: transcriptions.splitfed(scene, copies=True)),
    "splitfed-v1 over the network": (
        "splitfed-v1",
        {"server_averaging": "network"},
        lambda scene: transcriptions.splitfed(scene, copies=True),
    ),
    "splitfed-v2": ("splitfed-v2", {}, lambda scene: transcriptions.splitfed(scene, copies=False)),
    "local-loss": (
        "local-loss",
        {"aux_lr": transcriptions.AUX_LR},
        lambda scene: transcriptions.local_loss(scene, False, 1),
    ),
    "local-loss with copies": (
        "local-loss",
        {"aux_lr": transcriptions.AUX_LR, "server_copies": "each"},
        lambda scene: transcriptions.local_loss(scene, True, 1),
    ),
    "cse-fsl": (
        "cse-fsl",
        {"aux_lr": transcriptions.AUX_LR, "q": transcriptions.Q},
        lambda scene: transcriptions.local_loss(scene, False, transcriptions.Q),
    ),
    "fsl-sage": ("fsl-sage", ALIGNMENT, transcriptions.fsl_sage),
    "heron-sfl": ("heron-sfl", HERON | {"directions": 3}, lambda scene: transcriptions.heron(scene, 3)),
    "heron-sfl replayed": (
        "heron-sfl",
        HERON | {"directions": 2, "update": "replay"},
        lambda scene: transcriptions.heron(scene, 2),
    ),
}


@pytest.fixture(autouse=True)
def unequal_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are several clients: about 4/7, 2/7 and 1/7 of the samples."""

    def sizes(total: int, parts: int) -> list[int]:
        smaller = [total // 2 ** (i + 2) for i in range(parts - 1)]
        return [total - sum(smaller), *smaller]

    monkeypatch.setattr(partition, "shard_sizes", sizes)


def task_of(clients: int) -> Task:
    return Task(dataset="synthetic:1x8x8:4:80", clients=clients, batch=BATCH, seed=3)


def played(
    name: str,
    clients: int,
    rule: str,
    host_type: type[RecordingHost] = RecordingHost,
    task: Task | None = None,
    **settings: Any,
) -> Recording:
    module = importlib.import_module(ALGORITHMS[name])
    common = {"task": task or task_of(clients), "rounds": ROUNDS, "stop_after_s": None, "server_order": "blocked"}
    rates = {"client_lr": CLIENT_LR, "server_lr": SERVER_LR}
    return record(module, module.Config(**{**common, **rates, **SETTINGS[rule], **settings}), host_type=host_type)


def by_half(recorded: Recording) -> list[list[float]]:
    """The server's losses by the half that had them (in whatever order: copies are served as batches arrive)."""
    found: dict[int, list[float]] = {}
    for done in recorded.hosts["server"].done:
        if done.function in SERVER_LOSSES:
            loss = done.result[0] if isinstance(done.result, tuple) else done.result
            found.setdefault(id(done.first), []).append(loss.item())
    return sorted(found.values())


@pytest.mark.parametrize(("clients", "rule"), [(1, "adam"), (3, "adam"), (3, "sgd")])
@pytest.mark.parametrize("case", CASES)
def test_every_step_and_every_round_are_those_of_a_transcription_in_plain_torch(
    case: str, clients: int, rule: str
) -> None:
    name, settings, transcription = CASES[case]
    recorded = played(name, clients, rule, **settings)
    scene = Scene(task_of(clients), rule)
    sizes = [len(shard) for shard in scene.shards]
    assert clients == 1 or max(sizes) > 3 * min(sizes)
    expected = transcription(scene)
    # HERON-SFL: a slope is a small difference of two losses, over 2μ.
    within, states_within = (1e-3, 1e-3) if name == "heron-sfl" else (1e-5, STATE_WITHIN)
    found = [recorded.hosts[f"client-{i}"].losses(CLIENT_LOSSES) for i in range(clients)]
    assert len(recorded.snapshots) == len(expected.halves) == ROUNDS
    for mine, its in zip([*found, *by_half(recorded)], [*expected.clients, *sorted(expected.servers)], strict=True):
        assert mine == pytest.approx(its, rel=within)
    for mine, (client, server) in zip(recorded.snapshots, expected.halves, strict=True):
        if "client" in mine:  # from peer to peer it goes to the evaluator from the last client
            assert close(mine["client"], client, states_within)
        assert close(mine["server"], server, states_within)


# --- other data, other models, other losses: a user's own -------------------------------------------------------------

WORKLOADS: dict[str, tuple[str, str, Loss, Callable[[torch.Tensor], int]]] = {
    "windows, convolutions": ("windows", "conv", cross_entropy, len),
    "windows, recurrent": ("windows", "Recurrent", cross_entropy, len),
    "regression": ("vectors", "mlp", mse_loss, torch.Tensor.numel),
    "tagging": (
        "tokens",
        "Tagger",
        lambda output, y: cross_entropy(output.transpose(1, 2), y, ignore_index=-7),
        lambda y: int((y != -7).sum()),
    ),
}
BIT_FOR_BIT = ("fedavg", "splitfed-v1")


@pytest.mark.parametrize("case", ALGORITHMS)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_with_one_client_a_workload_of_a_user_s_own_is_trained_as_in_plain_torch(workload: str, case: str) -> None:
    dataset, model, loss, terms = WORKLOADS[workload]
    cut = "embed" if model == "Tagger" else ""  # a recurrent layer's own output is not dense: below
    words = {"dataset": f"{OWN}:{dataset}", "model": f"{OWN}:{model}", "cut": cut}
    task = Task(**words, clients=1, batch=BATCH, seed=3, ignore_index=-7).named()
    name, settings, transcription = CASES[case]
    recorded = played(name, 1, "adam", task=task, **settings)
    expected = transcription(Scene(task, "adam", loss, terms))
    found = [recorded.hosts["client-0"].losses(CLIENT_LOSSES), *by_half(recorded)]
    wanted = [*expected.clients, *sorted(expected.servers)]
    if name in BIT_FOR_BIT:
        assert found == wanted
        for mine, halves in zip(recorded.snapshots, expected.halves, strict=True):
            for part, state in zip(("client", "server"), halves, strict=True):
                assert all(torch.equal(mine[part][key], tensor) for key, tensor in state.items())
    within = 2e-3 if name == "heron-sfl" else 1e-5
    for mine, its in zip(found, wanted, strict=True):
        assert mine == pytest.approx(its, rel=within)
    for mine, (client, server) in zip(recorded.snapshots, expected.halves, strict=True):
        if "client" in mine:
            assert close(mine["client"], client, within)
        assert close(mine["server"], server, within)


@pytest.mark.parametrize("case", ALGORITHMS)
@pytest.mark.parametrize("clients", [1, 3])
def test_adapters_are_trained_as_in_plain_torch(clients: int, case: str) -> None:
    """With masks of dropout none: those of a node are drawn from its own stream."""
    options = {"lora": "rank=2,alpha=8,target=0+2", "cut": "conv2"}
    task = Task(dataset="synthetic:1x8x8:4:80", clients=clients, batch=BATCH, seed=3, **options).named()
    name, settings, transcription = CASES[case]
    recorded = played(name, clients, "adam", task=task, **settings)
    expected = transcription(Scene(task, "adam"))
    found = [recorded.hosts[f"client-{i}"].losses(CLIENT_LOSSES) for i in range(clients)]
    within = 1e-3 if name == "heron-sfl" else 1e-5
    for mine, its in zip([*found, *by_half(recorded)], [*expected.clients, *sorted(expected.servers)], strict=True):
        assert mine == pytest.approx(its, rel=within)
    for mine, halves in zip(recorded.snapshots, expected.halves, strict=True):
        for part, state in zip(("client", "server"), halves, strict=True):
            assert mine[part] and {key.rpartition(".")[2] for key in mine[part]} == {"lora_A", "lora_B"}
            assert close(mine[part], {key: state[key] for key in mine[part]}, within)


@pytest.mark.parametrize("case", ALGORITHMS)
@pytest.mark.parametrize("lora", ["", "rank=2,target=qkv+fc1"], ids=["whole", "adapters"])
def test_with_one_client_a_language_model_is_trained_as_in_plain_torch(lora: str, case: str) -> None:
    """By plain descent: the gradient of a key's bias is rounding alone, which Adam would make steps of its rate of."""
    words = {"dataset": "king-james", "model": "tiny-gpt", "samples_per_client": 24, "lora": lora}
    task = Task(**words, clients=1, batch=BATCH, seed=3).named()
    name, settings, transcription = CASES[case]
    recorded = played(name, 1, "sgd", task=task, **settings)
    scene = Scene(task, "sgd", lambda output, y: cross_entropy(output.transpose(1, 2), y), torch.Tensor.numel)
    expected = transcription(scene)
    within = 5e-3 if name == "heron-sfl" else 1e-4
    found = [recorded.hosts["client-0"].losses(CLIENT_LOSSES), *by_half(recorded)]
    for mine, its in zip(found, [*expected.clients, *sorted(expected.servers)], strict=True):
        assert mine == pytest.approx(its, rel=within)
    for mine, halves in zip(recorded.snapshots, expected.halves, strict=True):
        for part, state in zip(("client", "server"), halves, strict=True):
            assert mine[part] and close(mine[part], {key: state[key] for key in mine[part]}, within)


def test_behind_a_recurrent_layer_a_cut_trains_as_plain_torch_does_with_a_dense_z() -> None:
    dataset, model, loss, terms = WORKLOADS["tagging"]
    words = {"dataset": f"{OWN}:{dataset}", "model": f"{OWN}:{model}", "cut": "lstm"}
    task = Task(**words, clients=1, batch=BATCH, seed=3, ignore_index=-7).named()
    x, _ = next(iter(task.shard(0).batches(0)))
    assert not task.client_half()(x).is_contiguous()  # the witness: it is a view of [L, B, H]
    recorded = played("splitfed-v1", 1, "adam", task=task)
    expected = transcriptions.splitfed(Scene(task, "adam", loss, terms), copies=True)
    assert by_half(recorded) == sorted(expected.servers)
    for mine, halves in zip(recorded.snapshots, expected.halves, strict=True):
        for part, state in zip(("client", "server"), halves, strict=True):
            assert all(torch.equal(mine[part][key], tensor) for key, tensor in state.items())


# --- a client that only runs forward ----------------------------------------------------------------------------------


class Dispatched(TorchDispatchMode):
    """The names of all operations that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        del types
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


class WatchedHost(RecordingHost):
    """Sees what the computations of a node dispatch."""

    def __init__(self, costs: Any) -> None:
        super().__init__(costs)
        self.operations: set[str] = set()

    def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun:
        with Dispatched() as dispatched:
            run = super().submit(fn, clock, wake)
        self.operations |= dispatched.names
        return run

    @property
    def backwards(self) -> bool:
        return any("backward" in name for name in self.operations)


@pytest.mark.parametrize("update", ["sgd", "replay"])
def test_a_client_of_heron_never_runs_a_backward_pass_and_the_server_does(update: str) -> None:
    hosts = played("heron-sfl", 3, "adam", host_type=WatchedHost, **HERON, update=update).hosts
    assert [name for name, host in hosts.items() if host.backwards] == ["server"]


def test_a_client_of_cse_fsl_runs_backward_passes() -> None:
    """The witness that they are seen."""
    hosts = played("cse-fsl", 3, "adam", host_type=WatchedHost).hosts
    assert all(host.backwards for host in hosts.values())


@pytest.mark.parametrize("directions", [1, 4])
def test_directions_drawn_again_make_the_same_steps_as_directions_kept(directions: int) -> None:
    kept, replayed = (
        played("heron-sfl", 3, "adam", **HERON, directions=directions, update=update) for update in ("sgd", "replay")
    )
    for name, losses in client_losses(kept).items():
        assert client_losses(replayed)[name] == pytest.approx(losses, rel=1e-4)
    assert close(kept.snapshots[-1]["client"], replayed.snapshots[-1]["client"], 1e-4)
    memory = played("heron-sfl", 3, "adam", **HERON, directions=directions, client_momentum=0.9)
    assert not close(kept.snapshots[-1]["client"], memory.snapshots[-1]["client"], 1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_slope_between_two_close_points_is_the_derivative_along_the_direction(dropout: float) -> None:
    """A step of rate 1 is −slope · u: along u it has gone −slope · |u|². Dropout's masks are the same at both."""
    task = task_of(1)
    x, y = next(iter(task.shard(0).batches(0)))
    dropping = torch.nn.Sequential(task.client_half(), torch.nn.Dropout(dropout))
    client, aux = (
        steps.Part(module.double(), OptimizerSpec("sgd", 1.0), objective=Classification())
        for module in (dropping, task.auxiliary())
    )
    parameters = [*client.module.parameters(), *aux.module.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    torch.manual_seed(1)
    loss = cross_entropy(aux.module(client.module(x.double())), y)
    exact = torch.autograd.grad(loss, parameters)
    for seed in range(5):
        draws = torch.Generator().manual_seed(seed)
        u = [torch.randn(parameter.shape, generator=draws).double() for parameter in parameters]
        along = sum((g * v).sum() for g, v in zip(exact, u, strict=True))
        draws.manual_seed(seed)
        torch.manual_seed(1)
        mean_loss = zeroth_order.replayed_step(client, aux, x.double(), y, draws, 1, 1e-6, 1.0)
        with torch.no_grad():
            went = sum(((p - b) * v).sum() for p, b, v in zip(parameters, before, u, strict=True))
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
        slope = -went / sum(v.square().sum() for v in u)
        assert slope.item() == pytest.approx(along.item(), rel=1e-3)
        assert mean_loss.item() == pytest.approx(loss.item(), rel=1e-6)
