"""Curvature of an `Objective`: Hessian, eigenvalues, trace, spectral density, and the Gauss-Newton split.

Everything takes one point theta `(P,)`, or many at once `(..., P)`, and gives tensors `(...)`, with the same random
vectors for all. Units: loss per θ².
"""

import warnings
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, autograd

from flatlab.loss import NetworkLoss
from flatlab.objective import Estimate, Numbers, Objective, as_float_tensor, require_finite

WHOLE = 64  # up to this many parameters Lanczos goes through the whole space
WIDTH = 20  # vectors that it keeps of more, or 2k + 1 for k eigenvalues
RESTARTS = 50  # after each of which it takes about WIDTH / 2 new products


class Eigenpairs(NamedTuple):
    """`values (..., k)`, `vectors (..., k, P)` of unit length, and `residuals (..., k)`, the norms ‖H v − λ v‖."""

    values: Tensor
    vectors: Tensor
    residuals: Tensor


class SpectralDensity(NamedTuple):
    """Where the eigenvalues lie: `values (..., draws, steps)` with `weights` that sum to 1 in each draw."""

    values: Tensor
    weights: Tensor

    def density(self, grid: Tensor, width: float) -> Tensor:
        """The share of eigenvalues per unit of λ at each point of `grid (G,)`, blurred by a Gaussian of sd `width`."""
        z = (grid[:, None, None] - self.values[..., None, :, :]) / width
        bumps = torch.exp(-(z**2) / 2) / (width * (2 * torch.pi) ** 0.5)
        return (bumps * self.weights[..., None, :, :]).sum(-1).mean(-1)


def hessian(objective: Objective, theta: Numbers | None = None) -> Tensor:
    """The matrix of second derivatives `H_ij = ∂²L/∂θ_i∂θ_j`, shape `(..., P, P)`; units: loss per θ².

    Takes P Hessian-vector products: meant for P up to a few thousand. Under a change of variable θ = g(u) it becomes
    `JᵀHJ` at a minimum: no measure built on H alone is a property of the function.
    """
    return objective.hessian(theta)


def hvp(objective: Objective, vector: Numbers, theta: Numbers | None = None) -> Tensor:
    """The Hessian-vector product `H v`, shape of `theta`, by double backward; about two gradients.

    For many products at one point keep `product = objective.linearize(theta)` instead.
    """
    return objective.linearize(theta)(vector)


def directional(objective: Objective, vector: Numbers, theta: Numbers | None = None) -> Tensor:
    """The curvature along a direction, `vᵀ H v / vᵀ v`, between λ_min and λ_max; `vector` has the shape of theta.

    Errors: ValueError if `vector` is zero.
    """
    theta = objective.point(theta)
    vector = as_float_tensor(vector, "vector").to(theta)
    if not (vector.norm(dim=-1) > 0).all():
        raise ValueError("vector is zero: a curvature needs a direction, so pass a vector with a positive norm")
    return (vector * hvp(objective, vector, theta)).sum(-1) / (vector**2).sum(-1)


def eigenvalues(
    objective: Objective, theta: Numbers | None = None, k: int = 1, which: str = "largest", steps: int | None = None
) -> Tensor:
    """The k largest eigenvalues of the Hessian, largest first (or `which="smallest"`, smallest first), `(..., k)`.

    "Largest" is algebraic: unlike plain power iteration this never returns a negative eigenvalue of large size.
    λ_max scales with the loss, is divided by a² when θ is stretched a times, and vanishes for cross-entropy as the
    network becomes confident.

    steps: this many products instead of as many as it takes: quick, never above λ_max, within 1 or 2 % after 10.
    Errors: see `eigenpairs`.
    """
    return eigenpairs(objective, theta, k, which, steps).values


