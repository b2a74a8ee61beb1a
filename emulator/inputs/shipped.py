"""Where the profiles and traces lie that ship with the project."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "netprofiles"
