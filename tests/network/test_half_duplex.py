"""Half duplex: one capacity for both directions, the larger at each moment, and each direction's own rate besides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic import WIDE, Sent, carry, fabric_of, link, manifest_of, record

from emulator.checks.invariants import within_channels
from emulator.network import tcp
from emulator.network.fabric import Fabric
from emulator.network.topology import Topology
from emulator.piecewise import PointwiseMax, StepFunction
from emulator.profiles.scenario import Cell, ClientSpec, Direction, Network, Scenario, ServerSpec
from emulator.tables.profiles import _capacity
from emulator.testing.stage import MBIT, MS, SECOND, make_device

TEN = StepFunction((0,), (10 * MBIT,), 100 * SECOND)
DIPS = StepFunction((0, 50 * SECOND), (MBIT, 10 * MBIT), 100 * SECOND)  # as large at its peak
FALLS = StepFunction((0, 10 * SECOND), (10 * MBIT, MBIT), 100 * SECOND)
RISES = StepFunction((0, 10 * SECOND), (MBIT, 9 * MBIT), 70 * SECOND)  # of another length
MEGABYTE = 10**6


def traced(up: StepFunction | None, down: StepFunction | None, **more: Any) -> Network:
    """A half-duplex link of 10 Mbit/s where it follows no trace."""
    ways = (Direction(max(steps.values) if steps else 10 * MBIT, 0, 0, rates=steps) for steps in (up, down))
    return Network("traced", *ways, duplex="half", trace_start_ns=0, **more)


def celled(up: StepFunction | None, down: StepFunction | None, **rates: int) -> Fabric:
    """The same as a cell, around a client whose own link is wide."""
    peaks = {f"{side}_bps": max(s.values) if s else 10 * MBIT for side, s in (("up", up), ("down", down))}
    cell = Cell("mast", **{**peaks, **rates}, duplex="half", up_rates=up, down_rates=down)
    return fabric_of(link(WIDE), cells=(cell,), within=("mast",))


BOTH = pytest.mark.parametrize("make", [lambda *ways: fabric_of(traced(*ways)), celled], ids=["link", "cell"])


def left_ns(fabric: Fabric, *sent: Sent) -> list[int]:
    return [transmission.left_ns for transmission in carry(fabric, sent)]


def down(size_bytes: int = MEGABYTE, at_ns: int = 0) -> Sent:
    return Sent("server", "client-0", size_bytes, at_ns)


def up(size_bytes: int = MEGABYTE, at_ns: int = 0) -> Sent:
    return Sent("client-0", "server", size_bytes, at_ns)


@BOTH
@pytest.mark.parametrize("other", [None, TEN])
def test_a_direction_keeps_to_its_own_trace_where_both_have_the_same_peak(
    make: Any, other: StepFunction | None
) -> None:
    assert left_ns(make(other, DIPS), down()) == [8 * SECOND]
    assert left_ns(make(DIPS, other), up()) == [8 * SECOND]
    assert left_ns(make(other, DIPS), up()) == [800 * MS]


@BOTH
def test_at_each_moment_there_is_as_much_as_the_larger_of_two_traces_says(make: Any) -> None:
    """Down 9 Mbit/s from 10 s on, when the trace with the larger peak says 1."""
    (left,) = left_ns(make(FALLS, RISES), down(at_ns=10 * SECOND))
    assert left == 10 * SECOND - (-8 * SECOND // 9)


@BOTH
def test_both_directions_together_have_the_larger_of_the_two(make: Any) -> None:
    """Of 10 in common down has its 1, and up the other 9; from 10 s on of 9 up has its 1, and down 8."""
    assert left_ns(make(FALLS, RISES), up(9 * MEGABYTE // 8), down(MEGABYTE // 8)) == [SECOND, SECOND]
    later = 10 * SECOND
    sent = up(MEGABYTE // 8, later), down(MEGABYTE, later)
    assert left_ns(make(FALLS, RISES), *sent) == [later + SECOND, later + SECOND]


@BOTH
def test_traces_of_different_lengths_each_start_over_by_themselves(make: Any) -> None:
    """At 75 s down's trace is 5 s into its second lap, so that it has 1 Mbit/s, and up's is where it was: 1."""
    assert left_ns(make(FALLS, RISES), down(MEGABYTE // 8, 75 * SECOND)) == [76 * SECOND]
    assert left_ns(make(FALLS, RISES), down(MEGABYTE // 8, 82 * SECOND)) == [82 * SECOND - (-SECOND // 9)]


def test_in_a_half_duplex_cell_the_slower_direction_keeps_to_its_own_rate() -> None:
    fabric = celled(None, None, up_bps=10 * MBIT, down_bps=40 * MBIT)
    assert left_ns(fabric, up(), down(3 * MEGABYTE)) == [800 * MS, 800 * MS]


def test_what_a_server_gets_out_of_a_half_duplex_cell_is_at_most_its_rate_up() -> None:
    """So a server's link of as much cannot fill, and is left out."""
    cell = Cell("mast", 10 * MBIT, 40 * MBIT, duplex="half")
    fabric = fabric_of(link(WIDE), server=link(10 * MBIT, 10 * MBIT), cells=(cell,), within=("mast",))
    assert [channel.name for channel in fabric.topology.channels if "server" in channel.name] == ["server up"]


