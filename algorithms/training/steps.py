"""Tensor arithmetic that algorithms share: ordinary functions of their arguments, for ``node.compute``.

Nothing here knows a node or awaits. Shapes: x [B, ...] inputs, y [B, ...] labels, z [B, ...] smashed batch, dz and ĝ
like z; n samples in an auxiliary's buffer, Z and G [n, ...], Y [n, ...]. The loss is that of the part's ``objective``,
its mean over the batch unless *summed* is said; losses come back detached, as tensors of one element, so that a round's
losses are read once at its end. Gradients are None after every function.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from algorithms.training import optimizers
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.models import has_batch_norm, load_state
from algorithms.workload.objectives import Objective, Reduction
from emulator.compute.counting import computation, uncounted
from emulator.compute.tensor_account import AUXILIARY, GRADIENTS, OPTIMIZER, PARAMETERS, mark
from emulator.errors import ProtocolError
from emulator.node import StateDict


class Part:
    """A part of the model on one node, with its optimizer; ``spec`` None: not trained, without optimizer and gradients.

    What the module itself has frozen (``requires_grad``) stays so: ``kept`` names these parameters, and the buffers of
    layers that have no other. They are in no message but ``rounds.Frozen``, and such layers are in eval mode.

    ``objective``: the loss of what it returns, for a part whose output is one; that of the task is
    ``config.task.objective()``. ``auxiliary``: it replaces the server half at a client, and is a category of its own in
    the memory breakdown.
    ``cost_key`` is equal for parts whose computations cost the same: same layers, same kind of training.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: OptimizerSpec | None,
        *,
        objective: Objective | None = None,
        auxiliary: bool = False,
    ) -> None:
        self.module = module
        self._at_rest = [layer for layer in module.modules() if _is_frozen(layer)]
        self.kept = frozenset(_kept(module, self._at_rest))
        self.train()
        self._objective = objective
        self._kinds = (AUXILIARY,) * 3 if auxiliary else (PARAMETERS, GRADIENTS, OPTIMIZER)
        mark((*module.parameters(), *module.buffers()), self._kinds[0])
        if spec is None:
            module.requires_grad_(False)
        self.trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = optimizers.make_optimizer(self.trained, spec) if spec is not None and self.trained else None
        layers = hashlib.sha256("\n".join([repr(module), *sorted(self.kept)]).encode()).hexdigest()[:12]
        self.cost_key = f"{layers}:{optimizers.cost_key(spec)}"

    @property
    def objective(self) -> Objective:
        """What its output is judged by; ProtocolError where it was given none."""
        if self._objective is None:
            raise ProtocolError("a part without a loss: say Part(module, spec, objective=config.task.objective())")
        return self._objective

    def loss(self, x: Tensor, y: Tensor, reduction: Reduction = "mean") -> Tensor:
        """The loss of what the part makes of ``x``, with its graph."""
        return self.objective.loss(self.module(x), y, reduction)

    def train(self, mode: bool = True) -> None:
        """Train mode, or eval mode; frozen layers are in eval mode always."""
        self.module.train(mode)
        for layer in self._at_rest:
            layer.eval()

    def step(self) -> None:
        """One step of the optimizer with the gradients at hand, which are None afterwards."""
        if self.optimizer is not None:
            if not self.optimizer.state:
                optimizers.begin(self.optimizer)
            mark((parameter.grad for parameter in self.module.parameters()), self._kinds[1])
            mark(optimizers.state_of(self.optimizer), self._kinds[2])
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


