"""Spans of time as rows of beginnings and ends, integers [n, 2]: joined to disjoint ones, and how much of them by when.

Times are ns; a span holds its beginning and not its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Pairs = NDArray[np.int64]  # beginnings and ends, [n, 2]
Spans = list[tuple[int, int]]


def pairs_of(spans: Sequence[tuple[int, int]] | Integers) -> Pairs:
    """Spans as they come, as rows."""
    return np.asarray(spans, np.int64).reshape(-1, 2)


def joined(*found: Pairs) -> Pairs:
    """Disjoint spans, in order, that cover the same instants; those that touch are one."""
    pairs = found[0] if len(found) == 1 else np.concatenate([pairs_of([]), *found])
    pairs = pairs[pairs[:, 1] > pairs[:, 0]]
    if not len(pairs):
        return pairs
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    reached = np.maximum.accumulate(pairs[:, 1])
    apart = np.flatnonzero(pairs[1:, 0] > reached[:-1])  # a gap follows
    starts, ends = pairs[np.concatenate([[0], apart + 1]), 0], reached[np.concatenate([apart, [len(pairs) - 1]])]
    return np.column_stack([starts, ends])


def without(disjoint: Pairs, holes: Pairs) -> Pairs:
    """The parts of disjoint spans that lie in none of other disjoint ones."""
    if not len(disjoint) or not len(holes):
        return disjoint
    edges = np.unique(np.concatenate([disjoint.ravel(), holes.ravel()]))
    parts = np.column_stack([edges[:-1], edges[1:]])
    return joined(parts[_inside(parts[:, 0], disjoint) & ~_inside(parts[:, 0], holes)])


def _inside(moments_ns: Integers, disjoint: Pairs) -> NDArray[np.bool_]:
    last = np.searchsorted(disjoint[:, 0], moments_ns, "right") - 1
    inside: NDArray[np.bool_] = (last >= 0) & (disjoint[np.maximum(last, 0), 1] > moments_ns)
    return inside


def covered_ns(disjoint: Pairs, until_ns: Integers) -> Integers:
    """How much of disjoint spans lies before each of some moments, ns, [moments]."""
    if not len(disjoint):
        return np.zeros_like(until_ns)
    starts, ends = disjoint[:, 0], disjoint[:, 1]
    before = np.concatenate([[0], np.cumsum(ends - starts)])
    begun = np.searchsorted(starts, until_ns)  # of those that have, the last may go on
    last = np.maximum(begun - 1, 0)
    rest = np.where(begun > 0, np.maximum(ends[last] - until_ns, 0), 0)
    return before[begun] - rest


def union(spans: Sequence[tuple[int, int]], length_ns: int) -> Spans:
    """Disjoint spans that cover the same instants of 0 … length."""
    return [(start, end) for start, end in joined(np.clip(pairs_of(spans), 0, length_ns)).tolist()]
