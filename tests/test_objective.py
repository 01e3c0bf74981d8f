"""An objective differentiates any function or network, and agrees with finite differences."""

import gc
import math
import pickle
from copy import deepcopy

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import NETWORKS, Tied, along, central, classes, close, network, network_loss, normal, symmetric
from torch import nn

from flatlab import Estimate, NetworkLoss, Objective, sharpness
from flatlab.models import mlp

every_network = pytest.mark.parametrize("name", NETWORKS)
QUADRATIC = symmetric([3.0, 1.0, -2.0])


def half_quadratic(t):
    return ((t @ QUADRATIC) * t).sum(-1) / 2


# Objectives of any function --------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 4, 3)])
def test_a_quadratic_has_its_gradient_and_hessian(shape):
    f, theta, v = Objective(half_quadratic), normal(*shape), normal(*shape, seed=1)
    assert close(f.gradient(theta), theta @ QUADRATIC, 1e-14)
    assert close(f.hvp(theta, v), v @ QUADRATIC, 1e-14)
    assert close(f.hessian(theta), QUADRATIC.expand(*shape[:-1], 3, 3), 1e-14)


@pytest.mark.parametrize("f", [lambda t: t.sum(-1), lambda t: t.sum(-1).detach() * 0 + 1], ids=["affine", "constant"])
def test_a_function_without_curvature_has_a_hessian_of_zeros(f):
    f = Objective(f)
    assert f.hessian(normal(2, 3)).count_nonzero() == 0
    assert f.hvp(normal(3), normal(3)).tolist() == [0, 0, 0]
    assert close(f.gradient(normal(3)) + 1, central(f, normal(3)) + 1, 1e-9)


def test_a_point_may_be_left_out_where_there_are_current_parameters():
    f = Objective(half_quadratic, dim=3, theta=[1.0, 2.0, 3.0])
    assert f() == f([1.0, 2.0, 3.0])
    assert f.gradient().tolist() == f.gradient([1.0, 2.0, 3.0]).tolist()
    assert f.hessian().shape == (3, 3)


def test_float32_stays_float32():
    f, theta = Objective(lambda t: (t**4).sum(-1)), torch.ones(3)
    assert {f(theta).dtype, f.gradient(theta).dtype, f.hessian(theta).dtype} == {torch.float32}


def test_gradients_do_not_reach_into_the_readers_graph():
    theta = normal(3).requires_grad_()
    assert not Objective(half_quadratic).gradient(theta).requires_grad
    assert theta.grad is None


# Networks: derivatives -------------------------------------------------------------------------------------------
@every_network
def test_the_loss_is_the_plain_loss_of_the_network_in_eval_mode(name):
    model, x, y, loss = network(name)
    outputs = deepcopy(model).eval()(x)
    plain = F.cross_entropy(outputs, y) if loss == "cross_entropy" else F.mse_loss(outputs, y)
    assert close(NetworkLoss(model, x, y, loss)(), plain, 1e-14)
    assert close(NetworkLoss(model, x, y, loss).outputs(), outputs, 1e-14)


@every_network
def test_a_network_differentiates_twice_like_finite_differences(name):
    loss, v = network_loss(name), normal(network_loss(name).dim, seed=7)
    assert close((loss.gradient() * v).sum(), along(loss, loss.theta, v), 1e-7)
    assert close(loss.hvp(loss.theta, v), along(loss.gradient, loss.theta, v), 1e-7)


@every_network
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_streamed_chunks_equal_the_kept_graph(name, chunk):
    kept, streamed = network_loss(name), network_loss(name, chunk=chunk)
    v = normal(kept.dim, seed=7)
    assert kept.fits(kept.theta) and not streamed.fits(streamed.theta)
    assert close(streamed(), kept())
    assert close(streamed.gradient(), kept.gradient())
    assert close(streamed.hvp(streamed.theta, v), kept.hvp(kept.theta, v))


@pytest.mark.parametrize("name", ["classifier", "regression", "tied weights"])
def test_the_hessian_of_a_network_is_that_of_torch_func(name):
    loss = network_loss(name)
    hessian = torch.func.jacrev(torch.func.jacrev(loss))(loss.theta)
    assert close(loss.hessian(), hessian)
    assert close(loss.hessian(), loss.hessian().T)


