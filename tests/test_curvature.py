"""Curvature: closed forms first, then dense linear algebra, then scipy."""

import math

import pytest
import torch
from helpers import along, classes, close, normal, symmetric
from scipy.sparse.linalg import eigsh
from torch import nn

from flatlab import Estimate, NetworkLoss, Objective, curvature
from flatlab.curvature import WHOLE
from flatlab.functions import double_well, himmelblau, rosenbrock, sphere
from flatlab.models import mlp

SIZES = {"whole": 12, "restarted": WHOLE + 16}
both_sizes = pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))


def quadratic(matrix):
    return Objective(lambda t: ((t @ matrix.to(t)) * t).sum(-1) / 2, dim=len(matrix))


def spread(size):
    """Eigenvalues of both signs, the largest in size a negative one."""
    return torch.linspace(-3, 1, size, dtype=torch.float64) ** 3 + 0.01


def origin(size, dtype=torch.float64):
    return torch.zeros(size, dtype=dtype)


def kron(a, b):
    return torch.kron(a.contiguous(), b.contiguous())


# Closed forms ----------------------------------------------------------------------------------------------------
def test_least_squares_has_the_hessian_of_the_normal_equations():
    """With K outputs H = 2/(N K) · I ⊗ XᵀX, the constant input of the bias in the last place of each block."""
    model, x, y = nn.Linear(4, 3, bias=False).double(), normal(7, 4), normal(7, 3, seed=1)
    hessian = curvature.hessian(NetworkLoss(model, x, y, "mse"))
    assert close(hessian, 2 / (7 * 3) * kron(torch.eye(3, dtype=torch.float64), x.T @ x), 1e-13)


def test_softmax_regression_has_the_kronecker_hessian():
    """H = mean_n (diag p − p pᵀ) ⊗ x xᵀ."""
    model, x, y = nn.Linear(4, 3, bias=False).double(), normal(7, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    p = model(x).softmax(-1).detach()
    blocks = [kron(p_n.diag() - p_n.outer(p_n), x_n.outer(x_n)) for p_n, x_n in zip(p, x, strict=True)]
    assert close(curvature.hessian(NetworkLoss(model, x, y)), torch.stack(blocks).mean(0), 1e-13)


def test_largest_is_algebraic():
    f = quadratic(torch.diag(torch.tensor([1.0, -3.0])))
    assert close(curvature.eigenvalues(f, [0.0, 0.0]), [1.0], 1e-14)
    assert close(curvature.eigenvalues(f, [0.0, 0.0], which="smallest"), [-3.0], 1e-14)


@both_sizes
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_eigenpairs_of_a_known_spectrum(size, k, which):
    values = spread(size).sort(descending=which == "largest").values
    pairs = curvature.eigenpairs(quadratic(symmetric(values)), origin(size), k, which)
    assert close(pairs.values, values[:k], 1e-8)
    assert close(pairs.vectors @ pairs.vectors.T, torch.eye(k), 1e-8)
    assert (pairs.residuals <= 1e-6).all()
    assert close(pairs.vectors @ symmetric(values), pairs.values[:, None] * pairs.vectors, 1e-6)


@both_sizes
def test_all_eigenvalues_can_be_asked_for(size):
    values = spread(size).sort(descending=True).values
    assert close(curvature.eigenvalues(quadratic(symmetric(values)), origin(size), k=size), values, 1e-12)


@both_sizes
def test_float32_eigenvalues(size):
    f, theta = quadratic(symmetric(spread(size))), origin(size, torch.float32)
    pairs = curvature.eigenpairs(f, theta)
    assert pairs.values.dtype == pairs.vectors.dtype == torch.float32
    assert close(pairs.values, [1.01], 1e-5)


@both_sizes
def test_no_curvature_is_an_answer(size):
    plain = Objective(lambda t: t.sum(-1))
    assert curvature.eigenvalues(plain, origin(size), k=2).tolist() == [0, 0]
    assert curvature.trace(plain, origin(size)) == 0
    assert curvature.spectral_density(plain, origin(size)).values.count_nonzero() == 0


def test_one_variable_has_one_eigenvalue():
    f, sharp = double_well(), 2 * math.e
    assert close(curvature.eigenvalues(f, 1.0), [sharp], 1e-12)
    assert curvature.trace(f, 1.0).item() == pytest.approx(sharp)
    assert curvature.hessian(f, 1.0).item() == pytest.approx(sharp)
    assert curvature.directional(f, 3.0, 1.0).item() == pytest.approx(sharp)
    assert curvature.hvp(f, 3.0, 1.0).item() == pytest.approx(3 * sharp)


def test_curvature_along_a_direction_is_its_rayleigh_quotient():
    f, at = himmelblau, [3.0, 2.0]
    assert curvature.directional(f, [5.0, 0.0], at).item() == pytest.approx(74)
    assert curvature.directional(f, [1.0, 1.0], at).item() == pytest.approx((74 + 34 + 2 * 20) / 2)
    top = curvature.eigenpairs(f, at)
    assert curvature.directional(f, -7 * top.vectors[0], at).item() == pytest.approx(top.values[0].item())


# Trace and spectral density --------------------------------------------------------------------------------------
@pytest.mark.parametrize("size, samples", [(12, 12), (12, 30), (6, 6), (1, 6)])
def test_the_trace_is_exact_with_as_many_products_as_parameters(size, samples):
    matrix = symmetric(torch.arange(size) - 3.3)
    estimate = curvature.trace(quadratic(matrix), origin(size), samples=samples)
    assert estimate.item() == pytest.approx(matrix.trace().item(), rel=1e-12)
    assert estimate.stderr == 0


@pytest.mark.parametrize("seed", range(8))
def test_hutch_plus_plus_finds_a_decaying_spectrum_in_30_products(seed):
    values = 100.0 / torch.arange(1, 201) ** 2
    counted = Counting(quadratic(symmetric(values)))
    estimate = curvature.trace(counted, origin(200), samples=30, seed=seed)
    assert estimate.item() == pytest.approx(values.sum().item(), rel=0.02)
    assert 0 < counted.products <= 30


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["flat", "both signs"])
def test_the_trace_lies_within_its_standard_errors(seed, name):
    values = {"flat": torch.linspace(1, 2, 150), "both signs": torch.linspace(-1, 2, 150)}[name]
    estimate = curvature.trace(quadratic(symmetric(values)), origin(150), seed=seed)
    assert abs(estimate - values.sum().item()) <= 5 * estimate.stderr


