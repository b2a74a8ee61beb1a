"""``run.py verify``: a run under both clocks."""

from __future__ import annotations

from functools import partial

import msgspec

from algorithms.commands.options.flags import COMMAND
from algorithms.commands.options.run_flags import parser, read
from emulator.analysis.recorded import recorded
from emulator.errors import UserError
from emulator.ledger import run_folder
from emulator.tables import clock_agreement

VERIFY = "Plays a run under both clocks, each as a command of its own, and shows how far the two agree."


def command(argv: list[str]) -> int:
    """Play the algorithms of ``argv`` under both clocks, each as a command of its own, and compare; 0: they agree."""
    config, warnings = read(argv, parser("run.py verify", VERIFY, hidden=("clock", "dry_run")))
    from emulator.analysis import clock_agreement as both
    from emulator.clock.conductors import CLOCKS
    from emulator.report import record
    from emulator.runtime import subcommand
    from emulator.tables.table import Output, show

    if config.clock:
        raise UserError("--clock: verify plays both; leave it out")
    if config.dry_run:
        raise UserError("--dry-run: verify compares two runs, and a dry run is none; leave it out")
    console = Output()
    say = partial(console.print, soft_wrap=True, markup=False, highlight=False)
    for warning in warnings:
        say(f"warning: {warning}")
    folder = run_folder.open_folder(config.out, config.profile, "verify", first=both.PLAYED[0])
    for clock in both.PLAYED:
        dilation = config.dilation if CLOCKS[clock].dilates else None
        own = msgspec.structs.replace(config, clock=clock, dilation=dilation, out=str(folder / clock))
        status = subcommand.run_subcommand([*COMMAND, *own.words()])
        if status:
            for each in (folder / clock, folder):  # where nothing was played
                run_folder.discard_run_folder(each)
            if folder.exists():
                how = subcommand.describe_status(status)
                say(f"verify: the {clock} run {how}; its record: {folder / clock}")
            return status if status > 0 else 1
    comparisons = both.compare(*(recorded(folder / clock) for clock in both.PLAYED))
    record.write_comparison(folder, comparisons)
    show(clock_agreement.clock_agreement_table(comparisons), console)
    say(f"Verdict: {both.verdict_of(comparisons)}. Record: {folder}")
    return 0 if both.verdict_of(comparisons) == "agrees" else 1
