"""What the context alone tells of a parking slot: weather, hour, weekday and camera on the real labels of CNRPark-EXT.

    python benchmarks/context_baseline.py --root data/cnrpark_ext

No picture is needed, only the list of labels. Trained on the first days, tested on the last ones (the days between are not looked
at), whole days for all cameras. Prints, as a Markdown table, the accuracy of: the more frequent label of the training days; logistic
regression and an MLP on the whole context; the MLP on hour and weekday alone, on all but the weekday, and on the context and which slot
it is. Mean over the seeds (of the MLP's start; the deviation is in the last line). Nothing is tuned on these figures: scikit-learn's
defaults, two hidden layers of 32.
"""

import argparse
import warnings
from collections.abc import Callable
from datetime import date

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from lkd.datamodules.classification.cnrpark_patches import CNRParkPatches
from lkd.datamodules.samples.metadata import codes
from lkd.metrics.tables import Row, to_markdown

Fit = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def majority(_: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Says the same of every slot."""
    label = int(y.mean() > 0.5)
    return lambda x: np.full(len(x), label)


def logistic(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Linear in the context."""
    return LogisticRegression(max_iter=1000).fit(x, y).predict


def mlp(seed: int) -> Fit:
    """Two hidden layers."""
    return lambda x, y: (
        MLPClassifier((32, 32), batch_size=512, max_iter=10, random_state=seed).fit(x, y).predict
    )


def hits(fits: list[Fit], train: tuple, test: tuple) -> np.ndarray:
    """Whether each test label was met, by every fit (fits, N)."""
    return np.stack([fit(*train)(test[0]) == test[1] for fit in fits])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="data/cnrpark_ext")
    parser.add_argument("--split", default="by_day", choices=("by_day", "by_time"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # ten passes are what is asked for
    data = CNRParkPatches(options.root, modalities=["context"], split=options.split)
    data.setup()
    sets = [data.datasets[name] for name in ("train", "test")]
    x, test_x = (one.context.numpy() for one in sets)
    y, test_y = (one.labels.numpy() for one in sets)
    slots, places = codes(np.array([slot for one in sets for slot in one.columns["slot"]]))
    hot = np.eye(len(slots), dtype=np.float32)[places]
    slot_x, slot_test_x = np.hstack([x, hot[: len(x)]]), np.hstack([test_x, hot[len(x) :]])
    # weather, hour, weekday, camera have 3, 2, 2, 9 numbers
    timed, without = np.r_[3:7], np.r_[:5, 7 : x.shape[1]]
    mlps = [mlp(seed) for seed in options.seeds]
    arms = {
        "majority": hits([majority], (x, y), (test_x, test_y)),
        "logistic": hits([logistic], (x, y), (test_x, test_y)),
        "MLP": hits(mlps, (x, y), (test_x, test_y)),
        "MLP, hour and weekday": hits(mlps, (x[:, timed], y), (test_x[:, timed], test_y)),
        "MLP, no weekday": hits(mlps, (x[:, without], y), (test_x[:, without], test_y)),
        "MLP, and the slot": hits(mlps, (slot_x, y), (slot_test_x, test_y)),
    }
    cameras = np.array(sets[1].columns["camera"])
    weekend = np.array([date.fromisoformat(day).weekday() > 4 for day in sets[1].columns["day"]])
    groups = {camera: cameras == camera for camera in codes(cameras)[0]}
    groups |= {"weekdays": ~weekend, "weekends": weekend, "all": np.ones_like(weekend)}
    rows: list[Row] = [
        {"test patches": name, "number": int(rows.sum()), "busy": float(test_y[rows].mean())}
        | {arm: float(met[:, rows].mean()) for arm, met in arms.items()}
        for name, rows in groups.items()
    ]
    for one in sets:
        print(len(one), "patches of", ", ".join(sorted(set(one.columns["day"]))))
    print(to_markdown(rows))
    print({arm: f"{met.mean():.4f} ± {met.mean(1).std():.4f}" for arm, met in arms.items()})


if __name__ == "__main__":
    main()
