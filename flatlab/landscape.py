"""Slices through a loss: directions that are comparable, lines, and planes."""

import torch
from torch import Tensor

from flatlab.loss import NetworkLoss
from flatlab.objective import Numbers, Objective


def directions(
    objective: Objective, count: int = 2, seed: int = 0, normalise: str = "filter", theta: Numbers | None = None
) -> Tensor:
    """`count` random directions at `theta (P,)`, orthogonal to each other, shape `(count, P)`.

    normalise: "filter" gives every filter (row of a weight) of a network the norm of the same filter of θ, so that
        slices of networks with different scales can be compared; biases and batch-norm weights stay fixed, and so
        does, in further directions, a filter with fewer weights than there are directions.
        "unit" makes each direction one vector of length 1; functions take this form.
    Errors: ValueError for M points, an unknown name, or "filter" without a network. Source: Li et al. 2018, section 4.
    """
    theta = _one(objective, theta)
    if not 1 <= count <= theta.numel():
        raise ValueError(f"count is {count}: choose 1 to {theta.numel()} directions, the number of parameters")
    noise = torch.randn(count, theta.numel(), generator=torch.Generator().manual_seed(seed)).to(theta)
    if normalise == "unit":
        return torch.linalg.qr(noise.T)[0].T
    if normalise != "filter":
        raise ValueError(f'normalise is {normalise!r}: choose "filter" or "unit"')
    if not isinstance(objective, NetworkLoss):
        raise ValueError('objective is not a network and has no filters: use normalise="unit"')
    shapes = [p.shape for p in objective.model.parameters() if p.requires_grad]
    pieces = torch.cat([theta[None], noise]).split([shape.numel() for shape in shapes], 1)
    return torch.cat([_filters(piece, shape) for piece, shape in zip(pieces, shapes, strict=True)], 1)


def line(objective: Objective, direction: Tensor, alphas: Tensor, theta: Numbers | None = None) -> Tensor:
    """The losses `L(θ + α d)` for every α, shape `(len(alphas),)`; a direction between two minima interpolates them."""
    theta = _one(objective, theta)
    if direction.shape != theta.shape:
        raise ValueError(f"direction has shape {tuple(direction.shape)}: it needs that of theta, {tuple(theta.shape)}")
    return objective(theta + alphas.to(theta)[:, None] * direction)


def plane(objective: Objective, pair: Tensor, alphas: Tensor, betas: Tensor, theta: Numbers | None = None) -> Tensor:
    """The losses `L(θ + α d₁ + β d₂)`, shape `(len(betas), len(alphas))`: rows are β, as in an image."""
    theta = _one(objective, theta)
    if pair.shape != (2, *theta.shape):
        raise ValueError(f"pair has shape {tuple(pair.shape)}: it needs two directions, (2, {theta.numel()})")
    a, b = alphas.to(theta), betas.to(theta)
    return objective(theta + a[None, :, None] * pair[0] + b[:, None, None] * pair[1])


def _one(objective, theta):
    theta = objective.point(theta)
    if theta.ndim != 1:
        raise ValueError(f"theta has shape {tuple(theta.shape)}: a slice goes through one point (P,), loss.member(k)")
    return theta


def _filters(piece, shape):
    """Directions for one weight `(count, size)`: orthogonal within each filter, then as long as the filter.

    piece: its values in the first row, one draw in each of the others.
    """
    weight, draws = piece[0], piece[1:]
    if len(shape) < 2:
        return torch.zeros_like(draws)
    rows, draws = weight.view(shape[0], -1), draws.unflatten(1, (shape[0], -1))  # (count, filters, size)
    count = min(len(draws), rows.shape[1])
    basis = torch.linalg.qr(draws.permute(1, 2, 0))[0].permute(2, 0, 1)[:count]
    basis = torch.cat([basis, torch.zeros_like(draws[count:])])
    return (basis * rows.norm(dim=1)[:, None]).flatten(1)
