"""``python -m benchmarks.pictures``: pictures and tables of the README, from a run of the main job, kept small.

On the virtual clock, whose figures repeat (but for measured peaks of memory). What is drawn is what ``run.py --report``
draws; of it, some files with fewer pixels and colours. What is printed goes into ``docs/figures/first-run.md``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks import pages
from benchmarks.virtual import ROOT

NAMES = ("rounds", "latency", "accuracy-mb")
KEPT = ROOT / "docs" / "pictures"
WIDTH, COLOURS = 800, 64


def reduce(source: Path, target: Path) -> None:
    """A PNG of ``WIDTH`` pixels and ``COLOURS`` colours."""
    with Image.open(source) as whole:
        height = round(whole.height * WIDTH / whole.width)
        small = whole.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    small.quantize(COLOURS).save(target, optimize=True)


def printed(output: str) -> str:
    """What the run printed from its verdict to what the numbers say, as a block of a page."""
    lines = output.splitlines()
    first = next(place for place, line in enumerate(lines) if "Verdict: " in line)
    last = next(place for place, line in enumerate(lines) if line.startswith("Record: "))
    return "\n".join(["```text", *lines[first:last], "```", ""])


def main() -> int:
    """Exit status: that of the run, where it fails."""
    with tempfile.TemporaryDirectory(prefix="splitbed-pictures-") as scratch:
        run = Path(scratch) / "run"
        words = [sys.executable, str(ROOT / "run.py"), "--profile", "iot-4g", "--clock", "virtual", "--report"]
        played = subprocess.run([*words, "--out", str(run)], stdout=subprocess.PIPE, text=True, check=False)
        status = played.returncode
        if status == 0:
            pages.write("first-run", printed(played.stdout))
            for name in NAMES:
                reduce(run / "plots" / f"{name}.png", KEPT / f"{name}.png")
    return status


if __name__ == "__main__":
    sys.exit(main())
