"""The data of a run, as its manifest holds them: what was read, and what each client has of it. A view.

``data`` is what prepared the data said of them: dataset, shape [C, H, W], least, most and white (values of pixels),
names (of classes, or none), partition, overlap, remarks; train, test and each of clients: samples, and of each class
that occurs its samples.
"""

from __future__ import annotations

from collections.abc import Collection
from statistics import median

from emulator.analysis.summary import Summary
from emulator.ledger.census import Census, SampleCounts
from emulator.ledger.criteria import ACCURACY
from emulator.tables.table import Table, TableCell, TableRow, count, csv_text, figure, number

NAME = "clients-data.csv"
ALL_CLIENTS, ALL_CLASSES = 40, 12  # up to so many stand one by one in a table
SURPRISES = 2  # in the run's first lines; all are in the record
PERCENT = 100.0


def classes_of(data: Census) -> list[str]:
    """Every class that occurs, by number: those of the training and of the test part."""
    return sorted({*data.train.classes, *data.test.classes}, key=int)


def name_of(data: Census, label: str) -> str:
    """A class's name, or its number."""
    names = data.names
    return str(names[int(label)]) if names else label


def first_lines(data: Census | None) -> list[str]:
    """What was read and how it lies with the clients, in at most four lines; none where nothing is known."""
    if not data:
        return []
    train, test, clients = data.train, data.test, data.clients
    shape = "x".join(map(str, data.shape))
    spread = f"{data.least:.6g} to {data.most:.6g}"
    pixels = f"{shape}, pixels {spread} of {data.white}" if data.white else f"{shape}, values {spread}"
    lines = [f"Data: {data.dataset}, {pixels}; {train.samples} samples to train, {test.samples} to test."]
    if train.classes:
        what = "positions" if data.judged and data.judged.task == "per-position" else "samples"
        lines.append(
            f"Classes: {len(train.classes)}, {_span(train.classes.values())} {what} each; the largest is"
            f" {number(test.largest_share, PERCENT)} % of the test part."
        )
    sizes, kinds = [held.samples for held in clients], [len(held.classes) for held in clients]
    shares = [round(PERCENT * held.largest_share) for held in clients]
    overlap = ", overlapping" if data.overlap else ""
    classes = f", {_span(kinds)} classes each, the largest {_span(shares)} %" if train.classes else " each"
    lines.append(f"Clients: {len(clients)}, {data.partition}{overlap}; {_span(sizes)} samples{classes}.")
    if remarks := data.remarks:
        more = f"; and {len(remarks) - SURPRISES} more below the tables" if len(remarks) > SURPRISES else ""
        lines.append(f"But: {'; '.join(remarks[:SURPRISES])}{more}.")
    return lines


def _span(values: Collection[int]) -> str:
    least, most = min(values), max(values)
    return str(least) if least == most else f"{least} to {most}"


def remarks(summary: Summary) -> list[str]:
    """What is odd about the data, each a sentence."""
    return [f"data: {remark}" for remark in (summary.data.remarks if summary.data else ())]


def naive_answer(summary: Summary) -> str:
    """What the models' scores are to be seen beside: a sentence, or nothing."""
    metric, naive, score = summary.criteria.metric, summary.criteria.naive, summary.criteria.naive_score
    if score is None and (data := summary.data) and data.test.classes and metric.name == ACCURACY.name:
        naive, score = "naming the largest class of the test set always", data.test.largest_share
    if score is None:
        return ""
    found = number(score, metric.factor, fine=not metric.percent)
    has = f"{found} %" if metric.percent else f"a {metric.words} of {found}"
    return f"{naive[:1].upper()}{naive[1:]} would have {has}."


def clients_data_tables(data: Census | None) -> list[Table]:
    """Samples and classes of every client; where they are many, least, median and most. None in older records."""
    if data is None:
        return []
    clients, labels = data.clients, classes_of(data)
    rows = {f"client-{index}": held for index, held in enumerate(clients)}
    headers = ["", "samples", "classes", "largest\n%"]
    whole = [("training part", data.train), ("test part", data.test)]
    few_classes = len(labels) <= ALL_CLASSES
    headers += [name_of(data, label) for label in labels] if few_classes else []

    def row(name: str, held: SampleCounts) -> TableRow:
        counts = [count(held.classes.get(label, 0)) for label in labels] if few_classes else []
        sizes = [count(held.samples), count(len(held.classes))]
        return [name, *sizes, figure(held.largest_share, PERCENT), *counts]

    found = []
    if len(clients) <= ALL_CLIENTS:
        found = [row(name, held) for name, held in rows.items()]
    if len(clients) > 1:
        for name, of in (("least", min), ("median", median), ("most", max)):
            over = [held.samples for held in clients], [len(held.classes) for held in clients]
            counts = [[held.classes.get(label, 0) for held in clients] for label in labels] if few_classes else []
            share = of([held.largest_share for held in clients])
            cells = [TableCell(of(values), f"{of(values):g}") for values in (*over, *counts)]
            found.append([f"{name} of clients", *cells[:2], figure(share, PERCENT), *cells[2:]])
    found += [row(name, held) for name, held in whole]
    return [
        Table(
            title="Clients' data",
            headers=headers,
            label_columns=1,
            rows=found,
            caption=f"Partition {data.partition} of {data.dataset}: each client's samples, how many classes, the"
            " share of the most frequent one, and samples of each class. Least, median and most are of each column by"
            f" itself. In full in {NAME}.",
        )
    ]


def to_csv(data: Census) -> str:
    """A row for each client, then for the training and the test part: samples, and samples of each class."""
    labels = classes_of(data)
    parts = {f"client-{index}": held for index, held in enumerate(data.clients)}
    parts |= {"train": data.train, "test": data.test}
    return csv_text(
        ["part", "samples", *(name_of(data, label) for label in labels)],
        ([name, held.samples, *(held.classes.get(each, 0) for each in labels)] for name, held in parts.items()),
    )
