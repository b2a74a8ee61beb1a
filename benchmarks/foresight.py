"""How well ``--dry-run`` foresees a run: every shipped scenario, two methods, one round, beside the virtual clock."""

from __future__ import annotations

from typing import Any

from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from benchmarks.virtual import play_virtual
from emulator.analysis.metrics import FIGURES
from emulator.profiles.schema import shipped_profiles

METHODS = ("splitfed-v2", "fsl-sage")
MEMORY_SHARE, MEMORY_MIB = 0.10, 1.0  # what is said of memory: within so much of what was measured


def run(stage: Stage, quick: bool) -> Section:
    """One round of each scenario under both."""
    rows = [["scenario", "method", "emulated s", "off ns", "bytes off", "peak MiB", "foreseen MiB"]]
    figures: dict[str, Any] = {}
    worst_ns = worst_bytes = 0
    worst_memory = 0.0
    folder = stage.new_folder("foresight")
    for scenario in shipped_profiles("scenario")[: 2 if quick else None]:
        flags = ["--profile", scenario, "--rounds", "1", "--algorithm", ",".join(METHODS)]
        run = play_virtual(folder / f"{scenario}-run", flags).summary.algorithms
        dry = play_virtual(folder / f"{scenario}-dry", [*flags, "--dry-run"]).summary.algorithms
        for method in METHODS:
            off_ns = round(abs(run[method].length_s - dry[method].length_s) * 1e9)
            off_bytes = abs(run[method].total_bytes.wire - dry[method].total_bytes.wire)
            peak, foreseen = FIGURES["peak_mib"].of(run[method]), FIGURES["needed_mib"].of(dry[method])
            assert peak is not None and foreseen is not None
            beyond = abs(foreseen - peak) / (MEMORY_SHARE * peak + MEMORY_MIB)
            worst_ns, worst_bytes = max(worst_ns, off_ns), max(worst_bytes, off_bytes)
            worst_memory = max(worst_memory, beyond)
            length_s = run[method].length_s
            rows.append(
                [scenario, method, f"{length_s:.3f}", str(off_ns), str(off_bytes), f"{peak:.2f}", f"{foreseen:.2f}"]
            )
            figures[f"{scenario}/{method}"] = {"length_s": length_s, "off_ns": off_ns, "off_bytes": off_bytes}
    targets = [
        Target("emulated time off", worst_ns, "ns", 1, False),
        Target("wire bytes off", worst_bytes, "B", 1, False),
        Target("memory off, of 10 % + 1 MiB", worst_memory, "", 1, False),
    ]
    return Section("foresight", "what --dry-run says beside what the virtual clock plays", rows, figures, targets, [])
