"""`Tracker`: follows boxes from frame to frame, by `trackers` (Apache-2.0)."""

from typing import Literal

import numpy as np

from lkd.checks import expect
from lkd.edge.extra import optional
from lkd.edge.predict.frame import Found

NONE = -1
"""The id of a box that belongs to no track, or not yet."""

TICK = 1e-6
"""Seconds between two frames of the same timestamp."""


class Tracker:
    """Tracker that gives boxes ids which stay with their object, from frame to frame of one clip or stream.

    Args:
        method: "bytetrack" (Zhang et al., ECCV 2022): boxes below `start` continue a track, too, where one
            fits. "sort" (Bewley et al., ICIP 2016): all boxes are treated alike, and only those of `start` or
            more begin a track.
        rate: Frames per second, for frames without a time. Default: 25.
        start: Lowest score of a box that begins a track. Default: .4.
        steady: Frames in a row before a track gets an id. Default: 2.
        lost: Seconds for which a track without a box is kept. Default: 1.
        overlap: Lowest IoU of a box with the expected place of the track that it continues. Default: .2.

    Raises:
        ImportError: If `trackers` is not installed: `pip install "lightning-kd[video]"`.
        ValueError: For another method, or an invalid number.

    Example:
        >>> tracker = Tracker(steady=1)  # doctest: +SKIP
        >>> tracker.update(found, frame.time)["ids"]  # doctest: +SKIP
        array([0, 1, -1])
    """

    def __init__(
        self,
        method: Literal["bytetrack", "sort"] = "bytetrack",
        rate: float = 25.0,
        start: float = 0.4,
        steady: int = 2,
        lost: float = 1.0,
        overlap: float = 0.2,
    ) -> None:
        expect(method=method, among=("bytetrack", "sort"))
        expect(rate=rate, gt=0, lt=np.inf)
        expect(steady=steady, ge=1)
        expect(lost=lost, ge=0, lt=np.inf, why="it is in seconds")
        expect(start=start, ge=0, le=1)
        expect(overlap=overlap, gt=0, le=1)
        trackers = optional("trackers")
        given = {
            "lost_track_buffer": round(30 * lost),  # the library counts in frames at 30 per second
            "frame_rate": rate,
            "track_activation_threshold": start,
            "minimum_consecutive_frames": steady,
            "minimum_iou_threshold": overlap,
        }
        if method == "bytetrack":
            self._tracker = trackers.ByteTrackTracker(**given, high_conf_det_threshold=start)
        else:
            self._tracker = trackers.SORTTracker(**given)
        self._time: float | None = None
        self._sent = -np.inf  # the last time told to the tracker, which must always grow

    def update(self, found: Found, time: float | None = None) -> Found:
        """Returns the same boxes, in the same order, with `ids (N,)` int64: -1 for a box without a track yet.

        Args:
            found: Boxes `(N, 4)` in pixels, scores and labels of the next frame.
            time: Time of the frame in seconds. A time before the last frame's begins a new clip, with new
                tracks and ids. Default: one frame after the last.
        """
        if time is not None and self._time is not None and time < self._time:
            self._tracker.reset()
            self._sent = -np.inf
        if time is not None:
            self._sent = max(time, self._sent + TICK)
        self._time = time
        ids = np.full(len(found["boxes"]), NONE, np.int64)
        boxes = optional("supervision").Detections(
            xyxy=np.asarray(found["boxes"], np.float64).reshape(-1, 4),
            confidence=np.asarray(found["scores"], np.float64),
            class_id=np.asarray(found["labels"], np.int64),
            data={"place": np.arange(len(ids))},  # the library returns boxes in another order
        )
        tracked = self._tracker.update(boxes, timestamp=None if time is None else self._sent)
        if len(tracked):
            ids[tracked.data["place"]] = tracked.tracker_id
        return {**found, "ids": ids}
