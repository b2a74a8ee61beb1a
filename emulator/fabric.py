"""Which connection lies between two nodes of a scenario.

Every ordered pair (source, destination) is one private FIFO connection over both ends' access links: the sender's
outgoing and the receiver's incoming direction. ``up`` and ``down`` are a node's own directions: a client's uplink
leads to the server's downlink.
"""

from __future__ import annotations

from emulator.link import Connection
from emulator.profiles import Network, Scenario


class Fabric:
    """The connections of a scenario, made when first used; jitter streams are named by seed and pair."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._networks: dict[str, Network] = {scenario.server.name: scenario.server.network}
        self._networks |= {client.name: client.network for client in scenario.clients}
        self._seed = seed
        self._connections: dict[tuple[str, str], Connection] = {}

    def connection(self, source: str, destination: str) -> Connection:
        """The connection from ``source`` to ``destination``; KeyError for a node that the scenario does not have."""
        pair = (source, destination)
        if pair not in self._connections:
            out, into = self._networks[source].up, self._networks[destination].down
            self._connections[pair] = Connection(out, into, f"{self._seed}:jitter:{source}>{destination}")
        return self._connections[pair]
