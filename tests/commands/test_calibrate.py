"""Rates of this machine and of boards: fits in closed form, profiles, and durations that come from CPU time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.commands import calibrate
from algorithms.commands.calibrate import MOST, Rates, Timed, fit
from benchmarks import boards
from emulator.compute.counting import Costs
from emulator.compute.device import Work, duration_ns
from emulator.errors import UserError
from emulator.host.device_profile import device_text
from emulator.profiles.reading import load_device
from emulator.profiles.scenario import Device

WORKS = (
    Work(100, 10**6, 0, 10**6),
    Work(300, 10**9, 10**7, 10**7),
    Work(50, 10**8, 10**8, 10**8),
    Work(1000, 10**7, 0, 10**9),
    Work(10, 0, 10**9, 10**6),
)


@given(st.floats(1e-7, 1e-4), st.floats(1e9, 1e12), st.floats(1e8, 1e11), st.floats(1e8, 1e11))
def test_rates_are_found_again_in_the_times_that_they_give(
    dispatch_s: float, dense: float, depthwise: float, memory: float
) -> None:
    given_rates = Rates(dispatch_s, dense, depthwise, memory)
    found = fit([Timed(work, given_rates.seconds(work)) for work in WORKS])
    assert tuple(found) == pytest.approx(tuple(given_rates), rel=1e-3)


def test_a_term_that_does_not_show_costs_nothing() -> None:
    found = fit([Timed(work, 1e-6 * work.operations + work.dense_flops / 1e10) for work in WORKS[:4]])
    assert found.dense == pytest.approx(1e10)
    assert found.dispatch_s == pytest.approx(1e-6)
    assert found.memory > 1e15 - 1 or found.memory == MOST


def test_the_profile_that_is_written_is_one_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    path.write_text(device_text(70.8123, 2.2, 12.06, 14.83))
    device = load_device(str(path))
    assert (device.dense_flops, device.depthwise_flops) == (70_810_000_000, 2_200_000_000)
    assert (device.memory_rate_bytes, device.dispatch_ns) == (12_060_000_000, 14_830)
    assert device.memory_bytes > device.runtime_bytes > 0


@pytest.mark.parametrize("dispatch_us", [0.5124, 0.0004, 0.0, 12.3456, 999.99999])
def test_a_dispatch_of_less_than_a_microsecond_is_written_in_whole_ns(tmp_path: Path, dispatch_us: float) -> None:
    path = tmp_path / "host.toml"
    path.write_text(device_text(70.8123, 2.2, 12.06, dispatch_us))
    assert load_device(str(path)).dispatch_ns == pytest.approx(dispatch_us * 1000, abs=5 if dispatch_us > 10 else 0.5)


def test_calibration_times_real_steps_and_writes_a_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = (calibrate.Case("cnn", 4, 8), calibrate.Case("elementwise", 4, 8))
    monkeypatch.setattr(calibrate, "CASES", cases)
    monkeypatch.setattr(calibrate.measure, "__defaults__", (cases, *calibrate.measure.__defaults__[1:]))
    path = tmp_path / "host.toml"
    assert calibrate.command(["--quick", "--out", str(path)]) == 0
    load_device(str(path))
    assert str(path) in capsys.readouterr().out
    with pytest.raises(UserError, match="name a new file"):
        calibrate.command(["--out", str(path)])


# --- durations from CPU time ------------------------------------------------------------------------------------------

HOST = Device("host", 2**30, 0, 0, 8 * 10**9, 4 * 10**8, 16 * 10**9, 750, 2**20)
BOARD = Device("board", 2**30, 0, 0, 2 * 10**9, 10**8, 4 * 10**9, 3000, 2**20)  # four times as slow in all terms


@pytest.mark.parametrize("work", WORKS)
def test_a_measured_computation_takes_its_cpu_time_times_the_ratio_of_speeds(work: Work) -> None:
    costs = Costs({"step": work, "other": work}, {"step": 10**7}, HOST)
    assert costs.duration_ns("step", HOST) == 10**7
    assert costs.duration_ns("step", BOARD) == pytest.approx(4 * 10**7, rel=1e-4)
    assert costs.duration_ns("other", BOARD) == duration_ns(work, BOARD)  # not measured: counted


def test_without_a_host_durations_are_counted_whatever_was_measured() -> None:
    assert Costs({"step": WORKS[0]}, {"step": 1}, None).duration_ns("step", BOARD) == duration_ns(WORKS[0], BOARD)


# --- boards -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counted() -> dict[str, Work]:
    return boards.works()


@pytest.mark.parametrize("board", boards.BOARDS)
def test_a_boards_rates_are_those_fitted_to_published_times_of_two_models(board: str, counted: dict[str, Work]) -> None:
    dense, depthwise = boards.fitted(board, counted)
    device = load_device(board)
    assert device.dense_flops == pytest.approx(dense, rel=0.005)
    assert device.depthwise_flops == pytest.approx(depthwise, rel=0.01)


@pytest.mark.parametrize("board", boards.BOARDS)
def test_the_other_models_are_predicted_within_the_range_that_is_stated(board: str, counted: dict[str, Work]) -> None:
    device = load_device(board)
    offs = {model: boards.beyond(device, model, counted) for model in boards.MODELS}
    assert all(abs(offs[model]) < 0.01 for model in boards.FITTED)
    assert min(offs.values()) > boards.LEAST
    assert max(offs.values()) < boards.MOST


def test_a_mobilenets_backward_is_twice_its_forward(counted: dict[str, Work]) -> None:
    """All of it three times the forward, but for the first convolution, whose input asks for no gradient."""
    import torch
    import torchvision

    from emulator.compute.counting import WorkCounter
    from emulator.compute.imagined import Imagined

    with torch.device("meta"):
        model = torchvision.models.mobilenet_v2()
    with Imagined(), torch.no_grad(), WorkCounter() as counter:
        model.to_empty(device="cpu")(torch.empty(boards.BATCH, 3, boards.SIDE, boards.SIDE))
    forward = counter.work
    first = 2 * boards.BATCH * 32 * 112 * 112 * 3 * 9
    step = counted["mobilenetv2"]
    assert step.depthwise_flops == 3 * forward.depthwise_flops > 0
    assert step.dense_flops == 3 * forward.dense_flops - first
