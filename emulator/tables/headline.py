"""The headline of a run: one sentence that says which method is best by which figure. A view."""

from __future__ import annotations

from collections.abc import Mapping

from emulator.analysis import model_memory
from emulator.analysis.metrics import FIGURES, KB, payload_per_share
from emulator.analysis.summary import Algorithms, Summary
from emulator.ledger.criteria import Criteria, Goal, Metric
from emulator.tables.table import number

# Peaks this close are alike: the same command again gives each method's up to 0.25 MiB more or less (small models, ten
# clients), and large ones within 2 %.
ALIKE_MIB, ALIKE_SHARE = 0.25, 0.02
PARTIAL = "partial, consistent as far as it goes"
UNPLAYED = "none, nothing was played"
ONE_SEED = "One seed is no ranking: the same command with --seeds 5 says what holds."


def headline(summary: Summary) -> str:
    """The headline: one sentence. It says so when the run's verdict is bad or no method has finished."""
    if summary.health.reasons:
        return "What the numbers say: nothing, since this run cannot be trusted."
    done = _done(summary)
    unfit = [name for name, each in summary.algorithms.items() if each.does_not_fit]
    diverged = [name for name, each in summary.algorithms.items() if each.outcome == "diverged"]
    if not summary.algorithms:
        return "What the numbers say: nothing, since nothing was played."
    if not done and not unfit and not diverged:
        return "What the numbers say: nothing yet, since no method has finished."
    total = len(summary.algorithms) + len(summary.not_played)
    among = f" of the {len(done)} of {total} methods that finished" if incomplete_lines(summary) else ""
    of, goal = summary.criteria, target_of(summary)
    parts = [*_target(done, of, goal), *_value(done, of.metric), *_volume(done, goal), *_memory(done), *_slowest(done)]
    parts += _energy(summary)
    if unfit:
        found = [each.does_not_fit for each in summary.algorithms.values() if each.does_not_fit]
        stopped = any(each.outcome == "does-not-fit" for each in found)
        verb = ("do" if len(unfit) > 1 else "does") if stopped else "would"
        sizes = dict.fromkeys(number(each.budget_mib) for each in found if each.budget_mib is not None)
        budget = f" of {_listed([*sizes])} MiB" if sizes else ""
        parts.append(f"{_listed(unfit)} {verb} not fit in memory{budget}{' (foreseen)' * (not trained(summary))}")
    parts += _with_model(summary) if done else []
    if diverged:
        parts.append(f"{_listed(diverged)} diverged")
    return f"What the numbers say{among}: {'; '.join(parts) or 'no method stands out'}."


def incomplete_lines(summary: Summary) -> list[str]:
    """Lines that say what is missing of a run that was cut short or still goes on; empty for a complete run."""
    cut = [
        f"{name} ({each.rounds} {'round' if each.rounds == 1 else 'rounds'} ended)"
        for name, each in summary.algorithms.items()
        if each.outcome in ("partial", "interrupted")
    ]
    lines = [f"PARTIAL: {', '.join(cut)} did not come to an end; the figures are those until then."] if cut else []
    absent = summary.not_played
    return lines + ([f"PARTIAL: not played: {', '.join(absent)}."] if absent else [])


def trained(summary: Summary) -> bool:
    """Whether there was anything to judge: in a dry run there is not."""
    return summary.health.verdict != "none"


def clock_of(summary: Summary) -> str:
    """Which clock the run was played on, in words."""
    return f"{summary.clock} clock" if trained(summary) else "dry run: foreseen, nothing was trained"


def verdict_label(summary: Summary) -> str:
    """The label of a run's verdict on itself."""
    verdict = summary.health.verdict
    return {"partial": PARTIAL, "unplayed": UNPLAYED}.get(verdict, verdict)


def one_seed(summary: Summary) -> str:
    """What a comparison of methods by one seed is worth, and the flag that plays more; "" where none is made."""
    known = [each for each in _done(summary).values() if each.loss is not None]
    return ONE_SEED if len(known) > 1 and not summary.health.reasons else ""


def target_of(summary: Summary) -> Goal | None:
    """The hardest target that a method which finished has reached, of the first metric of which one is; else None."""
    criteria, done = summary.criteria, _done(summary).values()
    hardest_first = (goal for metric in criteria.shown for goal in reversed(criteria.of(metric)))
    return next((goal for goal in hardest_first if any(each.reached(goal) for each in done)), None)


def _done(summary: Summary) -> Algorithms:
    """The methods that finished a round and came to their end."""
    return {name: each for name, each in summary.algorithms.items() if each.outcome == "finished" and each.rounds}


def _with_model(summary: Summary) -> list[str]:
    """Which methods would not fit the run's devices with a paper's model, by what is computed."""
    found = model_memory.of(summary)
    if found is None:
        return []
    fits: dict[str, dict[str, bool | None]] = {}  # by method and device with its budget
    for name, algorithm in summary.algorithms.items():
        if need := found.methods.get(name):
            clients = {client.device: client.budget_mib for client in algorithm.clients}
            fits[name] = {
                f"{device} ({number(budget_mib)} MiB)": model_memory.fits(need, budget_mib)
                for device, budget_mib in clients.items()
            }
    if not fits:
        return []
    what = f"with {found.model} (computed)"
    devices = [*dict.fromkeys(device for each in fits.values() for device in each if each[device] is False)]
    unfit = [name for name, each in fits.items() if False in each.values()]
    maybe = [name for name, each in fits.items() if name not in unfit and None in each.values()]
    sure = [name for name in fits if name not in unfit and name not in maybe]
    parts = [f"{_listed(unfit)} would not fit a {_listed(devices)}"] if unfit else []
    parts += [f"{_listed(maybe)} may not{' fit' * (not unfit)}"] if maybe else []
    if sure:
        who = _listed(sure) if len(sure) < 3 else "the others" if parts else "all"
        parts.append(f"{who} would{' fit' * (not parts)}")
    return [f"{what} {', '.join(parts)}"]


