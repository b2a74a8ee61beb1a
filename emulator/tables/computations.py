"""What a computation costs, as a table."""

from __future__ import annotations

from emulator.analysis.summary import Algorithms
from emulator.tables.table import Table, TableRow, count, figure


def computations_table(algorithms: Algorithms) -> Table:
    """What one computation of each kind costs, in the mean."""
    rows: list[TableRow] = []
    for name, algorithm in algorithms.items():
        for row in algorithm.computations:
            times = row.times
            sizes = [row.dense_flops / 1e6, row.depthwise_flops / 1e6, row.moved_bytes / 1e6]
            work = [figure(row.operations / times), *(figure(size / times or None) for size in sizes)]
            each = [figure(1e3 * row.seconds / times), figure(row.host_ms)]
            rows.append([name, row.device, row.function, count(times), *work, *each])
    return Table(
        title="What a computation costs",
        headers=[
            *("algorithm", "device", "function", "times", "oper-\nations"),
            *("dense\nMFLOP", "depthwise\nMFLOP", "moved\nMB", "emulated\nms", "host\nms"),
        ],
        label_columns=3,
        rows=rows,
        caption="Means over so many computations: dispatched operations; floating-point operations of dense and of "
        "depthwise convolutions and products (a multiply-add is two); bytes that the other operations touch; the "
        "device's time for that. Host: what this machine took, the median (–: a dry run carries out few of them).",
    )
