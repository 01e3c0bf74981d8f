"""Every sharpness measure of the course. Each says what leaves it unchanged, and where it fails.

Everything takes one point theta `(P,)`, or many at once `(..., P)`, and gives tensors `(...)`; members share the random
numbers of estimates.
"""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, autograd, nn

from flatlab import curvature
from flatlab.curvature import OfNetwork, prepared, unit
from flatlab.loss import NetworkLoss
from flatlab.objective import Estimate, Numbers, Objective, require_finite

if TYPE_CHECKING:
    import pandas as pd

CHEAP = ("train loss", "gradient norm", "lambda max", "relative flatness", "fisher rao")


NOT_LAST = "head {!r} does not produce the outputs of model: name the linear layer that is the last operation, head=…"


class Undefined(ValueError):
    """A measure that this network or loss does not have."""


def gradient_norm(objective: Objective, theta: Numbers | None = None) -> Tensor:
    """How steep the loss is at the point itself, `‖∇L(θ)‖₂`; units: loss per θ. Zero at every minimum, sharp or flat.

    Shown beside every sharpness, because a measure of curvature means little where the slope is not small.
    """
    return objective.gradient(theta).norm(dim=-1)


def random_direction(
    objective: Objective, theta: Numbers | None = None, rho: float = 0.005, samples: int = 100, seed: int = 0,
    antithetic: bool = False,
) -> Estimate:  # fmt: skip
    """The mean change of the loss a random step away, `E |L(θ + ε) − L(θ)| / ρ`, `ε = ρ g/√P`, g normal, so ‖ε‖ ≈ ρ.

    `antithetic`: `|E ½(L(θ+ε) + L(θ−ε)) − L(θ)| / ρ` instead, which has no gradient term and tends to ρ tr H/(2P).
    Units: loss per θ. `.stderr` is over the draws. Unchanged by rotations of θ; not by any rescaling. Networks whose
    differences drown in the rounding of single precision are measured in float64.
    Fails: for small ρ it is a *gradient norm*, sqrt(2/π)‖∇L‖/√P; curvature takes over only from about
    ρ* = 2 sqrt(2/π) ‖∇L‖ √P / tr H. One draw has a relative sd of 76 %.
    Source: the "SAM-sharpness" of Mason-Williams et al. 2025 (released code).
    """

    def change(f, at, base):
        steps = rho * _normal(at, samples, seed) / at.shape[-1] ** 0.5
        if antithetic:
            return _pairs(f, at, base, steps)
        return torch.stack([(require_finite(f(at + step)) - base).abs() for step in steps])

    found = _expected(objective, theta, rho, change)
    return Estimate(found.abs() / rho, found.stderr / rho)


def average(
    objective: Objective, theta: Numbers | None = None, rho: float = 0.05, samples: int = 100, seed: int = 0,
    adaptive: bool = False,
) -> Estimate:  # fmt: skip
    """The expected rise of the loss under weight noise, `E[L(θ + δ)] − L(θ)`, `δ_i = ρ c_i g_i`, c = 1 or |θ_i|.

    ρ is the sd of *each coordinate* (‖δ‖ ≈ ρ√P). Tends to `(ρ²/2) Σ_i c_i² H_ii` for small ρ. Pairs ±δ remove the
    gradient term; float64 as in `random_direction`. Units: loss. `adaptive` is unchanged by layer and neuron rescaling
    of ReLU networks; both forms change with the scale of the logits, and the plain one with any rescaling.
    Source: Andriushchenko et al. 2023, section 2 (S_avg).
    """

    def change(f, at, base):
        scale = at.abs() if adaptive else torch.ones_like(at)
        return _pairs(f, at, base, (rho * scale * step for step in _normal(at, samples, seed)))

    return _expected(objective, theta, rho, change)


def one_step(objective: Objective, theta: Numbers | None = None, rho: float = 0.05) -> Tensor:
    """SAM's own look around: the rise after one step uphill, `L(θ + ρ ∇L/‖∇L‖) − L(θ)`; units: loss.

    About ρ‖∇L‖ away from a minimum. Where the gradient is zero, as at an exact minimum, there is no direction: such
    members are NaN. Errors: ValueError if that is so of all: use `worst_case` there. Source: Foret et al. 2021.
    """
    objective, theta, base = _start(objective, theta, rho)
    gradient = objective.gradient(theta)
    some = gradient.norm(dim=-1) > 0
    if not some.any():
        raise Undefined("the gradient is zero at theta, so there is no direction uphill: use sharpness.worst_case")
    return torch.where(some, require_finite(objective(theta + rho * unit(gradient))) - base, math.nan)


