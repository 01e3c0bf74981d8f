"""Benchmark functions with gradient and Hessian derived by hand, their minima and a domain to draw."""

from collections.abc import Callable
from math import hypot, pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from flatlab.objective import Numbers, Objective

SQUARE = ((-3.5, 3.5), (-3.5, 3.5))


class Function(Objective):
    """An `Objective` of one or two variables with derivatives written by hand.

    value, gradient, hessian: functions of the coordinates, one tensor each; in two dimensions `gradient` returns
        `(f_x, f_y)` and `hessian` returns `(f_xx, f_xy, f_yy)`.
    minima: the known minima, the global ones first: `(n, 2)`, or `(n,)` for one variable. domain: `(dim, 2)`, the
        interval that is drawn for each variable. formula: LaTeX.
    """

    def __init__(
        self, name: str, formula: str, value: Callable, gradient: Callable, hessian: Callable, minima: Numbers,
        domain: Numbers,
    ):  # fmt: skip
        self.name, self.formula = name, formula
        self._f, self._df, self._ddf = value, gradient, hessian
        self.domain = torch.as_tensor(domain, dtype=torch.float64).reshape(-1, 2)
        super().__init__(lambda theta: value(*theta.unbind(-1)), len(self.domain))
        self.minima = torch.as_tensor(minima, dtype=torch.float64)

    def __repr__(self):
        return f"<{self.name}: {self.formula}>"

    def _gradient(self, theta):
        parts = self._df(*theta.unbind(-1))
        return _stack(parts if self.dim > 1 else (parts,), theta)

    def _hessian(self, theta):
        parts = self._ddf(*theta.unbind(-1))
        if self.dim == 1:
            return _stack((parts,), theta)[..., None]
        xx, xy, yy = parts
        return _stack((xx, xy, xy, yy), theta).unflatten(-1, (2, 2))

    def _linearize(self, theta):
        hessian = self._hessian(theta)
        return lambda v: (hessian @ v[..., None])[..., 0]


class Map(NamedTuple):
    """A smooth, increasing change of variable `θ = g(u)` with its first two derivatives and its inverse."""

    value: Callable[[Tensor], Tensor]
    first: Callable[[Tensor], Tensor]
    second: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]


def quadratic(h: float = 1.0) -> Function:
    """The parabola `½ h θ²`: curvature `h` everywhere, minimum 0 at 0 (for `h > 0`)."""
    _positive(h=h)
    return Function(
        "quadratic", rf"f(\theta)=\tfrac12\cdot{h:g}\,\theta^2",
        lambda t: h / 2 * t**2, lambda t: h * t, lambda t: h + 0 * t, [0.0], (-2, 2),
    )  # fmt: skip


def double_well(tilt: float = 1.0, centre: float = 0.0) -> Function:
    """Two valleys of depth 0, the left one flat and the right one sharp: `¼ (t² − 1)² e^{tilt·t}`, t = θ − centre.

    Minima at `centre ∓ 1` with curvatures `2 e^{∓tilt}`, so the right one is `e^{2 tilt}` times sharper. Far to the
    left, beyond a third hill, it decays to 0: long steps can escape there.
    """

    def shifted(f):
        return lambda theta: f(theta - centre, (theta - centre) ** 2 - 1)

    return Function(
        "double well", rf"f(\theta)=\tfrac14\,(t^2-1)^2e^{{{tilt:g}\,t}},\; t=\theta{0.0 - centre:+g}",
        shifted(lambda t, q: q**2 * torch.exp(tilt * t) / 4),
        shifted(lambda t, q: q * (4 * t + tilt * q) * torch.exp(tilt * t) / 4),
        shifted(lambda t, q: (12 * t**2 - 4 + 8 * tilt * t * q + tilt**2 * q**2) * torch.exp(tilt * t) / 4),
        [centre - 1, centre + 1], (centre - 2.2, centre + 1.7),
    )  # fmt: skip


def multi_well(k: float = 8.0) -> Function:
    """`(1 − cos kθ)/4`: wells of equal depth and rim height ½, a distance 2π/k apart, each with curvature k²/4.

    Source: the two wells that zeroth-order flatness cannot tell apart, after Zhang et al. 2023 (our closed form).
    """
    _positive(k=k)
    wells = [i * 2 * pi / k for i in sorted(range(-int(k / pi), int(k / pi) + 1), key=abs)]
    return Function(
        "multi well", rf"f(\theta)=\tfrac14(1-\cos {k:g}\theta)",
        lambda t: (1 - torch.cos(k * t)) / 4, lambda t: k * torch.sin(k * t) / 4,
        lambda t: k**2 * torch.cos(k * t) / 4, wells, (-2, 2),
    )  # fmt: skip