@every_network
@pytest.mark.parametrize("chunk", [None, 3])
def test_many_weight_vectors_are_evaluated_like_each_alone(name, chunk):
    loss = network_loss(name, chunk=chunk)
    thetas, v = loss.theta + 0.3 * normal(2, 3, loss.dim), normal(2, 3, loss.dim, seed=1)
    whole = loss(thetas), loss.gradient(thetas), loss.hvp(thetas, v), loss.outputs(thetas)
    for i, j in ((0, 0), (0, 2), (1, 1)):
        at = thetas[i, j]
        for many, one in zip(
            whole, (loss(at), loss.gradient(at), loss.hvp(at, v[i, j]), loss.outputs(at)), strict=True
        ):
            assert close(many[i, j], one)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_members_with_their_own_data_are_evaluated_like_each_alone(loss, chunk):
    x, y = list(normal(4, 8, 3)), list(normal(4, 8, 2)) if loss == "mse" else [classes(8, 2, k) for k in range(4)]
    build = lambda seed: mlp(3, 5, 2, activation="tanh", seed=seed).double()  # noqa: E731
    many, v = NetworkLoss(build, x, y, loss, chunk, seeds=range(4)), normal(4, 32)
    alone = [NetworkLoss(build(k), x[k], y[k], loss) for k in range(4)]
    assert many.members == 4 and torch.equal(many.theta, torch.stack([one.theta for one in alone]))
    assert close(many(), [one() for one in alone])
    assert close(many.gradient(), torch.stack([one.gradient() for one in alone]))
    assert close(many.hvp(many.theta, v), torch.stack([one.hvp(one.theta, v[k]) for k, one in enumerate(alone)]))
    assert close(many.hessian(), torch.stack([one.hessian() for one in alone]))
    member = many.member(2)
    assert close(member(), alone[2]()) and close(member.gradient(), alone[2].gradient())


def per_sample(outputs, targets):
    return (outputs - targets).abs().pow(1.5).sum(1)


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_loss_of_your_own_returns_one_number_per_sample(chunk):
    model, x, y, _ = network("regression")
    loss = NetworkLoss(model, x, y, per_sample, chunk=chunk)
    assert close(loss(), per_sample(model(x), y).mean(), 1e-14)
    assert close(loss.gradient(), torch.func.grad(loss)(loss.theta))
    assert close(loss.hessian(), torch.func.hessian(loss)(loss.theta))


def test_mse_takes_one_output_without_an_axis_of_its_own():
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double()
    x, y = normal(6, 3), normal(6, seed=2)
    assert close(NetworkLoss(model, x, y, "mse")(), F.mse_loss(model(x), y), 1e-14)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_class_numbers_of_any_integer_type(dtype):
    model, x, y, _ = network("classifier")
    loss = NetworkLoss(model, x, y.to(dtype))
    assert close(loss(), F.cross_entropy(model(x), y), 1e-14)
    assert sharpness.logit_fisher_rao(loss) == sharpness.logit_fisher_rao(model, x, y)


def test_numbers_take_the_type_of_the_network():
    model = mlp(4, 3, seed=0)
    loss = NetworkLoss(model, normal(5, 4).numpy(), classes(5, 3).numpy())
    assert loss().dtype == loss.gradient().dtype == loss.theta.dtype == torch.float32
    assert loss(loss.theta.double()) == loss()


# Networks: which weights -----------------------------------------------------------------------------------------
def test_frozen_weights_are_no_parameters_but_are_read():
    model, x, y, _ = network("classifier")
    whole = NetworkLoss(model, x, y)
    model[0].requires_grad_(False)
    part = NetworkLoss(model, x, y)
    assert part.dim == whole.dim - 25
    assert close(part.theta, whole.theta[25:], 0)
    assert close(part.hessian(), whole.hessian()[25:, 25:])
    model[0].weight.data += 1
    assert close(part(), whole(), 1e-14)


def test_tied_weights_are_counted_once():
    model = Tied(2)
    assert NetworkLoss(model, normal(4, 2), normal(4, 2), "mse").dim == 4 + 2 + 2


def test_theta_follows_the_training():
    model, x, y, _ = network("classifier")
    loss, before = NetworkLoss(model, x, y), NetworkLoss(model, x, y).theta
    F.cross_entropy(model(x), y).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert close(loss.theta, before - 0.1 * loss.gradient(before))
    assert close(loss(), F.cross_entropy(model(x), y), 1e-14)
    assert not close(loss(before), loss(), 1e-3)


