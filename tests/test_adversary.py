"""Odd but legal networks times every measure: equal to `torch.autograd.functional`, or refused by name.

Refused are at most: weight_norm (in second derivatives), forward passes that stay random, outputs that are no tensor.
"""

import warnings
from functools import cache
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.parametrizations as parametrizations
from helpers import Attention, MeanTokens, classes, close, normal
from torch import nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call
from torch.nn.utils import parametrize, prune

from flatlab import NetworkLoss, curvature, sharpness

N, K = 6, 3


# Networks --------------------------------------------------------------------------------------------------------
class Scaled(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x):
        return 2 * super().forward(x) + 1


class Reused(nn.Module):
    """One layer that is called twice, and one weight that is also a bias."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, K)

    def forward(self, x):
        h = torch.tanh(self.layer(torch.tanh(self.layer(x))))
        return self.head(h + self.layer.weight[0])


class LanguageModel(nn.Module):
    """The embedding is the head's weight, too."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(K, 4), nn.Linear(4, K, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.embedding(tokens)).mean(1))


class Gain(nn.Module):
    """0-d parameters and a buffer of whole numbers."""

    def __init__(self):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.tensor(0.3))
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]))

    def forward(self, x):
        return self.gain * x[:, self.order] + self.shift


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells, self.head = kind(2, 3, batch_first=True), nn.Linear(3, K)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


class Unused(nn.Module):
    """Weights that take no part, one of them named last."""

    def __init__(self):
        super().__init__()
        self.idle, self.head, self.spare = nn.Linear(2, 2), nn.Linear(4, K), nn.Parameter(torch.ones(2, 2))

    def forward(self, x):
        return self.head(torch.tanh(x))


class Grown(nn.Module):
    """Blocks in a list, skipped connections, a transposed weight, a part without a graph."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.out = nn.Parameter(torch.randn(4, K))

    def forward(self, x):
        for block in self.blocks:
            x = x + F.gelu(block(x))
        with torch.no_grad():
            scale = 1 + self.out.abs().mean() * 0
        return scale * x @ self.out


class InPlace(nn.Module):
    """The first operation overwrites the data."""

    def forward(self, x):
        return x.mul_(0.5).add_(0.1)


class Cube(torch.autograd.Function):
    """An operation of one's own, without a rule for batches."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


class OwnOperation(nn.Module):
    def forward(self, x):
        return Cube.apply(x)


class Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).mT


def mlp(*middle, first=4, head=True):
    return nn.Sequential(nn.Linear(first, 4), *middle, *([nn.Linear(4, K)] if head else []))


def changed(model, change):
    change(model)
    return model


def frozen(model):
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)


def hooked(model):
    model[0].register_forward_pre_hook(lambda _, args: (2 * args[0],))
    model[2].register_forward_hook(lambda _, args, out: out + args[0].sum(1, keepdim=True))


def reused_layer():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(4, K))


def convolution(*layers, channels=4):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, K))


def lived(model, x):
    """In training mode, with statistics of its own."""
    model.double()(x), model(2 * x)
    return model.train()


