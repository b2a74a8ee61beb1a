"""The verdict under load: good on an idle host, bad and above the tables with a CPU burner on every core.

The same command on the real clock at dilation 1, first alone, then beside processes that do nothing but compute. Only
where the first is good does the second say anything.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from benchmarks.virtual import play_run
from emulator.tables.run import verdict

METHODS = "cse-fsl,fsl-sage"
FLAGS = ("--profile", "iot-4g", "--algorithm", METHODS, "--dilation", "1", "--force")  # whatever it needs
BURN_S = 300  # a burner ends by itself
BURN = f"import time\nend = time.monotonic() + {BURN_S}\nwhile time.monotonic() < end: pass"


def run(stage: Stage, quick: bool) -> Section:
    """Both runs, their verdicts and how late rounds were."""
    rows = [["host", "verdict", "rounds at most ms off", "first line of the tables"]]
    figures: dict[str, Any] = {}
    folder = stage.new_folder("busy")
    for host, burners in (("idle", 0), ("busy", os.cpu_count() or 1)):
        with _burning(burners):
            rounds = "2" if quick else "12"
            summary = play_run(folder / host, [*FLAGS, "--rounds", rounds]).summary
        health = summary.health
        lag_ms = max(found.lag_max_ms or 0.0 for found in health.algorithms.values())
        figures[host] = {"verdict": health.verdict, "lag_max_ms": lag_ms, "reasons": health.reasons}
        rows.append([host, health.verdict, f"{lag_ms:.1f}", verdict(summary)[0][:48]])
    targets = [
        Target("verdicts good on an idle host", figures["idle"]["verdict"] == "good", "", 1, True),
        Target("verdicts bad on a busy host", figures["busy"]["verdict"] == "bad", "", 1, True),
    ]
    return Section("busy", f"the verdict beside a CPU burner a core ({METHODS})", rows, figures, targets, [])


@contextlib.contextmanager
def _burning(count: int) -> Iterator[None]:
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
