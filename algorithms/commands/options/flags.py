"""Flags of a command line, whose mistakes are told like any other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from emulator.errors import UserError

RUN = Path(__file__).resolve().parents[3] / "run.py"


class Flags(argparse.ArgumentParser):
    """argparse, but a mistake is one line like any other."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help shows the flags")
