"""Accuracy, calibration and disagreement are their definitions, for any number of models."""

import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import classes, close, normal

from flatlab import safety
from flatlab.images import CORRUPTIONS, corrupt

Z, Y = 2 * normal(400, 5), classes(400, 5)
BATCH = 2 * normal(2, 3, 400, 5, seed=1)
IMAGES = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SMOOTH = [safety.accuracy, safety.negative_log_likelihood, safety.calibration_error]


def by_loop(outputs, targets, bins=15):
    """The expected calibration error in ten lines."""
    z = outputs.numpy()
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    confidence, right = p.max(1), p.argmax(1) == targets.numpy()
    error = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.fixture
def torchmetrics_error(monkeypatch):
    """torchmetrics' function; it would import torchvision, which breaks beside another build of torch: hide that."""
    if "torchmetrics" not in sys.modules:
        imports = pytest.importorskip("lightning_utilities.core.imports", reason="torchmetrics is not installed")
        known = imports.RequirementCache.__bool__
        hidden = lambda self: "torchvision" not in self.requirement and known(self)  # noqa: E731
        monkeypatch.setattr(imports.RequirementCache, "__bool__", hidden)
    module = pytest.importorskip("torchmetrics.functional.classification", reason="torchmetrics is not installed")
    return module.multiclass_calibration_error


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("bins", [15, 4])
def test_calibration_error_is_torchmetrics_and_a_loop_in_numpy(torchmetrics_error, bins, scale):
    found, p = safety.calibration_error(scale * Z, Y, bins=bins), (scale * Z).softmax(1)
    assert close(found, by_loop(scale * Z, Y, bins), 1e-12)
    # It computes in float32. Its bins are closed on the left, ours on the right: random confidences hit no edge.
    assert close(found, torchmetrics_error(p, Y, num_classes=5, n_bins=bins, norm="l1"), 1e-6)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    p = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.6, 0.4]], dtype=torch.float64)
    wanted = (abs(1 - 0.5) + abs(0 - 0.6 + 0 - 0.6)) / 3  # (1/4, 1/2] holds the first sample alone
    assert close(safety.calibration_error(p.log(), torch.tensor([0, 1, 1]), bins=4), wanted, 1e-12)


def test_calibration_error_knows_the_two_extremes():
    y = torch.tensor([0, 1, 2, 0])
    sure = 1e3 * torch.eye(3, dtype=torch.float64)
    assert safety.calibration_error(sure[y], y) == 0 and safety.calibration_error(sure[(y + 1) % 3], y) == 1
    flat = torch.zeros(3, 3, dtype=torch.float64)  # says 1/3 and is right once in three
    assert safety.calibration_error(flat, torch.arange(3)) < 1e-15


def test_one_class_cannot_be_calibrated():
    with pytest.raises(ValueError, match="targets hold one class"):
        safety.calibration_error(Z, torch.zeros(400, dtype=torch.long))


def test_accuracy_and_likelihood_have_their_closed_forms():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 2])
    wanted = -sum(math.log(v) for v in (0.7, 0.6, 0.2, 0.6)) / 4
    assert safety.accuracy(p.log(), y) == 0.75
    assert close(safety.negative_log_likelihood(p.log() + 5.0, y), wanted, 1e-12)
    assert close(safety.negative_log_likelihood(Z, Y), F.cross_entropy(Z, Y), 1e-12)


@pytest.mark.parametrize("measure", SMOOTH, ids=lambda m: m.__name__)
def test_leading_dimensions_are_a_loop(measure):
    found = measure(BATCH, Y)
    assert found.shape == (2, 3)
    assert all(close(found[i, j], measure(BATCH[i, j], Y), 1e-12) for i in range(2) for j in range(3))


P = torch.tensor([[[0.5, 0.5], [0.9, 0.1]], [[0.4, 0.6], [0.9, 0.1]], [[0.8, 0.2], [0.3, 0.7]]], dtype=torch.float64)
CHOSEN = [[0, 0], [1, 0], [0, 1]]


def entropy(*p):
    return -sum(v * math.log(v) for v in p)


def js(p, q):
    return entropy(*((a + b) / 2 for a, b in zip(p, q, strict=True))) - (entropy(*p) + entropy(*q)) / 2


def pairwise(distance, models):
    """Each model's mean distance to the others; the mean over samples first."""
    rows = [[sum(map(distance, P[i].tolist(), P[j].tolist())) / 2 for j in models if j != i] for i in models]
    return [sum(row) / len(row) for row in rows]


DISTANCES = {
    "activation_distance": lambda p, q: math.dist(p, q),
    "js_divergence": js,
    "disagreement": lambda p, q: float((p[1] > p[0]) != (q[1] > q[0])),
}


@pytest.mark.parametrize("models", [(0, 1), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("name", DISTANCES)
def test_a_model_is_compared_with_the_mean_of_all_others(name, models):
    found = getattr(safety, name)(P[list(models)].log() - 3.0)
    assert close(found, pairwise(DISTANCES[name], models), 1e-6 if name == "disagreement" else 1e-12)


@pytest.mark.parametrize("name", DISTANCES)
def test_groups_of_models_are_compared_group_by_group(name):
    groups, compare = torch.stack([P, P.flip(0)]).log(), getattr(safety, name)
    assert close(compare(groups), torch.stack([compare(group) for group in groups]), 1e-12)
    assert compare(groups[None]).shape == (1, 2, 3)


def test_models_that_agree_are_at_distance_zero_and_opposite_ones_at_the_largest():
    sure = torch.tensor([[[1e3, 0.0], [0.0, 1e3]], [[0.0, 1e3], [1e3, 0.0]]], dtype=torch.float64)
    for name, largest in (("disagreement", 1.0), ("js_divergence", math.log(2)), ("activation_distance", 2**0.5)):
        measure = getattr(safety, name)
        assert close(measure(sure), [largest] * 2, 1e-12)
        assert (measure(sure[[0, 0]]) == 0).all()
    random = safety.js_divergence(50 * normal(6, 40, 3))
    assert (random > 0).all() and (random <= math.log(2)).all()


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("outputs", [Z, Z[None]], ids=["no models", "one model"])
def test_a_comparison_needs_two_models(name, outputs):
    with pytest.raises(ValueError, match="at least two models"):
        getattr(safety, name)(outputs)


def test_corrupted_accuracy_is_the_mean_of_the_loop():
    heads, y = normal(3, 768, 4).float(), classes(20, 4)
    predict = lambda images: images.flatten(1) @ heads  # noqa: E731
    score = lambda k, s: safety.accuracy(predict(corrupt(IMAGES, k, s)), y)  # noqa: E731
    every = torch.stack([score(k, s) for k in CORRUPTIONS for s in range(1, 6)])
    assert every.shape == (30, 3) and every.std(0).min() > 0
    assert close(safety.corrupted_accuracy(predict, IMAGES, y), every.mean(0), 1e-6)
    some = (score("blur", 2) + score("blur", 4) + score("contrast", 2) + score("contrast", 4)) / 4
    assert close(safety.corrupted_accuracy(predict, IMAGES, y, ("blur", "contrast"), (2, 4)), some, 1e-6)
