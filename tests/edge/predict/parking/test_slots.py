import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lkd.edge.predict.parking.slot_drawing import BUSY, FREE, draw_slots
from lkd.edge.predict.parking.slots import Slots

SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40]]
CAMERA = "SlotId,X,Y,W,H\n603,1296,972,240,240\n604,0,0,100,200\n"
PARKING = """<parking id="ufpr05"><space id="7" occupied="1"><rotatedRect><center x="30" y="30"/></rotatedRect><contour>
<point x="10" y="20"/><point x="40" y="10"/><point x="60" y="40"/></contour></space>
<space id="8" occupied="0"><contour><Point x="100" y="100"/><Point x="200" y="100"/><Point x="200" y="200"/><Point x="100" y="200"/>
</contour></space></parking>"""


def write(path, text):
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def refused(path, message, **kwargs):
    with pytest.raises(ValueError, match=message) as error:
        Slots.read(path, **kwargs)
    assert str(path) in str(error.value)


def test_a_camera_of_cnrpark_is_scaled_to_its_pictures(tmp_path):
    slots = Slots.read(write(tmp_path / "camera3.csv", CAMERA), (1000, 750), "C3")
    assert slots.names == ("603", "604") and slots.camera == "C3" and slots.size == (1000, 750)
    assert slots.polygons[0, 0].tolist() == pytest.approx([500, 375])
    assert slots.polygons[0, 2].tolist() == pytest.approx([500 + 240 * 1000 / 2592, 375 + 240 * 750 / 1944])
    assert Slots.read(tmp_path / "camera3.csv").size == (2592, 1944)


def test_a_parking_of_pklot_keeps_its_contours_and_names(tmp_path):
    slots = Slots.read(write(tmp_path / "a.xml", PARKING), (640, 360))
    assert slots.names == ("7", "8") and slots.camera == "ufpr05"
    assert slots.polygons[0].tolist() == [[5, 10], [20, 5], [30, 20], [30, 20]]  # the last point is repeated


def test_a_map_of_ones_own_is_json(tmp_path):
    found = {
        "size": [100, 50],
        "camera": "gate",
        "slots": {"A1": SQUARE, "A2": [[60, 10], [90, 10], [75.5, 40]]},
    }
    slots = Slots.read(write(tmp_path / "map.json", found), (200, 100), camera="Gate")
    assert slots.names == ("A1", "A2") and slots.polygons[0, 2].tolist() == [100, 80]
    del found["camera"]
    assert Slots.read(write(tmp_path / "map.json", found), camera="gate").camera == "gate"


def test_a_map_of_another_camera_or_picture_is_refused(tmp_path):
    path = write(tmp_path / "camera3.csv", CAMERA)
    refused(path, r"is a map of camera 'C3', not of camera='camera2'", camera="camera2")
    for name in ("3", "camera03", "C3", "cam3"):
        assert Slots.read(path, camera=name).camera == "C3"
    refused(
        path,
        "is a map of a 2592x1944 picture, and the camera's is 1280x720, of another shape",
        size=(1280, 720),
    )
    assert Slots.read(path, size=(1001, 750)).size == (1001, 750)  # rounded sides are the same shape
    far = PARKING.replace('"200"', '"2000"')
    refused(
        write(tmp_path / "far.xml", far.replace('"100"', '"1900"')),
        "slot 8 lies outside of the 1280x720 picture",
    )
    slots = Slots.read(path, size=(1000, 750))
    slots.check("FULL/camera3/a.jpg", (1000, 750))
    slots.check("anywhere/a.jpg", (1000, 750))
    with pytest.raises(ValueError, match=r"is of camera2, and .*camera3\.csv is a map of C3"):
        slots.check("FULL/camera2/a.jpg", (1000, 750))


