import numpy as np
import pytest

from lkd.edge.nms import suppress
from lkd.edge.offload.tiles import IOU, Tiles

HEIGHT, WIDTH = 90, 160


def found(boxes, scores=None, labels=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.full(len(boxes), 0.5) if scores is None else scores
    return {
        "boxes": boxes,
        "scores": np.asarray(scores, np.float32),
        "labels": np.zeros(len(boxes), np.int64) if labels is None else np.asarray(labels),
    }


def cars(count, longest, seed):
    """Boxes all over the frame, of which no two are taken for one."""
    draw = np.random.default_rng(seed)
    sides = draw.uniform(3, longest, (count, 2))
    corner = draw.uniform(0, [WIDTH, HEIGHT] - sides)
    scores, labels = draw.uniform(0.3, 0.9, count), draw.integers(0, 3, count)
    of_class = np.where(np.arange(3) == labels[:, None], scores[:, None], 0).astype(np.float32)
    return suppress(np.concatenate([corner, corner + sides], 1).astype(np.float32), of_class, 0, IOU, count)


def on_tile(everything, crop):
    """What a perfect detector sees of a crop: boxes clipped to it."""
    corner, far = np.array(crop[:2] * 2), np.array(crop[2:] * 2)
    boxes = everything["boxes"].clip(corner, far)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {
        "boxes": (boxes - corner)[seen].astype(np.float32),
        "scores": everything["scores"][seen],
        "labels": everything["labels"][seen],
    }


def same(one, other):
    """Alike up to rounding and order."""
    rows = [np.column_stack([f["boxes"], f["scores"], f["labels"]]) for f in (one, other)]
    rows = [row[np.lexsort(row.round(2).T)] for row in rows]
    np.testing.assert_allclose(*rows, atol=1e-4)


@pytest.mark.parametrize(("columns", "rows", "overlap"), [(1, 1, 32), (5, 3, 8), (7, 4, 0), (3, 2, 500)])
def test_cores_cover_the_frame_once_and_crops_hold_them(columns, rows, overlap):
    covered = np.zeros((HEIGHT, WIDTH), int)
    tiles = Tiles(columns, rows, overlap).tiles(HEIGHT, WIDTH)
    assert len(tiles) == len(Tiles(columns, rows)) == columns * rows
    for tile in tiles:
        tile_view = covered[tile.core[1] : tile.core[3], tile.core[0] : tile.core[2]]
        tile_view += 1
        x1, y1, x2, y2 = tile.core
        assert tile.crop == (
            max(0, x1 - overlap),
            max(0, y1 - overlap),
            min(WIDTH, x2 + overlap),
            min(HEIGHT, y2 + overlap),
        )
        assert tile.cut(covered).shape == (tile.crop[3] - tile.crop[1], tile.crop[2] - tile.crop[0])
    assert (covered == 1).all()


def test_tiles_go_row_by_row():
    assert Tiles(2, 2, 4).crops(20, 40) == [(0, 0, 24, 14), (16, 0, 40, 14), (0, 6, 24, 20), (16, 6, 40, 20)]


def test_one_tile_is_the_whole_frame():
    local, remote = cars(8, 40, 0), cars(9, 90, 1)
    merged = Tiles(1, 1).merge(local, {0: remote}, HEIGHT, WIDTH)
    for name, rows in remote.items():
        np.testing.assert_array_equal(merged[name], rows)


def test_no_tile_leaves_the_local_answer_bit_for_bit():
    local = found([[5, 5, 20, 20], [5, 5, 20, 21]], [0.4, 0.6], [2, 2])  # not even suppressed
    merged = Tiles(5, 3).merge(local, {}, HEIGHT, WIDTH)
    for name, rows in local.items():
        np.testing.assert_array_equal(merged[name], rows)
        assert merged[name].dtype == rows.dtype


@pytest.mark.parametrize("seed", range(5))
def test_all_tiles_of_a_perfect_teacher_are_the_teachers(seed):
    tiles, perfect = Tiles(5, 3, overlap=16), cars(40, 25, seed)  # no longer than twice the overlap
    remote = {i: on_tile(perfect, crop) for i, crop in enumerate(tiles.crops(HEIGHT, WIDTH))}
    local = cars(20, 25, seed + 100)
    same(tiles.merge(local, remote, HEIGHT, WIDTH), perfect)


def test_all_tiles_without_boxes_remove_what_no_border_cuts():
    nothing = {i: found([]) for i in range(2)}
    merged = Tiles(2, 1, 8).merge(found([[10, 10, 30, 30], [60, 10, 90, 30]]), nothing, HEIGHT, WIDTH)
    assert merged["boxes"].tolist() == [
        [60, 10, 90, 30]
    ]  # centered in the left core, and longer than the left crop


def test_a_sent_tile_decides_about_its_core_alone():
    local = found([[10, 10, 20, 20], [70, 10, 80, 20], [82, 10, 92, 20], [120, 10, 130, 20]])
    remote = found(
        [[11, 11, 21, 21], [69, 11, 79, 21], [82, 11, 87, 21]], [0.9] * 3
    )  # the last is centered in the other core
    merged = Tiles(2, 1, 16).merge(local, {0: remote}, HEIGHT, WIDTH)
    same(
        merged,
        found(
            [[11, 11, 21, 21], [69, 11, 79, 21], [82, 10, 92, 20], [120, 10, 130, 20]], [0.9, 0.9, 0.5, 0.5]
        ),
    )


def test_a_part_of_an_object_is_dropped_and_the_local_box_stays():
    local = found([[40, 10, 118, 30]])  # centered at 79, of the left tile, whose crop ends at 96
    remote = found([[40, 10, 95, 30]], [0.9])
    same(Tiles(2, 1, 16).merge(local, {0: remote}, HEIGHT, WIDTH), local)


def test_the_frames_own_border_cuts_nothing():
    merged = Tiles(2, 1, 16).merge(found([]), {0: found([[0, 0, 20, 90]])}, HEIGHT, WIDTH)
    assert merged["boxes"].tolist() == [[0, 0, 20, 90]]


def test_a_center_on_the_frames_far_corner_belongs_to_the_last_tile():
    corner = found([[WIDTH, HEIGHT, WIDTH, HEIGHT]])
    merged = Tiles(2, 2, 4).merge(corner, {3: found([])}, HEIGHT, WIDTH)
    assert not len(merged["boxes"])


def test_each_box_is_part_of_one_tile():
    everything = cars(60, 50, 3)
    parts = Tiles(5, 3).parts(everything, HEIGHT, WIDTH)
    assert len(parts) == 15 and sum(len(part["boxes"]) for part in parts) == len(everything["boxes"])
    for part, tile in zip(parts, Tiles(5, 3).tiles(HEIGHT, WIDTH), strict=True):
        centers = (part["boxes"][:, :2] + part["boxes"][:, 2:]) / 2
        assert (centers >= tile.core[:2]).all() and (centers <= tile.core[2:]).all()
    whole = Tiles(1, 1).parts(everything, HEIGHT, WIDTH)[0]
    for name, rows in everything.items():
        np.testing.assert_array_equal(whole[name], rows)


def test_the_boxes_that_stand_are_centered_in_the_core_and_whole():
    seen = found(
        [[5, 5, 15, 15], [86, 5, 94, 15], [10, 10, 95, 40], [80, 30, 84, 34]],
        [0.9, 0.8, 0.7, 0.6],
        [0, 1, 2, 3],
    )
    left = Tiles(2, 1, 16).standing(0, seen, HEIGHT, WIDTH)  # its core ends at 80 and its crop at 96
    same(left, found([[5, 5, 15, 15]], [0.9], [0]))
    right = Tiles(2, 1, 16).standing(1, seen, HEIGHT, WIDTH)  # its crop begins at 64
    same(right, found([[150, 5, 158, 15], [74, 10, 159, 40], [144, 30, 148, 34]], [0.8, 0.7, 0.6], [1, 2, 3]))


def test_boxes_of_tiles_are_moved_to_where_they_are():
    merged = Tiles(2, 2, 10).merge(found([]), {3: found([[12, 13, 22, 28]])}, HEIGHT, WIDTH)
    assert merged["boxes"].tolist() == [[82, 48, 92, 63]]  # the crop begins at 70, 35


def test_two_origins_that_mean_one_object_leave_the_surer_one():
    local = found([[72, 10, 89, 20], [72, 40, 89, 50]], [0.8, 0.3], [1, 1])  # centered right of 80
    remote = found([[70, 10, 88, 20], [70, 40, 88, 50]], [0.6, 0.7], [1, 1])  # centered left of it
    merged = Tiles(2, 1, 16).merge(local, {0: remote}, HEIGHT, WIDTH)
    same(merged, found([[72, 10, 89, 20], [70, 40, 88, 50]], [0.8, 0.7], [1, 1]))


def test_other_classes_suppress_nothing_and_labels_survive():
    local = found([[72, 10, 89, 20]], [0.8], [70])
    remote = found([[70, 10, 88, 20]], [0.6], [-1])
    merged = Tiles(2, 1, 16).merge(local, {0: remote}, HEIGHT, WIDTH)
    assert merged["labels"].tolist() == [70, -1]
    np.testing.assert_allclose(merged["scores"], [0.8, 0.6])


def test_no_box_anywhere():
    merged = Tiles(2, 1).merge(found([]), {0: found([])}, HEIGHT, WIDTH)
    assert merged["boxes"].shape == (0, 4) and merged["labels"].shape == (0,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tiles(0, 3), "columns=0 must be 1 or more"),
        (lambda: Tiles(5, -1), "rows=-1 must be 1 or more"),
        (lambda: Tiles(5, 3, -1), "overlap=-1 must be 0 or more"),
        (
            lambda: Tiles(20, 3).crops(90, 10),
            "columns=20, rows=3 are more than the pixels of a frame of 10 x 90",
        ),
        (
            lambda: Tiles(2, 1).merge(found([]), {2: found([])}, 90, 160),
            "remote names tile 2, and .* has tiles 0 to 1",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
