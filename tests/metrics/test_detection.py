"""DetectionTable against an average precision written here, hand-computed cases, and on two ranks."""

import math

import pytest
import torch
import torch.multiprocessing as mp

from lkd.metrics import DetectionTable
from lkd.metrics.average_precision import match, pooled


def frame(boxes, scores=None, labels=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    result = {"boxes": boxes, "labels": labels}
    return result if scores is None else {**result, "scores": torch.tensor(scores, dtype=torch.float32)}


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def reference_curve(found, objects, label, threshold):
    """Precision at the 101 recalls of one class, matched greedily by score within each frame."""
    ranked, total = [], 0
    for each, truth in zip(found, objects, strict=True):
        boxes = [
            b for b, k in zip(truth["boxes"].tolist(), truth["labels"].tolist(), strict=True) if k == label
        ]
        total += len(boxes)
        free = set(range(len(boxes)))
        mine = [
            (s, b)
            for s, b, k in zip(
                each["scores"].tolist(), each["boxes"].tolist(), each["labels"].tolist(), strict=True
            )
            if k == label
        ]
        for score, box in sorted(mine, key=lambda pair: -pair[0]):
            best = max(free, key=lambda index: iou(box, boxes[index]), default=None)
            hit = best is not None and iou(box, boxes[best]) >= threshold
            free -= {best} if hit else set()
            ranked.append((score, hit))
    points, hits = [], 0
    for count, (_, hit) in enumerate(sorted(ranked, key=lambda pair: -pair[0]), start=1):
        hits += hit
        points.append((hits / total, hits / count))
    return [max((p for r, p in points if r >= k / 100 - 1e-12), default=0.0) for k in range(101)]


def random_frames(count=12, classes=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        corner = torch.rand(n, 2, generator=generator) * 80
        return torch.cat((corner, corner + 10 + torch.rand(n, 2, generator=generator) * 20), 1)

    found, objects = [], []
    for index in range(count):
        truth = draw(0 if index % 5 == 4 else 6)
        near = truth + torch.randn(truth.shape, generator=generator) * 2.0
        boxes = torch.cat((near, draw(0 if index % 4 == 3 else 4)))
        objects.append({"boxes": truth, "labels": torch.arange(len(truth)) % classes})
        labels = torch.cat((torch.arange(len(near)) % classes, torch.zeros(len(boxes) - len(near)).long()))
        scores = torch.rand(len(boxes), generator=generator)
        found.append({"boxes": boxes, "labels": labels, "scores": scores})
    return found, objects


@pytest.mark.parametrize("classes", [1, 2])
def test_agrees_with_an_independent_average_precision(classes):
    found, objects = random_frames(classes=classes)
    table = DetectionTable()
    table.update(found[:5], objects[:5])
    table.update(found[5:], objects[5:])
    (row,) = table.compute()
    thresholds = [k / 100 for k in range(50, 100, 5)]
    curves = [[reference_curve(found, objects, k, t) for k in range(classes)] for t in thresholds]
    assert row["map50"] == pytest.approx(sum(map(sum, curves[0])) / (101 * classes), abs=1e-6)
    assert row["map"] == pytest.approx(sum(sum(map(sum, c)) for c in curves) / (1010 * classes), abs=1e-6)
    best = []
    for curve in curves[0]:
        best.append(
            max((2 * p * k / (100 * p + k) if p + k else 0.0, p, k / 100) for k, p in enumerate(curve))
        )
    assert 0.2 < row["map50"] < 0.98
    assert row["precision"] == pytest.approx(sum(p for _, p, _ in best) / classes, abs=1e-6)
    assert row["recall"] == pytest.approx(sum(r for _, _, r in best) / classes, abs=1e-6)


def test_hand_computed():
    one, two, far = [0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 70, 70]
    table = DetectionTable()
    # ranked: hit, miss, hit: precision 1 up to recall 1/2 (51 points), then 2/3 (50 points)
    table.update([frame([one, far, two], [0.9, 0.8, 0.7])], [frame([one, two])], ["C1"])
    rows = table.compute()
    assert [row["camera"] for row in rows] == ["C1", "all"]
    assert rows[0]["map50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert rows[0]["precision"] == pytest.approx(2 / 3)  # F1 .8 with all three beats .667 with the first
    assert rows[0]["recall"] == 1.0


def test_overlap_decides_between_map50_and_map():
    table = DetectionTable()
    table.update([frame([[0, 0, 10, 7.2]], [0.5])], [frame([[0, 0, 10, 10]])])  # IoU .72: 5 of 10 thresholds
    (row,) = table.compute()
    assert (row["map50"], row["map"]) == pytest.approx((1.0, 0.5))


def test_frames_without_objects_or_detections():
    table = DetectionTable(["A", "B", "C", "D"])
    box = [0, 0, 10, 10]
    table.update(
        [frame([], []), frame([box], [0.9]), frame([], [])],
        [frame([box]), frame([]), frame([])],
        ["A", "B", "C"],
    )
    a, b, c, d, total = table.compute()
    assert (a["map50"], a["precision"], a["recall"]) == (0.0, 0.0, 0.0)  # objects, none found
    assert all(
        math.isnan(row["map50"]) and math.isnan(row["precision"]) for row in (b, c, d)
    )  # nothing to find
    assert total["map50"] == 0.0


def test_false_alarms_on_empty_frames_count():
    box, table = [0, 0, 10, 10], DetectionTable()
    table.update([frame([box], [0.5]), frame([box], [0.9])], [frame([box]), frame([])])
    assert table.compute()[0]["map50"] == pytest.approx(0.5)


def test_max_detections():
    boxes = [[20 * k, 0, 20 * k + 10, 10] for k in range(150)]
    scores = [1 - k / 1000 for k in range(150)]
    for limit, wanted in ((300, 1.0), (75, 51 / 101)):
        table = DetectionTable(max_detections=limit)
        table.update([frame(boxes, scores)], [frame(boxes)])
        assert table.compute()[0]["map50"] == pytest.approx(wanted)


@pytest.mark.parametrize("limit", [1, 2, 5, 10])
def test_fewer_than_ten_detections(limit):
    found, objects = random_frames()
    table = DetectionTable(max_detections=limit)
    table.update(found, objects)
    frames = [
        match(*({name: rows.numpy() for name, rows in each.items()} for each in pair), most=limit)
        for pair in zip(found, objects, strict=True)
    ]
    (row,) = table.compute()
    assert {name: row[name] for name in pooled(frames)} == pytest.approx(pooled(frames), abs=1e-6)
    more = DetectionTable()
    more.update(found, objects)
    assert limit > 2 or row["map50"] < more.compute()[0]["map50"]


def test_no_detection_at_all_is_refused():
    with pytest.raises(ValueError, match="max_detections=0 must be 1 or more"):
        DetectionTable(max_detections=0)


def test_cameras_are_apart_and_all_is_over_frames():
    found, objects = random_frames()
    cameras = ["west", "ost-ö", "west"] * 4
    table = DetectionTable()
    table.update(found, objects, cameras)
    rows = table.compute()
    assert [row["camera"] for row in rows] == ["ost-ö", "west", "all"]
    for row in rows[:2]:
        alone = DetectionTable()
        picked = [index for index, name in enumerate(cameras) if name == row["camera"]]
        alone.update([found[k] for k in picked], [objects[k] for k in picked])
        assert alone.compute()[0] == {**row, "camera": "all"}


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_nothing_in_the_state_dict_and_reset():
    table = DetectionTable()
    table.update(*random_frames())
    assert table.state_dict() == {}
    table.reset()
    assert math.isnan(table.compute()[0]["map"])


def test_bad_input():
    with pytest.raises(ValueError, match=r"C9 not in this table of \['C1'\]"):
        DetectionTable(["C1"]).update([frame([], [])], [frame([])], ["C9"])
    with pytest.raises(ValueError, match="got 1, 2 and 1"):
        DetectionTable().update([frame([], [])], [frame([])] * 2, ["C1"])


def _rank(rank, port, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    found, objects = random_frames()
    rows = []
    for share in ([range(7), range(7, 12)], [range(12), range(0)]):  # uneven shares, then an idle rank
        table = DetectionTable()
        mine = list(share[rank])
        if mine:
            table.update([found[k] for k in mine], [objects[k] for k in mine], ["AB"[k % 2] for k in mine])
        rows.append(table.compute())
    alone = DetectionTable(distributed_available_fn=lambda: False)
    alone.update(found[: 3 + rank], objects[: 3 + rank])
    queue.put((rank, rows, alone.compute()))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_two_ranks_agree_with_one():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("fork")
    queue = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, port, queue)) for rank in range(2)]
    for process in ranks:
        process.start()
    results = {rank: (rows, alone) for rank, rows, alone in (queue.get(timeout=90) for _ in ranks)}
    for process in ranks:
        process.join()
    found, objects = random_frames()
    table = DetectionTable()
    table.update(found, objects, ["AB"[k % 2] for k in range(12)])
    for rank in range(2):
        assert results[rank][0] == [table.compute()] * 2
        own = DetectionTable()
        own.update(found[: 3 + rank], objects[: 3 + rank])
        assert results[rank][1] == own.compute()
