"""The node's compute: durations by the model, workers that queue, errors at the end of their span."""

from __future__ import annotations

import time

import pytest
import torch

from emulator.compute.counting import ComputeThread, HostRun
from emulator.errors import DoesNotFit
from emulator.host.liveness import PULSE
from emulator.ledger.events import Computed, Memory
from emulator.runtime.worker import _doing
from emulator.testing.stage import MS, WAY_NS, Blob, Note, Stage, link_ns, make_scenario, note, operations


def copy(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


def test_a_computation_takes_what_its_work_takes_on_the_device() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            assert await stage.client.compute(operations, 7) == 7
            assert stage.client.now() == 7 * MS
            await stage.client.compute(copy, torch.zeros(250_000))  # reads and writes 1 MB at 1 GB/s: 2 ms
            assert stage.client.now() == 7 * MS + (1 + 2) * MS

        stage.play(main())
        seven, copied = stage.of("client-0", Computed)
        assert (seven.function, seven.start_ns, seven.due_ns, seven.operations) == ("operations", 0, 7 * MS, 7)
        assert (copied.start_ns, copied.due_ns, copied.moved_bytes) == (7 * MS, 10 * MS, 2_000_000)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_more_computations_overlap_than_there_are_workers_and_the_rest_queue_in_order(workers: int) -> None:
    with Stage(make_scenario(workers=workers)) as stage:
        counts = [9, 4, 6, 5, 1]
        stage.play(*(stage.server.compute(operations, n) for n in counts))
        free = [0] * workers
        expected = {}
        for n in counts:  # each takes the worker that is free first
            free.sort()
            expected[n] = (free[0] * MS, free[0] * MS, (free[0] + n) * MS)
            free[0] += n
        computed = {e.operations: (e.queued_ns, e.start_ns, e.due_ns) for e in stage.of("server", Computed)}
        assert computed == expected


def test_two_computations_of_one_instant_end_in_order_of_their_durations() -> None:
    with Stage(make_scenario(workers=2)) as stage:
        ended = []

        async def compute(n: int) -> None:
            ended.append((await stage.server.compute(operations, n), stage.server.now()))

        stage.play(compute(9), compute(4))
        assert ended == [(4, 4 * MS), (9, 9 * MS)]


def test_a_message_arrives_during_a_computation() -> None:
    with Stage(make_scenario()) as stage:
        received = []

        async def receive() -> None:
            await stage.server.recv(Note)
            received.append(stage.server.now())

        stage.play(stage.server.compute(operations, 1000), receive(), stage.client.post("server", note(0)))
        assert received == [link_ns(note(0)) + WAY_NS]


def fail_after(count: int) -> None:
    operations(count)
    raise ValueError(f"after {count}")


def test_an_exception_is_raised_when_its_computation_ends_and_frees_the_worker() -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            for end_ms in (4, 8, 12, 16):  # first counted, later known
                with pytest.raises(ValueError, match="after 4") as caught:
                    await stage.client.compute(fail_after, 4)
                assert caught.value.__cause__ is None
                assert stage.client.now() == end_ms * MS
            await stage.client.compute(operations, 1)
            assert stage.client.now() == 17 * MS

        stage.play(main())


def run_out_of_memory(kind: str) -> None:
    operations(2)
    if kind == "torch":
        torch.empty(2**60, dtype=torch.uint8)
    raise MemoryError


@pytest.mark.parametrize(("kind", "asked_bytes"), [("torch", 2**60), ("python", None)])
def test_a_computation_that_cannot_allocate_does_not_fit_and_says_in_which_phase(kind: str, asked_bytes: int) -> None:
    with Stage(make_scenario()) as stage:

        async def main() -> None:
            with pytest.raises(DoesNotFit) as caught:
                await stage.client.compute(run_out_of_memory, kind)
            assert (caught.value.phase, caught.value.asked_bytes) == ("run_out_of_memory", asked_bytes)
            assert stage.client.now() >= 2 * MS

        stage.play(main())


def test_a_message_that_cannot_be_copied_for_the_link_does_not_fit() -> None:
    with Stage(make_scenario()) as stage:
        endless = Blob(round=0, x=torch.zeros(1, dtype=torch.uint8).expand(2**50))

        async def main() -> None:
            with pytest.raises(DoesNotFit) as caught:
                await stage.client.post("server", endless)
            assert (caught.value.phase, caught.value.asked_bytes) == ("send blob", 2**50)
            await stage.client.post("server", note(1))
            assert (await stage.server.recv(Note)).number == 1

        stage.play(main())


class Cap:
    """A memory cap whose readings a test sets."""

    budget_bytes = limit_bytes = 100

    def __init__(self) -> None:
        self.at = (10, 20)

    def expect(self, what: str) -> None: ...

    def reading(self) -> dict[str, int]:
        return {"growth_bytes": self.at[0], "peak_bytes": self.at[1], "budget_bytes": 100}


def test_a_peak_above_the_budget_does_not_fit_after_the_computation_that_reached_it() -> None:
    cap = Cap()

    def grow(peak_bytes: int) -> None:
        cap.at = (30, peak_bytes)

    with Stage(make_scenario(), cap=cap) as stage:

        async def main() -> None:
            await stage.client.compute(grow, 100)
            with pytest.raises(DoesNotFit) as caught:
                await stage.client.compute(grow, 101)
            assert caught.value.phase.endswith("grow")

        stage.play(main())
        assert stage.of("client-0", Memory)[0].budget_bytes == 100


def test_what_a_node_does_for_long_is_its_computation_once_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = ComputeThread()
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(PULSE, "since_ns", now_ns - 70 * 10**9)
    try:
        thread.current = HostRun()  # handed over, not begun: the coroutine lasts
        found = _doing(thread)
        assert found is not None
        assert (found.what, found.since_ns) == ("coroutine", now_ns - 70 * 10**9)
        thread.current.started_wall_ns = now_ns
        assert _doing(thread) is None
        thread.current.started_wall_ns = now_ns - 60 * 10**9
        found = _doing(thread)
        assert found is not None
        assert (found.what, found.since_ns) == ("computation", now_ns - 60 * 10**9)
        thread.current = None
        PULSE.rest()
        assert _doing(thread) is None
    finally:
        thread.close()
