"""splitbed's command line, from a clone: ``python run.py --profile iot-4g``. Installed, it is ``splitbed``."""

from __future__ import annotations

import sys

from algorithms.commands.main import COMMANDS, command, main

__all__ = ["COMMANDS", "command", "main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], alone=True))
