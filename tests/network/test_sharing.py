"""Flows that share: closed forms, max-min fairness, and capacities that change under them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from traffic import WIDE, Sent, carry, fabric_of, link

from emulator.network.fabric import Fabric
from emulator.network.fairness import Q20, UNLIMITED_Q20, Flow, Resource, connected_component, share_max_min
from emulator.network.jitter import Transmission
from emulator.piecewise import StepFunction
from emulator.preflight.dilation import ProfilingResult, choose_dilation, reorder_window_ns
from emulator.profiles.availability import Absence
from emulator.profiles.scenario import Cell, ClientSpec, Direction, Network, Scenario, ServerSpec
from emulator.testing.stage import MBIT, MS, SECOND, make_device

SIZE = 125_000  # bytes: a second at 1 Mbit/s


def up(client: int, size_bytes: int = SIZE, posted_ns: int = 0) -> Sent:
    return Sent(f"client-{client}", "server", size_bytes, posted_ns)


def left(transmitted: list[Transmission]) -> list[Fraction]:
    """When each has left, in seconds."""
    return [Fraction(transmission.left_ns, SECOND) for transmission in transmitted]


def in_one_cell(clients: int, cell_bps: int, link_bps: int = 10 * MBIT, **more: object) -> Fabric:
    cell = Cell("mast", cell_bps, cell_bps, **more)  # type: ignore[arg-type]
    return fabric_of(*[link(link_bps)] * clients, cells=(cell,), within=("mast",) * clients)


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_two_flows_in_one_cell_have_half_of_it_each() -> None:
    assert left(carry(in_one_cell(2, MBIT), [up(0), up(1)])) == [2, 2]


def test_what_a_finished_flow_leaves_goes_to_the_other() -> None:
    """Half each for a second, in which one has sent its half message, then all."""
    assert left(carry(in_one_cell(2, MBIT), [up(0, SIZE // 2), up(1)])) == [1, Fraction(3, 2)]


def test_a_flow_that_starts_half_way() -> None:
    """Half a second alone, then half each: the first has half a message left and needs a second for it."""
    transmitted = carry(in_one_cell(2, MBIT), [up(0), up(1, posted_ns=SECOND // 2)])
    assert left(transmitted) == [Fraction(3, 2), 2]


def test_three_flows_with_different_bottlenecks() -> None:
    """A cell of 10: one link of 1 keeps to that, one of 3 too, and the third has what they leave, 6."""
    fabric = fabric_of(
        link(MBIT), link(3 * MBIT), link(20 * MBIT), cells=(Cell("mast", 10 * MBIT, MBIT),), within=("mast",) * 3
    )
    assert left(carry(fabric, [up(0, SIZE), up(1, 3 * SIZE), up(2, 6 * SIZE)])) == [1, 1, 1]


def test_two_cells_that_meet_at_the_server() -> None:
    """Cells of 2 (two flows) and 9 (one flow) on a server of 6: 1 each, then 4; when they are gone, 6."""
    cells = Cell("a", 2 * MBIT, MBIT), Cell("b", 9 * MBIT, MBIT)
    fabric = fabric_of(*[link(10 * MBIT)] * 3, server=link(6 * MBIT), cells=cells, within=("a", "a", "b"))
    assert left(carry(fabric, [up(0), up(1), up(2, 10 * SIZE)])) == [1, 1, 2]


def test_a_rate_that_steps_in_mid_flow() -> None:
    """1 Mbit/s for a second, then 4: the other second's worth takes a quarter."""
    steps = StepFunction((0, SECOND), (MBIT, 4 * MBIT), 100 * SECOND)
    direction = Direction(4 * MBIT, 0, 0, rates=steps)
    fabric = fabric_of(Network("traced", direction, direction, trace_start_ns=0))
    assert left(carry(fabric, [up(0, 2 * SIZE)])) == [Fraction(5, 4)]


