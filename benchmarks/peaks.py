"""Client memory two ways: ResNet-18 cut after layer2, four batch sizes, measured peak beside account and closed form.

Every method trains one client for a round of three steps on the virtual clock, twice. The measured peak should lie
between the account and the account + 10 % + 8 MiB, and repeat within 2 %; the account within 5 % of the closed form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.closed_form import BATCHES, FORMS
from benchmarks.report import Section, Target
from benchmarks.scenes import scenario_text
from benchmarks.stage import Stage
from benchmarks.virtual import play_virtual
from emulator.analysis.summary import ClientSummary

METHODS = {name: name for name in ("fedavg", "sl", "splitfed-v1", "splitfed-v2", "local-loss", "cse-fsl", "fsl-sage")}
METHODS |= {"heron-sfl": "heron-sfl", "heron-sfl, replay": "heron-sfl"}
ORDER = ("sl", "fsl-sage", "cse-fsl", "fedavg")  # by peak, at every batch
STEPS = 3
SCENARIO = scenario_text(1, "pi-5", "ethernet-100m")  # a board with memory for a whole ResNet-18
CAPPED = ("sl", "fsl-sage", "cse-fsl", "fedavg")
CAPPED_BATCH = 64


def run(stage: Stage, quick: bool) -> Section:
    """Each method at each batch, then a cap above and one below the peak."""
    rows = [["method", "batch", "closed form", "account", "peak", "again", "beside %", "peak - account"]]
    figures: dict[str, Any] = {}
    off_form = off_repeat = 0.0
    inside = ordered = below = 0
    batches = BATCHES[2:] if quick else BATCHES
    folder = stage.new_folder("peaks")
    (folder / "scenario.toml").write_text(SCENARIO)
    for batch in batches:
        peaks: dict[str, float] = {}
        for label, method in METHODS.items():
            more = ["--set", "update=replay"] if label != method else []
            first, again = (_client(folder / f"{label}-{batch}-{k}", method, batch, more) for k in (1, 2))
            account, peak, repeated = first.tensors_mib, first.peak_mib, again.peak_mib
            assert account is not None and peak is not None and repeated is not None
            form = FORMS[method](batch) / 2**20 if method in FORMS else None
            peaks[label] = peak
            off_repeat = max(off_repeat, abs(repeated / peak - 1))
            off_form = max(off_form, abs(account / form - 1) if form else 0.0)
            inside += account <= peak <= account * 1.10 + 8
            figures[f"{label}/{batch}"] = {"account_mib": account, "peak_mib": peak, "closed_form_mib": form}
            cells = [f"{value:.1f}" if value else "-" for value in (form, account, peak, repeated)]
            rows.append([label, str(batch), *cells, f"{100 * (peak / account - 1):.1f}", f"{peak - account:.1f}"])
        ordered += sorted(ORDER, key=lambda method: peaks[method]) == list(ORDER)
        below += batch > 32 and min(peaks["heron-sfl"], peaks["heron-sfl, replay"]) < peaks["sl"]
    caps = _caps(folder, figures, quick)
    runs = len(METHODS) * len(batches)
    targets = [
        Target("account off its closed form", 100 * off_form, "%", 5, False),
        Target("peak off when repeated", 100 * off_repeat, "%", 2, False),
        Target("peaks between account and account + 10 % + 8 MiB", inside, f"of {runs}", runs, True),
        Target("batches at which SL < FSL-SAGE < CSE-FSL < FedAvg", ordered, "", len(batches), True),
        Target("batches above 32 at which HERON-SFL is below SL", below, "", sum(b > 32 for b in batches), True),
        Target("caps of 1.12 x peak + 4 MiB that let it pass, of 0.95 x that stop it", caps[0], "", caps[1], True),
    ]
    return Section("peaks", "MiB of a client: ResNet-18 cut after layer2", rows, figures, targets, [])


def _client(folder: Path, method: str, batch: int, more: list[str], scenario: str = "") -> ClientSummary:
    """The one client's entry in the summary."""
    where = scenario or str(folder.parent / "scenario.toml")
    data = ["--model", "resnet18", "--cut", "layer2", "--dataset", f"synthetic:3x32x32:10:{STEPS * batch}"]
    if method == "fsl-sage":
        more = [*more, "--set", "align_epochs=1"]  # the server's; a client gets one auxiliary whatever it took
    flags = ["--profile", where, *data, "--batch", str(batch), "--rounds", "1", "--algorithm", method, *more]
    return play_virtual(folder, flags).summary.algorithms[method].clients[0]


def _caps(folder: Path, figures: dict[str, Any], quick: bool) -> tuple[int, int]:
    """How many caps did what they should, of how many."""
    right = total = 0
    for method in CAPPED[: 1 if quick else None]:
        peak = figures[f"{method}/{CAPPED_BATCH}"]["peak_mib"]
        for budget, outcome in ((peak * 1.12 + 4, "fits"), (peak * 0.95, "does-not-fit")):
            board = folder / f"cap-{method}-{outcome}"
            board.mkdir()
            rates = "dense_gflops = 30\ndepthwise_gflops = 1\nmemory_gbps = 8\ndispatch_us = 20\nsend_queue_mib = 64\n"
            memory = f"memory_mib = {int(budget)}\nos_reserved_mib = 0\nruntime_mib = 0\n"
            (board / "board.toml").write_text(f'kind = "device"\ndescription = "capped"\n{memory}{rates}')
            (board / "scenario.toml").write_text(SCENARIO.replace('"pi-5"', '"board.toml"'))
            client = _client(board / "run", method, CAPPED_BATCH, [], str(board / "scenario.toml"))
            right += client.outcome == outcome
            total += 1
            figures[f"cap/{method}/{outcome}"] = {"budget_mib": int(budget), "found": client.outcome}
    return right, total
