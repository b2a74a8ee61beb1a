"""``python -m algorithms.commands``: the command line, as one of our own commands starts another."""

from __future__ import annotations

from algorithms.commands.main import splitbed

splitbed()
