"""Power numbers of profiles: what is read, and what is refused in one line."""

from __future__ import annotations

import re

import pytest

from emulator.errors import UserError
from emulator.inputs.shipped import ROOT
from emulator.profiles.power import Graded
from emulator.profiles.reading import load_device, load_network

DEVICE = (ROOT / "devices" / "edge-server.toml").read_text()  # no client: it has no power
NETWORK = (ROOT / "networks" / "ble-2m.toml").read_text()
STATES = "tx_w = 1\nrx_w = 0.5\nconnected_w = 0.2\ntail_s = 10\nsleep_w = 0.01\n"


def written(folder, kind, text):
    path = folder / "own.toml"
    path.write_text({"device": DEVICE, "network": NETWORK}[kind] + text)
    return load_device(str(path)) if kind == "device" else load_network(str(path))


def test_power_is_read_in_nanowatts_with_its_grade(tmp_path):
    radio = written(tmp_path, "network", STATES.replace("tx_w = 1\n", 'tx_w = { value = 1.5, grade = "B" }\n')).radio
    assert radio.tx == Graded(1_500_000_000, "B")
    assert radio.tail == Graded(10 * 10**9)
    board = written(tmp_path, "device", "idle_w = 0.6\nbusy_w = 2.1\nbattery_wh = 18.5\n").power
    assert board.busy.value == 2_100_000_000
    assert board.battery.value == 66_600 * 10**6  # µJ


def test_a_profile_without_power_has_none(tmp_path):
    assert written(tmp_path, "network", "").radio is None
    assert written(tmp_path, "device", "").power is None


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("device", "idle_w = -0.6\nbusy_w = 2\n", "idle_w: must be above 0, not -0.6"),
        (
            "device",
            "idle_w = 600\nbusy_w = 2100\n",
            "busy_w: must be at most 2000 W, not 2100; a device's power is in W",
        ),
        ("device", "idle_w = 0.6\n", "busy_w: missing; write busy_w = NUMBER: power takes it with idle_w"),
        ("device", "idle_w = 3\nbusy_w = 2\n", "busy_w: must be at least idle_w, 3 W, not 2"),
        (
            "device",
            "idle_w = 1\nbusy_w = 2\nsupply_efficiency = 1.2\n",
            "supply_efficiency: must be at most 1, not 1.2",
        ),
        ("device", "idle_w = 1\nbusy_w = 2\nsleeps_while_waiting = true\n", "suspended_w: missing"),
        ("device", "idle_w = 1\nbusy_w = 2\nsuspended_w = 0.1\n", "suspended_w: has no effect while"),
        (
            "network",
            STATES.replace("tx_w = 1\n", "tx_w = 500\n"),
            "tx_w: must be at most 20 W, not 500; a radio's power",
        ),
        ("network", "tail_s = 10\n", "connected_w: missing; write connected_w = NUMBER: power takes it with tail_s"),
        ("network", STATES.replace("tx_w = 1\n", "tx_w = 0.1\n"), "tx_w: must be at least connected_w, 0.2 W, not 0.1"),
        ("network", STATES + "base_w = 1\n", "tx_w: base_w is of a linear model"),
        ("network", STATES + "drx_w = 0.1\n", "drx_s: missing"),
        ("network", STATES + "promotion_ms = 100\n", "promotion_w: missing"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, kind, text, said):
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        written(tmp_path, kind, text)
    assert "own.toml" in str(refused.value)
    assert "\n" not in str(refused.value)
