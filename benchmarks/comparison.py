"""``python -m benchmarks.comparison [--seeds N] [--out DIR]``: the methods side by side, over paired seeds.

For each partition and seed every variant is played on the virtual clock with the same initial weights, shards, batch
order and links. What is finished is kept and not played again, so an interrupted comparison goes on where it was.
Means come with the half width of their 95 % interval (Student's t over the seeds); differences are those within a seed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from algorithms import ALGORITHMS
from benchmarks.report import table_lines
from emulator.analysis.metrics import FIGURES
from emulator.analysis.statistics import estimate

ROOT = Path(__file__).parent.parent
PARTITIONS = ("iid", "dirichlet:0.1")
ROUNDS, COMMON_S, EARLY_ROUND = 20, 10.0, 10


class Command(NamedTuple):
    """One command and what its algorithms are called in the tables: name -> label."""

    name: str
    flags: tuple[str, ...]
    labels: dict[str, str]


COMMANDS = (
    Command("arrival", (), {name: name for name in ALGORITHMS}),
    Command(
        "blocked",
        ("--server-order", "blocked"),
        {name: f"{name}, blocked" for name in ("splitfed-v2", "cse-fsl", "fsl-sage")},
    ),
    Command(
        "controls",
        ("--align", "none", "--set", "cse-fsl:aux_lr=0.005"),
        {"cse-fsl": "cse-fsl, aux rate 5e-3", "fsl-sage": "fsl-sage, align none"},
    ),
)
LABELS = sorted(
    (label for command in COMMANDS for label in command.labels.values()),
    key=lambda label: (list(ALGORITHMS).index(label.split(",")[0]), label),
)
Played = dict[str, dict[str, Any]]  # label -> its entry in summary.json


def play(out: Path, partition: str, seed: int, command: Command) -> Played:
    """Play what has not been played; each label's entry of the summary."""
    folder = out / f"{partition.replace(':', '-')}-{seed}-{command.name}"
    summary = folder / "summary.json"
    if folder.exists() and not _good(summary):
        shutil.rmtree(folder)  # it was interrupted
    if not summary.exists():
        flags = ["--profile", "iot-4g", "--clock", "virtual", "--rounds", str(ROUNDS), "--partition", partition]
        flags += ["--seed", str(seed), "--algorithm", ",".join(command.labels), *command.flags]
        words = [sys.executable, str(ROOT / "run.py"), *flags, "--no-dashboard", "--out", str(folder)]
        ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{' '.join(words)}\n{ended.stdout[-2000:]}")
    found = json.loads(summary.read_text())
    if not _good(summary):
        raise SystemExit(f"{folder}: {found['health']['reasons']}")
    return {label: found["algorithms"][name] for name, label in command.labels.items()}


def _good(summary: Path) -> bool:
    return summary.exists() and json.loads(summary.read_text())["health"]["verdict"] == "good"


def accuracy_at_s(entry: dict[str, Any]) -> float | None:
    """Accuracy in percent after the last round that has ended by ``COMMON_S`` emulated seconds."""
    ended = [row["accuracy"] for row in entry["history"] if row["due_s"] <= COMMON_S]
    return 100 * ended[-1] if ended and not entry["diverged"] else None


def accuracy_after(entry: dict[str, Any], rounds: int) -> float | None:
    return None if entry["diverged"] else 100 * float(entry["history"][rounds - 1]["accuracy"])


COMPARED: dict[str, Callable[[dict[str, Any]], float | None]] = {
    f"% at {COMMON_S:.0f} s": accuracy_at_s,
    f"% after {EARLY_ROUND} rounds": lambda entry: accuracy_after(entry, EARLY_ROUND),
    f"% after {ROUNDS}": lambda entry: accuracy_after(entry, ROUNDS),
    "s to 90 %": FIGURES["s_to_90"].of,
    "MB to 90 %": FIGURES["mb_to_90"].of,
    "peak MiB": FIGURES["peak_mib"].of,
}


def cell(values: Sequence[float | None], sign: str = "") -> str:
    """Mean ± interval; how many of the seeds where not all have the figure."""
    found = estimate(values)
    if found is None:
        return "–"
    text = f"{found.mean:{sign}.2f} ± {found.half_width or math.nan:.2f}"
    return text if found.n == found.of else f"{text} ({found.n} of {found.of})"


def compared(runs: Sequence[Played]) -> list[str]:
    """One partition's two tables: every variant's figures, and FSL-SAGE's differences to the others."""
    rows = [["method", *COMPARED]]
    for label in LABELS:
        entries = [run[label] for run in runs]
        rows.append([label, *(cell([figure(entry) for entry in entries]) for figure in COMPARED.values())])
    lines = [*table_lines(rows), "", "FSL-SAGE minus the other, within each seed:", ""]
    rows = [["other", *COMPARED]]
    for label in LABELS:
        if label != "fsl-sage":
            rows.append([label, *(cell(differences(runs, label, figure), "+") for figure in COMPARED.values())])
    return lines + table_lines(rows)


def differences(
    runs: Sequence[Played], label: str, figure: Callable[[dict[str, Any]], float | None]
) -> list[float | None]:
    """FSL-SAGE's figure minus that of ``label`` for each seed; None where one of the two has none."""
    pairs = [(figure(run["fsl-sage"]), figure(run[label])) for run in runs]
    return [None if one is None or other is None else one - other for one, other in pairs]


def main(argv: list[str]) -> int:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.comparison", description=(__doc__ or "").splitlines()[0])
    flags.add_argument("--seeds", type=int, default=10, help="seeds 1 to N (default 10)")
    flags.add_argument("--out", default="runs/comparison", metavar="DIR", help="records of the runs, and comparison.md")
    flags.add_argument("--at-once", type=int, default=1, metavar="N", help="commands played side by side (default 1)")
    chosen = flags.parse_args(argv)
    out = Path(chosen.out)
    out.mkdir(parents=True, exist_ok=True)
    seeds = range(1, chosen.seeds + 1)
    jobs = [(partition, seed, command) for partition in PARTITIONS for seed in seeds for command in COMMANDS]
    with ThreadPoolExecutor(chosen.at_once) as pool:
        played = list(pool.map(lambda job: play(out, *job), jobs))
    lines: list[str] = []
    for partition in PARTITIONS:
        runs: list[Played] = [{} for _ in seeds]
        for (where, seed, _), entries in zip(jobs, played, strict=True):
            if where == partition:
                runs[seed - 1] |= entries
        title = f"{partition}, {len(seeds)} seeds, {ROUNDS} rounds, iot-4g on the virtual clock; mean ± 95 % interval"
        lines += [title, "", *compared(runs), ""]
    (out / "comparison.md").write_text("\n".join(lines))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
