"""A client's memory: baseline, cap, peak growth.

Order in a client process: sockets and threads first, one tiny training step on a throw-away layer, then ``MemoryCap``:
unused heap goes back, the peak is reset and the baseline read. What grows above it is the training's. The peak growth
is VmHWM - VmRSS at the reset, with file pages subtracted at both ends. No sampler can miss it; it can be too low by the
file pages first touched between the peak and the next reading, which comes after every computation.

*Fits* is decided by this peak against the budget, after every computation and receipt. The soft ``RLIMIT_DATA`` stops
what would go far beyond within one of them: it makes PyTorch raise a catchable error, needs no privilege, and can be
lifted again for the last words. It lies above the budget, because it counts address space and not pages. With the cap
``account`` nothing is stopped: the same peak says afterwards whether it would have fitted.

Sources: proc(5) (status: VmHWM, VmRSS, RssFile, VmData; clear_refs 5 resets the peak), setrlimit(2), mallopt(3).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from emulator.errors import DoesNotFit, UserError

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")  # 5: the peak begins anew, proc(5)
MIB = 2**20
LIMIT_FACTOR = 1.10
# Address space that is reserved and hardly touched: the code that oneDNN generates for each shape (26 MiB seen for
# ResNet-18), the allocator's rounding.
LIMIT_SPARE_BYTES = 36 * MIB

# One arena and fixed 128 KiB thresholds: freed tensors go back to the system at once, so that the peak repeats to
# within a percent from run to run. It costs host time, which emulated time does not come from.
MALLOC = {"M_ARENA_MAX": 1, "M_MMAP_THRESHOLD": 128 * 1024, "M_TRIM_THRESHOLD": 128 * 1024}
# The network process and the server keep what they have freed: chunk after chunk is received into the same pages.
KEEPING = {"M_MMAP_THRESHOLD": 32 * 2**20, "M_TRIM_THRESHOLD": 256 * 2**20}
_MALLOPT = {"M_TRIM_THRESHOLD": -1, "M_MMAP_THRESHOLD": -3, "M_ARENA_MAX": -8}

_STATUS = re.compile(rb"^(VmHWM|VmRSS|RssFile|RssShmem|VmData):\s+(\d+) kB", re.MULTILINE)
_TORCH_ASKED = re.compile(r"tried to allocate (\d+) bytes")

# Texts of a RuntimeError: torch's allocator and C++'s; and oneDNN's where its own allocation failed. It gives no
# reason, but what it cannot compute at all it says before, of a "primitive descriptor".
_NO_MEMORY = re.compile(
    r"(?:can't|cannot|could not|unable to|failed to) allocate|bad_alloc|(?:not enough|out of) memory", re.IGNORECASE
)
_NO_MEMORY_ONEDNN = re.compile(
    r"could not (?:create|execute|initialize) an? (?:primitive|memory|stream|engine|reorder)\b(?! descriptor)"
)


class MemoryUsage(msgspec.Struct, frozen=True):
    """One reading of /proc/self/status, in bytes. ``resident`` and ``peak`` are without file pages."""

    resident: int
    peak: int
    data: int


def read_usage() -> MemoryUsage:
    """Resident size, its peak since the last reset, and the size that RLIMIT_DATA counts."""
    fields = {name.decode(): int(value) * 1024 for name, value in _STATUS.findall(STATUS.read_bytes())}
    of_files = fields["RssFile"] + fields["RssShmem"]
    return MemoryUsage(fields["VmRSS"] - of_files, fields["VmHWM"] - of_files, fields["VmData"])


def reset_peak() -> None:
    """Let the peak of this process begin anew; UserError where the kernel has no peaks to tell."""
    try:
        CLEAR_REFS.write_text("5")
        read_usage()
    except (OSError, KeyError) as error:
        what = f"cannot be written ({error.strerror})" if isinstance(error, OSError) else f"{STATUS} has no {error}"
        raise UserError(
            f"{CLEAR_REFS}: {what}, so no peak of memory can be measured on this kernel; --dry-run foresees it, or play"
            " on a Linux that is no sandbox (it needs PROC_PAGE_MONITOR)"
        ) from None


class MemoryCap:
    """The growth of this process above its baseline, and the limit on it (``budget_bytes`` None: no limit).

    ``enforced`` False: the growth is only measured.
    """

    def __init__(self, budget_bytes: int | None, *, enforced: bool = True) -> None:
        self.budget_bytes = budget_bytes
        limited = enforced and budget_bytes is not None
        self.limit_bytes = int((budget_bytes or 0) * LIMIT_FACTOR) + LIMIT_SPARE_BYTES if limited else None
        _trim()
        reset_peak()
        usage = read_usage()
        self.baseline_bytes = usage.resident
        self._peak_bytes = 0  # of all readings: file pages that come after the peak must not lower it
        if self.limit_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (usage.data + self.limit_bytes, hard))

    def growth_bytes(self) -> tuple[int, int]:
        """Growth above the baseline now, and at its peak so far."""
        usage = read_usage()
        self._peak_bytes = max(self._peak_bytes, usage.peak - self.baseline_bytes)
        return usage.resident - self.baseline_bytes, self._peak_bytes

    def reading(self) -> dict[str, Any]:
        """The fields of a ledger's memory line."""
        growth_bytes, peak_bytes = self.growth_bytes()
        return {"growth_bytes": growth_bytes, "peak_bytes": peak_bytes, "budget_bytes": self.budget_bytes}

    def lift(self) -> None:
        """Remove the limit, for the last words."""
        if self.limit_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def tune_malloc(options: dict[str, int] = MALLOC) -> None:
    """Apply ``options`` to this process; on a C library without mallopt it stays as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in options.items():
            mallopt(_MALLOPT[name], value)


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException, cap: MemoryCap | None = None) -> bool:
    """Whether an exception says that an allocation failed; ``cap``: of the process, which oneDNN's words need."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if not isinstance(error, RuntimeError):
        return False
    limited = cap is not None and cap.limit_bytes is not None
    return bool(_NO_MEMORY.search(str(error)) or (limited and _NO_MEMORY_ONEDNN.search(str(error))))


def bytes_asked(error: BaseException) -> int | None:
    """The size of the failed allocation in bytes; None where its error does not say it."""
    found = _TORCH_ASKED.search(str(error))
    return int(found.group(1)) if found else None


@contextlib.contextmanager
def out_of_memory_explained(phase: str, cap: MemoryCap | None) -> Iterator[None]:
    """An allocation that fails becomes DoesNotFit with its phase; any other error stays what it is."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error, cap):
            raise DoesNotFit(phase, bytes_asked(error)) from error
        raise
