"""The arithmetic that algorithms share, against plain autograd and closed forms."""

from __future__ import annotations

import copy
import itertools
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.training import steps
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task
from emulator.compute.counting import WorkCounter
from emulator.compute.device import Work

LR = OptimizerSpec("adam", 1e-3)
ALIGN = OptimizerSpec("adam", 5e-3)

judged_part = partial(steps.Part, objective=Classification())


def align(
    aux: steps.Part,
    true: tuple[torch.Tensor, ...],
    z: torch.Tensor,
    y: torch.Tensor,
    orders: list[torch.Tensor],
    n: int,
) -> tuple[float, float]:
    """The error before the first epoch's steps and after the last one's; ``true`` as ``refresh`` gives it."""
    g, scale = true
    errors = [steps.align_epoch(aux, z, g, y, epoch, n) for epoch in steps.epochs(orders)]
    return steps.ratio(errors[0][0], scale), steps.ratio(errors[-1][1], scale)


def batch(seed: int = 1, count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 8, 8, generator=draws), torch.randint(10, (count,), generator=draws)


def smashed(seed: int = 1, count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = batch(seed, count)
    with torch.no_grad():
        return Task().client_half()(x), y


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def without_gradients(*parts: steps.Part) -> bool:
    return all(parameter.grad is None for part in parts for parameter in part.module.parameters())


def test_a_cut_step_is_a_step_of_the_whole_model_bit_for_bit() -> None:
    whole = judged_part(Task().full_model(), LR)
    client, server = judged_part(Task().client_half(), LR), judged_part(Task().server_half(), LR)
    for seed in range(3):
        x, y = batch(seed)
        expected = steps.train_step(whole, x, y)
        z = steps.forward(client, x)
        loss, dz = steps.cut_step(server, z, y)
        steps.backward(client, z, dz)
        assert torch.equal(loss, expected)
        assert without_gradients(client, server, whole)
    joined = {**steps.weights(client), **steps.weights(server)}
    assert all(torch.equal(joined[key], tensor) for key, tensor in steps.weights(whole).items())


def test_a_local_step_is_one_backward_through_client_and_auxiliary_bit_for_bit() -> None:
    x, y = batch()
    client, aux = judged_part(Task().client_half(), LR), judged_part(Task().auxiliary(), LR)
    joined = nn.Sequential(copy.deepcopy(client.module), copy.deepcopy(aux.module))
    expected = steps.train_step(judged_part(joined, LR), x, y)
    assert torch.equal(steps.whole_local_step(client, aux, x, y), expected)
    assert same(client.module, joined[0])
    assert same(aux.module, joined[1])
    assert without_gradients(client, aux)


@pytest.mark.parametrize("kind", ["linear", "stage"])
def test_an_estimated_step_moves_the_client_as_a_local_step_and_leaves_the_auxiliary(kind: str) -> None:
    x, y = batch()
    task = Task(aux=kind)
    client, other = judged_part(task.client_half(), LR), judged_part(task.client_half(), LR)
    frozen, trained = judged_part(task.auxiliary(), None), judged_part(task.auxiliary(), LR)
    assert torch.equal(steps.whole_estimated_step(client, frozen, x, y), steps.whole_local_step(other, trained, x, y))
    assert same(client.module, other.module)
    assert same(frozen.module, task.auxiliary())
    assert not same(trained.module, frozen.module)
    assert without_gradients(client, frozen)
    assert frozen.optimizer is None


def test_with_the_server_half_as_auxiliary_the_estimate_is_the_true_gradient_and_nothing_is_left_to_align() -> None:
    z, y = smashed(count=16)
    server = judged_part(Task().server_half(), LR)
    aux = judged_part(copy.deepcopy(server.module), LR)
    _, estimated = steps.estimate_gradient(aux, z, y)
    gradients = steps.refresh(server, z, y)
    assert torch.allclose(estimated, gradients[0] / 16, atol=1e-9)
    before, after = align(aux, gradients, z, y, [torch.arange(16)], 16)
    assert before <= 1e-10
    assert after <= 1e-6  # Adam's step has its length whatever the gradient
    _, dz = steps.cut_step(server, z, y)
    assert torch.allclose(estimated, dz, atol=1e-9)


@pytest.mark.parametrize(("norm", "taken"), [(nn.BatchNorm1d(4), 2), (nn.LayerNorm(4), 3)])
def test_a_last_batch_of_one_sample_joins_the_one_before_where_there_is_batch_norm(norm: nn.Module, taken: int) -> None:
    aux = judged_part(nn.Sequential(norm, nn.Linear(4, 3)), ALIGN)
    z, g, y = torch.randn(5, 4), torch.randn(5, 4), torch.randint(3, (5,))
    assert steps.align_epoch(aux, z, g, y, steps.Epoch(torch.randperm(5)), 2)[0].isfinite()
    assert aux.optimizer is not None
    assert {int(state["step"]) for state in aux.optimizer.state.values()} == {taken}


@pytest.mark.parametrize("kind", ["linear", "pool", "stage"])
@pytest.mark.parametrize("align_batch", [160, 48])
def test_alignment_reduces_the_error_on_the_buffer_and_leaves_the_server_half(kind: str, align_batch: int) -> None:
    z, y = smashed(count=160)
    server = judged_part(Task().server_half(), LR)
    untouched = copy.deepcopy(server.module)
    aux = judged_part(Task(aux=kind).auxiliary(), ALIGN)
    gradients = steps.refresh(server, z, y)
    draws = torch.Generator().manual_seed(1)
    orders = [torch.randperm(160, generator=draws) for _ in range(20)]
    before, after = align(aux, gradients, z, y, orders, align_batch)
    assert after < 0.8 * before
    assert same(server.module, untouched)
    assert without_gradients(server, aux)


def test_the_scale_of_estimate_and_alignment_does_not_depend_on_the_size_of_the_batch() -> None:
    z, y = smashed(count=8)
    twice_z, twice_y = torch.cat([z, z]), torch.cat([y, y])
    server, aux = judged_part(Task().server_half(), LR), judged_part(Task().auxiliary(), None)
    summed, summed_twice = steps.refresh(server, z, y), steps.refresh(server, twice_z, twice_y)
    assert torch.allclose(
        summed[0], summed_twice[0][:8], rtol=1e-4, atol=1e-7
    )  # of each sample, whatever else is there
    _, once = steps.estimate_gradient(aux, z, y)
    _, doubled = steps.estimate_gradient(aux, twice_z, twice_y)
    assert torch.allclose(once * 8, doubled[:8] * 16, rtol=1e-4, atol=1e-7)
    task = Task()
    errors = [
        align(judged_part(task.auxiliary(), ALIGN), gs, zs, ys, [torch.arange(len(ys))] * 3, 1000)
        for zs, gs, ys in [(z, summed, y), (twice_z, summed_twice, twice_y)]
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_where_the_batch_is_the_buffer_alignment_is_the_authors_loss_of_mean_gradients() -> None:
    z, y = smashed(count=12)
    server, task = judged_part(Task().server_half(), LR), Task(aux="stage")
    aux, reference = judged_part(task.auxiliary(), ALIGN), task.auxiliary()
    adam = torch.optim.Adam(reference.parameters(), lr=5e-3)
    align(aux, steps.refresh(server, z, y), z, y, [torch.arange(12)], 12)

    cut = z.clone().requires_grad_()
    (true,) = torch.autograd.grad(cross_entropy(server.module(cut), y), cut)
    (estimated,) = torch.autograd.grad(cross_entropy(reference(cut), y), cut, create_graph=True)
    torch.autograd.backward((estimated - true).square().sum())
    adam.step()
    for key, tensor in reference.state_dict().items():
        assert torch.allclose(tensor, aux.module.state_dict()[key], atol=1e-5), key


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), limit=st.integers(1, 20))
def test_a_buffer_keeps_the_most_recent_samples(sizes: list[int], limit: int) -> None:
    buffer, numbers = steps.Buffer(limit, 1), itertools.count()
    for size in sizes:
        y = torch.tensor([next(numbers) for _ in range(size)])
        buffer.append(y[:, None].float(), y)
    z, y = buffer.samples()
    total = sum(sizes)
    assert y.tolist() == list(range(max(0, total - limit), total))
    assert z[:, 0].tolist() == y.tolist()
    assert sorted(next(buffer.orders(1)).tolist()) == list(range(len(y)))


