"""Bins of time: nothing is lost in them but what is too old, and what is past does not change."""

from __future__ import annotations

import random

import pytest

from emulator.dashboard.activity import BIN_NS, BINS, COMPUTE, DOWNLOAD, UPLOAD, Bins
from emulator.dashboard.progress import SECOND_NS


def spans(seed, count=40):
    """Disjoint spans of (start, end), of all lengths."""
    drawn = random.Random(seed)
    edges = sorted(drawn.randrange(50 * SECOND_NS) for _ in range(2 * count))
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_bins_keep_every_nanosecond_whatever_the_order_and_width(seed):
    found = spans(seed)
    total = sum(end - start for start, end in found)
    random.Random(seed).shuffle(found)
    bins = Bins()
    for start, end in found:
        bins.add(COMPUTE, start, end, end - start)
    for _ in range(3):
        assert bins.total(COMPUTE, 50 * SECOND_NS, BINS * bins.width_ns) == pytest.approx(total)
        cells = bins.cells(17, 50 * SECOND_NS, 60 * SECOND_NS)
        assert sum(sums[COMPUTE] for sums, _ in cells) == pytest.approx(total)
        assert sum(span_ns for _, span_ns in cells) == 50 * SECOND_NS
        bins.widen()


def test_a_cell_of_the_past_does_not_change_while_time_goes_on():
    bins, seen = Bins(), {}
    for start, end in spans(1):
        bins.add(COMPUTE, start, end, end - start)
    for now_ns in range(50 * SECOND_NS, 58 * SECOND_NS, SECOND_NS // 3):
        cells = [sums[COMPUTE] for sums, _ in bins.cells(14, now_ns, 30 * SECOND_NS)]
        per_cell = -(-30 * SECOND_NS // (14 * BIN_NS))
        newest = now_ns // BIN_NS // per_cell
        for i, value in enumerate(cells):
            assert seen.setdefault(newest - 13 + i, value) == value


def test_what_is_older_than_the_bins_is_forgotten_and_what_goes_on_is_counted():
    bins = Bins()
    bins.add(UPLOAD, 0, 1000 * SECOND_NS, 1000 * SECOND_NS)
    kept_ns = BINS * BIN_NS
    assert bins.total(UPLOAD, 1000 * SECOND_NS - 1, 2 * kept_ns) == pytest.approx(kept_ns)
    bins.add(DOWNLOAD, 0, SECOND_NS, SECOND_NS)
    assert bins.total(DOWNLOAD, 1000 * SECOND_NS, 2 * kept_ns) == 0
    (*_, (sums, span_ns)) = bins.cells(10, 1007 * SECOND_NS, kept_ns, [(COMPUTE, 0)])
    assert sums[COMPUTE] == span_ns > 0
