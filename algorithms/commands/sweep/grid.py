"""What a bench plays: profiles x variants x seeds, and which runs of it have been played already.

A variant is a run's configuration with other values. What an algorithm's figures depend on (``depends``) makes its
key; a record with the same key has the same figures, wherever it was played (but for memory, which is measured). So an
interrupted or extended bench plays only what is missing, and a variant that says what is the default anyway, or what an
algorithm does not have, costs nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from algorithms import config_of
from algorithms.commands.options.overrides import chosen_algorithms, completed, settings_of
from algorithms.commands.options.run_flags import RunCommand, scenario_of
from algorithms.commands.sweep import dependencies
from algorithms.workload.knobs import Knob
from algorithms.workload.task import Task
from emulator.errors import UserError
from emulator.ledger.manifest import Dependencies, Manifest
from emulator.runtime import run_manifest
from emulator.validation import validation_error


class Variant(NamedTuple):
    """Settings beside those that all runs have. ``only``: the one algorithm that has them, or empty."""

    name: str  # as in tables: "q=1", empty for the runs without
    said: tuple[tuple[str, Any], ...] = ()  # knobs and their values; an option of algorithms is one of ``options``
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
    """All that a bench plays. ``base``: what every run has besides profile, variant and seed."""

    base: RunCommand
    profiles: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]

    def config(self, profile: str, variant: Variant, seed: int) -> RunCommand:
        """The configuration of one run of it."""
        said = dict(variant.said) | {"profile": profile, "seed": seed}
        said["options"] = (*self.base.options, *(value for name, value in variant.said if name == "options"))
        task = self.base.task | {name: said.pop(name) for name in [*said] if name not in RunCommand.__struct_fields__}
        return msgspec.structs.replace(self.base, **said, task=task)

    def cells(self) -> list[SweepRun]:
        """In the order in which they are played, so that whole tables come early; UserError for what cannot be."""
        found = []
        for profile, variant in itertools.product(self.profiles, self.variants):
            found += list(_cells(self.config(profile, variant, self.seeds[0]), profile, variant, self.seeds))
        return sorted(found, key=lambda cell: (self.profiles.index(cell.profile), self.seeds.index(cell.seed)))


def _cells(config: RunCommand, profile: str, variant: Variant, seeds: Sequence[int]) -> Iterator[SweepRun]:
    from emulator.host.kernels import arithmetic

    config, experiment = completed(config)
    names = chosen_algorithms(config.algorithm or "all")
    if variant.only and variant.only not in names:
        raise UserError(f"--vary {variant.only}:...: it is not among the algorithms {', '.join(names)}; add it")
    scenario = scenario_of(config)
    noted: Dependencies | None = None
    for seed in seeds:
        config = msgspec.structs.replace(config, seed=seed)
        settings = settings_of(config, experiment, len(scenario.clients))
        if variant.only:
            settings = {variant.only: settings[variant.only]}
        if noted is None:
            check_names(settings)
            noted = dependencies.stamp(scenario, settings, arithmetic())
        run = msgspec.to_builtins(config)
        manifest = run_manifest.make_manifest(scenario, settings, argv=[], **config.how, depends=noted, run=run)
        for name in settings:
            key = dependencies.key_of(dependencies.parts_of(manifest, name))
            yield SweepRun(profile, variant, seed, name, key, manifest)


def unvaried(grid: Grid, profile: str, algorithm: str, field: str) -> str:
    """What the runs without a variant have where one sets ``field``: ``q=5``."""
    config, experiment = completed(grid.config(profile, BASE, grid.seeds[0]))
    settings = settings_of(config, experiment, len(scenario_of(config).clients))[algorithm]
    named = dependencies.named_config(algorithm, settings)
    value = next((getattr(part, field) for part in (named, named.task, config) if hasattr(part, field)), None)
    shown = value if isinstance(value, str) else json.dumps(value).removesuffix(".0")  # 1, as it is varied
    return f"{field}={shown}"


def check_names(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """UserError, one line, for the first algorithm whose settings cannot be."""
    for name, said in settings.items():
        Task(**said["task"]).check()
        config = config_of(name)
        options = {key: value for key, value in said.items() if key != "task"}
        if wrong := validation_error(options, config, hidden=("task",)):
            raise UserError(f"--set for {name}: {wrong}")
        msgspec.convert(said, config).check()


def varied() -> dict[str, Knob]:
    """The knobs of a run that ``--vary`` may name, besides the options of methods."""
    return {name: knob for name, knob in RunCommand.knobs().items() if "vary" not in knob.not_in}


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
    name = field.replace("-", "_")
    each = [value for value in values.split(",") if value]
    if len(set(each)) < len(each):
        raise UserError(f"--vary {text}: a value is there twice; say each once")
    if not field or not each or (colon and not only):
        raise UserError(f"--vary {text}: say [ALGORITHM:]KEY=VALUE,VALUE, such as q=1,5 or fsl-sage:l=2,10")
    knobs = varied()
    if name in RunCommand.knobs() and name not in knobs:
        known = ", ".join(each.replace("_", "-") for each in knobs)
        raise UserError(f"--vary {text}: {field} cannot be varied; it can be {known} or algorithms' options")
    found = []
    for value in each:
        said = (name, knobs[name].value_of(value)) if name in knobs else ("options", f"{key}={value}")
        found.append(Variant(f"{field}={value}", (said,), only, key, (name,)))
    return found


def _combined(each: Sequence[Variant]) -> Variant:
    only = {variant.only for variant in each if variant.only}
    if len(only) > 1:
        raise UserError(f"--vary: {' and '.join(sorted(only))} have no combination; vary one of them at a time")
    return Variant(
        name=", ".join(variant.name for variant in each),
        said=tuple(itertools.chain.from_iterable(variant.said for variant in each)),
        only="".join(only),
        ablation=" x ".join(variant.ablation for variant in each),
        fields=tuple(itertools.chain.from_iterable(variant.fields for variant in each)),
    )
