"""The model of a link beside the kernel's own: real TCP between namespaces, shaped by tbf. ``make kernel-check``.

A message on a fresh connection (from connect to its last byte at the receiver), and a second one of the same size on
the warm connection. Both ends are in this process, so there is one clock. Then ``plain_training``: two methods trained
by a plain script over such links, beside an emulated run.
"""

from __future__ import annotations

import argparse
import signal
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

from benchmarks.delay_line import ADDRESSES, delay_line
from benchmarks.namespaces import CGROUP, Laboratory, burst_bytes, inside, missing, no_tun
from benchmarks.report import Section, Target, rate_text, size_text
from emulator.errors import UserError
from emulator.network.fabric import Fabric
from emulator.network.jitter import SECOND_NS
from emulator.profiles.scenario import ClientSpec, Device, Direction, Network, Scenario, ServerSpec

SEGMENT_DATA_BYTES, HEADER_BYTES = 1448, 52
SEGMENT_BYTES = SEGMENT_DATA_BYTES + HEADER_BYTES
INITIAL_WINDOW = 10  # segments
UDP_HEADER_BYTES = 28  # with IPv4's
RATES_BPS = (500_000, 2_000_000, 5_000_000, 20_000_000, 50_000_000)
SIZES_BYTES = (1_000, 10_000, 100_000, 1_000_000, 4_000_000)
DELAYED_RATES_BPS = (2_000_000, 5_000_000, 20_000_000)
RTTS_S = (0.02, 0.1)
LONGEST_S, DELAYED_LONGEST_S = 7.0, 5.0  # of a message
SHORT_S = 0.6  # messages that are due sooner are sent three times
PORT, DRAIN_PORT = 7070, 9
WITHIN, WITHIN_S = 0.05, 0.005
TARGET_PERCENT = 95.0