def worst_case(
    objective: Objective, theta: Numbers | None = None, rho: float = 0.05, adaptive: bool = False, norm: float = 2,
    starts: int = 2, steps: int = 20, seed: int = 0,
) -> Tensor:  # fmt: skip
    """The largest rise of the loss within radius ρ, `max_{‖δ/c‖_p ≤ ρ} L(θ + δ) − L(θ)`, c = 1 or |θ_i|; units: loss.

    `norm`: p = 2 (ρ is the length of δ) or `math.inf` (ρ bounds each coordinate). The best of several projected
    ascents: along the gradient, ± the top eigenvector, and `starts` random directions; so it is a lower bound of the
    maximum, and positive at every strict minimum. On a quadratic at its minimum it is ½ρ²λ_max exactly.
    `adaptive` is unchanged by layer and neuron rescaling of ReLU networks. Both change with the scale of the logits;
    away from a minimum and for small ρ it is ρ‖∇L‖. Errors: ValueError for ρ ≤ 0, another norm, or a loss that is
    not finite. Source: Foret et al. 2021; Andriushchenko et al. 2023 (S_max).
    """
    rise = _Rise(objective, theta, rho, adaptive)
    return _highest(rise, rise.gradient, rise, rho, norm, starts, steps, seed)


def first_order(
    objective: Objective, theta: Numbers | None = None, rho: float = 0.05, starts: int = 2, steps: int = 20,
    seed: int = 0,
) -> Tensor:  # fmt: skip
    """The steepest slope within radius ρ, `R₁ = ρ max_{‖δ‖ ≤ ρ} ‖∇L(θ + δ)‖`; units: loss.

    Never below `worst_case` (mean value theorem), and ρ²λ_max on a quadratic at its minimum. It sees narrow wells that
    all have the same rim height. Same search as `worst_case`, uphill on ‖∇L‖. Source: Zhang et al. 2023 (GAM).
    """
    rise = _Rise(objective, theta, rho, adaptive=False)

    def slope(offset):
        return rise.hvp(offset, unit(rise.gradient(offset)))

    return _highest(lambda offset: rho * gradient_norm(rise, offset), slope, rise, rho, 2, starts, steps, seed)


def fisher_rao_norm(model: nn.Module | NetworkLoss, inputs: Any = None, targets: Any = None) -> Tensor:
    """The Fisher-Rao norm `sqrt( mean_n ⟨θ, ∇ℓ_n(θ)⟩² )`, from its definition: one directional derivative per sample.

    Takes a network with `inputs (N, ...)` and class numbers `targets (N,)`, or a `NetworkLoss` (of any loss). Units:
    loss. Unchanged by layer rescaling of ReLU networks; changes with the scale of the logits, and near interpolation it
    follows the train loss. Source: Liang et al. 2019.
    """
    loss = _loss(model, inputs, targets)

    def radial(rows, x, y):  # ⟨θ, ∇ℓ_n⟩ is the derivative of ℓ_n along θ: that of Jᵀu in u, times θ
        leaf = rows.detach().requires_grad_()
        with torch.enable_grad():
            losses = require_finite(loss.sample_losses(loss.forward(leaf, x), y))
            probe = torch.zeros_like(losses, requires_grad=True)
            pulled = autograd.grad(losses, leaf, probe, create_graph=True, materialize_grads=True)[0]
        return autograd.grad(pulled, probe, rows)[0]

    return loss.collected(radial).square().mean(-1).sqrt()


def logit_fisher_rao(
    model: nn.Module | NetworkLoss, inputs: Any = None, targets: Any = None, layers: int | None = None
) -> Tensor:
    """The released formula for the Fisher-Rao norm, `(L+1) · sqrt( mean_n (⟨p_n, z_n⟩ − z_{n,y_n})² )`, for comparison.

    `layers` L: by default the number of linear and convolutional layers. For a bias-free feed-forward ReLU network
    the exact factor is L; with biases, shortcuts or batch norm no factor is exact. Use `fisher_rao_norm`.
    """
    loss = _loss(model, inputs, targets)
    _need_softmax(loss, "logit_fisher_rao")
    if layers is None:
        layers = sum(isinstance(m, nn.Linear | nn.modules.conv._ConvNd) for m in loss.model.modules())

    def error(rows, x, y):
        z = require_finite(loss.forward(rows, x))
        return (z.softmax(-1) * z).sum(-1) - z.gather(-1, y.to(z.device).expand(z.shape[:-1])[..., None])[..., 0]

    return (layers + 1) * loss.collected(error).square().mean(-1).sqrt()


