import io
import os
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST

from lkd.datamodules.classification.image_dataset import ImageSet, crop_and_flip, uniforms
from lkd.datamodules.classification.image_folder import ImageFolderData
from lkd.datamodules.classification.torchvision_data import TorchvisionData
from lkd.datamodules.samples.batching import Batching
from lkd.datamodules.samples.samplers import Key


def picture(number, size=8):
    """Noise that tells pictures apart."""
    return torch.randint(0, 256, (3, size, size), generator=torch.Generator().manual_seed(number)).byte()


def image_set(count=6, **kwargs):
    return ImageSet(torch.stack([picture(i) for i in range(count)]), np.arange(count) % 3, **kwargs)


# ---- random numbers and views


def test_uniforms_are_uniform_and_independent():
    keys = [Key(epoch, lap, item) for epoch in range(10) for lap in range(2) for item in range(500)]
    numbers = uniforms(0, keys, 3)
    assert numbers.shape == (10000, 3) and numbers.min() >= 0 and numbers.max() < 1
    counts = np.stack([np.histogram(column, 10, (0, 1))[0] for column in numbers.T])
    assert np.abs(counts - 1000).max() < 150  # 5 deviations
    assert np.abs(np.corrcoef(numbers.T) - np.eye(3)).max() < 0.05
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.05  # neighboring items
    assert len(np.unique(numbers)) == 30000


def test_uniforms_depend_on_seed_and_key_alone():
    keys = [Key(3, 0, 7), Key(3, 1, 7), Key(4, 0, 7), Key(3, 0, 8), Key(2**63 - 1, 0, 7)]
    numbers = uniforms(5, keys, 2)
    assert np.array_equal(uniforms(5, keys[::-1], 2), numbers[::-1])
    assert np.array_equal(uniforms(5, keys[2:3], 2), numbers[2:3])
    assert len(np.unique(numbers)) == 10 and not np.isin(uniforms(6, keys, 2), numbers).any()


def test_crops_and_flips_are_slices_of_the_padded_image():
    pixels, numbers = torch.stack([picture(i) for i in range(50)]), np.random.default_rng(0).random((50, 3))
    views = crop_and_flip(pixels, numbers, padding=2, flip=0.5)
    seen = set()
    for pixel, view, (a, b, c) in zip(pixels, views, numbers, strict=True):
        top, left = int(a * 5), int(b * 5)
        padded = torch.zeros(3, 12, 12, dtype=torch.uint8)
        padded[:, 2:10, 2:10] = pixel
        crop = padded[:, top : top + 8, left : left + 8]
        assert torch.equal(view, crop.flip(-1) if c < 0.5 else crop)
        seen |= {("top", top), ("left", left), ("flip", bool(c < 0.5))}
    assert len(seen) == 12


# ---- the set