def expected_s(size_bytes: int, rate_bps: int, rtt_s: float, warm: bool) -> float:
    """From connect, or from the send on a ``warm`` connection, to the last byte at the receiver: the emulator's model.

    A warm connection has carried one such message; nothing else is on the link.
    """
    wire_bytes = size_bytes + -(-size_bytes // SEGMENT_DATA_BYTES) * HEADER_BYTES
    there_ns = round(rtt_s * SECOND_NS / 2)
    link = Network("link", Direction(rate_bps, there_ns, 0), Direction(rate_bps, there_ns, 0), transport="tcp")
    wide = Network("wide", Direction(10**13, 0, 0), Direction(10**13, 0, 0), transport="tcp")
    board = Device("none", 1, 0, 0, 1, 1, 1, 0, 1)
    clients = (ClientSpec("client-0", 0, board, link),)
    fabric = Fabric(Scenario("check", "", ServerSpec("server", board, wide, 1), clients, {}), seed=1)
    posted_ns = 0
    fabric.post("client-0", "server", 0, wire_bytes, posted_ns)
    arrived_ns = _arrival_ns(fabric)
    if warm:
        posted_ns = arrived_ns + there_ns
        fabric.post("client-0", "server", 1, wire_bytes, posted_ns)
        arrived_ns = _arrival_ns(fabric)
    return (arrived_ns - posted_ns) / SECOND_NS


def _arrival_ns(fabric: Fabric) -> int:
    while True:
        for event in fabric.advance():
            if event.departs:
                return event.transmission.arrival_ns


class Sent(NamedTuple):
    """A message over a link; medians where it was sent several times."""

    rate_bps: int
    rtt_s: float
    size_bytes: int
    warm: bool
    due_s: float
    measured_s: float

    @property
    def off_s(self) -> float:
        return self.measured_s - self.due_s

    @property
    def close(self) -> bool:
        return abs(self.off_s) <= max(WITHIN * self.due_s, WITHIN_S)


class Ends(NamedTuple):
    """The two ends of a link: namespaces, the receiver's address, and TCP's congestion control."""

    sender: str
    receiver: str
    address: str
    congestion: str


def measure(ends: Ends, rate_bps: int, rtt_s: float, size_bytes: int) -> list[Sent]:
    """A fresh and a warm message of one size."""
    due_s = [expected_s(size_bytes, rate_bps, rtt_s, warm) for warm in (False, True)]
    found = [pair(ends, rate_bps, rtt_s, size_bytes) for _ in range(3 if due_s[0] < SHORT_S else 1)]
    measured_s = [statistics.median(times) for times in zip(*found, strict=True)]
    warmths = zip((False, True), due_s, measured_s, strict=True)
    return [Sent(rate_bps, rtt_s, size_bytes, *warmth) for warmth in warmths]


def pair(ends: Ends, rate_bps: int, rtt_s: float, size_bytes: int) -> tuple[float, float]:
    """Seconds that a fresh and a warm message take."""
    with inside(ends.receiver):
        listener = socket.create_server((ends.address, PORT))
    with inside(ends.sender):
        sender = socket.socket()
    for end in (listener, sender):
        try:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, ends.congestion.encode())
        except OSError:
            known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
            raise UserError(f"--congestion {ends.congestion}: this kernel has {', '.join(known)}") from None
    ended_s: list[float] = []
    arrived = threading.Semaphore(0)

    def receive() -> None:
        connection, _ = listener.accept()
        with connection:
            buffer = memoryview(bytearray(1 << 18))
            for _ in range(2):
                left = size_bytes
                while left:
                    left -= connection.recv_into(buffer, min(left, len(buffer))) or _broken()
                ended_s.append(time.monotonic())
                arrived.release()

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    message, begun_s = bytes(size_bytes), []
    with listener, sender:
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for warm in (False, True):
            time.sleep(2 * rtt_s + 8 * burst_bytes(rate_bps) / rate_bps + 0.01)  # the bucket is full
            drain(ends, burst_bytes(rate_bps))
            begun_s.append(time.monotonic())
            if not warm:
                sender.connect((ends.address, PORT))
                drain(ends, min(int(rate_bps * rtt_s / 8) - HEADER_BYTES, burst_bytes(rate_bps)))
            sender.sendall(message)
            if not arrived.acquire(timeout=4 * LONGEST_S):
                _broken()
        thread.join(5)
    fresh_s, warm_s = (end_s - begin_s for begin_s, end_s in zip(begun_s, ended_s, strict=True))
    return fresh_s, warm_s


def _broken() -> NoReturn:
    raise UserError("kernel-check: a connection inside a namespace broke off: run it again on an idle machine")


def drain(ends: Ends, size_bytes: int) -> None:
    """Take so much out of tbf's bucket, which has filled in a pause and would let the first bytes through at once."""
    with inside(ends.sender):
        filler = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with filler:
        while size_bytes >= UDP_HEADER_BYTES:
            packet = min(size_bytes, SEGMENT_BYTES)
            filler.sendto(bytes(packet - UDP_HEADER_BYTES), (ends.address, DRAIN_PORT))
            size_bytes -= packet


def without_delay(laboratory: Laboratory, quick: bool, congestion: str) -> list[Sent]:
    """Over a veth pair."""
    found: list[Sent] = []
    for number, rate_bps in enumerate(RATES_BPS):
        left, right = (laboratory.namespace(f"{side}{number}") for side in "ab")
        _, address = laboratory.veth(left, right, number, rate_bps, rate_bps)
        found += over(Ends(left, right, address, congestion), rate_bps, 0.0, 1.0 if quick else LONGEST_S)
        laboratory.drop(left)
        laboratory.drop(right)
    return found