def single_well(k: float = 4.0) -> Function:
    """`½ (1 − e^{−kθ²/2}) / (1 − e^{−k/2})`: one well, ½ high at θ = ±1 for every k, curvature k/(2(1 − e^{−k/2}))."""
    _positive(k=k)
    c = 0.5 / (1 - torch.exp(torch.tensor(-k / 2, dtype=torch.float64)).item())
    return Function(
        "single well", rf"f(\theta)=\tfrac12\frac{{1-e^{{-{k:g}\theta^2/2}}}}{{1-e^{{-{k:g}/2}}}}",
        lambda t: c * (1 - torch.exp(-k * t**2 / 2)), lambda t: c * k * t * torch.exp(-k * t**2 / 2),
        lambda t: c * k * (1 - k * t**2) * torch.exp(-k * t**2 / 2), [0.0], (-2, 2),
    )  # fmt: skip


def stretch(factor: float, at: float, width: float = 0.3) -> Map:
    """Stretch the axis `factor` times around `θ = at`, and leave it alone far away.

    `g(u) = u + (1/factor − 1)·width·tanh((u − at)/width)`, so `g(at) = at`, `g′(at) = 1/factor`, and g′ → 1 a few
    widths away. A curvature at `at` is divided by `factor²`.
    """
    _positive(factor=factor, width=width)
    a = 1 / factor - 1

    def tanh(u):
        return torch.tanh((u - at) / width)

    def value(u):
        return u + a * width * tanh(u)

    return Map(
        value,
        lambda u: 1 + a * (1 - tanh(u) ** 2),
        lambda u: -2 * a / width * tanh(u) * (1 - tanh(u) ** 2),
        lambda t: _bisect(value, t, reach=abs(a) * width),
    )


def rescaling(factor: float) -> Map:
    """The uniform stretch `θ = u/factor`: every curvature is divided by `factor²`."""
    _positive(factor=factor)
    return Map(lambda u: u / factor, lambda u: 1 / factor + 0 * u, lambda u: 0 * u, lambda t: t * factor)


def change_variable(f: Function, g: Map) -> Function:
    """The same function over a new axis, `f̃(u) = f(g(u))`, for `f` of one variable.

    `f̃′ = f′·g′` and `f̃″ = f″·g′² + f′·g″`; at a minimum only the first term is left. The minima are `g⁻¹` of the old
    ones, with the same values. Errors: ValueError if `f` has more than one variable.
    """
    if f.dim != 1:
        raise ValueError(f"f is {f.name}, a function of {f.dim} variables: a change of variable needs one")
    return Function(
        f"{f.name} over u", f.formula + r",\;\theta=g(u)",
        lambda u: f._f(g.value(u)),
        lambda u: f._df(g.value(u)) * g.first(u),
        lambda u: f._ddf(g.value(u)) * g.first(u) ** 2 + f._df(g.value(u)) * g.second(u),
        g.inverse(f.minima), g.inverse(f.domain),
    )  # fmt: skip


def _polished(f):
    """The function with its minima, given rounded, to all digits of float64: Newton steps."""
    for _ in range(8):
        f.minima = f.minima - torch.linalg.solve(f.hessian(f.minima), f.gradient(f.minima))
    return f


def _bisect(increasing, target, reach):
    """The u with `increasing(u) = target`, where u lies within `reach` of the target."""
    low, high = target - reach - 1e-12, target + reach + 1e-12
    for _ in range(70):
        middle = (low + high) / 2
        below = increasing(middle) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _stack(parts, theta):
    shape = theta.shape[:-1]
    tensors = [torch.as_tensor(p, dtype=theta.dtype, device=theta.device) for p in parts]
    return torch.stack([t.expand(shape) for t in tensors], dim=-1)


def _positive(**numbers):
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name} is {number}: it must be positive")


