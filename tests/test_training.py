"""Training is one loop for one network or many: every member equals its solo run, and that a plain torch loop."""

import doctest
import math
import os
import signal
import threading
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from helpers import classes, close, normal
from torch import nn

import flatlab as fl
from flatlab import NetworkLoss, Objective, sharpness, train, training
from flatlab.models import mlp, resnet
from flatlab.training import asam, control, sam

X, Y = normal(30, 4), classes(30, 3)
TARGETS = normal(30, 3, seed=7)
SEEDS = (3, 1, 4)


class Block(nn.Module):
    """A residual block with layer norm, as a network without memory may have."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x + torch.tanh(self.inner(self.norm(x))))


def seeded(make):
    def build(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make().double()

    return build


def normed():
    # Without the bias, whose gradient is zero, so that Adam would make its rounding large.
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


NETWORKS = {
    "relu mlp": lambda s: mlp(4, 9, 7, 3, seed=s).double(),
    "tanh mlp without bias": lambda s: mlp(4, 9, 3, activation="tanh", bias=False, seed=s).double(),
    "narrow mlp": lambda s: mlp(4, 1, 3, seed=s).double(),
    "gelu mlp": lambda s: mlp(4, 9, 3, activation="gelu", seed=s).double(),
    "residual": seeded(Block),
    "batch norm": seeded(normed),
    "convolution": seeded(lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.Flatten())),
}
SETTINGS = {
    "gd": {"lr": 0.2},
    "momentum, batches, weight decay": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "batch": 8},
    "adam, batches": {"optimiser": "adam", "lr": 0.02, "batch": 8, "weight_decay": 0.01},
    "adamw": {"optimiser": "adamw", "lr": 0.02, "batch": 8, "weight_decay": 0.1},
    "sam": {"lr": 0.1, "momentum": 0.9, "rule": sam, "rho": 0.2, "batch": 8},
    "asam, adam": {"optimiser": "adam", "lr": 0.02, "rule": asam, "rho": 0.3},
    "smoothing, cosine": {"lr": 0.2, "label_smoothing": 0.1, "schedule": "cosine", "batch": 8},
}
mlps = NETWORKS["relu mlp"]


def go(build, steps=25, x=X, y=Y, loss="cross_entropy", seeds=SEEDS, **options):
    return train(NetworkLoss(build, x, y, loss, seeds=seeds), steps, progress=False, **options)


def batches(count, batch, seed):
    """The documented order: a permutation per epoch, cut into batches."""
    order = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=order).split(batch or count)


def flat(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def gradients(net, loss):
    return torch.autograd.grad(loss, list(net.parameters()))


def shift(net, directions, scale):
    with torch.no_grad():
        for p, d in zip(net.parameters(), directions, strict=True):
            p.add_(d, alpha=float(scale))


def size_of(directions):
    return torch.stack([d.norm() for d in directions]).norm()


def plain(net, seed, steps=25, x=X, y=Y, lr=0.1, batch=None, slope=None, criterion=F.cross_entropy, noise=None):
    """Descent written with torch alone; `slope(net, loss, x, y)` gives the direction, by default the gradient."""
    drawn = batches(len(x), batch, seed)
    for _ in range(steps):
        i = next(drawn)
        u, v = (x[i], y[i]) if batch else (x, y)
        loss = lambda net, u=u, v=v: criterion(net(u), v)  # noqa: E731
        shift(net, slope(net, loss) if slope else gradients(net, loss(net)), -lr)
    return flat(net)


def by_torch(net, seed, x, y, steps, lr, batch=None, optimiser="sgd", momentum=0.0, weight_decay=0.0, rule=None,
             rho=0.0, label_smoothing=0.0, schedule="constant"):  # fmt: skip
    """The same training written with torch's own modules, autograd and optimisers."""
    options = {"momentum": momentum} if optimiser == "sgd" else {}
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimiser]
    opt, drawn = kind(net.parameters(), lr, weight_decay=weight_decay, **options), batches(len(x), batch, seed)

    def backward(i):
        opt.zero_grad()
        F.cross_entropy(net(x[i]), y[i], label_smoothing=label_smoothing).backward()

    for step in range(steps):
        i = next(drawn) if batch else slice(None)
        opt.param_groups[0]["lr"] = lr * ((1 + math.cos(math.pi * step / steps)) / 2 if schedule == "cosine" else 1)
        backward(i)
        if rho:
            moved = {name: buffer.clone() for name, buffer in net.named_buffers()}
            old = [p.detach().clone() for p in net.parameters()]
            scales = [o.abs() if rule is asam else torch.ones_like(o) for o in old]
            norm = size_of([c * p.grad for c, p in zip(scales, net.parameters(), strict=True)])
            shift(net, [c * c * p.grad for c, p in zip(scales, net.parameters(), strict=True)], rho / norm)
            backward(i)
            with torch.no_grad():
                for o, p in zip(old, net.parameters(), strict=True):
                    p.copy_(o)
                for name, buffer in net.named_buffers():  # batch norm's statistics follow the first pass only
                    buffer.copy_(moved[name])
        opt.step()
    return flat(net)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_equals_its_run_in_plain_torch(name, setting):
    build, options = NETWORKS[name], SETTINGS[setting]
    run = go(build, **options)
    for k, seed in enumerate(SEEDS):
        net = build(seed)
        assert close(run.theta[k], by_torch(net, seed, X, Y, 25, **options), 1e-10)
        for found, wanted in zip(run.model(k).buffers(), net.buffers(), strict=True):
            assert close(found, wanted, 1e-10)
        assert close(run.loss()()[k], F.cross_entropy(net.eval()(X), Y), 1e-10)


