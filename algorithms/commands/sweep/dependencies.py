"""What a method's figures depend on, each part by name: the key of a result, and why a result is played again.

The parts: the scenario as it was read (devices, links, traces, absences, the host's profile where durations come from
it), clock, seed, dilation, cap, every setting with its default, options that
have another value than their default, the data by their content, the versions of what
computes and carries, how this CPU's kernels are chosen, and the source of what took part: the method and what it
imports, and the emulator without its views. A manifest holds them, so a result is known wherever it was played.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from algorithms import ALGORITHMS, config_of
from algorithms.data import identity, user_objects
from algorithms.data.partition import parse_partition
from algorithms.experiments.run_config import RunConfig
from emulator import sources
from emulator.ledger.manifest import Dependencies, Manifest

if TYPE_CHECKING:
    from algorithms.workload.task import Task
    from emulator.profiles.scenario import Network, Scenario

Parts = dict[str, Any]

VERSIONS = ("python", "torch", "torchvision", "pillow", "numpy", "msgpack", "msgspec", "pyzmq")
AS_THEY_ARE = ("clock", "dilation", "memory", "compute")
OLDER = "recorded by an earlier version, which did not note all that a result depends on"
MOST_FILES = 3  # that are named
BROUGHT = ("dataset", "model", "aux")  # may be a user's own, which are known by their source and not by their folder


def stamp(scenario: Scenario, settings: Mapping[str, Mapping[str, Any]], arithmetic: Mapping[str, Any]) -> Dependencies:
    """The part of a manifest that says what its figures depend on; UserError where there are no such data."""
    task = next(iter(settings.values()))["task"]
    playing = sources.digests(*sources.PLAYING, "algorithms.workload.judging")
    brought = user_objects.digests(*(task.get(key, "") for key in BROUGHT))
    own = {name: sources.digests(ALGORITHMS[name]) | brought for name in settings}
    return Dependencies(
        scenario=scenario_digest(scenario),
        data=identity.identity(
            task.get("dataset", "digits"),
            task.get("data_dir", "data"),
            task.get("partition", "iid"),
            task.get("init", ""),
        ),
        arithmetic=dict(arithmetic),
        sources={
            "emulator": playing,
            **{name: {file: digest for file, digest in own[name].items() if file not in playing} for name in own},
        },
    )


def scenario_digest(scenario: Scenario) -> str:
    """SHA-256 of a scenario as it was read: what its files say, whatever they are called and however they say it."""
    import msgspec

    links: dict[int, str] = {}

    def link(network: Network) -> str:  # clients share them, and they may hold hours of a trace
        if id(network) not in links:
            links[id(network)] = hashlib.sha256(msgspec.json.encode(network)).hexdigest()
        return links[id(network)]

    nodes = [[each.name, each.device, link(each.network), each.workers] for each in (scenario.server,)] + [
        [each.name, each.index, each.device, link(each.network), each.cell, each.absence] for each in scenario.clients
    ]
    return hashlib.sha256(msgspec.json.encode([nodes, scenario.cells, scenario.host])).hexdigest()


def named_config(name: str, settings: Mapping[str, Any]) -> Any:
    """An algorithm's settings with all defaults, cut and auxiliary by name."""
    import msgspec

    config = msgspec.convert(settings, config_of(name))
    task = config.task
    if task.cut and task.aux:
        return config
    named = _named(msgspec.structs.replace(task, seed=0, batch=1, epochs=1))
    return msgspec.structs.replace(config, task=msgspec.structs.replace(task, cut=named.cut, aux=named.aux))


@functools.cache
def _named(task: Task) -> Task:
    return task.named()


def parts_of(manifest: Manifest, name: str) -> Parts:
    """What the figures of an algorithm of a run depend on, in its order; empty where an older manifest does not say."""
    import msgspec

    noted = manifest.depends
    if noted is None or name not in noted.sources:
        return {}
    config = named_config(name, manifest.settings[name])
    settings = msgspec.to_builtins(config)
    task = settings.pop("task")
    task |= {"data_dir": "", "folder": ""}
    task |= {key: "" for key, has in (("aux", config.has_auxiliary), ("cut", config.has_cut)) if not has}
    task |= {key: user_objects.short(task[key]) for key in BROUGHT if user_objects.is_named(task[key])}
    if parse_partition(task["partition"]).path:
        task["partition"] = "file"  # whose content is part of the data's digest, as that of initial weights is
    task["init"] = "file" if task["init"] else ""
    found: Parts = {"method": name, "module": ALGORITHMS[name]}
    found |= {part: msgspec.to_builtins(getattr(manifest, part)) for part in AS_THEY_ARE}
    found |= {f"setting {key}": value for key, value in (*settings.items(), *task.items())}
    own = {knob.name: knob.default for knob in RunConfig.knobs().values() if not knob.counts_in}
    found |= {f"option {key}": manifest.run[key] for key in own if manifest.run.get(key, own[key]) != own[key]}
    found |= {"scenario": noted.scenario, "data": noted.data["sha256"]}
    found |= {f"version {package}": manifest.versions.get(package) for package in VERSIONS}
    how = dict(noted.arithmetic)
    found |= {f"variable {variable}": value for variable, value in how.pop("variables").items()}
    found |= {f"CPU {what}": value for what, value in how.items()}
    files = noted.sources["emulator"] | noted.sources[name]
    return found | {f"source {file}": digest for file, digest in files.items()}


def key_of(parts: Parts) -> str:
    """A digest of the parts; empty for none."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest() if parts else ""


def why_again(before: Manifest, old: Parts, now: Manifest, new: Parts) -> str:
    """What of a result's parts differs from those of a record, in words; ``before`` and ``now``: the manifests."""
    if not old:
        return OLDER
    differ = [part for part in {**old, **new} if old.get(part) != new.get(part)]
    reasons = [*_of_sources(differ, old, new)] if "version python" not in differ else []
    for part in differ:
        kind, _, what = part.partition(" ")
        if part == "data":
            reasons.append("the data changed")
        elif part == "scenario":
            reasons.append(_of_scenario(before.profile_files, now.profile_files))
        elif kind != "source":
            shown = what if kind in ("setting", "option", "version", "variable") else part
            reasons.append(f"{shown} {_short(old.get(part))} -> {_short(new.get(part))}")
    return "; ".join(reasons)


def _of_sources(differ: Sequence[str], old: Parts, new: Parts) -> Iterator[str]:
    files = [part.removeprefix("source ") for part in differ if part.startswith("source ")]
    for what, chosen in (
        ("changed", [file for file in files if f"source {file}" in old and f"source {file}" in new]),
        ("is new", [file for file in files if f"source {file}" not in old]),
        ("is gone", [file for file in files if f"source {file}" not in new]),
    ):
        if chosen:
            more = f" and {len(chosen) - MOST_FILES} more" if len(chosen) > MOST_FILES else ""
            yield f"{', '.join(chosen[:MOST_FILES])}{more} {what}"


def _of_scenario(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    files = [file for file in {**before, **now} if before.get(file) != now.get(file)]
    more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
    return f"{', '.join(files[:MOST_FILES])}{more} changed" if files else "the profile is read otherwise"


def _short(value: Any) -> str:
    text = "unset" if value is None else value if isinstance(value, str) and value else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
