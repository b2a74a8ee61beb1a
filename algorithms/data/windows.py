"""Windows of motion sensors, synthetic, in the shape of UCI HAR (Anguita et al., ESANN 2013): nine signals at 50 Hz.

Each window has 128 samples (2.56 s) of three axes each of body acceleration, angular velocity and total acceleration,
in g and rad/s, and one of six activities. A person has a cadence, a strength and a way to wear the sensor of their own,
and an unequal number of windows; those of the test part are nobody's of the training part. No one was measured: the
signals are sums of harmonics, gravity and noise, learnable and unlike from person to person.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from algorithms.data.streams import stream

NAME = "har-windows"
ACTIVITIES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "laying")
SHAPE = (9, 128)  # signals, samples
SUBJECTS = 21, 9  # that train and that test, as there
SAMPLES = 100, 400  # of a subject, from and below
HERTZ = 50
NOISE = 0.05  # of every signal, in its unit
WEARING = 0.15  # standard deviation of a person's tilt of the sensor on each axis, rad
CADENCE = {"walking": 1.9, "walking upstairs": 1.6, "walking downstairs": 2.1}  # steps a second
STRENGTH = {"walking": 0.30, "walking upstairs": 0.26, "walking downstairs": 0.42}  # of body acceleration, g
POSTURE = {"sitting": (0.9, 0.4, 0.2), "laying": (0.1, 0.7, 0.7)}  # gravity on the axes; upright else
UPRIGHT = (1.0, 0.1, 0.1)

Array = np.ndarray[Any, Any]


class WindowsPart(NamedTuple):
    """Windows float32 [N, 9, 128], activities int64 [N] and subjects int64 [N]."""

    x: Array
    y: Array
    subjects: Array


def sizes() -> tuple[list[int], list[int]]:
    """How many windows each subject has, of the training and of the test part."""
    drawn = stream(0, f"{NAME}:sizes").integers(*SAMPLES, sum(SUBJECTS)).tolist()
    return drawn[: SUBJECTS[0]], drawn[SUBJECTS[0] :]


def load() -> tuple[WindowsPart, WindowsPart]:
    """The training and the test part, always the same."""
    train, test = sizes()
    return _part(train, 0), _part(test, len(train))


def _part(counts: list[int], first: int) -> WindowsPart:
    made = [_subject(first + index, count) for index, count in enumerate(counts)]
    x, y = (np.concatenate(arrays) for arrays in zip(*made, strict=True))
    return WindowsPart(x, y, np.repeat(np.arange(first, first + len(counts)), counts))


def _subject(subject: int, count: int) -> tuple[Array, Array]:
    draws = stream(0, f"{NAME}:subject {subject}")
    cadence, strength = draws.normal(1.0, 0.08), draws.lognormal(0.0, 0.2)
    worn = _rotation(draws.normal(0.0, WEARING, 3))
    y = draws.choice(len(ACTIVITIES), count, p=draws.dirichlet(np.full(len(ACTIVITIES), 20.0)))
    x = np.stack([_window(ACTIVITIES[label], cadence, strength, worn, draws) for label in y])
    return x, y.astype(np.int64)


def _window(activity: str, cadence: float, strength: float, worn: Array, draws: np.random.Generator) -> Array:
    """One window float32 [9, 128]."""
    seconds = np.arange(SHAPE[1]) / HERTZ
    gravity = np.array(POSTURE.get(activity, UPRIGHT))
    gravity = _rotation(draws.normal(0.0, 0.1, 3)) @ (gravity / np.linalg.norm(gravity))
    body, turning = np.zeros((2, 3, SHAPE[1]))
    if activity in CADENCE:
        phase = 2 * np.pi * (CADENCE[activity] * cadence * draws.normal(1.0, 0.03) * seconds + draws.random())
        amplitude = STRENGTH[activity] * strength * np.array([1.0, 0.5, 0.7])[:, None]
        up = {"walking": 0.5, "walking upstairs": 0.2, "walking downstairs": 0.8}[activity]
        body = amplitude * (np.sin(phase) + up * np.sin(2 * phase + 0.5) + 0.2 * np.sin(3 * phase))
        turning = 2.0 * amplitude * np.cos(phase + np.array([0.0, 0.8, 1.6])[:, None])
    signals = np.concatenate([worn @ body, worn @ turning, worn @ (body + gravity[:, None])])
    noisy: Array = (signals + draws.normal(0.0, NOISE, signals.shape)).astype(np.float32)
    return noisy


def _rotation(angles: Array) -> Array:
    """The rotation by three angles in rad about the axes, one after another, [3, 3]."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: Array = about_z @ about_y @ about_x
    return rotation
