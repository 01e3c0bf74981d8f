"""The one idea of the course: everything that can be minimised is a scalar function of a parameter vector."""

import math
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, autograd

Product = Callable[[Tensor], Tensor]
Numbers = Any  # whatever becomes a tensor: a tensor, an array, a list of numbers, a number


class Estimate(Tensor):
    """Numbers `(...)` with their standard errors in `.stderr`, of the same shape (NaN where it is unknown).

    Formats like a number where it is one, and fills a pandas column with numbers; whatever is computed from it is an
    ordinary tensor.
    """

    stderr: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __new__(cls, value: Numbers, stderr: Numbers = math.nan):
        value = torch.as_tensor(value).detach()
        self = value.clone().as_subclass(cls)
        self.stderr = torch.as_tensor(stderr, dtype=value.dtype, device=value.device).expand(value.shape).clone()
        return self

    def __reduce_ex__(self, _):
        return Estimate, (self.as_subclass(Tensor), self.stderr)

    def __deepcopy__(self, _):
        return Estimate(self, self.stderr)

    def __format__(self, spec):
        return format(self.item(), spec) if self.ndim == 0 else super().__format__(spec)

    def __repr__(self, **_):
        if self.ndim == 0:
            return f"{self.item():.6g} ± {self.stderr.item():.2g}"
        return f"{self.as_subclass(Tensor)!r} ± {self.stderr!r}"

    __str__ = __repr__


class Objective:
    """A scalar function of a parameter vector, `theta (..., P) -> (...)`, with its first two derivatives.

    function: torch operations that map `(..., P)` to `(...)`, e.g. `lambda t: (t**2).sum(-1)`; members of a batch must
        not mix. Derivatives are taken by double backward unless a subclass knows better.
    dim: P, or None if any length will do. Only with `dim=1` a float or 0-d tensor is a point too, and then every
        result is 0-d.
    theta: the current parameters `(P,)`, or `(M, P)` of M members, used wherever `theta` is left out.

    Objectives of the same parameters add and subtract, and are multiplied by a number or by one number per member
    `(M,)`: `loss + 0.1 * kappa`. Lists become float64; tensors and arrays keep their floating type. Errors: ValueError
    for a missing point, a wrong shape, an integer tensor, or (in derivatives) a loss that is not finite.
    """

    dim: int | None = None
    noise: Callable[[], Tensor]  # in a rule of descent: standard normals (M, P), each member's from its own generator
    strict = True  # derivatives refuse a loss that is not finite; in training a diverged member must not stop the rest

    def __init__(self, function: Callable[[Tensor], Tensor], dim: int | None = None, theta: Numbers | None = None):
        self.function, self.dim = function, dim
        self._theta = None if theta is None else self.point(theta)

    @property
    def theta(self) -> Tensor | None:
        """The current parameters."""
        return self._theta

    @property
    def source(self) -> Any:
        """The `NetworkLoss` whose data a batch is drawn from, or None."""
        return None

    def at(self, theta: Tensor) -> "Objective":
        """The same objective with other current parameters `(..., P)`."""
        alike = copy(self)
        alike._theta = self.point(theta)
        return alike

    def __call__(self, theta: Numbers | None = None) -> Tensor:
        """The value `(...)` at `theta (..., P)`."""
        return self._value(self._rows(self.point(theta)))

    def gradient(self, theta: Numbers | None = None) -> Tensor:
        """The gradient `∂f/∂θ_i`, shape `(..., P)`."""
        theta = self.point(theta)
        gradient = self._gradient(self._rows(theta))
        return gradient[0] if theta.ndim == 0 else gradient

    def linearize(self, theta: Numbers | None = None) -> Product:
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

    def hvp(self, theta: Numbers | None, v: Numbers) -> Tensor:
        """The Hessian-vector product `H v`, shape of `theta`."""
        return self.linearize(theta)(v)

    def hessian(self, theta: Numbers | None = None) -> Tensor:
        """The Hessian `∂²f/∂θ_i∂θ_j`, shape `(..., P, P)`."""
        theta = self.point(theta)
        hessian = self._hessian(self._rows(theta))
        return hessian[0, 0] if theta.ndim == 0 else hessian

    def on(self, inputs: Tensor | None, targets: Tensor | None, **state: Any) -> "Objective":
        """The objective of one batch; one without data stays what it is."""
        alike = copy(self)
        alike.strict = False
        return alike

    def double(self) -> "Objective":
        """The objective in float64, for differences that nearly cancel; a plain function has the type of its theta."""
        return self

    def point(self, theta: Numbers | None = None) -> Tensor:
        """`theta` as a tensor `(..., P)`, checked; the current parameters if it is left out."""
        if theta is None:
            theta = self.theta
            if theta is None:
                raise ValueError("theta is missing: this objective has no current parameters, so pass a point")
            return theta
        theta = as_float_tensor(theta, "theta")
        if theta.ndim == 0 and self.dim != 1:
            raise ValueError(f"theta is a single number: pass a vector of {self.dim or 'all'} parameters")
        if theta.ndim and self.dim is not None and theta.shape[-1] != self.dim:
            fix = "theta[:, None]" if self.dim == 1 else f"(..., {self.dim})"
            raise ValueError(f"theta has shape {tuple(theta.shape)}: its last axis holds the parameters, so use {fix}")
        return theta

    def __add__(self, other: "Objective") -> "Objective":
        return Sum([*self._parts(), *_parts(other)])

    def __sub__(self, other: "Objective") -> "Objective":
        return self + -1.0 * other

    def __mul__(self, scale: "float | Tensor") -> "Objective":
        if isinstance(scale, Objective):
            raise ValueError("an objective is multiplied by a number, or by one number per member (M,)")
        return Sum([(scale * s, part) for s, part in self._parts()])

    __rmul__ = __mul__

    def _parts(self) -> "list[tuple[Any, Objective]]":
        return [(1.0, self)]

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
            value = self._value(theta)
        if self.strict:
            require_finite(value)
        if not value.requires_grad:
            return torch.zeros_like(theta)
        return autograd.grad(value.sum(), theta, create_graph=create_graph, materialize_grads=True)[0]

    def _linearize(self, theta):
        theta = theta.detach().requires_grad_()
        slope = self._slope(theta, create_graph=True)
        if not slope.requires_grad:  # an affine function
            return torch.zeros_like
        return lambda v: autograd.grad(slope, theta, v, retain_graph=True, materialize_grads=True)[0]

    def _hessian(self, theta):
        product, units = self._linearize(theta), torch.eye(theta.shape[-1], dtype=theta.dtype, device=theta.device)
        return torch.stack([product(unit.expand_as(theta).contiguous()) for unit in units], dim=-2)


