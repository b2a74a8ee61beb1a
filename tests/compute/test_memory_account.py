"""What a client's memory is made of: an account of tensors beside closed forms, and outcomes of both kinds of cap."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import ROOT, Board, write_scenario

from algorithms.training import steps, zeroth_order
from algorithms.training.settings import OptimizerSpec
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task
from benchmarks import closed_form
from benchmarks.closed_form import BATCHES, FORMS
from emulator.analysis import model_memory
from emulator.analysis.summary import read_summary
from emulator.compute.tensor_account import MESSAGES, RECEIVED, TEMPORARIES, Peak, TensorAccount, mark, owned_by
from emulator.ledger.events import MEMORY_KINDS
from emulator.preflight.memory_estimate import needed_bytes
from emulator.tables import memory as memory_sheets

TASK = Task(model="resnet18", dataset="synthetic:3x32x32:10:100")
ADAM = OptimizerSpec("adam", 1e-3)
MIB = 2**20


def peak_of(method: str, batch: int, device: str = "meta") -> Peak:
    """The second step of a client's training, with its batch and its messages, without a link."""
    whole = method == "fedavg"
    halves = [(TASK.full_model() if whole else TASK.client_half()).to(device), TASK.auxiliary().to(device)]
    with TensorAccount(meta=device == "meta") as account, owned_by("client", TEMPORARIES):
        client = steps.Part(halves[0], ADAM, objective=Classification())
        if method in ("cse-fsl", "fsl-sage"):
            aux = steps.Part(
                halves[1], ADAM if method == "cse-fsl" else None, auxiliary=True, objective=Classification()
            )
        for _ in range(2):
            with owned_by("client"):
                x, y = torch.rand(batch, 3, 32, 32, device=device), torch.zeros(batch, dtype=torch.int64, device=device)
            if whole:
                steps.train_step(client, x, y)
                continue
            z = steps.forward(client, x)
            message = torch.empty_like(z, requires_grad=False)
            mark([message], RECEIVED if method == "sl" else MESSAGES)
            if method == "sl":
                steps.backward(client, z, message)
            else:
                (steps.local_step if method == "cse-fsl" else steps.estimated_step)(client, aux, z, y)
            del z, message
        return account.peaks["client"]


@pytest.fixture(scope="module")
def peaks() -> dict[tuple[str, int], Peak]:
    return {
        (method, batch): peak_of(method, batch)
        for method in ("sl", "fsl-sage", "cse-fsl", "fedavg")
        for batch in BATCHES
    }


def test_the_closed_forms_use_the_models_own_sizes() -> None:
    parts = {"CLIENT": TASK.client_half(), "AUXILIARY": TASK.auxiliary(), "SERVER": TASK.server_half()}
    for name, module in parts.items():
        assert getattr(closed_form, f"{name}_WEIGHTS") == sum(p.numel() for p in module.parameters())
        buffers = sum(buffer.nbytes for buffer in module.buffers()) // closed_form.FLOAT
        assert getattr(closed_form, f"{name}_BUFFERS") == buffers


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("method", ["sl", "fsl-sage", "cse-fsl", "fedavg"])
def test_the_account_agrees_with_a_closed_form(method: str, batch: int, peaks: dict[tuple[str, int], Peak]) -> None:
    assert peaks[method, batch].total_bytes == pytest.approx(FORMS[method](batch), rel=0.05)


@pytest.mark.parametrize("batch", BATCHES)
def test_who_keeps_more_at_a_client_needs_more(batch: int, peaks: dict[tuple[str, int], Peak]) -> None:
    sizes = [peaks[method, batch].total_bytes for method in ("sl", "fsl-sage", "cse-fsl", "fedavg")]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("batch", [64, 128])
def test_training_without_backward_passes_needs_less_than_split_learning(batch: int, peaks: Any) -> None:
    client = steps.Part(TASK.client_half(), OptimizerSpec("sgd", 1e-2), objective=Classification())
    aux = steps.Part(TASK.auxiliary(), OptimizerSpec("sgd", 1e-2), auxiliary=True, objective=Classification())
    x, y = torch.rand(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.int64)
    with TensorAccount() as account, owned_by("client"):
        mark((*client.module.parameters(), *aux.module.parameters(), x), "parameters")
        zeroth_order.replayed_step(client, aux, x, y, torch.Generator().manual_seed(1), 2, 1e-3, 1e-2)
    assert account.peaks["client"].total_bytes < peaks["sl", batch].total_bytes


@pytest.mark.parametrize("method", ["sl", "fedavg"])
def test_the_shipped_figures_of_the_papers_model_are_what_the_account_says_today(
    method: str, peaks: dict[tuple[str, int], Peak]
) -> None:
    need = model_memory.computed().methods[method]
    assert need.tensors_bytes == pytest.approx(peaks[method, 256].total_bytes, rel=0.002)
    assert need.needed_bytes == pytest.approx(needed_bytes(need.tensors_bytes), abs=2)


def test_tensors_without_memory_are_accounted_for_as_those_with_it(peaks: dict[tuple[str, int], Peak]) -> None:
    real, meta = peak_of("sl", 32, "cpu"), peaks["sl", 32]
    assert real.total_bytes == pytest.approx(meta.total_bytes, rel=0.001)  # Adam's step counters
    assert {kind: real.by_kind[kind] for kind in MEMORY_KINDS} == pytest.approx(meta.by_kind, rel=0.001)


