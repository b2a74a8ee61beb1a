"""Devices as arithmetic: how long a counted amount of work takes.

    duration = operations x dispatch + dense FLOPs / dense rate + depthwise FLOPs / depthwise rate
             + bytes / memory rate

Every dispatched operation costs ``dispatch_ns``, because on a small board the dispatches outweigh a small model's
arithmetic. Two FLOP rates, because measured boards do depthwise convolutions far below their dense rate. What counts
no FLOPs (normalisation, activation, optimizer, averaging) costs the bytes it touches. A multiply-add is two FLOPs.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

SECOND_NS = 10**9


class Work(msgspec.Struct, frozen=True):
    """The work of a computation. ``unknown``: operators counted by their bytes, whose arithmetic is not known."""

    operations: int = 0
    dense_flops: int = 0
    depthwise_flops: int = 0
    moved_bytes: int = 0
    unknown: tuple[str, ...] = ()

    def __add__(self, other: Work) -> Work:
        return Work(
            self.operations + other.operations,
            self.dense_flops + other.dense_flops,
            self.depthwise_flops + other.depthwise_flops,
            self.moved_bytes + other.moved_bytes,
            self.unknown + tuple(name for name in other.unknown if name not in self.unknown),
        )


class Speed(Protocol):
    """The rates of a device: FLOP/s, bytes/s, ns per dispatched operation."""

    @property
    def dense_flops(self) -> int: ...
    @property
    def depthwise_flops(self) -> int: ...
    @property
    def memory_rate_bytes(self) -> int: ...
    @property
    def dispatch_ns(self) -> int: ...


def duration_ns(work: Work, speed: Speed) -> int:
    """Modelled time of ``work``: each term rounded up to a whole nanosecond."""
    return (
        work.operations * speed.dispatch_ns
        - (-work.dense_flops * SECOND_NS // speed.dense_flops)
        - (-work.depthwise_flops * SECOND_NS // speed.depthwise_flops)
        - (-work.moved_bytes * SECOND_NS // speed.memory_rate_bytes)
    )
