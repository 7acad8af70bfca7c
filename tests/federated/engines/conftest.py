"""One rehearsal of NVFlare for all slow tests of this folder: to begin takes half a minute."""

import pytest

from lkd.federated.engines import NVFlare
from lkd.federated.engines.nvflare import installed

from .described import plan
from .machines import networks


@pytest.fixture(scope="session")
def machines():
    """A server and three sites, each with every third client; the last in a network of its own, where that can be made."""
    if not installed():
        pytest.skip('NVFlare is not installed: pip install "lightning-kd[nvflare]"')
    with networks():
        engine = NVFlare(allow=["tests"], description=plan("scaffold"), keep=True, start_timeout=600)
        yield engine
        engine.keep_sites = False
        engine.close()
