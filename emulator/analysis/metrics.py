"""The figures that runs are compared by: one number each, of an algorithm's entry in ``summary.json``. A view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

Json = Mapping[str, Any]
KB, MB = 10**3, 10**6


class Figure(NamedTuple):
    """``of`` gives it, or None where the run does not have it; ``best``: whether less or more of it is better."""

    head: str  # above a column; a line break stands in for a space
    of: Callable[[Json], float | None]
    best: Literal["least", "most"] = "least"

    @property
    def title(self) -> str:
        """The head in one line."""
        return self.head.replace("\n", " ")


def seconds_per_round(algorithm: Json) -> float | None:
    """Emulated seconds, mean over the rounds."""
    return float(algorithm["seconds"] / algorithm["rounds"]) if algorithm["rounds"] else None


def payload_per_share(algorithm: Json, way: str) -> float | None:
    """Bytes of tensors that clients sent (``up``) or received (``down``) until the last round's end, without initial
    weights, per client and round in which it sent something."""
    shares: int = algorithm["client_rounds"]
    if not shares:
        return None
    sent: int = algorithm["history"][-1][f"payload_{way}"] - algorithm["initial_bytes"]["payload"][way]
    return sent / shares


def total_bytes(algorithm: Json, size: str) -> int:
    """Of all messages, each once: ``payload``, ``framed`` or ``wire``."""
    total: int = algorithm["total_bytes"][size]
    return total


def to_target(algorithm: Json, target: str, what: str) -> float | None:
    """``seconds`` or payload ``bytes`` until the end of the first round that reached it; None where none did."""
    reached = algorithm["to_target"].get(target)
    return float(reached[what]) if reached else None


def most(algorithm: Json, what: str) -> float | None:
    """The largest over clients, where a client has it."""
    return largest(algorithm["clients"], what)


def largest(rows: Iterable[Json], key: str) -> float | None:
    """The largest value of ``key``; None where no row has one."""
    return max((float(row[key]) for row in rows if row[key] is not None), default=None)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


FIGURES = {
    "s_per_round": Figure("s per\nround", seconds_per_round),
    "s_to_85": Figure("s to\n85 %", lambda algorithm: to_target(algorithm, "0.85", "seconds")),
    "s_to_90": Figure("s to\n90 %", lambda algorithm: to_target(algorithm, "0.9", "seconds")),
    "up_kb": Figure("up\nkB", lambda algorithm: _scaled(payload_per_share(algorithm, "up"), 1 / KB)),
    "down_kb": Figure("down\nkB", lambda algorithm: _scaled(payload_per_share(algorithm, "down"), 1 / KB)),
    "payload_mb": Figure("payload\nMB", lambda algorithm: total_bytes(algorithm, "payload") / MB),
    "mb_to_85": Figure("MB to\n85 %", lambda algorithm: _scaled(to_target(algorithm, "0.85", "bytes"), 1 / MB)),
    "mb_to_90": Figure("MB to\n90 %", lambda algorithm: _scaled(to_target(algorithm, "0.9", "bytes"), 1 / MB)),
    "accuracy_percent": Figure("accuracy\n%", lambda algorithm: _scaled(algorithm["accuracy"], 100.0), "most"),
    "peak_mib": Figure("peak\nMiB", lambda algorithm: most(algorithm, "peak_mib")),
    "needed_mib": Figure("needed\nMiB", lambda algorithm: most(algorithm, "needed_mib")),
}