def test_weights_that_are_frozen_later_still_count():
    loss = network_loss("classifier")
    before = loss.theta, loss.gradient()
    loss.model[0].requires_grad_(False)
    assert torch.equal(loss.theta, before[0]) and torch.equal(loss.gradient(), before[1])


def test_theta_is_a_copy():
    loss = network_loss("classifier")
    before = loss()
    loss.theta.zero_()
    assert loss() == before


@every_network
def test_a_loss_that_is_dropped_leaves_no_tensor_behind(name):
    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    parts = network(name)
    sharpness.gradient_norm(NetworkLoss(*parts))
    before = tensors()
    sharpness.gradient_norm(NetworkLoss(*parts))
    assert tensors() == before


def test_running_statistics_are_followed():
    model, x, y, _ = network("batch norm")
    loss = NetworkLoss(model, x, y)
    before = loss()
    model(3 * x + 1)  # in train mode: the statistics move
    assert close(loss(), NetworkLoss(model, x, y)(), 0)
    assert loss() != before


# Sums ------------------------------------------------------------------------------------------------------------
def test_objectives_add_subtract_and_scale():
    f, g, theta, v = Objective(half_quadratic), Objective(lambda t: (t**4).sum(-1)), normal(2, 3), normal(2, 3, seed=1)
    scale = torch.tensor([0.5, -2.0], dtype=torch.float64)
    for both, a, b in ((f + g, 1, 1), (f - g, 1, -1), (2 * f - 3 * (g - f), 5, -3), (f * scale + g, scale, 1)):
        a, b = (torch.as_tensor(s, dtype=torch.float64).expand(2) for s in (a, b))
        assert close(both(theta), a * f(theta) + b * g(theta), 1e-14)
        assert close(both.gradient(theta), a[:, None] * f.gradient(theta) + b[:, None] * g.gradient(theta), 1e-14)
        assert close(both.hvp(theta, v), a[:, None] * f.hvp(theta, v) + b[:, None] * g.hvp(theta, v), 1e-14)
        assert close(both.hessian(theta)[0], a[0] * f.hessian(theta)[0] + b[0] * g.hessian(theta)[0], 1e-14)


def test_a_sum_has_the_parameters_and_the_data_of_its_parts():
    loss, ridge = network_loss("classifier"), Objective(lambda t: (t**2).sum(-1))
    both = 0.1 * ridge + loss
    assert torch.equal(both.theta, loss.theta) and both.source is loss and both.dim == loss.dim
    step = both.on(loss.inputs[:3], loss.targets[:3])
    assert close(step(), NetworkLoss(loss.model, loss.inputs[:3], loss.targets[:3])() + 0.1 * ridge(loss.theta), 1e-14)
    assert step.source.inputs.shape == (3, 4) and step.gradient().shape == loss.theta.shape


# Estimates -------------------------------------------------------------------------------------------------------
def test_an_estimate_is_a_number_that_keeps_its_error():
    e = Estimate(torch.tensor(2.718281), 0.05)
    assert e > 2 and f"{e:.2f}" == "2.72" and max(e, 3.0) == 3.0 and float(e) == pytest.approx(2.718281)
    assert all(
        torch.equal(c, e) and torch.equal(c.stderr, e.stderr) for c in (pickle.loads(pickle.dumps(e)), deepcopy(e))
    )
    assert repr(e) == "2.71828 ± 0.05" and Estimate(1.0).stderr.isnan()


def test_estimates_fill_a_column_with_numbers():
    many = Estimate(torch.tensor([1.0, 2.0]), torch.tensor([0.1, 0.2]))
    assert type(many + 1) is torch.Tensor and many.stderr.tolist() == pytest.approx([0.1, 0.2])
    assert pd.DataFrame({"all": many, "one": [float(e) for e in many]}).dtypes.eq(float).any()
    assert pd.Series({"a": Estimate(1.0, 0.1), "b": 2.0}).astype(float).sum() == 3


