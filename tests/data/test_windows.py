"""Synthetic windows of motion sensors: what the signals are made of can be measured in them."""

from __future__ import annotations

import numpy as np
import pytest

from algorithms.data import windows
from algorithms.data.windows import ACTIVITIES, CADENCE, HERTZ, NOISE, SHAPE, SUBJECTS


@pytest.fixture(scope="module")
def parts() -> tuple[windows.Part, windows.Part]:
    return windows.load()


def test_shapes_subjects_and_activities_are_as_said(parts: tuple[windows.Part, windows.Part]) -> None:
    train, test = parts
    for part, counts, first in zip(parts, windows.sizes(), (0, SUBJECTS[0]), strict=True):
        assert (part.x.shape, part.x.dtype, part.y.dtype) == ((sum(counts), *SHAPE), np.float32, np.int64)
        subjects, found = np.unique(part.subjects, return_counts=True)
        assert (subjects - first).tolist() == list(range(len(counts)))
        assert found.tolist() == counts
        assert sorted(set(part.y.tolist())) == list(range(len(ACTIVITIES)))
    assert not {*train.subjects.tolist()} & {*test.subjects.tolist()}
    assert max(windows.sizes()[0]) > 2 * min(windows.sizes()[0])


def test_the_same_signals_come_every_time(parts: tuple[windows.Part, windows.Part]) -> None:
    again = windows.load()
    assert all(
        np.array_equal(one, other)
        for old, new in zip(parts, again, strict=True)
        for one, other in zip(old, new, strict=True)
    )


def test_who_is_still_feels_gravity_alone_and_total_acceleration_is_the_bodys_and_gravity(
    parts: tuple[windows.Part, windows.Part],
) -> None:
    part = parts[0]
    still = part.x[part.y >= ACTIVITIES.index("sitting")]
    assert still[:, :6].std() == pytest.approx(NOISE, rel=0.02)
    assert np.linalg.norm(still[:, 6:].mean(2), axis=1) == pytest.approx(1.0, abs=0.03)
    gravity = (part.x[:, 6:] - part.x[:, :3]).mean(2)
    assert np.linalg.norm(gravity, axis=1) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("activity", CADENCE)
def test_who_walks_does_so_at_a_persons_cadence(parts: tuple[windows.Part, windows.Part], activity: str) -> None:
    part = parts[0]
    rows = part.y == ACTIVITIES.index(activity)
    power = (np.abs(np.fft.rfft(part.x[rows][:, :3], axis=2)) ** 2).sum(1)
    step_hz = np.fft.rfftfreq(SHAPE[1], 1 / HERTZ)[power[:, :9].argmax(1)]  # below twice any cadence
    of_subject = [np.median(step_hz[part.subjects[rows] == subject]) for subject in range(SUBJECTS[0])]
    assert np.mean(of_subject) == pytest.approx(CADENCE[activity], rel=0.1)
    assert np.std(of_subject) > 0.03 * CADENCE[activity]