# Each of the following is a reader's own code, and equals a plain loop in torch to 1e-10.


def test_gam_is_a_rule_with_a_hessian_vector_product():
    def gam(objective, theta, rho, share):
        g = objective.gradient(theta)
        above = theta + rho * g / g.norm(dim=-1, keepdim=True)
        slope = objective.gradient(above)
        push = objective.hvp(above, slope / slope.norm(dim=-1, keepdim=True))
        return g + share * rho * push

    def slope(net, loss):
        g = gradients(net, loss(net))
        shift(net, g, 0.2 / size_of(g))
        above = torch.autograd.grad(loss(net), list(net.parameters()), create_graph=True)
        push = torch.autograd.grad(size_of(above), list(net.parameters()))
        shift(net, g, -0.2 / size_of(g))
        return [a + 0.5 * 0.2 * b for a, b in zip(g, push, strict=True)]

    run = go(NETWORKS["tanh mlp without bias"], rule=gam, rho=0.2, share=0.5, batch=8)
    for k, seed in enumerate(SEEDS):
        assert close(run.theta[k], plain(NETWORKS["tanh mlp without bias"](seed), seed, batch=8, slope=slope), 1e-10)


def test_trace_sam_draws_antithetic_pairs_from_each_member_s_own_noise():
    def trace_sam(objective, theta, rho):
        e = rho * objective.noise()
        return (objective.gradient(theta + e) + objective.gradient(theta - e)) / 2

    run = go(mlps, rule=trace_sam, rho=0.05)
    for k, seed in enumerate(SEEDS):
        net, draws = mlps(seed), torch.Generator().manual_seed(seed + 2**31)

        def slope(net, loss, draws=draws):
            e = 0.05 * torch.randn(flat(net).numel(), generator=draws, dtype=torch.float64)
            e = [part.view_as(p) for part, p in zip(e.split([p.numel() for p in net.parameters()]), net.parameters())]  # noqa: B905
            shift(net, e, 1)
            up = gradients(net, loss(net))
            shift(net, e, -2)
            down = gradients(net, loss(net))
            shift(net, e, 1)
            return [(a + b) / 2 for a, b in zip(up, down, strict=True)]

        assert close(run.theta[k], plain(net, seed, slope=slope), 1e-10)


def test_langevin_noise_is_a_rule():
    def langevin(objective, theta, temperature):
        return objective.gradient(theta) + temperature * objective.noise()

    run = go(mlps, 5, rule=langevin, temperature=0.3)
    net, draws = mlps(3), torch.Generator().manual_seed(3 + 2**31)
    for _ in range(5):
        g = torch.cat([g.flatten() for g in gradients(net, F.cross_entropy(net(X), Y))])
        step = g + 0.3 * torch.randn(len(g), generator=draws, dtype=torch.float64)
        torch.nn.utils.vector_to_parameters(flat(net) - 0.1 * step, net.parameters())
    assert close(run.theta[0], flat(net), 1e-10)


