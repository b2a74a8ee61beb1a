"""What work takes on a device, and what a computation's work is: FLOPs and bytes by formula."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from algorithms.training import steps
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from emulator.compute.counting import ComputeThread, Costs, WorkCounter, cost_key
from emulator.compute.device import Work, duration_ns
from emulator.profiles.scenario import Device
from emulator.testing.stage import MS, SECOND, make_device, operations

works = st.builds(Work, *[st.integers(0, 10**12)] * 4)


def count(fn: Callable[..., Any], *args: Any) -> Work:
    with WorkCounter() as counter:
        fn(*args)
    return counter.work


# --- durations --------------------------------------------------------------------------------------------------------

BOARD = Device("board", 2**30, 0, 0, 2 * 10**9, 10**8, 4 * 10**9, 3 * MS, 2**20)


@pytest.mark.parametrize(
    ("work", "expected_ns"),
    [
        (Work(), 0),
        (Work(operations=7), 21 * MS),
        (Work(dense_flops=10**9), SECOND // 2),
        (Work(depthwise_flops=10**9), 10 * SECOND),
        (Work(moved_bytes=10**9), SECOND // 4),
        (Work(2, 2 * 10**6, 10**5, 4 * 10**6), 6 * MS + MS + MS + MS),
        (Work(dense_flops=1), 1),
        (Work(dense_flops=3, moved_bytes=5), 2 + 2),
    ],
)
def test_a_duration_is_dispatches_plus_flops_plus_bytes_each_over_its_rate(work: Work, expected_ns: int) -> None:
    assert duration_ns(work, BOARD) == expected_ns


@given(works, works)
def test_more_work_never_takes_less_and_parts_take_as_long_as_the_whole(one: Work, other: Work) -> None:
    whole = duration_ns(one + other, BOARD)
    assert whole >= duration_ns(one, BOARD)
    assert 0 <= duration_ns(one, BOARD) + duration_ns(other, BOARD) - whole <= 3  # each rate rounds up once more


# --- convolutions and products ----------------------------------------------------------------------------------------

BATCH, CHANNELS, SIDE, OUT, KERNEL = 5, 8, 10, 16, 3
# A multiply-add is two FLOPs; one for each weight of a filter's group, each output channel and each output pixel.
FORWARD_FLOPS = 2 * BATCH * OUT * SIDE * SIDE * CHANNELS * KERNEL * KERNEL


def convolve(groups: int, input_gradient: bool) -> tuple[torch.nn.Conv2d, torch.Tensor]:
    layer = torch.nn.Conv2d(CHANNELS, OUT, KERNEL, padding=1, groups=groups, bias=False)
    return layer, torch.zeros(BATCH, CHANNELS, SIDE, SIDE, requires_grad=input_gradient)


def flops_of(work: Work, groups: int) -> int:
    """The FLOPs of a convolution, which must all be of the one kind that it is."""
    found, other = work.dense_flops, work.depthwise_flops
    if groups == CHANNELS:
        found, other = other, found
    assert other == 0
    return found


@pytest.mark.parametrize("groups", [1, 2, 4, CHANNELS])
def test_a_convolution_counts_its_multiply_adds_twice(groups: int) -> None:
    layer, x = convolve(groups, input_gradient=False)
    assert flops_of(count(layer, x), groups) == FORWARD_FLOPS // groups


@pytest.mark.parametrize("groups", [1, 2, 4, CHANNELS])
def test_each_gradient_of_a_convolution_costs_as_much_as_its_forward(groups: int) -> None:
    forward = FORWARD_FLOPS // groups
    for input_gradient, gradients in ((False, 1), (True, 2)):
        layer, x = convolve(groups, input_gradient)
        out = layer(x)
        assert flops_of(count(torch.autograd.backward, out, torch.zeros_like(out)), groups) == gradients * forward
    layer, x = convolve(groups, input_gradient=True)
    out = layer(x).sum()
    assert flops_of(count(lambda: torch.autograd.grad(out, x)), groups) == forward  # the estimate of FSL-SAGE


def test_a_strided_convolution_counts_its_output_pixels() -> None:
    x, w = torch.zeros(2, 3, 9, 9), torch.zeros(4, 3, 3, 3)
    assert count(lambda: functional.conv2d(x, w, stride=2)).dense_flops == 2 * 2 * 4 * (4 * 4) * 3 * 9


def test_a_transposed_convolution_counts_its_input_pixels() -> None:
    x, w = torch.zeros(2, 3, 5, 5), torch.zeros(3, 4, 2, 2)
    assert count(lambda: functional.conv_transpose2d(x, w, stride=2)).dense_flops == 2 * 2 * 3 * (5 * 5) * 4 * 4


def test_a_matrix_product_counts_two_flops_an_element_of_the_cube() -> None:
    a, b, bias = torch.zeros(3, 5), torch.zeros(5, 7), torch.zeros(7)
    assert count(torch.mm, a, b) == Work(operations=1, dense_flops=2 * 3 * 5 * 7)
    assert count(torch.addmm, bias, a, b) == Work(operations=1, dense_flops=2 * 3 * 5 * 7)
    assert count(torch.bmm, torch.zeros(2, 3, 5), torch.zeros(2, 5, 7)).dense_flops == 2 * (2 * 3 * 5 * 7)


def test_a_linear_layers_backward_is_two_products() -> None:
    layer, x = torch.nn.Linear(5, 7), torch.zeros(3, 5, requires_grad=True)
    out = layer(x)
    assert count(torch.autograd.backward, out, torch.zeros_like(out)).dense_flops == 2 * (2 * 3 * 5 * 7)


# --- what counts no FLOPs ---------------------------------------------------------------------------------------------


def test_an_elementwise_operation_moves_its_operands_and_its_result() -> None:
    a, b = torch.zeros(10, 10), torch.zeros(10, 10, dtype=torch.float64)
    assert count(torch.relu, a) == Work(operations=1, moved_bytes=400 + 400)
    assert count(torch.add, a, b) == Work(operations=1, moved_bytes=400 + 800 + 800)
    assert count(lambda: torch.cat([a, a, a])) == Work(operations=1, moved_bytes=1200 + 1200)
    assert count(torch.zeros, 25) == Work(operations=1, moved_bytes=100)


def test_a_view_is_an_operation_that_moves_nothing() -> None:
    x = torch.zeros(4, 6)
    for view in (x.t, lambda: x.view(24), lambda: x[1:3], lambda: x.expand(2, 4, 6), x.detach):
        assert count(view) == Work(operations=1)
    assert count(operations, 5) == Work(operations=5)


def test_an_optimizer_step_counts_its_passes_over_the_parameters() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1000))
    parameter.grad = torch.ones(1000)
    work = count(torch.optim.SGD([parameter], lr=0.1).step)
    assert (work.dense_flops, work.depthwise_flops) == (0, 0)
    assert work.moved_bytes >= 3 * 4000  # reads the parameter and its gradient, writes the parameter
    assert work.operations >= 1


def test_work_does_not_depend_on_values_and_adds_up() -> None:
    layer = torch.nn.Conv2d(1, 4, 3)
    once = count(layer, torch.zeros(2, 1, 8, 8))
    assert once == count(layer, torch.rand(2, 1, 8, 8))
    assert count(lambda: [layer(torch.empty(0).new_empty(2, 1, 8, 8)) for _ in range(3)]).dense_flops == (
        3 * once.dense_flops
    )


# --- cost keys and tables ---------------------------------------------------------------------------------------------


def key(*args: object) -> str:
    return cost_key(operations, args)


class Keyed:
    def __init__(self, name: str) -> None:
        self.cost_key = name


STATE = {f"layer{i}.weight": torch.zeros(i + 1, 3) for i in range(5)}

EQUAL = {
    "values of a tensor": (torch.zeros(2, 3), torch.ones(2, 3)),
    "states of one shape": (STATE, {name: tensor + 1 for name, tensor in STATE.items()}),
    "lists of one shape": ([torch.zeros(2), 1], (torch.ones(2), 1)),
    "parts of one kind": (Keyed("a"), Keyed("a")),
    "models of one kind": (
        steps.Part(torch.nn.Linear(2, 3), OptimizerSpec("adam", 0.1), objective=Classification()),
        steps.Part(torch.nn.Linear(2, 3), OptimizerSpec("adam", 0.2), objective=Classification()),
    ),
}
DIFFERENT = {
    "shapes": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "dtypes": (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    "numbers": (1, 2),
    "number and text": (1, "1"),
    "none and text": (None, "None"),
    "lengths": ([torch.zeros(2)], [torch.zeros(2)] * 2),
    "one of many shapes": (STATE, {**STATE, "layer3.weight": torch.zeros(4, 4)}),
    "names in a state": ({"a": torch.zeros(2)}, {"b": torch.zeros(2)}),
    "kinds of part": (Keyed("a"), Keyed("b")),
    "layers": (
        steps.Part(torch.nn.Linear(2, 3), OptimizerSpec("adam", 0.1), objective=Classification()),
        steps.Part(torch.nn.Linear(2, 4), OptimizerSpec("adam", 0.1), objective=Classification()),
    ),
    "frozen and trained": (
        steps.Part(torch.nn.Linear(2, 3), OptimizerSpec("adam", 0.1), objective=Classification()),
        steps.Part(torch.nn.Linear(2, 3), None, objective=Classification()),
    ),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_computations_that_cost_the_same_have_one_key(one: object, other: object) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_computations_that_may_cost_different_amounts_have_different_keys(one: object, other: object) -> None:
    assert key(one) != key(other)


def test_a_key_begins_with_the_function_and_tells_functions_apart() -> None:
    assert key(3) == "emulator.testing.stage.operations(3)"
    assert cost_key(count, (3,)) != key(3)


def test_a_cost_table_knows_what_it_has_counted_also_when_it_failed() -> None:
    def fail() -> None:
        operations(2)
        raise ValueError("after two operations")

    costs = Costs({"known": Work(1)})
    assert [costs.knows(name) for name in ("known", "new")] == [True, False]
    assert costs.count("new", operations, (4,)) == 4
    with pytest.raises(ValueError, match="after two operations"):
        costs.count("failed", fail, ())
    assert costs.table == {"known": Work(1), "new": Work(4), "failed": Work(2)}


# --- the thread -------------------------------------------------------------------------------------------------------


def test_a_node_computes_in_one_thread_one_at_a_time_and_in_order() -> None:
    thread = ComputeThread()
    order: list[int] = []
    gate = threading.Event()
    woken = threading.Semaphore(0)

    def step(number: int) -> int:
        assert gate.wait(30)
        order.append(number)
        return threading.get_ident()

    runs = [thread.submit(lambda number=number: step(number), lambda: 42, woken.release) for number in range(5)]
    assert not any(run.ready() for run in runs)
    gate.set()
    for run in runs:
        run.settle()
        assert run.ended_actual_ns == 42
        assert run.host_ns >= 0
    assert all(woken.acquire(timeout=30) for _ in runs)
    assert order == list(range(5))
    assert {run.result() for run in runs} == {thread.ident} != {threading.get_ident()}
    thread.close()


def test_a_host_run_keeps_an_exception_for_whoever_asks_for_the_result() -> None:
    thread = ComputeThread()
    run = thread.submit(lambda: math.sqrt(-1), lambda: 0, lambda: None)
    run.settle()
    assert run.ready()
    with pytest.raises(ValueError):
        run.result()
    thread.close()


def test_the_stage_has_the_figures_that_other_tests_count_on() -> None:
    assert duration_ns(count(operations, 5), make_device()) == 5 * MS
