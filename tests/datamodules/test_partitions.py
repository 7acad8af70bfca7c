import numpy as np
import pytest

from lkd.datamodules import (
    IID,
    Dirichlet,
    LogNormal,
    Natural,
    PowerLaw,
    PrimaryLabels,
    Shards,
    Similarity,
)

LABELS = {"label": np.random.default_rng(9).integers(10, size=2000), "camera": np.array(["C10", "C2"] * 1000)}
ALL = [
    IID(),
    Dirichlet(0.3),
    Dirichlet(0.3, balanced=False),
    Shards(2),
    PowerLaw(1.2),
    LogNormal(1.5),
    PrimaryLabels(1, 50),
    Similarity(10),
]


def deal(partition, clients=10, seed=0, columns=LABELS):
    size = len(next(iter(columns.values())))
    return partition(columns, size, clients, np.random.default_rng(seed))


def mixes(rows, columns=LABELS):
    """Share (clients, labels) of every label in every client."""
    counts = np.array([np.bincount(columns["label"][own], minlength=10) for own in rows])
    return counts / counts.sum(1, keepdims=True)


def distance(rows):
    """Mean total variation between a client's labels and all labels: 0 alike, .9 one label each."""
    return np.abs(mixes(rows) - mixes([np.arange(2000)])).sum(1).mean() / 2


@pytest.mark.parametrize("partition", ALL, ids=lambda partition: type(partition).__name__)
@pytest.mark.parametrize("clients", [1, 3, 10, 37])
def test_every_row_to_one_client_and_the_same_again(partition, clients):
    rows = deal(partition, clients)
    assert len(rows) == clients and min(map(len, rows)) >= 1
    assert sorted(np.concatenate(rows).tolist()) == list(range(2000))
    assert all(np.array_equal(a, b) for a, b in zip(rows, deal(partition, clients), strict=True))
    if clients > 1:
        other = deal(partition, clients, seed=1)
        assert any(not np.array_equal(a, b) for a, b in zip(rows, other, strict=True))


def test_iid_is_even_in_sizes_and_labels():
    rows = deal(IID(), 7)
    assert {len(own) for own in rows} == {285, 286}
    assert distance(rows) < 0.1


def test_dirichlet_goes_from_one_label_to_even():
    skews = [
        np.mean([distance(deal(Dirichlet(a), 10, seed)) for seed in range(5)]) for a in (0.01, 0.3, 1, 100)
    ]
    assert skews[0] > 0.75 and skews[3] < 0.12 and skews == sorted(skews, reverse=True)
    sizes = np.array([len(own) for own in deal(Dirichlet(1000.0, balanced=False), 10)])
    assert (np.abs(sizes - 200) <= 25).all()
    assert min(len(own) for own in deal(Dirichlet(0.3, min_samples=60), 10)) >= 60
    largest = [
        [max(len(own) for own in deal(Dirichlet(0.1, balanced=b), 10, seed)) for seed in range(10)]
        for b in (True, False)
    ]
    assert max(largest[0]) < 200 + np.bincount(LABELS["label"]).max() < max(largest[1])


def test_dirichlet_shares_have_the_moments_of_the_law():
    """Share of client 0 in a class: mean 1/N, variance (N-1)/(N^2 (N alpha + 1))."""
    columns = {"label": np.zeros(1000, dtype=int)}
    partition = Dirichlet(0.5, balanced=False)
    rng = np.random.default_rng(0)
    shares = []
    while len(shares) < 3000:
        owner = partition._draw([np.arange(1000)], 1000, 4, rng)
        shares.append((owner == 0).mean())
    assert np.mean(shares) == pytest.approx(1 / 4, abs=0.02)
    assert np.var(shares) == pytest.approx(3 / (16 * 3), abs=0.006)
    assert len(deal(partition, 4, columns=columns)) == 4


def test_shards_see_few_labels():
    rows = deal(Shards(2), 10)
    assert {len(own) for own in rows} == {200}
    assert max((mix > 0).sum() for mix in mixes(rows)) <= 4  # two pieces of 100, each over one border at most
    assert len({tuple(np.flatnonzero(mix)) for mix in mixes(rows)}) > 5


