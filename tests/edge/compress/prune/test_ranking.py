"""Which channels go, by number."""

import torch

from lkd.edge.compress.prune.graph import Group
from lkd.edge.compress.prune.ranking import Ranking, WidthCosts


def test_the_nearest_is_taken_where_no_single_unit_may_go():
    """Multiples of eight leave two groups of eight as they are, so that nothing comes nearer to the target."""

    class Known(WidthCosts):
        whole = 1.0

        def __init__(self):
            pass

        def of(self, groups, removed):
            return 1.0 - sum(map(len, removed)) / 32

    groups = [Group(name, [[unit] for unit in range(16)], torch.arange(16.0)) for name in ("a", "b")]
    assert Known().reaching(Ranking(groups, "global", round_to=8), 0.8) == [set(range(8)), set()]
