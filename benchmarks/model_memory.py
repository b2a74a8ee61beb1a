"""What each method's client needs of memory with a paper's model: writes ``netprofiles/memory/resnet18-cifar10.toml``.

    python -m benchmarks.model_memory

It plays the dry run of ``COMMAND``, which accounts for every tensor of one client, and keeps what it foresees. Nothing
is trained or measured. Pixels are drawn at random: sizes of tensors depend on shapes alone.
"""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
import tempfile
import time
from pathlib import Path

from emulator import sources
from emulator.analysis.model_memory import FILE
from emulator.analysis.recorded import recorded
from emulator.analysis.summary import Summary
from emulator.runtime import subcommand

ROOT = Path(__file__).parents[1]
EXPERIMENT = "fsl-sage-cifar10"
COMMAND = (
    f"python run.py --profile iot-4g --clients 1 --experiment {EXPERIMENT} --dataset synthetic:3x32x32:10:5000"
    " --rounds 2 --dry-run"
)
HEAD = """# Written by `{made_by}` from the summary of the dry run below: do not edit, write it again.
# Client memory that is computed and not measured: tensors of one client by an account of each, and what its process
# takes at most, which is 1.12 x tensors + 1.6 MiB (design.md: measured peaks lie between the two).
kind = "client-memory"
model = "ResNet-18"
workload = "cut after layer2, batch 256, CIFAR-10 shapes"
made_by = "{made_by}"
command = "{command}"
source = "{source}"
torch = "{torch}"
date = "{date}"
"""
ROW = """
[methods.{name}]
tensors_bytes = {tensors_bytes}
needed_bytes = {needed_bytes}
"""


def text(summary: Summary) -> str:
    """The file, from what a dry run recorded of one client of each method."""
    made = {"made_by": "python -m benchmarks.model_memory", "command": COMMAND, "source": sources.project_digest()}
    lines = [HEAD.format(**made, torch=importlib.metadata.version("torch"), date=time.strftime("%Y-%m"))]
    for name, algorithm in summary.algorithms.items():
        (client,) = algorithm.clients
        assert client.tensors_mib is not None and client.needed_mib is not None
        sizes = {"tensors_bytes": client.tensors_mib, "needed_bytes": client.needed_mib}
        lines.append(ROW.format(name=name, **{key: round(mib * 2**20) for key, mib in sizes.items()}))
    return "".join(lines)


def main() -> int:
    """Play the dry run and write the file; the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        words = [sys.executable, str(ROOT / "run.py"), *shlex.split(COMMAND)[2:], "--no-dashboard", "--out", str(out)]
        if status := subcommand.run_subcommand(words):
            return status
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(text(recorded(out).summary))
    print(f"Written: {FILE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
