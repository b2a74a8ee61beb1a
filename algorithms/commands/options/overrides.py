"""What a command line chooses: algorithms, the settings of each, the seed. Nothing here imports torch by itself."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from algorithms import ALGORITHMS, config_of, registry
from algorithms.training.idle_options import NEVER
from emulator.errors import InternalError, UserError, told

if TYPE_CHECKING:
    from algorithms.experiments.reading import Experiment

DEFAULT_ROUNDS = 12
DEFAULT_STOP_AFTER_S = 15.0
TASK_FLAGS = (
    *("dataset", "data_dir", "model", "cut", "aux", "partition", "samples_per_client", "batch", "epochs", "seed"),
    *("augment", "normalise", "bad_images", "init", "frozen", "task_kind", "ignore_index"),
)


def chosen_algorithms(text: str) -> list[str]:
    """The algorithms of ``--algorithm``, in the table's order; a user's own are in it from then on (``registry``)."""
    names = [registry.resolve(word.strip()) for word in text.split(",")] if text != "all" else registry.SHIPPED
    return [name for name in ALGORITHMS if name in names]


def algorithms_of(flags: argparse.Namespace, experiment: Experiment) -> list[str]:
    """The algorithms of a run: those of the flag, or the experiment's, or all; the flag says it from then on."""
    flags.algorithm = flags.algorithm or experiment.algorithm or "all"
    return chosen_algorithms(flags.algorithm)


def settings_of(name: str, flags: argparse.Namespace, experiment: Experiment, clients: int) -> dict[str, Any]:
    """What becomes the ``Config`` of an algorithm: the defaults, over them the experiment, over it the flags."""
    from algorithms.training.settings import MOST_ROUNDS

    rounds = flags.rounds if flags.rounds is not None else experiment.rounds
    if rounds is not None and not 1 <= rounds <= MOST_ROUNDS:
        where = f"--rounds {rounds}" if flags.rounds is not None else f"{experiment.path}: rounds: is {rounds}"
        raise UserError(f"{where}: say a number from 1 to {MOST_ROUNDS}")
    said = {key: getattr(flags, key) for key in TASK_FLAGS if getattr(flags, key) is not None}
    settings: dict[str, Any] = {
        "rounds": rounds or DEFAULT_ROUNDS,
        "stop_after_s": None if rounds else DEFAULT_STOP_AFTER_S,
        **experiment.of(name),
        "task": experiment.task | {"seed": seed_of(flags, experiment)} | said | {"clients": clients},
    }
    for option in flags.options:  # the last that holds for it
        algorithm, field, value = split_option(option)
        chosen = chosen_algorithms(flags.algorithm or "all")
        if algorithm == name and (why := NEVER.get(name, {}).get(field)):
            raise UserError(f"--set {option}: changes nothing in {name}: {why}; leave it out")
        if algorithm == name or (not algorithm and has_key(name, field, option, chosen)):
            if not algorithm and field == "rounds" and flags.rounds not in (None, value):
                raise UserError(f"--set {option}: --rounds says {flags.rounds}; say one of them")
            settings[field] = value
    return settings


def split_option(option: str) -> tuple[str, str, Any]:
    """Algorithm ("": all that have it), key and value of a ``--set``; UserError where it is none."""
    import msgspec

    key, equals, text = option.partition("=")
    algorithm, colon, field = key.rpartition(":")
    if not equals or (colon and algorithm not in ALGORITHMS):
        known = f"; {algorithm} is none of: {', '.join(ALGORITHMS)}" if colon and equals else ""
        raise UserError(f"--set {option}: say [ALGORITHM:]KEY=VALUE, e.g. fsl-sage:l=10{known}")
    if field == "task":
        raise UserError(f"--set {option}: the task is set by flags of its own, such as --dataset and --batch")
    try:
        return algorithm, field, msgspec.json.decode(text)
    except msgspec.DecodeError:
        return algorithm, field, text


def idle_options(flags: argparse.Namespace, names: list[str]) -> list[str]:
    """A warning for each ``--set`` that changes nothing: its method is not played, or a later one says the same key.

    UserError for what a method that is not played could not have.
    """
    from emulator.validation import validation_error

    warnings = []
    keys = [option.partition("=")[0] for option in flags.options]
    for index, option in enumerate(flags.options):
        algorithm, field, value = split_option(option)
        if later := {keys[index], field} & {*keys[index + 1 :]}:
            warnings.append(f"--set {option}: a later --set {min(later)} holds, so this one changes nothing")
        if algorithm and algorithm not in names:
            if wrong := validation_error({field: value}, config_of(algorithm), hidden=("task",)):
                raise UserError(f"--set {option}: {wrong}")
            warnings.append(f"--set {option}: {algorithm} is not played, so it changes nothing")
    return warnings


def has_key(name: str, field: str, option: str, chosen: list[str]) -> bool:
    """Whether an algorithm has the ``field`` of an ``option`` for all that do; UserError where none ``chosen`` does."""
    holders = [other for other in chosen if field in option_names(other)]
    if not holders:
        from emulator.validation import unknown_key

        known = dict.fromkeys(key for other in chosen for key in option_names(other) if key != "task")
        raise UserError(f"--set {option}: {field} of {', '.join(chosen)}: {unknown_key(field, known)}")
    never = {other: why for other in holders if (why := NEVER.get(other, {}).get(field))}
    if len(never) == len(holders):
        told = "; ".join(f"changes nothing in {other}: {why}" for other, why in never.items())
        raise UserError(f"--set {option}: {told}; leave it out")
    return name in holders


def seed_of(flags: argparse.Namespace, experiment: Experiment) -> int:
    """The seed of everything that is drawn."""
    given: list[int] = [seed for seed in (flags.seed, experiment.seed) if seed is not None]
    return given[0] if given else 1


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
