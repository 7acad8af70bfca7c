"""Exported students put together by hand, and pictures that they know."""

import json

import numpy as np
import onnx
from PIL import Image

from lkd.edge.export.tail import with_suppression

from .test_nms import passing

FRAMES = {
    "normalization": {"scale": 255.0, "mean": [0.0], "std": [1.0]},
    "resize": {"how": "longer side, then pad", "longer_side": 64, "pad_value": 114},
    "layout": "NCHW, pixels, RGB",
    "dtype": "float32",
}


def finish(graph, path, **spec):
    onnx.helper.set_model_props(graph, {"lkd": json.dumps({"version": 1, **spec})})
    onnx.save(graph, path)
    return path


def first_pixels(height, width, threshold=0.1):
    """A detector that takes the picture's first pixels for a box and its score."""
    tail = with_suppression(passing(1, 1), threshold, 0.6, 10)
    before = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 18]>
        pixels (float[batch, 3, {height}, {width}] images) => (float[batch, 1, 4] first, float[batch, 1, 1] sure)
        <int64[3] start = {{0, 0, 0}}, int64[3] end = {{1, 1, 4}}, int64[3] last = {{1, 1, 5}}, int64[3] four = {{0, 0, 4}},
         int64[3] axes = {{1, 2, 3}}, int64[3] box = {{-1, 1, 4}}, int64[3] one = {{-1, 1, 1}}, float[1] white = {{255.0}}>
        {{
            corner = Slice (images, start, end, axes)
            shaped = Reshape (corner, box)
            first = Mul (shaped, white)
            score = Slice (images, four, last, axes)
            sure = Reshape (score, one)
        }}""")
    return onnx.compose.merge_models(before, tail, [("first", "b"), ("sure", "s")])


def detector_file(path, height=64, width=64, threshold=0.1, **entry):
    """That detector as an exported file."""
    inputs = [{"name": "images", "shape": ["batch", 3, height, width], **FRAMES, **entry}]
    limits = {"score_threshold": threshold, "iou_threshold": 0.6, "max_detections": 10}
    return finish(
        first_pixels(height, width, threshold),
        path,
        kind="boxes",
        nms="inside",
        inputs=inputs,
        classes=["car"],
        **limits,
    )


def picture(path, box=(3, 5, 40, 50), score=204, size=(32, 64)):
    """A picture whose first pixels say what `detector_file` finds."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[0, :5, 0] = [*box, score]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
