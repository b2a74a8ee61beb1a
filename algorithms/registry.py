"""Methods by name: those that ship, those of installed packages, a user's own file or module. Imports no method."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path

from algorithms import ALGORITHMS
from emulator.errors import UserError
from emulator.validation import nearest

GROUP = "splitbed.methods"  # of entry points: name = "package.module"
SHIPPED = tuple(ALGORITHMS)
HELP = f"any of {', '.join(SHIPPED)}, or a method of your own by its file (./mine.py) or module (package.mine)"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_words: dict[str, str] = {}  # by name: how a user asked for a method that does not ship


def resolve(word: str) -> str:
    """The name of a method, which ``ALGORITHMS`` has from then on.

    ``word`` is a name of ours, an entry point's, ``package.module`` or ``path/to/file.py``. The name of a file or
    module is what its line ``NAME = "…"`` says, else the file's stem with ``-`` for ``_``. UserError where there is no
    such method, or its name is another's.
    """
    if word in ALGORITHMS:
        return word
    for name, said in _words.items():
        if said == word:
            return name
    for point in entry_points(group=GROUP):
        if point.name == word:
            return _register(word, word, point.module)
    if word.endswith(".py"):
        module, origin = _of_file(word)
    elif "." in word:
        module, origin = word, _origin(word, word)
    else:
        known = ", ".join(SHIPPED)
        beside = f"{word}.py" in {path.name for path in Path().glob("*.py")}
        guess = f"did you mean ./{word}.py? " if beside else nearest(word, ["all", *SHIPPED])
        raise UserError(
            f"--algorithm {word}: there is none of this name; {guess}say all, any of {known}, or a method of your own"
            " by its file, such as ./mine.py, or its module, such as package.mine"
        )
    return _register(word, _name(origin), module)


def word_of(name: str) -> str:
    """What ``resolve`` finds the method by in another process."""
    return _words.get(name, name)


def _of_file(word: str) -> tuple[str, Path]:
    path = Path(word).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"--algorithm {word}: there is no such file; give the path of a method's Python file")
    if not path.stem.isidentifier():
        raise UserError(f"--algorithm {word}: {path.stem!r} cannot be imported; name the file in letters, digits and _")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last: what lies beside it takes nobody's place
    importlib.invalidate_caches()
    if (origin := _origin(path.stem, word)) != path:
        raise UserError(f"--algorithm {word}: Python knows another module of this name, {origin}; rename the file")
    return path.stem, path


def _origin(module: str, word: str) -> Path:
    """The file of a module, which is not imported; packages around it are."""
    try:
        found = importlib.util.find_spec(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"--algorithm {word}: cannot be found ({type(error).__name__}: {error})") from None
    if found is None or not found.origin or not found.has_location:
        raise UserError(f"--algorithm {word}: there is no such module; run where Python finds it, or name its file")
    return Path(found.origin).resolve()


def _name(path: Path) -> str:
    """What a method's file calls it. A file that cannot be parsed is told of when it is imported."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        tree = ast.Module([], [])
    for line in tree.body:
        match line:
            case ast.Assign(targets=[ast.Name("NAME")], value=ast.Constant(str(name))):
                return name
            case ast.AnnAssign(target=ast.Name("NAME"), value=ast.Constant(str(name))):
                return name
    stem = path.parent.name if path.stem == "__init__" else path.stem
    return stem.lower().replace("_", "-")


def _register(word: str, name: str, module: str) -> str:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--algorithm {word}: {name!r} is no name of a method: write NAME = in it, with small letters, digits and -"
        )
    if ALGORITHMS.get(name, module) != module:
        raise UserError(
            f'--algorithm {word}: its name, {name}, is that of {ALGORITHMS[name]}; write NAME = "another" in it'
        )
    ALGORITHMS[name] = module
    _words[name] = word
    return name