VECTORS, IMAGES, TOKENS = normal(N, 4), normal(N, 2, 4, 4), normal(N, 5, 2)
WORDS = torch.randint(K, (N, 5), generator=torch.Generator().manual_seed(0))
LABELS, NUMBERS = classes(N, K, 1), normal(N, K, seed=2)
NETWORKS = {
    "plain": (lambda: mlp(nn.ReLU()), VECTORS),
    "one layer": (lambda: nn.Linear(4, K), VECTORS),
    "regression": (lambda: mlp(nn.Tanh()), VECTORS, NUMBERS, "mse"),
    "a loss of one's own": (lambda: mlp(nn.Tanh()), VECTORS, NUMBERS, lambda z, y: (z - y).abs().pow(1.5).sum(1)),
    "token outputs": (lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), TOKENS, normal(N, 5, 1), "mse"),
    "grouped convolution": (lambda: convolution(nn.Conv2d(2, 4, 3, 1, 2, 2, groups=2), nn.Tanh()), IMAGES),
    "depthwise": (lambda: convolution(nn.Conv2d(2, 4, 2, stride=2), nn.Tanh(), nn.Conv2d(4, 4, 2, groups=4)), IMAGES),
    "transposed convolution": (lambda: convolution(nn.ConvTranspose2d(2, 4, 2), nn.Softplus()), IMAGES),
    "batch norm": (lambda: lived(convolution(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh()), IMAGES), IMAGES),
    "batch norm without statistics": (lambda: mlp(nn.BatchNorm1d(4, track_running_stats=False), nn.Tanh()), VECTORS),
    "group norm": (lambda: convolution(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Tanh()), IMAGES),
    "instance norm": (lambda: convolution(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Tanh()), IMAGES),
    "layer norm": (lambda: mlp(nn.LayerNorm(4), nn.GELU()), VECTORS),
    "dropout in training mode": (lambda: mlp(nn.Tanh(), nn.Dropout(0.5)).train(), VECTORS),
    "tied": (LanguageModel, WORDS),
    "embedding with max_norm": (
        lambda: nn.Sequential(nn.Embedding(K, 4, max_norm=0.8), MeanTokens(), nn.Linear(4, K)), WORDS,
    ),
    "layer used twice": (reused_layer, VECTORS),
    "activation used twice": (lambda: (lambda a: mlp(a, nn.Linear(4, 4), a))(nn.Tanh()), VECTORS),
    "parameter used twice": (Reused, VECTORS),
    "0-d parameters": (lambda: nn.Sequential(Gain(), nn.Tanh(), nn.Linear(4, K)), VECTORS),
    "subclassed linear": (lambda: nn.Sequential(Scaled(4, 4), nn.ReLU(), nn.Linear(4, K)), VECTORS),
    "subclassed head": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Scaled(4, K)), VECTORS),
    "a buffer": (lambda: changed(mlp(nn.ReLU()), lambda m: m.register_buffer("extra", torch.ones(2))), VECTORS),
    "hooks": (lambda: changed(mlp(nn.ReLU()), hooked), VECTORS),
    "spectral norm": (lambda: changed(mlp(nn.ReLU()), lambda m: parametrizations.spectral_norm(m[0])), VECTORS),
    "spectral norm head": (lambda: changed(mlp(nn.ReLU()), lambda m: parametrizations.spectral_norm(m[2])), VECTORS),
    "old spectral norm": (lambda: changed(mlp(nn.ReLU()), lambda m: nn.utils.spectral_norm(m[0])).train(), VECTORS),
    "orthogonal": (lambda: changed(mlp(nn.Tanh()), lambda m: parametrizations.orthogonal(m[0])), VECTORS),
    "parametrised": (
        lambda: changed(mlp(nn.ReLU()), lambda m: parametrize.register_parametrization(m[0], "weight", Symmetric())),
        VECTORS,
    ),
    "pruned": (lambda: changed(mlp(nn.ReLU()), lambda m: prune.l1_unstructured(m[0], "weight", 0.5)), VECTORS),
    "frozen": (lambda: changed(mlp(nn.Tanh()), frozen), VECTORS),
    "unused": (Unused, VECTORS),
    "module list": (Grown, VECTORS),
    "in-place first": (lambda: nn.Sequential(InPlace(), mlp(nn.Tanh())), VECTORS),
    "in-place activations": (lambda: nn.Sequential(nn.ELU(inplace=True), mlp(nn.ELU(inplace=True))), VECTORS),
    "PReLU": (lambda: mlp(nn.PReLU(4)), VECTORS),
    "bilinear": (lambda: nn.Sequential(Pairs(), nn.Linear(3, K)), VECTORS),
    "own operation": (lambda: mlp(OwnOperation()), VECTORS),
    "LSTM": (lambda: Recurrent(nn.LSTM), TOKENS),
    "GRU": (lambda: Recurrent(nn.GRU), TOKENS),
    "attention": (lambda: Attention(2, K), TOKENS),
    "transformer": (
        lambda: nn.Sequential(nn.TransformerEncoderLayer(2, 1, 3, batch_first=True), MeanTokens(), nn.Linear(2, K)),
        TOKENS,
    ),
    "float inputs of another type": (lambda: mlp(nn.ReLU()), VECTORS.float()),
}  # fmt: skip


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair = nn.Bilinear(2, 2, 3)

    def forward(self, x):
        return self.pair(x[:, :2], x[:, 2:])


