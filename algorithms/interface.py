"""The Python interface: ``from algorithms import play, load``.

A run is played, or read from its folder; then its figures are columns that pandas, polars and pyarrow take.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from algorithms.commands import run as run_command
from algorithms.experiments.run_config import RunConfig
from emulator.analysis import columns
from emulator.analysis.columns import Columns
from emulator.analysis.recorded import RunRecord, recorded
from emulator.analysis.summary import Summary
from emulator.dashboard.follow import Follower
from emulator.dashboard.launch import READ_S
from emulator.dashboard.plain_lines import PlainLines
from emulator.dashboard.progress import Progress
from emulator.errors import UserError
from emulator.ledger.events import Event
from emulator.ledger.manifest import Manifest


class Run:
    """A run by its folder. Columns are ``{name: values}``, with units in the names (``emulator.analysis.columns``)."""

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder, self._record = folder, record

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {', '.join(self.algorithms)}; verdict {self.verdict})"

    @property
    def summary(self) -> Summary:
        """Everything that ``summary.json`` has."""
        return self._record.summary

    @property
    def manifest(self) -> Manifest:
        """What was played, on what, with which versions."""
        return self._record.manifest

    @property
    def algorithms(self) -> list[str]:
        """The methods that have been played."""
        return list(self.summary.algorithms)

    @property
    def verdict(self) -> str:
        """The run's judgement of itself; its reasons are in ``summary.health``."""
        return self.summary.health.verdict

    def rounds(self) -> Columns:
        """A row a method and round: when, the task's metrics, loss, bytes until its end."""
        return columns.rounds(self._record)

    def clients(self) -> Columns:
        """A row a method and client: seconds by cause, bytes both ways, memory, outcome."""
        return columns.client_columns(self._record)

    def messages(self) -> Columns:
        """A row a method, client, round, kind and direction: messages and their bytes."""
        return columns.messages(self._record)

    def computations(self) -> Columns:
        """A row a method, device and function: how often, work, seconds."""
        return columns.computation_columns(self._record)

    def memory(self) -> Columns:
        """A row a method and client: MiB of tensors by kind, beside what was measured."""
        return columns.memory_columns(self._record)

    def events(self, kind: type[Event]) -> Columns:
        """The recorded events of one type of ``emulator.ledger.events``, a row each."""
        return columns.events(self._record, kind)


def load(folder: str | Path) -> Run:
    """A run that was recorded; UserError where the folder holds none."""
    if not isinstance(folder, str | os.PathLike):
        raise UserError(f"load({folder!r}): say a run's folder, as under runs/")
    return Run(Path(folder), recorded(Path(folder)))


def play(
    profile: str | Path,
    algorithms: str | Path | Iterable[str | Path] = "all",
    *,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
    **knobs: Any,
) -> Run:
    """Play a run as ``run.py --profile PROFILE --algorithm A,B`` does; its record stays in its folder (``out``).

    ``knobs`` are flags of the command line, with ``_`` for ``-``: ``clock="virtual"``, ``rounds=3``, ``seed=1``,
    ``dry_run=True``. ``settings`` are those of ``--set``: ``{"fsl-sage:l": 10, "q": 5}``. ``progress`` is called with
    each line that the command would print while it plays. UserError, with the command's one line, for what cannot be
    played; a method that does not fit, or fails, is an outcome in ``summary``. Signal handlers, environment and
    priority of the caller are its own again afterwards.
    """
    named, options = _named(algorithms), _options({} if settings is None else settings)
    if profile is None:
        raise UserError("profile=None: say a scenario's name or file, such as 'iot-4g'")
    config = RunConfig.of({"profile": profile, "algorithm": named, "options": options, **knobs})
    say = progress or (lambda _text: None)
    played = run_command.play(run_command.planned(config, config.words()), say, _view(say))
    return Run(played.folder, played.recorded)


def _named(algorithms: Any) -> str:
    """What ``--algorithm`` takes."""
    if isinstance(algorithms, str | os.PathLike):
        return str(algorithms)
    each = [*algorithms] if isinstance(algorithms, Iterable) else [algorithms]
    if not isinstance(algorithms, Iterable) or not all(isinstance(one, str | os.PathLike) for one in each):
        raise UserError(f"algorithms={algorithms!r}: say the name or the file of a method, or a list of them")
    return ",".join(map(str, each))


def _options(settings: Any) -> list[str]:
    """What ``--set`` takes."""
    if not isinstance(settings, Mapping):
        raise UserError(f"settings={settings!r}: say options with their values, such as {{'fsl-sage:l': 10}}")
    found = []
    for key, value in settings.items():
        try:
            found.append(f"{key}={str(value) if isinstance(value, str | os.PathLike) else json.dumps(value)}")
        except (TypeError, ValueError):
            raise UserError(f"--set {key}={value!r}: say a number, a word, true, false, null or a list") from None
    return found


def _view(say: Callable[[str], None]) -> type[Any]:
    class Told:
        """Tells a run's lines to a function, in the caller's own thread."""

        def __init__(self, manifest: Manifest, folder: Path) -> None:
            self._lines = PlainLines(Progress(manifest), Follower(folder, manifest), say)
            self._next_s = 0.0

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._lines.read()

        def tick(self) -> None:
            if time.monotonic() >= self._next_s:
                self._lines.read()
                self._next_s = time.monotonic() + READ_S

    return Told