def _is_frozen(layer: nn.Module) -> bool:
    """Whether a layer has parameters, and the module that it is in trains none of them."""
    own = list(layer.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def _kept(module: nn.Module, frozen: Sequence[nn.Module]) -> Iterator[str]:
    """The names in a state of the parameters that are not trained, and of the buffers of ``frozen`` layers."""
    yield from (name for name, parameter in module.named_parameters() if not parameter.requires_grad)
    still = {id(buffer) for layer in frozen for buffer in layer.buffers(recurse=False)}
    yield from (name for name, buffer in module.named_buffers() if id(buffer) in still)


@contextlib.contextmanager
def at_rest(*modules: nn.Module) -> Iterator[None]:
    """Context in which forward passes leave module state as it is, such as a batch norm's statistics and its counter.

    The saving is uncounted: a device would not do it.
    """
    buffers = [buffer for module in modules for buffer in module.buffers()]
    with uncounted():
        kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with uncounted(), torch.no_grad():
            for buffer, before in zip(buffers, kept, strict=True):
                buffer.copy_(before)


# --- the cut: true gradients ------------------------------------------------------------------------------------------


@computation("train_step")
def train_step(model: Part, x: Tensor, y: Tensor) -> Tensor:
    """One step of a full model on one node; returns the loss."""
    loss = model.loss(x, y)
    if loss.requires_grad:
        torch.autograd.backward(loss)
    model.step()
    return loss.detach()


@computation("forward")
def forward(client: Part, x: Tensor) -> Tensor:
    """z, with the graph that ``backward`` needs: it holds the activations until then."""
    z: Tensor = client.module(x)
    return z


@computation("backward")
def backward(client: Part, z: Tensor, dz: Tensor) -> None:
    """The client's step, from the gradient at the cut; frees the graph of z. A client may train nothing."""
    if z.requires_grad:
        torch.autograd.backward(z, dz)
    client.step()


@computation("cut_step")
def cut_step(server: Part, z: Tensor, y: Tensor, wanted: bool = True) -> tuple[Tensor, Tensor]:
    """One step of the layers after the cut; returns the loss, and dz, the gradient at the cut from before the step,
    empty unless it is ``wanted``: a client that trains nothing has no use for it."""
    cut = z.detach().requires_grad_(wanted)
    loss = server.loss(cut, y)
    if loss.requires_grad:
        torch.autograd.backward(loss)
    server.step()
    return loss.detach(), z.new_empty(0) if cut.grad is None else cut.grad


@computation("server_step")
def server_step(server: Part, z: Tensor, y: Tensor) -> Tensor:
    """The server's step on a smashed batch whose dz is not needed; returns the loss."""
    return train_step(server, z, y)


# --- a client that does not wait --------------------------------------------------------------------------------------


@computation("local_step")
def local_step(client: Part, aux: Part, z: Tensor, y: Tensor) -> Tensor:
    """One step of client and auxiliary on the auxiliary's loss, which is returned; one backward pass, frees the graph
    of z."""
    loss = aux.loss(z, y)
    if loss.requires_grad:
        torch.autograd.backward(loss)
    aux.step()
    client.step()
    return loss.detach()


@computation("whole_local_step")
def whole_local_step(client: Part, aux: Part, x: Tensor, y: Tensor) -> Tensor:
    """``forward`` and ``local_step`` in one, for a step that uploads nothing."""
    return local_step(client, aux, forward(client, x), y)


def estimate_gradient(aux: Part, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of a frozen auxiliary and ĝ, the gradient of that loss at z: FSL-SAGE's estimate of the true dz.

    First order only: no graph of the gradient is kept, and the auxiliary's parameters get no gradients.
    """
    cut = z.detach().requires_grad_()
    loss = aux.loss(cut, y)
    (gradient,) = torch.autograd.grad(loss, cut)
    return loss.detach(), gradient


@computation("estimated_step")
def estimated_step(client: Part, aux: Part, z: Tensor, y: Tensor) -> Tensor:
    """One step of the client with the auxiliary's estimate of dz; returns the latter's loss. Frees the graph of z."""
    loss, gradient = estimate_gradient(aux, z, y)
    backward(client, z, gradient)
    return loss


@computation("whole_estimated_step")
def whole_estimated_step(client: Part, aux: Part, x: Tensor, y: Tensor) -> Tensor:
    """``forward`` and ``estimated_step`` in one, for a step that uploads nothing."""
    return estimated_step(client, aux, forward(client, x), y)


# --- alignment --------------------------------------------------------------------------------------------------------


class Buffer:
    """The most recent smashed samples of one client; ``limit`` counts samples, not batches.

    z of a sample is never recomputed: older samples come from an older client half. Keeping them takes no emulated
    time.
    """

    def __init__(self, limit: int, seed: int) -> None:
        self._limit = limit
        self._z: list[Tensor] = []
        self._y: list[Tensor] = []
        self.shuffle = torch.Generator().manual_seed(seed)

    @uncounted()
    def append(self, z: Tensor, y: Tensor) -> None:
        """Add a batch, and forget the oldest samples beyond the limit."""
        self._z.append(z.detach())
        self._y.append(y)
        surplus = sum(map(len, self._y)) - self._limit
        while surplus > 0 and surplus >= len(self._y[0]):
            surplus -= len(self._y[0])
            del self._z[0], self._y[0]
        if surplus > 0:  # cloned, or the slice would keep the whole batch's storage
            self._z[0], self._y[0] = self._z[0][surplus:].clone(), self._y[0][surplus:].clone()

    @uncounted()
    def samples(self) -> tuple[Tensor, Tensor]:
        """Z and Y, oldest first."""
        return torch.cat(self._z), torch.cat(self._y)

    def orders(self, epochs: int) -> Iterator[Tensor]:
        """For each epoch a random order of the samples."""
        count = sum(map(len, self._y))
        for _ in range(epochs):
            with uncounted():
                order = torch.randperm(count, generator=self.shuffle)
            yield order


@computation("refresh")
def refresh(server: Part, z: Tensor, y: Tensor, batch_statistics: bool = True) -> tuple[Tensor, Tensor]:
    """G, the true gradients of the *summed* loss at Z, in one pass over the buffer, and Σ|G|².

    The server half learns nothing. ``batch_statistics``: train mode as in the authors' code, where a batch norm sees
    the buffer once more, in its running statistics too; else eval mode, which leaves it as it is.
    """
    cut = z.detach().requires_grad_()
    server.train(batch_statistics)
    loss = server.loss(cut, y, "sum")
    server.train()
    (gradient,) = torch.autograd.grad(loss, cut)
    return gradient, gradient.square().sum()


class Epoch:
    """An epoch of an alignment: the ``order`` of the samples, and whether it is its ``first`` or ``last``.

    All cost the same: what is measured before the first and after the last is not counted.
    """

    def __init__(self, order: Tensor, first: bool = False, last: bool = False) -> None:
        self.order, self.first, self.last = order, first, last
        self.cost_key = f"epoch of {len(order)}"


def epochs(orders: Sequence[Tensor]) -> list[Epoch]:
    """An ``Epoch`` for each of the ``orders``."""
    return [Epoch(order, i == 0, i == len(orders) - 1) for i, order in enumerate(orders)]


@computation("align_epoch")
def align_epoch(aux: Part, z: Tensor, g: Tensor, y: Tensor, epoch: Epoch, batch: int) -> tuple[Tensor, Tensor]:
    """Fit the auxiliary to true gradients for one epoch: one step a batch on Σ|ĝ − G|² / n², in the given order.

    ĝ and G are gradients of summed losses and n is the number of the batch's terms (samples, where each has one label),
    so the scale is right for any sizes; where the batch is the whole buffer, the loss is that of the authors' code
    (mean losses, squared error summed). Attention as plain products: the fused kernels have no second derivative.

    Returns Σ|ĝ − G|² over the buffer before the first epoch's steps and after the last one's: in other epochs each
    batch's before its step, for both.
    """
    parameters = aux.trained
    error = torch.zeros(())
    order = epoch.order
    batches: list[Tensor | slice] = [slice(None)]
    if len(order) > batch:
        batches = [*_batches(order, batch, not has_batch_norm(aux.module))]
    before = _left_to_align(aux, z, g, y, batches) if epoch.first and len(batches) > 1 else None
    for chosen in batches:
        labels = y[chosen]
        estimated = _estimated(aux, z[chosen], labels, create_graph=True)
        squared = (estimated - g[chosen]).square().sum()
        torch.autograd.backward(squared / aux.objective.terms(labels) ** 2, inputs=parameters)
        aux.step()
        error = error + squared.detach()
    after = _left_to_align(aux, z, g, y, batches) if epoch.last else error
    return error if before is None else before, after


def _estimated(aux: Part, z: Tensor, y: Tensor, *, create_graph: bool) -> Tensor:
    """ĝ of the summed loss at z."""
    cut = z.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        loss = aux.loss(cut, y, "sum")
    (estimated,) = torch.autograd.grad(loss, cut, create_graph=create_graph)
    return estimated


def _left_to_align(aux: Part, z: Tensor, g: Tensor, y: Tensor, batches: Sequence[Tensor | slice]) -> Tensor:
    """Σ|ĝ − G|² over the buffer without a step: a diagnostic, so it costs nothing, draws nothing and leaves no trace.

    In the batches of the alignment, which a batch norm sees.
    """
    with uncounted(), at_rest(aux.module), torch.random.fork_rng(devices=[]):
        found = [(_estimated(aux, z[b], y[b], create_graph=False) - g[b]).square().sum() for b in batches]
        return torch.stack(found).sum()


def _batches(order: Tensor, batch: int, allow_batch_of_one: bool) -> list[Tensor]:
    """Batches of ``order``. The last one may be smaller; one of a single sample joins the batch before, unless
    ``allow_batch_of_one``."""
    batches = list(torch.split(order, batch))
    if not allow_batch_of_one and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@uncounted()
def ratio(error: Tensor, scale: Tensor) -> float:
    """Σ|ĝ − G|² / Σ|G|², the normalised squared error: an estimate of zero has 1."""
    return (error / scale.clamp_min(1e-30)).item()


# --- weights ----------------------------------------------------------------------------------------------------------


def weights(part: Part) -> StateDict:
    """Parameters and buffers as they are but frozen ones, not copied: ``post`` and ``snapshot`` copy what they are
    given."""
    return {key: tensor.detach() for key, tensor in part.module.state_dict().items() if key not in part.kept}


def frozen_weights(part: Part) -> StateDict:
    """The parameters and buffers that ``weights`` leaves out."""
    return {key: tensor.detach() for key, tensor in part.module.state_dict().items() if key in part.kept}


def trains(part: Part) -> bool:
    """Whether the module has a parameter that it has not frozen, trained here or not."""
    return any(name not in part.kept for name, _ in part.module.named_parameters())


@computation("load_weights")
def load_weights(part: Part, state: StateDict) -> None:
    """Overwrite parameters and buffers but frozen ones; Adam's moments stay."""
    load_state(part.module, {**state, **frozen_weights(part)} if part.kept else state)


@computation("weighted_mean", weights="counts")
def weighted_mean(states: Sequence[StateDict], counts: Sequence[int]) -> StateDict:
    """Σ n_i · state_i / Σ n_i, taken up in the order given (float addition is not associative: give client order).

    A running mean, m += n_i / (n_1 + … + n_i) · (state_i − m), so that the mean of equal states is that state exactly.
    Integer buffers, such as batch norm's counters, are averaged in float64 and rounded.
    """
    mean: StateDict = {}
    for key, first in states[0].items():
        running = first.clone() if first.is_floating_point() else first.double()
        taken = counts[0]
        for state, count in zip(states[1:], counts[1:], strict=True):
            taken += count
            running.lerp_(state[key].to(running.dtype), count / taken)
        mean[key] = running if first.is_floating_point() else running.round().to(first.dtype)
    return mean


@uncounted()
def mean_of(losses: Sequence[Tensor]) -> float:
    """The mean of a round's losses."""
    return torch.stack(list(losses)).mean().item()