def relative_flatness(
    model: nn.Module | NetworkLoss, inputs: Any = None, targets: Any = None, normalise: bool = True,
    head: str | None = None,
) -> Tensor:  # fmt: skip
    """Relative flatness of the last linear layer, `κ = Σ_kl ⟨w_k, w_l⟩ tr H_kl`, in closed form for softmax CE:

    `κ = ½ mean_n ‖φ_n‖² Σ_ij p_ni p_nj ‖w_i − w_j‖²`, φ the features in front of the head, w_i its rows, p softmax.

    `normalise` divides each feature by its sd over the whole set and multiplies the column of W by it (sd 1 for dead
    features). `head` names the layer, by default the last `nn.Linear`. Scale: mean over samples (the released code
    sums over batches). Biases do not enter, and labels do not matter.
    Raw κ is unchanged by layer rescaling, rotations of φ and class shifts of W; not by unequal neuron scales.
    Normalised κ: also by neuron scales (unless features are dead: their weights keep their scale), but not by
    rotations. Neither by a shift φ→φ+a, b→b−Wa; both change with the scale of the logits and vanish with confidence.
    Errors: ValueError if the head is not found or is not the last operation. Source: Petzka et al. 2021.
    """
    return RelativeFlatness(_loss(model, inputs, targets), normalise, head)()


class RelativeFlatness(OfNetwork):
    """`relative_flatness` as an objective of the weights, so that it can be a penalty: `loss + 0.1 * kappa`.

    Differentiable through the features and the head's weight; on a batch it sees the batch's features. Its derivatives
    keep the graph of all samples. Errors: ValueError unless the loss is "cross_entropy" and the head is found.
    """

    def __init__(self, loss: NetworkLoss, normalise: bool = True, head: str | None = None):
        super().__init__(loss)
        _need_softmax(loss, "relative flatness")
        self.normalise, self.head = normalise, _head(loss.model, head)

    def weight(self, theta: Tensor) -> Tensor:
        """The head's weight `(..., K, d)`."""
        few = self.loss.first(2)
        return few.averaged(lambda rows, x, y: few.features(rows, x, self.head)[1], theta)

    def _value(self, theta):
        weights: list[Tensor] = []

        def ends(rows, x, y):  # features and outputs side by side, (R, N, d + K)
            features, weight, _, z = self.loss.features(rows, x, self.head)
            if features.shape[:-1] != z.shape[:-1] or weight.shape[-2] != z.shape[-1]:
                raise Undefined(NOT_LAST.format(self.head))
            weights.append(weight)
            return torch.cat([features, z], -1)

        both = self.loss.collected(ends, theta)
        whole = len(weights) == 1  # all networks and samples in one piece
        weight = weights[0].view(*both.shape[:-2], *weights[0].shape[1:]) if whole else self.weight(theta)
        features, z = both.split([weight.shape[-1], weight.shape[-2]], -1)
        if self.strict:
            self._check(features, weight, require_finite(z))
        return self._closed_form(features, weight, z)

    def _closed_form(self, features, weight, z):
        if self.normalise:
            variance = features.var(-2, correction=0, keepdim=True)
            sd = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()
            features, weight = features / sd, weight * sd
        p, gaps = z.softmax(-1), (weight[..., :, None, :] - weight[..., None, :, :]).square().sum(-1)
        spread = ((p @ gaps) * p).sum(-1) / 2  # the variance of w under p; no cancellation near one-hot predictions
        return (features.square().sum(-1) * spread).mean(-1)

    def _check(self, features, weight, z):
        """Are the outputs `W φ` and a constant?"""
        bias = z - features @ weight.mT
        size = z.abs().max() + bias.abs().max()
        if (bias - bias[..., :1, :]).abs().max() > 1e4 * torch.finfo(z.dtype).eps * size:
            raise Undefined(NOT_LAST.format(self.head))


