"""Views take what analysis made, by its types: no function of theirs takes a dictionary of anything."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from emulator import plots, report, tables


def functions(module: ModuleType) -> Iterator[FunctionType]:
    """Those of a module, and of its classes."""
    for holder in (module, *(each for each in vars(module).values() if inspect.isclass(each))):
        for each in vars(holder).values():
            if inspect.isfunction(each) and each.__module__ == module.__name__:
                yield each


def untyped(hint: Any) -> bool:
    """Whether anything is in a mapping that it names, or in one of its parts."""
    parts = get_args(hint)
    mapping = isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping)
    return (mapping and Any in parts) or hint in (dict, Mapping) or any(map(untyped, parts))


@pytest.mark.parametrize("package", [tables, plots, report], ids=lambda package: package.__name__)
def test_no_view_takes_a_dictionary_of_anything(package: ModuleType) -> None:
    found = {}
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for function in functions(importlib.import_module(info.name)):
            hints = get_type_hints(function)
            taken = [name for name in inspect.signature(function).parameters if untyped(hints.get(name))]
            found[f"{info.name}.{function.__qualname__}"] = taken
    assert len(found) > 10
    assert {name: taken for name, taken in found.items() if taken} == {}


def test_what_it_looks_for_is_seen() -> None:
    assert all(map(untyped, (dict[str, Any], Mapping[str, Any], list[dict[str, Any]], Mapping[str, Any] | None)))
    assert not any(map(untyped, (dict[str, float], list[Any], Mapping[str, object], str, None)))
