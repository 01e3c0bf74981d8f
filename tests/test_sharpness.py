"""Every sharpness measure against brute force, its closed forms and its limits."""

import itertools
import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import along, close, network, network_loss, normal, symmetric
from torch import nn

from flatlab import NetworkLoss, Objective, curvature, sharpness
from flatlab.functions import SEVEN, double_well, multi_well, single_well, sphere
from flatlab.models import mlp

MINIMA = [(f, m) for f in (*SEVEN, double_well(), multi_well(), single_well()) for m in f.minima.reshape(-1, f.dim)[:3]]
NETS = ["classifier", "batch norm", "attention", "transformer"]
each_minimum = pytest.mark.parametrize("f, at", MINIMA, ids=lambda value: getattr(value, "name", None))


def quadratic(matrix, slope=0.0):
    return Objective(lambda t: ((t @ matrix) * t).sum(-1) / 2 + (slope * t).sum(-1), dim=len(matrix))


def origin(size):
    return torch.zeros(size, dtype=torch.float64)


def within(estimate, wanted, errors=4.5):
    print(f"{estimate!r}, wanted {wanted}")
    return estimate.stderr > 0 and abs(estimate - wanted) <= errors * estimate.stderr


# Random steps ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 5, 200])
def test_on_a_slope_a_random_direction_measures_the_gradient(size):
    slope = normal(size)
    found = sharpness.random_direction(Objective(lambda t: t @ slope), origin(size), samples=3000)
    assert within(found, math.sqrt(2 / math.pi) * slope.norm() / math.sqrt(size))
    assert (found.stderr * math.sqrt(3000) / found).item() == pytest.approx(0.76, abs=0.03)


def test_for_a_small_radius_a_random_direction_measures_the_gradient_of_a_network():
    loss = network_loss("classifier")
    found = sharpness.random_direction(loss, rho=1e-5, samples=400)
    assert within(found, math.sqrt(2 / math.pi) * sharpness.gradient_norm(loss) / math.sqrt(loss.dim))


def test_at_a_minimum_a_random_direction_measures_the_trace():
    f = quadratic(symmetric(torch.linspace(0, 3, 40)))
    assert within(sharpness.random_direction(f, origin(40), rho=0.1, samples=500), 0.1 * 60 / (2 * 40))


@pytest.mark.parametrize("slope", [0.0, 5.0])
def test_antithetic_pairs_measure_the_trace_on_any_slope(slope):
    f = quadratic(symmetric(torch.linspace(-1, 3, 40)), slope)
    found = sharpness.random_direction(f, origin(40), rho=0.1, samples=500, antithetic=True)
    assert within(found, 0.1 * 40 / (2 * 40))


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_average_rise_measures_the_diagonal(adaptive):
    matrix, at = symmetric(torch.linspace(-1, 3, 30)), normal(30)
    scale = at if adaptive else torch.ones(30)
    found = sharpness.average(quadratic(matrix, slope=2.0), at, rho=0.01, samples=500, adaptive=adaptive)
    assert within(found, 0.01**2 / 2 * (scale**2 * matrix.diag()).sum())


def test_the_average_rise_of_a_network_measures_its_trace():
    loss = network_loss("classifier")
    wanted = 1e-3**2 / 2 * curvature.trace(loss, samples=loss.dim)
    assert within(sharpness.average(loss, rho=1e-3, samples=300), wanted)


