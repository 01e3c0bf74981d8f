"""Twins: a baseline at the same train loss as a regularised model, so that sharpness is compared at equal fit."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flatlab.objective import Objective
from flatlab.safety import negative_log_likelihood

CLOSE = 0.1  # how far, as a share of the target, a twin's loss may be off


@dataclass(frozen=True)
class Twin:
    """A twin at train loss `loss`, wanted `target`. If `found` is False nothing came close: do not compare with it.

    theta: its weights `(P,)` (None for a temperature twin, which keeps the baseline's). at: the step, the length of
    the schedule, or the temperature. gradient_norm: ‖∇L‖ where it stands, NaN if unknown. lr: the learning rate there,
    as a share of its start: a snapshot from the middle of a schedule is hotter than a finished run.
    """

    kind: str
    target: float
    loss: float
    found: bool
    at: float
    theta: Tensor | None = None
    gradient_norm: float = float("nan")
    lr: float = float("nan")

    @property
    def mismatch(self) -> float:
        """How far the loss is off, `loss/target − 1`."""
        return self.loss / self.target - 1


def early_stopped(objective: Objective, path: dict[int, Tensor], target: float, lr: Callable | None = None) -> Twin:
    """The snapshot on a run's path whose train loss comes closest to `target`.

    path: `{step: theta (P,)}`. lr: `lr(step)`, the share of the learning rate left there.
    """
    losses = {step: objective(theta).item() for step, theta in path.items()}
    step = min(losses, key=lambda s: abs(losses[s] - target))
    return _twin("early stopped", objective, path[step], target, step, lr(step) if lr else float("nan"))


def own_schedule(objective: Objective, train: Callable[[int], Tensor], target: float, longest: int) -> Twin:
    """A run with its own complete schedule that ends at train loss `target`, found by bisection over its length.

    train: `train(steps)` returns the weights `(P,)` of a run whose schedule is complete after `steps`; the loss must
    fall with the length, up to noise. longest: the most steps to try.
    """
    low, high, tried = 1, longest, {}

    def loss(steps):
        if steps not in tried:
            tried[steps] = train(steps)
        return objective(tried[steps]).item()

    if loss(longest) > target:
        low = high  # even the longest run stays above: nothing to search for
    while high - low > 1 and abs(min((loss(s) for s in tried), key=lambda v: abs(v - target)) / target - 1) > 0.02:
        middle = round((low * high) ** 0.5) if high > 2 * low else (low + high) // 2
        if middle in (low, high):
            break
        low, high = (middle, high) if loss(middle) > target else (low, middle)
    loss(low)
    best = min(tried, key=lambda s: abs(loss(s) - target))
    return _twin("own schedule", objective, tried[best], target, best, 0.0)


def temperature(outputs: Tensor, targets: Tensor, target: float) -> Twin:
    """The baseline with its logits divided by T, so that its train loss is `target`: same decisions, no training.

    outputs: the baseline's logits on the training set `(N, K)`. `.at` is T, the softer of two. Not found if no T in
    0.01 … 100 does it, as for a target above log K when every sample is right.
    """
    from scipy.optimize import brentq, minimize_scalar

    def gap(log_t):
        return negative_log_likelihood(outputs.double() / 10**log_t, targets).item() - target

    # The loss is convex in 1/T: it falls to its minimum over T and rises on both sides of it.
    best = minimize_scalar(gap, bounds=(-2, 2), method="bounded", options={"xatol": 1e-9}).x
    for low, high in ((best, 2), (-2, best)):
        if gap(low) * gap(high) <= 0:
            t = 10 ** brentq(gap, low, high)
            return Twin("temperature", target, tempered_loss(outputs, targets, t), True, t)
    t = min((0.01, 10**best, 100.0), key=lambda t: abs(tempered_loss(outputs, targets, t) - target))
    return Twin("temperature", target, tempered_loss(outputs, targets, t), False, t)


def tempered_loss(outputs: Tensor, targets: Tensor, t: float) -> float:
    """The cross-entropy (nats, mean) of logits divided by `t`."""
    return negative_log_likelihood(outputs.double() / t, targets).item()


def _twin(kind, objective, theta, target, at, lr):
    loss = objective(theta).item()
    found = abs(loss - target) <= CLOSE * target
    return Twin(kind, target, loss, found, at, torch.clone(theta), objective.gradient(theta).norm().item(), lr)
