"""What a user names in Python of their own, as ``FILE.py:NAME`` or ``package.module:NAME``.

A callable is given by keyword what it asks for among what there is to give. What it has wrong is said in one line, with
its own file and line first.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from emulator import sources
from emulator.errors import UserCodeError, UserError, is_own

_WORD = re.compile(
    r"(?P<file>.+\.py):(?P<name>[^:]*)|(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<object>[A-Za-z_]\w*)"
)


def is_named(word: str) -> bool:
    """Whether a word names an object of a user's file or module, and is no name of ours."""
    return _WORD.fullmatch(word) is not None or word.endswith(".py")


def short(word: str) -> str:
    """The same without the folder of its file: what seeds of random streams are named by."""
    where, _, name = word.rpartition(":")
    return f"{Path(where).name}:{name}"


def find(flag: str, word: str) -> Any:
    """The object; UserError, which names ``flag``, where there is no such file or name, and UserCodeError where the
    file fails while it is imported."""
    match = _WORD.fullmatch(word)
    if match is None or not (match["name"] or match["object"]):
        raise UserError(f"{flag}: {word}: say FILE.py:NAME or package.module:NAME")
    module = _of_file(flag, word, match["file"]) if match["file"] else _of_name(flag, word, match["module"])
    name = match["name"] or match["object"]
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        has = f"; it has {', '.join(own[:10])}" if own else ""
        raise UserError(f"{flag}: {word}: {Path(str(module.__file__)).name} has no {name}{has}")
    return getattr(module, name)


def beside(flag: str, word: str, name: str) -> Any:
    """The object ``name`` of the same file or module, or None."""
    found = find(flag, word)
    return getattr(sys.modules.get(getattr(found, "__module__", "")), name, None)


def call(flag: str, word: str, offered: Mapping[str, Any]) -> Any:
    """What the callable returns for those of ``offered`` that it asks for by name; UserError where it is none, or asks
    for more."""
    found = find(flag, word)
    if not callable(found):
        raise UserError(f"{flag}: {word}: is {type(found).__name__}, and must be callable: a class or a function")
    try:
        asked = list(inspect.signature(found).parameters.values())
    except ValueError:
        asked = []
    everything = any(each.kind is each.VAR_KEYWORD for each in asked)
    strange = [
        each.name
        for each in asked
        if each.name not in offered
        and each.default is each.empty
        and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    if strange:
        raise UserError(f"{flag}: {word}: asks for {', '.join(strange)}: it can be given {', '.join(offered)}")
    wanted = {key: value for key, value in offered.items() if everything or key in [each.name for each in asked]}
    return guarded(flag, word, lambda: found(**wanted))


def guarded(flag: str, word: str, work: Callable[[], Any]) -> Any:
    """What ``work`` returns, which runs a user's code; UserCodeError, one line, where that fails."""
    try:
        return work()
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{where(error, word)}: {flag}: {word} fails: {said(error)}") from None


def said(error: BaseException) -> str:
    """Kind and first line of an error."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def where(error: BaseException, word: str) -> str:
    """``FILE:LINE (source)`` of an error's last line in the user's file, or in no installed package; ``word`` else."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno} ({(error.text or '').strip()})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename, word)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} ({frames[-1].line})" if frames else word


def digests(*words: str) -> dict[str, str]:
    """The files that a user's objects are in and what those import of the user's own, each with a digest; nothing is
    imported, and words that name no such object are left out."""
    found: dict[str, str] = {}
    for match in filter(None, map(_WORD.fullmatch, words)):
        if match["file"]:
            path = Path(match["file"]).expanduser().resolve()
            _look_beside(path)
            found |= sources.digests(path.stem)
            if path.is_file():
                found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        else:
            found |= sources.digests(match["module"])
    return found


def _look_beside(path: Path) -> None:
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last: what lies beside it takes nobody's place


def _is_own(filename: str, word: str) -> bool:
    match = _WORD.fullmatch(word)
    if match and match["file"] and Path(filename) == Path(match["file"]).expanduser().resolve():
        return True
    return Path(filename).is_file() and is_own(filename)


def _of_name(flag: str, word: str, module: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{flag}: {word}: there is no module {module}: run where Python finds it, or name its file")
    except ImportError as error:
        raise UserError(f"{flag}: {word}: there is no module {module} ({error})") from None
    return _imported(flag, word, lambda: importlib.import_module(module))


def _of_file(flag: str, word: str, file: str) -> ModuleType:
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{flag}: {word}: there is no such file: give the path of a Python file")
    return _of_path(flag, word, path)


@functools.cache
def _of_path(flag: str, word: str, path: Path) -> ModuleType:
    _look_beside(path)
    name = f"user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]

    def load() -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return _imported(flag, word, load)


def _imported(flag: str, word: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{where(error, word)}: {flag}: {word} cannot be imported: {said(error)}") from None
