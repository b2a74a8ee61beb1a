"""The models by name, and their initial weights: two of our own, every classification model of torchvision, a user's.

Shapes: images [B, C, H, W] in, logits [B, classes] out; a user's model takes any [B, ...] of ``ModelShapes``. Weights
are drawn from random streams named after the model, so they depend on the seed alone; ``meta_model`` is the same model
on the meta device, without weights and without memory for them.
"""

from __future__ import annotations

import contextlib
import difflib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from algorithms.data import user_objects
from algorithms.data.streams import stream_seed
from algorithms.models.language import LanguageModel
from emulator.errors import UserError

GROUPS = 8  # of GroupNorm: the most that divide 16, 48 and 72 channels

Shape = tuple[int, ...]
Builder = Callable[[Shape, int], nn.Module]


class ModelShapes(NamedTuple):
    """What goes into a model and comes out of it. ``shape``: of one sample x, float32 numbers or, where there is a
    ``vocabulary``, int64 tokens below it; ``classes``: how many, or values of a regression; ``output``: the shape of
    what it returns for a sample, () for (classes,)."""

    shape: Shape
    classes: int
    vocabulary: int = 0
    output: tuple[int, ...] = ()

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of what a model returns for a sample."""
        return self.output or (self.classes,)

    def given(self) -> dict[str, Any]:
        """What a user's callable may ask for; ``length`` is the last axis of a sample."""
        return {
            "shape": self.shape,
            "classes": self.classes,
            "vocabulary": self.vocabulary,
            "length": self.shape[-1] if self.shape else 1,
        }

    def example(self, samples: int, seed: int = 1) -> torch.Tensor:
        """So many samples that mean nothing, [B, ...]."""
        draws = torch.Generator().manual_seed(seed)
        if self.vocabulary:
            return torch.randint(self.vocabulary, (samples, *self.shape), generator=draws)
        return torch.rand(samples, *self.shape, generator=draws)

    def other_examples(self, samples: int) -> list[torch.Tensor]:
        """Samples of other values than ``example``'s, [B, ...] each: larger ones of both signs, or other tokens."""
        if self.vocabulary:
            return [self.example(samples, seed) for seed in (2, 3)]
        return [factor * self.example(samples) for factor in (-10.0, 10.0)]

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape)) or "one value"
        return f"{size} tokens of {self.vocabulary}" if self.vocabulary else size


def _norm_relu(inputs: int, outputs: int, *tail: nn.Module) -> nn.Sequential:
    """3x3 convolution, GroupNorm, ReLU, and ``tail``."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(GROUPS, outputs), nn.ReLU(), *tail)


def pooled_head(channels: int, classes: int) -> nn.Sequential:
    """Global average pool and a linear layer: [B, C, H, W] -> logits [B, classes]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


# Stage by stage, each with a stream of its own.
# GroupNorm, since batch statistics of few and skewed samples do not survive averaging.
CNN: dict[str, Builder] = {
    "conv1": lambda shape, _: _norm_relu(shape[0], 16),
    "conv2": lambda *_: _norm_relu(16, 16, nn.MaxPool2d(2)),
    "conv3": lambda *_: _norm_relu(16, 48, nn.MaxPool2d(2)),
    "conv4": lambda *_: _norm_relu(48, 72),
    "head": lambda _, classes: pooled_head(72, classes),
}


