"""Non-maximum suppression as a piece of ONNX graph, put behind a detector's boxes and scores."""

from typing import Any

from lkd.edge.extra import optional

# The rules of lkd.models.suppressed: the best candidates of a picture, suppression within a class, the best
# that are left. ONNX's own operator keeps boxes for each class and has no limit over classes.
_TEXT = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
suppression (float[batch, {boxes}, 4] boxes, float[batch, {boxes}, {classes}] scores) => (float[found, 7] detections)
<int64[1] last = {{-1}}, int64[1] first = {{0}}, int64[1] one = {{1}}, int64[2] ends = {{0, 2}}, int64[1] to_image = {{0}},
 int64[1] to_place = {{2}},
 int64[1] looked_at = {{{looked_at}}}, int64[1] most = {{{most}}}, float[1] overlap = {{{iou_threshold}}},
 float[1] lowest = {{{score_threshold}}}, float[1] nothing = {{-1.0}}, int64 zero = {{0}}, int64 step = {{1}},
 int64[1, {classes}, 1] classes = {{{numbers}}}>
{{
{candidates}
    top_boxes = GatherND <batch_dims = 1> (boxes, places)
    label_row = Transpose <perm = [0, 2, 1]> (top_labels)
    is_of = Equal (label_row, classes)
    top_row = Unsqueeze (top, one)
    by_class = Where (is_of, top_row, nothing)
    chosen = NonMaxSuppression (top_boxes, by_class, most, overlap, lowest)

    image_of = Gather <axis = 1> (chosen, to_image)
    image_start = Mul (image_of, looked_at)
    place_of = Gather <axis = 1> (chosen, to_place)
    key = Add (image_start, place_of)
    keys = Squeeze (key, one)
    count = Shape (keys)
    ordered, order = TopK <axis = 0, largest = 0> (keys, count)
    ordered_chosen = Gather <axis = 0> (chosen, order)
    image_and_place = Gather <axis = 1> (ordered_chosen, ends)

    image = Gather <axis = 1> (ordered_chosen, to_image)
    pictures = Shape <start = 0, end = 1> (boxes)
    picture_count = Squeeze (pictures, first)
    all_images = Range (zero, picture_count, step)
    is_in = Equal (image, all_images)
    marks = Cast <to = 7> (is_in)
    counted = CumSum (marks, zero)
    own = Mul (counted, marks)
    rank = ReduceSum <keepdims = 0> (own, one)
    keep = LessOrEqual (rank, most)

    box = GatherND (top_boxes, image_and_place)
    image_number = Cast <to = 1> (image)
    class_column = Gather <axis = 1> (ordered_chosen, one)
    class_number = Cast <to = 1> (class_column)
    found_scores = GatherND (top, image_and_place)
    score = Unsqueeze (found_scores, one)
    rows = Concat <axis = 1> (image_number, box, class_number, score)
    detections = Compress <axis = 0> (rows, keep)
}}
"""
# A candidate is a box with its best class, or each class of a box.
_BEST_CLASS = """
    best_kept = ReduceMax <keepdims = 1> (scores, last)
    label = ArgMax <axis = 2, keepdims = 1> (scores)
    best = Squeeze (best_kept, last)
    top, place = TopK <axis = 1> (best, looked_at)
    places = Unsqueeze (place, last)
    top_labels = GatherND <batch_dims = 1> (label, places)
"""
_EACH_CLASS = """
    class_count = Constant <value_int = {classes}> ()
    pairs = Flatten <axis = 1> (scores)
    top, pair = TopK <axis = 1> (pairs, looked_at)
    place = Div (pair, class_count)
    label = Mod (pair, class_count)
    places = Unsqueeze (place, last)
    top_labels = Unsqueeze (label, last)
"""


def with_suppression(
    graph: Any, score_threshold: float, iou_threshold: float, max_detections: int, multi_label: bool = False
) -> Any:
    """Returns a graph that gives detections in place of boxes and scores.

    Args:
        graph: `onnx.ModelProto` with outputs `boxes (batch, A, 4)` and `scores (batch, A, C)`.
        score_threshold: As in `lkd.edge.nms.suppress`.
        iou_threshold: As in `lkd.edge.nms.suppress`.
        max_detections: As in `lkd.edge.nms.suppress`.
        multi_label: As in `lkd.edge.nms.suppress`.

    Returns:
        The graph with the output `detections (D, 7)` of all pictures: number of the picture in the batch, x1,
        y1, x2, y2, class, score; picture by picture, each in descending order of scores.
    """
    onnx = optional("onnx")
    shape = next(o for o in graph.graph.output if o.name == "scores").type.tensor_type.shape
    boxes, classes = (dim.dim_value for dim in shape.dim[1:])
    text = _TEXT.format(
        ir=graph.ir_version,
        opset=next(o.version for o in graph.opset_import if not o.domain),
        boxes=boxes,
        classes=classes,
        numbers=", ".join(map(str, range(classes))),
        candidates=_EACH_CLASS.format(classes=classes) if multi_label else _BEST_CLASS,
        looked_at=min(boxes * classes if multi_label else boxes, 10 * max_detections),
        most=max_detections,
        score_threshold=f"{score_threshold:.9f}",
        iou_threshold=f"{iou_threshold:.9f}",
    )
    tail = onnx.compose.add_prefix(onnx.parser.parse_model(text), "nms/", rename_outputs=False)
    joined = onnx.compose.merge_models(graph, tail, [("boxes", "nms/boxes"), ("scores", "nms/scores")])
    onnx.checker.check_model(joined)
    return joined
