"""summary.json against closed forms of the toy run in toy.py."""

from __future__ import annotations

import json

import msgspec
import pytest
from runs import as_json, latency_split
from toy import ACCURACIES, GLOBAL, MIB, MS, UPDATE, at, edit, make_manifest, make_timeline, renumber, span

from emulator.analysis.metrics import FIGURES
from emulator.analysis.summarize import split_time, summarize
from emulator.analysis.summary import read_summary, to_json
from emulator.ledger.events import Ended, Evaluated, Lifecycle, Memory, Posted, RoundEnded, Transmitted


def one(events, **changes):
    return as_json(typed(events, **changes))


def typed(events, **changes):
    return summarize(make_manifest(**changes), {"fedavg": events}).algorithms["fedavg"]


def test_what_scripts_of_users_read_keeps_its_names():
    summary = as_json(summarize(make_manifest(), {"fedavg": make_timeline()}))
    assert summary["health"]["verdict"] == "good"
    algorithm = summary["algorithms"]["fedavg"]
    assert algorithm.keys() >= {"seconds", "rounds", "official_bytes", "bytes", "by_kind", "clients", "server"}
    assert algorithm.keys() >= {"timeline_digest", "numerics_digest"}
    assert "queue_wait_s" in algorithm["server"]
    assert all("peak_mib" in client for client in algorithm["clients"])


def test_summary_has_the_fields_of_the_interface():
    summary = as_json(summarize(make_manifest(), {"fedavg": make_timeline()}))
    assert {"schema", "profile", "clock", "seed", "health", "algorithms"} <= summary.keys()
    assert summary["health"]["verdict"] == "good"
    algorithm = summary["algorithms"]["fedavg"]
    for key in ("outcome", "rounds", "seconds", "accuracy", "loss", "official_bytes", "bytes", "by_kind"):
        assert key in algorithm
    assert algorithm["history"][0].keys() >= {
        *("round", "due_s", "actual_s", "accuracy", "loss", "official_bytes", "payload_up", "payload_down")
    }
    assert algorithm["server"].keys() >= {"device", "busy_s", "align_s", "queue_wait_s", "peak_mib"}
    assert algorithm["clients"][0].keys() >= {
        *("name", "device", "network", "outcome", "budget_mib", "baseline_mib", "peak_mib"),
        *("compute_s", "transfer_s", "wait_s"),
    }
    assert msgspec.json.decode(msgspec.json.encode(summary)) == summary


def test_bytes_are_those_posted_until_the_instant_at_which_a_round_ends():
    history = one(make_timeline())["history"]
    for row in history:
        n = row["round"] + 1
        globals_ = min(n + 1, 3)  # the next one goes out at that instant
        assert (row["payload_up"], row["payload_down"]) == (2 * n * UPDATE, 2 * globals_ * GLOBAL)
        assert row["payload_bytes"] == row["payload_up"] + row["payload_down"]
        # The initial weights (label -1) are payload, and officially nothing.
        assert row["official_bytes"] == 2 * n * 19_000 + 2 * (globals_ - 1) * GLOBAL


@pytest.mark.parametrize("label", [0, 2, 7])
def test_a_label_decides_nothing(label):
    relabelled = edit(make_timeline(), lambda e: isinstance(e, Posted) and e.round >= 0, lambda _: {"round": label})
    for key in ("history", "to_target", "client_rounds", "bytes"):
        assert one(relabelled)[key] == one(make_timeline())[key]


def test_a_message_a_nanosecond_after_the_last_end_is_in_the_total_alone():
    def late(event):
        return isinstance(event, Posted) and event.node == "client-1" and event.round == 2

    events = edit(make_timeline(), late, lambda _: {"due_ns": 300 * MS + 1})
    before, after = one(make_timeline()), one(events)
    assert after["total_bytes"] == before["total_bytes"]
    assert after["history"][-1]["payload_up"] == before["history"][-1]["payload_up"] - UPDATE
    assert (before["client_rounds"], after["client_rounds"]) == (6, 5)
    on_time = edit(make_timeline(), late, lambda _: {"due_ns": 300 * MS})
    assert one(on_time)["history"][-1] == before["history"][-1]


def test_initial_weights_after_the_last_end_are_not_taken_off_what_was_posted_before():
    def initial(event):
        return isinstance(event, Posted) and event.round < 0 and event.destination == "client-1"

    events = edit(make_timeline(), initial, lambda _: {"due_ns": 300 * MS + 1})
    assert one(events)["history"][-1]["payload_down"] == one(make_timeline())["history"][-1]["payload_down"] - GLOBAL
    assert FIGURES["down_kb"].of(typed(events)) == FIGURES["down_kb"].of(typed(make_timeline()))


