"""Folders of the profiles and traces that ship with the project."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

ROOT = Path(str(files("netprofiles")))
