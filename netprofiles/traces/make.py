"""Made-up bandwidth traces, of which each says in its header how it was made and what it aims at.

Recorded traces may not be passed on, or age; these are models with published figures as their aims. ``make`` gives the
text of a CSV that ``traces`` reads; the same name, seed and seconds give the same bytes. What is drawn comes from one
named stream a purpose, and only from its ``random()``, which is the same in every version of Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, sqrt
from random import Random
from statistics import NormalDist
from textwrap import wrap
from typing import Literal

from msgspec import Struct

from emulator.errors import UserError
from emulator.piecewise import StepFunction
from emulator.traces.statistics import spread

SEED = 1  # of the shipped traces
SHORTEST_S, LONGEST_S = 30, 100_000
WIDTH = 120  # of a header
MICRO = 10**6
SLOT_S = 15  # of Starlink's schedule
REPETITION_S = 5  # of NB-IoT: a repetition level
PEAKS_KBPS = {"up_mbps": 62, "down_mbps": 26}  # of NB-IoT Cat-NB1
MAHIMAHI = "the range of means of the LTE traces that come with Mahimahi"
OOKLA = "Ookla, Starlink in the USA, first quarter of 2025"
HUSTON = "G. Huston, A transport protocol's view of Starlink, APNIC blog, 2024-05-17"
CAT_NB1 = "Cat-NB1 peak (network nb-iot says where it is from, and rounds 0.062 to 0.06)"


class Row(Struct):
    """What a link does from ``t_ms`` on; rates in Mbit/s."""

    t_ms: int
    up_mbps: float
    down_mbps: float
    rtt_ms: float = 0.0
    loss: float = 0.0


class Aim(Struct, frozen=True):
    """A statistic (a field of ``trace_statistics.Spread``) of a column, and between what it must lie.

    Where both are one number, the column is scaled to it.
    """

    column: str
    statistic: Literal["mean", "p50", "most", "zero_share", "longest_zero_s", "variation"]
    low: float
    high: float
    source: str


class Kind(Struct, frozen=True):
    """A model of a link: ``seconds``: length of the shipped trace; ``model``: how it is drawn, for the header.

    A trace is whole slots of ``slot_s`` long.
    """

    seconds: int
    model: str
    aims: tuple[Aim, ...]
    rows: Callable[[str, int], list[Row]]
    slot_s: int = 1
    whole_bps: int = 1000  # rates are rounded to so many bit/s
    columns: tuple[str, ...] = ("up_mbps", "down_mbps")


class Drive(Struct, frozen=True):
    """How a terminal moves through LTE cells: mean seconds in a condition, how a rate varies within it, outages."""

    mean_s: tuple[int, int, int]  # good, fair, poor
    shares: tuple[float, float, float]  # of the rate in good condition
    outage: float  # chance that poor ends in one
    longest_s: int
    memory: float  # of the logarithm, from second to second
    sigma: float  # of the logarithm


WALKING = Drive((40, 25, 12), (1.0, 0.55, 0.22), outage=0.15, longest_s=1, memory=0.9, sigma=0.25)
DRIVING = Drive((9, 8, 6), (1.0, 0.45, 0.12), outage=0.4, longest_s=5, memory=0.7, sigma=0.45)


class Draws:
    """One stream of numbers, named after its purpose."""

    def __init__(self, stream: str) -> None:
        self.uniform = Random(stream).random
        self._quantile = NormalDist().inv_cdf

    def normal(self) -> float:
        return self._quantile(max(self.uniform(), 2.0**-54))

    def whole(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both of them possible."""
        return low + int(self.uniform() * (high - low + 1))


def autoregressive(draws: Draws, memory: float, sigma: float) -> Iterator[float]:
    """exp(x) of x(n+1) = memory x(n) + sqrt(1 - memory^2) sigma e: log-normal, median 1, AR(1), stationary."""
    x = sigma * draws.normal()
    while True:
        yield exp(x)
        x = memory * x + sqrt(1 - memory**2) * sigma * draws.normal()


def conditions(draws: Draws, drive: Drive) -> Iterator[float]:
    """Second after second, the share of the good rate: a chain good - fair - poor, with outages out of poor.

    Each second a condition is left with probability 1 / its mean; fair goes either way alike. An outage lasts a whole
    number of seconds, all up to the longest alike, and ends in poor condition.
    """
    condition = 1
    while True:
        yield drive.shares[condition]
        if draws.uniform() >= 1 / drive.mean_s[condition]:
            continue
        if condition == 1:
            condition = 0 if draws.uniform() < 0.5 else 2
        elif condition == 2 and draws.uniform() < drive.outage:
            yield from [0.0] * draws.whole(1, drive.longest_s)
        else:
            condition = 1


