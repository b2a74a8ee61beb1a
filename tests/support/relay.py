"""The network process as a thread, and what speaks to it: sockets in the hand of a test, or nodes in threads."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import zmq

from emulator.clock.conductors import CLOCKS, Clock
from emulator.ledger import events
from emulator.ledger.events import Ended
from emulator.ledger.files import Ledger, read_node
from emulator.ledger.timeline import only
from emulator.network.fabric import Fabric
from emulator.node import playing
from emulator.node.node import Assembly
from emulator.preflight.in_process import InProcessHost, ProfiledCosts
from emulator.profiles.availability import Absence
from emulator.profiles.scenario import Device, Scenario
from emulator.testing.stage import BYTE_NS, WAY_NS, Blob, Note, make_scenario
from emulator.transport.control_channel import ControlChannel
from emulator.transport.endpoint import CHUNK_BYTES, Endpoint, open_socket
from emulator.transport.messages import Message, Parcel
from emulator.transport.router import Router

PATIENCE_S = 60.0  # until a test that waits for something is called failed


class Place:
    """Where a network and its nodes meet, and who they are."""

    def __init__(self, folder: Path, scenario: Scenario, clock: Clock = CLOCKS["real"]) -> None:
        self.folder, self.scenario, self.clock = folder, scenario, clock
        self.address = f"ipc://{folder}/s"
        self.names = [client.name for client in scenario.clients] + ["server"]


class Relay(Place):
    """A network process as a thread, with the supervisor's end of its pipe. ``make``: the network, or a broken one."""

    def __init__(
        self, folder: Path, scenario: Scenario, clock: Clock = CLOCKS["real"], make: type[Router] = Router
    ) -> None:
        super().__init__(folder, scenario, clock)
        self.control, far_end = multiprocessing.Pipe()
        self.ledger = Ledger(folder, "network")
        network = make(self.address, Fabric(scenario, 1), self.names, clock.conductor(1, 0), self.ledger, far_end)
        self._failure: BaseException | None = None
        self._pipes = self.control, far_end
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(network,), daemon=True)
        self._thread.start()

    def _run(self, network: Router) -> None:
        try:
            network.run()
        except BaseException as failure:
            self._failure = failure

    def close(self) -> None:
        """End it as the supervisor does, once; whatever went wrong in it is raised here."""
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            self.control.send(("close", ""))
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        for pipe in self._pipes:
            pipe.close()
        self.ledger.close()
        if self._failure:
            raise self._failure

    def hear(self) -> tuple[str, str]:
        """The next that the supervisor is told."""
        assert self.control.poll(PATIENCE_S), "the supervisor hears nothing"
        told: tuple[str, str] = self.control.recv()
        return told

    def of(self, kind: type[events.Event]) -> list[Any]:
        return only(read_node(self.ledger.path), kind)


class Peer:
    """A node's socket in the hand of a test."""

    def __init__(self, context: zmq.Context[Any], relay: Relay, name: str, greet: bool = True) -> None:
        self.name = name
        self._sent = 0
        self._socket = open_socket(context, zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, name.encode())
        self._socket.connect(relay.address)
        self._channel: ControlChannel | None = None
        if greet:
            self.say("hello")
            assert self.hear() == ["welcome"]
            self._channel = ControlChannel(relay.address, name)

    def wait(self, heard: int, awaits: str) -> None:
        """Promise to do nothing until something comes; the network has handled that when this returns."""
        assert self._channel is not None
        self._channel.promise(self._sent, heard, None, 0, f"{self.name} {awaits}")

    def say(self, *fields: object, chunk: bytes | None = None) -> None:
        self.say_raw(msgpack.packb(fields), *([chunk] if chunk is not None else []))

    def say_raw(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)
        self._sent += 1

    def hear(self) -> list[Any]:
        """The next message's fields; a chunk's bytes are the last of them."""
        assert self._socket.poll(PATIENCE_S * 1000), f"{self.name} hears nothing"
        first, *chunks = self._socket.recv_multipart()
        return [*msgpack.unpackb(first), *chunks]

    def settle(self) -> None:
        """Return when the network has handled all that was said, by the line too."""
        for _ in range(2):  # it looks at the lines in between
            self.say("hello")
            assert self.hear() == ["welcome"]

    def post(self, destination: str, message: Message, counter: int = 0, stamp_ns: int = 0) -> Parcel:
        parcel = Parcel(message, counter)
        self.say("post", destination, stamp_ns, parcel.encoded)
        for chunk in parcel.chunks(CHUNK_BYTES):
            self.say("chunk", counter, chunk=bytes(chunk))
        return parcel

    def begin(self) -> None:
        """Hear the start."""
        start, _origin_ns, dilation = self.hear()
        assert (start, dilation) == ("start", 1)

    def hang_up(self) -> None:
        self._socket.close(linger=0)
        if self._channel is not None:
            self._channel.close()


def times(message: Message, *before: Message) -> tuple[int, int]:
    """When a message leaves and arrives that was posted at 0 after others on the same link."""
    left_ns = BYTE_NS * sum(Parcel(m, 0).sizes.wire for m in (*before, message))
    return left_ns, left_ns + WAY_NS


Role = Callable[[Any], Coroutine[Any, Any, Any]]


class NodeThread:
    """A node as in its process, but in a thread and without cap; ``result()`` is what its coroutine came to."""

    def __init__(self, place: Place, name: str, role: Role) -> None:
        self._place, self._name, self._role = place, name, role
        self._outcome: tuple[Any, BaseException | None] = None, RuntimeError(f"{name} has not ended")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join(PATIENCE_S)
        result, error = self._outcome
        if error is not None:
            raise error
        return result

    def _run(self) -> None:
        ledger = Ledger(self._place.folder, self._name)
        endpoint = Endpoint(self._place.address, self._name, (Blob, Note))
        scenario, costs = self._place.scenario, ProfiledCosts(1)
        assembly = Assembly(scenario.clients, partial(self._place.clock.pacer, endpoint))
        loop = assembly.loop
        try:
            endpoint.attach(loop)
            member = scenario.member(self._name)
            node = assembly.add(member, endpoint, InProcessHost(costs), costs, ledger.write)
            self._outcome = loop.run_until_complete(playing.play(node, self._role(node))), None
        except BaseException as error:
            self._outcome = None, error
        now = {"due_ns": loop.now_ns, "actual_ns": loop.now_ns}
        for event in endpoint.sign_off(**now):
            ledger.write(event)
        ledger.write(Ended(**now, outcome="finished"))
        ledger.close()
        loop.close()
        endpoint.close()


def play(
    folder: Path,
    clients: int,
    server: Role,
    client: Role,
    clock: Clock = CLOCKS["real"],
    reverse: bool = False,
    workers: int = 1,
    device: Device | None = None,
    make: type[Router] = Router,
    absence: Absence | None = None,
    **link: int,
) -> tuple[Relay, list[Any]]:
    """A whole timeline; the results of the clients and then the server's. ``reverse``: the server starts first;
    ``absence``: of the first client."""
    scenario = make_scenario(clients, workers, device, **link)
    first = msgspec.structs.replace(scenario.clients[0], absence=absence)
    scenario = msgspec.structs.replace(scenario, clients=(first, *scenario.clients[1:]))
    relay = Relay(folder, scenario, clock, make)
    try:
        roles = {name: server if name == "server" else client for name in relay.names}
        order = reversed(roles) if reverse else iter(roles)
        threads = {name: NodeThread(relay, name, roles[name]) for name in order}
        return relay, [threads[name].result() for name in roles]
    finally:
        relay.close()
