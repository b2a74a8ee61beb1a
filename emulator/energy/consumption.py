"""Joules as power numbers times what they are drawn for; their range, and differences of two methods.

Energy is linear in powers: in W for time, in aJ a bit. What is not (how long a tail and DRX last, how long a promotion
takes, what share of its input a supply passes on) are *shapes*: energy is counted anew with each at the ends of its
grade's uncertainty. So the range of a sum is that over all ends of all numbers, found by each number's own sign; a
number that two methods share has the same value for both in every difference.

Whole numbers of aJ x 10^-9 (nW x ns x parts in 10^9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from emulator.energy.passage import ClientActivity
from emulator.energy.powers import Powers, ends, numbers_of
from emulator.energy.radio import RadioStates, radio_states
from emulator.profiles.power import DevicePower, Graded, RadioPower
from emulator.spans import Integers, covered_ns, joined

CAUSES = ("compute", "sending", "receiving", "tail", "idle")
SHAPES = ("tail", "drx_tail", "promotion_time", "supply_efficiency")  # in what energy is not linear
WHOLE = 10**9  # of a supply that loses nothing
JOULE = 10**27  # in the unit here

Power = DevicePower | RadioPower
Owner = tuple[str, Power]  # a device or network with its numbers
Uses = dict[tuple[str, str], list[int]]  # by cause and number, what it is drawn for until each moment: ns, or bits
Shape = dict[str, int]


class Consumption(NamedTuple):
    """What a method's clients draw of each device and network: for each combination of shapes, the first the nominal
    one, the uses of its powers; ``moments`` is how many ends they are counted until."""

    uses: dict[Owner, list[tuple[int, Uses]]]  # with the shape's factor
    moments: int

    def times(self, factor: int) -> Consumption:
        """So many times as much of everything."""
        more = {
            owner: [(shape, {key: [factor * n for n in counts] for key, counts in uses.items()}) for shape, uses in all]
            for owner, all in self.uses.items()
        }
        return Consumption(more, self.moments)

    def joules(self) -> list[float]:
        """Nominal joules until each moment."""
        return [sum(by_cause.values()) for by_cause in self.by_cause()]

    def by_cause(self) -> list[dict[str, float]]:
        """Nominal joules by ``CAUSES`` until each moment."""
        found = [dict.fromkeys(CAUSES, 0) for _ in range(self.moments)]
        for (_, power), shapes in self.uses.items():
            numbers = numbers_of(power)
            factor, uses = shapes[0]
            for (cause, name), counts in uses.items():
                for each, count in zip(found, counts, strict=True):
                    each[cause] += numbers[name].value * factor * count
        return [{cause: total / JOULE for cause, total in each.items()} for each in found]


def consumption(
    powers: Sequence[Powers], activities: Sequence[ClientActivity], moments_ns: Integers, *, with_ends: bool = True
) -> Consumption:
    """Of clients whose powers are all known; ``with_ends``: with shapes at their ends too, for ``range_of``."""
    found: dict[Owner, list[tuple[int, Uses]]] = {}
    for each, activity in zip(powers, activities, strict=True):
        assert each.board and each.radio
        board = _of_board(each.board, activity, moments_ns)
        _add(found, (each.device, each.board), [(shape, board) for shape in _shapes(each.board, with_ends)])
        radio = [
            (shape, _of_radio(each.radio, activity, shape, moments_ns)) for shape in _shapes(each.radio, with_ends)
        ]
        _add(found, (each.network, each.radio), radio)
    return Consumption(found, len(moments_ns))


def _add(found: dict[Owner, list[tuple[int, Uses]]], owner: Owner, more: Sequence[tuple[Shape, Uses]]) -> None:
    """Adds a client's uses to those of the others with the same device or network."""
    known = found.setdefault(owner, [(shape.get("supply_efficiency", WHOLE), {}) for shape, _ in more])
    for (_, total), (_, uses) in zip(known, more, strict=True):
        for key, counts in uses.items():
            before = total.get(key)
            total[key] = [a + b for a, b in zip(before, counts, strict=True)] if before else counts


