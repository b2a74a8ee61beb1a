"""The algorithms' mathematics once more, in plain torch and one process: what ``test_transcriptions`` compares with.

One client is played after another. Data and initial modules come from the task, and the names of random streams are
those of the algorithms; nothing else is theirs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from algorithms.data.streams import stream_seed
from algorithms.workload.task import Task

ROUNDS, Q = 3, 3
CLIENT_LR, SERVER_LR, AUX_LR, ALIGN_LR = 2e-3, 1e-3, 3e-3, 5e-3  # all different: none stands in for another
BUFFER, ALIGN_BATCH, ALIGN_EPOCHS, L = 12, 5, 3, 2  # neither a multiple of another, and the buffer cuts a batch
HERON_LR, RADIUS = 1e-3, 1e-2

State = dict[str, Tensor]
Loss = Callable[..., Tensor]


# Two rules of learning. Weight decay is for both halves, and not for auxiliaries.
SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.05},
}


def optimizer(rule: str, module: nn.Module, lr: float, decay: bool = True) -> torch.optim.Optimizer:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if rule == "adam":
        return torch.optim.Adam(trained, lr=lr)
    return torch.optim.SGD(trained, lr=lr, momentum=0.5, weight_decay=0.05 if decay else 0)


class Learner:
    """A module and its optimizer."""

    def __init__(self, rule: str, module: nn.Module, lr: float, decay: bool = True) -> None:
        self.module = module
        self.optimizer = optimizer(rule, module, lr, decay)

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x)
        return out

    @property
    def state(self) -> State:
        return copy.deepcopy(self.module.state_dict())

    def load(self, state: State) -> None:
        self.module.load_state_dict(state)


def learn(loss: Tensor, *learners: Learner) -> float:
    """One step of these on ``loss``."""
    for learner in learners:
        learner.optimizer.zero_grad()
    torch.autograd.backward(loss)
    for learner in learners:
        learner.optimizer.step()
    return loss.item()


class Trace(NamedTuple):
    """Losses of each client, losses of each server half, and the halves after each round."""

    clients: list[list[float]]
    servers: list[list[float]]
    halves: list[tuple[State, State]]


class Scene:
    """The clients of a task, and the weights n_i / N of their means. ``loss``: the mean over a batch's ``terms``."""

    def __init__(self, task: Task, rule: str, loss: Loss = cross_entropy, terms: Callable[[Tensor], int] = len) -> None:
        self.task, self.spec, self.loss, self.terms = task, rule, loss, terms
        self.shards = [task.shard(i) for i in range(task.clients)]
        self.indices = range(task.clients)
        self._samples = [len(shard) for shard in self.shards]

    def client(self) -> Learner:
        return Learner(self.spec, self.task.client_half(), CLIENT_LR)

    def server(self) -> Learner:
        return Learner(self.spec, self.task.server_half(), SERVER_LR)

    def auxiliary(self, lr: float) -> Learner:
        return Learner(self.spec, self.task.auxiliary(), lr, decay=False)

    def average(self, learners: list[Learner]) -> State:
        """The weighted mean, which all of them then have."""
        total, states = sum(self._samples), [learner.state for learner in learners]
        shares = [count / total for count in self._samples]
        mean = {key: sum(p * state[key] for p, state in zip(shares, states, strict=True)) for key in states[0]}
        for learner in learners:
            learner.load(mean)
        return mean

    def trace(self, copies: int = 1) -> Trace:
        return Trace([[] for _ in self.indices], [[] for _ in range(copies)], [])


def fedavg(scene: Scene) -> Trace:
    models, trace = [Learner(scene.spec, scene.task.full_model(), CLIENT_LR) for _ in scene.indices], scene.trace(0)
    for round in range(ROUNDS):
        for i, model in enumerate(models):
            for x, y in scene.shards[i].batches(round):
                trace.clients[i].append(learn(scene.loss(model(x), y), model))
        halves = scene.task.halves(scene.average(models))
        trace.halves.append((halves["client"], halves["server"]))
    return trace


def sl(scene: Scene) -> Trace:
    clients, server, trace = [scene.client() for _ in scene.indices], scene.server(), scene.trace()
    weights = clients[0].state
    for round in range(ROUNDS):
        for i, client in enumerate(clients):
            client.load(weights)
            for x, y in scene.shards[i].batches(round):
                trace.servers[0].append(learn(scene.loss(server(client(x)), y), client, server))
            weights = client.state
        trace.halves.append((weights, server.state))
    return trace


def splitfed(scene: Scene, copies: bool) -> Trace:
    """z is dense, as what is sent arrives: kernels for a view in another layout may differ in the last bit."""
    clients = [scene.client() for _ in scene.indices]
    servers = [scene.server() for _ in scene.indices] if copies else [scene.server()]
    trace = scene.trace(len(servers))
    for round in range(ROUNDS):
        for i, client in enumerate(clients):
            server = servers[i if copies else 0]
            for x, y in scene.shards[i].batches(round):
                loss = learn(scene.loss(server(client(x).contiguous()), y), client, server)
                trace.servers[i if copies else 0].append(loss)
        trace.halves.append((scene.average(clients), scene.average(servers) if copies else servers[0].state))
    return trace


