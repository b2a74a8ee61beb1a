"""What sharing costs: the same ten clients with links of their own and behind one mast, two rounds of every method.

From dry runs, whose emulated seconds are those of the virtual clock.
"""

from __future__ import annotations

import math
from typing import Any

from algorithms import ALGORITHMS
from benchmarks.report import Section
from benchmarks.stage import Stage
from benchmarks.virtual import play_virtual

OWN, SHARED = "iot-4g", "iot-4g-cell"


def run(stage: Stage, quick: bool) -> Section:
    """Every method on both scenarios."""
    del quick
    folder = stage.new_folder("cells")
    seconds: dict[str, dict[str, float]] = {}
    for scenario in (OWN, SHARED):
        flags = ["--profile", scenario, "--rounds", "2", "--dry-run"]
        played = play_virtual(folder / scenario, flags).summary.algorithms
        seconds[scenario] = {method: played[method].seconds or math.nan for method in ALGORITHMS}
    rows = [["method", f"own links ({OWN}), s", f"one cell ({SHARED}), s", "ratio"]]
    figures: dict[str, Any] = {}
    for method in ALGORITHMS:
        own_s, shared_s = seconds[OWN][method], seconds[SHARED][method]
        rows.append([method, f"{own_s:.2f}", f"{shared_s:.2f}", f"{shared_s / own_s:.1f}"])
        figures[method] = {"own_s": own_s, "shared_s": shared_s}
    return Section("cells", "seconds for two rounds, with links of their own and in one cell", rows, figures)
