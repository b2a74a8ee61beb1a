"""Counted work of a computation, taken while it runs, and the thread that runs it.

A ``TorchDispatchMode`` sees every operation that torch dispatches, backward passes and optimizer steps included, and
adds up what each costs (``operators``); all count as one dispatched operation, views included. What counts is what the
CPU's kernels are asked for: on the meta device torch takes attention and recurrent layers apart, so that a model is
counted without values where it is ``imagined``.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emulator.compute.device import Speed, Work, duration_ns
from emulator.compute.operators import is_composite, work_of

F = TypeVar("F", bound=Callable[..., Any])


_pauses = threading.local()


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """Context whose work is left out of the count, since it is not done in every step: an optimizer's state."""
    _pauses.depth = getattr(_pauses, "depth", 0) + 1
    try:
        yield
    finally:
        _pauses.depth -= 1


def is_uncounted() -> bool:
    """Whether work done now is left out of the count."""
    return bool(getattr(_pauses, "depth", 0))


class WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the work of all operators that are dispatched while it is active, in ``work``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work = Work()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        if not getattr(_pauses, "depth", 0):
            self.work += work_of(func, args, kwargs, out)
        return out


def computation(tag: str, *, weights: str = "") -> Callable[[F], F]:
    """Decorator that declares a function's ``tag``: its name in the ledger, in tables and in digests, however the
    function is renamed or moved. ``weights``: an argument of numbers whose values do not change what it costs."""

    def declare(fn: F) -> F:
        fn.tag = tag  # type: ignore[attr-defined]
        names = list(inspect.signature(fn).parameters)
        fn.weights_at = names.index(weights) if weights else None  # type: ignore[attr-defined]
        return fn

    return declare


def tag_of(fn: Callable[..., Any]) -> str:
    """The declared tag of a computation, else its qualified name."""
    tag: str = getattr(fn, "tag", "") or fn.__qualname__
    return tag


def cost_key(fn: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """A key that is equal for computations that cost the same: the function, and its arguments by shape or value."""
    weights_at = getattr(fn, "weights_at", None)
    described = (f"{len(arg)} numbers" if i == weights_at else _describe(arg) for i, arg in enumerate(args))
    return f"{fn.__module__}.{fn.__qualname__}({', '.join(described)})"


def _describe(value: Any) -> str:
    key = getattr(value, "cost_key", None)
    if isinstance(key, str):
        return key
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, dict):
        inner = ", ".join(f"{name}: {_describe(item)}" for name, item in value.items())
        return hashlib.sha256(inner.encode()).hexdigest()[:12] if len(inner) > 64 else f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_describe, value))}]"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return type(value).__qualname__


class Costs:
    """The cost table: work by cost key. What it does not have yet is counted at its first run.

    ``measured_ns``: CPU time that this host needs, by cost key; ``host``: its speed. A computation that is there takes,
    on a device, its CPU time times the ratio of the modelled times on the device and on the host.
    """

    def __init__(
        self, table: dict[str, Work] | None = None, measured_ns: dict[str, int] | None = None, host: Speed | None = None
    ) -> None:
        self.table = dict(table or {})
        self._measured_ns, self._host = measured_ns or {}, host

    def duration_ns(self, key: str, device: Speed) -> int:
        """The duration of the computation ``key`` on ``device``, in ns."""
        modelled_ns = duration_ns(self.table[key], device)
        if self._host is None or key not in self._measured_ns:
            return modelled_ns
        return self._measured_ns[key] * modelled_ns // max(duration_ns(self.table[key], self._host), 1)

    def knows(self, key: str) -> bool:
        return key in self.table

    def count(self, key: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run ``fn(*args)``, put its work into the table under ``key``, and return what it returned."""
        with WorkCounter() as counter:
            try:
                return fn(*args)
            finally:
                self.table[key] = counter.work

    def carry_out(
        self, key: str, fn: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, counted: bool
    ) -> list[Any]:
        """Run ``fn`` for each of the ``arguments``, the first one ``counted``; returns the list of results."""
        first = self.count(key, fn, arguments[0]) if counted else fn(*arguments[0])
        return [first, *(fn(*args) for args in arguments[1:])]


class HostRun:
    """One computation on the host: its wall and CPU time; ``ended_actual_ns``: emulated time at its end."""

    def __init__(self) -> None:
        self.host_ns = self.cpu_ns = 0
        self.ended_actual_ns = 0
        self.started_wall_ns = 0  # 0: not yet
        self.urgent = False
        self._future: Future[Any] = Future()

    def carry_out(self, fn: Callable[[], Any], clock: Callable[[], int]) -> None:
        self.started_wall_ns = time.monotonic_ns()
        started_cpu_ns = time.thread_time_ns()
        try:
            result, error = fn(), None
        except BaseException as raised:
            result, error = None, raised
        self.host_ns = time.monotonic_ns() - self.started_wall_ns
        self.cpu_ns = time.thread_time_ns() - started_cpu_ns
        self.ended_actual_ns = clock()
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)

    def ready(self) -> bool:
        """Whether the computation has ended; a caller that gets False is woken at its end, others not."""
        self.urgent = True
        return self._future.done()

    def settle(self) -> None:
        """Wait on the host until the computation has ended; its outcome stays with ``result``."""
        self._future.exception()

    def result(self) -> Any:
        """The value that the computation returned, or its exception raised; no reference to it is kept."""
        future, self._future = self._future, Future()
        return future.result()


class ComputeHost(Protocol):
    """The part of the host that runs a node's computations: one thread, one at a time, in order of submission."""

    def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun: ...


class ComputeThread:
    """Runs a node's computations one at a time, in order, in one thread of low priority (nice is per thread)."""

    NICE = 10

    def __init__(self) -> None:
        self.current: HostRun | None = None
        self.ident = 0
        self._pool = ThreadPoolExecutor(1, "compute", initializer=lambda: os.setpriority(os.PRIO_PROCESS, 0, self.NICE))

    def submit(self, fn: Callable[[], Any], clock: Callable[[], int], wake: Callable[[], None]) -> HostRun:
        """Queue ``fn``; ``wake`` is called in the compute thread when it has ended."""
        run = HostRun()

        def work() -> None:
            self.current, self.ident = run, threading.get_ident()
            run.carry_out(fn, clock)
            self.current = None
            if run.urgent:
                wake()

        self._pool.submit(work)
        return run

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
