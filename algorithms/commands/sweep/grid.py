"""What a bench plays: profiles x variants x seeds, and which runs of it have been played already.

A variant is a few more words on a run's command line. What an algorithm's figures depend on (``depends``) makes its
key; a record with the same key has the same figures, wherever it was played (but for memory, which is measured). So an
interrupted or extended bench plays only what is missing, and a variant that says what is the default anyway, or what an
algorithm does not have, costs nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from algorithms import config_of
from algorithms.commands.options import overrides, run_flags
from algorithms.commands.options.flags import without
from algorithms.commands.sweep import dependencies
from algorithms.experiments import reading
from emulator.errors import UserError
from emulator.ledger.manifest import Dependencies, Manifest
from emulator.runtime import run_manifest

if TYPE_CHECKING:
    from emulator.profiles.scenario import Scenario

VARIED = (
    *("aux", "batch", "epochs", "model", "cut", "dataset", "augment", "normalise", "partition", "samples-per-client"),
    *("clients", "rounds"),
)  # flags of a run that --vary may name; anything else is an option of algorithms


class Variant(NamedTuple):
    """Settings beside those that all runs have. ``only``: the one algorithm that has them, or empty."""

    name: str  # as in tables: "q=1", empty for the runs without
    words: tuple[str, ...] = ()
    only: str = ""
    ablation: str = ""  # the table that it stands in
    fields: tuple[str, ...] = ()  # what it sets


BASE = Variant("")


class SweepRun(NamedTuple):
    """One algorithm under one variant on one profile with one seed. ``manifest``: what its run's will say."""

    profile: str
    variant: Variant
    seed: int
    algorithm: str
    key: str
    manifest: Manifest

    @property
    def stem(self) -> str:
        """How the folder of its run is called."""
        stem = "-".join(filter(None, (Path(self.profile).stem, self.variant.name, f"seed-{self.seed}")))
        return "".join(letter if letter.isalnum() or letter in "=-._" else "-" for letter in stem)


class Grid(NamedTuple):
    """All that a bench plays. ``words``: what every run's command line has besides profile, variant and seed."""

    words: tuple[str, ...]
    profiles: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]

    def command(self, profile: str, variant: Variant, seed: int) -> list[str]:
        """The command line of one run of it."""
        flags = [word.partition("=")[0] for word in variant.words if "=" in word and word.startswith("--")]
        return ["--profile", profile, *without(self.words, *flags), *variant.words, "--seed", str(seed)]

    def cells(self) -> list[SweepRun]:
        """In the order in which they are played, so that whole tables come early; UserError for what cannot be."""
        found = []
        for profile, variant in itertools.product(self.profiles, self.variants):
            flags = run_flags.parser().parse_args(self.command(profile, variant, self.seeds[0]))
            found += list(_cells(flags, profile, variant, self.seeds))
        return sorted(found, key=lambda cell: (self.profiles.index(cell.profile), self.seeds.index(cell.seed)))


def _cells(flags: argparse.Namespace, profile: str, variant: Variant, seeds: Sequence[int]) -> Iterator[SweepRun]:
    from emulator.host.kernels import arithmetic

    if flags.algorithm:
        overrides.chosen_algorithms(flags.algorithm)  # first: an experiment may have settings of a user's own
    experiment = reading.find_experiment(flags.experiment) if flags.experiment else reading.NONE
    names = overrides.algorithms_of(flags, experiment)
    if variant.only:
        if variant.only not in names:
            raise UserError(f"--vary {variant.only}:...: it is not among the algorithms {', '.join(names)}; add it")
        names = [variant.only]
    scenario = _scenario(flags, experiment)
    noted: Dependencies | None = None
    for seed in seeds:
        flags.seed = seed
        settings = {name: overrides.settings_of(name, flags, experiment, len(scenario.clients)) for name in names}
        if seed == seeds[0]:
            check_names(settings)
            noted = dependencies.stamp(scenario, settings, arithmetic())
        manifest = run_manifest.make_manifest(
            scenario,
            settings,
            argv=[],
            clock=run_flags.DRY_RUN if flags.dry_run else flags.clock,
            seed=seed,
            dilation=run_flags.chosen_dilation(flags.dilation),
            memory_cap=run_flags.memory_cap(flags),
            depends=noted,
        )
        for name in names:
            key = dependencies.key_of(dependencies.parts_of(manifest, name))
            yield SweepRun(profile, variant, seed, name, key, manifest)


