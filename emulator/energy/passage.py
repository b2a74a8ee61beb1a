"""A client's activity as spans: when it computes, and the messages that pass its radio, with the air that they take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.spans import Integers, Pairs


class Passage(NamedTuple):
    """Messages of one way, in the order of their first bits: ``spans`` [n, 2] and ``airtime_ns`` [n] in ns, ``bits``
    [n]."""

    spans: Pairs
    airtime_ns: Integers
    bits: Integers

    def until(self, moments_ns: Integers) -> tuple[list[int], list[int]]:
        """Airtime in ns and bits before each moment; of a message under way, in proportion to its span."""
        starts, ends = self.spans[:, 0], self.spans[:, 1]
        reached = np.maximum.accumulate(ends)
        over = np.searchsorted(reached, moments_ns, "right")  # these have passed, and all before them
        begun = np.searchsorted(starts, moments_ns)
        found = []
        for amounts in (self.airtime_ns, self.bits):
            sums = np.concatenate([[0], np.cumsum(amounts)])[over].tolist()
            for place, (t_ns, i, j) in enumerate(zip(moments_ns.tolist(), over.tolist(), begun.tolist(), strict=True)):
                for amount, (start_ns, end_ns) in zip(amounts[i:j].tolist(), self.spans[i:j].tolist(), strict=True):
                    passed = end_ns <= t_ns
                    sums[place] += amount if passed else amount * (t_ns - start_ns) // (end_ns - start_ns)
            found.append(sums)
        return found[0], found[1]


class ClientActivity(NamedTuple):
    """``computing``, ``sending`` and ``on_air`` (either way) as disjoint spans; the messages of each way."""

    computing: Pairs
    sending: Pairs
    on_air: Pairs
    up: Passage
    down: Passage
