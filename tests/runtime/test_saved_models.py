"""Models that a run saves: the last, or the best; and a run that begins with one goes on where it ended."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Board, play, write_scenario

from algorithms.workload import judging
from algorithms.workload.task import Task
from emulator.ledger.events import Evaluated, ModelSaved
from emulator.ledger.files import Ledger, read_node
from emulator.runtime.evaluator import ModelKeeper

PARTS = {"client": Task().client_half().state_dict(), "server": Task().server_half().state_dict()}


class Spec:
    """What a keeper is told."""

    def __init__(self, folder: Path, save: str) -> None:
        self.save, self.saved = save, "algorithms.workload.judging"
        self.model_file = str(folder / "models" / "fedavg.pt")


@pytest.mark.parametrize(("save", "kept"), [("none", []), ("final", [0, 1, 2, 3]), ("best", [1, 3])])
def test_each_model_to_be_kept_is_written_over_the_one_before(tmp_path: Path, save: str, kept: list[int]) -> None:
    """Accuracies of four rounds; one of a round that has none, as after a divergence, is never the best."""
    ledger = Ledger(tmp_path, "evaluator")
    spec: Any = Spec(tmp_path, save)
    keeper = ModelKeeper(spec, ledger)
    for round, accuracy in enumerate([None, 0.5, 0.5, 0.75]):
        scores = {} if accuracy is None else {"accuracy": accuracy}
        parts = {part: {key: x + round for key, x in state.items()} for part, state in PARTS.items()}
        event = Evaluated(due_ns=round, actual_ns=round, round=round, accuracy=accuracy, loss=1.0, scores=scores)
        keeper.take(Task(), event, parts)
    ledger.close()
    events = [event for event in read_node(ledger.path) if isinstance(event, ModelSaved)]
    assert [event.round for event in events] == kept
    if kept:
        path = Path(spec.model_file)
        assert events[-1].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        found = torch.load(path, weights_only=True)
        name, before = next(iter(PARTS["client"].items()))
        assert torch.equal(found[name], before + kept[-1])
        assert [each.name for each in path.parent.iterdir()] == ["fedavg.pt"]


def test_of_a_metric_that_is_better_the_lower_the_lowest_is_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    from algorithms.workload.objectives import Regression

    monkeypatch.setattr(Task, "objective", lambda _task: Regression())
    less, more = {"mean_squared_error": 0.1}, {"mean_squared_error": 0.2}
    assert judging.improves(Task(), less, more) and not judging.improves(Task(), more, less)
    assert not judging.improves(Task(), less, less) and judging.improves(Task(), more, {})


def test_a_run_that_begins_with_a_saved_model_goes_on_where_the_other_ended(tmp_path: Path) -> None:
    """Where nothing is learnt, its first judgement is the other's last, to the last bit."""
    scenario = write_scenario(tmp_path / "scenario", [(2, Board())])
    flags = "--profile", scenario, "--algorithm", "fedavg", "--clock", "virtual"
    first = play(tmp_path / "first", *flags, "--rounds", 2, "--save", "final", warm=True)
    path = tmp_path / "first" / "models" / "fedavg.pt"
    assert f"Models: {path.parent} (fedavg.pt: round 2)" in first.out.replace("\n", " ")
    rates = "--set", "client_lr=0"
    second = play(tmp_path / "second", *flags, "--rounds", 1, "--seed", 9, "--init", path, *rates, warm=True)
    assert (first.status, second.status) == (0, 0), second.err
    last, begin = (each.events("fedavg", Evaluated, "evaluator") for each in (first, second))
    assert (begin[0].accuracy, begin[0].loss) == (last[-1].accuracy, last[-1].loss)
    assert last[-1].accuracy != last[0].accuracy
