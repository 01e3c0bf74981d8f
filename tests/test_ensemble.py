"""A sweep is one batched program, and every member of it equals its solo run."""

import pytest
import torch
import torch.nn.functional as F
from helpers import classes, close, normal
from torch import nn

from flatlab import curvature, ensemble, sharpness
from flatlab.batched import Mlps, Modules, network_for
from flatlab.ensemble import EnsembleLoss, train
from flatlab.models import mlp

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


NETWORKS = {
    "relu mlp": lambda s: mlp(4, 9, 7, 3, seed=s).double(),
    "tanh mlp without bias": lambda s: mlp(4, 9, 3, activation="tanh", bias=False, seed=s).double(),
    "narrow mlp": lambda s: mlp(4, 1, 3, seed=s).double(),
    "gelu mlp": lambda s: mlp(4, 9, 3, activation="gelu", seed=s).double(),
    "residual": seeded(Block),
    "convolution": seeded(lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.Flatten())),
}
SETTINGS = {
    "gd": {"lr": 0.2},
    "momentum, batches, weight decay": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "batch": 8},
    "adam, batches": {"optimiser": "adam", "lr": 0.02, "batch": 8, "weight_decay": 0.01},
    "sam": {"lr": 0.1, "momentum": 0.9, "rho": 0.2, "batch": 8},
    "asam, adam": {"optimiser": "adam", "lr": 0.02, "rho": 0.3, "adaptive": True},
    "smoothing, cosine": {"lr": 0.2, "label_smoothing": 0.1, "schedule": "cosine", "batch": 8},
}


def by_torch(net, seed, x, y, loss, steps, lr, batch=None, optimiser="sgd", momentum=0.0, weight_decay=0.0, rho=0.0,
             adaptive=False, label_smoothing=0.0, schedule="constant"):  # fmt: skip
    """The same training written with torch's own modules, autograd and optimisers."""
    options = {"momentum": momentum} if optimiser == "sgd" else {}
    kind = torch.optim.SGD if optimiser == "sgd" else torch.optim.Adam
    opt = kind(net.parameters(), lr, weight_decay=weight_decay, **options)
    order, queue = torch.Generator().manual_seed(seed), []

    def backward(i):
        opt.zero_grad()
        z = net(x[i])
        value = F.mse_loss(z, y[i]) if loss == "mse" else F.cross_entropy(z, y[i], label_smoothing=label_smoothing)
        value.backward()

    for step in range(steps):
        queue = queue or list(torch.randperm(len(x), generator=order).split(batch or len(x)))
        i = queue.pop(0) if batch else slice(None)
        opt.param_groups[0]["lr"] = lr * ensemble.SCHEDULES[schedule](step / steps)
        backward(i)
        if rho:
            old = [p.detach().clone() for p in net.parameters()]
            scales = [o.abs() if adaptive else torch.ones_like(o) for o in old]
            norm = torch.stack([(c * p.grad).norm() for c, p in zip(scales, net.parameters(), strict=True)]).norm()
            with torch.no_grad():
                for c, p in zip(scales, net.parameters(), strict=True):
                    p += rho * c * c * p.grad / norm
            backward(i)
            with torch.no_grad():
                for o, p in zip(old, net.parameters(), strict=True):
                    p.copy_(o)
        opt.step()
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_equals_its_run_in_plain_torch(name, setting):
    build, options = NETWORKS[name], SETTINGS[setting]
    run = train(build, X, Y, SEEDS, 25, progress=False, **options)
    for k, seed in enumerate(SEEDS):
        assert close(run.theta[k], by_torch(build(seed), seed, X, Y, "cross_entropy", 25, **options), 1e-10)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_mse_equals_plain_torch(outputs):
    build, y = lambda s: mlp(4, 9, outputs, activation="tanh", seed=s).double(), TARGETS[:, :outputs]
    run = train(build, X, y, SEEDS, 25, "mse", lr=0.1, momentum=0.9, progress=False)
    assert close(run.theta[1], by_torch(build(1), 1, X, y, "mse", 25, lr=0.1, momentum=0.9), 1e-10)


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9, "weight_decay": 0.01}, {"rho": 0.1}, {"optimiser": "adam", "lr": 0.01},
                {"input_noise": 0.2, "label_noise": 0.3}]
)  # fmt: skip
def test_plain_mlps_in_float32_equal_their_solo_run_bit_for_bit(options):
    def final(seeds):
        build = lambda s: mlp(4, 19, 17, 3, seed=s)  # noqa: E731
        return train(build, X.float(), Y, seeds, 60, batch=7, progress=False, **options).theta

    together = final(range(20))
    assert all(torch.equal(together[k], final([k])[0]) for k in (0, 7, 19))


