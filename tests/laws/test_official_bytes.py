"""Bytes as the FSL-SAGE authors' code counts them (https://github.com/srijith1996/FSL-SAGE, commit 437e77b).

Constants that the code itself printed for 5 clients with 1,500 images of 3x32x32, ResNet-18 cut after layer2, batches
of 50, q = 5, l = 10, against runs; and the published GiB to 81 % accuracy, which are whole numbers of rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import finished
from processes import HANG_S, Board, Played, Wire, options, play, write_scenario
from torch import nn

from algorithms import ALGORITHMS
from algorithms.commands import run as command
from algorithms.commands.options.run_flags import read
from algorithms.workload.task import Task, prepare
from emulator.ledger.events import Posted, Received
from emulator.preflight.dilation import ProfilingResult
from emulator.preflight.dry_run import dry_run
from emulator.profiles.reading import load_scenario

GIB = 2**30
CLIENTS, BATCH = 5, 50
DATASET = "synthetic:3x32x32:10:1500"

# Bytes of a round, all clients, up and down; FSL-SAGE's also of an aligned one.
ALIGNMENT = 42_097_040
PRINTED = {
    "fedavg": [447_651_280],
    "splitfed-v1": [51_976_480],
    "splitfed-v2": [51_976_480],
    "cse-fsl": [115_690_560],
    "fsl-sage": [31_496_480 + ALIGNMENT, 31_496_480],
}
SETTINGS: dict[str, dict[str, object]] = {
    "cse-fsl": {"q": 5, "q_per_round": "true"},
    "fsl-sage": {"q": 5, "q_per_round": "true", "l": 10, "align_epochs": 1, "rounds": 2},
}


@pytest.fixture(scope="module")
def official(runs: Path) -> Played:
    """The five methods of the authors' code: a round of each, and one more of FSL-SAGE, which is not aligned.

    A dry run: that it has the bytes of a training is a law of its own.
    """
    scenario = write_scenario(runs / "official", [(CLIENTS, Board())], Wire(up_mbps=1000, down_mbps=1000))
    workload = "--model", "resnet18", "--dataset", DATASET, "--batch", BATCH, "--rounds", 1
    arguments = "--profile", scenario, "--algorithm", ",".join(PRINTED), *workload, "--dry-run", *options(SETTINGS)
    return finished(play(runs / "official-run", *arguments, program="run.py", within_s=2 * HANG_S))


@pytest.mark.parametrize("algorithm", PRINTED)
def test_the_bytes_of_a_round_are_those_that_the_authors_code_prints(algorithm: str, official: Played) -> None:
    posted = official.events(algorithm, Posted)
    rounds = PRINTED[algorithm]
    assert [sum(m.official_bytes for m in posted if m.round == round) for round in range(len(rounds))] == rounds
    assert not any(message.official_bytes for message in posted if message.round < 0)
    history = official.summary["algorithms"][algorithm]["history"]
    assert [row["official_bytes"] for row in history] == [sum(rounds[: i + 1]) for i in range(len(rounds))]


@pytest.mark.parametrize("algorithm", PRINTED)
def test_a_ledger_adds_up_to_its_summary(algorithm: str, official: Played) -> None:
    posted = official.events(algorithm, Posted)
    summary = official.summary["algorithms"][algorithm]
    assert summary["official_bytes"] == sum(message.official_bytes for message in posted) == sum(PRINTED[algorithm])
    received = {(message.source, message.counter): message for message in official.events(algorithm, Received)}
    assert received.keys() == {(message.node, message.counter) for message in posted}
    for message in posted:
        arrived = received[message.node, message.counter]
        assert arrived.payload_bytes == message.payload_bytes
        assert arrived.framed_bytes == message.framed_bytes
        assert arrived.wire_bytes == message.wire_bytes
        assert message.official_bytes <= message.payload_bytes < message.framed_bytes < message.wire_bytes
    for size in ("payload", "framed", "wire"):
        ways = {way: sum(getattr(m, f"{size}_bytes") for m in posted if way_of(m) == way) for way in ("up", "down")}
        assert summary["bytes"][size] == ways
        assert sum(row[size] for row in summary["by_kind"].values()) == sum(ways.values())
    labels = 8 * sum(1 for m in posted if m.kind == "smashed") * BATCH
    counted = sum(m.payload_bytes - m.official_bytes for m in posted if m.round >= 0)
    assert counted == labels  # all that the authors' code leaves out of a round's payload


def way_of(message: Posted) -> str:
    return "down" if message.node == "server" else "up"


# --- published figures ------------------------------------------------------------------------------------------------

# CIFAR-10: 50,000 images of 3x32x32 for 10 clients, 20 batches each of up to 256, every fifth uploaded.
K, N, B, Q, L = 10, 50_000, 256, 5, 10


def nbytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


@pytest.fixture(scope="module")
def sizes() -> dict[str, int]:
    """Bytes of client half, server half, auxiliary, and z of one sample."""
    task = Task(dataset=DATASET, model="resnet18", aux="stage")
    client = task.client_half().eval()
    z = client(next(iter(task.shard(0).batches(0)))[0][:1])
    return {"c": nbytes(client), "s": nbytes(task.server_half()), "a": nbytes(task.auxiliary()), "z": z.nbytes}


def test_the_sizes_of_resnet18_cut_after_layer2_are_those_of_the_authors_models(sizes: dict[str, int]) -> None:
    assert sizes == {"c": 2_740_048, "s": 42_025_080, "a": 8_419_408, "z": 8192}


def uploaded() -> int:
    """Samples of a client's uploads in a round."""
    batches = [min(B, N // K - start) for start in range(0, N // K, B)]
    return sum(batches[::Q])


def bytes_to(rounds: int, a_round: Callable[[dict[str, int]], int], sizes: dict[str, int], aligned: int = 0) -> int:
    return K * (rounds * a_round(sizes) + aligned * sizes["a"])


FIGURES: dict[str, tuple[float, int, Callable[[dict[str, int]], int]]] = {
    "fedavg": (70.04, 84, lambda b: 2 * (b["c"] + b["s"])),
    "splitfed-v1": (60.23, 74, lambda b: 2 * (N // K * b["z"] + b["c"])),
    "splitfed-v2": (109.07, 134, lambda b: 2 * (N // K * b["z"] + b["c"])),
    "cse-fsl": (26.02, 91, lambda b: uploaded() * b["z"] + 2 * (b["c"] + b["a"])),
    "fsl-sage": (12.20, 89, lambda b: uploaded() * b["z"] + 2 * b["c"]),
}


@pytest.mark.parametrize("algorithm", FIGURES)
def test_published_gib_to_81_percent_are_a_whole_number_of_rounds(algorithm: str, sizes: dict[str, int]) -> None:
    """Read off a figure to 0.01 GiB, of which a round has 13 to 83: one round more or less would not fit."""
    published, rounds, a_round = FIGURES[algorithm]

    def gib(count: int) -> float:
        aligned = -(-count // L) if algorithm == "fsl-sage" else 0
        return bytes_to(count, a_round, sizes, aligned) / GIB

    reading: Any = pytest.approx(published, abs=0.01)
    assert [gib(count) == reading for count in (rounds - 1, rounds, rounds + 1)] == [False, True, False]


# Bytes of a round of ten clients with 5,000 images each, q = 5, by the closed forms of the methods; FSL-SAGE's second
# round is not aligned.
FULL_SIZE: dict[str, tuple[tuple[str, ...], list[tuple[str, dict[str, Any], list[int]]]]] = {
    "resnet18": (
        ("--batch", "256"),
        [
            ("fedavg", {}, [895_302_560]),
            ("sl", {}, [874_000_960]),
            ("sl", {"relay": "peer"}, [846_600_480]),
            ("splitfed-v1", {}, [874_000_960]),
            ("splitfed-v1", {"server_averaging": "network"}, [1_714_502_560]),
            ("local-loss", {}, [632_789_120]),
            ("cse-fsl", {}, [307_075_200]),
            ("fsl-sage", {"rounds": 2}, [222_881_120, 138_687_040]),
        ],
    ),
    "simple_conv": (
        ("--batch", "128", "--model", "simple_conv", "--cut", "flatten", "--aux", "linear"),
        [
            ("fedavg", {}, [140_514_080]),
            ("splitfed-v2", {}, [1_646_986_240]),
            ("local-loss", {}, [831_063_840]),
            ("cse-fsl", {}, [179_636_000]),
            ("fsl-sage", {"rounds": 2}, [177_997_200, 176_358_400]),
        ],
    ),
}


@pytest.mark.parametrize("model", FULL_SIZE)
def test_a_dry_run_foresees_the_bytes_of_a_full_size_round(model: str, tmp_path: Path) -> None:
    """Of the shipped experiment, in this process."""
    flags, expected = FULL_SIZE[model]
    workload = "--augment", "none", "--dataset", "synthetic:3x32x32:10:50000", "--rounds", "1", *flags
    scenario = write_scenario(tmp_path / "ten", [(10, Board())])
    names = ",".join({name: None for name, _, _ in expected})
    argv = ["--profile", str(scenario), "--algorithm", names, "--experiment", "fsl-sage-cifar10", *workload]
    settings = command.planned(read(argv)[0], argv).settings
    task = msgspec.to_builtins(prepare(Task(**settings["fedavg"]["task"]), tmp_path))
    for name, own, rounds in expected:
        posted: list[Posted] = []
        dry_run(
            ALGORITHMS[name],
            {**settings[name], **own, "task": task},
            load_scenario(str(scenario)),
            1,
            ProfilingResult(),
            lambda _node, posted=posted: lambda event: posted.append(event) if isinstance(event, Posted) else None,
        )
        found = [sum(m.official_bytes for m in posted if m.round == round) for round in range(len(rounds))]
        assert found == rounds, (name, own)
