"""Nodes on real ports and a real clock: what they record agrees with the links, across all of them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import pytest
import torch
import zmq
from processes import wait_for
from relay import PATIENCE_S, NodeThread, Place, Relay, play, times
from toy import make_manifest
from traffic import Sent, carry

from emulator.checks.invariants import conserved, in_order, within_links
from emulator.clock.conductors import CLOCKS
from emulator.clock.loop import EmulatedLoop
from emulator.errors import DoesNotFit, PeerLost
from emulator.ledger.events import Posted, Received, Refused, Transmitted, Undelivered
from emulator.ledger.files import read_timeline
from emulator.ledger.timeline import only
from emulator.network.fabric import Fabric
from emulator.node.node import ClientNode, Node, ServerNode
from emulator.testing.stage import MS, Blob, Note, blob, make_scenario, note, operations
from emulator.transport.control_channel import ControlHub
from emulator.transport.endpoint import CHUNK_BYTES, WINDOW_CHUNKS, Endpoint, open_socket
from emulator.transport.messages import Incoming, Message, Parcel

RATE_BPS = 500 * 10**6


def test_messages_between_nodes_keep_to_their_links_and_none_is_lost(folder: Path) -> None:
    sizes = [10, 70_000, 0, 1_400_000, 1]  # the second exceeds what a transport copies, the fourth a window of chunks

    async def client(node: ClientNode) -> list[tuple[int, int]]:
        for i, size in enumerate(sizes):
            message = blob(size, fill=i)
            await node.post("server", message)
            message.x.fill_(255)
        received = [await node.recv(Blob) for _ in sizes]
        return [(len(message.x), int(message.x.sum())) for message in received]

    async def server(node: ServerNode) -> int:
        for _ in range(len(node.clients) * len(sizes)):
            message = await node.recv(Blob)
            await node.post(message.sender, Blob(round=0, x=message.x + 1))
        return node.now()

    relay, results = play(folder, 2, server, client, rate_bps=RATE_BPS, jitter_ns=2 * MS)
    assert results[:2] == [[(size, size * (i + 1)) for i, size in enumerate(sizes)]] * 2

    timeline = read_timeline(folder)
    assert conserved(timeline, "finished") == ([], [])
    assert in_order(timeline) == []
    link = {"up_bps": RATE_BPS, "down_bps": RATE_BPS, "up_one_way_ns": 10 * MS, "down_one_way_ns": 10 * MS}
    assert within_links(make_manifest(nodes=[{"name": name, **link} for name in relay.names]), timeline) == []

    fabric = Fabric(relay.scenario, 1)
    transmitted = only(timeline, Transmitted)
    assert len(transmitted) == 4 * len(sizes)
    posted = {(event.node, event.counter): event for event in only(timeline, Posted)}
    arrival = {(event.source, event.counter): event.due_ns for event in only(timeline, Received)}
    for pair in {(event.source, event.destination) for event in transmitted}:
        own = sorted((e for e in transmitted if (e.source, e.destination) == pair), key=lambda event: event.counter)
        sent = [posted[event.source, event.counter] for event in own]
        messages = [Sent(*pair, event.wire_bytes, event.due_ns) for event in sent]
        for event, expected in zip(own, carry(fabric, messages), strict=True):
            assert (event.start_ns, event.due_ns, event.arrival_ns) == expected[:3]
            assert arrival[event.source, event.counter] == expected.arrival_ns


def test_what_was_never_received_is_accounted_for(folder: Path) -> None:
    """The server ends at once, while messages are before, on, and behind the link."""

    async def client(node: ClientNode) -> None:
        for size in (10, 1000, 3000):
            await node.post("server", blob(size))

    async def server(node: ServerNode) -> None:
        await node.recv(Blob)

    play(folder, 1, server, client)
    timeline = read_timeline(folder)
    assert conserved(timeline, "finished") == ([], [])
    assert len(only(timeline, Received)) + len(only(timeline, Undelivered)) == 3
    assert len(only(timeline, Undelivered)) >= 1


def test_nodes_that_wait_for_each_other_are_reported_and_not_before(folder: Path) -> None:
    relay = Relay(folder, make_scenario(clients=1))

    async def client(node: ClientNode) -> None:
        await node.send("server", note(0))
        await node.compute(operations, 5)
        await node.recv(Blob, source="server")

    async def server(node: ServerNode) -> None:
        await node.recv(Note)
        await asyncio.sleep(0.01)
        await node.recv(Blob)

    threads = [NodeThread(relay, "client-0", client), NodeThread(relay, "server", server)]
    told = relay.hear(), relay.hear()
    left_ns, arrival_ns = times(note(0))
    waits = [f"client-0 awaits blob from server since {(left_ns + 5 * MS) / 1e9:.3f} s"]
    waits.append(f"server awaits blob since {(arrival_ns + 10 * MS) / 1e9:.3f} s")
    assert (told[0][0], told[1]) == ("started", ("deadlock", "; ".join(waits)))
    relay.control.send(("abort", "deadlock"))
    for thread in threads:
        with pytest.raises(PeerLost, match="deadlock"):
            thread.result()
    relay.close()


@pytest.mark.parametrize("before_the_start", [False, True])
def test_an_abort_reaches_every_node_as_a_lost_peer(folder: Path, before_the_start: bool) -> None:
    relay = Relay(folder, make_scenario(clients=2))
    waiting = threading.Semaphore(0)

    async def wait(node: Node) -> None:
        waiting.release()
        await node.recv(Blob)

    names = relay.names[:-1] if before_the_start else relay.names
    threads = [NodeThread(relay, name, wait) for name in names]
    for _ in threads:
        assert waiting.acquire(timeout=PATIENCE_S)
    if not before_the_start:
        assert relay.hear()[0] == "started"
    relay.control.send(("abort", "client-7 was killed by signal 9"))
    for thread in threads:
        with pytest.raises(PeerLost, match="client-7 was killed by signal 9"):
            thread.result()
    relay.close()


def test_a_header_that_the_receiver_does_not_know_is_refused_and_the_run_goes_on(folder: Path) -> None:
    class Unheard(Message, frozen=True, kw_only=True):
        x: torch.Tensor

    async def client(node: ClientNode) -> None:
        await node.post("server", Unheard(round=0, x=torch.zeros(100_000)))
        await node.post("server", note(5))

    async def server(node: ServerNode) -> int:
        return (await node.recv(Note)).number

    _, results = play(folder, 1, server, client, rate_bps=10**9)
    assert results[-1] == 5
    (refused,) = only(read_timeline(folder), Refused)
    assert (refused.node, refused.source) == ("server", "client-0")
    assert "unknown kind 'unheard' from client-0; known: blob, note" in refused.reason


def test_a_payload_is_fetched_window_by_window_and_the_message_not_visible_before_its_last_byte(folder: Path) -> None:
    """The test plays the network: it says that a message has arrived long before it sends what is in it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    network = open_socket(context, zmq.ROUTER)
    network.bind(f"ipc://{folder}/s")
    lines = ControlHub(f"ipc://{folder}/s", 1)

    def hear(*expected: object) -> None:
        assert network.poll(PATIENCE_S * 1000)
        assert tuple(msgpack.unpackb(network.recv_multipart()[1])) == expected

    def say(*fields: object, chunk: bytes | None = None) -> None:
        network.send_multipart([b"server", msgpack.packb(fields), *([chunk] if chunk is not None else [])])

    async def server(node: ServerNode) -> int:
        return int((await node.recv(Blob)).x.sum())

    thread = NodeThread(Place(folder, make_scenario(clients=1)), "server", server)
    hear("hello")
    say("welcome")
    hear("ready")
    say("start", 0, 1)  # the clock has run since the host was started
    parcel = Parcel(blob(WINDOW_CHUNKS * CHUNK_BYTES + CHUNK_BYTES + 1, fill=2), 0)
    first, *others = parcel.chunks(CHUNK_BYTES)
    assert len(others) == WINDOW_CHUNKS + 1
    say("announced", "client-0", 0, parcel.encoded)
    say("arriving", "client-0", 0, 7)
    hear("fetch", "client-0", 0, WINDOW_CHUNKS)
    for chunk in (first, others[0]):
        say("chunk", "client-0", 0, chunk=bytes(chunk))
        hear("fetch", "client-0", 0, 1)
    for chunk in others[1:]:
        say("chunk", "client-0", 0, chunk=bytes(chunk))
    hear("bye")
    say("farewell")
    assert thread.result() == 2 * parcel.sizes.payload
    (received,) = only(read_timeline(folder), Received)
    assert received.due_ns == 7
    network.close()
    lines.close()
    context.term()


