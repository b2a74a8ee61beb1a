"""What the figures were taken on, and what else it was doing then."""

from __future__ import annotations

import os
import platform
from typing import Any

from benchmarks.report import Section
from emulator.host.device_profile import cpu_name
from emulator.host.load import cpu_pressure

BUSY_LOAD = 0.75  # load average of the last minute, above which the start is called busy; our own imports add some
BUSY_PERCENT = 15.0


def describe() -> Section:
    """CPU, cores, kernel, versions, and the load at the start."""
    load_1, load_5, _ = os.getloadavg()
    import psutil
    import torch
    import zmq

    busy = psutil.cpu_percent(1.0)
    figures: dict[str, Any] = {
        "cpu": cpu_name() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "pyzmq": zmq.__version__,
        "libzmq": zmq.zmq_version(),
        "load_1_min": round(load_1, 2),
        "load_5_min": round(load_5, 2),
        "busy_percent": busy,
        "cpu_pressure_10_s": cpu_pressure(),
    }
    remarks = []
    if load_1 > BUSY_LOAD or busy > BUSY_PERCENT:
        remarks.append("The machine was not idle at the start: lateness and start-up will look worse than they are.")
    rows = [["machine", "value"], *([key.replace("_", " "), str(value)] for key, value in figures.items())]
    return Section("machine", "what the figures were taken on", rows, figures, remarks=remarks)
