"""SAM is its formula around an unchanged base optimiser, and leaves nothing behind but that step."""

import copy
import gc
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from helpers import classes, close, normal
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LambdaLR, OneCycleLR

from flatlab.models import mlp
from flatlab.optim import SAM

X, Y = normal(12, 4), classes(12, 3)
A, B = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)), normal(3, seed=1)
SGD, HEAVY = torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
BASES = {"sgd": (SGD, HEAVY), "adam": (torch.optim.Adam, {"lr": 0.01}), "adamw": (torch.optim.AdamW, {"lr": 0.01})}
SCHEDULERS = [(lambda o: LambdaLR(o, lambda i: 1 / (1 + i)), lambda i: 1 / (1 + i)),
              (lambda o: CosineAnnealingLR(o, 5), lambda i: (1 + math.cos(math.pi * i / 5)) / 2)]  # fmt: skip


def quadratic(p):
    return p @ A @ p / 2 - B @ p


def classifier(*extra, dtype=torch.float64):
    return nn.Sequential(*mlp(4, 6, 3, activation="tanh", seed=0), *extra).to(dtype)


def normed(momentum=0.1):
    with torch.random.fork_rng(devices=[]):  # in float32, where subtracting an ascent would not restore the weights
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=momentum), nn.Tanh(), nn.Linear(5, 3))


def loss_of(net, i=0, autocast=False):
    def loss():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return F.cross_entropy(net(X.roll(i, 0).to(net[0].weight.dtype)), Y.roll(i))

    return loss


def closure_of(optimiser, loss):
    return lambda: (optimiser.zero_grad(), value := loss(), value.backward())[1]


def step(optimiser, loss, two_steps=False):
    closure = closure_of(optimiser, loss)
    return (closure(), optimiser.ascend(), closure(), optimiser.step()) if two_steps else optimiser.step(closure)


def run(net, optimiser, steps=4, after=lambda i: None, **options):
    for i in range(steps):
        step(optimiser, loss_of(net, i), **options)
        after(i)
    return weights(net)