def _cnn1d(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Three stages of 5-wide convolution, GroupNorm, ReLU and halving of the length, a global mean and a linear layer.

    The usual small network for windows of sensors: x [B, C, L] -> logits [B, classes].
    """

    def stage(inputs: int, outputs: int) -> nn.Sequential:
        layers = nn.Conv1d(inputs, outputs, 5, padding=2), nn.GroupNorm(GROUPS, outputs), nn.ReLU(), nn.MaxPool1d(2)
        return nn.Sequential(*layers)

    head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, classes))
    stages = {"conv1": stage(shape[0], 32), "conv2": stage(32, 64), "conv3": stage(64, 64)}
    return nn.Sequential(OrderedDict(**stages, head=head))


def _simple_conv(shape: Shape, classes: int) -> nn.Sequential:
    """The small CIFAR-10 network of TensorFlow's tutorial (Krizhevsky's cuda-convnet), as the FSL-SAGE authors use it.

    The pools halve height and width, rounding up; z after ``flatten`` has 64 values for each pixel that is left.
    """
    channels, height, width = shape
    rest = -(-height // 4) * -(-width // 4)

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(4, alpha=0.001 / 9.0, beta=0.75)

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, 2, 1),
            norm1=norm(),
            conv2=nn.Conv2d(64, 64, 5, padding=2),
            relu2=nn.ReLU(),
            norm2=norm(),
            pool2=nn.MaxPool2d(3, 2, 1),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * rest, 384),
            relu3=nn.ReLU(),
            fc2=nn.Linear(384, 192),
            relu4=nn.ReLU(),
            fc3=nn.Linear(192, classes),
        )
    )


OWN = ("cnn", "cnn1d", "simple_conv", "tiny-gpt")
LEAST_LENGTH = 8  # of a window, which cnn1d halves three times


def known() -> list[str]:
    """The names of all models, our own first."""
    return [*OWN, *torchvision.models.list_models(module=torchvision.models)]


def require(model: str) -> None:
    """UserError for a name that is none, with those nearest to it."""
    names = known()
    if model not in names:
        near = difflib.get_close_matches(model, names, 3, 0.4) or list(OWN)
        raise UserError(
            f"model: there is no {model!r}: say {' or '.join(near)}, or another classification model of torchvision"
        )


def build_model(model: str, sizes: ModelShapes, seed: int) -> nn.Module:
    """``model`` with the initial weights of ``seed``, in train mode; UserError where it is none or cannot be.

    The stages of the cnn have streams ``weights:cnn:STAGE``; other models are drawn from one, ``weights:MODEL``.
    """
    if model != "cnn":
        return seeded(lambda: _make(model, sizes), seed, stream_name(model))
    check_images(model, sizes)
    stages = {
        name: seeded(partial(make, sizes.shape, sizes.classes), seed, f"cnn:{name}") for name, make in CNN.items()
    }
    return nn.Sequential(OrderedDict(stages))


def stream_name(word: str) -> str:
    """What the streams of a model or an auxiliary are named by."""
    return user_objects.short(word) if user_objects.is_named(word) else word


def reinitialised(model: str, module: str, sizes: ModelShapes) -> nn.Module:
    """The submodule ``module`` of ``model``, or the whole for "", with weights from the generator as it stands."""
    if model == "cnn" and module in CNN:  # a stage alone, whatever comes before it
        return CNN[module](sizes.shape, sizes.classes)
    return _make(model, sizes).get_submodule(module)


def meta_model(model: str, sizes: ModelShapes) -> nn.Module:
    """``model`` on the meta device, in train mode."""
    with on_meta_device():
        return _make(model, sizes).to("meta")


def seeded(make: Callable[[], nn.Module], seed: int, purpose: str) -> nn.Module:
    """``make()`` with weights from the stream of ``purpose``; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, f"weights:{purpose}"))
        return make()


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy a whole state of this module's own into it.

    States of files and messages are without the versions of layers, which MNASNet takes for an old one of its own.
    """
    whole = OrderedDict(state)
    whole._metadata = {name: {"version": layer._version} for name, layer in module.named_modules()}  # type: ignore[attr-defined]
    module.load_state_dict(whole)


def first_line(error: Exception) -> str:
    """What torch says, without its advice for programmers; the error's type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether there is a batch norm in it, of which a batch of one sample may leave nothing defined."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())


class _OnMetaDevice(TorchFunctionMode):
    """What layers make their weights of is made on the meta device; arithmetic in a constructor stays real."""

    MADE = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.MADE and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