def test_each_member_has_its_own_strengths_data_and_labels():
    build, rates, rhos = NETWORKS["relu mlp"], [0.05, 0.1, 0.2], [0.0, 0.1, 0.3]
    xs, ys = [normal(20, 4, seed=s) for s in range(3)], [classes(20, 3, seed=s) for s in range(3)]
    run = train(build, xs, ys, SEEDS, 20, lr=rates, rho=rhos, momentum=[0.0, 0.5, 0.9], batch=5, progress=False)
    for k, seed in enumerate(SEEDS):
        alone = train(build, xs[k], ys[k], [seed], 20, lr=rates[k], rho=rhos[k], momentum=(0.0, 0.5, 0.9)[k], batch=5,
                      progress=False)  # fmt: skip
        assert close(run.theta[k], alone.theta[0], 1e-12)


def test_the_fast_path_is_taken_and_agrees_with_the_general_one():
    model = NETWORKS["relu mlp"](0)
    theta = torch.stack([torch.nn.utils.parameters_to_vector(NETWORKS["relu mlp"](s).parameters()) for s in range(3)])
    theta, x = theta.detach(), X.expand(3, -1, -1)
    assert isinstance(network_for(model), Mlps) and isinstance(network_for(Block()), Modules)
    fast, general = Mlps(model), Modules(model)
    found, wanted = ([torch.full_like(p, 2.0) * (p != 0) for p in net.pack(theta)] for net in (fast, general))
    fast.accumulate(fast.pack(theta), x, torch.sin, found, 0.5)
    general.accumulate(general.pack(theta), x, torch.sin, wanted, 0.5)
    assert close(fast.outputs(theta, x), general.outputs(theta, x), 1e-12)
    assert close(fast.unpack(found), general.unpack(wanted), 1e-12)
    assert torch.equal(fast.unpack(fast.pack(theta)), theta)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_ensemble_loss_is_an_objective_with_members_first(name):
    run = train(NETWORKS[name], X, Y, SEEDS, 5, progress=False)
    loss, v = run.loss(X, Y), normal(3, run.theta.shape[1])
    for k, member in enumerate(loss.members):
        assert close(loss()[k], member(), 1e-12)
        assert close(loss.gradient()[k], member.gradient(), 1e-10)
        assert close(loss.hvp(loss.theta, v)[k], member.hvp(member.theta, v[k]), 1e-10)
        assert close(loss.outputs()[k], member.outputs(), 1e-12)


MEASURES = [
    sharpness.gradient_norm, sharpness.random_direction, sharpness.average, sharpness.one_step, sharpness.worst_case,
    sharpness.first_order, sharpness.fisher_rao_norm, sharpness.logit_fisher_rao, sharpness.relative_flatness,
    curvature.trace, lambda loss: curvature.eigenvalues(loss, k=2),
]  # fmt: skip


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.__name__)
def test_a_measure_of_an_ensemble_is_the_measure_of_each_member(measure):
    loss = train(NETWORKS["relu mlp"], X, Y, SEEDS, 5, progress=False).loss(X, Y)
    together = measure(loss)
    assert len(together) == 3
    assert all(close(a, measure(member), 1e-10) for a, member in zip(together, loss.members, strict=True))