class Counting(Objective):
    def __init__(self, inner, theta=None):
        super().__init__(inner, inner.dim, theta)
        self.inner, self.products = inner, 0

    def _linearize(self, theta):
        product = self.inner.linearize(theta)

        def counted(v):
            self.products += 1
            return product(v)

        return counted


def test_full_lanczos_finds_every_eigenvalue_and_the_mean_of_the_spectrum():
    values = torch.linspace(-1, 3, 20, dtype=torch.float64)
    density = curvature.spectral_density(quadratic(symmetric(values)), origin(20), draws=100, steps=20)
    means = (density.weights * density.values).sum(1)
    assert close(density.values, values.expand(100, 20), 1e-8)
    assert close(density.weights.sum(1), torch.ones(100), 1e-12)
    assert (means.mean() - values.mean()).abs() <= 4 * means.std() / 100**0.5


@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_density_is_a_probability_density(steps):
    density = curvature.spectral_density(quadratic(symmetric(spread(30))), origin(30), steps=steps)
    grid = torch.linspace(-30, 4, 4001, dtype=torch.float64)
    assert density.values.shape == density.weights.shape == (4, min(steps, 30))
    assert close(density.weights.sum(1), torch.ones(4), 1e-12)
    assert torch.trapezoid(density.density(grid, width=0.2), grid).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_density_of_a_multiple_of_the_identity_is_one_line(dtype):
    density = curvature.spectral_density(quadratic(2 * torch.eye(9)), origin(9, dtype))
    assert close((density.weights * (density.values - 2).abs()).sum(1) + 1, torch.ones(4), 1e-6)


# A network ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which, code", [("largest", "LA"), ("smallest", "SA")])
def test_eigenvalues_of_a_network_agree_with_scipy_and_with_the_dense_hessian(which, code):
    loss = NetworkLoss(mlp(6, 9, 3, activation="tanh", seed=0).double(), normal(20, 6), torch.arange(20) % 3)
    assert loss.dim > WHOLE
    pairs, dense = curvature.eigenpairs(loss, k=3, which=which), loss.hessian()
    exact = torch.linalg.eigvalsh(dense).sort(descending=which == "largest").values[:3]
    assert close(pairs.values, exact, 1e-8)
    assert close(pairs.values.sort().values, sorted(eigsh(dense.numpy(), 3, which=code)[0]), 1e-8)
    top = pairs.vectors[0]
    assert close(top @ along(loss.gradient, loss.theta, top), pairs.values[0], 1e-6)