def weights(net, which="parameters"):
    return torch.cat([t.detach().double().view(-1) for t in getattr(net, which)()])


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
    (kind, options), found = BASES[base], []
    for make in (lambda p: SAM(p, kind, rho=0.0, **options), lambda p: kind(p, **options)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            net = classifier(nn.Dropout(0.4), dtype=dtype)
            found.append((run(net, make(net.parameters())), torch.random.get_rng_state()))
    assert all(torch.equal(ours, wanted) for ours, wanted in zip(*found, strict=True))


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_zero_gradient_gives_a_plain_step_in_which_weight_decay_acts(adaptive):
    ours, plain = nn.Parameter(normal(3, seed=3)), nn.Parameter(normal(3, seed=3))
    step(SAM([ours], SGD, adaptive=adaptive, **HEAVY), lambda: 0 * ours.sum())
    step(SGD([plain], **HEAVY), lambda: 0 * plain.sum())
    assert torch.equal(ours, plain) and close(ours, 0.999 * normal(3, seed=3), 1e-12)


@pytest.mark.parametrize("base", BASES)
def test_the_closure_and_the_two_steps_agree_bit_for_bit(base):
    (kind, options), one, two = BASES[base], classifier(), classifier()
    first = run(one, SAM(one.parameters(), kind, rho=0.2, **options))
    second = run(two, SAM(two.parameters(), kind, rho=0.2, **options), two_steps=True)
    assert torch.equal(first, second) and not torch.equal(first, weights(classifier()))


def test_groups_have_their_own_radius_and_kind_under_one_norm():
    ps, seen = [nn.Parameter(normal(3, seed=s)) for s in (2, 3, 4)], []
    own = {"rho": 0.5}, {"rho": 0.0, "lr": 0.01}, {"adaptive": True}
    optimiser = SAM([{"params": [p], **options} for p, options in zip(ps, own, strict=True)], SGD, rho=0.2, lr=0.1)
    old, copies = [p.detach().clone() for p in ps], lambda: [p.detach().clone() for p in ps]
    step(optimiser, lambda: (seen.append(copies()), sum(quadratic(p) for p in ps))[1])
    slopes = [A @ p - B for p in old]
    norm = torch.cat([slopes[0], slopes[1], old[2].abs() * slopes[2]]).norm()
    moves = [0.5 * slopes[0] / norm, 0 * slopes[1], 0.2 * old[2] ** 2 * slopes[2] / norm]
    for p, before, uphill, move, rate in zip(ps, old, seen[1], moves, (0.1, 0.01, 0.1), strict=True):
        assert close(uphill, before + move, 1e-12) and close(p, before - rate * (A @ uphill - B), 1e-12)


def test_a_group_can_be_added_later_as_to_any_optimiser():
    optimiser, p = SAM([nn.Parameter(normal(3))], SGD, **HEAVY), nn.Parameter(normal(3, seed=1))
    optimiser.add_param_group({"params": [p]})
    step(optimiser, lambda: quadratic(p))
    assert not torch.equal(p, normal(3, seed=1))


@pytest.mark.parametrize("make, rate", SCHEDULERS, ids=["lambda", "cosine"])
def test_a_scheduler_sets_the_rate_of_every_step(make, rate, recwarn):
    net, by_hand = classifier(), classifier()
    optimiser, fixed = (SAM(n.parameters(), SGD, rho=0.2, lr=0.1) for n in (net, by_hand))
    scheduler = make(optimiser)
    found = run(net, optimiser, after=lambda i: scheduler.step())
    wanted = run(by_hand, fixed, after=lambda i: fixed.param_groups[0].update(lr=0.1 * rate(i + 1)))
    assert close(found, wanted, 1e-12) and close(optimiser.param_groups[0]["lr"], 0.1 * rate(4))
    assert not [w for w in recwarn if "scheduler" in str(w.message)]


@pytest.mark.parametrize("base", BASES)
def test_a_run_goes_on_from_its_state_dict_bit_for_bit(base):
    (kind, options), net = BASES[base], classifier()
    optimiser = SAM(net.parameters(), kind, rho=0.2, adaptive=True, **options)
    run(net, optimiser)
    other = SAM((twin := copy.deepcopy(net)).parameters(), kind, rho=0.01, lr=1.0)
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert other.param_groups[0]["rho"] == 0.2 and other.param_groups[0]["adaptive"] is True
    assert torch.equal(run(net, optimiser), run(twin, other))


def test_bf16_autocast_needs_nothing_special():
    low, full = (classifier(dtype=torch.float32) for _ in range(2))
    before = weights(full)
    step(SAM(low.parameters(), SGD, rho=0.1, lr=0.1), loss_of(low, autocast=True))
    step(SAM(full.parameters(), SGD, rho=0.1, lr=0.1), loss_of(full))
    assert close(weights(low) - before, weights(full) - before, 0.05) and not torch.equal(weights(low), weights(full))


@pytest.mark.parametrize("two_steps", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
def test_batch_norm_statistics_move_once_a_step(momentum, two_steps):
    net, single = normed(momentum), normed(momentum)
    optimiser = SAM(net.parameters(), SGD, rho=0.5, lr=0.1)
    for i in range(3):
        torch.nn.utils.vector_to_parameters(weights(net).float(), single.parameters())
        loss_of(single, i)()
        step(optimiser, loss_of(net, i), two_steps)
        assert torch.equal(weights(net, "buffers"), weights(single, "buffers"))
    assert net[1].num_batches_tracked == 3


def test_an_exception_in_the_second_pass_leaves_weights_and_statistics_of_the_first():
    net, single, before, calls = normed(), normed(), weights(normed()), []

    def loss():
        calls.append(weights(net))
        value = loss_of(net)()
        if len(calls) == 2:
            raise KeyboardInterrupt
        return value

    with pytest.raises(KeyboardInterrupt):
        step(SAM(net.parameters(), SGD, rho=0.7, lr=0.1), loss)
    loss_of(single)()
    assert torch.equal(weights(net), before) and not torch.equal(calls[1], before)
    assert torch.equal(weights(net, "buffers"), weights(single, "buffers"))


def test_a_second_ascent_starts_from_the_same_point_and_restore_undoes_it():
    net, before = normed(), weights(normed())
    optimiser = SAM(net.parameters(), SGD, rho=0.7, lr=0.1)
    loss_of(net)().backward(), optimiser.ascend(), optimiser.ascend()
    assert close((weights(net) - before).norm(), 0.7, 1e-6)
    optimiser.restore(), loss_of(net)()
    assert torch.equal(weights(net), before) and net[1].num_batches_tracked == 2  # statistics move again
    with pytest.raises(RuntimeError, match="ascend"):
        optimiser.step()


@pytest.mark.parametrize("rho", [-0.1, math.nan])
@pytest.mark.parametrize("place", ["argument", "group"])
def test_a_negative_radius_is_refused(place, rho):
    group = {"params": [nn.Parameter(normal(3))]} | ({"rho": rho} if place == "group" else {})
    with pytest.raises(ValueError, match="rho is"):
        SAM([group], SGD, rho if place == "argument" else 0.05, lr=0.1)


def stop_at(monkeypatch, owner, name, call):
    """Ctrl-C at the `call`-th call of a function."""
    whole, calls = getattr(owner, name), []

    def stopped(*args, **options):
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return whole(*args, **options)

    monkeypatch.setattr(owner, name, stopped)


def hooks():
    return len(nn.modules.module._global_forward_pre_hooks)


# R5 and R11: autocast blocks, interrupts, what was abandoned, torch.compile, schedulers, copies, plain states ------
@pytest.mark.parametrize("two_steps", [False, True])
def test_a_step_inside_an_autocast_block_is_the_step_with_autocast_in_each_pass(two_steps):
    nets = [classifier(dtype=torch.float32) for _ in range(3)]
    inside, outside, plain = (SAM(n.parameters(), SGD, rho=r, lr=0.1) for n, r in zip(nets, (0.5, 0.5, 0), strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        for i in range(2):  # the whole loop in one block
            step(inside, loss_of(nets[0], i, autocast=True), two_steps)
    for i in range(2):
        step(outside, loss_of(nets[1], i, autocast=True), two_steps)
        step(plain, loss_of(nets[2], i, autocast=True))
    assert torch.equal(weights(nets[0]), weights(nets[1])) and not torch.equal(weights(nets[0]), weights(nets[2]))


@pytest.mark.parametrize("name, call", [("clone", 2), ("add_", 1), ("add_", 3)])
def test_ctrl_c_in_the_ascent_leaves_weights_statistics_and_hooks_as_they_were(name, call, monkeypatch):
    net, before, count = normed(), weights(normed()), hooks()
    optimiser = SAM(net.parameters(), SGD, rho=0.7, lr=0.1)
    loss_of(net)().backward()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, torch.Tensor, name, call)
        optimiser.ascend()
    assert torch.equal(weights(net), before) and hooks() == count
    single = normed()
    assert torch.equal(run(net, optimiser), run(single, SAM(single.parameters(), SGD, rho=0.7, lr=0.1)))


def test_an_abandoned_ascent_ends_with_the_next_step_and_of_its_passes_only_those_of_other_networks_count():
    net, single = normed(), normed()
    optimiser, wanted = (SAM(n.parameters(), SGD, rho=0.7, lr=0.1) for n in (net, single))
    step(optimiser, loss_of(net)), step(wanted, loss_of(single))
    loss_of(net)().backward(), optimiser.ascend(), loss_of(net, 1)()  # and no step
    loss_of(single)()
    assert torch.equal(run(net, optimiser), run(single, wanted))
    assert torch.equal(weights(net, "buffers"), weights(single, "buffers"))


def test_an_abandoned_ascent_takes_back_nothing_where_others_changed_the_weights_since():
    net, count = normed(), hooks()
    optimiser, fresh = SAM(net.parameters(), SGD, rho=0.7, lr=0.1), copy.deepcopy(normed().state_dict())
    run(net, optimiser)
    loss_of(net)().backward(), optimiser.ascend(), loss_of(net)()
    net.load_state_dict(fresh)
    optimiser.restore()
    assert all(torch.equal(t, fresh[name]) for name, t in net.state_dict().items()) and hooks() == count


def test_an_optimiser_that_is_gone_moves_nothing_and_leaves_no_hook():
    net, count = normed(), hooks()
    optimiser = SAM(net.parameters(), SGD, rho=0.7, lr=0.1)
    loss_of(net)().backward(), optimiser.ascend(), loss_of(net)()
    now = copy.deepcopy(net.state_dict())
    del optimiser
    gc.collect()
    assert hooks() == count and all(torch.equal(t, now[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize("two_steps", [False, True])
@pytest.mark.parametrize("how", ["function", "method"])
@pytest.mark.filterwarnings("ignore:Using `torch.compile")
def test_statistics_move_once_a_step_in_a_compiled_network_and_without_weights_of_their_own(how, two_steps):
    net, single = (nn.Sequential(*normed(), nn.BatchNorm1d(3, affine=False)) for _ in range(2))
    called = torch.compile(net, backend="eager") if how == "function" else net
    net.compile(backend="eager") if how == "method" else None
    optimiser, wanted = (SAM(n.parameters(), SGD, rho=0.5, lr=0.1) for n in (net, single))
    for i in range(2):
        step(optimiser, lambda i=i: F.cross_entropy(called(X.roll(i, 0).float()), Y.roll(i)), two_steps)
        step(wanted, loss_of(single, i), two_steps)
    assert net[1].num_batches_tracked == net[4].num_batches_tracked == 2
    assert close(weights(net, "buffers"), weights(single, "buffers"), 1e-6)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("scheduler", [OneCycleLR, CyclicLR])
def test_schedulers_that_move_the_momentum_too_take_it(scheduler, base):
    (kind, options), seen = BASES[base], []
    options = {"base_lr": 0.01, "max_lr": 0.1} if scheduler is CyclicLR else {"max_lr": 0.1, "total_steps": 9}
    for make in (lambda p: SAM(p, kind, rho=0.0, **BASES[base][1]), lambda p: kind(p, **BASES[base][1])):
        net = classifier()
        rates = scheduler(optimiser := make(net.parameters()), **options)
        seen.append(run(net, optimiser, after=lambda i, rates=rates: rates.step()))
    assert torch.equal(*seen)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"])
def test_a_copy_goes_on_like_the_original(how, base):
    (kind, options), net = BASES[base], classifier()
    optimiser = SAM(net.parameters(), kind, rho=0.2, **options)
    run(net, optimiser)
    twin, other = how((net, optimiser))
    assert torch.equal(run(twin, other), run(net, optimiser)) and other.state_dict().keys() == {"state", "param_groups"}
    loss_of(net)().backward(), optimiser.ascend()
    with pytest.raises(RuntimeError, match="cannot be copied between ascend"):
        how(optimiser)


@pytest.mark.parametrize("base", BASES)
def test_the_state_of_a_plain_optimiser_can_be_taken_over(base):
    (kind, options), net = BASES[base], classifier()
    run(net, plain := kind(net.parameters(), **options))
    found = []
    for rho in (0.0, 0.3):
        twin = copy.deepcopy(net)
        other = SAM(twin.parameters(), kind, rho=rho, adaptive=True, lr=1.0)
        other.load_state_dict(copy.deepcopy(plain.state_dict()))
        assert (other.param_groups[0]["rho"], other.param_groups[0]["adaptive"]) == (rho, True)
        found.append(run(twin, other))
    assert torch.equal(found[0], run(net, plain)) and not torch.equal(*found)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_peer_takes_the_same_steps(adaptive, monkeypatch):
    # Its definition is ours, but for an epsilon in the norm (0 here) and a norm in float32 (here the same in float64).
    peer = pytest.importorskip("pytorch_optimizer.optimizer.sam", reason="the peer is not installed")
    net, theirs = classifier(), classifier()
    scaled = lambda: [p.grad * (p.abs() if adaptive else 1) for p in theirs.parameters()]  # noqa: E731
    monkeypatch.setattr(peer, "get_global_gradient_norm", lambda *a, **o: sum(g.square().sum() for g in scaled())[None])
    other = peer.SAM(theirs.parameters(), SGD, rho=0.3, adaptive=adaptive, perturb_eps=0.0, **HEAVY)
    for i in range(4):
        closure_of(other, loss_of(theirs, i))()  # the gradients of its first pass are the caller's job
        step(other, loss_of(theirs, i))
    assert close(run(net, SAM(net.parameters(), SGD, rho=0.3, adaptive=adaptive, **HEAVY)), weights(theirs), 1e-12)
