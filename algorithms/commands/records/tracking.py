"""A record for experiment trackers: per round and method, through the tracker's own library, which is imported here.

Each method is a run of the tracker's, called by the record's folder and the method. What is told: the task's metrics
by name, ``loss``, ``emulated_s``, ``payload_mb`` (all messages until the round's end), ``payload_up_mb``; once:
``peak_mib`` (the largest of all clients), the settings, the profile, the clock, the verdict, the digests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from emulator.analysis.metrics import FIGURES
from emulator.analysis.recorded import RunRecord
from emulator.analysis.summary import AlgorithmSummary
from emulator.errors import UserError, one_line

MB = 1e6
PROJECT = "splitbed"  # MLflow's experiment, W&B's project
PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb-offline": "wandb"}

Rounds = list[dict[str, float]]
Facts = dict[str, str | float]


def track(tracker: str, folder: Path, run: RunRecord) -> str:
    """Tell a tracker of all methods of a run; where to look. UserError where its library is not there, or refuses."""
    tell, where = _TRACKERS[tracker]
    _library(tracker)
    try:
        for name, algorithm in run.summary.algorithms.items():
            tell(folder, name, _rounds(algorithm), _facts(run, name, algorithm))
    except Exception as error:  # the tracker's, of whatever type
        raise UserError(
            f"{tracker}: {one_line(str(error)) or type(error).__name__}; the record is in {folder}"
        ) from error
    return where(folder)


def _rounds(algorithm: AlgorithmSummary) -> Rounds:
    found = []
    for each in algorithm.history:
        values: dict[str, float | None] = {**each.scores, "loss": each.loss}
        values |= {"emulated_s": each.due_s, "payload_mb": each.payload_bytes / MB}
        values["payload_up_mb"] = each.payload_up / MB
        found.append({key: float(value) for key, value in values.items() if value is not None})
    return found


def _facts(run: RunRecord, name: str, algorithm: AlgorithmSummary) -> Facts:
    summary = run.summary
    peak_mib = FIGURES["peak_mib"].of(algorithm)
    facts: Facts = {"method": name, "outcome": algorithm.outcome, "verdict": summary.health.verdict}
    facts |= {"profile": summary.profile or "", "clock": summary.clock or "", "seed": summary.seed or 0}
    facts |= {"timeline_digest": algorithm.timeline_digest or "", "numerics_digest": algorithm.numerics_digest or ""}
    settings = run.manifest.settings[name]
    facts |= {key: str(value) for key, value in settings.items() if key != "task"}
    facts |= {f"task.{key}": str(value) for key, value in settings.get("task", {}).items()}
    return facts | ({} if peak_mib is None else {"peak_mib": peak_mib})


def _library(tracker: str) -> ModuleType:
    import importlib

    package = PACKAGES[tracker]
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"{tracker}: its library cannot be imported ({error}); pip install {package}") from None


def _tensorboard(folder: Path, name: str, rounds: Rounds, facts: Facts) -> None:
    from tensorboard.summary import Writer

    writer = Writer(str(folder / "tensorboard" / name))
    for step, values in enumerate(rounds, 1):
        for key, value in values.items():
            writer.add_scalar(key, value, step)
    if "peak_mib" in facts:
        writer.add_scalar("peak_mib", facts["peak_mib"], len(rounds))
    writer.add_scalar("verdict_good", float(facts["verdict"] == "good"), len(rounds))
    writer.close()


def _mlflow(folder: Path, name: str, rounds: Rounds, facts: Facts) -> None:
    mlflow: Any = _library("mlflow")
    mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=f"{folder.resolve().name}/{name}"):
        mlflow.log_params({key: value for key, value in facts.items() if key != "peak_mib"})
        mlflow.set_tags({"verdict": facts["verdict"], "record": str(folder.resolve())})
        for step, values in enumerate(rounds, 1):
            mlflow.log_metrics(values, step=step)
        if "peak_mib" in facts:
            mlflow.log_metric("peak_mib", float(facts["peak_mib"]), step=len(rounds))


def _wandb(folder: Path, name: str, rounds: Rounds, facts: Facts) -> None:
    wandb: Any = _library("wandb-offline")
    called = f"{folder.resolve().name}/{name}"
    with wandb.init(project=PROJECT, name=called, dir=str(folder), mode="offline", config=facts) as run:
        for step, values in enumerate(rounds, 1):
            run.log(values, step=step)
        run.summary.update({key: facts[key] for key in ("verdict", "outcome", "peak_mib") if key in facts})


_TRACKERS: dict[str, tuple[Callable[[Path, str, Rounds, Facts], None], Callable[[Path], str]]] = {
    "tensorboard": (_tensorboard, lambda folder: f"tensorboard --logdir {folder / 'tensorboard'}"),
    "mlflow": (_mlflow, lambda _folder: f"experiment {PROJECT} of {os.environ.get('MLFLOW_TRACKING_URI', './mlruns')}"),
    "wandb-offline": (_wandb, lambda folder: f"wandb sync {folder / 'wandb'}/offline-run-*"),
}