# Bad input -------------------------------------------------------------------------------------------------------
ROOTS = Objective(lambda t: t.abs().sqrt().sum(-1))
FLAT = quadratic(torch.eye(3, dtype=torch.float64))
BAD = {
    "k = 0": (lambda: curvature.eigenvalues(FLAT, origin(3), k=0), "k is 0: choose 1 to 3"),
    "k > P": (lambda: curvature.eigenvalues(FLAT, origin(3), k=4), "k is 4"),
    "half an eigenvalue": (lambda: curvature.eigenvalues(FLAT, origin(3), k=1.5), "k is 1.5"),
    "unknown end": (lambda: curvature.eigenvalues(FLAT, origin(3), which="LM"), "which is 'LM'"),
    "fewer steps than eigenvalues": (lambda: curvature.eigenvalues(FLAT, origin(3), k=2, steps=1), "steps is 1"),
    "no Hessian": (lambda: curvature.eigenvalues(ROOTS, origin(3)), "Hessian is NaN"),
    "no theta": (lambda: curvature.trace(FLAT), "theta is missing"),
    "too few products": (lambda: curvature.trace(FLAT, origin(3), samples=5), "samples is 5"),
    "zero direction": (lambda: curvature.directional(FLAT, origin(3), origin(3)), "vector is zero"),
    "NaN direction": (lambda: curvature.directional(FLAT, origin(3) * math.nan, origin(3)), "vector"),
    "integer direction": (lambda: curvature.directional(FLAT, torch.tensor([1, 0, 0]), origin(3)), "vector holds"),
    "wrong direction": (lambda: curvature.directional(FLAT, [1.0], origin(3)), "v(ector)? has shape"),
    "wrong vector": (lambda: curvature.hvp(FLAT, [1.0], origin(3)), "v(ector)? has shape"),
    "no draws": (lambda: curvature.spectral_density(FLAT, origin(3), draws=0), "draws is 0"),
    "no steps": (lambda: curvature.spectral_density(FLAT, origin(3), steps=0), "steps is 0"),
    "NaN eigenvalue": (lambda: curvature.eigenvalues(FLAT, origin(3) * math.nan), "loss is NaN"),
    "NaN trace": (lambda: curvature.trace(FLAT, origin(3) * math.nan), "loss is NaN"),
    "NaN density": (lambda: curvature.spectral_density(FLAT, origin(3) * math.nan), "loss is NaN"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


# Many at once --------------------------------------------------------------------------------------------------------
NETS, KINDS = 6, {"own data": True, "shared data": False}


def networks(own=False, dtype=torch.float64):
    """Six classifiers of 67 parameters, each with its own inputs or all with the same."""
    x, y = normal(NETS, 9, 4).to(dtype), [classes(9, 3, seed) for seed in range(NETS)]
    build = lambda seed: mlp(4, 8, 3, activation="tanh", seed=seed).to(dtype)  # noqa: E731
    return NetworkLoss(build, list(x) if own else x[0], y if own else y[0], seeds=range(NETS))


def alone(measure, loss):
    return torch.stack([torch.as_tensor(measure(loss.member(k))) for k in range(NETS)])


MEASURES = {
    "λ_max": lambda loss: curvature.eigenvalues(loss, k=2),
    "λ_min": lambda loss: curvature.eigenvalues(loss, which="smallest"),
    "quick λ_max": lambda loss: curvature.eigenvalues(loss, steps=8),
    "trace": curvature.trace,
    "exact trace": lambda loss: curvature.trace(loss, samples=loss.dim),
    "density": lambda loss: curvature.spectral_density(loss, draws=2, steps=9).density(normal(7), 0.1),
    "Gauss-Newton": lambda loss: curvature.eigenvalues(curvature.GaussNewton(loss)),
    "residual": lambda loss: curvature.eigenvalues(curvature.Residual(loss)),
    "hessian": curvature.hessian,
    "along": lambda loss: curvature.directional(loss, normal(loss.dim).expand(loss.point().shape)),
}


@pytest.mark.parametrize("own", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("name", MEASURES)
def test_many_networks_in_one_call_are_measured_like_each_alone(name, own):
    loss = networks(own)
    assert loss.dim > WHOLE and close(MEASURES[name](loss), alone(MEASURES[name], loss), 1e-10)


def test_estimates_of_many_networks_carry_their_errors():
    loss = networks()
    found = curvature.trace(loss)
    assert isinstance(found, Estimate) and found.shape == found.stderr.shape == (NETS,)
    assert close(found.stderr, [curvature.trace(loss.member(k)).stderr for k in range(NETS)])


def test_points_may_have_any_leading_axes():
    theta, loss = normal(2, 3, 67), networks().member(0)
    assert curvature.eigenvalues(loss, theta, k=2).shape == (2, 3, 2)
    assert curvature.trace(loss, theta).shape == (2, 3)
    pairs, density = curvature.eigenpairs(loss, theta), curvature.spectral_density(loss, theta, draws=2, steps=5)
    assert pairs.vectors.shape == (2, 3, 1, 67) and pairs.residuals.shape == (2, 3, 1)
    assert density.values.shape == (2, 3, 2, 5) and density.density(normal(4), 0.1).shape == (2, 3, 4)
    assert close(curvature.eigenvalues(loss, theta)[1, 2], curvature.eigenvalues(loss, theta[1, 2]))


def test_eigenvalues_in_a_few_steps_come_close_from_below():
    loss = networks()
    dense = torch.linalg.eigvalsh(loss.hessian())[:, -1:]
    few = torch.stack([curvature.eigenvalues(loss, steps=steps) for steps in (1, 2, 4, 8, 12, 67)])
    assert (few.diff(dim=0) >= -1e-12).all() and (few <= dense + 1e-10).all()
    assert close(few[-2], dense, 0.02) and close(few[-1], dense, 1e-10)


def test_a_member_that_needs_few_products_does_not_disturb_the_others():
    """The zero matrix, the identity and a rank of one exhaust their space at once."""
    matrices = [torch.zeros(80, 80), torch.eye(80), torch.ones(80, 80), symmetric(spread(80))]
    matrices = torch.stack([m.double() for m in matrices])
    f = Objective(lambda t: ((t[..., None, :] @ matrices)[..., 0, :] * t).sum(-1) / 2, dim=80)
    found = curvature.eigenvalues(f, torch.zeros(4, 80).double(), k=3)
    assert close(found[:3], torch.tensor([[0, 0, 0], [1, 1, 1], [80, 0, 0]]), 1e-12)
    assert close(found[3], spread(80).flip(0)[:3], 1e-10)


# Iterations end ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-5)])
@pytest.mark.parametrize("which", ["smallest", "largest"])
def test_gauss_newton_s_null_space_ends_lanczos(which, dtype, tolerance):
    """R8: 90 of 506 directions are curved; the smallest eigenvalue is 0, so no relative accuracy can be reached."""
    loss = NetworkLoss(mlp(20, 16, 10, seed=0).to(dtype), normal(10, 20), classes(10, 10))
    counted = Counting(curvature.GaussNewton(loss), loss.point())
    value = curvature.eigenvalues(counted, which=which)
    exact = torch.linalg.eigvalsh(curvature.hessian(curvature.GaussNewton(loss)).double())
    assert abs(value - exact[0 if which == "smallest" else -1]) <= tolerance * exact[-1]
    assert counted.products <= 600


def test_lanczos_without_convergence_says_so(monkeypatch):
    monkeypatch.setattr(curvature, "RESTARTS", 1)
    f = quadratic(torch.diag(torch.linspace(0, 1, 2000, dtype=torch.float64)))
    with pytest.warns(UserWarning, match="no convergence in 1 restarts"):
        value = curvature.eigenvalues(f, origin(2000))
    assert 0.9 < value <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_in_half_precision_are_measured_in_double(dtype):
    """R7: bfloat16 ended in "geqrf_cpu"."""
    loss = networks(dtype=dtype).member(0)
    assert close(curvature.eigenvalues(loss), curvature.eigenvalues(loss.double()))
    assert close(curvature.trace(loss), curvature.trace(loss.double()))
    assert curvature.spectral_density(loss, steps=4).values.dtype == torch.float64


def test_eigenvalues_in_a_few_steps_where_the_gradient_is_zero_or_an_eigenvector():
    """Rosenbrock's minimum has no gradient; on a sphere Lanczos ends after one step."""
    assert close(curvature.eigenvalues(rosenbrock, [1.0, 1.0], steps=10), [1001.600640], 1e-8)
    assert close(curvature.eigenvalues(sphere, [3.0, -1.0], steps=10), [2.0], 1e-12)
    assert close(curvature.eigenvalues(quadratic(-torch.eye(3)), normal(4, 3), steps=3), -torch.ones(4, 1), 1e-12)
