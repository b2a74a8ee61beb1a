"""What the methods' computations returned as losses, in a recorded play."""

from __future__ import annotations

from emulator.testing.recording import Recording

# Computations that return a loss, some of them with something else behind it.
CLIENT_LOSSES = {
    "train_step",
    "local_step",
    "whole_local_step",
    "estimated_step",
    "whole_estimated_step",
    "kept_step",
    "replayed_step",
}
SERVER_LOSSES = {"cut_step", "server_step"}


def client_losses(recorded: Recording) -> dict[str, list[float]]:
    """Of each client, step by step; where the server computes them, of all clients together."""
    found = {name: host.losses(CLIENT_LOSSES) for name, host in recorded.hosts.items() if name != "server"}
    return {name: losses for name, losses in found.items() if losses}


def server_losses(recorded: Recording) -> list[float]:
    return recorded.hosts["server"].losses(SERVER_LOSSES)
