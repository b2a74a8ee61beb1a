"""What a client of each method would need of memory with a paper's model: computed and not measured.

The figures come from a file that ``benchmarks.model_memory`` writes: tensors of one client by an account of each, and
what its process takes at most. Measured peaks lie between the two, so between them it is open whether a client fits.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from emulator.analysis.summary import ClientSummary, Summary, WorkloadSummary
from emulator.inputs import toml_files
from emulator.inputs.shipped import ROOT
from emulator.inputs.text_files import profile_error
from emulator.validation import validation_error

FILE = ROOT / "memory" / "resnet18-cifar10.toml"
SHOWN = f"netprofiles/memory/{FILE.name}"
MIB = 2**20


class Need(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes of a client's tensors when they are most, and what its process grows by at most."""

    tensors_bytes: int
    needed_bytes: int

    @property
    def tensors_mib(self) -> float:
        return self.tensors_bytes / MIB

    @property
    def needed_mib(self) -> float:
        return self.needed_bytes / MIB


class ModelMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: for which ``model``, and its ``workload``, what wrote it, and which dry run that was."""

    kind: Literal["client-memory"]
    model: str
    workload: str
    made_by: str
    command: str
    source: str  # SHA-256 of the project's source that made it
    torch: str
    date: str
    methods: dict[str, Need]


class Fitting(NamedTuple):
    """How many of ``of`` clients fit for sure, and at most."""

    least: int
    most: int
    of: int

    def __str__(self) -> str:
        return f"{self.least if self.least == self.most else f'{self.least}-{self.most}'} of {self.of}"


@functools.cache
def computed() -> ModelMemory:
    """The shipped file; UserError where it is gone or is none."""
    try:
        table = toml_files.parsed(SHOWN, toml_files.content_of(FILE), 'kind = "client-memory"')
    except OSError as error:
        raise profile_error(SHOWN, "", f"{error.strerror}; restore it, or write it again") from None
    if wrong := validation_error(table, ModelMemory):
        raise profile_error(SHOWN, "", wrong)
    return msgspec.convert(table, ModelMemory)


def of(summary: Summary) -> ModelMemory | None:
    """What stands beside the memory of this run; None where the run has that model itself, or no client a budget."""
    clients = [client for each in summary.algorithms.values() for client in each.clients]
    if summary.workload == OWN or not any(client.budget_mib for client in clients):
        return None
    return computed()


OWN = WorkloadSummary(model="resnet18", cut="layer2", batch=256)  # the file's


def fits(need: Need, budget_mib: float | None) -> bool | None:
    """Whether a client would fit; None: open, since the budget lies between its tensors and what it takes at most."""
    if budget_mib is None or need.needed_mib <= budget_mib:
        return True
    return None if need.tensors_mib <= budget_mib else False


def fitting(need: Need, clients: Sequence[ClientSummary]) -> Fitting:
    """How many of the clients' budgets it would fit."""
    found = [fits(need, client.budget_mib) for client in clients]
    return Fitting(found.count(True), len(found) - found.count(False), len(found))


def span_mib(need: Need) -> str:
    """From its tensors to what it takes at most."""
    return f"{need.tensors_mib:.0f}-{need.needed_mib:.0f}"