def with_delay(laboratory: Laboratory, quick: bool, congestion: str) -> tuple[list[Sent], str]:
    """Over two tun interfaces and a process that holds every packet; and how well it did."""
    found, late = list[Sent](), list[str]()
    for rtt_s in RTTS_S:
        for number, rate_bps in enumerate(DELAYED_RATES_BPS):
            name = f"{congestion}{rtt_s * 1e3:.0f}x{number}"
            left, right = (laboratory.namespace(f"{name}{side}") for side in "ab")
            with delay_line((left, right), rtt_s / 2, rate_bps) as late_s:
                ends = Ends(left, right, ADDRESSES[1], congestion)
                found += over(ends, rate_bps, rtt_s, 1.0 if quick else DELAYED_LONGEST_S)
                late.append(f"{rate_text(rate_bps)} at {rtt_s * 1e3:g} ms {late_s() * 1e3:.1f}")
            laboratory.drop(left)
            laboratory.drop(right)
    return found, (
        f"The longest that a packet was held beyond its delay, in ms: {', '.join(late)}. Above some 5 ms (a busy host)"
        " messages of that link are later by it, and CUBIC may leave slow start too early."
    )


def over(ends: Ends, rate_bps: int, rtt_s: float, longest_s: float) -> list[Sent]:
    """All sizes that a link carries in time."""
    pair(ends, rate_bps, rtt_s, 1000)  # what the first packet of a namespace waits for: addresses, routes
    some = [size for size in SIZES_BYTES if expected_s(size, rate_bps, rtt_s, False) <= longest_s]
    return [sent for size in some for sent in measure(ends, rate_bps, rtt_s, size)]


def section(name: str, title: str, found: list[Sent], remarks: list[str]) -> Section:
    """Measured beside due."""
    rows = [["rate", "RTT, ms", "message", "connection", "due, s", "measured, s", "off, ms", "off, %", "close"]]
    for sent in found:
        what = [rate_text(sent.rate_bps), f"{sent.rtt_s * 1e3:g}", size_text(sent.size_bytes)]
        off = [f"{sent.off_s * 1e3:+.1f}", f"{100 * sent.off_s / sent.due_s:+.1f}"]
        times = [f"{sent.due_s:.4f}", f"{sent.measured_s:.4f}"]
        rows.append([*what, "warm" if sent.warm else "fresh", *times, *off, "yes" if sent.close else "NO"])
    share = 100 * sum(sent.close for sent in found) / len(found)
    target = Target("messages within 5 % or 5 ms of the model", share, "%", TARGET_PERCENT, True)
    return Section(name, title, rows, {"messages": [sent._asdict() for sent in found]}, [target], remarks)


def run(names: list[str], quick: bool, congestion: str) -> None:
    """Carry out the parts, and print each as soon as it is there."""
    with Laboratory() as laboratory:
        if "links" in names:
            found = without_delay(laboratory, quick, congestion)
            title = f"TCP ({congestion}) over a veth pair with tbf at both ends, beside the closed form"
            print(section("links", title, found, []).text(), flush=True)
        if "delay" in names:
            if why := no_tun():
                print(f"== delay: left out, since /dev/net/tun cannot be used here: {why}\n", flush=True)
            else:
                found, remark = with_delay(laboratory, quick, congestion)
                title = f"TCP ({congestion}) over tbf and a process that holds each packet for half the round trip"
                print(section("delay", title, found, [remark]).text(), flush=True)
        if "training" in names:
            if not (CGROUP / "cpu.cfs_quota_us").exists():
                print(f"== training: left out, since {CGROUP} has no quotas (control groups version 1)\n", flush=True)
            else:
                from benchmarks import plain_training

                print(plain_training.run(laboratory, quick).text(), flush=True)


PARTS = ("links", "delay", "training")


def main(argv: list[str]) -> int:
    """The exit status of a command line."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.kernel_check", description=__doc__)
    flags.add_argument("names", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; default: all")
    flags.add_argument("--quick", action="store_true", help="only short messages, and one round of training")
    flags.add_argument("--congestion", default="cubic", help="TCP's congestion control (default cubic, Linux's own)")
    chosen = flags.parse_args(argv)
    for name in chosen.names:
        if name not in PARTS:
            flags.error(f"{name}: there is none of this name; say any of {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if why := missing():
            raise UserError(f"kernel-check: {why}")
        run(chosen.names or list(PARTS), chosen.quick, chosen.congestion)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
