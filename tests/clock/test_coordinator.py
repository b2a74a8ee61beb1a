"""The one order of the virtual clock: which of all events may take place next, whatever the host does first."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.clock.conductors import CLOCKS, VirtualConductor
from emulator.clock.pacers import DELIVERY_RANK, LEFT_RANK, TIMER_RANK
from emulator.errors import InternalError


def begun(*nodes: str) -> VirtualConductor:
    """All of ``nodes`` run, at time 0."""
    conductor = VirtualConductor()
    conductor.begin(nodes)
    return conductor


def waiting(**promises: int | None) -> VirtualConductor:
    """Nodes that wait until so many ns."""
    conductor = begun(*promises)
    for node, until_ns in promises.items():
        conductor.on_promise(node, until_ns, TIMER_RANK)
    return conductor


def test_nothing_takes_place_before_the_start_or_while_a_node_runs() -> None:
    conductor = VirtualConductor()
    assert not conductor.may_act(0)
    assert conductor.grant(None) is None
    conductor.begin(["a", "b"])
    conductor.on_promise("a", 5, TIMER_RANK)
    assert conductor.grant(None) is None and not conductor.may_act(3)
    conductor.on_promise("b", None, TIMER_RANK)
    assert conductor.may_act(3)
    assert conductor.grant(None) == ("a", 5)
    assert conductor.grant(None) is None and not conductor.may_act(6)  # a runs


def test_a_departure_precedes_whatever_nodes_do_at_its_time() -> None:
    conductor = waiting(a=5)
    assert conductor.grant(5) is None
    assert conductor.may_act(5)
    assert conductor.grant(6) == ("a", 5)


def test_at_one_time_deliveries_come_first_then_what_has_left_then_timers_and_among_equals_the_first_node() -> None:
    conductor = waiting(a=5, b=5, c=5, d=5)
    conductor.on_scheduled("d", 5, DELIVERY_RANK)
    conductor.on_scheduled("c", 5, LEFT_RANK)
    order = []
    while (granted := conductor.grant(None)) is not None:
        order.append(granted[0])
        conductor.on_promise(granted[0], None, TIMER_RANK)
    assert order == ["d", "c", "a", "b"]


def test_what_a_node_is_told_lowers_its_promise_and_never_lifts_it() -> None:
    conductor = waiting(a=10, b=None)
    conductor.on_scheduled("a", 20, DELIVERY_RANK)
    conductor.on_scheduled("b", 30, DELIVERY_RANK)
    conductor.on_scheduled("b", 7, DELIVERY_RANK)
    conductor.on_scheduled("b", 8, DELIVERY_RANK)
    assert conductor.grant(None) == ("b", 7)
    conductor.on_promise("b", None, TIMER_RANK)
    assert conductor.grant(None) == ("a", 10)


def test_nobody_waits_for_a_node_that_has_ended() -> None:
    conductor = waiting(a=1, b=2)
    conductor.on_exit("a")
    conductor.on_scheduled("a", 1, DELIVERY_RANK)
    assert conductor.grant(None) == ("b", 2)
    conductor.on_exit("b")
    assert conductor.grant(None) is None
    assert conductor.may_act(9)


def test_a_node_that_posts_in_the_past_or_promises_it_is_a_bug_by_name() -> None:
    conductor = waiting(a=5)
    conductor.grant(None)
    with pytest.raises(InternalError, match="a posted at 4 ns"):
        conductor.on_post("a", 4)
    conductor.on_post("a", 5)
    with pytest.raises(InternalError, match="a promised 4 ns"):
        conductor.on_promise("a", 4, TIMER_RANK)


def test_dilation_belongs_to_the_real_clock() -> None:
    asked = [(None, 3), (2, 3), (5, 1)]
    assert [CLOCKS["real"].dilation(*each) for each in asked] == [3, 2, 5]
    assert [CLOCKS["virtual"].dilation(*each) for each in asked] == [1, 1, 1]


# --- any script, any host ---------------------------------------------------------------------------------------------

Script = list[tuple[int, list[tuple[int, int]]]]  # a node's timers: (ns after the last, [(to whom, ns on the way)])

NODES = 3
scripts = st.lists(
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(1, 6)), max_size=2)),
        max_size=4,
    ),
    min_size=NODES,
    max_size=NODES,
)
whims = st.lists(st.integers(0, 9), min_size=40, max_size=40)  # who of those that can go on does so first


def play(scripts_of: list[Script], whim: list[int], make: Callable[[], VirtualConductor]) -> list[tuple[int, str]]:
    """What happens in which order when nodes play their scripts and the host lets ``whim`` go first.

    A message takes place at its receiver as an event without consequences.
    """
    conductor = make()
    names = [f"n{i}" for i in range(NODES)]
    conductor.begin(names)
    timers = {
        name: list(itertools.accumulate((after for after, _ in script), initial=0))[1:]
        for name, script in zip(names, scripts_of, strict=True)
    }
    posts = {name: [each for _, each in script] for name, script in zip(names, scripts_of, strict=True)}
    inbox: dict[str, list[int]] = {name: [] for name in names}
    agenda: list[tuple[int, int, int, str]] = []
    counter = itertools.count()
    running = {name: [(0, "start")] for name in names}
    happened: list[tuple[int, str]] = []
    choices = itertools.chain(whim, itertools.repeat(0))

    def goes_on(name: str) -> None:
        for now_ns, what in running.pop(name):
            if what == "timer":
                happened.append((now_ns, name))
                for destination, way_ns in posts[name].pop(0):
                    conductor.on_post(name, now_ns)
                    heapq.heappush(agenda, (now_ns + way_ns, names.index(name), next(counter), names[destination]))
        events = [(at, TIMER_RANK) for at in timers[name][:1]] + [(at, DELIVERY_RANK) for at in inbox[name][:1]]
        first = min(events, default=(None, TIMER_RANK))
        conductor.on_promise(name, *first)

    while True:
        planned_ns = agenda[0][0] if agenda else None
        can: list[str] = sorted(running)
        if can and next(choices) % 2:  # the host is in no hurry with the network
            goes_on(can[next(choices) % len(can)])
        elif conductor.may_act(planned_ns):
            arrival_ns, _, _, destination = heapq.heappop(agenda)
            happened.append((arrival_ns, f"to {destination}"))
            heapq.heappush(inbox[destination], arrival_ns)
            conductor.on_scheduled(destination, arrival_ns, DELIVERY_RANK)
        elif (granted := conductor.grant(planned_ns)) is not None:
            name, due_ns = granted
            if due_ns in inbox[name][:1]:
                heapq.heappop(inbox[name])
                happened.append((due_ns, f"at {name}"))
                running[name] = [(due_ns, "delivery")]
            else:
                assert timers[name].pop(0) == due_ns
                running[name] = [(due_ns, "timer")]
        elif can:
            goes_on(can[next(choices) % len(can)])
        else:
            return happened


@given(scripts, whims)
def test_what_happens_and_in_which_order_does_not_depend_on_the_host(scripts_of: list[Script], whim: list[int]) -> None:
    happened = play(scripts_of, whim, VirtualConductor)
    assert [at for at, _ in happened] == sorted(at for at, _ in happened)
    assert happened == play(scripts_of, [], VirtualConductor)


class Impatient(VirtualConductor):
    """The ablation: what is next is granted although an earlier event waits for its node."""

    def _waits_for_a_node(self) -> bool:
        return not self._begun


def test_an_event_granted_before_an_earlier_node_has_gone_on_is_caught() -> None:
    """The node that was passed over posts into the past, or what happens is out of order."""
    slow_then_posts: list[Script] = [[(1, [(2, 1)])], [(10, [])], []]
    assert play(slow_then_posts, [], VirtualConductor) == [(1, "n0"), (2, "to n2"), (2, "at n2"), (10, "n1")]
    with pytest.raises(InternalError, match="n0 posted at 1 ns what it could only post at 10 ns"):
        play(slow_then_posts, [1, 0, 1, 0, 1, 0], Impatient)
