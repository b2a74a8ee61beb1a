"""The ledger on disk: append-only writer, a reader that follows, the merged file."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from emulator.errors import UserError
from emulator.ledger.events import AnyEvent, Event
from emulator.ledger.timeline import Timeline

T = TypeVar("T")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)  # lines
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


class Ledger:
    """Append-only writer of one node's events; safe to use from several threads of the process."""

    def __init__(self, folder: Path, node: str, seq: int = 0) -> None:
        self.path = folder / f"{node}.jsonl"
        self._node = node
        self._seq = seq  # lines that are there already
        self._lock = threading.Lock()
        self._encoder = msgspec.json.Encoder()
        self._file = self.path.open("ab", buffering=0)

    def write(self, event: Event) -> None:
        """Append ``event`` as one line in one ``write()``; OSError, and no part of a line, where there is no room."""
        with self._lock:
            line = self._encoder.encode(msgspec.structs.replace(event, node=self._node, seq=self._seq)) + b"\n"
            file = self._file.fileno()
            try:
                written = os.write(file, line)
            except OSError as error:  # which knows a number alone
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            if written != len(line):  # a full disk: the next line would be appended to a part of this one
                os.ftruncate(file, os.fstat(file).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._seq += 1

    def begin_anew(self) -> None:
        """Go on with an empty file in the same place, where the old one has been moved away."""
        with self._lock:
            self._file.close()
            self._file, self._seq = self.path.open("ab", buffering=0), 0

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tail:
    """Reads a growing ledger file: each ``read`` returns the events that were completed since the last one; UserError
    with the line where there is one that cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = self._lines = 0

    def read(self) -> list[AnyEvent]:
        try:
            with io.FileIO(self.path) as file:  # unbuffered: hundreds of files are looked at twice a second
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        complete = text[: text.rfind(b"\n") + 1]
        lines, read = complete.splitlines(), self._lines
        self._offset += len(complete)
        self._lines += len(lines)
        try:
            return [_decoder.decode(line) for line in lines]
        except UNREADABLE:
            return [_decoded(_decoder, line, self.path, read + i) for i, line in enumerate(lines, 1)]


def _decoded(decoder: msgspec.json.Decoder[T], line: bytes, path: Path, number: int) -> T:
    """What a line holds; UserError with the file and the line's number, where that is nothing of the kind."""
    try:
        return decoder.decode(line)
    except UNREADABLE as error:
        raise UserError(
            f"{path}, line {number}: no event that this version can read ({error}); take the line out of it"
        ) from None


def read_node(path: Path) -> list[AnyEvent]:
    """All complete lines of one node's file, in the order they were written."""
    return Tail(path).read()


def read_timeline(folder: Path) -> Timeline:
    """The events of one algorithm, from its folder of per-node files."""
    return Timeline(event for path in sorted(folder.glob("*.jsonl")) for event in read_node(path))


def encode_line(event: Event) -> bytes:
    """One line of JSON, without the newline."""
    return msgspec.json.encode(event)


class _Owned(msgspec.Struct):
    algorithm: str


def merged_lines(algorithm: str, events: Iterable[Event]) -> Iterator[bytes]:
    """The lines of ``ledger.jsonl``: those of nodes, each with its algorithm."""
    prefix = msgspec.json.encode({"algorithm": algorithm})[:-1] + b","
    return (prefix + encode_line(event)[1:] + b"\n" for event in events)


def read_merged(path: Path) -> dict[str, Timeline]:
    """What ``merged_lines`` wrote, by algorithm."""
    found: dict[str, list[AnyEvent]] = {}
    owner = msgspec.json.Decoder(_Owned)
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        algorithm = _decoded(owner, line, path, number).algorithm
        found.setdefault(algorithm, []).append(_decoded(_decoder, line, path, number))
    return {algorithm: Timeline(events) for algorithm, events in found.items()}
