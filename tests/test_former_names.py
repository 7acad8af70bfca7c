"""Names from before 0.2 go on, say the new one, and are not what the command line or a type checker sees."""

import importlib
import inspect
import warnings

import pytest
from lightning.pytorch import Trainer
from torch.nn import Linear

import lkd.datamodules
import lkd.federated
from lkd.datamodules import IID, DetectionDataModule, Digits, FederatedDataModule, YoloFolder
from lkd.federated import Federation
from lkd.models import MLP
from lkd.modules import Classifier


def module():
    return Classifier(MLP(64, 10), 10)


@pytest.mark.parametrize("package", [lkd.datamodules, lkd.federated], ids=lambda package: package.__name__)
def test_classes(package):
    names = inspect.getclosurevars(package.__getattr__).nonlocals["names"]
    assert len(names) > 3
    for old, new in names.items():
        assert old not in package.__all__ and old not in dir(package)
        with pytest.warns(FutureWarning, match=f"{old} is called {package.__name__}.{new} now"):
            assert getattr(package, old) is getattr(package, new)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = package.Nothing


def test_the_place_of_partitions():
    with pytest.warns(
        FutureWarning, match=r"lkd\.datamodules\.partitions is called lkd\.datamodules now"
    ) as said:
        former = importlib.reload(importlib.import_module("lkd.datamodules.partitions"))
    assert [one.filename for one in said][-1] == __file__
    assert all(getattr(former, name) is getattr(lkd.datamodules, name) for name in former.__all__)


def test_arguments_of_data():
    with pytest.warns(FutureWarning, match=r"YoloFolder\(colour=\) is called color= now") as said:
        data = YoloFolder("nowhere", colour=0.0)
    assert data.train_views.color == 0.0
    assert [one.filename for one in said] == [__file__]  # the line of who says it, not one of lkd
    with pytest.raises(TypeError, match="YoloFolder takes color= alone, and was given colour=, too"):
        YoloFolder("nowhere", color=0.1, colour=0.0)
    with pytest.raises(TypeError, match="colur"):
        YoloFolder("nowhere", colur=0.0)
    assert "colour" not in inspect.signature(DetectionDataModule).parameters


def test_arguments_and_attributes_of_a_federation():
    local = lkd.federated.LocalTraining(epochs=2)
    with pytest.warns(FutureWarning, match=r"Federation\(work=\) is called local= now"):
        federation = Federation(module(), work=local)
    assert federation.engine is not None and federation.local is local
    with pytest.warns(FutureWarning, match=r"Federation\.client is called Federation\.model now"):
        assert federation.client is federation.model
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(federation, FederatedDataModule(Digits(), IID(), clients=2))
    with pytest.warns(FutureWarning, match=r"Federation\.stations is called"):
        assert federation.stations is federation.engine.host.slots


def test_a_subclass_may_use_a_former_name_for_its_own():
    class Mine(Federation):
        def __init__(self):
            super().__init__(module())
            self.client, self.stations = Linear(1, 2), "own"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = Mine()
        assert mine.client.out_features == 2 and mine.stations == "own"


def test_todays_names_say_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Federation(module(), local=lkd.federated.LocalTraining())
        YoloFolder("nowhere", color=0.0)
