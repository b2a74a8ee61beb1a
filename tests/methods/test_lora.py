"""Low-rank adapters: what is trained, sent, kept and computed, by closed forms; the same training in plain torch."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from algorithms import ALGORITHMS
from algorithms.models.lora import Adapted, adapt
from algorithms.models.lora_options import LoraOptions, lora_options
from algorithms.training import steps
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task, facts, prepare
from emulator.compute.counting import WorkCounter
from emulator.compute.tensor_account import TEMPORARIES, TensorAccount, owned_by
from emulator.errors import UserError
from emulator.ledger.events import Posted
from emulator.testing import record

RANK, ALPHA = 2, 6.0
NET = """
from collections import OrderedDict
from torch import nn

def net(shape, classes):
    return nn.Sequential(OrderedDict(
        flatten=nn.Flatten(), first=nn.Linear(64, 12), act=nn.ReLU(), second=nn.Linear(12, 8), tanh=nn.Tanh(),
        third=nn.Linear(8, 8), relu=nn.ReLU(), head=nn.Linear(8, classes),
    ))

class Attending(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.layer(self.embed(x.flatten(1, 2))).mean(1))
"""
SIZES = {"first": (64, 12), "second": (12, 8), "third": (8, 8), "head": (8, 4)}
CLIENT = ("first", "second")


def task(folder: Path, lora: str = f"rank={RANK},alpha={ALPHA}", name: str = "net", **options: Any) -> Task:
    (folder / "net.py").write_text(NET)
    options = {"dataset": "synthetic:1x8x8:4:24", "clients": 2, "batch": 4, "cut": "second", "aux": "linear"} | options
    return Task(model=f"{folder / 'net.py'}:{name}", lora=lora, **options)


def config_of(name: str, task: Task, **more: Any) -> tuple[Any, Any]:
    module = importlib.import_module(ALGORITHMS[name])
    return module, module.Config(task=task, rounds=2, stop_after_s=None, **more)


def posted(played: Any, kind: str) -> list[Posted]:
    return [e for events in played.events.values() for e in events if isinstance(e, Posted) and e.kind == kind]


def matrices_bytes(names: Any) -> int:
    """r · (in + out) values of four bytes a layer."""
    return 4 * sum(RANK * sum(SIZES[name]) for name in names)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_sent_each_round_is_the_matrices_and_the_rest_once(name: str, tmp_path: Path) -> None:
    played = record(*config_of(name, task(tmp_path)))
    layers = SIZES if name == "fedavg" else CLIENT
    auxiliary = 4 * (8 * 4 + 4) if name in ("local-loss", "cse-fsl", "heron-sfl") else 0
    updates = posted(played, "turn" if name == "sl" else "update")
    assert updates and {e.payload_bytes for e in updates} == {matrices_bytes(layers) + auxiliary}
    base = 4 * sum(inputs * outputs + outputs for inputs, outputs in (SIZES[layer] for layer in layers))
    assert [e.payload_bytes for e in posted(played, "frozen")] == [base, base]
    assert {key.rpartition(".")[2] for part in ("client", "server") for key in played.snapshots[-1][part]} == {
        "lora_A",
        "lora_B",
    }


class Product(nn.Module):
    """A weight with the product of two matrices added: what an adapted layer is, the other way about."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a.clone()), nn.Parameter(b.clone())

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + ALPHA / RANK * (self.b.flatten(1) @ self.a.flatten(1)).view_as(weight)


@pytest.mark.parametrize("name", ["fedavg", "splitfed-v1", "splitfed-v2", "sl"])
def test_with_one_client_training_is_that_of_a_weight_with_the_product_added_in_plain_torch(
    name: str, tmp_path: Path
) -> None:
    one = task(tmp_path, clients=1)
    rates = {"client_lr": 0.1, "server_lr": 0.1, "optimizer": "sgd", "momentum": 0.5}
    played = record(*config_of(name, one, **rates))
    plain = Task(**{field: getattr(one, field) for field in Task.__struct_fields__ if field != "lora"}).full_model()
    adapted = one.full_model().state_dict()
    assert all(torch.equal(tensor, adapted[key]) for key, tensor in plain.state_dict().items())  # the same base
    plain.requires_grad_(False)
    products = {}
    for layer in SIZES:
        products[layer] = Product(adapted[f"{layer}.lora_A"], adapted[f"{layer}.lora_B"])
        parametrize.register_parametrization(getattr(plain, layer), "weight", products[layer])
    optimizer = torch.optim.SGD([p for product in products.values() for p in product.parameters()], 0.1, momentum=0.5)
    for round in range(2):
        for x, y in one.shard(0).batches(round):
            cross_entropy(plain(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    found = {key: tensor for part in played.snapshots[-1].values() for key, tensor in part.items()}
    for layer, product in products.items():
        assert torch.allclose(found[f"{layer}.lora_A"], product.a, rtol=1e-4, atol=1e-6)
        assert torch.allclose(found[f"{layer}.lora_B"], product.b, rtol=1e-4, atol=1e-6)
        assert product.b.abs().max() > 1e-3  # the witness: it learnt


def test_a_convolution_s_adapter_is_a_product_of_matrices_too() -> None:
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv1d(4, 4, 1))
    model = adapt(copy.deepcopy(plain), LoraOptions(RANK, ALPHA, targets=("0",)), "it")
    layer: Any = model[0]
    nn.init.normal_(layer.lora_B)
    parametrize.register_parametrization(plain[0], "weight", Product(layer.lora_A.detach(), layer.lora_B.detach()))
    x = torch.rand(2, 3, 9, 9)
    assert torch.allclose(layer(x), plain[0](x), atol=1e-5)
    assert not isinstance(model[1], Adapted)


def test_attention_layers_of_torch_use_their_adapters_in_eval_mode_too(tmp_path: Path) -> None:
    """Their fast path goes by weights: with it evaluation would leave adapters out."""
    model = task(tmp_path, name="Attending", dataset="synthetic:1x8x8:4:24", cut="layer").full_model()
    names = {name for name, layer in model.named_modules() if isinstance(layer, Adapted)}
    assert names == {"embed", "layer.linear1", "layer.linear2", "head"}  # out_proj is never called
    for layer in (model.layer.linear1, model.layer.linear2):
        nn.init.normal_(layer.lora_B)
    x = torch.rand(2, 1, 8, 8)
    trained = model.train()(x)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), trained, atol=1e-5)