def _energy(summary: Summary) -> list[str]:
    """Who draws the fewest joules, where no power number that goes in is an assumption."""
    known = [each.energy for each in summary.algorithms.values() if each.energy]
    if summary.energy is None or not summary.energy.least or any(each.grade == "R" for each in known):
        return []
    alike = summary.energy.alike
    beside = f" (not told apart from {_listed(alike)})" if alike else ""
    return [f"{summary.energy.least} draws the fewest joules a round{beside}"]


def _target(done: Algorithms, criteria: Criteria, goal: Goal | None) -> list[str]:
    if goal is None:
        judged = criteria.goals and any(each.loss is not None for each in done.values())
        return [f"no method reached {criteria.goals[0].text}"] if judged else []
    reached = {name: found for name, each in done.items() if (found := each.reached(goal))}
    target = goal.text
    fewest = _least({name: found.bytes for name, found in reached.items()})
    soonest = _least({name: found.seconds for name, found in reached.items()})
    bytes_ = f"{number(reached[fewest[0]].bytes / 1e6)} MB"
    seconds = f"{number(reached[soonest[0]].seconds)} s"
    if len(reached) == 1:  # others were perhaps given less time
        only = "only " if len(done) > 1 else ""
        return [f"{only}{soonest[0]} reached {target}, after {seconds} and {bytes_}"]
    if fewest == soonest:
        return [f"{_who(fewest, done)} reached {target} first ({seconds}) and with the fewest bytes ({bytes_})"]
    return [
        f"{_who(soonest, done)} reached {target} first ({seconds})",
        f"{_who(fewest, done)} with the fewest bytes ({bytes_})",
    ]


def _who(names: list[str], done: Algorithms) -> str:
    return "all" if len(names) == len(done) > 2 else _listed(names)


def _value(done: Algorithms, metric: Metric) -> list[str]:
    known = {name: value for name, each in done.items() if (value := each.scores.get(metric.name)) is not None}
    if len(known) < 2:
        return []
    best = _least({name: -metric.rank(value) for name, value in known.items()})
    after = f" after {number(done[best[0]].seconds)} s" if len(best) == 1 else ""
    return [
        f"{_who(best, done)} ended with the {metric.superlative} {metric.words} ({metric.text(known[best[0]])}{after})"
    ]


def _volume(done: Algorithms, goal: Goal | None) -> list[str]:
    """Who sends and receives the least in a round, where no bytes until a target are spoken of."""
    found = {}
    for name, each in done.items():
        up, down = payload_per_share(each, "up"), payload_per_share(each, "down")
        if up is not None and down is not None:
            found[name] = up + down
    if goal or len(found) < 2:
        return []
    least = _least(found)
    if len(least) == len(found):
        return []
    kilobytes = number(found[least[0]] / KB)
    return [f"{_listed(least)} {'send' if len(least) > 1 else 'sends'} the fewest bytes ({kilobytes} kB a round)"]


def _memory(done: Algorithms) -> list[str]:
    """Who needs the least at the largest peak; of a dry run, by the peaks that are foreseen."""
    foreseen = any(each.foreseen for each in done.values())
    of = FIGURES["needed_mib" if foreseen else "peak_mib"].of
    peaks = {name: mib for name, each in done.items() if (mib := of(each)) is not None}
    if len(peaks) < 2:
        return []
    lowest = min(peaks.values())
    least = sorted(
        (name for name in peaks if peaks[name] <= lowest * (1 + ALIKE_SHARE) + ALIKE_MIB), key=peaks.__getitem__
    )
    need, needs, how = ("would need", "would need", ", foreseen") if foreseen else ("need", "needs", "")
    if len(least) == len(peaks):
        return [f"all {need} about the same client memory"]
    highest = peaks[least[-1]]
    span = number(lowest) if len(least) == 1 else f"{number(lowest)} to {number(highest)}"
    return [f"{_listed(least)} {need if len(least) > 1 else needs} the least client memory ({span} MiB{how})"]


def _slowest(done: Algorithms) -> list[str]:
    """Who has the longest round, and what it mostly goes into."""
    rounds = {name: each.round_latency_s for name, each in done.items() if each.round_latency_s}
    if len(rounds) < 2:
        return []
    if len({sum(split.values()) for split in rounds.values()}) == 1:
        return []
    slowest = max(rounds, key=lambda name: sum(rounds[name].values()))
    split = rounds[slowest]
    cause, length = max(split, key=lambda cause: split[cause]), sum(split.values())
    if not length:
        return []
    share = f"{100 * split[cause] / length:.0f} % of it {cause}"
    return [f"{slowest} takes the longest round ({number(length)} s, {share})"]


def _least(values: Mapping[str, float]) -> list[str]:
    """Who has the least; several where they are equal."""
    least = min(values.values())
    return [name for name, value in values.items() if value == least]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
