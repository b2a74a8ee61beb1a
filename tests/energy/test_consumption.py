"""Joules: a message by hand, published models in closed form, identities of sums, ranges and differences."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from runs import slower
from toy import MS, make_manifest, make_timeline

from emulator.analysis.summarize import summarize
from emulator.energy.activity import activities, powers_of
from emulator.energy.consumption import CAUSES, consumption, difference, range_of
from emulator.energy.powers import PowerFiles, Powers, ends, numbers_of
from emulator.ledger.events import Transmitted
from emulator.ledger.timeline import Timeline
from emulator.profiles.power import DevicePower, Graded, RadioPower
from emulator.profiles.reading import load_device, load_network
from emulator.tables.energy import missing_lines, tables
from emulator.tables.headline import headline
from emulator.tables.table import markdown

W, S = 10**9, 10**9
BOARD = DevicePower(idle=Graded(1 * W, "A"), busy=Graded(3 * W, "B"))
RADIO = RadioPower(
    tx=Graded(2 * W, "A"),
    rx=Graded(W, "C"),
    connected=Graded(W // 2, "A"),
    tail=Graded(5 * MS, "R"),
    sleep=Graded(W // 100, "A"),
    promotion=Graded(W, "A"),
    promotion_time=Graded(2 * MS, "A"),
)
FILES = PowerFiles({"pi-zero-2w": BOARD}, {"iot-4g": RADIO})


def message(start, end, *, source="client-0", destination="server", wire=None, arrival=None, acks=0):
    """Times in ms; by default as many bytes as the toy's link of 1 byte a µs carries in them."""
    wire = 1000 * (end - start) if wire is None else wire
    return Transmitted(
        due_ns=end * MS,
        actual_ns=end * MS,
        node="network",
        seq=start,
        counter=start,
        source=source,
        destination=destination,
        kind="x",
        wire_bytes=wire,
        payload_bytes=wire,
        posted_ns=start * MS,
        start_ns=start * MS,
        arrival_ns=(end + 10 if arrival is None else arrival) * MS,
        ack_bytes=acks,
    )


def drawn(*events, until_ms, board=BOARD, radio=RADIO):
    """One client's consumption."""
    done = activities(["client-0"], make_manifest(), Timeline(events))["client-0"]
    return consumption([Powers("d", board, "n", radio)], [done], np.asarray([until_ms * MS]))


def test_a_message_by_hand():
    # Sends for 20 ms at 2 W after a promotion of 2 ms at 1 W, then 5 ms at 0.5 W; asleep for 10 + 65 ms at 10 mW.
    found = drawn(message(10, 30), until_ms=100).by_cause()[0]
    assert found["sending"] == pytest.approx(0.040, abs=1e-12)
    assert found["tail"] == pytest.approx(0.002 + 0.0025, abs=1e-12)
    assert found["idle"] == pytest.approx(0.1 * 1 + 0.075 * 0.01, abs=1e-12)
    assert found["receiving"] == found["compute"] == 0


def test_a_link_that_others_slow_down_is_on_the_air_for_a_part_of_the_span():
    slow = drawn(message(10, 50, wire=20_000), until_ms=100).by_cause()[0]  # 20 ms of airtime in 40
    assert slow["sending"] == pytest.approx(0.020 * 2 + 0.020 * 0.5, abs=1e-12)


def test_what_is_received_passes_when_it_arrives_and_its_acknowledgements_are_sent_then():
    came = message(10, 30, source="server", destination="client-0", acks=1000)
    before, whole = (drawn(came, until_ms=until).by_cause()[0] for until in (20, 100))
    assert before["receiving"] == 0  # the first bit arrives at 20
    assert whole["receiving"] == pytest.approx(0.020 * 1, abs=1e-12)
    assert whole["sending"] == pytest.approx(0.001 * (2 - 0.5), abs=1e-12)  # 1 ms of airtime beyond being connected