def eigenpairs(
    objective: Objective, theta: Numbers | None = None, k: int = 1, which: str = "largest", steps: int | None = None,
    tol: float | None = None, seed: int = 0,
) -> Eigenpairs:  # fmt: skip
    """Eigenvalues, unit eigenvectors and residuals ‖Hv − λv‖ at the `which` end of the spectrum.

    Lanczos with full re-orthogonalisation and thick restarts, for all members at once: P Hessian-vector products up to
    64 parameters; above, 20 for k = 1, and about 10 more after each restart, until every wanted residual is below
    `tol · max|λ|` (1e-8 in float64, 1e-4 in float32), or for 50 restarts, with a warning if one is still above
    `√tol · max|λ|`. It holds 2k + 1 vectors of each member, at least 20. The start is the gradient and noise: no
    eigenvector is missed.

    Errors: ValueError if k is not between 1 and P, `steps` is below k, `which` is unknown, or the loss is not finite.
    Source: Lanczos 1950; Wu and Simon 2000 (thick restarts).
    """
    objective, theta, _ = prepared(objective, theta)
    size = theta.shape[-1]
    if not (int(k) == k and 1 <= k <= size):
        raise ValueError(f"k is {k}: choose 1 to {size}, the number of parameters")
    if which not in ("largest", "smallest"):
        raise ValueError(f'which is {which!r}: choose "largest" or "smallest"')
    if steps is not None and steps < k:
        raise ValueError(f"steps is {steps}: Lanczos needs at least {k}, a product for each eigenvalue")
    found = _lanczos(objective, theta, 1 if which == "largest" else -1, int(k), steps, tol, seed)
    return Eigenpairs(*(t.view(*theta.shape[:-1], *t.shape[1:]) for t in found))


