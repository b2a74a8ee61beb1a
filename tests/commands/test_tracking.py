"""Experiment trackers are told the summary's figures, by their own libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from runs import write_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy import make_timeline

import run
from algorithms.commands.options.run_flags import TRACKERS
from algorithms.commands.records import tracking
from emulator.analysis.recorded import RunRecord, recorded
from emulator.errors import UserError


@pytest.fixture
def record(tmp_path: Path) -> tuple[Path, RunRecord]:
    folder = tmp_path / "mine"
    write_run(folder, {"sl": make_timeline(), "fedavg": make_timeline()})
    return folder, recorded(folder)


def expected(found: RunRecord, name: str) -> list[tuple[float, float]]:
    history = found.summary.algorithms[name].history
    return [(each.accuracy, each.payload_bytes / 1e6) for each in history]


def test_tensorboard_reads_back_each_round(record: tuple[Path, RunRecord]) -> None:
    folder, found = record
    assert run.main(["export", str(folder), "--to", "tensorboard"]) == 0
    for name in found.summary.algorithms:
        events = EventAccumulator(str(folder / "tensorboard" / name))
        events.Reload()
        for column, key in enumerate(("accuracy", "payload_mb")):
            values = [pair[column] for pair in expected(found, name)]
            read = events.Tensors(key)
            assert [each.step for each in read] == [*range(1, len(values) + 1)]
            assert [each.tensor_proto.float_val[0] for each in read] == pytest.approx(values, rel=1e-6)


@pytest.mark.filterwarnings("ignore")  # its store's own, about its database library
def test_mlflow_has_a_run_a_method_in_its_own_store(record: tuple[Path, RunRecord], tmp_path: Path) -> None:
    folder, found = record
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    tracking.track("mlflow", folder, found)
    runs = mlflow.search_runs(experiment_names=["splitbed"], output_format="list")
    told = {each.info.run_name: each for each in runs}
    assert told.keys() == {f"mine/{name}" for name in found.summary.algorithms}
    for name in found.summary.algorithms:
        each = told[f"mine/{name}"]
        assert each.data.tags["verdict"] == found.summary.health.verdict
        history = mlflow.MlflowClient().get_metric_history(each.info.run_id, "accuracy")
        assert [point.value for point in history] == [accuracy for accuracy, _ in expected(found, name)]


class Wandb:
    """What W&B would be told."""

    def __init__(self) -> None:
        self.runs: list[Told] = []

    def init(self, **how: Any) -> Told:
        self.runs.append(Told(how))
        return self.runs[-1]


class Told:
    def __init__(self, how: dict[str, Any]) -> None:
        self.how, self.summary = how, dict[str, Any]()
        self.logged: list[tuple[int, dict[str, float]]] = []

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None: ...

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))


def test_wandb_is_told_offline(record: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    folder, found = record
    tracking.track("wandb-offline", folder, found)
    assert [told.how["name"] for told in wandb.runs] == [f"mine/{name}" for name in found.summary.algorithms]
    for told, name in zip(wandb.runs, found.summary.algorithms, strict=True):
        assert (told.how["mode"], told.how["dir"]) == ("offline", str(folder))
        rounds = [(step, values["accuracy"]) for step, values in told.logged]
        assert rounds == [(step, accuracy) for step, (accuracy, _) in enumerate(expected(found, name), 1)]
        assert told.summary["verdict"] == found.summary.health.verdict


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_tracker_that_is_not_there_is_named(
    record: tuple[Path, RunRecord], tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, tracking.PACKAGES[tracker], None)
    with pytest.raises(UserError, match=f"{tracker}: its library cannot be imported .*; pip install "):
        tracking.track(tracker, *record)


def test_what_a_tracker_refuses_is_one_line_and_the_record_stays(
    record: tuple[Path, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Wandb()
    monkeypatch.setattr(wandb, "init", lambda **_how: 1 / 0)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(UserError, match="wandb-offline: division by zero; the record is in "):
        tracking.track("wandb-offline", *record)
