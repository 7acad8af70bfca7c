"""Students of several modalities: without branches they say the same, and the file does, whatever is missing."""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule

from lkd.edge import Exported
from lkd.edge.export import export
from lkd.edge.export.modalities import MultimodalKind

from ...modules.modalities import Windows, client, samples
from ..students import save

MODALITIES = ("acc", "gyro", "context")


class Wearables(LightningDataModule):
    def test_dataloader(self):
        return Windows(12, MODALITIES).loader()


def trained(**kwargs):
    """One whose prototypes know something."""
    module = client(MODALITIES, **kwargs).train()
    x, y = samples(12, MODALITIES, seed=3)
    module.log = lambda *args, **kwargs: None
    module.training_step((x, y))
    del module.log
    return module.eval()


@pytest.mark.parametrize("fusion", ["late", "mean", "concat", "gated", "attention"])
@pytest.mark.parametrize("completion", ["zero", "prototype"])
def test_without_branches_the_same(fusion, completion):
    module = trained(fusion=fusion, completion=completion)
    kind = MultimodalKind(module)
    x, _ = samples(12, MODALITIES, seed=7)
    kind.watch(module.forward)(x)
    network = kind.parts()[0].network
    for given in (x, {"gyro": x["gyro"]}, {k: v for k, v in x.items() if k != "present"}):
        with torch.no_grad():
            torch.testing.assert_close(network(*kind.tensors(given).values()), module(given))


def test_the_file_takes_any_subset(tmp_path):
    module = trained(fusion="attention", completion="prototype")
    path = save(module, tmp_path / "x.ckpt")
    fresh = client(MODALITIES, seed=1, fusion="attention", completion="prototype", modality_dropout=0.3)
    with pytest.warns(UserWarning, match="acc, gyro, context is normalized"):
        (file,) = export(fresh, Wearables(), path, str(tmp_path / "out"))
    student = Exported(file)
    assert [entry["name"] for entry in student.spec["inputs"]] == [*MODALITIES, "present"]
    x, _ = samples(5, MODALITIES, seed=7)
    arrays = {m: x[m].numpy() for m in MODALITIES}
    present = {m: x["present"][m].numpy() for m in MODALITIES}
    for given, same in [
        (x, {**arrays, "present": present}),
        ({"gyro": x["gyro"][:1]}, {"gyro": arrays["gyro"][:1]}),
        ({"acc": x["acc"], "gyro": x["gyro"]}, {"acc": arrays["acc"], "gyro": arrays["gyro"]}),
    ]:
        with torch.no_grad():
            np.testing.assert_allclose(student(same), module(given).numpy(), atol=1e-5)
    card = student.card
    assert set(card["metrics"]["file"]) == {"test/loss", "test/acc", "test/f1"}
    assert set(card["metrics"]["checkpoint"]) > set(card["metrics"]["file"])  # heads are not in the file
    with pytest.raises(ValueError, match="a sample has none of the modalities acc, gyro, context"):
        student({"acc": arrays["acc"], "present": {"acc": np.array([True, True, True, True, False])}})
    with pytest.raises(ValueError, match="x must be a dict of arrays by modality, of acc, gyro, context"):
        student(arrays["acc"])