@pytest.mark.parametrize("granted", [False, True])
def test_a_node_whose_connection_breaks_hangs_up_also_where_more_was_promised(folder: Path, granted: bool) -> None:
    """What is sent into a connection that has just broken is lost without an error: the node itself must see it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    network = open_socket(context, zmq.ROUTER)
    network.bind(f"ipc://{folder}/s")
    lines = ControlHub(f"ipc://{folder}/s", 1)
    with ThreadPoolExecutor(1) as thread:
        connecting = thread.submit(Endpoint, f"ipc://{folder}/s", "server", {})
        assert network.poll(PATIENCE_S * 1000)
        network.send_multipart([network.recv_multipart()[0], msgpack.packb(["welcome"])])
        endpoint = connecting.result(PATIENCE_S)
    loop = EmulatedLoop(CLOCKS["virtual"].pacer(endpoint, lambda: ""))
    endpoint.attach(loop)
    assert lines.read() == []

    network.close(linger=0)
    if granted:
        lines.send("server", (1, 0))  # after a message that never comes
    found: list[object] = []

    def hung_up() -> bool:
        assert not endpoint.take_input()
        found.extend(lines.read())
        return bool(found)

    wait_for(hung_up, "the node hangs up")
    assert found == [("server", None)]
    assert endpoint.granted() is None
    loop.close()
    endpoint.close()
    lines.close()
    context.term()


def test_a_message_that_cannot_be_allocated_does_not_fit_when_it_arrives(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Incoming) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12345 bytes.")

    monkeypatch.setattr(Incoming, "allocate", refuse)
    at: list[int] = []

    async def client(node: ClientNode) -> None:
        await node.post("server", blob(1000))

    async def server(node: ServerNode) -> None:
        try:
            await node.recv(Blob)
        finally:
            at.append(node.now())

    with pytest.raises(DoesNotFit) as caught:
        play(folder, 1, server, client)
    assert (caught.value.phase, caught.value.asked_bytes) == ("receive blob", 12345)
    assert at == [times(blob(1000))[1]]
