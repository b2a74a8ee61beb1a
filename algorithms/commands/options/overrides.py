"""What a command line chooses: algorithms, the settings of each, the seed. Nothing here imports torch by itself."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from algorithms import ALGORITHMS, config_of, registry
from algorithms.experiments import reading
from algorithms.experiments.reading import Experiment
from algorithms.experiments.run_config import RunConfig
from algorithms.training.idle_options import NEVER
from algorithms.training.settings import DEFAULT_ROUNDS, DEFAULT_STOP_AFTER_S
from emulator.errors import InternalError, UserError, told
from emulator.validation import unknown_key, validation_error

Config = TypeVar("Config", bound=RunConfig)


def chosen_algorithms(text: str) -> list[str]:
    """The algorithms of ``--algorithm``, in the table's order; a user's own are in it from then on (``registry``)."""
    names = [registry.resolve(word.strip()) for word in text.split(",")] if text != "all" else registry.SHIPPED
    return [name for name in ALGORITHMS if name in names]


def completed(config: Config) -> tuple[Config, Experiment]:
    """The configuration with what its experiment says where it says nothing itself, and the experiment."""
    if config.algorithm:
        chosen_algorithms(config.algorithm)  # first: an experiment may have settings of a user's own
    experiment = reading.find_experiment(config.experiment) if config.experiment else reading.NONE
    for option in config.options if config.rounds is not None else ():
        algorithm, field, value = split_option(option)
        if not algorithm and field == "rounds" and config.rounds != value:
            raise UserError(f"--set {option}: --rounds says {config.rounds}; say one of them")
    unsaid = {"algorithm": "all", "seed": 1} | experiment.run
    unsaid = {name: value for name, value in unsaid.items() if getattr(config, name) is None}
    return msgspec.structs.replace(config, **unsaid), experiment


def settings_of(config: RunConfig, experiment: Experiment, clients: int) -> dict[str, dict[str, Any]]:
    """What becomes the ``Config`` of each method of a ``completed`` configuration: the defaults, over them the
    experiment, over it what is said."""
    names = chosen_algorithms(config.algorithm or "all")
    limits = {
        "rounds": config.rounds or DEFAULT_ROUNDS,
        "stop_after_s": None if config.rounds else DEFAULT_STOP_AFTER_S,
    }
    task = {**experiment.task, "seed": config.seed, **config.task, "clients": clients}
    settings = {name: {**limits, **experiment.of(name), "task": dict(task)} for name in names}
    for option in config.options:  # the last that holds for it
        algorithm, field, value = split_option(option)
        if algorithm in names and (why := NEVER.get(algorithm, {}).get(field)):
            raise UserError(f"--set {option}: changes nothing in {algorithm}: {why}; leave it out")
        for name in [algorithm] if algorithm else holders(field, option, names):
            if name in settings:
                settings[name][field] = value
    return settings


def split_option(option: str) -> tuple[str, str, Any]:
    """Algorithm ("": all that have it), key and value of a ``--set``; UserError where it is none."""
    key, equals, text = option.partition("=")
    algorithm, colon, field = key.rpartition(":")
    if not equals or (colon and algorithm not in ALGORITHMS):
        known = f"; {algorithm} is none of: {', '.join(ALGORITHMS)}" if colon and equals else ""
        raise UserError(f"--set {option}: say [ALGORITHM:]KEY=VALUE, e.g. fsl-sage:l=10{known}")
    if field == "task":
        raise UserError(f"--set {option}: the task is set by flags of its own, such as --dataset and --batch")
    knob = RunConfig.knobs().get(field.replace("-", "_"))
    if knob and not any(knob.name in option_names(name) for name in ([algorithm] if algorithm else ALGORITHMS)):
        raise UserError(f"--set {option}: {field} is no option of a method: say {knob.flag}, of a run")
    try:
        return algorithm, field, msgspec.json.decode(text)
    except msgspec.DecodeError:
        return algorithm, field, text


def idle_options(options: Sequence[str], names: list[str]) -> list[str]:
    """A warning for each ``--set`` that changes nothing: its method is not played, or a later one says the same key.

    UserError for what a method that is not played could not have.
    """
    warnings = []
    keys = [option.partition("=")[0] for option in options]
    for index, option in enumerate(options):
        algorithm, field, value = split_option(option)
        if later := {keys[index], field} & {*keys[index + 1 :]}:
            warnings.append(f"--set {option}: a later --set {min(later)} holds, so this one changes nothing")
        if algorithm and algorithm not in names:
            if wrong := validation_error({field: value}, config_of(algorithm), hidden=("task",)):
                raise UserError(f"--set {option}: {wrong}")
            warnings.append(f"--set {option}: {algorithm} is not played, so it changes nothing")
    return warnings


def holders(field: str, option: str, chosen: list[str]) -> list[str]:
    """The methods that have the ``field`` of an ``option`` for all that do; UserError where none ``chosen`` does."""
    found = [other for other in chosen if field in option_names(other)]
    if not found:
        known = dict.fromkeys(key for other in chosen for key in option_names(other) if key != "task")
        raise UserError(f"--set {option}: {field} of {', '.join(chosen)}: {unknown_key(field, known)}")
    never = {other: why for other in found if (why := NEVER.get(other, {}).get(field))}
    if len(never) == len(found):
        told = "; ".join(f"changes nothing in {other}: {why}" for other, why in never.items())
        raise UserError(f"--set {option}: {told}; leave it out")
    return found


@functools.cache
def option_names(name: str) -> tuple[str, ...]:
    """The options that an algorithm's ``Config`` has, its bases' among them, read from the source: importing the module
    would import torch into a process that needs none."""
    return tuple(dict.fromkeys(_fields_of(ALGORITHMS[name], "Config")))


def _fields_of(module: str, struct: str) -> Iterator[str]:
    found = importlib.util.find_spec(module)
    assert found and found.origin
    try:
        tree = ast.parse(Path(found.origin).read_bytes(), found.origin)
    except SyntaxError as error:
        raise InternalError(f"{module}: cannot be read: {told(error, None)}") from None
    imported = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    if struct in imported:
        yield from _fields_of(*imported[struct])
    for part in tree.body:
        if not isinstance(part, ast.ClassDef) or part.name != struct:
            continue
        for base in part.bases:
            if isinstance(base, ast.Name) and base.id in imported:
                yield from _fields_of(*imported[base.id])
            elif isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) and base.value.id in imported:
                yield from _fields_of(".".join(imported[base.value.id]), base.attr)
            elif isinstance(base, ast.Name):
                yield from _fields_of(module, base.id)
        for line in part.body:
            match line:
                case ast.AnnAssign(target=ast.Name(name), annotation=kind) if "ClassVar" not in ast.unparse(kind):
                    yield name
