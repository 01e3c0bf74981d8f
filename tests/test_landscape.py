"""Slices through a loss: the right way round, centred on the network, along directions that can be compared."""

import pytest
import torch
from helpers import close, network_loss, normal
from torch import nn

from flatlab import NetworkLoss, Objective, landscape
from flatlab.functions import himmelblau

ALPHAS, BETAS = torch.arange(-2, 3).double() / 2, torch.arange(-3, 4).double() / 1.5
NETS = ["classifier", "regression", "batch norm", "attention"]
E1, E2 = torch.eye(2, dtype=torch.float64)


def pieces(loss, vector):
    """The parameters as `{name: tensor}`."""
    trained = {name: p.shape for name, p in loss.model.named_parameters() if p.requires_grad}
    cut = vector.split([shape.numel() for shape in trained.values()])
    return {name: part.view(shape) for (name, shape), part in zip(trained.items(), cut, strict=True)}


def filters(loss, vector):
    """`{name: (filters, size)}` of the weights; biases and batch-norm weights are left out."""
    return {name: p.flatten(1) for name, p in pieces(loss, vector).items() if p.ndim > 1}


def fixed(loss, vector):
    return torch.cat([p for p in pieces(loss, vector).values() if p.ndim < 2])


def test_rows_are_beta_and_columns_are_alpha():
    f = Objective(lambda w: w[..., 1])
    values = landscape.plane(f, torch.stack([E1, E2]), ALPHAS, BETAS, theta=[10.0, 20.0])
    assert values.shape == (7, 5)
    assert close(values, (20 + BETAS)[:, None].expand(7, 5), 1e-15)


def test_a_plane_holds_the_loss_at_every_point():
    pair, at = normal(2, 2), torch.tensor([3.0, 2.0]).double()
    values = landscape.plane(himmelblau, pair, ALPHAS, BETAS, theta=at)
    for i, beta in enumerate(BETAS):
        for j, alpha in enumerate(ALPHAS):
            assert close(values[i, j] + 1, himmelblau(at + alpha * pair[0] + beta * pair[1]) + 1, 1e-13)


@pytest.mark.parametrize("name", NETS)
def test_the_centre_of_a_slice_is_the_loss_of_the_network(name):
    loss = network_loss(name)
    pair = landscape.directions(loss)
    assert landscape.plane(loss, pair, ALPHAS, BETAS)[3, 2] == loss()
    assert landscape.line(loss, pair[0], ALPHAS)[2] == loss()


def test_a_line_joins_two_minima():
    start, end = himmelblau.minima[:2]
    values = landscape.line(himmelblau, end - start, torch.tensor([0.0, 0.25, 1.0]), theta=start)
    assert close(values + 1, himmelblau(torch.stack([start, start + (end - start) / 4, end])) + 1, 1e-13)


def test_a_line_is_the_middle_row_of_its_plane():
    loss = network_loss("classifier")
    pair = landscape.directions(loss)
    assert close(landscape.line(loss, pair[0], ALPHAS), landscape.plane(loss, pair, ALPHAS, BETAS)[3], 1e-14)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_filters_are_as_long_as_those_of_the_network_and_the_rest_is_fixed(name, seed):
    loss = network_loss(name)
    for direction in landscape.directions(loss, count=2, seed=seed):
        wanted = filters(loss, loss.theta)
        for part, rows in filters(loss, direction).items():
            assert close(rows.norm(dim=1), wanted[part].norm(dim=1), 1e-12)
        assert fixed(loss, direction).count_nonzero() == 0


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("normalise", ["filter", "unit"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_directions_are_orthogonal(name, normalise, count):
    loss = network_loss(name)
    found = landscape.directions(loss, count=count, normalise=normalise)
    gram = found @ found.T
    assert found.shape == (count, loss.dim)
    assert close(gram, gram.diag().diag(), 1e-12)


def test_unit_directions_have_length_one_and_any_dimension():
    found = landscape.directions(himmelblau, normalise="unit", theta=[3.0, 2.0])
    assert close(found @ found.T, torch.eye(2), 1e-14)


def test_directions_can_be_taken_elsewhere_than_at_the_network():
    loss = network_loss("classifier")
    found = landscape.directions(loss, theta=2 * loss.theta)
    assert close(found, 2 * landscape.directions(loss), 1e-14)


def test_a_seed_fixes_the_directions_and_the_global_state_stays():
    loss, state = network_loss("classifier"), torch.get_rng_state()
    first, again, other = (landscape.directions(loss, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NETS)
def test_slices_leave_the_network_as_it_is(name):
    loss = network_loss(name)
    before = [t.clone() for t in loss.model.state_dict().values()]
    landscape.plane(loss, landscape.directions(loss), ALPHAS, BETAS)
    assert all(map(torch.equal, before, loss.model.state_dict().values()))


LOSS = NetworkLoss(nn.Linear(2, 2), torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))
BAD = {
    "unknown normalisation": (lambda: landscape.directions(LOSS, normalise="layer"), "normalise is 'layer'"),
    "filters of a function": (lambda: landscape.directions(himmelblau, theta=[0.0, 0.0]), "objective is not a network"),
    "no point": (lambda: landscape.directions(himmelblau, normalise="unit"), "theta is missing"),
    "no directions": (lambda: landscape.directions(LOSS, count=0), "count is 0"),
    "more than fit": (lambda: landscape.directions(LOSS, count=7, normalise="unit"), "count is 7"),
    "many points": (lambda: landscape.directions(LOSS, theta=torch.ones(2, 6)), r"theta has shape \(2, 6\)"),
    "a pair for a line": (lambda: landscape.line(LOSS, torch.ones(2, 6), torch.ones(2)), "direction has shape"),
    "a short direction": (lambda: landscape.line(LOSS, torch.ones(1), torch.ones(2)), "direction has shape"),
    "one for a plane": (lambda: landscape.plane(LOSS, torch.ones(1, 6), ALPHAS, BETAS), "pair has shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
