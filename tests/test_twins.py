"""A twin stands at the wanted train loss, or says that it does not."""

import math

import pytest
import torch
from helpers import classes, close, normal

from flatlab import NetworkLoss, Objective, ensemble, twins
from flatlab.models import mlp
from flatlab.safety import negative_log_likelihood as nll

BOWL = Objective(lambda t: t.square().sum(-1))
Y = classes(60, 4)
RIGHT = 6 * torch.eye(4, dtype=torch.float64)[Y] + normal(60, 4)  # logits of a baseline that makes no mistake
WRONG = 5 * torch.eye(4, dtype=torch.float64)[Y] + 3 * normal(60, 4)  # … and of one that makes some, with confidence


def at_loss(value):
    """A point of the bowl where the loss is `value`."""
    return torch.tensor([0.6, -0.8], dtype=torch.float64) * value**0.5


def beta(target, outputs, low, high):
    """The inverse temperature in `low` … `high` with this loss, by plain bisection."""
    rising = nll(high * outputs, Y) > nll(low * outputs, Y)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (nll(middle * outputs, Y) < target) == rising else (low, middle)
    return low


def test_the_baselines_are_what_they_are_called():
    assert (RIGHT.argmax(1) == Y).all() and 0.6 < (WRONG.argmax(1) == Y).double().mean() < 0.9


@pytest.mark.parametrize("target", [1e-8, 0.01, 0.1, 0.5, 1.0, 1.3])
def test_a_temperature_twin_reaches_its_target_with_the_same_decisions(target):
    twin = twins.temperature(RIGHT, Y, target)
    tempered = RIGHT / twin.at
    assert twin.found and twin.kind == "temperature" and twin.theta is None and twin.target == target
    assert abs(nll(tempered, Y) - target) < 1e-8 * target + 1e-15 and close(twin.loss, nll(tempered, Y), 1e-12)
    assert torch.equal(tempered.argmax(1), RIGHT.argmax(1)) and abs(twin.mismatch) < 1e-7
    assert close(1 / twin.at, beta(target, RIGHT, 0.01, 100.0), 1e-8)
    assert math.isnan(twin.gradient_norm) and math.isnan(twin.lr)


def test_a_temperature_of_one_is_the_baseline_itself_in_float32_too():
    twin = twins.temperature(RIGHT.float(), Y, nll(RIGHT.float().double(), Y).item())
    assert twin.found and abs(twin.at - 1) < 1e-10


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_baseline_with_confident_mistakes_has_a_twin_below_its_loss(share):
    # Its best temperature is above 1: the loss first falls with T and then rises, and passes the target twice.
    best = min(nll(WRONG / t, Y).item() for t in torch.linspace(1, 5, 401))
    assert best < 0.9 * nll(WRONG, Y)
    target = best + share * (nll(WRONG, Y).item() - best)
    twin = twins.temperature(WRONG, Y, target)
    assert twin.found and close(twin.loss, target, 1e-8)


def test_a_target_above_the_loss_of_guessing_is_not_found_and_comes_back_as_near_as_it_gets():
    assert not twins.temperature(RIGHT, Y, math.log(4) + 1e-6).found
    twin = twins.temperature(RIGHT, Y, 2.0)
    assert not twin.found and twin.at == 100.0 and close(twin.loss, nll(RIGHT / 100, Y), 1e-12)
    assert close(twin.mismatch, twin.loss / 2.0 - 1, 1e-14) and twins.tempered_loss(RIGHT, Y, 100.0) == twin.loss


def test_early_stopped_picks_the_nearest_snapshot_above_or_below():
    path = {step: at_loss(value) for step, value in ((0, 4.0), (10, 1.0), (20, 0.52), (30, 0.4), (40, 0.1))}
    for target, step in ((0.5, 20), (0.45, 30), (0.47, 20), (5.0, 0), (0.0999, 40)):
        twin = twins.early_stopped(BOWL, path, target, lr=lambda step: 1 - step / 40)
        assert twin.at == step and torch.equal(twin.theta, path[step]) and twin.lr == 1 - step / 40
        assert close(twin.loss, BOWL(path[step]), 1e-14) and close(twin.mismatch, twin.loss / target - 1, 1e-14)
        assert close(twin.gradient_norm, 2 * math.sqrt(twin.loss), 1e-12) and twin.kind == "early stopped"
    assert math.isnan(twins.early_stopped(BOWL, path, 0.5).lr)


@pytest.mark.parametrize("loss, found", [(1.09, True), (0.91, True), (1.11, False), (0.89, False)])
def test_found_means_within_a_tenth_of_the_target(loss, found):
    assert twins.CLOSE == 0.1
    assert twins.early_stopped(BOWL, {7: at_loss(2 * loss)}, 2.0).found is found
    assert twins.own_schedule(BOWL, lambda steps: at_loss(2 * loss), 2.0, longest=1).found is found


def test_a_twin_keeps_its_weights_when_the_path_goes_on():
    path = {0: at_loss(1.0)}
    twin = twins.early_stopped(BOWL, path, 1.0)
    path[0].zero_()
    assert torch.equal(twin.theta, at_loss(1.0))


@pytest.mark.parametrize("name", ["1/n", "exp(-n/100)"])
@pytest.mark.parametrize("steps", [1, 2, 3, 17, 250, 999, 1000])
def test_own_schedule_finds_the_length_that_ends_at_the_target(steps, name):
    curve, tried = {"1/n": lambda n: 1 / n, "exp(-n/100)": lambda n: math.exp(-n / 100)}[name], []

    def train(n):
        tried.append(n)
        return at_loss(curve(n))

    twin = twins.own_schedule(BOWL, train, curve(steps), longest=1000)
    assert twin.found and abs(twin.mismatch) <= 0.021 and twin.kind == "own schedule" and twin.lr == 0.0
    assert close(twin.loss, curve(twin.at), 1e-12) and torch.equal(twin.theta, at_loss(curve(twin.at)))
    assert close(twin.gradient_norm, 2 * math.sqrt(twin.loss), 1e-12)
    assert len(set(tried)) == len(tried) <= 20 and all(isinstance(n, int) and 1 <= n <= 1000 for n in tried)


def test_own_schedule_says_when_the_longest_run_is_too_short():
    tried = []
    twin = twins.own_schedule(BOWL, lambda n: (tried.append(n), at_loss(1 / n))[1], 1e-3, longest=100)
    assert not twin.found and twin.at == 100 and close(twin.loss, 0.01, 1e-12) and close(twin.mismatch, 9.0, 1e-12)
    assert max(tried) == 100


def test_own_schedule_says_when_lengths_are_too_coarse():
    twin = twins.own_schedule(BOWL, lambda n: at_loss(4.0 ** (5 - n)), 2.0, longest=10)
    assert not twin.found and twin.loss in (pytest.approx(1.0), pytest.approx(4.0))


def test_own_schedule_trains_a_network_to_the_loss_of_another():
    x, y = normal(30, 4), classes(30, 3)
    loss = NetworkLoss(mlp(4, 6, 3, seed=0).double(), x, y)

    def train(steps):
        build = lambda seed: mlp(4, 6, 3, seed=seed).double()  # noqa: E731
        return ensemble.train(build, x, y, [0], steps, lr=0.5, schedule="cosine", progress=False).theta[0]

    target = loss(train(70)).item()
    twin = twins.own_schedule(loss, train, target, longest=200)
    assert twin.found and abs(twin.mismatch) <= 0.02 and 50 < twin.at < 90
    assert close(loss(twin.theta), twin.loss, 1e-12) and close(loss.gradient(twin.theta).norm(), twin.gradient_norm)