@pytest.mark.parametrize("name", ["relu mlp", "residual"])
def test_an_unhinged_loss_is_a_function_of_outputs_and_targets(name):
    def unhinged(outputs, targets):
        return outputs.mean(-1) - outputs.gather(-1, targets[:, None])[:, 0]

    run = go(NETWORKS[name], 10, loss=unhinged, batch=8, lr=0.01)
    for k, seed in enumerate(SEEDS):
        mean = lambda z, y: unhinged(z, y).mean()  # noqa: E731
        assert close(run.theta[k], plain(NETWORKS[name](seed), seed, 10, lr=0.01, batch=8, criterion=mean), 1e-10)


def test_label_noise_descent_on_mse():
    run = go(mlps, 10, y=TARGETS, loss="mse", label_noise=[0.3, 0.0, 0.3], lr=0.05)
    for k, (seed, sd) in enumerate(zip(SEEDS, (0.3, 0.0, 0.3), strict=True)):
        net, draws = mlps(seed), torch.Generator().manual_seed(seed + 2**31)
        for _ in range(10):
            noise = sd * torch.randn(TARGETS.shape, generator=draws, dtype=torch.float64) if sd else 0.0
            shift(net, gradients(net, F.mse_loss(net(X), TARGETS + noise)), -0.05)
        assert close(run.theta[k], flat(net), 1e-10)


def test_relative_flatness_is_a_penalty():
    loss = NetworkLoss(mlps, X, Y, seeds=SEEDS)
    penalised = loss + 0.1 * sharpness.RelativeFlatness(loss, normalise=False)
    run = train(penalised, 10, batch=8, progress=False)

    def slope(net, plain_loss):
        features, head = net[:-1], net[-1]
        return gradients(net, plain_loss(net) + 0.1 * kappa(features(batch_of(plain_loss)), head))

    def batch_of(plain_loss):
        return plain_loss.__defaults__[0]

    def kappa(phi, head):
        p, w = head(phi).softmax(-1), head.weight
        pairs = (w[:, None] - w).square().sum(-1)
        return (phi.square().sum(1) * torch.einsum("ni,nj,ij->n", p, p, pairs)).mean() / 2

    for k, seed in enumerate(SEEDS):
        assert close(run.theta[k], plain(mlps(seed), seed, 10, batch=8, slope=slope), 1e-10)
    assert close(run.loss()(), loss.at(run.theta)(), 1e-12)  # clean, without the penalty


def test_three_rounds_of_federated_averaging_go_on_where_they_were():
    clients = [X[:15], X[15:]], [Y[:15], Y[15:]]
    loss, run, mean = NetworkLoss(mlps(0), *clients), None, flat(mlps(0))
    for _ in range(3):
        run = train(loss, 5, start=run, theta=mean, fresh=["momentum"], momentum=0.9, batch=4, lr=0.05, progress=False)
        mean = run.theta.mean(0)

    drawn, wanted = [batches(15, 4, seed) for seed in (0, 1)], flat(mlps(0))
    for _ in range(3):
        ends = []
        for k in (0, 1):
            net = mlps(0)
            torch.nn.utils.vector_to_parameters(wanted.clone(), net.parameters())
            opt = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
            for i in (next(drawn[k]) for _ in range(5)):
                opt.zero_grad()
                F.cross_entropy(net(clients[0][k][i]), clients[1][k][i]).backward()
                opt.step()
            ends.append(flat(net))
        wanted = torch.stack(ends).mean(0)
    assert close(mean, wanted, 1e-10)


