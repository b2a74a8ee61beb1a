"""``run.py energy DIR``: joules of a record's clients, also by power numbers of other profiles."""

from __future__ import annotations

from pathlib import Path

from algorithms.commands.options.flags import Flags
from emulator.analysis.recorded import recorded
from emulator.analysis.summarize import summarize
from emulator.energy.powers import PowerFiles
from emulator.errors import UserError
from emulator.ledger.manifest import Manifest
from emulator.profiles.reading import load_device, load_network
from emulator.tables.energy import missing_lines, tables
from emulator.tables.run import title, verdict
from emulator.tables.table import show


def command(argv: list[str]) -> int:
    """Print a run's tables of energy; the exit status, 1 where no client's power is known."""
    flags = Flags(prog="run.py energy", description="Joules of a run's clients, by the power numbers of its profiles.")
    flags.add_argument("folder", metavar="DIR", type=Path, help="the folder of a run")
    more = "profiles whose power numbers stand in for the record's, by name or path: A,B"
    flags.add_argument("--device-power", metavar="FILES", default="", help=f"device {more}")
    flags.add_argument("--network-power", metavar="FILES", default="", help=f"network {more}")
    chosen = flags.parse_args(argv)
    run = recorded(chosen.folder)
    files = _files(run.manifest, _names(chosen.device_power), _names(chosen.network_power))
    summary = summarize(run.manifest, run.timelines, files) if any(files) else run.summary
    print(title(summary))
    for line in verdict(summary):
        print(line)
    for kind, named in (("devices", files.devices), ("networks", files.networks)):
        if named:
            print(f"Power of {kind} from files named here: {', '.join(named)}")
    found = tables(summary)
    for table in found:
        show(table)
    if not found:
        for line in missing_lines(summary.energy) or ["No joules: no round of any method has ended."]:
            print(line)
    return 0 if found else 1


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _files(manifest: Manifest, devices: list[str], networks: list[str]) -> PowerFiles:
    """Power by the names that the record's clients have; UserError for one that none has, or that says no power."""
    boards, radios = {}, {}
    for name in devices:
        device = load_device(name)
        _check(f"--device-power {name}", device.name, [node.device for node in manifest.clients])
        if device.power is None:
            raise UserError(f"--device-power {name}: has no power numbers; write idle_w and busy_w, in W")
        boards[device.name] = device.power
    for name in networks:
        network = load_network(name)
        _check(f"--network-power {name}", network.name, [node.network for node in manifest.clients])
        if network.radio is None:
            raise UserError(f"--network-power {name}: has no power numbers; write tx_w, rx_w, connected_w, …, in W")
        radios[network.name] = network.radio
    return PowerFiles(boards, radios)


def _check(asker: str, name: str, of_clients: list[str]) -> None:
    known = [*dict.fromkeys(each.partition("#")[0] for each in of_clients)]
    if name not in known:
        raise UserError(f"{asker}: no client of this run has it; they have {', '.join(known)}: name a file called so")