def _beale():
    # f = Σ_k r_k² with r_k = c_k − x + x yᵏ; ∂r_k/∂x = yᵏ − 1, ∂r_k/∂y = k x yᵏ⁻¹.
    def residuals(x, y):
        return [(k, c - x + x * y**k, y**k - 1, k * x * y ** (k - 1)) for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))]

    def gradient(x, y):
        return sum(2 * r * rx for _, r, rx, _ in residuals(x, y)), sum(2 * r * ry for _, r, _, ry in residuals(x, y))

    def hessian(x, y):
        xx = sum(2 * rx**2 for _, _, rx, _ in residuals(x, y))
        xy = sum(2 * (rx * ry + r * k * y ** (k - 1)) for k, r, rx, ry in residuals(x, y))
        yy = sum(2 * (ry**2 + (r * k * (k - 1) * x * y ** (k - 2) if k > 1 else 0)) for k, r, _, ry in residuals(x, y))
        return xx, xy, yy

    return Function(
        "beale", "f=(1.5-x+xy)^2+(2.25-x+xy^2)^2+(2.625-x+xy^3)^2",
        lambda x, y: sum(r**2 for _, r, _, _ in residuals(x, y)), gradient, hessian, [[3, 0.5]], SQUARE,
    )  # fmt: skip


sphere = Function(
    "sphere", "f=x^2+y^2",
    lambda x, y: x**2 + y**2, lambda x, y: (2 * x, 2 * y), lambda x, y: (2.0, 0.0, 2.0), [[0, 0]], SQUARE,
)  # fmt: skip
booth = Function(
    "booth", "f=(x+2y-7)^2+(2x+y-5)^2",
    lambda x, y: (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2,
    lambda x, y: (10 * x + 8 * y - 34, 8 * x + 10 * y - 38), lambda x, y: (10.0, 8.0, 10.0), [[1, 3]], SQUARE,
)  # fmt: skip
CAMEL = sqrt(2.1 + sqrt(2.1**2 - 3.5))  # local minima: y = −x/2, and x² is the larger root of x⁴ − 4.2x² + 3.5
three_hump_camel = Function(
    "three-hump camel", r"f=2x^2-1.05x^4+\tfrac16x^6+xy+y^2",
    lambda x, y: 2 * x**2 - 1.05 * x**4 + x**6 / 6 + x * y + y**2,
    lambda x, y: (4 * x - 4.2 * x**3 + x**5 + y, x + 2 * y),
    lambda x, y: (4 - 12.6 * x**2 + 5 * x**4, 1.0, 2.0),
    [[0, 0], [CAMEL, -CAMEL / 2], [-CAMEL, CAMEL / 2]], SQUARE,
)  # fmt: skip
himmelblau = _polished(Function(
    "himmelblau", "f=(x^2+y-11)^2+(x+y^2-7)^2",
    lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2,
    lambda x, y: (4 * x * (x**2 + y - 11) + 2 * (x + y**2 - 7), 2 * (x**2 + y - 11) + 4 * y * (x + y**2 - 7)),
    lambda x, y: (12 * x**2 + 4 * y - 42, 4 * x + 4 * y, 12 * y**2 + 4 * x - 26),
    [[3, 2], [-2.805118, 3.131313], [-3.779310, -3.283186], [3.584428, -1.848127]], SQUARE,
))  # fmt: skip
rosenbrock = Function(
    "rosenbrock", "f=(1-x)^2+100(y-x^2)^2",
    lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
    lambda x, y: (-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)),
    lambda x, y: (2 - 400 * y + 1200 * x**2, -400 * x, 200.0), [[1, 1]], SQUARE,
)  # fmt: skip
beale = _beale()
rastrigin = _polished(Function(
    "rastrigin", r"f=20+x^2-10\cos2\pi x+y^2-10\cos2\pi y",
    lambda x, y: 20 + x**2 - 10 * torch.cos(2 * pi * x) + y**2 - 10 * torch.cos(2 * pi * y),
    lambda x, y: (2 * x + 20 * pi * torch.sin(2 * pi * x), 2 * y + 20 * pi * torch.sin(2 * pi * y)),
    lambda x, y: (2 + 40 * pi**2 * torch.cos(2 * pi * x), 0.0, 2 + 40 * pi**2 * torch.cos(2 * pi * y)),
    sorted(([0.995 * i, 0.995 * j] for i in range(-3, 4) for j in range(-3, 4)), key=lambda p: hypot(*p)), SQUARE,
))  # fmt: skip

SEVEN = (sphere, booth, three_hump_camel, himmelblau, rosenbrock, beale, rastrigin)
