"""Times are of the work, and not of what else a machine does."""

import time

import torch

from lkd.edge.offload.source import timed


def test_waiting_is_no_work():
    found, ms = timed(lambda: time.sleep(0.2) or 7)
    assert found == 7 and ms < 100


def test_work_is_counted():
    x = torch.rand(300, 300)
    start = time.process_time()
    _, ms = timed(lambda: [x @ x for _ in range(100)])
    whole = (time.process_time() - start) * 1e3 / torch.get_num_threads()
    assert 0 < ms <= whole
