"""Detectors that exchange boxes: a small detector of one box a frame, whose training is known."""

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lkd.datamodules import IID, FederatedDataModule
from lkd.federated import BoxExchange, FedAvg, FedDFBoxes, Federation, Local, LocalTraining
from lkd.federated.topology import Ring, Topology
from lkd.modules import Classifier

from ..quadratic import trainer

SIDE = 32


class OneBox(LightningModule):
    """Finds one box in the middle of every frame, of a learned half side (as a fraction) and a given score."""

    def __init__(self, half=0.2, score=0.9, extra=0):
        super().__init__()
        self.reach = nn.Parameter(torch.tensor(half))
        self.extra = nn.Parameter(torch.zeros(extra)) if extra else None  # another architecture
        self.score = score

    def detect(self, images):
        box = torch.stack([0.5 - self.reach, 0.5 - self.reach, 0.5 + self.reach, 0.5 + self.reach]) * SIDE
        one = {"boxes": box[None], "scores": torch.tensor([self.score]), "labels": torch.tensor([0])}
        return [one for _ in images]

    def training_step(self, batch, batch_idx):
        halves = [
            (t["boxes"][:, 2] - t["boxes"][:, 0]).mean() / 2 / SIDE
            for t in batch["targets"]
            if len(t["boxes"])
        ]
        self.log("train/loss", torch.tensor(float(len(halves))), batch_size=len(batch["images"]))
        if not halves:
            return self.reach * 0
        return (self.reach - torch.stack(halves)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)


class NeedsLabels(OneBox):
    """Its hook looks at boxes, as one that crops pictures does."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        if isinstance(batch, dict):
            assert len(batch["targets"]) == len(batch["images"])
        return batch


class Frames(Dataset):
    """Blank frames; the truth of frame i is a box of half side .1 or .3, by `big(i)`."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        half = 0.1 * SIDE
        box = torch.tensor([[SIDE / 2 - half, SIDE / 2 - half, SIDE / 2 + half, SIDE / 2 + half]])
        return {"images": torch.zeros(3, SIDE, SIDE), "targets": {"boxes": box, "labels": torch.tensor([0])}}


def collate(samples):
    return {"images": torch.stack([s["images"] for s in samples]), "targets": [s["targets"] for s in samples]}


class Data(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Frames(15), batch_size=4, collate_fn=collate)


class Nobody(Topology):
    def edges(self, nodes, round=0):
        return [[] for _ in range(nodes)]


def run(algorithm, rounds=2, module=None, steps=1, **kwargs):
    federation = Federation(module or OneBox(), algorithm, LocalTraining(steps=steps), **kwargs)
    shards = FederatedDataModule(Data(), IID(), clients=3, public=0.2)
    trainer(rounds, limit_val_batches=0).fit(federation, shards)
    found = {}
    for client, model in federation.models([shards.clients[i] for i in range(3)]):
        found[client.id] = float(model.reach)
    return federation, found


def step(half, target):
    """SGD with lr .25 on (half - target)^2."""
    return half - 0.25 * 2 * (half - target)


def test_rounds_are_those_written_by_hand():
    """Round 0 is private; in round 1 all learn the fused box (3 public frames, one step), then their own frames."""
    _, found = run(BoxExchange(score_threshold=0.5))
    half = step(0.2, 0.1)
    half = step(half, half)  # the fused box of three equal ones
    assert found[0] == pytest.approx(step(half, 0.1), abs=1e-4)


def test_a_modules_own_hook_gets_public_frames_with_their_labels():
    exchange = lambda: BoxExchange(score_threshold=0.5)  # noqa: E731
    federation, found = run(exchange(), module=NeedsLabels())
    assert not [record.error for record in federation.records if record.error]
    assert found == run(exchange())[1]


def test_two_architectures_learn_from_each_other():
    _, alone = run(Local(), module=OneBox(0.2), other_models=[OneBox(0.4, extra=1)])
    _, found = run(
        BoxExchange(score_threshold=0.5, iou_threshold=0.1),
        module=OneBox(0.2),
        other_models=[OneBox(0.4, extra=1)],
    )
    small, big = step(0.2, 0.1), step(0.4, 0.1)
    fused = (2 * small + big) / 3  # clients 0 and 2 have the first
    assert found[0] == pytest.approx(step(step(small, fused), 0.1), abs=1e-4)
    assert found[1] == pytest.approx(step(step(big, fused), 0.1), abs=1e-4)
    assert found[1] != pytest.approx(alone[1], abs=1e-3)