def test_a_half_duplex_link_is_one_capacity_for_both_directions() -> None:
    fabric = fabric_of(link(MBIT, duplex="half"))
    assert left(carry(fabric, [up(0), Sent("server", "client-0", SIZE)])) == [2, 2]


def test_in_a_half_duplex_link_the_slower_direction_keeps_to_its_own_rate() -> None:
    """Up at most 1 of the 4 in common: it has that, and down has 3."""
    fabric = fabric_of(link(MBIT, 4 * MBIT, duplex="half"))
    assert left(carry(fabric, [up(0), Sent("server", "client-0", 3 * SIZE)])) == [1, 1]


def test_in_a_half_duplex_cell_a_message_between_two_clients_goes_through_it_twice() -> None:
    fabric = in_one_cell(2, MBIT, duplex="half")
    assert left(carry(fabric, [Sent("client-0", "client-1", SIZE)])) == [2]


def test_a_client_shares_its_own_link_among_all_it_sends_to() -> None:
    fabric = fabric_of(link(MBIT), link(MBIT))
    assert left(carry(fabric, [up(0), Sent("client-0", "client-1", SIZE)])) == [2, 2]


def test_clients_without_a_cell_share_the_servers_link_when_it_is_too_small() -> None:
    assert left(carry(fabric_of(link(MBIT), link(MBIT), server=link(MBIT)), [up(0), up(1)])) == [2, 2]
    assert left(carry(fabric_of(link(MBIT), link(MBIT), server=link(2 * MBIT)), [up(0), up(1)])) == [1, 1]


@given(st.integers(2, 9), st.integers(1, 10**6), st.integers(10**3, 10**9))
def test_equal_flows_end_together_within_a_nanosecond_and_what_the_rounding_of_shares_costs(
    clients: int, size_bytes: int, rate_bps: int
) -> None:
    exact_ns = Fraction(8 * size_bytes * clients * SECOND, rate_bps)
    rounding = 1 + Fraction(clients, rate_bps * Q20)  # a share is less than 2^-20 bit/s too small
    for transmission in carry(in_one_cell(clients, rate_bps, WIDE), [up(i, size_bytes) for i in range(clients)]):
        assert exact_ns <= transmission.left_ns <= exact_ns * rounding + 1


# --- what changes under a flow ----------------------------------------------------------------------------------------


