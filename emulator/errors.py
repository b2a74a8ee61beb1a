"""Errors, by whose fault they are; the text of every error is shown to the user as it is.

``SplitbedError`` is the base. Its subclasses say who has to act: the user (``UserError`` and below), the author of
an algorithm (``ProtocolError``), the world (``PeerLost``) or us (``InternalError``). Running out of memory is an
outcome (``DoesNotFit``), not a fault.
"""

from __future__ import annotations

import re
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


class UserCodeError(SplitbedError):
    """A fault in Python that a user brings: one line, that of their file first; exit status 1."""


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


def told(error: BaseException, source: str | None) -> str:
    """``FILE:LINE: kind: text`` of an error: its last line in the file ``source`` (a method's), else its very last."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == source] or frames
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""
    return f"{where}{type(error).__name__}: {error}"