def lte(drive: Drive) -> Callable[[str, int], list[Row]]:
    """A rate a second in each direction; both see the same conditions."""

    def rows(stream: str, seconds: int) -> list[Row]:
        share = conditions(Draws(f"{stream}:conditions"), drive)
        up = autoregressive(Draws(f"{stream}:up"), drive.memory, drive.sigma)
        down = autoregressive(Draws(f"{stream}:down"), drive.memory, drive.sigma)
        return [Row(t * 1000, now * next(up), now * next(down)) for t, now in zip(range(seconds), share, strict=False)]

    return rows


def nb_iot(stream: str, seconds: int) -> list[Row]:
    """Every 5 s a repetition level k from 0 to 5, one up or down at most: the peak rates divided by 2^k."""
    draws, level = Draws(f"{stream}:repetitions"), 0
    rows = []
    for t in range(0, seconds, REPETITION_S):
        up, down = (kbps / 1000 / 2**level for kbps in PEAKS_KBPS.values())
        rows.append(Row(t * 1000, up, down))
        draw = draws.uniform()
        level = max(level - 1, 0) if draw < 0.25 else min(level + 1, 5) if draw < 0.45 else level
    return rows


def starlink(stream: str, seconds: int) -> list[Row]:
    """Slots of 15 s: another satellite, so another rate and round trip, and nothing for 50-250 ms at its beginning."""
    slots, drops = Draws(f"{stream}:slots"), Draws(f"{stream}:drops")
    varies = {side: autoregressive(Draws(f"{stream}:{side}"), 0.5, 0.12) for side in ("up", "down")}
    wobble = Draws(f"{stream}:delay")
    rows = []
    up = down = rtt_ms = 1.0
    for t in range(seconds):
        first = t % SLOT_S == 0
        if first:
            up, down = exp(0.3 * slots.normal()), exp(0.35 * slots.normal())
            rtt_ms = 38 * exp(0.12 * slots.normal())
        now_ms = rtt_ms + 5 * abs(wobble.normal()) + (30 if first else 0)
        row = Row(t * 1000, up * next(varies["up"]), down * next(varies["down"]), now_ms, 0.02 if first else 0.001)
        if first:
            rows.append(Row(row.t_ms, 0.0, 0.0, now_ms, row.loss))
            row.t_ms += drops.whole(50, 250)
        rows.append(row)
    return rows


def lte_model(who: str, drive: Drive) -> str:
    """How an LTE trace is drawn, in words."""
    means = ", ".join(f"{name} {s} s" for name, s in zip(("good", "fair", "poor"), drive.mean_s, strict=True))
    lengths = f"1 to {drive.longest_s} s, all alike" if drive.longest_s > 1 else "1 s"
    return (
        f"LTE, {who}: conditions change by a Markov chain with steps of 1 s (mean stay: {means}), medians of the rate "
        f"{drive.shares[1]:g} (fair) and {drive.shares[2]:g} (poor) times that of good; with probability "
        f"{drive.outage:g} poor ends in an outage of {lengths}. Both directions share the conditions; each has its own "
        f"log-normal AR(1), coefficient {drive.memory:g} from second to second, deviation of the logarithm "
        f"{drive.sigma:g}. These parameters are chosen; the rates are scaled to the means below."
    )


