"""Power of devices and radios: graded numbers in nW, ns and aJ/bit, and the range in which each may lie."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Grade = Literal["", "A", "B", "C", "R"]


class Graded(Struct, frozen=True):
    """A number in its integer unit, with the grade of its source; "" where the file gives none."""

    value: int
    grade: Grade = ""


class DevicePower(Struct, frozen=True, kw_only=True):
    """A board's power in nW: while it trains, else ``idle``; ``suspended`` while it neither computes nor communicates,
    where its profile says that it sleeps then.

    ``supply_efficiency`` in 10^-9: the numbers were measured in front of a supply that passes on so much of them.
    ``battery`` in µJ.
    """

    idle: Graded
    busy: Graded
    supply_efficiency: Graded | None = None
    suspended: Graded | None = None
    battery: Graded | None = None


class RadioPower(Struct, frozen=True, kw_only=True):
    """A radio's power in nW by state; a published linear model has ``base``, ``tx_per_bit`` and ``rx_per_bit`` in place
    of ``tx`` and ``rx``: the power while anything is under way, and aJ for each bit.

    connected: with nothing on the air; it lasts for ``tail`` ns after the last bit. drx: a lower state that follows,
    for ``drx_tail`` ns. sleep: after that, until the next bit, before which the radio takes ``promotion_time`` ns at
    ``promotion``.
    """

    connected: Graded
    tail: Graded
    sleep: Graded
    tx: Graded | None = None
    rx: Graded | None = None
    base: Graded | None = None
    tx_per_bit: Graded | None = None
    rx_per_bit: Graded | None = None
    drx: Graded | None = None
    drx_tail: Graded | None = None
    promotion: Graded | None = None
    promotion_time: Graded | None = None
