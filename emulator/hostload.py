"""The load of the host, read about once a second: what makes a real-time run trustworthy or not."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

EVERY_S = 1.0


class HostLoad:
    """``read`` returns (busy, steal, pressure) at most once a second, else None; see ``ledger.Host``."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._last = psutil.cpu_times()

    def read(self) -> tuple[float, float, float] | None:
        if time.monotonic() - self._at < EVERY_S:
            return None
        last, self._last, self._at = self._last, psutil.cpu_times(), time.monotonic()
        total = max(sum(self._last) - sum(last), 1e-9)
        idle = (self._last.idle - last.idle) + (getattr(self._last, "iowait", 0) - getattr(last, "iowait", 0))
        steal = getattr(self._last, "steal", 0.0) - getattr(last, "steal", 0.0)
        return min(max(1 - idle / total, 0.0), 1.0), max(steal / total, 0.0), cpu_pressure()


def cpu_pressure() -> float:
    """Share of the last 10 s in which some task waited for a CPU (PSI, kernel's psi.rst); 0 where unknown."""
    try:
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except (OSError, IndexError):
        return 0.0
    return float(some.split("avg10=")[1].split()[0]) / 100
