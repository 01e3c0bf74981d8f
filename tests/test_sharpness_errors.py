"""Where a sharpness measure is not defined it says so, and bad input is named."""

import math

import pytest
import torch
from helpers import close, network_loss, normal
from torch import nn

from flatlab import Objective, sharpness
from flatlab.functions import sphere
from flatlab.models import mlp

LOCAL = {
    "random direction": sharpness.random_direction,
    "average": sharpness.average,
    "one step": sharpness.one_step,
    "worst case": sharpness.worst_case,
    "first order": sharpness.first_order,
}
every_measure = pytest.mark.parametrize("name", LOCAL)
NAN_NEARBY = Objective(lambda t: (t**2).sum(-1) + t.sum(-1).sqrt())  # NaN where the sum of the coordinates is negative
INFINITE_NEARBY = Objective(lambda t: t.sum(-1) + torch.where(t.norm(dim=-1) < 1.9, 0.0, math.inf))


@every_measure
@pytest.mark.parametrize("rho", [0.0, -0.1, math.nan, math.inf])
def test_a_radius_must_be_positive_and_finite(name, rho):
    with pytest.raises(ValueError, match=f"rho is {rho}"):
        LOCAL[name](sphere, [1.0, 2.0], rho=rho)


@every_measure
def test_a_loss_that_is_nan_at_the_point_is_refused(name):
    with pytest.raises(ValueError, match="loss is NaN or infinite at theta"):
        LOCAL[name](NAN_NEARBY, [-1.0, 0.0])


@every_measure
@pytest.mark.parametrize("f", [NAN_NEARBY, INFINITE_NEARBY], ids=["NaN", "infinite"])
def test_a_loss_that_is_not_finite_nearby_gives_no_number(name, f):
    """No measure returns NaN or infinity: it is refused, or the search stays where the loss is finite."""
    try:
        found = LOCAL[name](f, [0.8, 0.8], rho=3.0)
    except ValueError as error:
        assert "NaN or infinite" in str(error)
    else:
        assert torch.isfinite(found)


@every_measure
def test_many_points_are_measured_like_each_alone(name):
    points = torch.tensor([[[1.0, 2.0]], [[-3.0, 0.5]]])
    found = LOCAL[name](sphere, points)
    assert found.shape == (2, 1) and close(found[1, 0], LOCAL[name](sphere, points[1, 0]), 1e-6)


@every_measure
def test_a_function_needs_a_point(name):
    with pytest.raises(ValueError, match="theta is missing"):
        LOCAL[name](sphere)


@pytest.mark.parametrize("measure", [sharpness.random_direction, sharpness.average])
@pytest.mark.parametrize("samples", [0, 1])
def test_an_estimate_needs_two_draws(measure, samples):
    with pytest.raises(ValueError, match=f"samples is {samples}"):
        measure(sphere, [1.0, 2.0], samples=samples)


@pytest.mark.parametrize("at", [[0.0, 0.0], torch.zeros(2)])
def test_there_is_no_step_uphill_from_a_minimum(at):
    with pytest.raises(ValueError, match="gradient is zero.*worst_case"):
        sharpness.one_step(sphere, at)


@pytest.mark.parametrize("norm", [1, 0, "inf", None])
def test_an_unknown_norm_is_named(norm):
    with pytest.raises(ValueError, match=f"norm is {norm}"):
        sharpness.worst_case(sphere, [1.0, 2.0], norm=norm)


@pytest.mark.parametrize("starts", [0, 1])
@pytest.mark.parametrize("steps", [0, 1])
def test_a_short_search_still_finds_the_curvature_of_a_bowl(starts, steps):
    assert sharpness.worst_case(sphere, [0.0, 0.0], rho=0.5, starts=starts, steps=steps) == pytest.approx(0.25)


X, Y = normal(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


class Unused(nn.Module):
    """The last linear layer by name takes no part, or is not the end."""

    def __init__(self, end):
        super().__init__()
        self.first, self.last, self.end = nn.Linear(4, 3), nn.Linear(3, 3), end

    def forward(self, x):
        return self.first(x) if self.end is None else self.end(self.last(self.first(x)))


def flatness(model, **options):
    return lambda: sharpness.relative_flatness(model.double(), X, Y, **options)


NET = mlp(4, 5, 3, seed=0).double()
NO_LINEAR = nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Conv1d(4, 3, 1), nn.Flatten())
BAD = {
    "no linear layer": (flatness(NO_LINEAR), "head is not found"),
    "unknown head": (flatness(NET, head="classifier"), "head is 'classifier': choose one of .* 0, 2"),
    "head that is no linear layer": (flatness(NET, head="1"), "head is '1'"),
    "head that is not last": (flatness(NET, head="0"), "head '0' does not produce the outputs"),
    "activation at the end": (flatness(Unused(nn.Tanh())), "head 'last' does not produce the outputs"),
    "head that is not used": (flatness(Unused(None)), "head 'last'"),
    "flatness of a regression": (lambda: sharpness.relative_flatness(network_loss("regression")), "loss is 'mse'"),
    "logits of a regression": (lambda: sharpness.logit_fisher_rao(network_loss("regression")), "loss is 'mse'"),
    "flatness of a function": (lambda: sharpness.RelativeFlatness(sphere), "loss is a Function"),
    "a penalty of a regression": (lambda: sharpness.RelativeFlatness(network_loss("regression")), "loss is 'mse'"),
    "Fisher-Rao of a function": (lambda: sharpness.fisher_rao_norm(sphere), "needs a NetworkLoss"),
    "an unknown column": (lambda: sharpness.table(sphere, ["sharpness"]), "names 'sharpness': choose from"),
    "missing data": (lambda: sharpness.fisher_rao_norm(NET), "inputs or targets is missing"),
    "missing targets": (lambda: sharpness.relative_flatness(NET, X), "inputs or targets is missing"),
    "labels out of range": (lambda: sharpness.fisher_rao_norm(NET, X, Y + 1), "targets runs from 1 to 3"),
    "NaN features": (lambda: sharpness.relative_flatness(NET, X * math.nan, Y), "NaN or infinite"),
    "NaN logits": (lambda: sharpness.logit_fisher_rao(NET, X * math.nan, Y), "NaN or infinite"),
    "NaN losses": (lambda: sharpness.fisher_rao_norm(NET, X * math.nan, Y), "NaN or infinite"),
    "table without a point": (lambda: sharpness.table(sphere), "theta is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("head", [None, "2"])
def test_a_linear_layer_that_is_the_end_is_found(head):
    assert flatness(NET, head=head)() > 0
