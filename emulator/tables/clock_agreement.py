"""Both clocks side by side, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from emulator.analysis.clock_agreement import MS_A_SECOND, Comparison
from emulator.tables.table import NOTHING, Table, TableCell, TableRow, count


def clock_agreement_table(comparisons: Mapping[str, Comparison]) -> Table:
    """The table that ``run.py verify`` prints."""
    rows: list[TableRow] = []
    for name, found in comparisons.items():
        apart = None if found.real_s is None or found.virtual_s is None else found.real_s - found.virtual_s
        rows.append(
            [
                name,
                found.verdict,
                count(found.rounds),
                *(_written(value, ".4f") for value in (found.real_s, found.virtual_s)),
                _written(None if apart is None else apart * MS_A_SECOND, "+.2f"),
                _written(found.worst_ms, ".2f"),
                "equal" if found.bytes_equal else "NOT",
                f"{found.reordered}/{found.deliveries}",
            ]
        )
    return Table(
        title="Both clocks",
        headers=[
            "algorithm",
            "verdict",
            "rounds",
            "real\ns/round",
            "virtual\ns/round",
            "apart\nms",
            "worst\nms",
            "bytes",
            "other\norder",
        ],
        label_columns=2,
        rows=rows,
        caption="Seconds a round, as the real clock showed them and as the model has them (virtual), and their "
        "difference in ms; the largest difference between the ends of one round; payload, framed, wire bytes and "
        "messages of each kind; deliveries that came in another order. A method agrees when its bytes are equal and "
        "every round ended within 1 % of its length + 5 ms.",
        results=_sentences(comparisons),
    )


def _written(value: float | None, form: str) -> TableCell:
    return TableCell(value, NOTHING if value is None else format(value, form))


def _sentences(comparisons: Mapping[str, Comparison]) -> list[str]:
    """What does not agree and why; which runs were the same run."""
    sentences = [f"{name}: {found.verdict}: {found.why}" for name, found in comparisons.items() if found.why]
    same = [name for name, found in comparisons.items() if found.same_timeline and found.same_numbers]
    if same:
        which = "every method" if len(same) == len(comparisons) else ", ".join(same)
        sentences.append(f"The same timeline to the nanosecond and the same numbers to the last bit: {which}.")
    return sentences
