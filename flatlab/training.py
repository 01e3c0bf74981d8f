"""Training: one trainer for one network or M at once, with any loss, penalty and rule of descent."""

import inspect
import json
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flatlab.images import crop_and_flip
from flatlab.loss import NetworkLoss, flat_weights
from flatlab.objective import Objective
from flatlab.runtime import threads

THREADED = 200_000  # weights in all; below, threads only wait for each other
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}
Strength = float | Sequence[float] | Tensor
Rule = Callable[..., Tensor]


def gradient(objective: Objective, theta: Tensor) -> Tensor:
    """Plain descent: `∇L(θ)`."""
    return objective.gradient(theta)


def sam(objective: Objective, theta: Tensor, rho: Tensor | float = 0.05) -> Tensor:
    """Sharpness-aware minimisation: the gradient a step of length ρ uphill, `∇L(θ + ρ g/‖g‖)`, `g = ∇L(θ)`.

    Where the gradient is zero it is a plain step. Source: Foret et al. 2021.
    """
    g = objective.gradient(theta)
    return objective.gradient(theta + _ratio(rho, g.norm(dim=-1, keepdim=True)) * g)


def asam(objective: Objective, theta: Tensor, rho: Tensor | float = 0.5) -> Tensor:
    """Adaptive SAM, `∇L(θ + ρ T²g/‖Tg‖)` with T = |θ|: unchanged by rescalings of θ. Source: Kwon et al. 2021."""
    size, g = theta.abs(), objective.gradient(theta)
    scaled = size * g
    return objective.gradient(theta + _ratio(rho, scaled.norm(dim=-1, keepdim=True)) * (size * scaled))


RULES: dict[str, Rule] = {rule.__name__: rule for rule in (gradient, sam, asam)}
CONTROLS: dict[str, dict[str, Any]] = {
    "base": {},
    "SAM": {"rule": sam, "rho": 0.05},
    "aug": {"augment": crop_and_flip},
    "aug+SAM": {"augment": crop_and_flip, "rule": sam, "rho": 0.05},
    "wd": {"weight_decay": 5e-4},
    "wd+SAM": {"weight_decay": 5e-4, "rule": sam, "rho": 0.05},
}


def control(name: str, **changes: Any) -> dict[str, Any]:
    """What `train` is told for one of the six controls, with `changes`: `train(loss, 960, **control("SAM", rho=0.1))`.

    Errors: ValueError for an unknown control. Source: Mason-Williams et al. 2025 (ρ = 0.05, weight decay 5e-4).
    """
    if name not in CONTROLS:
        raise ValueError(f"name is {name!r}: the controls are {', '.join(CONTROLS)}")
    return {**CONTROLS[name], **changes}


DEFAULTS: dict[str, Any] = {
    "rule": gradient, "optimiser": "sgd", "schedule": "constant", "batch": None, "augment": None,
    "precision": "float32", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "label_noise": 0.0, "input_noise": 0.0,
    "label_smoothing": 0.0,
}  # fmt: skip
STRENGTHS = ("lr", "momentum", "weight_decay", "label_noise", "input_noise", "label_smoothing")
PARTS = ("momentum", "batches", "noise", "buffers", "steps")
_latest: list["Run"] = []


