"""The node's verbs for messages in emulated time: what each waits for, to the nanosecond; what is recorded."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from relay import play

from emulator.clock.conductors import CLOCKS
from emulator.errors import Deadlock, ProtocolError
from emulator.ledger.events import Blocked, Clamped, Posted, Received, Refused, Reported, RoundEnded, Waiting
from emulator.node.node import ClientNode, ServerNode
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
from emulator.transport.messages import Parcel

# --- post and send ----------------------------------------------------------------------------------------------------


def test_post_returns_before_the_bits_have_left_and_send_when_the_last_one_has() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            await stage.client.post("server", blob(1000))
            assert stage.client.now() == 0
            await stage.client.send("server", blob(500))
            assert stage.client.now() == link_ns(blob(1000), blob(500))

        stage.play(main())


def test_a_message_is_received_when_its_last_bit_has_come_all_the_way() -> None:
    with Stage(make_scenario()) as stage:

        async def receive() -> Blob:
            received = await stage.server.recv(Blob)
            assert stage.server.now() == link_ns(blob(1000)) + WAY_NS
            return received

        _, received = stage.play(stage.client.post("server", blob(1000, fill=7)), receive())
        assert (received.sender, received.x.sum().item()) == ("client-0", 7000)


def test_a_posted_tensor_that_is_overwritten_before_it_left_arrives_as_it_was() -> None:
    with Stage(make_scenario()) as stage:
        message = blob(100_000, fill=3)

        async def main() -> None:
            await stage.client.post("server", message)
            message.x.zero_()
            assert (await stage.server.recv(Blob)).x.sum().item() == 300_000

        stage.play(main())


def test_post_waits_until_the_send_queue_has_room() -> None:
    with queue_of(1000) as stage:

        async def main() -> list[int]:
            times = []
            for size in (600, 400, 1, 999):
                await stage.client.post("server", blob(size))
                times.append(stage.client.now())
            return times

        one = link_ns(blob(600))
        two = one + link_ns(blob(400))
        assert stage.play(main()) == [[0, 0, one, two]]


def test_a_message_larger_than_the_send_queue_goes_when_the_queue_is_empty() -> None:
    with queue_of(1000) as stage:

        async def main() -> list[int]:
            times = []
            for size in (5000, 10, 5000):
                await stage.client.post("server", blob(size))
                times.append(stage.client.now())
            return times

        one = link_ns(blob(5000))
        assert stage.play(main()) == [[0, one, one + link_ns(blob(10))]]


def test_room_comes_from_whichever_message_leaves_first() -> None:
    """A client's queue holds a large message to the server; a small one to another client shares its link with that,
    leaves before it, and makes room."""
    with queue_of(10_000) as stage:

        async def main() -> int:
            await stage.client.post("server", blob(9_000))
            await stage.client.post("client-1", blob(1_000))
            await stage.client.post("client-1", blob(900))
            return stage.client.now()

        assert stage.play(main()) == [2 * link_ns(blob(1_000))]


def test_the_server_posts_without_waiting_whatever_its_device_says() -> None:
    """Each connection has its message at once, though the queue of such a device would hold one."""
    with queue_of(1000) as stage:

        async def main() -> int:
            for name in ("client-0", "client-1", "client-0"):
                await stage.server.post(name, blob(1000))
            return stage.server.now()

        async def receive(client: str) -> int:
            await stage.nodes[client].recv(Blob)
            return stage.nodes[client].now()

        arrival_ns = link_ns(blob(1000)) + WAY_NS
        assert stage.play(main(), receive("client-0"), receive("client-1")) == [0, arrival_ns, arrival_ns]
        assert stage.of("server", Blocked) == []


def test_posts_of_several_tasks_leave_in_the_order_in_which_they_were_asked_for() -> None:
    with queue_of(1000) as stage:

        async def receive() -> list[int]:
            return [(await stage.server.recv(Blob)).x[0].item() for _ in range(5)]

        posts = [stage.client.post("server", blob(700, fill=number)) for number in range(5)]
        assert stage.play(*posts, receive())[-1] == list(range(5))


def test_drained_returns_when_everything_has_left() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            await stage.client.drained()
            assert stage.client.now() == 0
            for size in (300, 200):
                await stage.client.post("server", blob(size))
            await stage.client.drained()
            assert stage.client.now() == link_ns(blob(300), blob(200))

        stage.play(main())


def test_a_post_is_recorded_with_its_sizes_and_its_round() -> None:
    with Stage(make_scenario()) as stage:
        message = blob(1000, round=4)
        stage.play(stage.client.post("server", message), stage.server.recv(Blob))
        sizes = Parcel(message, 0).sizes
        (posted,) = stage.of("client-0", Posted)
        assert (posted.counter, posted.destination, posted.kind, posted.round) == (0, "server", "blob", 4)
        assert (posted.payload_bytes, posted.official_bytes) == (1000, 1000)
        assert (posted.framed_bytes, posted.wire_bytes) == (sizes.framed, sizes.wire)
        (received,) = stage.of("server", Received)
        assert (received.payload_bytes, received.wire_bytes) == (1000, sizes.wire)
        assert (received.source, received.counter, received.due_ns) == ("client-0", 0, link_ns(message) + WAY_NS)


# --- recv -------------------------------------------------------------------------------------------------------------


def test_a_message_that_nobody_waits_for_waits_in_the_inbox() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            for number in range(3):
                await stage.client.post("server", note(number))
            await asyncio.sleep(1)
            assert [(await stage.server.recv(Note)).number for _ in range(3)] == [0, 1, 2]
            assert stage.server.now() == 1000 * MS

        stage.play(main())
        assert stage.of("server", Waiting) == []


def test_recv_from_a_source_leaves_the_others_messages_where_they_are() -> None:
    with Stage(make_scenario(clients=3)) as stage:

        async def main() -> None:
            for i in range(3):
                await stage.nodes[f"client-{i}"].post("server", note(i))
            await asyncio.sleep(1)
            assert (await stage.server.recv(Note, source="client-2")).number == 2
            assert (await stage.server.recv(Note, source=("client-2", "client-1"))).number == 1
            assert (await stage.server.recv(Note)).number == 0

        stage.play(main())


def test_tasks_that_wait_for_different_sources_each_get_theirs() -> None:
    with Stage(make_scenario()) as stage:

        async def receive(source: str | None) -> int:
            return (await stage.server.recv(Note, source=source)).number

        async def send() -> None:
            await asyncio.sleep(0.001)
            await stage.nodes["client-1"].post("server", note(1))
            await asyncio.sleep(1)
            await stage.nodes["client-0"].post("server", note(0))
            await asyncio.sleep(1)
            await stage.nodes["client-0"].post("server", note(2))

        received = stage.play(receive("client-0"), receive("client-1"), receive(None), send())
        assert received[:3] == [0, 1, 2]


def test_recv_records_what_it_waits_for() -> None:
    with Stage(make_scenario()) as stage:

        async def receive() -> None:
            await asyncio.sleep(0.5)
            await stage.server.recv(Blob, Note, source=("client-1", "client-0"))

        async def send() -> None:
            await asyncio.sleep(1)
            await stage.client.post("server", note(0))

        stage.play(receive(), send())
        (waiting,) = stage.of("server", Waiting)
        assert (waiting.due_ns, waiting.kinds, waiting.sources) == (
            500 * MS,
            ["blob", "note"],
            ["client-0", "client-1"],
        )


@pytest.mark.parametrize("waits_first", [False, True])
def test_a_message_of_another_type_is_a_protocol_error_that_names_both_sides(waits_first: bool) -> None:
    with Stage(make_scenario()) as stage:

        async def receive() -> None:
            await asyncio.sleep(0 if waits_first else 1)
            with pytest.raises(ProtocolError, match="server expected blob but client-0 sent note"):
                await stage.server.recv(Blob)

        stage.play(receive(), stage.client.post("server", note(0)))


def test_a_message_that_comes_at_the_deadline_is_received() -> None:
    for late_ns in (0, 1):
        with Stage(make_scenario()) as stage:

            async def receive(stage: Stage = stage, late_ns: int = late_ns) -> str:
                try:
                    async with asyncio.timeout((link_ns(note(0)) + WAY_NS - late_ns) / 1e9):
                        await stage.server.recv(Note)
                except TimeoutError:
                    return "late"
                return "received"

            outcome, _ = stage.play(receive(), stage.client.post("server", note(0)))
            assert outcome == ("late" if late_ns else "received")


def test_when_all_wait_for_each_other_the_report_says_who_waits_for_what_and_since_when() -> None:
    with Stage(make_scenario(clients=1)) as stage:

        async def client() -> None:
            await stage.client.compute(operations, 30)
            await stage.client.recv(Blob, source="server")

        with pytest.raises(Deadlock) as caught:
            stage.play(client(), stage.server.recv(Note, Blob))
        assert str(caught.value) == (
            "deadlock: client-0 awaits blob from server since 0.030 s; server awaits note or blob since 0.000 s"
        )


@pytest.mark.parametrize("verb", ["post", "compute", "recv"])
def test_a_verb_that_is_not_awaited_is_told_by_file_and_line_where_it_is_dropped_and_where_it_is_kept(
    verb: str,
) -> None:
    """Also as the very last that a method does, when nothing is waited for any more."""
    arguments: tuple[Any, ...] = {"post": ("server", note(0)), "compute": (operations, 1), "recv": (Note,)}[verb]
    for awaits in (True, False):

        async def dropped(stage: Stage, awaits: bool = awaits) -> None:
            getattr(stage.client, verb)(*arguments)
            await (stage.client.recv(Note) if awaits else asyncio.sleep(0))

        async def kept(stage: Stage) -> None:
            coroutine = getattr(stage.client, verb)(*arguments)
            try:
                await stage.client.recv(Note)
            finally:
                coroutine.close()

        line = dropped.__code__.co_firstlineno + 1
        with Stage(make_scenario(clients=1)) as stage, pytest.raises(ProtocolError) as caught:
            stage.play(dropped(stage))
        told = f"test_node.py:{line}: Node.{verb}(…) was never awaited: write await before it"
        assert str(caught.value) == told
    with Stage(make_scenario(clients=1)) as stage, pytest.raises(Deadlock) as deadlocked:
        stage.play(kept(stage))
    told = told.replace(f":{line}:", f":{kept.__code__.co_firstlineno + 1}:")
    assert str(deadlocked.value).startswith(f"deadlock: {told}; client-0 awaits note since 0.000 s")


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_verb_that_is_not_awaited_is_told_on_either_clock(clock: str, folder: Path) -> None:
    async def forgetful(node: ServerNode) -> None:
        node.post("client-0", note(0))  # type: ignore[unused-coroutine]
        await asyncio.sleep(0.01)

    async def client(_node: ClientNode) -> None:
        await asyncio.sleep(0.02)

    line = forgetful.__code__.co_firstlineno + 1
    with pytest.raises(ProtocolError, match=rf"^test_node\.py:{line}: Node\.post\(…\) was never awaited"):
        play(folder, 1, forgetful, client, clock=CLOCKS[clock])


# --- records and failures ---------------------------------------------------------------------------------------------


def test_reports_snapshots_and_clamps_take_no_time_and_are_recorded() -> None:
    with Stage(make_scenario()) as stage:
        snapshots: list[tuple[int, dict[str, Any], str]] = []
        stage.server.on_snapshot = lambda round, parts, awaits: snapshots.append((round, parts, awaits))

        async def main() -> None:
            await asyncio.sleep(0.010)
            stage.server.begin_round(3)
            await stage.server.compute(operations, 5)
            stage.server.report(3, loss=0.5, slope=float("nan"))
            with pytest.raises(TypeError, match=r"report: loss is a Tensor: give a number, as a tensor's .item\(\)"):
                stage.server.report(3, loss=torch.tensor(0.5))
            stage.server.snapshot(3, {"server": {}}, missing_part="client")
            assert stage.server.now() == 15 * MS

        stage.play(main())
        assert snapshots == [(3, {"server": {}}, "client")]
        (reported,) = stage.of("server", Reported)
        assert (reported.round, reported.values, reported.due_ns) == (3, {"loss": 0.5}, 15 * MS)
        assert reported.not_finite == ["slope"]
        (ended,) = stage.of("server", RoundEnded)
        assert (ended.round, ended.started_ns, ended.due_ns) == (3, 10 * MS, 15 * MS)
        stage.loop.on_clamp(7, "arrival")
        stage.transports["client-0"].on_refused("server", "malformed")
        (clamped,) = stage.of("server", Clamped)
        (refused,) = stage.of("client-0", Refused)
        assert (clamped.by_ns, clamped.what) == (7, "arrival")
        assert (refused.source, refused.reason) == ("server", "malformed")


def test_the_first_failure_of_a_node_is_the_one_that_counts() -> None:
    with Stage(make_scenario()) as stage:
        fail = stage.transports["client-0"].on_failure
        for reason in ("first", "second"):
            stage.loop.call_soon(partial(fail, ProtocolError(reason)))

        async def main() -> None:
            with pytest.raises(ProtocolError, match="first"):
                await stage.client.failed

        stage.play(main())
