"""What the live dashboard costs: the share of a core that its process uses while a run's ledger grows.

The ledger is that of a dry run, written anew at its due times by this process, so that nothing else is measured and
any number of clients can be shown on any host. The share is counted from the first picture on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import termios
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from benchmarks.report import Section, Target
from benchmarks.stage import Broken, Stage
from benchmarks.virtual import play_virtual
from emulator.dashboard.launch import PROGRAM
from emulator.ledger.events import AnyEvent, Lifecycle
from emulator.ledger.files import Ledger, encode_line, read_timeline
from emulator.ledger.manifest import read_manifest, write_manifest

ALGORITHM = "splitfed-v1"  # two messages a batch: the most lines a second of all
CLIENTS = (10, 200)
SIZES = {(80, 24): 5.0, (160, 50): 8.0}  # and at most so many per cent of a core
SECONDS = 15.0  # the last round begins then
TICK_S = 0.05
START_S = 30.0
LAST = "at-its-end"  # an outcome that is drawn


class Followed(NamedTuple):
    """Of a core, from the first picture to the last; what was written to the ledger and drawn; how long the last
    picture took after the last line."""

    share: float
    lines: int
    drawn_bytes: int
    behind_s: float


def run(stage: Stage, quick: bool) -> Section:
    """Ten and two hundred clients on a small and a large screen."""
    rows = [["clients", "screen", "lines a second", "core, %", "kB/s to the terminal", "behind at the end, s"]]
    figures: dict[str, object] = {}
    targets: list[Target] = []
    folder = stage.new_folder("dashboard")
    for clients in CLIENTS:
        flags = ["--profile", "iot-4g", "--clients", str(clients), "--algorithm", ALGORITHM]
        recorded = folder / str(clients)
        play_virtual(recorded, [*flags, "--samples-per-client", "96", "--dry-run", "--force"])
        timeline = read_timeline(recorded / "ledger" / ALGORITHM)
        events = [event for event in timeline if not isinstance(event, Lifecycle)]  # its end is not due at its end
        for (width, height), most in SIZES.items():
            shown = folder / f"{clients}-{width}"
            seconds = SECONDS / 4 if quick else SECONDS
            found = _follow(recorded, shown, events, (width, height), seconds)
            rows.append([str(clients), f"{width} x {height}", f"{found.lines / seconds:.0f}"])
            rows[-1] += [f"{100 * found.share:.2f}", f"{found.drawn_bytes / seconds / 1e3:.1f}"]
            rows[-1].append(f"{found.behind_s:.2f}")
            figures[f"{clients}/{width}x{height}"] = found._asdict()
            what = f"{clients} clients, {width} x {height}"
            targets.append(Target(what, 100 * found.share, "% of a core", most, False))
    return Section("dashboard", f"{ALGORITHM} on iot-4g, followed for {SECONDS:.0f} s", rows, figures, targets)


def _follow(recorded: Path, shown: Path, events: Sequence[AnyEvent], size: tuple[int, int], seconds: float) -> Followed:
    """Let the dashboard follow ``events`` while they are written."""
    (shown / "ledger" / ALGORITHM).mkdir(parents=True)
    write_manifest(shown, msgspec.structs.replace(read_manifest(recorded), process=None))  # it has ended
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, size[::-1])
    drawn = bytearray()
    seen = threading.Event()

    def drain() -> None:
        while True:
            try:
                drawn.extend(os.read(ours, 65536))
            except OSError:  # the terminal is closed
                return
            seen.set()

    threading.Thread(target=drain, daemon=True).start()
    command = [sys.executable, "-c", PROGRAM, str(shown)]
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environment | {"TERM": "xterm"})
    try:
        if not seen.wait(START_S):
            raise Broken("the dashboard did not draw")
        usage = psutil.Process(process.pid)
        before, from_bytes, begun_s = sum(usage.cpu_times()[:2]), len(drawn), time.monotonic()
        lines = _write(events, shown / "ledger" / ALGORITHM, seconds)
        written_s, shown_bytes = time.monotonic() - begun_s, len(drawn) - from_bytes
        with Ledger(shown / "ledger" / ALGORITHM, "supervisor") as ledger:
            ledger.write(Lifecycle(due_ns=0, actual_ns=0, outcome=LAST))
        deadline_s = time.monotonic() + START_S
        while LAST.encode() not in drawn and process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(TICK_S)
        if LAST.encode() not in drawn:
            raise Broken(f"the dashboard did not come to the ledger's end (status {process.poll()})")
        behind_s = time.monotonic() - begun_s - written_s
        return Followed((sum(usage.cpu_times()[:2]) - before) / written_s, lines, shown_bytes, behind_s)
    finally:
        process.terminate()
        process.wait()
        os.close(theirs)


def _write(events: Sequence[AnyEvent], folder: Path, seconds: float) -> int:
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
