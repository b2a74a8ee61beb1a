"""Kernels of this CPU, on which the last bits of a computation depend besides seed and versions: how they are chosen.

torch and the libraries in it take other kernels on another CPU, which add in another order. Times and bytes do not
depend on it: they come from counted work. Every node computes in one thread, whatever the host has.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

VARIABLES = (  # that choose other kernels, or other roundings
    "ATEN_CPU_CAPABILITY",
    *(
        f"{name}_{what}"
        for name in ("ONEDNN", "DNNL")
        for what in ("MAX_CPU_ISA", "CPU_ISA_HINTS", "DEFAULT_FPMATH_MODE")
    ),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"),
    *("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "GLIBC_TUNABLES"),
)
_EXTENSIONS = re.compile(
    r"fma|avx2?|avx_vnni\w*|avx512(?:f|bw|dq|vl|_vnni|_bf16|_fp16)|avx10\w*|amx_\w+"  # x86
    r"|asimd\w*|sve\w*|bf16|i8mm"  # ARM
)


def arithmetic() -> dict[str, Any]:
    """torch's capability, the CPU's maker and vector extensions, the variables that are set; imports torch."""
    import torch

    maker, extensions = _cpu(Path("/proc/cpuinfo"))
    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "maker": maker,
        "extensions": extensions,
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _cpu(path: Path) -> tuple[str, str]:
    """Maker and vector extensions of the first core that is listed; empty where nothing says so."""
    try:
        text = path.read_text()
    except OSError:
        return "", ""
    maker = re.search(r"^(?:vendor_id|CPU implementer)\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    found = sorted(set(flags.group(1).split())) if flags else []
    return maker.group(1) if maker else "", " ".join(flag for flag in found if _EXTENSIONS.fullmatch(flag))
