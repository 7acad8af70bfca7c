"""What a run is: the parser's own view of it, with its seed, the callback that measures, and no folder in its digest."""

import copy
from pathlib import Path

import pytest
import yaml

from lkd.compare.grid import Method, Run, RunGrid
from lkd.compare.resolve import digest, for_run, parse, save, wandb_options

ROOT = Path(__file__).parents[2]
FEDAVG = str(ROOT / "configs/federated/digits_fedavg.yaml")
PLAIN = str(ROOT / "configs/classification/digits_exits.yaml")
RUN = Run("", "FedAvg", 3)


@pytest.fixture(scope="module")
def config():
    return parse(["--config", FEDAVG, "--model.algorithm=FedProx", "--model.algorithm.mu=0.5"], "FedProx")


def grid(**changes):
    return RunGrid(base=FEDAVG, methods={"FedAvg": Method()}, **changes)


def test_overrides_and_defaults_are_in_it(config):
    algorithm = config["model"]["init_args"]["algorithm"]
    assert algorithm["class_path"].endswith("FedProx") and algorithm["init_args"]["mu"] == 0.5
    assert config["trainer"]["max_epochs"] == 30 and config["test_after_fit"] is True


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--model.algorithm=FedAvgg", r"^this method: .*there is no class 'FedAvgg'; did you mean 'FedAvg'"),
        ("--model.algorithm.mu=0.5", r"^this method: .*mu"),
        ("--trainer.max_epohcs=5", r"^this method: .*max_epohcs.*did you mean '(trainer.)?max_epochs'"),
        ("--trainer.max_epochs=many", r"^this method: .*max_epochs"),
    ],
)
def test_what_the_parser_refuses_gets_its_sentence(override, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse(["--config", FEDAVG, override], "this method")


def test_a_run_has_its_seed_and_is_measured_and_shows_nothing(config):
    before = copy.deepcopy(config)
    mine = for_run(config, grid(every=4, metric="clients/val/acc/mean"), RUN)
    assert config == before
    assert config["supervised_twin"] is False and not {"supervised_twin", "save_as"} & mine.keys()
    assert (
        mine["seed_everything"]
        == mine["data"]["init_args"]["seed"]
        == mine["model"]["init_args"]["seed"]
        == 3
    )
    names = [callback["class_path"].rpartition(".")[2] for callback in mine["trainer"]["callbacks"]]
    assert names == ["ClientReport", "RoundReport", "TradeoffLog"]
    assert mine["trainer"]["callbacks"][-1]["init_args"] == {"every": 4, "part": "val"}
    assert mine["trainer"]["enable_checkpointing"] is mine["trainer"]["enable_progress_bar"] is False


def test_callbacks_that_keep_checkpoints_go_on_doing_so(config):
    config = copy.deepcopy(config)
    config["trainer"]["callbacks"] = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}
    assert for_run(config, grid(), RUN)["trainer"]["enable_checkpointing"] is not False


def test_a_run_keeps_its_checkpoints_in_its_own_folder(config, tmp_path):
    """Not where a recipe's config would: the runs of all seeds would write over one teacher."""
    config = copy.deepcopy(config)
    kept = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"dirpath": "runs/teacher"},
    }
    config["trainer"]["callbacks"] = [kept]
    mine = for_run(config, grid(), RUN)
    before = copy.deepcopy(mine)
    saved = yaml.safe_load(save(mine, tmp_path / "run").read_text())
    assert saved["trainer"]["callbacks"][0]["init_args"]["dirpath"] == str(tmp_path / "run/fit/checkpoints")
    assert mine == before  # and so is its digest


def test_a_module_without_clients_has_no_seed_but_the_global_one():
    mine = for_run(parse(["--config", PLAIN], "plain"), grid(), RUN)
    assert mine["seed_everything"] == 3 and "seed" not in mine["model"]["init_args"]


def test_other_options_may_be_the_seeded_ones(config):
    mine = for_run(config, grid(seeded=("data.data.seed",)), RUN)
    data = mine["data"]["init_args"]
    assert (data["data"]["init_args"]["seed"], data["seed"], mine["seed_everything"]) == (3, 0, 0)
    with pytest.raises(ValueError, match=r"FedAvg, seed 3: seeded: there is no option data.sed to be set"):
        for_run(config, grid(seeded=("data.sed",)), RUN)


def test_the_digest_tells_options_apart_and_not_folders(config):
    same = copy.deepcopy(config)
    same["trainer"]["logger"]["init_args"]["save_dir"] = "elsewhere"
    assert digest(for_run(same, grid(), RUN)) == digest(for_run(config, grid(folder="other"), RUN))
    others = [
        for_run(config, grid(), Run("", "FedAvg", 4)),
        for_run(config, grid(every=2), RUN),
        for_run(config, grid(metric="val/acc"), RUN),
        {**for_run(config, grid(), RUN), "test_after_fit": False},
    ]
    assert len({digest(each) for each in [for_run(config, grid(), RUN), *others]}) == 5


def test_what_is_saved_parses_to_the_same(config, tmp_path):
    mine = for_run(config, grid(), RUN)
    path = save(mine, tmp_path / "run")
    again = parse(["--config", str(path)], "saved")
    where = again["trainer"]["logger"]["init_args"]
    assert Path(where["save_dir"]) == tmp_path / "run" / "fit" == Path(again["trainer"]["default_root_dir"])
    log = again["trainer"]["callbacks"][-1]["init_args"]
    assert (log["every"], log["part"], log["folder"]) == (1, "test", None)
    for section in ("model", "data", "seed_everything", "distillation"):
        assert again[section] == mine[section]
    assert yaml.safe_load(path.read_text())["trainer"]["max_epochs"] == 30


def test_wandb_is_found_among_the_loggers(config):
    assert wandb_options(config) is None
    wandb = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "lkd"}}
    for logger in (wandb, [config["trainer"]["logger"], wandb]):
        assert wandb_options({"trainer": {"logger": logger}}) == {"project": "lkd"}
    for logger in (None, True, False, []):
        assert wandb_options({"trainer": {"logger": logger}}) is None
