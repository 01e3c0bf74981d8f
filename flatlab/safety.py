"""Is a model right, does it know when it is not, and would another seed agree? From outputs `(..., N, K)` (logits)."""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from flatlab.images import CORRUPTIONS, corrupt
from flatlab.loss import cross_entropy


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of right answers, `mean_n [argmax z_n = y_n]`: outputs `(..., N, K)`, classes `(N,)` → `(...)`."""
    return (outputs.argmax(-1) == targets.to(outputs.device)).float().mean(-1)


def negative_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of `−log p(y_n)` in nats, `(...)`."""
    return cross_entropy(outputs, targets.to(outputs.device)).mean(-1)


def calibration_error(outputs: Tensor, targets: Tensor, bins: int = 15) -> Tensor:
    """The expected calibration error, `Σ_b (n_b/N) |accuracy_b − confidence_b|`, over bins of equal width, `(...)`.

    Confidence is the largest softmax probability; bins are `(i/B, (i+1)/B]`. Between 0 and 1. Biased upwards for small
    N, and 0 does not mean that the model is good. Errors: ValueError if the targets hold one class only.
    Source: Guo et al. 2017, equation 3 (l1).
    """
    if len(targets.unique()) < 2:
        raise ValueError("targets hold one class: calibration needs at least two")
    confidence, chosen = outputs.softmax(-1).max(-1)
    right = (chosen == targets.to(chosen.device)).to(confidence)
    bin_of = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = F.one_hot(bin_of, bins).to(confidence) * (right - confidence)[..., None]
    return gaps.sum(-2).abs().sum(-1) / confidence.shape[-1]


def disagreement(outputs: Tensor) -> Tensor:
    """How often two models choose different classes, `mean_n [argmax z_n ≠ argmax z′_n]`: `(..., M, N, K) → (..., M)`.

    Each model against the mean of all others. Pairs share models: use the seed, not the pair, as the unit of a test.
    """
    return _against_others(outputs, lambda z: z.argmax(-1), lambda a, b: (a != b).float())


def js_divergence(outputs: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of softmax outputs (nats, mean over samples), each model against the rest.

    `½ KL(p‖m) + ½ KL(q‖m)`, `m = ½(p + q)`, `(..., M, N, K) → (..., M)`: between 0 and log 2.
    """

    def entropy(p):
        return torch.special.entr(p).sum(-1)

    def distance(p, q):
        return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2

    return _against_others(outputs, lambda z: z.double().softmax(-1), distance)


def activation_distance(outputs: Tensor) -> Tensor:
    """The mean distance `‖p_n − q_n‖₂` of softmax outputs, each model against the others; 0 … √2."""
    return _against_others(outputs, lambda z: z.softmax(-1), lambda p, q: (p - q).norm(dim=-1))


def corrupted_accuracy(
    predict: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor,
    kinds: Sequence[str] | None = None, severities: Sequence[int] = range(1, 6),
) -> Tensor:  # fmt: skip
    """Accuracy averaged over `kinds` of `images.corrupt` (default all) and `severities`; predict: images to outputs."""
    pairs = [(kind, severity) for kind in kinds or CORRUPTIONS for severity in severities]
    return torch.stack([accuracy(predict(corrupt(images, *pair)), targets) for pair in pairs]).mean(0)


def _against_others(outputs, prepare, distance):
    """The mean of `distance` (one number per sample) from each of M models to all others."""
    if outputs.ndim < 3 or outputs.shape[-3] < 2:
        raise ValueError(f"outputs has shape {tuple(outputs.shape)}: it needs at least two models, (M, N, K)")
    models = [prepare(z) for z in outputs.unbind(-3)]
    table = torch.zeros(*outputs.shape[:-3], len(models), len(models), dtype=torch.float64)
    for i, j in combinations(range(len(models)), 2):
        table[..., i, j] = table[..., j, i] = distance(models[i], models[j]).mean(-1)
    return table.sum(-1) / (len(models) - 1)