@pytest.mark.parametrize("measure", [sharpness.random_direction, sharpness.average])
def test_a_seed_fixes_the_draws_and_the_global_state_stays(measure):
    state = torch.get_rng_state()
    first, again, other = (measure(sphere, [1.0, 2.0], seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and first != other
    assert torch.equal(torch.get_rng_state(), state)


# Steps uphill ----------------------------------------------------------------------------------------------------
def test_one_step_is_the_rise_along_the_gradient():
    assert sharpness.one_step(sphere, [3.0, 4.0], rho=0.5) == pytest.approx(5.5**2 - 5**2)


@pytest.mark.parametrize("size", [2, 12, 80])
@pytest.mark.parametrize("rho", [0.01, 1.0])
def test_on_a_bowl_the_worst_case_is_half_of_rho_squared_lambda(size, rho):
    f = quadratic(symmetric(torch.linspace(0.1, 4, size)))
    assert sharpness.worst_case(f, origin(size), rho=rho) == pytest.approx(rho**2 * 4 / 2, rel=1e-6)
    assert sharpness.first_order(f, origin(size), rho=rho) == pytest.approx(rho**2 * 4, rel=1e-6)


def test_the_adaptive_worst_case_measures_the_bowl_in_units_of_the_weights():
    matrix, at = symmetric(torch.linspace(0.1, 4, 6)), normal(6)
    f = Objective(lambda t: (((t - at) @ matrix) * (t - at)).sum(-1) / 2)
    top = torch.linalg.eigvalsh(at[:, None] * matrix * at).max().item()
    assert sharpness.worst_case(f, at, rho=0.3, adaptive=True) == pytest.approx(0.3**2 * top / 2, rel=1e-8)


@pytest.mark.parametrize("size", [3, 100])
def test_on_a_slope_the_worst_case_is_rho_times_the_norm(size):
    slope = normal(size)
    f = Objective(lambda t: t @ slope)
    assert sharpness.worst_case(f, origin(size), rho=0.2) == pytest.approx(0.2 * slope.norm().item(), rel=1e-12)
    assert sharpness.first_order(f, origin(size), rho=0.2) == pytest.approx(0.2 * slope.norm().item(), rel=1e-12)
    bounded = sharpness.worst_case(f, origin(size), rho=0.2, norm=math.inf)
    assert bounded == pytest.approx(0.2 * slope.abs().sum().item(), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_in_a_box_the_worst_case_of_a_bowl_is_its_highest_corner(seed, slope):
    matrix = symmetric(torch.linspace(0.1, 4, 6), seed=seed)
    f = quadratic(matrix, slope * normal(6, seed=seed))
    corners = torch.tensor(list(itertools.product((-0.3, 0.3), repeat=6)), dtype=torch.float64)
    found = sharpness.worst_case(f, origin(6), rho=0.3, norm=math.inf, starts=10)
    assert found == pytest.approx(f(corners).max().item(), rel=1e-10)


@each_minimum
@pytest.mark.parametrize("rho", [1e-3, 1.0])
@pytest.mark.parametrize("norm", [2, math.inf])
def test_the_worst_case_is_positive_at_every_minimum(f, at, rho, norm):
    assert sharpness.worst_case(f, at, rho=rho, norm=norm) > 0


@each_minimum
@pytest.mark.parametrize("rho", [0.05, 0.37, 1.0])
def test_the_slope_bounds_the_rise(f, at, rho):
    assert sharpness.worst_case(f, at, rho=rho) <= sharpness.first_order(f, at, rho=rho) * (1 + 1e-9)


def test_the_worst_case_is_never_below_a_random_step_or_a_step_uphill():
    loss = network_loss("classifier")
    steps = normal(100, loss.dim)
    best = (loss(loss.theta + 0.5 * steps / steps.norm(dim=1, keepdim=True)) - loss()).max()
    assert sharpness.worst_case(loss, rho=0.5) >= max(best.item(), sharpness.one_step(loss, rho=0.5))


# Measures of the head --------------------------------------------------------------------------------------------
def head_and_features(model, x):
    caught = []
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        handle = head.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        model.eval()(x)
        handle.remove()
    return head.weight.detach(), head.bias.detach(), caught[0]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("normalise", [True, False])
def test_relative_flatness_is_its_definition(name, normalise, chunk):
    """κ = Σ_kl ⟨w_k, w_l⟩ tr H_kl, the blocks by autograd."""
    model, x, y, _ = network(name)
    found = sharpness.relative_flatness(NetworkLoss(model, x, y, chunk=chunk), normalise=normalise)
    weight, bias, features = head_and_features(model, x)
    sd = features.std(0, correction=0) if normalise else torch.ones(features.shape[1])
    blocks = torch.func.hessian(lambda w: F.cross_entropy(features / sd @ w.T + bias, y))(weight * sd)
    traces = blocks.diagonal(dim1=1, dim2=3).sum(-1)
    assert close(found, ((weight * sd) @ (weight * sd).T * traces).sum())


def test_relative_flatness_is_the_sensitivity_to_linear_maps_of_the_features():
    """Feature robustness: the trace of the Hessian in A of the loss with φ + A φ in front of the head."""
    model, x, y, _ = network("classifier")
    weight, bias, features = head_and_features(model, x)
    rise = torch.func.hessian(lambda a: F.cross_entropy((features + features @ a.T) @ weight.T + bias, y))
    trace = rise(torch.zeros(5, 5, dtype=torch.float64)).reshape(25, 25).trace()
    assert close(sharpness.relative_flatness(model, x, y, normalise=False), trace)


@pytest.mark.parametrize("value", [0.0, 0.1, 3.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_feature_is_not_blown_up_by_its_rounding(value, dtype):
    """A dead feature keeps the standard deviation 1, so nothing else is divided by a rounding error."""
    head = nn.Linear(3, 2).to(dtype)
    x = torch.cat([normal(7, 2), torch.full((7, 1), value)], 1).to(dtype)
    y, sd = torch.tensor([0, 1, 0, 1, 0, 1, 0]), torch.ones(3, dtype=dtype)
    sd[:2] = x[:, :2].std(0, correction=0)
    rescaled = nn.Linear(3, 2).to(dtype)
    rescaled.load_state_dict({"weight": head.weight * sd, "bias": head.bias})
    wanted = sharpness.relative_flatness(rescaled, x / sd, y, normalise=False)
    assert close(sharpness.relative_flatness(head, x, y), wanted, 1e-5)


@pytest.mark.parametrize("name", [*NETS, "regression", "tied weights"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_the_fisher_rao_norm_is_its_definition(name, chunk):
    """sqrt(mean_n ⟨θ, ∇ℓ_n⟩²), the inner products by finite differences along θ."""
    model, x, y, kind = network(name)
    squares = []
    for n in range(len(x)):
        one = NetworkLoss(model, x[n : n + 1], y[n : n + 1], kind)
        squares.append(along(one, one.theta, one.theta) ** 2)
    found = sharpness.fisher_rao_norm(NetworkLoss(model, x, y, kind, chunk=chunk))
    assert close(found, torch.stack(squares).mean().sqrt(), 1e-8)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_for_a_plain_relu_network_the_logit_formula_is_one_layer_too_large(layers):
    model = mlp(*[5] * layers, 3, bias=False, seed=0).double()
    x, y = normal(9, 5), torch.arange(9) % 3
    z = model(x)
    error = (z.softmax(-1) * z).sum(-1) - z[torch.arange(9), y]
    exact = sharpness.fisher_rao_norm(model, x, y)
    assert close(exact, layers * error.square().mean().sqrt())
    assert close(sharpness.logit_fisher_rao(model, x, y), (layers + 1) / layers * exact)
    assert close(sharpness.logit_fisher_rao(model, x, y, layers=layers - 1), exact)


# Relative flatness as a penalty ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("normalise", [True, False])
def test_relative_flatness_differentiates_through_features_and_head(name, normalise):
    loss, v = network_loss(name), normal(network_loss(name).dim, seed=7)
    kappa = sharpness.RelativeFlatness(loss, normalise)
    assert kappa.source is loss and kappa() == sharpness.relative_flatness(loss, normalise=normalise)
    assert close((kappa.gradient() * v).sum(), along(kappa, loss.theta, v), 1e-6)
    assert close(kappa.hvp(kappa.theta, v), along(kappa.gradient, loss.theta, v), 1e-6)
    penalised = loss + 0.1 * kappa
    assert close(penalised.gradient(), loss.gradient() + 0.1 * kappa.gradient())


def test_relative_flatness_of_a_batch_sees_the_batch():
    loss = network_loss("classifier")
    step = (loss + 2.0 * sharpness.RelativeFlatness(loss)).on(loss.inputs[:5], loss.targets[:5])
    part = NetworkLoss(loss.model, loss.inputs[:5], loss.targets[:5])
    assert close(step(), part() + 2 * sharpness.relative_flatness(part), 1e-14)
    assert close(step.gradient(), part.gradient() + 2 * sharpness.RelativeFlatness(part).gradient())


def test_a_training_pass_of_the_penalty_leaves_the_running_statistics_to_the_loss():
    loss = network_loss("batch norm")
    buffers = loss.stacked_buffers(1)
    old = {name: b.clone() for name, b in buffers.items()}
    step = sharpness.RelativeFlatness(loss).on(loss.inputs, loss.targets, buffers=buffers, training=True)
    assert step.gradient().norm() > 0 and all(torch.equal(b, old[name]) for name, b in buffers.items())


def test_dead_features_have_a_finite_slope():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    model[0].bias.data[:2] = -100
    kappa = sharpness.RelativeFlatness(NetworkLoss(model, normal(8, 4), torch.arange(8) % 3))
    assert torch.isfinite(kappa.gradient()).all() and kappa.gradient().norm() > 0


# Many networks ---------------------------------------------------------------------------------------------------
COUNT = 5


def networks(own=False, dtype=torch.float64):
    x, y = normal(COUNT, 9, 4).to(dtype), [torch.arange(9) % 3, torch.arange(9) % 2] * 3
    build = lambda seed: mlp(4, 8, 3, activation="tanh", seed=seed).to(dtype)  # noqa: E731
    return NetworkLoss(build, list(x) if own else x[0], y[:COUNT] if own else y[0], seeds=range(COUNT))


@pytest.mark.parametrize("own", [False, True], ids=["shared data", "own data"])
@pytest.mark.parametrize("column", sharpness.SYMBOLS)
def test_each_column_holds_for_many_what_it_holds_for_one(column, own):
    loss, tolerance = networks(own), 1e-6 if "worst" in column or "first" in column else 1e-10
    whole = sharpness.table(loss, [column], draws=6, products=9)
    alone = pd.concat([sharpness.table(loss.member(k), [column], draws=6, products=9) for k in range(COUNT)])
    assert whole.shape[0] == COUNT and close(whole.to_numpy(), alone.to_numpy(), tolerance)


SOME = {
    "pairs": lambda loss: sharpness.random_direction(loss, samples=6, antithetic=True),
    "average": lambda loss: sharpness.average(loss, samples=6),
    "box": lambda loss: sharpness.worst_case(loss, norm=math.inf),
    "quick eigenvalue": lambda loss: curvature.eigenvalues(loss, steps=5)[..., 0],
    "penalty": lambda loss: (loss + 0.1 * sharpness.RelativeFlatness(loss)).gradient(),
}


@pytest.mark.parametrize("name", SOME)
def test_options_hold_for_many_networks(name):
    loss = networks()
    assert close(SOME[name](loss), torch.stack([SOME[name](loss.member(k)) for k in range(COUNT)]), 1e-8)


@pytest.mark.parametrize("chunk", [None, 4])
def test_many_points_are_measured_in_any_shape_and_in_pieces(chunk):
    x, y = normal(9, 4), torch.arange(9) % 3
    loss = NetworkLoss(mlp(4, 8, 3, seed=0).double(), x, y, theta=normal(2, 3, 67), chunk=chunk)
    frame = sharpness.table(loss, ["train loss", "one step", "fisher rao", "relative flatness", "logit fisher rao"])
    one = sharpness.table(NetworkLoss(mlp(4, 8, 3).double(), x, y, theta=loss.theta[1, 0]), frame.columns)
    assert len(frame) == 6 and close(frame.iloc[3].to_numpy(), one.iloc[0].to_numpy(), 1e-9)


def test_a_stream_of_batches_is_measured_like_the_tensors():
    loss = network_loss("classifier")
    batches = list(zip(loss.inputs.split(3), loss.targets.split(3), strict=True))
    stream, columns = NetworkLoss(loss.model, batches), [*sharpness.CHEAP, "logit fisher rao", "trace", "one step"]
    a, b = (sharpness.table(f, columns, draws=4, products=9).iloc[0] for f in (loss, stream))
    assert close(a.to_numpy(), b.to_numpy(), 1e-8)
    assert close(
        curvature.eigenvalues(curvature.GaussNewton(stream)), curvature.eigenvalues(curvature.GaussNewton(loss))
    )


def test_where_one_network_has_no_gradient_the_others_still_step_uphill():
    found = sharpness.one_step(sphere, torch.tensor([[0.0, 0.0], [3.0, 4.0]]), rho=0.5)
    assert found[0].isnan() and found[1].item() == pytest.approx(5.5**2 - 5**2)


# Single precision ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-3), (torch.bfloat16, 1e-3)])
def test_differences_of_losses_do_not_drown(dtype, tolerance):
    """R7: pairs in float32 were off by 2.6 at the default radius, and bfloat16 gave 0 ± 0."""
    model, x, y, _ = network("classifier")
    low = NetworkLoss(model.to(dtype), x.to(dtype), y)
    high = NetworkLoss(model.double(), x.to(dtype).double(), y)
    for antithetic in (False, True):
        a, b = (sharpness.random_direction(loss, samples=20, antithetic=antithetic) for loss in (low, high))
        assert close(a, b, tolerance) and a > 0 and close(a.stderr, b.stderr, tolerance)
    assert close(sharpness.average(low, samples=6), sharpness.average(high, samples=6), tolerance)


def test_a_network_in_bfloat16_has_a_whole_row():
    model, x, y, _ = network("classifier")
    row = sharpness.table(NetworkLoss(model.bfloat16(), x, y), list(sharpness.SYMBOLS), draws=6, products=9).iloc[0]
    exact = sharpness.table(NetworkLoss(model.double(), x.bfloat16().double(), y), list(sharpness.SYMBOLS), draws=6,
                            products=9).iloc[0]  # fmt: skip
    assert (row / exact - 1).abs().max() < 0.05


# The table -------------------------------------------------------------------------------------------------------
def test_the_table_holds_the_measures_with_the_train_loss_first():
    loss, columns = network_loss("classifier"), [*sharpness.CHEAP, "worst case", "trace"]
    frame = sharpness.table({"net": loss, "regression": network_loss("regression")}, columns, rho=0.1, seed=3)
    assert list(frame.index) == ["net", "regression"] and list(frame.columns) == [*columns, "trace stderr"]
    row = frame.loc["net"]
    assert row["train loss"] == loss() and row["gradient norm"] == sharpness.gradient_norm(loss)
    assert row["worst case"] == sharpness.worst_case(loss, rho=0.1, seed=3)
    assert row["trace stderr"] == curvature.trace(loss, seed=3).stderr
    assert row["relative flatness"] == sharpness.relative_flatness(loss)
    assert frame.dtypes.eq(float).all()
    assert math.isnan(frame.loc["regression", "relative flatness"]) and frame.loc["regression", "fisher rao"] > 0


def test_the_table_has_a_row_per_network():
    loss = networks()
    assert list(sharpness.table(loss, ["train loss"]).index) == list(range(COUNT))
    both = sharpness.table({"base": loss, "twin": loss.member(0)}, ["train loss", "gradient norm"])
    assert len(both) == COUNT + 1 and both.loc[("base", 0)].equals(both.loc[("twin", 0)])


def test_a_subset_is_for_what_needs_derivatives():
    loss = networks()
    part = loss.first(4)
    frame = sharpness.table(loss, ["train loss", "subset loss", "gradient norm", "relative flatness"], subset=4)
    assert close(frame["train loss"], loss()) and close(frame["subset loss"], part())
    assert close(frame["gradient norm"], sharpness.gradient_norm(part))
    assert close(frame["relative flatness"], sharpness.relative_flatness(loss))


def test_a_diverged_network_is_an_empty_row_among_the_others():
    loss = networks()
    theta = loss.theta.clone()
    theta[2] = math.nan
    frame = sharpness.table(loss.at(theta), [*sharpness.CHEAP, "one step"])
    whole = sharpness.table(loss, list(frame.columns))
    assert frame.loc[2].isna().all() and close(frame.drop(2).to_numpy(), whole.drop(2).to_numpy())


def test_the_table_leaves_empty_what_a_loss_does_not_have():
    model = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten())
    frame = sharpness.table(NetworkLoss(model, torch.ones(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1])))
    assert frame["train loss"].item() > 0 and math.isnan(frame["relative flatness"].item())
    bowl = Objective(lambda t: (t**2).sum(-1), theta=[1.0, 2.0])
    assert sharpness.table(bowl, ["lambda max", "fisher rao", "head norm"]).iloc[0].isna().tolist() == [
        False,
        True,
        True,
    ]
