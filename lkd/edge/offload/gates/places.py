"""`PlaceMeans`: mean values at each camera, in each place of its frames."""

from collections.abc import Sequence

import numpy as np

from lkd.edge.nms import Array


class PlaceMeans:
    """Means of each unit over the samples of a camera.

    Args:
        values: `(N, U)` or `(N, U, F)`.
        cameras: The camera of each sample, N names.

    Example:
        >>> means = PlaceMeans(np.array([[1.0], [3.0], [8.0]]), ["a", "a", "b"])
        >>> means(["b", "a", "new"])[:, 0].tolist()
        [8.0, 2.0, 4.0]
    """

    def __init__(self, values: Array, cameras: Sequence[str]) -> None:
        names = np.array(cameras)
        self.mean: Array = values.mean(0)
        self.means: dict[str, Array] = {}
        for name in np.unique(names):
            self.means[str(name)] = values[names == name].mean(0)

    def __call__(self, cameras: Sequence[str]) -> Array:
        """Returns the means at each sample's camera, shaped as `values`.

        An unknown camera gets the mean over all.
        """
        return np.stack([self.means.get(name, self.mean) for name in cameras])