# Bad input -------------------------------------------------------------------------------------------------------
NET, X, Y = mlp(4, 3, seed=0), torch.ones(5, 4), torch.tensor([0, 1, 2, 0, 1])
FROZEN = mlp(4, 3, seed=0).requires_grad_(False)
BAD = {
    "not a module": (lambda: NetworkLoss("resnet", X, Y), "model is a str"),
    "a class": (lambda: NetworkLoss(nn.Linear, X, Y), "model is a type"),
    "a build of no module": (lambda: NetworkLoss(lambda seed: seed, X, Y), "model is a function that returned 0"),
    "a loss that is a mean": (lambda: NetworkLoss(NET, X, Y, F.cross_entropy), r"loss returned \(\).*not a mean"),
    "a number to add": (lambda: NetworkLoss(NET, X, Y) + 0.1, "0.1 is no objective"),
    "a product": (lambda: NetworkLoss(NET, X, Y) * NetworkLoss(NET, X, Y), "multiplied by a number"),
    "other parameters": (lambda: NetworkLoss(NET, X, Y) + network_loss("classifier"), "15 and 43 parameters"),
    "members of unequal counts": (lambda: NetworkLoss(NET, [X, X], [Y, Y, Y]), "lists of 2 and 3|lists of 3 and 2"),
    "members of unequal sizes": (lambda: NetworkLoss(NET, [X, X[:4]], [Y, Y[:4]]), "shapes"),
    "one seed": (lambda: NetworkLoss(lambda s: NET, X, Y, seeds=3), "seeds is 3"),
    "no targets": (lambda: NetworkLoss(NET, X), "targets is missing"),
    "no weights": (lambda: NetworkLoss(FROZEN, X, Y), "model has no trainable weights"),
    "no data": (lambda: NetworkLoss(NET, X[:0], Y[:0]), "inputs is empty"),
    "a file name": (lambda: NetworkLoss(NET, "digits.npz", Y), "inputs is a str"),
    "a single number": (lambda: NetworkLoss(NET, torch.tensor(1.0), Y), "inputs"),
    "unequal lengths": (lambda: NetworkLoss(NET, X, Y[:4]), "targets has 4 rows"),
    "unknown loss": (lambda: NetworkLoss(NET, X, Y, "hinge"), "loss is 'hinge'"),
    "labels too large": (lambda: NetworkLoss(NET, X, Y + 1), "targets runs from 1 to 3"),
    "negative labels": (lambda: NetworkLoss(NET, X, Y - 1), "targets runs from -1 to 1"),
    "float labels": (lambda: NetworkLoss(NET, X, Y.float()), "targets is torch.float32"),
    "one-hot labels": (lambda: NetworkLoss(NET, X, F.one_hot(Y)), "targets is torch.int64"),
    "boolean labels": (lambda: NetworkLoss(NET, X, Y > 0), "targets is torch.bool"),
    "broadcasting mse": (lambda: NetworkLoss(mlp(4, 1), X, torch.ones(5), "mse"), r"targets has shape \(5,\)"),
    "chunk 0": (lambda: NetworkLoss(NET, X, Y, chunk=0), "chunk is 0"),
    "half a sample": (lambda: NetworkLoss(NET, X, Y, chunk=2.5), "chunk is 2.5"),
    "token outputs": (lambda: NetworkLoss(NET, torch.ones(5, 2, 4), Y), "cross_entropy needs outputs"),
    "wrong theta": (lambda: NetworkLoss(NET, X, Y)(torch.ones(7)), r"theta has shape \(7,\)"),
    "integer theta": (lambda: NetworkLoss(NET, X, Y)(torch.ones(15, dtype=torch.int64)), "theta holds .*int64"),
    "NaN input": (lambda: NetworkLoss(NET, X * math.nan, Y).gradient(), "loss is NaN or infinite"),
    "NaN weights": (lambda: NetworkLoss(NET, X, Y).linearize(torch.full((15,), math.nan)), "loss is NaN or infinite"),
    "infinite value": (lambda: Objective(lambda t: 1 / t.sum(-1)).gradient([0.0]), "loss is NaN or infinite"),
    "members that mix": (lambda: Objective(lambda t: t.sum())(torch.ones(2, 3)), r"function returned shape \(\)"),
    "missing theta": (lambda: Objective(half_quadratic).hessian(), "theta is missing"),
    "text": (lambda: Objective(half_quadratic)("abc"), "theta must be numbers"),
    "points of other members": (lambda: NetworkLoss(NET, [X, X], Y)(torch.ones(3, 15)), "theta has shape .*2 members"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()
