# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,slideshow,jupyter,-all
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] slideshow={"slide_type": "slide"}
# # 04 · Measuring sharpness
#
# **Which number is "the" sharpness?** Take one trained network. The literature offers a dozen numbers for how sharp its minimum is. They do not agree, and most of them change when nothing that the network *decides* has changed. None of them is a mistake: each answers a question. This notebook finds out which.

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/04_measuring_sharpness.ipynb` (other ways: `README.md`).
#
# ← [03 · Regularising a function](03_regularising_a_function.ipynb) · [05 · Learning a function](05_learning_a_function.ipynb) →

# %% [markdown]
# > **You will be able to**
# > - compute the top eigenvalue and the trace of a Hessian that you never write down, and notice when power iteration returns the wrong sign;
# > - split the Hessian into a Gauss-Newton part and a residual, and read in them what the network's confidence does to the curvature;
# > - test a measure of sharpness by changes of the weights that no decision notices, and say why it moves or stays.
# >
# > **Needs** [01](01_one_dimension.ipynb) (change of variable), [02](02_two_dimensions.ipynb) (Hessian and eigenvalues) · **Time** 44 minutes to read, about 30 s to run on 2 cores · **Source** A Function-Centric Perspective on Flat and Sharp Minima (arXiv:2510.12451), sharpness measures and their released code; the measures' own papers are listed at the end.

# %% slideshow={"slide_type": "skip"} tags=["setup"]
try:
    import flatlab as fl
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("flatlab is missing: run `make lab` in the course's folder (README.md)") from error
import matplotlib.pyplot as plt
import numpy as np
import torch

fl.plots.use_style()
SCALE = fl.scale()  # "laptop"; "paper" runs the full protocol: fl.scale("paper") or FLATLAB_SCALE=paper

# %% [markdown]
# ## Ten networks that get every training digit right
#
# The data are real: handwritten digits, 8 × 8 pixels, 10 classes. We subtract the mean image, because pixels that are never negative leave many ReLU neurons silent for ever. Everything is in float64: this notebook takes differences of losses that are nearly equal.

# %%
from torch.nn.functional import cross_entropy

digits = fl.data.digits()
mean = digits.x.mean(0)
x, y = (digits.x - mean).double(), digits.y
x_test, y_test = (digits.x_test - mean).double(), digits.y_test

# %% [markdown]
# The network has one hidden layer of 16 ReLU neurons with biases. It is trained by Adam on all images at once; weights on the way are kept at the steps in `moments`. Centred pixels and 200 steps are *choices*, made in pilot runs so that every training image comes out right and no neuron dies; *Break it* shows what changes with half the steps.


# %%
def network(seed):
    return fl.models.mlp(64, 16, 10, seed=seed).double()


moments = [0, 5, 10, 15, 25, 50, 100, 199]
recipe = {"steps": 200, "optimiser": "adam", "lr": 0.02}
run = fl.train(fl.NetworkLoss(network, x, y, seeds=range(10)), keep=moments, **recipe)

# %% [markdown]
# Ten seeds, because one network proves nothing. `ten` is their training loss `L(θ)`, the mean cross-entropy over `N = 1000` images, as a function of the vectors `θ` of all `P` weights, one for each network: it returns ten numbers, and so does every measure. From here on `net` is the first network, and `loss` its loss alone.

# %%
ten, ten_on_test = run.loss(), run.loss(x_test, y_test)
net, loss = run.model(0), ten.member(0)
theta, P = loss.theta, loss.dim

# %% [markdown]
# The train loss comes first, here and beside every sharpness below. (A *dead* neuron is one that no training image switches on.)

# %%
def right(f, theta=None):
    """The share of images that each network gets right."""
    return (f.outputs(theta).argmax(-1) == f.targets).double().mean(-1)


print(f"P = {P} parameters, P × P = {P * P:,}, length ‖θ‖ = {theta.norm():.1f}")
for seed, (level, train, test) in enumerate(zip(ten(), right(ten), right(ten_on_test))):
    dead = (run.model(seed)[:2](x) == 0).all(0).sum()
    print(f"seed {seed}: train loss {level:.4f}, right {train:.3f} (train) {test:.3f} (test), dead neurons {dead}")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### The Hessian as a machine, not as a matrix
#
# The Hessian `H` has `P × P` entries; for a network of eleven million weights that is more than 10¹⁴. But the product `H v` with a vector `v` costs about two gradients, because it is the gradient of a number:
#
# $$H v = \nabla_\theta\,\langle \nabla L(\theta),\, v\rangle .$$
#
# Differentiate once with `create_graph=True`, multiply by `v`, differentiate again. That is a **Hessian-vector product** (HVP) by double backward.


# %%
def hvp(net, v):
    parameters = list(net.parameters())
    gradient = torch.autograd.grad(cross_entropy(net(x), y), parameters, create_graph=True)
    slope = torch.cat([part.flatten() for part in gradient]) @ v
    product = torch.autograd.grad(slope, parameters)
    return torch.cat([part.flatten() for part in product])


# %% [markdown]
# `flatlab` does the same. Where many products are taken at one point, it prepares the first gradient once: `product = loss.linearize()`, then `product(v)`.

# %%
v = torch.randn(P, generator=torch.Generator().manual_seed(0)).double()
product = loss.linearize()
assert torch.allclose(hvp(net, v), fl.curvature.hvp(loss, v), atol=1e-12)
assert torch.allclose(hvp(net, v), product(v), atol=1e-12)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### λ_max by power iteration, and its sign failure
#
# Apply `H` again and again and renormalise: the direction whose eigenvalue is largest *in size* takes over. At the end `λ = ⟨v, H v⟩`.


# %%
def power_iteration(product, size, steps=200):
    v = torch.randn(size, generator=torch.Generator().manual_seed(0)).double()
    for _ in range(steps):
        v = product(v)
        v = v / v.norm()
    return (v @ product(v)).item()


# %% [markdown]
# On the trained network it agrees with `flatlab`, which uses Lanczos iteration instead.

# %%
ours = power_iteration(product, P)
theirs = fl.curvature.eigenvalues(loss).item()
print(f"λ_max by power iteration {ours:.6f}, by fl.curvature.eigenvalues {theirs:.6f}")
assert abs(ours - theirs) < 1e-6

# %% [markdown] slideshow={"slide_type": "subslide"}
# "Largest in size" is not "largest". Take a saddle whose Hessian is diag(1, −3):

# %%
saddle = fl.Objective(lambda t: (t[..., 0] ** 2 - 3 * t[..., 1] ** 2) / 2, dim=2)
print(f"power iteration: {power_iteration(saddle.linearize([0.0, 0.0]), 2):.1f}")
print(f"fl.curvature.eigenvalues: {fl.curvature.eigenvalues(saddle, [0.0, 0.0]).item():.1f}")

# %% [markdown]
# It says −3: "this valley has negative sharpness". The cure takes one line. If the answer `λ` is negative, run again on `H − λI`, whose eigenvalues are all ≥ 0, and add `λ` back.


# %%
def largest(product, size):
    low = power_iteration(product, size)
    return low if low > 0 else low + power_iteration(lambda v: product(v) - low * v, size)


assert abs(largest(saddle.linearize([0.0, 0.0]), 2) - 1) < 1e-6

# %% [markdown]
# No danger on paper only: before training, the two ends of these networks' spectra are nearly the same size, and for many steps power iteration reports a mixture of both.

# %% jupyter={"source_hidden": true}
start = run.kept[0][0]
both = [fl.curvature.eigenvalues(loss, start, which=end).item() for end in ("largest", "smallest")]
print(f"untrained network: largest eigenvalue {both[0]:+.3f}, smallest {both[1]:+.3f}")
print("power iteration after 5, 10, 20, 100 steps:", *[f"{power_iteration(loss.linearize(start), P, steps):+.3f}" for steps in (5, 10, 20, 100)])

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The trace by throwing signs
#
# Let `v` be a vector of random signs, ±1 each. Then `⟨v, H v⟩` has the mean `tr H = Σ_i λ_i`: all off-diagonal terms average out. This is **Hutchinson's estimator**, one HVP per draw. Its variance comes only from the off-diagonal entries.


# %%
def hutchinson(product, size, samples, seed=0):
    random = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (samples, size), generator=random).double() * 2 - 1
    return sum((v @ product(v)).item() for v in signs) / samples


# %% [markdown]
# `fl.curvature.trace` uses **Hutch++**, which is better at the same price.
#
# <details><summary>Side road: what a trace costs</summary>
#
# Hutch++ takes a third of the products to find the dominant directions, a third for the exact trace there, and a third to throw signs at the rest. `P` products give the exact trace to compare with, so this is done once, and only because the network is small. With `H` at hand Hutchinson's error is known beforehand: its variance is `2 Σ_{i≠j} H_ij²` divided by the number of draws. The errors printed below are root mean squares in per cent of the exact trace: Hutchinson over 200 repeats, Hutch++ over 25. Hutchinson's follows the law, a square root: ten times the price for a third of the error. With a dozen products Hutch++ has nothing to gain; then it falls faster, because it no longer has to guess the large eigenvalues.
#
# </details>

# %% jupyter={"source_hidden": true}
budgets = [12, 30, 60, 120]
H = loss.hessian()
exact, random = H.trace().item(), torch.Generator().manual_seed(1)
off = 2 * (H.square().sum() - H.diag().square().sum())
for n in budgets:
    draws = (torch.randint(0, 2, (n, P), generator=random).double() * 2 - 1 for _ in range(200))
    plain = torch.stack([((signs @ H) * signs).sum(1).mean() for signs in draws])
    better = torch.stack([fl.curvature.trace(loss, samples=n, seed=s) for s in range(25)])
    rms = [100 * (found / exact - 1).square().mean().sqrt() for found in (plain, better)]
    print(f"{n:3d} products: Hutchinson {rms[0]:.1f} % (theory {100 * (off / n).sqrt() / exact:.1f} %), Hutch++ {rms[1]:.1f} %")
assert abs(hutchinson(lambda v: H @ v, P, 120) / exact - 1) < 0.2

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# The *logits* `z` are the network's ten outputs in front of the softmax. Multiply them all by one number `c > 0`: the largest stays the largest, so *every decision on every input* stays.

# %% slideshow={"slide_type": "fragment"}
powers = fl.predictions.ask(
    "04.confidence",
    "Multiply all ten logits of these networks by c = 8. By how many powers of ten does λ_max of the training loss change? "
    "(0: not at all; +2: a hundred times sharper; −2: a hundred times flatter)",
    slider=(-8, 4),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### H = Gauss-Newton + residual
#
# The loss is a chain: weights `θ` → logits `z` → loss `ℓ`. Differentiate the chain twice, and two terms come out. With `J_n = ∂z_n/∂θ`, the Jacobian of the logits for image `n`:
#
# $$H \;=\; \underbrace{\frac1N\sum_n J_n^{\!\top}\,\frac{\partial^2 \ell}{\partial z^2}\,J_n}_{\text{Gauss-Newton, } G}\;+\;\underbrace{\frac1N\sum_n\sum_k \frac{\partial \ell}{\partial z_k}\,\frac{\partial^2 z_{nk}}{\partial\theta^2}}_{\text{residual, } R}$$
#
# - `G` would be all if the network were linear in its weights. It has no negative eigenvalue.
# - `R` is weighted by the *errors* `∂ℓ/∂z = p − onehot(y)`, with `p = softmax(z)`. It has both signs, and it fades as the errors do.
#
# For cross-entropy the middle of `G` is `diag(p) − p pᵀ`. So one product `G v` is: forward along `v`, weigh with `p`, pull back.


# %%
def gauss_newton_product(v):
    def logits(t):
        return loss.forward(t, x)

    z, Jv = torch.func.jvp(logits, (theta,), (v,))
    p = z.softmax(1)
    weighed = p * Jv - p * (p * Jv).sum(1, keepdim=True)  # (diag(p) − p pᵀ) J v
    return torch.func.vjp(logits, theta)[1](weighed / len(x))[0]


G, R = fl.curvature.GaussNewton(loss), fl.curvature.Residual(loss)
assert torch.allclose(gauss_newton_product(v), fl.curvature.hvp(G, v), atol=1e-12)
assert torch.allclose(product(v), fl.curvature.hvp(G, v) + fl.curvature.hvp(R, v), atol=1e-12)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Why confidence erases curvature
#
# With one weight `θ` and one number `m(θ)` the whole split is the chain rule, `L″ = ℓ″(m) m′² + ℓ′(m) m″`: Gauss-Newton first, residual second. Take two classes. Let `m` be the *margin*, the logit of the right class minus the other one, and `p = 1/(1 + e^{−m})` the probability of the right class. Then `ℓ(m) = log(1 + e^{−m})` and
#
# $$\ell'(m) = -(1-p), \qquad \ell''(m) = p\,(1-p).$$
#
# The second weight is ¼ for an undecided network, and both die like `e^{−m}` for a confident one. For ten classes its place is taken by `tr(diag(p) − p pᵀ) = 1 − Σ_k p_k²`. Nothing in the network needs to become flatter: when every prediction is confident *and right*, both terms of `H` are multiplied by almost nothing.
#
# Now watch it in training: ten networks, eight moments from the first step to the last, all measured in one call. (`tol=1e-2`: for a picture, two digits of an eigenvalue are enough.)

# %%
points = torch.stack([run.kept[k] for k in moments])  # moments × seeds × P
weight = (1 - ten.outputs(points).softmax(-1).square().sum(-1)).mean(-1)
top, rest = (fl.curvature.eigenpairs(f, points, tol=1e-2).values[..., 0] for f in (ten, fl.curvature.Residual(ten)))
level = ten(points)

# %% [markdown]
# Each line is one seed; the right-hand picture sets curvature over the train loss, so read it from right (untrained) to left.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fig, (left, after) = plt.subplots(1, 2, figsize=(9.5, 3.7))
margin = np.linspace(-4, 8, 200)
left.plot(margin, np.log1p(np.exp(-margin)), color=fl.plots.GREY, ls=":", label="loss ℓ(m)")
p = 1 / (1 + np.exp(-margin))
left.plot(margin, p * (1 - p), color=fl.plots.BLUE, ls="-", label="weight p(1 − p)")
left.set(xlabel="margin m of the right class", ylim=(0, 1), title="two classes")
left.legend()
for values, colour, style, name in (
    (top, fl.plots.BLUE, "-", "λ_max of H"),
    (rest, fl.plots.ORANGE, "--", "λ_max of R"),
    (weight, fl.plots.GREY, ":", "mean 1 − Σ p²"),
):
    after.loglog(level, values, color=colour, ls=style, marker=".", label=[name, *[None] * 9])
after.set(xlabel="train loss", title="ten networks in training", ylim=(1e-4, 30))
after.legend(loc="upper left", fontsize=10)
alt = "left: loss and weight p(1-p) over the margin; right: top eigenvalues over the train loss"
fl.plots.show(fig, alt)

# %% [markdown]
# **What you see.** Left: the weight has its peak where the network is undecided and vanishes on *both* sides; a prediction that is confident and wrong has a large loss, a large slope and little Gauss-Newton curvature. Right: `λ_max` first *rises* while the loss falls: the weight hardly moves yet, and the Jacobian grows. It peaks at an intermediate loss, then falls with the weight. The residual starts nearly as large as `H` itself and then fades away, well ahead of the rest.
#
# So "trained less far" does not simply mean "sharper": it depends on the side of the peak. (Here and below, bounds are round numbers that we fixed *after* pilot runs of this recipe. So the claims of this notebook guard what was seen; they are no test of a forecast.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
whole, part = (fl.curvature.eigenvalues(f)[:, 0] for f in (ten, fl.curvature.GaussNewton(ten)))
claim = fl.claims.declare(
    "04.1",
    "at the end of training the Gauss-Newton part carries the top of the spectrum: "
    "λ_max(G)/λ_max(H) is 1 within 5 %",
    part / whole, "holds", above=0.95, below=1.05,
    detail=f"Train losses {', '.join(f'{level:.4f}' for level in ten())}; ten seeds",
)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "04.2",
    "λ_max peaks on the way, at more than twice its first and its final value",
    top.amax(0) / top[[0, -1]].amax(0), "holds", above=2,
    detail="Train loss at the peak "
    + ", ".join(f"{level[k, s]:.2f}" for s, k in enumerate(top.argmax(0)))
    + f", at the end {level[-1].mean():.4f}; ten seeds",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The same for squared error: an identity
#
# With the mean square over `N` samples and `K` outputs, `∂²ℓ/∂z²` is a constant, and the labels drop out of `G`. Stack all Jacobians to one matrix `J` with `N·K` rows. Then `G = (2/(N·K)) JᵀJ`, whose non-zero eigenvalues are those of the small matrix `(2/(N·K)) J Jᵀ`, the *neural tangent kernel* (NTK) of the network on these data. A network of 310 weights on 20 digits shows it:

# %%
small = fl.models.mlp(64, 4, 10, seed=0).double()
squares = fl.NetworkLoss(small, x[:20], torch.eye(10)[y[:20]].double(), "mse")
J = torch.autograd.functional.jacobian(lambda t: squares.forward(t, x[:20]).flatten(), squares.theta)
kernel = torch.linalg.eigvalsh(2 / len(J) * J @ J.T)
gauss = torch.linalg.eigvalsh(fl.curvature.hessian(fl.curvature.GaussNewton(squares)))
assert torch.allclose(gauss[-len(J) :], kernel, atol=1e-8)
print("J:", tuple(J.shape), " top eigenvalues of both:", *[f"{v:.4f}" for v in kernel.flip(0)[:3]])

# %% [markdown]
# A ReLU network with one layer's weights moved and the others held is *piecewise linear*, so the residual, of any loss, has nothing on its diagonal: **for ReLU networks `tr H = tr G`, exactly, at every point that is not on a kink.** The trace never sees the residual, `λ_max` does.

# %%
residual = fl.curvature.hessian(fl.curvature.Residual(squares))
diagonal = residual.diag().abs().max()
print(f"residual: largest diagonal entry {diagonal:.1e}, largest entry {residual.abs().max():.3f}")
assert diagonal < 1e-12

# %% [markdown] slideshow={"slide_type": "slide"}
# ### A rise within a radius: random direction and worst case
#
# Two measures need no Hessian. The **random direction** (the paper's "SAM-sharpness", at ρ = 0.005) steps a distance ρ at random and takes the mean change of the loss, divided by ρ:
#
# $$S_\rho = \mathbb E\;\frac{|L(\theta+\varepsilon)-L(\theta)|}{\rho}, \qquad \varepsilon = \rho\, g/\sqrt P,\quad g\sim N(0, I), \qquad\text{so } \|\varepsilon\|\approx\rho .$$
#
# The **worst case** is SAM's question: `max_{‖δ‖ ≤ ρ} L(θ+δ) − L(θ)`; at a minimum and for small ρ it is `½ρ²λ_max`. Both have a trap. A trained network is never *exactly* at a minimum, and a short step sees its slope first: below a radius ρ\* the random direction is nothing but `sqrt(2/π)·‖∇L‖/√P`, a gradient norm.
#
# <details><summary>Side road: the gradient trap, and the kinks of ReLU</summary>
#
# For a small step, `L(θ+ε) − L(θ) ≈ ⟨∇L, ε⟩ + ½ εᵀHε`. Divided by ρ, the first term has the mean size `sqrt(2/π)·‖∇L‖/√P`, with no ρ in it; the second has the mean `ρ tr H/(2P)`. They are equal at `ρ* = 2 sqrt(2/π)·‖∇L‖√P/tr H`. The cell below prints both terms and what is measured, plain and in **antithetic pairs**, `½[L(θ+ε) + L(θ−ε)] − L(θ)`, in which the slope cancels. At the paper's radius the plain measure would hardly notice if the curvature doubled: a table of "SAM-sharpness at ρ = 0.005" ranks networks by how far they are from stationary.
#
# The pairs lie *above* `ρ tr H/(2P)`. A ReLU network is a patchwork: inside a patch the Hessian is right, but a step crosses into other patches, and at each kink the slope jumps. If that is the reason, the same network with a smooth `tanh` must lie on the line; and it does (last lines). Two networks can have the same Hessian trace and different surroundings.
#
# </details>

# %% jupyter={"source_hidden": true}
def direction(f, rho, antithetic=False):
    return fl.sharpness.random_direction(f, rho=rho, samples=400, antithetic=antithetic)


whole, size = fl.curvature.trace(ten, samples=60), fl.sharpness.gradient_norm(ten)
slopes, cross = (2 / np.pi / P) ** 0.5 * size, 2 * (2 / np.pi) ** 0.5 * size * P**0.5 / whole
print(f"ρ* = {cross.min():.2f} … {cross.max():.2f} in the ten networks, whose weights have the length {theta.norm():.0f}. The first one:")
for rho in (0.005, 0.05, 0.5):
    print(f"ρ = {rho}: slope term {slopes[0]:.2e}, curvature term {rho * whole[0] / (2 * P):.2e}; "
          f"plain {direction(loss, rho):.2e}, pairs {direction(loss, rho, True):.2e}")
smooth = fl.NetworkLoss(fl.models.mlp(64, 16, 10, activation="tanh", seed=0).double(), x, y)
smooth = fl.train(smooth, **recipe).loss()
for name, f in (("ReLU", loss), ("tanh", smooth)):
    share = direction(f, 0.005, True) / (0.005 * fl.curvature.trace(f, samples=60) / (2 * P))
    print(f"{name}: pairs at ρ = 0.005 over what the Hessian promises: {share:.2f} (train loss {f():.4f})")

# %% jupyter={"source_hidden": true}
claim = fl.claims.declare(
    "04.3", "at the paper's radius the random-direction sharpness is a gradient norm: its ratio to sqrt(2/π)‖∇L‖/√P is 1 within 10 %",
    direction(ten, 0.005) / slopes, "holds", above=0.9, below=1.1, detail="Ten seeds, 400 draws each, train losses as in claim 04.1",
)
claim = fl.claims.declare(
    "04.4", "the radius ρ* at which curvature takes over from the slope lies above 0.005 in these networks",
    cross, "holds", above=0.005, detail="Ten seeds",
)

# %% [markdown]
# The worst case by hand: walk uphill, and whenever you leave the ball, step back on its rim. `flatlab` also starts along the top eigenvector and along random directions, and keeps the best.

# %% jupyter={"source_hidden": true}
def unit(v):
    return v / v.norm(dim=-1, keepdim=True)


def worst_case(f, theta, rho, steps=20):
    offset = rho * unit(f.gradient(theta))
    best = f(theta + offset)
    for i in range(steps):
        offset = offset + rho * (1 - i / steps) * unit(f.gradient(theta + offset))
        offset = unit(offset) * offset.norm(dim=-1, keepdim=True).clamp(max=rho)
        best = torch.maximum(best, f(theta + offset))
    return best - f(theta)


# %%
ours, theirs = worst_case(loss, theta, 0.05), fl.sharpness.worst_case(loss, rho=0.05)
print(f"ρ = 0.05: by hand {ours:.3e}, flatlab {theirs:.3e}; its slope part ρ‖∇L‖ {0.05 * fl.sharpness.gradient_norm(loss):.3e}")
assert 0.9 * theirs < ours < 1.0001 * theirs

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Relative flatness in closed form
#
# **Relative flatness** κ weighs the curvature of the last layer by the size of its weights, so that one cannot be traded for the other. In spite of its name, a large κ means *sharp*; and the κ of 02, a condition number, is another thing. With `φ_n` the features in front of the last layer for image `n`, `w_k` the rows of its weight matrix `W` and `H_kl` the Hessian block between neurons `k` and `l`:
#
# $$\kappa = \sum_{k,l}\langle w_k, w_l\rangle\,\mathrm{tr} H_{kl}, \qquad \mathrm{tr} H_{kl} = \frac1N\sum_n \|\varphi_n\|^2\,\bigl(p_{nk}\delta_{kl}-p_{nk}p_{nl}\bigr).$$
#
# There is the weight `p(1 − p)` again. The authors first scale each feature to standard deviation 1.


# %%
def relative_flatness(net, normalise):
    phi, W = net[:-1](x), net[-1].weight
    sd = phi.std(0, correction=0) if normalise else torch.ones(W.shape[1])
    p = net(x).softmax(1)
    phi, W = phi / sd, W * sd
    blocks = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    traces = (phi.square().sum(1)[:, None, None] * blocks).mean(0)
    return (W @ W.T * traces).sum().item()


for normalise in (False, True):
    theirs = fl.sharpness.relative_flatness(net, x, y, normalise=normalise)
    print(f"normalise={normalise}: κ = {theirs:.5f}")
    assert abs(relative_flatness(net, normalise) - theirs) < 1e-8

# %% [markdown]
# ### Fisher-Rao in a line
#
# The **Fisher-Rao norm** asks how fast each image's loss `ℓ_n` changes when the weights grow in proportion: `sqrt(mean_n ⟨θ, ∇ℓ_n⟩²)`, one directional derivative along `θ` itself.

# %%
def each_loss(t):
    return loss.sample_losses(loss.forward(t, x), y)


fisher_rao = torch.func.jvp(each_loss, (theta,), (theta,))[1].square().mean().sqrt()
assert abs(fisher_rao - fl.sharpness.fisher_rao_norm(loss)) < 1e-8

# %% [markdown] slideshow={"slide_type": "slide"}
# ### All in one table
#
# `fl.sharpness.table` returns in every later notebook. The train loss stands first for a reason that you will see under *Break it*. Mind how far three seeds of *one* recipe differ before you believe a difference between recipes.

# %% slideshow={"slide_type": "fragment"}
names = ["train loss", "gradient norm", "lambda max", "trace", "random direction", "worst case", "fisher rao", "relative flatness"]
table = fl.sharpness.table(ten.at(ten.theta[:3]), names, draws=100)
table[names].rename(columns=fl.sharpness.SYMBOLS, index="seed {}".format).map("{:.3g}".format)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Predict: who survives?
#
# Now the measures meet four changes of the weights after which the network takes *exactly the same decision on every input*: one **layer** is rescaled (weights and bias times 3, the next layer's weights divided by 3); **each neuron** is rescaled by its own factor; the features are **rotated** (and the last layer takes the turn back); the **logits** are multiplied by 4.

# %% slideshow={"slide_type": "fragment"}
survivors = fl.predictions.ask(
    "04.survivors",
    "Eight measures: λ_max, trace, random direction, worst case, the same with a radius in proportion to each weight, Fisher-Rao, raw and "
    "normalised relative flatness. How many of the eight keep their value (within 1 %) through all four changes?",
    choices=["none", "one or two", "three to five", "six or more"],
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# Two changes that no decision notices:
#
# - **Layer rescaling a.** Multiply the first layer's weight *and bias* by `a`, divide the next layer's weight by `a`. Since `relu(a·t) = a·relu(t)` for `a > 0`, the outputs are the same numbers.
# - **Logit scale c.** Multiply the last layer's weight and bias by `c`. All logits grow `c` times; the largest stays the largest. The probabilities change, and with them the loss; the decisions do not.


# %%
def layers(f):
    """W₁, b₁, W₂ and b₂, which follow one another in θ."""
    return f.theta.split([p.numel() for p in f.model.parameters()], -1)


def rescale_layer(f, a):
    W1, b1, W2, b2 = layers(f)
    return f.at(torch.cat([a * W1, a * b1, W2 / a, b2], -1))


def scale_logits(f, c):
    W1, b1, W2, b2 = layers(f)
    return f.at(torch.cat([W1, b1, c * W2, c * b2], -1))


# %% [markdown]
# For a decision map that you can see, the panel's network has two inputs: 100 points of the two moons, 16 hidden neurons, trained until all are right.

# %%
from sklearn.datasets import make_moons

points, labels = (torch.tensor(part) for part in make_moons(100, noise=0.1, random_state=0))
moon = fl.NetworkLoss(fl.models.mlp(2, 16, 2, seed=0).double(), points, labels)
moon = fl.train(moon, **recipe | {"steps": 300}).loss()
assert right(moon) == 1

# %% [markdown]
# All 9 × 9 networks live in one batch, `moons`: a loss is a function of vectors, and 81 of them are no harder than one. Then the dials, the train loss first. (κ is taken raw: some neurons of this small network are dead, and normalised κ needs a convention for those.)

# %%
grid_a = [1 / 8, 1 / 5, 1 / 3, 1 / 2, 1.0, 2.0, 3.0, 5.0, 8.0]
grid_c = [0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0]
moons = moon.at(torch.stack([scale_logits(rescale_layer(moon, a), c).theta for a in grid_a for c in grid_c]))
hessians = moons.hessian()
dials = {
    "train loss": moons(),
    "λ_max": torch.linalg.eigvalsh(hessians)[:, -1],
    "tr H": hessians.diagonal(dim1=1, dim2=2).sum(1),
    "worst case": worst_case(moons, moons.theta, 0.05),
    "random direction": fl.sharpness.random_direction(moons, rho=0.05),
    "Fisher-Rao": fl.sharpness.fisher_rao_norm(moons),
    "relative flatness κ": fl.sharpness.relative_flatness(moons, normalise=False),
}
turns = torch.stack(list(dials.values())).reshape(len(dials), 9, 9)
turns = turns / turns[:, 4:5, 4:5]  # relative to a = c = 1
print(f"over the grid the dials run from × {turns.min():.1g} to × {turns.max():.1g}")

# %% [markdown]
# And the map: the probability of class 1 on a grid of inputs. The assertion is the point of the panel: 81 networks, one decision map.

# %%
side = torch.linspace(-2, 3, 80).double(), torch.linspace(-1.3, 1.8, 60).double()
plane = torch.stack(torch.meshgrid(*side, indexing="xy"), -1).reshape(-1, 2)
maps = moons.outputs(inputs=plane).softmax(-1)[..., 1].reshape(9, 9, 60, 80)
assert ((maps > 0.5) == (maps[4, 4] > 0.5)).all()

# %% [markdown]
# Left: the decision map (the black line is where the network changes its mind; colour is its confidence). Right: every dial relative to its own value at `a = c = 1`, on a logarithmic axis.


# %% jupyter={"source_hidden": true}
def build(fig):
    left, right = fig.subplots(1, 2, width_ratios=[1, 1.15])
    box = {"origin": "lower", "extent": (-2, 3, -1.3, 1.8), "aspect": "auto"}
    image = left.imshow(maps[4, 4].numpy(), vmin=0, vmax=1, **box)
    left.contour(*[v.numpy() for v in side], maps[4, 4].numpy(), levels=[0.5], colors="black", linewidths=2)
    left.plot(*points[labels == 0].T, "o", color="white", ms=5)
    left.plot(*points[labels == 1].T, "^", color="black", ms=5)
    left.set(xlabel="input 1", ylabel="input 2", title="decisions and confidence")
    left.grid(False)
    colours = [fl.plots.GREY] + [fl.plots.BLUE] * 4 + [fl.plots.ORANGE] * 2
    bars = right.barh(list(dials), [0.0] * len(dials), left=1, color=colours)
    right.axvline(1, color="black", lw=1)
    right.set(xscale="log", xlim=(1e-3, 1e3), xlabel="relative to a = c = 1", title="dials")
    right.invert_yaxis()

    def update(a, c):
        i, j = grid_a.index(a), grid_c.index(c)
        image.set_data(maps[i, j].numpy())
        for bar, value in zip(bars, turns[:, i, j].tolist(), strict=True):
            bar.set_width(value - 1)
        level = dials["train loss"][9 * i + j]
        return f"train loss {level:.2g}; λ_max × {turns[1, i, j]:.3g}; no decision has changed"

    return update


# %% [markdown] slideshow={"slide_type": "slide"}
# Move `a` first and watch which bars stay. Then move `c`.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.panels.Panel(
    build,
    "decision map of two moons beside bars for seven dials: under layer rescaling four dials rise",
    size=(9.5, 3.9), labels={"a": "layer rescaling a", "c": "logit scale c"},
    a=(grid_a, 0.2), c=(grid_c, 1.0),
).show()

# %% [markdown]
# **What you see.** With `a`, nothing on the left moves, not even the confidence, and the train loss stays; four dials swing by large factors, while Fisher-Rao and κ stand still. With `c` the black line stands still and only the shading hardens or fades, but now *all* dials move, the two steadfast ones as well, and they move with the train loss.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### Which measure survives which change
#
# Back to the digits, with two more changes that leave the outputs alone. **Neurons**: each hidden neuron gets its own factor. **Rotation**: the 16 features are turned by an orthogonal matrix `Q`, and the last layer takes the turn back (`W Qᵀ`); `Q` is fixed, not trained.


# %%
def rescale_neurons(f):
    r = torch.randn(16, generator=torch.Generator().manual_seed(0)).exp().double()
    W1, b1, W2, b2 = layers(f)
    return f.at(torch.cat([r.repeat_interleave(64) * W1, r * b1, W2 / r.repeat(10), b2], -1))


def rotate_features(f):
    noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)).double()
    Q = torch.linalg.qr(noise)[0]
    turn = torch.nn.Linear(16, 16, bias=False).double().requires_grad_(False)
    turn.weight.copy_(Q)
    W1, b1, W2, b2 = layers(f)
    turned = torch.cat([W1, b1, (W2.unflatten(-1, (10, 16)) @ Q.T).flatten(-2), b2], -1)
    return fl.NetworkLoss(torch.nn.Sequential(*net[:2], turn, net[2]), x, y, theta=turned)


# %% [markdown]
# Four changes and eight measures, with the train loss and the test error on top. (The *adaptive* worst case lets weight `i` move by at most its share of `ρ|θ_i|` instead of ρ.)

# %%
changes = {
    "as it is": lambda f: f,
    "layer × 3": lambda f: rescale_layer(f, 3.0),
    "each neuron": rescale_neurons,
    "rotation": rotate_features,
    "logits × 4": lambda f: scale_logits(f, 4.0),
}
MEASURES = ["lambda max", "trace", "random direction", "worst case", "adaptive worst case",
            "fisher rao", "relative flatness raw", "relative flatness"]
changed = {name: change(ten) for name, change in changes.items()}
found = fl.sharpness.table(changed, ["train loss", *MEASURES], draws=100)
found["test error"] = torch.cat([1 - (f.outputs(inputs=x_test).argmax(-1) == y_test).double().mean(-1) for f in changed.values()])

# %% [markdown]
# The rule: a measure *survives* a change if in all ten seeds it moves by at most 1 %, plus three standard errors where it is a sampled number.


# %%
rows = ["test error", "train loss", *MEASURES]
noise = found.reindex(columns=[f"{name} stderr" for name in rows]).fillna(0).set_axis(rows, axis=1)
before, kept, factors = found.loc["as it is", rows], {}, {}
for name in [*changes][1:]:
    after, spread = found.loc[name, rows], np.hypot(noise.loc[name], noise.loc["as it is"])
    kept[name] = ((after - before).abs() <= 0.01 * before.abs() + 3 * spread).all()
    factors[name] = after / before

# %% [markdown]
# ✓ survives. ✗ with the factor by which the measure changed (geometric mean of ten seeds).

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
import pandas as pd

whole = pd.DataFrame(kept).loc[MEASURES].all(axis=1).sum()
print(f"{whole} of 8 measures survive all four changes.", survivors.settle("none" if whole == 0 else str(whole)))


def verdict(name):
    return kept[name].map({True: "✓", False: "✗  × "}) + np.exp(np.log(factors[name]).mean()).map("{:.2g}".format).where(~kept[name], "")


pd.DataFrame({name: verdict(name) for name in kept}).rename(fl.sharpness.SYMBOLS)

# %% [markdown]
# **What you see.** Read it by columns. *Layer*: the four measures that count steps in weight space fail, the four that are built relative to the weights pass. Why? If a weight becomes `aθ_i` at the same outputs, `∂L/∂θ_i` is divided by `a`: the product `θ_i ∂L/∂θ_i` keeps its value, and Fisher-Rao is made of such products; so is a radius that is a share of `|θ_i|`. *Neurons*: raw κ now fails as well, and its normalisation is there to mend that. *Rotation*: what was mended on one side breaks on the other, since per-feature and per-weight scales have a favourite basis; the four that failed before pass. *Logits*: all fail, and the train loss with them. Only the test error, which is no sharpness, passes every column.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
relative = ["adaptive worst case", "fisher rao", "relative flatness raw", "relative flatness"]
claim = fl.claims.declare(
    "04.5",
    "adaptive worst case, Fisher-Rao, raw κ and normalised κ are unchanged by layer rescaling",
    (factors["layer × 3"][relative] - 1).abs().max(axis=1), "holds", below=1e-6,
    detail="Largest relative change of the four, ten seeds, a = 3; no neuron is dead",
)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
stepwise = ["lambda max", "trace", "random direction", "worst case"]
claim = fl.claims.declare(
    "04.6",
    "λ_max, trace, random direction and worst case change by more than 1.5 times "
    "under layer rescaling",
    factors["layer × 3"][stepwise].min(axis=1), "holds", above=1.5,
    detail="Smallest factor of the four, ten seeds, a = 3, same outputs on every input",
)

# %% [markdown]
# The claim is about the whole table: take for each measure the change that moves it most. Even the steadiest of the eight moves by more than a factor of 1.5 (compared by logarithms).

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
moved = np.max([abs(np.log10(f[MEASURES])) for f in factors.values()], axis=0)
fl.claims.declare(
    "04.7",
    "none of the eight measures survives all four changes",
    moved.min(1), "holds", above=np.log10(1.5).item(),
    detail="In powers of ten: the largest factor of the steadiest measure; ten seeds",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Same decisions, any curvature
#
# The logit scale deserves its own look, because it needs no trick: *training does it by itself*. Once all images are right, the loss falls on mainly by making the logits larger. So multiply the logits of the ten finished networks by `c = 0.25 … 8`, measure `λ_max` on the training images and, as an experiment that a fair measurement would never use as its sharpness, on the test images, of which a few are *wrong*.

# %%
scales = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


def level_and_top(f, scales=scales):
    """Loss, λ_max and the share of right answers, (3, scales, networks)."""
    points = torch.stack([scale_logits(f, c).theta for c in scales])
    tops = fl.curvature.eigenpairs(f, points, tol=1e-4).values[..., 0]
    return torch.stack([f(points), tops, right(f, points)]).numpy()


level, top, share = level_and_top(ten)
test_level, test_top, test_share = level_and_top(ten_on_test)
assert (share == 1).all() and (np.ptp(test_share, axis=0) == 0).all()

# %% [markdown]
# (Asserted: at every `c`, all training images are right, and the test accuracy is the same number.) One line per seed.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.9))
sides = ("training images (all right)", top, level), ("test images (a few wrong)", test_top, test_level)
for ax, (title, tops, levels) in zip(axes, sides):
    ax.semilogx(scales, np.log10(tops / tops[2]), color=fl.plots.BLUE, ls="-", marker="o", ms=4)
    ax.semilogx(scales, np.log10(levels / levels[2]), color=fl.plots.GREY, ls=":", lw=1.8)
    ax.plot([], [], color=fl.plots.BLUE, ls="-", marker="o", ms=4, label="λ_max")
    ax.plot([], [], color=fl.plots.GREY, ls=":", lw=1.8, label="loss")
    ax.set(xlabel="logit scale c", title=title, xticks=scales, xticklabels=scales)
    ax.minorticks_off()
powers.draw(axes[0], axis="y")
axes[0].set(ylabel="powers of ten, c = 1 is 0")
axes[1].set(ylabel="powers of ten (other scale)")
axes[0].legend(loc="lower left")
alt = "top eigenvalue and loss over logit scale: falling on training images, rising on test ones"
fl.plots.show(fig, alt)
print(powers.settle(np.log10(top[-1] / top[2]).mean()))

# %% [markdown]
# **What you see.** On the training images, `λ_max` follows the loss down over many powers of ten, at the same decisions: by choosing `c` you may have the curvature you like. On the test images (mind the other scale) the same networks go the *other* way beyond `c = 1`. An image near the boundary keeps its weight `p(1 − p)` while its Jacobian by the first layer grows with `c`, and an image that is confidently wrong keeps its error in the residual.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "04.8",
    "logits × c: from c = 0.5 to 8, λ_max falls by more than 10 times, and no decision changes",
    np.log10(top[1] / top[-1]), "holds with a caveat", above=1,
    caveat="only where every training image is right by a margin: see the half-trained networks below",
    detail="In powers of ten, ten seeds, all training images right throughout; "
    f"mean λ_max from {top[1].mean():.2g} to {top[-1].mean():.1g}, "
    f"mean train loss from {level[1].mean():.2g} to {level[-1].mean():.1g}",
)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "04.9",
    "where some images are wrong, a larger logit scale makes the loss sharper: "
    "on test images λ_max rises from c = 1 to 8",
    test_top[-1] / test_top[2], "holds", above=1,
    detail=f"Ten seeds, test accuracy {test_share.mean():.3f} at every c; "
    f"test loss from {test_level[2].mean():.2f} to {test_level[-1].mean():.2f}",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The same networks after half the training
#
# Claim 04.8 leans on our choice of 200 steps. Go back to step 100 of the same ten runs, where hardly an image is wrong, and turn the same knob.

# %% slideshow={"slide_type": "fragment"}
half_level, half_top, half_share = level_and_top(ten.at(run.kept[100]))
for seed in (0, 1, 2, 3):
    wrong = round(len(x) * (1 - half_share[0, seed]))
    tops = ", ".join(f"{v:.2g}" for v in half_top[:, seed])
    print(f"seed {seed}, wrong {wrong}, train loss {half_level[2, seed]:.3f}; λ_max at c = 0.25 … 8: {tops}")

# %% [markdown]
# From `c = 0.5` to 8 `λ_max` now loses far less, and in some seeds it *rises again* at the end. Seed 1 has no wrong image at all, only some that are right by very little. Whether confidence erases curvature is decided by the least certain image, not by the average one.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### One wrong label in a thousand
#
# How much of this hangs on every single image being right? Give *one* training image a wrong label and keep the networks as they are. On that image the network is confidently wrong: its Gauss-Newton weight vanishes as `c` grows, its *error* does not. What is left, in three lines, for one active neuron with input weights and bias `w` (so that `∂h/∂w = (x₁, 1)` with `h` its output) and output weights `u`, `z = u h + …`:
#
# - the error becomes a fixed vector, `e = p − onehot → (…, 1, …, −1, …)`, of length √2; the loss of this image is `⟨e, z⟩/N` plus a constant;
# - its only second derivative is the mixed one, `∂²⟨e, z⟩/∂u ∂w = e (x₁, 1)ᵀ`: no weight stands in it;
# - a matrix with the block `B = e (x₁, 1)ᵀ` and `Bᵀ` off the diagonal and zeros on it has the top eigenvalue `‖B‖ = ‖e‖·‖(x₁, 1)‖`. So no logit scale can lower `λ_max` below
#
# $$\lambda_{\text{floor}} = \frac{\sqrt2\,\sqrt{1+\|x_1\|^2}}{N}.$$

# %% slideshow={"slide_type": "fragment"}
one_wrong = y.clone()
one_wrong[0] = (y[0] + 1) % 10
floor = (2 * (1 + x[0].square().sum())).sqrt().item() / len(x)
mislabelled = fl.NetworkLoss(net, x, one_wrong, theta=ten.theta)
stuck_level, stuck, _ = level_and_top(mislabelled, scales[2:])
print("c           1         2         4         8")
print("λ_max", *[f"{value:.7f}" for value in stuck[:, 0]], f" floor {floor:.7f} (seed 0)")

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "04.10",
    "with one wrong label in 1,000, λ_max at c = 8 is the residual of that one image: "
    "its ratio to √2·sqrt(1 + ‖x₁‖²)/N is 1 within 1 %",
    stuck[-1] / floor, "holds", above=0.99, below=1.01,
    detail="Ten seeds; mean train loss "
    f"{stuck_level[-1].mean():.2g}, with the right label {level[-1].mean():.1g}",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# One thousandth of the labels decides what `λ_max` of all of them is. This is the confound of the whole course: **two networks with different train losses can differ in sharpness for that reason alone,** whatever else distinguishes them. Hence the rule of the house: the train loss stands beside every sharpness, and trained networks are compared with a twin at equal loss (06, 08).

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1 · Tick the survivors (★, 6 minutes)
#
# *Layer rescaling* again: first weight and bias × a, next weight ÷ a, in a ReLU network. Which of these keep their value for every `a`? Some are in the table, some are not.
#
# | | |
# |---|---|
# | A | `λ_max` |
# | B | `‖∇L‖`, the length of the gradient |
# | C | `‖θ‖² · tr H`, "curvature made scale-free by the length of the weights" |
# | D | `Σ_i θ_i² H_ii`, "each curvature weighed by its own weight" |
# | E | relative flatness κ |
# | F | Fisher-Rao norm |
# | G | test error |
#
# Answer with a set of letters, such as `{"A", "B"}`. You may use `rescale_layer(loss, a)` to find out.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
survivors_ticked = fl.exercises.Exercise(
    "04.ticks",
    answer={"D", "E", "F", "G"},
    mistakes={
        "one ‖θ‖² for all weights cannot help: the two layers are scaled in opposite directions, so C moves": {"C", "D", "E", "F", "G"},
        "the loss keeps its value, but its slope per weight does not: stretch a weight and ∂L/∂θ shrinks": {"B", "D", "E", "F", "G"},
        "something is missing: what happens to θ_i² H_ii when θ_i grows a times and H_ii shrinks a² times?": {"E", "F", "G"},
        "the outputs are the same numbers, so whatever depends on decisions alone survives: one letter is missing": {"D", "E", "F"},
        "A and B count steps in weight space, and so both of them move: which letters do not?": {"A", "B"},
        "that would be too good: rescale_layer(loss, 4.0) and measure λ_max again": {"A", "B", "C", "D", "E", "F", "G"},
    },
    praise="a product of a weight and a derivative by the same weight has no scale: that is the trick behind D, E and F.",
)

# %% [markdown]
# Your answer:

# %% slideshow={"slide_type": "skip"}
ticks = ...
survivors_ticked.check(ticks)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# ticks = {"D", "E", "F", "G"}
# survivors_ticked.check(ticks)
# ```
#
# If `θ_i` becomes `aθ_i` at the same outputs, then `∂L/∂θ_i` is divided by `a` and `H_ii` by `a²` (01, the chain rule). So `θ_i ∂L/∂θ_i` and `θ_i² H_ii` keep their values, weight by weight, and so do their sums: D and F (`⟨θ, ∇ℓ_n⟩`), and E, where `⟨w_k, w_l⟩` meets the curvature of the same layer. C multiplies two sums that each run over both layers: the first layer's weights (`a²`) also meet the second layer's curvatures (`a²`), and that part grows like `a⁴`. G depends on decisions only.
#
# </details>

