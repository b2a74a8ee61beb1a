"""A run read from its folder, whether it has ended, was cut short, or still goes on."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from emulator.analysis.summarize import summarize
from emulator.analysis.summary import Summary
from emulator.errors import UserError
from emulator.ledger.manifest import Manifest, read_manifest
from emulator.ledger.run_folder import read_timelines
from emulator.ledger.timeline import Timeline


class RunRecord(NamedTuple):
    """A run as its manifest and ledger say it was, whether it has ended, was cut short, or still goes on."""

    manifest: Manifest
    timelines: Mapping[str, Timeline]
    summary: Summary


def recorded(folder: Path) -> RunRecord:
    """A run from its folder, for views; UserError where the folder holds none."""
    manifest = read_manifest(folder)
    gc.disable()  # a million events that live until the end would be looked through again and again
    try:
        timelines = read_timelines(folder, manifest)
    except OSError as error:
        raise UserError(f"{folder}: its ledger cannot be read ({error.strerror}); name a run's folder") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: is no record that this version can read ({error}); name a run's folder") from None
    else:
        return RunRecord(manifest, timelines, summarize(manifest, timelines))
    finally:
        gc.enable()
