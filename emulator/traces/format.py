"""The units that a trace may be in, and when a row of one holds."""

from __future__ import annotations

from typing import Literal

LONGEST_DELAY_MS = 60_000  # one way: a satellite's is 300, NB-IoT in bad coverage has 10,000
Time = Literal["", "s", "ms", "us"]  # units of a trace's columns
Rate = Literal["", "bps", "kbps", "mbps", "bytes_per_s", "kbytes_per_s", "mbytes_per_s"]
Holds = Literal["after", "before"]  # when a row's rate holds: from its time on, or until then
