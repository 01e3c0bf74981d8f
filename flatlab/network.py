"""The training loss of a network as an `Objective` of its weights."""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, autograd, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from flatlab.objective import Objective, require_finite

GRAPH_BYTES = 2**30  # what the graph of one gradient may take before the data are streamed


class NetworkLoss(Objective):
    """The mean loss of a network on a data set, as an `Objective` of its flat weight vector.

    `L(θ) = (1/N) Σ_n ℓ(z_θ(x_n), y_n)`, on hard data, without penalties, in eval mode.

    model: any `nn.Module`. It is never touched: losses are taken on a private copy. `.theta (P,)` reads the trainable
        weights of `model` as they are now; buffers and frozen parameters are read live too.
    inputs: `(N, ...)`; targets: `(N,)` class numbers for "cross_entropy" (nats), the shape of the outputs for "mse"
        (mean of squares over samples and outputs), anything for a function of your own.
    loss: "cross_entropy", "mse", or `f(outputs, targets)` that returns the mean over the samples, or one loss a sample.
    chunk: how many samples are evaluated at once; by default as many as keep the graph of a gradient below about 1 GB.
        If all samples fit, `linearize` keeps the graph (fast); otherwise it streams the chunks (same result).

    Errors: ValueError for an empty data set, lengths that differ, labels that are not class numbers, an output shape
    that "mse" would broadcast, a model without trainable weights.
    """

    def __init__(self, model: nn.Module, inputs, targets, loss="cross_entropy", chunk: int | None = None):
        self.model, self.loss = model, loss
        if not isinstance(model, nn.Module):
            raise ValueError(f"model is a {type(model).__name__}: pass a torch.nn.Module")
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]
        if not self._names:
            raise ValueError("model has no trainable weights: set requires_grad=True on those that you measure")
        self._shapes = [model.get_parameter(name).shape for name in self._names]
        self.dim = sum(shape.numel() for shape in self._shapes)
        self.inputs, self.targets = _tensor(inputs, "inputs"), _tensor(targets, "targets")
        self._private = deepcopy(model).eval().requires_grad_(False)
        self._check_data()
        self.chunk = self._whole(chunk) if chunk is not None else self._fitting_chunk()

    @property
    def theta(self) -> Tensor:
        """The model's trainable weights as they are now, one flat copy `(P,)`."""
        return torch.cat([self.model.get_parameter(name).detach().flatten() for name in self._names])

    def point(self, theta=None) -> Tensor:
        here = self.model.get_parameter(self._names[0])
        theta = super().point(theta) if theta is not None else self.theta
        return theta.to(here.device, here.dtype)

    def outputs(self, theta=None, inputs=None) -> Tensor:
        """The network's outputs `(N, ...)` at `theta (P,)` on `inputs` (by default the data of the loss), no graph."""
        inputs = self.inputs if inputs is None else _tensor(inputs, "inputs")
        parameters = self.unflatten(self.point(theta))
        with torch.no_grad():
            return join([self.network(parameters, x) for x in inputs.split(self.chunk)])

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """The vector `theta (P,)` cut into the model's named, shaped parameters."""
        pieces = theta.split([shape.numel() for shape in self._shapes])
        return {name: p.view(shape) for name, p, shape in zip(self._names, pieces, self._shapes, strict=True)}

    def network(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """The outputs for `x` with these parameters, twice differentiable (attention takes its plain kernel)."""
        here = self.model.get_parameter(self._names[0])
        x = x.to(here.device, here.dtype if x.is_floating_point() else None)
        state = {name: p.detach() for name, p in self.model.named_parameters() if name not in parameters}
        state |= {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with sdpa_kernel(SDPBackend.MATH):
            return functional_call(self._private, state | parameters, (x,))

    def sample_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One loss per sample, `(N,)`; a reader's own loss that returns a mean comes back as a 0-d tensor."""
        targets = targets.to(outputs.device)
        if self.loss == "cross_entropy":
            return F.cross_entropy(outputs, targets, reduction="none")
        if self.loss == "mse":  # written by hand: F.mse_loss breaks some forward-mode second derivatives
            return (outputs - targets.to(outputs.dtype)).square().reshape(len(outputs), -1).mean(1)
        return self.loss(outputs, targets)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """The data as `(inputs, targets, share of all samples)`."""
        for x, y in zip(self.inputs.split(self.chunk), self.targets.split(self.chunk), strict=True):
            yield x, y, len(x) / len(self.inputs)

    @staticmethod
    def check_single(theta: Tensor) -> None:
        """Refuse a batch where one vector is needed."""
        if theta.ndim > 1:
            raise ValueError(f"theta has shape {tuple(theta.shape)}: a network is linearised at one vector (P,)")

    def leaves(self, theta: Tensor) -> dict[str, Tensor]:
        """The parameters at `theta`, ready to be differentiated by."""
        return {name: p.detach().requires_grad_() for name, p in self.unflatten(theta).items()}

    def _chunk_loss(self, parameters, x, y):
        return self.sample_losses(self.network(parameters, x), y).mean()

    def _value(self, theta):
        if theta.ndim > 1:
            return torch.stack([self._value(row) for row in theta.reshape(-1, self.dim)]).view(theta.shape[:-1])
        with torch.set_grad_enabled(theta.requires_grad and torch.is_grad_enabled()):
            parameters = self.unflatten(theta)
            return sum(self._chunk_loss(parameters, x, y) * share for x, y, share in self.chunks())

    def _gradient(self, theta):
        if theta.ndim > 1:
            return torch.stack([self._gradient(row) for row in theta.reshape(-1, self.dim)]).view(theta.shape)
        leaves = self.leaves(theta)
        return sum(self._chunk_gradient(leaves, *chunk, create_graph=False).detach() for chunk in self.chunks())

    def _chunk_gradient(self, leaves, x, y, share, create_graph):
        with torch.enable_grad():
            loss = require_finite(self._chunk_loss(leaves, x, y)) * share
            return flatten(
                autograd.grad(loss, tuple(leaves.values()), create_graph=create_graph, materialize_grads=True)
            )

    def _linearize(self, theta):
        self.check_single(theta)
        if len(self.inputs) <= self.chunk:
            return self._chunk_product(theta, *next(self.chunks()))
        return lambda v: sum(self._chunk_product(theta, *chunk)(v) for chunk in self.chunks())

    def _chunk_product(self, theta, x, y, share):
        leaves = self.leaves(theta)
        slope = self._chunk_gradient(leaves, x, y, share, create_graph=True)
        if not slope.requires_grad:
            return torch.zeros_like
        return lambda v: flatten(
            autograd.grad(slope, tuple(leaves.values()), v, retain_graph=True, materialize_grads=True)
        )

    def _hessian(self, theta):
        if theta.ndim > 1:
            rows = [self._hessian(row) for row in theta.reshape(-1, self.dim)]
            return torch.stack(rows).view(*theta.shape, self.dim)
        return super()._hessian(theta)

    def _check_data(self):
        if self.inputs.ndim == 0 or self.targets.ndim == 0:
            raise ValueError("inputs or targets is a single number: give one row per sample")
        count, labels = len(self.inputs), self.targets
        if count == 0:
            raise ValueError("inputs is empty: a loss needs at least one sample")
        if len(labels) != count:
            raise ValueError(f"targets has {len(labels)} rows and inputs {count}: they must be equally long")
        if self.loss not in ("cross_entropy", "mse") and not callable(self.loss):
            raise ValueError(f'loss is {self.loss!r}: use "cross_entropy", "mse" or a function (outputs, targets)')
        self.chunk = min(count, 2)
        shape = self.outputs(inputs=self.inputs[:1]).shape[1:]
        if self.loss == "mse" and labels.shape[1:] != shape:
            raise ValueError(
                f"targets has shape {tuple(labels.shape)} and the outputs {(count, *shape)}: "
                f"give them the same shape, e.g. targets.view{(-1, *shape)}"
            )
        if self.loss == "cross_entropy":
            _check_classes(labels, shape)
            self.targets = labels.long()

    def _whole(self, chunk):
        if int(chunk) != chunk or chunk < 1:
            raise ValueError(f"chunk is {chunk!r}: pass a positive whole number of samples")
        return int(chunk)

    def _fitting_chunk(self):
        """Count the bytes that one more sample saves for backward; double backward keeps about four times as many."""
        saved = []

        def bytes_for(count):
            saved.clear()
            # The hook lets go of the tensor: an output saved by itself is a cycle through C++ that is never freed.
            with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes), lambda nothing: nothing):
                with torch.enable_grad():
                    self._chunk_loss(self.leaves(self.theta), self.inputs[:count], self.targets[:count])
            return sum(saved)

        if len(self.inputs) < 2:
            return 1
        per_sample = max(1, bytes_for(2) - bytes_for(1))
        return max(1, GRAPH_BYTES // (4 * per_sample))


def join(chunks) -> Tensor:
    """The chunks as one tensor, without a copy if there is only one."""
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks)


def flatten(tensors) -> Tensor:
    """One vector from many tensors."""
    return torch.cat([t.flatten() for t in tensors])


def _check_classes(labels: Tensor, shape: torch.Size) -> None:
    """Refuse labels that are not class numbers 0 … K−1 for outputs of shape `(K,)`."""
    if len(shape) != 1:
        raise ValueError(f"cross_entropy needs outputs (N, classes), but model returns {('N', *shape)}")
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.ndim != 1:
        kind = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"targets is {kind}: pass class numbers (N,), e.g. targets.long()")
    if labels.min() < 0 or labels.max() >= shape[0]:
        last = shape[0] - 1
        raise ValueError(f"targets runs from {labels.min()} to {labels.max()}: for {last + 1} outputs use 0 … {last}")


def _tensor(data, name):
    if not isinstance(data, Tensor | np.ndarray | list | tuple):
        raise ValueError(f"{name} is a {type(data).__name__}: pass a tensor or an array")
    return torch.as_tensor(data)
