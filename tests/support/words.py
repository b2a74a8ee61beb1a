"""Command lines as parsed, for tests."""

from __future__ import annotations

from typing import Any

from algorithms.commands.options.run_flags import parser


def flags_of(*words: str) -> Any:
    return parser().parse_args(["--profile", "iot-4g", *words])


def choices_none() -> Any:
    from algorithms.experiments.reading import NONE

    return NONE
