"""The most rounds that a method may play, and the latest start of one: of each method, in the run's manifest."""

from __future__ import annotations

from typing import NamedTuple

from emulator.ledger.manifest import Manifest


class RoundLimits(NamedTuple):
    """At most so many rounds, of which none starts after so many emulated seconds; None: no limit, or none known."""

    rounds: int | None
    stop_after_s: float | None

    def __str__(self) -> str:
        most = [] if self.rounds is None else [f"{self.rounds} {'round' if self.rounds == 1 else 'rounds'}"]
        until = [] if self.stop_after_s is None else [f"none after {self.stop_after_s:g} s"]
        return ", ".join(most + until) or "no limit"


def round_limits(manifest: Manifest, algorithm: str) -> RoundLimits:
    """Those of a method. Older manifests also have the first method's, for all; they hold where it has no settings."""
    own = manifest.settings.get(algorithm)
    if own is None:
        return RoundLimits(manifest.rounds, manifest.stop_after_s)
    return RoundLimits(own.get("rounds"), own.get("stop_after_s"))


def unequal_limits(manifest: Manifest) -> list[str]:
    """A note where methods of a run have not the same: their figures are then not of equal time or equal rounds."""
    found = {name: round_limits(manifest, name) for name in manifest.algorithms}
    if len(set(found.values())) < 2:
        return []
    each = "; ".join(f"{name} {limits}" for name, limits in found.items())
    return [f"methods may not play alike (compare them at a target): {each}"]