def table(
    losses: Objective | dict[str, Objective], columns: Sequence[str] = CHEAP, subset: int | None = None,
    rho: float = 0.05, draws: int = 40, products: int = 30, steps: int | None = None, seed: int = 0,
) -> "pd.DataFrame":  # fmt: skip
    """One row per network, in every notebook and record: a DataFrame with the named measures as its columns.

    losses: one objective, of one network or of M, or `{"name": objective}` (rows by name, and by number in each of M).
    columns: keys of `SYMBOLS`, which holds the symbols for figures. Estimates have a column "… stderr" beside them.
    What an objective does not have (softmax, a linear head, a finite loss) is NaN.
    subset: all but train loss, relative flatness, logit Fisher-Rao and norms is measured on the first `subset` samples.
    rho: radius of one step, worst cases and first order, sd of the (adaptive) weight noise; a random direction has the
    paper's 0.005. draws: of random directions; half as many pairs of noise. products: of the trace. steps: of λ_max, by
    default as many as it takes. Errors: ValueError for an unknown column; those of the measures.
    """
    import pandas as pd

    if unknown := [name for name in columns if name not in SYMBOLS]:
        raise ValueError(f"columns names {', '.join(map(repr, unknown))}: choose from {', '.join(SYMBOLS)}")
    options = SimpleNamespace(rho=rho, draws=draws, products=products, steps=steps, seed=seed)
    named = losses if isinstance(losses, dict) else {"": losses}
    frames = {name: pd.DataFrame(_rows(loss, columns, subset, options)) for name, loss in named.items()}
    if not isinstance(losses, dict):
        return frames[""]
    rows = pd.concat(frames)
    return rows.droplevel(1) if max(map(len, frames.values())) == 1 else rows


def _rows(loss, columns, subset, options):
    """`{column: one number per network}`; members whose loss is not finite are measured at 0 and struck out."""
    value, found = loss(), {}
    finite = torch.isfinite(value)
    if not finite.all():
        loss = loss.at(torch.where(finite[..., None], loss.point(), 0.0))
    part = loss.first(subset) if subset and isinstance(loss, NetworkLoss) else loss
    for name in columns:
        try:
            measured = _COLUMNS[name][1](loss, part, options)
        except Undefined:
            measured = torch.tensor(math.nan)
        found[name] = measured
        if isinstance(measured, Estimate):
            found[f"{name} stderr"] = measured.stderr
    return {name: torch.where(finite, m.to(value.device), math.nan).flatten().tolist() for name, m in found.items()}


