"""HERON-SFL: CSE-FSL with a client that only ever runs forward: it learns from differences of its own loss.

"HERON-SFL: Hybrid zeroth- and first-order split federated learning", https://arxiv.org/abs/2601.09076.

    c_i, a_i    client i's half and its auxiliary     s   the one server half
    z [B, ...]  smashed batch c_i(x)                  y   labels
    u           a random direction over c_i and a_i   μ   the radius of the two-point estimate
    q           steps between uploads                 n_i / N  a client's share of all samples

Per client and round: z and y of every q-th batch up, nothing comes back for them; c and a up, c and a down, as in
CSE-FSL, whose server and messages these are. A step needs two forward passes and keeps no activations
(``zeroth_order``); the server learns by gradients.

Differences: the uploaded z is that of the unperturbed half, by a third forward pass in that step. A client learns by
SGD with the estimate as gradient, where the paper has Adam: ``update = "sgd"`` keeps a direction for a step (and may
have momentum), ``"replay"`` draws it again from its seed, without any memory but the parameters.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from algorithms.cse_fsl import MESSAGES as MESSAGES
from algorithms.cse_fsl import server as server
from algorithms.data.streams import stream_seed
from algorithms.training import rounds, steps, zeroth_order
from algorithms.training.messages import GlobalWithAuxiliary as Global
from algorithms.training.messages import InitialWithAuxiliary as Initial
from algorithms.training.messages import Smashed
from algorithms.training.messages import UpdateWithAuxiliary as Update
from algorithms.training.settings import OptimizerSpec, Settings, rare_uploads, should_upload
from algorithms.workload.loader import Shard
from algorithms.workload.task import LARGEST, MOST_REPEATS, at_most, check_at_least
from emulator.errors import UserError
from emulator.node import ClientNode


class Config(Settings, frozen=True, forbid_unknown_fields=True):
    """``client_lr`` is that of client half and auxiliary, by SGD; ``optimizer`` and ``momentum`` are the server's.

    ``directions``: u drawn for a step; their estimates are averaged. ``client_momentum`` with ``sgd`` alone.
    """

    has_auxiliary: ClassVar[bool] = True

    q: int = 5
    q_per_round: bool = False
    client_lr: float = 1e-2
    client_momentum: float = 0.0
    update: Literal["sgd", "replay"] = "sgd"
    directions: int = 4
    radius: float = 1e-3

    def check(self) -> None:
        super().check()
        check_at_least(1, q=self.q, directions=self.directions)
        at_most(MOST_REPEATS, directions=self.directions)
        if not 0 < self.radius <= LARGEST:
            raise UserError(f"radius: must be above 0 and at most {LARGEST:g}, not {self.radius}")
        if not 0 <= self.client_momentum < 1 or (self.client_momentum and self.update == "replay"):
            raise UserError(f"client_momentum: {self.client_momentum}: 0 up to 1, and 0 with update=replay")


def warnings(config: Config) -> list[str]:
    """What is allowed but hardly meant."""
    return rare_uploads(config.task, config.q, config.rounds, restart_each_round=config.q_per_round)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    rule = OptimizerSpec("sgd", config.client_lr, momentum=config.client_momentum)
    half = steps.Part(config.task.client_half(), rule)
    aux = steps.Part(config.task.auxiliary(), rule, auxiliary=True, objective=config.task.objective())
    draws = torch.Generator().manual_seed(stream_seed(config.task.seed, f"directions:{node.index}"))
    rounds_done = 0  # rounds of this client

    async for start in rounds.starts(node, Initial, Global):
        await node.compute(steps.load_weights, half, start.client)
        await node.compute(steps.load_weights, aux, start.aux)
        round, last = start.round + 1, isinstance(start, Global) and start.last
        del start
        if not last:
            training = train(node, config, shard, half, aux, draws, round, rounds_done)
            await rounds.until_dropped(node, config, training)
            rounds_done += 1


async def train(
    node: ClientNode,
    config: Config,
    shard: Shard,
    half: steps.Part,
    aux: steps.Part,
    draws: torch.Generator,
    round: int,
    rounds_done: int,
) -> None:
    """A client's round."""
    losses = []
    for step, (x, y) in enumerate(shard.batches(round)):
        if should_upload(config.q, step, shard.steps, rounds_done, restart_each_round=config.q_per_round):
            z = await node.compute(zeroth_order.smash, half, x)
            await node.post("server", Smashed(round=round, step=step, z=z, y=y))
            del z
        task = half, aux, x, y, draws, config.directions, config.radius
        if config.update == "sgd":
            losses.append(await node.compute(zeroth_order.kept_step, *task))
        else:
            losses.append(await node.compute(zeroth_order.replayed_step, *task, config.client_lr))
    node.report(round, loss=steps.mean_of(losses))
    update = Update(round=round, samples=len(shard), client=steps.weights(half), aux=steps.weights(aux))
    await node.post("server", update)
