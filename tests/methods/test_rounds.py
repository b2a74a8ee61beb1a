"""Who takes part in a round, and who is too late for it: laws that hold for every algorithm, in one process."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import msgspec
import pytest
from played import SMALL, Play, closed_form, module_of, play, same, sent, timeline

from algorithms import ALGORITHMS
from algorithms.training.settings import Settings
from algorithms.workload.task import Task
from emulator.errors import UserError, root_of
from emulator.ledger.events import Computed, Posted, Received, Reported, RoundEnded
from emulator.node.node import ClientNode
from emulator.preflight.profiling import profile_costs
from emulator.profiles.reading import load_scenario
from emulator.profiles.scenario import Direction, Network, Scenario
from emulator.testing.stage import SECOND, Stage

VARIANTS = [
    *((name, {}) for name in ALGORITHMS),
    ("local-loss", {"server_copies": "each"}),
    ("splitfed-v1", {"server_averaging": "network"}),
    ("splitfed-v2", {"server_order": "blocked"}),
    ("fsl-sage", {"align": "overlap", "l": 1}),
    ("fsl-sage", {"l": 1, "q": 1}),
    ("fsl-sage", {"warm_start": True}),
]
every_variant = pytest.mark.parametrize(
    ("name", "settings"), VARIANTS, ids=lambda value: value if isinstance(value, str) else "+".join(map(str, value))
)


@functools.cache
def undisturbed(name: str, settings: tuple[tuple[str, Any], ...] = ()) -> Play:
    return play(name, **dict(settings))


# --- participation ----------------------------------------------------------------------------------------------------

HALF = {"task": {}, "participation": 0.5}  # the closed forms are those of the default task
HALVES = functools.cache(functools.partial(play, members=4, task=Task(), participation=0.5))
NAMES = tuple(f"client-{i}" for i in range(10))


def cohorts(count: int, clients: tuple[str, ...] = NAMES, **settings: Any) -> list[tuple[str, ...]]:
    return [Settings(**settings).cohort(clients, round) for round in range(count)]


@pytest.mark.parametrize(("fraction", "size"), [(0.01, 1), (0.25, 3), (0.34, 3), (0.5, 5), (0.95, 10), (1.0, 10)])
def test_a_cohort_is_that_fraction_of_the_clients_to_the_nearest_and_at_least_one(fraction: float, size: int) -> None:
    for cohort in cohorts(20, participation=fraction):
        assert len(cohort) == len(set(cohort)) == size
        assert list(cohort) == sorted(cohort, key=NAMES.index)


def test_cohorts_are_drawn_anew_for_each_round_from_the_seed() -> None:
    drawn = cohorts(20, participation=0.5)
    assert drawn == cohorts(20, participation=0.5)
    assert len(set(drawn)) > 10
    assert set().union(*drawn) == set(NAMES)
    assert drawn != cohorts(20, participation=0.5, task=Task(seed=2))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_only_the_cohort_trains_and_sends_and_its_bytes_are_those_of_the_closed_form(name: str) -> None:
    half = HALVES(name)
    drawn = cohorts(3, NAMES[:4], participation=0.5)
    for round, cohort in enumerate(drawn):
        ups = {client: up for client, (up, _) in sent(half.events, round, "official_bytes").items() if up}
        assert ups == dict.fromkeys(cohort, closed_form(name, 0)[0])
    for client in NAMES[:4]:
        assert half.trained(client) == [round for round, cohort in enumerate(drawn) if client in cohort]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_who_sits_a_round_out_computes_nothing_in_it(name: str) -> None:
    """Between its mean of one round and its start of another it has nothing to do."""
    half = HALVES(name)
    begins = [ended.started_ns for ended in half.of("server", RoundEnded)]
    for round, cohort in enumerate(cohorts(3, NAMES[:4], participation=0.5)):
        for client in set(NAMES[:4]) - set(cohort):
            spans = [span for span in half.of(client, Computed) if begins[round] <= span.start_ns]
            assert not [span for span in spans if span.due_ns <= half.ends_ns[round]]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_after_the_last_round_everybody_has_been_told_that_it_is_over(name: str) -> None:
    half = HALVES(name)
    last = cohorts(3, NAMES[:4], participation=0.5)[-1]
    for client in NAMES[:4]:
        expected = "finish" if name == "sl" or client not in last else "global"
        assert half.of(client, Received)[-1].kind == expected
        assert len(half.told(client, "finish")) == (expected == "finish")
    assert max(event.round for node in half.events for event in half.of(node, Posted)) == 2


# --- deadlines --------------------------------------------------------------------------------------------------------


@every_variant
def test_a_deadline_that_all_meet_changes_no_number_and_no_time(name: str, settings: dict[str, Any]) -> None:
    free = undisturbed(name, tuple(settings.items()))
    bound = play(name, deadline_s=free.longest_s, **settings)
    assert timeline(bound.events) == timeline(free.events)
    assert all(map(same, bound.models, free.models))


@pytest.mark.parametrize("settings", [{"align": "overlap", "l": 1}, {"warm_start": True}], ids=["overlap", "warm"])
def test_on_a_fast_link_the_mean_may_come_while_the_client_still_loads_its_auxiliary(settings: dict[str, Any]) -> None:
    """Whoever listens for being left out must leave it alone."""
    fast = Direction(10**12, 1000, 0)
    scenario = linked(load_scenario("iot-4g"), Network("fast", fast, fast), range(3))
    scenario = msgspec.structs.replace(
        scenario, server=msgspec.structs.replace(scenario.server, network=Network("fast", fast, fast))
    )
    assert timeline(play("fsl-sage", scenario, deadline_s=60.0, **settings).events) == timeline(
        play("fsl-sage", scenario, **settings).events
    )


def linked(scenario: Scenario, network: Network, indices: Any) -> Scenario:
    """The scenario with some clients on another network."""
    clients = tuple(
        msgspec.structs.replace(client, network=network) if client.index in indices else client
        for client in scenario.clients
    )
    return msgspec.structs.replace(scenario, clients=clients)


@every_variant
def test_who_sends_nothing_in_time_might_as_well_not_be_there(name: str, settings: dict[str, Any]) -> None:
    """Not a bit of the model differs from a play without that client."""
    without = play(name, members=2, **settings)
    crawling = linked(
        load_scenario("iot-4g"), Network("crawling", Direction(800, 10**7, 0), Direction(10**7, 10**7, 0)), [2]
    )
    beside = play(name, crawling, deadline_s=1.5 * without.longest_s, **settings)
    assert len(beside.models) == len(without.models) == 3
    assert all(map(same, beside.models, without.models))
    assert len(beside.told("client-2", "left-out")) == 3
    assert [event.values for event in beside.of("server", Reported) if "left_out" in event.values] == [
        {"left_out": 1, "counted": 2}
    ] * 3


@every_variant
def test_a_late_client_stops_when_told_and_takes_part_in_the_next_round(name: str, settings: dict[str, Any]) -> None:
    free = undisturbed(name, tuple(settings.items()))
    deadline_s = 1.5 * free.longest_s
    late = play(name, late_s=deadline_s - 0.02, deadline_s=deadline_s, **settings)  # training takes longer

    (told,) = late.told("client-2", "left-out")
    received = late.of("client-2", Received)
    idle = (told.due_ns, received[received.index(told) + 1].due_ns)
    spans = late.of("client-2", Computed)
    assert [span for span in spans if span.due_ns <= told.due_ns and span.function != "load_weights"]  # it had begun
    assert not [span for span in spans if idle[0] < span.due_ns and span.start_ns < idle[1]]
    posts = [event for event in late.of("client-2", Posted) if event.due_ns >= told.due_ns]
    assert {event.round for event in posts} == {1, 2}
    assert late.trained("client-2") == [1, 2]
    assert [late.trained(client) for client in ("client-0", "client-1")] == [[0, 1, 2]] * 2
    assert late.ends_ns[0] >= deadline_s * SECOND
    arrived = [event.source for event in late.of("server", Received) if event.kind == "update"]
    assert [arrived.count(client) for client in NAMES[:3]] == [3, 3, 2]


@pytest.mark.parametrize("name", ["fedavg", "splitfed-v1", "local-loss", "cse-fsl", "heron-sfl"])
def test_the_mean_is_that_of_the_updates_in_time(name: str) -> None:
    """The client halves do not depend on the server's here, so the late client's batches do not matter."""
    free = undisturbed(name)
    deadline_s = 1.5 * free.ends_ns[0] / SECOND
    late = play(name, late_s=deadline_s * 0.9, deadline_s=deadline_s)
    without = play(name, members=2)
    assert same({"client": late.models[0]["client"]}, {"client": without.models[0]["client"]})
    assert not same({"client": late.models[0]["client"]}, {"client": free.models[0]["client"]})
    assert not same({"client": late.models[1]["client"]}, {"client": without.models[1]["client"]})


def test_what_has_arrived_in_time_counts_even_where_the_server_gets_to_it_later() -> None:
    """A server that is behind does not make its clients late; nor does a queue keep it from seeing the deadline."""

    def busy(stage: Stage) -> None:
        compute = stage.server.compute

        async def slow(fn: Any, *args: Any) -> Any:
            await asyncio.sleep(30)
            return await compute(fn, *args)

        stage.server.compute = slow  # type: ignore[method-assign]

    free = undisturbed("local-loss")
    updates = [event.due_ns for event in free.of("server", Received) if event.kind == "update"][:3]
    behind = play("local-loss", disturb=busy, deadline_s=updates[-1] / SECOND, rounds=1)
    assert behind.told("client-2", "left-out") == []
    assert same({"client": behind.models[0]["client"]}, {"client": free.models[0]["client"]})
    early = play("local-loss", disturb=busy, deadline_s=(updates[-1] - 1) / SECOND, rounds=1)
    assert sum(len(early.told(client, "left-out")) for client in NAMES[:3]) == 1
    with pytest.raises(ExceptionGroup) as raised:  # what is there at the deadline, not what it leads to
        play("splitfed-v2", disturb=busy, deadline_s=1.0, rounds=1, participation=0.67)
    assert isinstance(root_of(raised.value), UserError)


@every_variant
@pytest.mark.parametrize("participation", [1.0, 0.34])
def test_a_deadline_that_nobody_can_meet_is_a_mistake_in_one_line(
    participation: float, name: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        play(name, deadline_s=0.01, participation=participation, **settings)
    error = root_of(raised.value)
    assert isinstance(error, UserError)
    assert str(error) == "deadline_s: no client ends the first round within 0.01 s: allow more"


@every_variant
def test_where_nobody_is_in_time_the_old_means_stay(name: str, settings: dict[str, Any]) -> None:
    free = undisturbed(name, tuple(settings.items()))
    deadline_s = 1.5 * free.longest_s

    def slow_down_after_the_first_round(stage: Stage) -> None:
        for node in (stage.nodes[client] for client in NAMES[:3]):

            async def slow(fn: Any, *args: Any, node: Any = node, compute: Any = node.compute) -> Any:
                if node.now() > free.ends_ns[0]:
                    await asyncio.sleep(deadline_s)
                return await compute(fn, *args)

            node.compute = slow  # type: ignore[method-assign]

    found = play(name, disturb=slow_down_after_the_first_round, deadline_s=deadline_s, **settings)
    assert same(found.models[0], free.models[0])
    assert len(found.models) == 3
    assert same({"client": found.models[2]["client"]}, {"client": found.models[0]["client"]})
    if name in ("fedavg", "splitfed-v1") or "each" in settings.values():
        assert same(found.models[2], found.models[0])
    assert [found.trained(client) for client in NAMES[:3]] == [[0]] * 3
    counted = [(e.round, e.values["counted"]) for e in found.of("server", Reported) if "counted" in e.values]
    assert counted == [(1, 0), (2, 0)]


@pytest.mark.parametrize("align", ["wait", "overlap"])
@pytest.mark.parametrize("warm_start", [False, True])
def test_no_stale_auxiliary_confuses_a_client_however_late_it_comes(align: str, warm_start: bool) -> None:
    settings = {"align": align, "l": 1, "warm_start": warm_start}
    free = undisturbed("fsl-sage", tuple(settings.items()))
    round_s = free.longest_s
    counts = []
    for tenths in range(1, 16, 2):
        late = play("fsl-sage", late_s=round_s * tenths / 10, deadline_s=1.3 * round_s, **settings)
        assert late.trained("client-0") == [0, 1, 2]
        counts.append(len(late.told("client-2", "left-out")))
    assert counts[0] == 0 and counts[-1] >= 1


def test_profiling_with_few_clients_does_not_judge_the_deadline() -> None:
    """It plays one client of each kind of device, here one with a large part of the samples; the run has all."""
    task = {"clients": 10, "partition": "dirichlet-unequal:0.5", "seed": 13}
    settings = {"rounds": 1, "stop_after_s": None, "task": task, "deadline_s": 1.3}
    assert profile_costs("algorithms.splitfed_v2", settings, load_scenario("iot-4g"), seed=13).elapsed_ns > 1.3 * SECOND
    found = play("splitfed-v2", members=10, **settings)
    assert len(found.models) == 1
    (counted,) = (event.values for event in found.of("server", Reported) if "left_out" in event.values)
    assert 0 < counted["left_out"] < 10


# --- unequal shards ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_unequal_shards_and_shards_smaller_than_a_batch_train(name: str) -> None:
    task = Task(clients=7, batch=250)  # of 1500 samples: 215 for the first ones, 214 for the others
    sizes = task.shard_samples()
    assert sizes[0] > sizes[-1] and max(sizes) < task.batch
    found = play(name, members=7, task=task, rounds=2, q=1) if "q" in fields(name) else play(name, members=7, task=task)
    for index in range(7):
        client = f"client-{index}"
        assert found.trained(client) == list(range(len(found.models)))
        up, _ = sent(found.events, 1, "payload_bytes")[client]
        labels = 8 * sizes[index]
        official, _ = sent(found.events, 1, "official_bytes")[client]
        assert up - official == (0 if name == "fedavg" else labels)


def fields(name: str) -> tuple[str, ...]:
    return tuple(module_of(name).Config.__struct_fields__)


# --- cancellation -----------------------------------------------------------------------------------------------------


@every_variant
def test_a_broken_off_round_leaves_no_task_behind(name: str, settings: dict[str, Any]) -> None:
    module = module_of(name)
    scenario = load_scenario("iot-4g")
    config = msgspec.convert({"rounds": 2, "task": SMALL, "deadline_s": 60.0, **settings}, module.Config)
    moments = [undisturbed(name, tuple(settings.items())).ends_ns[0] * share // 10 for share in (4, 8)]
    for moment_ns in moments:
        with Stage(scenario, *module.MESSAGES, members=NAMES[:3]) as stage:
            clients = [node for node in stage.nodes.values() if isinstance(node, ClientNode)]
            roles = [*(module.client(node, config) for node in clients), module.server(stage.server, config)]

            async def broken_off(roles: list[Any] = roles, moment_ns: int = moment_ns) -> list[Any]:
                playing = [asyncio.ensure_future(role) for role in roles]
                await asyncio.sleep(moment_ns / SECOND)
                for task in playing:
                    task.cancel()
                await asyncio.wait(playing)
                return [task.cancelled() for task in playing]

            assert stage.play(broken_off()) == [[True] * 4]
            assert asyncio.all_tasks(stage.loop) == set()
            assert all(node._inbox.awaiting == [] for node in stage.nodes.values())
