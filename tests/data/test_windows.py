"""Synthetic windows of motion sensors: what the signals are made of can be measured in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from algorithms.data import datasets, identity, windows
from algorithms.data.windows import ACTIVITIES, CADENCE, HERTZ, NOISE, SHAPE, SUBJECTS
from algorithms.workload.task import Task, prepare
from emulator.errors import UserError

Parts = tuple[windows.WindowsPart, windows.WindowsPart]


@pytest.fixture(scope="module")
def parts() -> Parts:
    return windows.load()


def test_shapes_subjects_and_activities_are_as_said(parts: Parts) -> None:
    train, test = parts
    for part, counts, first in zip(parts, windows.sizes(), (0, SUBJECTS[0]), strict=True):
        assert (part.x.shape, part.x.dtype, part.y.dtype) == ((sum(counts), *SHAPE), np.float32, np.int64)
        subjects, found = np.unique(part.subjects, return_counts=True)
        assert (subjects - first).tolist() == list(range(len(counts)))
        assert found.tolist() == counts
        assert sorted(set(part.y.tolist())) == list(range(len(ACTIVITIES)))
    assert not {*train.subjects.tolist()} & {*test.subjects.tolist()}
    assert max(windows.sizes()[0]) > 2 * min(windows.sizes()[0])


def test_the_same_signals_come_every_time(parts: Parts) -> None:
    again = windows.load()
    assert all(
        np.array_equal(one, other)
        for old, new in zip(parts, again, strict=True)
        for one, other in zip(old, new, strict=True)
    )


def test_who_is_still_feels_gravity_alone_and_total_acceleration_is_the_bodys_and_gravity(
    parts: Parts,
) -> None:
    part = parts[0]
    still = part.x[part.y >= ACTIVITIES.index("sitting")]
    assert still[:, :6].std() == pytest.approx(NOISE, rel=0.02)
    assert np.linalg.norm(still[:, 6:].mean(2), axis=1) == pytest.approx(1.0, abs=0.03)
    gravity = (part.x[:, 6:] - part.x[:, :3]).mean(2)
    assert np.linalg.norm(gravity, axis=1) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("activity", CADENCE)
def test_who_walks_does_so_at_a_persons_cadence(parts: Parts, activity: str) -> None:
    part = parts[0]
    rows = part.y == ACTIVITIES.index(activity)
    power = (np.abs(np.fft.rfft(part.x[rows][:, :3], axis=2)) ** 2).sum(1)
    step_hz = np.fft.rfftfreq(SHAPE[1], 1 / HERTZ)[power[:, :9].argmax(1)]  # below twice any cadence
    of_subject = [np.median(step_hz[part.subjects[rows] == subject]) for subject in range(SUBJECTS[0])]
    assert np.mean(of_subject) == pytest.approx(CADENCE[activity], rel=0.1)
    assert np.std(of_subject) > 0.03 * CADENCE[activity]


def test_a_person_is_a_client_whose_windows_reach_the_model_as_they_are(parts: Parts, tmp_path: Path) -> None:
    task = Task(dataset=windows.NAME, model="cnn1d", partition="natural", clients=SUBJECTS[0], batch=500)
    about = datasets.describe(windows.NAME, "data")
    assert (about.shape, about.train, about.test) == (SHAPE, len(parts[0].y), len(parts[1].y))
    made = prepare(task, tmp_path)
    assert made.shard_samples() == windows.sizes()[0]
    (x, y), *_ = made.shard(3).batches(0)
    own = parts[0].subjects == 3
    order = torch.from_numpy(parts[0].x[own]).flatten(1).sum(1).argsort()
    assert torch.equal(x[x.flatten(1).sum(1).argsort()], torch.from_numpy(parts[0].x[own])[order])
    assert sorted(y.tolist()) == sorted(parts[0].y[own].tolist())
    z = made.client_half()(x[:2])
    assert (z.shape, made.server_half()(z).shape) == ((2, 32, 64), (2, len(ACTIVITIES)))
    with pytest.raises(UserError, match="cnn1d takes windows CxL of length 8 or more"):
        prepare(Task(model="cnn1d"), tmp_path / "digits")
    assert identity.identity(windows.NAME, "data") != identity.identity("digits", "data")
