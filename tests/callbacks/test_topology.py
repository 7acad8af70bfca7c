"""TopologyPicture: what it draws, when, on which rank, and that a resume draws the same."""

from unittest.mock import MagicMock, PropertyMock

import pytest
import wandb
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from lkd.callbacks import TopologyPicture
from lkd.callbacks import topology as module
from lkd.federated import Complete, FedAvg, Grid, Islands, Local, RandomNeighbors, Ring, TimeVarying
from lkd.federated.topology import Topology

from .federation import data, federation, fit
from .plain import Plain, digits, quick_trainer


class OnGraph(Local):
    """Learns from nobody, but has a graph, and may have collections."""

    def __init__(self, topology, collections=None):
        super().__init__()
        self.topology, self.collections = topology, collections


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: graphs by title, path, names, groups, layout."""
    calls = []

    def record(graphs, path, names, groups, layout):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        calls.append((graphs, path, names, groups, layout))

    monkeypatch.setattr(module, "draw_rounds", record)
    return calls


def test_the_picture_is_in_the_runs_folder(tmp_path):
    fit([TopologyPicture()], 1, federation(OnGraph(Ring())), logger=CSVLogger(tmp_path, "run"))
    assert (tmp_path / "run/version_0/report/topology.png").read_bytes()[1:4] == b"PNG"


def test_a_fixed_graph_is_drawn_once_before_the_first_round(tmp_path, drawn):
    class Late(TopologyPicture):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
            assert len(drawn) == 1 and pl_module.global_step == trainer.current_epoch

    fit([Late(str(tmp_path), groups=list("aabb"))], 3, federation(OnGraph(Ring())))
    ((graphs, path, names, groups, layout),) = drawn
    assert graphs == {"Ring: 4 clients, up to 2 hops": Ring().edges(4)}
    assert path == tmp_path / "topology.png" and groups == list("aabb")
    assert names == ["0", "1", "2", "3"]
    assert layout == Ring().layout(4)


def test_of_a_cohort_the_whole_population_is_drawn(tmp_path, drawn):
    fit([TopologyPicture(str(tmp_path))], 1, federation(OnGraph(Grid())), data(6, cohort=2))
    assert list(drawn[0][0].values()) == [Grid().edges(6)]


@pytest.mark.parametrize(
    ("topology", "rounds"),
    [
        (RandomNeighbors(2), [0, 1, 2, 3]),
        (TimeVarying([Ring(), Islands(2)], every=3), [0, 3, 6, 9]),
        (TimeVarying([Ring(), Ring()]), [0]),  # which never differ
        (TimeVarying([Complete()]), [0]),
    ],
)
def test_of_a_changing_graph_the_first_changes_are_drawn(tmp_path, drawn, topology, rounds):
    fit([TopologyPicture(str(tmp_path))], 1, federation(OnGraph(topology)))
    graphs = drawn[0][0]
    assert list(graphs.values()) == [topology.edges(4, round) for round in rounds]
    if topology.varies:
        assert [title.split(":")[0] for title in graphs] == [f"round {round}" for round in rounds]
    if isinstance(topology, TimeVarying) and len(rounds) > 1:
        assert "round 3: not all reach each other" in graphs


def test_a_collection_is_a_node(tmp_path, drawn):
    algorithm = OnGraph(Complete(), collections=[[0, 2], [3], [1]])
    fit([TopologyPicture(str(tmp_path))], 1, federation(algorithm))
    ((graphs, _, names, _, layout),) = drawn
    assert list(graphs.values()) == [Complete().edges(3)] and len(layout) == 3
    assert names == ["0 + 1 more", "3", "1"]


def test_clients_have_names(tmp_path, drawn):
    shards = data(3)
    setup = shards.setup

    def named(stage=None):
        setup(stage)
        shards.clients._names = ["north", "south", "west"]

    shards.setup = named
    fit([TopologyPicture(str(tmp_path))], 1, federation(OnGraph(Ring())), shards)
    assert drawn[0][2] == ["north", "south", "west"]


def test_a_resumed_run_draws_the_same(tmp_path):
    def run(folder, rounds, ckpt_path=None):
        trainer = fit(
            [TopologyPicture(str(tmp_path / folder))],
            rounds,
            federation(OnGraph(RandomNeighbors(2))),
            ckpt_path=ckpt_path,
            enable_checkpointing=True,
            default_root_dir=tmp_path,
        )
        return trainer.checkpoint_callback.best_model_path

    path = run("first", 2)
    run("second", 3, path)
    assert (tmp_path / "second/topology.png").read_bytes() == (tmp_path / "first/topology.png").read_bytes()


def test_every_fit_draws(tmp_path, drawn):
    callback = TopologyPicture(str(tmp_path))
    for topology in (Ring(), Complete()):
        fit([callback], 1, federation(OnGraph(topology)))
    assert [next(iter(graphs)).split(":")[0] for graphs, *_ in drawn] == ["Ring", "Complete"]


def test_the_picture_reaches_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(project="test", save_dir=tmp_path)
    fit([TopologyPicture(str(tmp_path / "report"))], 1, federation(OnGraph(Ring())), logger=logger)
    stored = dict(logger.experiment.summary)
    wandb.finish()
    assert stored["report/topology"]["count"] == 1


def test_every_rank_asks_for_the_log_folder_and_the_first_draws(tmp_path, drawn):
    """Lightning broadcasts it, so a rank that does not ask leaves the first one waiting for ever."""
    second = MagicMock(is_global_zero=False, loggers=[])
    asked = PropertyMock(return_value=str(tmp_path))
    type(second).log_dir = asked
    TopologyPicture().on_train_batch_start(second, federation(OnGraph(Ring())), [], 0)
    asked.assert_called()
    assert not drawn


def test_an_algorithm_without_a_graph_trains_all_the_same(tmp_path):
    with pytest.warns(UserWarning, match="FedAvg has no topology to draw"):
        trainer = fit([TopologyPicture(str(tmp_path))], 1, federation(FedAvg()))
    assert trainer.global_step == 1 and not list(tmp_path.iterdir())


def test_only_federations_have_clients():
    with pytest.raises(ValueError, match="not of Plain"):
        quick_trainer(callbacks=[TopologyPicture()]).fit(Plain(), digits())


def test_what_is_no_cohort_is_the_federations_to_refuse():
    with pytest.raises(ValueError, match="the train loader yields batches, not lists of clients"):
        quick_trainer(callbacks=[TopologyPicture()]).fit(federation(OnGraph(Ring())), digits())


def test_a_graph_that_cannot_be_stops_before_the_first_round(tmp_path):
    module = federation(OnGraph(Islands(3)))
    with pytest.raises(ValueError, match="isolates client"):
        fit([TopologyPicture(str(tmp_path))], 1, module)
    with pytest.raises(ValueError, match="groups has 3 entries, but there are 4 clients"):
        fit([TopologyPicture(str(tmp_path), groups=list("abc"))], 1, federation(OnGraph(Ring())))


def test_a_topology_of_the_users_own(tmp_path, drawn):
    class Own(Topology):
        varies = True

        def edges(self, nodes, round=0):
            return Ring(directed=bool(round)).edges(nodes)

    fit([TopologyPicture(str(tmp_path))], 1, federation(OnGraph(Own())))
    assert list(drawn[0][0]) == ["round 0: up to 2 hops", "round 1: up to 3 hops"]
