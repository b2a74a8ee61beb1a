"""What a run's verdict on itself has found: of which method, by which law, how severe, and in words.

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
