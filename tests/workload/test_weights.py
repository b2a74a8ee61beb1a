"""Weights that a user brings fit the model by name and shape, or are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from algorithms.data.identity import identity
from algorithms.models.weights import digest_of, read_weights
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_state_is_read_to_the_last_bit_and_in_the_models_order(tmp_path: Path, suffix: str) -> None:
    state = model().state_dict()
    path = tmp_path / f"w.{suffix}"
    if suffix == "pt":
        torch.save(dict(reversed(state.items())), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    found = read_weights(path, model().to("meta").state_dict())
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert len(digest_of(path)) == 64


def test_half_precision_becomes_what_the_model_has(tmp_path: Path) -> None:
    state = model().state_dict()
    torch.save({name: x.half() if x.is_floating_point() else x for name, x in state.items()}, tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt", state)
    assert {name: x.dtype for name, x in found.items()} == {name: x.dtype for name, x in state.items()}
    assert torch.equal(found["0.weight"], state["0.weight"].half().float())


def other(**changes: object) -> dict[str, object]:
    return {**model().state_dict(), **changes}


def test_every_node_begins_with_the_weights_of_the_file_and_a_result_depends_on_its_content(tmp_path: Path) -> None:
    brought = Task(seed=7).full_model().state_dict()
    torch.save(brought, tmp_path / "w.pt")
    task = Task(seed=1, init=str(tmp_path / "w.pt"))
    task.check()
    prepared = prepare(task, tmp_path / "made")
    for each in (task, prepared):
        halves = {**each.client_half().state_dict(), **each.server_half().state_dict()}
        for found in (halves, each.full_model().state_dict()):
            assert all(torch.equal(found[name], brought[name]) for name in brought)
    same = Task(seed=1).auxiliary().state_dict()
    assert all(torch.equal(x, same[name]) for name, x in prepared.auxiliary().state_dict().items())
    one = identity("digits", "data", init=task.init)["sha256"]
    torch.save(Task(seed=8).full_model().state_dict(), tmp_path / "w.pt")
    assert len({one, identity("digits", "data", init=task.init)["sha256"], identity("digits", "data")["sha256"]}) == 3
    with pytest.raises(UserError, match="init: there is no file nowhere"):
        Task(init="nowhere.pt").check()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (other(**{"0.weight": torch.zeros(3, 4)}), "0.weight has shape [3, 4], and the model's [3, 2]"),
        (other(extra=torch.zeros(1)), "is of another model: of its tensors 1 are none of the model's (extra)"),
        ({"a": torch.zeros(1)}, "7 of the model's are missing (0.bias, 0.weight, 1.bias and 4 more), and 1 are none"),
        (other(**{"0.bias": torch.full((3,), torch.nan)}), "0.bias has values that are infinite or no numbers"),
        (
            other(**{"0.bias": torch.zeros(3, dtype=torch.int64)}),
            "0.bias is torch.int64, and the model's",
        ),
        ({"state_dict": model().state_dict(), "epoch": 3}, "(it has epoch, state_dict): save its ['state_dict'] alone"),
        ({}, "is no state dict of tensors (it has nothing): save model.state_dict()"),
        ([torch.zeros(1)], "is no state dict of tensors (it has list): save model.state_dict()"),
        (model(), "is damaged, or has more in it than tensors: save model.state_dict() with torch.save, or as"),
        (b"no zip", "is no file of weights, or a part of one: save model.state_dict() with torch.save, or as"),
        (b"\x80\x02ctorch.nn\nLinear\n.", "is damaged, or has more in it than tensors: save model.state_dict() with"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_file(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError) as caught:
        read_weights(path, model().state_dict())
    text = str(caught.value)
    assert text.startswith(f"init: {path}: ")
    assert said in text
    assert "\n" not in text


def test_a_state_dict_in_the_form_before_archives_is_read(tmp_path: Path) -> None:
    state = model().state_dict()
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    found = read_weights(tmp_path / "w.pt", state)
    assert all(torch.equal(found[key], tensor) for key, tensor in state.items())