@pytest.mark.parametrize("method", ["sl", "fsl-sage", "cse-fsl", "fedavg"])
def test_categories_sum_to_the_peak_and_have_the_sizes_of_what_they_name(
    method: str, peaks: dict[tuple[str, int], Peak]
) -> None:
    peak, batch = peaks[method, 256], 256
    assert sum(peak.by_kind.values()) == peak.total_bytes
    whole = method == "fedavg"
    weights = closed_form.CLIENT_WEIGHTS + whole * closed_form.SERVER_WEIGHTS
    buffers = closed_form.CLIENT_BUFFERS + whole * closed_form.SERVER_BUFFERS
    assert peak.by_kind["parameters"] == 4 * (weights + buffers)
    assert peak.by_kind["optimizer"] == pytest.approx(2 * 4 * weights, rel=1e-4)  # and a step counter each
    assert peak.by_kind["batch"] == batch * (4 * closed_form.IMAGE + 8)
    sent = 0 if whole else 4 * batch * closed_form.CUT
    assert peak.by_kind["messages"] + peak.by_kind["received"] == sent
    trained = {"cse-fsl": 4, "fsl-sage": 1}.get(method, 0)
    assert (
        peak.by_kind["auxiliary"] <= 4 * (trained * closed_form.AUXILIARY_WEIGHTS + closed_form.AUXILIARY_BUFFERS) + 400
    )
    saved = closed_form.CLIENT + (method == "fsl-sage") * closed_form.AUXILIARY
    assert peak.by_kind["activations"] == pytest.approx(4 * batch * saved, rel=0.04)  # of the others, most are gone


def test_a_graph_that_is_dropped_gives_everything_back_at_once() -> None:
    """The hooks that see what autograd saves must not keep it alive in a circle."""
    weight = torch.ones(16, 16, requires_grad=True)
    with TensorAccount() as account, owned_by("net"):
        y = torch.relu(torch.tanh(torch.ones(8, 16) @ weight).exp())
        assert account.live["net"] > y.nbytes
        del y
        assert account.live["net"] == 0


def test_what_a_tensor_is_for_may_be_said_later_and_the_peak_knows() -> None:
    with TensorAccount() as account, owned_by("me", TEMPORARIES):
        early = torch.zeros(1000)
        torch.zeros(500)
        late = torch.zeros(100)
        mark([early, late], "gradients")
        peak = account.peaks["me"]
    assert peak.total_bytes == 4 * 1500
    assert peak.by_kind["gradients"] == 4 * 1000  # ``late`` came after the peak
    assert peak.by_kind[TEMPORARIES] == 4 * 500


# --- caps -------------------------------------------------------------------------------------------------------------


def play(folder: Path, budget_mib: int, *flags: str) -> tuple[int, dict[str, Any]]:
    """FedAvg on one client with larger images: exit status and the algorithm's summary."""
    folder.mkdir()
    scenario = write_scenario(folder, [(1, Board(budget_mib))])
    what = ["--dataset", "synthetic:3x48x48:10:128", "--batch", "64", "--rounds", "1", "--algorithm", "fedavg"]
    command = [sys.executable, "run.py", "--profile", str(scenario), *what, "--no-dashboard", *flags]
    clock = [] if "--dry-run" in flags else ["--clock", "virtual"]
    done = subprocess.run([*command, *clock, "--out", str(folder / "run")], cwd=ROOT, capture_output=True, check=False)
    return done.returncode, read_summary(folder / "run" / "summary.json").algorithms["fedavg"]


def test_a_cap_above_the_peak_lets_a_training_pass_one_below_stops_it_and_one_that_only_counts_lets_it_go_on(
    tmp_path: Path,
) -> None:
    status, roomy = play(tmp_path / "roomy", 1024)
    (client,) = roomy.clients
    peak_mib = client.peak_mib
    assert (status, client.outcome, client.needed_mib) == (0, "fits", peak_mib)
    assert client.tensors_mib <= peak_mib <= client.tensors_mib * 1.10 + 8
    assert client.beside_mib == pytest.approx(peak_mib - client.tensors_mib)

    status, passing = play(tmp_path / "passing", math.ceil(peak_mib * 1.12) + 4)
    assert (status, passing.outcome, passing.clients[0].outcome) == (0, "finished", "fits")
    assert passing.clients[0].peak_mib == pytest.approx(peak_mib, rel=0.02)

    tight_mib = int(peak_mib * 0.95)
    status, stopped = play(tmp_path / "stopped", tight_mib)
    assert (status, stopped.outcome) == (0, "does-not-fit")
    unfit = stopped.does_not_fit
    assert (unfit.client, unfit.outcome) == ("client-0", "does-not-fit")
    assert unfit.phase
    assert unfit.budget_mib == tight_mib
    assert unfit.needed_mib >= unfit.budget_mib
    assert memory_sheets.by_device({"fedavg": stopped}).texts()[0][-1] == "0 of 1"

    status, counted = play(tmp_path / "counted", tight_mib, "--memory-cap", "account")
    assert (status, counted.outcome, counted.rounds) == (0, "would-not-fit", 1)
    assert counted.does_not_fit.outcome == "would-not-fit"
    assert counted.clients[0].needed_mib == pytest.approx(peak_mib, rel=0.02)
    assert memory_sheets.by_device({"fedavg": counted}).texts()[0][-1] == "would not (1)"

    status, foreseen = play(tmp_path / "foreseen", tight_mib // 2, "--dry-run")
    assert (status, foreseen.outcome) == (0, "would-not-fit")
    assert foreseen.clients[0].account_mib == client.account_mib
