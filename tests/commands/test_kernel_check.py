"""The pure parts of the check against the kernel: its closed form, its commands, its wire, its fit. No root needed."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import kernel_check, namespaces
from benchmarks.calibration import FREE, Rates, Timed, fit
from benchmarks.kernel_check import SEGMENT_BYTES, SEGMENT_DATA_BYTES, Sent, expected_s
from benchmarks.plain_training import SCENARIO, Outcome, device_text, network_text, parts_s, sums_s
from benchmarks.plain_wire import Span, encode, read_letter
from emulator.compute.device import Work, duration_ns
from emulator.profiles.reading import load_scenario

SIZES = st.integers(1, 5_000_000)
RATES = st.integers(60_000, 10**9)
RTTS = st.floats(0, 0.5)
FAST_BPS = 10**15


def wire_bytes(size_bytes: int) -> int:
    return size_bytes + -(-size_bytes // SEGMENT_DATA_BYTES) * 52


@given(SIZES, RATES, st.booleans())
def test_without_delay_a_message_takes_its_bytes_over_the_rate(size_bytes: int, rate_bps: int, warm: bool) -> None:
    assert expected_s(size_bytes, rate_bps, 0.0, warm) == pytest.approx(8 * wire_bytes(size_bytes) / rate_bps, abs=3e-9)


@pytest.mark.parametrize(
    ("segments", "warm", "round_trips"),
    [(10, False, 1.5), (11, False, 2.5), (30, False, 2.5), (31, False, 3.5), (10, True, 0.5), (30, True, 0.5)],
)
def test_on_a_fast_link_only_round_trips_count(segments: int, warm: bool, round_trips: float) -> None:
    due_s = expected_s(segments * SEGMENT_DATA_BYTES, FAST_BPS, 0.1, warm)
    assert due_s == pytest.approx(0.1 * round_trips, abs=1e-6)


@given(SIZES, RATES, RTTS, st.booleans())
def test_no_message_is_faster_than_its_bytes_and_half_a_round_trip(
    size_bytes: int, rate_bps: int, rtt_s: float, warm: bool
) -> None:
    least_s = 8 * wire_bytes(size_bytes) / rate_bps + rtt_s * (0.5 if warm else 1.5)
    assert expected_s(size_bytes, rate_bps, rtt_s, warm) >= least_s - 3e-9


@given(SIZES, SIZES, RATES, RTTS)
def test_a_larger_message_on_a_fresh_connection_is_never_faster(
    one: int, other: int, rate_bps: int, rtt_s: float
) -> None:
    small_s, large_s = (expected_s(size, rate_bps, rtt_s, False) for size in sorted((one, other)))
    assert small_s <= large_s * (1 + 1e-9)


@given(SIZES, RATES, RTTS)
def test_a_warm_connection_saves_the_round_trip_of_its_set_up(size_bytes: int, rate_bps: int, rtt_s: float) -> None:
    fresh_s, warm_s = (expected_s(size_bytes, rate_bps, rtt_s, warm) for warm in (False, True))
    assert fresh_s - warm_s >= rtt_s * (1 - 1e-9) - 1e-9


@pytest.mark.parametrize(
    ("due_s", "measured_s", "close"),
    [(1.0, 1.049, True), (1.0, 1.051, False), (0.01, 0.0149, True), (0.01, 0.0049, False)],
)
def test_close_is_within_5_percent_or_5_ms(due_s: float, measured_s: float, close: bool) -> None:
    assert Sent(10**6, 0.0, 1000, False, due_s, measured_s).close == close


@given(RATES)
def test_a_bucket_holds_two_packets_and_lasts_2_ms(rate_bps: int) -> None:
    burst = namespaces.burst_bytes(rate_bps)
    assert burst >= 2 * SEGMENT_BYTES
    assert burst == 2 * SEGMENT_BYTES or abs(8 * burst / rate_bps - 0.002) < 8 / rate_bps


def test_tbf_shapes_ip_packets_and_never_drops() -> None:
    words = namespaces.tbf_command("ns", "v0", 2_000_000, 14)
    assert words[:8] == ["tc", "-n", "ns", "qdisc", "add", "dev", "v0", "root"]
    assert words[words.index("overhead") + 1] == "-14"
    assert words[words.index("rate") + 1] == "2000000bit"
    assert int(words[words.index("limit") + 1]) > wire_bytes(max(kernel_check.SIZES_BYTES))
    assert "stab" not in namespaces.tbf_command("ns", "v0", 2_000_000, 0)


def test_every_command_names_its_namespace() -> None:
    for command in namespaces.up_commands("ns", "v0", "10.0.0.1/24"):
        assert command[:3] == ["ip", "-n", "ns"]


def test_without_root_it_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert kernel_check.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "root" in printed.err


@given(st.lists(st.integers(1, 4), max_size=3), st.integers(0, 9))
def test_a_letter_arrives_as_it_was_sent(shape: list[int], step: int) -> None:
    sent = {"z": torch.rand(shape), "y": torch.arange(5)}
    data = bytearray(encode("smashed", 1.5, sent, step=step))

    def read(size: int) -> bytearray:
        taken = data[:size]
        del data[:size]
        return taken

    letter = read_letter("client-1", read)
    assert not data
    assert (letter.sender, letter.kind, letter.fields) == ("client-1", "smashed", {"sent_s": 1.5, "step": step})
    assert letter.tensors.keys() == sent.keys()
    assert all(torch.equal(letter.tensors[name], tensor) for name, tensor in sent.items())


WORKS = [Work(10, 10**7, 0, 10**5), Work(200, 10**6, 0, 10**7), Work(5, 10**8, 0, 10**6), Work(40, 0, 0, 10**6)]


def timed(rates: Rates) -> list[Timed]:
    flops, moved = rates.dense_gflops * 1e9, rates.memory_gbps * 1e9
    each_s = [w.operations * rates.dispatch_us * 1e-6 + w.dense_flops / flops + w.moved_bytes / moved for w in WORKS]
    return [Timed("step", work, seconds) for work, seconds in zip(WORKS, each_s, strict=True)]


@given(st.floats(1, 500), st.floats(0.1, 50), st.floats(0.05, 10))
def test_the_fit_finds_the_rates_that_made_the_times(dispatch_us: float, gflops: float, gbps: float) -> None:
    rates = Rates(dispatch_us, gflops, gbps)
    assert fit(timed(rates)) == pytest.approx(rates, rel=1e-3)


def test_a_term_that_does_not_show_is_free_and_none_is_negative() -> None:
    found = [Timed("step", work, work.operations * 50e-6) for work in WORKS]
    assert fit(found) == pytest.approx(Rates(50.0, FREE, FREE))
    falling = [Timed("a", Work(1, 10**9, 0, 10**9), 0.1), Timed("b", Work(1, 10**9, 0, 2 * 10**9), 0.05)]
    assert min(fit(falling)) >= 0


def test_profiles_made_for_a_training_are_what_was_fitted(tmp_path) -> None:
    rates = Rates(63.5, 4.25, 1.5)
    texts = {
        "scenario": SCENARIO,
        "link": network_text(2_000_000, 5_000_000),
        "open": network_text(10**12, 10**12),
        "client": device_text(rates),
        "server": device_text(Rates(0.0, FREE, FREE)),
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text)
    scenario = load_scenario(str(tmp_path / "scenario.toml"), None)
    client = scenario.clients[0]
    assert (client.network.up.rate_bps, client.network.down.rate_bps) == (2_000_000, 5_000_000)
    assert client.network.up.one_way_ns == 0
    assert duration_ns(Work(2, 8_500_000, 0, 3000), client.device) == 127_000 + 2_000_000 + 2000


def test_a_clients_parts_are_its_rounds_and_a_transfer_beside_a_computation_counts_once() -> None:
    spans = [
        Span("client-0", "compute", "forward", 0.0, 2.0),
        Span("client-0", "up", "smashed", 1.0, 5.0),
        Span("client-0", "down", "gradient", 7.0, 8.0),
        Span("server", "compute", "cut_step", 5.0, 7.0),
    ]
    outcome = Outcome([6.0, 4.0], spans)
    assert parts_s(outcome) == pytest.approx({"compute": 2.0, "transfer": 4.0, "waiting": 4.0})
    assert sums_s(outcome)["server", "cut_step"] == (1, 2.0)
