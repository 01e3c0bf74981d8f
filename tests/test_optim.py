"""SAM is its formula around an unchanged base optimiser, and leaves nothing behind but that step."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import classes, close, normal
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from flatlab.models import mlp
from flatlab.optim import SAM

X, Y = normal(12, 4), classes(12, 3)
A, B = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)), normal(3, seed=1)
SGD, HEAVY = torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
BASES = {"sgd": (SGD, HEAVY), "adam": (torch.optim.Adam, {"lr": 0.01}), "adamw": (torch.optim.AdamW, {"lr": 0.01})}


def quadratic(p):
    return p @ A @ p / 2 - B @ p


def classifier(*extra, dtype=torch.float64):
    return nn.Sequential(*mlp(4, 6, 3, activation="tanh", seed=0), *extra).to(dtype)


def normed(**options):
    """A network with batch norm, in float32, where subtracting an ascent would not restore the weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, **options), nn.Tanh(), nn.Linear(5, 3))


def loss_of(net, i=0):
    """The loss of `net` on the samples in an order of its own."""
    return lambda: F.cross_entropy(net(X.roll(i, 0).to(net[0].weight.dtype)), Y.roll(i))


def closure_of(optimiser, loss):
    def closure():
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def step(optimiser, loss, two_steps=False):
    closure = closure_of(optimiser, loss)
    if not two_steps:
        return optimiser.step(closure)
    closure(), optimiser.ascend(), closure(), optimiser.step()


def run(net, optimiser, steps=4, after=lambda i: None, **options):
    for i in range(steps):
        step(optimiser, loss_of(net, i), **options)
        after(i)
    return weights(net)


