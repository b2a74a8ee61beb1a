"""A delay between two namespaces: every packet is held for a fixed time, in order, without loss.

Its two tun interfaces are the ends of the link; each end's rate is tbf's, before a packet reaches us.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from benchmarks.namespaces import LIMIT_BYTES, run, tbf_command, tun, up_commands

DEVICE = "delay"
LARGEST_PACKET_BYTES = 65536
ADDRESSES = ("10.78.0.1", "10.78.0.2")


@contextlib.contextmanager
def delay_line(ends: tuple[str, str], one_way_s: float, rate_bps: int) -> Iterator[Callable[[], float]]:
    """Lay a link of this rate and delay between two namespaces; ``ADDRESSES`` are its ends.

    Gives a function that tells by how many seconds the latest of all packets so far was held too long.
    """
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=forward, args=(ends, round(one_way_s * 1e9), theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        for number, namespace in enumerate(ends):
            for command in up_commands(namespace, DEVICE, ADDRESSES[number], ADDRESSES[1 - number]):
                run(command)
            run(["ip", "-n", namespace, "link", "set", DEVICE, "txqueuelen", str(LIMIT_BYTES // 1500)])
            run(tbf_command(namespace, DEVICE, rate_bps, 0))

        def late_s() -> float:
            ours.send(None)
            return int(ours.recv()) / 1e9

        yield late_s
    finally:
        ours.close()
        process.join(5)
        process.kill()


def forward(ends: tuple[str, str], delay_ns: int, until: Connection) -> None:
    """Read from either interface, and write to the other ``delay_ns`` later, until the other end hangs up.

    Asked by any message, it answers with the worst lateness in nanoseconds.
    """
    os.nice(-10)  # a packet that is held too long looks like a full queue to CUBIC, which leaves slow start for good
    handles = [tun(namespace, DEVICE) for namespace in ends]
    until.send(None)
    held: list[deque[tuple[int, bytes]]] = [deque(), deque()]
    worst_ns = 0
    while True:
        first_ns = min((queue[0][0] for queue in held if queue), default=None)
        wait_s = None if first_ns is None else max(first_ns - time.monotonic_ns(), 0) / 1e9
        ready, _, _ = select.select([*handles, until.fileno()], [], [], wait_s)
        if until.fileno() in ready:
            try:
                until.recv()
            except EOFError:
                return
            until.send(worst_ns)
        for side, handle in enumerate(handles):
            with contextlib.suppress(BlockingIOError):
                while handle in ready:
                    packet = os.read(handle, LARGEST_PACKET_BYTES)
                    held[side].append((time.monotonic_ns() + delay_ns, packet))
        for side, queue in enumerate(held):
            while queue and queue[0][0] <= (now_ns := time.monotonic_ns()):
                worst_ns = max(worst_ns, now_ns - queue[0][0])
                with contextlib.suppress(OSError):  # an interface that is not up yet refuses what routers are asked
                    os.write(handles[1 - side], queue.popleft()[1])
