"""Split computing as training: an identity in the bottleneck, the loss and its gradient by hand, checkpoints, bad input."""

import copy

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.models import CIFARResNet
from lkd.modules import Classifier, SplitClassifier


def images(count=8):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = CIFARResNet(8, classes=4)
        for norm in (m for m in made.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)  # as trained ones have
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
        return made


def split(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        options = {"layer": "layer2", "layers": ["layer3"], "num_classes": 4, "image_size": 16, **options}
        return SplitClassifier(network(), **options)


def trainer(**options):
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "accelerator": "cpu",
    }
    return Trainer(**{**quiet, "enable_checkpointing": False, "max_epochs": 2, **options})  # fmt: skip


def loader(labeled=True):
    x = images()
    return DataLoader(TensorDataset(x, torch.arange(8) % 4) if labeled else x, batch_size=4)


def test_an_identity_in_the_bottleneck_is_the_network():
    made = network()
    head = nn.Sequential(copy.deepcopy(nn.Sequential(made.conv1, made.bn1, made.relu, made.layer1)), copy.deepcopy(made.layer2))  # fmt: skip
    module = split(encoder=head, decoder=nn.Identity()).eval()
    assert torch.equal(module(images()), module.network(images()))
    assert module.training_step(images()).item() == 0


def test_the_loss_by_hand_and_its_gradient():
    module = split()
    x, net = images(), module.network
    with torch.no_grad():
        inner = net.layer1(net.relu(net.bn1(net.conv1(x))))
        theirs = net.layer2(inner)
        theirs_behind = net.layer3(theirs)
    ours = module.decoder(module.encoder(x))
    ours_behind = net.layer3(ours)
    by_hand = ((ours - theirs) ** 2).mean() + ((ours_behind - theirs_behind) ** 2).mean()
    parameters = [*module.encoder.parameters(), *module.decoder.parameters()]
    expected = torch.autograd.grad(by_hand, parameters)
    again = split()  # batch statistics are as they were
    loss = again.training_step((x, torch.arange(8) % 4))
    torch.testing.assert_close(loss, by_hand)
    loss.backward()
    for p, gradient in zip([*again.encoder.parameters(), *again.decoder.parameters()], expected, strict=True):
        torch.testing.assert_close(p.grad, gradient)
    assert all(p.grad is None for p in again.network.parameters())


def test_the_cut_layer_alone_is_head_distillation():
    module = split(layers=[])
    with torch.no_grad():
        theirs = module.cut.head(images())
    loss = module.training_step(images())
    torch.testing.assert_close(loss, ((split().features(images()) - theirs) ** 2).mean())


