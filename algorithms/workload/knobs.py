"""Knobs: fields of a struct that a user may turn, each with its help text beside its type and default.

A knob is a field with a description. Command line, experiment files, ``--vary``, the manifest, a bench's key and
``play`` read it from here, so that it is written once.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from emulator.errors import UserError
from emulator.validation import KINDS

Place = Literal["vary", "experiment"]


def knob(help: str, **how: Any) -> msgspec.Meta:
    """The annotation of a field that is one; ``how``: what a ``Knob`` has besides."""
    return msgspec.Meta(description=help, extra=how)


class Knob(NamedTuple):
    """``kind``: its type without None. ``counts_in``: the other part of a bench's key that has it ("nothing": no figure
    depends on it); "" where it is a part of its own. ``not_in``: where it cannot be said. ``parse``: what makes a value
    of a text that has a form of its own. ``option``: its flag, where that is not its name."""

    name: str
    kind: Any
    default: Any
    help: str
    option: str = ""
    metavar: str = ""
    counts_in: str = ""
    not_in: tuple[Place, ...] = ()
    parse: Callable[[str], Any] | None = None

    @property
    def flag(self) -> str:
        """On a command line."""
        return self.option or f"--{self.name.replace('_', '-')}"

    @property
    def is_list(self) -> bool:
        """Whether it can be said more than once."""
        return get_origin(self.kind) is tuple

    def value_of(self, given: Any) -> Any:
        """A text of a command line, or a value from Python, as the field has it; UserError by the flag."""
        if self.parse:
            return self.parse(str(given))
        kind = get_args(self.kind)[0] if self.is_list else self.kind
        if kind is str:
            return tuple(map(str, given)) if self.is_list else str(given)
        try:
            return msgspec.convert(given, self.kind, strict=False)
        except (msgspec.ValidationError, UnicodeEncodeError):  # bytes of a command line that are no text
            words = " or ".join(get_args(kind)) or KINDS[kind.__name__]
            raise UserError(f"{self.flag} {given}: say {words}; run.py --help shows the flags") from None


@functools.cache
def knobs_of(struct: type[msgspec.Struct]) -> dict[str, Knob]:
    """A struct's knobs by name, in its order."""
    found = {}
    for field in msgspec.structs.fields(struct):
        metas = [each for each in getattr(field.type, "__metadata__", ()) if isinstance(each, msgspec.Meta)]
        for meta in (each for each in metas if each.description):
            kind = get_args(field.type)[0]
            if get_origin(kind) in (Union, types.UnionType):
                (kind,) = (each for each in get_args(kind) if each is not types.NoneType)
            found[field.name] = Knob(field.name, kind, field.default, str(meta.description), **meta.extra or {})
    return found
