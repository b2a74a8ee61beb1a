"""Quantities that change in steps: their laws, against adding them up ns by ns."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.piecewise import PointwiseMax, StepFunction, constant, pointwise_max

VALUES = st.integers(0, 9)


@st.composite
def some_steps(draw: st.DrawFn) -> StepFunction:
    """Up to six short steps, somewhere ahead, so that every ns can be looked at."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    values = draw(st.lists(VALUES, min_size=len(lengths), max_size=len(lengths)))
    *starts, length = accumulate(lengths, initial=0)
    return StepFunction(tuple(starts), tuple(values), length, draw(st.integers(0, length - 1)))


def by_ns(steps: StepFunction) -> list[int]:
    """The value in each ns of a lap, without ``at``."""
    edges = [*steps.starts_ns, steps.length_ns]
    spans = zip(steps.values, edges, edges[1:], strict=False)
    return [value for value, a, b in spans for _ in range(b - a)]


@given(some_steps(), st.integers(0, 100))
def test_the_value_is_that_of_the_lap_again_and_again(steps: StepFunction, t: int) -> None:
    assert steps.at(t) == by_ns(steps)[(t + steps.ahead_ns) % steps.length_ns]
    assert steps.at(t + steps.length_ns) == steps.at(t)


@given(some_steps(), st.integers(0, 100))
def test_a_step_ends_later_and_holds_until_then(steps: StepFunction, t: int) -> None:
    end = steps.next_ns(t)
    assert end > t
    assert {steps.at(moment) for moment in range(t, end)} == {steps.at(t)}
    assert (end + steps.ahead_ns) % steps.length_ns in steps.starts_ns
    assert not any((moment + steps.ahead_ns) % steps.length_ns in steps.starts_ns for moment in range(t + 1, end))


@given(some_steps(), st.integers(0, 100), st.integers(0, 100))
def test_the_integral_is_the_sum_over_every_ns(steps: StepFunction, start: int, span: int) -> None:
    assert steps.integral(start, start + span) == sum(steps.at(t) for t in range(start, start + span))


@given(some_steps(), st.tuples(*[st.integers(0, 10**15)] * 3))
def test_integrals_add_up_and_a_lap_is_always_as_much(steps: StepFunction, moments: tuple[int, int, int]) -> None:
    a, b, c = sorted(moments)
    assert steps.integral(a, b) + steps.integral(b, c) == steps.integral(a, c)
    assert steps.integral(a, a + steps.length_ns) == sum(by_ns(steps)) == steps.sums[-1]


@given(some_steps(), st.integers(0, 100), st.integers(0, 100))
def test_shifted_steps_are_the_same_from_another_place_on(steps: StepFunction, ahead: int, t: int) -> None:
    moved = steps.shifted(ahead)
    assert moved.at(t) == by_ns(steps)[(t + ahead) % steps.length_ns]
    assert moved.shifted(steps.ahead_ns) == steps


@given(some_steps(), some_steps(), st.integers(0, 100), st.integers(0, 60))
def test_the_larger_of_two_is_it_at_every_ns_whatever_their_lengths(
    a: StepFunction, b: StepFunction, t: int, span: int
) -> None:
    found = pointwise_max(a, b)
    expected = [max(a.at(moment), b.at(moment)) for moment in range(t, t + span)]
    assert [found.at(moment) for moment in range(t, t + span)] == expected
    assert found.integral(t, t + span) == sum(expected)
    end = found.next_ns(t)
    assert end > t
    assert {found.at(moment) for moment in range(t, end)} == {found.at(t)}
    assert found.least <= min(max(a.at(moment), b.at(moment)) for moment in range(a.length_ns * b.length_ns))


def test_where_one_is_never_the_smaller_it_is_the_larger() -> None:
    a, b = StepFunction((0, 4), (5, 2), 9), StepFunction((0, 4), (5, 1), 9)
    assert pointwise_max(a, b) is a and pointwise_max(b, a) is a
    assert pointwise_max(a, a) is a
    assert pointwise_max(a, StepFunction((0,), (5,), 7)).values == (5,)
    assert isinstance(pointwise_max(a, b.shifted(1)), PointwiseMax)
    assert isinstance(pointwise_max(a, StepFunction((0, 4), (1, 3), 9)), PointwiseMax)


@given(VALUES, st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_constant_is_the_same_everywhere(value: int, t: int, span: int) -> None:
    assert constant(value).at(t) == value
    assert constant(value).integral(t, t + span) == value * span


@pytest.mark.parametrize(
    ("starts", "values", "length"),
    [((1,), (5,), 9), ((0, 4, 4), (5, 6, 7), 9), ((0, 4), (5, 6), 4), ((0, 4), (5,), 9), ((0, 5, 3), (1, 2, 3), 9)],
)
def test_steps_that_do_not_rise_from_0_are_refused(starts: tuple[int], values: tuple[int], length: int) -> None:
    with pytest.raises(ValueError, match="begin at 0 and rise"):
        StepFunction(starts, values, length)
