"""What our source files import."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("emulator", "algorithms")
    for path in sorted((ROOT / package).rglob("*.py"))
}


PACKAGES = {name: path.parent for name, path in MODULES.items() if path.stem == "__init__"}


SOURCES = [ROOT / "run.py", *MODULES.values(), *sorted((ROOT / "netprofiles").rglob("*.py"))]


@functools.cache
def imports(path: Path) -> list[str]:
    """Dotted names of everything that a file imports, wherever in it; ``from a import b`` gives a and a.b."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path.name}: a relative import"
            found += (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    return found


def imported_packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}