def test_totals_by_way_and_kind():
    algorithm = one(make_timeline())
    assert algorithm["bytes"]["payload"] == {"up": 6 * UPDATE, "down": 6 * GLOBAL}
    assert algorithm["bytes"]["framed"] == {"up": 6 * (UPDATE + 100), "down": 6 * (GLOBAL + 100)}
    assert algorithm["bytes"]["wire"] == {"up": 6 * (UPDATE + 200), "down": 6 * (GLOBAL + 200)}
    assert algorithm["initial_bytes"]["payload"] == {"up": 0, "down": 2 * GLOBAL}
    assert algorithm["by_kind"]["update"] == {
        "messages": 6,
        "payload": 6 * UPDATE,
        "framed": 6 * (UPDATE + 100),
        "wire": 6 * (UPDATE + 200),
        "official": 6 * 19_000,
    }
    for size in ("payload", "framed", "wire"):
        assert sum(algorithm["bytes"][size].values()) == algorithm["total_bytes"][size]
        assert algorithm["total_bytes"][size] == sum(kind[size] for kind in algorithm["by_kind"].values())
        for way in ("up", "down"):
            assert algorithm["bytes"][size][way] == sum(c["bytes"][size][way] for c in algorithm["clients"])


def test_target_is_met_by_the_first_evaluated_round_that_reaches_it():
    reached = one(make_timeline())["to_target"]
    assert reached["0.85"] == {
        "round": 1,
        "seconds": 0.201,
        "bytes": 4 * UPDATE + 6 * GLOBAL,  # the third goes out at that instant
        "official_bytes": 4 * 19_000 + 4 * GLOBAL,
    }
    assert reached["0.9"]["round"] == 2
    exactly = edit(make_timeline(), lambda e: isinstance(e, Evaluated), lambda _: {"accuracy": 0.85})
    assert one(exactly)["to_target"]["0.85"]["round"] == 0
    assert one(exactly)["to_target"]["0.9"] is None


def test_seconds_are_what_the_clock_showed():
    assert one(make_timeline())["seconds"] == 0.301
    assert one(make_timeline())["to_target"]["0.85"]["seconds"] == 0.201
    assert one(make_timeline())["history"][-1]["due_s"] == 0.3


def test_accuracy_is_that_of_the_last_evaluated_round():
    assert one(make_timeline())["accuracy"] == ACCURACIES[-1]
    behind = edit(make_timeline(), lambda e: isinstance(e, Evaluated) and e.round == 2, lambda _: None)
    algorithm = one(behind)
    assert algorithm["accuracy"] == ACCURACIES[1]
    assert algorithm["history"][2]["accuracy"] is None


def test_client_time_by_hand():
    assert split_time(latency_split("client-1", make_timeline())) == {
        "compute": 90 * MS,
        "transfer": 150 * MS,
        "wait": 60 * MS,
    }


@pytest.mark.parametrize("start_ms", [0, 15, 25, 45, 60, 75, 95, 110])
@pytest.mark.parametrize("length_ms", [1, 7, 30, 190])
def test_client_times_sum_to_the_length_however_spans_overlap(start_ms, length_ms):
    extra = msgspec.structs.replace(span("more", start_ms, start_ms + length_ms), node="client-0", seq=10**6)
    events = renumber([*make_timeline(), extra])
    times = split_time(latency_split("client-0", events))
    instants = range(300)
    computing = {t for t in instants if start_ms <= t < start_ms + length_ms or 20 <= t % 100 < 50}
    under_way = {t for t in instants if t % 100 < 20 or 50 <= t % 100 < 80} - computing
    assert times == {
        "compute": len(computing) * MS,
        "transfer": len(under_way) * MS,
        "wait": (300 - len(computing) - len(under_way)) * MS,
    }


def test_a_message_that_arrives_after_the_end_is_cut_there():
    late = edit(make_timeline(), lambda e: isinstance(e, Transmitted), lambda e: {"arrival_ns": e.arrival_ns + 10**12})
    times = split_time(latency_split("client-0", late))
    assert sum(times.values()) == 300 * MS
    assert times == {"compute": 90 * MS, "transfer": 210 * MS, "wait": 0}


def test_server_sums_its_spans():
    server = one(make_timeline())["server"]
    assert (server["busy_s"], server["align_s"], server["queue_wait_s"]) == (0.06, 0.03, 0.009)


