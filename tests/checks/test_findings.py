"""What a verdict has found is decided by law and severity, whatever its words are; older lines are read."""

from __future__ import annotations

import msgspec
import pytest
from runs import as_json
from toy import edit, make_manifest, make_timeline

from emulator.analysis.summarize import summarize
from emulator.analysis.summary import Summary
from emulator.checks.findings import findings_of
from emulator.ledger.events import Ended, Lifecycle, RoundEnded
from emulator.plots.style import doubts
from emulator.tables.run import notes, verdict


def lagging(events):
    return edit(events, lambda e: isinstance(e, RoundEnded), lambda e: {"actual_ns": e.due_ns + 10**9})


def refused(events):
    return edit(events, lambda e: isinstance(e, Lifecycle) and e.outcome != "", lambda _: {"outcome": "refused"})


def cut_short(events):
    return edit(events, lambda e: isinstance(e, Ended) and e.node == "network", lambda _: None)


RUNS = {
    "good": {"fedavg": make_timeline()},
    "lagging": {"fedavg": lagging(make_timeline()), "sl": make_timeline()},
    "refused": {"fedavg": make_timeline(), "sl": refused(make_timeline())},
    "refused and lagging": {"fedavg": lagging(make_timeline()), "sl": refused(make_timeline())},
    "interrupted": {"fedavg": make_timeline(1, outcome="interrupted")},
    "does-not-fit": {"fedavg": make_timeline(1, outcome="does-not-fit")},
    "failed, and its network killed": {"fedavg": cut_short(make_timeline(1, outcome="failed"))},
}


def summary_of(name):
    return summarize(make_manifest(algorithms=[*RUNS[name]], profile="iot-4g"), RUNS[name])


@pytest.mark.parametrize("name", RUNS)
def test_what_is_decided_by_a_finding_does_not_change_with_its_words(name):
    summary = summary_of(name)
    other = msgspec.json.decode(msgspec.json.encode(summary))
    for place, finding in enumerate(other["health"]["findings"]):
        finding["text"] = f"refused: {place}: does-not-fit"
    other = msgspec.json.decode(msgspec.json.encode(other), type=Summary)
    told, stamp = doubts(other)
    assert (stamp, bool(told)) == (doubts(summary)[1], bool(doubts(summary)[0]))
    assert len(notes(other)) == len(notes(summary))
    assert verdict(other)[0] == verdict(summary)[0]


@pytest.mark.parametrize("name", RUNS)
def test_findings_and_lines_say_the_same_and_older_lines_are_read_as_findings(name):
    health = as_json(summary_of(name).health)
    found = findings_of(health)
    for severity in ("reason", "note"):
        assert [str(each) for each in found if each.severity == severity] == health[f"{severity}s"]
    older = findings_of({key: value for key, value in health.items() if key != "findings"})
    assert [(e.algorithm, e.severity, e.text) for e in older] == [
        (e.algorithm, e.severity, e.text) for e in sorted(found, key=lambda each: each.severity == "note")
    ]
    endings = {each.outcome for each in summary_of(name).algorithms.values()} - {"finished"}
    assert {each.law for each in older if each.law} == {each.law for each in found} & endings


def test_a_method_is_blamed_for_what_was_found_of_it_alone():
    """As ``host`` would be for what is said of the machine."""
    health = {"findings": [{"algorithm": "", "law": "host", "severity": "note", "text": "host: work waited"}]}
    assert [(each.algorithm, str(each)) for each in findings_of(health)] == [("", "host: work waited")]
