"""Many small networks trained as one batched program, each with its own seed, data, labels and strengths."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flatlab.batched import check_module, network_for
from flatlab.network import NetworkLoss
from flatlab.objective import Objective
from flatlab.runtime import threads

THREADED = 200_000  # weights in all; below, threads only wait for each other
LOSSES = ("cross_entropy", "mse")
SCHEDULES = {"constant": lambda t: 1.0, "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2}


class EnsembleLoss(Objective):
    """The losses of M networks of one architecture: an `Objective` with members as leading dimension, `(M, P) -> (M,)`.

    model: the architecture. theta: `(M, P)`. inputs: `(N, ...)` for all members, or a list of one tensor per member;
    targets likewise. loss: "cross_entropy" or "mse"; means over samples, without penalties, as in `NetworkLoss`.
    `.members`: a `NetworkLoss` for each member, in order. Every measure takes an ensemble and returns one value each.

    Errors: ValueError for counts that do not match.
    """

    def __init__(self, model: nn.Module, theta: Tensor, inputs, targets, loss="cross_entropy"):
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}: an ensemble takes one of {', '.join(LOSSES)}")
        self.model, self.loss, self._network = model, loss, network_for(model)
        self.dim = sum(p.numel() for p in model.parameters())
        self.theta = self.point(theta)
        if self.theta.ndim != 2:
            raise ValueError(f"theta has shape {tuple(self.theta.shape)}: an ensemble needs (members, parameters)")
        self.inputs, self.targets = (per_member(data, len(theta), name) for data, name in
                                     ((inputs, "inputs"), (targets, "targets")))  # fmt: skip

        if self.inputs.is_floating_point():
            self.inputs = self.inputs.to(self.theta.dtype)

    @property
    def members(self) -> list[NetworkLoss]:
        """One `NetworkLoss` per member, with a model of its own."""
        return [
            NetworkLoss(model_at(self.model, theta), self.inputs[k % len(self.inputs)],
                        self.targets[k % len(self.targets)], self.loss)
            for k, theta in enumerate(self.theta)
        ]  # fmt: skip

    def outputs(self, theta=None, inputs=None) -> Tensor:
        """The outputs of all members `(M, N, ...)` at `theta (M, P)`, without a graph."""
        inputs = self.inputs if inputs is None else per_member(inputs, len(self.theta), "inputs")
        with torch.no_grad():
            return self._network.outputs(self.point(theta), _spread(inputs, len(self.theta)))

    def _value(self, theta):
        with torch.set_grad_enabled(theta.requires_grad and torch.is_grad_enabled()):
            z = self._network.outputs(theta, _spread(self.inputs, len(theta)))
            return sample_losses(z, _spread(self.targets, len(theta)), self.loss).mean(1)


@dataclass
class Run:
    """What `train` returns: `theta (M, P)` after `steps` steps, and copies `kept[step] (M, P)` on the way.

    diverged: `(M,)`, True for members whose weights or losses are not finite: leave them out of every mean.
    finished: False if the run was interrupted (Ctrl-C); what was reached is here.
    """

    model: nn.Module
    seeds: list[int]
    theta: Tensor
    kept: dict[int, Tensor]
    steps: int
    finished: bool
    diverged: Tensor

    def loss(self, inputs, targets, loss="cross_entropy", step: int | None = None) -> EnsembleLoss:
        """The `EnsembleLoss` of all members at the end, or at a kept `step`."""
        return EnsembleLoss(self.model, self.theta if step is None else self.kept[step], inputs, targets, loss)


def train(
    build: Callable[[int], nn.Module], inputs, targets, seeds: Sequence[int], steps: int, loss: str = "cross_entropy",
    batch: int | None = None, optimiser: str = "sgd", schedule: str = "constant", theta: Tensor | None = None,
    keep: Iterable[int] = (), adaptive: bool = False, progress: bool = True,
    lr=0.1, momentum=0.0, weight_decay=0.0, rho=0.0, label_noise=0.0, input_noise=0.0, label_smoothing=0.0,
) -> Run:  # fmt: skip
    """Train one network per seed, all at once. Each equals its solo run: members never mix.

    build: `build(seed)` gives a member's network; the weights of a seed are its own, so two sweeps with the same seeds
        share them. `theta (M, P)` replaces them. A seed also fixes the order of the batches and all noise.
    inputs, targets: `(N, ...)` for all members, or a list with one tensor per member.
    loss: "cross_entropy" or "mse" (means). batch: samples a step, drawn without replacement within an epoch; all by
        default. optimiser: "sgd" (torch's form) or "adam". schedule: "constant", or "cosine" to 0.
    Strengths, each one number or one per member: lr; momentum; weight_decay λ (adds λθ to the gradient, that is ½λ‖θ‖²
        to the loss); rho, the radius of SAM (of ASAM with `adaptive`), 0 for none; label_noise (the probability that a
        label is redrawn at a step; for "mse" the sd that is added); input_noise (sd); label_smoothing.
    keep: the steps after which weights are copied into `.kept`, 0 for the start.

    Ctrl-C returns what was reached; any other exception carries it as `.partial`. Errors: ValueError for unknown
    names, counts that do not match, a batch larger than the data, or modules whose forward pass is random or has
    a memory (dropout, batch norm).
    """
    names = ("lr", "momentum", "weight_decay", "rho", "label_noise", "input_noise", "label_smoothing")
    given = (lr, momentum, weight_decay, rho, label_noise, input_noise, label_smoothing)
    seeds = [int(seed) for seed in seeds]
    _check(loss, optimiser, schedule, seeds, steps, keep)
    models = [build(seed) for seed in seeds]
    check_module(models[0])
    start = torch.stack([_flat(model) for model in models]) if theta is None else theta
    strengths = {name: _strength(value, name, start) for name, value in zip(names, given, strict=True)}
    data = _Batches(inputs, targets, seeds, batch, strengths, loss, start.dtype)
    rule = _Sgd if optimiser == "sgd" else _Adam
    job = _Job(models[0], start, rule, data, strengths, adaptive, SCHEDULES[schedule])
    return _run(job, seeds, steps, set(keep), progress)


def model_at(model: nn.Module, theta: Tensor) -> nn.Module:
    """A copy of `model` with the weights `theta (P,)`."""
    from copy import deepcopy

    copy = deepcopy(model)
    torch.nn.utils.vector_to_parameters(theta.clone(), copy.parameters())
    return copy


def per_member(data, members: int, name: str) -> Tensor:
    """`data` with a leading axis of length 1 (shared by all) or `members` (a list of one tensor each)."""
    if not isinstance(data, list | tuple):
        return torch.as_tensor(data)[None]
    if len(data) != members:
        raise ValueError(f"{name} is a list of {len(data)}: give one tensor per member, {members}, or one for all")
    return torch.stack([torch.as_tensor(d) for d in data])


def sample_losses(z: Tensor, y: Tensor, loss: str) -> Tensor:
    """One loss per member and sample, `(M, N)`."""
    if loss == "mse":
        return (z - y.to(z.dtype)).square().flatten(2).mean(2)
    return torch.nn.functional.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="none").view(z.shape[:2])


class _Batches:
    """Draws every member's batch and noise from generators of its own, so that it sees what its solo run sees."""

    def __init__(self, inputs, targets, seeds, batch, strengths, loss, dtype):
        members = len(seeds)
        self.x, self.y = per_member(inputs, members, "inputs"), per_member(targets, members, "targets")
        self.x = self.x.to(dtype) if self.x.is_floating_point() else self.x
        self.count = self.x.shape[1]
        if self.y.shape[1] != self.count or self.count == 0:
            raise ValueError(f"targets has {self.y.shape[1]} rows and inputs {self.count}: equal and not 0 is needed")
        if batch is not None and not 1 <= batch <= self.count:
            raise ValueError(f"batch is {batch}: choose 1 to {self.count}, the number of samples")
        self.batch, self.loss, self.strengths, self.members = batch, loss, strengths, members
        self.order = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.noise = [torch.Generator().manual_seed(seed + 2**31) for seed in seeds]
        self.queue: list[Tensor] = []

    def draw(self):
        x, y = self._take()
        s = self.strengths
        if s["input_noise"].any():
            x = x + s["input_noise"].view(-1, *[1] * (x.ndim - 1)) * self._normal(x)
        if s["label_noise"].any():
            y = self._disturbed(y)
        return x, y

    def _take(self):
        if self.batch is None:
            return _spread(self.x, self.members), _spread(self.y, self.members)
        if not self.queue:
            epoch = torch.stack([torch.randperm(self.count, generator=g) for g in self.order])
            self.queue = list(epoch.split(self.batch, dim=1))
        chosen = self.queue.pop(0)
        own = torch.arange(self.members)[:, None]
        return tuple(d[0][chosen] if len(d) == 1 else d[own, chosen] for d in (self.x, self.y))

    def _disturbed(self, y):
        strength = self.strengths["label_noise"]
        if self.loss == "mse":
            return y + strength.view(-1, *[1] * (y.ndim - 1)).to(y) * self._normal(y)
        redrawn = torch.stack([torch.rand(y.shape[1:], generator=g) for g in self.noise]) < strength
        classes = int(self.y.max()) + 1
        random = torch.stack([torch.randint(classes, y.shape[1:], generator=g) for g in self.noise])
        return torch.where(redrawn, random, y)

    def _normal(self, like):
        return torch.stack([torch.randn(like.shape[1:], generator=g, dtype=like.dtype) for g in self.noise])


class _Sgd:
    """`m ← μ m + g + λθ`, `θ ← θ − η m`; the gradient is accumulated straight into the momentum."""

    def __init__(self, state, strengths):
        self.momentum, self.s = _zeros(state), strengths
        self.beta = _single(strengths["momentum"])

    def update(self, state, accumulate, rate):
        if self.beta is None:
            _scale(self.momentum, self.s["momentum"])
        accumulate(self.momentum, 1.0 if self.beta is None else self.beta)
        _decay(self.momentum, state, self.s["weight_decay"])
        _descend(state, self.momentum, self.s["lr"], rate)


class _Adam:
    """Adam with torch's defaults (β = .9, .999, ε = 1e-8); weight decay enters the gradient."""

    def __init__(self, state, strengths):
        self.gradient, self.mean, self.square = (_zeros(state) for _ in range(3))
        self.s, self.count = strengths, 0

    def update(self, state, accumulate, rate):
        accumulate(self.gradient, 0.0)
        _decay(self.gradient, state, self.s["weight_decay"])
        self.count += 1
        directions = []
        for g, mean, square in zip(self.gradient, self.mean, self.square, strict=True):
            mean.mul_(0.9).add_(g * 0.1)
            square.mul_(0.999).add_(g * g * 0.001)
            directions.append(mean / square.sqrt().div_((1 - 0.999**self.count) ** 0.5).add_(1e-8))
        _descend(state, directions, self.s["lr"], rate / (1 - 0.9**self.count))


class _Job:
    """One step of all members: a batch, the gradient (at SAM's point if ρ > 0), the update."""

    def __init__(self, model, theta, optimiser, data, strengths, adaptive, schedule):
        self.model, self.network, self.data, self.s = model, network_for(model), data, strengths
        self.state, self.adaptive, self.schedule = self.network.pack(theta), adaptive, schedule
        self.optimiser = optimiser(self.state, strengths)
        self.scratch = _zeros(self.state) if strengths["rho"].any() else None

    def weights(self):
        return self.network.unpack(self.state)

    def step(self, done):
        x, y = self.data.draw()
        here = self.state if self.scratch is None else self._uphill(x, y)

        def accumulate(out, beta):
            self.network.accumulate(here, x, lambda z: self._slope(z, y), out, beta)

        self.optimiser.update(self.state, accumulate, self.schedule(done))

    def _uphill(self, x, y):
        """The state at θ + ε: ε = ρ g/‖g‖, or ρ T²g/‖T g‖ with T = |θ|, and 0 where the gradient is."""
        self.network.accumulate(self.state, x, lambda z: self._slope(z, y), self.scratch, 0.0)
        scales = [p.abs() if self.adaptive else torch.ones((), dtype=p.dtype) for p in self.state]
        scaled = [g * c for g, c in zip(self.scratch, scales, strict=True)]
        norm = sum(g.flatten(1).square().sum(1, keepdim=True) for g in scaled).sqrt()
        length = torch.where(norm > 0, self.s["rho"] / norm, torch.zeros_like(norm))
        return [p + _aligned(length, p) * (g * c) for p, g, c in zip(self.state, scaled, scales, strict=True)]

    def _slope(self, z, y):
        """∂(mean loss)/∂z for each member."""
        if self.data.loss == "mse":
            return 2 * (z - y.to(z.dtype)) / z[0].numel()
        smoothing = self.s["label_smoothing"][..., None]
        slope = z.softmax(-1).scatter_add_(-1, y[..., None], (smoothing - 1).expand(*y.shape, 1))
        if smoothing.any():
            slope -= smoothing / z.shape[-1]
        return slope.div_(y.shape[1])


def _run(job, seeds, steps, keep, progress):
    from tqdm.auto import trange

    kept, done = {0: job.weights()} if 0 in keep else {}, 0

    def reached(finished):
        theta = job.weights()
        return Run(job.model, seeds, theta, kept, done, finished, ~torch.isfinite(theta).all(1))

    size = sum(p.numel() for p in job.state)
    with threads(1 if size < THREADED else torch.get_num_threads()), torch.no_grad():
        try:
            for step in trange(steps, disable=not progress, delay=3, leave=False, desc=f"{len(seeds)} networks"):
                job.step(step / steps)
                done = step + 1
                if done in keep:
                    kept[done] = job.weights()
        except KeyboardInterrupt:
            return reached(False)
        except Exception as error:
            error.partial = reached(False)
            raise
    return reached(True)


def _check(loss, optimiser, schedule, seeds, steps, keep):
    for value, name, known in ((loss, "loss", LOSSES), (optimiser, "optimiser", ("sgd", "adam")),
                               (schedule, "schedule", tuple(SCHEDULES))):  # fmt: skip
        if value not in known:
            raise ValueError(f"{name} is {value!r}: choose one of {', '.join(known)}")
    if not seeds:
        raise ValueError("seeds is empty: give one seed per member, e.g. range(100)")
    if wrong := [step for step in keep if not 0 <= step <= steps]:
        raise ValueError(f"keep holds {wrong}: choose steps from 0 to {steps}")


def _strength(value, name, theta):
    tensor = torch.as_tensor(value, dtype=theta.dtype)
    if tensor.ndim > 1 or tensor.numel() not in (1, len(theta)):
        raise ValueError(f"{name} has {tensor.numel()} values: give one number, or one per member ({len(theta)})")
    if not (torch.isfinite(tensor).all() and (tensor >= 0).all()):
        raise ValueError(f"{name} is {value}: it must be finite and not negative")
    return tensor.reshape(-1, 1).expand(len(theta), 1)


def _single(strength):
    return strength[0].item() if (strength == strength[0]).all() else None


def _zeros(state):
    return [torch.zeros_like(p) for p in state]


def _aligned(strength, p):
    """A strength `(M, 1)` in a shape that multiplies `p (M, ...)`."""
    return strength.view(-1, *[1] * (p.ndim - 1))


def _scale(tensors, strength):
    for t in tensors:
        t.mul_(_aligned(strength, t))


def _decay(gradient, state, strength):
    if strength.any():
        for g, p in zip(gradient, state, strict=True):
            g.add_(p * _aligned(strength, p))


def _descend(state, directions, lr, rate):
    """Two roundings, never a fused one: fusing depends on where a vectorised loop ends."""
    single = _single(lr)
    for p, d in zip(state, directions, strict=True):
        p.sub_(d * (single * rate if single is not None else _aligned(lr * rate, p)))


def _flat(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def _spread(data, members):
    return data.expand(members, *data.shape[1:])