def test_acknowledgements_lower_what_both_directions_share_and_no_directions_own_rate() -> None:
    topology = fabric_of(traced(FALLS, RISES, transport="tcp")).topology
    both, own_up, own_down = (channel.rates for channel in topology.channels[:3])
    assert isinstance(both, PointwiseMax)
    assert (both.at(0), both.at(10 * SECOND)) == (tcp.half_duplex(10 * MBIT), tcp.half_duplex(9 * MBIT))
    assert (own_up, own_down) == (FALLS, RISES)


messages = st.lists(
    st.tuples(st.booleans(), st.integers(1000, 300_000), st.integers(0, 5 * SECOND)), min_size=1, max_size=8
)


def scenario() -> Scenario:
    fast, slow = (
        StepFunction((0, SECOND), (4 * MBIT, MBIT), 3 * SECOND),
        StepFunction((0, SECOND), (MBIT, 3 * MBIT), 2 * SECOND),
    )
    wide = link(100 * MBIT)
    client = ClientSpec("client-0", 0, make_device(), traced(fast, slow))
    return Scenario("x", "", ServerSpec("server", make_device(), wide, 1), (client,), {})


@given(messages)
def test_what_is_carried_is_within_the_larger_of_two_traces_as_the_manifest_holds_it(
    posts: list[tuple[bool, int, int]],
) -> None:
    made = scenario()
    sent = [(up if upward else down)(size, at) for upward, size, at in posts]
    assert within_channels(manifest_of(made), record(made, sent)) == []


def test_one_per_cent_more_than_the_larger_is_found() -> None:
    """Of 4 Mbit/s up has 3 and down 1 for a second, of 3 then 1 and 2: both end at 2 s, and all of it is used."""
    made, sent = scenario(), [up(500_000), down(375_000)]
    assert left_ns(Fabric(made, 1), *sent) == [2 * SECOND, 2 * SECOND]
    assert within_channels(manifest_of(made), record(made, sent)) == []
    reasons = within_channels(manifest_of(made), record(made, sent, hurry=1))
    assert any(reason.startswith("client-0 both carried more") for reason in reasons)


def test_the_manifest_holds_what_the_topology_plays() -> None:
    made = scenario()
    manifest, topology = manifest_of(made), Topology(made, 1)
    assert [manifest.rates_of(i) for i in range(3)] == [channel.rates for channel in topology.channels[:3]]


def test_a_profile_shows_the_larger_and_who_is_slower() -> None:
    cell = Cell("mast", 10 * MBIT, 40 * MBIT, duplex="half")
    assert _capacity(cell) == "40 Mbit/s, both directions together, up at most 10"
    even = (
        StepFunction((0, SECOND), (4 * MBIT, 2 * MBIT), 2 * SECOND),
        StepFunction((0, SECOND), (2 * MBIT, 4 * MBIT), 2 * SECOND),
    )
    cell = Cell("mast", 4 * MBIT, 4 * MBIT, "half", *even)
    assert _capacity(cell) == "4 Mbit/s, both directions together, up at most 3, down at most 3, a trace's mean"


def test_a_link_begins_anywhere_in_the_longer_of_its_two_traces() -> None:
    short, long = StepFunction((0,), (MBIT,), SECOND), StepFunction((0, 60 * SECOND), (MBIT, 2 * MBIT), 100 * SECOND)
    network = Network("traced", *(Direction(2 * MBIT, 0, 0, rates=steps) for steps in (short, long)))
    ends = fabric_of(*[network] * 40).topology.links
    places = [end.network.down.rates.ahead_ns for name, end in ends.items() if name != "server"]
    assert max(places) > 60 * SECOND
    assert sum(place < 50 * SECOND for place in places) in range(10, 31)


# --- a server to itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_bps", [1, 300], ids=["clients cannot fill it", "clients can fill it one way"])
def test_what_a_server_sends_to_itself_goes_over_both_directions_of_its_link(client_bps: int) -> None:
    """Up 200 and down 100 Mbit/s; a direction that no client can fill is no capacity of theirs, but of this message."""
    fabric = fabric_of(link(MBIT, client_bps * MBIT), server=link(200 * MBIT, 100 * MBIT))
    assert left_ns(fabric, Sent("server", "server", 10 * MEGABYTE)) == [800 * MS]


def test_what_a_server_sends_to_itself_follows_the_traces_of_its_link() -> None:
    ways = (Direction(max(steps.values), 0, 0, rates=steps) for steps in (FALLS, RISES))
    fabric = fabric_of(link(1000), server=Network("traced", *ways, trace_start_ns=0))
    assert left_ns(fabric, Sent("server", "server", MEGABYTE)) == [8 * SECOND]
    assert left_ns(fabric, Sent("server", "server", MEGABYTE, 10 * SECOND)) == [18 * SECOND]
