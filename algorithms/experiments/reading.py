"""Experiment files: the workload and every algorithm's settings, as a paper states them, in TOML.

    kind = "experiment"                 # description and sources are for the reader
    description = "…"
    sources = ["…"]
    algorithm = "fsl-sage,cse-fsl"      # these as the flags of the same names; each may be left out
    rounds = 200
    clients = 10
    seed = 200

    [task]                              # fields of ``algorithms.workload.task.Task``
    dataset = "cifar10"

    [settings]                          # of every algorithm: fields of ``algorithms.training.settings.Settings``
    weight_decay = 1e-4

    [algorithms.fsl-sage]               # of one: fields of its ``Config``
    l = 10

What a flag says goes before the file, what the file says before the defaults.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec

from algorithms import ALGORITHMS, config_of
from algorithms.experiments.run_config import RunConfig
from algorithms.training.settings import MOST_ROUNDS, Settings
from algorithms.workload.knobs import knobs_of
from algorithms.workload.task import Task
from emulator.errors import UserError
from emulator.inputs import toml_files
from emulator.inputs.text_files import profile_error
from emulator.validation import unknown_key, validation_error

ELSEWHERE = ("task", "folder", "seed", "clients", "rounds", "single")  # what a file says not, or not there
FILLED_IN = ("run", "path", "sha256")
ROOT = Path(str(files("algorithms.experiments")))


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file says; ``run``: of the knobs of a run. It, ``path`` and ``sha256`` are filled in by ``find``."""

    kind: Literal["experiment"]
    description: str
    sources: list[str] = []
    run: dict[str, Any] = {}
    task: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    algorithms: dict[str, dict[str, Any]] = {}
    path: str = ""
    sha256: str = ""

    def of(self, name: str) -> dict[str, Any]:
        """The settings of one algorithm, without the task."""
        return self.settings | self.algorithms.get(name, {})


def of_run() -> list[str]:
    """The knobs of a run that a file may turn."""
    return [name for name, knob in knobs_of(RunConfig).items() if "experiment" not in knob.not_in]


NONE = Experiment(kind="experiment", description="")


def shipped_experiments() -> list[str]:
    """Names of the experiments that come with the emulator."""
    return sorted(path.stem for path in ROOT.glob("*.toml"))


def find_experiment(name: str) -> Experiment:
    """A shipped experiment by its name, or that of a file; UserError, one line with file and key, for any mistake."""
    path = ROOT / f"{name}.toml" if name in shipped_experiments() else Path(name)
    try:
        content = toml_files.content_of(path)
    except OSError as error:
        near = get_close_matches(name, shipped_experiments(), 1)
        meant = f"did you mean {near[0]}?" if near else f"shipped: {', '.join(shipped_experiments())}"
        raise profile_error(f"--experiment {name}", "", f"{error.strerror or 'it cannot be opened'}; {meant}") from None
    file = str(path)
    table = toml_files.floats(file, toml_files.parsed(file, content, "rounds = 200"))
    for key, example in (("kind", '"experiment"'), ("description", '"…"')):
        if key not in table:
            raise profile_error(file, key, f"missing; write {key} = {example}")
    known = [*(name for name in Experiment.__struct_fields__ if name not in FILLED_IN), *of_run()]
    if strange := [key for key in table if key not in known]:
        raise profile_error(file, strange[0], unknown_key(strange[0], known))
    run = {key: table.pop(key) for key in of_run() if key in table}
    if wrong := validation_error(table, Experiment) or validation_error({"profile": "", **run}, RunConfig):
        raise profile_error(file, "", wrong)
    if not 1 <= run.get("rounds", 1) <= MOST_ROUNDS:
        raise profile_error(file, "rounds", f"is {run['rounds']}: say a number from 1 to {MOST_ROUNDS}")
    found = msgspec.convert({**table, "run": run}, Experiment)
    for name in found.algorithms:
        if name not in ALGORITHMS:
            problem = (
                f"there is none of this name; say any of {', '.join(ALGORITHMS)}, or say --algorithm with its file"
            )
            raise profile_error(file, f"algorithms.{name}", problem)
    _check(file, "task", found.task, Task)
    _check(file, "settings", found.settings, Settings)
    for name, values in found.algorithms.items():
        _check(file, f"algorithms.{name}", values, config_of(name), found.settings)
    return msgspec.structs.replace(found, path=str(path), sha256=hashlib.sha256(content).hexdigest())


def _check(
    file: str,
    section: str,
    values: dict[str, Any],
    kind: type[Task | Settings],
    others: Mapping[str, Any] | None = None,
) -> None:
    """UserError by file, section and key for what cannot be, beside the ``others`` of the algorithm's settings."""
    if wrong := validation_error(values, kind, ELSEWHERE):
        raise profile_error(file, "", f"{section}.{wrong}")
    if kind is not Task:
        try:
            msgspec.convert({**(others or {}), **values}, kind).check()
        except UserError as error:
            raise profile_error(file, "", f"{section}.{error}") from None
