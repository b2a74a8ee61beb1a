"""Text that a user brings, whatever program wrote it: UTF-8 or UTF-16 with its byte order mark, any line ends.

What is no text is refused in one line that says what it is instead, and where.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from emulator.errors import ProfileError, one_line

UTF_16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
PACKED = {  # by the first bytes of a file: what it is, what unpacks it
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"PK\x03\x04": ("zip (a spreadsheet is one, too)", "unzip, or save it as CSV"),
}
ENDLESS = re.compile(r"\S{400,}")  # a word, longer than any path


class SourceLine(Struct, frozen=True):
    """A line that is neither blank nor a comment; ``where`` is its file and number, for errors."""

    where: str
    text: str


def profile_error(file: str, key: str, problem: str) -> ProfileError:
    """A ``ProfileError`` of one line that can be read, whatever a file has in its keys."""
    said = (file, *(ENDLESS.sub(lambda word: f"{word[0][:60]}…", part) for part in (key, problem)))
    return ProfileError(*map(one_line, said))


def shown(text: str) -> str:
    """A word of a file in quotes, short enough for an error of one line."""
    return f'"{text}"' if len(text) <= 40 else f'"{text[:40]}…"'


def read(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file, and one more than ``most_bytes`` of one that is larger.

    Raises ``OSError`` where it cannot be read, whatever is wrong with its name.
    """
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():  # a pipe would be waited for
            raise OSError(errno.EINVAL, "it is no regular file; save what it says in one")
        with path.open("rb") as file:
            return file.read(most_bytes + 1)
    except ValueError:  # a zero byte in the name
        raise FileNotFoundError(2, "it is no file name") from None


def decoded(file: str, content: bytes) -> str:
    """The text in ``content``, its line ends as they are; ``ProfileError`` for what is none."""
    for mark, (what, remedy) in PACKED.items():
        if content.startswith(mark):
            raise profile_error(file, "", f"is not text: it is compressed by {what}; unpack it first: {remedy}")
    coding = UTF_16.get(content[:2], "utf-8-sig")
    if coding == "utf-8-sig" and b"\0" in content:
        number = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise profile_error(f"{file}:{number}", "", "is not text; save it as text in UTF-8, uncompressed")
    try:
        return content.decode(coding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if coding != "utf-8-sig":
            raise profile_error(file, "", "begins as UTF-16 text and goes on otherwise; save it in UTF-8") from None
        number = content.count(b"\n", 0, error.start) + 1
        problem = f"byte {error.object[error.start]:#04x} is not UTF-8 text; save it as text in UTF-8"
        raise profile_error(f"{file}:{number}", "", problem) from None


def lines(file: str, text: str) -> Iterator[SourceLine]:
    """The lines that say something: without comments (``#`` to the end) and white space around them."""
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        said = line.partition("#")[0].strip()
        if said:
            yield SourceLine(f"{file}:{number}", said)
