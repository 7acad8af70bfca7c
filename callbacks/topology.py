"""`TopologyPicture`: who learns from whom, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated import Algorithm, Federation
from lkd.federated.topology import Edges, Topology, draw_rounds, hops

SHOWN = 4  # graphs side by side
LOOKED = 1000  # rounds that are searched for different graphs


class TopologyPicture(Callback):
    """Callback that draws the communication graph of a decentralized algorithm when training starts.

    Writes `topology.png` into the folder `report/` of the run; W&B gets it too. If the graph changes, the
    first four graphs that differ from the round before are drawn side by side. The picture begins with round
    0 and depends on nothing that was trained, so a resumed run draws the same one. The title says how many
    steps knowledge needs at most. A client needs as many auxiliary heads to learn from everybody. Where
    collections of clients learn as one, as in `MHD(collections=...)`, each collection is a node.

    An algorithm without a `topology` is trained without a picture, with a warning.

    Args:
        folder: Where to write; default `report/` in the run's log folder.
        groups: Group of every node, such as its architecture or island; each group has a color.

    Raises:
        ValueError: When fit starts, for a module that is no federation or if there are not as many groups as
            nodes.

    Example:
        >>> TopologyPicture(groups=["yolov8n", "yolov8n", "yolo11n"]).groups
        ['yolov8n', 'yolov8n', 'yolo11n']
    """

    def __init__(self, folder: str | None = None, groups: list[str] | None = None) -> None:
        self.folder, self.groups = folder, groups
        self._drawn = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there are clients."""
        if stage == "fit" and not isinstance(pl_module, Federation):
            raise ValueError(
                f"TopologyPicture draws the clients of a Federation, not of {type(pl_module).__name__}."
            )
        self._drawn = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draws before the first round of this fit: its cohort knows the number of clients."""
        if self._drawn:
            return
        self._drawn = True
        run = trainer.log_dir or trainer.default_root_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero:
            return
        population = next((client.population for client in batch if hasattr(client, "population")), None)
        if population is None:  # no cohort: the federation says so
            return
        algorithm = cast(Federation, pl_module).algorithm
        topology = getattr(algorithm, "topology", None)
        if not isinstance(topology, Topology):
            rank_zero_warn(f"TopologyPicture: {type(algorithm).__name__} has no topology to draw.")
            return
        nodes, names = _nodes(algorithm, population, _clients(trainer))
        path = Path(self.folder or Path(run) / "report") / "topology.png"
        graphs = {title(topology, edges, number): edges for number, edges in _first(topology, nodes)}
        draw_rounds(graphs, path, names, self.groups, topology.layout(nodes))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("report/topology", images=[str(path)])


def title(topology: Topology, edges: Edges, number: int) -> str:
    """Returns the title that a picture has above a graph.

    Example:
        >>> from lkd.federated.topology import Chain, Ring
        >>> title(Chain(), Chain().edges(4), 0)
        'Chain: 4 clients, up to 3 hops'
    """
    steps = [step for row in hops(edges) for step in row]
    far = "not all reach each other" if min(steps) < 0 else f"up to {max(steps)} hop{'s' * (max(steps) != 1)}"
    if topology.varies:
        return f"round {number}: {far}"
    return f"{type(topology).__name__}: {len(edges)} clients, {far}"


def _first(topology: Topology, nodes: int) -> list[tuple[int, Edges]]:
    """Returns the first graphs that differ from the one before, with the round in which they begin."""
    found = [(0, topology.edges(nodes))]
    for number in range(1, LOOKED if topology.varies else 1):
        edges = topology.edges(nodes, number)
        if edges != found[-1][1]:
            found.append((number, edges))
        if len(found) == SHOWN:
            break
    return found


def _nodes(algorithm: Algorithm, population: int, names: Sequence[str] | None) -> tuple[int, list[str]]:
    """Returns the number of nodes and their names: clients, or collections that learn as one."""
    names = [str(client) for client in range(population)] if names is None else names
    collections = getattr(algorithm, "collections", None) or [[client] for client in range(population)]
    called = [
        f"{names[members[0]]} + {len(members) - 1} more" if len(members) > 1 else names[members[0]]
        for members in collections
    ]
    return len(collections), called


def _clients(trainer: Trainer) -> Sequence[str] | None:
    """Returns the clients' names, if the training data knows them, as a `FederatedDataModule`'s does."""
    return getattr(getattr(trainer.train_dataloader, "dataset", None), "names", None)