@dataclass
class Run:
    """What `train` returns: weights, and all that is needed to go on (`train(…, start=run)`).

    theta: `(P,)` of one network, `(M, P)` of M, after `steps` steps of `total`. kept: copies on the way, by step.
    diverged: `(M,)` or a single truth value: a member whose loss or weights stopped being finite stays at its last
        finite weights; leave it out of every mean.
    """

    objective: Objective
    theta: Tensor
    seeds: list[int]
    steps: int
    total: int
    diverged: Tensor
    kept: dict[int, Tensor] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict, repr=False)
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def loss(self, inputs: Any = None, targets: Any = None, loss: Any = None, step: int | None = None) -> Objective:
        """The clean, un-penalised loss at the end, or at a kept `step`; on other data where they are given."""
        theta, source = self.theta if step is None else self.kept[step], self.objective.source
        if source is None:
            return self.objective.at(theta)
        if inputs is not None:
            source = NetworkLoss(source.model, inputs, targets, loss or source.loss)
        return source.at(theta, self._buffers("buffer" if step is None else f"kept {step}"))

    def model(self, member: int | None = None, step: int | None = None) -> nn.Module:
        """A copy of the network with the trained weights and buffers, of one `member` where there are M."""
        theta = self.theta if step is None else self.kept[step]
        if theta.ndim == 2 and member is None:
            raise ValueError(f"member is missing: this run has {len(theta)} networks, choose 0 to {len(theta) - 1}")
        row, module = (theta if member is None else theta[member]).clone(), deepcopy(self.objective.source.model).eval()
        trainable = [p for p in module.parameters() if p.requires_grad]
        torch.nn.utils.vector_to_parameters(row, trainable)
        buffers = self._buffers("buffer" if step is None else f"kept {step}") or {}
        for name, buffer in module.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name][member or 0])
        return module

    def save(self, path: str | Path) -> None:
        """Write the run to a safetensors file; `load` reads it. Rules and augmentations are kept by name only."""
        from safetensors.torch import save_file

        tensors = {"theta": self.theta, "diverged": self.diverged}
        tensors |= {f"state {name}": t for name, t in self.state.items()}
        tensors |= {f"kept {step}": t for step, t in self.kept.items()}
        about = {"seeds": self.seeds, "steps": self.steps, "total": self.total, "settings": _named(self.settings)}
        part = Path(f"{path}.part")
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, part, {"run": json.dumps(about)}
        )
        part.replace(path)

    def _buffers(self, kind):
        start = f"{kind} "
        return {n.removeprefix(start): b for n, b in self.state.items() if n.startswith(start)} or None