every_network = pytest.mark.parametrize("name", NETWORKS)


def parts(name):
    build, x, *rest = NETWORKS[name]
    y, kind = rest or (LABELS, "cross_entropy")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        return build().double(), x.clone(), y, kind


def loss_of(name, **options):
    model, x, y, kind = parts(name)
    return NetworkLoss(model, x, y, kind, **options)


@cache
def reference(name):
    """Everything by `torch.autograd.functional`, on a functional call of a copy in eval mode."""
    model, x, y, kind = parts(name)
    model, trained = model.eval(), {n: p for n, p in model.named_parameters() if p.requires_grad}
    theta = torch.cat([p.detach().flatten() for p in trained.values()])

    def outputs(t):
        cut = t.split([p.numel() for p in trained.values()])
        state = {n: c.view(p.shape).clone() for (n, p), c in zip(trained.items(), cut, strict=True)}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return functional_call(model, state, (x.double().clone() if x.is_floating_point() else x,))

    def samples(z):
        if kind == "cross_entropy":
            return F.cross_entropy(z, y, reduction="none")
        return (z - y).square().flatten(1).mean(1) if kind == "mse" else kind(z, y)

    def f(t):
        return samples(outputs(t)).mean()

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        z, jac = outputs(theta).detach(), jacobian(outputs, theta).flatten(1, -2)
        curved = torch.stack([hessian(lambda one, n=n: samples(torch.cat([z[:n], one[None], z[n + 1 :]]))[n], z[n])
                              .reshape(z[n].numel(), -1) for n in range(N)])  # fmt: skip
        return SimpleNamespace(
            theta=theta, f=f, z=z, value=f(theta).detach(), gradient=jacobian(f, theta), hessian=hessian(f, theta),
            gauss_newton=torch.einsum("nkp,nkl,nlq->pq", jac, curved, jac) / N,
            radial=jacobian(lambda t: samples(outputs(t)), theta) @ theta,
        )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


# Derivatives -----------------------------------------------------------------------------------------------------
@every_network
@pytest.mark.parametrize("chunk", [None, 4])
def test_value_gradient_and_hessian(name, chunk):
    """R1: the fast path must not stand in for another network."""
    wanted, loss = reference(name), loss_of(name, chunk=chunk)
    assert torch.equal(loss.theta, wanted.theta)
    assert close(loss(), wanted.value, 1e-12) and close(loss.outputs(), wanted.z, 1e-12)
    assert close(loss.gradient(), wanted.gradient)
    if chunk is None:
        assert close(loss.hessian(), wanted.hessian, 1e-9)
    else:
        v = normal(loss.dim)
        assert close(loss.hvp(None, v), wanted.hessian @ v, 1e-9)


@every_network
def test_gauss_newton(name):
    wanted, loss = reference(name), loss_of(name)
    assert close(curvature.GaussNewton(loss).hessian(), wanted.gauss_newton, 1e-9)
    v = normal(loss.dim)
    assert close(curvature.Residual(loss).hvp(None, v) + 1, (wanted.hessian - wanted.gauss_newton) @ v + 1, 1e-9)


@every_network
def test_eigenvalues_trace_and_density(name):
    wanted, loss = reference(name), loss_of(name)
    exact = torch.linalg.eigvalsh(wanted.hessian)
    assert close(curvature.eigenvalues(loss, k=2), exact.flip(0)[:2], 1e-8)
    assert close(curvature.eigenvalues(loss, which="smallest") + 1, exact[:1] + 1, 1e-8)
    assert close(curvature.trace(loss, samples=loss.dim) + 1, exact.sum() + 1, 1e-8)
    density = curvature.spectral_density(loss, draws=1, steps=6)
    slack = 1e-9 * exact.abs().max()
    assert (density.values >= exact[0] - slack).all() and (density.values <= exact[-1] + slack).all()


