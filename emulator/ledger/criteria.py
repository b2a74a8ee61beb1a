"""What models are judged by: metrics with their directions and targets, and how views call them.

The emulator knows no task: names, directions and targets come from the run's manifest. In records that do not say, it
is ``ACCURACY``, whose keys in files of figures hold no metric's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

PERCENT = 100.0
LONG = 7  # letters: a longer word is divided above a narrow column


class Metric(Struct, frozen=True):
    """A figure of a judged model. ``percent``: it is a share, 0 to 1; ``targets``: values whose first round is told;
    ``least``: what it cannot be below."""

    name: str
    better: Literal["higher", "lower"] = "higher"
    percent: bool = True
    targets: tuple[float, ...] = ()
    least: float = 0.0

    @property
    def words(self) -> str:
        """Its name as it is read."""
        return self.name.replace("_", " ")

    @property
    def factor(self) -> float:
        """From its values to what is shown."""
        return PERCENT if self.percent else 1.0

    @property
    def best(self) -> Literal["least", "most"]:
        """Which of its values is the best."""
        return "most" if self.better == "higher" else "least"

    @property
    def superlative(self) -> str:
        """Of its best value, in words."""
        return "highest" if self.better == "higher" else "lowest"

    @property
    def key(self) -> str:
        """Its value in files of figures."""
        return f"{self.name}_percent" if self.percent else self.name

    @property
    def head(self) -> str:
        """Above a column, a word a line."""
        return "\n".join([*self.words.split(), *["%"] * self.percent])

    @property
    def narrow_head(self) -> str:
        """The same with long words divided."""
        parts = []
        for word in self.words.split():
            half = (len(word) + 1) // 2
            parts += [f"{word[:half]}-", word[half:]] if len(word) > LONG else [word]
        return "\n".join(parts) + " %" * self.percent

    def rank(self, value: float) -> float:
        """The larger, the better."""
        return value if self.better == "higher" else -value

    def reached(self, value: float, target: float) -> bool:
        """Whether a value is as good as a target."""
        return self.rank(value) >= self.rank(target)

    def text(self, value: float, digits: int = 1) -> str:
        """A value with its unit; ``digits``: of percent, after the point."""
        return f"{PERCENT * value:.{digits}f} %" if self.percent else f"{value:.4g}"


class Goal(NamedTuple):
    """A target of a metric."""

    metric: Metric
    value: float

    @property
    def short(self) -> str:
        """The value with its unit."""
        return f"{self.metric.factor * self.value:.6g}{' %' * self.metric.percent}"

    @property
    def text(self) -> str:
        """In a sentence: what a method reaches. Percent of ``ACCURACY`` stand for themselves."""
        if not self.metric.percent:
            return f"a {self.metric.words} of {self.short}"
        return self.short if self.metric.name == ACCURACY.name else f"{self.short} {self.metric.words}"

    @property
    def in_full(self) -> str:
        """Above a table: with its metric."""
        return f"{self.short} {self.metric.words}" if self.metric.percent else self.text

    def key(self, factor: float | None = None) -> str:
        """In the names of figures: ``85``, ``macro_f1_85``, ``perplexity_40``; ``factor``: of its value, not that of
        its unit."""
        shown = f"{(self.metric.factor if factor is None else factor) * self.value:.6g}"
        return shown if self.metric.name == ACCURACY.name else f"{self.metric.name}_{shown}"


ACCURACY = Metric("accuracy", targets=(0.85, 0.9))
OF_OLDER = (ACCURACY, Metric("balanced_accuracy"))


class Criteria(NamedTuple):
    """The metrics of a task, the one that a run is judged by first. ``naive``: an answer that needs no training, in
    words, and ``naive_score``, what the first metric of it is."""

    metrics: Sequence[Metric] = OF_OLDER
    naive: str = ""
    naive_score: float | None = None

    @property
    def metric(self) -> Metric:
        """The first."""
        return self.metrics[0]

    def of(self, metric: Metric) -> list[Goal]:
        """A metric's targets, from the easiest on."""
        return [Goal(metric, value) for value in sorted(metric.targets, key=metric.rank)]

    @property
    def goals(self) -> list[Goal]:
        """The targets of all metrics."""
        return [goal for metric in self.metrics for goal in self.of(metric)]

    @property
    def hardest(self) -> list[Goal]:
        """Of each metric with targets the hardest."""
        return [self.of(metric)[-1] for metric in self.metrics if metric.targets]

    @property
    def shown(self) -> list[Metric]:
        """The metrics that have columns: the first, and others with a target."""
        return [self.metric, *(each for each in self.metrics[1:] if each.targets)]

    @property
    def words(self) -> str:
        """The names of ``shown``."""
        return " and ".join(each.words for each in self.shown)

    def reaching(self, adjective: str = "", *, hardest: bool = False) -> str:
        """The targets in words, such as ``85 or 90 % test accuracy``; empty where there are none."""
        parts = []
        for metric in self.shown:
            goals = self.of(metric)[-1:] if hardest else self.of(metric)
            values = [f"{metric.factor * goal.value:.6g}" for goal in goals]
            what = f"{adjective}{metric.words}"
            if values and metric.percent:
                parts.append(f"{' or '.join(values)} % {what}")
            elif values:
                parts.append(f"a {what} of {' or '.join(values)}")
        return " or ".join(parts)


OLDER = Criteria()  # of records that do not say
