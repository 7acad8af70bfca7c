"""Early exit, an exit that sends, and a bottleneck as rows of a report: against the networks themselves, and over broken links."""

import pytest
import torch

from lkd.datamodules import Digits
from lkd.edge.offload.arms import Bottleneck, EarlyExit, SentExit
from lkd.edge.offload.arms.exits import answers_of, costs
from lkd.edge.offload.gates import MaxProbability
from lkd.edge.offload.link import Link
from lkd.edge.offload.trial import Conditions
from lkd.lightning_cli import run
from lkd.teachers.sources import load

pytestmark = pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")

CONFIG = """
model:
  class_path: {kind}
  init_args:
    network:
      class_path: MultiExit
      init_args:
        network: {{class_path: CIFARResNet, init_args: {{depth: 8, classes: 10, in_channels: 1, channels: [4, 4, 8, 8]}}}}
        layers: [layer1, layer2, layer3]
        image_size: 8
        in_channels: 1
    {options}
data: {{class_path: Digits, init_args: {{batch_size: 64}}}}
trainer: {{max_epochs: 1, limit_val_batches: 1, logger: false, enable_progress_bar: false, enable_model_summary: false}}
test_after_fit: false
seed_everything: 0
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network with exits, and a bottleneck in it, trained for an epoch."""
    folder = tmp_path_factory.mktemp("arms")
    paths = {kind: str(folder / f"{kind}.ckpt") for kind in ("MultiExitClassifier", "SplitClassifier")}
    start = paths["MultiExitClassifier"]
    options = [
        "num_classes: 10",
        f"layer: network.layer2\n    in_channels: 1\n    image_size: 8\n    start: {start}",
    ]
    for (kind, path), own in zip(paths.items(), options, strict=True):
        config = folder / f"{kind}.yaml"
        config.write_text(CONFIG.format(kind=kind, options=own))
        run(["fit", "--config", str(config), f"--trainer.default_root_dir={folder}", f"--save_as={path}"])
    return paths


@pytest.fixture(scope="module")
def data():
    made = Digits(batch_size=64)
    made.setup()
    return made


def conditions(**link):
    return Conditions(Link(**{"mbps": 1.0, "rtt_ms": 20.0, **link}))


def held_out(data):
    return data.datasets["test"].tensors


def accuracy(probabilities, y):
    return float((probabilities.argmax(1) == y.numpy()).mean())


def test_early_exit_at_its_ends_is_an_exit_and_in_between_costs_what_was_taken(trained, data):
    arm = EarlyExit(trained["MultiExitClassifier"], macs=[1.0])
    network, (x, y) = arm.module().network, held_out(data)
    work = costs(network, x[:1])
    first = work[0].macs / work[-1].macs
    arm = EarlyExit(
        trained["MultiExitClassifier"], gate=MaxProbability(), macs=[first * 1.0001, 0.8, 1.0], reach=0.01
    )
    least, middle, most, reached = arm.points(data, conditions())
    answers = answers_of(network, x)
    assert least.metrics["acc"] == accuracy(answers[0], y) and least.mmacs == pytest.approx(
        work[0].macs / 1e6
    )
    assert work[0].macs / 1e6 <= middle.mmacs <= most.mmacs <= work[-1].macs / 1e6
    assert reached.mmacs == least.mmacs  # nothing is cheaper
    for point in (least, middle, most, reached):
        assert (point.rate, point.kb, point.failed, point.server_ms) == (
            0,
            0,
            0,
            0,
        ) and 0 < point.p50_ms <= point.p95_ms


def test_an_exit_that_sends_everything_unrounded_answers_as_the_network(trained, data):
    arm, (x, y) = SentExit(trained["MultiExitClassifier"], exit=0, bits=32, rates=[0.25, 1.0]), held_out(data)
    network = arm.module().network
    some, everything = arm.points(data, conditions())
    answers = answers_of(network, x)
    assert everything.metrics["acc"] == accuracy(answers[-1], y) and everything.rate == 1
    assert everything.kb == pytest.approx(4 * 8 * 8 * 4 / 1e3)
    assert 0.1 < some.rate < 0.4 and some.kb == pytest.approx(some.rate * everything.kb)
    assert everything.p50_ms > 20 > some.p50_ms
    assert some.mmacs == pytest.approx(costs(network, x[:1])[0].macs / 1e6)