def load(path: str | Path, objective: Objective) -> Run:
    """The run that `Run.save` wrote, of this objective; it goes on as if it had never been stopped.

    Errors: ValueError for a file of another kind, or weights of another number of parameters.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"path is {path}: it holds no run that Run.save wrote ({error})") from error
    theta, diverged = tensors.pop("theta"), tensors.pop("diverged")
    if objective.dim not in (None, theta.shape[-1]):
        raise ValueError(f"path is {path}: its run has {theta.shape[-1]} parameters, and objective {objective.dim}")
    kept = {int(name.removeprefix("kept ")): t for name, t in tensors.items() if name.startswith("kept ")}
    state = {name.removeprefix("state "): t for name, t in tensors.items() if name.startswith("state ")}
    settings = {name: _unnamed(name, value) for name, value in about["settings"].items()}
    return Run(objective, theta, about["seeds"], about["steps"], about["total"], diverged, kept, settings, state)


def reached() -> Run:
    """The run that was under way when Ctrl-C stopped `train`, up to its last whole step.

    Errors: ValueError if none was stopped.
    """
    if not _latest:
        raise ValueError("no run was interrupted in this kernel")
    return _latest[-1]


def train(
    objective: Objective, steps: int, total: int | None = None, rule: Rule | None = None, start: Run | None = None,
    theta: Tensor | None = None, fresh: Iterable[str] = (), seeds: Sequence[int] | None = None,
    batch: int | None = None, optimiser: str | None = None, schedule: str | Callable[[float], float] | None = None,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None, precision: str | None = None,
    lr: Strength | None = None, momentum: Strength | None = None, weight_decay: Strength | None = None,
    label_noise: Strength | None = None, input_noise: Strength | None = None, label_smoothing: Strength | None = None,
    keep: Iterable[int] = (), progress: bool = True, **strengths: Strength,
) -> Run:  # fmt: skip
    """Descend on an objective: one network, or M at once, of which each equals its solo run.

    `d = rule(step, θ, **strengths) + λθ`, then the optimiser with rate `lr · schedule(t)`, t = steps done / total.

    objective: a `NetworkLoss`, a sum such as `loss + 0.1 * kappa`, or any `Objective`; it and its model stay unchanged.
    steps: how many to take; total: the length of the schedule, by default where these steps end.
    rule: `rule(objective, theta (M, P), **strengths) -> (M, P)`, by default `gradient`; see `sam`. It gets the
        objective of the present batch, with `.gradient`, `.hvp`, `.inputs`, `.targets` and `.noise()`, normals (M, P)
        of each member's own. A step's evaluations see the same batch; batch norm's statistics follow the first only.
    start: a run to go on from, bit for bit; what is not named is inherited. theta `(P,)` or `(M, P)` replaces weights,
        and `fresh` names what begins anew: "momentum", "batches", "noise", "buffers", "steps".
    seeds: one per member (default range(M)), for the order of its batches and its noise, and for its weights where the
        loss was made from a function `build(seed)`.
    batch: samples a step, drawn without replacement within an epoch; all by default. optimiser: "sgd" (torch's form),
        "adam" or "adamw" (torch's defaults). schedule: "constant", "cosine" to 0, or a function of t in [0, 1).
    augment: `(images, generator) -> images` for training batches. precision: "float32" (as the weights are) or "bf16".
    Strengths, each one number or one per member: lr (0.1); momentum; weight_decay λ (adds λθ to d; decoupled in
        "adamw"); label_noise (the probability that a class is redrawn at a step; the sd that is added to numbers);
        input_noise (sd); label_smoothing; and the rule's own, such as `rho`, which it receives as `(M, 1)`.
    keep: the steps after which weights are copied into `.kept`, 0 for the start.

    Ctrl-C stops the cell after the present step; `reached()` returns the run so far. Errors: ValueError that names what
    does not fit; FloatingPointError if all members diverge at the first step; MemoryError that names the batch.

    A rule with a product of the Hessian (GAM), and one that draws noise (Langevin):

    >>> def gam(objective, theta, rho, share):
    ...     g = objective.gradient(theta)
    ...     above = theta + rho * g / g.norm(dim=-1, keepdim=True)
    ...     slope = objective.gradient(above)
    ...     return g + share * rho * objective.hvp(above, slope / slope.norm(dim=-1, keepdim=True))
    >>> def langevin(objective, theta, temperature):
    ...     return objective.gradient(theta) + temperature * objective.noise()
    >>> bowl = Objective(lambda t: (t**2).sum(-1), theta=[[3.0, 4.0], [0.3, 0.4]])
    >>> train(bowl, 1, rule=gam, rho=0.1, share=1.0, lr=0.1).theta
    tensor([[2.3880, 3.1840],
            [0.2280, 0.3040]], dtype=torch.float64)

    A loss of one's own, and rounds of federated averaging that go on where they were:

    >>> def unhinged(outputs, targets):
    ...     return outputs.mean(-1) - outputs.gather(-1, targets[:, None])[:, 0]
    >>> clients = [torch.eye(4)[:2], torch.eye(4)[2:]], [torch.tensor([0, 1]), torch.tensor([1, 1])]
    >>> net, run = nn.Linear(4, 2), None
    >>> mean = torch.zeros(10)
    >>> for _ in range(3):
    ...     run = train(NetworkLoss(net, *clients, unhinged), 5, start=run, theta=mean, fresh=("momentum",))
    ...     mean = run.theta.mean(0)
    >>> mean[-2:]  # the biases: of four labels three are 1
    tensor([-0.3750,  0.3750])
    """
    given = {name: value for name, value in locals().items() if name in DEFAULTS and value is not None}
    inherited = start.settings if start else {}
    settings = {**DEFAULTS, **(inherited if "rule" not in given else _without_rule(inherited)), **given, **strengths}
    _check_settings(settings, objective, steps, fresh, start)
    weights, seeds, single = _members(objective, settings, start, theta, seeds)
    _check_network(objective.source, settings, len(seeds))
    job = _Job(objective, weights, seeds, settings, {} if start is None else dict(start.state), set(fresh))
    done = 0 if start is None or "steps" in fresh else start.steps
    total = _total(total, done + steps, start, settings)
    keep = {int(step) for step in keep}
    if wrong := sorted(step for step in keep if not done <= step <= done + steps):
        raise ValueError(f"keep holds {wrong}: choose steps from {done} to {done + steps}")
    if start is not None:
        job.alive &= ~start.diverged.reshape(-1, 1)
    return _descend(job, done, done + steps, total, keep, single, progress)


def _descend(job, done, end, total, keep, single, progress):
    from tqdm.auto import trange

    kept = {}

    def run():
        theta, diverged = job.weights(), ~job.alive[:, 0]
        parts = (theta[0], diverged[0]) if single else (theta, diverged)
        weights = {step: t[0] if single else t for step, t in kept.items()}
        return Run(job.objective, parts[0], job.seeds, done, total, parts[1], weights, job.settings, job.packed())

    if done in keep:
        kept[done] = job.keep(done)
    few = job.size < THREADED and not job.has_images
    with threads(1 if few else torch.get_num_threads()), _interrupts_deferred() as stopped, job.randomness():
        for now in trange(done, end, disable=not progress, delay=3, leave=False, desc=f"{len(job.seeds)} networks"):
            try:
                job.step(now, total)
            except Exception as error:
                error.partial = run()
                raise
            done = now + 1
            if done in keep:
                kept[done] = job.keep(done)
            if stopped:
                _latest[:] = [run()]
                raise KeyboardInterrupt("training was interrupted: fl.training.reached() returns the run so far")
            if not job.alive.any():
                break
    if not job.alive.all():
        gone = [seed for seed, alive in zip(job.seeds, job.alive[:, 0].tolist(), strict=True) if not alive]
        warnings.warn(f"members with the seeds {gone} diverged and were frozen: see run.diverged", stacklevel=3)
    return run()


class _Job:
    """One step of all members: a batch, the rule's direction, the optimiser."""

    def __init__(self, objective, theta, seeds, settings, state, fresh):
        self.objective, self.theta, self.seeds, self.settings = objective, theta.clone(), seeds, settings
        self.strengths = {n: _strength(settings[n], n, theta) for n in settings if n in STRENGTHS or n not in DEFAULTS}
        self.own = {n: s for n, s in self.strengths.items() if n not in STRENGTHS}
        self.alive, self.size = torch.ones(len(theta), 1, dtype=torch.bool, device=theta.device), theta.numel()
        source = objective.source
        self.draws = _Draws(source, seeds, settings["batch"], settings["augment"], self.strengths, theta)
        self.has_images = source is not None and source.has_images
        self.has_dropout = source is not None and source.has_dropout
        self.state = {n: t.clone() for n, t in state.items() if not n.startswith("kept ")}
        self._drop(fresh)
        self.draws.restore(self.state)
        self.buffers = self._start_buffers(source)
        self.training = {} if source is None else {
            "training": source.fast is None, "smoothing": self._smoothing(), "autocast": self._autocast(),
        }  # fmt: skip
        update = OPTIMISERS[settings["optimiser"]]
        plain = settings["rule"] is gradient and update is _sgd and settings["precision"] == "float32"
        self.fast = source.fast if plain and objective is source else None
        self.memory = {n: t for n, t in self.state.items() if n in ("momentum", "mean", "square", "count")}
        self.update = update
        if self.fast:
            self.blocks = self.fast.pack(self.theta)
            self.momentum = self.fast.pack(self.memory.get("momentum", torch.zeros_like(self.theta)))

    def step(self, now, total):
        x, y = self.draws.next()
        rate = SCHEDULES.get(self.settings["schedule"], self.settings["schedule"])(now / total)
        if self.has_dropout:
            torch.manual_seed(self.seeds[0] + (now << 32))
        step = self.objective.on(x, y, buffers=self.buffers, **self.training)
        step.noise = self.draws.normal
        finite = self._fast_step(step, rate) if self.fast else self._any_step(step, rate)
        if now == 0 and not finite.any():
            raise FloatingPointError(
                "the loss or its gradient is NaN or infinite in all members at the first step: use a smaller lr or "
                "strength of the rule, and look at the inputs"
            )

    def _any_step(self, step, rate):
        d = self._direction(step)
        finite = d.sum(-1, keepdim=True).isfinite()
        self.alive &= finite
        before = None if self.alive.all() else self.theta.clone()
        with torch.no_grad():
            self.update(self.theta, d, self.strengths, rate, self.memory)
            if before is not None:
                self.theta = torch.where(self.alive, self.theta, before)
        return finite

    def _direction(self, step):
        with _room(step):
            d = self.settings["rule"](step, self.theta, **self.own)
        if not isinstance(d, Tensor) or d.shape != self.theta.shape:
            given = tuple(d.shape) if isinstance(d, Tensor) else type(d).__name__
            raise ValueError(f"rule returned {given}: it must return a direction for each member, shape "
                             f"{tuple(self.theta.shape)}")  # fmt: skip
        return d.detach()

    def _fast_step(self, step, rate):
        """SGD on plain MLPs: the gradient is accumulated straight into the momentum, on padded weights."""
        finite = [self.alive]
        slope = step.slope

        def watched(z):
            result = slope(z, step.targets)
            finite[0] = result.flatten(1).sum(1, keepdim=True).isfinite()
            return result

        with torch.no_grad():
            beta = _single(self.strengths["momentum"])
            if beta is None:
                for m in self.momentum:
                    m.mul_(_aligned(self.strengths["momentum"], m))
            self.fast.accumulate(self.blocks, step.inputs, watched, self.momentum, 1.0 if beta is None else beta)
            self.alive &= finite[0]
            before = None if self.alive.all() else [p.clone() for p in self.blocks]
            decay, lr = self.strengths["weight_decay"], _rate(self.strengths["lr"], rate)
            for p, m in zip(self.blocks, self.momentum, strict=True):
                if decay.any():
                    m.add_(p * _aligned(decay, p))
                p.sub_(m * (lr if isinstance(lr, float) else _aligned(lr, p)))
            if before is not None:
                alive = [_aligned(self.alive, p) for p in before]
                self.blocks = [torch.where(a, p, b) for a, p, b in zip(alive, self.blocks, before, strict=True)]
        return finite[0]

    def weights(self):
        return self.fast.unpack(self.blocks) if self.fast else self.theta.clone()

    def keep(self, step):
        """A copy of the weights; those of the buffers go into the state."""
        for name, buffer in (self.buffers or {}).items():
            self.state[f"kept {step} {name}"] = buffer.clone()
        return self.weights()

    def packed(self):
        """All that is needed to go on, as tensors."""
        memory = {"momentum": self.fast.unpack(self.momentum)} if self.fast else self.memory
        buffers = {f"buffer {name}": b for name, b in (self.buffers or {}).items()}
        kept = {name: t for name, t in self.state.items() if name.startswith("kept ")}
        return {n: t.clone() for n, t in {**memory, **buffers, **kept, **self.draws.packed()}.items()}

    @contextmanager
    def randomness(self) -> Iterator[None]:
        """Dropout draws from the global state: seeded at each step, put back afterwards."""
        with torch.random.fork_rng([self.theta.device] if self.theta.is_cuda else [], enabled=self.has_dropout):
            yield

    def _start_buffers(self, source):
        if source is None or source.fast:
            return None
        kept = {n.removeprefix("buffer "): t for n, t in self.state.items() if n.startswith("buffer ")}
        return kept or source.stacked_buffers(len(self.theta)) or None

    def _drop(self, fresh):
        names = {
            "momentum": ("momentum", "mean", "square", "count"),
            "batches": ("order", "queue"),
            "noise": ("noise",),
        }
        gone = {name for part in fresh for name in names.get(part, ())}
        self.state = {n: t for n, t in self.state.items()
                      if n not in gone and not ("buffers" in fresh and n.startswith("buffer "))}  # fmt: skip

    def _smoothing(self):
        smoothing = self.strengths["label_smoothing"]
        return smoothing if smoothing.any() else 0.0

    def _autocast(self):
        if self.settings["precision"] == "float32":
            return nullcontext
        return lambda: torch.autocast(self.theta.device.type, torch.bfloat16)


class _Draws:
    """Every member's batches and noise, from generators of its own, so that it sees what its solo run sees."""

    def __init__(self, source, seeds, batch, augment, strengths, theta):
        self.members, self.theta, self.augment = len(seeds), theta, augment
        self.order = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.noise = [torch.Generator().manual_seed(seed + 2**31) for seed in seeds]
        self.queue: list[Tensor] = []
        self.batch, self.source, self.strengths = batch, source, strengths
        if source is None:
            return
        if source.inputs is None:
            raise ValueError("inputs is a stream of batches: training draws its own batches, so give it tensors")
        self.x, self.y = (d.to(theta.device) for d in source.data)
        self.x = self.x.to(theta.dtype) if self.x.is_floating_point() else self.x
        self.count = self.x.shape[1]
        if batch is not None and not 1 <= batch <= self.count:
            raise ValueError(f"batch is {batch}: choose 1 to {self.count}, the number of samples")
        self.classes = None if self.y.is_floating_point() else [int(y.max()) + 1 for y in self.y]

    def next(self):
        """The batch of each member: inputs and targets `(M, n, ...)`; two times None without data."""
        if self.source is None:
            return None, None
        x, y = self._take()
        if self.augment:
            x = torch.stack([self.augment(one, g) for one, g in zip(x, self.order, strict=True)])
        x = self._noisy(x, self.strengths["input_noise"])
        if self.y.is_floating_point() or self.source.loss == "mse":
            return x, self._noisy(y, self.strengths["label_noise"])
        return x, self._redrawn(y, self.strengths["label_noise"])

    def normal(self):
        """Standard normals `(M, P)`, each member's from its own generator."""
        rows = [torch.randn(self.theta.shape[-1], generator=g, dtype=self.theta.dtype) for g in self.noise]
        return torch.stack(rows).to(self.theta.device)

    def packed(self):
        """The generators and what is left of the epoch, as tensors."""
        left = {"queue": torch.cat(self.queue, 1)} if self.queue else {}
        states = {name: torch.stack([g.get_state() for g in getattr(self, name)]) for name in ("order", "noise")}
        return states | left

    def restore(self, state):
        for name in ("order", "noise"):
            for generator, known in zip(getattr(self, name), state.pop(name, []), strict=False):
                generator.set_state(known.cpu().clone())  # it needs storage of its own
        left = state.pop("queue", None)
        if left is not None and self.batch and self.source is not None and int(left.max()) < self.count:
            self.queue = list(left.split(self.batch, dim=1))

    def _take(self):
        if self.batch is None:
            return (d.expand(self.members, *d.shape[1:]) for d in (self.x, self.y))
        if not self.queue:
            epoch = torch.stack([torch.randperm(self.count, generator=g) for g in self.order])
            self.queue = list(epoch.split(self.batch, dim=1))
        chosen = self.queue.pop(0).to(self.x.device)
        own = torch.arange(self.members, device=chosen.device)[:, None]
        return (d[0][chosen] if len(d) == 1 else d[own, chosen] for d in (self.x, self.y))

    def _noisy(self, values, strength):
        """With normals added, of the sd `strength`; a member without noise draws none."""
        if not strength.any():
            return values
        values = values.to(self.theta.dtype).clone()
        for k in strength[:, 0].nonzero()[:, 0].tolist():
            noise = torch.randn(values.shape[1:], generator=self.noise[k], dtype=values.dtype)
            values[k] += strength[k] * noise.to(values)
        return values

    def _redrawn(self, y, strength):
        if not strength.any():
            return y
        y = y.clone()
        for k in strength[:, 0].nonzero()[:, 0].tolist():
            g, classes = self.noise[k], self.classes[k % len(self.classes)]
            redrawn = torch.rand(y.shape[1:], generator=g) < strength[k].cpu()
            y[k] = torch.where(redrawn.to(y.device), torch.randint(classes, y.shape[1:], generator=g).to(y), y[k])
        return y


def _sgd(theta, d, s, rate, memory):
    """`m ← μ m + d + λθ`, `θ ← θ − η m`, torch's form."""
    m = memory.setdefault("momentum", torch.zeros_like(theta))
    m.mul_(_one(s["momentum"])).add_(d)
    if s["weight_decay"].any():
        m.add_(theta * s["weight_decay"])
    theta.sub_(m * _rate(s["lr"], rate))  # two roundings, never a fused one, which depends on where a loop ends


def _adam(theta, d, s, rate, memory):
    """Adam with torch's defaults (β = .9, .999, ε = 1e-8); weight decay enters the gradient."""
    if s["weight_decay"].any():
        d = d + theta * s["weight_decay"]
    mean, square = (memory.setdefault(name, torch.zeros_like(theta)) for name in ("mean", "square"))
    count = memory.setdefault("count", torch.zeros((), dtype=torch.float64)).add_(1).item()
    mean.mul_(0.9).add_(d * 0.1)
    square.mul_(0.999).add_((d * d).mul_(0.001))
    step = mean / square.sqrt().div_((1 - 0.999**count) ** 0.5).add_(1e-8)
    theta.sub_(step.mul_(_rate(s["lr"], rate / (1 - 0.9**count))))


def _adamw(theta, d, s, rate, memory):
    """Adam with decoupled weight decay, `θ ← θ − ηλθ` before the step."""
    theta.sub_(theta * (s["weight_decay"] * _rate(s["lr"], rate)))
    _adam(theta, d, s | {"weight_decay": torch.zeros_like(s["weight_decay"])}, rate, memory)


OPTIMISERS: dict[str, Callable] = {"sgd": _sgd, "adam": _adam, "adamw": _adamw}


@contextmanager
def _interrupts_deferred() -> Iterator[list]:
    """Ctrl-C inside only notes itself: a step is done whole or not at all."""
    stopped: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _room(step):
    """Say which number to change when the memory is full."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            inputs = getattr(step.source, "inputs", ())
            raise MemoryError(f"there is no room for a batch of {tuple(inputs.shape)}: use a smaller batch") from error
        raise


def _check_settings(settings, objective, steps, fresh, start):
    if not isinstance(objective, Objective):
        raise ValueError(f"objective is a {type(objective).__name__}: pass a NetworkLoss or another Objective")
    known = (("optimiser", OPTIMISERS), ("precision", ("float32", "bf16")))
    for name, choices in known:
        if settings[name] not in choices:
            raise ValueError(f"{name} is {settings[name]!r}: choose one of {', '.join(choices)}")
    if not callable(settings["schedule"]) and settings["schedule"] not in SCHEDULES:
        raise ValueError(
            f"schedule is {settings['schedule']!r}: choose one of {', '.join(SCHEDULES)}, or a function of t"
        )
    if isinstance(steps, bool) or int(steps) != steps or steps < 0:
        raise ValueError(f"steps is {steps!r}: give a whole number of steps")
    if wrong := [part for part in fresh if part not in PARTS]:
        raise ValueError(f"fresh holds {wrong}: choose from {', '.join(PARTS)}")
    if not callable(settings["rule"]):
        raise ValueError(f"rule is {settings['rule']!r}: pass a function (objective, theta, **strengths)")
    _check_rule(settings)
    if start is not None and start.theta.shape[-1] != (objective.dim or start.theta.shape[-1]):
        raise ValueError(
            f"start has {start.theta.shape[-1]} parameters and objective {objective.dim}: go on with a run of the same "
            "network"
        )


def _check_rule(settings):
    wants = list(inspect.signature(settings["rule"]).parameters.values())[2:]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in wants)
    names = {p.name for p in wants}
    given = {name for name in settings if name not in DEFAULTS}
    rule = getattr(settings["rule"], "__name__", "rule")
    if (unknown := sorted(given - names)) and not open_ended:
        takes = f"it takes {', '.join(sorted(names))}" if names else "it takes none"
        raise ValueError(f"{', '.join(unknown)}: the rule {rule} has no such strength, {takes}")
    if missing := [
        p.name for p in wants if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.name not in given
    ]:
        raise ValueError(f"{missing[0]} is missing: the rule {rule} needs this strength, e.g. {missing[0]}=0.1")


def _check_network(source, settings, members):
    if source is None:
        return
    if source.has_dropout and members > 1:
        raise ValueError("model has dropout, which draws alike for all members: set p=0, or train one network alone")
    if settings["label_smoothing"] is not DEFAULTS["label_smoothing"] and source.loss != "cross_entropy":
        raise ValueError(f"label_smoothing goes with the loss cross_entropy, not with {source.loss!r}")


def _members(objective, settings, start, theta, seeds):
    """The weights `(M, P)` to start from, the seeds, and whether it is one network without an axis of members."""
    source = objective.source
    counts = {
        "strengths": _count(settings),
        "seeds": None if seeds is None else len(seeds),
        "theta": _rows(theta),
        "start": None if start is None else _rows(start.theta) or 1,
        "objective": _rows(objective.theta) if source is None else source.members,
    }
    found = {name: count for name, count in counts.items() if count is not None}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in found.items())
        raise ValueError(f"the numbers of members differ ({told}): give one strength, seed and row of theta for each")
    members = next(iter(found.values()), 1)
    known = start.seeds if start is not None else getattr(source, "seeds", None)
    seeds = [int(seed) for seed in (seeds if seeds is not None else known or range(members))]
    drawn = counts["seeds"] is not None or counts["strengths"] is not None
    if theta is not None:
        weights = objective.point(theta)
    elif start is not None:
        weights = start.theta
    elif drawn and source is not None and source.build and source.members is None:
        weights = torch.stack([flat_weights(source.build(seed)) for seed in seeds])
    else:
        weights = objective.point()
    single = not found or (start is not None and start.theta.ndim == 1)
    return weights.detach().reshape(-1, weights.shape[-1]).expand(members, -1), seeds, single


def _rows(theta):
    return len(theta) if theta is not None and theta.ndim == 2 else None


def _count(settings):
    """The number of members that strengths name: the length of those that are not single numbers."""
    lengths = {name: len(torch.as_tensor(value).reshape(-1)) for name, value in settings.items()
               if (name in STRENGTHS or name not in DEFAULTS) and torch.as_tensor(value).ndim}  # fmt: skip
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise ValueError(f"strengths differ in their counts ({told}): give one number, or one per member")
    return next(iter(lengths.values()), None)


def _strength(value, name, theta):
    tensor = torch.as_tensor(value, dtype=theta.dtype, device=theta.device)
    if tensor.ndim > 1 or tensor.numel() not in (1, len(theta)):
        raise ValueError(f"{name} has {tensor.numel()} values: give one number, or one per member ({len(theta)})")
    if not torch.isfinite(tensor).all() or (name in STRENGTHS and (tensor < 0).any()):
        raise ValueError(f"{name} is {value}: it must be finite{' and not negative' if name in STRENGTHS else ''}")
    return tensor.reshape(-1, 1).expand(len(theta), 1)


def _total(total, end, start, settings):
    """The length of the schedule: as told, as inherited while it lasts, else where these steps end."""
    if total is not None:
        if total < end:
            raise ValueError(f"total is {total}: the schedule must not end before the last step, {end}")
        return total
    if start is not None and start.total >= end:
        return start.total
    if start is not None and settings["schedule"] != "constant" and start.total > start.steps:
        raise ValueError(f"total is missing: the schedule of start ends at {start.total}, and these steps at {end}")
    return max(end, 1)


def _without_rule(settings):
    return {name: value for name, value in settings.items() if name in DEFAULTS}


def _named(settings):
    """Settings that JSON can hold: functions by name, strengths as numbers."""

    def plain(value):
        if callable(value):
            return {"function": getattr(value, "__name__", repr(value))}
        return (
            value.tolist()
            if isinstance(value, Tensor)
            else list(value)
            if isinstance(value, Sequence) and not isinstance(value, str)
            else value
        )

    return {name: plain(value) for name, value in settings.items()}


def _unnamed(name, value):
    if not isinstance(value, dict):
        return value
    known = {"rule": RULES, "augment": {"crop_and_flip": crop_and_flip}, "schedule": SCHEDULES}
    return known.get(name, {}).get(value["function"], _Lost(name, value["function"]))


class _Lost:
    """A function that a saved run knows by name only."""

    def __init__(self, name, function):
        self.name, self.function = name, function

    def __call__(self, *_, **__):
        raise ValueError(f"{self.name} was saved by its name only, {self.function}: pass it again, {self.name}=…")


def _ratio(rho, norm):
    """ρ/‖g‖, and 0 where the gradient is zero."""
    return torch.where(norm > 0, rho / norm, torch.zeros_like(norm))


def _single(strength):
    return strength[0].item() if (strength == strength[0]).all() else None


def _one(strength):
    single = _single(strength)
    return strength if single is None else single


def _rate(lr, rate):
    """η · schedule, a number where it is one for all; else rounded once, as each member's solo run does."""
    single = _single(lr)
    return single * rate if single is not None else (lr.double() * rate).to(lr.dtype)


def _aligned(strength, p):
    """A strength `(M, 1)` in a shape that multiplies `p (M, ...)`."""
    return strength.view(-1, *[1] * (p.ndim - 1))
