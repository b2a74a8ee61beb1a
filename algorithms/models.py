"""The models, as named stages that follow one another, and their initial weights.

Shapes: B samples, C channels, H and W pixels. A stage is built and initialised by itself, from a random stream named
after it: so a client builds its own half only, and halves cut anywhere are the same model for the same seed.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from algorithms.data import stream_seed

GROUPS = 8  # of GroupNorm: the most that divide 16, 48 and 72 channels

Shape = tuple[int, int, int]
Builder = Callable[[Shape, int], nn.Module]


def _norm_relu(inputs: int, outputs: int, *tail: nn.Module) -> nn.Sequential:
    """3x3 convolution, GroupNorm, ReLU, and ``tail``."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(GROUPS, outputs), nn.ReLU(), *tail)


def pooled_head(channels: int, classes: int) -> nn.Sequential:
    """Global average pool and a linear layer: [B, C, H, W] -> logits [B, classes]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


# GroupNorm, since batch statistics of few and skewed samples do not survive averaging.
CNN: dict[str, Builder] = {
    "conv1": lambda shape, _: _norm_relu(shape[0], 16),
    "conv2": lambda *_: _norm_relu(16, 16, nn.MaxPool2d(2)),
    "conv3": lambda *_: _norm_relu(16, 48, nn.MaxPool2d(2)),
    "conv4": lambda *_: _norm_relu(48, 72),
    "head": lambda _, classes: pooled_head(72, classes),
}


def _stem(channels: int) -> nn.Sequential:
    """The first layers of ImageNet's ResNet: a quarter of the height and width."""
    convolution = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(
        OrderedDict(
            conv1=convolution, bn1=nn.BatchNorm2d(64), relu=nn.ReLU(inplace=True), maxpool=nn.MaxPool2d(3, 2, 1)
        )
    )


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    """Two basic blocks; the first halves height and width where the number of channels changes."""
    if inputs == outputs:
        return nn.Sequential(BasicBlock(inputs, outputs), BasicBlock(outputs, outputs))
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, 2, shortcut), BasicBlock(outputs, outputs))


# torchvision's resnet18 layer for layer; a test compares the two.
RESNET18: dict[str, Builder] = {
    "stem": lambda shape, _: _stem(shape[0]),
    "layer1": lambda *_: _layer(64, 64),
    "layer2": lambda *_: _layer(64, 128),
    "layer3": lambda *_: _layer(128, 256),
    "layer4": lambda *_: _layer(256, 512),
    "head": lambda _, classes: pooled_head(512, classes),
}

STAGES = {"cnn": CNN, "resnet18": RESNET18}


def build(model: str, names: Iterable[str], shape: Shape, classes: int, seed: int) -> nn.Sequential:
    """The named stages of ``model`` for images of ``shape`` (C, H, W), with the initial weights of ``seed``."""
    built: OrderedDict[str, nn.Module] = OrderedDict()
    for name in names:
        make = functools.partial(STAGES[model][name], shape, classes)
        built[name] = seeded(make, model, seed, f"{model}:{name}")
    return nn.Sequential(built)


def seeded(make: Callable[[], nn.Module], model: str, seed: int, purpose: str) -> nn.Module:
    """``make()`` with weights from the stream of ``purpose``; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, f"weights:{purpose}"))
        module = make()
        if model == "resnet18":
            _initialise_resnet(module)
    return module


def _initialise_resnet(module: nn.Module) -> None:
    """torchvision's rule for ResNet: He et al. (https://arxiv.org/abs/1502.01852), fan out; the rest as built."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a layer normalises by the batch that it is given."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())
