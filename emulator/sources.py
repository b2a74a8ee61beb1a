"""Which of our own source files a module depends on, found without running them, and a digest of what each does.

A file's own source is what does not come with Python or from a package that is installed: the emulator, the methods,
and what a user's method imports of its own. Imports are followed wherever in a file they stand; what is imported by a
name that is made up as the program runs is not found. Comments, docstrings and layout are no part of a digest.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = ("emulator", "algorithms")
# What takes part in every run: whatever is played, it goes through these.
PLAYING = ("emulator.runtime.launcher", "emulator.runtime.targets")
# The table of methods, where a further one changes nothing for the others; tables and flags of commands that a module
# has besides.
UNCOUNTED = frozenset({"algorithms", "algorithms.commands.options.flags", "emulator.tables.table"})
_INSTALLED = ("site-packages", "dist-packages")
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def digests(*modules: str) -> dict[str, str]:
    """The files that ``modules`` depend on, themselves among them, as ``package/module.py``, each with its digest."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    to_come = list(modules)
    while to_come:
        name = to_come.pop()
        if name in seen:
            continue
        seen.add(name)
        to_come += [name.rpartition(".")[0]] if "." in name else []
        path = _own(name)
        if path is None:
            continue
        digest, imported = _read(name, path)
        to_come += imported
        if name not in UNCOUNTED:
            stem = name.replace(".", "/")
            found[f"{stem}/__init__.py" if path.stem == "__init__" else f"{stem}.py"] = digest
    return dict(sorted(found.items()))


@functools.cache
def _read(name: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """The digest of a file, and what it imports; of what is no Python, the digest of its bytes."""
    content = path.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # whoever imports it will hear of it
        return _hash(content), ()
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    imported = tuple(dict.fromkeys(_imports(tree, package)))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return _hash(ast.dump(tree).encode()), imported


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of what is imported when the program runs; ``from a import b`` gives a and a.b."""
    to_come: list[ast.AST] = [tree]
    while to_come:
        node = to_come.pop()
        if isinstance(node, ast.If) and _for_types_alone(node.test):
            to_come += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            yield from (
                word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)
            )
        to_come += ast.iter_child_nodes(node)


def _for_types_alone(test: ast.expr) -> bool:
    return _name(test) == "TYPE_CHECKING"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@functools.cache
def _own(name: str) -> Path | None:
    """The source of a module that is not installed; None for any other, and for what is no module."""
    top, *parts = name.split(".")
    where = [str(ROOT)] if top in OURS else None
    spec = _spec(top, where)
    if spec is None or (where is None and not _is_own(spec)):
        return None
    for i, _ in enumerate(parts, 2):
        if spec.submodule_search_locations is None:
            return None
        spec = _spec(".".join(name.split(".")[:i]), list(spec.submodule_search_locations))
        if spec is None:
            return None
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def _spec(name: str, where: list[str] | None) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(name, where)
    except (ImportError, ValueError):
        return None


def _is_own(spec: ModuleSpec) -> bool:
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    standard = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    for place in map(Path, places):
        if set(place.parts) & set(_INSTALLED) or any(place.is_relative_to(path) for path in standard):
            return False
    return bool(places)


@functools.cache
def project_digest() -> str:
    """SHA-256 over all of our own source, packages within packages too: what a version's number does not say."""
    paths = sorted(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
