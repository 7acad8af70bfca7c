"""Weighted box fusion against loops over plain numbers, and the packing of boxes."""

import numpy as np
import pytest
import torch

from lkd.federated.knowledge.box_exchange import fuse
from lkd.federated.knowledge.common.box_codec import pack, unpack
from lkd.federated.knowledge.common.box_fusion import weighted_box_fusion


def drawn(seed, count, labels=2):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g) * 20
    return {
        "boxes": torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=g) * 10], 1),
        "scores": torch.rand(count, generator=g),
        "labels": torch.randint(labels, (count,), generator=g),
    }


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def by_hand(found, threshold, confidence="mean"):
    """The paper's steps 1 to 6, with lists; or the score of the surest member."""
    everything = sorted(
        (
            (float(s), [float(v) for v in b], int(k))
            for one in found
            for b, s, k in zip(one["boxes"], one["scores"], one["labels"], strict=True)
        ),
        key=lambda item: -item[0],
    )
    clusters = []
    for score, box, label in everything:
        best, overlap = None, threshold
        for cluster in clusters:
            if cluster["label"] == label and iou(cluster["box"], box) > overlap:
                best, overlap = cluster, iou(cluster["box"], box)
        if best is None:
            clusters.append({"label": label, "box": box, "members": [(score, box)]})
            continue
        best["members"].append((score, box))
        total = sum(s for s, _ in best["members"])
        best["box"] = [sum(s * b[i] for s, b in best["members"]) / total for i in range(4)]
    n = len(found)
    result = []
    for c in clusters:
        mean = sum(s for s, _ in c["members"]) / len(c["members"])
        score = mean * min(len(c["members"]), n) / n if confidence == "mean" else max(c["members"])[0]
        result.append((score, c["box"], c["label"]))
    return sorted(result, key=lambda item: -item[0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.3, 0.55])
@pytest.mark.parametrize("confidence", ["mean", "max"])
def test_fusion_is_that_written_by_hand(seed, threshold, confidence):
    found = [drawn(10 * seed + i, 6 + i) for i in range(3)]
    fused = weighted_box_fusion(found, threshold, confidence)
    expected = by_hand(found, threshold, confidence)
    assert len(fused["scores"]) == len(expected)
    assert fused["scores"].tolist() == pytest.approx([s for s, _, _ in expected], rel=1e-5)
    assert np.allclose(fused["boxes"].numpy(), np.array([b for _, b, _ in expected]), rtol=1e-5)
    assert fused["labels"].tolist() == [k for _, _, k in expected]


def test_equal_models_change_nothing_and_one_that_is_alone_counts_less():
    one = {"boxes": torch.tensor([[0.0, 0, 4, 4], [10, 10, 14, 14]]), "scores": torch.tensor([0.8, 0.5]),
           "labels": torch.tensor([0, 1])}  # fmt: skip
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
    same = weighted_box_fusion([one, one, one])
    assert all(torch.allclose(same[k].float(), one[k].float()) for k in one)
    alone = weighted_box_fusion([one, none, none, none])
    assert alone["scores"].tolist() == pytest.approx([0.2, 0.125])
    assert len(weighted_box_fusion([none, none])["scores"]) == 0


def test_boxes_of_other_classes_are_never_fused():
    box = torch.tensor([[0.0, 0, 4, 4]])
    found = [{"boxes": box, "scores": torch.tensor([0.5]), "labels": torch.tensor([k])} for k in (0, 1)]
    assert len(weighted_box_fusion(found)["scores"]) == 2


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="there is no model"):
        weighted_box_fusion([])
    with pytest.raises(ValueError, match=r"iou_threshold=1.0 must be in \(0, 1\)"):
        weighted_box_fusion([drawn(0, 1)], 1.0)


def test_packed_boxes_come_back_within_a_fraction_of_a_pixel():
    found = [{**drawn(i, n), "boxes": drawn(i, n)["boxes"] / 40} for i, n in enumerate((3, 0, 5))]
    packed = pack(found)
    assert sum(t.nbytes for t in packed.values()) == 8 * 11 + 3 * 4
    for a, b in zip(found, unpack(packed), strict=True):
        assert torch.allclose(a["boxes"], b["boxes"], atol=1 / 65535)
        assert torch.allclose(a["scores"], b["scores"], atol=1e-3)
        assert torch.equal(a["labels"], b["labels"])


def test_frames_are_fused_one_by_one_and_unsure_boxes_left_out():
    found = [
        [{**drawn(7 * m + f, 4), "boxes": drawn(7 * m + f, 4)["boxes"] / 40} for f in range(3)]
        for m in range(2)
    ]
    joint = unpack(fuse([pack(model) for model in found], 0.5, 0.2))
    for f in range(3):
        expected = weighted_box_fusion([unpack(pack(model))[f] for model in found], 0.5)
        sure = expected["scores"] >= 0.2
        assert torch.allclose(joint[f]["boxes"], expected["boxes"][sure], atol=2 / 65535)
        assert (expected["scores"] < 0.2).any() or sure.all()


def test_an_unknown_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence='median' must be 'mean' or 'max'"):
        weighted_box_fusion([drawn(0, 2)], confidence="median")
