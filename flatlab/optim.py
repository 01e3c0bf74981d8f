"""Sharpness-aware minimisation in the form of a torch optimiser."""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook


class SAM(torch.optim.Optimizer):
    """SAM: climb to `θ + ε`, `ε = ρ ∇L/‖∇L‖`, take the gradient there, and let a base optimiser step from θ with it.

    params: parameters or parameter groups, as for any optimiser; a group may have its own `rho` and `adaptive`.
    base: the optimiser's class, with its options as keywords: `SAM(net.parameters(), torch.optim.SGD, lr=0.1)`.
    rho: length of ε over all groups (units of θ). adaptive: ASAM, `ε = ρ T²∇L/‖T∇L‖` with T = |θ|.

    With a closure, `optimiser.step(closure)`, the closure zeroes the gradients, computes the loss, calls backward and
    returns the loss; it runs twice. In two steps: backward, `ascend()`, zero_grad, backward, `step()`. Batch-norm
    statistics move in the first pass only. ρ = 0 is the base optimiser bit by bit, and a zero gradient gives a plain
    step. Weights are restored from a copy, also after an exception in the closure. Schedulers, `state_dict` and bf16
    autocast need nothing special.

    fp16 with a GradScaler `s`, in two steps (the scaler refuses a closure): `s.scale(loss).backward()`,
    `s.unscale_(opt)`, `opt.ascend()`, `s.update()`, `opt.zero_grad()`; the second loss: `s.scale(loss).backward()`,
    `s.step(opt)`, `opt.restore()` (where the scaler skipped the step, the weights are back at θ), `s.update()`.

    Errors: ValueError for a negative radius; RuntimeError for `step()` without a closure and without `ascend()`.
    Source: Foret et al. 2021; Kwon et al. 2021 (adaptive).
    """

    def __init__(self, params, base: type[torch.optim.Optimizer], rho: float = 0.05, adaptive=False, **options):
        super().__init__(params, {"rho": rho, "adaptive": adaptive})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups
        self._old: dict[torch.Tensor, torch.Tensor] = {}
        self._kept = ExitStack()

    def add_param_group(self, param_group: dict) -> None:
        """Add a group, with a `rho` and `adaptive` of its own if it holds them."""
        for name in ("rho", "adaptive"):
            param_group.setdefault(name, self.defaults[name])
        if not param_group["rho"] >= 0:
            raise ValueError(f"rho is {param_group['rho']}: a radius must not be negative")
        if hasattr(self, "base"):
            self.base.add_param_group(param_group)
        else:
            super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        """One update; returns the loss at θ if a closure is given."""
        if closure is None:
            if not self._old and any(group["rho"] for group in self.param_groups):
                raise RuntimeError("step() came without a closure: call ascend() after the first backward pass")
            return self._descend()
        with torch.enable_grad():
            loss = closure()
        if any(group["rho"] for group in self.param_groups):
            self.ascend()
            try:
                with torch.enable_grad():
                    closure()
            except BaseException:
                self.restore()
                raise
        self._descend()
        return loss

    @torch.no_grad()
    def ascend(self) -> None:
        """Move the weights uphill by ε; until `step()` or `restore()` batch-norm statistics stay as they are."""
        self.restore()
        moved = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        scaled = [p.grad * p.abs() if group["adaptive"] else p.grad for p, group in moved]
        norm = torch.stack([g.norm() for g in scaled]).norm() if scaled else torch.zeros(())
        self._kept.enter_context(_statistics_kept())
        for (p, group), g in zip(moved, scaled, strict=True):
            self._old[p] = p.clone()
            if norm != 0:  # a NaN goes on, so that a scaler sees it in the second pass
                p.add_(g * p.abs() if group["adaptive"] else g, alpha=group["rho"] / norm.item())

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back to θ; nothing happens if they are there."""
        for p, old in self._old.items():
            p.copy_(old)
        self._old = {}
        self._kept.close()

    def _descend(self):
        self.restore()
        self.base.step()

    def state_dict(self) -> dict:
        """The base optimiser's state; the groups hold `rho` and `adaptive` too."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        self.base.load_state_dict(state_dict)
        self.param_groups = self.base.param_groups


@contextmanager
def _statistics_kept():
    """Whatever batch norm's buffers are when first used inside, they are again afterwards."""
    saved = {}

    def remember(module, _):
        if isinstance(module, nn.modules.batchnorm._NormBase) and module not in saved:
            saved[module] = [b.clone() for b in module.buffers(recurse=False)]

    handle = register_module_forward_pre_hook(remember)
    try:
        yield
    finally:
        handle.remove()
        for module, buffers in saved.items():
            for buffer, old in zip(module.buffers(recurse=False), buffers, strict=True):
                buffer.copy_(old)
