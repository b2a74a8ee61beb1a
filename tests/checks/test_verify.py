"""Comparing both clocks: agreement, and each way in which they can differ. Digests: what moves them and what not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from processes import ROOT, Board, Command, write_scenario
from runs import make_run
from toy import MS, edit, is_message, make_timeline, renumber

import run as command
from emulator.analysis.clock_agreement import compare, reordered, verdict_of
from emulator.analysis.recorded import RunRecord
from emulator.checks.digest import numerics_digest, timeline_digest
from emulator.ledger.events import AnyEvent, Clamped, Computed, Ended, Evaluated, Posted, Received, Reported, RoundEnded
from emulator.ledger.timeline import Timeline
from emulator.tables.clock_agreement import clock_agreement_table

Edit = Callable[[Sequence[AnyEvent]], list[AnyEvent]]


def run(events: Sequence[AnyEvent], clock: str) -> RunRecord:
    return make_run({"fedavg": Timeline(events)}, clock=clock)


def exact() -> list[AnyEvent]:
    """The toy run under the virtual clock: what is due is actual."""
    return edit(make_timeline(), lambda _: True, lambda event: {"actual_ns": event.due_ns})


def judged(change: Edit = list) -> Any:
    return compare(run(exact(), "virtual"), run(change(make_timeline()), "real"))["fedavg"]


def test_the_toy_run_agrees_with_itself_a_millisecond_late() -> None:
    found = judged()
    assert (found.verdict, found.why, found.rounds_beyond, found.reordered) == ("agrees", "", 0, 0)
    assert found.worst_ms == pytest.approx(1.0)
    assert found.real_s - found.virtual_s == pytest.approx(0.001 / 3)
    assert found.bytes_equal and found.same_timeline and found.same_numbers
    assert verdict_of({"fedavg": found}) == "agrees"


def late_round(by_ns: int) -> Edit:
    return lambda events: edit(
        events,
        lambda e: isinstance(e, RoundEnded) and e.round == 1,
        lambda e: {"actual_ns": e.due_ns + by_ns},
    )


def test_a_round_may_be_off_by_a_hundredth_and_5_ms_and_no_more() -> None:
    """A toy round takes 100 ms."""
    assert judged(late_round(6 * MS)).verdict == "agrees"
    found = judged(late_round(6 * MS + 1))
    assert (found.verdict, found.rounds_beyond) == (
        "unknown",
        1,
    )
    assert "cannot be trusted" in found.why


def test_other_bytes_are_a_difference() -> None:
    def heavier(events: Sequence[AnyEvent]) -> list[AnyEvent]:
        return edit(events, lambda e: is_message(e, Posted, "client-0", 0), lambda _: {"official_bytes": 1})

    found = judged(heavier)
    assert (found.verdict, found.bytes_equal) == ("differs", False)
    assert verdict_of({"a": judged(), "b": found}) == "differs"
    assert "NOT" in clock_agreement_table({"b": found}).texts()[0]


def test_other_rounds_are_a_difference() -> None:
    found = compare(run(exact(), "virtual"), run(make_timeline(rounds=2), "real"))["fedavg"]
    assert (found.verdict, found.why) == ("differs", "finished in 2 rounds, finished in 3 rounds")


def test_a_virtual_run_that_does_not_trust_itself_is_a_difference() -> None:
    clamped = [*exact(), Clamped(due_ns=0, actual_ns=0, node="server", seq=10**6, by_ns=1, what="posted")]
    found = compare(run(clamped, "virtual"), run(make_timeline(), "real"))["fedavg"]
    assert found.verdict == "differs"
    assert "virtual run's own verdict is bad" in found.why


def test_other_numbers_or_another_order_at_the_same_times_are_a_difference() -> None:
    found = judged(NUMBERS["a weight"])
    assert (found.verdict, found.why) == ("differs", "the same timeline, but other numbers")

    def swapped(events: Sequence[AnyEvent]) -> list[AnyEvent]:
        """Two messages that arrived at one moment, in the other order."""
        first, second = [e for e in events if isinstance(e, Received) and e.node == "server"][:2]
        seqs = {id(first): second.seq, id(second): first.seq}
        return [msgspec.structs.replace(e, seq=seqs[id(e)]) if id(e) in seqs else e for e in events]

    found = judged(swapped)
    assert (found.verdict, found.reordered) == ("differs", 1)
    assert "another order" in found.why


def test_where_no_round_ended_nothing_is_concluded() -> None:
    none = [event for event in make_timeline() if not isinstance(event, RoundEnded | Evaluated)]
    found = compare(run(renumber(none), "virtual"), run(renumber(none), "real"))["fedavg"]
    assert (found.verdict, found.rounds) == ("unknown", 0)
    assert verdict_of({"fedavg": found}) == "unknown"


def test_deliveries_are_counted_that_must_move() -> None:
    def received(node: str, *order: int) -> list[Received]:
        sizes = {"payload_bytes": 1, "framed_bytes": 1, "wire_bytes": 1}
        return [
            Received(due_ns=0, actual_ns=0, node=node, seq=i, source="s", counter=counter, kind="k", **sizes)
            for i, counter in enumerate(order)
        ]

    assert reordered(received("a", 0, 1, 2, 3), received("a", 0, 1, 2, 3)) == 0
    assert reordered(received("a", 1, 2, 3, 0), received("a", 0, 1, 2, 3)) == 1
    assert reordered(received("a", 3, 2, 1, 0), received("a", 0, 1, 2, 3)) == 3
    assert reordered(received("a", 0, 1), received("a", 0, 1, 2)) == 1
    assert reordered(received("a", 0, 1), received("b", 0, 1)) == 4


# --- digests ----------------------------------------------------------------------------------------------------------

TIMES: dict[str, Edit] = {
    "a post": lambda es: edit(es, lambda e: is_message(e, Posted, "client-0", 0), lambda e: {"due_ns": e.due_ns + 1}),
    "a kind": lambda es: edit(es, lambda e: is_message(e, Posted, "client-0", 0), lambda _: {"kind": "other"}),
    "a computation": lambda es: edit(es, lambda e: isinstance(e, Computed), lambda e: {"start_ns": e.start_ns + 1}),
    "a round": lambda es: edit(es, lambda e: isinstance(e, RoundEnded), lambda e: {"round": e.round + 1}),
}
NUMBERS: dict[str, Edit] = {
    "a loss": lambda es: edit(es, lambda e: isinstance(e, Reported), lambda _: {"values": {"loss": 0.1}}),
    "an accuracy": lambda es: edit(es, lambda e: isinstance(e, Evaluated), lambda _: {"accuracy": 0.1}),
    "a weight": lambda es: edit(es, lambda e: isinstance(e, Evaluated), lambda _: {"weights": "ab"}),
}
NEITHER: dict[str, Edit] = {
    "actual times": lambda es: edit(es, lambda _: True, lambda e: {"actual_ns": e.actual_ns + 7}),
    "host times": lambda es: edit(es, lambda e: isinstance(e, Computed), lambda _: {"host_ns": 7, "cpu_ns": 7}),
}


@pytest.mark.parametrize(
    "change", [*TIMES.values(), *NUMBERS.values(), *NEITHER.values()], ids=[*TIMES, *NUMBERS, *NEITHER]
)
def test_a_digest_moves_with_what_it_is_made_of_and_with_nothing_else(change: Edit) -> None:
    before, after = make_timeline(), change(make_timeline())
    assert (timeline_digest(before) != timeline_digest(after)) == (change in TIMES.values())
    assert (numerics_digest(before) != numerics_digest(after)) == (change in NUMBERS.values())


def test_a_run_that_memory_ended_has_no_timeline_digest_and_says_why() -> None:
    ended = edit(
        make_timeline(), lambda e: isinstance(e, Ended) and e.node == "client-0", lambda _: {"outcome": "does-not-fit"}
    )
    digest, why = timeline_digest(ended)
    assert digest is None
    assert "memory" in why


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_verify_plays_both_clocks_and_keeps_what_it_found(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, [(2, Board())])
    flags = "--profile", scenario, "--algorithm", "fedavg,cse-fsl", "--rounds", 2, "--batch", 64
    with Command(tmp_path / "run", "verify", *flags, program="run.py", cwd=ROOT) as command:
        status = command.finish()
        out, err = command.out, command.err
    found = json.loads((tmp_path / "run" / "verify.json").read_text())
    assert err == ""
    assert status == (0 if found["verdict"] == "agrees" else 1)
    assert "Both clocks" in out
    assert list(found["algorithms"]) == ["fedavg", "cse-fsl"]
    assert all(each["bytes_equal"] for each in found["algorithms"].values())
    clocks = [
        json.loads((tmp_path / "run" / clock / "summary.json").read_text())["clock"] for clock in ("real", "virtual")
    ]
    assert clocks == ["real", "virtual"]
    assert (tmp_path / "run" / "verify.md").read_text().startswith("## Both clocks")


def test_its_help_names_no_flag_that_it_sets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["verify", "--help"])
    said = capsys.readouterr().out
    assert "--dilation" in said
    assert "--clock" not in said
    assert "--dry-run" not in said
