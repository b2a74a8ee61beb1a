"""Commands that are copies of one process, which has loaded torch and the emulator.

Loading takes most of a short command's time. A command that begins here, and the fork server in it, is forked from what
has loaded everything, and is else what it is: processes, sockets, signals and clocks of its own. How a command begins,
what its processes load and the memory that they take are for commands that start from nothing.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = ("command", "algorithms.commands.run", "algorithms.fedavg", "algorithms.sl")  # and what the fork server loads
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


# --- in a test --------------------------------------------------------------------------------------------------------


class Copy:
    """A command that goes on; used as a ``subprocess.Popen`` is."""

    def __init__(self, words: Sequence[str], environment: dict[str, str], out: Path, err: Path) -> None:
        sys.audit("subprocess.Popen", None, list(words), str(ROOT), environment)  # for who watches what is started
        self.pid = _ask(words=list(words), environment=environment, out=str(out), err=str(err))
        self.returncode: int | None = None
        self._ended = os.pidfd_open(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a copy", timeout or 0.0)
            self.returncode = _ask(ended=self.pid)
            os.close(self._ended)
        return self.returncode

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _template() -> subprocess.Popen[str]:
    """One for each process that asks, as long as it lives."""
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    atexit.register(process.communicate)
    return process


def _ask(**question: object) -> int:
    template = _template()
    assert template.stdin and template.stdout
    print(json.dumps(question), file=template.stdin, flush=True)
    return int(template.stdout.readline())


# --- in the process of which all are copies, and in the copies --------------------------------------------------------


def serve() -> int:
    """Answer each question: with the process that was begun, or the exit status of one that has ended."""
    from emulator.runtime.fork_server import PRELOADED

    for name in (*MODULES, *PRELOADED[:-1]):  # the last is for the fork server alone
        importlib.import_module(name)
    for line in sys.stdin:
        question = json.loads(line)
        if "ended" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["ended"], 0)[1])
        elif not (answer := os.fork()):
            return play(**question)
        print(answer, flush=True)
    return 0


def play(words: list[str], environment: dict[str, str], out: str, err: str) -> int:
    """In a copy: the command's exit status."""
    import run

    os.setsid()
    os.environ.clear()
    os.environ |= environment
    tempfile.tempdir = None
    for number, (path, flags) in enumerate([(os.devnull, os.O_RDONLY), (out, os.O_WRONLY), (err, os.O_WRONLY)]):
        os.dup2(os.open(path, flags | os.O_CREAT), number)
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, mode, closefd=False)) for number, mode in enumerate("rww")
    )
    util.spawnv_passfds = fork_server
    return run.main(words, alone=True)


spawnv_passfds = util.spawnv_passfds


def fork_server(path: bytes, arguments: Sequence[str], kept: Sequence[int]) -> int:
    """Instead of a new program, where that would be the fork server."""
    if "forkserver" not in arguments[-1]:
        return spawnv_passfds(path, arguments, kept)
    if process := os.fork():
        return process
    try:
        for entry in [*Path("/proc/self/fd").iterdir()]:
            if int(entry.name) > 2 and int(entry.name) not in kept:
                with suppress(OSError):
                    os.close(int(entry.name))
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        forkserver._forkserver.__init__()
        resource_tracker._resource_tracker._fd = resource_tracker._resource_tracker._pid = None
        importlib.reload(sys.modules["emulator.processes"])  # its last lines are for a fork server
        exec(arguments[-1], {})
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(serve())
