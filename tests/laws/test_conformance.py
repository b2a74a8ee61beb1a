"""One body, both clocks: what a node's verbs mean in emulated time does not depend on the clock.

A byte takes 8 µs, a way 20 ms, an operation 1 ms (``stage``), so every time below follows by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from relay import NodeThread, Relay, Role, play, times

from emulator.checks.digest import timeline_digest
from emulator.checks.invariants import conserved, in_order
from emulator.clock.conductors import CLOCKS, Clock
from emulator.errors import PeerLost, SplitbedError
from emulator.ledger.events import Blocked, Clamped, Computed, Received
from emulator.ledger.files import read_timeline
from emulator.ledger.timeline import only
from emulator.node.node import ClientNode, Node, ServerNode
from emulator.testing.stage import (
    MS,
    SECOND,
    WAY_NS,
    Blob,
    Note,
    blob,
    link_ns,
    make_device,
    make_scenario,
    note,
    operations,
)

DAY_S = 86_400

Play = Callable[..., list[Any]]


@pytest.fixture(params=["real", "virtual"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return CLOCKS[request.param]


@pytest.fixture
def on(clock: Clock, folder: Path) -> Play:
    """Plays a server and clients on the clock; the results of the clients, then the server's."""

    def run(server: Role, client: Role, clients: int = 1, **options: Any) -> list[Any]:
        _, results = play(folder, clients, server, client, clock=clock, **options)
        timeline = read_timeline(folder)
        assert conserved(timeline, "finished") == ([], [])
        assert in_order(timeline) == []
        return results

    return run


async def ends_at_once(node: Node) -> None:
    """Nothing to do."""


# --- messages ---------------------------------------------------------------------------------------------------------


def test_a_send_ends_with_the_last_bit_and_a_message_arrives_a_way_later(on: Play) -> None:
    async def client(node: ClientNode) -> int:
        await node.send("server", blob(1000))
        return node.now()

    async def server(node: ServerNode) -> int:
        await node.recv(Blob)
        return node.now()

    assert on(server, client) == list(times(blob(1000)))


def test_answers_go_back_and_forth_without_a_nanosecond_lost(on: Play) -> None:
    hops = 5

    async def client(node: ClientNode) -> int:
        for number in range(hops):
            await node.post("server", note(number))
            assert (await node.recv(Note)).number == number
        return node.now()

    async def server(node: ServerNode) -> None:
        for _ in range(hops):
            await node.post("client-0", await node.recv(Note))

    assert on(server, client)[0] == 2 * hops * (link_ns(note(0)) + WAY_NS)


def test_a_message_that_arrives_at_the_deadline_is_received(on: Play) -> None:
    async def client(node: ClientNode) -> None:
        await node.post("server", note(0))
        await node.post("server", note(1))

    async def server(node: ServerNode) -> list[str]:
        seen = []
        first_ns, second_ns = link_ns(note(0)) + WAY_NS, 2 * link_ns(note(0)) + WAY_NS
        for until_ns in (first_ns, second_ns - 1):
            try:
                async with asyncio.timeout((until_ns - node.now()) / SECOND):
                    await node.recv(Note)
                seen.append("received")
            except TimeoutError:
                seen.append("timed out")
        await node.recv(Note)
        assert node.now() == second_ns
        return seen

    assert on(server, client)[1] == ["received", "timed out"]


def test_messages_of_one_instant_come_in_the_order_of_their_senders(on: Play) -> None:
    async def client(node: ClientNode) -> None:
        await node.post("server", note(node.index))

    async def server(node: ServerNode) -> list[str]:
        return [(await node.recv(Note)).sender for _ in range(4)]

    assert on(server, client, clients=4)[-1] == [f"client-{i}" for i in range(4)]


# --- computations -----------------------------------------------------------------------------------------------------


def test_a_message_during_a_computation_is_received_during_it(on: Play) -> None:
    """The first wrong rule: whoever has only timers goes ahead; then it has computed before it receives."""
    arrival_ns = link_ns(note(0)) + WAY_NS

    async def client(node: ClientNode) -> None:
        await node.post("server", note(0))

    async def server(node: ServerNode) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []

        async def compute() -> None:
            await node.compute(operations, 60)
            seen.append(("computed", node.now()))

        async with asyncio.TaskGroup() as group:
            group.create_task(compute())
            await node.recv(Note)
            seen.append(("received", node.now()))
        return seen

    assert on(server, client)[1] == [("received", arrival_ns), ("computed", 60 * MS)]


