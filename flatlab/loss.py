"""The training loss of one network, or of M at once, as an `Objective` of their weights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy, deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, autograd, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from flatlab.objective import Numbers, Objective, require_finite

GRAPH_BYTES = 2**30  # what the graph of one gradient may take before members and data are split
SKEW = 1e-3  # |<u, Hv> - <v, Hu>| as a share of |Hu||v|, above which a second derivative is wrong
TRAINED, DROPOUT = nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd
MIXING = nn.modules.batchnorm._BatchNorm  # in eval mode, too, if it has no statistics of its own


def cross_entropy(outputs: Tensor, targets: Tensor, smoothing: Tensor | float = 0.0) -> Tensor:
    """`−(1−ε) log p_y − ε mean_k log p_k` in nats, one per sample: outputs `(..., N, K)`, classes `(..., N)`."""
    log_p = outputs.log_softmax(-1)
    wanted = -log_p.gather(-1, targets.expand(log_p.shape[:-1])[..., None])[..., 0]
    if isinstance(smoothing, float) and not smoothing:
        return wanted
    return (1 - smoothing) * wanted - smoothing * log_p.mean(-1)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """`mean_k (z_k − y_k)²`, one per sample: outputs and targets `(..., N, K...)`, results `(..., N)`."""
    gaps = outputs - targets.to(outputs.dtype)  # written by hand: F.mse_loss breaks some second derivatives
    return gaps.square() if gaps.ndim == 2 else gaps.square().flatten(2).mean(-1)


LOSSES: dict[str, Callable] = {"cross_entropy": cross_entropy, "mse": mse}


class NetworkLoss(Objective):
    """The mean loss of a network on a data set, `L(θ) = (1/N) Σ_n ℓ(z_θ(x_n), y_n)`, of one network or of M.

    On hard data, without penalties, in eval mode. `theta (..., P)` gives `(...)`; members never mix.

    model: any `nn.Module`, never touched: losses are taken on a private copy. `.theta (P,)` reads its trainable weights
        as they are now; frozen parameters and buffers are read live, too. Or a function `build(seed) -> nn.Module`,
        which with `seeds` gives each of M members its own weights.
    inputs `(N, ...)`, targets `(N,)` class numbers for "cross_entropy" (nats), the shape of the outputs for "mse" (mean
        over samples and outputs), anything for a loss of your own. A list holds one tensor per member, of equal N. A
        re-iterable of batches `(x, y)`, such as a DataLoader, may stand for both: it is streamed, never all in memory.
    loss: "cross_entropy", "mse", or `f(outputs, targets)` that returns one loss per sample, `(N,)`.
    chunk: samples evaluated at once; by default as many as keep the graph of a gradient below about 1 GB, members
        together. What fits keeps its graph in `linearize` (fast), else it is recomputed piece by piece (same result).
    theta: weights `(P,)` or `(M, P)` in place of the model's own.

    Errors: ValueError for no data, lengths that differ, labels that are not class numbers, an output shape that "mse"
    would broadcast, a loss that is a mean, a model without trainable weights or whose forward pass stays random, and
    (in second derivatives) for weight_norm, whose double backward in torch is wrong.
    """

    dim: int
    model: nn.Module

    def __init__(
        self, model: nn.Module | Callable[[int], nn.Module], inputs: Any, targets: Any = None,
        loss: str | Callable = "cross_entropy", chunk: int | None = None, theta: Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ):  # fmt: skip
        self.build = None if isinstance(model, nn.Module) else _builder(model)
        self.seeds = None if seeds is None else _seeds(seeds)
        if self.build and theta is None and self.seeds:
            theta = torch.stack([flat_weights(self.build(seed)) for seed in self.seeds])
        self.model = self.build((self.seeds or [0])[0]) if self.build else model  # type: ignore[assignment]
        if not isinstance(self.model, nn.Module):
            raise ValueError(
                f"model is a function that returned {self.model!r}: build(seed) must return a torch.nn.Module"
            )
        if loss not in LOSSES and not callable(loss):
            raise ValueError(f'loss is {loss!r}: use "cross_entropy", "mse" or a function (outputs, targets)')
        self.loss = loss
        self.smoothing: Tensor | float = 0.0
        self.autocast: Callable = nullcontext
        self._modules = Modules(self.model)
        self._network: Any = self._modules
        self.dim, self._training = self._network.size, False
        self.buffers: dict[str, Tensor] | None = None
        self._block = slice(None)  # the members that are under way in `averaged`
        self._theta = None if theta is None else super().point(theta).detach().clone()
        self._stream = _Stream(inputs) if targets is None else None
        self._take(*(self._stream.first if self._stream else (inputs, targets)))
        if _is_plain_mlp(self.model) and self._x.ndim == 3 and self._x.is_floating_point():
            self._network = Mlps(self.model)
        self._given, self._per_sample, self._moved = _whole(chunk), 1, False
        self._examine()
        if self._stream:
            self.inputs, self.targets = None, None

    @property
    def source(self) -> "NetworkLoss":
        return self

    @property
    def theta(self) -> Tensor:
        """The weights `(P,)` as they are now, a flat copy; `(M, P)` of M members."""
        return self._modules.flat() if self._theta is None else self._theta

    @property
    def members(self) -> int | None:
        """M, or None for the loss of one network."""
        own = len(self._x) if self.own else None
        return own if self._theta is None or self._theta.ndim == 1 else self._theta.shape[-2]

    @property
    def count(self) -> int:
        """N, the number of samples."""
        return self._stream.count if self._stream else self._x.shape[1]

    def point(self, theta: Numbers | None = None) -> Tensor:
        theta = self.theta if theta is None else super().point(theta)
        like = self._like()
        theta = theta.to(like.device, like.dtype)
        if self.own and (theta.ndim < 2 or theta.shape[-2] != len(self._x)):
            if theta.ndim > 1:
                raise ValueError(f"theta has shape {tuple(theta.shape)}: inputs and targets are of {len(self._x)} "
                                 f"members, so it must be (..., {len(self._x)}, {self.dim})")  # fmt: skip
            theta = theta.expand(len(self._x), -1)
        return theta

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets with members first, `(1 or M, N, ...)`."""
        return self._x, self._y

    @property
    def fast(self) -> "Mlps | None":
        """The fast path of a plain MLP, if this is one."""
        return self._network if isinstance(self._network, Mlps) else None

    @property
    def has_images(self) -> bool:
        return self._modules.has_images

    @property
    def has_dropout(self) -> bool:
        return any(isinstance(m, DROPOUT) and m.p > 0 for m in self._modules.model.modules())

    def stacked_buffers(self, members: int) -> dict[str, Tensor]:
        """A row of the buffers for each member: the model's own, or those that this loss has."""
        if self.buffers:
            return {n: b.expand(members, *b.shape[1:]).clone() for n, b in self.buffers.items()}
        return self._modules.stacked_buffers(members, self._like())

    def at(self, theta: Tensor, buffers: dict[str, Tensor] | None = None) -> "NetworkLoss":
        """The same loss with other current weights `(P,)` or `(M, P)`, and batch-norm buffers, one row per member."""
        alike = copy(self)
        alike._theta, alike.buffers = Objective.point(self, theta).detach(), buffers or self.buffers
        return alike

    def double(self) -> "NetworkLoss":
        """The same loss in float64 (float32 on mps, which has no other), data and buffers included."""
        kind = torch.float32 if self._like().device.type == "mps" else torch.float64
        buffers = self.buffers and {n: b.to(kind) if b.is_floating_point() else b for n, b in self.buffers.items()}
        return self.at(self.theta.to(kind), buffers)

    def member(self, k: int) -> "NetworkLoss":
        """The loss of member k alone."""
        alike, count = self.at(self.point()[k]), len(self.point())
        alike._x, alike._y = (d[k : k + 1] if self.own else d for d in (self._x, self._y))
        alike.own = False
        alike.inputs, alike.targets = alike._x[0], alike._y[0]
        alike.buffers = {n: b[k : k + 1] for n, b in self.buffers.items()} if self.buffers else None
        alike.seeds = [(self.seeds or range(count))[k]]
        return alike

    def on(
        self, inputs: Any, targets: Any, *, buffers: dict[str, Tensor] | None = None, training: bool = False,
        smoothing: Tensor | float = 0.0, autocast: Callable = nullcontext, **_: Any,
    ) -> "NetworkLoss":  # fmt: skip
        """The loss on a batch, `(N, ...)` or `(M, N, ...)` with one of each member's own, with all else as here.

        buffers, one row per member, are used by a training pass and move in it; smoothing `(M, 1)` is that of labels.
        """
        alike = copy(self)
        own = inputs.ndim == self._x.ndim
        alike._x, alike._y = (inputs, targets) if own else (inputs[None], targets[None])
        alike.own, alike._stream, alike.inputs, alike.targets = own and len(inputs) > 1, None, inputs, targets
        alike.buffers, alike._training, alike.strict = buffers, training, False
        alike.smoothing, alike.autocast, alike._moved = smoothing, autocast, False
        return alike

    def outputs(self, theta: Numbers | None = None, inputs: Any = None) -> Tensor:
        """The outputs `(..., N, K)` at `theta (..., P)`, without a graph; by default on the loss's own data."""
        alike = self if inputs is None else self._with_inputs(inputs)
        with torch.no_grad():
            return alike.collected(lambda rows, x, _: alike._forward(rows, x), theta)

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """The outputs `(..., N, K)` for `x (N, ...)`, or `(M, N, ...)` of each member, differentiable in theta."""
        rows = theta.reshape(-1, self.dim)
        z = self._forward(rows, x if x.ndim == self._x.ndim else x[None])
        return z.view(theta.shape[:-1] + z.shape[1:])

    def features(self, theta: Tensor, x: Tensor, head: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs of the linear layer `head` `(R, N, d)`, its weight `(R, K, d)`, its and the network's outputs.

        For rows `theta (R, P)` and `x (1 or R, N, ...)`; differentiable in theta.
        """
        if self.fast and head == self.fast.head:
            return self.fast.features(theta, self._ready(x, theta))
        return self._modules.forward(theta, self._ready(x, theta), self._buffers_now(len(theta)), self._training, head)

    def sample_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One loss per sample, `(..., N)`, for outputs `(..., N, K)` and targets `(N, ...)` or `(..., N, ...)`."""
        own = outputs.ndim - self._z_axes
        z = outputs.reshape(-1, *outputs.shape[own:])
        y = targets.to(z.device)
        y = y.reshape(-1, *y.shape[own:]) if y.ndim == own + self._y.ndim - 1 else y[None]
        return self._losses(z, y).view(outputs.shape[: own + 1])

    def averaged(self, function: Callable[..., Tensor], theta: Numbers | None = None, *more: Tensor) -> Tensor:
        """`Σ_chunks share · function(rows, x, y)` for `theta (..., P)`, in pieces that fit the memory; `(..., *)`.

        rows `(r, P)` are some of the members, x and y a chunk of their data, `(1, n, ...)` where it is shared and
        `(r, n, ...)` where each has its own. `more (..., P)` is cut like theta and handed on.
        """
        theta = self.point(theta)
        tensors = [t.reshape(-1, self.dim) for t in (theta, *more)]
        blocks = []
        for _ in self._each_block(len(tensors[0])):
            rows = [t[self._block] for t in tensors]
            total: Any = None
            for x, y, share in self._chunks(len(rows[0])):
                part = function(rows[0], x, y, *rows[1:])
                part = part if share == 1 else part * share
                total = part if total is None else total + part
            blocks.append(total)
        result = join(blocks)
        return result.view(theta.shape[:-1] + result.shape[1:])

    def collected(self, function: Callable[..., Tensor], theta: Numbers | None = None) -> Tensor:
        """As `averaged`, for a function with one result per sample `(r, n, *)`: joined over samples, `(..., N, *)`."""
        theta = self.point(theta)
        rows = theta.reshape(-1, self.dim)
        blocks = []
        for _ in self._each_block(len(rows)):
            part = rows[self._block]
            blocks.append(join([function(part, x, y) for x, y, _ in self._chunks(len(part))], 1))
        result = join(blocks)
        return result.view(theta.shape[:-1] + result.shape[1:])

    def fits(self, theta: Tensor) -> bool:
        """Do all members and samples at `theta (..., P)` go through the network in one piece?"""
        rows = theta.numel() // self.dim
        return self._stream is None and self.count <= self.chunk(rows) and rows <= self._together()

    def chunk(self, rows: int = 1) -> int:
        """How many samples of each of `rows` members are evaluated at once."""
        fitting = max(1, GRAPH_BYTES // (4 * self._per_sample))  # double backward keeps about four times as many bytes
        if self._training or self._modules.mixes:  # batch norm sees the batch whole
            return self.count
        return self._given or (self.count if rows * self.count <= fitting else min(fitting, self.count))

    def refreshed(self, theta: Numbers | None = None, batch: int = 256) -> "NetworkLoss":
        """The loss at `theta` with batch norm's statistics taken anew from its own inputs, in batches of `batch`.

        Mean and variance are averages over the batches, as in training mode with momentum None. For a network that is
        measured in mid-run, averaged or interpolated, the old ones are stale.
        """
        theta = self.point(theta)
        rows = theta.reshape(-1, self.dim)
        buffers = self._modules.fresh_buffers(len(rows))
        with torch.no_grad():
            for k, (x, _, _) in enumerate(self._chunks(len(rows), min(batch, self.count))):
                self._modules.forward(rows, self._ready(x, rows), buffers, True, momentum=1 / (k + 1))
        return self.at(theta, buffers)

    def first(self, count: int) -> "NetworkLoss":
        """The same loss on the first `count` samples."""
        inputs, targets = (d[:, :count] if self.own else d[0, :count] for d in (self._x, self._y))
        alike = self.on(inputs, targets, buffers=self.buffers)
        alike.strict = True
        return alike

    def _value(self, theta):
        with torch.set_grad_enabled(theta.requires_grad and torch.is_grad_enabled()):
            return self.averaged(self._mean, theta)

    def _mean(self, rows, x, y):
        return self._losses(self._forward(rows, x), y).mean(1)

    def _gradient(self, theta):
        gradient = self.averaged(self._gradient_of, theta)
        return require_finite(gradient) if self.strict else gradient

    def _gradient_of(self, rows, x, y):
        if self.fast:
            with torch.no_grad():
                return self.fast.gradient(rows, self._ready(x, rows), lambda z: self.slope(z, y))
        return self._slope_of(rows, x, y, create_graph=False)[1]

    def _slope_of(self, rows, x, y, create_graph=True):
        """The weights as leaves, and the gradient of each member's mean loss on a chunk, with its graph."""
        leaf = rows.detach().requires_grad_()
        with torch.enable_grad():
            mean = self._mean(leaf, x, y).sum()
        return leaf, autograd.grad(mean, leaf, create_graph=create_graph, materialize_grads=True)[0]

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        """∂(mean loss of each member)/∂z for outputs `z (M, N, K)`."""
        free = z.detach().requires_grad_()
        with torch.enable_grad():
            total = self._losses(free, y).sum()
        return autograd.grad(total, free)[0].div_(z.shape[1])

    def _linearize(self, theta):
        self._check_symmetry()
        if self.strict:
            require_finite(self._value(theta))
        if not self.fits(theta):
            return lambda v: self.averaged(
                lambda rows, x, y, part: _product(*self._slope_of(rows, x, y), part), theta, v
            )
        rows = theta.reshape(-1, self.dim)
        leaf, slope = self._slope_of(rows, *next(self._chunks(len(rows)))[:2])
        return lambda v: _product(leaf, slope, v.reshape(rows.shape)).view(theta.shape)

    def _losses(self, z, y):
        """One loss per sample `(M, N)` for outputs `(M, N, ...)` and targets `(1 or M, N, ...)`."""
        y = y.to(z.device)
        if isinstance(self.loss, str):
            smooth = () if isinstance(self.smoothing, float) and not self.smoothing else (self.smoothing,)
            return LOSSES[self.loss](z, y, *smooth)
        flat = z.flatten(0, 1), y.expand(len(z), *y.shape[1:]).flatten(0, 1)
        losses = self.loss(*flat)
        if not isinstance(losses, Tensor) or losses.shape != flat[0].shape[:1]:
            given = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise ValueError(f"loss returned {given} for {len(flat[0])} samples: return one loss per sample, (N,), not "
                             'a mean; torch\'s own take reduction="none"')  # fmt: skip
        return losses.view(z.shape[:2])

    def _forward(self, rows, x):
        with self.autocast():
            return self._network.forward(rows, self._ready(x, rows), self._buffers_now(len(rows)), self._training)

    def _buffers_now(self, rows):
        """The buffers of the members under way; in training only a step's first pass moves them, later ones a copy."""
        if self.buffers is None:
            return None
        own = {name: b[self._chosen(rows, len(b))] for name, b in self.buffers.items()}
        if self._training and self._moved:
            return {name: b.clone() for name, b in own.items()}
        self._moved = True
        return own

    def _chosen(self, rows, members):
        """Which of M members the rows under way are: all of them as a slice (a view), else their numbers."""
        first = self._block.start or 0
        if first == 0 and rows == members:
            return slice(None)
        return torch.arange(first, first + rows) % members

    def _ready(self, x, rows):
        return x.to(rows.device, rows.dtype if x.is_floating_point() else None)

    def _like(self):
        return self._theta if self._theta is not None else next(iter(self._modules.weights()))

    def _together(self):
        """How many members go through the network at once."""
        if self._training:
            return 2**62
        return max(1, GRAPH_BYTES // (4 * self._per_sample * min(self._given or self.count, self.count)))

    def _each_block(self, rows):
        """Set `_block` to one part of the rows after the other."""
        try:
            for k in range(0, rows, self._together()):
                self._block = slice(k, min(k + self._together(), rows))
                yield
        finally:
            self._block = slice(None)

    def _chunks(self, rows, size=None) -> Iterator[tuple[Tensor, Tensor, float]]:
        """The data of the members under way, `(inputs, targets, share of all samples)`."""
        size = size or self.chunk(rows)
        if self._stream:
            for x, y in self._stream:
                for part in zip(x.split(size), y.split(size), strict=True):
                    yield part[0][None], part[1][None], len(part[0]) / self.count
            return
        chosen = self._chosen(rows, len(self._x)) if self.own else slice(None)
        for x, y in zip(self._x.split(size, 1), self._y.split(size, 1), strict=True):
            yield x[chosen], y[chosen], x.shape[1] / self.count

    def _take(self, inputs, targets):
        data = [_stacked(d, name) for d, name in ((inputs, "inputs"), (targets, "targets"))]
        counts = {len(d) for d, own in data if own}
        if len(counts) > 1:
            raise ValueError(f"inputs and targets are lists of {' and '.join(map(str, counts))}: one tensor per member")
        self.own = bool(counts)
        members = next(iter(counts), 1)
        self._x, self._y = (d if own else d[None].expand(members, *d.shape) for d, own in data)
        self.inputs, self.targets = (
            d if own else d[0] for d, own in zip((self._x, self._y), (self.own,) * 2, strict=True)
        )
        if self._x.ndim < 2 or self._y.ndim < 2:
            raise ValueError("inputs or targets is a single number: give one row per sample")
        if self._x.shape[1] == 0:
            raise ValueError("inputs is empty: a loss needs at least one sample")
        if self._y.shape[1] != self._x.shape[1]:
            raise ValueError(
                f"targets has {self._y.shape[1]} rows and inputs {self._x.shape[1]}: they must be equally long"
            )

    def _with_inputs(self, inputs):
        alike = copy(self)
        x, own = _stacked(inputs, "inputs")
        alike._x = x if own else x[None]
        alike.own, alike._stream = own, None
        alike._y = torch.zeros(alike._x.shape[:2], device=alike._x.device)
        return alike

    def _examine(self):
        """Try the network on two samples of the first member: what it returns, and what it may not do."""
        rows = self.point().reshape(-1, self.dim)[:1]
        x = self._ready(self._x[:1, :2], rows)
        with torch.no_grad():
            z = self._modules.probe(rows, x)
        self._z_axes = z.ndim - 1
        self._check_targets(z.shape[2:])
        y = self._y[:1, :2]
        self._losses(z, y)
        if x.shape[1] > 1:
            fixed = 0 if self._modules.mixes else self._saved_bytes(rows, x[:, :1], y[:, :1])
            self._per_sample = max(1, self._saved_bytes(rows, x, y) - fixed)

    def _check_targets(self, shape):
        labels = self.targets
        if self.loss == "mse" and self._y.shape[2:] != shape:
            raise ValueError(
                f"targets has shape {tuple(labels.shape)} and the outputs {(self.count, *shape)}: "
                f"give them the same shape, e.g. targets.view{(-1, *shape)}"
            )
        if self.loss == "cross_entropy":
            _check_classes(self._y, shape)
            self._y, self.targets = self._y.long(), self.targets.long()

    def _saved_bytes(self, rows, x, y):
        saved = []
        # The hook lets go of the tensor: an output saved by itself is a cycle through C++ that is never freed.
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes), lambda nothing: nothing):
            with torch.enable_grad():
                self._mean(rows.detach().requires_grad_(), x, y)
        return sum(saved)

    def _check_symmetry(self):
        """Second derivatives on two samples, once a network: `<u, Hv> = <v, Hu>`, or torch's own are wrong."""
        if self.fast or self._modules.symmetric:
            return
        leaf, slope = self._slope_of(self.point().reshape(-1, self.dim)[:1], self._x[:1, :2], self._y[:1, :2])
        generator = torch.Generator().manual_seed(0)
        u, v = (torch.randn(1, self.dim, generator=generator).to(leaf) for _ in range(2))
        hu, hv = (_product(leaf, slope, w) for w in (u, v))
        if ((u * hv).sum() - (v * hu).sum()).abs() > SKEW * (hu.norm() + hv.norm()):
            raise ValueError(
                "model has a wrong second derivative in torch (<u, Hv> differs from <v, Hu>), as weight_norm has: "
                "remove it with torch.nn.utils.parametrize.remove_parametrizations"
            )
        self._modules.symmetric = True


class Modules:
    """Any module as a function of flat weights `(R, P)`: by itself for one row, else through `torch.func.vmap`.

    Attention takes its plain kernel, which is twice differentiable. Weights are the trainable ones; frozen ones and
    buffers are read from the reader's model, of which `private` is a copy in eval mode.
    """

    def __init__(self, model: nn.Module):
        self.model = getattr(model, "_orig_mod", model)  # a compiled model stands for the one inside
        self.shapes = {name: p.shape for name, p in self.model.named_parameters() if p.requires_grad}
        if not self.shapes:
            raise ValueError("model has no trainable weights: set requires_grad=True on those that you measure")
        self.size = sum(shape.numel() for shape in self.shapes.values())
        try:
            self.private = _copied(self.model).eval().requires_grad_(False)
        except RuntimeError as error:
            raise ValueError(f"model cannot be copied: it holds a tensor with a graph, detach it ({error})") from error
        self.trainer: nn.Module | None = None  # a copy in training mode, made when it is needed
        self.has_images = any(isinstance(m, nn.Conv2d) for m in self.model.modules())
        self.mixes = any(isinstance(m, MIXING) and m.running_mean is None for m in self.model.modules())
        self.batches: bool | None = None  # does vmap work?
        self.copies = self.symmetric = False

    def forward(
        self, theta: Tensor, x: Tensor, buffers: dict[str, Tensor] | None = None, training: bool = False,
        head: str | None = None, momentum: float | None = None,
    ) -> Any:  # fmt: skip
        """Outputs `(R, n, ...)` for `x (1 or R, n, ...)`; with `head` the features, its weight and outputs, too.

        buffers, one row per row of theta, move in training; `momentum` replaces batch norm's own.
        """
        network = self._in_training(momentum) if training else self.private
        frozen = self._frozen(theta)

        def one(row, sample, own):
            sample = sample.clone() if self.copies else sample
            return self._call(network, frozen | own | self._cut(row), sample, head)

        with _plain_attention():
            return self._each(one, theta, x, buffers or {})

    def weights(self) -> list[Tensor]:
        """The reader's weights that count as parameters, also if they were frozen since."""
        return [p.detach() for name, p in self.model.named_parameters() if name in self.shapes]

    def flat(self) -> Tensor:
        return torch.cat([p.flatten() for p in self.weights()])

    def probe(self, row: Tensor, x: Tensor) -> Tensor:
        """The outputs for a few samples, after a look whether the forward pass is random or changes its arguments."""
        before = row.clone(), x.clone()
        first = self.forward(row.clone(), x.clone())
        outputs = self.forward(row, x)
        if not torch.allclose(first, outputs, 1e-3, 1e-6, equal_nan=True):
            raise ValueError("model has a forward pass that stays random in eval mode: make it deterministic, or draw "
                             "its noise once and keep it in a buffer")  # fmt: skip
        for now, old in zip((row, x), before, strict=True):
            if not torch.equal(now, old):  # an in-place operation on the data, or an embedding with max_norm
                self.copies = True
                now.copy_(old)
        return first

    def stacked_buffers(self, members: int, like: Tensor) -> dict[str, Tensor]:
        """A row of the model's buffers for each member; those that batch norm moves, and all others."""
        return {n: b.expand(members, *b.shape).clone() for n, b in self._buffers(like).items()}

    def fresh_buffers(self, members: int) -> dict[str, Tensor]:
        """`stacked_buffers` with batch norm's statistics as in a new network."""
        fresh = _copied(self.model)
        for module in fresh.modules():
            if isinstance(module, TRAINED) and module.track_running_stats:
                module.reset_running_stats()
        return {n: b.expand(members, *b.shape).clone() for n, b in fresh.named_buffers()}

    def _in_training(self, momentum):
        if self.trainer is None:
            self.trainer = _copied(self.private).train()
            self.momenta = {m: m.momentum for m in self.trainer.modules() if isinstance(m, TRAINED)}
        if self.trainer.training != (momentum is None):  # where statistics are measured, dropout is off
            self.trainer.train(momentum is None)
        for module, own in self.momenta.items():
            module.momentum = own if momentum is None else momentum
            module.training = True
        return self.trainer

    def _each(self, one, theta, x, buffers):
        if len(theta) == 1:
            image = self.has_images and x.ndim == 5
            sample = x[0].contiguous(memory_format=torch.channels_last) if image else x[0]
            result = one(theta[0], sample, {name: b[0] for name, b in buffers.items()})
            return tuple(part[None] for part in result) if isinstance(result, tuple) else result[None]
        shared = len(x) == 1
        if self.batches is None:
            self.batches = self._can_batch(one, theta, x, buffers)
        if self.batches:
            return vmap(one, (0, None if shared else 0, 0))(theta, x[0] if shared else x, buffers)
        results = [
            one(row, x[0 if shared else k], {name: b[k] for name, b in buffers.items()}) for k, row in enumerate(theta)
        ]
        if isinstance(results[0], tuple):
            return tuple(map(torch.stack, zip(*results, strict=True)))
        return torch.stack(results)

    def _can_batch(self, one, theta, x, buffers):
        """Try two members on two samples: an operation may lack a rule for batches, as recurrent layers do."""
        leaf, few = theta[:2].detach().requires_grad_(), x[:, :2].expand(len(theta), -1, *x.shape[2:])[:2]
        try:
            with torch.enable_grad():
                z = vmap(one)(leaf, few, {name: b[:2].clone() for name, b in buffers.items()})
                autograd.grad((z[-1] if isinstance(z, tuple) else z).sum(), leaf)
        except (RuntimeError, ValueError):
            return False
        return True

    def _cut(self, row):
        pieces = row.split([shape.numel() for shape in self.shapes.values()])
        pieces = [p.clone() for p in pieces] if self.copies else pieces
        return {name: p.view(shape) for (name, shape), p in zip(self.shapes.items(), pieces, strict=True)}

    def _frozen(self, like):
        frozen = {name: p.detach() for name, p in self.model.named_parameters() if name not in self.shapes}
        return {name: p.to(_kind(p, like)) for name, p in frozen.items()} | self._buffers(like)

    def _buffers(self, like):
        return {name: b.detach().to(_kind(b, like), copy=True) for name, b in self.model.named_buffers()}

    def _call(self, network, state, x, head):
        if head is None:
            return _tensor_only(functional_call(network, state, (x,)))
        caught = []
        layer = network.get_submodule(head)
        handle = layer.register_forward_hook(lambda module, args, out: caught.append((args[0], module.weight, out)))
        try:
            outputs = _tensor_only(functional_call(network, state, (x,)))
        finally:
            handle.remove()
        if not caught:
            raise ValueError(f"head {head!r} takes no part in the outputs of model: name its last linear layer, head=…")
        return *caught[-1], outputs


class Mlps:
    """Plain MLPs by batched matrix products; the backward pass is written by hand.

    A *state*, in which they are trained, holds a weight `(M, out, in)` and a bias `(M, 1, out)` per layer, padded with
    zeros to multiples of 4: matrix products round differently where rows are not aligned, and a member must equal its
    solo run bit for bit. Padded units stay exactly zero, for their inputs, outputs and gradients are.
    """

    # Activations with their derivative in terms of the output.
    SLOPES: dict[type, Callable] = {nn.ReLU: lambda h: h > 0, nn.Tanh: lambda h: 1 - h * h}

    def __init__(self, model: Any):
        self.layers, self.sizes = [], []  # per layer: shape of the weight, is there a bias, the activation behind it
        for module, after in pairwise([*model, None]):
            if isinstance(module, nn.Linear):
                activation = after if type(after) in self.SLOPES else None
                self.layers.append((tuple(module.weight.shape), module.bias is not None, activation))
                self.sizes += [p.numel() for p in module.parameters()]
        self.head = str(len(model) - 1)

    def forward(self, theta: Tensor, x: Tensor, *_: Any) -> Tensor:
        """`(M, N, K)` from `theta (M, P)` and `x (1 or M, N, d)`, differentiable."""
        return self._forward(self._cut(theta), x.expand(len(theta), -1, -1))[-1]

    def features(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The last layer's inputs `(M, N, d)`, its weight `(M, K, d)`, and its outputs, twice."""
        layers = self._cut(theta)
        hidden = self._forward(layers, x.expand(len(theta), -1, -1))
        return hidden[-2], layers[-1][0], hidden[-1], hidden[-1]

    def gradient(self, theta: Tensor, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        """`Jᵀ slope(z)`, `(M, P)`; `slope` maps outputs `(M, N, K)` to ∂loss/∂z."""
        parts = []
        for k, delta, hidden in self._backward(self._layers(self.pack(theta)), x.expand(len(theta), -1, -1), slope):
            (n_out, n_in), bias, _ = self.layers[k]
            if bias:
                parts.append(delta.sum(1)[:, :n_out])
            parts.append(torch.bmm(delta.mT, hidden)[:, :n_out, :n_in].flatten(1))
        return torch.cat(parts[::-1], 1)

    def accumulate(
        self, state: list[Tensor], x: Tensor, slope: Callable[[Tensor], Tensor], out: list[Tensor], beta: float
    ) -> None:
        """`out ← beta·out + Jᵀ slope(z)` in place, for states."""
        results = self._layers(out)
        for k, delta, hidden in self._backward(self._layers(state), x, slope):
            weight, bias = results[k]
            torch.baddbmm(weight, delta.mT, hidden, beta=beta, out=weight)
            if bias is not None:
                bias.mul_(beta).add_(delta.sum(1, keepdim=True))

    def pack(self, theta: Tensor) -> list[Tensor]:
        """The state that `theta (M, P)` stands for."""
        pad, state = nn.functional.pad, []
        for ((n_out, n_in), _, _), (weight, bias) in zip(self.layers, self._cut(theta), strict=True):
            state.append(pad(weight, (0, -n_in % 4, 0, -n_out % 4)))
            state += [] if bias is None else [pad(bias, (0, -n_out % 4))]
        return state

    def unpack(self, state: list[Tensor]) -> Tensor:
        """`theta (M, P)` of a state."""
        parts, blocks = [], iter(state)
        for (n_out, n_in), bias, _ in self.layers:
            parts.append(next(blocks)[:, :n_out, :n_in].flatten(1))
            parts += [next(blocks)[:, 0, :n_out]] if bias else []
        return torch.cat(parts, dim=1)

    def _backward(self, layers, x, slope):
        """From the last layer to the first: its number, ∂loss/∂(its outputs), and its inputs, padded."""
        hidden = self._forward(layers, nn.functional.pad(x, (0, -x.shape[2] % 4)))
        classes = self.layers[-1][0][0]
        delta = nn.functional.pad(slope(hidden[-1][..., :classes]), (0, -classes % 4))
        for k in reversed(range(len(layers))):
            yield k, delta, hidden[k]
            if k:
                delta = torch.bmm(delta, layers[k][0])
                activation = self.layers[k - 1][2]
                delta = delta * self.SLOPES[type(activation)](hidden[k]) if activation is not None else delta

    def _layers(self, state):
        blocks = iter(state)
        return [(next(blocks), next(blocks) if bias else None) for _, bias, _ in self.layers]

    def _cut(self, theta):
        """Weight `(M, out, in)` and bias `(M, 1, out)` or None of each layer, views of one split (cheap backward)."""
        pieces = iter(theta.split(self.sizes, 1))
        return [(next(pieces).unflatten(1, shape), next(pieces)[:, None] if bias else None)
                for shape, bias, _ in self.layers]  # fmt: skip

    def _forward(self, blocks, x):
        hidden = [x]
        for (weight, bias), (_, _, activation) in zip(blocks, self.layers, strict=True):
            z = torch.bmm(hidden[-1], weight.mT) if bias is None else torch.baddbmm(bias, hidden[-1], weight.mT)
            hidden.append(z if activation is None else activation(z))
        return hidden


class _Stream:
    """Batches `(x, y)` that can be gone through again and again, and are checked to be the same each time."""

    def __init__(self, batches: Iterable):
        if isinstance(batches, Tensor | np.ndarray) or not isinstance(batches, Iterable) or iter(batches) is batches:
            raise ValueError(
                f"targets is missing, and inputs is a {type(batches).__name__}: pass inputs and targets, or a "
                "re-iterable of batches (x, y) such as a DataLoader (a generator ends with its first pass)"
            )
        self.batches, self.print = batches, None
        self.first: Any = None
        for _ in range(2):
            for batch in self:
                self.first = self.first or batch

    @property
    def count(self) -> int:
        return int(self.print[0]) if self.print else 0

    def __iter__(self):
        sums = np.zeros(4)
        for x, y in self.batches:
            x, y = torch.as_tensor(x), torch.as_tensor(y)
            rows, marks = x.flatten(1).double(), y.double().reshape(len(y), -1).mean(1)
            along = rows @ torch.linspace(1, 2, rows.shape[1], dtype=torch.float64, device=rows.device)
            sums += [len(x), along.sum().item(), along.square().sum().item(), ((along + 1) * (marks + 1)).sum().item()]
            yield x, y
        if self.print is None:
            self.print = sums.tolist()
        if not sums[0]:
            raise ValueError("inputs is empty: a loss needs at least one sample")
        if not np.allclose(sums, self.print, rtol=1e-9, atol=0):
            raise ValueError(
                "inputs is a stream of batches that differ from pass to pass: no shuffling with drop_last, and no "
                "augmentation, where a loss is measured"
            )


@contextmanager
def _plain_attention():
    """Attention by kernels that are twice differentiable."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _product(leaf, slope, v):
    """`H v` from a gradient with its graph."""
    if not slope.requires_grad:  # a loss that is affine in the weights
        return torch.zeros_like(leaf)
    return autograd.grad(slope, leaf, v, retain_graph=True, materialize_grads=True)[0]


def _copied(model):
    """A copy; tensors that carry a graph, such as the weights of pruned layers, are copied without it."""
    parts = [t for m in model.modules() for held in (vars(m), m._parameters, m._buffers) for t in held.values()]
    return deepcopy(model, {id(t): t.detach().clone() for t in parts if isinstance(t, Tensor) and not t.is_leaf})


def flat_weights(model: nn.Module) -> Tensor:
    """The trainable weights of a module as one flat copy `(P,)`."""
    weights = [p.detach().flatten() for p in model.parameters() if p.requires_grad]
    return torch.cat(weights) if weights else torch.zeros(0)


def join(parts: list[Tensor], dim: int = 0) -> Tensor:
    """The parts as one tensor, without a copy if there is only one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _is_plain_mlp(model):
    """Linear layers with known activations in between, and nothing else that could change what they compute."""
    if type(model) is not nn.Sequential or type(model[0]) is not nn.Linear or type(model[-1]) is not nn.Linear:
        return False
    known = all(type(m) in (nn.Linear, *Mlps.SLOPES) for m in model)
    alternate = not any(type(a) is not nn.Linear and type(b) is not nn.Linear for a, b in pairwise(model))
    names = [f"{k}.{name}" for k, m in enumerate(model) for name, _ in m.named_parameters()]
    plain = [name for name, p in model.named_parameters() if p.requires_grad] == names
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooked = any(getattr(m, name) for m in [model, *model] for name in hooks)
    linear = all(set(m._parameters) == {"weight", "bias"} for m in model if type(m) is nn.Linear)
    return known and alternate and plain and linear and not hooked and len(set(map(id, model))) == len(model)


def _builder(model):
    if isinstance(model, type) or not callable(model):
        raise ValueError(f"model is a {type(model).__name__}: pass a torch.nn.Module, or a function build(seed)")
    return model


def _seeds(seeds):
    if isinstance(seeds, int):
        raise ValueError(f"seeds is {seeds}: give one per member, e.g. range({seeds})")
    if not (seeds := [int(seed) for seed in seeds]):
        raise ValueError("seeds is empty: give one per member, e.g. range(100)")
    return seeds


def _whole(chunk):
    if chunk is not None and (int(chunk) != chunk or chunk < 1):
        raise ValueError(f"chunk is {chunk!r}: pass a positive whole number of samples")
    return chunk if chunk is None else int(chunk)


def _stacked(data, name) -> tuple[Tensor, bool]:
    """The data as a tensor, and whether its first axis is that of members: a list holds one tensor each."""
    if isinstance(data, list | tuple) and data and isinstance(data[0], Tensor | np.ndarray):
        shapes = {tuple(d.shape) for d in data}
        if len(shapes) > 1:
            raise ValueError(f"{name} is a list of tensors with the shapes {shapes}: all members need the same")
        return torch.stack([torch.as_tensor(d) for d in data]), True
    if not isinstance(data, Tensor | np.ndarray | list | tuple):
        raise ValueError(f"{name} is a {type(data).__name__}: pass a tensor or an array, or a list of one per member")
    return torch.as_tensor(data), False


def _kind(tensor, like):
    return like.dtype if tensor.is_floating_point() else tensor.dtype


def _tensor_only(outputs):
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"model returns a {type(outputs).__name__}: a loss needs one tensor, (N, ...); wrap the model in a module "
            "that picks it"
        )
    return outputs


def _check_classes(labels: Tensor, shape: torch.Size) -> None:
    """Refuse labels `(M, N)` that are not class numbers 0 … K−1 for outputs of shape `(K,)`."""
    if len(shape) != 1:
        raise ValueError(f"cross_entropy needs outputs (N, classes), but model returns {('N', *shape)}")
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.ndim != 2:
        kind = f"{labels.dtype} {tuple(labels.shape[1:])}"
        raise ValueError(f"targets is {kind}: pass class numbers (N,), e.g. targets.long()")
    if labels.min() < 0 or labels.max() >= shape[0]:
        last = shape[0] - 1
        raise ValueError(f"targets runs from {labels.min()} to {labels.max()}: for {last + 1} outputs use 0 … {last}")
