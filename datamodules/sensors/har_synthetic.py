"""Made-up recordings of people with a phone and a watch, for tests and for users without the real ones."""

import numpy as np

from lkd.datamodules.sensors.har_files import CLASSES, Recording, Stream

G = 9.81
# What people do, and for how many seconds
COURSE = (
    ("SEATED", 0.9),
    ("STANDING_UP", 1.2),
    ("WALKING", 2.4),
    ("TURNING", 1.1),
    ("WALKING", 2.4),
    ("TURNING", 1.1),
    ("SITTING_DOWN", 1.3),
    ("SEATED", 0.9),
)
# How the phone's axes look from the leg: its front or its back, and head up or down
ORIENTATIONS = {
    "back": (1, 1, 1),
    "back_inv": (-1, -1, 1),
    "front": (-1, 1, -1),
    "front_inv": (1, -1, -1),
}
PERIODS = {"phone": 9.76, "watch": 9.59}  # ms between rows


def draw_recordings(subjects: int = 12, executions: int = 6, seed: int = 0) -> list[Recording]:
    """Draws recordings that resemble the real ones: course, rates, late rows, units and domain shifts.

    A walking leg swings at a person's own pace and shakes the phone, the arm with the watch swings at half of
    it; turning rotates both about the vertical; getting up and sitting down tilt the leg, and a little the
    arm, in opposite senses. A person's gains and the direction in which the watch sits differ, and so does
    the phone's orientation in the pocket. Every one of the four sensors tells the activities apart, but not
    without errors.

    Args:
        subjects: number of people, "s01" and so on.
        executions: number of executions of each person.
        seed: seed of the draw; a person does not depend on how many others there are.

    Returns:
        Recordings by subject and execution.

    Example:
        >>> recording = draw_recordings(subjects=1, executions=1)[0]
        >>> recording.execution, recording.streams["watch"].x.shape[1]
        ('s01_01', 6)
    """
    return [
        _execution(number, execution, seed) for number in range(subjects) for execution in range(executions)
    ]


def _execution(number: int, execution: int, seed: int) -> Recording:
    person = np.random.default_rng([seed, number])
    pace, gains = person.uniform(1.6, 2.2), person.lognormal(0, 0.15, size=(2, 2))
    orientation = list(ORIENTATIONS)[person.integers(len(ORIENTATIONS))]
    tilt = person.normal(0, 0.25)  # tilt of the watch on the wrist, in radians
    rng = np.random.default_rng([seed, number, execution])
    steps = [(CLASSES.index(name), seconds * rng.uniform(0.8, 1.2)) for name, seconds in COURSE]
    senses = rng.choice([-1.0, 1.0], size=2)  # directions of the two turns
    begin = 1_600_000_000_000 + 1000 * (number * 86_400 + execution * 60)
    streams = {}
    for device, (acc_gain, gyro_gain) in zip(PERIODS, gains, strict=True):
        t = np.arange(rng.uniform(0, 0.05), sum(seconds for _, seconds in steps), PERIODS[device] / 1000)
        y, x = _motion(t, steps, senses, pace, device == "phone")
        x[:3], x[3:] = acc_gain * x[:3], gyro_gain * x[3:]
        if device == "phone":
            x *= np.tile(ORIENTATIONS[orientation], 2)[:, None]
        else:
            turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
            x[:2], x[3:5] = turn @ x[:2], turn @ x[3:5]
        x += rng.normal(0, 1, x.shape) * np.repeat([0.8, 0.25], 3)[:, None]
        streams[device] = Stream(begin + _arrivals(t, rng), x.T.astype(np.float32), y)
    subject = f"s{number + 1:02d}"
    return Recording(subject, f"{subject}_{execution + 1:02d}", orientation, streams)


def _motion(
    t: np.ndarray, steps: list[tuple[int, float]], senses: np.ndarray, pace: float, leg: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels (n,) and signals (6, n) of a leg or an arm: acceleration, then rotation, x y z each."""
    ends = np.cumsum([seconds for _, seconds in steps])
    step = np.minimum(np.searchsorted(ends, t, side="right"), len(steps) - 1)
    y = np.array([label for label, _ in steps])[step]
    seconds = np.array([length for _, length in steps])[step]
    through = np.clip((t - (ends[step] - seconds)) / seconds, 0, 1)  # of the present activity
    pulse = np.sin(np.pi * through)
    seated, up, walking, turning, down = (y == place for place in range(len(CLASSES)))
    lean = np.where(seated, 1.0, 0.0) + up * (1 - through) + down * through  # 1 seated, 0 on foot
    angle = lean * (np.pi / 2 if leg else np.pi / 5)
    phase = 2 * np.pi * pace * (1.0 if leg else 0.5) * t
    swing = 3.0 if leg else 1.5
    x = np.zeros((6, len(t)))
    x[1], x[2] = G * np.cos(angle), G * np.sin(angle)
    x[0] += walking * swing * np.sin(phase) + turning * 1.0 * pulse
    x[1] += walking * swing * np.cos(2 * phase) + (up - 1.0 * down) * 1.5 * np.sin(2 * np.pi * through)
    x[3] += walking * 0.5 * swing * np.cos(phase)
    x[3] += (down - 1.0 * up) * (1.8 if leg else 0.9) * pulse
    sense = np.where(step < len(steps) // 2, *senses)
    x[4] += turning * sense * 2.2 * pulse
    return y, x


def _arrivals(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns stamps (n,) int64 in ms of rows that were measured at t (n,) seconds; a few bursts are late."""
    stamps = 1000 * t
    for start in rng.choice(len(t), size=3, replace=False):
        late = stamps[start] + rng.uniform(40, 150)  # all that was measured until then arrives then
        held = (stamps >= stamps[start]) & (stamps < late)
        stamps[held] = late
    return np.round(np.maximum.accumulate(stamps + rng.uniform(0, 3, len(t)))).astype(np.int64)
