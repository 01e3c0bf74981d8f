"""What leaves each measure unchanged, and what does not: the docstrings of `sharpness` as one table."""

import math
from functools import cache

import pytest
import torch
from helpers import close, normal
from torch import nn

from flatlab import Estimate, NetworkLoss, Objective, curvature, sharpness

X = normal(12, 3)
ROTATION = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64) / 2
SCALES = torch.tensor([0.3, 0.5, 1.0, 2.0], dtype=torch.float64)
NEURONS = torch.tensor([0.1, 10.0, 5.0, 20.0], dtype=torch.float64)


def base():
    """3-4-4-3 without biases: ReLU after the first layer, none in front of the head, so that features can be turned."""
    model = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)
    ).double()
    for i, layer in enumerate(model[j] for j in (0, 2, 3)):
        layer.weight.data = normal(*layer.weight.shape, seed=i) / 2
    model[2].weight.data *= SCALES[:, None]  # small features have large weights, so that turning them matters
    model[3].weight.data /= SCALES
    return model


def changed(first=None, second=None, head=None, **options):
    """The base network after the maps of its three weights have been applied."""
    model = base()
    for layer, change in zip((model[0], model[2], model[3]), (first, second, head), strict=True):
        layer.weight.data = layer.weight.data if change is None else change(layer.weight.data)
    return NetworkLoss(model, X, Y, **options)


Y = base()(X).argmax(1)  # it is right everywhere, so that curvature is positive on average

TRANSFORMATIONS = {
    "batching": lambda: changed(chunk=7),
    "layer rescaling": lambda: changed(lambda w: 30 * w, None, lambda w: w / 30),
    "neuron rescaling": lambda: changed(None, lambda w: NEURONS[:, None] * w, lambda w: w / NEURONS),
    "rotation of φ": lambda: changed(None, lambda w: ROTATION @ w, lambda w: w @ ROTATION.T),
    "class shift": lambda: changed(None, None, lambda w: w + torch.tensor([3.0, -2.0, 1.0, 4.0])),
    "logit scale": lambda: changed(None, None, lambda w: 4 * w),
}

MEASURES = {
    "train loss": lambda loss: loss().item(),
    "gradient norm": sharpness.gradient_norm,
    "λ_max": lambda loss: curvature.eigenvalues(loss)[0].item(),
    "trace": lambda loss: curvature.trace(loss, samples=max(6, loss.dim)).item(),
    "random direction": lambda loss: sharpness.random_direction(loss, samples=200),
    "random direction, pairs": lambda loss: sharpness.random_direction(loss, rho=0.1, samples=200, antithetic=True),
    "average": lambda loss: sharpness.average(loss, samples=200),
    "adaptive average": lambda loss: sharpness.average(loss, samples=400, adaptive=True),
    "one step": sharpness.one_step,
    "worst case": sharpness.worst_case,
    "adaptive worst case": lambda loss: sharpness.worst_case(loss, adaptive=True),
    "worst case in a box": lambda loss: sharpness.worst_case(loss, norm=math.inf),
    "first order": sharpness.first_order,
    "Fisher-Rao": sharpness.fisher_rao_norm,
    "logit Fisher-Rao": sharpness.logit_fisher_rao,
    "raw κ": lambda loss: sharpness.relative_flatness(loss, normalise=False),
    "normalised κ": sharpness.relative_flatness,
}

# batching · layer rescaling · neuron rescaling · rotation of φ · class shift · logit scale;  = same, x different
TABLE = """
train loss               =  =  =  =  =  x
gradient norm            =  x  x  =  =  x
λ_max                    =  x  x  =  =  x
trace                    =  x  x  =  =  x
random direction         =  x  x  =  =  x
random direction, pairs  =  x  x  =  =  x
average                  =  x  x  =  =  x
adaptive average         =  =  =  x  x  x
one step                 =  x  x  =  =  x
worst case               =  x  x  =  =  x
adaptive worst case      =  =  =  x  x  x
worst case in a box      =  x  x  x  =  x
first order              =  x  x  =  =  x
Fisher-Rao               =  =  =  =  =  x
logit Fisher-Rao         =  =  =  =  =  x
raw κ                    =  =  x  =  =  x
normalised κ             =  =  =  x  =  x
"""
ROWS = [line.rsplit(maxsplit=len(TRANSFORMATIONS)) for line in TABLE.strip().splitlines()]
CELLS = [(name, t, mark) for name, *marks in ROWS for t, mark in zip(TRANSFORMATIONS, marks, strict=True)]
SEARCHES = ("worst case", "first order", "worst case in a box")


