"""BoxDistillation between torchvision's detectors: boxes and features, and in one sentence what they have not."""

import pytest
import torch
from lightning.pytorch import Trainer

from lkd.callbacks import BoxDistillation, DetectionReport, Distillation
from lkd.datamodules import FederatedDataModule, Natural
from lkd.distillation.adapters import ADAPTERS
from lkd.federated import BoxExchange, FedAvg, Federation, LocalTraining
from lkd.losses import CWD, DenseDetection
from lkd.models import YOLO, TorchvisionDetector
from lkd.modules import Detector
from lkd.teachers import Teacher

from ..detectors import needs_yolo
from ..roads import oracle, write_roads
from .detection import attached, first_batch, roads
from .plain import quick_trainer, seeded


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_roads(tmp_path_factory.mktemp("roads"), count=4)


def network(head="fcos", channels=64, seed=0, num_classes=1, **options):
    made = (head, "test_resnet", num_classes, channels)
    return seeded(seed, lambda: TorchvisionDetector(*made, **options))


def student(head="fcos", channels=64, **options):
    return Detector(network(head, channels), **options)


def fit(callback, root, module):
    trainer = quick_trainer(callbacks=[callback])
    trainer.fit(module, datamodule=roads(root, unlabeled=True))
    return trainer


@pytest.mark.parametrize("heads", [("fcos", "ssdlite"), ("ssdlite", "retinanet"), ("retinanet", "fcos")])
def test_any_detector_teaches_any_other_by_boxes(root, heads):
    batch = first_batch(root)
    teacher, module = network(heads[0], seed=1).eval(), student(heads[1])
    with torch.no_grad():
        sure = torch.cat([one["scores"] for one in teacher.detect(batch["images"])]).median().item()
    callback = BoxDistillation(Teacher(teacher), score_threshold=sure, iou_threshold=0.5)
    labeled = callback.labels(batch)["targets"]
    assert 0 < sum(len(one["labels"]) for one in labeled)
    wanted = sum(module.loss(module(batch["images"]), labeled).values())
    module, _ = attached(callback, batch, module)
    loss = module.training_step(batch, 0)
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("channels", [64, 96])
def test_features_that_enter_the_heads_are_distilled(root, channels):
    batch = first_batch(root)
    teacher, module = network(channels=channels, seed=1), student()
    with torch.no_grad():
        theirs = teacher.eval()(batch["images"])["feats"]
        ours = module(batch["images"])["feats"]
    callback = BoxDistillation(Teacher(teacher), hard=0.0, feature=1.0)
    module, logs = attached(callback, batch, module)
    module.training_step(batch, 0).backward()
    assert bool(len(getattr(module, ADAPTERS))) == (channels != 64)
    if channels == 64:
        assert logs["distillation/cwd"] == pytest.approx(CWD()(ours, theirs).item(), rel=1e-4)


def test_features_of_other_maps_are_refused(root):
    teacher = seeded(1, lambda: TorchvisionDetector("ssdlite"))  # six maps; a pyramid has five
    with pytest.raises(ValueError, match="the student has 5 layers to adapt, the teacher 6"):
        fit(BoxDistillation(Teacher(teacher), hard=0.0, feature=1.0), root, student())


def test_dense_terms_are_refused_before_the_teacher_is_trained(root, tmp_path):
    (tmp_path / "recipe.yaml").write_text("nothing: that could be trained")
    teacher = Teacher(str(tmp_path / "t.ckpt"), recipe=str(tmp_path / "recipe.yaml"))
    for module in (student(), Federation(student(), FedAvg(), LocalTraining())):
        with pytest.raises(
            ValueError, match=r"dense=1.0: the student's TorchvisionDetector .*pseudo-labels.*features"
        ):
            BoxDistillation(teacher, dense=1.0).setup(Trainer(logger=False), module, "fit")


@needs_yolo
def test_dense_terms_of_a_torchvision_teacher_are_refused(root):
    with pytest.raises(ValueError, match=r"dense=1.0: the teacher's TorchvisionDetector has no raw outputs"):
        fit(BoxDistillation(Teacher(network()), dense=1.0), root, Detector("yolov8n.yaml"))
    module = Detector("yolov8n.yaml")  # whose boxes it may learn
    assert fit(BoxDistillation(Teacher(network())), root, module).global_step == 2
    yolo = seeded(1, lambda: YOLO("yolov8n.yaml", num_classes=1))  # and the other way round
    assert fit(BoxDistillation(Teacher(yolo)), root, student("ssdlite")).global_step == 2


def test_a_dense_term_alone_says_what_works_instead(root):
    callback = Distillation(Teacher(network(seed=1)), [DenseDetection()], input_key="images")
    trainer = quick_trainer(callbacks=[callback])
    with pytest.raises(
        ValueError, match=r"entries scores; found .*cls_logits.*YOLO has them.*pseudo-labels.*features, CWD"
    ):
        trainer.fit(student(), datamodule=roads(root))
    assert trainer.global_step == 0