KINDS = {
    "lte-walking": Kind(
        seconds=600,
        model=lte_model("on foot", WALKING),
        aims=(
            Aim("down_mbps", "mean", 10.0, 10.0, f"within 4.6-16.7, {MAHIMAHI}"),
            Aim("up_mbps", "mean", 5.0, 5.0, f"within 0.8-13.3, {MAHIMAHI}"),
            Aim("down_mbps", "variation", 0.3, 0.7, "chosen: less than when driving"),
            Aim("down_mbps", "longest_zero_s", 0.0, 1.0, "chosen"),
        ),
        rows=lte(WALKING),
    ),
    "lte-driving": Kind(
        seconds=600,
        model=lte_model("in a car", DRIVING),
        aims=(
            Aim("down_mbps", "mean", 7.0, 7.0, f"within 4.6-16.7, {MAHIMAHI}"),
            Aim("up_mbps", "mean", 3.0, 3.0, f"within 0.8-13.3, {MAHIMAHI}"),
            Aim("down_mbps", "variation", 0.7, 1.2, "chosen: more than when walking"),
            Aim("down_mbps", "longest_zero_s", 2.0, 5.0, "chosen"),
        ),
        rows=lte(DRIVING),
    ),
    "nb-iot": Kind(
        seconds=600,
        model="NB-IoT: every 5 s a repetition level k from 0 to 5, both rates their peak / 2^k; k falls by one with"
        " probability 0.25 and rises by one with 0.2, which is chosen.",
        aims=(
            Aim("down_mbps", "most", 0.026, 0.026, CAT_NB1),
            Aim("up_mbps", "most", 0.062, 0.062, CAT_NB1),
        ),
        rows=nb_iot,
        slot_s=REPETITION_S,
        whole_bps=1,
    ),
    "starlink": Kind(
        seconds=300,
        model="Starlink: slots of 15 s, each with rates and a round trip of its own, log-normal, deviation of the"
        " logarithm 0.3 (up), 0.35 (down), 0.12 (round trip). Within a slot the rates vary by a log-normal AR(1),"
        " coefficient 0.5 from second to second, deviation 0.12, the round trip by |N(0, 1)| x 5 ms; in a slot's first"
        " second it is 30 ms longer. A slot begins with 50 to 250 ms in which nothing is sent; 2 % are lost in its"
        f" first second, 0.1 % in the others. Slots and their 30 ms: {HUSTON}. The rest is chosen; rates and round"
        " trips are scaled to the medians below.",
        aims=(
            Aim("down_mbps", "p50", 104.71, 104.71, OOKLA),
            Aim("up_mbps", "p50", 14.84, 14.84, OOKLA),
            Aim("rtt_ms", "p50", 45.0, 45.0, OOKLA),
            Aim("down_mbps", "longest_zero_s", 0.05, 0.25, "chosen"),
        ),
        rows=starlink,
        slot_s=SLOT_S,
        columns=("up_mbps", "down_mbps", "rtt_ms", "loss"),
    ),
}


def make(name: str, seed: int = SEED, seconds: int | None = None) -> str:
    """The text of a trace as CSV, of ``seconds`` rounded up to whole slots.

    Raises ``UserError`` for an unknown name or an impossible length.
    """
    if name not in KINDS:
        raise UserError(f"traces make {name}: there is no such model; say one of {', '.join(KINDS)}")
    kind = KINDS[name]
    length_s = kind.seconds if seconds is None else seconds
    if not SHORTEST_S <= length_s <= LONGEST_S:
        raise UserError(f"--seconds {length_s}: say a number from {SHORTEST_S} to {LONGEST_S}")
    length_s = -(-length_s // kind.slot_s) * kind.slot_s
    rows = kind.rows(f"{name}:{seed}", length_s)
    for aim in kind.aims:
        if aim.low == aim.high and aim.statistic != "most":
            scale(rows, aim, length_s)
    for row in rows:
        row.up_mbps, row.down_mbps = (
            round(rate * MICRO / kind.whole_bps) * kind.whole_bps / MICRO for rate in (row.up_mbps, row.down_mbps)
        )
    lines = [f"# Made by `python run.py traces make {name} --seed {seed} --seconds {length_s}`, not recorded."]
    for text in (kind.model, *(f"Aim: {aim_text(aim)}" for aim in kind.aims)):
        lines += wrap(text, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)
    lines += [",".join(("time_s", *kind.columns))]
    lines += [",".join([short(row.t_ms / 1000, 3), *(cell(row, column) for column in kind.columns)]) for row in rows]
    return "\n".join(lines) + "\n"


def scale(rows: list[Row], aim: Aim, length_s: int) -> None:
    """Multiplies a column so that its statistic is the one aimed at."""
    values = tuple(round(getattr(row, aim.column) * MICRO) for row in rows)
    steps = StepFunction(tuple(row.t_ms * MICRO for row in rows), values, length_s * 10**9)
    factor = aim.low / getattr(spread(steps, 1, MICRO), aim.statistic)
    for row in rows:
        setattr(row, aim.column, getattr(row, aim.column) * factor)


def aim_text(aim: Aim) -> str:
    """An aim as a line of the header."""
    words = {"p50": "median", "most": "largest", "longest_zero_s": "longest outage (s)", "zero_share": "share at zero"}
    span = f"{aim.low:g}" if aim.low == aim.high else f"{aim.low:g} to {aim.high:g}"
    return f"{words.get(aim.statistic, aim.statistic)} of {aim.column} {span}; {aim.source}"


def cell(row: Row, column: str) -> str:
    value = getattr(row, column)
    return short(value, 2 if column == "rtt_ms" else 6)


def short(value: float, digits: int) -> str:
    """Without zeros at the end."""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")