def test_adversarial_fine_tuning_is_a_loop_around_the_trainer():
    def attacked(loss):
        x = loss.inputs.clone().requires_grad_()
        loss.sample_losses(loss.forward(loss.theta, x), loss.targets).sum().backward()
        return (loss.inputs + 0.1 * x.grad.sign()).detach()

    run = train(NetworkLoss(mlps(0), X, Y), 10, progress=False)
    for _ in range(3):
        run = train(NetworkLoss(run.model(), attacked(run.loss(X, Y)), Y), 4, start=run, progress=False)

    net = mlps(0)
    plain(net, 0, 10)
    for _ in range(3):
        x = X.clone().requires_grad_()
        F.cross_entropy(net(x), Y).backward()
        plain(net, 0, 4, x=(X + 0.1 * x.grad.sign()).detach())
    assert close(run.theta, flat(net), 1e-10)


def test_a_parabola_descends_too_and_members_start_where_they_are_told():
    bowl = Objective(lambda t: (torch.tensor([1.0, 4.0]) * t**2).sum(-1), dim=2)
    run = train(bowl, 3, theta=torch.tensor([[1.0, 1.0], [2.0, 0.0]]), lr=[0.1, 0.05], progress=False)
    wanted = torch.tensor([[0.8**3, 0.2**3], [2 * 0.9**3, 0.0]])
    assert close(run.theta, wanted, 1e-6) and close(run.loss()(), bowl(wanted), 1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9, "batch": 7}, {"rule": sam, "rho": 0.1, "batch": 7}, {"rule": asam, "rho": 0.5},
     {"optimiser": "adam", "lr": 0.01}, {"lr": [0.1, 0.2, 0.3], "schedule": "cosine"}],
    ids=["gd", "momentum", "sam", "asam", "adam", "rates"],
)  # fmt: skip
def test_plain_mlps_in_float32_equal_their_solo_run_bit_for_bit(options):
    build = lambda s: mlp(5, 9, 7, 3, seed=s)  # noqa: E731
    x = normal(30, 5).float()
    run = go(build, 40, x=x, **options)
    for k, seed in enumerate(SEEDS):
        own = {name: value[k] if isinstance(value, list) else value for name, value in options.items()}
        alone = go(build, 40, x=x, seeds=[seed], **own)
        assert torch.equal(alone.theta[0], run.theta[k])


def test_each_member_has_its_own_strengths_data_and_labels():
    xs, ys = [X, X + 1, X * 2], [Y, (Y + 1) % 3, Y]
    run = go(mlps, x=xs, y=ys, lr=[0.1, 0.2, 0.3], momentum=[0.0, 0.5, 0.9], batch=8)
    for k, seed in enumerate(SEEDS):
        options = {"lr": (0.1, 0.2, 0.3)[k], "momentum": (0.0, 0.5, 0.9)[k], "batch": 8}
        assert close(run.theta[k], by_torch(mlps(seed), seed, xs[k], ys[k], 25, **options), 1e-10)


def test_noise_on_some_members_leaves_the_others_their_solo_runs():  # R3
    xs, ys = [X, X, X], [Y, Y.clamp(max=1), Y]  # the second has two classes
    strengths = {"label_noise": [0.4, 0.4, 0.0], "input_noise": [0.0, 0.2, 0.0]}
    run = go(mlps, x=xs, y=ys, batch=8, **strengths)
    for k, seed in enumerate(SEEDS):
        own = {name: values[k] for name, values in strengths.items()}
        assert close(run.theta[k], go(mlps, y=ys[k], seeds=[seed], batch=8, **own).theta[0], 1e-10)


SETTINGS_THAT_GO_ON = {
    "momentum": {"momentum": 0.9, "batch": 7},
    "adam": {"optimiser": "adam", "lr": 0.01, "label_noise": 0.2, "batch": 7},
    "sam, cosine": {"rule": sam, "rho": [0.1, 0.2, 0.3], "batch": 7, "schedule": "cosine", "momentum": 0.9},
}


@pytest.mark.parametrize("name", SETTINGS_THAT_GO_ON)
@pytest.mark.parametrize("build", ["relu mlp", "batch norm"])
def test_a_run_goes_on_bit_for_bit_also_from_a_file(name, build, tmp_path):
    options = SETTINGS_THAT_GO_ON[name]
    loss = NetworkLoss(NETWORKS[build], X, Y, seeds=SEEDS)
    whole = train(loss, 23, progress=False, **options)
    half = train(loss, 11, total=23, progress=False, **options)
    half.save(tmp_path / "half.safetensors")
    for start in (half, training.load(tmp_path / "half.safetensors", loss)):
        rest = train(loss, 12, start=start, progress=False)
        assert torch.equal(rest.theta, whole.theta) and rest.steps == 23
        assert torch.equal(rest.loss()(), whole.loss()())


