"""Each await of a node, cancelled once: no message is lost, no worker and no room in the queue leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from emulator.compute.counting import HostRun
from emulator.ledger.events import Computed, Posted
from emulator.preflight.in_process import InProcessHost
from emulator.testing.stage import (
    MS,
    WAY_NS,
    Blob,
    Note,
    Stage,
    blob,
    link_ns,
    make_scenario,
    note,
    operations,
    queue_of,
)


async def start(*tasks: asyncio.Task[Any]) -> None:
    """Let tasks run until each waits for an event."""
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


def test_cancelling_a_recv_loses_no_message() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            waiting = asyncio.create_task(stage.server.recv(Note))
            await start(waiting)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert waiting.cancelled()
            assert stage.server._inbox.awaiting == []
            await stage.client.post("server", note(5))
            assert (await stage.server.recv(Note)).number == 5

        stage.play(main())


@pytest.mark.parametrize("another_waits", [False, True])
def test_a_message_that_comes_with_the_cancellation_goes_to_who_waits_or_to_the_front(another_waits: bool) -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> int:
            waiting = asyncio.create_task(stage.server.recv(Note))
            await start(waiting)
            other = asyncio.create_task(stage.server.recv(Note)) if another_waits else None
            transport = stage.transports["server"]
            deliver = transport.on_delivery

            def deliver_and_cancel(*delivery: Any) -> None:
                transport.on_delivery = deliver
                deliver(*delivery)
                waiting.cancel()

            transport.on_delivery = deliver_and_cancel
            await stage.client.post("server", note(1))
            await asyncio.gather(waiting, return_exceptions=True)
            assert waiting.cancelled()
            return (await (other or stage.server.recv(Note))).number

        assert stage.play(main()) == [1]


def test_cancelling_a_send_stops_only_the_waiting() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            sending = asyncio.create_task(stage.client.send("server", blob(1000, fill=1)))
            await start(sending)
            sending.cancel()
            received = await stage.server.recv(Blob)
            assert stage.server.now() == link_ns(blob(1000)) + WAY_NS
            assert received.x.sum().item() == 1000
            assert sending.cancelled()
            await stage.client.drained()

        stage.play(main())


def test_cancelling_a_drained_stops_only_the_waiting() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            await stage.client.post("server", blob(1000))
            draining = asyncio.create_task(stage.client.drained())
            await start(draining)
            draining.cancel()
            await stage.client.drained()
            assert stage.client.now() == link_ns(blob(1000))

        stage.play(main())


def test_cancelling_a_post_that_waits_for_room_sends_nothing_and_lets_the_next_one_go() -> None:
    with queue_of(1000) as stage:

        async def main() -> list[int]:
            await stage.client.post("server", blob(900, fill=1))
            room = asyncio.create_task(stage.client.post("server", blob(800, fill=2)))
            turn = asyncio.create_task(stage.client.post("server", blob(700, fill=3)))
            last = asyncio.create_task(stage.client.post("server", blob(600, fill=4)))
            await start(room, turn, last)
            room.cancel()
            turn.cancel()
            received = [(await stage.server.recv(Blob)).x[0].item() for _ in range(2)]
            assert room.cancelled() and turn.cancelled() and last.done()
            return received

        assert stage.play(main()) == [[1, 4]]
        assert [event.counter for event in stage.of("client-0", Posted)] == [0, 1]


def test_cancelling_a_computation_frees_its_worker_at_once() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            running = asyncio.create_task(stage.server.compute(operations, 10))
            queued = asyncio.create_task(stage.server.compute(operations, 20))
            last = asyncio.create_task(stage.server.compute(operations, 5))
            await asyncio.sleep(0.003)
            queued.cancel()
            await asyncio.sleep(0.001)
            running.cancel()
            await asyncio.gather(running, queued, return_exceptions=True)
            assert running.cancelled() and queued.cancelled()
            assert await last == 5
            assert stage.server.now() == 4 * MS + 5 * MS
            await asyncio.sleep(1)  # past the ends that the others would have had

        stage.play(main())
        assert [(event.start_ns, event.due_ns) for event in stage.of("server", Computed)] == [(4 * MS, 9 * MS)]


def test_a_cancelled_computation_raises_after_the_host_has_finished_it() -> None:
    happened: list[str] = []

    class SlowRun(HostRun):
        def settle(self) -> None:
            happened.append("the host has finished")

    class SlowHost(InProcessHost):
        def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun:
            del wake
            run = SlowRun()
            run.carry_out(fn, clock)
            return run

    with Stage(make_scenario(), host=SlowHost) as stage:

        async def compute() -> None:
            try:
                await stage.client.compute(operations, 10)
            except asyncio.CancelledError:
                happened.append("raised")
                raise

        async def main() -> None:
            task = asyncio.create_task(compute())
            await asyncio.sleep(0.002)
            happened.clear()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stage.play(main())
    assert happened == ["the host has finished", "raised"]