def test_on_a_graph_only_neighbors_boxes_are_fused():
    class Line(Topology):
        def edges(self, nodes, round=0):
            return [[1], [0], [1]]

    kinds = {"module": OneBox(0.2), "other_models": [OneBox(0.4, extra=1)]}
    _, found = run(BoxExchange(Line(), score_threshold=0.5, iou_threshold=0.1), **kinds)
    small, big = step(0.2, 0.1), step(0.4, 0.1)
    assert found[2] == pytest.approx(step(step(small, (small + big) / 2), 0.1), abs=1e-4)


@pytest.mark.parametrize("confidence", ["mean", "max"])
def test_boxes_that_one_camera_alone_sees(confidence):
    """By the mean, its score is divided by the three cameras and falls below the threshold; the surest one's stays."""
    kinds = {"module": OneBox(0.1), "other_models": [OneBox(0.4, extra=1)]}
    thresholds = {"score_threshold": 0.5, "iou_threshold": 0.9, "fused_threshold": 0.4}
    _, found = run(BoxExchange(**thresholds, confidence=confidence), **kinds)
    small, big = 0.1, step(0.4, 0.1)
    learned = small if confidence == "mean" else (small + big) / 2
    assert found[1] == pytest.approx(step(step(big, learned), 0.1), abs=1e-4)


def test_nobody_to_learn_from_is_learning_from_oneself():
    _, found = run(BoxExchange(Nobody(), score_threshold=0.5))
    _, alone = run(Local())
    assert found[0] == pytest.approx(alone[0], abs=1e-4)


def test_bytes_are_those_of_the_boxes():
    federation, _ = run(BoxExchange(score_threshold=0.5))
    said = 3 * (11 + 4)  # three public frames, one box each
    assert federation.bytes_up == 3 * (said + 2 * 8)  # and the steps of two rounds
    numbers = 8 * (2 + 2 + 3)  # round and steps; round and seed; round, steps and seed
    assert federation.bytes_down == 3 * (said + numbers)


def test_what_is_logged_is_of_a_cameras_own_frames():
    federation, _ = run(BoxExchange(score_threshold=0.99))  # nothing is sure enough to be sent
    assert [record.metrics["train/loss"] for record in federation.records] == [4.0, 4.0, 4.0]


def test_the_servers_detector_learns_the_ensembles_boxes():
    federation, _ = run(FedDFBoxes(score_threshold=0.5), rounds=1, module=OneBox(0.2), steps=1)
    half = step(0.2, 0.1)
    assert float(federation.model.reach) == pytest.approx(step(half, half), abs=1e-4)
    kinds = {"module": OneBox(0.2), "other_models": [OneBox(0.4, extra=1)]}
    federation, _ = run(FedDFBoxes(score_threshold=0.5, iou_threshold=0.1), rounds=1, **kinds)
    small, big = step(0.2, 0.1), step(0.4, 0.1)
    fused = (2 * small + big) / 3
    assert float(federation.model.reach) == pytest.approx(step(small, fused), abs=1e-4)
    assert float(federation.other_models[0].reach) == pytest.approx(step(big, fused), abs=1e-4)


def test_without_distillation_it_is_fedavg():
    ours, _ = run(FedDFBoxes(epochs=0))
    theirs, _ = run(FedAvg())
    assert torch.equal(ours.model.reach, theirs.model.reach)


def test_repeats_are_bit_identical():
    first, second = (run(BoxExchange(Ring(), samples=2, score_threshold=0.5), rounds=3)[1] for _ in range(2))
    assert first == second


class Blind(OneBox):
    detect = None

    def training_step(self, batch, batch_idx):
        raise AssertionError("a client has trained")


@pytest.mark.parametrize("algorithm", [BoxExchange, FedDFBoxes])
@pytest.mark.parametrize("one", [{"module": Blind()}, {"other_models": [Blind(extra=1)]}], ids=["all", "one"])
def test_modules_that_find_no_boxes_are_one_sentence_before_a_client_trains(algorithm, one):
    with pytest.raises(ValueError, match=r"Blind has no detect\(images\)"):
        run(algorithm(), **one)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BoxExchange(score_threshold=1.0), "score_threshold=1.0 must be"),
        (lambda: BoxExchange(iou_threshold=0.0), "iou_threshold=0.0 must be"),
        (lambda: BoxExchange(top=0), "top=0"),
        (lambda: BoxExchange(samples=0), "samples=0"),
        (lambda: FedDFBoxes(epochs=-1), "epochs=-1"),
        (lambda: FedDFBoxes(fused_threshold=1.0), "fused_threshold=1.0"),
        (lambda: BoxExchange(confidence="box"), "confidence='box' must be 'mean' or 'max'"),
        (lambda: FedDFBoxes(confidence="box"), "confidence='box' must be 'mean' or 'max'"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_classifier_has_no_boxes():
    assert not hasattr(Classifier, "detect")
