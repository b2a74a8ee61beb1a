"""Command lines as parsed, for tests."""

from __future__ import annotations

from typing import Any

from algorithms.commands.options.overrides import completed, settings_of
from algorithms.commands.options.run_flags import RunCommand, read


def config_of_words(*words: str) -> RunCommand:
    return read(["--profile", "iot-4g", *words])[0]


def settings_of_words(*words: str, clients: int = 10) -> dict[str, dict[str, Any]]:
    return settings_of(*completed(config_of_words(*words)), clients)
