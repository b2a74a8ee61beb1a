"""Whether tensors hold numbers alone: what a training that diverges sends is infinite or no number sooner or later."""

from __future__ import annotations

import numpy as np
import torch


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no element is infinite or NaN; of a CPU tensor without a graph.

    By its sum, in one pass and without memory: it is finite only where all elements are. Where it is not, large numbers
    may have added up, and each is looked at. That is no computation and takes no emulated time.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if (
        tensor.dtype is torch.bfloat16
    ):  # numpy does not have it: the upper half of a float32, whose exponent is all ones
        return not bool(((tensor.view(torch.int16).numpy() & 0x7F80) == 0x7F80).any())
    values = tensor.numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(dtype=np.float32 if values.dtype == np.float16 else None)
    return bool(np.isfinite(total)) or bool(np.isfinite(values).all())