def test_memory_is_the_largest_peak_and_null_where_nothing_was_measured():
    clients = one(make_timeline())["clients"]
    assert [(c["outcome"], c["baseline_mib"], c["budget_mib"], c["peak_mib"]) for c in clients] == [
        ("fits", 16.0, 100.0, 42.0)
    ] * 2
    unmeasured = edit(make_timeline(), lambda e: isinstance(e, Memory), lambda _: None)
    algorithm = one(unmeasured)
    assert [(c["outcome"], c["peak_mib"]) for c in algorithm["clients"]] == [("finished", None)] * 2
    assert algorithm["server"]["peak_mib"] is None


def test_peak_at_the_budget_fits_and_one_byte_more_does_not():
    def peak(size):
        changed = edit(
            make_timeline(), lambda e: isinstance(e, Memory) and e.node == "client-1", lambda _: {"peak_bytes": size}
        )
        return one(changed)

    assert peak(100 * MIB)["outcome"] == "finished"
    over = peak(100 * MIB + 1)
    assert over["outcome"] == "does-not-fit"
    assert over["does_not_fit"]["client"] == "client-1"
    assert [client["outcome"] for client in over["clients"]] == ["fits", "does-not-fit"]


def test_does_not_fit_says_who_when_and_how_much():
    def last_words(event):
        if event.node == "client-1":
            return {"outcome": "does-not-fit", "phase": "compute step", "asked_bytes": 8 * MIB}
        return {"outcome": "interrupted"}

    events = edit(make_timeline(rounds=1), lambda e: isinstance(e, Ended), last_words)
    events = edit(events, lambda e: isinstance(e, Lifecycle) and e.outcome != "", lambda _: {"outcome": "does-not-fit"})
    algorithm = one(events)
    assert algorithm["outcome"] == "does-not-fit"
    assert algorithm["does_not_fit"] == {
        "client": "client-1",
        "device": "pi-zero-2w",
        "phase": "compute step",
        "budget_mib": 100.0,
        "peak_mib": 40.0,
        "needed_mib": 40.0,
        "outcome": "does-not-fit",
        "asked_mib": 8.0,
        "clients": ["client-1"],
    }
    assert [client["outcome"] for client in algorithm["clients"]] == ["interrupted", "does-not-fit"]


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [("finished", "finished"), ("stuck", "stuck"), ("interrupted", "interrupted"), ("peer-lost", "failed")],
)
def test_outcome_is_the_supervisors(seen, outcome):
    assert one(make_timeline(outcome=seen))["outcome"] == outcome


def test_outcome_without_a_supervisor_is_partial():
    killed = [e for e in make_timeline() if not (isinstance(e, Lifecycle) and e.outcome)]
    assert one(killed)["outcome"] == "partial"
    assert one(killed)["rounds"] == 3


def test_a_timeline_without_rounds_has_no_figures_instead_of_zeros():
    nothing = [e for e in make_timeline() if not isinstance(e, RoundEnded | Evaluated)]
    algorithm = one(renumber(nothing))
    assert (algorithm["rounds"], algorithm["seconds"], algorithm["accuracy"], algorithm["history"]) == (
        0,
        None,
        None,
        [],
    )
    assert one([])["outcome"] == "partial"


def test_a_late_last_line_of_a_node_does_not_lengthen_the_run():
    slow = edit(make_timeline(), lambda e: isinstance(e, Ended), lambda _: at(10**12))
    assert one(slow)["length_s"] == 0.3


LATER = {  # what older records lack: of a run, of a method, of a round, of the server
    "": ("workload", "data", "made_by"),
    "algorithms": ("total_bytes", "diverged", "balanced_accuracy", "foreseen"),
    "history": ("payload_bytes", "balanced_accuracy"),
    "server": ("held_mib", "align_wait_s"),
}


def test_a_summary_is_read_back_as_it_was_and_an_older_one_with_what_can_be_told(tmp_path):
    summary, path = summarize(make_manifest(), {"fedavg": make_timeline()}), tmp_path / "summary.json"
    path.write_text(to_json(summary))
    assert read_summary(path) == summary

    older = as_json(summary)
    algorithm = older["algorithms"]["fedavg"]
    del older["health"]["findings"]
    parts = {"": [older], "algorithms": [algorithm], "history": algorithm["history"], "server": [algorithm["server"]]}
    for where, keys in LATER.items():
        for part in parts[where]:
            for key in keys:
                del part[key]
    path.write_text(json.dumps(older))
    summary.algorithms["fedavg"].server = msgspec.structs.replace(
        summary.algorithms["fedavg"].server, held_mib=None, align_wait_s=None
    )
    assert read_summary(path) == summary
