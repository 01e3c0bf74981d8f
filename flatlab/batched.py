"""Forward and backward passes of M networks at once: `theta (M, P)`, inputs `(M, N, ...)`, outputs `(M, N, ...)`.

Rows of `theta` may be longer than P (padding at the end).
"""

from itertools import pairwise

import torch
from torch import Tensor, autograd, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

# Activations that the fast path knows, with their derivative in terms of the output.
SLOPES = {nn.ReLU: lambda h: h > 0, nn.Tanh: lambda h: 1 - h * h}
FORGETFUL = "an ensemble trains modules whose outputs depend on weights and inputs alone"


def network_for(model: nn.Module) -> "Mlps | Modules":
    """The fast path for a plain MLP, else `torch.func.vmap` over the module."""
    return Mlps(model) if _is_plain_mlp(model) else Modules(model)


def check_module(model: nn.Module) -> None:
    """Refuse modules whose forward pass is random or has a memory: members could not equal their solo runs."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(f"model has batch norm ({name}): {FORGETFUL}; use group or layer norm")
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ValueError(f"model has dropout ({name}): {FORGETFUL}; set p=0")
    if not all(p.requires_grad for p in model.parameters()) or not list(model.parameters()):
        raise ValueError("model has frozen weights or none: an ensemble trains them all")


class Mlps:
    """Plain MLPs by batched matrix products; the backward pass is written by hand and adds into its result."""

    def __init__(self, model):
        self.layers, start = [], 0
        for module, after in pairwise([*model, None]):
            if isinstance(module, nn.Linear):
                n_out, n_in = module.weight.shape
                end = start + n_out * n_in
                bias = slice(end, end + n_out) if module.bias is not None else None
                activation = after if type(after) in SLOPES else None
                self.layers.append((slice(start, end), (n_out, n_in), bias, activation))
                start = end + (n_out if bias else 0)

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """`(M, N, K)`, differentiable."""
        return self._forward(theta, x)[-1]

    def accumulate(self, theta: Tensor, x: Tensor, slope, out: Tensor, beta: float) -> None:
        """`out ← beta·out + Jᵀ slope(z)` in place, `(M, P)`; `slope` maps outputs to ∂loss/∂z."""
        hidden = self._forward(theta, x)
        delta = slope(hidden[-1])
        for i in reversed(range(len(self.layers))):
            weights, shape, bias, _ = self.layers[i]
            block = out[:, weights].view(-1, *shape)
            torch.baddbmm(block, delta.mT, hidden[i], beta=beta, out=block)
            if bias:
                out[:, bias].mul_(beta).add_(delta.sum(1)) if beta else out[:, bias].copy_(delta.sum(1))
            if i:
                delta = torch.bmm(delta, theta[:, weights].view(-1, *shape))
                activation = self.layers[i - 1][3]
                delta = delta * SLOPES[type(activation)](hidden[i]) if activation is not None else delta

    def _forward(self, theta, x):
        hidden = [x]
        for weights, shape, bias, activation in self.layers:
            w = theta[:, weights].view(-1, *shape).mT
            z = torch.baddbmm(theta[:, None, bias], hidden[-1], w) if bias else torch.bmm(hidden[-1], w)
            hidden.append(z if activation is None else activation(z))
        return hidden


class Modules:
    """Any module through `vmap`; attention takes its plain kernel, so that second derivatives exist."""

    def __init__(self, model):
        self.model = model
        self.names = [name for name, _ in model.named_parameters()]
        self.shapes = [p.shape for p in model.parameters()]
        self.size = sum(shape.numel() for shape in self.shapes)
        self.buffers = dict(model.named_buffers())

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """`(M, N, ...)`, differentiable."""

        def one(row, sample):
            pieces = row.split([shape.numel() for shape in self.shapes])
            state = {n: p.view(shape) for n, p, shape in zip(self.names, pieces, self.shapes, strict=True)}
            return functional_call(self.model, self.buffers | state, (sample,))

        with sdpa_kernel(SDPBackend.MATH):
            return vmap(one)(theta[:, : self.size], x)

    def accumulate(self, theta: Tensor, x: Tensor, slope, out: Tensor, beta: float) -> None:
        """`out ← beta·out + Jᵀ slope(z)` in place, `(M, P)`."""
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_()
            z = self.outputs(leaf, x)
            (gradient,) = autograd.grad(z, leaf, slope(z.detach()))
        out.mul_(beta).add_(gradient) if beta else out.copy_(gradient)


def _is_plain_mlp(model):
    if type(model) is not nn.Sequential or not isinstance(model[0], nn.Linear):
        return False
    activations = [m for m in model if not isinstance(m, nn.Linear)]
    twice = any(isinstance(a, nn.Linear) == isinstance(b, nn.Linear) and not isinstance(a, nn.Linear)
                for a, b in pairwise(model))  # fmt: skip
    known = all(type(m) in SLOPES for m in activations) and isinstance(model[-1], nn.Linear)
    return known and not twice and not any(m._forward_hooks for m in model.modules())
