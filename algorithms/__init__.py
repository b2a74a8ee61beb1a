"""The workload and the algorithms, from the ground up.

data      data sets, their prepared files, partitions, a client's shard; named random streams (no torch)
models    the models by name, with seeded initial weights
split     a model traced and cut in two where one tensor alone crosses
cuts      every cut of a model, and what it costs a client
auxiliaries   the heads that stand in for the server's half at a client
parts     client half, server half and auxiliary of a task, and the files of their initial weights
task      what is trained: data, model, cut, partition; ``evaluate``; ``Settings``, the base of every ``Config``
steps     the tensor arithmetic that several algorithms share; knows no node and never awaits
fedavg sl splitfed_v1 splitfed_v2 local_loss cse_fsl fsl_sage
          one algorithm a file: ``Config``, messages, ``MESSAGES``, ``client`` and ``server``

An algorithm file retypes its control flow, since the order of its messages is the algorithm; it shares arithmetic.
This module imports nothing, so that flags can be parsed without torch.
"""

from __future__ import annotations

ALGORITHMS = {
    "fedavg": "algorithms.fedavg",
    "sl": "algorithms.sl",
    "splitfed-v1": "algorithms.splitfed_v1",
    "splitfed-v2": "algorithms.splitfed_v2",
    "local-loss": "algorithms.local_loss",
    "cse-fsl": "algorithms.cse_fsl",
    "fsl-sage": "algorithms.fsl_sage",
}