def test_of_two_computations_begun_at_one_instant_the_shorter_ends_first(on: Play) -> None:
    """The second wrong rule: a second computation lowers a promise already given."""

    async def server(node: ServerNode) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []

        async def compute(count: int) -> None:
            await node.compute(operations, count)
            seen.append((count, node.now()))
            await node.post("client-0", note(count))

        async with asyncio.TaskGroup() as group:
            for count in (80, 10):
                group.create_task(compute(count))
        return seen

    async def client(node: ClientNode) -> list[int]:
        numbers = []
        for _ in range(2):
            numbers.append((await node.recv(Note)).number)
            numbers.append(node.now() - WAY_NS - link_ns(note(0)))
        return numbers

    received, computed = on(server, client, workers=2)
    assert computed == [(10, 10 * MS), (80, 80 * MS)]
    assert received == [10, 10 * MS, 80, 80 * MS]


@pytest.mark.parametrize(("workers", "ends"), [(1, [30, 60, 90]), (2, [30, 30, 60]), (3, [30, 30, 30])])
def test_at_most_as_many_computations_overlap_as_there_are_workers(
    workers: int, ends: list[int], on: Play, folder: Path
) -> None:
    async def server(node: ServerNode) -> None:
        await asyncio.gather(*(node.compute(operations, 30) for _ in range(3)))

    on(server, ends_at_once, workers=workers)
    spans = only(read_timeline(folder), Computed)
    assert [span.due_ns for span in spans] == [end * MS for end in ends]


# --- emulated time ----------------------------------------------------------------------------------------------------


def test_sleeps_timeouts_and_groups_mean_emulated_time(on: Play) -> None:
    async def client(node: ClientNode) -> list[int]:
        seen = []
        await asyncio.sleep(0.011)
        seen.append(node.now())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.007):
                await node.recv(Note)
        seen.append(node.now())
        async with asyncio.TaskGroup() as group:
            for ms in (3, 9, 6):
                group.create_task(asyncio.sleep(ms / 1000))
        seen.append(node.now())
        return seen

    assert on(ends_at_once, client)[0] == [11 * MS, 18 * MS, 27 * MS]


def test_what_answers_in_host_time_is_refused_by_name(on: Play) -> None:
    async def client(node: ClientNode) -> int:
        loop = asyncio.get_running_loop()
        with pytest.raises(SplitbedError, match=r"use node\.compute"):
            await asyncio.to_thread(print)
        with pytest.raises(SplitbedError, match="answer in host time"):
            await asyncio.open_connection("localhost", 1)
        with pytest.raises(SplitbedError, match="answer in host time"):
            await asyncio.create_subprocess_exec("true")
        with pytest.raises(SplitbedError, match="answer in host time"):
            await loop.getaddrinfo("localhost", 1)
        return node.now()

    assert on(ends_at_once, client)[0] == 0


@pytest.mark.parametrize("clock", [CLOCKS["virtual"]])
def test_timeouts_are_exact_to_the_nanosecond_and_beyond_a_day(on: Play) -> None:
    async def client(node: ClientNode) -> list[int]:
        seen = []
        for seconds in (1e-9, 3 * DAY_S + 1e-9):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await node.recv(Note)
            seen.append(node.now())
        return seen

    assert on(ends_at_once, client)[0] == [1, 3 * DAY_S * SECOND + 2]


# --- cancellation -----------------------------------------------------------------------------------------------------


async def cancelled_after(ms: float, task: asyncio.Task[Any]) -> bool:
    """Whether it ended as cancelled, at that time."""
    await asyncio.sleep(ms / 1000)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return task.cancelled()


def test_cancelling_a_recv_loses_no_message(on: Play) -> None:
    async def client(node: ClientNode) -> None:
        await node.post("server", note(7))

    async def server(node: ServerNode) -> tuple[bool, int, int]:
        cancelled = await cancelled_after(5, asyncio.create_task(node.recv(Note)))
        message = await node.recv(Note)
        return cancelled, message.number, node.now()

    assert on(server, client)[1] == (True, 7, link_ns(note(7)) + WAY_NS)


def test_cancelling_a_send_or_a_drained_stops_only_the_waiting(on: Play) -> None:
    left_ns, arrival_ns = times(blob(3000))

    async def client(node: ClientNode) -> tuple[bool, bool, int]:
        sent = await cancelled_after(2, asyncio.create_task(node.send("server", blob(3000, fill=1))))
        drained = await cancelled_after(2, asyncio.create_task(node.drained()))
        await node.drained()
        return sent, drained, node.now()

    async def server(node: ServerNode) -> tuple[int, int]:
        return int((await node.recv(Blob)).x.sum()), node.now()

    assert on(server, client) == [(True, True, left_ns), (3000, arrival_ns)]


