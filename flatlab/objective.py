"""The one idea of the course: everything that can be minimised is a scalar function of a parameter vector."""

import math
from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
from torch import Tensor, autograd

Product = Callable[[Tensor], Tensor]


class Estimate(float):
    """A number that carries its standard error in `.stderr` (NaN where it is unknown)."""

    stderr: float

    def __new__(cls, value: float, stderr: float = math.nan):
        self = super().__new__(cls, value)
        self.stderr = float(stderr)
        return self

    def __getnewargs__(self):
        return float(self), self.stderr

    def __repr__(self):
        return f"{float(self):.6g} ± {self.stderr:.2g}"


class Objective:
    """A scalar function of a parameter vector, `theta (..., P) -> (...)`, with its first two derivatives.

    function: torch operations that map `(..., P)` to `(...)`, e.g. `lambda t: (t**2).sum(-1)`; members of a batch must
        not mix. Derivatives are taken by double backward unless a subclass knows better.
    dim: P, or None if any length will do. Only with `dim=1` a float or 0-d tensor is a point too, and then every
        result is 0-d.
    theta: the current parameters `(P,)`, used wherever `theta` is left out.

    Lists become float64; tensors and arrays keep their floating type. Errors: ValueError for a missing point, a
    wrong shape, an integer tensor, or (in derivatives) a loss that is not finite.
    """

    theta: Tensor | None = None
    dim: int | None = None
    members: "list[Objective] | None" = None  # the objectives that an ensemble consists of

    def __init__(self, function: Callable[[Tensor], Tensor], dim: int | None = None, theta=None):
        self.function, self.dim = function, dim
        self.theta = None if theta is None else self.point(theta)

    def __call__(self, theta=None) -> Tensor:
        """The value `(...)` at `theta (..., P)`."""
        return self._value(self._rows(self.point(theta)))

    def gradient(self, theta=None) -> Tensor:
        """The gradient `∂f/∂θ_i`, shape `(..., P)`."""
        theta = self.point(theta)
        gradient = self._gradient(self._rows(theta))
        return gradient[0] if theta.ndim == 0 else gradient

    def linearize(self, theta=None) -> Product:
        """The map `v -> H v` at `theta`: prepared once, then cheap to call; `v` has the shape of `theta`."""
        theta = self.point(theta)
        product = self._linearize(self._rows(theta))

        def checked(v):
            v = torch.as_tensor(v, dtype=theta.dtype, device=theta.device)
            if v.shape != theta.shape:
                raise ValueError(
                    f"the vector v has shape {tuple(v.shape)}: it needs the shape of theta, {tuple(theta.shape)}"
                )
            return product(self._rows(v)).view(theta.shape)

        return checked

    def hvp(self, theta, v) -> Tensor:
        """The Hessian-vector product `H v`, shape of `theta`."""
        return self.linearize(theta)(v)

    def hessian(self, theta=None) -> Tensor:
        """The Hessian `∂²f/∂θ_i∂θ_j`, shape `(..., P, P)`."""
        theta = self.point(theta)
        hessian = self._hessian(self._rows(theta))
        return hessian[0, 0] if theta.ndim == 0 else hessian

    def point(self, theta=None) -> Tensor:
        """`theta` as a tensor `(..., P)`, checked; the current parameters if it is left out."""
        if theta is None:
            if self.theta is None:
                raise ValueError("theta is missing: this objective has no current parameters, so pass a point")
            return self.theta
        theta = as_float_tensor(theta, "theta")
        if theta.ndim == 0 and self.dim != 1:
            raise ValueError(f"theta is a single number: pass a vector of {self.dim or 'all'} parameters")
        if theta.ndim and self.dim is not None and theta.shape[-1] != self.dim:
            fix = "theta[:, None]" if self.dim == 1 else f"(..., {self.dim})"
            raise ValueError(f"theta has shape {tuple(theta.shape)}: its last axis holds the parameters, so use {fix}")
        return theta

    @staticmethod
    def _rows(theta):
        return theta[None] if theta.ndim == 0 else theta

    def _value(self, theta):
        value = self.function(theta)
        if value.shape != theta.shape[:-1]:
            raise ValueError(
                f"function returned shape {tuple(value.shape)} for theta {tuple(theta.shape)}: "
                f"it must return one number per vector, shape {tuple(theta.shape[:-1])}"
            )
        return value

    def _gradient(self, theta):
        return self._slope(theta.detach().requires_grad_(), create_graph=False)

    def _slope(self, theta, create_graph):
        with torch.enable_grad():
            value = require_finite(self._value(theta)).sum()
        if not value.requires_grad:
            return torch.zeros_like(theta)
        return autograd.grad(value, theta, create_graph=create_graph, materialize_grads=True)[0]

    def _linearize(self, theta):
        theta = theta.detach().requires_grad_()
        slope = self._slope(theta, create_graph=True)
        if not slope.requires_grad:  # an affine function
            return torch.zeros_like
        return lambda v: autograd.grad(slope, theta, v, retain_graph=True, materialize_grads=True)[0]

    def _hessian(self, theta):
        product, units = self._linearize(theta), torch.eye(theta.shape[-1], dtype=theta.dtype, device=theta.device)
        return torch.stack([product(unit.expand_as(theta).contiguous()) for unit in units], dim=-2)


def for_members(measure):
    """Let a measure of one objective take an ensemble too, and return a list with one value per member."""

    @wraps(measure)
    def each(objective, *arguments, **options):
        members = getattr(objective, "members", None)
        if members is None:
            return measure(objective, *arguments, **options)
        return [measure(member, *arguments, **options) for member in members]

    return each


def require_finite(loss: Tensor) -> Tensor:
    """`loss`, or a ValueError if it is NaN or infinite anywhere."""
    if not torch.isfinite(loss).all():
        raise ValueError(
            "the loss is NaN or infinite at theta or in the neighbourhood that is searched: "
            "check that the training did not diverge, that the inputs are finite, and that the radius is not huge"
        )
    return loss


def as_float_tensor(values, name: str) -> Tensor:
    """`values` as a floating tensor; integer tensors are refused because they have no derivative."""
    if isinstance(values, Tensor | np.ndarray):
        tensor = torch.as_tensor(values)
        if not tensor.is_floating_point():
            raise ValueError(f"{name} holds {tensor.dtype}, which has no derivative: convert it with .double()")
        return tensor
    try:
        return torch.as_tensor(np.asarray(values, dtype=float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers of one shape, e.g. [3.0, 2.0]; got {values!r}") from error
