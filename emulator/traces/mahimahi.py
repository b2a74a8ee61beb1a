"""Mahimahi's traces: whole numbers of ms, each an opportunity to send 1500 bytes (Netravali et al., USENIX ATC 2015).

Repeats mean several; the last number is the length after which the trace starts over. Opportunities are counted in bins
of ``BIN_MS``: short enough that a message of a few kB sees a link change, long enough that a link changes some 50 times
a second rather than at each packet.
"""

from __future__ import annotations

from emulator.inputs.text_files import SourceLine, profile_error, shown
from emulator.piecewise import StepFunction, merged
from emulator.traces.rows import MOST_S, ONE_COLUMN, trace_error

BIN_MS = 20
OPPORTUNITY_BITS = 1500 * 8
LEAST_MS, LEAST_PACKETS = 100, 20  # of a lap, where nobody said that it is Mahimahi


def mahimahi_rates(file: str, lines: list[SourceLine], named: bool) -> StepFunction:
    """Opportunities as rates in bit/s, every bit of them; that of ms t fills the ms that ends at t, as at the wrap.

    An opportunity at 0 is counted in the first bin. ``named``: the user said that it is Mahimahi; else one whose lap is
    too short to be a recording is refused: a column of rates looks alike.
    """
    counts: dict[int, int] = {}
    last_ms = 0
    for line in lines:
        if not (line.text.isascii() and line.text.isdigit() and len(line.text) <= 15):
            raise trace_error(
                line, f"{shown(line.text)} is no whole number of ms; the file is read as Mahimahi: one a line"
            )
        ms = int(line.text)
        if ms < last_ms:
            problem = f"{ms} ms comes after {last_ms}; the file is read as Mahimahi: ms of each packet, never less"
            raise trace_error(line, f"{problem}; {ONE_COLUMN}")
        if ms > MOST_S * 1000:
            raise trace_error(line, f"{ms} ms are more than {MOST_S} s; a Mahimahi trace has ms, and begins near 0")
        counts[max(ms - 1, 0) // BIN_MS] = counts.get(max(ms - 1, 0) // BIN_MS, 0) + 1
        last_ms = ms
    if last_ms == 0:
        raise profile_error(file, "", "ends at 0 ms; the last number of a Mahimahi trace is its length, above 0")
    if not named and (last_ms < LEAST_MS or len(lines) < LEAST_PACKETS):
        what = f"is {len(lines)} whole number{'s' * (len(lines) > 1)} up to {last_ms}"
        raise profile_error(file, "", f'{what}; if these are ms of Mahimahi, say format = "mahimahi"; {ONE_COLUMN}')
    steps: list[tuple[int, int]] = []  # start in ns, bit/s
    end_ms = 0
    for number, count in counts.items():
        start_ms = number * BIN_MS
        if start_ms > end_ms:
            steps.append((end_ms * 10**6, 0))
        end_ms = min(start_ms + BIN_MS, last_ms)
        span_ns = (end_ms - start_ms) * 10**6
        # A last bin that is shorter may have no whole rate: it is 1 bit/s faster at first, so that no bit is lost.
        rate, faster_ns = divmod(count * OPPORTUNITY_BITS * 10**9, span_ns)
        if faster_ns:
            steps.append((start_ms * 10**6, rate + 1))
        steps.append((start_ms * 10**6 + faster_ns, rate))
    return merged((start for start, _ in steps), (rate for _, rate in steps), last_ms * 10**6)
