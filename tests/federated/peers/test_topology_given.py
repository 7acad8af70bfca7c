"""A graph is an object, though a config names its class."""

import pytest

from lkd.federated import MHD, BoxExchange, DecentralizedSGD, TwoHeads
from lkd.federated.topology import Ring


@pytest.mark.parametrize("algorithm", [MHD, DecentralizedSGD, BoxExchange, TwoHeads])
@pytest.mark.parametrize(("given", "named"), [(Ring, "topology=Ring"), ("Ring", "topology='Ring'")])
def test_a_class_or_a_name_is_no_topology(algorithm, given, named):
    with pytest.raises(TypeError, match=f"{named} must be an object of Topology, such as Ring"):
        algorithm(given)
