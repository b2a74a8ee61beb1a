"""``run.py traces``: which there are; one drawn, converted or made up."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Literal, get_args

from algorithms.commands.options.flags import Flags
from emulator.errors import UserError
from emulator.inputs.text_files import decoded, profile_error, read
from emulator.tables.table import Output
from emulator.tables.traces import show_trace, show_traces
from emulator.traces import reading
from emulator.traces.convert import ConvertOptions, Missing, convert
from emulator.traces.format import Holds, Rate, Time
from emulator.traces.reading import LARGEST_BYTES, Form
from netprofiles.traces import make as trace_maker


def command(argv: list[str]) -> int:
    """List the traces, draw one, or make one."""
    flags = Flags(prog="run.py traces", description="Bandwidth traces: which there are; one drawn, converted, made up.")
    actions = flags.add_subparsers(dest="action", metavar="show|convert|make")
    shown = actions.add_parser("show", help="draw a trace over its time, with its statistics")
    shown.add_argument(
        "trace", metavar="NAME|FILE", help="a shipped trace, or its file: CSV, Mahimahi, JSON of periods, s and Mbit/s"
    )
    for name, kind, help in (
        ("time", Time, "unit of the times of pairs (default s)"),
        ("rate", Rate, "unit of the rates of pairs (default mbps)"),
        ("format", Literal["", "mahimahi"], "ms of packets of 1500 bytes, however short"),
        ("holds", Holds, "whether a row's rate holds after its time (the default), or before it, from the row above"),
    ):
        words = [word for word in get_args(kind) if word]
        shown.add_argument(f"--{name}", choices=words, default=getattr(Form(), name), help=help)
    add_flags(actions)
    made = actions.add_parser("make", help="make a trace by the model of a shipped one")
    made.add_argument("model", metavar="NAME", help="lte-walking, lte-driving, nb-iot or starlink")
    made.add_argument("--seed", type=int, default=1, help="of all that is drawn (default 1: the shipped one)")
    made.add_argument("--seconds", type=int, help="its length; default: the shipped one's")
    made.add_argument("--out", required=True, metavar="FILE", help="where it is written; nothing may be there yet")
    chosen = flags.parse_args(argv)
    if chosen.action == "make":
        write_new(chosen.out, trace_maker.make(chosen.model, chosen.seed, chosen.seconds))
    elif chosen.action == "convert":
        run(chosen)
    elif chosen.action == "show":
        form = Form(chosen.time, chosen.rate, chosen.format, chosen.holds)
        show_trace(reading.find_trace(chosen.trace, f"traces show {chosen.trace}", form=form), Output())
    else:
        show_traces(Output())
    return 0


def add_flags(actions: argparse._SubParsersAction[Flags]) -> None:
    """The flags of ``traces convert``."""
    flags = actions.add_parser(
        "convert",
        help="make a trace of a log: its columns by name, their units, times, missing values",
        description="Write a log's rates as a CSV that profiles can name. Columns: by name, or number from 1.",
    )
    flags.add_argument(
        "file", metavar="FILE", help="a table: CSV, or with semicolons, tabs or spaces between its cells"
    )
    flags.add_argument("--time", default="", metavar="COLUMN", help="the time of a row; without it, --step counts rows")
    flags.add_argument(
        "--time-format", default="", metavar="FORM", help="s, ms, us, iso, or a pattern such as %%Y-%%m-%%d_%%H:%%M:%%S"
    )
    flags.add_argument("--step", default="", metavar="TIME", help="between rows, or numbers of the time's column: 1s")
    flags.add_argument("--down", default="", metavar="COLUMN", help="rates towards the client")
    flags.add_argument("--up", default="", metavar="COLUMN", help="rates from it; may be left out, or the same column")
    flags.add_argument("--rtt", default="", metavar="COLUMN", help="round trips in ms, if there are any")
    units = [unit for unit in get_args(Rate) if unit]
    flags.add_argument(
        "--rate", choices=units, default="", help="unit of the rates, where their columns' names say none"
    )
    flags.add_argument(
        "--missing",
        choices=[word for word in get_args(Missing) if word],
        default="",
        help='values that are "-", empty or NaN: leave the row out, hold the value before, or take 0',
    )
    flags.add_argument("--gap", default="", metavar="TIME", help="rows further apart are a pause, and taken out: 10s")
    flags.add_argument(
        "--drop-bad", action="store_true", help="leave out rows that are negative, unreadable or unordered"
    )
    flags.add_argument(
        "--out", metavar="FILE", help="where it is written (nothing may be there); default: the terminal"
    )


def run(chosen: argparse.Namespace) -> None:
    """Convert as the flags say; the trace goes to a new file or to standard output, what was done beside it."""
    asked = f"traces convert {chosen.file}"
    try:
        content = read(Path(chosen.file), LARGEST_BYTES)
    except OSError as error:
        raise profile_error(asked, "", f"cannot be read ({error.strerror}); name a file") from None
    if len(content) > LARGEST_BYTES:
        raise profile_error(asked, "", f"is larger than {LARGEST_BYTES >> 20} MiB; cut it")
    choice = ConvertOptions(**{name: getattr(chosen, name) for name in ConvertOptions.__struct_fields__})
    made = convert(chosen.file, decoded(chosen.file, content), choice)
    if chosen.out:
        write_new(chosen.out, made.text)
    else:
        sys.stdout.write(made.text)
    print(*made.notes, sep="\n", file=sys.stdout if chosen.out else sys.stderr)


def write_new(out: str, text: str) -> None:
    """Write a file that is not there yet; UserError where that cannot be."""
    try:
        with Path(out).open("x", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no file name"
        raise UserError(f"--out {out}: cannot write it ({reason}); name a new file") from None
