"""Models, halves and auxiliaries: sizes from the papers' tables, and halves that are the whole."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from algorithms.workload import auxiliaries, models, split
from algorithms.workload.cut_costs import cuts
from algorithms.workload.models import ModelShapes
from algorithms.workload.parts import Parts
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError

RESNET = Task(model="resnet18", cut="layer2", dataset="synthetic:3x32x32:10:5000")
IMAGE = (3, 32, 32)

# Model -> image, and cuts: in the middle of a block, behind one, behind a stage.
FAMILIES = {
    "resnet18": (IMAGE, ["conv1", "layer1.0", "layer4"]),
    "resnet50": (IMAGE, ["layer2.1"]),
    "vgg11": (IMAGE, ["features.4"]),
    "mobilenet_v2": (IMAGE, ["features.1", "features.17.conv.2"]),
    "mobilenet_v3_small": (IMAGE, ["features.3"]),
    "densenet121": (IMAGE, ["features.transition1"]),
    "efficientnet_b0": (IMAGE, ["features.3"]),
    "squeezenet1_1": (IMAGE, ["features.4"]),
    "shufflenet_v2_x0_5": (IMAGE, ["stage2"]),
    "mnasnet0_5": (IMAGE, ["layers.8"]),
    "regnet_x_400mf": (IMAGE, ["trunk_output.block1"]),
    "convnext_tiny": (IMAGE, ["features.1"]),
    "vit_b_32": (IMAGE, ["encoder.layers.encoder_layer_1"]),
    "swin_t": (IMAGE, ["features.1", "features.2"]),
    "googlenet": (IMAGE, ["inception3a"]),
    "alexnet": ((3, 64, 64), ["features.2"]),
}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def state_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def same_state(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


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
    assert halves[0](torch.zeros(2, *IMAGE)).shape == (2, 128, 4, 4)
    hundred = Task(model="resnet18", cut="layer2", dataset="synthetic:3x32x32:100:5000")
    assert (parameters(hundred.auxiliary()), state_bytes(hundred.auxiliary())) == (2_125_412, 8_511_928)


@pytest.mark.parametrize(
    ("size", "flat", "server", "aux"), [(32, 4096, 1_649_098, 40_970), (24, 2304, 960_970, 23_050)]
)
def test_simple_conv_has_the_sizes_of_the_fsl_sage_code(size: int, flat: int, server: int, aux: int) -> None:
    task = Task(model="simple_conv", dataset=f"synthetic:3x{size}x{size}:10:500")
    client = task.client_half()
    assert (parameters(client), state_bytes(client)) == (107_328, 429_312)
    assert client(torch.zeros(2, 3, size, size)).shape == (2, flat)
    assert (parameters(task.server_half()), parameters(task.auxiliary())) == (server, aux)


def test_a_model_of_torchvision_is_torchvision_s_drawn_from_the_stream_of_its_name() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(models.stream_seed(1, "weights:resnet18"))
        theirs = torchvision.models.resnet18(num_classes=10)
    assert same_state(RESNET.full_model(), theirs)


@pytest.mark.parametrize(("model", "shape"), [("cnn", (1, 8, 8)), ("simple_conv", (3, 8, 8)), ("resnet18", IMAGE)])
def test_at_every_cut_the_halves_joined_are_the_whole(model: str, shape: tuple[int, int, int]) -> None:
    joined_are_whole(model, shape, [cut.name for cut in cuts(model, ModelShapes(shape, 10))])


@pytest.mark.parametrize("model", FAMILIES)
def test_the_halves_of_torchvision_s_models_are_the_whole(model: str) -> None:
    joined_are_whole(model, *FAMILIES[model])


def joined_are_whole(model: str, shape: tuple[int, int, int], names: list[str]) -> None:
    """Logits, gradients of all weights and batch statistics are equal bit for bit, from the same random state."""
    whole = models.build_model(model, ModelShapes(shape, 5), 3)
    other = split.Traced(copy.deepcopy(whole), model)
    x = images(2, *shape)
    for training in (True, False):
        for cut in names:
            client, server = (other.half(cut, which).train(training) for which in split.HALVES)
            torch.manual_seed(1)
            expected = whole.train(training)(x)
            expected.square().sum().backward()
            torch.manual_seed(1)
            sent = client(x)
            z = sent.detach().requires_grad_()
            logits = server(z)
            logits.square().sum().backward()
            sent.backward(z.grad)
            assert torch.equal(logits, expected)
            assert {**client.state_dict(), **server.state_dict()}.keys() == whole.state_dict().keys()
            assert not client.state_dict().keys() & server.state_dict().keys()
            assert same_state(whole, other.module)
            gradients = {**dict(client.named_parameters()), **dict(server.named_parameters())}
            for name, weight in whole.named_parameters():
                assert torch.equal(weight.grad, gradients[name].grad)
                weight.grad = gradients[name].grad = None


class Forgetful(nn.Module):
    """Dropout as a function that is told the mode: another graph in each."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(nn.functional.dropout(self.one(x), 0.5, self.training))