def state(*values: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(values)}


@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8),
    counts=st.lists(st.integers(1, 1000), min_size=8, max_size=8),
)
def test_a_weighted_mean_is_what_its_formula_says_and_lies_between_the_extremes(
    values: list[float], counts: list[int]
) -> None:
    counts = counts[: len(values)]
    mean = steps.weighted_mean([state(value) for value in values], counts)["w"].item()
    exact = sum(value * count for value, count in zip(values, counts, strict=True)) / sum(counts)
    assert mean == pytest.approx(exact, rel=1e-5, abs=1e-4)
    assert min(values) - 1e-4 <= mean <= max(values) + 1e-4


def test_the_mean_of_equal_states_is_that_state_and_no_state_is_changed_by_averaging() -> None:
    one, two = state(0.1, 0.7), state(3.0, -1.0)
    for clients in range(1, 12):
        assert torch.equal(steps.weighted_mean([one] * clients, list(range(1, clients + 1)))["w"], one["w"])
    steps.weighted_mean([one, two], [1, 3])
    assert torch.equal(one["w"], torch.tensor([0.1, 0.7]))


def test_counters_of_batch_norm_are_averaged_as_integers() -> None:
    states = [{"num_batches_tracked": torch.tensor(count)} for count in (10, 13)]
    mean = steps.weighted_mean(states, [2, 1])["num_batches_tracked"]
    assert (mean.item(), mean.dtype) == (11, torch.int64)


