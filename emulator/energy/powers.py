"""Power numbers of clients, how far each may lie from the truth, and profiles that stand in for a record's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from emulator.profiles.power import DevicePower, Grade, Graded, RadioPower

# How far a number may lie from the truth, by the grade of its source, in percent of it: least and most. Instruments and
# boards of one kind differ by some percent (A); a data sheet's typical value is met within 15 % (B), and a single
# tester's within 30 % (C), which is what published models err by on hardware that they were not fitted to; an
# assumption is taken to be right within a factor of two.
UNCERTAINTY: dict[Grade, tuple[int, int]] = {"A": (95, 105), "B": (85, 115), "C": (70, 130), "R": (50, 200)}
GRADES = "ABCR"  # best first
Kind = Literal["device", "network"]


class Powers(NamedTuple):
    """Power of a client's device and of its network's radio, with the names of the two; None: not known."""

    device: str
    board: DevicePower | None
    network: str
    radio: RadioPower | None


class PowerFiles(NamedTuple):
    """Power numbers by name of a device or network, which stand in for those of a record."""

    devices: Mapping[str, DevicePower] = {}
    networks: Mapping[str, RadioPower] = {}


def grade_of(number: Graded) -> Grade:
    """The grade of a number; of one whose file gives none, that of an assumption."""
    return number.grade or "R"


def ends(number: Graded) -> tuple[int, int]:
    """The least and the most that a number may be, by its grade."""
    least, most = UNCERTAINTY[grade_of(number)]
    return number.value * least // 100, number.value * most // 100


def numbers_of(power: DevicePower | RadioPower) -> dict[str, Graded]:
    """The numbers that it has, by name."""
    return {name: number for name, number in msgspec.structs.asdict(power).items() if number is not None}
