"""Whole commands in processes of their own: written scenarios, started runs, what is left of them.

Nothing here waits for a fixed time: ``wait_for`` polls a condition until a deadline that only a hang can miss.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import psutil
from warm import Copy

from emulator.ledger.events import AnyEvent, Event, Started
from emulator.ledger.files import Tail, read_timeline
from emulator.ledger.manifest import Manifest, read_manifest
from emulator.ledger.timeline import only

TESTS = Path(__file__).parent
ROOT = TESTS.parent.parent
ROUNDS, BATCH = 2, 64  # of the runs that several tests read
NARROW_MIB = 40  # budget of the small client in the runs about memory
HANG_S = 300.0
POLL_S = 0.02

E = TypeVar("E", bound=Event)


def wait_for(condition: Callable[[], bool], what: str, within_s: float = HANG_S) -> float:
    """Seconds until ``condition()`` holds; fails after ``within_s``."""
    begin_s = time.monotonic()
    while not condition():
        assert time.monotonic() - begin_s < within_s, f"after {within_s:.0f} s not yet: {what}"
        time.sleep(POLL_S)
    return time.monotonic() - begin_s


# --- scenarios --------------------------------------------------------------------------------------------------------


class Board(NamedTuple):
    """A device file: everything in it is budget."""

    budget_mib: int = 1024
    dense_gflops: float = 20.0
    depthwise_gflops: float = 1.0
    memory_gbps: float = 2.0
    dispatch_us: int = 100

    def toml(self) -> str:
        return (
            f'kind = "device"\ndescription = "test"\nmemory_mib = {self.budget_mib}\n'
            "os_reserved_mib = 0\nruntime_mib = 0\n"
            f"dense_gflops = {self.dense_gflops}\ndepthwise_gflops = {self.depthwise_gflops}\n"
            f"memory_gbps = {self.memory_gbps}\ndispatch_us = {self.dispatch_us}\n"
        )


class Wire(NamedTuple):
    """A network file; without jitter the closed form gives its times to the nanosecond."""

    up_mbps: int = 20
    down_mbps: int = 40
    up_one_way_ms: int = 5
    down_one_way_ms: int = 3
    jitter_ms: int = 0

    def toml(self) -> str:
        return (
            'kind = "network"\ndescription = "test"\ntransport = "ideal"\n'
            f"up_mbps = {self.up_mbps}\ndown_mbps = {self.down_mbps}\n"
            f"up_one_way_ms = {self.up_one_way_ms}\ndown_one_way_ms = {self.down_one_way_ms}\n"
            f"jitter_ms = {self.jitter_ms}\n"
        )


SERVER_WIRE = Wire(up_mbps=1000, down_mbps=1000, up_one_way_ms=1, down_one_way_ms=1)
SERVER_BOARD = Board(dense_gflops=100.0, memory_gbps=10.0, dispatch_us=40)


def write_scenario(
    folder: Path, clients: list[tuple[int, Board]], wire: Wire | None = None, server_wire: Wire = SERVER_WIRE
) -> Path:
    """A scenario file with its devices and networks beside it: groups of (count, board), all on ``wire``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "link.toml").write_text((wire or Wire()).toml())
    (folder / "server-link.toml").write_text(server_wire.toml())
    (folder / "server-board.toml").write_text(SERVER_BOARD.toml())
    text = 'kind = "scenario"\ndescription = "test"\n\n[server]\ndevice = "server-board.toml"\n'
    text += 'network = "server-link.toml"\nworkers = 2\n'
    for i, (count, board) in enumerate(clients):
        (folder / f"board-{i}.toml").write_text(board.toml())
        text += f'\n[[clients]]\ncount = {count}\ndevice = "board-{i}.toml"\nnetwork = "link.toml"\n'
    path = folder / "scenario.toml"
    path.write_text(text)
    return path


# --- commands ---------------------------------------------------------------------------------------------------------


class Command:
    """A started command; use as a context, which ends whatever is left of it.

    It has a session and a folder for temporary files of its own (a short one: it will hold the path of a socket).
    ``warm``: it is a copy of a process that has loaded everything (``support/warm.py``), and not a program of its own.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        program: str = "tests/support/command.py",
        cwd: Path = ROOT,
        prefix: tuple[str, ...] = (),
        warm: bool = False,
        **variables: str,
    ) -> None:
        self.folder = folder
        self.scratch = Path(tempfile.mkdtemp(prefix="sbtest-", dir="/tmp"))
        self._seen: dict[int, psutil.Process] = {}
        shown = [str(argument) for argument in arguments]
        environment = os.environ | {"TMPDIR": str(self.scratch)} | variables
        environment.pop("PYTHONPATH", None)
        if program != "run.py":
            environment["PYTHONPATH"] = str(ROOT)  # tests/support is there by itself, as the folder of the program
        self._out, self._err = self.scratch / "out", self.scratch / "err"
        words = [*shown, "--out", str(folder), "--no-dashboard"]
        self.process: subprocess.Popen[bytes] | Copy
        if warm:
            self.process = Copy(words, environment, self._out, self._err)
        else:
            with self._out.open("w") as out, self._err.open("w") as err:
                self.process = subprocess.Popen(
                    [*prefix, sys.executable, str(ROOT / program), *words],
                    cwd=cwd,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
        self.supervisor = psutil.Process(self.process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        for process in [self.supervisor, *self._seen.values()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(HANG_S)
        shutil.rmtree(self.scratch)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def look(self) -> list[psutil.Process]:
        """Every process of this command that has been seen so far, without the supervisor."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in self.supervisor.children(recursive=True):
                self._seen.setdefault(process.pid, process)
        return list(self._seen.values())

    def left(self) -> list[psutil.Process]:
        """The processes seen that are still there; one that only waits to be reaped is not."""
        return [process for process in self._seen.values() if is_alive(process)]

    def events(self, algorithm: str, node: str, kind: type[E]) -> list[E]:
        return only(Tail(self.folder / "ledger" / algorithm / f"{node}.jsonl").read(), kind)

    def process_of(self, algorithm: str, node: str) -> psutil.Process:
        """The process of a node that has written its first line."""
        return psutil.Process(self.events(algorithm, node, Started)[0].pid)

    def fork_server(self, algorithm: str, node: str) -> psutil.Process:
        """The parent of a node."""
        parent = self.process_of(algorithm, node).parent()
        assert parent is not None
        assert parent.ppid() == self.supervisor.pid
        return parent

    def finish(self, within_s: float = HANG_S) -> int:
        """The exit status."""
        return self.process.wait(within_s)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Played(NamedTuple):
    """A command that has ended, and its folder."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.folder)

    def timeline(self, algorithm: str) -> list[AnyEvent]:
        return read_timeline(self.folder / "ledger" / algorithm)

    def events(self, algorithm: str, kind: type[E], node: str = "") -> list[E]:
        return [event for event in only(self.timeline(algorithm), kind) if node in ("", event.node)]


def play(folder: Path, *arguments: object, within_s: float = HANG_S, **how: Any) -> Played:
    """Run a command to its end; ``how`` as for ``Command``."""
    with Command(folder, *arguments, **how) as command:
        status = command.finish(within_s)
        return Played(status, command.out, command.err, folder)


def options(settings: dict[str, dict[str, object]]) -> Iterator[str]:
    """``--set`` flags for {algorithm: {key: value}}."""
    for algorithm, values in settings.items():
        for key, value in values.items():
            yield from ("--set", f"{algorithm}:{key}={value}")
