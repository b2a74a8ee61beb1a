"""What ZeroMQ puts around a message, counted on a socket of the kernel's."""

from __future__ import annotations

import select
import socket
import threading

import torch
import zmq

from emulator.transport.messages import Message, Parcel


class Plain(Message, frozen=True, kw_only=True):
    number: int
    z: torch.Tensor


def _counting(listener: socket.socket, server: tuple[str, int], counted: list[int]) -> None:
    """Carry bytes both ways between one connection and the server; count those that go to the server."""
    with listener.accept()[0] as near, socket.create_connection(server) as far:
        for end in (near, far):
            end.setblocking(False)
        while True:
            for end in select.select((near, far), (), ())[0]:
                data = end.recv(65536)
                if not data:
                    return
                counted[0] += len(data) * (end is near)
                other = far if end is near else near
                other.setblocking(True)
                other.sendall(data)
                other.setblocking(False)


def test_framed_bytes_are_those_that_cross_a_socket() -> None:
    """A stamp and a header in one frame, and a frame a tensor, between two sockets of ZeroMQ: to the byte."""
    counted = [0]
    parcel = Parcel(Plain(round=0, number=7, z=torch.arange(300, dtype=torch.float32)), 0)
    frames = [bytes(8) + parcel.encoded, *(bytes(chunk) for chunk in parcel.chunks(2**20))]
    with zmq.Context() as context, socket.create_server(("127.0.0.1", 0)) as listener:
        with context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
            endpoint = pull.bind_to_random_port("tcp://127.0.0.1")
            carrier = threading.Thread(target=_counting, args=(listener, ("127.0.0.1", endpoint), counted))
            carrier.start()
            push.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
            push.send(b"")  # the greeting of either side is over when this has come
            assert pull.recv() == b""
            before = counted[0]
            push.send_multipart(frames)
            assert pull.recv_multipart() == frames
            assert counted[0] - before == parcel.sizes.framed
        carrier.join()
