"""Every sharpness measure of the course. Each says what leaves it unchanged, and where it fails.

An ensemble may stand for the objective: the result is then a list, one value per member.
"""

import math

import torch
from torch import Tensor, autograd, nn

from flatlab import curvature
from flatlab.network import NetworkLoss, flatten, join
from flatlab.objective import Estimate, Objective, for_members, require_finite
from flatlab.search import best, neighbourhood, normal, start


def gradient_norm(objective: Objective, theta=None) -> float:
    """How steep the loss is at the point itself, `‖∇L(θ)‖₂`; units: loss per θ. Zero at every minimum, sharp or flat.

    Shown beside every sharpness, because a measure of curvature means little where the slope is not small.
    """
    return objective.gradient(theta).norm(dim=-1).tolist()


def random_direction(
    objective: Objective, theta=None, rho: float = 0.005, samples: int = 100, seed: int = 0, antithetic: bool = False
) -> Estimate:
    """The mean change of the loss a random step away, `E |L(θ + ε) − L(θ)| / ρ`, `ε = ρ g/√P`, g normal, so ‖ε‖ ≈ ρ.

    `antithetic`: `|E ½(L(θ+ε) + L(θ−ε)) − L(θ)| / ρ` instead, which has no gradient term and tends to ρ tr H/(2P).
    Units: loss per θ. `.stderr` is over the draws. Unchanged by rotations of θ; not by any rescaling.
    Fails: for small ρ it is a *gradient norm*, sqrt(2/π)‖∇L‖/√P; curvature takes over only from about
    ρ* = 2 sqrt(2/π) ‖∇L‖ √P / tr H. One draw has a relative sd of 76 %.
    Source: the "SAM-sharpness" of Mason-Williams et al. 2025 (released code).
    """
    theta, base = start(objective, theta, rho)
    steps = rho * normal(theta, samples, seed) / theta.shape[-1] ** 0.5
    if antithetic:
        return _estimate(_pairs(objective, theta, base, steps) / rho, absolute=True)
    return _estimate(torch.stack([(require_finite(objective(theta + step)) - base).abs() / rho for step in steps]))


def average(
    objective: Objective, theta=None, rho: float = 0.05, samples: int = 100, seed: int = 0, adaptive: bool = False
) -> Estimate:
    """The expected rise of the loss under weight noise, `E[L(θ + δ)] − L(θ)`, `δ_i = ρ c_i g_i`, c = 1 or |θ_i|.

    ρ is the sd of *each coordinate* (‖δ‖ ≈ ρ√P). Tends to `(ρ²/2) Σ_i c_i² H_ii` for small ρ. Pairs ±δ remove the
    gradient term. Units: loss. `adaptive` is unchanged by layer and neuron rescaling of ReLU networks; both forms
    change with the scale of the logits, and the plain one with any rescaling.
    Source: Andriushchenko et al. 2023, section 2 (S_avg).
    """
    theta, base = start(objective, theta, rho)
    scale = theta.abs() if adaptive else torch.ones_like(theta)
    steps = (rho * scale * direction for direction in normal(theta, samples, seed))
    return _estimate(_pairs(objective, theta, base, steps))


@for_members
def one_step(objective: Objective, theta=None, rho: float = 0.05) -> float:
    """SAM's own look around: the rise after one step uphill, `L(θ + ρ ∇L/‖∇L‖) − L(θ)`; units: loss.

    About ρ‖∇L‖ away from a minimum. Errors: ValueError where the gradient is zero, as at an exact minimum: use
    `worst_case` there. Source: Foret et al. 2021.
    """
    theta, base = start(objective, theta, rho)
    gradient = objective.gradient(theta)
    if not gradient.norm() > 0:
        raise ValueError("the gradient is zero at theta, so there is no direction uphill: use sharpness.worst_case")
    return (require_finite(objective(theta + rho * gradient / gradient.norm())) - base).item()