def test_the_table_has_a_row_per_member():
    loss = train(NETWORKS["relu mlp"], X, Y, SEEDS, 5, progress=False).loss(X, Y)
    assert close(sharpness.table(loss)["train loss"].tolist(), loss(), 1e-12)


def test_weights_are_kept_at_the_chosen_steps():
    run = train(NETWORKS["relu mlp"], X, Y, SEEDS, 10, keep=(0, 4, 10), progress=False)
    assert torch.equal(run.kept[10], run.theta)
    assert close(run.kept[4], train(NETWORKS["relu mlp"], X, Y, SEEDS, 4, progress=False).theta, 1e-14)
    assert close(run.kept[0][2], torch.nn.utils.parameters_to_vector(NETWORKS["relu mlp"](4).parameters()), 1e-14)


def test_an_interrupted_run_returns_what_it_has(monkeypatch):
    stop_after(monkeypatch, 6, KeyboardInterrupt)
    run = train(NETWORKS["relu mlp"], X, Y, SEEDS, 100, keep=(5,), progress=False)
    monkeypatch.undo()
    assert not run.finished and run.steps == 6 and 5 in run.kept
    assert close(run.theta, train(NETWORKS["relu mlp"], X, Y, SEEDS, 6, progress=False).theta, 1e-14)


def test_an_exception_carries_what_was_reached(monkeypatch):
    stop_after(monkeypatch, 6, MemoryError)
    with pytest.raises(MemoryError) as caught:
        train(NETWORKS["relu mlp"], X, Y, SEEDS, 100, progress=False)
    assert caught.value.partial.steps == 6


def stop_after(monkeypatch, steps, error):
    draw, calls = ensemble._Batches.draw, []

    def failing(self):
        calls.append(1)
        if len(calls) > steps:
            raise error
        return draw(self)

    monkeypatch.setattr(ensemble._Batches, "draw", failing)


def test_diverged_members_are_flagged_and_their_measures_refused():
    run = train(NETWORKS["relu mlp"], X, TARGETS, SEEDS, 400, "mse", lr=[0.01, 1e4, 0.01], progress=False)
    assert run.diverged.tolist() == [False, True, False]
    with pytest.raises(ValueError, match="NaN or infinite"):
        sharpness.worst_case(run.loss(X, TARGETS, "mse"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": [0.1, 0.2]}, "lr has 2 values"),
        ({"rho": -1.0}, "rho is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"batch": 31}, "batch is 31"),
        ({"optimiser": "adagrad"}, "optimiser is 'adagrad'"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"keep": (999,)}, "keep holds"),
        ({"inputs": [X, X]}, "inputs is a list of 2"),
        ({"targets": Y[:5]}, "targets has 5 rows"),
        ({"seeds": ()}, "seeds is empty"),
        ({"build": lambda s: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))}, "batch norm"),
        ({"build": lambda s: nn.Sequential(nn.Linear(4, 3), nn.Dropout())}, "dropout"),
    ],
)
def test_bad_input_names_the_argument(options, message):
    given = {"build": NETWORKS["relu mlp"], "inputs": X, "targets": Y, "seeds": SEEDS, "steps": 3, "progress": False}
    with pytest.raises(ValueError, match=message):
        train(**given | options)


def test_an_ensemble_loss_checks_its_counts():
    theta = torch.zeros(2, sum(p.numel() for p in NETWORKS["relu mlp"](0).parameters()))
    with pytest.raises(ValueError, match="targets is a list of 3"):
        EnsembleLoss(NETWORKS["relu mlp"](0), theta, X, [Y, Y, Y])
    with pytest.raises(ValueError, match="loss is 'hinge'"):
        EnsembleLoss(NETWORKS["relu mlp"](0), theta, X, Y, "hinge")
