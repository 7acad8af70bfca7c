import numpy as np
import pytest
import torch
from scipy import stats

from lkd.datamodules.classification.synthetic import Synthetic


def parts(**kwargs):
    data = Synthetic(**kwargs)
    data.setup()
    return data.datasets


def test_sizes_are_log_normal_plus_50():
    data = Synthetic(clients=400)
    sizes = np.array([len(data.draw(client)[1]) for client in range(400)])
    assert sizes.min() >= 50
    assert stats.kstest(np.log(sizes - 50 + 0.5), stats.norm(4, 2).cdf).pvalue > 0.01


def big(client, **kwargs):
    """A client of several thousand samples."""
    data = Synthetic(**kwargs)
    seed = next(seed for seed in range(1000) if np.random.default_rng([seed, client]).lognormal(4, 2) > 5000)
    data.seed = seed
    return data.draw(client)


def test_inputs_have_the_covariance_of_the_definition():
    x, _ = big(0)
    covariance = np.cov(x.T)
    expected = np.arange(1, 61) ** -1.2
    np.testing.assert_allclose(covariance.diagonal(), expected, rtol=0.1)
    off = covariance / np.sqrt(np.outer(expected, expected)) - np.eye(60)
    assert np.abs(off - np.diag(off.diagonal())).max() < 0.09


@pytest.mark.parametrize(("beta", "deviation"), [(0.0, 0.0), (1.0, 1.0), (3.0, 3.0)])
def test_centers_of_clients_spread_by_beta_as_a_standard_deviation(beta, deviation):
    data = Synthetic(0, beta, clients=300)
    centers = np.array([data.draw(client)[0].mean(0) for client in range(300)])
    means = centers.mean(1)  # B_i, up to a deviation of 1 / sqrt(60)
    assert means.std() == pytest.approx(np.hypot(deviation, 60**-0.5), rel=0.12)
    within = centers - means[:, None]
    assert within[:, 30:].std() == pytest.approx(1, rel=0.1)  # N(B_i, 1)


def test_labels_are_those_of_a_linear_model_of_the_client(monkeypatch):
    """The random numbers of W and b are watched; the labels follow from them and x."""
    drawn = []
    make = np.random.default_rng

    class Watched:
        def __init__(self, seed):
            self.rng = make(seed)
            self.lognormal = self.rng.lognormal

        def standard_normal(self, size=None):
            drawn.append(self.rng.standard_normal(size))
            return drawn[-1]

    monkeypatch.setattr(np.random, "default_rng", Watched)
    for client in range(4):
        drawn.clear()
        x, y = Synthetic(2.0, 1.0).draw(client)
        u, _, w, b = drawn[:4]
        scores = [[(2 * u + w[:, c]) @ row + 2 * u + b[c] for c in range(10)] for row in x[:40]]
        assert np.argmax(scores, 1).tolist() == y[:40].tolist()


def accuracy_on_other_clients(**kwargs):
    """Multinomial regression, learned on the first half of the clients."""
    x, y = parts(**kwargs)["train"].tensors
    seen = torch.from_numpy(parts(**kwargs)["train"].columns["client"]) < 15
    x = torch.nn.functional.pad(x, (0, 1), value=1.0)
    model = torch.zeros(61, 10, requires_grad=True)
    optimizer = torch.optim.LBFGS([model], max_iter=40)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x[seen] @ model, y[seen])
        loss.backward()
        return loss

    optimizer.step(closure)
    return ((x[~seen] @ model).argmax(1) == y[~seen]).float().mean().item()


def test_one_model_fits_all_iid_clients_and_not_those_of_synthetic_0_0():
    """Synthetic(0, 0) is not IID: every client has a model of its own."""
    assert accuracy_on_other_clients(alpha=0, beta=0, iid=True) > 0.85
    assert accuracy_on_other_clients(alpha=0, beta=0) < 0.3


def test_iid_inputs_are_centered_and_clients_differ_only_in_their_samples():
    data = Synthetic(0, 0, iid=True, clients=200)
    means = np.array([data.draw(client)[0].mean(0) for client in range(200)])
    assert np.abs(means.mean(0)).max() < 0.05
    assert not np.array_equal(data.draw(0)[0][:50], data.draw(1)[0][:50])


def test_every_client_is_split_and_nothing_is_lost():
    data = Synthetic(clients=7, fractions=(0.6, 0.3, 0.1))
    data.setup()
    for client in range(7):
        x, y = data.draw(client)
        found = []
        for name, (low, high) in {"train": (0, 0.6), "val": (0.6, 0.9), "test": (0.9, 1.0)}.items():
            dataset = data.datasets[name]
            mine = dataset.columns["client"] == client
            assert abs(mine.sum() - (high - low) * len(y)) < 1.01
            assert np.array_equal(dataset.columns["label"], dataset.tensors[1].numpy())
            found.append(dataset.tensors[0][torch.from_numpy(mine)])
        assert torch.equal(torch.cat(found), torch.from_numpy(x).float())
    assert len(parts(clients=1)["train"]) == int(0.9 * len(Synthetic().draw(0)[1]))
    assert Synthetic().val_dataloader() == []


def test_seeds():
    one, same, other = parts(seed=1, clients=3), parts(seed=1, clients=3), parts(seed=2, clients=3)
    assert torch.equal(one["train"].tensors[0], same["train"].tensors[0])
    assert not torch.equal(one["train"].tensors[0][:50], other["train"].tensors[0][:50])
    more = parts(seed=1, clients=5)["train"]  # more clients leave the first ones as they are
    size = len(one["train"])
    assert torch.equal(more.tensors[0][:size], one["train"].tensors[0])


def test_natural_clients():
    from lkd.datamodules.federated.federated_datamodule import FederatedDataModule
    from lkd.datamodules.federated.partitions import Natural

    data = FederatedDataModule(Synthetic(clients=4), Natural("client"))
    data.prepare_data()
    data.setup("fit")
    sizes = [int(0.9 * len(Synthetic().draw(client)[1])) for client in range(4)]
    assert [client.num_samples for client in data.clients] == sizes
    assert data.names[1] == "client 1"


@pytest.mark.parametrize(("wrong", "sentence"), [
    ({"alpha": -1}, "alpha=-1 must be 0 or more"),
    ({"clients": 0}, "clients=0 must be 1 or more"),
    ({"iid": True}, "alpha=1.0 and beta=1.0 must be 0"),
    ({"fractions": (0.9, 0.0, 0.2)}, "fractions="),
])  # fmt: skip
def test_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        Synthetic(**wrong)
