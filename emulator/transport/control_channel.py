"""Control channels for promises and grants: one Unix socket between each node and the network process.

Each event of the virtual clock is a round trip between a node and the network process. ZeroMQ takes it through two
threads of its own on each side; a socket of packets takes half the time. Each packet names how much its sender has
sent by ZeroMQ before, so that both together stay in order.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

from msgspec import msgpack

LONGEST_PROMISE_BYTES = 64 * 1024  # far above LONGEST_AWAITS characters
LONGEST_AWAITS = 4000  # of the text about what its tasks await
LONGEST_GRANT_BYTES = 64


def channel_path(address: str) -> str:
    """The path at which the network process listens for control channels, from its ``ipc://`` address."""
    return address.removeprefix("ipc://") + ".line"


class ControlChannel:
    """A node's control channel to the network process."""

    def __init__(self, address: str, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(channel_path(address))
        self._socket.send(name.encode())

    def fileno(self) -> int:
        return self._socket.fileno()

    def promise(self, sent: int, heard: int | None, until_ns: int | None, rank: int, awaits: str) -> None:
        """Send the counts of messages sent and heard by ZeroMQ, and until when the node does nothing; ``heard`` None:
        whatever it is told."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.send(msgpack.encode((sent, heard, until_ns, rank, awaits[:LONGEST_AWAITS])))

    def grant(self) -> tuple[int, int] | None:
        """The count of messages by ZeroMQ before it, and the time granted; None: not yet. EOFError: it broke."""
        try:
            packet = self._socket.recv(LONGEST_GRANT_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            packet = b""
        if not packet:
            raise EOFError
        told, due_ns = msgpack.decode(packet)
        return told, due_ns

    def close(self) -> None:
        self._socket.close()


class ControlHub:
    """The control channels of all nodes, at the network process."""

    def __init__(self, address: str, count: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(channel_path(address))
        self._listener.listen(count)
        self._poll = select.epoll()  # a descriptor itself, which is readable when one of its own is
        self._poll.register(self._listener, select.EPOLLIN)
        self._unnamed: dict[int, socket.socket] = {}
        self._named: dict[int, tuple[str, socket.socket]] = {}
        self._of: dict[str, socket.socket] = {}

    def fileno(self) -> int:
        return self._poll.fileno()

    def read(self) -> list[tuple[str, list[Any] | None]]:
        """The promises that have arrived, with the node of each; None: the node's end was closed."""
        found: list[tuple[str, list[Any] | None]] = []
        while ready := self._poll.poll(0):
            for fd, _ in ready:
                self._take(fd, found)
        return found

    def _take(self, fd: int, found: list[tuple[str, list[Any] | None]]) -> None:
        if fd == self._listener.fileno():
            channel, _ = self._listener.accept()
            self._poll.register(channel, select.EPOLLIN)
            self._unnamed[channel.fileno()] = channel
            return
        channel = self._named[fd][1] if fd in self._named else self._unnamed[fd]
        try:
            packet = channel.recv(LONGEST_PROMISE_BYTES)
        except OSError:  # its end was closed with something unread in it
            packet = b""
        if not packet:
            if fd in self._named:
                found.append((self._named[fd][0], None))
            self._hang_up(fd, channel)
        elif fd in self._named:
            found.append((self._named[fd][0], msgpack.decode(packet)))
        else:
            name = packet.decode()
            self._named[fd] = name, self._unnamed.pop(fd)
            self._of[name] = channel

    def send(self, node: str, fields: object) -> None:
        """Send ``fields`` to a node; one that has ended gets nothing."""
        with contextlib.suppress(KeyError, OSError):
            self._of[node].send(msgpack.encode(fields))

    def _hang_up(self, fd: int, channel: socket.socket) -> None:
        self._poll.unregister(fd)
        channel.close()
        self._unnamed.pop(fd, None)
        self._of.pop(self._named.pop(fd, ("", channel))[0], None)

    def close(self) -> None:
        for channel in [self._listener, *self._unnamed.values(), *self._of.values()]:
            channel.close()
        self._poll.close()
