"""A device profile of the machine that this runs on, as the text of its file."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

MIB = 2**20


def cpu_name() -> str:
    """The processor, as the system calls it; "" where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def device_text(dense_gflops: float, depthwise_gflops: float, memory_gbps: float, dispatch_us: float) -> str:
    """The profile with these rates of one thread, and this machine's memory."""
    name, date = cpu_name() or "this machine", time.strftime("%Y-%m")
    name = name.replace("\\", "/").replace('"', "'")
    memory, runtime = psutil.virtual_memory(), psutil.Process().memory_info().rss
    rate = f"training steps in one thread on {name}, by run.py calibrate"
    values = {
        "memory_mib": (memory.total // MIB, "as the system says"),
        "os_reserved_mib": (max(memory.total - memory.available - runtime, 0) // MIB, "in use when it was measured"),
        "runtime_mib": (runtime // MIB, "resident size of Python with torch when it was measured"),
        "dense_gflops": (_rounded(dense_gflops), rate),
        "depthwise_gflops": (_rounded(depthwise_gflops), rate),
        "memory_gbps": (_rounded(memory_gbps), rate),
        "dispatch_us": (_rounded(round(dispatch_us, 3)), rate),
    }
    lines = [
        f'{key} = {{ value = {value}, grade = "A", source = "{source}", date = "{date}" }}'
        for key, (value, source) in values.items()
    ]
    head = ['kind = "device"', f'description = "{name}, one thread, measured {date}"', ""]
    return "\n".join([*head, *lines, ""])


def _rounded(value: float) -> str:
    """Four digits, without an exponent, and no more than 6 decimals: what a profile's units can hold."""
    return f"{float(f'{value:.4g}'):f}".rstrip("0").rstrip(".")
