"""Models, cuts and auxiliaries: sizes from the papers' tables, and halves that are the whole."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from algorithms import models, split
from algorithms.task import AUXILIARIES, CUTS, Task

RESNET = Task(model="resnet18", cut="layer2", dataset="synthetic:3x32x32:10:5000")


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def state_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def test_the_small_cnn_has_the_sizes_that_its_tables_assume() -> None:
    task = Task()
    assert state_bytes(task.client_half()) == 10_176
    assert state_bytes(task.server_half()) == 156_424
    assert state_bytes(task.auxiliary()) == 10_280
    z = task.client_half()(torch.zeros(3, 1, 8, 8))
    assert z.shape == (3, 16, 4, 4)
    assert z[0].nbytes == 1024


def test_resnet18_cut_after_layer2_has_the_sizes_of_the_fsl_sage_code() -> None:
    halves = RESNET.client_half(), RESNET.server_half(), RESNET.auxiliary()
    assert [parameters(half) for half in halves] == [683_072, 10_498_570, 2_102_282]
    assert [state_bytes(half) for half in halves] == [2_740_048, 42_025_080, 8_419_408]
    assert halves[0](torch.zeros(2, 3, 32, 32)).shape == (2, 128, 4, 4)


def test_resnet18_computes_what_torchvision_s_does_with_the_same_weights() -> None:
    ours, theirs = RESNET.whole(), torchvision.models.resnet18(num_classes=10)
    flat = {key.replace("stem.", "").replace("head.2.", "fc."): tensor for key, tensor in ours.state_dict().items()}
    theirs.load_state_dict(flat)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(("model", "cut"), [(model, cut) for model, cuts in CUTS.items() for cut in cuts])
def test_the_halves_joined_are_the_whole_bit_for_bit(model: str, cut: str) -> None:
    task = Task(model=model, cut=cut, dataset="synthetic:3x32x32:10:5000", seed=5)
    client, server, whole = task.client_half(), task.server_half(), task.whole()
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(server(client(x)), whole(x))
    parts = task.halves(whole.state_dict())
    assert parts["client"].keys() == client.state_dict().keys()
    assert parts["server"].keys() == server.state_dict().keys()
    assert parts["client"].keys() | parts["server"].keys() == whole.state_dict().keys()


@pytest.mark.parametrize(
    ("model", "cut", "aux"), [(model, cut, aux) for model in CUTS for cut in CUTS[model] for aux in AUXILIARIES[model]]
)
def test_every_auxiliary_takes_the_smashed_batch_of_its_cut(model: str, cut: str, aux: str) -> None:
    task = Task(model=model, cut=cut, aux=aux, dataset="synthetic:3x32x32:7:500")
    z = task.client_half()(torch.rand(2, 3, 32, 32))
    assert task.auxiliary()(z).shape == (2, 7)


def test_the_cuts_that_a_task_allows_are_stages_with_something_on_both_sides() -> None:
    assert CUTS.keys() == AUXILIARIES.keys() == models.STAGES.keys()
    for model, cuts in CUTS.items():
        for cut in cuts:
            assert split.stage_names(model, cut, "client")
            assert len(split.stage_names(model, cut, "server")) >= 2


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = Task(seed=1).whole().state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    again, other = Task(seed=1, cut="conv1").whole().state_dict(), Task(seed=2).whole().state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["conv1.0.weight"], other["conv1.0.weight"])
    assert torch.equal(Task().auxiliary()[1].weight, Task().auxiliary()[1].weight)  # type: ignore[index]


def test_finding_the_shape_at_the_cut_leaves_batch_statistics_alone() -> None:
    client = RESNET.client_half()
    before = {key: tensor.clone() for key, tensor in client.state_dict().items()}
    assert split.smashed_shape(client, (3, 32, 32)) == (128, 4, 4)
    assert client.training
    assert all(torch.equal(before[key], tensor) for key, tensor in client.state_dict().items())
