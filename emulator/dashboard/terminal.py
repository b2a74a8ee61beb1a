"""A terminal that is drawn on and read keys from, and left as it was found.

Nothing is done to it while its foreground is not ours (the run goes on in the shell's background): the kernel would
stop the whole run. What is drawn stands on the alternate screen; only lines that have changed are written.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import termios
import tty
from collections.abc import Sequence

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # the alternate screen, no cursor, no wrapping, blank
LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
OTHER_KEYS = re.compile(r"\x1b(\[[0-9;]*[A-Za-z~]|O[A-Za-z])?")  # arrows and the like, as they are sent
SAVED = termios.TCSANOW  # what is still to be written is not waited for: the terminal may be stopped


def modes_of(keyboard: int) -> list[object] | None:
    """The modes of a terminal; None where it is none."""
    try:
        return list(termios.tcgetattr(keyboard))
    except termios.error:
        return None


def is_ours(terminal: int) -> bool:
    """Whether the terminal's foreground is our job."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # not our controlling terminal: a job has no foreground there
        return True


def restore(keyboard: int, modes: list[object] | None) -> None:
    """Give the modes back, where that is ours to do."""
    if modes is not None and is_ours(keyboard):
        with contextlib.suppress(termios.error):
            termios.tcsetattr(keyboard, SAVED, modes)  # type: ignore[arg-type]


class Terminal:
    """``open`` and ``close`` may be called several times. ``keyboard`` and ``screen`` are file descriptors."""

    def __init__(self, keyboard: int = 0, screen: int = 1, colour: bool = True) -> None:
        self._keyboard, self._screen = keyboard, screen
        self._console = Console(force_terminal=True, color_system="standard", no_color=not colour, width=1000)
        self._modes: list[object] | None = None
        self._shown: list[Text] = []
        self.drawn_size = (0, 0)
        self.is_open = False

    def open(self) -> bool:
        """Take the terminal over; whether it is ours to take."""
        if not is_ours(self._screen):
            return False
        if not self.is_open:
            self._modes = modes_of(self._keyboard) if is_ours(self._keyboard) else None
            self.is_open = True
            if self._modes is not None:
                tty.setcbreak(self._keyboard, SAVED)
            self._write(ENTER)
        self._shown = []
        return True

    def close(self) -> None:
        """Leave it as it was found."""
        if self.is_open:
            self.is_open = False
            restore(self._keyboard, self._modes)
            self._write(LEAVE)

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._screen)
        except OSError:
            columns = lines = 0
        return (columns, lines) if columns and lines else (shutil.get_terminal_size()[0], shutil.get_terminal_size()[1])

    def paint(self, lines: Sequence[Text], size: tuple[int, int]) -> int:
        """Draw the lines from the top, as many as there are; how many had changed."""
        if size != self.drawn_size:
            self.drawn_size, self._shown = size, []
            self._write("\x1b[2J")
        changed = []
        for i, line in enumerate(lines):
            if i >= len(self._shown) or (line, line.style) != (self._shown[i], self._shown[i].style):
                changed.append(f"\x1b[{i + 1};1H{self._encoded(line)}")
        self._write("".join(changed))
        self._shown = list(lines)
        return len(changed)

    def keys(self, within_s: float) -> str:
        """The keys that are pressed next, or "" after ``within_s``; of those that are no characters, nothing."""
        if self._modes is None or not self.is_open or not is_ours(self._keyboard):
            select.select([], [], [], within_s)
            return ""
        if not select.select([self._keyboard], [], [], within_s)[0]:
            return ""
        typed = os.read(self._keyboard, 64)
        if not typed:  # hung up
            self._modes = None
        return OTHER_KEYS.sub("", typed.decode("ascii", "ignore"))

    def _encoded(self, line: Text) -> str:
        styled = line.copy()
        styled.stylize_before(line.style)
        segments = styled.render(self._console)
        if self._console.no_color:
            segments = Segment.remove_color(segments)
        return "".join(
            part.style.render(part.text, color_system=ColorSystem.STANDARD) if part.style else part.text
            for part in segments
        )

    def _write(self, text: str) -> None:
        left = text.encode()
        while left:
            left = left[os.write(self._screen, left) :]
