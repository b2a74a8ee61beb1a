"""TCP against published formulas: set-up, slow start, restart after idle, a rate limited by loss, lost tails."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic import WIDE, Sent, carry, fabric_of, link

from emulator.network import tcp
from emulator.network.fabric import Fabric
from emulator.network.jitter import Transmission
from emulator.piecewise import StepFunction
from emulator.profiles.scenario import Direction, Network
from emulator.testing.stage import MBIT, MS, SECOND

SEGMENT = 1500
RTT_NS = 100 * MS


def path(rate_bps: int = MBIT, rtt_ns: int = RTT_NS, loss_ppb: int = 0, kind: str = "goodput", seed: int = 1) -> Fabric:
    """One client with TCP, half of the round trip in each direction, loss only upwards."""
    up, down = Direction(rate_bps, rtt_ns // 2, 0, loss_ppb), Direction(rate_bps, rtt_ns - rtt_ns // 2, 0)
    server = Network("s", Direction(WIDE, 0, 0), Direction(WIDE, 0, 0), transport="tcp")
    client = Network("c", up, down, transport="tcp", rate_kind=kind)  # type: ignore[arg-type]
    return fabric_of(client, server=server, seed=seed)


def up(*sizes_and_posts: tuple[int, int]) -> list[Sent]:
    return [Sent("client-0", "server", size_bytes, posted_ns) for size_bytes, posted_ns in sizes_and_posts]


def latency_ns(size_bytes: int, rate_bps: int, rtt_ns: int) -> int:
    """From the post to the arrival on a new connection, by Kurose and Ross, Computer Networking, 3.7: windows.

    Set-up, windows W = 10, 20, 40, ... segments one after another, each at the link's rate and the next not before the
    first one's ACK, then the rest without a stop; and the way of the last bit.
    """
    at_ns, left, window = rtt_ns, size_bytes, tcp.INITIAL_WINDOW * SEGMENT
    while left > window:
        sending_ns = ceil(Fraction(8 * window * SECOND, rate_bps))
        first_ack_ns = ceil(Fraction(8 * SEGMENT * SECOND, rate_bps)) + rtt_ns
        if 8 * window * SECOND >= rtt_ns * rate_bps:
            break
        at_ns, left, window = at_ns + max(sending_ns, first_ack_ns), left - window, 2 * window
    return at_ns + ceil(Fraction(8 * left * SECOND, rate_bps)) + rtt_ns // 2


@given(st.integers(1, 5 * 10**6), st.integers(10**4, 10**9), st.integers(0, 700).map(lambda ms: ms * MS))
def test_a_message_on_a_new_connection_takes_set_up_slow_start_and_the_rest(
    size_bytes: int, rate_bps: int, rtt_ns: int
) -> None:
    (transmission,) = carry(path(rate_bps, rtt_ns), up((size_bytes, 0)))
    assert transmission.arrival_ns == pytest.approx(latency_ns(size_bytes, rate_bps, rtt_ns), abs=20)
    assert transmission.start_ns == rtt_ns


def test_slow_start_of_a_megabyte_by_hand() -> None:
    """100 Mbit/s, 100 ms: windows of 10, 20, 40, 80, 160 and 320 segments, 630 in all, cost a round trip each.

    The first ACK of each is back 0.12 ms and a round trip after it began; 667 - 630 segments of the seventh remain.
    """
    (transmission,) = carry(path(100 * MBIT), up((1_000_000, 0)))
    rounds = 6 * (RTT_NS + 120_000)
    assert transmission.left_ns == RTT_NS + rounds + 8 * (1_000_000 - 630 * SEGMENT) * 10


def test_a_path_that_ten_segments_cover_is_as_fast_as_its_rate() -> None:
    (transmission,) = carry(path(MBIT), up((125_000, 0)))
    assert transmission.left_ns - transmission.start_ns == SECOND


def test_only_the_first_message_of_a_connection_in_either_direction_waits_for_the_set_up() -> None:
    messages = [*up((100, 0), (100, SECOND)), Sent("server", "client-0", 100, 2 * SECOND)]
    waits = [c.start_ns - sent.posted_ns for c, sent in zip(carry(path(), messages), messages, strict=True)]
    assert waits == [RTT_NS, 0, 0]


def rounds_of(size_bytes: int, *before: tuple[int, int]) -> int:
    """How many round trips a message waits for ACKs at 1 Gbit/s, after these messages."""
    transmission = carry(path(1000 * MBIT), up(*before, (size_bytes, 100 * SECOND)))[-1]
    return round((transmission.left_ns - transmission.start_ns) / RTT_NS)


def test_after_idling_for_longer_than_the_timeout_slow_start_begins_again() -> None:
    """RTO: 100 ms + 200 ms. A megabyte is six rounds on a new connection, and on one that has idled; else fewer."""
    large = 1_000_000
    assert rounds_of(large) == 6
    assert rounds_of(large, (large, 100 * SECOND - 10 * SECOND)) == 6
    assert rounds_of(large, (large, 100 * SECOND - 900 * MS)) < 2


def test_small_messages_within_a_round_share_its_window() -> None:
    """Ten segments may be under way: the eleventh waits for the ACK of the first."""
    starts = [c.start_ns for c in carry(path(1000 * MBIT), up(*[(SEGMENT, 0)] * 12))]
    assert starts[9] < RTT_NS + 2 * MS
    assert starts[10] == 2 * RTT_NS + 12_000
    assert starts[11] == starts[10] + 12_000


def test_a_partly_used_round_lets_the_window_grow_by_what_was_under_way_where_that_was_over_half() -> None:
    """Ten and eight of ten segments, then thirty: windows of 20 and 18 leave two and one rounds to wait for."""
    for before, window in ((10, 20), (8, 18), (5, 10)):
        first, rest = SEGMENT * window, SEGMENT * (30 - window)
        transmitted = carry(path(1000 * MBIT), up((SEGMENT * before, 0), (first + rest, RTT_NS + 150 * MS)))
        rounds = 1 if window + 2 * window >= 30 else 2
        assert (transmitted[1].left_ns - transmitted[1].start_ns) // RTT_NS == rounds, before


# --- loss -------------------------------------------------------------------------------------------------------------


def test_the_rate_that_loss_allows_is_the_larger_of_renos_and_cubics() -> None:
    """RTT 70 ms, 0.5 %: Reno's window is sqrt(1.5 / 0.005) = 17.3 segments; long paths belong to CUBIC."""
    assert tcp.loss_limited_bps(70 * MS, 5 * 10**6) == pytest.approx(sqrt(300) * 8 * SEGMENT / 0.07, abs=1)
    cubic = 1.054 * (0.7 / 1e-4) ** 0.75 * 8 * SEGMENT / 0.7
    assert tcp.loss_limited_bps(700 * MS, 10**5) == pytest.approx(cubic, abs=1)
    assert tcp.loss_limited_bps(70 * MS, 0) is None