# Sharpness -------------------------------------------------------------------------------------------------------
@every_network
def test_steps_uphill_and_at_random(name):
    wanted, loss, rho = reference(name), loss_of(name), 0.05
    f, theta, g = wanted.f, wanted.theta, wanted.gradient
    with torch.no_grad():
        one = f(theta + rho * g / g.norm()) - wanted.value
        noise = torch.randn(4, len(theta), generator=torch.Generator().manual_seed(0)).double()
        change = torch.stack([(f(theta + 0.005 * d / len(theta) ** 0.5) - wanted.value).abs() / 0.005 for d in noise])
        pairs = [(f(theta + d) + f(theta - d)) / 2 - wanted.value for d in rho * theta.abs() * noise]
    assert close(sharpness.gradient_norm(loss), g.norm())
    assert close(sharpness.one_step(loss, rho=rho), one, 1e-8)
    assert close(sharpness.random_direction(loss, samples=4), change.mean(), 1e-8)
    assert close(sharpness.average(loss, rho=rho, samples=4, adaptive=True), torch.stack(pairs).mean(), 1e-8)
    worst, steep = (
        measure(loss, rho=rho, starts=0, steps=3) for measure in (sharpness.worst_case, sharpness.first_order)
    )
    assert one * (1 - 1e-9) <= worst <= steep * 1.01


@every_network
def test_fisher_rao(name):
    wanted, loss = reference(name), loss_of(name)
    assert close(sharpness.fisher_rao_norm(loss), wanted.radial.square().mean().sqrt())
    if loss.loss == "cross_entropy":
        error = (wanted.z.softmax(1) * wanted.z).sum(1) - wanted.z[range(N), LABELS]
        assert close(sharpness.logit_fisher_rao(loss, layers=1), 2 * error.square().mean().sqrt())


NO_HEAD = {"module list", "hooks", "subclassed head"}  # what they return is not what their last linear layer computes


@every_network
@pytest.mark.parametrize("normalise", [True, False])
def test_relative_flatness_is_its_definition_or_refused_by_name(name, normalise):
    loss, caught = loss_of(name), []
    if loss.loss != "cross_entropy" or name in NO_HEAD:
        with pytest.raises(ValueError, match="head|loss is"):
            sharpness.relative_flatness(loss, normalise=normalise)
        return
    copy = parts(name)[0].eval()
    head = [m for m in copy.modules() if isinstance(m, nn.Linear)][-1]
    head.register_forward_hook(lambda m, args, out: caught.append((args[0].detach(), m.weight.detach(), out)))
    x = loss.inputs.clone()
    copy(x.double() if x.is_floating_point() else x)
    features, weight, out = caught[-1]
    sd = features.std(0, correction=0) if normalise else torch.ones(features.shape[1]).double()
    sd = torch.where(sd > 0, sd, 1.0)
    bias = (out - features @ weight.T).detach()
    blocks = torch.func.hessian(lambda w: F.cross_entropy(features / sd @ w.T + bias, LABELS))(weight * sd)
    wanted = ((weight * sd) @ (weight * sd).T * blocks.diagonal(dim1=1, dim2=3).sum(-1)).sum()
    assert close(sharpness.relative_flatness(loss, normalise=normalise), wanted, 1e-9)


# Many ------------------------------------------------------------------------------------------------------------
@every_network
@pytest.mark.parametrize("own", [False, True], ids=["shared data", "own data"])
def test_many_networks_are_measured_like_each_alone(name, own):
    model, x, y, kind = parts(name)
    theta = reference(name).theta
    theta = theta + 0.1 * normal(3, len(theta))
    xs = [x, x.flip(0), x.roll(1, 0)] if own else [x] * 3
    many, v = NetworkLoss(model, xs if own else x, y, kind, theta=theta), normal(*theta.shape)
    alone = [NetworkLoss(model, data, y, kind, theta=row) for data, row in zip(xs, theta, strict=True)]
    product = many.linearize()(v)
    for k, one in enumerate(alone):
        assert close(many.gradient()[k], one.gradient()) and close(product[k], one.linearize()(v[k]))
    columns = ["train loss", "lambda max", "fisher rao", "relative flatness", "one step", "weight norm", "head norm"]
    columns = columns if name not in NO_HEAD else columns[:3]
    rows = torch.cat([torch.tensor(sharpness.table(one, columns, steps=5).to_numpy(copy=True)) for one in alone])
    found = torch.tensor(sharpness.table(many, columns, steps=5).to_numpy(copy=True))
    assert close(found.nan_to_num(), rows.nan_to_num(), 1e-8)