def test_cancelling_a_post_that_waits_for_room_sends_nothing(on: Play, folder: Path) -> None:
    size = 3000

    async def client(node: ClientNode) -> tuple[bool, int]:
        await node.post("server", blob(size, fill=1))
        cancelled = await cancelled_after(2, asyncio.create_task(node.post("server", blob(size, fill=2))))
        await node.post("server", blob(size, fill=3))
        return cancelled, node.now()

    async def server(node: ServerNode) -> list[int]:
        return [int((await node.recv(Blob)).x[0]) for _ in range(2)]

    device = make_device(send_queue_bytes=size)
    assert on(server, client, device=device) == [(True, link_ns(blob(size))), [1, 3]]
    blocked = [(e.since_ns, e.due_ns) for e in only(read_timeline(folder), Blocked)]
    assert blocked == [(0, 2 * MS), (2 * MS, link_ns(blob(size)))]


def test_a_client_waits_for_room_and_the_server_does_not(on: Play, folder: Path) -> None:
    """Both on a device whose queue holds one message; the server's leave side by side."""
    size, clients = 1000, 3

    async def client(node: ClientNode) -> tuple[int, int]:
        await node.recv(Blob)
        arrived_ns = node.now()
        for _ in range(2):
            await node.post("server", blob(size))
        return arrived_ns, node.now()

    async def server(node: ServerNode) -> int:
        for name in node.clients:
            await node.post(name, blob(size))
        posted_ns = node.now()
        for _ in range(2 * clients):
            await node.recv(Blob)
        return posted_ns

    left_ns, arrival_ns = times(blob(size))
    device = make_device(send_queue_bytes=size)
    played = on(server, client, clients=clients, device=device)
    assert played == [(arrival_ns, arrival_ns + left_ns)] * clients + [0]
    blocked = only(read_timeline(folder), Blocked)
    assert [(e.node, e.due_ns - e.since_ns) for e in blocked] == [(f"client-{i}", left_ns) for i in range(clients)]


def test_cancelling_a_computation_frees_its_worker_at_once(on: Play, folder: Path) -> None:
    async def client(node: ClientNode) -> bool:
        running = asyncio.create_task(node.compute(operations, 50))
        queued = asyncio.create_task(node.compute(operations, 30))
        cancelled = await cancelled_after(10, running)
        await queued
        return cancelled

    assert on(ends_at_once, client)[0] is True
    assert [(span.start_ns, span.due_ns) for span in only(read_timeline(folder), Computed)] == [(10 * MS, 40 * MS)]


# --- the virtual clock alone ------------------------------------------------------------------------------------------


async def busy_client(node: ClientNode) -> None:
    for i in range(3):
        await node.compute(operations, 2 + node.index)
        await node.post("server", blob(500 * (1 + node.index), fill=i))
        await node.recv(Note)


async def busy_server(node: ServerNode) -> list[tuple[str, int]]:
    seen = []
    for _ in range(3 * len(node.clients)):
        message = await node.recv(Blob)
        await node.compute(operations, 4)
        seen.append((message.sender, node.now()))
        await node.post(message.sender, note(0))
    return seen


def played(folder: Path, reverse: bool, jitter_ns: int = 3 * MS) -> tuple[str | None, Any]:
    folder.mkdir()
    _, results = play(
        folder, 4, busy_server, busy_client, clock=CLOCKS["virtual"], reverse=reverse, workers=2, jitter_ns=jitter_ns
    )
    timeline = read_timeline(folder)
    assert only(timeline, Clamped) == []
    assert all(event.actual_ns == event.due_ns for event in only(timeline, Received))
    return timeline_digest(timeline)[0], results[-1]


def test_nodes_that_start_in_another_order_play_the_same_timeline(folder: Path) -> None:
    first, again, reverse = (played(folder / name, name == "reverse") for name in ("first", "again", "reverse"))
    assert first == again == reverse
    assert first[0] is not None
    assert played(folder / "still", False, jitter_ns=0) != first


def test_a_deadlock_is_reported_by_name_instead_of_a_hang(folder: Path) -> None:
    """The client awaits what the server does not send; both wait, one with and one after some work."""

    async def client(node: ClientNode) -> None:
        await node.compute(operations, 5)
        await node.recv(Blob, source="server")

    async def server(node: ServerNode) -> None:
        await node.recv(Note)

    relay = Relay(folder, make_scenario(clients=1), CLOCKS["virtual"])
    try:
        threads = [NodeThread(relay, name, role) for name, role in (("client-0", client), ("server", server))]
        assert relay.hear()[0] == "started"
        expected = "client-0 awaits blob from server since 0.005 s; server awaits note since 0.000 s"
        assert relay.hear() == ("deadlock", expected)
        relay.control.send(("abort", "over"))
        for thread in threads:
            with pytest.raises(PeerLost, match="over"):
                thread.result()
    finally:
        relay.close()
