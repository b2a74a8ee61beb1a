"""Names: no two classes share one, so that a reader who searches for it finds one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("emulator", "algorithms")

# Every method has a Config, and names its messages as the papers do; what two methods share is defined once.
OF_EACH_METHOD = {"Config", "Global", "Initial", "Smashed", "Update"}


def classes(source: str) -> list[str]:
    """The names of the classes of a module, nested ones too."""
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_of_the_two_packages_share_a_name() -> None:
    files = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in classes(path.read_text()):
                files[name].append(str(path.relative_to(ROOT)))
    assert len(files) > 200
    twice = {name: where for name, where in files.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in OF_EACH_METHOD} == {}
    foreign = {name: [each for each in where if not each.startswith("algorithms/")] for name, where in twice.items()}
    assert not any(foreign.values()), "only methods may share these names"
    assert set(twice) == OF_EACH_METHOD, "a name that is no longer shared leaves the list"


def test_nested_classes_count_too() -> None:
    assert classes("class A:\n    class B: ...\ndef f():\n    class A: ...\n") == ["A", "B", "A"]
