"""A radio's states: closed forms of a periodic sender, and a state machine that steps through every nanosecond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from emulator.energy.radio import radio_states
from emulator.spans import covered_ns, joined, pairs_of, without

spans = some.lists(some.tuples(some.integers(0, 60), some.integers(0, 12)), max_size=8).map(
    lambda found: [(start, start + length) for start, length in found]
)


def of_periodic(period, *, on_air, times, tail, drx=0):
    """One who sends for ``on_air`` at 0, period, ...; its states until the last period's end."""
    sent = pairs_of([(n * period, n * period + on_air) for n in range(times)])
    states = radio_states(sent, sent, tail, drx, np.asarray([times * period]))
    return [int(each[0]) for each in states]


@pytest.mark.parametrize(
    ("period", "tail_each", "asleep_each", "promotions"),
    [(7, 5, 0, 1), (12, 10, 0, 1), (13, 10, 1, 10), (100, 10, 88, 10)],
    ids=["shorter than the tail", "as long", "longer by one", "far longer"],
)
def test_a_periodic_sender_sleeps_only_where_its_period_is_longer_than_sending_and_tail(
    period, tail_each, asleep_each, promotions
):
    states = of_periodic(period, on_air=2, times=10, tail=10)
    assert states == [20, 0, 10 * tail_each, 0, 10 * asleep_each, promotions]


def test_drx_follows_the_tail_for_its_own_time():
    assert of_periodic(100, on_air=2, times=3, tail=10, drx=20) == [6, 0, 30, 60, 3 * 68, 3]


def stepped(on_air, sending, tail, drx, until):
    """The same nanosecond by nanosecond."""
    counts = dict.fromkeys(("sending", "receiving", "tail", "drx", "asleep", "promotions"), 0)
    quiet = tail + drx  # how long nothing has passed: at first for long
    for now in range(until):
        passes = any(start <= now < end for start, end in on_air)
        if passes:
            counts["promotions"] += quiet > tail + drx or not any(start < now for start, _ in on_air)
            counts["sending" if any(start <= now < end for start, end in sending) else "receiving"] += 1
            quiet = 0
            continue
        ever = any(start < now for start, _ in on_air)
        counts["asleep" if not ever or quiet >= tail + drx else "tail" if quiet < tail else "drx"] += 1
        quiet += 1
    return counts


@given(spans, spans, some.integers(0, 9), some.integers(0, 9), some.integers(0, 90))
def test_states_are_those_of_a_machine_that_steps_and_add_up(up, down, tail, drx, until):
    sending = joined(pairs_of(up))
    on_air = joined(sending, pairs_of(down))
    states = radio_states(on_air, sending, tail, drx, np.asarray([until]))
    wanted = stepped(on_air.tolist(), sending.tolist(), tail, drx, until)
    assert [int(each[0]) for each in states] == [*wanted.values()]
    assert sum(int(each[0]) for each in states[:5]) == until


@given(spans, spans, some.integers(0, 90))
def test_spans_hold_the_instants_of_sets(first, second, until):
    instants = lambda found: {now for start, end in found for now in range(start, end)}  # noqa: E731
    one, other = joined(pairs_of(first)), joined(pairs_of(second))
    assert instants(one.tolist()) == instants(first)
    assert instants(without(one, other).tolist()) == instants(first) - instants(second)
    assert covered_ns(one, np.asarray([until]))[0] == len({now for now in instants(first) if now < until})
