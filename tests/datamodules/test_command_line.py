"""Every datamodule's arguments, also those of its base, can be set by LightningCLI's parser."""

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

from lkd import datamodules


@pytest.mark.filterwarnings("ignore")  # instantiate_classes: deprecated in 4.49, nothing else before
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("YoloFolder", {"root": "r", "class_map": "{2: 0}", "image_size": 320, "crop": "[0.5, 1.0]"}),
        ("PKLot", {"targets": "slots", "teacher_size": 640, "unlabeled": "true"}),
        (
            "CNRParkEXT",
            {"task": "patches", "days": "[2015-11-12..2015-11-30]", "fractions": "[0.5, 0.2, 0.3]"},
        ),
        (
            "CocoFolder",
            {
                "annotations": "{train: 'a/*.json', test: 'b/*.json'}",
                "classes": "{car: 0}",
                "camera": "'C{number}'",
            },
        ),
        ("CocoFolder", {"annotations": "'**/*.json'", "name": "'{number}.jpg'", "images": "'{part}2017'"}),
        ("CNRParkPatches", {"split": "official", "batch_size": 3, "root": "r"}),
        ("ParkingWorld", {"cameras": "[C1, C9]", "size": "[320, 240]", "weathers": "[sunny]", "seed": 3}),
        ("Digits", {"batch_size": 7}),
        ("UCIHAR", {"root": "r", "acceleration": "total", "val_subjects": "[s01]", "download": "true"}),
        (
            "RGBThermalFolder",
            {
                "image": "visible",
                "test": "{part: [test]}",
                "classes": "{car: 1}",
                "camera": "'{part}'",
                "ignore": "[people]",
            },
        ),
        ("SmartphoneSmartwatchHAR", {"root": "null", "modalities": "[watch_acc]", "test_subjects": "[s01]"}),
    ],
)
def test_arguments(name, arguments):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    flags = [f"--data.{key}={value}" for key, value in arguments.items()]
    config = parser.parse_args([f"--data=lkd.datamodules.{name}", *flags])
    module = parser.instantiate_classes(config).data
    assert type(module) is getattr(datamodules, name)
    if name == "YoloFolder":
        assert module.class_map == {2: 0} and module.train_views.crop == (0.5, 1.0)
    with pytest.raises(Exception, match="wrong_name"):
        parser.parse_args([f"--data=lkd.datamodules.{name}", "--data.wrong_name=1"])
