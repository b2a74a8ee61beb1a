"""A small text, its characters as tokens: ten books of the King James Bible, each of which may be a client's.

A sample is a piece of ``LENGTH`` characters x and those that follow each of them, y; pieces of a book do not overlap,
and its last tenth is for testing.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NAME = "king-james"
FILE = Path(__file__).parent / "text" / "king-james.txt"
LENGTH = 32
TEST_SHARE = 0.1

Array = np.ndarray[Any, Any]


class TextPart(NamedTuple):
    """Tokens x and y int64 [N, ``LENGTH``], and the name of each sample's book [N]."""

    x: Array
    y: Array
    books: Array


class Text(NamedTuple):
    """``characters``: by token."""

    characters: str
    train: TextPart
    test: TextPart


@functools.cache
def load() -> Text:
    """The text, always the same."""
    books: dict[str, str] = {}
    for part in FILE.read_text(encoding="ascii").split("# ")[1:]:
        name, _, verses = part.partition("\n")
        books[name] = verses
    characters = "".join(sorted(set("".join(books.values()))))
    tokens = {
        name: np.array([characters.index(character) for character in verses], np.int64)
        for name, verses in books.items()
    }
    cuts = {name: int(len(found) * (1 - TEST_SHARE)) for name, found in tokens.items()}
    return Text(
        characters,
        _part({name: found[: cuts[name]] for name, found in tokens.items()}),
        _part({name: found[cuts[name] :] for name, found in tokens.items()}),
    )


def _part(books: dict[str, Array]) -> TextPart:
    pieces = {name: (len(tokens) - 1) // LENGTH for name, tokens in books.items()}
    x, y = (
        np.concatenate(
            [tokens[ahead : pieces[name] * LENGTH + ahead].reshape(-1, LENGTH) for name, tokens in books.items()]
        )
        for ahead in (0, 1)
    )
    return TextPart(x, y, np.repeat(list(pieces), list(pieces.values())))


def bigram_perplexity(smoothing: float = 1.0) -> float:
    """Of the test part under a model that knows the character before alone, counted in the training part, each pair
    ``smoothing`` times more."""
    text = load()
    counts = np.full((len(text.characters),) * 2, smoothing)
    np.add.at(counts, (text.train.x.ravel(), text.train.y.ravel()), 1)
    share = counts / counts.sum(1, keepdims=True)
    return float(np.exp(-np.log(share[text.test.x.ravel(), text.test.y.ravel()]).mean()))
