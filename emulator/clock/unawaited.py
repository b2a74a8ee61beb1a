"""Coroutines that nobody awaits: a method's ``node.post(...)`` without ``await``, which does nothing.

Python says so when such a coroutine is freed, as a warning on stderr; one that is kept in a variable never is.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import CoroutineType
from typing import Any, TextIO

from emulator.errors import SplitbedError

_WORDS = "was never awaited"
_tell: dict[int, Callable[[str], None]] = {}  # by thread: several loops may be in one process
_lock = threading.Lock()
_warnings = ExitStack()


@contextmanager
def told_of(tell: Callable[[str], None]) -> Iterator[None]:
    """Context in which ``tell`` is told, in words, of each coroutine of this thread that is freed before it was
    awaited."""
    depth = sys.get_coroutine_origin_tracking_depth()
    with _lock:
        if not _tell:
            _warnings.enter_context(_heard())
        outer = _tell.get(threading.get_ident())
        _tell[threading.get_ident()] = tell
    sys.set_coroutine_origin_tracking_depth(1)
    try:
        yield
    finally:
        sys.set_coroutine_origin_tracking_depth(depth)
        with _lock:
            del _tell[threading.get_ident()]
            if outer:
                _tell[threading.get_ident()] = outer
            if not _tell:
                _warnings.close()


@contextmanager
def _heard() -> Iterator[None]:
    """Context in which Python's warnings of such coroutines go to whom the thread has told."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        tell, text = _tell.get(threading.get_ident()), str(message)
        if tell and category is RuntimeWarning and _WORDS in text:
            tell(_in_words(text.split("'")[1], *_made_at(text, filename, lineno)))
        else:
            before(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        before, warnings.showwarning = warnings.showwarning, show
        warnings.filterwarnings("always", f".*{_WORDS}", RuntimeWarning)
        yield


def explain(error: BaseException, dropped: Exception | None, tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Notes on an error that a coroutine in place of its result has caused: where ``await`` was left out.

    ``dropped``: what was told of one that was freed; ``tasks``: whose coroutines may yet begin.
    """
    if "coroutine" in str(error) and not isinstance(error, SplitbedError):  # Python's words, and torch's: its type
        to_begin = [task.get_coro() for task in tasks]
        for note in dict.fromkeys([*([str(dropped)] if dropped else []), *kept(to_begin)]):
            error.add_note(note)


def kept(but: Sequence[object] = ()) -> list[str]:
    """In words, the coroutines of this process that are kept somewhere and that nobody has awaited yet; ``but``: those
    that are meant to be."""
    return [
        _in_words(each.__qualname__, *each.cr_origin[-1][:2])
        for each in gc.get_objects()
        if type(each) is CoroutineType and inspect.getcoroutinestate(each) == inspect.CORO_CREATED
        if each.cr_origin and not any(each is other for other in but)
    ]


def _made_at(text: str, filename: str, lineno: int) -> tuple[str, int]:
    """File and line where the coroutine of Python's warning was made; else where it was freed."""
    for line in text.splitlines():
        if line.startswith('  File "'):
            _, filename, rest = line.split('"', 2)
            lineno = int(rest.split(",")[1].split()[1])
    return filename, lineno


def _in_words(function: str, filename: str, lineno: int) -> str:
    return f"{Path(filename).name}:{lineno}: {function}(…) {_WORDS}: write await before it"