def test_dropout_goes_on_too_and_leaves_the_global_state_alone():
    build = seeded(lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 3)))
    before = torch.get_rng_state()
    whole, half = (go(build, steps, seeds=[0], batch=8) for steps in (8, 4))
    again = train(half.objective, 4, start=half, progress=False)
    assert torch.equal(again.theta, whole.theta) and torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(go(build, 8, seeds=[1], theta=whole.theta, batch=8).theta, whole.theta)
    with pytest.raises(ValueError, match="dropout"):
        go(build, 8)


def test_weights_are_kept_at_the_chosen_steps_from_any_iterable():  # R13
    for keep in ([0, 10, 25], (step for step in (0, 10, 25)), torch.tensor([0, 10, 25])):
        run = go(NETWORKS["batch norm"], keep=keep, batch=8)
        assert sorted(run.kept) == [0, 10, 25] and torch.equal(run.kept[25], run.theta)
    assert torch.equal(run.kept[10], go(NETWORKS["batch norm"], 10, batch=8).theta)
    assert close(run.loss(step=10)(), go(NETWORKS["batch norm"], 10, batch=8).loss()(), 1e-12)  # with its own buffers
    assert close(run.model(1, step=10)(X), run.model(1, step=10).train(False)(X), 1e-12)


def test_the_reader_s_model_stays_as_it_is():
    net = NETWORKS["batch norm"](0).train()
    before = [t.clone() for t in net.state_dict().values()]
    train(NetworkLoss(net, X, Y), 5, rule=sam, progress=False)
    assert net.training and all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before, strict=True))


def test_a_diverged_member_is_frozen_marked_and_the_others_go_on():  # R13
    with pytest.warns(UserWarning, match=r"seeds \[1\] diverged"):
        run = go(mlps, lr=[0.1, 1e200, 0.1])
    assert run.diverged.tolist() == [False, True, False] and run.theta.isfinite().all()
    assert close(run.theta[0], go(mlps, seeds=[3]).theta[0], 1e-12)
    with pytest.warns(UserWarning, match="diverged"):
        assert go(mlps, rule=sam, rho=0.1, lr=[0.1, 1e200, 0.1]).diverged.tolist() == [False, True, False]
    with pytest.warns(UserWarning, match="diverged"):
        run = train(NetworkLoss(mlps(0), X, Y), 9, lr=1e200, progress=False)
    assert run.diverged.item() and run.theta.isfinite().all()


@pytest.mark.parametrize("rule", [None, sam])
def test_if_all_diverge_at_the_first_step_that_is_an_error(rule):
    with pytest.raises(FloatingPointError, match="first step"):
        go(mlps, x=X * math.inf, rule=rule)


@pytest.mark.parametrize("build", ["relu mlp", "batch norm"])
@pytest.mark.parametrize("rule", [None, sam])
def test_an_interrupt_stops_the_cell_after_a_whole_step(build, rule):  # R12, U1
    seen = []

    def impatient(values, _):
        seen.append(1)
        if len(seen) == 3 * len(SEEDS):  # inside the third step
            os.kill(os.getpid(), signal.SIGINT)
        return values

    with pytest.raises(KeyboardInterrupt):
        go(NETWORKS[build], rule=rule, batch=8, augment=impatient)
    run = training.reached()
    assert run.steps == 3 and torch.equal(run.theta, go(NETWORKS[build], 3, rule=rule, batch=8).theta)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert torch.equal(
        train(run.objective, 22, start=run, augment=lambda v, _: v, progress=False).theta,
        go(NETWORKS[build], 25, rule=rule, batch=8).theta,
    )


def test_training_works_in_another_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(go(mlps, 3).theta))
    thread.start()
    thread.join()
    assert torch.equal(found[0], go(mlps, 3).theta)


