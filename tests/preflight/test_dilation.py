"""How much the real clock is slowed, in closed form; and profiling, which the choice rests on."""

from __future__ import annotations

import pytest

from algorithms import ALGORITHMS
from emulator.compute.device import duration_ns
from emulator.preflight.dilation import CORE_SHARE, SLACK_NS, ProfilingResult, Span, choose_dilation
from emulator.preflight.profiling import profile_costs
from emulator.profiles.reading import load_scenario
from emulator.testing.stage import MS, SECOND


def span(span_ns: int, host_ns: int, function: str = "step") -> Span:
    return Span("board", function, span_ns, host_ns, times=10)


def profiled(
    *spans: Span, server_host_ns: int = 0, client_host_ns: int = 0, elapsed_ns: int = SECOND
) -> ProfilingResult:
    return ProfilingResult({}, list(spans), elapsed_ns, server_host_ns, {"board": client_host_ns}, {"board": 1})


def dilation(found: ProfilingResult, clients: int = 1, cores: int = 2) -> int:
    return choose_dilation(found, {"board": clients}, cores).dilation


@pytest.mark.parametrize(
    ("host_ns", "expected"),
    [
        (0, 1),
        (10 * MS, 1),
        (10 * MS + SLACK_NS, 1),
        (10 * MS + SLACK_NS + 1, 2),
        (20 * MS + SLACK_NS, 2),
        (25 * MS, 3),
        (101 * MS, 10),
    ],
)
def test_every_span_of_10_ms_ends_in_time(host_ns: int, expected: int) -> None:
    assert dilation(profiled(span(10 * MS, host_ns))) == expected


def test_the_tightest_span_decides_and_is_named() -> None:
    tight = span(10 * MS, 40 * MS, "tight")
    choice = choose_dilation(profiled(span(MS, MS), tight, span(SECOND, SECOND)), {"board": 1}, 2)
    assert (choice.dilation, choice.tightest) == (4, tight)
    assert "tight on board, takes 40.00 ms of this host for 10.00 ms emulated" in choice.explain(2)
    assert choice.explain(2).endswith("the tightest computation decides")


@pytest.mark.parametrize(("clients", "expected"), [(1, 1), (15, 1), (16, 2), (30, 2), (31, 3), (160, 11)])
def test_all_nodes_together_ask_for_at_most_their_share_of_the_cores(clients: int, expected: int) -> None:
    """A client asks for 0.1 core and the server, for each client, for 0.005: 105 ms a client of 1600 ms a second."""
    found = profiled(client_host_ns=100 * MS, server_host_ns=5 * MS)
    assert CORE_SHARE * 2 == 1.6
    choice = choose_dilation(found, {"board": clients}, 2)
    assert choice.cores_asked == pytest.approx(0.105 * clients)
    assert choice.dilation == expected


def test_more_cores_and_a_longer_timeline_need_less() -> None:
    found = profiled(client_host_ns=SECOND)
    assert [dilation(found, clients=16, cores=cores) for cores in (1, 2, 4, 20)] == [20, 10, 5, 1]
    assert dilation(profiled(client_host_ns=SECOND, elapsed_ns=5 * SECOND), clients=16) == 2


def test_each_kind_of_device_counts_by_its_number() -> None:
    found = ProfilingResult({}, [], SECOND, 30 * MS, {"slow": 10 * MS, "fast": 100 * MS}, {"slow": 1, "fast": 1})
    # The server served two clients in profiling and serves ten: 150 ms. The clients: 8 x 10 + 2 x 100 ms.
    assert choose_dilation(found, {"slow": 8, "fast": 2}, 2).cores_asked == pytest.approx(0.43)


def test_what_several_profiled_clients_asked_for_together_is_shared_out() -> None:
    found = ProfilingResult({}, [], SECOND, 30 * MS, {"slow": 20 * MS, "fast": 100 * MS}, {"slow": 2, "fast": 1})
    assert choose_dilation(found, {"slow": 8, "fast": 1}, 2).cores_asked == pytest.approx(0.09 + 0.08 + 0.1)


def test_profiling_that_found_nothing_needs_no_dilation() -> None:
    empty = ProfilingResult({}, [], 0, 0, {}, {})
    choice = choose_dilation(empty, {}, 2)
    assert (choice.dilation, choice.tightest) == (1, None)
    assert empty.slowest_host_ns() == 0
    assert profiled(span(1, 7), span(1, 9)).slowest_host_ns() == 9


EPOCHS = 20  # of an alignment, which is one computation

# --- profiling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_profiling_finishes_and_counts_the_same_costs_twice(name: str) -> None:
    scenario = load_scenario("iot-4g")
    settings = {"rounds": 1, "stop_after_s": None, "task": {"clients": len(scenario.clients)}}
    first, second = (profile_costs(ALGORITHMS[name], settings, scenario, 1, budget_ns=60 * SECOND) for _ in range(2))
    assert first.costs
    assert first.costs == second.costs
    assert first.elapsed_ns == second.elapsed_ns > 0
    assert first.clients == {"pi-zero-2w": 1, "pi-4b": 1}
    spans = {(span.device, span.function, span.span_ns) for span in first.spans}
    assert spans == {(span.device, span.function, span.span_ns) for span in second.spans}
    devices = {client.device.name: client.device for client in scenario.clients}
    devices[scenario.server.device.name] = scenario.server.device
    for device, function, span_ns in spans:
        modelled = {duration_ns(work, devices[device]) for key, work in first.costs.items() if function in key}
        assert span_ns in modelled | {EPOCHS * ns for ns in modelled if function == "align_epoch"}


def test_profiling_ends_when_its_budget_of_work_is_used_up() -> None:
    scenario = load_scenario("iot-4g")
    settings = {"rounds": 10**6, "stop_after_s": None, "task": {"clients": len(scenario.clients)}}
    found = profile_costs(ALGORITHMS["fedavg"], settings, scenario, 1, budget_ns=SECOND // 5)
    assert found.costs
    assert found.elapsed_ns > 0
