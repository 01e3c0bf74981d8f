"""The Gauss-Newton split of a network's Hessian: identities first, then curvlinops."""

import pytest
import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from helpers import close, network, network_loss, normal
from torch import nn

from flatlab import NetworkLoss, Objective, curvature
from flatlab.curvature import GaussNewton, Residual

SPLIT = ["classifier", "regression", "batch norm", "attention", "tied weights"]


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("chunk", [None, 3])
def test_gauss_newton_and_its_residual_add_up_to_the_hessian(name, chunk):
    loss = network_loss(name, chunk=chunk)
    for v in normal(2, loss.dim):
        products = [curvature.hvp(part, v) for part in (GaussNewton(loss), Residual(loss), loss)]
        assert close(products[0] + products[1], products[2]) and products[0].norm() > 0
    assert close(GaussNewton(loss)(), loss()) and close(GaussNewton(loss).gradient(), loss.gradient())


@pytest.mark.parametrize("name", SPLIT)
def test_gauss_newton_has_no_negative_eigenvalue(name):
    values = torch.linalg.eigvalsh(GaussNewton(network_loss(name)).hessian())
    assert values.min() >= -1e-12 * values.max()


def test_the_residual_of_a_linear_model_vanishes():
    loss = NetworkLoss(nn.Linear(4, 3).double(), normal(6, 4), normal(6, 3), "mse")
    assert close(GaussNewton(loss).hessian(), loss.hessian(), 1e-14)


def jacobian(loss):
    """`∂z_nk/∂θ`, shape (N, K, P)."""
    return torch.func.jacrev(lambda t: loss.forward(t, loss.inputs))(loss.theta)


def test_gauss_newton_of_a_classifier_is_its_fisher_matrix():
    """F = mean_n Σ_k p_nk ∇log p_nk ∇log p_nkᵀ."""
    loss, jac = network_loss("classifier"), jacobian(network_loss("classifier"))
    p = loss.outputs().softmax(-1)
    score = jac - torch.einsum("nk,nkp->np", p, jac)[:, None]
    assert close(GaussNewton(loss).hessian(), torch.einsum("nk,nkp,nkq->pq", p, score, score) / len(p))


def test_gauss_newton_of_a_regression_has_the_spectrum_of_the_tangent_kernel():
    """J Jᵀ and Jᵀ J share their eigenvalues up to zeros: λ(G) = 2/(N K) λ(J Jᵀ)."""
    loss = network_loss("regression")
    jac = jacobian(loss).flatten(0, 1)
    kernel = torch.linalg.eigvalsh(jac @ jac.T).flip(0) * 2 / len(jac)
    assert close(curvature.eigenvalues(GaussNewton(loss), k=len(jac)), kernel)


@pytest.mark.parametrize("name", ["classifier", "regression"])
@pytest.mark.parametrize("ours, theirs", [(lambda f: f, HessianLinearOperator), (GaussNewton, GGNLinearOperator)])
def test_products_agree_with_curvlinops(name, ours, theirs):
    model, x, y, kind = network(name)
    criterion = nn.CrossEntropyLoss() if kind == "cross_entropy" else nn.MSELoss()
    loss = ours(NetworkLoss(model, x, y, kind))
    peer = theirs(model, criterion, list(model.parameters()), [(x, y)])
    for v in normal(3, loss.dim):
        assert close(curvature.hvp(loss, v), peer @ v)


def test_a_loss_that_is_linear_in_the_outputs_has_no_gauss_newton_part():
    model, x, y, _ = network("regression")
    loss = NetworkLoss(model, x, y, lambda outputs, targets: (outputs * targets).mean(1))
    assert GaussNewton(loss).hessian().count_nonzero() == 0
    assert close(Residual(loss).hessian(), loss.hessian(), 1e-14)


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("chunk", [None, 3])
def test_many_points_are_split_like_each_alone(name, chunk):
    loss = network_loss(name, chunk=chunk)
    thetas = loss.theta + 0.3 * normal(2, 3, loss.dim)
    for part in (GaussNewton(loss), Residual(loss)):
        v = normal(2, 3, loss.dim, seed=1)
        assert close(part(thetas)[1, 2] + 1, part(thetas[1, 2]) + 1, 1e-14)
        assert close(part.hvp(thetas, v)[1, 2], part.hvp(thetas[1, 2], v[1, 2]))
    assert close(GaussNewton(loss).gradient(thetas), loss.gradient(thetas), 1e-14)


def test_the_residual_is_the_constant_0_with_a_hessian():
    loss = network_loss("classifier")
    assert Residual(loss)() == 0 and Residual(loss).gradient().count_nonzero() == 0
    assert Residual(loss).hessian().count_nonzero() > 0


def test_the_parts_follow_their_loss_to_a_batch_and_to_double():
    loss = network_loss("classifier")
    part = GaussNewton(loss)
    assert part.source is loss and torch.equal(part.theta, loss.theta)
    assert close(part.at(2 * loss.theta).hessian(), part.hessian(2 * loss.theta), 1e-14)
    batch = part.on(loss.inputs[:3], loss.targets[:3])
    assert close(
        batch.hessian(loss.theta), GaussNewton(NetworkLoss(loss.model, loss.inputs[:3], loss.targets[:3])).hessian()
    )
    single = NetworkLoss(loss.model.float(), loss.inputs, loss.targets)
    assert GaussNewton(single).double().hessian().dtype == torch.float64
    assert (0.5 * GaussNewton(single) + single).double().gradient().dtype == torch.float64


def test_the_split_needs_a_network():
    with pytest.raises(ValueError, match="loss is a Objective"):
        GaussNewton(Objective(lambda t: t.sum(-1)))
