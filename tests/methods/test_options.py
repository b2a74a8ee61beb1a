"""What the algorithms' options change, and what they leave as it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from played import BATCH as DEFAULT_BATCH
from played import A, C, E, Play, S, play, played, same, sent
from processes import BATCH, Board, Played, Wire, options, write_scenario
from processes import play as command

from algorithms.training import steps
from algorithms.training.settings import OptimizerSpec, Settings, should_upload
from algorithms.workload.objectives import Classification
from algorithms.workload.task import Task
from emulator.compute.counting import Costs, WorkCounter, cost_key
from emulator.ledger.events import Computed, Evaluated, Posted, Reported, Transmitted
from emulator.preflight.profiling import profile_costs
from emulator.testing.stage import MS, Stage, make_device, make_scenario, operations

SMALL_N = 48  # samples of a client in ``test_rounds.play``
SMALL_K = 3


def posted(play: Play, round: int, **wanted: Any) -> list[Posted]:
    """Of all nodes, those with these fields."""
    found = [e for lines in play.events.values() for e in lines if isinstance(e, Posted) and e.round == round]
    return [e for e in found if all(getattr(e, name) == value for name, value in wanted.items())]


def official(play: Play, round: int) -> int:
    return sum(event.official_bytes for event in posted(play, round))


# --- sl: who hands the client half over -------------------------------------------------------------------------------


def test_from_peer_to_peer_the_client_half_goes_one_hop_a_client_instead_of_two() -> None:
    direct, relayed = play("sl", relay="peer"), play("sl")
    for round in range(3):
        cut = 2 * SMALL_K * SMALL_N * E
        assert official(relayed, round) == cut + 2 * SMALL_K * C
        assert official(direct, round) == cut + SMALL_K * C
    hops = [(client, f"client-{(i + 1) % SMALL_K}") for i, client in enumerate(["client-0", "client-1", "client-2"])]
    for round in range(3):
        handed = [
            (client, event.destination)
            for client in direct.events
            for event in direct.events[client]
            if isinstance(event, Posted) and event.kind == "handover" and event.round == round
        ]
        assert handed == hops
    turns = [event for event in direct.of("server", Posted) if event.kind == "turn"]
    assert [event.payload_bytes for event in turns] == [0] * (3 * SMALL_K)
    initial = [event for event in direct.of("server", Posted) if event.kind == "initial"]
    assert [(event.payload_bytes, event.official_bytes, event.round) for event in initial] == [(C, 0, -1)]


def losses(play: Play) -> dict[tuple[str, int], float]:
    return {
        (node, event.round): event.values["loss"]
        for node in play.events
        for event in play.of(node, Reported)
        if "loss" in event.values
    }


def test_the_way_of_the_client_half_changes_no_loss() -> None:
    assert losses(play("sl", relay="peer")) == losses(play("sl"))


def test_one_client_hands_over_to_itself() -> None:
    direct, relayed = play("sl", members=1, relay="peer"), play("sl", members=1)
    assert losses(direct) == losses(relayed)


QUICK = ("--clock", "virtual", "--samples-per-client", 200, "--force")


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """SL and SplitFed V1 both ways, and dice, in processes of their own."""
    folder = tmp_path_factory.mktemp("variants")
    scenario = write_scenario(folder, [(3, Board())], Wire(jitter_ms=2))
    settings: dict[str, dict[str, object]] = {
        "sl-peer": {"relay": "peer"},
        "splitfed-v1-network": {"server_averaging": "network"},
    }
    names = "sl,splitfed-v1,dice," + ",".join(settings)
    arguments = "--profile", scenario, "--algorithm", names, "--rounds", 2, "--batch", BATCH, *QUICK
    found = command(folder / "run", *arguments, *options(settings))
    assert (found.status, found.err) == (0, ""), found.out
    return found


def judged(variants: Played, algorithm: str) -> list[tuple[Any, ...]]:
    return [(e.round, e.accuracy, e.loss, e.weights) for e in variants.events(algorithm, Evaluated)]


@pytest.mark.parametrize(("name", "variant"), [("sl", "sl-peer"), ("splitfed-v1", "splitfed-v1-network")])
def test_the_way_that_weights_take_changes_no_bit_of_the_model(name: str, variant: str, variants: Played) -> None:
    assert len(judged(variants, name)) == 2
    assert judged(variants, variant) == judged(variants, name)
    reports = [
        {(e.node, e.round): e.values["loss"] for e in variants.events(algorithm, Reported)}
        for algorithm in (name, variant)
    ]
    assert reports[0] == reports[1]


def test_links_between_clients_and_of_the_server_with_itself_are_links_like_others(variants: Played) -> None:
    """The laws of conservation and of the links hold on them, too."""
    health = variants.summary["health"]
    assert (health["verdict"], health["reasons"]) == ("good", [])
    assert {e.destination for e in variants.events("sl-peer", Transmitted) if e.source == "client-1"} == {
        "client-2",
        "server",
    }
    own = [e for e in variants.events("splitfed-v1-network", Transmitted) if e.source == e.destination == "server"]
    assert len(own) == 2 * 2 * 3
    assert {e.payload_bytes for e in own} == {S}


def test_what_layers_draw_is_the_node_s_own_and_repeatable(variants: Played, tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, [(3, Board())], Wire(jitter_ms=2))
    arguments = "--profile", scenario, "--algorithm", "dice", "--rounds", 2, "--batch", BATCH, *QUICK
    again, other = (command(tmp_path / f"run-{seed}", *arguments, "--seed", seed) for seed in (1, 2))
    drawn = [{e.node: e.values for e in found.events("dice", Reported)} for found in (variants, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({tuple(values.values()) for values in drawn[0].values()}) == 3


# --- splitfed-v1 and local-loss: server halves ------------------------------------------------------------------------


def test_averaging_over_the_network_costs_two_server_halves_a_client_and_no_bit_of_the_model() -> None:
    local, network = play("splitfed-v1"), play("splitfed-v1", server_averaging="network")
    assert losses(local) == losses(network)
    assert all(map(same, local.models, network.models))
    for round in range(3):
        assert official(network, round) - official(local, round) == 2 * SMALL_K * S
        own = posted(network, round, kind="server-half")
        assert [event.destination for event in own] == ["server"] * 2 * SMALL_K
    assert all(slow > fast for slow, fast in zip(network.ends_ns, local.ends_ns, strict=True))


def test_copies_of_the_server_half_are_trained_apart_and_averaged() -> None:
    """By hand, for one round."""
    task = Task(clients=3, samples_per_client=SMALL_N)
    rule = OptimizerSpec("adam", 1e-3)
    copies = []
    for index in range(3):
        half, aux = (
            steps.Part(task.client_half(), rule, objective=Classification()),
            steps.Part(task.auxiliary(), rule, objective=Classification()),
        )
        copy = steps.Part(task.server_half(), rule, objective=Classification())
        for x, y in task.shard(index).batches(0):
            z = steps.forward(half, x)
            steps.server_step(copy, z.detach().clone(), y)
            steps.local_step(half, aux, z, y)
        copies.append(steps.weights(copy))
    mean = steps.weighted_mean(copies, [SMALL_N] * 3)
    each, one = play("local-loss", server_copies="each"), play("local-loss")
    assert same({"server": each.models[0]["server"]}, {"server": mean})
    assert not same(each.models[0], one.models[0])
    assert same({"client": each.models[2]["client"]}, {"client": one.models[2]["client"]})


# --- cse-fsl: which batches are uploaded ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart_each_round", "last", "expected"),
    [
        (False, False, [[0, 3, 6, 9], [2, 5, 8], [1, 4, 7]]),
        (False, True, [[2, 5, 8], [1, 4, 7], [0, 3, 6, 9]]),
        (True, False, [[0, 3, 6, 9]] * 3),
        (True, True, [[2, 5, 8, 9]] * 3),  # the last block of a round is one step long
    ],
)
def test_the_first_or_the_last_batch_of_each_block_is_uploaded(
    restart_each_round: bool, last: bool, expected: list[list[int]]
) -> None:
    found = [
        [
            step
            for step in range(10)
            if should_upload(3, step, 10, r, restart_each_round=restart_each_round, upload_last=last)
        ]
        for r in range(3)
    ]
    assert found == expected
    events = played.__wrapped__("cse-fsl", q=3, q_per_round=restart_each_round, upload="last" if last else "first")
    for round, chosen in enumerate(expected):
        samples = sum(6 if step == 9 else DEFAULT_BATCH for step in chosen)
        assert {up for up, _ in sent(events, round, "official_bytes").values()} == {samples * E + C + A}


# --- optimizers -------------------------------------------------------------------------------------------------------

RULES = [
    (OptimizerSpec("sgd", 0.1), torch.optim.SGD, {}),
    (
        OptimizerSpec("sgd", 0.1, weight_decay=0.01, momentum=0.9),
        torch.optim.SGD,
        {"weight_decay": 0.01, "momentum": 0.9},
    ),
    (OptimizerSpec("adam", 0.01, weight_decay=0.1), torch.optim.Adam, {"weight_decay": 0.1}),
    (OptimizerSpec("adamw", 0.01, weight_decay=0.1), torch.optim.AdamW, {"weight_decay": 0.1}),
    (OptimizerSpec("adamw", 0.01, betas=(0.5, 0.6)), torch.optim.AdamW, {"betas": (0.5, 0.6), "weight_decay": 0.0}),
]


@pytest.mark.parametrize(("rule", "kind", "arguments"), RULES)
def test_a_part_learns_by_torch_s_optimizer_and_its_first_step_costs_what_others_cost(
    rule: OptimizerSpec, kind: type[torch.optim.Optimizer], arguments: dict[str, Any]
) -> None:
    task = Task(clients=3, samples_per_client=SMALL_N)
    part, model = steps.Part(task.full_model(), rule, objective=Classification()), task.full_model().train()
    optimizer = kind(model.parameters(), lr=rule.lr, **arguments)  # type: ignore[call-arg]
    works = []
    for x, y in task.shard(0).batches(0):
        with WorkCounter() as counter:
            steps.train_step(part, x, y)
        works.append(counter.work)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert same({"": steps.weights(part)}, {"": dict(model.state_dict())})
    assert len(works) == 3 and len(set(works)) == 1


def test_settings_say_which_rule_each_part_learns_by() -> None:
    found = Settings(optimizer="sgd", client_lr=1.0, server_lr=2.0, weight_decay=0.1, momentum=0.2)
    assert found.client_optimizer == OptimizerSpec("sgd", 1.0, 0.1, 0.2)
    assert found.server_optimizer == OptimizerSpec("sgd", 2.0, 0.1, 0.2)
    assert found.auxiliary_optimizer(3.0) == OptimizerSpec("sgd", 3.0, 0.0, 0.2)
    keys = {steps.Part(torch.nn.Linear(1, 1), rule, objective=Classification()).cost_key for rule, _, _ in RULES}
    assert len(keys) == 5


# --- computations of several runs -------------------------------------------------------------------------------------


def ask(count: int, number: int) -> int:
    """``count`` operations; the number."""
    operations(count)
    return number


def look(x: torch.Tensor) -> torch.Tensor:
    """One operation."""
    return x.view(1)


def test_runs_of_equal_cost_are_one_computation_of_their_sum_with_results_in_order() -> None:
    with Stage(make_scenario(workers=1)) as stage:

        async def main() -> list[Any]:
            return await asyncio.gather(
                stage.server.compute(operations, 7),
                stage.server.compute_repeated(look, [(torch.full((1,), i),) for i in range(5)]),
                stage.server.compute(operations, 3),
            )

        ((_, views, _),) = stage.play(main())
        spans = [(e.start_ns, e.due_ns, e.queued_ns, e.operations) for e in stage.of("server", Computed)]
    # Profiling, as this stage is one, runs the first and takes it for all.
    assert [view.item() for view in views] == [0] * 5
    assert spans == [(0, 7 * MS, 0, 7), (7 * MS, 12 * MS, 7 * MS, 5), (12 * MS, 15 * MS, 12 * MS, 3)]


def test_outside_profiling_each_is_run_and_only_the_first_is_counted() -> None:
    seen: list[int] = []

    def see(x: torch.Tensor) -> int:
        seen.append(int(x))
        return seen[-1]

    costs = Costs()
    arguments = [(torch.tensor(i),) for i in (3, 1, 2)]
    key = cost_key(see, arguments[0])
    assert costs.carry_out(key, see, arguments, counted=True) == [3, 1, 2] == seen
    once = costs.table[key]
    assert costs.carry_out(key, see, arguments, counted=False) == [3, 1, 2]
    assert costs.table == {key: once}


def test_runs_of_different_cost_are_refused_and_free_the_worker() -> None:
    with Stage(make_scenario(workers=1)) as stage:

        async def main() -> Any:
            with pytest.raises(ValueError, match="ask does not cost the same for all of its arguments"):
                await stage.server.compute_repeated(ask, [(1, 0), (2, 0)])
            return await stage.server.compute(ask, 1, 4)

        assert stage.play(main()) == [4]


def test_profiling_runs_one_epoch_of_an_alignment_and_counts_the_host_time_of_all() -> None:
    scenario = make_scenario(device=make_device(), rate_bps=10**9)
    settings = {"rounds": 1, "task": {"clients": 2, "samples_per_client": 32}, "align_epochs": 7}
    found = profile_costs("algorithms.fsl_sage.method", settings, scenario, seed=1, budget_ns=10**12)
    (span,) = [span for span in found.spans if span.function == "align_epoch"]
    (work,) = [work for key, work in found.costs.items() if "align_epoch" in key]
    assert span.span_ns >= 7 * work.operations * MS  # the board dispatches one in a millisecond
    counts = Counter(span.function for span in found.spans)
    assert counts["align_epoch"] == 1