def unvaried(grid: Grid, profile: str, algorithm: str, field: str) -> str:
    """What the runs without a variant have where one sets ``field``: ``q=5``."""
    flags = run_flags.parser().parse_args(grid.command(profile, BASE, grid.seeds[0]))
    experiment = reading.find_experiment(flags.experiment) if flags.experiment else reading.NONE
    flags.algorithm = algorithm
    clients = len(_scenario(flags, experiment).clients)
    config = dependencies.named_config(algorithm, overrides.settings_of(algorithm, flags, experiment, clients))
    value = next((getattr(part, field) for part in (config, config.task) if hasattr(part, field)), None)
    return f"{field}={value if isinstance(value, str) else json.dumps(value)}"


def _scenario(flags: argparse.Namespace, experiment: reading.Experiment) -> Scenario:
    from emulator.profiles.reading import load_scenario

    clients = flags.clients if flags.clients is not None else experiment.clients
    return run_flags.hosted(load_scenario(flags.profile, clients), flags)


def check_names(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """UserError, one line, for the first algorithm whose settings cannot be."""
    import msgspec

    from algorithms.workload.task import Task
    from emulator.validation import validation_error

    for name, said in settings.items():
        Task(**said["task"]).check()
        config = config_of(name)
        options = {key: value for key, value in said.items() if key != "task"}
        if wrong := validation_error(options, config, hidden=("task",)):
            raise UserError(f"--set for {name}: {wrong}")
        msgspec.convert(said, config).check()


def variants(texts: Sequence[str], cross: bool) -> tuple[Variant, ...]:
    """The base and what ``--vary`` says: one key at a time, or, with ``cross``, every combination of all keys."""
    axes = [_axis(text) for text in texts]
    keys = [axis[0].ablation for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"--vary {key}=...: it is there twice; name all its values once")
    if not cross or len(axes) < 2:
        return (BASE, *itertools.chain.from_iterable(axes))
    return (BASE, *(_combined(each) for each in itertools.product(*axes)))


def _axis(text: str) -> list[Variant]:
    """The variants of ``[ALGORITHM:]KEY=VALUE,VALUE``."""
    key, _, values = text.partition("=")
    only, colon, field = key.rpartition(":")
    flag = field.replace("_", "-")
    each = [value for value in values.split(",") if value]
    if len(set(each)) < len(each):
        raise UserError(f"--vary {text}: a value is there twice; say each once")
    if not field or not each or (colon and not only):
        raise UserError(f"--vary {text}: say [ALGORITHM:]KEY=VALUE,VALUE, such as q=1,5 or fsl-sage:l=2,10")
    if hasattr(run_flags.parser().parse_args(["--profile", "any"]), flag.replace("-", "_")) and flag not in VARIED:
        raise UserError(
            f"--vary {text}: {field} cannot be varied; it can be {', '.join(VARIED)} or algorithms' options"
        )
    found = []
    for value in each:
        words = (f"--{flag}={value}",) if flag in VARIED else ("--set", f"{key}={value}")
        found.append(Variant(f"{field}={value}", words, only, key, (field.replace("-", "_"),)))
    return found


def _combined(each: Sequence[Variant]) -> Variant:
    only = {variant.only for variant in each if variant.only}
    if len(only) > 1:
        raise UserError(f"--vary: {' and '.join(sorted(only))} have no combination; vary one of them at a time")
    return Variant(
        name=", ".join(variant.name for variant in each),
        words=tuple(itertools.chain.from_iterable(variant.words for variant in each)),
        only="".join(only),
        ablation=" x ".join(variant.ablation for variant in each),
        fields=tuple(itertools.chain.from_iterable(variant.fields for variant in each)),
    )
