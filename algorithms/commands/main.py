"""splitbed's command line: a command by its name, or a run. Nothing heavy is imported before it is known which."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from emulator.errors import SplitbedError, UserError, one_line
from emulator.processes import PROGRAM, forget_output

COMMANDS = {  # besides a run
    "bench": "algorithms.commands.sweep.bench:command",
    "calibrate": "algorithms.commands.calibrate:command",
    "compare": "algorithms.commands.records.compare:command",
    "cuts": "algorithms.commands.cuts:command",
    "energy": "algorithms.commands.records.energy:command",
    "export": "algorithms.commands.records.export:command",
    "fit": "algorithms.commands.fit:command",
    "profiles": "algorithms.commands.profiles:command",
    "replay": "algorithms.commands.watch:replay",
    "report": "algorithms.commands.report:command",
    "traces": "algorithms.commands.traces:command",
    "verify": "algorithms.commands.verify:command",
    "watch": "algorithms.commands.watch:watch",
}
UNNAMEABLE = (errno.ENAMETOOLONG, errno.ELOOP)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def command(argv: list[str], alone: bool = False) -> int:
    """A command by its name, or a run; the exit status."""
    import importlib

    module, _, function = COMMANDS.get(argv[0] if argv else "", "").partition(":")
    if not module:
        if argv and not argv[0].startswith("-"):
            names = ", ".join(COMMANDS)
            raise UserError(
                f"{argv[0]}: there is no such command; say one of {names}, or a run's flags: {PROGRAM} --help"
            )
        from algorithms.commands import run

        return run.command(argv, alone)
    status: int = getattr(importlib.import_module(module), function)(argv[1:])
    return status


def main(argv: list[str], alone: bool = False) -> int:
    """The exit status of a command; a user's mistake is one line and 2. ``alone``: the process is the command's, which
    may lower its priority; it stays what it was for whoever calls this from a program of his own."""
    if alone:
        _open_what_is_closed()
        _print_whatever()
        _print_to_whoever_reads()
    try:
        try:
            return command(argv, alone)
        finally:
            sys.stdout.flush()
    except UserError as error:
        print(f"{PROGRAM}: {one_line(str(error)).replace('run.py', PROGRAM)}", file=sys.stderr)
        return 2
    except SplitbedError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has had enough
        forget_output()
        return 0
    except OSError as error:
        if error.errno in UNNAMEABLE:
            print(f"{PROGRAM}: {one_line(str(error.filename))}: {error.strerror}; give another path", file=sys.stderr)
            return 2
        if error.errno not in FULL:
            raise
        forget_output()
        print(f"{PROGRAM}: {error.filename or 'its output'}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2


def _open_what_is_closed() -> None:
    """Where a shell closed standard streams (``>&-``), files and sockets of ours would be taken for them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: PTH123, SIM115


def _print_whatever() -> None:
    """A sign that the terminal's encoding lacks becomes a question mark; a file's name keeps its bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # none where it was closed
            stream.reconfigure(errors="surrogateescape" if stream.encoding.startswith("utf") else "replace")


class _Unread(io.FileIO):
    """A file that takes what is written to it, also where its reader has had enough."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            forget_output()
            return len(memoryview(data).cast("B"))


def _print_to_whoever_reads() -> None:
    """What a command does goes on where its output is read no further (``| head``): a bench or a fit prints while it
    works, and would end with half of its record."""
    old = sys.stdout
    if isinstance(old, io.TextIOWrapper) and old is sys.__stdout__:  # not where we opened it, on nothing
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Unread(1, "wb", closefd=False)),
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )


def splitbed() -> None:
    """The installed command."""
    sys.exit(main(sys.argv[1:], alone=True))
