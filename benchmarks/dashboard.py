"""What the live dashboard costs: the share of a core that its process uses while a run's ledger grows.

The ledger is that of a dry run, written anew at its due times by this process, so that nothing else is measured and
any number of clients can be shown on any host. The share is counted from the first picture on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil

from benchmarks.report import Section, Target
from benchmarks.stage import Broken, Stage
from benchmarks.virtual import ROOT, play_virtual
from emulator.dashboard import OWNED
from emulator.ledger import AnyEvent, encode_line, read_timeline

ALGORITHM = "splitfed-v1"  # two messages a batch: the most lines a second of all
CLIENTS = (10, 200)
SIZES = {(80, 24): 5.0, (160, 50): 8.0}  # and at most so many per cent of a core
SECONDS = 20.0
TICK_S = 0.05
START_S = 30.0


def run(_stage: Stage, quick: bool) -> Section:
    """Ten and two hundred clients on a small and a large screen."""
    rows = [["clients", "screen", "lines a second", "core, %", "kB/s to the terminal"]]
    figures: dict[str, object] = {}
    targets = []
    with tempfile.TemporaryDirectory(prefix="splitbed-bench-") as name:
        for clients in CLIENTS:
            flags = ["--profile", "iot-4g", "--clients", str(clients), "--algorithm", ALGORITHM, "--rounds", "12"]
            recorded = Path(name) / str(clients)
            play_virtual(recorded, [*flags, "--samples-per-client", "96", "--dry-run", "--force"])
            events = read_timeline(recorded / "ledger" / ALGORITHM)
            for (width, height), most in SIZES.items():
                shown = Path(name) / f"{clients}-{width}"
                seconds = SECONDS / 4 if quick else SECONDS
                share, lines, written = _follow(recorded, shown, events, (width, height), seconds)
                rows.append([str(clients), f"{width} x {height}", f"{lines / seconds:.0f}", f"{100 * share:.2f}"])
                rows[-1].append(f"{written / seconds / 1e3:.1f}")
                figures[f"{clients}/{width}x{height}"] = {"core_share": share, "lines_per_s": lines / seconds}
                targets.append(
                    Target(f"{clients} clients, {width} x {height}", 100 * share, "% of a core", most, False)
                )
    return Section("dashboard", f"{ALGORITHM} on iot-4g, followed for {SECONDS:.0f} s", rows, figures, targets)


def _follow(
    recorded: Path, shown: Path, events: list[AnyEvent], size: tuple[int, int], seconds: float
) -> tuple[float, int, int]:
    """Share of a core, lines of the ledger and bytes on the terminal while the dashboard follows ``events``."""
    (shown / "ledger" / ALGORITHM).mkdir(parents=True)
    shutil.copy(recorded / "manifest.json", shown)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, size[::-1])
    written = [0]
    seen = threading.Event()

    def drain() -> None:
        while True:
            try:
                written[0] += len(os.read(ours, 65536))
            except OSError:  # the terminal is closed
                return
            seen.set()

    threading.Thread(target=drain, daemon=True).start()
    command = [sys.executable, str(ROOT / "run.py"), "watch", str(shown), OWNED]
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environment | {"TERM": "xterm"})
    try:
        if not seen.wait(START_S):
            raise Broken("the dashboard did not draw")
        usage = psutil.Process(process.pid)
        before, from_bytes, begun_s = sum(usage.cpu_times()[:2]), written[0], time.monotonic()
        lines = _write(events, shown / "ledger" / ALGORITHM, seconds)
        took_s = time.monotonic() - begun_s
        if process.poll() is not None:
            raise Broken(f"the dashboard ended with status {process.returncode}")
        return (sum(usage.cpu_times()[:2]) - before) / took_s, lines, written[0] - from_bytes
    finally:
        process.terminate()
        process.wait()
        os.close(theirs)


def _write(events: list[AnyEvent], folder: Path, seconds: float) -> int:
    """Append the lines to their nodes' files as they become due; how many."""
    begun_s, done = time.monotonic(), 0
    while (now_s := time.monotonic() - begun_s) < seconds:
        due: dict[str, list[bytes]] = defaultdict(list)
        while done < len(events) and events[done].due_ns <= now_s * 1e9:
            due[events[done].node].append(encode_line(events[done]))
            done += 1
        for node, lines in due.items():
            with (folder / f"{node}.jsonl").open("ab") as file:
                file.write(b"\n".join(lines) + b"\n")
        time.sleep(TICK_S)
    return done
