import pytest
import torch
from torch import nn

from lkd.edge.export.graph import to_graph
from lkd.edge.export.logits import Forward

from ..students import Plain


class OwnOperator(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x.flatten(1))


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Fixed(nn.Module):
    def forward(self, x):
        return x.view(2, -1)[:, :3] if len(x) == 2 else x.flatten(1)[:, :3]


@pytest.mark.parametrize(("layers", "sentence"), [
    ((OwnOperator(), nn.Linear(12, 3)), r"the layer 'net\.0' \(OwnOperator\) uses prims\.bessel_j0, which cannot be exported"),
    ((nn.Flatten(), Branches(), nn.Linear(12, 3)), r"the layer 'net\.1' \(Branches\) cannot be exported"),
    ((nn.Linear(2, 2), Fixed()), "the file must take any number of samples, and some layer fixes it"),
])  # fmt: skip
def test_what_cannot_be_exported_names_the_layer(layers, sentence):
    with pytest.raises(ValueError, match=sentence):
        to_graph(Forward(Plain(*layers)).eval(), {"x": torch.randn(2, 3, 2, 2)}, ["logits"])


def test_nothing_of_this_machine_is_in_a_graph():
    """The exporter writes where in which source file each node comes from."""
    layers = nn.Flatten(), nn.Linear(12, 3)
    graph = to_graph(Forward(Plain(*layers)).eval(), {"x": torch.randn(2, 3, 2, 2)}, ["logits"])
    assert graph.graph.node and not any(node.metadata_props for node in graph.graph.node)
    assert b".py" not in graph.SerializeToString()
