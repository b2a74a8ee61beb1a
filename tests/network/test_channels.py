"""The capacities in a manifest, and the law that no record may break: nothing carries more than its integral."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic import Sent, manifest_of, record

from emulator.checks.invariants import within_channels
from emulator.piecewise import StepFunction
from emulator.profiles.reading import load_scenario
from emulator.profiles.scenario import Cell, ClientSpec, Direction, Network, Scenario, ServerSpec
from emulator.testing.stage import MBIT, MS, SECOND, make_device

TRACE = StepFunction((0, SECOND, 3 * SECOND), (MBIT, 4 * MBIT, 0), 4 * SECOND)


def scenario(*, half: bool = False, traced: bool = False) -> Scenario:
    """Three clients in a cell of 2 Mbit/s, or one that follows a trace."""
    rates = TRACE if traced else None
    peak = max(TRACE.values) if traced else 2 * MBIT
    duplex: Any = "half" if half else "full"
    direction = Direction(5 * MBIT, MS, 0)
    specs = tuple(
        ClientSpec(f"client-{i}", i, make_device(), Network("n", direction, direction), cell="mast") for i in range(3)
    )
    wide = Direction(100 * MBIT, 0, 0)
    server = ServerSpec("server", make_device(), Network("s", wide, wide), 1)
    return Scenario("x", "", server, specs, {}, (Cell("mast", peak, peak, duplex, rates, rates),))


messages = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.integers(1000, 300_000), st.integers(0, 5 * SECOND)),
    min_size=1,
    max_size=12,
)


@given(messages, st.booleans(), st.booleans())
def test_what_a_fabric_carries_is_within_its_capacities(
    posts: list[tuple[int, bool, int, int]], half: bool, traced: bool
) -> None:
    made = scenario(half=half, traced=traced)
    sent = [
        Sent(f"client-{i}", "server", size, at) if upward else Sent("server", f"client-{i}", size, at)
        for i, upward, size, at in posts
    ]
    assert within_channels(manifest_of(made), record(made, sent)) == []


@pytest.mark.parametrize(("half", "traced"), [(False, False), (True, False), (False, True)])
def test_a_cell_that_serves_one_per_cent_too_fast_is_found(half: bool, traced: bool) -> None:
    """Each client alone stays far below its own link; only together they are more than the cell."""
    made = scenario(half=half, traced=traced)
    sent = [Sent(f"client-{i}", "server", 400_000) for i in range(3)]
    assert within_channels(manifest_of(made), record(made, sent)) == []
    (reason,) = within_channels(manifest_of(made), record(made, sent, hurry=1))
    assert reason.startswith("cell mast")


def test_clients_that_follow_one_trace_from_different_places_share_its_steps_in_the_manifest() -> None:
    manifest = manifest_of(load_scenario("trace-driving"))
    traced = [channel for channel in manifest.channels if channel.trace is not None]
    assert len(traced) == 16
    assert len(manifest.traces) == 2  # up and down
    assert len({channel.ahead_ns for channel in traced}) == 8
    assert "traces/lte-driving.csv" in manifest.profile_files


def test_a_capacity_that_cannot_fill_is_in_no_manifest() -> None:
    names = {channel.name for channel in manifest_of(load_scenario("iot-4g")).channels}
    assert names == {f"client-{i} {way}" for i in range(10) for way in ("up", "down")}
