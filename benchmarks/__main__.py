"""``python -m benchmarks [NAME ...] [--json FILE] [--tables DIR] [--quick]``.

Children of the fork server import this file again, so it imports at top level only what parses flags.
"""

from __future__ import annotations

import argparse
import sys

BENCHMARKS = (
    *("links", "load", "memory", "startup", "relay", "sharing", "virtual", "foresight", "cells"),
    *("peaks", "measured", "boards", "one_count", "busy", "dashboard", "views", "models", "mutations", "paper"),
)


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Figures about the emulator itself on this machine (an hour on 2 cores, and 35 for 'paper').",
    )
    flags.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    flags.add_argument("--json", metavar="FILE", help="write the figures there too")
    flags.add_argument("--tables", metavar="DIR", help="write each section's table there, as DIR/NAME.md")
    flags.add_argument("--quick", action="store_true", help="few repetitions: to see that it works, not for figures")
    return flags


def run(names: list[str], json_file: str | None, tables: str | None, quick: bool) -> int:
    """Print each section when it is done; the exit status: 1 when a benchmark could not be carried out."""
    import importlib
    import os
    import tempfile
    from pathlib import Path

    import msgspec

    from benchmarks import machine, pages
    from benchmarks.stage import Broken, Stage

    about = machine.describe()
    print(about.text(), flush=True)
    found, status = {about.name: about.as_json()}, 0
    with tempfile.TemporaryDirectory(prefix="splitbed-bench-") as folder, Stage(Path(folder)) as stage:
        os.nice(10)  # as run.py: from here on this process only watches
        for name in names:
            try:
                section = importlib.import_module(f"benchmarks.{name}").run(stage, quick)
            except Broken as broken:
                print(f"== {name}: could not be carried out: {broken}\n", flush=True)
                status = 1
                continue
            print(section.text(), flush=True)
            found[name] = section.as_json()
            if tables is not None:
                pages.write(name, section.markdown(), Path(tables))
    if json_file is not None:
        Path(json_file).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return status


def main(argv: list[str]) -> int:
    """The exit status of a command line."""
    flags = parser().parse_args(argv)
    for name in flags.names:
        if name not in BENCHMARKS:
            parser().error(f"{name}: there is none of this name; say any of {', '.join(BENCHMARKS)}")
    try:
        return run(list(flags.names) or list(BENCHMARKS), flags.json, flags.tables, flags.quick)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
