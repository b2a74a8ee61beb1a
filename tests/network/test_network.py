"""The network process over real sockets, in one thread here; its nodes are sockets in the hand of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from relay import PATIENCE_S, Peer, Relay, times

from emulator.ledger.events import Ended, Refused, Transmitted, Undelivered
from emulator.testing.stage import blob, make_scenario, note
from emulator.transport.endpoint import CHUNK_BYTES, MAX_FRAME_BYTES
from emulator.transport.messages import Parcel
from emulator.transport.router import Router


@pytest.fixture
def relay(folder: Path) -> Iterator[Relay]:
    opened = Relay(folder, make_scenario(clients=1))
    yield opened
    opened.close()


@pytest.fixture
def call(relay: Relay) -> Iterator[Callable[..., Peer]]:
    """Makes peers by name, and hangs up for all."""
    context: zmq.Context[Any] = zmq.Context()
    peers: list[Peer] = []

    def peer(name: str, greet: bool = True) -> Peer:
        peers.append(Peer(context, relay, name, greet))
        return peers[-1]

    yield peer
    for made in peers:
        made.hang_up()
    context.term()


def start(*peers: Peer) -> None:
    for peer in peers:
        peer.say("ready")
    for peer in peers:
        peer.begin()


def test_a_message_leaves_and_arrives_when_the_link_arithmetic_says(relay: Relay, call: Callable[..., Peer]) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    messages = [blob(1000, fill=1), blob(300, fill=2)]
    for counter, message in enumerate(messages):
        client.post("server", message, counter)
    for counter, message in enumerate(messages):
        left_ns, arrival_ns = times(message, *messages[:counter])
        assert client.hear() == ["left", counter, left_ns]
        assert server.hear() == ["announced", "client-0", counter, Parcel(message, counter).encoded]
        assert server.hear() == ["arriving", "client-0", counter, arrival_ns]
    assert [(e.due_ns, e.posted_ns, e.start_ns, e.arrival_ns, e.wire_bytes) for e in relay.of(Transmitted)] == [
        (
            times(m, *messages[:i])[0],
            0,
            times(messages[0])[0] if i else 0,
            times(m, *messages[:i])[1],
            Parcel(m, i).sizes.wire,
        )
        for i, m in enumerate(messages)
    ]


def test_a_post_that_comes_late_leaves_on_the_schedule_of_its_stamp(relay: Relay, call: Callable[..., Peer]) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    left_ns, arrival_ns = times(note(0))
    client.post("server", note(0), 0)
    assert client.hear() == ["left", 0, left_ns]  # the wall is past this moment now
    client.post("server", note(0), 1, stamp_ns=left_ns // 2)
    assert client.hear() == ["left", 1, 2 * left_ns]
    client.post("server", note(0), 2, stamp_ns=5 * left_ns)
    assert client.hear() == ["left", 2, 6 * left_ns]
    arrivals = [server.hear()[-1] for _ in range(6)][1::2]
    assert arrivals == [arrival_ns, arrival_ns + left_ns, arrival_ns + 5 * left_ns]
    assert [event.start_ns for event in relay.of(Transmitted)] == [0, left_ns, 5 * left_ns]


def test_payload_goes_only_as_far_as_the_receiver_has_asked_for(call: Callable[..., Peer]) -> None:
    client, server = call("client-0"), call("server")
    client.say("post", "server", 0, Parcel(blob(40), 0).encoded)
    for part in range(4):
        client.say("chunk", 0, chunk=bytes([part]) * 10)
    start(client, server)
    assert server.hear()[0] == "announced"
    assert server.hear()[0] == "arriving"
    server.say("fetch", "client-0", 0, 2)
    assert [server.hear() for _ in range(2)] == [["chunk", "client-0", 0, bytes([part]) * 10] for part in range(2)]
    server.settle()  # nothing came between
    server.say("fetch", "client-0", 0, 9)
    assert [server.hear()[3] for _ in range(2)] == [b"\x02" * 10, b"\x03" * 10]


def test_what_is_posted_before_the_receiver_has_come_is_not_lost(call: Callable[..., Peer]) -> None:
    client = call("client-0")
    client.post("server", blob(1000, fill=9))
    client.say("ready")
    client.settle()
    server = call("server")
    server.say("ready")
    server.begin()
    assert server.hear()[:3] == ["announced", "client-0", 0]
    assert server.hear()[:3] == ["arriving", "client-0", 0]
    server.say("fetch", "client-0", 0, 9)
    assert server.hear() == ["chunk", "client-0", 0, b"\x09" * 1000]


def test_the_clock_starts_when_every_node_is_ready_and_the_supervisor_is_told(
    relay: Relay, call: Callable[..., Peer]
) -> None:
    client, server = call("client-0"), call("server")
    client.say("ready")
    client.say("ready")
    client.settle()
    assert not relay.control.poll()
    server.say("ready")
    _, origin_ns, _ = server.hear()
    assert client.hear()[1] == origin_ns
    assert relay.hear() == ("started", str(origin_ns))


def good_post(destination: object = "server", stamp_ns: object = 0, encoded: object = None) -> bytes:
    return msgpack.packb(["post", destination, stamp_ns, Parcel(note(0), 7).encoded if encoded is None else encoded])


def good_header(place: int, value: object) -> bytes:
    return msgpack.packb([value if i == place else part for i, part in enumerate(["note", 0, {}, []])])


MALFORMED: dict[str, tuple[bytes, ...]] = {
    "nothing": (b"",),
    "no msgpack": (b"\xc1",),
    "cut off": (good_post()[:-1],),
    "trailing bytes": (good_post() + b"\x00",),
    "a map": (msgpack.packb({"post": "server"}),),
    "a number": (b"\x07",),
    "a key that cannot be one": (b"\x81\x90\x00",),
    "text that is none": (b"\x91\xa1\xff",),
    "a deep nest": (b"\x91" * 2000 + b"\x90",),
    "no operation": (msgpack.packb([]),),
    "unknown operation": (msgpack.packb(["shout", "server"]),),
    "an operation of the network": (msgpack.packb(["start", 0, 1]),),
    "a post too short": (msgpack.packb(["post", "server", 0]),),
    "to nobody": (good_post("client-77"),),
    "to a number": (good_post(3),),
    "at no time": (good_post(stamp_ns="now"),),
    "before time 0": (good_post(stamp_ns=-1),),
    "with a header of text": (good_post(encoded="header"),),
    "with random bytes": (good_post(encoded=b"\x93\x01\x02"),),
    "with a short header": (good_post(encoded=msgpack.packb(["note", 0])),),
    "with a huge header": (good_post(encoded=bytes(65_537)),),
    "with a huge payload": (good_post(encoded=good_header(3, [["x", "f8", [2**40]]])),),
    "with an unknown dtype": (good_post(encoded=good_header(3, [["x", "c8", [1]]])),),
    "with a negative counter": (good_post(encoded=good_header(1, -1)),),
    "a chunk of no message": (msgpack.packb(["chunk", 99]), b"x"),
    "a fetch of no message": (msgpack.packb(["fetch", "server", 99, 1]),),
}


@pytest.mark.parametrize("frames", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_message_is_refused_and_recorded_and_the_run_goes_on(
    frames: tuple[bytes, ...], relay: Relay, call: Callable[..., Peer]
) -> None:
    client, server = call("client-0"), call("server")
    client.say_raw(*frames)
    start(client, server)
    client.post("server", note(3))
    assert server.hear()[:3] == ["announced", "client-0", 0]
    assert server.hear() == ["arriving", "client-0", 0, times(note(3))[1]]
    client.say_raw(*frames)
    client.hear()
    client.settle()
    refused = relay.of(Refused)
    assert [event.source for event in refused] == ["client-0"] * 2
    assert all(refusal.reason for refusal in refused)


def test_a_post_at_the_end_of_time_holds_up_no_other_link(call: Callable[..., Peer]) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    client.post("server", note(0), stamp_ns=2**64 - 1)
    server.post("client-0", note(1))
    assert client.hear()[:3] == ["announced", "server", 0]


def test_more_payload_than_announced_is_refused(relay: Relay, call: Callable[..., Peer]) -> None:
    client = call("client-0")
    client.post("server", blob(10))
    client.say("chunk", 0, chunk=b"x")
    client.settle()
    assert ["more payload" in event.reason for event in relay.of(Refused)] == [True]


def test_a_counter_that_is_under_way_is_not_taken_twice(relay: Relay, call: Callable[..., Peer]) -> None:
    client = call("client-0")
    client.post("server", blob(10))
    client.say_raw(good_post(encoded=Parcel(blob(10), 0).encoded))
    client.settle()
    assert ["cannot be carried" in event.reason for event in relay.of(Refused)] == [True]


def test_nobody_fetches_a_message_that_is_for_another(relay: Relay, call: Callable[..., Peer]) -> None:
    client = call("client-0")
    client.post("server", blob(10))
    client.say("fetch", "client-0", 0, 1)
    client.settle()
    assert [event.reason for event in relay.of(Refused)] == ["client-0 asked for a message to server"]


def test_a_stranger_is_refused_by_name_and_hears_nothing(relay: Relay, call: Callable[..., Peer]) -> None:
    client, server, stranger = call("client-0"), call("server"), call("intruder", greet=False)
    stranger.say("hello")
    stranger.say_raw(good_post())
    start(client, server)
    client.post("server", note(3))
    assert server.hear()[:2] == ["announced", "client-0"]
    while len(relay.of(Refused)) < 2:  # the stranger's words come by a connection of their own
        client.settle()
    assert {event.reason for event in relay.of(Refused)} == {"'intruder' is not a node of this run"}
    assert not stranger._socket.poll(0)


def test_what_nobody_fetched_is_recorded_as_undelivered(relay: Relay, call: Callable[..., Peer]) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    client.post("server", blob(100), 0)
    client.post("server", blob(10**6), 1)  # takes 8 seconds, and the run ends before
    assert [server.hear()[:3] for _ in range(3)] == [
        ["announced", "client-0", 0],
        ["arriving", "client-0", 0],
        ["announced", "client-0", 1],
    ]
    server.say("fetch", "client-0", 0, 9)
    assert server.hear()[0] == "chunk"
    relay.close()
    (undelivered,) = relay.of(Undelivered)
    assert (undelivered.source, undelivered.destination, undelivered.counter) == ("client-0", "server", 1)
    assert (undelivered.kind, undelivered.payload_bytes) == ("blob", 10**6)
    assert [event.outcome for event in relay.of(Ended)] == ["finished"]


def test_what_was_announced_to_a_node_that_took_its_leave_is_for_that_node_to_record(
    relay: Relay, call: Callable[..., Peer]
) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    client.post("server", blob(100))
    assert [server.hear()[0] for _ in range(2)] == ["announced", "arriving"]
    server.say("bye")
    assert server.hear() == ["farewell"]
    relay.close()
    assert relay.of(Undelivered) == []


def test_what_is_for_a_node_that_is_gone_still_leaves_and_is_undelivered(
    relay: Relay, call: Callable[..., Peer]
) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    relay.control.send(("gone", "server"))
    relay.control.send(("abort", "server was killed"))
    assert client.hear() == ["abort", "server was killed"]
    client.post("server", blob(100))
    assert client.hear() == ["left", 0, times(blob(100))[0]]
    relay.close()
    assert [(event.counter, event.destination) for event in relay.of(Undelivered)] == [(0, "server")]


def test_a_connection_that_broke_by_itself_is_reported_to_the_supervisor(
    relay: Relay, call: Callable[..., Peer]
) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    assert relay.hear()[0] == "started"
    server.hang_up()
    for counter in range(100_000):  # until the network has noticed
        client.post("server", note(0), counter)
        assert client.hear()[0] == "left"
        if relay.control.poll():
            break
    assert relay.hear() == ("lost", "server")


class BusyRouter(Router):
    """A network process that always has something to do."""

    def _take_input(self) -> bool:
        super()._take_input()
        return True


def test_a_node_that_hangs_up_is_reported_also_while_there_is_always_something_to_do(folder: Path) -> None:
    relay = Relay(folder, make_scenario(clients=1), make=BusyRouter)
    context: zmq.Context[Any] = zmq.Context()
    server = Peer(context, relay, "server")
    server.settle()
    server.hang_up()
    assert relay.hear() == ("lost", "server")
    relay.close()
    context.term()


def orders(relay: Relay, *peers: Peer, expected: int = 0) -> list[tuple[str, str]]:
    """What the supervisor has been told since the start, at least ``expected`` things, once the network has handled
    what its peers said."""
    for peer in peers:
        peer.settle()
    told = []
    while relay.control.poll() or len(told) < 1 + expected:
        told.append(relay.hear())
    assert told[0][0] == "started"
    return told[1:]


def test_when_every_node_only_waits_and_nothing_is_under_way_the_supervisor_is_told_who_waits_for_what(
    relay: Relay, call: Callable[..., Peer]
) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    client.wait(0, "awaits global")
    client.settle()
    server.wait(0, "awaits update")
    assert orders(relay, server, expected=1) == [("deadlock", "client-0 awaits global; server awaits update")]


def test_a_node_that_waits_for_one_that_has_ended_is_a_deadlock_too(relay: Relay, call: Callable[..., Peer]) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    client.wait(0, "awaits global")
    client.settle()
    server.say("bye")
    assert server.hear() == ["farewell"]
    assert orders(relay, client, expected=1) == [("deadlock", "client-0 awaits global; server has ended")]


def test_what_is_on_its_way_is_no_deadlock(relay: Relay, call: Callable[..., Peer]) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    client.post("server", blob(10**7))  # 80 seconds
    assert server.hear()[0] == "announced"
    client.wait(0, "awaits global")
    client.settle()
    server.wait(0, "awaits update")
    assert orders(relay, server) == []


def test_a_node_that_has_not_heard_all_it_was_told_is_not_idle(relay: Relay, call: Callable[..., Peer]) -> None:
    client, server = call("client-0"), call("server")
    start(client, server)
    client.post("server", note(0))
    assert client.hear()[0] == "left"
    assert [server.hear()[0] for _ in range(2)] == ["announced", "arriving"]
    for heard in (0, 1):
        for peer in (client, server):
            peer.wait(heard, "awaits more")
            peer.settle()
        told = relay.hear()
        assert told[0] == ("deadlock" if heard else "started")
        assert not relay.control.poll()


def test_the_network_ends_with_the_supervisor(relay: Relay) -> None:
    relay.control.close()
    relay._thread.join(PATIENCE_S)
    assert not relay._thread.is_alive()
    assert [event.outcome for event in relay.of(Ended)] == ["finished"]


def test_frames_are_large_enough_for_what_the_protocol_sends_and_no_larger() -> None:
    assert CHUNK_BYTES + 65_536 < MAX_FRAME_BYTES < 512 * 1024