def weights(net):
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def all_equal(found, wanted):
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("momentum, decay", [(0.0, 0.0), (0.9, 0.0), (0.9, 0.05)])
def test_steps_on_a_quadratic_equal_the_closed_form(momentum, decay, adaptive):
    p, rho, lr = nn.Parameter(normal(3, seed=2)), 0.3, 0.07
    optimiser = SAM([p], SGD, rho=rho, adaptive=adaptive, lr=lr, momentum=momentum, weight_decay=decay)
    theta, buffer = p.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for _ in range(4):
        assert close(step(optimiser, lambda: quadratic(p)), quadratic(theta), 1e-12)
        scale, slope = theta.abs() if adaptive else torch.ones_like(theta), A @ theta - B
        uphill = theta + rho * scale**2 * slope / (scale * slope).norm()
        buffer = momentum * buffer + A @ uphill - B + decay * theta
        theta = theta - lr * buffer
        assert close(p, theta, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("base", BASES)
def test_a_radius_of_zero_is_the_base_optimiser_bit_for_bit_with_the_same_random_numbers(base, dtype):
    def final(make):
        torch.manual_seed(5)
        net = classifier(nn.Dropout(0.4), dtype=dtype)
        return run(net, make(net.parameters(), **options)), torch.random.get_rng_state()

    kind, options = BASES[base]
    with torch.random.fork_rng(devices=[]):
        assert all_equal(final(lambda p, **options: SAM(p, kind, rho=0.0, **options)), final(kind))


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_zero_gradient_gives_a_plain_step_in_which_weight_decay_acts(adaptive):
    ours, plain = nn.Parameter(normal(3, seed=3)), nn.Parameter(normal(3, seed=3))
    step(SAM([ours], SGD, adaptive=adaptive, **HEAVY), lambda: 0 * ours.sum())
    step(SGD([plain], **HEAVY), lambda: 0 * plain.sum())
    assert torch.equal(ours, plain) and close(ours, 0.999 * normal(3, seed=3), 1e-12)


@pytest.mark.parametrize("base", BASES)
def test_the_closure_and_the_two_steps_agree_bit_for_bit(base):
    (kind, options), one, two = BASES[base], classifier(), classifier()
    run(one, SAM(one.parameters(), kind, rho=0.2, **options))
    run(two, SAM(two.parameters(), kind, rho=0.2, **options), two_steps=True)
    assert torch.equal(weights(one), weights(two)) and not torch.equal(weights(one), weights(classifier()))


def test_groups_have_their_own_radius_and_kind_under_one_norm():
    a, b, c = (nn.Parameter(normal(3, seed=s)) for s in (2, 3, 4))
    groups = [{"params": [a], "rho": 0.5}, {"params": [b], "rho": 0.0, "lr": 0.01}, {"params": [c], "adaptive": True}]
    optimiser, old, seen = SAM(groups, SGD, rho=0.2, lr=0.1), [p.detach().clone() for p in (a, b, c)], []

    def loss():
        seen.append([p.detach().clone() for p in (a, b, c)])
        return quadratic(a) + quadratic(b) + quadratic(c)

    step(optimiser, loss)
    slopes = [A @ p - B for p in old]
    norm = torch.cat([slopes[0], slopes[1], old[2].abs() * slopes[2]]).norm()
    moves = [0.5 * slopes[0] / norm, 0 * slopes[1], 0.2 * old[2] ** 2 * slopes[2] / norm]
    for k, (p, rate) in enumerate(((a, 0.1), (b, 0.01), (c, 0.1))):
        assert close(seen[1][k], old[k] + moves[k], 1e-12)
        assert close(p, old[k] - rate * (A @ seen[1][k] - B), 1e-12)


def test_a_group_can_be_added_later_as_to_any_optimiser():
    a, b = nn.Parameter(normal(3)), nn.Parameter(normal(3, seed=1))
    optimiser = SAM([a], SGD, **HEAVY)
    optimiser.add_param_group({"params": [b]})
    step(optimiser, lambda: quadratic(a) + quadratic(b))
    assert not torch.equal(b, normal(3, seed=1))


SCHEDULERS = {
    "lambda": (lambda o: LambdaLR(o, lambda i: 1 / (1 + i)), lambda i: 1 / (1 + i)),
    "cosine": (lambda o: CosineAnnealingLR(o, 5), lambda i: (1 + math.cos(math.pi * i / 5)) / 2),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_sets_the_rate_of_every_step(name, recwarn):
    (make, rate), net, by_hand = SCHEDULERS[name], classifier(), classifier()
    optimiser, fixed = (SAM(n.parameters(), SGD, rho=0.2, lr=0.1) for n in (net, by_hand))
    scheduler = make(optimiser)
    run(net, optimiser, after=lambda i: scheduler.step())
    run(by_hand, fixed, after=lambda i: fixed.param_groups[0].update(lr=0.1 * rate(i + 1)))
    assert close(weights(net), weights(by_hand), 1e-12) and close(optimiser.param_groups[0]["lr"], 0.1 * rate(4))
    assert not [w for w in recwarn if "scheduler" in str(w.message)]


@pytest.mark.parametrize("base", BASES)
def test_a_run_goes_on_from_its_state_dict_bit_for_bit(base):
    (kind, options), net = BASES[base], classifier()
    optimiser = SAM(net.parameters(), kind, rho=0.2, adaptive=True, **options)
    run(net, optimiser)
    twin = copy.deepcopy(net)
    other = SAM(twin.parameters(), kind, rho=0.01, lr=1.0)
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert other.param_groups[0]["rho"] == 0.2 and other.param_groups[0]["adaptive"] is True
    assert torch.equal(run(net, optimiser), run(twin, other))


def autocast_loss(net, enabled=True):
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        return F.cross_entropy(net(X.float()), Y)


def test_bf16_autocast_needs_nothing_special():
    low, full = (classifier(dtype=torch.float32) for _ in range(2))
    before = weights(full)
    step(SAM(low.parameters(), SGD, rho=0.1, lr=0.1), lambda: autocast_loss(low))
    step(SAM(full.parameters(), SGD, rho=0.1, lr=0.1), lambda: autocast_loss(full, enabled=False))
    assert close(weights(low) - before, weights(full) - before, 0.05) and not torch.equal(weights(low), weights(full))


@pytest.mark.parametrize("two_steps", [False, True])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 0.3}], ids=str)
def test_batch_norm_statistics_move_once_a_step(options, two_steps):
    net, single = normed(**options), normed(**options)
    optimiser = SAM(net.parameters(), SGD, rho=0.5, lr=0.1)
    for i in range(3):
        torch.nn.utils.vector_to_parameters(weights(net), single.parameters())
        loss_of(single, i)()
        step(optimiser, loss_of(net, i), two_steps)
        assert all_equal(net.buffers(), single.buffers()) and net[1].num_batches_tracked == i + 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_second_pass_leaves_weights_and_statistics_of_the_first(error):
    net, single, calls = normed(), normed(), []
    before = weights(net)

    def loss():
        calls.append(weights(net))
        loss_of(net)() if len(calls) == 2 else None
        if len(calls) == 2:
            raise error
        return loss_of(net)()

    with pytest.raises(error):
        step(SAM(net.parameters(), SGD, rho=0.7, lr=0.1), loss)
    loss_of(single)()
    assert not torch.equal(calls[1], before) and torch.equal(weights(net), before)
    assert all_equal(net.buffers(), single.buffers())