def test_a_half_computes_what_its_mode_says_even_where_the_mode_is_an_argument() -> None:
    server = split.Traced(Forgetful(), "forgetful").half("one", "server")
    z = images(8, 64)
    assert not torch.equal(server(z), server(z))
    assert torch.equal(server.eval()(z), server(z))
    assert torch.equal(server(z), server.two(z))
    assert not torch.equal(server.train()(z), server.eval()(z))


def test_weights_from_files_are_those_built_in_process_and_private(tmp_path: Path) -> None:
    for task in (Task(), RESNET, Task(model="swin_t", dataset="synthetic:3x32x32:7:50")):
        folder = tmp_path / task.model
        parts = task._parts().write(folder)
        assert (parts.model, parts.folder) == (task.model, str(folder))
        pairs = [(parts.half(which), task._parts().half(which)) for which in split.HALVES]
        pairs += [(parts.full_model(), task.full_model()), (parts.auxiliary(), task.auxiliary())]
        for read, built in pairs:
            assert same_state(read, built)
            assert read.training
            assert all(module.training for module in read.modules())
            assert repr(read) == repr(built)
            with torch.no_grad():
                for tensor in read.state_dict().values():
                    tensor.zero_()  # its own memory: files and other parts do not see it
        assert same_state(parts.half("client"), task.client_half())


def test_a_half_in_a_node_is_made_without_the_rest_of_the_model(tmp_path: Path) -> None:
    """The rest of vgg11 is 500 MB; a client of it, with torch loaded, grows by far less."""
    program = (
        "import resource, sys; from algorithms.workload.parts import Parts, ModelShapes\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "parts = Parts('vgg11', 'features.4', 'pool', ModelShapes((3, 32, 32), 10), 1, sys.argv[1])\n"
        "kept = parts.half('client'), parts.auxiliary()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    Parts("vgg11", "features.4", "pool", ModelShapes(IMAGE, 10), 1).write(tmp_path)
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).parents[2]
    grown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert int(grown) < 100_000  # KiB


def test_parts_that_compute_the_same_have_the_same_repr_and_others_another() -> None:
    again = Task(model="resnet18", cut="layer2", dataset="synthetic:3x32x32:10:700", seed=9)
    assert repr(RESNET.client_half()) == repr(again.client_half())
    assert repr(RESNET.client_half()) != repr(Task(model="resnet18", cut="layer1", dataset=again.dataset).client_half())
    half = RESNET.server_half()
    assert repr(copy.deepcopy(half)) == repr(half)
    assert same_state(copy.deepcopy(half), half)


AUXILIARIES = [
    *[("cnn", (1, 8, 8), cut, aux) for cut in ("conv1", "conv2", "conv3") for aux in auxiliaries.KINDS],
    *[("resnet18", IMAGE, cut, aux) for cut in ("layer1", "layer3") for aux in auxiliaries.KINDS],
    *[("simple_conv", IMAGE, "flatten", aux) for aux in ("linear", "stage", "server")],
    *[("vit_b_32", IMAGE, "encoder.layers.encoder_layer_0", aux) for aux in ("linear", "pool", "stage")],
    *[("swin_t", IMAGE, "features.1", aux) for aux in ("linear", "pool", "stage")],
]


@pytest.mark.parametrize(("model", "shape", "cut", "aux"), AUXILIARIES)
def test_every_auxiliary_takes_the_smashed_batch_of_its_cut(
    model: str, shape: tuple[int, int, int], cut: str, aux: str
) -> None:
    parts = Parts(model, cut, aux, ModelShapes(shape, 7), 1)
    assert parts.auxiliary()(parts.half("client")(images(2, *shape))).shape == (2, 7)


def test_pooling_means_over_pixels_or_tokens_and_never_over_channels() -> None:
    for model, cut, features in [("swin_t", "features.1", 96), ("vit_b_32", "encoder", 768), ("cnn", "conv2", 16)]:
        parts = Parts(model, cut, "pool", ModelShapes(IMAGE, 7), 1)
        assert parameters(parts.auxiliary()) == 7 * features + 7


