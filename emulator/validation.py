"""Mistakes in the values that a user gives for a struct's fields, each in one line that says what would be right."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

_CONTROL = dict.fromkeys([*range(32), *range(127, 160)]) | {ord("\n"): "\n", ord("\t"): " "}


def printable(text: str) -> str:
    """Without control characters: a record of somebody else's could steer the terminal that it is shown in."""
    return text.translate(_CONTROL)


def validation_error(values: Mapping[str, Any], kind: type[msgspec.Struct], hidden: Collection[str] = ()) -> str:
    """The first mistake that keeps ``values`` from being a ``kind``, after its key; "" where there is none.

    ``hidden``: fields that are set elsewhere, and unknown here.
    """
    known = [name for name in kind.__struct_fields__ if name not in hidden]
    for key in values:
        if key not in known:
            return f"{key}: {unknown_key(key, known)}"
    try:
        msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).rpartition(" - at `$.")
        key = path.rstrip("`")
        return (
            f"{key}: {_choices(kind, key, values.get(key)) or _expected(text, values.get(key))}" if text else str(error)
        )
    return ""


KINDS = {  # msgspec's words, and ours
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "null": "null",
    "array": "a list such as [0.9, 0.999]",
    "object": "a table",
}


def _expected(text: str, value: Any) -> str:
    """The mistake that msgspec finds in a value, in words that show the value."""
    found = re.fullmatch(r"Expected `([\w |]+)`(?:, got `\w+`)?", text)
    kinds = [KINDS.get(kind.strip(), kind.strip()) for kind in found[1].split("|")] if found else []
    return f"is {value!r}, which is not {' or '.join(kinds)}" if kinds else f"is {value!r}: {text}"


def unknown_key(key: str, known: Collection[str]) -> str:
    """The nearest of those that are known, or all."""
    near = get_close_matches(key, known, 1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; it has {', '.join(known)}"


def _choices(kind: type[msgspec.Struct], key: str, value: Any) -> str:
    """The mistake of a value that is none of the few words that its field takes; "" where the field takes others."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    types = [getattr(field.type, "type", field.type) for field in info.fields if field.name == key]  # of an Annotated
    words = [str(word) for kind in types if isinstance(kind, msgspec.inspect.LiteralType) for word in kind.values]
    return f"there is no {value!r}: say {' or '.join(words)}" if words else ""


BYTES = re.compile(r"([kKMG]?)B(ps|/s|_per_s)")  # a rate's unit with a capital B, which is no bit


def nearest(name: str, known: Collection[str], cutoff: float = 0.6) -> str:
    """``did you mean …? `` for a column that is unknown, "" where none is near. Units are not guessed: capitals make no
    other unit of one, but for a B, which is a byte."""
    if found := BYTES.search(name):
        column = f"{name[: found.start()]}{found[1].lower()}bytes_per_s"
        return f"did you mean {column}? " if column in known else "a B is a byte: multiply by 8 for bits. "
    folded = {each.lower(): each for each in reversed(list(known))}
    near = get_close_matches(name.strip().lower(), folded, 1, cutoff)
    return f"did you mean {folded[near[0]]}? " if near else ""
