"""A dilation that the host shows to be too small: an attempt is abandoned, and the next one slowed by what it needs.

While an algorithm is played on a clock whose dilation was chosen and not said, the ends of its rounds and the clamps of
server and network are looked at. Where the run is bound to be judged bad, it is stopped; what the abandoned attempt has
cost the host says how much slower the clock must be. Its record is moved out of the ledger's folder, so that no figure
is made of it.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import fmean, median

import psutil

from emulator.ledger import round_lag
from emulator.ledger.events import Clamped, Computed, RoundEnded
from emulator.ledger.files import Tail, read_timeline
from emulator.preflight.host_schedule import Job, least_dilation
from emulator.runtime.launch_spec import LaunchSpec

MOST = 6  # attempts; the last is played to its end, and judged
LEAST_FACTOR, MOST_FACTOR = 1.5, 8  # from one attempt to the next
LOOK_S = 0.5
ABANDONED = "abandoned"  # a folder beside the ledger's


class LatenessWatch:
    """Looks at the attempt of ``spec``, in which so many ``clients`` share the network."""

    def __init__(self, spec: LaunchSpec, clients: int) -> None:
        self._folder, self._clients = Path(spec.ledger_folder), clients
        self._planned = int(spec.settings.get("rounds", 1))  # at most
        self._tails = [Tail(self._folder / f"{name}.jsonl") for name in (spec.scenario.server.name, "network")]
        self._rounds: list[RoundEnded] = []
        self._clamped_ns: dict[str, int] = defaultdict(int)
        self._next_s = 0.0
        self._before_s: float | None = None  # CPU time of all processes when it was first looked at

    def look(self, processes: Mapping[str, BaseProcess]) -> str:
        """Why the run is bound to be judged bad; "" as long as it is not."""
        now_s = time.monotonic()
        if self._before_s is None:
            self._before_s = _cpu_s(processes)
        if now_s < self._next_s:
            return ""
        self._next_s = now_s + LOOK_S
        for tail in self._tails:
            for event in tail.read():
                if isinstance(event, RoundEnded):
                    self._rounds.append(event)
                elif isinstance(event, Clamped):
                    self._clamped_ns[event.node] += event.by_ns
        return self._bound_to_be_bad()

    def _bound_to_be_bad(self) -> str:
        rounds, beyond, far = self._rounds, round_lag.beyond(self._rounds), round_lag.far(self._rounds)
        if far or len(beyond) > (1 - round_lag.LAG_ROUNDS_SHARE) * self._planned:
            worst = max(far or beyond, key=round_lag.off_ns)
            return f"round {worst.round + 1} ended {round_lag.off_ns(worst) / 1e6:.1f} ms off its due time"
        if rounds:
            length_ns = rounds[-1].due_ns * self._planned / len(rounds)  # of the whole run, at this rate
            for node, total_ns in self._clamped_ns.items():
                share = round_lag.CLAMP_SHARE * (max(self._clients, 1) if node == "network" else 1)
                if total_ns > share * length_ns:
                    return f"clamps of {node} moved events by {total_ns / 1e6:.1f} ms in {len(rounds)} rounds"
        return ""

    def next_dilation(self, dilation: int, processes: Mapping[str, BaseProcess], cores: float) -> int:
        """The dilation to go on with, by what the attempt at ``dilation`` has cost this host's ``cores``."""
        spans = read_timeline(self._folder).of(Computed)
        cpu_ns: dict[tuple[bool, str], list[int]] = defaultdict(list)
        for span in spans:
            cpu_ns[span.node == "server", span.function].append(span.cpu_ns)
        usual_ns = {kind: median(some) for kind, some in cpu_ns.items()}
        used_ns = (_cpu_s(processes) - (self._before_s or 0.0)) * 1e9
        beside_ns = max(used_ns - sum(map(sum, cpu_ns.values())), 0.0) / max(len(spans), 1)  # messages, events, ledger
        jobs = [
            Job(each.node, each.start_ns, each.due_ns, int(usual_ns[each.node == "server", each.function] + beside_ns))
            for each in spans
        ]
        round_ns = fmean([each.due_ns - each.started_ns for each in self._rounds] or [0.0])
        least, most = math.ceil(dilation * LEAST_FACTOR), dilation * MOST_FACTOR
        return min(least_dilation(jobs, int(round_ns), cores, least), most)


def set_aside(spec: LaunchSpec) -> None:
    """Move the record of an abandoned attempt out of the ledger, and leave an empty folder; its models go."""
    folder = Path(spec.ledger_folder)
    kept = folder.parent.parent / ABANDONED / f"{folder.name}-dilation-{spec.dilation}"
    kept.parent.mkdir(exist_ok=True)
    folder.rename(kept)
    folder.mkdir()
    shutil.rmtree(spec.snapshot_folder, ignore_errors=True)
    Path(spec.model_file).unlink(missing_ok=True)


def _cpu_s(processes: Mapping[str, BaseProcess]) -> float:
    """CPU time of all ``processes`` so far that are still there."""
    total_s = 0.0
    for process in processes.values():
        with contextlib.suppress(psutil.Error):
            total_s += sum(psutil.Process(process.pid).cpu_times()[:2])
    return total_s