@pytest.mark.parametrize("asks", [False, True], ids=["first layer", "inner layer"])
def test_a_step_costs_the_products_of_two_matrices_and_of_the_frozen_weight_the_input_s_gradient_alone(
    asks: bool,
) -> None:
    batch, inputs, outputs = 5, 48, 24
    base, a, b = (2 * batch * x * y for x, y in ((inputs, outputs), (inputs, RANK), (RANK, outputs)))
    model = adapt(nn.Sequential(nn.Linear(inputs, outputs)), LoraOptions(RANK, ALPHA), "it")
    x = torch.rand(batch, inputs, requires_grad=asks)
    with WorkCounter() as forward:
        out = model(x)
    with WorkCounter() as backward:
        out.sum().backward()
    assert forward.work.dense_flops == base + a + b
    assert backward.work.dense_flops == 2 * b + a + (a + base if asks else 0)


def test_the_account_has_gradients_and_moments_of_the_matrices_alone_and_no_activation_of_a_frozen_weight() -> None:
    batch, width, layers = 512, 64, 4
    made = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    with TensorAccount() as account, owned_by("client", TEMPORARIES):
        model = adapt(made, LoraOptions(RANK, ALPHA, targets=(str(layers - 1),)), "it")
        part = steps.Part(model, OptimizerSpec("adam", 1e-3), objective=Classification())
        for _ in range(2):
            with owned_by("client"):
                x, y = torch.rand(batch, width), torch.zeros(batch, dtype=torch.int64)
            steps.train_step(part, x, y)
            kinds = account.peaks["client"].by_kind
    matrices = 4 * RANK * 2 * width
    assert part.optimizer is not None
    assert sum(tensor.nbytes for state in part.optimizer.state.values() for tensor in state.values()) == 2 * (
        matrices + 4
    )
    # of the adapted layer's x for A and A x for B; of the loss its log-probabilities
    assert kinds["activations"] <= 4 * batch * (width + RANK + width) + 64


def test_masks_are_the_generator_s_and_there_are_none_in_eval_mode() -> None:
    layer = adapt(nn.Sequential(nn.Linear(16, 16)), LoraOptions(RANK, ALPHA, dropout=0.5), "it")
    nn.init.normal_(layer[0].lora_B)  # type: ignore[arg-type]
    x, found = torch.rand(4, 16), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(layer(x))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_a_run_says_what_is_trained_and_a_file_of_weights_may_lack_the_matrices(tmp_path: Path) -> None:
    plain = task(tmp_path, lora="").full_model().state_dict()
    torch.save({key: tensor + 1 for key, tensor in plain.items()}, tmp_path / "init.pt")
    begun = task(tmp_path, init=str(tmp_path / "init.pt"))
    assert all(torch.equal(begun.full_model().state_dict()[key], tensor + 1) for key, tensor in plain.items())
    kept, trained = sum(tensor.numel() for tensor in plain.values()), matrices_bytes(SIZES) // 4
    assert f"{kept} of {kept + trained} parameters of" in facts(prepare(begun, tmp_path / "made"))["remarks"][-1]


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ("rank=4,target=qkv", "target: 'qkv' matches nothing in .*: say first or second or third or head"),
        ("rank=4,train=neck", "train: 'neck' matches nothing"),
        ("rank=9", "rank 9 is above 8, the smaller side of second"),
        ("rank=1,train=first+second+third+head", "has no linear layer that is not trained whole"),
    ],
)
def test_what_a_model_cannot_have_is_refused_in_one_line(lora: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        prepare(task(tmp_path, lora), tmp_path / "made")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alpha=4", "has no rank"),
        ("rank", "rank has no value"),
        ("rank=4,rnak=3", "did you mean rank"),
        ("rank=4,rank=5", "rank is said twice"),
        ("rank=0", "rank: must be a number from 1"),
        ("rank=1.5", "rank: must be a whole number"),
        ("rank=4,alpha=nan", "alpha: must be a number"),
        ("rank=4,dropout=1", "dropout: must be below 1"),
    ],
)
def test_what_is_no_adapter_is_refused_before_anything_is_loaded(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Task(lora=text).check()


def test_options_have_the_defaults_that_are_said() -> None:
    assert lora_options("rank=4") == LoraOptions(4, 8.0, 0.0, (), ())
    assert lora_options("rank=4,target=a+b,train=head") == LoraOptions(4, 8.0, 0.0, ("a", "b"), ("head",))
