"""The process of which all others are copies: it has loaded torch, the emulator and the methods once.

It is started from the thread that plays (the kernel's parent-death signal goes by thread), and ended with the run. The
names of ``multiprocessing`` that begin with ``_`` are used here and nowhere else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from emulator.processes import environment
from emulator.runtime.launch_spec import run_target

PRELOADED = (
    "emulator.processes",
    "emulator.runtime.targets",
    "emulator.runtime.worker",
    "emulator.transport.router",
    "emulator.preflight.profiling",
    *("torch._dynamo", "numpy.random"),  # torch imports them when the first optimizer is made
    "emulator.runtime.preloaded",
)


class ForkServer:
    """``methods``: modules that it imports besides, last, where they can be imported."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*PRELOADED])
        self._methods = methods

    def start(self, sockets: Path) -> None:
        """``sockets``: the folder of its own; multiprocessing's would stay when we are killed, and be too long."""
        config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
        self._tempdir, config["tempdir"] = config.get("tempdir"), str(sockets)
        with _tracker_silent():
            resource_tracker.ensure_running()  # which the fork server wants first; it unblocks Ctrl-C
        # What is blocked stays so in a new program: Ctrl-C reaches all processes of a terminal, we alone act on it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with environment(self._methods):
            forkserver.ensure_running()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.pid = int(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it has nothing to tidy up
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        multiprocessing.current_process()._config["tempdir"] = self._tempdir  # type: ignore[attr-defined]

    def run(self, name: str, target: str, *arguments: object) -> BaseProcess:
        """A process ``name`` that calls ``target`` of ``emulator.runtime.targets``. EOFError where there is no fork
        server any more, OSError where the host has none left."""
        process = self._context.Process(target=run_target, args=(target, *arguments), name=name, daemon=True)
        with _main_left_out():
            process.start()
        return process


@contextlib.contextmanager
def _tracker_silent() -> Iterator[None]:
    """The resource tracker that starts now takes away what killed processes leave, and says nothing of it: libraries
    make semaphores as they are imported (tqdm, which torch imports where it is installed)."""
    sys.warnoptions.append(ours := "ignore:resource_tracker:UserWarning")
    try:
        yield
    finally:
        sys.warnoptions.remove(ours)


@contextlib.contextmanager
def _main_left_out() -> Iterator[None]:
    """A child does not run the caller's program again, which may play a run without a guard, or be a notebook."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    main.__spec__ = None
    if file is not None:
        del main.__file__
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file
