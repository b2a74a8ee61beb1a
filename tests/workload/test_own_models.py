"""Models, cuts and auxiliaries of a user's own file: built by what they ask for, cut in two that are the whole."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from algorithms import fedavg, splitfed_v1
from algorithms.commands.cuts import cuts_table
from algorithms.data import user_objects
from algorithms.training import steps
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.cut_costs import cuts
from algorithms.workload.models import ModelShapes
from algorithms.workload.parts import Parts
from algorithms.workload.task import Task, prepare
from emulator.errors import UserCodeError, UserError
from emulator.runtime.evaluator import hash_of
from emulator.testing.recording import record

ROOT = Path(__file__).parent.parent.parent

WINDOW, VECTOR = ModelShapes((6, 128), 6), ModelShapes((20,), 3)
TOKENS = ModelShapes((64,), 5, vocabulary=100, output=(64, 5))

MODELS = """
import torch
from torch import nn

class Tagger(nn.Module):
    def __init__(self, vocabulary, classes, width=16):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, 24, batch_first=True)
        self.head = nn.Linear(24, classes)

    def forward(self, x):
        out, _ = self.lstm(self.embed(x))
        return self.head(out)

class Recurrent(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.lstm = nn.LSTM(shape[0], 24, batch_first=True)
        self.head = nn.Linear(24, classes)

    def forward(self, x):
        _, (h, _) = self.lstm(x.transpose(1, 2))
        return self.head(h[-1])

def conv(shape, classes, length):
    layers = nn.Conv1d(shape[0], 16, 5), nn.BatchNorm1d(16), nn.ReLU(), nn.AdaptiveAvgPool1d(length // 8)
    return nn.Sequential(*layers, nn.Conv1d(16, 8, 3), nn.Flatten(), nn.Linear(8 * (length // 8 - 2), classes))

class Gate(nn.Module):
    def forward(self, x):
        if x.mean() > 0:
            return x
        return x * 0.5

def gated(shape, classes):
    return nn.Sequential(nn.Linear(shape[0], 12), Gate(), nn.Linear(12, classes))

class Untraceable(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.gate, self.last = nn.Linear(shape[0], 12), Gate(), nn.Linear(12, classes)

    def forward(self, x):
        return self.last(self.gate(self.first(x)))

def head(smashed, classes):
    return nn.Sequential(nn.Linear(smashed[0], 4), nn.ReLU(), nn.Linear(4, classes))
"""
GIVEN = (
    MODELS
    + """
class Back(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.output = model.last

    def forward(self, z):
        return self.output(z)

def split(model, cut):
    if cut == "gate":
        return nn.Sequential(model.first, model.gate), Back(model)
    return model.first, nn.Sequential(model.gate, Back(model))

CUTS = ("gate", "first")
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(MODELS)
    (tmp_path / "given.py").write_text(GIVEN)
    return tmp_path


CASES = [
    ("nets.py:Tagger", TOKENS, {"embed", "lstm"}),
    ("nets.py:Recurrent", WINDOW, {"lstm"}),
    ("nets.py:conv", WINDOW, {"0", "1", "2", "3", "4", "5"}),
    ("nets.py:gated", VECTOR, {"0", "1"}),
    ("given.py:Untraceable", VECTOR, {"gate", "first"}),
]


@pytest.mark.parametrize(("word", "sizes", "expected"), CASES)
def test_at_every_cut_the_halves_are_the_whole_and_its_weights_keep_their_names(
    word: str, sizes: ModelShapes, expected: set[str], folder: Path, tmp_path: Path
) -> None:
    model = str(folder / word)
    found = cuts(model, sizes)
    assert {cut.name for cut in found} == expected
    assert sum("(default)" in row[0] for row in cuts_table(model, sizes).texts()) == 1
    for cut in found:
        parts = Parts(model, cut.name, "", sizes, 3).write(tmp_path / cut.name)  # checks them joined, bit for bit
        whole = parts.full_model()
        client, server = (parts.half(which) for which in ("client", "server"))
        assert [*whole.state_dict()] == [
            key for key in whole.state_dict() if key in client.state_dict() or key in server.state_dict()
        ]
        assert sum(p.numel() for p in client.parameters()) == cut.point.parameters
        assert sum(p.numel() for p in server.parameters()) == cut.point.server_parameters
        x = sizes.example(3)
        assert torch.equal(server(client(x)), whole(x))
        assert client(x).shape == (3, *cut.smashed)
        assert parts.auxiliary()(client(x)).shape == whole(x).shape
        loss = [server(client(x)).square().sum(), whole(x).square().sum()]
        for each in loss:
            torch.autograd.backward(each)
        gradients = {key: p.grad for key, p in whole.named_parameters()}
        for half in (client, server):
            for key, tensor in half.state_dict(keep_vars=True).items():
                if isinstance(tensor, nn.Parameter):
                    assert torch.equal(tensor.grad, gradients[key])


@pytest.mark.parametrize(
    ("smashed", "sizes"),
    [
        *(((7,), VECTOR), ((5, 7), VECTOR), ((2, 5, 7), VECTOR), ((64, 7), TOKENS), ((9,), TOKENS), ((4, 9), TOKENS)),
        ((3, 4, 4), ModelShapes((1, 8, 8), 2, output=(2, 8, 8))),
    ],
)
def test_the_default_auxiliary_takes_any_z(smashed: tuple[int, ...], sizes: ModelShapes) -> None:
    from algorithms.workload.auxiliaries import AuxiliarySpec, make

    made = make(AuxiliarySpec("linear", "x.py:y", "cut", smashed, ""), sizes)
    assert made(torch.rand(2, *smashed)).shape == (2, *sizes.result)


def test_an_auxiliary_of_a_user_s_own_is_given_the_shape_of_z(folder: Path, tmp_path: Path) -> None:
    model = str(folder / "given.py:Untraceable")
    made = Parts(model, "first", str(folder / "nets.py:head"), VECTOR, 3).write(tmp_path / "parts").auxiliary()
    assert made[0].in_features == 12
    with pytest.raises(UserError, match=r"^aux: .*nets\.py:head: asks for smashed: it can be given shape, classes"):
        user_objects.call("aux", str(folder / "nets.py:head"), VECTOR.given())


def test_what_the_model_freezes_stays_frozen_in_given_halves_under_the_whole_model_s_names(folder: Path) -> None:
    (folder / "still.py").write_text(
        f"{GIVEN}\ndef still(shape, classes):\n    model = Untraceable(shape, classes)\n"
        "    model.first.requires_grad_(False)\n    return model\n"
    )
    half = Parts(str(folder / "still.py:still"), "gate", "", VECTOR, 3).half("client")
    part = steps.Part(half, OptimizerSpec("sgd", 0.1))
    assert steps.frozen_weights(part).keys() == {"first.weight", "first.bias"}
    assert not steps.weights(part)


def test_a_client_s_half_is_built_without_memory_for_the_server_s(folder: Path, tmp_path: Path) -> None:
    model = str(folder / "given.py:Untraceable")
    parts = Parts(model, "gate", "", VECTOR, 3).write(tmp_path / "parts")
    (tmp_path / "parts" / "server.pt").unlink()
    assert {tensor.device.type for tensor in parts.half("client").state_dict().values()} == {"cpu"}


def test_the_example_of_a_model_trains_alike_whole_and_cut(tmp_path: Path) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending/model.md").read_text(), re.DOTALL)
    (tmp_path / "nets.py").write_text(source)
    word = str(tmp_path / "nets.py")
    task = Task(
        model=f"{word}:Net", aux=f"{word}:head", clients=2, samples_per_client=40, cut="first", folder="", batch=8
    )
    prepared = prepare(task, tmp_path / "made")
    assert (prepared.cut, prepared.aux) == ("first", f"{word}:head")
    whole, cut = (
        record(module, {"rounds": 2, "task": msgspec.to_builtins(prepared)}) for module in (fedavg, splitfed_v1)
    )
    for one, other in zip(whole.snapshots, cut.snapshots, strict=True):
        assert hash_of(one) == hash_of(other)


BROKEN = {
    "import os\nraise ValueError('no luck')\nNet = 1": r"m\.py:2 \(raise ValueError\('no luck'\)\): model: .*m\.py:Net"
    r" cannot be imported: ValueError: no luck$",
    "Net = (": r"m\.py:1 \(Net = \(\): model: .* cannot be imported: SyntaxError: ",
    "import torch\ndef Net(shape):\n    return torch.nn.Linear('a', 2)": r"m\.py:3 \(return torch\.nn\.Linear"
    r"\('a', 2\)\): model: .*m\.py:Net fails: TypeError: ",
}
NET = "import torch\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self, shape, classes):\n"
NET += "        super().__init__()\n        self.a, self.b = nn.Linear(shape[0], 9), nn.Linear(9, classes)\n"
FORWARD = NET + "    def forward(self, x):\n        return "
SPLIT = FORWARD + "self.b(self.a(x))\ndef split(model, cut):\n    return "
BROKEN |= {
    FORWARD + "self.b(self.c(x))": r"^m\.py:8 \(return self\.b\(self\.c\(x\)\)\): model: .*m\.py:Net fails:"
    r" AttributeError: 'Net' object has no attribute 'c'$",
    FORWARD + "self.b(self.a(x) if x.sum() < 0 else {}[1])": r"^m\.py:8 \(return .*\): model: .* fails: KeyError: 1$",
}
REFUSED = {
    "Net = 3": r"model: .*m\.py:Net: is int, and must be callable",
    "Other = 3": r"model: .*m\.py:Net: m\.py has no Net",
    "def Net(shape): return 3": r"model: .*m\.py:Net: returns int, and must return an nn\.Module",
    "def Net(depth): return 3": r"model: .*m\.py:Net: asks for depth: it can be given shape, classes, vocab",
    FORWARD + "self.b(self.a(x)), x": r"model: .*m\.py:Net returns a tuple: its forward must return one tensor",
    FORWARD
    + "self.b(self.a(x).mean(0))": r"model: .*returns \[3\] for a batch of 8, without a batch dimension: it must",
    FORWARD
    + "self.b(self.a(x)) if x.sum() > 0 else x": r"traced at m\.py:8 \(return self\.b\(self\.a\(x\)\) if x\.sum",
    SPLIT + "model.a": r"cut: .*split\(model, 'split'\) returns no \(client, server\), two nn\.Modules$",
    SPLIT + "model.a, nn.Sequential(model.a, model.b)": r"cut: .*: a\.bias is on both sides: give each half",
    SPLIT + "model.a, nn.Linear(9, 3)": r"cut: .*: weight of the server is none of the model's: use the model's own",
    SPLIT + "model.a, nn.Sequential(nn.ReLU(), model.b)": r"cut: .* cut after split is not the model it was: ",
    FORWARD
    + "self.b(self.a(x))\n"
    + "def split(model, cut):\n    model.c = nn.Linear(1, 1)\n    return model.a, model.b": (
        r"cut: .*: c\.weight is in neither half$"
    ),
}


@pytest.mark.parametrize("source", [*BROKEN, *REFUSED])
def test_what_a_file_has_wrong_is_said_in_one_line(source: str, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(source)
    kind: type[Exception] = UserCodeError if source in BROKEN else UserError
    with pytest.raises(kind, match=(BROKEN | REFUSED)[source]) as caught:
        Parts(str(tmp_path / "m.py:Net"), "", "", VECTOR, 1).write(tmp_path / "parts")
    assert "\n" not in str(caught.value)


CONDITIONAL = (
    NET
    + """
    def forward(self, x):
        z = self.a(FEATURES)
        if CONDITION:
            z = z.relu()
        return self.b(z)
class Client(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.a = model.a
    def forward(self, x):
        return self.a(FEATURES)
def split(model, cut):
    return Client(model), model.b
"""
)


@pytest.mark.parametrize(
    ("features", "condition", "sizes"),
    [
        *(("x", f"z.sum() {sign} 0", VECTOR) for sign in "<>"),
        ("x", "x.max() > 1", VECTOR),
        ("x.float()", f"x.sum() != {int(TOKENS.example(2).sum())}", ModelShapes((64,), 5, vocabulary=100)),
    ],
)
def test_halves_that_lack_what_forward_does_for_some_values_alone_are_refused(
    features: str, condition: str, sizes: ModelShapes, tmp_path: Path
) -> None:
    """One example is on one side of each condition."""
    (tmp_path / "m.py").write_text(CONDITIONAL.replace("FEATURES", features).replace("CONDITION", condition))
    with pytest.raises(UserError, match=r"^cut: .* cut after split is not the model it was: "):
        Parts(str(tmp_path / "m.py:Net"), "", "", sizes, 1).write(tmp_path / "parts")


@pytest.mark.parametrize("features", ["x.log()", "torch.arange(20.0)[x.mul(20).long()]"])
def test_halves_are_the_model_where_it_has_no_value_for_some_samples(features: str, tmp_path: Path) -> None:
    """A logarithm of a negative value is NaN, and a row of a large number is an IndexError: data may have neither."""
    (tmp_path / "m.py").write_text(CONDITIONAL.replace("FEATURES", features).replace("CONDITION", "False"))
    Parts(str(tmp_path / "m.py:Net"), "", "", VECTOR, 1).write(tmp_path / "parts")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("nowhere.py:Net", "model: nowhere.py:Net: there is no such file"),
        ("nowhere.nets:Net", "model: nowhere.nets:Net: there is no module nowhere.nets"),
        ("nets.py", r"model: nets.py: say FILE\.py:NAME or package\.module:NAME"),
    ],
)
def test_a_word_that_names_nothing_is_refused(word: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        Parts(word, "", "", VECTOR, 1).layout()


def test_the_digests_of_a_model_are_of_its_file_and_what_it_imports_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_digested.py").write_text("WIDTH = 3")
    (tmp_path / "digested_net.py").write_text("import beside_digested\nNet = 1")
    word = str(tmp_path / "digested_net.py:Net")
    before = user_objects.digests(word, "resnet18")
    assert {*before} == {"digested_net.py", "beside_digested.py"}
    (tmp_path / "digested_net.py").write_text("import beside_digested\nNet = 2")
    assert user_objects.digests(word)["digested_net.py"] != before["digested_net.py"]


def test_a_linear_head_is_one_layer_for_all_positions_wherever_z_has_its_features() -> None:
    from algorithms.workload.auxiliaries import AuxiliarySpec, make

    sizes = ModelShapes((64,), 6, vocabulary=50, output=(64, 6))
    for smashed in ((64, 24), (24, 64)):
        head = make(AuxiliarySpec("linear", "m.py:Net", "mix", smashed, ""), sizes)
        assert sum(tensor.numel() for tensor in head.parameters()) == 24 * 6 + 6
        assert head(torch.rand(2, *smashed)).shape == (2, 64, 6)
