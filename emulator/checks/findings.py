"""Findings of a run's verdict on itself: of which method, by which law, how severe, and in words.

Whoever decides anything by a finding does so by its law or its severity, and never by its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Severity = Literal["reason", "note"]  # a reason makes the verdict bad; a note asks to look twice
ENDINGS = ("failed", "stuck", "refused", "interrupted", "does-not-fit", "partial")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``algorithm``: "" for what is of the whole run. ``law``: which of ``health``'s, by a short name; of an end other
    than "finished" the outcome."""

    algorithm: str
    law: str
    severity: Severity
    text: str

    def __str__(self) -> str:
        return f"{self.algorithm}: {self.text}" if self.algorithm else self.text


class NonFiniteValues(msgspec.Struct, frozen=True, kw_only=True):
    """Values that are infinite or no numbers: of which ``node``, in which ``round`` (from 0) of it, and when.

    ``what``: the kind of the message, ``loss``, or ``half`` of the server. ``beside``: nodes whose values were so at
    the same moment.
    """

    node: str
    round: int
    at_s: float
    what: str
    beside: int = 0


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """From ``round`` (from 0), which ended ``at_s``, on no model is judged; ``first``: the first sign of it, if any.

    That may be later: numbers of which the joined model has no loss may be numbers still.
    """

    round: int
    at_s: float
    first: NonFiniteValues | None


class HostBottleneck(msgspec.Struct, frozen=True, kw_only=True):
    """The computation of one device and function that used most of its span's time on the host."""

    device: str
    function: str
    ratio: float  # host time / (span x dilation); above 1 the host was too slow
    host_ms: float  # median
    span_ms: float  # emulated


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Measured figures of one algorithm's timeline; None where there is nothing to measure. Times in emulated ms."""

    rounds: int
    lag_p95_ms: float | None  # actual - due of round ends, magnitude
    lag_max_ms: float | None
    late_p50_ms: float | None  # actual - due of received messages
    late_p95_ms: float | None
    late_max_ms: float | None
    messages: int
    undelivered: int
    clamps: int
    clamped_ms: float
    clamp_max_ms: float
    spans: int
    spans_late: int  # host work ended more than 50 ms after the span
    bottlenecks: list[HostBottleneck] = msgspec.field(name="tightest")
    host_busy: float | None  # mean, fraction of all cores
    host_steal: float | None
    host_pressure: float | None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    verdict: str  # "good" | "bad" | "none": nothing was trained, so that there is nothing to trust or mistrust
    reasons: list[str]  # the texts of the findings that make it bad, each after its algorithm
    notes: list[str]  # those of the others
    findings: list[Finding]
    algorithms: dict[str, Figures]


def findings_of(health: Mapping[str, Any]) -> list[Finding]:
    """The findings of a summary's ``health``; of one made before there were any, as far as its lines say them."""
    if "findings" in health:
        return msgspec.convert(health["findings"], list[Finding])
    severities: tuple[Severity, ...] = ("reason", "note")
    return [_from_line(line, severity, health) for severity in severities for line in health.get(f"{severity}s", ())]


def _from_line(line: str, severity: Severity, health: Mapping[str, Any]) -> Finding:
    """Older lines begin with the method, and those of its end go on with the outcome."""
    algorithm, _, text = line.partition(": ")
    if algorithm not in health.get("algorithms", ()):
        algorithm, text = "", line
    ending = text.partition(": ")[0]
    return Finding(algorithm=algorithm, law=ending if ending in ENDINGS else "", severity=severity, text=text)
