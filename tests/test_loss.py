"""A loss of one network or many: data that do not fit, members, other weights, statistics taken anew."""

import pytest
import torch
from helpers import classes, close, network, normal
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import flatlab as fl
from flatlab import NetworkLoss, curvature, loss, sharpness
from flatlab.models import mlp

X, Y = normal(23, 4), classes(23, 3)


def net(seed=0):
    return mlp(4, 5, 3, activation="tanh", seed=seed).double()


def loader(x=X, y=Y, batch=5, **options):
    return DataLoader(TensorDataset(x, y), batch, **options)


@pytest.mark.parametrize("name", ["classifier", "regression", "batch norm", "attention"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_stream_of_batches_is_the_tensors(name, shuffle):
    model, x, y, kind = network(name)
    whole, streamed = NetworkLoss(model, x, y, kind), NetworkLoss(model, loader(x, y, 3, shuffle=shuffle), loss=kind)
    v = normal(whole.dim, seed=1)
    assert streamed.count == len(x) and close(streamed(), whole(), 1e-12)
    assert close(streamed.gradient(), whole.gradient()) and close(curvature.hvp(streamed, v), curvature.hvp(whole, v))
    many = torch.stack([whole.theta, whole.theta * 0.9])
    assert close(streamed.at(many).hessian(), whole.at(many).hessian())
    assert close(curvature.GaussNewton(streamed).hessian(), curvature.GaussNewton(whole).hessian())
    if kind == "cross_entropy":
        assert close(sharpness.fisher_rao_norm(streamed), sharpness.fisher_rao_norm(whole))
    if not shuffle:
        assert close(streamed.outputs(), whole.outputs(), 1e-12)


class Numbers(Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, k):
        return torch.full((4,), float(k)), k % 3


def test_a_stream_is_never_all_in_memory():
    rows = []

    class Batches:
        def __iter__(self):
            for x, y in DataLoader(Numbers(), 10):
                rows.append(len(x))
                yield x.double(), y

    streamed = NetworkLoss(net(), Batches(), chunk=4)
    seen = []
    streamed.averaged(lambda theta, x, y: seen.append(x.shape[1]) or torch.zeros(1))
    assert set(rows) == {10} and max(seen) == 4 and sum(seen) == 400 and streamed.inputs is None


class Jittered:
    def __iter__(self):
        yield X + torch.rand(1), Y


@pytest.mark.parametrize(
    "batches, message",
    [
        (loader(batch=5, shuffle=True, drop_last=True), "differ from pass to pass: no shuffling with drop_last"),
        (Jittered(), "no augmentation"),
        (iter([(X, Y)]), "re-iterable"),
        ((pair for pair in [(X, Y)]), "a generator ends with its first pass"),
        (X, "targets is missing"),
        ([], "inputs is empty"),
    ],
)
def test_a_stream_that_is_not_the_same_twice_is_refused(batches, message):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=message):
        NetworkLoss(net(), batches)


def test_a_flip_is_seen_also_where_no_sum_changes():
    class Flipped:
        passes = 0

        def __iter__(self):
            self.passes += 1
            yield X.flip(1) if self.passes == 2 else X, Y

    with pytest.raises(ValueError, match="differ from pass to pass"):
        NetworkLoss(net(), Flipped())


def test_training_wants_tensors():
    with pytest.raises(ValueError, match="inputs is a stream of batches"):
        fl.train(NetworkLoss(net(), loader()), 3, progress=False)


def test_a_builder_gives_each_seed_its_weights():
    many = NetworkLoss(net, X, Y, seeds=[2, 5])
    assert many.members == 2 and close(many(), torch.stack([NetworkLoss(net(s), X, Y)() for s in (2, 5)]), 1e-12)
    assert NetworkLoss(net, X, Y).members is None and NetworkLoss(net, [X, X], Y).members == 2
    with pytest.raises(ValueError, match="must return a torch.nn.Module"):
        NetworkLoss(lambda seed: seed, X, Y)


@pytest.mark.parametrize("own", [False, True])
def test_a_member_alone_is_a_loss_of_one_network(own):
    many = NetworkLoss(net, [X, X + 1, X * 2] if own else X, Y, seeds=range(3))
    for k in range(3):
        alone = many.member(k)
        assert alone.theta.ndim == 1 and alone.members is None
        assert close(alone(), many()[k], 1e-12) and close(alone.gradient(), many.gradient()[k], 1e-12)


@pytest.mark.parametrize("own", [False, True])
def test_members_are_split_where_memory_is_short(own, monkeypatch):
    many = NetworkLoss(net, [X, X + 1, X * 2] if own else X, Y, seeds=range(3))
    whole = many(), many.gradient(), many.hessian(), many.outputs()
    monkeypatch.setattr(loss, "GRAPH_BYTES", 1)
    pieces = many(), many.gradient(), many.hessian(), many.outputs()
    assert not many.fits(many.theta) and all(close(a, b, 1e-12) for a, b in zip(pieces, whole, strict=True))
    grid = torch.stack([many.theta, many.theta * 0.5])  # (2, members, parameters)
    assert close(many(grid)[1], many.at(many.theta * 0.5)(), 1e-12)


def normed(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()


def test_statistics_are_taken_anew_in_batches():
    many = NetworkLoss(normed, X, Y, seeds=range(3))
    again = many.refreshed(batch=10)
    for k in range(3):
        model = normed(k)
        model[1].reset_running_stats()
        model[1].momentum = None  # an average over the batches
        model.train()
        for x in X.split(10):
            model(x)
        assert close(again()[k], NetworkLoss(model, X, Y)(), 1e-12)
        assert close(again.member(k)(), again()[k], 1e-12)
    assert close(many(), NetworkLoss(normed, X, Y, seeds=range(3))(), 1e-12)  # it stays as it was
    assert close(NetworkLoss(net(), X, Y).refreshed()(), NetworkLoss(net(), X, Y)(), 1e-12)


def test_a_weighted_loss_is_the_same_whole_and_in_chunks():  # R16
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]).double(), reduction="none")
    whole, chunked = (NetworkLoss(net(), X, Y, weighted, chunk=chunk) for chunk in (None, 4))
    assert close(whole(), chunked(), 1e-12) and close(whole.gradient(), chunked.gradient(), 1e-12)
    with pytest.raises(ValueError, match="one loss per sample"):
        NetworkLoss(net(), X, Y, nn.CrossEntropyLoss())