@for_members
def worst_case(
    objective: Objective, theta=None, rho: float = 0.05, adaptive: bool = False, norm: float = 2,
    starts: int = 2, steps: int = 20, seed: int = 0,
) -> float:  # fmt: skip
    """The largest rise of the loss within radius ρ, `max_{‖δ/c‖_p ≤ ρ} L(θ + δ) − L(θ)`, c = 1 or |θ_i|; units: loss.

    `norm`: p = 2 (ρ is the length of δ) or `math.inf` (ρ bounds each coordinate). The best of several projected
    ascents: along the gradient, ± the top eigenvector, and `starts` random directions; so it is a lower bound of the
    maximum, and positive at every strict minimum. On a quadratic at its minimum it is ½ρ²λ_max exactly.
    `adaptive` is unchanged by layer and neuron rescaling of ReLU networks. Both change with the scale of the logits;
    away from a minimum and for small ρ it is ρ‖∇L‖. Errors: ValueError for ρ ≤ 0, another norm, or a loss that is
    not finite. Source: Foret et al. 2021; Andriushchenko et al. 2023 (S_max).
    """
    local = neighbourhood(objective, theta, rho, adaptive)

    def slope(offset):
        return local.gradient(offset)

    return best(local, slope, local, rho, norm, starts, steps, seed)


@for_members
def first_order(
    objective: Objective, theta=None, rho: float = 0.05, starts: int = 2, steps: int = 20, seed: int = 0
) -> float:
    """The steepest slope within radius ρ, `R₁ = ρ max_{‖δ‖ ≤ ρ} ‖∇L(θ + δ)‖`; units: loss.

    Never below `worst_case` (mean value theorem), and ρ²λ_max on a quadratic at its minimum. It sees narrow wells that
    all have the same rim height. Same search as `worst_case`, uphill on ‖∇L‖. Source: Zhang et al. 2023 (GAM).
    """
    local = neighbourhood(objective, theta, rho, adaptive=False)

    def value(offset):
        return rho * local.gradient(offset).norm()

    def slope(offset):
        gradient = local.gradient(offset)
        return local.hvp(offset, gradient / gradient.norm()) if gradient.norm() > 0 else gradient

    return best(value, slope, local, rho, 2, starts, steps, seed)


@for_members
def fisher_rao_norm(model: nn.Module | NetworkLoss, inputs=None, targets=None) -> float:
    """The Fisher-Rao norm `sqrt( mean_n ⟨θ, ∇ℓ_n(θ)⟩² )`, from its definition: one directional derivative per sample.

    Takes a network with `inputs (N, ...)` and class numbers `targets (N,)`, or a `NetworkLoss`. Units: loss. Unchanged
    by layer rescaling of ReLU networks; changes with the scale of the logits, and near interpolation it follows the
    train loss. Errors: ValueError if the loss gives no value per sample. Source: Liang et al. 2019.
    """
    loss = _loss(model, inputs, targets)
    squares = [_radial(loss, x, y).square().sum() for x, y, _ in loss.chunks()]
    return (sum(squares) / len(loss.inputs)).sqrt().item()


@for_members
def logit_fisher_rao(model: nn.Module | NetworkLoss, inputs=None, targets=None, layers: int | None = None) -> float:
    """The released formula for the Fisher-Rao norm, `(L+1) · sqrt( mean_n (⟨p_n, z_n⟩ − z_{n,y_n})² )`, for comparison.

    `layers` L: by default the number of linear and convolutional layers. For a bias-free feed-forward ReLU network
    the exact factor is L; with biases, shortcuts or batch norm no factor is exact. Use `fisher_rao_norm`.
    """
    loss = _loss(model, inputs, targets)
    _classifier(loss, "logit_fisher_rao")
    z = require_finite(loss.outputs())
    if layers is None:
        layers = sum(isinstance(m, nn.Linear | nn.modules.conv._ConvNd) for m in loss.model.modules())
    error = (z.softmax(-1) * z).sum(-1) - z.gather(-1, loss.targets.to(z.device)[:, None])[:, 0]
    return (layers + 1) * error.square().mean().sqrt().item()


@for_members
def relative_flatness(
    model: nn.Module | NetworkLoss, inputs=None, targets=None, normalise: bool = True, head: str | None = None
) -> float:
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
    loss = _loss(model, inputs, targets)
    _classifier(loss, "relative_flatness")
    features, weight, z = _features(loss, head)
    if normalise:
        sd = features.std(0, correction=0)
        sd = torch.where(sd > 0, sd, torch.ones_like(sd))
        features, weight = features / sd, weight * sd
    p, gaps = z.softmax(-1), (weight[:, None] - weight).square().sum(-1)
    spread = ((p @ gaps) * p).sum(1) / 2  # the variance of w under p; no cancellation near one-hot predictions
    return (features.norm(dim=1).square() * spread).mean().item()