SIZE = '"size": [100, 50]'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no map: .*A map is "),
        ("[]", "is no object; a map is"),
        ('{"slots": {}}', "has the entries slots; a map is"),
        ('{"size": [100, 50], "slots": {}, "polygons": 1}', "has the entries size, slots, polygons"),
        ('{"size": [100], "slots": {}}', r"size=\[100\] must be \[width, height\]"),
        ('{"size": [100, 0.5], "slots": {}}', r"size=\[100, 0.5\] must be"),
        (f'{{{SIZE}, "slots": {{}}}}', "has no slot in it"),
        (f'{{{SIZE}, "slots": []}}', "slots must be an object"),
        (f'{{{SIZE}, "camera": 7, "slots": {{}}}}', "camera=7 must be a name in quotes"),
        (f'{{{SIZE}, "slots": {{"A": [[1, 1], [2, 2]]}}}}', "slot A: .* must be three corners"),
        (f'{{{SIZE}, "slots": {{"A": [[1, 1], [2, 2], [true, 3]]}}}}', "slot A: .* must be three corners"),
        (f'{{{SIZE}, "slots": {{"A": [1, 1, 20, 20]}}}}', "slot A: .* must be three corners"),
        (f'{{{SIZE}, "slots": {{"A": [[1, 1], [9, 9], [9, 1], [1, 9]]}}}}', "in their order round the slot"),
        (f'{{{SIZE}, "slots": {{"A": [[1, 1], [9, 9], [5, 5]]}}}}', "and enclose an area"),
        (f'{{{SIZE}, "slots": {{"A": [[1, 1], [9, 1], [NaN, 9]]}}}}', "must be finite"),
        (
            f'{{{SIZE}, "slots": {{"A": [[1, 1], [9, 1], [9, 9]], "A": [[1, 1], [9, 1], [9, 9]]}}}}',
            "it has A twice",
        ),
        (
            f'{{{SIZE}, "slots": {{"A": [[200, 60], [300, 60], [300, 90]]}}}}',
            "slot A lies outside of the 100x50 picture",
        ),
    ],
)
def test_a_map_that_is_none_is_refused_in_a_sentence(text, message, tmp_path):
    refused(write(tmp_path / "map.json", text), message)


def test_files_of_other_kinds_are_refused(tmp_path):
    refused(write(tmp_path / "map.txt", "A"), r"ends with '\.txt'; a map is a \.csv, \.xml or \.json")
    refused(write(tmp_path / "camera1.csv", "id,x\n1,2\n"), "has no column H and SlotId")
    refused(write(tmp_path / "camera1.csv", CAMERA + "604,0,0,9,9\n"), "line 4: slot 604 has a box already")
    refused(write(tmp_path / "a.xml", PARKING.replace('id="8"', 'id="7"')), "has several slots of the id 7")
    refused(write(tmp_path / "a.xml", "<lot/>"), "it is a <lot>")
    with pytest.raises(FileNotFoundError, match=r"slots='gone\.json' does not exist"):
        Slots.read("gone.json")


def test_slots_are_drawn_where_they_are_in_their_color(tmp_path):
    found = {
        "size": [300, 150],
        "slots": {"A": [[100, 10], [190, 10], [190, 140]], "B": [[200, 10], [290, 10], [290, 140]]},
    }
    slots = Slots.read(write(tmp_path / "map.json", found))
    picture = Image.new("RGB", (300, 150), (90, 90, 90))
    draw_slots(picture, slots, np.array([False, True]))
    assert picture.getpixel((190, 80)) == FREE and picture.getpixel((290, 80)) == BUSY
    assert np.asarray(picture)[:12, :60].max() > 200  # how many are free
    with pytest.raises(ValueError, match="the picture is a picture of 30x15"):
        draw_slots(picture.resize((30, 15)), slots, np.array([False, True]))


def test_all_of_it_runs_without_torch(tmp_path):
    """A device has none."""
    for name, text in (("camera1.csv", CAMERA), ("a.xml", PARKING)):
        write(tmp_path / name, text)
    code = f"""
import sys
sys.modules["torch"] = sys.modules["lightning"] = None
from pathlib import Path
from lkd.edge.predict import clips, parking, tracks
from lkd.edge.predict.parking import slot_drawing
for name in ("camera1.csv", "a.xml"):
    parking.Slots.read(Path({str(tmp_path)!r}) / name)
parking.Truth.read(Path({str(tmp_path)!r}) / "a.xml", parking.Slots.read(Path({str(tmp_path)!r}) / "a.xml"))
"""
    root = Path(__file__).parents[4]
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )


def test_real_maps_can_be_read():
    root = Path(os.environ.get("LKD_DATA", "data"))
    maps = sorted(root.glob("cnrpark_ext/camera?.csv")) + sorted(root.glob("pklot/*/bounding_boxes/*.xml"))
    if not maps:
        pytest.skip(f"no slot maps below {root}")
    for path in maps:
        number = re.fullmatch(r"camera(\d)", path.stem)
        slots = Slots.read(path, (1000, 750) if number else (1280, 720), camera=number and number[1])
        assert len(slots.names) >= 9 and slots.polygons.shape[1:] == (4, 2)
