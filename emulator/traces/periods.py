"""Traces as JSON of periods: a list of ``{"duration_ms": 1005, "bandwidth_kbps": 1600, "latency_ms": 100}``.

Each key names its unit. The bandwidth holds up and down; the latency is a round trip (what a request waits for its
first byte, as in the simulators that have this format), half of it each way.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from emulator.inputs.text_files import SourceLine, profile_error, shown
from emulator.piecewise import StepFunction, merged
from emulator.traces.rows import MOST_BPS, MOST_S, RATES, RTT, TIMES, TraceColumn, parse_integer

DURATIONS = {
    f"duration_{unit}": TraceColumn("time", f"duration_{unit}", scale, MOST_S * 10**9, unit, f"give {unit}")
    for unit, scale in TIMES.items()
}
BANDWIDTHS = {
    f"bandwidth_{unit}": TraceColumn("rate", f"bandwidth_{unit}", scale, MOST_BPS, written, f"give {written}")
    for unit, (scale, written) in RATES.items()
}
LATENCY = TraceColumn("rtt", "latency_ms", RTT.scale, RTT.most, RTT.unit, RTT.remedy, RTT.parts)
KEYS = {**DURATIONS, **BANDWIDTHS, "latency_ms": LATENCY}
USUAL = "duration_ms, bandwidth_kbps and perhaps latency_ms"


def read(file: str, text: str) -> dict[str, StepFunction]:
    """Steps of up, down and, where periods have a latency, rtt (one way, in ns)."""
    periods = _parsed(file, text)
    if not isinstance(periods, list) or not periods:
        raise profile_error(file, "", f"must be a list of periods in JSON, each with {USUAL}")
    starts: list[int] = []
    values: dict[str, list[int]] = {}
    end_ns = 0
    names: list[str] = []
    for i, period in enumerate(periods):
        place = f"[{i}]"
        if not isinstance(period, dict):
            raise profile_error(file, place, f"must be a period, with {USUAL}")
        if i == 0:
            names = _names(file, place, period)
        elif set(period) != set(names):
            odd = sorted(set(period) ^ set(names))[0]
            raise profile_error(file, f"{place}.{odd}", "is in some periods and not in others; give all the same keys")
        starts.append(end_ns)
        for name in names:
            column, value = KEYS[name], period[name]
            if isinstance(value, bool) or not isinstance(value, Decimal):
                raise profile_error(file, f"{place}.{name}", "must be a number such as 2.5, without quotes")
            number = parse_integer(SourceLine(f"{file}: {place}", ""), column, str(value), "")
            if column.quantity == "time":
                if number == 0:
                    raise profile_error(file, f"{place}.{name}", "must be above 0; leave the period out")
                end_ns += number
            else:
                values.setdefault(column.quantity, []).append(number)
    if end_ns > MOST_S * 10**9:
        raise profile_error(file, "", f"lasts longer than {MOST_S} s; durations must be in the unit that they name")
    found = {quantity: merged(starts, column, end_ns) for quantity, column in values.items()}
    rate = found.pop("rate")
    return {"up": rate, "down": rate, **found}


def _parsed(file: str, text: str) -> Any:
    def once(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        if len(set(keys)) < len(keys):
            twice = next(key for i, key in enumerate(keys) if key in keys[:i])
            raise profile_error(file, twice, "is there twice in one period; leave one out")
        return dict(items)

    def refused(word: str) -> Any:
        raise profile_error(file, "", f"{word} is no finite number; give one, or leave the period out")

    try:
        return json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=refused, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise profile_error(
            f"{file}:{error.lineno}", "", f"is no JSON ({error.msg}); write a list of periods"
        ) from None
    except (RecursionError, InvalidOperation):
        raise profile_error(file, "", "is no list of periods in JSON, or has a number out of range") from None


def _names(file: str, place: str, period: dict[str, Any]) -> list[str]:
    """The keys of a period: one for its duration, one for its rate, and a latency or none."""
    for name in period:
        if name not in KEYS:
            raise profile_error(file, f"{place}.{name}", f"unknown key {shown(name)}; a period has {USUAL}")
    for known, example in ((DURATIONS, "duration_ms"), (BANDWIDTHS, "bandwidth_kbps")):
        there = [name for name in period if name in known]
        if len(there) != 1:
            problem = "missing" if not there else f"is there as {' and '.join(there)}"
            raise profile_error(file, f"{place}.{example}", f"{problem}; a period has {USUAL}")
    return list(period)
