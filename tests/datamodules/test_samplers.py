from collections import Counter

import pytest

from lkd.datamodules.samples.samplers import CameraBatchSampler, IndexBatchSampler

GROUPS = [list(range(0, 10)), list(range(10, 13)), [], list(range(13, 33))]


def camera_of(index):
    return next(i for i, group in enumerate(GROUPS) if index in group)


def test_every_frame_once_and_one_camera_a_batch():
    sampler = CameraBatchSampler(GROUPS, batch_size=4)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 3 + 1 + 5
    assert all(len({camera_of(key.item) for key in batch}) == 1 for batch in batches)
    assert sorted(key.item for batch in batches for key in batch) == list(range(33))
    cameras = [camera_of(batch[0].item) for batch in batches]
    assert cameras != sorted(cameras)  # interleaved


def test_same_number_of_full_batches_of_every_camera():
    sampler = CameraBatchSampler(GROUPS, batch_size=4, batches_per_camera=3)
    batches = list(sampler)
    assert Counter(camera_of(batch[0].item) for batch in batches) == {0: 3, 1: 3, 3: 3}
    assert {len(batch) for batch in batches} == {4}
    keys = [key for batch in batches for key in batch]
    assert len(set(keys)) == len(keys)  # a frame drawn again is another lap, hence another view
    small = Counter(key.item for key in keys if camera_of(key.item) == 1)
    assert set(small.values()) == {4}  # 12 draws of 3 frames, evenly
    large = Counter(key.item for key in keys if camera_of(key.item) == 3)
    assert set(large.values()) == {1}


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = CameraBatchSampler(GROUPS, 4, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert {key.epoch for batch in order(0, 3) for key in batch} == {3}
    items = [[[key.item for key in batch] for batch in order(*pair)] for pair in ((0, 3), (0, 4), (1, 3))]
    assert items[0] != items[1] and items[0] != items[2]


@pytest.mark.parametrize("world", [2, 3, 4, 12])
def test_ranks_share_equally_and_miss_nothing(world):
    parts = [CameraBatchSampler(GROUPS, 4, num_replicas=world, rank=rank) for rank in range(world)]
    batches = [list(part) for part in parts]
    assert {len(part) for part in batches} == {len(parts[0])} == {-(-9 // world)}
    seen = [key.item for part in batches for batch in part for key in batch]
    assert set(seen) == set(range(33))
    if 9 % world == 0:
        assert len(seen) == 33


def test_views_come_again_in_another_order():
    sampler = CameraBatchSampler([range(20)], 4, views=2)
    drawn = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        drawn.append([key for batch in sampler for key in batch])
    assert [{key.epoch for key in keys} for keys in drawn] == [{0}, {1}, {0}, {1}]
    assert set(drawn[0]) == set(drawn[2]) and drawn[0] != drawn[2]


def test_index_batches():
    sampler = IndexBatchSampler([range(5)], 2)
    assert sorted(index for batch in sampler for index in batch) == list(range(5))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"groups": [[]], "batch_size": 2}, "no frame"),
        ({"groups": [[1]], "batch_size": 0}, "batch_size=0"),
        ({"groups": [[1]], "batch_size": 1, "batches_per_camera": 0}, "batches_per_camera=0"),
        ({"groups": [[1]], "batch_size": 1, "seed": -1}, "seed=-1"),
        ({"groups": [[1]], "batch_size": 1, "views": 0}, "views=0"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        CameraBatchSampler(**arguments)
