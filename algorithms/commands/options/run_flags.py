"""The flags of a run: the command line that every run has, whoever starts it. Nothing here imports torch by itself."""

from __future__ import annotations

import argparse
import importlib.metadata
import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from algorithms import registry
from algorithms.commands.options.flags import Flags
from algorithms.commands.options.overrides import DEFAULT_ROUNDS, DEFAULT_STOP_AFTER_S
from emulator.errors import UserError
from emulator.host.liveness import STEP_FACTOR, STEP_LEAST_S

if TYPE_CHECKING:
    from emulator.profiles.scenario import Scenario


REPLACED = ("--align", "--server-order")  # by --set
TRACKERS = ("tensorboard", "mlflow", "wandb-offline")
DRY_RUN = "dry-run"  # what stands for the clock in its record
EPILOG = """other commands, as in 'run.py profiles' (each has --help):
  verify          with these flags: plays both clocks and compares them
  bench           many runs: profiles, seeds and settings; tables with mean, deviation and intervals
  fit             the largest batch that fits a device
  calibrate       measures this machine, for --compute measured
  cuts MODEL      where a model can be cut
  profiles        lists networks, devices and scenarios; with a NAME, the source of each of its numbers
  traces          lists, draws, converts and makes bandwidth traces
  watch DIR       the dashboard of a run that goes on
  replay DIR      the dashboard of a run, once more
  report DIR      one page of a run: tables, plots, timeline, sources (--only: one of them)
  export DIR      a run's figures as columns: CSV or Parquet
  compare DIR...  runs side by side, and what differs between them"""


ABOUT = (
    "How long a split-learning method takes on these links and devices, how many bytes leave a client, and whether it"
    " fits in a client's memory."
)


