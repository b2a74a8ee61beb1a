"""A client that computes outside ``node.compute``: its forward passes take no emulated time."""

from __future__ import annotations

from algorithms.cse_fsl import Config, Initial, Smashed
from algorithms.training import rounds, steps
from emulator.node import ClientNode, Message, ServerNode

MESSAGES: tuple[type[Message], ...] = (Initial, Smashed, *rounds.CONTROL_MESSAGES)


async def client(node: ClientNode, config: Config) -> None:
    shard = config.task.shard(node.index)
    half = steps.Part(config.task.client_half(), config.client_optimizer)
    start = await node.recv(Initial)
    await node.compute(steps.load_weights, half, start.client)
    for step, (x, y) in enumerate(shard.batches(0)):
        z = steps.forward(half, x)  # forgotten: await node.compute
        await node.post("server", Smashed(round=0, step=step, z=z.detach(), y=y))
    await node.recv(rounds.Finish)


async def server(node: ServerNode, config: Config) -> None:
    half = steps.Part(config.task.server_half(), config.server_optimizer, objective=config.task.objective())
    client = steps.weights(steps.Part(config.task.client_half(), None))
    node.begin_round(0)
    for name in node.clients:
        await node.post(name, Initial(round=-1, client=client, aux={}))
    for _ in range(len(node.clients) * config.task.steps()):
        smashed = await node.recv(Smashed)
        await node.compute(steps.server_step, half, smashed.z, smashed.y)
    node.snapshot(0, {"client": client, "server": steps.weights(half)})
    for name in node.clients:
        await node.post(name, rounds.Finish(round=0))
