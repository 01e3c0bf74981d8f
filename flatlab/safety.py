"""Is a model right, does it know when it is not, and would another seed agree? From outputs `(..., N, K)` (logits)."""

import math
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of right answers, `mean_n [argmax z_n = y_n]`: outputs `(..., N, K)`, classes `(N,)` → `(...)`."""
    return (outputs.argmax(-1) == targets).float().mean(-1)


def negative_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of `−log p(y_n)` in nats, `(...)`."""
    return -outputs.log_softmax(-1).gather(-1, _columns(outputs, targets))[..., 0].mean(-1)


def generalisation_gap(train: Tensor, y_train: Tensor, test: Tensor, y_test: Tensor) -> Tensor:
    """Training accuracy minus test accuracy, `(...)`; between −1 and 1, positive where training did better."""
    return accuracy(train, y_train) - accuracy(test, y_test)


def calibration_error(outputs: Tensor, targets: Tensor, bins: int = 15) -> Tensor:
    """The expected calibration error, `Σ_b (n_b/N) |accuracy_b − confidence_b|`, over bins of equal width, `(...)`.

    Confidence is the largest softmax probability; bins are `(i/B, (i+1)/B]`. Between 0 and 1. Biased upwards for small
    N, and 0 does not mean that the model is good. Errors: ValueError if the targets hold one class only.
    Source: Guo et al. 2017, equation 3 (l1).
    """
    if len(targets.unique()) < 2:
        raise ValueError("targets hold one class: calibration needs at least two")
    confidence, chosen = outputs.softmax(-1).max(-1)
    right = (chosen == targets).to(confidence)
    bin_of = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = F.one_hot(bin_of, bins).to(confidence) * (right - confidence)[..., None]
    return gaps.sum(-2).abs().sum(-1) / confidence.shape[-1]


def disagreement(outputs: Tensor) -> Tensor:
    """How often two models choose different classes: `1 − mean_n [argmax z_n = argmax z′_n]`, `(M, N, K) → (M,)`.

    Each model against the mean of all others. Pairs share models: use the seed, not the pair, as the unit of a test.
    """
    chosen = outputs.argmax(-1)
    return _against_others(outputs, lambda i, j: (chosen[i] != chosen[j]).float().mean())


def js_divergence(outputs: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of softmax outputs (nats, mean over samples), each model against the rest, `(M,)`.

    `½ KL(p‖m) + ½ KL(q‖m)`, `m = ½(p + q)`: between 0 and log 2.
    """
    p = outputs.double().softmax(-1)
    entropy = torch.special.entr(p).sum(-1)

    def pair(i, j):
        middle = torch.special.entr((p[i] + p[j]) / 2).sum(-1)
        return (middle - (entropy[i] + entropy[j]) / 2).mean()

    return _against_others(outputs, pair)


def activation_distance(outputs: Tensor) -> Tensor:
    """The mean distance `‖p_n − q_n‖₂` of softmax outputs; each model against the others, `(M,)`; 0 … √2."""
    p = outputs.softmax(-1)
    return _against_others(outputs, lambda i, j: (p[i] - p[j]).norm(dim=-1).mean())


def corrupt(images: Tensor, kind: str, severity: int, seed: int = 0) -> Tensor:
    """Disturb images `(N, C, H, W)` with values in 0 … 1; `severity` 1 (slight) to 5. The result stays in 0 … 1.

    Our own tensor operations in the spirit of Hendrycks and Dietterich 2019; the strengths are ours, not CIFAR-10-C's.
    Errors: ValueError for an unknown kind, severity or shape.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind is {kind!r}: choose one of {', '.join(CORRUPTIONS)}")
    if not isinstance(severity, int) or severity not in range(1, 6):
        raise ValueError(f"severity is {severity}: choose 1 to 5")
    if images.ndim != 4:
        raise ValueError(f"images has shape {tuple(images.shape)}: it needs (N, channels, height, width)")
    operation, strengths = CORRUPTIONS[kind]
    return operation(images, strengths[severity - 1], torch.Generator().manual_seed(seed)).clamp(0, 1)


def corrupted_accuracy(predict, images: Tensor, targets: Tensor, kinds=None, severities=range(1, 6)) -> Tensor:
    """Accuracy averaged over `kinds` (default all) and `severities`; `predict` maps images to outputs `(..., N, K)`."""
    scores = [accuracy(predict(corrupt(images, k, s)), targets) for k in kinds or CORRUPTIONS for s in severities]
    return torch.stack(scores).mean(0)


def _gaussian_noise(x, sd, generator):
    return x + sd * torch.randn(x.shape, generator=generator).to(x)


def _shot_noise(x, photons, generator):
    return torch.poisson(x.clamp(0, 1).cpu() * photons, generator=generator).to(x) / photons


def _blur(x, sd, _):
    reach = math.ceil(2 * sd)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).to(x) ** 2) / (2 * sd**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (reach,) * 4, mode="replicate")
    x = F.conv2d(x, kernel[:, :, None], groups=x.shape[1])
    return F.conv2d(x, kernel[..., None], groups=x.shape[1])


def _contrast(x, share, _):
    mean = x.mean((-2, -1), keepdim=True)
    return mean + share * (x - mean)


def _brightness(x, shift, _):
    return x + shift


def _pixelate(x, share, _):
    small = F.interpolate(x, size=[max(1, round(share * n)) for n in x.shape[-2:]], mode="area")
    return F.interpolate(small, size=x.shape[-2:], mode="area")


CORRUPTIONS = {
    "gaussian noise": (_gaussian_noise, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "shot noise": (_shot_noise, (60, 25, 12, 6, 3)),
    "blur": (_blur, (0.4, 0.6, 0.8, 1.0, 1.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "pixelate": (_pixelate, (0.85, 0.7, 0.55, 0.4, 0.25)),
}


def _columns(outputs, targets):
    return targets.to(outputs.device).expand(outputs.shape[:-1])[..., None]


def _against_others(outputs, pair):
    """The mean of `pair(i, j)` over all j ≠ i, one number per model."""
    count = len(outputs)
    if outputs.ndim != 3 or count < 2:
        raise ValueError(f"outputs has shape {tuple(outputs.shape)}: it needs at least two models, (M, N, K)")
    table = torch.zeros(count, count, dtype=torch.float64)
    for i, j in permutations(range(count), 2):
        table[i, j] = pair(i, j) if i < j else table[j, i]
    return table.sum(1) / (count - 1)
