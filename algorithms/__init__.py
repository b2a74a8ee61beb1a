"""The methods, one a file, and below them what they play.

fedavg sl splitfed_v1 splitfed_v2 local_loss cse_fsl fsl_sage heron_sfl
          one method each: ``Config``, messages, ``MESSAGES``, ``client`` and ``server``
training  what methods share
workload, models, data  what is trained, of what it is made, on what
experiments     papers' settings
commands  the command line

A method's file retypes its control flow, since the order of its messages is the method; it shares arithmetic and how
rounds begin and end. This module imports nothing on its own, so that flags can be parsed without torch.
"""

from __future__ import annotations

from typing import Any

ALGORITHMS = {
    "fedavg": "algorithms.fedavg",
    "sl": "algorithms.sl",
    "splitfed-v1": "algorithms.splitfed_v1",
    "splitfed-v2": "algorithms.splitfed_v2",
    "local-loss": "algorithms.local_loss",
    "cse-fsl": "algorithms.cse_fsl",
    "fsl-sage": "algorithms.fsl_sage.method",
    "heron-sfl": "algorithms.heron_sfl",
}


def config_of(name: str) -> Any:
    """The class ``Config`` of an algorithm, whose module, and with it torch, is imported now."""
    from emulator.runtime.methods import load_method

    return load_method(name, ALGORITHMS[name]).Config


def __getattr__(name: str) -> Any:
    """``play`` and ``load``, the Python interface, once they are asked for; no part of what a method depends on."""
    if name in ("play", "load", "Run"):
        import importlib

        return getattr(importlib.import_module(f"{__name__}.interface"), name)
    raise AttributeError(f"module 'algorithms' has no attribute {name!r}")