@cache
def before(name):
    return MEASURES[name](NetworkLoss(base(), X, Y))


def differ(a, b, tolerance, errors=5):
    """The gap between two values, as a multiple of what rounding, or drawing at random, may explain."""
    noise = math.hypot(a.stderr, b.stderr) * errors if isinstance(a, Estimate) else 0.0
    return abs(a - b) / (noise + tolerance * abs(a))


@pytest.mark.parametrize("name, transformation, mark", CELLS)
def test_a_measure_changes_only_where_the_table_says_so(name, transformation, mark):
    a, b = before(name), MEASURES[name](TRANSFORMATIONS[transformation]())
    print(a, b)
    if mark == "=":
        assert differ(a, b, 0.005 if name in SEARCHES else 1e-8) <= 1
    else:
        assert differ(a, b, 0.01, errors=3) > 1


@pytest.mark.parametrize("name", ["adaptive average", "adaptive worst case"])
@pytest.mark.parametrize("transformation", ["layer rescaling", "neuron rescaling"])
def test_adaptive_measures_are_the_same_number_after_a_rescaling(name, transformation):
    assert close(float(MEASURES[name](TRANSFORMATIONS[transformation]())), float(before(name)), 1e-8)


@pytest.mark.parametrize("normalise", [True, False])
def test_relative_flatness_changes_when_features_are_shifted_and_the_bias_makes_up_for_it(normalise):
    def shifted(by):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)).double()
        for i, p in enumerate(model.parameters()):
            p.data = normal(*p.shape, seed=i)
        model[0].bias.data += by
        model[1].bias.data -= model[1].weight.data @ by
        return NetworkLoss(model, X, Y)

    plain, moved = shifted(torch.zeros(4).double()), shifted(2 * SCALES)
    assert close(moved(), plain())
    kappa = [sharpness.relative_flatness(loss, normalise=normalise) for loss in (plain, moved)]
    assert kappa[1] > 1.5 * kappa[0]


# Rotations and stretches of a plain objective --------------------------------------------------------------------
AT = torch.tensor([2.0, -1.0, 0.5, 0.1], dtype=torch.float64)
BOWL = torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.2], dtype=torch.float64))
ON_ANY_OBJECTIVE = [
    name for name in MEASURES if name not in ("Fisher-Rao", "logit Fisher-Rao", "raw κ", "normalised κ")
]
NOT_ROTATION = ("adaptive average", "adaptive worst case", "worst case in a box")


def over_new_axes(to_old, theta):
    """The same bowl over new axes u with θ = to_old(u), at the same point of the bowl."""
    return Objective(lambda u: ((to_old(u) @ BOWL) * to_old(u)).sum(-1) / 2, dim=4, theta=theta)


@pytest.mark.parametrize("name", ON_ANY_OBJECTIVE)
def test_a_rotation_of_the_parameters_changes_only_what_looks_at_single_ones(name):
    plain, turned = over_new_axes(lambda u: u, AT), over_new_axes(lambda u: u @ ROTATION, AT @ ROTATION.T)
    a, b = MEASURES[name](plain), MEASURES[name](turned)
    if name in NOT_ROTATION:
        assert differ(a, b, 0.01, errors=3) > 1
    else:
        assert differ(a, b, 0.005 if name in SEARCHES else 1e-8) <= 1


@pytest.mark.parametrize("name", [name for name in ON_ANY_OBJECTIVE if name != "train loss"])
def test_a_stretch_of_the_parameters_changes_all_but_the_adaptive_measures(name):
    plain, wide = over_new_axes(lambda u: u, AT), over_new_axes(lambda u: u / (3 + NEURONS), AT * (3 + NEURONS))
    a, b = MEASURES[name](plain), MEASURES[name](wide)
    if name.startswith("adaptive"):
        assert differ(a, b, 1e-6) <= 1
    else:
        assert differ(a, b, 0.01, errors=3) > 1
