"""Looks at a node's memory after whatever may have raised its peak, and says where it has passed the budget."""

from __future__ import annotations

import time
from collections.abc import Callable

from emulator.compute.memory import MIB, MemoryCap
from emulator.errors import DoesNotFit

EVERY_S = 0.25  # host seconds between two memory lines


class MemoryWatch:
    """The memory of a node with this ``cap``; None: of no interest. ``write``: records a reading's fields."""

    def __init__(self, cap: MemoryCap | None, write: Callable[..., None]) -> None:
        self._cap, self._write = cap, write
        self._written_at = 0.0

    def expect(self, what: str, *, computes: bool = True) -> None:
        """Before a computation, or a message that is sent or received, ``computes`` False."""
        if self._cap is not None:
            self._cap.expect(what, computes=computes)

    def check(self, phase: str, every_s: float = EVERY_S) -> None:
        """Raise DoesNotFit when the peak has passed the budget; write a line where the last is ``every_s`` old."""
        if self._cap is None:
            return
        if time.monotonic() - self._written_at >= every_s:
            self._written_at = time.monotonic()
            self._write(**self._cap.reading())
        budget_bytes = self._cap.budget_bytes
        if self._cap.limit_bytes is None or budget_bytes is None:
            return  # nothing to check against
        peak_bytes = self._cap.peak_bytes()
        if peak_bytes > budget_bytes:
            needed = f"needed {peak_bytes / MIB:.1f} MiB, the budget is {budget_bytes / MIB:.1f} MiB"
            raise DoesNotFit(phase, None, needed)
