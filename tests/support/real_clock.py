"""Which tests play the real clock: what a busy host makes late there would be another test's fault, so they are marked.

A whole command that was started is known by what it leaves: the manifests in its folder name their clocks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MARKS = ("processes", "any_load")  # pyproject.toml says what they mean
FIXTURES = {"three_clients_real", "unthrottled"}  # play it for whoever asks first
OUT = "--out"

_folders: list[Path] = []  # of commands started since the last look


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "subprocess.Popen" or isinstance(arguments[1], str | bytes):
        return
    words, cwd = [str(word) for word in arguments[1]], arguments[2]
    if OUT in words[:-1]:
        _folders.append(Path(str(cwd) if cwd else ".") / words[words.index(OUT) + 1])


sys.addaudithook(_watch)


def played() -> list[Path]:
    """Folders of the runs on the real clock of commands that were started since the last call."""
    found = [manifest for folder in _folders for manifest in folder.rglob("manifest.json")]
    _folders.clear()
    return [path.parent for path in found if json.loads(path.read_text()).get("clock") == "real"]
