"""What a run's data are, as its manifest and summary have it: samples and classes of every client."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from emulator.ledger.criteria import OLDER, Criteria, Metric


class SampleCounts(Struct, frozen=True, kw_only=True):
    """What a part of the data has: samples, and of each class that occurs its samples."""

    samples: int
    classes: dict[str, int]

    @property
    def largest_share(self) -> float:
        """The share of the samples that are of one class, the most frequent."""
        counts = self.classes.values()  # of positions, where each has a label; none of a regression
        return max(counts) / sum(counts) if counts else 0.0


class Judged(Struct, frozen=True, kw_only=True):
    """What a model is judged by: the kind of the task, its first metric, ``higher`` or ``lower``, its targets; the
    other metrics. ``naive``: an answer without training, and ``naive_score``, the first metric of it.

    ``by_client``: what a client's metric is of, "own test samples", "training labels" (the test part as if its labels
    were distributed as the client's training labels are), or "" where it is not told."""

    task: str
    metric: str
    better: Literal["higher", "lower"] = "higher"
    percent: bool | None = None  # records of some days do not say
    targets: list[float] = []
    by_client: str = ""
    others: list[Metric] = []
    naive: str = ""
    naive_score: float | None = None

    @property
    def criteria(self) -> Criteria:
        """The metrics, the first of them first."""
        percent = self.better == "higher" if self.percent is None else self.percent
        first = Metric(self.metric, self.better, percent, tuple(self.targets))
        return Criteria((first, *self.others), self.naive, self.naive_score)


class Census(Struct, frozen=True, kw_only=True):
    """The data of a run: ``shape`` of a sample, such as [C, H, W]; least, most and ``white``: values of pixels, 0 where
    there are none; ``names`` of classes, or none; ``overlap``: whether clients draw for themselves; ``remarks``: what
    is odd about them; ``judged``: None in older records."""

    dataset: str
    shape: list[int]
    least: int | float = 0
    most: int | float = 0
    white: int = 255
    names: list[str]
    partition: str
    overlap: bool = False
    remarks: list[str]
    train: SampleCounts
    test: SampleCounts
    clients: list[SampleCounts]
    judged: Judged | None = None


def criteria_of(judged: Judged | None) -> Criteria:
    """What a record says that models are judged by; of an older one, accuracy."""
    return judged.criteria if judged else OLDER