def test_restore_undoes_an_ascent_and_a_second_ascent_starts_from_the_same_point():
    net = normed()
    optimiser, before = SAM(net.parameters(), SGD, rho=0.7, lr=0.1), weights(net)
    loss_of(net)().backward()
    optimiser.ascend(), optimiser.ascend()
    assert close((weights(net) - before).norm(), 0.7, 1e-6)
    optimiser.restore()
    assert torch.equal(weights(net), before)
    loss_of(net)()
    assert net[1].num_batches_tracked == 2  # from here statistics move again
    with pytest.raises(RuntimeError, match="ascend"):
        optimiser.step()


@pytest.mark.parametrize("rho", [-0.1, float("nan")])
@pytest.mark.parametrize("place", ["argument", "group"])
def test_a_negative_radius_is_refused(place, rho):
    p = nn.Parameter(normal(3))
    with pytest.raises(ValueError, match="rho is"):
        SAM([p], SGD, rho, lr=0.1) if place == "argument" else SAM([{"params": [p], "rho": rho}], SGD, lr=0.1)


def fp16_recipe(s, opt, losses):
    """The docstring's recipe, line by line; `losses` yields the losses of the two passes."""
    s.scale(next(losses)).backward()
    s.unscale_(opt), opt.ascend(), opt.zero_grad()
    (next(losses) * s.get_scale()).backward()
    for p in opt.param_groups[0]["params"]:
        p.grad /= s.get_scale()
    s.step(opt), opt.restore(), s.update(), opt.zero_grad()


@pytest.mark.parametrize("autocast", [False, True])
def test_the_recipe_for_a_grad_scaler_equals_steps_without_one(autocast):
    net, plain = (classifier(dtype=torch.float32) for _ in range(2))
    optimiser, wanted = (SAM(n.parameters(), SGD, rho=0.2, **HEAVY) for n in (net, plain))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)  # powers of two: nothing is rounded
    for _ in range(3):
        fp16_recipe(scaler, optimiser, (autocast_loss(net, autocast) for _ in range(2)))
        step(wanted, lambda: autocast_loss(plain, autocast))
    assert torch.equal(weights(net), weights(plain)) and scaler.get_scale() > 2.0**10


@pytest.mark.parametrize("factors", [(torch.inf, 1.0), (1.0, torch.inf)], ids=["first pass", "second pass"])
def test_the_recipe_leaves_the_weights_where_a_pass_overflows(factors):
    net, scaler = normed(), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimiser, before = SAM(net.parameters(), SGD, rho=0.2, **HEAVY), weights(net)
    fp16_recipe(scaler, optimiser, (factor * loss_of(net)() for factor in factors))
    assert torch.equal(weights(net), before) and scaler.get_scale() < 2.0**10


def test_a_closure_with_a_grad_scaler_is_a_clear_error():
    net = classifier()
    optimiser = SAM(net.parameters(), SGD, lr=0.1)
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):
        torch.amp.GradScaler("cpu").step(optimiser, closure=closure_of(optimiser, loss_of(net)))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("norm, tol", [("theirs", 1e-6), ("in float64", 1e-12)])
def test_a_peer_takes_the_same_steps(norm, tol, adaptive, base, monkeypatch):
    # pytorch_optimizer's definition is ours, but for an epsilon in the norm (0 here) and a norm in float32 (hence 1e-6).
    peer = pytest.importorskip("pytorch_optimizer.optimizer.sam", reason="the peer is not installed")
    if norm == "in float64":
        monkeypatch.setattr(peer, "get_global_gradient_norm", squared_norm)
    (kind, options), net, theirs = BASES[base], classifier(), classifier()
    run(net, SAM(net.parameters(), kind, rho=0.3, adaptive=adaptive, **options))
    other = peer.SAM(theirs.parameters(), kind, rho=0.3, adaptive=adaptive, perturb_eps=0.0, **options)
    for i in range(4):
        closure_of(other, loss_of(theirs, i))()  # the gradients of its first pass are the caller's job
        step(other, loss_of(theirs, i))
    assert close(weights(net), weights(theirs), tol)


def squared_norm(groups, weight_adaptive):
    pairs = [(p, group["adaptive"]) for group in groups for p in group["params"]]
    return sum((p.grad * p.abs() if adaptive else p.grad).square().sum() for p, adaptive in pairs)[None]
