"""Weights that a user brings: a file with the state dict of a whole model, checked against the model it is for."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from algorithms.data.labels import some
from emulator.errors import UserError
from emulator.transport.messages import StateDict

PICKLED = b"\x80"  # what a pickle of protocol 2 or later begins with
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which checkpoints keep it


def digest_of(path: str | Path) -> str:
    """SHA-256 of the file; UserError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"init: {path}: cannot be read: {error.strerror}") from None


def read_weights(
    path: str | Path, model: Mapping[str, torch.Tensor], may_lack: Callable[[str], bool] = lambda _: False
) -> StateDict:
    """The state of the file, for a model with this state (of any device); UserError unless it fits by name and shape.

    ``may_lack``: names that it need not have.
    ``.safetensors``, or what ``torch.save`` wrote, of which nothing but tensors is read.
    """
    found = _tensors(Path(path), _read(Path(path)))
    missing = [key for key in model if key not in found and not may_lack(key)]
    strange = [key for key in found if key not in model]
    if missing or strange:
        both = [
            f"{len(keys)} {what} ({some(sorted(keys), 3)})"
            for keys, what in ((missing, "of the model's are missing"), (strange, "are none of the model's"))
            if keys
        ]
        raise UserError(f"init: {path}: is of another model: of its tensors {', and '.join(both)}")
    for name, tensor in found.items():
        if tensor.shape != model[name].shape:
            raise UserError(
                f"init: {path}: {name} has shape {list(tensor.shape)}, and the model's {list(model[name].shape)}:"
                " is it for other data or classes?"
            )
        if tensor.is_floating_point() != model[name].is_floating_point():
            raise UserError(f"init: {path}: {name} is {tensor.dtype}, and the model's {model[name].dtype}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"init: {path}: {name} has values that are infinite or no numbers")
    return {name: found[name].to(model[name].dtype) for name in model if name in found}


def _read(path: Path) -> Any:
    digest_of(path)  # says by itself where there is no such file
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise UserError(f"init: {path}: is read by safetensors: pip install safetensors") from None
        reader: Callable[[Path], Any] = load_file
    else:
        reader = partial(torch.load, map_location="cpu", weights_only=True)
    try:
        with warnings.catch_warnings(action="ignore"):
            return reader(path)
    except Exception:  # whatever pickle, zipfile and the libraries make of bytes: their words name no remedy
        objects = path.suffix != ".safetensors" and (zipfile.is_zipfile(path) or _is_pickle(path))
        why = "is damaged, or has more in it than tensors" if objects else "is no file of weights, or a part of one"
        how = "save model.state_dict() with torch.save, or as .safetensors"
        raise UserError(f"init: {path}: {why}: {how}") from None


def _is_pickle(path: Path) -> bool:
    """Whether it begins as ``pickle`` does, and what ``torch.save`` wrote before it wrote archives."""
    with path.open("rb") as file:
        return file.read(1) == PICKLED


def _tensors(path: Path, found: Any) -> StateDict:
    if isinstance(found, Mapping) and found and all(isinstance(value, torch.Tensor) for value in found.values()):
        return {str(name): tensor for name, tensor in found.items()}
    inner = [key for key in WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
    held = f"{some(sorted(map(str, found)), 3)}" if isinstance(found, Mapping) else type(found).__name__
    remedy = f"save its [{inner[0]!r}] alone" if inner else "save model.state_dict()"
    raise UserError(f"init: {path}: is no state dict of tensors (it has {held or 'nothing'}): {remedy}")