# %% [markdown]
# ### Exercise 2 · Find the flaw (★★, 8 minutes)
#
# A paper compares two ways to train, A and B, both right on every training image. It reports `λ_max`: 0.08 for A, 0.02 for B, over ten seeds each, and concludes "B finds flatter minima". You may ask for *one table more* from the authors. Which of these would, by itself, let you decide whether the difference is more than confidence? Tick all that would.
#
# | | |
# |---|---|
# | A | the train losses of both |
# | B | `λ_max` of A after its logits were divided or multiplied so that its train loss equals B's |
# | C | `λ_max` of A, stopped (with a complete schedule) at B's train loss, and of B |
# | D | `λ_max` of both on the test images |
# | E | Fisher-Rao of both, since no rescaling changes it |
# | F | ten more seeds of each |

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
flaw = fl.exercises.Exercise(
    "04.flaw",
    answer={"B", "C"},
    mistakes={
        "A shows *whether* there is a confound, not what is left without it: if the losses differ you still do not know": {"A", "B", "C"},
        "D changes the question: on test images a larger logit scale makes the loss sharper (04.9)": {"B", "C", "D"},
        "E is steady under rescaling, but it moves with the logits like all others: look at the last column": {"B", "C", "E"},
        "F makes the interval smaller, and the confound stays as large as it is": {"B", "C", "F"},
        "B is one such table; there is a second, that trains instead of scaling": {"B"},
        "C is one such table; there is a second, that needs no training at all": {"C"},
        "the train losses are the first thing to ask for; but suppose they differ: what then?": {"A"},
    },
    praise="both bring the two networks to one train loss; 08 uses both, and they need not agree.",
)

