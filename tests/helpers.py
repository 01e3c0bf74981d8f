"""Small networks, data and comparisons that several test files share."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import settings
from torch import Tensor, nn

from flatlab import NetworkLoss
from flatlab.models import mlp

torch.set_num_threads(1)  # everything here is tiny: more threads only wait for each other
examples = settings(max_examples=6, deadline=None, derandomize=True, database=None)


def close(found, wanted, tol: float = 1e-10) -> bool:
    """Same shape, and equal to `tol` relative to the largest wanted entry; a reason is printed otherwise."""
    found, wanted = (np.array(t) if isinstance(t, np.ndarray) else t for t in (found, wanted))  # may be read-only
    found, wanted = (torch.as_tensor(t, dtype=torch.float64).detach() for t in (found, wanted))
    gap = (found - wanted).abs().max().item() if found.shape == wanted.shape else f"{found.shape} {wanted.shape}"
    size = max(wanted.abs().max().item(), 1e-12)
    print(f"gap {gap}, largest wanted {size}")
    return found.shape == wanted.shape and gap <= tol * size


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(eigenvalues, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues in random directions."""
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    basis, _ = torch.linalg.qr(normal(len(values), len(values), seed=seed))
    return (basis * values) @ basis.T


def central(f, theta: Tensor, step: float = 1e-5) -> Tensor:
    """The derivative of `f` (value or gradient) by each coordinate, last axis, by central differences."""
    units = step * torch.eye(theta.shape[-1], dtype=theta.dtype)
    return torch.stack([(f(theta + unit) - f(theta - unit)) / (2 * step) for unit in units], dim=-1)


def along(f, theta: Tensor, v: Tensor, step: float = 1e-5) -> Tensor:
    """The derivative of `f` along `v` by central differences."""
    return (f(theta + step * v) - f(theta - step * v)) / (2 * step)


def classes(n: int, k: int, seed: int = 0) -> Tensor:
    return torch.randint(k, (n,), generator=torch.Generator().manual_seed(seed))


class Attention(nn.Module):
    """One head of attention over tokens `(N, T, d)`, then a linear head on their mean."""

    def __init__(self, d: int, k: int):
        super().__init__()
        self.qkv, self.head = nn.Linear(d, 3 * d), nn.Linear(d, k)

    def forward(self, x):
        return self.head(F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1)).mean(1))


class Tied(nn.Module):
    """A linear map that is used twice: `tanh(tanh(x Wᵀ) Wᵀ)`."""

    def __init__(self, d: int):
        super().__init__()
        self.first = nn.Linear(d, d)
        self.second = nn.Linear(d, d)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class MeanTokens(nn.Module):
    def forward(self, x):
        return x.mean(1)


def conv_net() -> nn.Module:
    """Convolution, batch norm with statistics of its own, pooling, dropout, head; in train mode."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(), nn.Linear(3, 3),
    ).double()  # fmt: skip
    net(normal(8, 2, 4, 4, seed=5))
    return net


def transformer() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), MeanTokens(), nn.Linear(4, 3)).double()


def _networks():
    """`{name: () -> (model, inputs, targets, loss)}`, 8 samples, float64."""
    labels, numbers = classes(8, 3), normal(8, 2, seed=3)
    return {
        "classifier": lambda: (mlp(4, 5, 3, activation="tanh").double(), normal(8, 4), labels, "cross_entropy"),
        "regression": lambda: (mlp(4, 5, 2, activation="softplus").double(), normal(8, 4), numbers, "mse"),
        "batch norm": lambda: (conv_net(), normal(8, 2, 4, 4), labels, "cross_entropy"),
        "attention": lambda: (Attention(4, 3).double(), normal(8, 5, 4), labels, "cross_entropy"),
        "transformer": lambda: (transformer(), normal(8, 5, 4), labels, "cross_entropy"),
        "tied weights": lambda: (Tied(2).double(), normal(8, 2), numbers, "mse"),
    }


NETWORKS = _networks()


def network(name: str, seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name]()


def network_loss(name: str, seed: int = 0, **options) -> NetworkLoss:
    return NetworkLoss(*network(name, seed), **options)
