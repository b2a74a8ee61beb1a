"""What a command line chooses: algorithms, the settings of each, the seed. Nothing here imports torch by itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from algorithms import ALGORITHMS, config_of
from emulator.errors import UserError

if TYPE_CHECKING:
    from algorithms.experiment_files import Experiment

DEFAULT_ROUNDS = 12
DEFAULT_STOP_AFTER_S = 15.0
TASK_FLAGS = (
    *("dataset", "data_dir", "model", "cut", "aux", "partition", "samples_per_client", "batch", "epochs", "seed"),
    *("augment", "normalise", "bad_images"),
)


def chosen_algorithms(text: str) -> list[str]:
    """The algorithms of ``--algorithm``, in the table's order."""
    names = list(ALGORITHMS) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ALGORITHMS:
            raise UserError(
                f"--algorithm {name}: there is none of this name; say all or any of {', '.join(ALGORITHMS)}"
            )
    return [name for name in ALGORITHMS if name in names]


def algorithms_of(flags: argparse.Namespace, experiment: Experiment) -> list[str]:
    """The algorithms of a run: those of the flag, or the experiment's, or all; the flag says it from then on."""
    flags.algorithm = flags.algorithm or experiment.algorithm or "all"
    names = chosen_algorithms(flags.algorithm)
    if flags.align and "fsl-sage" not in names:
        raise UserError(f"--align {flags.align}: it is fsl-sage's; leave it out, or add fsl-sage to --algorithm")
    return names


def settings_of(name: str, flags: argparse.Namespace, experiment: Experiment, clients: int) -> dict[str, Any]:
    """What becomes the ``Config`` of an algorithm: the defaults, over them the experiment, over it the flags."""
    import msgspec

    rounds = flags.rounds if flags.rounds is not None else experiment.rounds
    if rounds is not None and rounds < 1:
        raise UserError(f"--rounds {rounds}: say a number from 1")
    said = {key: getattr(flags, key) for key in TASK_FLAGS if getattr(flags, key) is not None}
    settings: dict[str, Any] = {
        "rounds": rounds or DEFAULT_ROUNDS,
        "stop_after_s": None if rounds else DEFAULT_STOP_AFTER_S,
        **experiment.of(name),
        "task": experiment.task | {"seed": seed_of(flags, experiment)} | said | {"clients": clients},
    }
    if flags.server_order:
        settings["server_order"] = flags.server_order
    if flags.align and name == "fsl-sage":
        settings["align"] = flags.align
    for option in flags.options:
        key, equals, value = option.partition("=")
        algorithm, colon, field = key.rpartition(":")
        if not equals or (colon and algorithm not in ALGORITHMS):
            raise UserError(f"--set {option}: say [ALGORITHM:]KEY=VALUE, e.g. fsl-sage:l=10")
        if field == "task":
            raise UserError(f"--set {option}: the task is set by flags of its own, such as --dataset and --batch")
        if algorithm == name or (
            not colon and has_key(name, field, option, chosen_algorithms(flags.algorithm or "all"))
        ):
            try:
                settings[field] = msgspec.json.decode(value)
            except msgspec.DecodeError:
                settings[field] = value
    return settings


def has_key(name: str, field: str, option: str, chosen: list[str]) -> bool:
    """Whether an algorithm has the ``field`` of an ``option`` for all that do; UserError where none ``chosen`` does."""
    from algorithms.settings import Settings

    if field in Settings.__struct_fields__:
        return True
    holders = [other for other in chosen if field in config_of(other).__struct_fields__]
    if not holders:
        from emulator.values import unknown_key

        known = dict.fromkeys(key for other in chosen for key in config_of(other).__struct_fields__ if key != "task")
        raise UserError(f"--set {option}: {field} of {', '.join(chosen)}: {unknown_key(field, known)}")
    return name in holders


def seed_of(flags: argparse.Namespace, experiment: Experiment) -> int:
    """The seed of everything that is drawn."""
    given: list[int] = [seed for seed in (flags.seed, experiment.seed) if seed is not None]
    return given[0] if given else 1
