"""What benches and their records are made of, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emulator import sources
from emulator.analysis.metrics import figures
from emulator.ledger.criteria import OLDER
from emulator.tables.sweep import (
    SweepResult,
)


def archive(folder: Path, value: int, name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    images = np.full((40, 8, 8), value, np.uint8)
    labels = np.arange(40) % 4
    np.savez(folder / f"{name}.npz", images=images, labels=labels, test_images=images[:8], test_labels=labels[:8])
    return folder


def images(folder: Path) -> Path:
    for part in ("train", "test"):
        for kind in ("a", "b"):
            (folder / part / kind).mkdir(parents=True)
            (folder / part / kind / "0.png").write_bytes(kind.encode())
    return folder


def result(algorithm: str, seed: int, figure: float | None, why: str = "", variant: str = "") -> SweepResult:
    return SweepResult(
        profile="p",
        variant=variant,
        algorithm=algorithm,
        seed=seed,
        folder="f",
        outcome="finished",
        why=why,
        figures=dict.fromkeys(figures(OLDER), figure),
    )


def forget() -> None:
    """What was read of files that have changed."""
    sources._read.cache_clear()
    sources._own.cache_clear()
    sources.project_digest.cache_clear()