def trace(objective: Objective, theta: Numbers | None = None, samples: int = 30, seed: int = 0) -> Estimate:
    """The trace of the Hessian, `tr H = Σ_i λ_i`, shape `(...)`, by Hutch++ with `samples` Hessian-vector products.

    A third of the products finds the dominant directions Q, a third takes `tr QᵀHQ` exactly, and a third samples the
    rest with random signs; with `samples ≥ P` the trace is exact. `.stderr` is that of the sampled rest: approximate,
    and often too small, because it rests on samples/3 draws. `tr H` is divided by a² when θ is stretched a times.

    Errors: ValueError if `samples < 6`. Source: Meyer, Musco, Musco and Woodruff 2021, algorithm 1.
    """
    objective, theta, _ = prepared(objective, theta)
    if samples < 6:
        raise ValueError(f"samples is {samples}: Hutch++ needs at least 6 Hessian-vector products")
    product, size = objective.linearize(theta), theta.shape[-1]
    if samples >= size:
        units = torch.eye(size, dtype=theta.dtype, device=theta.device)
        return Estimate(sum(product(unit.expand_as(theta))[..., i] for i, unit in enumerate(units)), 0.0)
    sketch, probes = (_signs(theta, samples // 3, seed + offset) for offset in (0, 1))
    basis, _ = torch.linalg.qr(torch.stack([product(s.expand_as(theta)) for s in sketch], -1))  # (..., P, samples/3)
    exact = sum((q * product(q)).sum(-1) for q in basis.unbind(-1))
    probes = probes - (probes @ basis) @ basis.mT  # (..., samples/3, P)
    rest = torch.stack([(p * product(p)).sum(-1) for p in probes.unbind(-2)])
    return Estimate(exact + rest.mean(0), rest.std(0) / len(rest) ** 0.5)


def spectral_density(
    objective: Objective, theta: Numbers | None = None, draws: int = 4, steps: int = 60, seed: int = 0
) -> SpectralDensity:
    """The distribution of all eigenvalues by stochastic Lanczos quadrature: `draws × steps` Hessian-vector products.

    Each draw starts Lanczos at a random vector; the eigenvalues of its small tridiagonal matrix and the squared first
    components of the eigenvectors are nodes and weights of a quadrature rule for the density.
    Errors: ValueError for no draws or steps, or a loss that is not finite.
    Source: Ghorbani, Krishnan and Xiao 2019, section 3.
    """
    objective, theta, _ = prepared(objective, theta)
    if draws < 1 or steps < 1:
        raise ValueError(f"draws is {draws} and steps is {steps}: both must be at least 1")
    space, rules = _Krylov(objective, theta, min(steps, theta.shape[-1]), seed), []
    for draw in range(draws):
        space.grow(_normal(theta, seed + draw).expand_as(space.basis[:, 0]))
        values, vectors = _eigh(space.matrix)
        rules.append((values, vectors[:, 0].square()))
    return SpectralDensity(*(torch.stack(r, 1).view(*theta.shape[:-1], draws, -1) for r in zip(*rules, strict=True)))


class OfNetwork(Objective):
    """An objective made from a `NetworkLoss`, whose parameters, points and batches it shares."""

    def __init__(self, loss: NetworkLoss):
        if not isinstance(loss, NetworkLoss):
            raise ValueError(f"loss is a {type(loss).__name__}: {type(self).__name__} needs a NetworkLoss")
        self.loss, self.dim = loss, loss.dim

    theta = property(lambda self: self.loss.theta)
    source = property(lambda self: self.loss.source)

    def point(self, theta: Numbers | None = None) -> Tensor:
        return self.loss.point(theta)

    def on(self, inputs: Tensor | None, targets: Tensor | None, **state: Any) -> "OfNetwork":
        """The same on a batch; batch norm's statistics are moved by the loss itself, not by what is made from it."""
        if state.get("buffers"):
            state["buffers"] = {name: buffer.clone() for name, buffer in state["buffers"].items()}
        return self._with(self.loss.on(inputs, targets, **state))

    def at(self, theta: Tensor) -> "OfNetwork":
        return self._with(self.loss.at(theta))

    def double(self) -> "OfNetwork":
        return self._with(self.loss.double())

    def _with(self, loss):
        alike = copy(self)
        alike.loss, alike.strict = loss, loss.strict
        return alike


class GaussNewton(OfNetwork):
    """The Gauss-Newton part of a network's Hessian, as an objective: `G = (1/N) Σ_n J_nᵀ (∂²ℓ/∂z²) J_n`.

    It is the Hessian of the loss with the network replaced by its linearisation in θ, so every function of this module
    works on it: `eigenvalues(GaussNewton(loss), k=3)`. Value and gradient are those of the loss. For cross-entropy G is
    the Fisher matrix, with `∂²ℓ/∂z² = diag(p) − p pᵀ`: *why confidence erases curvature*. Positive semi-definite for
    convex ℓ.

    Errors: ValueError unless `loss` is a `NetworkLoss`.
    """

    def _value(self, theta):
        return self.loss(theta)

    def _gradient(self, theta):
        return self.loss.gradient(theta)

    def _linearize(self, theta):
        if not self.loss.fits(theta):
            return lambda v: self.loss.averaged(lambda rows, x, y, v: self._product(rows, x, y)(v), theta, v)
        kept = []
        self.loss.averaged(lambda rows, x, y: kept.append(self._product(rows, x, y)) or rows, theta)
        return lambda v: kept[0](v.reshape(-1, self.dim)).view(v.shape)

    def _product(self, rows, x, y):
        leaf = rows.detach().requires_grad_()
        with torch.enable_grad():
            z = self.loss.forward(leaf, x)
            probe = torch.zeros_like(z, requires_grad=True)  # Jᵀ·probe is linear: its derivative along v is J v
            pulled = autograd.grad(z, leaf, probe, create_graph=True, materialize_grads=True)[0]
            free = z.detach().requires_grad_()
            mean = self.loss.sample_losses(free, y).mean(-1).sum()
            slope = autograd.grad(mean, free, create_graph=True)[0]
        if not slope.requires_grad:  # a loss that is linear in the outputs
            return torch.zeros_like

        def product(v):
            jv = autograd.grad(pulled, probe, v, retain_graph=True)[0]
            bjv = autograd.grad(slope, free, jv, retain_graph=True)[0]
            return autograd.grad(z, leaf, bjv, retain_graph=True, materialize_grads=True)[0]

        return product


def Residual(loss: NetworkLoss) -> Objective:  # noqa: N802
    """What Gauss-Newton leaves out, `H − G = (1/N) Σ_n Σ_k (∂ℓ/∂z_k) ∂²z_k/∂θ²`: it vanishes as the errors do.

    It is `loss - GaussNewton(loss)`: the constant 0 as a function, with the right Hessian.
    """
    return loss - GaussNewton(loss)


def prepared(
    objective: Objective, theta: Numbers | None = None, double: bool = False
) -> tuple[Objective, Tensor, Tensor]:
    """The objective, its point `(..., P)` and the value there, after a check that it is finite.

    Networks in half precision are measured in float64, with `double` all are.
    """
    here = objective.point(theta)
    if double or here.dtype in (torch.float16, torch.bfloat16):
        objective = objective.double()
        here = objective.point(theta)
    here = here[None] if here.ndim == 0 else here
    return objective, here, require_finite(objective(here))


def unit(v: Tensor) -> Tensor:
    """`v (..., P)` with length 1; a zero vector stays."""
    norm = v.norm(dim=-1, keepdim=True)
    return torch.where(norm > 0, v / norm, torch.zeros_like(v))


class _Krylov:
    """Orthonormal vectors `V (R, m + 1, P)` of R members, grown by products, and `matrix = V H Vᵀ (R, m, m)`."""

    def __init__(self, objective, theta, width, seed, sign=1):
        rows, self.seed = theta.reshape(-1, theta.shape[-1]), seed
        linear = objective.linearize(theta)
        self.product = lambda v: sign * linear(v.reshape(theta.shape)).view(rows.shape)
        self.basis = rows.new_zeros(len(rows), width + 1, rows.shape[1])
        self.matrix = rows.new_zeros(len(rows), width, width)

    def grow(self, vector, known=0):
        """Fill the basis from `vector (R, P)` on, behind `known` vectors; the length of what would come next, `(R,)`.

        Where an invariant space is used up, Lanczos goes on in a random direction.
        """
        self.basis[:, known], rest = unit(vector), torch.zeros(())
        for j in range(known, self.matrix.shape[1]):
            before, image = self.basis[:, : j + 1], self.product(self.basis[:, j])
            left, along = _orthogonal(image, before, j - 1 if j > known else 0)
            self.matrix[:, : j + 1, j] = self.matrix[:, j, : j + 1] = along
            rest, scale = left.norm(dim=1), self.matrix.abs().amax((1, 2))
            ended = rest <= 100 * torch.finfo(rest.dtype).eps * scale
            if ended.any():
                noise = _normal(left, self.seed + j + 1)
                left = torch.where(ended[:, None], _orthogonal(noise.expand_as(left), before)[0], left)
            rest = torch.where(ended, torch.zeros_like(rest), rest)
            self.basis[:, j + 1] = unit(left)
        return rest


def _lanczos(objective, theta, sign, k, steps, tol, seed):
    """Of the k largest of `sign · H`: the eigenvalues of H `(R, k)`, vectors `(R, k, P)` and residuals `(R, k)`."""
    size, tol = theta.shape[-1], tol or (1e-8 if theta.dtype == torch.float64 else 1e-4)
    width = min(steps or (size if size <= WHOLE else max(2 * k + 1, WIDTH)), size)
    space = _Krylov(objective, theta, width, seed, sign)
    following = (unit(objective.gradient(theta)) + 0.1 * unit(_normal(theta, seed))).reshape(-1, size)
    known, keep = 0, (k + width) // 2
    for _ in range(1 if steps else RESTARTS):
        rest = space.grow(following, known)
        values, vectors = (t.flip(-1).to(theta) for t in _eigh(space.matrix))
        residuals, scale = rest[:, None] * vectors[:, -1].abs(), values.abs().amax(1, keepdim=True)
        space.basis[:, :keep] = vectors[..., :keep].mT @ space.basis[:, :width]
        if (residuals[:, :k] <= tol * scale).all():
            break
        space.matrix, following, known = torch.diag_embed(values), space.basis[:, width].clone(), keep
    if not steps and (residuals[:, :k] > tol**0.5 * scale).any():
        warnings.warn(f"no convergence in {RESTARTS} restarts: see eigenpairs(...).residuals", stacklevel=4)
    return sign * values[:, :k], space.basis[:, :k], residuals[:, :k]


def _eigh(matrix):
    """Eigenvalues `(R, m)` in rising order and eigenvectors in columns, in float64."""
    matrix = matrix.cpu().double()
    if not torch.isfinite(matrix).all():
        raise ValueError("the Hessian is NaN or infinite at theta: the loss has no second derivative there")
    return torch.linalg.eigh((matrix + matrix.mT) / 2)


def _orthogonal(w, basis, near=0):
    """What is left of `w (R, P)` beside the rows of `basis (R, j, P)`, and its components `(R, j)` along them.

    Two passes, for rounding; the first only over the rows from `near` on, if w has no more than a rounding error along
    the others (Lanczos' recurrence of three terms).
    """
    total = basis.new_zeros(basis.shape[:2])
    for first in (near, 0):
        along = (basis[:, first:] @ w[..., None])[..., 0]
        w = w - (along[:, None] @ basis[:, first:])[:, 0]
        total[:, first:] += along
    return w, total


def _normal(theta, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(theta.shape[-1], generator=generator, dtype=torch.float64).to(theta)


def _signs(theta, count, seed):
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (count, theta.shape[-1]), generator=generator)
    return (2 * bits - 1).to(theta)
