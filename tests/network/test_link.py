"""Connections of an ideal network against closed forms, and the laws that hold for any traffic on them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, pi, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic import Sent, carry, fabric_of, link

from emulator.network.fabric import Fabric
from emulator.network.jitter import Jitter, Transmission
from emulator.profiles.scenario import Direction, Network
from emulator.testing.stage import MBIT, MS, SECOND, make_scenario

US = 1000

rates = st.integers(1_000, 10**10)
sizes = st.integers(1, 4 * 2**20)
delays = st.integers(0, 2 * SECOND)
whole_us = st.integers(0, 500_000).map(lambda us: us * US)
traffic = st.lists(st.tuples(st.integers(0, SECOND), sizes), min_size=1, max_size=30)


def pipe(rate_bps: int = MBIT, one_way_ns: int = 0, jitter_ns: int = 0) -> Fabric:
    """One client whose link has all of the delay and the jitter."""
    direction = Direction(rate_bps, one_way_ns, jitter_ns)
    return fabric_of(Network("pipe", direction, direction))


def to_server(*sizes_and_posts: tuple[int, int]) -> list[Sent]:
    """Messages of the only client: (bytes, time of the post)."""
    return [Sent("client-0", "server", size_bytes, posted_ns) for size_bytes, posted_ns in sizes_and_posts]


def one_by_one(fabric: Fabric, gaps_and_sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int, Transmission]]:
    """(posted, size, carriage) of messages posted one after another, each so long after the one before it."""
    messages, posted_ns = [], 0
    for gap_ns, size_bytes in gaps_and_sizes:
        posted_ns += gap_ns
        messages.append((size_bytes, posted_ns))
    transmitted = carry(fabric, to_server(*messages))
    return [(posted, size, transmission) for (size, posted), transmission in zip(messages, transmitted, strict=True)]


# --- oracles ----------------------------------------------------------------------------------------------------------


def test_125000_bytes_at_1_mbit_and_10_ms_arrive_at_exactly_1_010_s() -> None:
    assert carry(pipe(MBIT, 10 * MS), to_server((125_000, 0))) == [(0, SECOND, 1_010_000_000, 0, 0)]


@pytest.mark.parametrize(
    ("size_bytes", "rate_bps", "expected_ns"),
    [(1, 8, SECOND), (1, 8 * SECOND, 1), (1, 9 * SECOND, 1), (10, 3, 26_666_666_667)],
)
def test_serialisation_is_rounded_up_to_a_whole_nanosecond(size_bytes: int, rate_bps: int, expected_ns: int) -> None:
    assert carry(pipe(rate_bps), to_server((size_bytes, 0)))[0].left_ns == expected_ns


def test_a_burst_leaves_one_after_the_other() -> None:
    assert carry(pipe(MBIT, 10 * MS), to_server(*[(125_000, 0)] * 3)) == [
        (0 * SECOND, 1 * SECOND, 1 * SECOND + 10 * MS, 0, 0),
        (1 * SECOND, 2 * SECOND, 2 * SECOND + 10 * MS, 0, 0),
        (2 * SECOND, 3 * SECOND, 3 * SECOND + 10 * MS, 0, 0),
    ]


def test_a_link_that_has_become_free_starts_at_the_post() -> None:
    assert carry(pipe(), to_server((125_000, 0), (125_000, 5 * SECOND)))[1].start_ns == 5 * SECOND


@pytest.mark.parametrize(("out_bps", "into_bps"), [(MBIT, 50 * MBIT), (50 * MBIT, MBIT)])
def test_the_slower_of_the_two_links_counts(out_bps: int, into_bps: int) -> None:
    fabric = fabric_of(link(out_bps), server=link(into_bps))
    assert carry(fabric, to_server((125_000, 0)))[0].left_ns == SECOND


def uneven() -> Fabric:
    """Clients with 1 Mbit/s up and 2 down, 3 and 5 ms; a server with 16 up and 8 down, 100 and 200 ms."""
    client = Network("c", Direction(MBIT, 3 * MS, 0), Direction(2 * MBIT, 5 * MS, 0))
    server = Network("s", Direction(16 * MBIT, 100 * MS, 0), Direction(8 * MBIT, 200 * MS, 0))
    return fabric_of(client, client, server=server)


@pytest.mark.parametrize(
    ("source", "destination", "seconds", "delay_ns"),
    [
        ("client-0", "server", 1, 203 * MS),
        ("server", "client-0", Fraction(1, 2), 105 * MS),
        ("client-0", "client-1", 1, 8 * MS),
    ],
)
def test_a_message_goes_over_the_senders_up_and_the_receivers_down_and_both_delays(
    source: str, destination: str, seconds: Fraction, delay_ns: int
) -> None:
    (transmission,) = carry(uneven(), [Sent(source, destination, 125_000)])
    assert (transmission.left_ns, transmission.arrival_ns - transmission.left_ns) == (seconds * SECOND, delay_ns)


def test_a_node_that_the_scenario_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError):
        uneven().post("server", "client-2", 0, 1, 0)


# --- laws -------------------------------------------------------------------------------------------------------------


@given(rates, delays, whole_us, traffic)
def test_no_message_overtakes_the_one_before_it(
    rate_bps: int, delay_ns: int, jitter_ns: int, messages: list[tuple[int, int]]
) -> None:
    transmitted = [transmission for _, _, transmission in one_by_one(pipe(rate_bps, delay_ns, jitter_ns), messages)]
    for before, after in pairwise(transmitted):
        assert before.left_ns <= after.start_ns
        assert before.left_ns < after.left_ns
        assert before.arrival_ns <= after.arrival_ns


def test_jitter_would_let_a_message_overtake_if_the_order_were_not_kept() -> None:
    """The witness that the law above is not empty: the same draws without the rule arrive out of order."""
    draws = Jitter(50 * MS, "1:jitter:client-0>server:out")
    alone = [i * MS + draws.draw_ns() for i in range(20)]
    assert alone != sorted(alone)


@given(rates, delays, whole_us, traffic)
def test_no_traffic_is_faster_than_the_rate(
    rate_bps: int, delay_ns: int, jitter_ns: int, messages: list[tuple[int, int]]
) -> None:
    transmitted = one_by_one(pipe(rate_bps, delay_ns, jitter_ns), messages)
    for first, (_, _, opening) in enumerate(transmitted):
        sent = 0
        for posted_ns, size_bytes, transmission in transmitted[first:]:
            sent += size_bytes
            assert transmission.start_ns >= posted_ns
            assert (transmission.left_ns - opening.start_ns) * rate_bps >= 8 * sent * SECOND
            assert transmission.arrival_ns >= transmission.left_ns + delay_ns


@given(rates, delays, traffic)
def test_without_jitter_a_busy_link_is_exactly_as_fast_as_its_rate(
    rate_bps: int, delay_ns: int, messages: list[tuple[int, int]]
) -> None:
    free_ns = 0
    for posted_ns, size_bytes, transmission in one_by_one(pipe(rate_bps, delay_ns), messages):
        start_ns = max(posted_ns, free_ns)
        free_ns = start_ns + ceil(Fraction(8 * size_bytes * SECOND, rate_bps))
        assert transmission[:3] == (start_ns, free_ns, free_ns + delay_ns)


@given(rates, rates, sizes, sizes)
def test_more_bytes_never_leave_sooner_and_a_faster_link_never_later(
    rate: int, other_rate: int, size: int, other_size: int
) -> None:
    def left_ns(size_bytes: int, rate_bps: int) -> int:
        return carry(pipe(rate_bps), to_server((size_bytes, 0)))[0].left_ns

    slow, fast = sorted((rate, other_rate))
    small, large = sorted((size, other_size))
    assert left_ns(small, slow) <= left_ns(large, slow)
    assert left_ns(large, fast) <= left_ns(large, slow)


# --- jitter -----------------------------------------------------------------------------------------------------------


@given(whole_us, st.text(max_size=8))
def test_jitter_lies_within_three_sigma_in_whole_microseconds(sigma_ns: int, stream: str) -> None:
    jitter = Jitter(sigma_ns, stream)
    for _ in range(50):
        drawn_ns = jitter.draw_ns()
        assert 0 <= drawn_ns <= 3 * sigma_ns
        assert drawn_ns % US == 0


def test_jitter_has_the_mean_and_the_spread_of_a_folded_normal_cut_at_three_sigma() -> None:
    sigma_ns, count = 10 * MS, 20_000
    jitter = Jitter(sigma_ns, "statistics")
    draws = [jitter.draw_ns() / sigma_ns for _ in range(count)]
    # The cut takes 0.0008 sigma off the mean; the standard error of the mean is 0.6 / sqrt(count) = 0.004.
    assert sum(draws) / count == pytest.approx(sqrt(2 / pi), abs=0.015)
    assert sum(draw <= 1 for draw in draws) / count == pytest.approx(0.6827, abs=0.015)
    assert max(draws) == 3.0


def test_a_link_without_jitter_draws_nothing() -> None:
    assert {Jitter(0, "s").draw_ns() for _ in range(10)} == {0}


def test_both_ends_of_a_connection_add_their_jitter() -> None:
    quiet, shaky = Direction(MBIT, 0, 0), Direction(MBIT, 0, 5 * MS)
    stream = "1:jitter:client-0>server"
    out, into = Jitter(5 * MS, f"{stream}:out").draw_ns(), Jitter(5 * MS, f"{stream}:in").draw_ns()
    assert out != into
    for ends, extra_ns in (((shaky, quiet), out), ((quiet, shaky), into), ((shaky, shaky), out + into)):
        networks = [Network("n", direction, direction) for direction in ends]
        (transmission,) = carry(fabric_of(networks[0], server=networks[1]), to_server((125, 0)))
        assert transmission.arrival_ns - transmission.left_ns == extra_ns


def arrivals(fabric: Fabric, source: str, destination: str) -> list[int]:
    return [c.arrival_ns for c in carry(fabric, [Sent(source, destination, 100, i * SECOND) for i in range(20)])]


def shaky(seed: int) -> Fabric:
    return Fabric(make_scenario(jitter_ns=10 * MS), seed)


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    assert arrivals(shaky(1), "client-0", "server") == arrivals(shaky(1), "client-0", "server")
    assert arrivals(shaky(1), "client-0", "server") != arrivals(shaky(2), "client-0", "server")


def test_a_further_draw_on_one_pair_moves_nothing_on_another() -> None:
    pairs = (("server", "client-0"), ("client-1", "server"), ("client-1", "client-0"))
    disturbance = [Sent(source, destination, 1, 10) for source, destination in pairs]
    messages = [Sent("client-0", "server", 100, (i + 1) * SECOND) for i in range(20)]
    disturbed = carry(shaky(1), [*messages, *disturbance])[: len(messages)]
    assert disturbed == carry(shaky(1), messages)


def test_every_pair_and_direction_has_draws_of_its_own() -> None:
    pairs = [("client-0", "server"), ("server", "client-0"), ("client-1", "server"), ("server", "client-1")]
    seen = [tuple(arrivals(shaky(1), *pair)) for pair in pairs]
    assert len(set(seen)) == len(pairs)
