"""Every layer of ``torch.nn``, small, with an input: for what must hold for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

NOT_LAYERS = frozenset(
    [
        "Container",
        "Module",
        "Sequential",
        "ModuleList",
        "ModuleDict",
        "ParameterList",
        "ParameterDict",
        "FSDPModule",
        "Buffer",
        "Parameter",
        "RNNBase",
        "RNNCellBase",
        "LinearCrossEntropyOptions",
    ]
)
ROW, SEQUENCE, IMAGE, VOLUME = (4, 8), (2, 8, 16), (2, 8, 12, 12), (2, 8, 6, 6, 6)
TOKENS = (2, 5, 16)
OF_DIMENSION = {"1d": SEQUENCE, "2d": IMAGE, "3d": VOLUME}


class Layer(NamedTuple):
    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[torch.Tensor, ...]]


def _classes(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape) % 8


def layers() -> dict[str, Layer]:
    """By class; several of one class have something behind a ``:``."""
    found: dict[str, Layer] = {}

    def add(name: str, *shapes: tuple[int, ...], like: Any = None, **kwargs: Any) -> None:
        cls, (args, kwargs) = name.partition(":")[0], (kwargs.pop("args", ()), kwargs)
        inputs = like or (lambda: tuple(torch.rand(shape) * 0.8 + 0.1 for shape in shapes))
        found[name] = Layer(lambda: getattr(nn, cls)(*args, **kwargs), inputs)

    for n, shape in OF_DIMENSION.items():
        add(f"Conv{n}", shape, args=(8, 4, 3))
        add(f"Conv{n}:depthwise", shape, args=(8, 8, 3), groups=8, padding=1, padding_mode="reflect")
        add(f"ConvTranspose{n}", shape, args=(8, 4, 3), stride=2)
        for name in ("MaxPool", "AvgPool"):
            add(f"{name}{n}", shape, args=(2,))
        for name in ("AdaptiveMaxPool", "AdaptiveAvgPool"):
            add(f"{name}{n}", shape, args=(3,))
        add(f"LPPool{n}", shape, args=(2, 2))
        for name in ("BatchNorm", "InstanceNorm"):
            add(f"{name}{n}", shape, args=(8,), affine=True)
        for name in ("ReflectionPad", "ReplicationPad", "ZeroPad", "CircularPad"):
            add(f"{name}{n}", shape, args=(1,))
        add(f"ConstantPad{n}", shape, args=(1, 0.5))
        add(f"Dropout{n}", shape)
        half = torch.Size(shape[:2] + tuple(side // 2 for side in shape[2:]))
        add(f"MaxUnpool{n}", args=(2,), like=lambda half=half: (torch.rand(half), _places(half)))
    add("FractionalMaxPool2d", IMAGE, args=(2,), output_size=3)
    add("FractionalMaxPool3d", VOLUME, args=(2,), output_size=3)
    for name in [
        "ReLU",
        "ReLU6",
        "ELU",
        "SELU",
        "CELU",
        "GELU",
        "SiLU",
        "Mish",
        "Softplus",
        "Softsign",
        "Softshrink",
        "Hardshrink",
        "Hardsigmoid",
        "Hardtanh",
        "Hardswish",
        "LeakyReLU",
        "LogSigmoid",
        "Sigmoid",
        "Tanh",
        "Tanhshrink",
        "RReLU",
        "PReLU",
        "GLU",
        "Softmax",
        "LogSoftmax",
        "Softmin",
        "Identity",
        "Dropout",
        "AlphaDropout",
        "FeatureAlphaDropout",
        "Flatten",
    ]:
        add(name, ROW, **({"dim": 1} if name in ("Softmax", "LogSoftmax", "Softmin") else {}))
    add("Softmax2d", IMAGE)
    add("Threshold", ROW, args=(0.5, 0.0))
    add("Unflatten", ROW, args=(1, (2, 4)))
    add("GroupNorm", IMAGE, args=(2, 8))
    add("LayerNorm", ROW, args=(8,))
    add("RMSNorm", ROW, args=(8,))
    add("LocalResponseNorm", IMAGE, args=(4,))
    add("CrossMapLRN2d", IMAGE, args=(4,))
    add("SyncBatchNorm", IMAGE, args=(8,))
    add("Linear", ROW, args=(8, 4))
    add("Linear:of sequences", SEQUENCE, args=(16, 4))
    add("Bilinear", ROW, ROW, args=(8, 8, 4))
    add("Embedding", args=(10, 4), like=lambda: (_classes(3, 5),))
    for mode in ("sum", "mean", "max"):
        add(f"EmbeddingBag:{mode}", args=(10, 4), mode=mode, like=lambda: (_classes(3, 5),))
    for name in ("LSTM", "GRU", "RNN"):
        add(name, SEQUENCE, args=(16, 8))
        add(f"{name}:deep", SEQUENCE, args=(16, 8, 2), bidirectional=True, dropout=0.1, batch_first=True)
        add(f"{name}Cell", ROW, args=(8, 4))
    add("LSTM:projected", SEQUENCE, args=(16, 8), proj_size=4)
    add("MultiheadAttention", TOKENS, TOKENS, TOKENS, args=(16, 4), batch_first=True)
    add("TransformerEncoderLayer", TOKENS, args=(16, 4, 32), batch_first=True)
    add("TransformerDecoderLayer", TOKENS, TOKENS, args=(16, 4, 32), batch_first=True)
    add("Transformer", TOKENS, TOKENS, args=(16, 4, 1, 1, 32), batch_first=True)
    encoder = Layer(lambda: nn.TransformerEncoder(found["TransformerEncoderLayer"].make(), 2), _inputs(TOKENS))
    decoder = Layer(lambda: nn.TransformerDecoder(found["TransformerDecoderLayer"].make(), 2), _inputs(TOKENS, TOKENS))
    found |= {"TransformerEncoder": encoder, "TransformerDecoder": decoder}
    for mode, shape in [("nearest", SEQUENCE), ("linear", SEQUENCE), ("nearest", IMAGE), ("bilinear", IMAGE)]:
        add(f"Upsample:{mode}{len(shape) - 2}", shape, scale_factor=2, mode=mode)
    for mode, shape in [("bicubic", IMAGE), ("nearest-exact", IMAGE), ("nearest", VOLUME), ("trilinear", VOLUME)]:
        add(f"Upsample:{mode}{len(shape) - 2}", shape, scale_factor=2, mode=mode)
    add("UpsamplingBilinear2d", IMAGE, scale_factor=2)
    add("UpsamplingNearest2d", IMAGE, scale_factor=2)
    for name in ("PixelShuffle", "PixelUnshuffle", "ChannelShuffle"):
        add(name, IMAGE, args=(2,))
    add("Fold", (2, 8, 9), args=((4, 4), (2, 2)))
    add("Unfold", IMAGE, args=(3,))
    add("CosineSimilarity", ROW, ROW)
    add("PairwiseDistance", ROW, ROW)
    for name in [
        "MSE",
        "L1",
        "SmoothL1",
        "Huber",
        "KLDiv",
        "PoissonNLL",
        "BCE",
        "BCEWithLogits",
        "SoftMargin",
        "MultiLabelSoftMargin",
    ]:
        add(f"{name}Loss", ROW, ROW)
    for name in ["CrossEntropy", "NLL", "MultiMargin"]:
        add(f"{name}Loss", like=lambda: (torch.rand(ROW), _classes(4)))
    add("NLLLoss2d", like=lambda: (torch.rand(IMAGE), _classes(2, 12, 12)))
    add("MultiLabelMarginLoss", like=lambda: (torch.rand(ROW), _classes(*ROW)))
    add("HingeEmbeddingLoss", like=lambda: (torch.rand(ROW), torch.ones(ROW)))
    add("CosineEmbeddingLoss", like=lambda: (torch.rand(ROW), torch.rand(ROW), torch.ones(4)))
    add("MarginRankingLoss", like=lambda: (torch.rand(4), torch.rand(4), torch.ones(4)))
    for name in ("TripletMarginLoss", "TripletMarginWithDistanceLoss", "GaussianNLLLoss"):
        add(name, ROW, ROW, ROW)
    lengths = torch.tensor([10, 10]), torch.tensor([3, 3])
    add("CTCLoss", like=lambda: (torch.rand(10, 2, 8).log_softmax(2), _classes(2, 3).clamp_min(1), *lengths))
    add("AdaptiveLogSoftmaxWithLoss", args=(8, 20, [5, 10]), like=lambda: (torch.rand(ROW), _classes(4)))
    add("LinearCrossEntropyLoss", args=(8, 4), like=lambda: (torch.rand(ROW), _classes(4) % 4))
    return found


def _inputs(*shapes: tuple[int, ...]) -> Callable[[], tuple[torch.Tensor, ...]]:
    return lambda: tuple(torch.rand(shape) for shape in shapes)


def _places(half: torch.Size) -> torch.Tensor:
    return torch.arange(half[2:].numel()).reshape(half[2:]).expand(half).contiguous()
