"""The workload and the algorithms, from the ground up.

classes   what labels say, or why they cannot be meant
archives  images and labels in .npz files, as people save them
image_folders  train/CLASS/IMAGE, and images as bytes
vision    torchvision's data sets, as arrays
data      data sets and their prepared files; named random streams (no torch)
census    what was prepared: samples and classes of every client, what is odd
partition how samples are divided among clients
shard     what one client sees of its samples: batches, augmentation
models    the models by name, with seeded initial weights
split     a model traced and cut in two where one tensor alone crosses
cuts      every cut of a model, and what it costs a client
auxiliaries   the heads that stand in for the server's half at a client
parts     client half, server half and auxiliary of a task, and the files of their initial weights
task      what is trained: data, model, cut, partition; ``evaluate``
settings  rounds, optimizers, participation, deadline: ``Settings``, the base of every ``Config``
experiment_files   a paper's workload and settings in a file
idle      options that change nothing, and why
choices   what a command line chooses: algorithms and the settings of each
run_flags the command line of a run
data_identity what a data set is by its content
depends   what a method's figures depend on: the key of a result
grid, bench_records, bench   profiles x settings x seeds; what of it was played; plays the rest, makes tables
steps     the tensor arithmetic that several algorithms share; knows no node and never awaits
zeroth_order  the same for training without backward passes
rounds    how a round begins and ends: cohort, gathering, deadline, mean; the messages of that
warm_start    FSL-SAGE's first round as one of CSE-FSL
fit           the largest batch that fits a device
calibrate     what this machine does, as a device profile
alignment     FSL-SAGE's options, state and steps of it
fedavg sl splitfed_v1 splitfed_v2 local_loss cse_fsl fsl_sage heron_sfl
          one algorithm a file: ``Config``, messages, ``MESSAGES``, ``client`` and ``server``

An algorithm file retypes its control flow, since the order of its messages is the algorithm; it shares arithmetic and
how rounds begin and end.
This module imports nothing on its own, so that flags can be parsed without torch.
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
    "fsl-sage": "algorithms.fsl_sage",
    "heron-sfl": "algorithms.heron_sfl",
}


def config_of(name: str) -> Any:
    """The class ``Config`` of an algorithm, whose module, and with it torch, is imported now."""
    from emulator.child import method

    return method(name, ALGORITHMS[name]).Config