def test_soft_labels_are_refused(root):
    with pytest.raises(
        ValueError, match=r"soft=True: the loss of TorchvisionDetector does not weigh boxes.*soft=False"
    ):
        fit(BoxDistillation(Teacher(oracle), soft=True), root, student())


def test_a_box_in_the_padding_is_no_label(root):
    def beside(images):
        found = oracle(images)
        for one in found:
            one["boxes"] = torch.cat([one["boxes"], torch.tensor([[4.0, 90.0, 20.0, 96.0]])])  # of 72 rows
            one["scores"] = torch.cat([one["scores"], torch.tensor([0.9])])
            one["labels"] = torch.cat([one["labels"], torch.tensor([0])])
        return found

    batch = first_batch(root)
    assert batch["sizes"][0] == (72, 96) and batch["images"].shape[2] == 96
    labeled, wanted = (BoxDistillation(Teacher(t)).labels(batch)["targets"] for t in (beside, oracle))
    assert [len(one["boxes"]) for one in labeled] == [len(one["boxes"]) for one in wanted]


def clients(root, **options):
    return FederatedDataModule(roads(root, fractions=(0.5, 0.25, 0.25)), Natural("camera"), **options)


@pytest.mark.parametrize("head", ["fcos", "ssdlite"])
def test_it_is_a_client_that_an_oracle_teaches(root, head):
    module = student(head)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    federation = Federation(module, FedAvg(), LocalTraining(epochs=1))
    trainer = quick_trainer(callbacks=[BoxDistillation(Teacher(oracle))], limit_val_batches=0)
    trainer.fit(federation, datamodule=clients(root))
    moved = [
        name
        for name, tensor in federation.model.state_dict().items()
        if not torch.equal(tensor, before[name])
    ]
    assert any("head" in name for name in moved) and any("running_mean" in name for name in moved)
    assert federation.model.detect(first_batch(root)["images"])[0].keys() == {"boxes", "scores", "labels"}


def test_clients_of_different_heads_exchange_boxes(root):
    """In the second round each learns the other's boxes, of scores that networks without training have."""
    moved = {}
    for rounds in (1, 2):
        shards = clients(root, public=0.5)
        exchange = BoxExchange(score_threshold=0.005, fused_threshold=0.0, confidence="max")
        kinds = [student("fcos"), student("retinanet")]
        federation = Federation(kinds[0], exchange, LocalTraining(steps=1), other_models=kinds[1:])
        quick_trainer(max_epochs=rounds, limit_val_batches=0).fit(federation, datamodule=shards)
        assert not any(record.error for record in federation.records)
        for client, model in federation.models(shards.clients):
            moved[rounds, client.id] = [p.detach().clone() for p in model.parameters()]
    for k in range(2):
        assert any(not torch.equal(p, q) for p, q in zip(moved[1, k], moved[2, k], strict=True))


def test_a_report_measures_teacher_and_student_in_the_students_classes(root, tmp_path):
    def found(images):
        return [{**one, "labels": one["labels"] + 2} for one in oracle(images)]

    teacher = Teacher(
        network(num_classes=3, class_names=["person", "bus", "car"]), classes={"car": "vehicle"}
    )
    teacher.model.detect = found
    report = DetectionReport(folder=str(tmp_path), pictures=0)
    module = student(class_names=["vehicle"])
    trainer = quick_trainer(callbacks=[BoxDistillation(teacher), report])
    data = roads(root, unlabeled=True)
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    assert all(row["mAP50"] > 0.99 for row in report.rows if row["Role"] == "Teacher")


def test_a_report_leaves_out_a_teacher_of_features_whose_classes_are_others(root, tmp_path):
    teacher = Teacher(network(num_classes=3, seed=1))
    features = Distillation(
        teacher, [CWD(student_layer=":feats:*", teacher_layer=":feats:*")], input_key="images"
    )
    module, data = student(), roads(root)
    for given, runs in ((None, True), (teacher, False)):
        report = DetectionReport(given, folder=str(tmp_path), pictures=0)
        trainer = quick_trainer(callbacks=[features, report])
        if runs:
            with pytest.warns(
                UserWarning, match="leaves the teacher out: the teacher has 3 classes, the student 1"
            ):
                trainer.test(module, datamodule=data, verbose=False)
            assert {row["Role"] for row in report.rows} == {"Student"}
        else:
            with pytest.raises(ValueError, match="the teacher has 3 classes"):
                trainer.test(module, datamodule=data, verbose=False)


def test_students_of_one_teacher_have_one_list_of_classes(root):
    others = [Detector(network("retinanet"), class_names=["van"])]
    federation = Federation(student(class_names=["car"]), BoxExchange(), LocalTraining(), other_models=others)
    with pytest.raises(
        ValueError, match=r"one list of classes, but its students have \['car'\] and \['van'\]"
    ):
        BoxDistillation(Teacher(oracle)).setup(Trainer(logger=False), federation, "fit")
