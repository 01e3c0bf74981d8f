"""The search for the worst point in a ball, shared by the sharpness measures that look for a maximum."""

import math

import torch

from flatlab import curvature
from flatlab.objective import Objective, require_finite


def start(objective, theta, rho):
    """The point `(P,)`, or `(M, P)` for an ensemble, and its finite loss, after checking the radius."""
    theta = objective.point(theta) if objective.members is not None else curvature.one_point(objective, theta)
    if not (rho > 0 and math.isfinite(rho)):
        raise ValueError(f"rho is {rho}: a radius must be positive and finite")
    return theta, require_finite(objective(theta))


def normal(theta, count, seed):
    """`count` standard normal directions `(count, P)` from a generator of their own."""
    if count < 2:
        raise ValueError(f"samples is {count}: an estimate needs at least 2 draws")
    return torch.randn(count, theta.shape[-1], generator=torch.Generator().manual_seed(seed)).to(theta)


def neighbourhood(objective, theta, rho, adaptive):
    """The rise `γ -> L(θ + c γ) − L(θ)` as an objective of its own: every search is a search in a round ball."""
    theta, base = start(objective, theta, rho)
    return _Neighbourhood(objective, theta, theta.abs() if adaptive else torch.ones_like(theta), base)


class _Neighbourhood(Objective):
    def __init__(self, objective, centre, scale, base):
        self.objective, self.centre, self.scale, self.base = objective, centre, scale, base
        self.dim, self.theta = centre.numel(), torch.zeros_like(centre)

    def _value(self, offset):
        return self.objective(self.centre + self.scale * offset) - self.base

    def _gradient(self, offset):
        return self.scale * self.objective.gradient(self.centre + self.scale * offset)

    def _linearize(self, offset):
        product = self.objective.linearize(self.centre + self.scale * offset)
        return lambda v: self.scale * product(self.scale * v)


def best(value, slope, local, rho, norm, starts, steps, seed):
    """The largest value found in the ball by ascents from the gradient, ± the top eigenvector and random starts."""
    if norm not in (2, math.inf):
        raise ValueError(f"norm is {norm}: choose 2 or math.inf")
    zero = local.theta
    top = curvature.eigenpairs(local, zero, tol=1e-4, seed=seed).vectors[0]
    directions = [local.gradient(zero), top, -top, *normal(zero, max(starts, 2), seed)[:starts]]
    return max(_ascend(value, slope, d, rho, norm, steps) for d in directions if d.norm() > 0)


def _ascend(value, slope, direction, rho, norm, steps):
    """From the best point of the ray to the rim, projected ascent in which a step that does not help is halved."""
    ray = [rho * share / 8 * _unit(direction, norm) for share in range(8, 0, -1)]
    best, offset = max(((value(point).item(), point) for point in ray), key=lambda pair: pair[0])
    step, gradient = rho / 2, slope(offset)
    for _ in range(steps):
        if not gradient.norm() > 0:
            break
        trial = _project(offset + step * _unit(gradient, norm), rho, norm)
        found = value(trial).item()
        if found > best:
            best, offset, gradient = found, trial, slope(trial)
        else:
            step /= 2
    return best


def _unit(direction, norm):
    return direction.sign() if norm == math.inf else direction / direction.norm()


def _project(offset, rho, norm):
    if norm == math.inf:
        return offset.clamp(-rho, rho)
    return offset if offset.norm() <= rho else offset * (rho / offset.norm())
