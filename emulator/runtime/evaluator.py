"""The evaluator: loss and metrics of each round's joined model, from snapshot files, off the clock.

It takes what the others leave of the host, reads snapshots in order, and removes each when its line is written.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import torch

from emulator.compute.finite import is_finite
from emulator.host.liveness import PULSE
from emulator.host.resources import filling
from emulator.ledger.events import Evaluated, ModelSaved, Started
from emulator.ledger.files import Ledger
from emulator.runtime.launch_spec import LaunchSpec
from emulator.transport.messages import StateDict

POLL_S = 0.05


def snapshot_path(folder: Path, round: int) -> Path:
    return folder / f"{round:06d}.pt"


def write_snapshot(
    folder: Path, round: int, due_ns: int, actual_ns: int, parts: dict[str, StateDict], missing_part: str = ""
) -> None:
    """Make the snapshot of ``round`` appear, complete; ``missing_part``: a part that a client contributes."""
    path = snapshot_path(folder, round)
    snapshot = {"due_ns": due_ns, "actual_ns": actual_ns, "parts": parts, "missing_part": missing_part}
    with filling():
        torch.save(snapshot, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def part_path(folder: Path, round: int, part: str) -> Path:
    return folder / f"{round:06d}.{part}"


def write_part(folder: Path, round: int, part: str, state: StateDict) -> None:
    """Make a client's part of the snapshot of ``round`` appear, complete."""
    path = part_path(folder, round, part)
    with filling():
        torch.save(state, path.with_suffix(".half"))
    path.with_suffix(".half").rename(path)


def hash_of(parts: dict[str, StateDict]) -> str:
    """SHA-256 of all tensors with their names, in order."""
    digest = hashlib.sha256()
    for part, state in sorted(parts.items()):
        for name, tensor in state.items():
            digest.update(f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def evaluated_event(
    round: int,
    due_ns: int,
    actual_ns: int,
    parts: dict[str, StateDict],
    found: Mapping[str, float],
    clients: Sequence[float | None] = (),
) -> Evaluated:
    """What is recorded of a model of these ``parts``; ``found``: its ``loss`` and the task's metrics by name;
    ``clients``: the first of these for each client.

    A model with values that are infinite or no numbers, or with such a loss, has no scores: the class that it names is
    the argmax of NaN.
    """
    loss = found["loss"]
    unfit = [part for part, state in parts.items() if not all(map(is_finite, state.values()))]
    holds = not unfit and math.isfinite(loss)
    scores = {name: value for name, value in found.items() if name != "loss" and math.isfinite(value)} if holds else {}
    return Evaluated(
        due_ns=due_ns,
        actual_ns=actual_ns,
        round=round,
        accuracy=scores.get("accuracy"),
        loss=loss if holds else None,
        weights=hash_of(parts),
        balanced=scores.get("balanced_accuracy"),
        scores=scores,
        not_finite=unfit,
        clients=list(clients) if holds else [],
    )


class ModelKeeper:
    """Keeps the last model that was judged, or the best, as the user says, in the run's record."""

    def __init__(self, spec: LaunchSpec, ledger: Ledger) -> None:
        self._spec, self._ledger = spec, ledger
        self._saved: Any = importlib.import_module(spec.saved) if spec.save != "none" else None
        self._best: dict[str, float] = {}

    def take(self, task: Any, event: Evaluated, parts: dict[str, StateDict]) -> None:
        """Save the model of these ``parts``, if it is the one to keep until now."""
        if self._spec.save == "none":
            return
        if self._spec.save == "best" and not self._saved.improves(task, event.scores, self._best):
            return
        self._best = event.scores
        path = Path(self._spec.model_file)
        with filling():
            self._saved.save(task, parts, path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._ledger.write(
            ModelSaved(due_ns=event.due_ns, actual_ns=event.actual_ns, round=event.round, file=path.name, sha256=digest)
        )


def evaluate_snapshots(spec: LaunchSpec, control: Connection) -> None:
    """Evaluate snapshots until the supervisor has said that no more will come."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # it wakes up without taking a core from anyone
    os.nice(19)  # SCHED_IDLE would starve beside another program, and the run would not end
    torch.set_num_threads(1)
    folder, round, no_more = Path(spec.snapshot_folder), 0, False
    ledger = Ledger(Path(spec.ledger_folder), spec.node)
    ledger.write(Started(due_ns=0, actual_ns=0, role=spec.role, pid=os.getpid()))
    module_name, _, function = spec.evaluate.rpartition(".")
    module = importlib.import_module(module_name)
    config = msgspec.convert(spec.settings, importlib.import_module(spec.module).Config)
    keeper = ModelKeeper(spec, ledger)
    while True:
        path = snapshot_path(folder, round)
        if path.exists():
            snapshot = torch.load(path, weights_only=True)
            if part := snapshot["missing_part"]:  # it was written before the server could hear that the round is over
                part_file = part_path(folder, round, part)
                snapshot["parts"][part] = torch.load(part_file, weights_only=True)
                part_file.unlink()
            PULSE.begin("evaluation")
            found, clients = getattr(module, function)(config.task, snapshot["parts"])
            PULSE.rest()
            at = snapshot["due_ns"], snapshot["actual_ns"]
            event = evaluated_event(round, *at, snapshot["parts"], found, clients)
            ledger.write(event)
            keeper.take(config.task, event, snapshot["parts"])
            path.unlink()
            round += 1
        elif no_more:
            return
        elif control.poll(POLL_S):
            no_more = True
