import csv
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from lkd.cli import main
from lkd.datamodules import IID, FederatedDataModule, Synthetic
from lkd.partition import draw

DATA = {
    "class_path": "FederatedDataModule",
    "init_args": {
        "data": {"class_path": "Digits"},
        "partition": {"class_path": "Shards", "init_args": {"per_client": 2}},
        "clients": 5,
    },
}


WEARABLES = """
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

class Wearables(LightningDataModule):
    def train_dataloader(self):
        samples = [({"phone": torch.ones(3, 8), "watch": torch.ones(2)}, k % 3) for k in range(90)]
        return DataLoader(samples, batch_size=8)
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes a configuration in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def write(**sections):
        # making this model would fail, so none is made
        model = {"class_path": "Classifier", "init_args": {"network": "gone", "num_classes": 10}}
        Path("c.yaml").write_text(yaml.safe_dump({"model": model, "data": DATA, **sections}))
        return ["partition", "--config", "c.yaml"]

    return write


def table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_csv_and_picture_of_what_clients_hold(config, capsys):
    main(
        config(trainer={"logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "x", "name": "one"}}})
    )
    rows = table("runs/one/partition/clients.csv")
    assert list(rows[0]) == ["client", "name", "samples", *map(str, range(10))] and len(rows) == 5
    for row in rows:
        counts = [int(row[str(label)]) for label in range(10)]
        assert sum(counts) == int(row["samples"]) and sum(count > 0 for count in counts) <= 4
    total = sum(int(row["samples"]) for row in rows)
    shown = capsys.readouterr().out
    assert "5 clients" in shown and f"{total} samples" in shown and rows[3]["samples"] in shown
    with Image.open("runs/one/partition/clients.png") as picture:
        assert min(picture.size) > 200
    assert sorted(map(str, Path().rglob("*.*"))) == [
        "c.yaml", "runs/one/partition/clients.csv", "runs/one/partition/clients.png"
    ]  # fmt: skip


def test_options(config, capsys):
    main([*config(), "--data.clients=3", "--trainer.max_epochs=7", "--folder=here", "--column=label"])
    assert len(table("here/clients.csv")) == 3
    main([*config(), "--data.clients=2"])  # no logger has a name: that of the file
    assert len(table("runs/c/partition/clients.csv")) == 2


def test_modalities_and_wrong_labels_of_a_plan(config, capsys, tmp_path, monkeypatch):
    (tmp_path / "wearables_of_a_plan.py").write_text(WEARABLES)
    monkeypatch.syspath_prepend(tmp_path)
    plan = {"types": [["phone", "watch"], ["watch"]], "missing": 0.4, "label_noise": 0.3}
    arguments = {"data": {"class_path": "wearables_of_a_plan.Wearables"}, "partition": {"class_path": "IID"}}
    data = {"class_path": "FederatedDataModule", "init_args": {**arguments, "clients": 3, "plan": plan}}
    main([*config(data=data), "--folder=here", "--column=label"])
    rows, drawn = table("here/clients.csv"), table("here/modalities.csv")
    columns = [
        "client",
        "name",
        "samples",
        "modalities",
        "phone missing",
        "watch missing",
        "flipped",
        "0",
        "1",
        "2",
    ]
    assert list(rows[0]) == columns
    assert list(drawn[0]) == ["client", "row", "phone", "watch", "flipped"]
    assert sorted(int(one["row"]) for one in drawn) == list(range(90))
    assert [row["modalities"] for row in rows] == ["phone+watch", "watch", "phone+watch"]
    assert rows[1]["phone missing"] == "" and float(rows[1]["watch missing"]) == 0
    shown = capsys.readouterr().out
    for row in rows:
        own = [one for one in drawn if one["client"] == row["client"]]
        assert len(own) == int(row["samples"]) == 30
        assert int(row["flipped"]) == sum(int(one["flipped"]) for one in own) > 0
        for name in row["modalities"].split("+"):
            lacks = sum(one[name] == "0" for one in own) / 30
            assert float(row[f"{name} missing"]) == pytest.approx(lacks) and f"{lacks:.3f}" in shown
    assert 0 < float(rows[0]["phone missing"]) < 1
    assert "lack a modality" in shown and "wrong labels" in " ".join(shown.split())
    main([*config(data=data), "--folder=there", "--column=label", "--data.plan.missing=0.0"])
    assert all(float(row["watch missing"]) == 0 for row in table("there/clients.csv"))
    data["init_args"]["plan"] = {"types": [["phone", "wach"]]}
    with pytest.raises(
        SystemExit, match=r"types\[0\]: 'wach' is not among \['phone', 'watch'\]; did you mean watch"
    ):
        main(config(data=data))


def test_the_grid_is_darker_the_more_samples_have_a_modality(tmp_path):
    """Three clients have one modality in all samples, in some, in none; the last one does not own it."""
    shares = (0.0, 0.5, 1.0, None)
    rows = [
        {
            "client": k,
            "name": str(k),
            "samples": 9,
            "counts": {},
            "modalities": [],
            "missing": {"a": share},
            "flipped": 0,
        }
        for k, share in enumerate(shares)
    ]
    draw(rows, tmp_path / "clients.png")
    with Image.open(tmp_path / "clients.png") as picture:
        size = picture.size[::-1]
        pixels = torch.tensor(list(picture.convert("RGB").get_flattened_data())).reshape(*size, 3)
    green = (pixels[..., 1] > pixels[..., 0] + 8) & (pixels[..., 1] > pixels[..., 2] + 8)
    y, _ = green.nonzero().T
    line = pixels[y.min() + 4]  # above the numbers
    runs = [line[i] for i in range(1, size[1]) if green[y.min() + 4, i] and not green[y.min() + 4, i - 1]]
    shades = [run.sum().item() for run in runs]
    assert len(shades) == 3 and shades == sorted(shades) and shades[0] + 100 < shades[1] < shades[2] - 100


def test_public_data_are_counted(config, capsys):
    main(config())
    assert "public" not in capsys.readouterr().out
    main([*config(), "--data.public=0.1"])
    assert "108 public samples" in capsys.readouterr().out
    noise = ["--data.public=Noise", "--data.public.shape=[1, 8, 8]", "--data.public.samples=77"]
    main([*config(), *noise])
    assert "77 public samples" in capsys.readouterr().out
    data = {**DATA, "init_args": {**DATA["init_args"]}}
    data["init_args"]["public"] = {"class_path": "Digits", "init_args": {"fractions": [0.5, 0.0, 0.5]}}
    main(config(data=data))
    assert "898 public samples" in capsys.readouterr().out
    data["init_args"]["public"] = {
        "class_path": "Noise",
        "init_args": {"shape": [3, 8, 8], "uniform": [0, 1]},
    }
    with pytest.raises(SystemExit, match=r"of shape \(3, 8, 8\), and the clients' data of shape \(1, 8, 8\)"):
        main(config(data=data))


def test_a_saved_configuration_of_fit_is_read(config, capsys):
    with pytest.raises(SystemExit):
        main(["fit", *config()[1:], "--print_config"])
    Path("c.yaml").write_text(capsys.readouterr().out)
    main(["partition", "--config", "c.yaml", "--folder=here"])
    assert len(table("here/clients.csv")) == 5


def test_many_labels_and_many_clients_fit_the_terminal(config, capsys):
    data = {
        "class_path": "FederatedDataModule",
        "init_args": {
            "data": {"class_path": "Synthetic", "init_args": {"clients": 100}},
            "partition": {"class_path": "Natural", "init_args": {"column": "client"}},
        },
    }
    main([*config(data=data), "--folder=here", "--column=client"])
    shown = capsys.readouterr().out
    assert "different labels" in shown and "client 59" in shown and "client 60" not in shown
    assert len(table("here/clients.csv")) == 100


@pytest.mark.parametrize(("options", "sentence"), [
    (["--data=Digits"], "Digits has no clients; make it the `data` of a FederatedDataModule"),
    (["--data.clients=5000"], "5000"),
    (["--column=camera"], "'camera' is not among"),
])  # fmt: skip
def test_one_sentence(config, options, sentence):
    with pytest.raises(SystemExit, match=sentence):
        main([*config(), *options])


def test_unknown_options_are_refused(config, capsys):
    with pytest.raises(SystemExit):
        main([*config(), "--data.cliens=5"])
    assert "cliens" in capsys.readouterr().err


def test_bubbles_stand_where_samples_are(tmp_path):
    """Client 0 has only a, client 1 only b: blue on one diagonal of the upper panel."""
    rows = [
        {"client": 0, "name": "0", "samples": 9, "counts": {"a": 9, "b": 0}},
        {"client": 1, "name": "1", "samples": 9, "counts": {"a": 0, "b": 9}},
    ]
    draw(rows, tmp_path / "clients.png")
    with Image.open(tmp_path / "clients.png") as picture:
        pixels = torch.tensor(list(picture.convert("RGB").get_flattened_data())).reshape(
            *picture.size[::-1], 3
        )
    blue = (pixels - torch.tensor([0x34, 0x98, 0xDB])).abs().sum(-1) < 20
    blue[: len(blue) // 8] = False  # the legend
    y, x = blue.nonzero().float().T
    assert len(x) > 50 and torch.corrcoef(torch.stack([x, y]))[0, 1] < -0.8  # up to the right


def test_without_labels_sizes_are_drawn(tmp_path):
    draw([{"client": 0, "name": "0", "samples": 3, "counts": {}}], tmp_path / "clients.png")
    assert (tmp_path / "clients.png").stat().st_size > 1000


def test_the_picture_stays_small_for_many_clients(tmp_path):
    data = FederatedDataModule(Synthetic(clients=100), IID(), clients=1000)
    data.setup("fit")
    draw(data.summary(), tmp_path / "clients.png")
    with Image.open(tmp_path / "clients.png") as picture:
        assert max(picture.size) < 3000


def test_axes_and_bubbles_are_named(tmp_path, monkeypatch):
    """What stands at the axes and in the legend, of clients with and without values that are counted."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    seen = []
    drawing = FigureCanvasAgg.print_png
    monkeypatch.setattr(
        FigureCanvasAgg, "print_png", lambda canvas, path: seen.append(canvas.figure) or drawing(canvas, path)
    )
    clients = [{"client": k, "name": str(k), "samples": 9, "counts": {"C1": 9 * k, "C2": 3}} for k in (0, 1)]
    draw(clients, tmp_path / "clients.png", "camera")
    draw([{**one, "counts": {}} for one in clients], tmp_path / "none.png", "")
    above, below = seen[0].axes
    assert (above.get_ylabel(), below.get_xlabel(), below.get_ylabel()) == (
        "camera",
        "client",
        "training samples",
    )
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["3 samples", "9 samples"]
    assert seen[1].axes[0].get_legend() is None