# What `table` knows, by the names that records and statistics use: the symbol for figures, and the measure.
_COLUMNS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "train loss": ("train loss", lambda f, part, o: f()),
    "subset loss": ("train loss on the subset", lambda f, part, o: part()),
    "gradient norm": ("‖∇L‖", lambda f, part, o: gradient_norm(part)),
    "lambda max": ("λ_max", lambda f, part, o: curvature.eigenvalues(part, steps=o.steps)[..., 0]),
    "trace": ("tr H", lambda f, part, o: curvature.trace(part, samples=o.products, seed=o.seed)),
    "random direction": ("random direction", lambda f, part, o: random_direction(part, samples=o.draws, seed=o.seed)),
    "weight noise": ("weight noise", lambda f, part, o: average(part, None, o.rho, max(2, o.draws // 2), o.seed, True)),
    "one step": ("one step", lambda f, part, o: one_step(part, rho=o.rho)),
    "worst case": ("worst case", lambda f, part, o: worst_case(part, rho=o.rho, seed=o.seed)),
    "adaptive worst case": ("adaptive worst case", lambda f, part, o: worst_case(part, None, o.rho, True, seed=o.seed)),
    "first order": ("first order", lambda f, part, o: first_order(part, rho=o.rho, seed=o.seed)),
    "fisher rao": ("Fisher-Rao", lambda f, part, o: fisher_rao_norm(part)),
    "logit fisher rao": ("logit Fisher-Rao", lambda f, part, o: logit_fisher_rao(f)),
    "relative flatness": ("κ", lambda f, part, o: relative_flatness(f)),
    "relative flatness raw": ("raw κ", lambda f, part, o: relative_flatness(f, normalise=False)),
    "weight norm": ("‖θ‖", lambda f, part, o: f.point().norm(dim=-1)),
    "head norm": ("‖W‖", lambda f, part, o: RelativeFlatness(_loss(f)).weight(f.point()).norm(dim=(-2, -1))),
}
SYMBOLS = {name: symbol for name, (symbol, _) in _COLUMNS.items()}


class _Rise(Objective):
    """`γ -> L(θ + c γ) − L(θ)` as an objective of its own: every search is a search in a round ball about 0."""

    def __init__(self, objective, theta, rho, adaptive):
        self.objective, self.centre, self.base = _start(objective, theta, rho)
        self.scale = self.centre.abs() if adaptive else torch.ones_like(self.centre)
        super().__init__(self._value, self.centre.shape[-1], torch.zeros_like(self.centre))

    def _value(self, offset):
        return require_finite(self.objective(self.centre + self.scale * offset)) - self.base

    def _gradient(self, offset):
        return self.scale * self.objective.gradient(self.centre + self.scale * offset)

    def _linearize(self, offset):
        product = self.objective.linearize(self.centre + self.scale * offset)
        return lambda v: self.scale * product(self.scale * v)


def _highest(value, slope, rise, rho, norm, starts, steps, seed):
    """The largest value found in the ball by ascents from the gradient, ± the top eigenvector and random starts."""
    if norm not in (2, math.inf):
        raise ValueError(f"norm is {norm}: choose 2 or math.inf")
    zero = rise.theta
    top = curvature.eigenpairs(rise, zero, tol=1e-4, seed=seed).vectors[..., 0, :]
    random = [step.expand_as(zero) for step in _normal(zero, max(starts, 2), seed)[:starts]]
    found = [_ascend(value, slope, d, rho, norm, steps) for d in (rise.gradient(zero), top, -top, *random)]
    return torch.stack(found).amax(0)


def _ascend(value, slope, direction, rho, norm, steps):
    """From the best point of the ray to the rim, projected ascent; a member's step is halved where it does not help."""
    ray = _unit(direction, norm)
    offset, best = rho * ray, value(rho * ray)
    for share in range(7, 0, -1):
        offset, best, _ = _better(value, rho * share / 8 * ray, offset, best)
    step, gradient = torch.full_like(best, rho / 2)[..., None], slope(offset)
    for _ in range(steps):
        trial = _project(offset + step * _unit(gradient, norm), rho, norm)
        offset, best, helps = _better(value, trial, offset, best)
        if helps.any():
            gradient = slope(offset)
        step = torch.where(helps, step, step / 2)
    return best


def _better(value, trial, offset, best):
    found = value(trial)
    helps = (found > best)[..., None]
    return torch.where(helps, trial, offset), torch.maximum(found, best), helps


def _unit(direction, norm):
    return direction.sign() if norm == math.inf else unit(direction)


def _project(offset, rho, norm):
    if norm == math.inf:
        return offset.clamp(-rho, rho)
    return offset * (rho / offset.norm(dim=-1, keepdim=True)).clamp(max=1)


def _start(objective, theta, rho):
    if not (rho > 0 and math.isfinite(rho)):
        raise ValueError(f"rho is {rho}: a radius must be positive and finite")
    return prepared(objective, theta)


def _expected(objective, theta, rho, change):
    """Mean and standard error of the draws `change(objective, theta, loss there)`, in float64 where they drown."""
    f, at, base = _start(objective, theta, rho)
    draws = change(f, at, base)
    drowned = draws.abs().mean(0) < 1e3 * torch.finfo(draws.dtype).eps * base.abs()
    if draws.dtype != torch.float64 and drowned.any():
        draws = torch.where(drowned, change(*prepared(objective, theta, double=True)), draws)
    return Estimate(draws.mean(0), draws.std(0) / len(draws) ** 0.5)


def _normal(theta, count, seed):
    """`count` standard normal directions `(count, P)` from a generator of their own."""
    if count < 2:
        raise ValueError(f"samples is {count}: an estimate needs at least 2 draws")
    return torch.randn(count, theta.shape[-1], generator=torch.Generator().manual_seed(seed)).to(theta)


def _pairs(objective, theta, base, steps):
    return torch.stack([require_finite(objective(theta + s) + objective(theta - s)) / 2 - base for s in steps])


def _loss(model, inputs=None, targets=None):
    if isinstance(model, NetworkLoss):
        return model
    if isinstance(model, Objective):
        raise Undefined(f"loss is a {type(model).__name__}: this measure needs a NetworkLoss")
    if inputs is None or targets is None:
        raise ValueError("inputs or targets is missing: pass (model, inputs, targets), or one NetworkLoss")
    return NetworkLoss(model, inputs, targets, "cross_entropy")


def _need_softmax(loss, measure):
    if loss.loss != "cross_entropy":
        raise Undefined(f"loss is {loss.loss!r}: {measure} is defined for softmax cross-entropy")


def _head(model, head):
    """The name of the linear layer at the end."""
    model = getattr(model, "_orig_mod", model)  # a compiled model stands for the one inside
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if head is None and not linear:
        raise Undefined("head is not found: model has no nn.Linear layer, and relative flatness needs one at its end")
    if head is not None and head not in linear:
        raise ValueError(f"head is {head!r}: choose one of the linear layers {', '.join(linear) or '(none)'}")
    return linear[-1] if head is None else head