# Nothing is touched ----------------------------------------------------------------------------------------------
def state(model, *data):
    """Weights, buffers, gradients, modes, flags, hooks and data, and the state of the random numbers, as bytes."""
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters() if p.grad is not None), *data]
    flags = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return [t.numpy().tobytes() for t in (*tensors, torch.get_rng_state())], flags, hooks


@every_network
def test_the_model_the_data_and_the_random_numbers_stay_as_they_are(name):
    """R10: in-place first operations, spectral norm in training mode and embeddings with max_norm rewrote them."""
    model, x, y, kind = parts(name)
    before, theta = state(model, x, y), torch.cat([p.detach().flatten() for p in model.parameters()])
    loss = NetworkLoss(model, x, y, kind)
    sharpness.table(
        loss, [*sharpness.CHEAP, "trace", "one step", "random direction", "weight noise"], draws=2, products=6
    )
    sharpness.worst_case(loss, starts=0, steps=1), sharpness.first_order(loss, starts=0, steps=1)
    sharpness.table(loss.at(torch.stack([loss.theta, 1.1 * loss.theta])), draws=2, products=6, steps=3)
    curvature.eigenvalues(curvature.GaussNewton(loss), steps=2)
    loss.refreshed(), loss.outputs()
    assert state(model, x, y) == before
    assert torch.equal(torch.cat([p.detach().flatten() for p in model.parameters()]), theta)


def test_theta_is_not_rewritten_by_an_embedding_with_max_norm():
    """R10: the points that are measured stay, too."""
    loss = loss_of("embedding with max_norm")
    theta = 3 * loss.theta
    before = theta.clone()
    loss(theta), loss.gradient(theta), loss.linearize(theta), sharpness.fisher_rao_norm(loss.at(theta))
    assert torch.equal(theta, before)


# Refused by name -------------------------------------------------------------------------------------------------
class Noise(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


class Wrapped(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.layer, self.wrap = nn.Linear(4, K), wrap

    def forward(self, x):
        return self.wrap(self.layer(x))


REFUSED = {
    "weight norm": (lambda: changed(mlp(nn.Tanh()), lambda m: parametrizations.weight_norm(m[0])), "weight_norm"),
    "old weight norm": (lambda: changed(mlp(nn.Tanh()), lambda m: nn.utils.weight_norm(m[0])), "weight_norm"),
    "dropout that stays": (lambda: mlp(nn.Tanh(), Noise()), "stays random"),
    "a dict": (lambda: Wrapped(lambda z: {"logits": z}), "returns a dict"),
    "a tuple": (lambda: Wrapped(lambda z: (z, z)), "returns a tuple"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_refused_by_name(name):
    """R2: torch's double backward of weight_norm is wrong. R9: a forward pass that stays random has no derivative."""
    build, message = REFUSED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build().double()
    for measure in (curvature.hessian, curvature.eigenvalues, curvature.trace, sharpness.worst_case):
        with pytest.raises(ValueError, match=message):
            measure(NetworkLoss(model, VECTORS, LABELS))


def test_weight_norm_has_first_derivatives():
    model = changed(mlp(nn.Tanh()).double(), lambda m: parametrizations.weight_norm(m[0]))
    loss = NetworkLoss(model, VECTORS, LABELS)
    F.cross_entropy(model(VECTORS), LABELS).backward()
    assert close(loss.gradient(), torch.cat([p.grad.flatten() for p in model.parameters()]))


@pytest.mark.parametrize("own", [False, True])
def test_targets_that_mse_would_broadcast_are_refused_for_many(own):
    """R6: targets (N,) for outputs (N, 1) gave a wrong number in an ensemble."""
    x, y = normal(2, N, 4), normal(2, N)
    with pytest.raises(ValueError, match="targets has shape"):
        NetworkLoss(mlp(nn.Tanh(), nn.Linear(4, 1), head=False).double(), list(x) if own else x[0],
                    list(y) if own else y[0], "mse", theta=normal(2, 25))  # fmt: skip