def test_lists_and_single_indices_agree():
    images = image_set(rows=np.array([5, 0, 4]), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    x, y = images[[2, 0]]
    assert x.dtype == torch.float32 and y.tolist() == [1, 2] and len(images) == 3
    assert torch.equal(images[2][0], x[0]) and images[0][1] == 2
    expected = (picture(4).numpy() / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array(
        [0.5, 0.6, 0.7]
    )[:, None, None]
    np.testing.assert_allclose(x[0].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert images.columns["label"].tolist() == [2, 0, 1]


def test_views_by_key_whatever_batch_they_are_in():
    images = image_set(padding=3, flip=0.5, seed=2)
    state = torch.get_rng_state()
    keys = [Key(1, 0, i) for i in range(6)]
    whole, _ = images[keys]
    assert torch.equal(images[keys[4:1:-1]][0], whole[[4, 3, 2]])
    assert torch.equal(images[keys[1]][0], whole[1])
    assert not torch.equal(images[[Key(2, 0, i) for i in range(6)]][0], whole)
    assert torch.equal(torch.get_rng_state(), state)
    plain = images.plain
    assert torch.equal(plain[keys][0], image_set()[list(range(6))][0]) and images.augmented
    assert torch.equal(images[list(range(6))][0], plain[keys][0])  # without a key, no view


# ---- folders and tars


def folder(root, parts=("train/", "test/"), suffix=".png", size=8):
    """Six images of a cat and three of a dog in every part."""
    for k, part in enumerate(parts):
        for name, count in (("cat", 6), ("dog", 3)):
            place = root / part / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = picture(100 * k + i + (50 if name == "dog" else 0), size).permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(place / f"{i}{suffix}")
    (root / parts[0] / "cat" / ".hidden.png").write_bytes(b"")
    (root / "readme.txt").write_text("no image")
    return root


def packed(root, mode="w"):
    tar = root.parent / "set.tar"
    with tarfile.open(tar, mode) as archive:
        archive.add(root, arcname=".")
    return tar


def made(root, **kwargs):
    data = ImageFolderData(str(root), **{"val": 0.25, "batch_size": 4, **kwargs})
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("where", ["folder", "tar"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_official_parts(tmp_path, where, in_memory):
    root = folder(tmp_path / "set")
    data = made(root if where == "folder" else packed(root), in_memory=in_memory)
    assert data.classes == ["cat", "dog"]
    assert [len(data.datasets[part]) for part in ("train", "val", "test")] == [7, 2, 9]
    x, y = data.datasets["test"][[0, 8]]
    assert y.tolist() == [0, 1]
    assert torch.equal((x * 255).round().byte(), torch.stack([picture(100), picture(152)]))
    both = torch.cat([data.datasets[part][list(range(size))][0] for part, size in (("train", 7), ("val", 2))])
    expected = {p.numpy().tobytes() for p in (*map(picture, range(6)), *map(picture, range(50, 53)))}
    assert {p.numpy().tobytes() for p in (both * 255).round().byte()} == expected


def test_the_tar_is_not_unpacked_and_nothing_is_written(tmp_path):
    tar = packed(folder(tmp_path / "set"))
    before = sorted(map(str, tmp_path.rglob("*")))
    list(made(tar).train_dataloader())
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_held_out_shares_follow_the_seed(tmp_path):
    root = folder(tmp_path / "set", parts=("",))
    rows = {seed: made(root, test=0.3, seed=seed).datasets for seed in (0, 0, 1)}
    assert [len(rows[0][part]) for part in ("train", "val", "test")] == [4, 2, 3]
    assert sorted(np.concatenate([d.rows for d in rows[0].values()])) == list(range(9))
    assert not all(np.array_equal(rows[0][part].rows, rows[1][part].rows) for part in rows[0])
    again = made(root, test=0.3, seed=0).datasets
    assert all(np.array_equal(rows[0][part].rows, again[part].rows) for part in again)


def test_a_folder_val_and_no_validation(tmp_path):
    root = folder(tmp_path / "set", parts=("deep/train/", "deep/val/", "deep/test/"))
    assert [len(d) for d in made(root).datasets.values()] == [9, 9, 9]
    data = made(folder(tmp_path / "other"), val=0)
    assert len(data.datasets["train"]) == 9 and data.val_dataloader() == []


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("in_memory", [True, False])
def test_batches(tmp_path, workers, in_memory):
    root = folder(tmp_path / "set")

    def epoch(number, padding, num_workers=workers):
        data = made(
            root, padding=padding, flip=0.5 * bool(padding), num_workers=num_workers, in_memory=in_memory
        )
        loader = data.train_dataloader()
        loader.sampler.set_epoch(number)
        batches = list(loader)
        assert all(isinstance(batch, tuple) for batch in batches)
        return torch.cat([x for x, _ in batches])

    for padding in (0, 2):
        assert torch.equal(epoch(1, padding), epoch(1, padding, num_workers=0))
        assert not torch.equal(epoch(1, padding), epoch(2, padding))
    plain, views = epoch(1, 0), epoch(1, 2)
    assert {x.numpy().tobytes() for x in epoch(2, 0)} == {x.numpy().tobytes() for x in plain}
    assert not {x.numpy().tobytes() for x in views} <= {x.numpy().tobytes() for x in plain}
    x, y = next(iter(made(root, num_workers=workers).val_dataloader()))
    assert x.shape == (2, 3, 8, 8) and y.dtype == torch.int64


def test_sizes(tmp_path):
    root = folder(tmp_path / "set")
    Image.new("RGB", (5, 9)).save(root / "train" / "dog" / "odd.png")
    with pytest.raises(ValueError, match=r"several sizes \(8x8 and 5x9\): give image_size"):
        made(root)
    assert made(root, image_size=4).datasets["train"][0][0].shape == (3, 4, 4)


def test_clients_hold_images(tmp_path):
    from lkd.datamodules.federated.federated_datamodule import FederatedDataModule
    from lkd.datamodules.federated.partitions import IID, Natural

    inner = ImageFolderData(str(folder(tmp_path / "set")), padding=2, flip=0.5, batch_size=2, val=0.0)
    data = FederatedDataModule(inner, Natural("label"))
    data.prepare_data()
    data.setup("fit")
    assert [client.num_samples for client in data.clients] == [6, 3]
    one = [x for x, y in data.clients[1].train_batches(seed=2**63 + 9)]
    assert all(
        torch.equal(a, b) for a, (b, _) in zip(one, data.clients[1].train_batches(2**63 + 9), strict=True)
    )
    assert all(set(y.tolist()) == {1} for _, y in data.clients[1].train_batches(0))
    data = FederatedDataModule(inner, IID(), clients=2, client_fractions=(0.5, 0.0, 0.5))
    data.setup("fit")
    images = torch.cat([x for x, _ in data.clients[0].ordered_batches("test")])
    known = {x.numpy().tobytes() for x in inner.datasets["train"].plain[list(range(9))][0]}
    assert {x.numpy().tobytes() for x in images} <= known  # measured without augmentation


def test_one_sentence_for_wrong_folders(tmp_path):
    root = folder(tmp_path / "set")
    with pytest.raises(FileNotFoundError, match=r"there is no .*gone"):
        made(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="holds no image in a class folder"):
        made(folder(tmp_path / "none", suffix=".gif"))
    with pytest.raises(ValueError, match="not a plain tar: decompress it"):
        made(packed(root, "w:gz"))
    with pytest.raises(ValueError, match="no folder test: give a share"):
        made(folder(tmp_path / "flat", parts=("",)))
    (root / "test" / "bird").mkdir()
    Image.new("RGB", (8, 8)).save(root / "test" / "bird" / "1.png")
    with pytest.raises(ValueError, match="no training image of bird"):
        made(root)
    (root / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(root / "cat" / "1.png")
    with pytest.raises(ValueError, match="some class folders are in train, val or test and some are not"):
        made(root)


def test_a_damaged_image_is_named(tmp_path):
    root = folder(tmp_path / "set")
    (root / "train" / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"train/dog/1\.png in .* is damaged"):
        made(packed(root))


def test_too_many_images_for_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("lkd.datamodules.classification.image_folder.LIMIT", 1000)
    with pytest.raises(ValueError, match="set in_memory=false"):
        made(folder(tmp_path / "set"))


@pytest.mark.parametrize(("wrong", "sentence"), [
    ({"val": 1.0}, r"val=1.0 must be in \[0, 1\): it is a share"),
    ({"flip": 1.5}, r"flip=1.5 must be in \[0, 1\]"),
    ({"mean": (0.5,)}, r"mean=\(0.5,\) and std=None must be given together"),
    ({"std": (0.0,), "mean": (0.5,)}, r"std above 0"),
    ({"test": 0}, r"test=0 must be in \(0, 1\)"),
    ({"batch_size": 0}, r"batch_size=0"),
])  # fmt: skip
def test_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        ImageFolderData("data", **wrong)


# ---- torchvision


class Colors:
    """A set with torchvision's interface and its images in an array; 20 to train on and 5 to test on."""

    classes = ("red", "green")

    def __init__(self, root, train=True, transform=None, download=False):
        if not Path(root).is_dir():
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        self.data = np.stack(
            [picture(i + 20 * (not train)).permute(1, 2, 0).numpy() for i in range(20 if train else 5)]
        )
        self.targets = [i % 2 for i in range(len(self.data))]


class Files:
    """One whose images are files of several sizes, with split=."""

    def __init__(self, root, split="train"):
        self.count = 4 if split == "train" else 2

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Image.fromarray(picture(index, size=8 + index).permute(1, 2, 0).numpy()), index % 2


@pytest.fixture(autouse=True)
def my_sets(monkeypatch):
    """A module of one's own data sets, one of them without official parts."""
    module = ModuleType("my_sets")
    module.Colors, module.Files = Colors, Files
    module.Parts = type("Parts", (), {"__init__": lambda self, root: None})
    monkeypatch.setitem(sys.modules, "my_sets", module)


def test_a_set_in_an_array(tmp_path):
    data = TorchvisionData("my_sets.Colors", str(tmp_path), val=0.2, batch_size=4)
    data.prepare_data()
    data.setup()
    assert data.classes == ["red", "green"]
    train, val, test = (data.datasets[part] for part in ("train", "val", "test"))
    assert [len(train), len(val), len(test)] == [16, 4, 5]
    assert sorted([*train.rows, *val.rows]) == list(range(20))
    assert torch.equal((test[3][0] * 255).round().byte(), picture(23)) and test[3][1] == 1
    assert train.images is val.images  # held once
    assert train.columns["label"].tolist() == [row % 2 for row in train.rows]


def test_a_set_of_files(tmp_path):
    data = TorchvisionData("my_sets.Files", str(tmp_path), val=0, image_size=6)
    data.setup()
    x, y = data.datasets["train"][[0, 3]]
    assert x.shape == (2, 3, 6, 6) and y.tolist() == [0, 1] and len(data.datasets["test"]) == 2


def test_torchvisions_own_mnist(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 12), ("t10k", 3)):
        pixels = np.arange(count * 784).reshape(count, 28, 28).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", np.arange(count).astype(np.uint8) % 10)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
    data = TorchvisionData("MNIST", str(tmp_path), val=0.25, padding=2)
    data.prepare_data()
    data.setup("fit")
    x, y = data.datasets["test"][1]
    original = MNIST(str(tmp_path), train=False).data[1]
    np.testing.assert_allclose(x[0].numpy(), (original.numpy() / 255 - 0.1307) / 0.3081, rtol=1e-4, atol=1e-5)
    assert x.shape == (1, 28, 28) and y == 1 and len(data.datasets["train"]) == 9


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not hold CIFAR10 .* set download=true"):
        TorchvisionData("CIFAR10", str(tmp_path)).prepare_data()
    with pytest.raises(ValueError, match=r"'CIFAR01' is not in torchvision.datasets; did you mean CIFAR10"):
        TorchvisionData("CIFAR01", str(tmp_path))
    with pytest.raises(ValueError, match="no official test part"):
        TorchvisionData("my_sets.Parts", str(tmp_path))
    with pytest.raises(ConnectionError, match="cannot get Colors"):
        TorchvisionData("my_sets.Colors", str(tmp_path / "gone"), download=True).prepare_data()


def test_known_statistics_are_those_of_the_real_pictures():
    tar = Path(os.environ.get("LKD_DATA", "data")) / "cifar10_subset" / "cifar10_subset.tar"
    if not tar.is_file():
        pytest.skip(f"no sample data at {tar}: set LKD_DATA to where it is")
    data = made(tar, val=0.1)
    assert [len(d) for d in data.datasets.values()] == [9000, 1000, 2000]
    assert data.classes[:3] == ["airplane", "automobile", "bird"]
    assert np.bincount(data.datasets["test"].columns["label"]).tolist() == [200] * 10
    mean, std = TorchvisionData("CIFAR10", "data").mean, TorchvisionData("CIFAR10", "data").std
    pixels = data.datasets["test"].images.float().transpose(0, 1).flatten(1) / 255
    np.testing.assert_allclose(pixels.mean(1), mean, atol=0.005)
    np.testing.assert_allclose(pixels.std(1), std, atol=0.005)
    member = tarfile.open(tar).extractfile("test/truck/0199.jpg").read()
    last = np.array(Image.open(io.BytesIO(member))).transpose(2, 0, 1)
    assert np.array_equal((data.datasets["test"][1999][0] * 255).round().byte().numpy(), last)


def test_numbered_batches_say_which_image_is_which(tmp_path):
    """For a loss with a memory of every sample: in training only, and the same number in every epoch."""
    data = made(folder(tmp_path / "set"), numbered=True, padding=1)
    seen = {}
    for _ in range(2):
        for x, y, numbers in data.train_dataloader():
            assert numbers.dtype == torch.int64 and torch.equal(numbers[:, 0], y) and len(x) == len(y)
            seen |= {int(number): int(label) for label, number in numbers}
    assert sorted(seen) == list(range(len(data.datasets["train"])))
    assert all(int(data.datasets["train"].labels[number]) == label for number, label in seen.items())
    assert all(len(batch) == 2 for batch in [*data.val_dataloader(), *data.test_dataloader()])
    assert len(data.datasets["train"].plain[0]) == 2 and len(made(tmp_path / "set").datasets["train"][0]) == 2


def test_views_that_come_again_through_a_data_module_and_a_federation(tmp_path):
    for number in range(12):
        (tmp_path / f"class{number % 2}").mkdir(exist_ok=True)
        Image.fromarray(picture(number).permute(1, 2, 0).numpy()).save(
            tmp_path / f"class{number % 2}/{number}.png"
        )
    data = ImageFolderData(
        tmp_path, image_size=8, test=0.2, val=0.0, padding=2, batch_size=4, views_per_image=2
    )
    data.setup("fit")
    loader = data.train_dataloader()

    def seen(batches):
        return {x.numpy().tobytes() for batch in batches for x in batch[0]}

    epochs = []
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        epochs.append(seen(loader))
    assert epochs[0] == epochs[2] != epochs[1] == epochs[3]
    batching = Batching(loader)
    rows = np.arange(len(data.datasets["train"]))
    assert len({frozenset(seen(batching.shuffled(rows, seed))) for seed in range(7)}) == 2
    with pytest.raises(ValueError, match="views_per_image=0 must be 1 or more"):
        ImageFolderData(tmp_path, views_per_image=0)
