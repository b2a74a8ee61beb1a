"""When clients are absent, as a file: CSV with the header ``from_s,to_s``, one span a line, in their order."""

from __future__ import annotations

import hashlib
from decimal import Decimal, InvalidOperation
from pathlib import Path

from msgspec import Struct

from emulator.errors import ProfileError
from emulator.text_files import profile_error

HEADER = "from_s,to_s"
MOST_S = 10**7


class Listed(Struct, frozen=True):
    """Spans from-to in ns, each ended before the next begins."""

    file: str
    sha256: str
    spans: tuple[tuple[int, int], ...]


def load(path: Path, asker: str, key: str) -> Listed:
    """Reads the spans of ``path``, which ``asker`` names in ``key``. Blank lines and ``#`` comments are passed over."""
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        remedy = f"name a CSV file with the header {HEADER}"
        raise profile_error(asker, key, f"cannot read {path} ({reason}); {remedy}") from None
    spans: list[tuple[int, int]] = []
    headed = False
    for number, text in enumerate(lines, 1):
        line = text.partition("#")[0].strip()
        if not line:
            continue
        if not headed:
            if line.replace(" ", "") != HEADER:
                raise _wrong(path, number, f"the first line must be {HEADER}")
            headed = True
            continue
        begin_ns, end_ns = _span(path, number, line)
        if end_ns <= begin_ns:
            raise _wrong(path, number, "must end after it begins; a client that never came back would stop the run")
        if spans and begin_ns <= spans[-1][1]:
            raise _wrong(path, number, "begins before the span above it has ended; write them in order, apart")
        spans.append((begin_ns, end_ns))
    if not spans:
        raise _wrong(path, len(lines), f"no spans; write {HEADER} and then a line for each")
    return Listed(str(path), hashlib.sha256(content).hexdigest(), tuple(spans))


def _span(path: Path, number: int, line: str) -> tuple[int, int]:
    try:
        begin, end = (Decimal(word.strip()) for word in line.split(","))
    except (InvalidOperation, ValueError):
        raise _wrong(path, number, "must be two numbers of seconds, from and to") from None
    for value in (begin, end):
        if not value.is_finite() or not 0 <= value <= MOST_S:
            raise _wrong(path, number, f"times must be from 0 to {MOST_S} s")
    return int(begin * 10**9), int(end * 10**9)


def _wrong(path: Path, number: int, problem: str) -> ProfileError:
    return profile_error(f"{path}:{number}", "", problem)