def test_the_published_linear_model_of_lte_phones():
    """Huang et al., MobiSys 2012: 10 Mbit in 10 s up at 438.39 mW per Mbit/s and 1288.04 mW, 11.6 s of tail at 1060 mW,
    and a promotion of 260 ms at 1210.7 mW."""
    radio = load_network("4g-phone").radio
    sent = message(0, 10_000, wire=10**7 // 8)
    found = drawn(sent, until_ms=60_000, radio=radio).by_cause()[0]
    assert found["sending"] == pytest.approx(10 * 0.43839 + 10 * 1.28804, rel=1e-9)
    assert found["tail"] == pytest.approx(11.6 * 1.060 + 0.26 * 1.2107, rel=1e-9)


def toy(factor=1):
    manifest, events = make_manifest(), slower(make_timeline(), factor) if factor > 1 else make_timeline()
    done = activities(["client-0", "client-1"], manifest, events)
    powers = powers_of(manifest, FILES)
    return consumption([*powers.values()], [*done.values()], np.asarray([100 * MS, 200 * MS, 300 * MS * factor]))


def test_causes_add_up_to_all_and_clients_to_their_method():
    summary = summarize(make_manifest(), {"fedavg": make_timeline()}, FILES)
    algorithm = summary.algorithms["fedavg"]
    assert algorithm.energy is not None
    assert tuple(algorithm.energy.causes) == CAUSES
    assert sum(algorithm.energy.causes.values()) == pytest.approx(algorithm.energy.joules, rel=1e-12)
    assert sum(sum(client.joules.values()) for client in algorithm.clients) == pytest.approx(algorithm.energy.joules)
    joules = [row.joules for row in algorithm.history]
    assert joules == sorted(joules)
    assert joules[-1] == algorithm.energy.joules
    # By hand: a client computes for 30 ms of each round of 100.
    assert algorithm.energy.causes["compute"] == pytest.approx(2 * 3 * 0.03 * 3, rel=1e-12)


def test_a_range_is_that_over_every_combination_of_ends():
    found = toy()
    totals = []
    for which in itertools.product((0, 1), repeat=len(numbers_of(BOARD)) + len(numbers_of(RADIO))):
        choice = iter(which)
        board, radio = (
            msgspec.structs.replace(power, **{n: Graded(ends(v)[next(choice)]) for n, v in numbers_of(power).items()})
            for power in (BOARD, RADIO)
        )
        manifest, files = make_manifest(), PowerFiles({"pi-zero-2w": board}, {"iot-4g": radio})
        done = activities(["client-0", "client-1"], manifest, make_timeline())
        one = consumption([*powers_of(manifest, files).values()], [*done.values()], np.asarray([300 * MS]))
        totals.append(one.joules()[-1])
    assert range_of(found) == pytest.approx((min(totals), max(totals)), rel=1e-12)


def test_a_method_beside_itself_differs_by_nothing_however_uncertain_its_numbers_are():
    assert difference(toy(), toy()) == (0, 0)
    low, high = range_of(toy())
    assert low < toy().joules()[-1] < high


def test_the_method_with_fewest_joules_and_who_is_not_told_apart_from_it():
    runs = {"fedavg": make_timeline(), "sl": slower(make_timeline(), 20), "local-loss": make_timeline()}
    summary = summarize(make_manifest(algorithms=[*runs]), runs, FILES)
    assert summary.energy is not None
    assert summary.energy.least == "fedavg"
    assert summary.energy.alike == ["local-loss"]  # equal; the one that takes 20 times as long is told apart
    assert "not told apart from it: local-loss." in "\n".join(markdown(tables(summary)[0]))


def test_a_run_whose_profiles_have_no_power_has_no_joules_and_says_which_keys_are_missing():
    summary = summarize(make_manifest(), {"fedavg": make_timeline()}, PowerFiles({"pi-zero-2w": BOARD}))
    assert summary.algorithms["fedavg"].energy is None
    assert all(client.joules is None for client in summary.algorithms["fedavg"].clients)
    assert tables(summary) == []
    (line,) = missing_lines(summary.energy)
    assert "No joules for 2 clients: network iot-4g has no tx_w" in line


def test_a_board_that_sleeps_while_it_waits_is_awake_while_messages_pass():
    sleeper = DevicePower(idle=Graded(W), busy=Graded(3 * W), suspended=Graded(W // 10))
    found = drawn(message(10, 30), until_ms=100, board=sleeper).by_cause()[0]
    assert found["idle"] == pytest.approx(0.020 * 1 + 0.080 * 0.1 + 0.075 * 0.01, abs=1e-12)


def test_a_supply_passes_on_a_part_of_what_was_measured_before_it():
    half = msgspec.structs.replace(BOARD, supply_efficiency=Graded(S // 2, "A"))
    whole, behind = (drawn(until_ms=100, board=board).by_cause()[0] for board in (BOARD, half))
    radio = 0.1 * 0.01
    assert behind["idle"] - radio == pytest.approx((whole["idle"] - radio) / 2, rel=1e-12)


def test_the_worked_example_of_the_page():
    radio, board = load_network("iot-4g").radio, load_device("pi-zero-2w").power
    sent = message(0, 1000, wire=250_000)  # the toy's link carries 8 Mbit/s: at 2 the message takes the whole span
    manifest = make_manifest()
    manifest = msgspec.structs.replace(manifest, nodes=[slow(node) for node in manifest.nodes])
    done = activities(["client-0"], manifest, Timeline([sent]))["client-0"]
    found = consumption([Powers("d", board, "n", radio)], [done], np.asarray([4000 * MS])).by_cause()[0]
    assert found["tail"] == pytest.approx(0.1482 + 1.14, rel=1e-12)
    assert found["sending"] == pytest.approx(1.9, rel=1e-12)
    assert sum(found.values()) == pytest.approx(5.5882, rel=1e-12)


def slow(node):
    return msgspec.structs.replace(node, up_bps=2 * 10**6)


def test_the_headline_names_who_draws_least_only_where_no_number_is_an_assumption():
    runs = {"fedavg": make_timeline(), "sl": slower(make_timeline(), 20)}
    summary = summarize(make_manifest(algorithms=[*runs]), runs, FILES)
    assert "joules" not in headline(summary)  # the tail is an assumption
    known = PowerFiles(FILES.devices, {"iot-4g": msgspec.structs.replace(RADIO, tail=Graded(5 * MS, "C"))})
    assert "fedavg draws the fewest joules a round" in headline(
        summarize(make_manifest(algorithms=[*runs]), runs, known)
    )
