"""Networks and cells from their profile files: rates, delays and losses as numbers, or as the traces they follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from emulator.inputs.text_files import profile_error
from emulator.piecewise import StepFunction
from emulator.profiles.power_reading import radio_power
from emulator.profiles.scenario import Cell, Direction, Network
from emulator.profiles.schema import CellPart, Document, NetworkFile, TraceFile, to_integer_unit, unit_of
from emulator.traces import reading

SIDES = ("up", "down")


class _Link(Struct, frozen=True):
    """The rates of a link or a cell, and of its traces what the file says beside them."""

    rates_bps: tuple[int, int]
    traces: tuple[reading.Trace | None, reading.Trace | None]


def _link(file: str, where: str, part: NetworkFile | CellPart, base: Path, files: dict[str, str]) -> _Link:
    """Rates up and down: numbers of the file, or what its traces say."""
    each = [getattr(part, f"{side}_trace") for side in SIDES]
    if part.trace is not None and each != [None, None]:
        raise profile_error(file, f"{where}trace", "give either trace, or up_trace and down_trace, not both")
    own = each if part.trace is None else [part.trace, part.trace]
    found: list[reading.Trace | None] = []
    rates: list[int] = []
    for side, said in zip(SIDES, own, strict=True):
        key, number = f"{where}{side}_mbps", getattr(part, f"{side}_mbps")
        if said is None:
            if number is None:
                remedy = f"{side}_mbps = NUMBER, in Mbit/s, or {side}_trace = NAME"
                raise profile_error(file, key, f"missing; write {remedy}; trace = NAME is for both directions")
            found.append(None)
            rates.append(to_integer_unit(file, key, number))
            continue
        key_of_trace = f"{where}{side}_trace" if part.trace is None else f"{where}trace"
        if number is not None:
            remedy = "leave one of the two out"
            if part.trace is not None:
                other = SIDES[1 - SIDES.index(side)]
                remedy += f", or write {other}_trace for the other direction alone"
            raise profile_error(file, key, f"the rate comes from the trace; {remedy}")
        trace = _trace(file, key_of_trace, said, base)
        files[trace.file.removeprefix("netprofiles/")] = trace.sha256
        steps = trace.up if side == "up" else trace.down
        if steps is None:
            other = SIDES[1 - SIDES.index(side)]
            remedy = f"write {other}_trace = … for what it has, and {side}_mbps = NUMBER, in Mbit/s"
            raise profile_error(file, key_of_trace, f"{trace.file} has rates {other} alone; {remedy}")
        found.append(trace)
        rates.append(max(steps.values))
    return _Link((rates[0], rates[1]), (found[0], found[1]))


def _trace(file: str, key: str, said: str | TraceFile, base: Path) -> reading.Trace:
    """The trace that a key names, alone or in a table with its units."""
    if isinstance(said, str):
        return reading.find_trace(said, file, key, base)
    form = reading.Form(said.time, said.rate, said.format, said.holds)
    return reading.find_trace(said.file, file, f"{key}.file", base, form)


def network_of(document: Document, files: dict[str, str]) -> Network:
    """The network in a file; adds the traces that it names to ``files``."""
    typed, file = document.typed, document.shown
    assert isinstance(typed, NetworkFile)
    link = _link(file, "", typed, document.path.parent, files)
    _not_twice(file, typed, link)
    lossy = [trace is not None and trace.losses is not None for trace in link.traces]
    directions = zip(
        SIDES,
        link.rates_bps,
        _delays(file, typed, link),
        _both_or_each(file, typed, "jitter_ms", 0),
        _both_or_each(file, typed, "loss_percent", 0, (lossy[0], lossy[1])),
        strict=True,
    )
    up, down = (
        Direction(rate, delay, jitter, loss, *_followed(typed, side, link))
        for side, rate, delay, jitter, loss in directions
    )
    for side, direction in (("up", up), ("down", down)):
        if direction.loss_ppb >= 10**9:
            key = "loss_percent" if typed.loss_percent else f"{side}_loss_percent"
            raise profile_error(file, key, "must be below 100: nothing would ever arrive")
    start_ns = to_integer_unit(file, "trace_start_s", typed.trace_start_s) if typed.trace_start_s else None
    if start_ns is not None and not any(link.traces):
        raise profile_error(file, "trace_start_s", "this link follows no trace; leave it out, or write trace = NAME")
    return Network(
        document.path.stem,
        *(up, down),
        typed.duplex,
        typed.transport,
        typed.rate_kind,
        start_ns,
        radio_power(file, typed),
    )


def _both_or_each(
    file: str, typed: NetworkFile, key: str, default: int | None, traced: tuple[bool, bool] = (False, False)
) -> Iterator[int]:
    """A number for both directions, or one for each; 0 for those that have it from a trace."""
    shared, sides = getattr(typed, key), [getattr(typed, f"{side}_{key}") for side in SIDES]
    if shared and any(sides):
        raise profile_error(file, key, f"give either {key}, or up_{key} and down_{key}, not both")
    for side, own, is_traced in zip(SIDES, sides, traced, strict=True):
        if own or shared:
            yield to_integer_unit(file, f"{side}_{key}" if own else key, own or shared)
        elif is_traced:
            yield 0
        elif default is None or any(sides):
            missing = f"{side}_{key}" if any(sides) else key
            remedy = f"{key} = NUMBER, in {unit_of(key).text}, or up_{key} and down_{key}"
            raise profile_error(file, missing, f"missing; write {remedy}")
        else:
            yield default


def _delays(file: str, typed: NetworkFile, link: _Link) -> Iterator[int]:
    """One-way delays in ns; a trace with round trips speaks for both directions."""
    if typed.rtt_ms is None:
        is_traced = any(trace and trace.delays for trace in link.traces)
        yield from _both_or_each(file, typed, "one_way_ms", None, (is_traced, is_traced))
        return
    if typed.one_way_ms or typed.up_one_way_ms or typed.down_one_way_ms:
        raise profile_error(file, "rtt_ms", "give either rtt_ms or one_way_ms, not both")
    rtt_ns = to_integer_unit(file, "rtt_ms", typed.rtt_ms)
    yield from (rtt_ns // 2, rtt_ns - rtt_ns // 2)


def _not_twice(file: str, typed: NetworkFile, link: _Link) -> None:
    """Refuse numbers for what a trace says: one of the two would be without effect."""
    for column, steps, keys in (
        ("rtt_ms", "delays", ("rtt_ms", "one_way_ms")),
        ("loss", "losses", ("loss_percent",)),
    ):
        for side, trace in zip(SIDES, link.traces, strict=True):
            if trace is None or getattr(trace, steps) is None:
                continue
            for key in (*keys, f"{side}_{keys[-1]}"):
                if getattr(typed, key) is not None:
                    raise profile_error(file, key, f"{trace.file} has a column {column}; leave one of the two out")


def _followed(
    typed: NetworkFile, side: str, link: _Link
) -> tuple[StepFunction | None, StepFunction | None, StepFunction | None]:
    """Rates, delays and losses of a direction that come from traces; round trips are those of both directions."""
    trace = link.traces[SIDES.index(side)]
    delays = trace.delays if trace else None
    if delays is None and getattr(typed, f"{side}_one_way_ms") is None:
        delays = next((other.delays for other in link.traces if other and other.delays), None)
    if trace is None:
        return None, delays, None
    return (trace.up if side == "up" else trace.down), delays, trace.losses


def cell_of(file: str, i: int, part: CellPart, base: Path, files: dict[str, str]) -> Cell:
    """The cell of a scenario's group ``cells[i]``; adds the traces that it names to ``files``."""
    link = _link(file, f"cells[{i}].", part, base, files)
    up, down = link.traces
    rates = up.up if up else None, down.down if down else None
    return Cell(part.name, *link.rates_bps, part.duplex, *rates)
