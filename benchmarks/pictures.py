"""``python -m benchmarks.pictures``: the README's pictures, from a run of the main job, kept small.

About three minutes. What is drawn is what ``run.py --report`` draws; of it, some files with fewer pixels and colours.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

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


def main() -> int:
    """Exit status: that of the run, where it fails."""
    with tempfile.TemporaryDirectory(prefix="splitbed-pictures-") as scratch:
        run = Path(scratch) / "run"
        words = [sys.executable, str(ROOT / "run.py"), "--profile", "iot-4g", "--report", "--out", str(run)]
        status = subprocess.run(words, check=False).returncode
        if status == 0:
            for name in NAMES:
                reduce(run / "plots" / f"{name}.png", KEPT / f"{name}.png")
    return status


if __name__ == "__main__":
    sys.exit(main())
