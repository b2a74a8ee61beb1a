"""How samples are divided among clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithms.data import owners
from algorithms.data.archives import OWNERS
from algorithms.data.datasets import Loaded
from algorithms.data.streams import stream
from emulator.errors import UserError

KINDS = (
    "iid, dirichlet:ALPHA or dirichlet-unequal:ALPHA[:LEAST] with a number ALPHA above 0 and LEAST from 1, shards:N"
    " with a number N from 1, file:PARTS.csv, file:PARTS.npz or natural"
)
MOST_DRAWS = 1000  # of an unequal division, until every client has its least number of samples
OWNED = ("file", "natural")  # kinds that nobody draws


class Partition(NamedTuple):
    """``iid``; ``dirichlet``; ``dirichlet-unequal`` with at least so many samples for each client; ``shards`` with so
    many for each client; ``file``; or ``natural``, by a key that the data set has."""

    kind: str
    alpha: float = 0.0
    shards: int = 0
    least: int = 0
    path: str = ""

    @property
    def divides_all(self) -> bool:
        """Whether sizes come as they come, so that clients cannot draw a number of samples each."""
        return self.kind in ("shards", "dirichlet-unequal", *OWNED)


def parse_partition(text: str) -> Partition:
    """What ``KINDS`` says; UserError for anything else."""
    kind, _, value = text.partition(":")
    alpha, colon, least = value.partition(":")
    try:
        if text in ("iid", "natural"):
            return Partition(text)
        if kind == "file" and value:
            return Partition(kind, path=value)
        if kind == "dirichlet" and 0 < float(value) < float("inf"):
            return Partition(kind, alpha=float(value))
        if kind == "dirichlet-unequal" and 0 < float(alpha) < float("inf") and int(least if colon else 1) > 0:
            return Partition(kind, alpha=float(alpha), least=int(least or 1))
        if kind == "shards" and int(value) > 0:
            return Partition(kind, shards=int(value))
    except ValueError:
        pass
    raise UserError(f"partition: {text!r}: say {KINDS}")


def shard_sizes(samples: int, clients: int) -> list[int]:
    """Sizes of the clients' shards: equal, the first ones larger by one where it does not come out even."""
    return [samples // clients + (index < samples % clients) for index in range(clients)]


def batch_starts(samples: int, batch: int, single: bool) -> list[int]:
    """Where the batches of an epoch begin; a last one of one sample joins that before, unless it may be ``single``."""
    starts = list(range(0, samples, batch))
    if not single and len(starts) > 1 and samples - starts[-1] == 1:
        del starts[-1]
    return starts


def divide(labels: np.ndarray[Any, Any], clients: int, partition: str, seed: int) -> list[np.ndarray[Any, Any]]:
    """For each client the indices of its samples; together all of them, each once.

    ``dirichlet:ALPHA`` draws a class mix for each client (T.-M. H. Hsu et al. 2019, arXiv 1909.06335, section 3) and
    takes samples by it without replacement. A class that is used up is left out of the mix; where the whole mix is used
    up, the rest is taken as it is left. So late clients get what remains: the price of equal sizes.

    ``dirichlet-unequal:ALPHA`` draws for each class how it is shared out among the clients, so that sizes come as they
    come (Q. Li et al., "Federated Learning on Non-IID Data Silos", ICDE 2022, arXiv 2102.02079, section 4.1). Where a
    client has fewer than LEAST samples (1 if left out), all shares are drawn anew from the same stream, as their code
    does; UserError where ``MOST_DRAWS`` do not give it.

    ``shards:N`` sorts the samples by label, cuts them into N pieces a client, and gives every client N at random
    (McMahan et al. 2017, arXiv 1602.05629, section 3).
    """
    how, draws = parse_partition(partition), stream(seed, "partition")
    sizes = shard_sizes(len(labels), clients)
    if how.kind == "iid":
        return np.split(draws.permutation(len(labels)), np.cumsum(sizes)[:-1])
    if how.kind == "shards":
        return _shards(labels, sizes, how.shards, draws)
    pools = _by_class(labels, draws)
    if how.kind == "dirichlet-unequal":
        return _unequal(pools, clients, how, draws, text=partition)
    left = np.array([len(pool) for pool in pools])
    return [_mixture(pools, left, size, how.alpha, draws) for size in sizes]


def owned(loaded: Loaded, clients: int, partition: str, seed: int) -> list[np.ndarray[Any, Any]]:
    """For each client the rows of its samples, by a file or by the data set's own key.

    Of more owners than clients, those who take part are drawn by a stream of its own; of a file none is left out.
    """
    how = parse_partition(partition)
    if how.kind == "file":
        parts = owners.parts_of(owners.read_owners(Path(how.path), len(loaded.train.labels)))
        if len(parts) > clients:
            raise UserError(f"partition: {how.path} has {len(parts)} clients: say --clients {len(parts)}")
    elif loaded.owners is None:
        raise UserError(
            "partition: natural: this data set does not say whose its samples are: give its archive an array"
            f" {' or '.join(OWNERS)}, or say file:PARTS.csv"
        )
    else:
        parts = owners.parts_of(loaded.owners)
    return owners.chosen(parts, clients, stream(seed, "owners"), partition)


def test_clients(loaded: Loaded, partition: str, parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any] | None:
    """The client of each test sample, [M], -1 for those of owners without a client; None where nothing says it."""
    if parse_partition(partition).kind != "natural" or loaded.owners is None or loaded.test_owners is None:
        return None
    found = np.full(len(loaded.test_owners), -1)
    for client, rows in enumerate(parts):
        found[loaded.test_owners == loaded.owners[rows[0]]] = client
    return found


def _unequal(
    pools: list[np.ndarray[Any, Any]], clients: int, how: Partition, draws: np.random.Generator, text: str
) -> list[np.ndarray[Any, Any]]:
    lengths = np.array([len(pool) for pool in pools])
    if how.least * clients > lengths.sum():
        raise UserError(f"partition: {text}: {clients} clients with {how.least} are more than {lengths.sum()} samples")
    most = 0
    for _ in range(MOST_DRAWS):
        ends = np.array([_ends(length, clients, how.alpha, draws) for length in lengths])  # [classes, clients + 1]
        fewest = int(np.diff(ends).sum(0).min())
        most = max(most, fewest)
        if fewest >= how.least:
            return [
                np.concatenate([pool[end[client] : end[client + 1]] for pool, end in zip(pools, ends, strict=True)])
                for client in range(clients)
            ]
    raise UserError(
        f"partition: {text} has {how.least} or more samples for each of {clients} clients in none of {MOST_DRAWS}"
        f" draws (the client with the fewest had {most} at most): take a larger alpha, fewer clients or a smaller LEAST"
    )


def _ends(samples: int, clients: int, alpha: float, draws: np.random.Generator) -> np.ndarray[Any, Any]:
    """Where the clients' shares of a class begin and end, [clients + 1]."""
    shares = draws.dirichlet(np.full(clients, alpha))
    if not np.isfinite(shares).all():  # every gamma variate underflowed: the limit of a tiny alpha is one client
        shares = np.eye(clients)[draws.integers(clients)]
    return np.array([0, *np.rint(np.cumsum(shares)[:-1] * samples).astype(int), samples])


def _shards(
    labels: np.ndarray[Any, Any], sizes: list[int], each: int, draws: np.random.Generator
) -> list[np.ndarray[Any, Any]]:
    owners = np.repeat(np.arange(len(sizes)), each)
    lengths = np.array([length for size in sizes for length in shard_sizes(size, each)])
    order = draws.permutation(len(owners))
    pieces = np.split(np.argsort(labels, kind="stable"), np.cumsum(lengths[order])[:-1])
    return [
        np.concatenate([piece for owner, piece in zip(owners[order], pieces, strict=True) if owner == client])
        for client in range(len(sizes))
    ]


def draw_partition(
    labels: np.ndarray[Any, Any], clients: int, partition: str, seed: int, size: int
) -> list[np.ndarray[Any, Any]]:
    """For each client the indices of ``size`` samples, each at most once, by a stream of its own; parts overlap."""
    how = parse_partition(partition)
    parts = []
    for index in range(clients):
        draws = stream(seed, f"shard of client {index}")
        if how.kind == "dirichlet":
            pools = _by_class(labels, draws)
            parts.append(_mixture(pools, np.array([len(pool) for pool in pools]), size, how.alpha, draws))
        else:
            parts.append(draws.permutation(len(labels))[:size])
    return parts


def _by_class(labels: np.ndarray[Any, Any], draws: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    return [draws.permutation(np.flatnonzero(labels == label)) for label in range(int(labels.max()) + 1)]


def _mixture(
    pools: list[np.ndarray[Any, Any]],
    left: np.ndarray[Any, Any],
    size: int,
    alpha: float,
    draws: np.random.Generator,
) -> np.ndarray[Any, Any]:
    """``size`` samples by a mix of classes drawn from Dirichlet(alpha); takes them off ``left``, in place."""
    mix = draws.dirichlet(np.full(len(pools), alpha))
    if not np.isfinite(mix).all():  # every gamma variate underflowed: the limit of a tiny alpha is one class
        mix = np.eye(len(pools))[draws.integers(len(pools))]
    taken: list[np.ndarray[Any, Any]] = []
    missing = size
    while missing:
        weights = np.where(left > 0, mix, 0.0)
        if weights.sum() < 1e-12:
            weights = left.astype(float)
        counts = np.minimum(draws.multinomial(missing, weights / weights.sum()), left)
        for label, count in enumerate(counts):
            taken.append(pools[label][left[label] - count : left[label]])
        left -= counts
        missing -= int(counts.sum())
    return np.concatenate(taken)
