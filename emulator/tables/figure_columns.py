"""Columns of the figures that methods are compared by, a row a method."""

from __future__ import annotations

from emulator.analysis.metrics import Figure
from emulator.analysis.summary import Algorithms
from emulator.tables.table import Column, figure


def figure_column(algorithms: Algorithms, of: Figure, head: str = "", *, ranks: bool = True) -> Column:
    """The column of a figure; ``ranks``: its best is marked."""
    cells = [figure(of.of(algorithm), fine=of.fine) for algorithm in algorithms.values()]
    return Column(head or of.head, cells, of.best if ranks else None)


def finished(algorithms: Algorithms) -> list[int]:
    """The rows of methods that finished, whose figures may be compared."""
    return [index for index, each in enumerate(algorithms.values()) if each.outcome == "finished"]