def test_training_needs_no_labels_and_changes_encoder_and_decoder_alone():
    module = split()
    before = copy.deepcopy(module.state_dict())
    trainer().fit(module, loader(labeled=False))
    changed = {
        name.split(".")[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])
    }  # fmt: skip
    assert changed == {"encoder", "decoder"}
    other = split()
    x = images()
    trainer().fit(other, DataLoader(TensorDataset(x, torch.zeros(8, dtype=torch.int64)), batch_size=4))
    for name, value in module.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_training_brings_the_features_nearer():
    module = split(optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    first = module.eval()._seen(images()).distance.item()
    trainer(max_epochs=30).fit(module, loader(labeled=False))
    assert module.eval()._seen(images()).distance.item() < 0.5 * first


def test_metrics_by_hand():
    module = split()
    (tested,) = trainer().test(module, loader(), verbose=False)
    with torch.no_grad():
        answers, whole = module.eval()(images()).argmax(1), module.network(images()).argmax(1)
    assert tested["test/acc"] == pytest.approx((answers == torch.arange(8) % 4).float().mean().item())
    assert tested["test/agreement"] == pytest.approx((answers == whole).float().mean().item())
    assert {"test/distance", "test/loss"} <= tested.keys()


def test_fewer_bits_are_farther_from_the_network():
    free = split().eval()
    errors = []
    for bits in (8, 4, 2):
        module = split(bits=bits).eval()
        errors.append((module(images()) - free(images())).square().mean().item())
    assert 0 < errors[0] < errors[1] < errors[2]


def test_resumed_run_is_bit_identical(tmp_path):
    whole = split()
    trainer().fit(whole, loader())
    made = trainer(max_epochs=1)
    made.fit(split(), loader())
    made.save_checkpoint(tmp_path / "half.ckpt")
    resumed = split(seed=5)
    trainer().fit(resumed, loader(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_it_starts_from_a_classifiers_checkpoint(tmp_path):
    made = trainer(max_epochs=1)
    classifier = Classifier(network(seed=3), num_classes=4)
    made.fit(classifier, loader())
    made.save_checkpoint(tmp_path / "start.ckpt")
    module = split(start=str(tmp_path / "start.ckpt"))
    trainer(max_epochs=1).fit(module, loader())
    for name, value in classifier.network.state_dict().items():
        assert torch.equal(value, module.network.state_dict()[name]), name


CONFIG = """
model:
  class_path: SplitClassifier
  init_args:
    network: {class_path: CIFARResNet, init_args: {depth: 8, classes: 10, in_channels: 1}}
    layer: layer1
    layers: [fc]
    in_channels: 1
    image_size: 8
    bits: 4
data: {class_path: Digits, init_args: {batch_size: 32}}
trainer: {max_epochs: 1, limit_train_batches: 2, limit_val_batches: 1, logger: false, enable_progress_bar: false}
test_after_fit: false
"""


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_command_line_and_reload(tmp_path):
    from lkd.lightning_cli import run

    made = trainer(max_epochs=0)
    made.strategy.connect(Classifier(CIFARResNet(8, classes=10, in_channels=1)))
    made.save_checkpoint(tmp_path / "start.ckpt")
    (tmp_path / "config.yaml").write_text(CONFIG)
    root, start = f"--trainer.default_root_dir={tmp_path}", f"--model.start={tmp_path / 'start.ckpt'}"
    with pytest.raises(ValueError, match="start=None: the network would be one with random weights"):
        run(["fit", "--config", str(tmp_path / "config.yaml"), root])
    cli = run(["fit", "--config", str(tmp_path / "config.yaml"), root, start])
    cli.trainer.save_checkpoint(tmp_path / "m.ckpt")
    (tmp_path / "start.ckpt").unlink()  # the checkpoint needs nothing else
    again = LightningModule.load_from_checkpoint(tmp_path / "m.ckpt", weights_only=True).eval()
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(again(x), cli.model.eval()(x)) and again.bits == 4


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"'layer1' does not run behind layer='layer2'"):
        split(layers=["layer1"])
    with pytest.raises(ValueError, match=r"layers='layer9' is not a layer"):
        split(layers=["layer9"])
    with pytest.raises(
        ValueError, match=r"decoder=Identity gives \(4, 8, 8\) a sample, and layer='layer2' \(32, 8, 8\)"
    ):
        split(decoder=nn.Identity())
    with pytest.raises(ValueError, match=r"shape=\(64,\) must be that of a map"):
        split(layer="pool")
    with pytest.raises(ValueError, match=r"start_recipe='x\.yaml' makes what is at start"):
        split(start_recipe="x.yaml")
    with pytest.raises(FileNotFoundError, match=r"start='no.ckpt' does not exist"):
        trainer().fit(split(start="no.ckpt"), loader())
    made = trainer(max_epochs=0)
    made.strategy.connect(Classifier(CIFARResNet(14, classes=4)))
    made.save_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"does not fit this network"):
        trainer().fit(split(start=str(tmp_path / "other.ckpt")), loader())
    with pytest.raises(FloatingPointError, match="distance=nan"):
        split().training_step(images() * torch.nan)
    with pytest.raises(ValueError, match=r"bits=9 must be from 1 to 8"):
        split(bits=9)
