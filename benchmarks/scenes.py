"""Scenarios made in code: figures must not move when a shipped profile does."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.profiles.scenario import ClientSpec, Device, Direction, Network, Scenario, ServerSpec

MIB = 2**20
UNTHROTTLED_BPS = 10**15  # 16 MiB take 134 ns


def link(name: str, up_bps: int, down_bps: int, one_way_ns: int = 0) -> Network:
    """A link without jitter, so that the closed form gives its times to the nanosecond."""
    return Network(name, Direction(up_bps, one_way_ns, 0), Direction(down_bps, one_way_ns, 0))


def device(name: str) -> Device:
    """A small board's speed and more memory than a benchmark needs."""
    return Device(
        name,
        memory_bytes=8192 * MIB,
        os_reserved_bytes=MIB,
        runtime_bytes=MIB,
        dense_flops=4_500_000_000,
        depthwise_flops=44_000_000,
        memory_rate_bytes=1_100_000_000,
        dispatch_ns=170_000,
        send_queue_bytes=64 * MIB,  # of a client
    )


def scene(name: str, clients: Sequence[tuple[Device, Network]]) -> Scenario:
    """Clients on links of their own and a server whose link never slows them."""
    unthrottled = link("unthrottled", UNTHROTTLED_BPS, UNTHROTTLED_BPS)
    specs = tuple(ClientSpec(f"client-{i}", i, *client) for i, client in enumerate(clients))
    return Scenario(name, "", ServerSpec("server", device("server"), unthrottled, 1), specs, {})


def scenario_text(
    clients: int, device: str, network: str, server: tuple[str, str] = ("edge-server", "ethernet-1g"), workers: int = 2
) -> str:
    """A scenario's file: equal clients; device and network of the server."""
    board, link = server
    head = f'kind = "scenario"\ndescription = "{clients} x {device}"\n'
    part = f'[server]\ndevice = "{board}"\nnetwork = "{link}"\nworkers = {workers}\n'
    return f'{head}{part}[[clients]]\ncount = {clients}\ndevice = "{device}"\nnetwork = "{network}"\n'
