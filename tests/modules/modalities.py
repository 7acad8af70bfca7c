"""Small multimodal data, modules and clients for tests."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lkd.federated.protocol.seeds import derive
from lkd.modules import MultimodalClient

EXAMPLE = {"acc": [3, 8], "gyro": [2, 6], "context": [4]}
CLASSES = 3
LR = 0.1


def sgd(params):
    return torch.optim.SGD(params, lr=LR)


def encoder(modality):
    if modality == "context":
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    return nn.Sequential(nn.Conv1d(EXAMPLE[modality][0], 6, 3), nn.Tanh())


def client(modalities=("acc", "gyro"), seed=0, **kwargs):
    torch.manual_seed(seed)
    return MultimodalClient(
        {m: encoder(m) for m in modalities},
        **{"num_classes": CLASSES, "example": EXAMPLE, "embedding": 8, "optimizer": sgd, **kwargs},
    )


def samples(count, modalities=("acc", "gyro"), seed=0, missing=0.3, noise=0.5):
    """Windows around one pattern a class and modality; some samples lack one, never all."""
    g = torch.Generator().manual_seed(100 + seed)
    y = torch.arange(count) % CLASSES
    x = {}
    for place, m in enumerate(modalities):
        patterns = torch.randn(CLASSES, *EXAMPLE[m], generator=torch.Generator().manual_seed(place))
        x[m] = patterns[y] + noise * torch.randn(count, *EXAMPLE[m], generator=g)
    present = torch.rand(count, len(modalities), generator=g) >= missing
    present[~present.any(1), 0] = True
    for place, m in enumerate(modalities):
        x[m][~present[:, place]] = 0.0
    return {**x, "present": dict(zip(modalities, present.unbind(1), strict=True))}, y


def rows(x, chosen):
    """Some samples of x."""
    present = {m: mask[chosen] for m, mask in x["present"].items()}
    return {**{m: t[chosen] for m, t in x.items() if m != "present"}, "present": present}


class Windows(Dataset):
    """Samples one by one, as a data set gives them."""

    def __init__(self, *args, **kwargs):
        self.x, self.y = samples(*args, **kwargs)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, row):
        return rows(self.x, row), self.y[row]

    def loader(self, batch_size=8, **kwargs):
        return DataLoader(self, batch_size=batch_size, **kwargs)


class Wearer:
    """A client of a federation, with its own modalities."""

    public = None

    def __init__(self, id, count, modalities, population=3, batch=4, missing=0.3):
        self.id, self.name, self.population, self.batch = id, f"client{id}", population, batch
        self.num_samples, self.share, self.probability = count, 1 / population, 1.0
        self.x, self.y = samples(count, modalities, seed=id, missing=missing)

    def num_batches(self):
        return -(-self.num_samples // self.batch)

    def train_batches(self, seed):
        order = torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(seed))
        for chunk in order.split(self.batch):
            yield rows(self.x, chunk), self.y[chunk]

    def ordered_batches(self, part):
        for chunk in torch.arange(self.num_samples).split(self.batch):
            yield rows(self.x, chunk), self.y[chunk]

    def has(self, part):
        return True

    def batches_of_round(self, round, seed=0):
        """As local training draws them."""
        return list(self.train_batches(derive(derive(seed, round, self.id), 0)))


class Public:
    """Public samples with all modalities."""

    def __init__(self, count=10, modalities=("acc", "gyro")):
        self.x, self.y = samples(count, modalities, seed=50, missing=0.0)

    def __len__(self):
        return len(self.y)

    def batches(self, chosen, batch_size):
        return (rows(self.x, chunk) for chunk in torch.as_tensor(chosen).split(batch_size))
