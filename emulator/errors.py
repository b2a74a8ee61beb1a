"""Errors, by whose fault they are; the text of every error is shown to the user as it is.

``SplitbedError`` is the base. Its subclasses say who has to act: the user (``UserError`` and below), the author of
an algorithm (``ProtocolError``), the world (``PeerLost``) or us (``InternalError``). Running out of memory is an
outcome (``DoesNotFit``), not a fault.
"""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path

ENDLESS = re.compile(r"\S{1000,}")  # a word of a command line, longer than any that is meant


def one_line(text: str) -> str:
    """Of a text with words of a command line in it, what can be shown in one line, whatever they are."""
    short = ENDLESS.sub(lambda word: f"{word[0][:60]}…", text)
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in short)


class SplitbedError(Exception):
    """Base of all errors that splitbed raises on purpose."""


class UserError(SplitbedError):
    """Something the user can mend: one line that names the file, the key and what would be right; exit status 2."""


class NoRoom(UserError):
    """A disk is full. Before anything is played nothing is lost; what a run has recorded until then stays."""


class UserCodeError(UserError):
    """A fault in Python that a user brings, before anything is played: one line, that of their file first."""


class ProfileError(UserError):
    """A profile file says something that cannot be emulated."""

    def __init__(self, file: str, key: str, problem: str) -> None:
        super().__init__(f"{file}: {key}: {problem}" if key else f"{file}: {problem}")
        self.file, self.key, self.problem = file, key, problem


class ProtocolError(SplitbedError):
    """An algorithm, or a peer, sent or expected a message that does not belong there."""


class WireError(ProtocolError):
    """A message whose header or payload cannot be accepted; it is refused, counted and logged."""


class PeerLost(SplitbedError):
    """The other end is gone, so what was awaited can never come."""


class Deadlock(SplitbedError):
    """All nodes wait, no timer is set and nothing is in flight; the text names who waits for what."""


class InternalError(SplitbedError):
    """An invariant of the emulator itself does not hold: our fault."""


class DoesNotFit(SplitbedError):
    """A node needed more memory than its training budget; a result of the run.

    ``phase`` says what it was doing, ``asked_bytes`` how much it asked for at that moment (None where unknown).
    """

    def __init__(self, phase: str, asked_bytes: int | None, detail: str = "") -> None:
        asked = f", asked for {asked_bytes / 2**20:.1f} MiB" if asked_bytes is not None else ""
        super().__init__(f"does not fit in memory: {phase}{asked}{': ' + detail if detail else ''}")
        self.phase, self.asked_bytes, self.detail = phase, asked_bytes, detail

    def __reduce__(self) -> tuple[type, tuple[str, int | None, str]]:
        return type(self), (self.phase, self.asked_bytes, self.detail)


def root_of(error: BaseException) -> BaseException:
    """The error that task groups wrap: running out of memory first, else the first."""
    while isinstance(error, BaseExceptionGroup):
        leaves = list(error.exceptions)
        error = next((leaf for leaf in leaves if isinstance(leaf, DoesNotFit)), leaves[0])
    return error


def notes(error: BaseException) -> list[str]:
    """What was added to an error on its way (``add_note``)."""
    return list(getattr(error, "__notes__", ()))


_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OURS = tuple(str(Path(__file__).parent.parent / wing) for wing in ("algorithms", "emulator"))
LONGEST = 400  # characters of an exception's text in a line; a traceback has all


def is_own(filename: str) -> bool:
    """Whether a file is a user's: neither the emulator's, nor a method's or model's that ships, nor a library's."""
    path = Path(filename)
    inside = any(path.is_relative_to(folder) for folder in (*_OURS, *_LIBRARIES))
    return path.is_absolute() and not inside and not {"site-packages", "dist-packages"} & {*path.parts}


def told(error: BaseException, source: str | None) -> str:
    """``FILE:LINE: kind: text`` of an error, in one line: its last line in a file of the user's or in ``source`` (a
    method's file), else its very last."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == source or is_own(frame.filename)]
    ours = isinstance(error, SplitbedError)  # whose text says all but where it was caused
    own = own or ([] if ours else frames)
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""
    text = " ".join(str(error).split())
    short = f"{text[:LONGEST]}…" if len(text) > LONGEST else text
    short = "; ".join([*([short] if short else []), *(" ".join(note.split()) for note in notes(error))])
    return f"{where}{short}" if ours else f"{where}{type(error).__name__}{f': {short}' if short else ''}"


_FRAME = re.compile(r'^  File "(.*)", line (\d+), in (\S+)\n    (.*)', re.MULTILINE)
MOST_FRAMES = 8  # that are shown: an endless recursion has a thousand


def own_frames(traceback_text: str) -> list[str]:
    """Of a traceback, the frames in files of the user's, outermost first: ``FILE:LINE, in function: source``."""
    found = [
        f"{Path(file).name}:{line}, in {function}: {source.strip()}"
        for file, line, function, source in _FRAME.findall(traceback_text)
        if is_own(file)
    ]
    left = len(found) - MOST_FRAMES
    return found if left <= 0 else [*found[: MOST_FRAMES // 2], f"… {left} more", *found[-MOST_FRAMES // 2 :]]


def traceback_of(error: BaseException) -> str:
    """The way to an error; "" where it is one of ours, caused in no file of the user's: its text says all."""
    text = "".join(traceback.format_exception(error)).rstrip()
    return text if own_frames(text) or not isinstance(error, SplitbedError) else ""


class MethodFailed(SplitbedError):
    """An error in a method, or below it: the text is one line, ``traceback`` the way to it."""

    def __init__(self, text: str, traceback_text: str) -> None:
        super().__init__(text)
        self.traceback = traceback_text

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.traceback)
