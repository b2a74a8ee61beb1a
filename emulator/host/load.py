"""The load of the host, read about once a second: what makes a real-time run trustworthy or not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import psutil

from emulator.host import cgroups

EVERY_S = 1.0
PRESSURE = Path("/proc/pressure/cpu")


class Load(NamedTuple):
    """As ``ledger.Host`` has it."""

    busy: float
    steal: float
    pressure: float | None
    stopped: float | None


class HostLoad:
    """``read`` returns the load since the last reading, at most once a second, else None.

    Under a CPU quota busy is the share of what the quota allows, where its group tells what it has used.
    """

    def __init__(self, proc: Path = cgroups.PROC) -> None:
        self._at = time.monotonic()
        self._last = psutil.cpu_times()
        self._quota = cgroups.quota(proc)
        self._used = cgroups.usage(self._quota) if self._quota else None

    def read(self) -> Load | None:
        if time.monotonic() - self._at < EVERY_S:
            return None
        last, self._last, began, self._at = self._last, psutil.cpu_times(), self._at, time.monotonic()
        total = max(sum(self._last) - sum(last), 1e-9)
        idle = (self._last.idle - last.idle) + (getattr(self._last, "iowait", 0) - getattr(last, "iowait", 0))
        steal = getattr(self._last, "steal", 0.0) - getattr(last, "steal", 0.0)
        busy, stopped = self._under_quota(1 - idle / total, self._at - began)
        return Load(min(max(busy, 0.0), 1.0), max(steal / total, 0.0), cpu_pressure(), stopped)

    def _under_quota(self, busy: float, passed_s: float) -> tuple[float, float | None]:
        """The busy share, and that of the quota's periods in which it ran out; the latter None without a quota."""
        if self._quota is None or self._used is None:
            return busy, None
        before, self._used = self._used, cgroups.usage(self._quota)
        if self._used.cpu_ns is not None and before.cpu_ns is not None:
            busy = (self._used.cpu_ns - before.cpu_ns) / 1e9 / passed_s / self._quota.cores
        return busy, (self._used.stopped - before.stopped) / max(self._used.periods - before.periods, 1)


def cpu_pressure(path: Path = PRESSURE) -> float | None:
    """Share of the last 10 s in which some task waited for a CPU (PSI, kernel's psi.rst); None where unknown."""
    try:
        some = path.read_text().splitlines()[0]
        return float(some.split("avg10=")[1].split()[0]) / 100
    except (OSError, IndexError, ValueError):
        return None