def local_loss(scene: Scene, copies: bool, q: int) -> Trace:
    clients = [scene.client() for _ in scene.indices]
    auxiliaries = [scene.auxiliary(AUX_LR) for _ in scene.indices]
    servers = [scene.server() for _ in scene.indices] if copies else [scene.server()]
    trace, tau = scene.trace(len(servers)), [0 for _ in scene.indices]
    for round in range(ROUNDS):
        for i, (client, aux) in enumerate(zip(clients, auxiliaries, strict=True)):
            for x, y in scene.shards[i].batches(round):
                z = client(x)
                if tau[i] % q == 0:
                    server = servers[i if copies else 0]
                    trace.servers[i if copies else 0].append(learn(scene.loss(server(z.detach()), y), server))
                trace.clients[i].append(learn(scene.loss(aux(z), y), client, aux))
                tau[i] += 1
        client_mean, _ = scene.average(clients), scene.average(auxiliaries)
        trace.halves.append((client_mean, scene.average(servers) if copies else servers[0].state))
    return trace


def gradient(scene: Scene, module: nn.Module | Learner, z: Tensor, y: Tensor, create_graph: bool = False) -> Tensor:
    """Of the *mean* loss at z."""
    cut = z.detach().requires_grad_()
    (found,) = torch.autograd.grad(scene.loss(module(cut), y), cut, create_graph=create_graph)
    return found


def align(scene: Scene, aux: Learner, server: Learner, z: Tensor, y: Tensor, draws: torch.Generator) -> None:
    """With gradients of mean losses, as in the paper; G of the buffer's mean is made one of the batch's."""
    true = gradient(scene, server.module, z, y)
    for _ in range(ALIGN_EPOCHS):
        for chosen in torch.randperm(len(y), generator=draws).split(ALIGN_BATCH):
            estimated = gradient(scene, aux.module, z[chosen], y[chosen], create_graph=True)
            scale = scene.terms(y) / scene.terms(y[chosen])
            learn((estimated - true[chosen] * scale).square().sum(), aux)


def fsl_sage(scene: Scene) -> Trace:
    clients, server, trace = [scene.client() for _ in scene.indices], scene.server(), scene.trace()
    auxiliaries = [scene.auxiliary(ALIGN_LR) for _ in scene.indices]
    seeds = [stream_seed(scene.task.seed, f"align:client-{i}") for i in scene.indices]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    buffers: list[list[tuple[Tensor, Tensor]]] = [[] for _ in scene.indices]  # single samples
    tau = [0 for _ in scene.indices]
    for round in range(ROUNDS):
        for i, (client, aux) in enumerate(zip(clients, auxiliaries, strict=True)):
            for step, (x, y) in enumerate(scene.shards[i].batches(round)):
                z = client(x)
                aligned = round % L == 0 and step == 0
                if tau[i] % Q == 0 or aligned:
                    trace.servers[0].append(learn(scene.loss(server(z.detach()), y), server))
                    buffers[i] = [*buffers[i], *zip(z.detach(), y, strict=True)][-BUFFER:]
                if aligned:
                    kept_z, kept_y = (torch.stack(list(column)) for column in zip(*buffers[i], strict=True))
                    align(scene, aux, server, kept_z, kept_y, draws[i])
                # The loss at z with ĝ as its gradient there is the auxiliary's, which does not learn here.
                trace.clients[i].append(learn(scene.loss(aux(z), y), client))
                tau[i] += 1
        trace.halves.append((scene.average(clients), server.state))
    return trace


def heron(scene: Scene, directions: int) -> Trace:
    """Clients by plain gradient descent, without changing a weight to measure a slope."""
    task, server, trace = scene.task, scene.server(), scene.trace()
    models = [nn.Sequential(task.client_half(), task.auxiliary()) for _ in scene.indices]
    learners = [Learner(scene.spec, model, 0.0) for model in models]  # for their mean alone
    seeds = [stream_seed(task.seed, f"directions:{i}") for i in scene.indices]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    tau = [0 for _ in scene.indices]
    for round in range(ROUNDS):
        for i, model in enumerate(models):
            for x, y in scene.shards[i].batches(round):
                if tau[i] % Q == 0:
                    trace.servers[0].append(learn(scene.loss(server(model[0](x).detach()), y), server))
                with torch.no_grad():
                    trace.clients[i].append(two_point_step(scene, model, x, y, draws[i], directions))
                tau[i] += 1
        scene.average(learners)
        trace.halves.append((copy.deepcopy(models[0][0].state_dict()), server.state))
    return trace


def two_point_step(
    scene: Scene, model: nn.Module, x: Tensor, y: Tensor, draws: torch.Generator, directions: int
) -> float:
    weights = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    moves, losses = [], []
    for _ in range(directions):
        u = {key: torch.randn(weight.shape, generator=draws) for key, weight in weights.items()}
        ahead, behind = (
            scene.loss(functional_call(model, {k: w + sign * RADIUS * u[k] for k, w in weights.items()}, x), y)
            for sign in (1, -1)
        )
        moves.append({key: (ahead - behind) / (2 * RADIUS) * along for key, along in u.items()})
        losses += [ahead.item(), behind.item()]
    for key, weight in weights.items():
        weight -= HERON_LR * sum(move[key] for move in moves) / directions
    return sum(losses) / len(losses)
