"""What a signal ended: where the process was, and whether its memory had run out.

oneDNN and C++ libraries do not always check what they could not allocate: under an enforced cap a computation may die
by SIGSEGV, SIGABRT or SIGBUS where torch would have raised an error. ``faulthandler`` writes down, in the dying
process, what the thread did that the signal struck. Memory had run out where

- that thread was in a computation, or in a library's own thread that Python does not know (one that waits for messages
  was ended from outside), and
- the client's account of its tensors, or its peak so far, cannot be said to fit: it is above the budget, or below by
  less than the account may be off.

Else it stays a crash, and says where.
"""

from __future__ import annotations

import faulthandler
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from emulator.compute.memory import MIB
from emulator.errors import DoesNotFit
from emulator.ledger.events import AnyEvent, Computed, Ended, Memory, MemoryEstimated, Started
from emulator.ledger.files import Ledger, read_node

OF_MEMORY = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)
ACCOUNT_OFF_SHARE, ACCOUNT_OFF_BYTES = 0.10, MIB  # an account is within so much of what a run measures
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (\S+)')
_COMPUTING = "emulator/compute/counting.py"


class InterruptedCode(NamedTuple):
    """What the thread did that a signal struck. ``function``: the computation's, or ""; ``line``: its file and line;
    ``foreign``: it was none of Python's."""

    function: str
    line: str
    foreign: bool


def _path(folder: Path, node: str) -> Path:
    return folder / f"{node}.struck"


def install_crash_recorder(folder: Path, node: str) -> None:
    """Let this process write down what it does when a signal of a fault ends it; the file stays open."""
    faulthandler.enable(_path(folder, node).open("w"), all_threads=False)


def read_crash(folder: Path, node: str) -> InterruptedCode | None:
    """What ``watch`` wrote; None where nothing was."""
    try:
        text = _path(folder, node).read_text(errors="replace")
    except OSError:
        return None
    if "(most recent call first)" not in text:
        return None
    frames = [(file, line, name) for file, line, name in _FRAME.findall(text)]
    outermost = [*reversed(frames)]
    computing = [i for i, (file, _, name) in enumerate(outermost) if file.endswith(_COMPUTING) and name == "carry_out"]
    if not computing:
        return InterruptedCode("", "", not frames)
    inside = [frame for frame in outermost[computing[0] :] if not frame[0].endswith(_COMPUTING)]
    if not inside:
        return InterruptedCode("a computation", "", False)
    file, line, function = inside[0]
    return InterruptedCode(function, f"{Path(file).name}:{line}", False)


class MemoryExhausted(NamedTuple):
    """A client's computation whose memory ran out: what is said of it."""

    phase: str
    words: str


def ran_out(
    number: int, struck: InterruptedCode | None, events: Sequence[AnyEvent], account: MemoryEstimated | None
) -> MemoryExhausted | None:
    """Whether a client that signal ``number`` ended had run out of memory: None where it was a crash.

    ``events``: what it wrote; ``account``: that of its kind of device.
    """
    started = next((event for event in events if isinstance(event, Started)), None)
    if number not in OF_MEMORY or struck is None or started is None or started.limit_bytes is None:
        return None
    if not struck.function and not struck.foreign:
        return None
    budget_bytes = started.budget_bytes or 0
    peak_bytes = max((event.peak_bytes for event in events if isinstance(event, Memory)), default=0)
    needed_bytes = max(account.needed_bytes if account else 0, peak_bytes)
    if needed_bytes * (1 + ACCOUNT_OFF_SHARE) + ACCOUNT_OFF_BYTES <= budget_bytes:
        return None
    begun = any(isinstance(event, Computed) for event in events)
    phase = struck.function or ("between computations" if begun else "build the model")
    needs = f"needs {needed_bytes / MIB:.1f} MiB{' by its account' if account and needed_bytes > peak_bytes else ''}"
    detail = f"{signal.Signals(number).name}; {needs}, the budget is {budget_bytes / MIB:.1f} MiB"
    return MemoryExhausted(phase, str(DoesNotFit(phase, None, detail)))


def speak_for(folder: Path, node: str, ran: MemoryExhausted) -> None:
    """Write the last words of a client that is dead, behind its last whole line."""
    path = folder / f"{node}.jsonl"
    events = read_node(path)
    text = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(text.rfind(b"\n") + 1)
    last = events[-1]
    with Ledger(folder, node, seq=len(events)) as ledger:
        ledger.write(
            Ended(
                due_ns=last.due_ns,
                actual_ns=last.actual_ns,
                outcome="does-not-fit",
                detail=ran.words,
                phase=ran.phase,
            )
        )