def table(losses: Objective | dict[str, Objective], rho: float = 0.05, seed: int = 0):
    """The table that returns in every notebook: one row per objective, the train loss first, as a pandas DataFrame.

    `losses`: one objective, `{"name": objective}`, or an ensemble (a row per member). `rho` is the radius of the
    worst case; the random direction uses the paper's 0.005. Measures that need a softmax head are empty elsewhere.
    """
    import pandas as pd

    if not isinstance(losses, dict):
        losses = dict(enumerate(losses.members)) if losses.members is not None else {"": losses}
    return pd.DataFrame({name: _row(loss, rho, seed) for name, loss in losses.items()}).T


def _row(loss, rho, seed):
    row = {
        "train loss": loss().item(),
        "‖∇L‖": gradient_norm(loss),
        "λ_max": curvature.eigenvalues(loss)[0].item(),
        "tr H": curvature.trace(loss, seed=seed),
        "random direction": random_direction(loss, seed=seed),
        f"worst case ρ={rho:g}": worst_case(loss, rho=rho, seed=seed),
    }
    if isinstance(loss, NetworkLoss) and loss.loss == "cross_entropy":
        row |= {"Fisher-Rao": fisher_rao_norm(loss), "κ": _kappa_or_nan(loss)}
    return row


def _kappa_or_nan(loss):
    try:
        return relative_flatness(loss)
    except ValueError:  # no linear head
        return math.nan


def _pairs(objective, theta, base, steps):
    return torch.stack([require_finite(objective(theta + s) + objective(theta - s)) / 2 - base for s in steps])


def _estimate(draws, absolute=False):
    """Mean and standard error over the first axis, for one objective `(draws,)` or all members `(draws, M)`."""
    draws = draws.double()
    means, errors = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    means = means.abs() if absolute else means
    if draws.ndim == 1:
        return Estimate(means.item(), errors.item())
    return [Estimate(mean, error) for mean, error in zip(means.tolist(), errors.tolist(), strict=True)]


def _loss(model, inputs, targets):
    if isinstance(model, NetworkLoss):
        return model
    if inputs is None or targets is None:
        raise ValueError("inputs or targets is missing: pass (model, inputs, targets), or one NetworkLoss")
    return NetworkLoss(model, inputs, targets, "cross_entropy")


def _classifier(loss, measure):
    if loss.loss != "cross_entropy":
        raise ValueError(f"loss is {loss.loss!r}: {measure} is defined for softmax cross-entropy")


def _radial(loss, x, y):
    """⟨θ, ∇ℓ_n⟩ for every sample: the derivative of ℓ_n along θ, by differentiating Jᵀu in u."""
    leaves = loss.leaves(loss.theta)
    with torch.enable_grad():
        losses = loss.sample_losses(loss.network(leaves, x), y)
        if losses.shape != (len(x),):
            raise ValueError("loss returns a mean: fisher_rao_norm needs one loss per sample, shape (N,)")
        require_finite(losses)
        probe = torch.zeros_like(losses, requires_grad=True)
        weights = tuple(leaves.values())
        pulled = flatten(autograd.grad(losses, weights, probe, create_graph=True, materialize_grads=True))
    return autograd.grad(pulled, probe, loss.theta)[0]


def _features(loss, head) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of the head `(N, d)`, its weight `(K, d)`, and the outputs `(N, K)`."""
    layer, name = _find_head(loss, head)
    caught = []
    handle = layer.register_forward_hook(lambda _, args, out: caught.append((args[0], out)))
    try:
        outputs = loss.outputs()
    finally:
        handle.remove()
    require_finite(outputs)
    if not caught:
        raise ValueError(f"head {name!r} takes no part in the outputs of model: name its last linear layer, head=...")
    features, produced = (join(part) for part in zip(*caught, strict=True))
    if produced.shape != outputs.shape or not torch.equal(produced, outputs):
        raise ValueError(f"head {name!r} does not produce the outputs of model: name the last linear layer, head=...")
    return features, loss.model.get_submodule(name).weight.detach(), outputs


def _find_head(loss, head):
    linear = {n: m for n, m in loss._private.named_modules() if isinstance(m, nn.Linear)}
    if head is None and not linear:
        raise ValueError("head is not found: model has no nn.Linear layer, and relative flatness needs one at its end")
    name = head if head is not None else list(linear)[-1]
    if name not in linear:
        raise ValueError(f"head is {name!r}: choose one of the linear layers {', '.join(linear) or '(none)'}")
    return linear[name], name