def test_loading_weights_keeps_the_moments_of_adam() -> None:
    part = judged_part(Task().client_half(), LR)
    initial = {key: tensor.clone() for key, tensor in steps.weights(part).items()}
    x, _ = batch()
    z = steps.forward(part, x)
    steps.backward(part, z, torch.ones_like(z))
    assert not torch.equal(initial["conv1.0.weight"], steps.weights(part)["conv1.0.weight"])
    assert part.optimizer is not None
    moments = [state["exp_avg"].clone() for state in part.optimizer.state.values()]
    steps.load_weights(part, initial)
    assert torch.equal(initial["conv1.0.weight"], steps.weights(part)["conv1.0.weight"])
    assert all(map(torch.equal, moments, (state["exp_avg"] for state in part.optimizer.state.values())))


def test_a_cost_key_tells_parts_apart_that_cost_something_else_and_no_others() -> None:
    client = judged_part(Task(seed=1).client_half(), LR)
    assert client.cost_key == judged_part(Task(seed=2).client_half(), OptimizerSpec("adam", 0.5)).cost_key
    assert client.cost_key != judged_part(Task().client_half(), None).cost_key
    assert client.cost_key != judged_part(Task().server_half(), LR).cost_key


def test_synthetic_data_are_learnt_in_a_few_steps() -> None:
    shard = Task(dataset="synthetic:3x16x16:4:400", clients=1, batch=20).shard(0)
    model = judged_part(Task(dataset="synthetic:3x16x16:4:400").full_model(), OptimizerSpec("adam", 3e-3))
    losses = [steps.train_step(model, x, y).item() for epoch in range(2) for x, y in shard.batches(epoch)]
    assert sum(losses[-4:]) / 4 < 0.5 * sum(losses[:4]) / 4