def test_an_exception_carries_what_was_reached():
    seen = []

    def fails(objective, theta):
        seen.append(1)
        if len(seen) == 4:
            raise OSError("full")
        return objective.gradient(theta)

    with pytest.raises(OSError) as caught:
        go(mlps, rule=fails)
    assert caught.value.partial.steps == 3 and torch.equal(caught.value.partial.theta, go(mlps, 3).theta)


def test_full_memory_names_the_batch():
    def full(objective, theta):
        raise RuntimeError("[enforce fail] can't allocate memory: you tried to allocate")

    with pytest.raises(MemoryError, match=r"a batch of \(3, 8, 4\)"):
        go(mlps, rule=full, batch=8)


def test_bf16_is_a_plain_loop_under_autocast():
    build = lambda s: nn.Sequential(*mlp(4, 9, 3, activation="gelu", seed=s))  # noqa: E731
    run = go(build, 5, x=X.float(), precision="bf16", seeds=[0])
    net = build(0)
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = net(X.float())
            loss = F.cross_entropy(outputs, Y)
        shift(net, gradients(net, loss), -0.1)
    assert close(run.theta[0], flat(net), 1e-3) and not close(
        run.theta[0], go(build, 5, x=X.float(), seeds=[0]).theta[0], 1e-7
    )


def test_augmentation_draws_from_each_member_s_order():
    images, labels = normal(20, 1, 4, 4), classes(20, 3)
    build = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 3)))
    augment = lambda v, g: v + torch.rand(1, generator=g, dtype=v.dtype)  # noqa: E731
    run = go(build, 6, x=images, y=labels, batch=8, augment=augment)
    for k, seed in enumerate(SEEDS):
        net, order, queue = build(seed), torch.Generator().manual_seed(seed), []
        for _ in range(6):
            queue = queue or list(torch.randperm(20, generator=order).split(8))
            i = queue.pop(0)
            shift(net, gradients(net, F.cross_entropy(net(augment(images[i], order)), labels[i])), -0.1)
        assert close(run.theta[k], flat(net), 1e-10)


def test_a_resnet_with_all_of_it_equals_its_solo_run():
    build = lambda s: resnet((1, 1), width=4, classes=3, seed=s).double()  # noqa: E731
    images = normal(20, 3, 8, 8).abs().clamp(max=1)
    options = control("wd+SAM", batch=8, momentum=0.9, schedule="cosine")
    run = go(build, 6, x=images, y=classes(20, 3), **options)
    alone = go(build, 6, x=images, y=classes(20, 3), seeds=[1], **options)
    assert close(run.theta[1], alone.theta[0], 1e-10) and close(run.loss()()[1], alone.loss()()[0], 1e-10)
    assert close(run.loss().refreshed()()[1], alone.loss().refreshed()()[0], 1e-10)


def test_in_a_sum_of_losses_the_first_moves_the_statistics():
    loss = NetworkLoss(NETWORKS["batch norm"], X, Y, seeds=SEEDS)
    summed = train(0.25 * loss + 0.75 * loss, 5, batch=8, progress=False)
    plain_run = train(loss, 5, batch=8, progress=False)
    assert close(summed.theta, plain_run.theta, 1e-10)
    assert close(summed.model(1)[1].running_var, plain_run.model(1)[1].running_var, 1e-10)


def test_a_schedule_is_a_name_or_a_function():
    for schedule, wanted in (("cosine", lambda t: (1 + math.cos(math.pi * t)) / 2), (lambda t: 1 - t, lambda t: 1 - t)):
        bowl = Objective(lambda theta: theta.sum(-1), dim=1)  # of slope 1: what is walked is the sum of the rates
        run = train(bowl, 5, theta=torch.zeros(1), lr=0.1, schedule=schedule, keep=range(6), progress=False)
        walked = [(a - b).item() for a, b in pairwise(run.kept.values())]
        assert close(walked, [0.1 * wanted(k / 5) for k in range(5)], 1e-6)


def test_the_examples_in_the_docstrings_run():
    failed, tried = doctest.testmod(training)
    assert tried > 5 and not failed