@pytest.mark.parametrize("loss_ppb", [10**6, 10**7])
def test_a_long_transfer_over_a_lossy_link_takes_what_the_formula_allows_it(loss_ppb: int) -> None:
    size = 20 * 10**6
    (transmission,) = carry(path(1000 * MBIT, loss_ppb=loss_ppb, kind="link"), up((size, 0)))
    allowed = tcp.loss_limited_bps(RTT_NS, loss_ppb)
    assert allowed is not None
    assert 8 * size * SECOND / (transmission.left_ns - transmission.start_ns) == pytest.approx(allowed, rel=0.02)


def test_where_the_rate_is_a_goodput_loss_takes_nothing_from_it() -> None:
    (transmission,) = carry(path(10 * MBIT, loss_ppb=10**7), up((10**6, 0)))
    (whole,) = carry(path(10 * MBIT), up((10**6, 0)))
    assert transmission[:2] == whole[:2]


def late(loss_ppb: int, size_bytes: int, count: int) -> list[int]:
    """By how much each of many messages arrives later than it would without loss; far enough apart."""
    posts = [(size_bytes, i * 100 * SECOND) for i in range(count)]
    lossy, clean = (carry(path(loss_ppb=loss, kind="goodput"), up(*posts)) for loss in (loss_ppb, 0))
    return [a.arrival_ns - b.arrival_ns for a, b in zip(lossy, clean, strict=True)]


def test_a_lost_tail_costs_timeouts_that_double() -> None:
    """RTO 300 ms: what is late is late by 300, 300 + 600, ... ms; of three segments any may be lost."""
    loss, rto_ns, count = 0.2, 300 * MS, 2000
    found = late(int(loss * 1e9), 10 * SEGMENT, count)
    assert set(found) <= {rto_ns * (2**k - 1) for k in range(7)}
    share = sum(ns > 0 for ns in found) / count
    assert share == pytest.approx(1 - (1 - loss) ** 3, abs=0.04)
    assert sum(ns == rto_ns for ns in found) / sum(ns > 0 for ns in found) > 0.5


def test_a_message_of_one_segment_has_a_tail_of_one() -> None:
    loss, count = 0.2, 2000
    assert sum(ns > 0 for ns in late(int(loss * 1e9), 100, count)) / count == pytest.approx(loss, abs=0.03)


# --- acknowledgements -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size_bytes", "acks"), [(1, 1), (1500, 1), (1501, 1), (3001, 2), (30_000, 10)])
def test_every_second_segment_is_acknowledged(size_bytes: int, acks: int) -> None:
    transmitted: list[Transmission] = carry(path(), up((size_bytes, 0)))
    assert transmitted[0].ack_bytes == 52 * acks


def test_a_half_duplex_link_has_less_for_data_by_its_acks() -> None:
    direction = Direction(MBIT, 0, 0)
    server = Network("s", Direction(WIDE, 0, 0), Direction(WIDE, 0, 0), transport="tcp")
    fabric = fabric_of(Network("w", direction, direction, duplex="half", transport="tcp"), server=server)
    (transmission,) = carry(fabric, up((3_000_000, 0)))
    assert transmission.left_ns == pytest.approx(8 * 3052 * SECOND / 1000, rel=1e-5)


def test_what_loss_allows_follows_its_trace_while_a_message_leaves() -> None:
    """2 % for a second, then 0.1 %; with 100 ms a round trip that is 8.7, then 38.7 segments in each."""
    losses = StepFunction((0, SECOND), (20_000_000, 1_000_000), 1000 * SECOND)
    direction = Direction(100 * MBIT, 50 * MS, 0, losses=losses)
    network = Network("x", direction, direction, transport="tcp", rate_kind="link", trace_start_ns=0)
    fabric = fabric_of(network, server=link(WIDE, transport="tcp"))
    (transmission,) = carry(fabric, [Sent("client-0", "server", 2_000_000)])
    first_bps, then_bps = (tcp.loss_limited_bps(100 * MS, loss_ppb) for loss_ppb in losses.values)
    assert first_bps is not None and then_bps is not None
    expected_s = 1 + (16 * MBIT - 0.9 * first_bps) / then_bps  # the first 100 ms set it up
    assert transmission.left_ns / SECOND == pytest.approx(expected_s, rel=0.03)
