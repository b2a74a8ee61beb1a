"""``run.py energy``: a record made before profiles had power, with profiles named besides."""

from __future__ import annotations

import pytest
from runs import write_run
from toy import make_timeline

from algorithms.commands.records.energy import command
from emulator.errors import UserError


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """A run's folder without any device's or network's numbers."""
    folder = tmp_path_factory.mktemp("energy") / "run"
    write_run(folder, {"fedavg": make_timeline()})
    return folder


def test_an_older_record_gets_its_joules_by_files_named_besides(older, capsys):
    assert command([str(older), "--device-power", "pi-zero-2w", "--network-power", "iot-4g"]) == 0
    out = capsys.readouterr().out
    assert "Power of devices from files named here: pi-zero-2w" in out
    assert "Energy by device" in out


def test_without_them_it_says_what_is_missing(older, capsys):
    assert command([str(older)]) == 1
    out = capsys.readouterr().out
    assert "No joules for 2 clients: device pi-zero-2w has no idle_w and busy_w; name a profile" in out
    assert "network iot-4g has no tx_w" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--device-power", "pi-4b"], "--device-power pi-4b: no client of this run has it; they have pi-zero-2w"),
        (["--device-power", "pi-zero"], "no such device"),
        (["--network-power", "starlink"], "--network-power starlink: no client of this run has it; they have iot-4g"),
    ],
)
def test_a_file_that_no_client_goes_by_is_refused(older, argv, said):
    with pytest.raises(UserError, match=said):
        command([str(older), *argv])