def test_the_six_controls_are_the_documented_ones():
    assert list(training.CONTROLS) == ["base", "SAM", "aug", "aug+SAM", "wd", "wd+SAM"]
    assert control("wd+SAM") == {"weight_decay": 5e-4, "rule": sam, "rho": 0.05}
    assert control("SAM", rho=0.1)["rho"] == 0.1 and control("aug") == {"augment": fl.images.crop_and_flip}
    with pytest.raises(ValueError, match="base, SAM"):
        control("sam")


def wrong_shape(objective, theta):
    return objective.gradient(theta)[:, :2]


def half_run():
    return go(mlps, 3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: go(mlps, loss="hinge"), "loss is 'hinge'"),
        (lambda: go(mlps, loss=F.cross_entropy), r"loss returned \(\) .* one loss per sample"),
        (lambda: go(mlps, optimiser="rmsprop"), "optimiser is 'rmsprop'"),
        (lambda: go(mlps, schedule="linear"), "schedule is 'linear'"),
        (lambda: go(mlps, precision="fp16"), "precision is 'fp16'"),
        (lambda: go(mlps, steps=2.5), "steps is 2.5"),
        (lambda: go(mlps, batch=31), "batch is 31: choose 1 to 30"),
        (lambda: go(mlps, lr=[0.1, 0.2]), "numbers of members differ"),
        (lambda: go(mlps, lr=-0.1), "lr is -0.1"),
        (lambda: go(mlps, momentum=math.nan), "momentum is nan"),
        (lambda: go(mlps, lr=[0.1] * 3, momentum=[0.1] * 2), "strengths differ"),
        (lambda: go(mlps, rho=0.1), "the rule gradient has no such strength"),
        (lambda: go(mlps, rule=lambda f, t, length: t), "length is missing"),
        (lambda: go(mlps, rule=wrong_shape), r"rule returned \(3, 2\)"),
        (lambda: go(mlps, rule=lambda f, t: None), "rule returned NoneType"),
        (lambda: go(mlps, rule="sam"), "rule is 'sam'"),
        (lambda: go(mlps, keep=[26]), r"keep holds \[26\]"),
        (lambda: go(mlps, y=TARGETS, loss="mse", label_smoothing=0.1), "label_smoothing goes with"),
        (lambda: NetworkLoss(mlps, X, Y, seeds=[]), "seeds is empty"),
        (lambda: NetworkLoss(mlps, X, Y, seeds=3), "seeds is 3"),
        (lambda: train(mlps(0), 3), "objective is a Sequential"),
        (lambda: train(half_run().objective, 3, start=half_run(), fresh=["weights"]), "fresh holds"),
        (lambda: train(NetworkLoss(NETWORKS["narrow mlp"](0), X, Y), 3, start=half_run()), "start has .* parameters"),
        (lambda: train(NetworkLoss(mlps, X, Y, seeds=[1, 2]), 3, start=half_run()), "numbers of members differ"),
        (lambda: train(half_run().objective, 9, start=go(mlps, 3, total=6, schedule="cosine")), "total is missing"),
        (lambda: train(half_run().objective, 9, total=4), "total is 4"),
        (lambda: NetworkLoss(mlps(0), X, Y) + Objective(lambda t: t.sum(-1), dim=3), "parameters: add only those"),
        (lambda: NetworkLoss(mlps(0), X, Y) + 0.1, "is no objective"),
        (lambda: half_run().model(), "member is missing"),
    ],
)  # fmt: skip
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_file_that_holds_no_run_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no run"):
        training.load(path, NetworkLoss(mlps(0), X, Y))
    half_run().save(path)
    with pytest.raises(ValueError, match="parameters"):
        training.load(path, NetworkLoss(NETWORKS["narrow mlp"](0), X, Y))


def test_a_rule_of_one_s_own_is_saved_by_name_and_must_be_given_again(tmp_path):
    def mine(objective, theta):
        return objective.gradient(theta)

    run = go(mlps, 3, rule=mine)
    run.save(tmp_path / "run")
    known = training.load(tmp_path / "run", run.objective)
    with pytest.raises(ValueError, match="rule was saved by its name only, mine"):
        train(run.objective, 3, start=known, progress=False)
    assert torch.equal(
        train(run.objective, 3, start=known, rule=mine, progress=False).theta, go(mlps, 6, rule=mine).theta
    )
