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

    def expect_computation(self, key: str) -> None:
        """Before a computation begins on the host."""
        if self._cap is not None:
            self._cap.expect(key)

    def expect_message(self, kind: str, size_bytes: int, round: int, *, computing: bool) -> None:
        """Before a message is copied to be sent, or is handed to the method; meanwhile the host is ``computing``."""
        if self._cap is not None:
            self._cap.expect(f"{kind} of {size_bytes} bytes", round=round, computing=computing)

    def check(self, phase: str, every_s: float = EVERY_S) -> None:
        """Raise DoesNotFit when the peak has passed the budget; write a line where the last is ``every_s`` old."""
        if self._cap is None:
            return
        due = time.monotonic() - self._written_at >= every_s
        if self._cap.limit_bytes is None and not due:
            return  # nothing to check against
        reading = self._cap.reading()
        if due:
            self._written_at = time.monotonic()
            self._write(**reading)
        budget_bytes, peak_bytes = self._cap.budget_bytes, reading["peak_bytes"]
        if self._cap.limit_bytes is not None and budget_bytes is not None and peak_bytes > budget_bytes:
            needed = f"needed {peak_bytes / MIB:.1f} MiB, the budget is {budget_bytes / MIB:.1f} MiB"
            raise DoesNotFit(phase, None, needed)