@contextlib.contextmanager
def on_meta_device() -> Iterator[None]:
    """Modules made here have parameters and buffers without memory, and draw nothing from the global generator."""
    with torch.random.fork_rng(devices=[]), _OnMetaDevice():
        yield


def check_images(model: str, sizes: ModelShapes) -> None:
    """UserError where a model of ours or torchvision's cannot take what there is."""
    require(model)
    if model == "cnn1d":
        if len(sizes.shape) != 2 or sizes.vocabulary or len(sizes.result) != 1 or sizes.shape[1] < LEAST_LENGTH:
            raise UserError(
                f"model: cnn1d takes windows CxL of length {LEAST_LENGTH} or more and returns a value a class, and the"
                f" samples are {sizes}: take another model"
            )
        return
    if model == "tiny-gpt":
        if not sizes.vocabulary or len(sizes.shape) != 1 or sizes.result != (*sizes.shape, sizes.classes):
            raise UserError(
                f"model: tiny-gpt takes tokens and returns values for each position, and the samples are {sizes}: take"
                " another model"
            )
        return
    if len(sizes.shape) != 3 or sizes.vocabulary or len(sizes.result) != 1:
        raise UserError(
            f"model: {model} takes images CxHxW and returns a value a class, and the samples are {sizes}: bring a model"
            " of your own, --model FILE.py:NAME"
        )


def make_own(flag: str, word: str, offered: dict[str, Any]) -> nn.Module:
    """The module of a user's callable; UserError where it returns anything else."""
    made = user_objects.call(flag, word, offered)
    if not isinstance(made, nn.Module):
        raise UserError(f"{flag}: {word}: returns {type(made).__name__}, and must return an nn.Module")
    return made


def _make(model: str, sizes: ModelShapes) -> nn.Module:
    """``model`` with weights from the generator as it stands."""
    if user_objects.is_named(model):
        return make_own("model", model, sizes.given())
    check_images(model, sizes)
    shape, classes = sizes.shape, sizes.classes
    if model == "cnn":
        return nn.Sequential(OrderedDict((name, make(shape, classes)) for name, make in CNN.items()))
    if model == "cnn1d":
        return _cnn1d(shape, classes)
    if model == "tiny-gpt":
        return LanguageModel(sizes.vocabulary, shape[0], classes)
    if model == "simple_conv":
        return _simple_conv(shape, classes)
    channels, height, width = shape
    options: dict[str, Any] = {}
    if model in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif model.startswith("vit_"):
        if height != width:
            raise UserError(f"model: {model} takes square images only, not {height}x{width}: take another data set")
        options = {"image_size": height}
    elif model.startswith("maxvit_"):
        options = {"input_size": (height, width)}
    try:
        made: nn.Module = torchvision.models.get_model(model, weights=None, num_classes=classes, **options)
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError) as error:
        size = f"{channels}x{height}x{width}"
        raise UserError(f"model: {model} does not take images of {size} ({first_line(error)})") from None
    if channels != 3:
        _take_channels(made, model, channels)
    return made


def _take_channels(made: nn.Module, model: str, channels: int) -> None:
    """Let the first convolution take so many channels instead of three.

    Its weights follow PyTorch's rule for convolutions, in ResNets torchvision's (He et al.,
    https://arxiv.org/abs/1502.01852, fan out).
    """
    layer = next((layer for layer in made.modules() if isinstance(layer, nn.Conv2d)), None)
    if layer is None or layer.in_channels != 3 or layer.groups != 1:
        raise UserError(f"model: {model} cannot take {channels} channels: take a data set of 3")
    layer.in_channels = channels
    layer.weight = nn.Parameter(torch.empty(layer.out_channels, channels, *layer.kernel_size))
    layer.reset_parameters()
    if isinstance(made, torchvision.models.ResNet):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
