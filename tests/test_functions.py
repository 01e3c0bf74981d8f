"""The benchmark functions agree with autograd, with finite differences and with every number of the spec sheet."""

import math
from math import pi, sqrt

import numpy as np
import pytest
import torch
from helpers import central, close, examples
from hypothesis import given
from hypothesis import strategies as st

from flatlab import Objective, curvature, functions
from flatlab.functions import (
    SEVEN,
    change_variable,
    double_well,
    himmelblau,
    multi_well,
    rescaling,
    single_well,
    stretch,
)

MAPS = {
    "stretched": stretch(3.0, at=1.0),
    "squeezed": stretch(0.4, at=-0.2, width=0.5),
    "rescaled": rescaling(2.5),
}
WELLS = {
    "quadratic": functions.quadratic(3.0),
    "double well": double_well(),
    "moved double well": double_well(-0.7, centre=0.4),
    "multi well": multi_well(),
    "single well": single_well(),
}
CHANGED = {f"{how} {name}": change_variable(f, g) for how, g in MAPS.items() for name, f in WELLS.items()}
TWICE = {"twice changed": change_variable(CHANGED["stretched double well"], MAPS["squeezed"])}
ONE_VARIABLE = WELLS | CHANGED | TWICE
ALL = {f.name: f for f in SEVEN} | ONE_VARIABLE

every_function = pytest.mark.parametrize("f", ALL.values(), ids=list(ALL))
every_well = pytest.mark.parametrize("f", ONE_VARIABLE.values(), ids=list(ONE_VARIABLE))
random_points = given(seed=st.integers(0, 2**32), shape=st.sampled_from([(), (1,), (6,), (2, 3)]))


