"""The figures that runs are compared by: one number each, of an algorithm's entry in ``summary.json``. A view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from emulator.analysis.summary import AlgorithmSummary, Way

KB, MB = 10**3, 10**6


class Figure(NamedTuple):
    """``of`` gives it, or None where the run does not have it; ``best``: whether less or more of it is better."""

    head: str  # above a column; a line break stands in for a space
    of: Callable[[AlgorithmSummary], float | None]
    best: Literal["least", "most"] = "least"

    @property
    def title(self) -> str:
        """The head in one line."""
        return self.head.replace("\n", " ")


def seconds_per_round(algorithm: AlgorithmSummary) -> float | None:
    """Emulated seconds, mean over the rounds."""
    return algorithm.seconds / algorithm.rounds if algorithm.rounds and algorithm.seconds is not None else None


def payload_per_share(algorithm: AlgorithmSummary, way: Way) -> float | None:
    """Bytes of tensors that clients sent (``up``) or received (``down``) until the last round's end, without initial
    weights, per client and round in which it sent something."""
    if not algorithm.client_rounds:
        return None
    last, initial = algorithm.history[-1], algorithm.initial_bytes.payload
    sent = last.payload_up - initial.up if way == "up" else last.payload_down - initial.down
    return sent / algorithm.client_rounds


def largest(values: Iterable[float | None]) -> float | None:
    """None where none is there."""
    return max((value for value in values if value is not None), default=None)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _seconds_to(target: float) -> Callable[[AlgorithmSummary], float | None]:
    """Until the end of the first round that reached it; None where none did."""
    return lambda algorithm: reached.seconds if (reached := algorithm.to_target.get(target)) else None


def _mb_to(target: float) -> Callable[[AlgorithmSummary], float | None]:
    return lambda algorithm: reached.bytes / MB if (reached := algorithm.to_target.get(target)) else None


FIGURES = {
    "s_per_round": Figure("s per\nround", seconds_per_round),
    "s_to_85": Figure("s to\n85 %", _seconds_to(0.85)),
    "s_to_90": Figure("s to\n90 %", _seconds_to(0.9)),
    "up_kb": Figure("up\nkB", lambda algorithm: _scaled(payload_per_share(algorithm, "up"), 1 / KB)),
    "down_kb": Figure("down\nkB", lambda algorithm: _scaled(payload_per_share(algorithm, "down"), 1 / KB)),
    "payload_mb": Figure("payload\nMB", lambda algorithm: algorithm.total_bytes.payload / MB),
    "mb_to_85": Figure("MB to\n85 %", _mb_to(0.85)),
    "mb_to_90": Figure("MB to\n90 %", _mb_to(0.9)),
    "accuracy_percent": Figure("accuracy\n%", lambda algorithm: _scaled(algorithm.accuracy, 100.0), "most"),
    "peak_mib": Figure("peak\nMiB", lambda algorithm: largest(client.peak_mib for client in algorithm.clients)),
    "needed_mib": Figure("needed\nMiB", lambda algorithm: largest(client.needed_mib for client in algorithm.clients)),
}
