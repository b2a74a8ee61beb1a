"""Flags of a command line, whose mistakes are told like any other.

An empty value is refused (a shell's variable that is not set). Of a flag that is there twice the later holds, as
scripts that append to a command line expect; where the values differ, that is said.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from algorithms.experiments.run_config import EMPTY
from emulator.errors import UserError
from emulator.processes import PROGRAM

COMMAND = (sys.executable, "-m", "algorithms.commands")  # to run another command of ours


class _Store(argparse.Action):
    """``store``, that notes what it overwrites."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if option and isinstance(parser, Flags):
            before = parser.said.get(self.dest, values)
            if before != values:
                parser.overwritten.append(f"{option} {before}: a later {option} {values} holds, so it changes nothing")
            parser.said[self.dest] = values
        setattr(namespace, self.dest, values)


class Flags(argparse.ArgumentParser):
    """argparse, but a mistake is one line like any other."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.said: dict[str, Any] = {}  # in the command line that is being read
        self.overwritten: list[str] = []  # warnings: what of it changes nothing
        for action in (None, "store"):
            self.register("action", action, _Store)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """argparse's, for one command line."""
        self.said, self.overwritten = {}, []
        return super().parse_known_args(args, namespace)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if (
            "" in arg_strings and action.nargs != argparse.PARSER
        ):  # whose words are another parser's; before a type makes something of it, as Path does of ""
            raise UserError(f"{'/'.join(action.option_strings) or action.metavar or action.dest}: {EMPTY}")
        return super()._get_values(action, arg_strings)

    def format_help(self) -> str:
        """Its text names the program as it was called."""
        return super().format_help().replace("run.py", PROGRAM)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help shows the flags")