class Sum(Objective):
    """`Σ_i s_i f_i(θ)`, what `+ - *` make: the parts share their parameters; s_i is a number or one per member `(M,)`.

    The current parameters are those of the first part that has some; batches are drawn from the first that has data.
    """

    def __init__(self, parts: "list[tuple[Any, Objective]]"):
        self.parts = parts
        dims = {part.dim for _, part in parts if part.dim is not None}
        if len(dims) > 1:
            raise ValueError(f"the objectives have {' and '.join(map(str, sorted(dims)))} parameters: add only those "
                             "of the same parameters")  # fmt: skip
        self.dim = next(iter(dims), None)

    @property
    def source(self) -> Any:
        return next((part.source for _, part in self.parts if part.source is not None), None)

    @property
    def inputs(self) -> Tensor:
        return self.source.inputs

    @property
    def targets(self) -> Tensor:
        return self.source.targets

    @property
    def theta(self) -> Tensor | None:
        return next((theta for _, part in self.parts if (theta := part.theta) is not None), None)

    def point(self, theta: Numbers | None = None) -> Tensor:
        for _, part in self.parts:
            if theta is not None or part.theta is not None:
                theta = part.point(theta)
        return super().point(theta)

    def on(self, inputs: Tensor | None, targets: Tensor | None, **state: Any) -> "Sum":
        alike = copy(self)
        alike.parts = []
        for s, part in self.parts:
            alike.parts.append((s, part.on(inputs, targets, **state)))
            if part.source is part and state.get("buffers"):  # a second loss leaves batch norm's statistics alone
                state["buffers"] = {name: buffer.clone() for name, buffer in state["buffers"].items()}
        return alike

    def double(self) -> "Sum":
        return Sum([(s, part.double()) for s, part in self.parts])

    def at(self, theta: Tensor) -> "Sum":
        alike = copy(self)
        alike.parts = [(s, part.at(theta)) for s, part in self.parts]
        return alike

    def _parts(self):
        return self.parts

    def _value(self, theta):
        return sum(_scale(s, 0) * part._value(theta) for s, part in self.parts)

    def _gradient(self, theta):
        return sum(_scale(s, 1) * part._gradient(theta) for s, part in self.parts)

    def _linearize(self, theta):
        products = [(_scale(s, 1), part._linearize(theta)) for s, part in self.parts]
        return lambda v: sum(s * product(v) for s, product in products)


def require_finite(loss: Tensor) -> Tensor:
    """`loss`, or a ValueError if it is NaN or infinite anywhere."""
    if not torch.isfinite(loss).all():
        raise ValueError(
            "the loss is NaN or infinite at theta or in the neighbourhood that is searched: "
            "check that the training did not diverge, that the inputs are finite, and that the radius is not huge"
        )
    return loss


def as_float_tensor(values: Any, name: str) -> Tensor:
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


def _parts(other):
    if not isinstance(other, Objective):
        raise ValueError(f"{other!r} is no objective: add objectives of the same parameters, e.g. loss + 0.1 * kappa")
    return other._parts()


def _scale(s, axes):
    """A factor in a shape that multiplies values `(..., M)`, or gradients `(..., M, P)` with one more axis."""
    return s[(..., *[None] * axes)] if isinstance(s, Tensor) and s.ndim else s
