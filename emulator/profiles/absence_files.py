"""Absences of clients as a file: CSV with the header ``from_s,to_s``, one span a line, in their order."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path

from msgspec import Struct

from emulator.errors import ProfileError
from emulator.inputs.text_files import SourceLine, decoded, lines, profile_error, read, shown
from emulator.traces.rows import EXACT, MOST_S, NUMBER

HEADER = "from_s,to_s"
LARGEST_BYTES = 16 * 2**20


class Listed(Struct, frozen=True):
    """Spans from-to in ns, each ended before the next begins."""

    file: str
    sha256: str
    spans: tuple[tuple[int, int], ...]


def load_absences(path: Path, asker: str, key: str) -> Listed:
    """Reads the spans of ``path``, which ``asker`` names in ``key``. Blank lines and ``#`` comments are passed over."""
    try:
        content = read(path, LARGEST_BYTES)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        remedy = f"name a CSV file with the header {HEADER}"
        raise profile_error(asker, key, f"cannot read {path} ({reason}); {remedy}") from None
    if len(content) > LARGEST_BYTES:
        raise profile_error(str(path), "", f"is larger than {LARGEST_BYTES >> 20} MiB; write fewer spans")
    text = decoded(str(path), content)
    spans: list[tuple[int, int]] = []
    first, *rows = [*lines(str(path), text)] or [SourceLine(f"{path}:1", "")]
    if first.text.replace(" ", "") != HEADER:
        raise _wrong(first, f"the first line must be {HEADER}")
    for line in rows:
        begin_ns, end_ns = _span(line)
        if end_ns <= begin_ns:
            raise _wrong(line, "must end after it begins; a client that never came back would stop the run")
        if spans and begin_ns <= spans[-1][1]:
            raise _wrong(line, "begins before the span above it has ended; write them in order, apart")
        spans.append((begin_ns, end_ns))
    if not spans:
        raise _wrong(first, f"no spans; write {HEADER} and then a line for each")
    return Listed(str(path), hashlib.sha256(content).hexdigest(), tuple(spans))


def _span(line: SourceLine) -> tuple[int, int]:
    words = [word.strip() for word in line.text.split(",")]
    if len(words) != 2 or not all(NUMBER.fullmatch(word) and len(word) <= 60 for word in words):
        raise _wrong(line, f"{shown(line.text)} must be two numbers of seconds, from and to, such as 2.5,10")
    begin, end = map(Decimal, words)
    if not (0 <= begin <= MOST_S and 0 <= end <= MOST_S):
        raise _wrong(line, f"times must be from 0 to {MOST_S} s")
    return int(begin.scaleb(9, EXACT)), int(end.scaleb(9, EXACT))


def _wrong(line: SourceLine, problem: str) -> ProfileError:
    return profile_error(line.where, "", problem)
