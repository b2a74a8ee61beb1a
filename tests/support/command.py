"""``run.py`` with the tests' own algorithms in its table, and those of the papers under further names for variants.

Children of the fork server import this file again, as they import ``run.py`` in a real command.
"""

from __future__ import annotations

import os
import sys

import run
from algorithms import ALGORITHMS
from emulator.runtime.launcher import Launcher

REVERSED = "SPLITBED_TEST_REVERSED"  # set: processes start in the reverse order

ALGORITHMS |= {
    "census": "players.census",
    "cut-off": "players.cut_off",
    "endless": "players.endless",
    "faulty": "players.faulty",
    "forgetful": "players.forgetful",
    "overwrite": "players.overwrite",
    **dict.fromkeys(("over-model", "over-budget", "over-limit", "message", "large-message"), "players.hold"),
    **dict.fromkeys(("fits", "fits-again"), "players.hold"),
    "sl-peer": "algorithms.sl",
    "splitfed-v1-network": "algorithms.splitfed_v1",
    "dice": "players.dice",
    **dict.fromkeys(("struck", "aborted"), "players.struck"),
}

if os.environ.get(REVERSED):
    in_order = Launcher.roles
    Launcher.roles = lambda launcher: in_order(launcher)[::-1]  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(run.main(sys.argv[1:], alone=True))
