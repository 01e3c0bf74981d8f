"""Sharpness-aware minimisation in the form of a torch optimiser."""

import weakref
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


class SAM(torch.optim.Optimizer):
    """SAM: climb to `θ + ε`, `ε = ρ ∇L/‖∇L‖`, take the gradient there, and let a base optimiser step from θ with it.

    params: parameters or parameter groups, as for any optimiser; a group may have its own `rho` and `adaptive`.
    base: the optimiser's class, with its options as keywords: `SAM(net.parameters(), torch.optim.SGD, lr=0.1)`.
    rho: length of ε over all groups (units of θ). adaptive: ASAM, `ε = ρ T²∇L/‖T∇L‖` with T = |θ|.

    With a closure, `optimiser.step(closure)`, the closure zeroes the gradients, computes the loss, calls backward and
    returns the loss; it runs twice. In two steps: backward, `ascend()`, zero_grad, backward, `step()`, or `restore()`
    to give up. Batch-norm statistics move in the first pass only. ρ = 0 is the base optimiser bit by bit, and a zero
    gradient gives a plain step. Weights come back from a copy, also after an exception or Ctrl-C in `step` or `ascend`.
    Schedulers, a plain optimiser's `state_dict` and bf16 autocast need nothing special. Errors: ValueError for a
    negative radius; RuntimeError for `step()` without a closure and without `ascend()`, and for a copy in between.
    Source: Foret et al. 2021; Kwon et al. 2021 (adaptive).
    """

    _old: list[tuple[Tensor, Tensor, int]] | None = None  # while uphill: weights, their copies and versions at θ
    _buffers: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
    _unhook: Callable[[], Any] = staticmethod(lambda: None)

    def __init__(
        self, params: Any, base: type[torch.optim.Optimizer], rho: float = 0.05, adaptive: bool = False, **options: Any
    ):
        super().__init__(params, {"rho": rho, "adaptive": adaptive})
        self.base = base(self.param_groups, **options)
        self.param_groups, self.state = self.base.param_groups, self.base.state
        self.defaults = {**self.base.defaults, **self.defaults}  # where a scheduler looks for a momentum

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with a `rho` and `adaptive` of its own if it holds them."""
        param_group |= {name: self.defaults[name] for name in ("rho", "adaptive")} | param_group
        if not param_group["rho"] >= 0:
            raise ValueError(f"rho is {param_group['rho']}: a radius must not be negative")
        add = self.base.add_param_group if hasattr(self, "base") else super().add_param_group
        add(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; returns the loss at θ if a closure is given."""
        loss, climb = None, any(group["rho"] for group in self.param_groups)
        if closure is None and climb and self._old is None:
            raise RuntimeError("step() came without a closure: call ascend() after the first backward pass")
        try:
            if closure is not None:
                self.restore()  # from an ascent that was abandoned
                closure = torch.enable_grad()(closure)
                loss = closure()
                if climb:
                    self.ascend()
                    closure()
        finally:
            self.restore()
        self.base.step()
        return loss

    @torch.no_grad()
    def ascend(self) -> None:
        """Move the weights uphill by ε; until `step()` or `restore()` batch-norm statistics are on trial, too."""
        self.restore()
        moved = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        scaled = [p.grad * p.abs() if group["adaptive"] else p.grad for p, group in moved]
        norm = torch.stack([g.norm() for g in scaled]).norm().item() if scaled else 0.0
        try:
            self._buffers, self._old = {}, [(p, p.clone(), p._version) for p, _ in moved]
            handle = register_module_forward_pre_hook(partial(_remember, self._buffers, {p for p, _ in moved}))
            self._unhook = weakref.finalize(self, handle.remove)
            for (p, group), g in zip(moved, scaled, strict=True):
                p.add_(g * p.abs() if group["adaptive"] else g, alpha=group["rho"] / norm if norm else 0.0)
        except BaseException:
            self.restore()
            raise
        torch.clear_autocast_cache()

    @torch.no_grad()
    def restore(self) -> None:
        """Put weights and statistics back to what they were before `ascend()`, unless others changed the weights."""
        if self._old is None:
            return
        self._unhook()
        ours = [(p, old) for p, old, version in self._old if p._version <= version + 1]  # the ascent is one change
        if ours:
            for buffer, old in chain(*self._buffers.values()):
                buffer.copy_(old)
        for p, old in ours:
            p.copy_(old)
        self._old, self._buffers = None, {}
        torch.clear_autocast_cache()  # else the next pass would use casts of the weights uphill

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state; where it has no `rho` and `adaptive`, as a plain optimiser's, the present ones stay."""
        present = [(group["rho"], group["adaptive"]) for group in self.param_groups]
        self.base.load_state_dict(state_dict)
        self.param_groups, self.state = self.base.param_groups, self.base.state
        for group, (rho, adaptive) in zip(self.param_groups, present, strict=True):
            group.update({"rho": rho, "adaptive": adaptive} | group)

    def __getstate__(self) -> dict[str, Any]:
        if self._old is not None:
            raise RuntimeError("SAM cannot be copied between ascend() and step(): call restore() first")
        return {**super().__getstate__(), "base": self.base}


def _remember(buffers, weights, module, _):
    """Keep the statistics of a network that holds such weights as they are when it is first called."""
    if module not in buffers:
        concerned = not weights.isdisjoint(module.parameters())
        for part in module.modules():
            tracks = concerned and getattr(part, "track_running_stats", False)
            buffers[part] = [(b, b.clone()) for b in part.buffers(recurse=False) if tracks]