def test_an_auxiliary_like_the_server_half_is_one_with_weights_of_its_own() -> None:
    task = Task(aux="server")
    aux, server = task.auxiliary(), task.server_half()
    assert repr(aux) == repr(server)
    assert aux.state_dict().keys() == server.state_dict().keys()
    assert not torch.equal(aux.state_dict()["conv3.0.weight"], server.state_dict()["conv3.0.weight"])


DEFAULTS = {
    ("cnn", ""): ("conv2", "linear"),
    ("simple_conv", ""): ("flatten", "linear"),
    ("resnet18", ""): ("layer2", "stage"),
    ("resnet18", "maxpool"): ("maxpool", "linear"),
    ("mobilenet_v2", ""): ("features.1", "linear"),
    ("vgg11", "features.1"): ("features.1", "pool"),  # 64x32x32 is more than 16,384 values
}


@pytest.mark.parametrize(("model", "cut"), DEFAULTS)
def test_defaults(model: str, cut: str) -> None:
    about = Parts(model, cut, "", ModelShapes(IMAGE, 10), 1).layout()
    assert (about.cut, about.kind) == DEFAULTS[model, cut]


def test_an_inner_name_is_the_same_cut() -> None:
    assert Parts("resnet18", "layer2.1", "", ModelShapes(IMAGE, 10), 1).layout().cut == "layer2"


def test_other_channels_change_the_first_convolution_alone_by_the_rule_of_its_model() -> None:
    grey = models.build_model("resnet18", ModelShapes((1, 32, 32), 10), 1)
    assert {
        name
        for name, tensor in RESNET.full_model().state_dict().items()
        if tensor.shape != grey.state_dict()[name].shape
    }
    weight = grey.get_parameter("conv1.weight")
    assert weight.shape == (64, 1, 7, 7)
    assert weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)  # fan out: the channels do not count
    assert models.build_model("vit_b_32", ModelShapes((2, 32, 32), 10), 1)(images(1, 2, 32, 32)).shape == (1, 10)


def test_batch_norm_is_found_where_there_is_some() -> None:
    assert models.has_batch_norm(models.meta_model("resnet18", ModelShapes(IMAGE, 10)))
    assert not any(
        models.has_batch_norm(models.meta_model(model, ModelShapes(IMAGE, 10))) for model in ("cnn", "vit_b_32")
    )


MISTAKES = {
    "no such model": ({"model": "resnet81"}, "model: there is no 'resnet81': say resnet18"),
    "nothing like it": ({"model": "###"}, "say cnn or cnn1d or simple_conv"),
    "no such cut": ({"cut": "layer9"}, "cut: resnet18 has no cut 'layer9': say one of conv1, relu, maxpool, layer1.0"),
    "many cuts": ({"model": "densenet121", "cut": "x"}, "'run.py cuts densenet121' lists all 16"),
    "a residual is alive": ({"cut": "layer1.0.conv1"}, "no cut 'layer1.0.conv1'"),
    "z would be overwritten": ({"model": "vgg11", "cut": "features.0"}, "vgg11 has no cut 'features.0'"),
    "nothing for the server": ({"cut": "fc"}, "no cut 'fc'"),
    "no such auxiliary": ({"aux": "big"}, "aux: there is no 'big': say one of linear, pool, stage, server"),
    "nothing to pool": (
        {"model": "simple_conv", "aux": "pool"},
        "aux: pool does not fit the cut flatten of simple_conv, a z of 4096: say one of linear, stage, server",
    ),
    "no stage": ({"cut": "avgpool", "aux": "stage"}, "aux: stage does not fit .* say one of linear, pool, server"),
    "images too small": ({"model": "inception_v3"}, "model: inception_v3 does not take images of 3x32x32"),
    "not square": ({"model": "vit_b_32", "dataset": "synthetic:3x32x64:2:50"}, "vit_b_32 takes square images only"),
    "not of patches": ({"model": "vit_b_32", "dataset": "synthetic:3x40x40:2:50"}, "vit_b_32 does not take images"),
}


@pytest.mark.parametrize(("wrong", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_written(wrong: dict[str, str], message: str, tmp_path: Path) -> None:
    task = Task(**{"model": "resnet18", "dataset": "synthetic:3x32x32:10:50", **wrong})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message) as caught:
        prepare(task, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = Task(seed=1).full_model().state_dict()
    models.meta_model("resnet18", ModelShapes(IMAGE, 10))
    Task().auxiliary()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    again, other = Task(seed=1, cut="conv1").full_model().state_dict(), Task(seed=2).full_model().state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["conv1.0.weight"], other["conv1.0.weight"])
    assert same_state(Task().auxiliary(), Task().auxiliary())
    parts = Task().halves(one)
    assert parts["client"].keys() == Task().client_half().state_dict().keys()
    assert parts["server"].keys() == Task().server_half().state_dict().keys()
