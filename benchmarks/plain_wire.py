"""Messages of the plain training: a length, a JSON header and raw tensors over a TCP socket; and a log of spans.

Nothing of the emulator is used here: it is what its runs are compared with.
"""

from __future__ import annotations

import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES = {"f4": torch.float32, "i8": torch.int64}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
Tensors = dict[str, Tensor]


class Span(NamedTuple):
    """What took a node's or a link's time, on the host's monotonic clock; ``what``: compute, up or down."""

    node: str
    what: str
    name: str
    start_s: float
    end_s: float


class Letter(NamedTuple):
    """A message that has arrived; ``fields`` are the header's."""

    sender: str
    kind: str
    fields: dict[str, Any]
    tensors: Tensors


def encode(kind: str, sent_s: float, tensors: Tensors, **fields: Any) -> bytes:
    """4 bytes of length, header, tensors in order."""
    shapes = [[name, NAMES[tensor.dtype], list(tensor.shape)] for name, tensor in tensors.items()]
    header = json.dumps({"kind": kind, "sent_s": sent_s, "tensors": shapes, **fields}).encode()
    data = [tensor.detach().contiguous().numpy().tobytes() for tensor in tensors.values()]
    return b"".join([struct.pack("!I", len(header)), header, *data])


def read_letter(sender: str, read: Callable[[int], bytearray]) -> Letter:
    """``read`` gives exactly so many bytes, or raises EOFError."""
    (length,) = struct.unpack("!I", read(4))
    header = json.loads(read(length))
    tensors: Tensors = {}
    for name, kind, shape in header.pop("tensors"):
        dtype = DTYPES[kind]
        size = torch.Size(shape).numel() * dtype.itemsize
        tensors[name] = torch.frombuffer(read(size), dtype=dtype).reshape(shape)
    return Letter(sender, header.pop("kind"), header, tensors)


class Node:
    """One end of the training: computes, sends and receives, and logs it. ``direction``: of what it receives."""

    def __init__(self, name: str, direction: str) -> None:
        self.name, self.log = name, list[Span]()
        self._direction, self._sockets, self._inbox = direction, dict[str, socket.socket](), queue.Queue[Letter]()

    def attach(self, peer: str, connection: socket.socket) -> None:
        """Read from a connection until its end."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets[peer] = connection
        threading.Thread(target=self._listen, args=(peer, connection), daemon=True).start()

    def _listen(self, peer: str, connection: socket.socket) -> None:
        def read(size: int) -> bytearray:
            buffer = bytearray(size)
            view = memoryview(buffer)
            while view:
                count = connection.recv_into(view)
                if not count:
                    raise EOFError
                view = view[count:]
            return buffer

        while True:
            try:
                letter = read_letter(peer, read)
            except (EOFError, OSError):
                return
            client = peer if self._direction == "up" else self.name
            self.log.append(Span(client, self._direction, letter.kind, letter.fields.pop("sent_s"), time.monotonic()))
            self._inbox.put(letter)

    def recv(self) -> Letter:
        """The next message of anybody, in order of arrival."""
        return self._inbox.get()

    def send(self, peer: str, kind: str, tensors: Tensors, **fields: Any) -> None:
        """Returns before it has left: the socket's buffer is larger than any message."""
        self._sockets[peer].sendall(encode(kind, time.monotonic(), tensors, **fields))

    def compute(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Call and log."""
        start_s = time.monotonic()
        result = fn(*args)
        self.log.append(Span(self.name, "compute", fn.__qualname__, start_s, time.monotonic()))
        return result
