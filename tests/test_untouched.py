"""No measurement changes the reader's model, its modes, its gradients or the random numbers, whatever happens."""

import pytest
import torch
from helpers import classes, conv_net, normal
from torch import nn

from flatlab import NetworkLoss, curvature, sharpness

MEASURES = {
    "gradient": lambda loss: loss.gradient(),
    "hessian": lambda loss: loss.hvp(loss.theta, loss.theta),
    "eigenvalues": lambda loss: curvature.eigenvalues(loss),
    "trace": lambda loss: curvature.trace(loss),
    "density": lambda loss: curvature.spectral_density(loss, steps=5),
    "random direction": lambda loss: sharpness.random_direction(loss, samples=3),
    "worst case": lambda loss: sharpness.worst_case(loss, steps=2),
    "fisher rao": lambda loss: sharpness.fisher_rao_norm(loss),
    "relative flatness": lambda loss: sharpness.relative_flatness(loss),
    "construction": lambda loss: NetworkLoss(loss.model, loss.inputs, loss.targets),
}


class Fragile(nn.Module):
    """A layer that fails at the third call; the count is shared with every copy."""

    calls, error = 0, None

    def forward(self, x):
        Fragile.calls += 1
        if Fragile.error and Fragile.calls == 3:
            raise Fragile.error
        return x


def fragile_loss():
    Fragile.error = None
    model = nn.Sequential(*conv_net()[:-1], Fragile(), conv_net()[-1])
    model[0].bias.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    return NetworkLoss(model, normal(8, 2, 4, 4), classes(8, 3), chunk=2)


def everything(model):
    """Weights, buffers, gradients, modes and flags of a model, and the state of the random numbers, as bytes."""
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters() if p.grad is not None)]
    flags = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    return [t.numpy().tobytes() for t in tensors], flags, hooks, torch.get_rng_state().numpy().tobytes()


@pytest.mark.parametrize("measure", MEASURES)
def test_measuring_changes_nothing(measure):
    loss = fragile_loss()
    before = everything(loss.model)
    MEASURES[measure](loss)
    assert everything(loss.model) == before


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["exception", "Ctrl-C"])
@pytest.mark.parametrize("measure", MEASURES)
def test_an_exception_in_the_middle_changes_nothing(measure, error, monkeypatch):
    loss = fragile_loss()
    before, value = everything(loss.model), loss()
    monkeypatch.setattr(Fragile, "error", error)
    monkeypatch.setattr(Fragile, "calls", 0)
    with pytest.raises(type(error)):
        MEASURES[measure](loss)
    assert everything(loss.model) == before
    assert loss() == value