def _shapes(power: Power, with_ends: bool) -> Iterator[Shape]:
    """The shapes of a device or radio: nominal, and every combination of their ends."""
    shaping = {name: number for name, number in numbers_of(power).items() if name in SHAPES}
    yield {name: number.value for name, number in shaping.items()}
    if with_ends:
        for values in product(*(_ends_of_shape(name, number) for name, number in shaping.items())):
            yield dict(zip(shaping, values, strict=True))


def _ends_of_shape(name: str, number: Graded) -> tuple[int, int]:
    least, most = ends(number)
    return (least, min(most, WHOLE)) if name == "supply_efficiency" else (least, most)


def _of_board(power: DevicePower, activity: ClientActivity, moments_ns: Integers) -> Uses:
    """A board is busy while it computes; else it idles, or sleeps while nothing passes its radio either."""
    busy_ns = covered_ns(activity.computing, moments_ns)
    if power.suspended is None:
        return {("compute", "busy"): busy_ns.tolist(), ("idle", "idle"): (moments_ns - busy_ns).tolist()}
    awake_ns = covered_ns(joined(activity.computing, activity.on_air), moments_ns)
    return {
        ("compute", "busy"): busy_ns.tolist(),
        ("idle", "idle"): (awake_ns - busy_ns).tolist(),
        ("idle", "suspended"): (moments_ns - awake_ns).tolist(),
    }


def _of_radio(power: RadioPower, activity: ClientActivity, shape: Shape, moments_ns: Integers) -> Uses:
    """By state: ``tx`` and ``rx`` are drawn for airtime, in place of ``connected``, which the rest of the span draws.
    Linear (Huang et al., MobiSys 2012): ``base`` for the span, and so much a bit."""
    states = radio_states(activity.on_air, activity.sending, shape["tail"], shape.get("drx_tail", 0), moments_ns)
    uses: Uses = {
        ("tail", "connected"): states.tail_ns.tolist(),
        ("tail", "drx"): states.drx_ns.tolist(),
        ("tail", "promotion"): (states.promotions * shape.get("promotion_time", 0)).tolist(),
        ("idle", "sleep"): states.asleep_ns.tolist(),
    }
    for cause, in_air, on in (("sending", activity.up, "tx"), ("receiving", activity.down, "rx")):
        uses |= _passing(power, cause, on, states, *in_air.until(moments_ns))
    has = numbers_of(power)
    return {key: counts for key, counts in uses.items() if key[1] in has}


def _passing(power: RadioPower, cause: str, on: str, states: RadioStates, airtime: list[int], bits: list[int]) -> Uses:
    spans = (states.sending_ns if cause == "sending" else states.receiving_ns).tolist()
    if power.base is not None:
        return {(cause, "base"): spans, (cause, f"{on}_per_bit"): bits}
    rest = [span - air for span, air in zip(spans, airtime, strict=True)]
    return {(cause, on): airtime, (cause, "connected"): rest}


def range_of(found: Consumption) -> tuple[float, float]:
    """The least and the most joules until the last moment, over all ends of all numbers."""
    return _range(found, {})


def difference(of: Consumption, to: Consumption) -> tuple[float, float]:
    """The least and the most joules that one draws beyond another until their last moments, with equal numbers."""
    return _range(of, to.uses)


def _range(of: Consumption, less: Mapping[Owner, list[tuple[int, Uses]]]) -> tuple[float, float]:
    least = most = 0
    for owner in {**of.uses, **less}:
        numbers = {name: (number.value, *ends(number)) for name, number in numbers_of(owner[1]).items()}
        lows, highs = [], []
        for i, (factor, _) in enumerate(of.uses.get(owner, less.get(owner, []))):
            counts: dict[str, int] = {}
            for sign, uses in ((1, of.uses), (-1, less)):
                for (_, name), until in uses[owner][i][1].items() if owner in uses else ():
                    counts[name] = counts.get(name, 0) + sign * until[-1]
            of_ends = [[factor * count * end for end in numbers[name]] for name, count in counts.items()]
            lows.append(sum(map(min, of_ends)))
            highs.append(sum(map(max, of_ends)))
        least, most = least + min(lows), most + max(highs)
    return least / JOULE, most / JOULE