def test_quantity_skew_leaves_labels_alike():
    sizes = sorted((len(own) for own in deal(PowerLaw(1.0), 4)), reverse=True)
    assert sizes == pytest.approx(1 + 1996 / np.arange(1, 5) / (25 / 12), abs=1)
    assert (
        len({int(np.argmax([len(own) for own in deal(PowerLaw(1.0), 4, seed)])) for seed in range(20)}) == 4
    )
    assert {len(own) for own in deal(PowerLaw(0.0), 10)} == {200}
    assert {len(own) for own in deal(LogNormal(0.0), 10)} == {200}
    logs = [np.log([len(own) for own in deal(LogNormal(0.5), 10, seed)]).std(ddof=1) for seed in range(200)]
    assert np.mean(logs) == pytest.approx(0.5, abs=0.04)
    ordered = {"label": np.arange(2000) // 200}
    large = [own for own in deal(LogNormal(0.5), 5, columns=ordered) if len(own) > 300]
    assert large and np.abs(mixes(large, ordered) - 0.1).max() < 0.1
    assert min(len(own) for own in deal(PowerLaw(3.0, min_samples=20), 37)) >= 20


def test_natural_clients_have_names_in_natural_order():
    rows = deal(Natural("camera"), None)
    assert [set(LABELS["camera"][own]) for own in rows] == [{"C2"}, {"C10"}]
    assert Natural("camera").names(LABELS, 2000, None) == ["C2", "C10"]
    subjects = {"subject": np.array([10, 9, 10])}
    assert Natural("subject").names(subjects, 3, None) == ["subject 9", "subject 10"]
    assert [own.tolist() for own in deal(Natural("subject"), None, columns=subjects)] == [[1], [0, 2]]
    assert IID().names(LABELS, 2000, 3) is None


def test_primary_labels_have_the_odds_of_the_definition():
    """A sample is (1 + s) times as likely in a given primary client as in a given other one."""
    columns = {"label": np.repeat(np.arange(10), 20_000)}
    for primary, skew in ((1, 0), (1, 9), (3, 9), (2, 1000)):
        rows = deal(PrimaryLabels(primary, skew), 5, columns=columns)
        counts = np.array([np.bincount(columns["label"][own], minlength=10) for own in rows])
        shares = np.sort(counts / counts.sum(0), axis=0)  # of every label over the clients
        mass = 5 + primary * skew
        expected = [1 / mass] * (5 - primary) + [(1 + skew) / mass] * primary
        assert shares == pytest.approx(np.array(expected)[:, None] * np.ones(10), abs=0.015)
    primaries = (counts > 20_000 / 5).sum(1)
    assert set(primaries) == {4}  # 10 labels with 2 primary clients each, over 5 clients


def test_primary_clients_of_labels_are_drawn_one_by_one():
    """Not in blocks: with 2 primary clients a label, two clients seldom share all of their labels."""
    columns = {"label": np.repeat(np.arange(12), 500)}
    pairs = set()
    for seed in range(5):
        rows = deal(PrimaryLabels(2, 1000), 4, seed, columns=columns)
        counts = np.array([np.bincount(columns["label"][own], minlength=12) for own in rows])
        owners = np.argsort(counts, axis=0)[2:]
        assert set(np.bincount(owners.ravel())) == {6}
        pairs |= {(seed, *sorted(owners[:, label].tolist())) for label in range(12)}
    assert len(pairs) > 5 * 3  # of 6 pairs of clients; blocks give 2 a seed


def test_similarity_sorts_the_rest():
    assert distance(deal(Similarity(100), 10)) < 0.15
    sorted_rows = deal(Similarity(0), 10)
    assert max((mix > 0).sum() for mix in mixes(sorted_rows)) <= 3
    between = deal(Similarity(50), 10)
    assert distance(deal(Similarity(100), 10)) < distance(between) < distance(sorted_rows)
    for size, percent, clients in ((15, 14 / 15 * 100, 10), (11, 50, 3), (7, 10, 7), (101, 33, 9)):
        columns = {"label": np.arange(size) % 4}
        rows = deal(Similarity(percent), clients, columns=columns)
        assert max(map(len, rows)) - min(map(len, rows)) <= 1
        assert sorted(np.concatenate(rows).tolist()) == list(range(size))


@pytest.mark.parametrize("partition", ALL, ids=lambda partition: type(partition).__name__)
@pytest.mark.parametrize(
    ("clients", "match"),
    [(2001, "2001 clients.* are more than the 2000"), (0, "clients=0"), (None, "clients=None")],
)
def test_impossible_numbers_of_clients(partition, clients, match):
    with pytest.raises(ValueError, match=match):
        deal(partition, clients)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Dirichlet(0), "alpha=0"),
        (lambda: Dirichlet(1, min_samples=0), "min_samples=0"),
        (lambda: Shards(0), "per_client=0"),
        (lambda: PowerLaw(-1), "exponent=-1"),
        (lambda: LogNormal(-1), "sigma=-1"),
        (lambda: PowerLaw(1, 0), "min_samples=0"),
        (lambda: PrimaryLabels(0), "primary=0"),
        (lambda: PrimaryLabels(1, -1), "skew=-1"),
        (lambda: Similarity(101), "percent=101"),
        (lambda: deal(Dirichlet(0.001, balanced=False), 200), "take a larger alpha"),
        (lambda: deal(Dirichlet(1, min_samples=300), 10), "10 clients with 300 samples each"),
        (lambda: deal(PrimaryLabels(1, 1e9), 50), "without any of 2000 samples"),
        (lambda: deal(PrimaryLabels(11), 10), "primary=11 .* 10 clients"),
        (lambda: deal(Dirichlet(1, "labels"), 10), "'labels' is not among .*did you mean label"),
        (lambda: deal(Natural("camera"), 3), "clients=3, but column 'camera' has 2 values"),
        (lambda: deal(Natural("camera"), None, columns={"x": np.zeros(3)}), "'camera' is not among"),
    ],
)
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


