"""What class folders and sets of torchvision may look like: the rows of docs/data.md."""

import shutil
import tarfile

import torch
from PIL import Image

from lkd.datamodules import ImageFolderData, TorchvisionData

from ..pairs import voc
from ..tables import HERE, Table, pair, picture, refused

TABLE = Table("Class folders", "`TorchvisionData`")


@TABLE.row("`[train\\|val")
def test_class_folders(tmp_path):
    for part, count in (("train", 3), ("valid", 2), ("test", 1)):
        for k in range(count):
            for name in ("cat", "dog"):
                picture(tmp_path / "set" / part / name / f"{k}.png", (8, 8))
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "set", arcname=".")
    for part, other in (("train", "Train"), ("valid", "VALID"), ("test", "Test")):
        shutil.copytree(tmp_path / "set" / part, tmp_path / "capitals" / other)
    for place in ("set", "set.tar", "capitals"):
        data = ImageFolderData(str(tmp_path / place))
        data.setup()
        assert data.classes == ["cat", "dog"]
        assert [len(data.datasets[part]) for part in ("train", "val", "test")] == [6, 4, 2]


@TABLE.row("folders of one name")
def test_same_names(tmp_path):
    for part in ("train", "test"):
        for name in ("cat/left", "dog/left"):
            picture(tmp_path / part / name / "1.png")
    refused(
        ImageFolderData(str(tmp_path)).setup,
        "cat/left and dog/left are two folders of images, both called left",
    )
    for part in ("training", "test"):
        picture(tmp_path / "odd" / part / "cat" / "1.png")
    refused(
        ImageFolderData(str(tmp_path / "odd")).setup,
        r"cat are two folders of images, .* parts are called train, val, valid, validation, test\.",
    )


@TABLE.row("images of several sizes")
def test_several_sizes(tmp_path):
    for part in ("train", "test"):
        picture(tmp_path / part / "cat" / "1.png", (8, 8))
        picture(tmp_path / part / "cat" / "2.png", (8, 9))
    refused(ImageFolderData(str(tmp_path), val=0).setup, "give image_size")
    lazy = ImageFolderData(str(tmp_path), val=0, in_memory=False)
    lazy.setup()
    refused(lambda: lazy.datasets["train"][[0, 1]], "give image_size")


class Set:
    """A set with torchvision's interface; the test sets what it gives."""

    samples: tuple = ()

    def __init__(self, root, train=True):
        if len(self.samples) == 2:
            self.targets = self.samples[1]

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.samples[0], 0


@TABLE.row("pixels that are no bytes")
def test_torchvision_sets(tmp_path):
    gray = Image.new("RGB", (8, 8))

    def given(image, labels=(0, 1)):
        Set.samples = (image, labels)
        data = TorchvisionData(f"{__name__}.Set", str(tmp_path), val=0)
        data.dataset_class = Set
        data.setup()
        return data.datasets["train"][[0, 1]]

    assert given(gray)[1].tolist() == [0, 1]
    refused(lambda: given(torch.zeros(3, 8, 8)), r"Set gives pixels as torch\.float32: they must be bytes")
    refused(lambda: given(Image.new("I;16", (8, 8))), "image 0 has more than 8 bits a channel")
    for labels in (((0, 1), (1, 0)), (0.5, 1.0), (-1, 0), ("cat", "dog")):
        refused(lambda labels=labels: given(gray, labels), "must have one class an image")


def test_a_rendered_voc_file_is_read_as_its_writer_means_it(tmp_path):
    """The writer of the other tests' files agrees with the ones written here by hand."""
    assert pair(tmp_path, voc([("person", (20, 10, 60, 60), 0)], size=(100, 200)))[0] == [HERE]


def test_every_row_of_the_table_has_a_test():
    assert not TABLE.left
