"""Named random streams: each random draw of a run comes from one of its own, ``f"{seed}:{purpose}"``.

One more draw here moves nothing there.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, the same in every process (no ``hash``)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8], "big") >> 1


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The named random stream ``f"{seed}:{purpose}"``."""
    return np.random.default_rng(stream_seed(seed, purpose))
