"""What ``--lora`` says: ``rank=4,alpha=8,dropout=0.1,target=qkv+proj,train=head``. Nothing here imports torch."""

from __future__ import annotations

import math
from typing import NamedTuple

from emulator.errors import UserError
from emulator.validation import unknown_key

KEYS = ("rank", "alpha", "dropout", "target", "train")
EXAMPLE = "rank=4,alpha=8,dropout=0.1,target=qkv+proj,train=head"
MOST_RANK = 2**16
LARGEST_ALPHA = 1e6


class LoraOptions(NamedTuple):
    """``alpha`` over ``rank`` is the factor of an update; ``dropout``: of what goes into it; ``targets``: layers that
    get one, by name or the end of it, () for every linear layer; ``trained``: modules that are trained whole besides.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()


def lora_options(text: str) -> LoraOptions:
    """The options that ``text`` says; UserError where it says none."""
    said: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in KEYS:
            raise UserError(f"lora: {unknown_key(key, KEYS)}, as in {EXAMPLE}")
        if not equals or not value:
            raise UserError(f"lora: {key} has no value: say {EXAMPLE}")
        if key in said:
            raise UserError(f"lora: {key} is said twice: say it once; several names are joined by +")
        said[key] = value
    if "rank" not in said:
        raise UserError(f"lora: has no rank: say {EXAMPLE}")
    rank = _number("rank", said["rank"], 1, MOST_RANK)
    if rank != int(rank):
        raise UserError(f"lora: rank: must be a whole number, not {said['rank']}")
    alpha = _number("alpha", said.get("alpha", str(2 * rank)), 0, LARGEST_ALPHA)
    dropout = _number("dropout", said.get("dropout", "0"), 0, 1)
    if dropout == 1:
        raise UserError("lora: dropout: must be below 1, which leaves nothing")
    names = [tuple(name for name in said.get(key, "").split("+") if name) for key in ("target", "train")]
    return LoraOptions(int(rank), alpha, dropout, *names)


def _number(key: str, text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise UserError(f"lora: {key}: must be a number from {least:g} to {most:g}, not {text}")
    return value
