"""Absent clients: the spans, and what both ways of aggregating make of them."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay import play
from traffic import Sent, carry, link

from algorithms import ALGORITHMS
from algorithms.workload.task import Task, prepare
from emulator.checks.digest import timeline_digest
from emulator.clock.conductors import CLOCKS
from emulator.errors import UserError
from emulator.ledger.events import Event, Posted, Received, Reported, RoundEnded, Transmitted, Unreachable
from emulator.ledger.files import read_timeline
from emulator.ledger.timeline import Timeline
from emulator.network.fabric import Fabric
from emulator.network.jitter import Transmission
from emulator.node.node import ClientNode, ServerNode
from emulator.piecewise import StepFunction
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import dry_run
from emulator.profiles.availability import Absence, Absences, of_client
from emulator.profiles.reading import load_scenario
from emulator.profiles.scenario import ClientSpec, Direction, Network, Scenario, ServerSpec
from emulator.testing.stage import MBIT, MS, SECOND, Note, make_device, note

BACK_NS, LATE_NS = 9 * SECOND, 30 * SECOND
KINDS = pytest.mark.parametrize("kind", ["outage", "away"])
METHODS = pytest.mark.parametrize("method", ["fedavg", "splitfed-v2", "cse-fsl", "fsl-sage"])


@given(st.integers(1, 10**10), st.integers(1, 10**10), st.integers(0, 10**11), st.text(max_size=4))
def test_a_client_is_there_or_back_at_the_end_of_its_span(
    present_ns: int, absent_ns: int, t_ns: int, stream: str
) -> None:
    absences = Absences(Absence("away", (), present_ns, absent_ns), stream)
    back_ns, change_ns = absences.back_ns(t_ns), absences.next_ns(t_ns)
    assert change_ns is not None
    assert change_ns > t_ns
    if back_ns > t_ns:
        assert change_ns == back_ns
    assert absences.back_ns(back_ns) == back_ns
    assert Absences(Absence("away", (), present_ns, absent_ns), stream).back_ns(t_ns) == back_ns


def test_the_share_of_time_away_is_that_of_the_means() -> None:
    absences = Absences(Absence("away", (), 30 * SECOND, 10 * SECOND), "share")
    times = range(0, 40_000 * SECOND, SECOND)
    assert sum(absences.back_ns(t) > t for t in times) / len(times) == pytest.approx(0.25, abs=0.04)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("data")
    return msgspec.to_builtins(prepare(Task(clients=3, samples_per_client=48), folder))


def absent(kind: Any, *spans: tuple[int, int]) -> Scenario:
    """Three clients of iot-4g, of which client-1 is absent in ``spans``."""
    scenario = load_scenario("iot-4g", 3)
    clients = list(scenario.clients)
    clients[1] = msgspec.structs.replace(clients[1], absence=Absence(kind, spans))
    return msgspec.structs.replace(scenario, clients=tuple(clients))


def played(method: str, scenario: Scenario, task: Any, **settings: Any) -> dict[str, list[Event]]:
    events: dict[str, list[Event]] = defaultdict(list)
    settings = {"rounds": 3, "stop_after_s": None, "task": task, **settings}
    dry_run(ALGORITHMS[method], settings, scenario, 1, ProfilingResult(), lambda node: events[node].append)
    return events


def ends_ns(events: dict[str, list[Event]]) -> list[int]:
    return [event.due_ns for event in events["server"] if isinstance(event, RoundEnded)]


@METHODS
@KINDS
def test_a_synchronous_round_waits_for_who_is_absent(method: str, kind: str, task: Any) -> None:
    undisturbed = ends_ns(played(method, absent(kind), task))
    waited = ends_ns(played(method, absent(kind, (undisturbed[0] // 2, BACK_NS)), task))
    assert undisturbed[0] < BACK_NS < waited[0]
    assert waited[-1] - waited[0] == pytest.approx(undisturbed[-1] - undisturbed[0], rel=0.1)


@METHODS
@KINDS
def test_under_a_deadline_a_round_ends_without_who_is_absent_and_tells_it_when_it_is_back(
    method: str, kind: str, task: Any
) -> None:
    undisturbed = ends_ns(played(method, absent(kind), task))
    deadline_s = 1.5 * undisturbed[0] / SECOND
    scenario = absent(kind, (undisturbed[0] // 2, BACK_NS))
    events = played(method, scenario, task, deadline_s=deadline_s)
    assert ends_ns(events)[0] < deadline_s * SECOND + SECOND < BACK_NS
    assert any(event.values.get("left_out") for event in events["server"] if isinstance(event, Reported))
    told = [e for e in events["client-1"] if isinstance(e, Received) and e.kind == "left-out"]
    assert told
    assert told[0].due_ns >= BACK_NS
    assert any(isinstance(e, Posted) and e.kind == "left-out" for e in events["server"])


def test_a_client_that_is_never_there_for_long_enough_is_named() -> None:
    """It is there for 1 ms at a time and a connection needs 40 ms: refused by name, and no endless dry run."""
    network = Network("n", Direction(MBIT, 10 * MS, 0), Direction(MBIT, 10 * MS, 0), transport="tcp")
    scenario = Fabric(traffic(network, Absence("away", (), MS, 1000 * SECOND)), 1)
    with pytest.raises(UserError, match=r"^client-0: a message of 1000 B .* lost its connection 10000 times"):
        carry(scenario, [Sent("server", "client-0", 1000)])
    fair = Fabric(traffic(network, Absence("away", (), SECOND, SECOND)), 1)
    assert carry(fair, [Sent("server", "client-0", 1000)])[0].left_ns < 100 * SECOND


def test_the_end_of_a_dry_run_is_the_networks_error(task: Any, caplog: pytest.LogCaptureFixture) -> None:
    """And the coroutines that it ends leave nothing for asyncio to complain about."""
    scenario = absent("away")
    clients = list(scenario.clients)
    clients[1] = msgspec.structs.replace(clients[1], absence=Absence("away", (), MS, 1000 * SECOND))
    with pytest.raises(UserError, match=r"^client-1: a message of"):
        played("fedavg", msgspec.structs.replace(scenario, clients=tuple(clients)), task)
    gc.collect()
    assert caplog.messages == []


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=9), st.integers(10**7, 10**10))
def test_each_absence_is_told_once_however_often_the_network_is_asked(times: list[int], mean_ns: int) -> None:
    network = Network("n", Direction(MBIT, 0, 0), Direction(MBIT, 0, 0))
    absence = Absence("away", (), mean_ns, mean_ns)
    fabric, drawn = Fabric(traffic(network, absence), 7), of_client(absence, 7, "client-0")
    told = [each for t_ns in sorted(times) for each in fabric.absences(t_ns)]
    assert [(each.due_ns, each.until_ns) for each in told] == drawn.begun(-1, max(times))
    assert fabric.next_absence_ns == drawn.next_ns(max(times)) or not told
    assert told == sorted(told)


SPANS = ((20 * MS, 60 * MS), (100 * MS, 180 * MS), (100 * SECOND, 101 * SECOND))


@pytest.mark.parametrize("clock", CLOCKS)
def test_absences_are_in_the_networks_ledger_on_every_clock_until_the_end_and_no_digest_moves(
    clock: str, tmp_path: Path
) -> None:
    async def client(node: ClientNode) -> int:
        await asyncio.sleep(0.12)
        await node.post("server", note(0))
        return node.now()

    async def server(node: ServerNode) -> None:
        await node.recv(Note)

    relay, _ = play(tmp_path, 1, server, client, clock=CLOCKS[clock], absence=Absence("outage", SPANS))
    found = relay.of(Unreachable)
    assert [(e.due_ns, e.until_ns, e.client, e.kind) for e in found] == [
        (from_ns, until_ns, "client-0", "outage") for from_ns, until_ns in SPANS[:2]
    ]
    assert all(event.actual_ns >= event.due_ns for event in found)
    timeline = read_timeline(tmp_path)
    assert timeline_digest(timeline) == timeline_digest(Timeline(e for e in timeline if not isinstance(e, Unreachable)))
    (carried,) = relay.of(Transmitted)
    assert carried.due_ns > SPANS[1][1]


@KINDS
def test_the_ledger_of_a_dry_run_has_the_absences_until_its_end(kind: str, task: Any) -> None:
    events = played("fedavg", absent(kind, (SECOND, BACK_NS), (10_000 * SECOND, 10_001 * SECOND)), task)
    (found,) = [event for event in events["network"] if isinstance(event, Unreachable)]
    assert (found.due_ns, found.until_ns, found.client, found.kind) == (SECOND, BACK_NS, "client-1", kind)


def traffic(network: Network, absence: Absence) -> Scenario:
    client = ClientSpec("client-0", 0, make_device(), network, absence=absence)
    return Scenario("x", "", ServerSpec("server", make_device(), network, 1), (client,), {})


# --- what had left when a client went away ----------------------------------------------------------------------------


def sent_while(rates: StepFunction | None, *spans: tuple[int, int], **more: Any) -> Transmission:
    """10 MB from a client at 8 Mbit/s, or at ``rates``, that is away in ``spans``."""
    delay_ns = more.pop("one_way_ns", 0)
    way = Direction(8 * MBIT, delay_ns, 0, rates=rates)
    network = Network("link", way, way, trace_start_ns=0, **more)
    client = ClientSpec("client-0", 0, make_device(), network, absence=Absence("away", spans))
    server = ServerSpec("server", make_device(), link(10**12, transport=network.transport), 1)
    (transmission,) = carry(Fabric(Scenario("x", "", server, (client,), {}), 1), [Sent("client-0", "server", 10**7)])
    return transmission


GAP = StepFunction((0, SECOND, 30 * SECOND), (8 * MBIT, 0, 8 * MBIT), 1000 * SECOND)  # nothing leaves from 1 to 30 s


@pytest.mark.parametrize(("rates", "resent_bytes"), [(None, 5_000_000), (GAP, 1_000_000)])
def test_what_is_sent_again_is_what_had_left(rates: StepFunction | None, resent_bytes: int) -> None:
    transmission = sent_while(rates, (5 * SECOND, 6 * SECOND))
    assert transmission.resent_bytes == resent_bytes
    assert transmission.left_ns == (40 if rates else 16) * SECOND


def test_what_had_not_begun_anew_is_not_sent_a_third_time() -> None:
    """Back at 6 s, where nothing leaves, and away again at 8; then at 31 s, when 1 MB has left anew."""
    assert sent_while(GAP, (5 * SECOND, 6 * SECOND), (8 * SECOND, 9 * SECOND)).resent_bytes == 1_000_000
    twice = sent_while(GAP, (5 * SECOND, 6 * SECOND), (31 * SECOND, 32 * SECOND))
    assert (twice.resent_bytes, twice.left_ns) == (2_000_000, 42 * SECOND)


def test_between_two_rounds_of_tcp_all_that_was_begun_has_left() -> None:
    """A round trip of 2 s: set up at 2, ten segments by 2.015; it waits for their ACKs when the client goes."""
    transmission = sent_while(None, (3 * SECOND, 4 * SECOND), transport="tcp", one_way_ns=SECOND)
    assert transmission.resent_bytes == 10 * 1500


@pytest.mark.parametrize("order", ["arrival", "blocked"])
@pytest.mark.parametrize("method", ALGORITHMS)
def test_every_method_waits_for_a_first_client_that_comes_30_s_late_and_then_plays_as_ever(
    method: str, order: str, task: Any
) -> None:
    """Whichever client's turn it is: from its return on a round takes no longer than without its absence."""
    scenario = load_scenario("iot-4g", 3)
    first, *others = scenario.clients
    late = msgspec.structs.replace(first, absence=Absence("away", ((0, LATE_NS),)))
    undisturbed = ends_ns(played(method, scenario, task, server_order=order))
    waited = ends_ns(
        played(method, msgspec.structs.replace(scenario, clients=(late, *others)), task, server_order=order)
    )
    assert len(waited) == len(undisturbed) == 3
    assert LATE_NS < waited[0] <= LATE_NS + undisturbed[0]
    assert waited[-1] - waited[0] == pytest.approx(undisturbed[-1] - undisturbed[0], rel=0.1)