@st.composite
def traces(draw: st.DrawFn) -> StepFunction:
    lengths = draw(st.lists(st.integers(10 * MS, SECOND), min_size=1, max_size=8))
    values = draw(st.lists(st.integers(0, 10 * MBIT), min_size=len(lengths), max_size=len(lengths)))
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return StepFunction(tuple(starts), (*values[:-1], max(values[-1], MBIT // 10)), sum(lengths))


@given(traces(), st.integers(1, 10**4), st.integers(0, SECOND))
def test_what_has_been_delivered_by_any_time_is_the_integral_of_the_trace(
    steps: StepFunction, size_bytes: int, posted_ns: int
) -> None:
    """A message has left at the first nanosecond at which the integral from its post reaches its bits."""
    direction = Direction(max(steps.values), 0, 0, rates=steps)
    fabric = fabric_of(Network("traced", direction, direction, trace_start_ns=0))
    (transmission,) = carry(fabric, [up(0, size_bytes, posted_ns)])
    bits_ns = 8 * size_bytes * SECOND
    assert (
        steps.integral(posted_ns, transmission.left_ns) >= bits_ns > steps.integral(posted_ns, transmission.left_ns - 1)
    )


def absent(kind: str, *spans: tuple[int, int], tcp: bool = False) -> Fabric:
    network = Network(
        "l", Direction(MBIT, 10 * MS, 0), Direction(MBIT, 10 * MS, 0), transport="tcp" if tcp else "ideal"
    )
    spec = ClientSpec("client-0", 0, make_device(), network, absence=Absence(kind, spans))  # type: ignore[arg-type]
    server = Network("s", Direction(WIDE, 0, 0), Direction(WIDE, 0, 0), transport="tcp")
    return Fabric(Scenario("x", "", ServerSpec("server", make_device(), server, 1), (spec,), {}), 1)


def test_an_outage_stops_a_message_that_then_goes_on() -> None:
    (transmission,) = carry(absent("outage", (SECOND // 4, 3 * SECOND)), [up(0)])
    assert (transmission.left_ns, transmission.resent_bytes) == (3 * SECOND + 3 * SECOND // 4, 0)


def test_what_is_posted_in_an_outage_waits_for_its_end() -> None:
    (transmission,) = carry(absent("outage", (0, 3 * SECOND)), [up(0, posted_ns=SECOND)])
    assert transmission[:2] == (SECOND, 4 * SECOND)


def test_a_client_that_goes_away_sends_again_from_the_beginning() -> None:
    (transmission,) = carry(absent("away", (SECOND // 4, 3 * SECOND)), [up(0)])
    assert (transmission.left_ns, transmission.resent_bytes) == (4 * SECOND, SIZE // 4)


def test_with_tcp_a_client_that_is_back_connects_again() -> None:
    """A round trip of 20 ms before the first message, and before what it sends when it is back."""
    sent = [up(0, 1500), up(0, 1500, 5 * SECOND)]
    there, gone = (
        carry(absent("away", span, tcp=True), sent) for span in ((9 * SECOND, 10 * SECOND), (SECOND, 3 * SECOND))
    )
    assert [transmission.start_ns for transmission in there] == [20 * MS, 5 * SECOND]
    assert [transmission.start_ns for transmission in gone] == [20 * MS, 5 * SECOND + 20 * MS]


def test_drawn_absences_depend_on_the_seed_alone() -> None:
    def starts(seed: int) -> list[int]:
        network = link()
        absence = Absence("away", (), 2 * SECOND, SECOND)
        specs = (ClientSpec("client-0", 0, make_device(), network, absence=absence),)
        fabric = Fabric(Scenario("x", "", ServerSpec("server", make_device(), link(WIDE), 1), specs, {}), seed)
        return [
            transmission.start_ns for transmission in carry(fabric, [up(0, 100, i * SECOND // 3) for i in range(100)])
        ]

    assert starts(1) == starts(1) != starts(2)
    late = [at - i * SECOND // 3 for i, at in enumerate(starts(1))]
    assert 0.15 < sum(ns > 0 for ns in late) / len(late) < 0.6  # a third of the time it is away


def test_a_node_that_is_gone_gives_its_share_back_at_once() -> None:
    fabric = in_one_cell(2, MBIT)
    for client in range(2):
        fabric.post(f"client-{client}", "server", 0, SIZE, 0)
    fabric.advance()
    assert fabric.drop("client-1", SECOND) == [("client-1", 0)]
    assert fabric.next_ns() == SECOND + SECOND // 2
    (event,) = fabric.advance()
    assert (event.source, event.departs) == ("client-0", True)
    assert fabric.next_ns() is None


@pytest.mark.parametrize("kind", ["outage", "away"])
def test_a_lost_link_gives_its_share_back_at_once_and_takes_it_again(kind: Any) -> None:
    """Half of 1 Mbit/s each; alone from 0.5 to 1 s: 0.75 s of work done at 1 s, the rest at half: left at 1.5 s."""
    clients = tuple(
        ClientSpec(
            f"client-{i}",
            i,
            make_device(),
            link(10 * MBIT),
            cell="mast",
            absence=Absence(kind, ((SECOND // 2, SECOND),)) if i else None,
        )
        for i in range(2)
    )
    server = ServerSpec("server", make_device(), link(WIDE), 1)
    fabric = Fabric(Scenario("x", "", server, clients, {}, (Cell("mast", MBIT, MBIT),)), 1)
    first, other = carry(fabric, [up(0), up(1)])
    assert first.left_ns == 3 * SECOND // 2
    assert other.left_ns == (2 * SECOND if kind == "outage" else 9 * SECOND // 4)


def test_a_post_that_comes_too_late_begins_when_its_capacities_were_last_settled() -> None:
    """A cell in which a flow has ended at 2 s, told of a post at 1 s: that flow's share cannot be taken back."""
    fabric = in_one_cell(2, MBIT)
    fabric.post("client-0", "server", 0, 2 * SIZE, 0)
    fabric.advance()
    fabric.advance()
    fabric.post("client-1", "server", 0, SIZE, SECOND)
    assert fabric.advance() == []
    (started,), (has_left,) = fabric.advance(), fabric.advance()
    assert (started.transmission.start_ns, started.moved_ns) == (2 * SECOND, SECOND)
    assert has_left.transmission.left_ns == 3 * SECOND


def test_the_real_clock_is_patient_only_where_clients_share_and_never_longer_than_a_message_is_under_way() -> None:
    def shared_ns(one_way_ns: int, *cells: Cell) -> int | None:
        direction = Direction(MBIT, one_way_ns, 0)
        network = Network("n", direction, direction)
        fabric = fabric_of(network, network, cells=cells, within=tuple(cell.name for cell in cells * 2))
        return fabric.topology.shared_delay_ns()

    assert shared_ns(50 * MS) is None
    assert shared_ns(50 * MS, Cell("mast", MBIT, MBIT)) == 50 * MS
    assert shared_ns(50 * MS, Cell("wide", 2 * MBIT, 2 * MBIT)) is None
    assert [reorder_window_ns(delay_ns, 1) for delay_ns in (None, 0, 4 * MS, 50 * MS)] == [0, 0, 3 * MS, 20 * MS]
    assert reorder_window_ns(4 * MS, 5) == 15 * MS


def test_a_short_delay_in_a_cell_asks_for_a_dilation() -> None:
    nothing = ProfilingResult({}, [], SECOND, 0, {"board": 0}, {"board": 1})
    chosen = [choose_dilation(nothing, {"board": 2}, 2, delay_ns).dilation for delay_ns in (None, 50 * MS, 4 * MS, 0)]
    assert chosen == [1, 1, 4, 20]


# --- laws -------------------------------------------------------------------------------------------------------------

networks = st.lists(st.integers(0, 10**6), min_size=1, max_size=8).flatmap(
    lambda capacities: st.tuples(
        st.just(capacities),
        st.lists(
            st.tuples(
                st.lists(st.integers(0, len(capacities) - 1), min_size=1, max_size=4),
                st.one_of(st.just(UNLIMITED_Q20), st.integers(0, 10**5)),
            ),
            min_size=1,
            max_size=12,
        ),
    )
)


@given(networks)
def test_shares_are_max_min_fair_and_no_capacity_is_exceeded(
    network: tuple[list[int], list[tuple[list[int], int]]],
) -> None:
    """Every flow has its limit, or goes over a full resource on which none has more than it."""
    capacities, paths = network
    resources = [Resource(str(i), capacity) for i, capacity in enumerate(capacities)]
    flows = [Flow([resources[i] for i in path], limit) for path, limit in paths]
    for flow in flows:
        flow.attach()
    share_max_min(resources, flows)
    used = {resource: sum(flow.path.count(resource) * flow.rate_q20 for flow in flows) for resource in resources}
    count = {resource: sum(flow.path.count(resource) for flow in flows) for resource in resources}
    assert all(used[resource] <= resource.capacity_q20 for resource in resources)
    for flow in flows:
        assert flow.rate_q20 >= 0
        full = [r for r in flow.path if r.capacity_q20 - used[r] < count[r]]  # nothing but the rounding is left
        assert flow.rate_q20 == flow.limit_q20 or any(
            all(other.rate_q20 <= flow.rate_q20 + 1 for other in r.flows) for r in full
        ), (
            flow.rate_q20,
            flow.limit_q20,
        )


@given(networks)
@example(([0, 1], [([1], UNLIMITED_Q20), ([0, 0, 1], UNLIMITED_Q20)]))
@example(([3, 3], [([0], UNLIMITED_Q20), ([0, 1], UNLIMITED_Q20), ([1], UNLIMITED_Q20)]))
def test_flows_that_are_joined_by_no_resource_are_shared_apart_and_in_any_order(
    network: tuple[list[int], list[tuple[list[int], int]]],
) -> None:
    capacities, paths = network

    def rates(apart: bool, backwards: bool = False) -> list[int]:
        resources = [Resource(str(i), capacity) for i, capacity in enumerate(capacities)]
        flows = [Flow([resources[i] for i in path], limit) for path, limit in paths]
        for flow in flows[::-1] if backwards else flows:
            flow.attach()
        for parts in [connected_component((resource,)) for resource in resources] if apart else [(resources, flows)]:
            share_max_min(*(part[::-1] if backwards else part for part in parts))
        return [flow.rate_q20 for flow in flows]

    assert rates(apart=True) == rates(apart=False) == rates(apart=False, backwards=True)


messages = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.integers(1, 50_000), st.integers(0, 2 * SECOND)),
    min_size=1,
    max_size=25,
)
cells = st.tuples(st.integers(10_000, 10 * MBIT), st.integers(10_000, 10 * MBIT), st.sampled_from(["full", "half"]))


@given(messages, cells, cells, st.lists(st.integers(10_000, 10 * MBIT), min_size=5, max_size=5), st.booleans())
def test_in_any_cells_all_that_is_posted_arrives_in_order_and_no_capacity_is_exceeded(
    posts: list[tuple[int, bool, int, int]],
    one: tuple[int, int, str],
    other: tuple[int, int, str],
    rates: list[int],
    has_tcp: bool,
) -> None:
    transport = "tcp" if has_tcp else "ideal"
    networks = [
        Network("l", Direction(rate, 5 * MS, MS, 10**7), Direction(rate, 5 * MS, 0), transport=transport)
        for rate in rates
    ]
    server = Network("s", Direction(8 * MBIT, 0, 0), Direction(8 * MBIT, 0, 0), transport="tcp")
    fabric = fabric_of(
        *networks, server=server, cells=(Cell("a", *one), Cell("b", *other)), within=("a", "a", "a", "b", "b")
    )
    sent = [
        Sent(f"client-{i}", "server", size, at) if upward else Sent("server", f"client-{i}", size, at)
        for i, upward, size, at in posts
    ]
    instants: list[None] = []
    advance = fabric.advance

    def watched() -> list[object]:
        happened = advance()
        for channel in fabric.topology.channels:
            assert sum(flow.path.count(channel) * flow.rate_q20 for flow in channel.flows) <= channel.capacity_q20
        instants.append(None)
        return happened  # type: ignore[return-value]

    fabric.advance = watched  # type: ignore[assignment, method-assign]
    transmitted = carry(fabric, sent)
    assert len(transmitted) == len(sent)
    assert len(instants) < 100 * len(sent)  # it ends, and not by steps of nothing
    for pair in {(s.source, s.destination) for s in sent}:
        own = sorted(
            ((s.posted_ns, i) for i, s in enumerate(sent) if (s.source, s.destination) == pair), key=lambda s: s[0]
        )
        for before, after in pairwise([transmitted[i] for _, i in own]):
            assert before.left_ns <= after.start_ns
            assert before.arrival_ns <= after.arrival_ns


@pytest.mark.parametrize("clients", [2, 5])
def test_a_faster_cell_lets_nobody_wait_longer(clients: int) -> None:
    sent = [up(i, SIZE * (i + 1), i * SECOND // 7) for i in range(clients)]
    slow, fast = (carry(in_one_cell(clients, rate), sent) for rate in (MBIT, 2 * MBIT))
    assert all(a.left_ns > b.left_ns for a, b in zip(slow, fast, strict=True))
