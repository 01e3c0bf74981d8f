"""Networks that the course measures."""

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "softplus": nn.Softplus, "identity": nn.Identity}


def mlp(*widths: int, activation: str = "relu", bias: bool = True, seed: int | None = None) -> nn.Sequential:
    """A multi-layer perceptron, `mlp(2, 64, 64, 1)`: linear layers of these widths with `activation` in between.

    Inputs `(N, widths[0])`, outputs `(N, widths[-1])`, no activation at the end. PyTorch's default initialisation; with
    `seed` it is reproducible and the global random state stays as it was.

    Errors: ValueError for fewer than two widths, a width below 1, or an unknown activation.
    """
    if len(widths) < 2 or not all(isinstance(w, int) and w > 0 for w in widths):
        raise ValueError(f"widths are {widths}: give at least input and output width, e.g. mlp(2, 64, 1)")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        layers = []
        for n_in, n_out in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(n_in, n_out, bias=bias), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
