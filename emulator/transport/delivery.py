"""Events of messages on their way, as the network records them, in a process of its own and in-process."""

from __future__ import annotations

from emulator.ledger.events import Transmitted, Undelivered
from emulator.network.jitter import Transmission
from emulator.transport.messages import Header


def transmitted(
    header: Header,
    source: str,
    destination: str,
    wire_bytes: int,
    posted_ns: int,
    actual_ns: int,
    transmission: Transmission,
) -> Transmitted:
    """The last bit of a message has left."""
    times = transmission._asdict()
    return Transmitted(
        due_ns=times.pop("left_ns"),
        actual_ns=actual_ns,
        counter=header.counter,
        source=source,
        destination=destination,
        kind=header.kind,
        wire_bytes=wire_bytes,
        payload_bytes=header.payload_bytes,
        posted_ns=posted_ns,
        **times,
    )


def undelivered(header: Header, source: str, destination: str, due_ns: int, actual_ns: int) -> Undelivered:
    """A message had not arrived when its destination had ended, or the run."""
    return Undelivered(
        due_ns=due_ns,
        actual_ns=actual_ns,
        counter=header.counter,
        source=source,
        destination=destination,
        kind=header.kind,
        payload_bytes=header.payload_bytes,
    )
