"""What a client's memory is made of and how much it will need, from the tensors of one that plays alone.

For each kind of device the client with the largest step plays with the server, every tensor accounted for, until two
rounds are over or a fixed amount of work is done. That is the second way to its memory, beside what the system measures
of the process, and the only one where a run was stopped before its peak, or has not begun.
"""

from __future__ import annotations

from typing import Any

from emulator.compute.tensor_account import TensorAccount
from emulator.preflight.dilation import MemoryBreakdown
from emulator.preflight.in_process import representatives, run_in_process
from emulator.profiles.scenario import ClientSpec, Scenario

BUDGET_NS = 6 * 10**9  # of work on ``in_process.REFERENCE``
ROUNDS = 2  # what a round leaves behind is there in the next

# What torch and the allocator need besides, fitted on what was measured of ResNet-18 cut after layer2 and of the small
# CNN, all methods: within 10 % + 1 MiB there.
BESIDE_TENSORS, BESIDE_BYTES = 1.12, 1_700_000


def estimate_memory(module: str, settings: dict[str, Any], scenario: Scenario, seed: int) -> list[MemoryBreakdown]:
    """The account of one client of each kind of device."""
    members = representatives(module, settings, scenario)
    return [_breakdown(module, settings, scenario, seed, client) for client in members]


def _breakdown(
    module: str, settings: dict[str, Any], scenario: Scenario, seed: int, client: ClientSpec
) -> MemoryBreakdown:
    with TensorAccount() as tensors:
        run_in_process(module, settings, scenario, seed, [client], BUDGET_NS, rounds=ROUNDS)
        peak = tensors.peaks[client.name]
    return MemoryBreakdown(client.device.name, peak.by_kind, peak.during, needed_bytes(peak.total_bytes))


def needed_bytes(tensor_bytes: int) -> int:
    """How far a process whose tensors are so many bytes grows."""
    return int(tensor_bytes * BESIDE_TENSORS) + BESIDE_BYTES