def points(f, seed, shape):
    low, high = f.domain.T
    return low + (high - low) * torch.rand(
        *shape, f.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def name_of(value):
    return getattr(value, "name", None)


def minima(f):
    return f.minima.reshape(-1, f.dim)


@every_function
@random_points
@examples
def test_derivatives_by_hand_are_those_of_autograd(f, seed, shape):
    theta, plain = points(f, seed, shape), Objective(f)
    assert close(f.gradient(theta), plain.gradient(theta))
    assert close(f.hessian(theta), plain.hessian(theta))
    assert close(f.hvp(theta, theta.cos()), plain.hvp(theta, theta.cos()))


@every_function
def test_derivatives_by_hand_are_those_of_torch_func(f):
    theta = points(f, 0, (3,))
    assert close(f.gradient(theta), torch.func.vmap(torch.func.grad(f))(theta))
    assert close(f.hessian(theta), torch.func.vmap(torch.func.hessian(f))(theta))


@every_function
@random_points
@examples
def test_derivatives_by_hand_are_finite_differences(f, seed, shape):
    theta = points(f, seed, (*shape, 6))  # several points: the error is measured against the largest derivative
    assert close(f.gradient(theta), central(f, theta), 1e-5)
    assert close(f.hessian(theta), central(f.gradient, theta), 1e-5)


@every_function
def test_minima_are_stationary_and_strict(f):
    hessian = f.hessian(minima(f))
    assert (f.gradient(minima(f)).abs().amax(-1) <= 1e-11 * hessian.abs().amax((-1, -2))).all()
    assert (torch.linalg.eigvalsh(hessian) > 0).all()


@every_function
def test_global_minima_come_first(f):
    values = f(minima(f))
    assert values[0].abs() <= 1e-20
    assert (values.diff() >= -1e-12).all()


# The spec sheet, section 2 ---------------------------------------------------------------------------------------
EIGENVALUES = [
    (functions.sphere, (0, 0), (2, 2)),
    (functions.booth, (1, 3), (18, 2)),
    (functions.three_hump_camel, (0, 0), (3 + sqrt(2), 3 - sqrt(2))),
    (functions.three_hump_camel, (1.747552, -0.873776), (12.250644, 1.902445)),
    (functions.three_hump_camel, (-1.747552, 0.873776), (12.250644, 1.902445)),
    (himmelblau, (3, 2), (82.284271, 25.715729)),
    (himmelblau, (-2.805118, 3.131313), (80.5501, 64.8404)),
    (himmelblau, (-3.779310, -3.283186), (133.7856, 70.7144)),
    (himmelblau, (3.584428, -1.848127), (105.4189, 28.6907)),
    (functions.rosenbrock, (1, 1), (1001.600640, 0.399360)),
    (functions.beale, (3, 0.5), (48.9797864, 0.3014637)),
    (functions.rastrigin, (0, 0), (396.784176, 396.784176)),
]
HESSIANS = [
    (functions.sphere, (0, 0), [[2, 0], [0, 2]]),
    (functions.booth, (1, 3), [[10, 8], [8, 10]]),
    (functions.three_hump_camel, (0, 0), [[4, 1], [1, 2]]),
    (himmelblau, (3, 2), [[74, 20], [20, 34]]),
    (functions.rosenbrock, (1, 1), [[802, -400], [-400, 200]]),
    (functions.rastrigin, (0, 0), [[2 + 40 * pi**2, 0], [0, 2 + 40 * pi**2]]),
    (functions.beale, (3, 0.5), [[3.15625, -11.4375], [-11.4375, 46.125]]),
]
# On the square [-3.5, 3.5]²: the largest eigenvalue at the minimum per standard deviation of f, and E‖∇f‖² / Var f.
ON_THE_SQUARE = [
    ("sphere", "0.39", "1.22"), ("booth", "0.16", "0.32"), ("three_hump_camel", "0.11", "6.6"),
    ("himmelblau", "1.46", "0.92"), ("rosenbrock", "0.22", "2.19"), ("beale", "0.017", "4.5"),
    ("rastrigin", "35.0", "31.5"),
]  # fmt: skip


@pytest.mark.parametrize("f, at, wanted", EIGENVALUES, ids=name_of)
def test_eigenvalues_at_the_minima(f, at, wanted):
    nearest = f.minima[(f.minima - torch.tensor(at)).norm(dim=1).argmin()]
    assert close(nearest, torch.tensor(at, dtype=torch.float64), 1e-6)
    assert close(curvature.eigenvalues(f, nearest, k=2), wanted, 1e-6)


@pytest.mark.parametrize("f, at, wanted", HESSIANS, ids=name_of)
def test_hessians_at_the_minima(f, at, wanted):
    assert close(f.hessian(torch.tensor(at, dtype=torch.float64)), wanted, 1e-14)


def rounded(value, like):
    """The number with as many decimals as the text `like`."""
    return f"{value:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize("name, sharpest, energy", ON_THE_SQUARE)
def test_scale_and_complexity_on_the_square(name, sharpest, energy):
    f, side = getattr(functions, name), (torch.arange(1400, dtype=torch.float64) + 0.5) / 200 - 3.5
    grid = torch.cartesian_prod(side, side)
    variance, slope = f(grid).var(correction=0), f.gradient(grid).square().sum(-1).mean()
    assert rounded(curvature.eigenvalues(f, f.minima[0])[0] / variance.sqrt(), sharpest) == sharpest
    assert rounded(slope / variance, energy) == energy


def test_local_minima_of_the_camel():
    camel = functions.three_hump_camel
    assert camel(camel.minima).tolist() == pytest.approx([0, 0.2986384, 0.2986384], abs=5e-8)


def test_rastrigin_has_49_minima_with_four_curvatures_per_axis():
    table = {0.0: 396.784, 0.99496: 396.586, 1.98991: 395.991, 2.98486: 394.998}
    assert len({tuple(point) for point in functions.rastrigin.minima.tolist()}) == 49
    for point, hessian in zip(
        functions.rastrigin.minima, functions.rastrigin.hessian(functions.rastrigin.minima), strict=True
    ):
        assert hessian[0, 1] == 0
        for coordinate, found in zip(point.abs().tolist(), hessian.diag().tolist(), strict=True):
            nearest = min(table, key=lambda x: abs(x - coordinate))
            assert (coordinate, found) == (pytest.approx(nearest, abs=6e-6), pytest.approx(table[nearest], abs=6e-4))


# Shapes and types ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda p: torch.tensor(p, dtype=torch.float64)])
def test_lists_arrays_and_tensors_are_points(kind):
    # a = x² + y − 11 = −1 and b = x + y² − 7 = −3 at (3, 1)
    assert himmelblau(kind([3.0, 1.0])).item() == 10.0
    assert himmelblau.gradient(kind([3.0, 1.0])).tolist() == [4 * 3 * -1 + 2 * -3, 2 * -1 + 4 * 1 * -3]


@every_function
@pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_keep_their_shape_and_type(f, batch, dtype):
    theta = torch.full((*batch, f.dim), 0.3, dtype=dtype)
    results = f(theta), f.gradient(theta), f.hvp(theta, theta), f.hessian(theta)
    assert [tuple(r.shape) for r in results] == [batch, (*batch, f.dim), (*batch, f.dim), (*batch, f.dim, f.dim)]
    assert {r.dtype for r in results} == {dtype}


@every_well
@pytest.mark.parametrize("number", [0.3, torch.tensor(0.3, dtype=torch.float64), np.float64(0.3)])
def test_numbers_are_points_of_one_variable(f, number):
    scalars = [f(number), f.gradient(number), f.hessian(number), f.hvp(number, 2.0)]
    assert [s.ndim for s in scalars] == [0, 0, 0, 0]
    assert scalars[0] == f([0.3]) and scalars[1] == f.gradient([0.3])[0] and scalars[2] == f.hessian([0.3])[0, 0]
    assert scalars[3] == pytest.approx(2 * scalars[2].item())


BAD = [
    (lambda: himmelblau([1.0, 2.0, 3.0]), r"theta has shape \(3,\)"),
    (lambda: double_well()(torch.zeros(5)), r"theta has shape .*theta\[:, None\]"),
    (lambda: functions.sphere(1.0), "theta is a single number"),
    (lambda: functions.sphere(torch.tensor([1, 2])), "theta holds .*int64"),
    (lambda: functions.sphere.hessian(np.array([1, 2])), "theta holds .*int64"),
    (lambda: functions.sphere([[1.0], [1.0, 2.0]]), "theta must be numbers of one shape"),
    (lambda: functions.sphere(), "theta is missing"),
    (lambda: functions.sphere.hvp([0.0, 0.0], [1.0]), "v has shape"),
    (lambda: change_variable(functions.sphere, rescaling(2)), "f is sphere, a function of 2 variables"),
    *[(lambda f=f: f(-1.0), "must be positive") for f in (functions.quadratic, multi_well, single_well, rescaling)],
    (lambda: stretch(0.0, at=1), "factor is 0.0"),
    (lambda: stretch(2.0, at=1, width=math.nan), "width is nan"),
]


@pytest.mark.parametrize("call, message", BAD)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