# %% [markdown]
# Your answer, a set of letters:

# %% slideshow={"slide_type": "skip"}
tables = ...
flaw.check(tables)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# tables = {"B", "C"}
# flaw.check(tables)
# ```
#
# B is a *temperature twin*, C an *early-stopped twin*: both compare at equal train loss. A tells you that you need them. D measures something else, E moves with confidence as well, and F makes a biased comparison more precise.
#
# </details>

# %% [markdown]
# ### Exercise 3 · The weight of a confident prediction (★★, 8 minutes)
#
# Two classes, cross-entropy, `m` = logit of the right class minus the other. Write `weight(m)`, the second derivative `ℓ''(m)` of the loss by the margin: what the Gauss-Newton part is multiplied with. (`torch.exp`, or `math.exp`: `m` is a number.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
import math


def right_class(m):
    return 1 / (1 + math.exp(-m))


def bell(m):
    return right_class(m) * right_class(-m)


# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
gauss_newton_weight = fl.exercises.Exercise(
    "04.weight",
    answer=bell,
    inputs=[(0.0,), (2.0,), (-1.0,), (6.0,)],
    mistakes={
        "that is p, the probability itself": right_class,
        "that is 1 − p, the size of the slope: differentiate once more": lambda m: right_class(-m),
        "that is p − 1, the slope itself: differentiate once more": lambda m: -right_class(-m),
        "that is the loss, not its second derivative": lambda m: math.log(1 + math.exp(-m)),
        "right for a confident network, but not at m = 0, where p = ½": lambda m: math.exp(-m),
        "twice too large: that is the trace over the two logits, not along the margin": lambda m: 2 * bell(m),
        "a second derivative of a convex loss is not negative: check the sign": lambda m: -bell(m),
    },
    praise="and weight(m) = weight(−m): being confidently wrong has little Gauss-Newton curvature too.",
)