def test_what_is_lost_is_answered_by_the_exit(trained, data):
    arm, (x, y) = SentExit(trained["MultiExitClassifier"], exit=1, rates=[0.5]), held_out(data)
    (point,) = arm.points(data, conditions(loss=1.0, deadline_ms=100.0))
    assert point.metrics["acc"] == accuracy(answers_of(arm.module().network, x)[1], y)
    assert point.failed == point.rate > 0 and point.p95_ms == pytest.approx(100.0)


def test_fewer_bits_are_fewer_bytes_and_unrounded_ones_the_modules_answers(trained, data):
    arm, (x, y) = Bottleneck(trained["SplitClassifier"], bits=[32, 8, 4, 2]), held_out(data)
    points = arm.points(data, conditions())
    with torch.no_grad():
        assert points[0].metrics["acc"] == accuracy(arm.module()(x).numpy(), y)
    assert [p.kb * 1e3 for p in points] == pytest.approx([64 * 4, 64 + 8, 32 + 8, 16 + 8])
    assert all(p.rate == 1 and p.failed == 0 and p.mmacs == points[0].mmacs > 0 for p in points)


def test_each_camera_has_an_uplink_of_its_own(trained, data):
    arm, count = Bottleneck(trained["SplitClassifier"], bits=[8]), len(held_out(data)[1])
    slow = Conditions(
        Link(mbps=0.01, rtt_ms=20.0), fps=20.0, server_speed=1e6
    )  # 58 ms for 72 bytes, and 50 ms between pictures
    (together,) = arm.points(data, slow)
    (apart,) = arm.points(data, slow, cameras=[str(n % 2) for n in range(count)])
    assert together.p95_ms > apart.p95_ms > 77.6


def test_a_bottleneck_has_no_answer_of_its_own(trained, data):
    (point,) = Bottleneck(trained["SplitClassifier"], bits=[8]).points(
        data, conditions(loss=1.0, deadline_ms=50.0)
    )
    assert point.metrics["acc"] == 0 and point.failed == 1


def test_bad_input(trained):
    with pytest.raises(FileNotFoundError, match=r"recipe='no\.yaml'"):
        EarlyExit("x.ckpt", recipe="no.yaml")
    with pytest.raises(FileNotFoundError, match=r"model='no.ckpt' does not exist"):
        EarlyExit("no.ckpt").prepare()
    with pytest.raises(
        ValueError, match="is of a SplitClassifier, and EarlyExit takes a MultiExitClassifier"
    ):
        EarlyExit(trained["SplitClassifier"]).prepare()
    with pytest.raises(ValueError, match=r"exit=2 must be from 0 to 1"):
        SentExit(trained["MultiExitClassifier"], exit=2).prepare()
    with pytest.raises(ValueError, match=r"macs=1\.5 must be in \(0, 1\]: it is a share"):
        EarlyExit("x.ckpt", macs=[1.5])
    with pytest.raises(ValueError, match=r"reach=0.0 must be in \(0, 1\]"):
        EarlyExit("x.ckpt", reach=0.0)
    with pytest.raises(ValueError, match=r"rates=0.0 must be in \(0, 1\]: it is a share"):
        SentExit("x.ckpt", rates=[0.0])
    with pytest.raises(ValueError, match="bits=3 must be"):
        Bottleneck("x.ckpt", bits=[3])
    without = Digits(fractions=(0.7, 0.0, 0.3))
    without.setup()
    with pytest.raises(
        ValueError, match="Digits has no val data, and thresholds are never chosen on test data"
    ):
        EarlyExit(trained["MultiExitClassifier"]).points(without, conditions())
    assert load(trained["SplitClassifier"]).bits is None
