"""Limits of the verdict on a run, by its clock."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Limits of one clock: clamps of a node over the run's length, whether the host's load says anything, and
    whether anything was trained."""

    clamp_share: float
    host_matters: bool
    trains: bool = True


LIMITS = {
    "real": Limits(0.01, host_matters=True),
    "virtual": Limits(0.0, host_matters=False),
    "dry-run": Limits(0.0, host_matters=False, trains=False),
}


def limits_of(clock: str | None) -> Limits:
    """Those of a run's clock; older records, which do not name theirs, are of the real one."""
    return LIMITS[clock or "real"]