# %% [markdown]
# Your answer:


# %% slideshow={"slide_type": "skip"}
def weight(m):
    return ...


gauss_newton_weight.check(weight)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def weight(m):
#     p = 1 / (1 + math.exp(-m))
#     return p * (1 - p)
#
#
# gauss_newton_weight.check(weight)
# ```
#
# `ℓ(m) = log(1 + e^{−m})`, so `ℓ'(m) = −1/(1 + e^{m}) = −(1 − p)` and `ℓ''(m) = p(1 − p)`. For large `m` it is about `e^{−m}`: each step of 2.3 in the margin takes a power of ten from the curvature.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# There is no "the" sharpness; there are questions, and each has its number.
#
# | if you ask | measure | mind |
# |---|---|---|
# | how large a step can gradient descent take? (02, 05) | `λ_max` | power iteration's sign |
# | what does noise on the weights cost? (01) | `tr H`, or `average` at the ρ you mean | kinks: the Hessian does not see them |
# | what does the worst small step cost? (SAM) | worst case | its slope part `ρ‖∇L‖` |
# | what is left when scales are factored out? | κ, Fisher-Rao, adaptive worst case | confidence still moves them |
# | what does a random step change? | random direction at ρ > ρ\* | below ρ\* it is a gradient norm |
#
# **You may now say** "in these coordinates, by this measure, at this train loss, network A is flatter than B".
#
# **You may no longer say** "A is flatter than B".
#
# None of this speaks for or against the paper's claims C1 to C6: it is about the rulers.
#
# **The steelman.** *"That a measure can be moved by hand does not make it useless. Nobody rescales layers by hand; training starts from one initialisation and stays near balanced weights, and between two networks of one recipe λ_max may tell the truth. A thermometer is not refuted by a match held to it."* (In this spirit Jiang et al. 2020 compare forty measures on trained networks.) Fair: so 08 and 10 compare trained networks, at equal train loss.