class Recording(TorchDispatchMode):
    """Sees what a cost counter sees."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        del types
        self.operations += 1
        return func(*args, **(kwargs or {}))


def test_every_function_gives_the_same_under_a_dispatch_mode() -> None:
    def everything() -> dict[str, torch.Tensor]:
        task = Task(aux="stage")
        client, server = judged_part(task.client_half(), LR), judged_part(task.server_half(), LR)
        frozen, aux = judged_part(task.auxiliary(), None), judged_part(task.auxiliary(), ALIGN)
        x, y = batch()
        z = steps.forward(client, x)
        steps.backward(client, z, steps.cut_step(server, z, y)[1])
        steps.whole_estimated_step(client, frozen, x, y)
        steps.whole_local_step(client, aux, x, y)
        z, y = smashed()
        steps.server_step(server, z, y)
        align(aux, steps.refresh(server, z, y), z, y, [torch.arange(16)] * 2, 10)
        return steps.weighted_mean([steps.weights(aux), steps.weights(frozen)], [1, 2])

    plain = everything()
    with Recording() as recording:
        counted = everything()
    assert recording.operations > 100
    assert all(torch.equal(plain[key], counted[key]) for key in plain)


def test_the_first_step_of_adam_costs_and_does_what_it_always_does() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3))
    part, x, y = (
        judged_part(copy.deepcopy(module), OptimizerSpec("adam", 1e-2)),
        torch.randn(5, 4),
        torch.randint(3, (5,)),
    )
    plain = torch.optim.Adam(module.parameters(), lr=1e-2)
    works = []
    for _ in range(3):
        with WorkCounter() as counter:
            steps.train_step(part, x, y)
        works.append(counter.work)
        cross_entropy(module(x), y).backward()
        plain.step()
        plain.zero_grad()
    assert works[0] == works[1] == works[2]
    assert all(torch.equal(a, b) for a, b in zip(part.module.parameters(), module.parameters(), strict=True))


def left_to_align(aux: nn.Module, true: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> float:
    """Σ|ĝ − G|² over Σ|G|² of gradients of the summed loss, written once more."""
    cut = z.detach().requires_grad_()
    (estimated,) = torch.autograd.grad(cross_entropy(aux(cut), y, reduction="sum"), cut)
    return float((estimated - true).square().sum() / true.square().sum())


@pytest.mark.parametrize("align_batch", [40, 12])
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_errors_of_an_alignment_are_those_before_its_first_step_and_after_its_last(
    epochs: int, align_batch: int
) -> None:
    """Whatever the batch: in the first epoch each batch but the first comes after a step."""
    z, y = smashed(count=40)
    aux = judged_part(Task().auxiliary(), ALIGN)
    untrained = copy.deepcopy(aux.module)
    true = steps.refresh(judged_part(Task().server_half(), LR), z, y)
    before, after = align(aux, true, z, y, [torch.arange(40)] * epochs, align_batch)
    assert before == pytest.approx(left_to_align(untrained, true[0], z, y), rel=1e-4)
    assert after == pytest.approx(left_to_align(aux.module, true[0], z, y), rel=1e-4)
    assert after < 0.99 * before


def test_measuring_what_is_left_to_align_costs_nothing_draws_nothing_and_leaves_no_trace() -> None:
    """Else the last epoch would take longer than the others, and the training go another way for being watched."""
    z, g, y = torch.randn(6, 4), torch.randn(6, 4), torch.randint(3, (6,))
    layers = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))

    def played(first: bool, last: bool) -> tuple[Work, torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        part, epoch = judged_part(copy.deepcopy(layers), ALIGN), steps.Epoch(torch.arange(6), first, last)
        with WorkCounter() as counter:
            steps.align_epoch(part, z, g, y, epoch, 3)
        return counter.work, torch.rand(1), steps.weights(part)

    work, drawn, trained = played(False, False)
    for watched_work, watched_drawn, watched in (played(True, False), played(False, True), played(True, True)):
        assert watched_work == work
        assert torch.equal(watched_drawn, drawn)
        assert all(torch.equal(watched[key], trained[key]) for key in trained)
    assert trained["0.num_batches_tracked"] == 2  # one a step


def test_passes_at_rest_leave_what_a_batch_norm_keeps_as_it_is() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm1d(4)).train()
    before, x = copy.deepcopy(module.state_dict()), torch.randn(6, 4) + 3
    with WorkCounter() as counter, steps.at_rest(module):
        resting = module(x)
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    with WorkCounter() as usual:
        moving = module(x)
    assert torch.equal(moving, resting)  # by the batch's own statistics, as ever
    assert counter.work == usual.work
    assert module.state_dict()["0.num_batches_tracked"] == 1