def parser(prog: str = "run.py", about: str = ABOUT) -> Flags:
    """The flags of a run, for it or for a command that plays one."""
    from emulator.tables.run import listed

    flags = Flags(
        prog=prog,
        description=about,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument("--profile", required=True, metavar="NAME|FILE", help="a shipped scenario, or a scenario's file")
    flags.add_argument(
        "--experiment", metavar="NAME|FILE", help="a shipped experiment, or its file: workload and settings of a paper"
    )
    flags.add_argument("--algorithm", metavar="all|A,B", help=registry.HELP)
    flags.add_argument(
        "--rounds",
        type=int,
        help="so many rounds for every algorithm; default: up to"
        f" {DEFAULT_ROUNDS}, none starting after {DEFAULT_STOP_AFTER_S:.0f} emulated seconds",
    )
    flags.add_argument("--clients", type=int, help="so many clients, in the scenario's proportions")
    flags.add_argument("--batch", type=int, help="samples in a batch (default 16)")
    flags.add_argument("--epochs", type=int, help="passes over a client's samples in a round (default 1)")
    flags.add_argument("--seed", type=int, help="of everything that is drawn (default 1)")
    flags.add_argument(
        "--seeds", type=int, metavar="N", help="a run for each of N seeds, from --seed on; tables of mean ± deviation"
    )
    how = flags.add_mutually_exclusive_group()
    how.add_argument(
        "--clock",
        choices=["real", "virtual"],
        default="real",
        help="real: emulated time is wall time; virtual: the same timeline as fast as the host computes, repeatable",
    )
    how.add_argument(
        "--dry-run",
        action="store_true",
        help="foresee bytes and seconds without training: each distinct computation is carried out once",
    )
    flags.add_argument(
        "--dilation",
        default="auto",
        metavar="N|auto",
        help="slow the real clock N times; auto: as much as this host needs, usually 1",
    )
    flags.add_argument(
        "--partition",
        metavar="HOW",
        help="how samples are divided: iid, dirichlet:ALPHA (equal sizes), dirichlet-unequal:ALPHA[:LEAST], shards:N,"
        " file:PARTS.csv, natural",
    )
    flags.add_argument(
        "--samples-per-client",
        type=int,
        metavar="N",
        help="each client draws N samples of its own and shards overlap; default: the data are divided",
    )
    flags.add_argument(
        "--dataset",
        metavar="NAME",
        help="digits, mnist, fashion-mnist, cifar10, cifar100, folder:CxHxW, synthetic:CxHxW:CLASSES:SAMPLES, or an"
        " archive's name, or your own, FILE.py:NAME",
    )
    flags.add_argument(
        "--save",
        choices=("none", "final", "best"),
        default="none",
        help="keep each method's last or best judged model: models/METHOD.pt of the run's folder",
    )
    flags.add_argument("--frozen", help="weights that the model does not train: sent once, or preinstalled")
    flags.add_argument(
        "--init", metavar="FILE", help="the whole model's initial weights: a state dict, or .safetensors"
    )
    flags.add_argument(
        "--task-kind", help="of your own data: classification, multilabel, regression, per-position; default: by labels"
    )
    flags.add_argument("--ignore-index", type=int, help="a label of a position that does not count (default -100)")
    flags.add_argument("--data-dir", metavar="DIR", help="where data sets are, and torchvision downloads them")
    flags.add_argument("--augment", help="none, or flip-crop: random flips and crops of the training images")
    flags.add_argument(
        "--bad-images",
        choices=["refuse", "skip"],
        help="of folder:CxHxW: what becomes of images that cannot be read (default refuse; skip reads all twice)",
    )
    flags.add_argument("--normalise", help="none, or imagenet: by ImageNet's mean and deviation")
    flags.add_argument(
        "--model",
        help="cnn, simple_conv, any of torchvision's classification models, or your own, FILE.py:NAME",
    )
    flags.add_argument("--cut", help="the module after which the model is cut ('run.py cuts MODEL')")
    flags.add_argument("--aux", help="linear, pool, stage, server, or your own, FILE.py:NAME; default: the cut's")
    for flag in REPLACED:
        flags.add_argument(flag, type=partial(_replaced, flag), default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    flags.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="[ALGORITHM:]KEY=VALUE",
        dest="options",
        help="an option of an algorithm, or of all that have it, e.g. fsl-sage:l=10, q_per_round=true",
    )
    flags.add_argument(
        "--compute",
        choices=["counted", "measured"],
        default="counted",
        help="where durations of computations come from: counted FLOPs, bytes and operations (default), or this host's"
        " CPU time times the ratio of speeds",
    )
    flags.add_argument(
        "--host-device",
        metavar="NAME|FILE",
        help="this host's device profile, for --compute measured ('run.py calibrate' writes one)",
    )
    flags.add_argument(
        "--memory-cap",
        choices=["rlimit", "account"],
        help="rlimit (default): a client that passes its budget is stopped; account: it goes on, and the result says"
        " that it would not fit",
    )
    flags.add_argument(
        "--force", action="store_true", help="play what will take over an hour, or what this host is too slow for"
    )
    flags.add_argument(
        "--step-limit",
        metavar="SECONDS|none",
        help="end a run in which one computation, or a coroutine that does not wait, lasts longer on this host;"
        f" default: {STEP_LEAST_S:.0f}, or {STEP_FACTOR:.0f} times the longest in profiling",
    )
    flags.add_argument("--out", metavar="DIR", help="the run's folder; default: runs/<time>-<profile>-<algorithms>")
    flags.add_argument(
        "--tables",
        metavar="all|A,B",
        help=f"print these tables too, which are in tables.md and the report: {listed()}",
    )
    flags.add_argument(
        "--track",
        action="append",
        default=[],
        choices=TRACKERS,
        help="tell an experiment tracker of each method's rounds at the end; its own library does it",
    )
    flags.add_argument("--report", action="store_true", help="end with plots, trace.json and report.html")
    flags.add_argument("--version", action="version", version=f"splitbed {importlib.metadata.version('splitbed')}")
    flags.add_argument("--no-dashboard", action="store_true", help="plain lines instead of the live dashboard")
    return flags


def _replaced(flag: str, value: str) -> NoReturn:
    option = flag.removeprefix("--").replace("-", "_")
    raise UserError(f"{flag} {value}: it is no flag any more: say --set {option}={value}")


def dropped_groups(scenario: Scenario, profile: str) -> list[str]:
    """A warning for each group of the profile's clients of which a smaller ``--clients`` left nobody."""
    from emulator.profiles.reading import load_scenario

    def kinds(of: Scenario) -> dict[str, int]:
        return Counter(f"{client.device.name} behind {client.network.name}" for client in of.clients)

    played = kinds(scenario)
    return [
        f"--clients {len(scenario.clients)}: none is left of the profile's {count} x {kind}"
        for kind, count in kinds(load_scenario(profile)).items()
        if kind not in played
    ]


def hosted(scenario: Scenario, flags: argparse.Namespace) -> Scenario:
    """With the profile of this host, where durations come from its CPU time."""
    measured = flags.compute == "measured"
    if measured and flags.host_device is None:
        raise UserError(
            "--compute measured: needs this host's profile: say --host-device FILE, which 'run.py calibrate' makes"
        )
    if flags.host_device is None:
        return scenario
    if not measured:
        raise UserError(f"--host-device {flags.host_device}: it is for --compute measured; say both or none")
    from emulator.profiles.reading import with_host

    return with_host(scenario, flags.host_device)


def chosen_dilation(text: str) -> int | None:
    """``--dilation`` as a whole number from 1, or None for auto."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UserError(f"--dilation {text}: say auto or a whole number from 1")
    return int(text)


def step_limit_s(text: str | None) -> float | None:
    """``--step-limit`` in seconds, infinite for none; None where it is not said."""
    if text is None:
        return None
    if text == "none":
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < math.inf:
        raise UserError(f"--step-limit {text}: say seconds of this host, from 1, or none")
    return seconds


def memory_cap(flags: argparse.Namespace) -> str:
    """``rlimit`` or ``account``; UserError where what is said cannot be."""
    if flags.memory_cap == "rlimit" and flags.dry_run:
        raise UserError("--memory-cap rlimit: a dry run has no client that could be stopped; leave it out")
    return "account" if flags.dry_run else flags.memory_cap or "rlimit"