# %% [markdown]
# ### What this does not show
#
# - Nothing here says which measure goes with *generalisation*. That needs many networks (08, 10, 13). That a measure can be moved by hand does not prove that training moves it in this way.
# - The recipe was chosen in pilot runs (raw and centred pixels, 60 to 300 steps, 16 and 32 neurons), and so were the bounds. With raw pixels neurons die, and with fewer steps claim 04.8 fails for some seeds.
# - One architecture (one hidden layer, ReLU, no batch norm), one data set, one optimiser. Shortcuts and normalisation layers bring invariances of their own (09).
# - Normalised κ divides by the standard deviation of each feature. A dead neuron has none, and a convention must fill the gap; our networks have no dead neuron, so the table does not test that convention.
# - The rescalings are exact for ReLU only. With `tanh`, layer rescaling is another function.
#
# ### References
#
# - Mason-Williams, Mason-Williams and Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451: the random-direction measure, relative flatness and Fisher-Rao as the paper uses them.
# - Dinh et al. 2017: rescalings that change sharpness and not the function. Foret et al. 2021: the worst case and SAM.
# - Andriushchenko et al. 2023, arXiv:2302.07011: average and worst case, adaptive forms. Petzka et al. 2021, arXiv:2001.00939: relative flatness. Liang et al. 2019: the Fisher-Rao norm.
# - Meyer, Musco, Musco and Woodruff 2021: Hutch++. Jiang et al. 2020, arXiv:1912.02178: forty measures on trained networks.

# %% [markdown]
# All numbers without a box, and your predictions beside what came out:

# %%
fl.claims.numbers()

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()
