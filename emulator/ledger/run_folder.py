"""A run's folder: claimed before anything starts, withdrawn where nothing was played; its timelines."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from emulator.errors import UserError
from emulator.ledger.files import read_merged, read_timeline
from emulator.ledger.manifest import Manifest
from emulator.ledger.timeline import Timeline

MERGED = "ledger.jsonl"


def open_folder(out: str | Path | None, profile: str, what: str, first: str = "ledger") -> Path:
    """A new folder with nothing but ``first`` in it, which only one of several runs can make there: ``out``, or
    ``runs/<time>-<profile>-<what>``; UserError where it cannot be."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(profile).stem}-{what}"
    folder = Path(out) if out else Path("runs") / stem
    try:
        if not out:
            return _first_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) or not _made(folder / first):
            raise UserError(
                f"--out {folder}: the folder is not empty and nothing recorded is overwritten; name a new one"
            )
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); name a folder that can") from None
    return folder


def _made(folder: Path) -> bool:
    """Whether it is this process that has made it."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _first_free(folder: Path) -> Path:
    """``folder``, made now, or where another run has begun in the same second, it with a number."""
    for number in itertools.count(1):
        free = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):
            free.mkdir(parents=True)
            return free
    raise AssertionError


def discard_run_folder(folder: Path, refused: Iterable[str] = ()) -> None:
    """Remove what ``open_folder`` and ``write_manifest`` made, and the ledgers of the algorithms ``refused``, where
    nothing else is in it."""
    for name in refused:
        shutil.rmtree(folder / "ledger" / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / "ledger").rmdir()
        (folder / "manifest.json").unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def read_timelines(folder: Path, manifest: Manifest) -> dict[str, Timeline]:
    """The merged events of each algorithm that has begun, in the order of the manifest: from its folder, or where that
    is gone from ``ledger.jsonl``."""
    folders = {name: folder / "ledger" / name for name in manifest.algorithms}
    merged = folder / MERGED
    kept = read_merged(merged) if merged.exists() and not all(path.is_dir() for path in folders.values()) else {}
    return {
        name: read_timeline(path) if path.is_dir() else kept[name]
        for name, path in folders.items()
        if path.is_dir() or name in kept
    }


def atomic_write(path: Path, text: str) -> None:
    """Write a file whole or not at all; UserError where it cannot be."""
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path, keeps: bool = False) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when it is whole; with ``keeps`` only if it is no shorter."""
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("wb") as file:
            yield file
        if keeps and path.exists() and new.stat().st_size < path.stat().st_size:
            raise UserError(
                f"{path}: holds more than the files of ledger/ beside it, some of which are gone or cut; restore them, "
                f"or remove them all: it is read in their place"
            )
        new.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); copy the run to where you can") from None
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
