"""Forward and backward passes of M networks at once: `theta (M, P)`, inputs `(M, N, ...)`, outputs `(M, N, ...)`.

Training works on a *state*, a list of tensors with members first; `pack` and `unpack` translate.
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
    """Plain MLPs by batched matrix products; the backward pass is written by hand and adds into its result.

    A state holds a weight `(M, out, in)` and a bias `(M, 1, out)` per layer, padded with zeros to multiples of 4:
    matrix products round differently where rows are not aligned, and a member must equal its solo run bit for bit.
    Padded units stay exactly zero, for their inputs, outputs and gradients are.
    """

    def __init__(self, model):
        self.layers, start = [], 0
        for module, after in pairwise([*model, None]):
            if isinstance(module, nn.Linear):
                end = start + module.weight.numel()
                bias = slice(end, end + len(module.weight)) if module.bias is not None else None
                activation = after if type(after) in SLOPES else None
                self.layers.append((slice(start, end), tuple(module.weight.shape), bias, activation))
                start = bias.stop if bias else end
        self.size = start

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """`(M, N, K)` from `theta (M, P)`, differentiable."""
        blocks = [self._cut(theta, layer) for layer in self.layers]
        return self._forward(blocks, x)[-1]

    def pack(self, theta: Tensor) -> list[Tensor]:
        """The state that `theta (M, P)` stands for."""
        pad, state = nn.functional.pad, []
        for layer in self.layers:
            (n_out, n_in), (weight, bias) = layer[1], self._cut(theta, layer)
            state.append(pad(weight, (0, -n_in % 4, 0, -n_out % 4)))
            state += [] if bias is None else [pad(bias, (0, -n_out % 4))]
        return state

    def unpack(self, state: list[Tensor]) -> Tensor:
        """`theta (M, P)` of a state."""
        parts, blocks = [], iter(state)
        for _, (n_out, n_in), bias, _ in self.layers:
            parts.append(next(blocks)[:, :n_out, :n_in].flatten(1))
            parts += [next(blocks)[:, 0, :n_out]] if bias else []
        return torch.cat(parts, dim=1)

    def accumulate(self, state: list[Tensor], x: Tensor, slope, out: list[Tensor], beta: float) -> None:
        """`out ← beta·out + Jᵀ slope(z)` in place; `slope` maps outputs `(M, N, K)` to ∂loss/∂z."""
        layers, results = self._layers(state), self._layers(out)
        hidden = self._forward(layers, nn.functional.pad(x, (0, -x.shape[2] % 4)))
        classes = self.layers[-1][1][0]
        delta = slope(hidden[-1][..., :classes])
        delta = nn.functional.pad(delta, (0, -classes % 4))
        for i in reversed(range(len(layers))):
            weight, bias = results[i]
            torch.baddbmm(weight, delta.mT, hidden[i], beta=beta, out=weight)
            if bias is not None:
                bias.mul_(beta).add_(delta.sum(1, keepdim=True))
            if i:
                delta = torch.bmm(delta, layers[i][0])
                activation = self.layers[i - 1][3]
                delta = delta * SLOPES[type(activation)](hidden[i]) if activation is not None else delta

    def _layers(self, state):
        blocks = iter(state)
        return [(next(blocks), next(blocks) if bias else None) for _, _, bias, _ in self.layers]

    def _cut(self, theta, layer):
        weights, shape, bias, _ = layer
        return theta[:, weights].unflatten(1, shape), theta[:, None, bias] if bias else None

    def _forward(self, blocks, x):
        hidden = [x]
        for (weight, bias), (_, _, _, activation) in zip(blocks, self.layers, strict=True):
            z = torch.bmm(hidden[-1], weight.mT) if bias is None else torch.baddbmm(bias, hidden[-1], weight.mT)
            hidden.append(z if activation is None else activation(z))
        return hidden


class Modules:
    """Any module through `vmap`, attention by its plain kernel (twice differentiable). A state is `[theta]`."""

    def __init__(self, model):
        self.model = model
        self.names = [name for name, _ in model.named_parameters()]
        self.shapes = [p.shape for p in model.parameters()]
        self.buffers = dict(model.named_buffers())

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """`(M, N, ...)`, differentiable."""

        def one(row, sample):
            pieces = row.split([shape.numel() for shape in self.shapes])
            state = {n: p.view(shape) for n, p, shape in zip(self.names, pieces, self.shapes, strict=True)}
            return functional_call(self.model, self.buffers | state, (sample,))

        with sdpa_kernel(SDPBackend.MATH):
            return vmap(one)(theta, x)

    def pack(self, theta: Tensor) -> list[Tensor]:
        return [theta.clone()]

    def unpack(self, state: list[Tensor]) -> Tensor:
        return state[0].clone()

    def accumulate(self, state: list[Tensor], x: Tensor, slope, out: list[Tensor], beta: float) -> None:
        """`out ← beta·out + Jᵀ slope(z)` in place."""
        with torch.enable_grad():
            leaf = state[0].detach().requires_grad_()
            z = self.outputs(leaf, x)
            (gradient,) = autograd.grad(z, leaf, slope(z.detach()))
        out[0].mul_(beta).add_(gradient)


def _is_plain_mlp(model):
    if type(model) is not nn.Sequential or not isinstance(model[0], nn.Linear):
        return False
    activations = [m for m in model if not isinstance(m, nn.Linear)]
    twice = any(isinstance(a, nn.Linear) == isinstance(b, nn.Linear) and not isinstance(a, nn.Linear)
                for a, b in pairwise(model))  # fmt: skip
    known = all(type(m) in SLOPES for m in activations) and isinstance(model[-1], nn.Linear)
    return known and not twice and not any(m._forward_hooks for m in model.modules())