class Counted(Dirichlet):
    """Dirichlet that counts its draws."""

    draws = 0

    def _draw(self, *args):
        self.draws += 1
        return super()._draw(*args)


@pytest.mark.parametrize(
    ("size", "clients", "draws"),
    [(200_000, 100_000, 20), (2_000, 1_000, 1_000)],  # a small table is drawn as often as ever
)
def test_a_large_table_without_hope_is_given_up_early(size, clients, draws):
    columns, partition = {"label": np.arange(size) % 10}, Counted(0.01)
    with pytest.raises(
        ValueError, match=rf"each of {draws} draws for {clients} clients, \d+ of them at best"
    ):
        deal(partition, clients, columns=columns)
    assert partition.draws == draws


def test_a_large_table_with_hope_is_drawn_on():
    """In most draws a few of 20,000 clients are short, and now and then none: that is waited for."""
    columns, partition = {"label": np.arange(400_000) % 10}, Counted(0.4)
    rows = deal(partition, 20_000, seed=3, columns=columns)
    assert min(map(len, rows)) >= 1 and sum(map(len, rows)) == 400_000
    assert partition.draws > 1


@pytest.mark.parametrize("size", [2000, 1999])
@pytest.mark.parametrize("each", [1, 2, 3])
def test_shards_are_pieces_of_the_sorted_rows(size, each):
    """Compared with a loop over the pieces, which takes as many random numbers."""
    columns = {"label": LABELS["label"][:size]}
    rng = np.random.default_rng(4)
    order = rng.permutation(size)
    pieces = np.array_split(order[np.argsort(columns["label"][order], kind="stable")], 37 * each)
    owners = rng.permutation(len(pieces)).reshape(37, each)
    for own, rows in zip(owners, deal(Shards(each), 37, seed=4, columns=columns), strict=True):
        assert np.array_equal(rows, np.concatenate([pieces[number] for number in own]))
