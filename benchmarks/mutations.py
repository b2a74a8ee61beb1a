"""Inputs damaged and made up, as in ``tests/*/test_*mutations.py``, by the thousand: read, or refused in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from benchmarks.report import Section, Target
from benchmarks.stage import Stage
from benchmarks.virtual import ROOT

EXAMPLES = 1250  # of each kind
VARIABLE = "SPLITBED_EXAMPLES"


def run(stage: Stage, quick: bool) -> Section:
    """A process for each file of tests; a failure is shown with the smallest input that causes it."""
    del stage
    rows, failed, remarks = [["inputs", "kinds", "failed", "s"]], 0, list[str]()
    for path in sorted((ROOT / "tests").glob("*/test_*mutations.py")):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
        environment = os.environ | {VARIABLE: "20" if quick else str(EXAMPLES)}
        begun_s = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
        bad = sum(count for what, count in counts.items() if what != "passed") + (done.returncode > 1)
        failed += bad
        remarks += [done.stdout[-2000:]] * bool(bad)
        cells = sum(counts.values()), bad, f"{time.monotonic() - begun_s:.0f}"
        rows.append([path.stem.removeprefix("test_").removesuffix("_mutations"), *map(str, cells)])
    targets = [Target("kinds of inputs with one that is neither read nor refused", failed, "", 1, False)]
    figures = {"examples_of_each_kind": EXAMPLES, "failed": failed}
    return Section("mutations", f"{EXAMPLES} damaged inputs of each kind", rows, figures, targets, remarks)
