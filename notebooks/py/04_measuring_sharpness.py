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

# %% [markdown]
# > **You will be able to**
# > - compute the top eigenvalue and the trace of a Hessian that you never write down, and notice when power iteration returns the wrong sign;
# > - say at which radius a random-direction sharpness begins to measure curvature, and what it measures below;
# > - split the Hessian into a Gauss-Newton part and a residual, and explain *why confidence erases curvature*;
# > - name, for each measure, a change of the weights that moves the measure and no decision.
# >
# > **Needs** 01 (change of variable), 02 (Hessian and eigenvalues) · **Time** 55 minutes to read, about 30 s to run on 2 cores · **Source** A Function-Centric Perspective on Flat and Sharp Minima (arXiv:2510.12451), sharpness measures and their released code; the measures' own papers are listed at the end.

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
# ## Five networks that get every training digit right
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
run = fl.train(fl.NetworkLoss(network, x, y, seeds=range(5)), keep=moments, **recipe)

# %% [markdown]
# Five seeds, because one network proves nothing. `five` is their training loss `L(θ)`, the mean cross-entropy over `N = 1000` images, as a function of the vectors `θ` of all `P` weights, one for each network: it returns five numbers, and so does every measure. From here on `net` is the first network, and `loss` its loss alone.

# %%
five, five_on_test = run.loss(), run.loss(x_test, y_test)
net, loss = run.model(0), five.member(0)
theta, P = loss.theta, loss.dim

# %% [markdown]
# The train loss comes first, here and beside every sharpness below. (A *dead* neuron is one that no training image switches on.)

# %%
def right(f, theta=None):
    """The share of images that each network gets right."""
    return (f.outputs(theta).argmax(-1) == f.targets).double().mean(-1)


print(f"P = {P} parameters, P × P = {P * P:,}, length ‖θ‖ = {theta.norm():.1f}")
for seed, (level, train, test) in enumerate(zip(five(), right(five), right(five_on_test))):
    dead = (run.model(seed)[:2](x) == 0).all(0).sum()
    print(f"seed {seed}: train loss {level:.4f}, right {train:.3f} (train) {test:.3f} (test), dead neurons {dead}")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# Two questions before you measure anything. Both are about changes of the weights after which the network takes *exactly the same decision on every input*.

# %% slideshow={"slide_type": "fragment"}
survivors = fl.predictions.ask(
    "04.survivors",
    "Eight measures of sharpness meet four changes: a layer is rescaled, each neuron is rescaled, "
    "the features are rotated, the logits are multiplied by 4. "
    "How many of the eight keep their value through all four?",
    choices=["none", "one or two", "three to five", "six or more"],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# For the second, the *logits* are the network's ten outputs in front of the softmax, and `λ_max` is the largest eigenvalue of the Hessian of the training loss.

# %% slideshow={"slide_type": "fragment"}
powers = fl.predictions.ask(
    "04.confidence",
    "Multiply all ten logits by c = 8. By how many powers of ten does λ_max change? "
    "(0: not at all; +2: a hundred times sharper; −2: a hundred times flatter)",
    slider=(-8, 4),
)

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
# Is this only a danger on paper? Look at both ends of the spectrum of the digit network *before* training, and at what power iteration says on its way.

# %%
start = run.kept[0][0]
for end in ("largest", "smallest"):
    print(f"untrained network, {end} eigenvalue: {fl.curvature.eigenvalues(loss, start, which=end).item():+.3f}")
for steps in (5, 10, 20, 100):
    print(f"power iteration, {steps:3d} steps: {power_iteration(loss.linearize(start), P, steps):+.3f}")

# %% [markdown]
# The two ends are nearly the same size. So for a long time power iteration reports a *mixture* of both, well below the true `λ_max`; had the negative end been slightly larger, it would have ended there. Where do the negative eigenvalues come from? That is the Gauss-Newton split, below. First the trace.

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
# `fl.curvature.trace` uses **Hutch++**: a third of the products finds the dominant directions, a third takes the trace there exactly, a third throws signs at the rest. Which is better at the same price? `P` products give the exact trace to compare with, so this is done once, and only because the network is small. With `H` at hand, the theory of Hutchinson's error can be drawn too: its variance is `2 Σ_{i≠j} H_ij²` divided by the number of draws.

# %%
budgets, seeds = [12, 30, 60, 120], range(6)
H = loss.hessian()
exact = H.trace().item()
plain = [[hutchinson(lambda v: H @ v, P, n, s) for s in seeds] for n in budgets]
better = [[fl.curvature.trace(loss, samples=n, seed=10 * s).item() for s in seeds] for n in budgets]

# %% [markdown]
# The error below is the root mean square over the repeats, in percent of the exact trace.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fig, ax = plt.subplots()
for name, found, mark in (("Hutchinson", plain, "o"), ("Hutch++", better, "s")):
    rms = 100 * np.sqrt(np.mean(np.square(np.array(found) / exact - 1), axis=1))
    ax.loglog(budgets, rms, marker=mark, label=name)
    print(f"{name:10s} with 12, 30, 60, 120 products:", *[f"{e:.1f} %" for e in rms])
off = H.square().sum() - H.diag().square().sum()
theory = 100 * (2 * off / torch.tensor(budgets)).sqrt() / exact
ax.loglog(budgets, theory, color=fl.plots.GREY, ls=":", label="Hutchinson, theory")
ax.set(xlabel="Hessian-vector products", ylabel="error of tr H (%)", ylim=(0.1, 30))
ax.set(xticks=budgets, xticklabels=budgets)
ax.minorticks_off()
ax.legend(loc="lower left")
fl.plots.show(fig, "error of the trace over the price: Hutch++ falls faster than Hutchinson")

# %% [markdown]
# **What you see.** With a dozen products there is little between the two (six repeats are a rough guide). Hutchinson's error then falls like one over the square root of the price, and Hutch++ falls faster, because it no longer has to guess the large eigenvalues.

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
# Look at the middle of `G` for two classes. Let `m` be the *margin*, the logit of the right class minus the other one, and `p = 1/(1 + e^{−m})` the probability of the right class. Then `ℓ(m) = log(1 + e^{−m})` and
#
# $$\ell''(m) = p\,(1-p).$$
#
# That weight is ¼ for an undecided network and dies like `e^{−m}` for a confident one. For ten classes its place is taken by `tr(diag(p) − p pᵀ) = 1 − Σ_k p_k²`. Nothing in the network needs to become flatter: when every prediction is confident *and right*, both terms of `H` are multiplied by almost nothing.
#
# Now watch it in training: three networks, eight moments from the first step to the last. All 24 are measured in one call. (`tol=1e-2`: for a picture, two digits of an eigenvalue are enough.)

# %%
points = torch.stack([run.kept[k][:3] for k in moments])  # moments × seeds × P
three = five.at(five.theta[:3])
weight = (1 - three.outputs(points).softmax(-1).square().sum(-1)).mean(-1)
top, rest = (fl.curvature.eigenpairs(f, points, tol=1e-2).values[..., 0] for f in (three, fl.curvature.Residual(three)))
level = three(points)

# %% [markdown]
# Each line is one seed; the right-hand picture sets curvature over the train loss, so read it from right (untrained) to left.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
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
    after.loglog(level, values, color=colour, ls=style, marker=".", label=[name, None, None])
after.set(xlabel="train loss", title="three networks in training", ylim=(1e-4, 30))
after.legend(loc="upper left", fontsize=10)
alt = "left: loss and weight p(1-p) over the margin; right: top eigenvalues over the train loss"
fl.plots.show(fig, alt)

# %% [markdown]
# **What you see.** Left: the weight has its peak where the network is undecided and vanishes on *both* sides; a prediction that is confident and wrong has a large loss, a large slope and little Gauss-Newton curvature. Right: `λ_max` first *rises* while the loss falls: the weight hardly moves yet, and the Jacobian grows. It peaks at an intermediate loss, then falls with the weight. The residual starts nearly as large as `H` itself and then fades away, well ahead of the rest.
#
# So "trained less far" does not simply mean "sharper": it depends on the side of the peak. Two claims. (Here and below, the bounds are round numbers that we fixed *after* pilot runs of this recipe. So the claims of this notebook guard what was seen; they are no test of a forecast.) At the end Gauss-Newton explains `λ_max` to 5 %; and `λ_max` at its peak is more than twice what it is at the start and at the end.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
whole, part = (fl.curvature.eigenvalues(f)[:, 0] for f in (five, fl.curvature.GaussNewton(five)))
fl.claims.declare(
    "04.1",
    "at the end of training the Gauss-Newton part carries the top of the spectrum: "
    "λ_max(G)/λ_max(H) is 1 within 5 %",
    part / whole, "holds", above=0.95, below=1.05,
    detail=f"Train losses {', '.join(f'{level:.4f}' for level in five())}; five seeds",
)

# %% [markdown]
# And the peak:

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fl.claims.declare(
    "04.2",
    "λ_max peaks in the middle of training, at more than twice its first and its final value",
    top.amax(0) / top[[0, -1]].amax(0), "holds", above=2,
    detail="Train loss at the peak "
    + ", ".join(f"{level[k, s]:.2f}" for s, k in enumerate(top.argmax(0)))
    + f", at the end {level[-1].mean():.4f}; three seeds",
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
# The constant matters: forget the 2 or the `K`, and your "sharpness" is off by that factor in every table. There is a second gift here. A ReLU network with one layer's weights moved and the others held is *piecewise linear*, so the residual has nothing on its diagonal: **for ReLU networks `tr H = tr G`, exactly, at every point that is not on a kink.** The trace never sees the residual, `λ_max` does.

# %%
residual = fl.curvature.hessian(fl.curvature.Residual(squares))
diagonal = residual.diag().abs().max()
print(f"residual: largest diagonal entry {diagonal:.1e}, largest entry {residual.abs().max():.3f}")
assert diagonal < 1e-12

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Random directions, and the gradient trap
#
# The cheapest sharpness needs no derivative. Step a distance ρ in a random direction and see how much the loss changes:
#
# $$S_\rho = \mathbb E\;\frac{|L(\theta+\varepsilon)-L(\theta)|}{\rho}, \qquad \varepsilon = \rho\, g/\sqrt P,\quad g\sim N(0, I),$$
#
# so `‖ε‖ ≈ ρ`. The paper uses it with ρ = 0.005.


# %%
def random_direction(f, theta, rho, samples=100, seed=0):
    random = torch.Generator().manual_seed(seed)
    g = torch.randn(samples, len(theta), generator=random).to(theta)
    steps = rho * g / len(theta) ** 0.5
    return (f(theta + steps) - f(theta)).abs().mean() / rho


ours = random_direction(loss, theta, 0.005)
theirs = fl.sharpness.random_direction(loss, rho=0.005)
print(f"by hand {ours:.4e}, flatlab {theirs!r}")
assert abs(ours - theirs) < 1e-8

# %% [markdown]
# Now take the definition apart. For a small step, `L(θ+ε) − L(θ) ≈ ⟨∇L, ε⟩ + ½ εᵀHε`. The first term has the mean size `sqrt(2/π)·‖∇L‖·ρ/√P`; the second has the mean `ρ² tr H/(2P)`. Divide both by ρ:
#
# $$\text{slope: }\sqrt{2/\pi}\,\frac{\|\nabla L\|}{\sqrt P}\quad(\text{no }\rho\text{ in it}),\qquad \text{curvature: }\frac{\rho\;\mathrm{tr} H}{2P}.$$
#
# A trained network is never *exactly* at a minimum. Its slope is small, but a short step makes the curvature term smaller still. The two are equal at
#
# $$\rho^* = 2\sqrt{2/\pi}\;\frac{\|\nabla L\|\,\sqrt P}{\mathrm{tr} H}.$$

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Predict: where does curvature take over?

# %% slideshow={"slide_type": "fragment"}
takeover = fl.predictions.ask(
    "04.takeover",
    "Our network gets every training digit right, at a train loss below 0.01. "
    "From which radius ρ* on does the random direction see more curvature than slope? "
    "(The paper's radius is 0.005; the weights have a length of about 25.)",
    slider=(0.001, 0.5),
)

# %% [markdown]
# We sweep ρ over more than three decades. Beside the plain measure stands its **antithetic** form: average `½[L(θ+ε) + L(θ−ε)] − L(θ)`. In a pair ±ε the slope cancels, and only what is even in ε remains.

# %%
radii = np.geomspace(3e-4, 1.0, 9)


def sweep(ours, antithetic):
    measure = fl.sharpness.random_direction
    return np.array([measure(ours, rho=r, samples=200, antithetic=antithetic).item() for r in radii])


singles, pairs = sweep(loss, False), sweep(loss, True)
slope = (2 / np.pi) ** 0.5 * fl.sharpness.gradient_norm(loss).item() / P**0.5
cross = 2 * slope * P / exact  # ρ*, where slope = ρ* tr H/(2P)
seen = np.exp(np.interp(np.log(slope), np.log(pairs), np.log(radii)))  # where pairs = slope

# %% [markdown]
# The two dotted lines are the two terms, from `‖∇L‖` and `tr H` alone; nothing is fitted.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, ax = plt.subplots(figsize=(7.5, 4.2))
blue, orange, purple = fl.plots.BLUE, fl.plots.ORANGE, fl.plots.PURPLE
ax.loglog(radii, singles, color=blue, marker="o", ls="-", label="plain |L(θ+ε) − L(θ)|/ρ")
ax.loglog(radii, pairs, color=orange, marker="s", ls="--", label="antithetic pairs")
ax.axhline(slope, color=fl.plots.GREY, ls=":", lw=1.8, label="slope term (no ρ)")
term = radii * exact / (2 * P)
ax.loglog(radii, term, color=purple, ls=":", lw=1.8, label="curvature term ρ tr H/(2P)")
ax.axvline(cross, color=fl.plots.RED, lw=1.2, ls="-.", label=f"ρ* = {cross:.2f}")
ax.axvline(0.005, color="black", lw=1.2, ls="-", label="the paper's ρ = 0.005")
takeover.draw(ax)
ax.set(xlabel="radius ρ", ylabel="change of loss / ρ")
ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=10)
alt = "random-direction sharpness over rho: flat at the slope term, rising beyond rho star"
fl.plots.show(fig, alt)
print(takeover.settle(cross), f"The antithetic pairs reach the slope at ρ = {seen:.2f} already.")

# %% [markdown]
# **What you see.** Well left of ρ\* the plain measure is a horizontal line: it does not depend on ρ, because it *is* the slope. At the paper's radius it would hardly notice if the curvature doubled. Pairs remove the slope. They lie above the curvature line, and so reach the slope before ρ\*; why, we see in a moment.
#
# Two claims: at ρ = 0.005 the measure equals `sqrt(2/π)‖∇L‖/√P` within 10 %; and ρ\* lies above 0.005.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
traces = fl.curvature.trace(five, samples=60)
slopes = (2 / np.pi / P) ** 0.5 * fl.sharpness.gradient_norm(five)
draws = fl.sharpness.random_direction(five, rho=0.005, samples=400)
fl.claims.declare(
    "04.3",
    "at the paper's radius the random-direction sharpness is a gradient norm: "
    "its ratio to sqrt(2/π)‖∇L‖/√P is 1 within 10 %",
    draws / slopes, "holds", above=0.9, below=1.1,
    detail="Five seeds, 400 draws each, train losses as in claim 04.1",
)

# %% [markdown]
# What this means for a table of "SAM-sharpness at ρ = 0.005": it ranks networks by how far they are from stationary, which is a fact about the end of training.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fl.claims.declare(
    "04.4",
    "the radius ρ* at which curvature takes over from the slope lies above 0.005 in these networks",
    2 * P * slopes / traces, "holds", above=0.005,
    detail="Five seeds; ρ* must be computed for each network, since it goes with ‖∇L‖√P/tr H",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# **And the pairs?** They lie *above* `ρ tr H/(2P)`. A ReLU network is a patchwork: inside a patch the Hessian is right, but a step crosses into other patches, and at each kink the slope jumps. The Hessian at a point cannot see kinks. If that is the reason, the same network with a smooth `tanh` must lie on the line.

# %%
smooth = fl.NetworkLoss(fl.models.mlp(64, 16, 10, activation="tanh", seed=0).double(), x, y)
smooth = fl.train(smooth, **recipe).loss()

# %% [markdown]
# Ratio of the measured rise (pairs) to `ρ tr H/(2P)`: 1 means that the Hessian tells the whole story.

# %% slideshow={"slide_type": "fragment"}
def ratio(ours, rho, whole):
    rise = fl.sharpness.random_direction(ours, rho=rho, samples=60, antithetic=True)
    return rise / (rho * whole / (2 * P))


for name, ours in (("ReLU", loss), ("tanh", smooth)):
    whole = fl.curvature.trace(ours, samples=60)
    found = [f"{ratio(ours, rho, whole):.2f} at ρ = {rho}" for rho in (1e-4, 0.005, 0.2)]
    print(f"{name}, train loss {ours():.4f}: ratio", ", ".join(found))

# %% [markdown]
# So two networks can have the same Hessian trace and different surroundings. "Sharpness" as a rise within a radius and "sharpness" as a second derivative are different quantities, and for ReLU networks they come apart at the radii in use.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The worst case
#
# SAM's question is not the average but the maximum: `max_{‖δ‖ ≤ ρ} L(θ+δ) − L(θ)`. At a minimum and for small ρ it is `½ρ²λ_max`. By hand: walk uphill, and whenever you leave the ball, step back on its rim.


# %%
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


# %% [markdown]
# It starts along the gradient, so at an exact minimum it has nowhere to go. `flatlab` also starts along both ends of the top eigenvector and along random directions, and keeps the best: it can only be larger.

# %%
ours = worst_case(loss, theta, 0.05).item()
theirs = fl.sharpness.worst_case(loss, rho=0.05)
parts = 0.05 * fl.sharpness.gradient_norm(loss), 0.05**2 / 2 * fl.curvature.eigenvalues(loss)[0]
print(f"ρ = 0.05: by hand {ours:.3e}, flatlab {theirs:.3e}, at train loss {loss():.4f}")
print(f"ρ‖∇L‖ = {parts[0]:.3e}, ½ρ²λ_max = {parts[1]:.3e}")
assert 0.9 * theirs < ours < 1.0001 * theirs

# %% [markdown]
# The trap is here too: away from a minimum, `ρ‖∇L‖` is part of the worst case. Whoever reports either measure should report `‖∇L‖` beside it.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Relative flatness in closed form
#
# **Relative flatness** κ weighs the curvature of the last layer by the size of its weights, so that one cannot be traded for the other. With `φ_n` the features in front of the last layer for image `n`, `w_k` the rows of its weight matrix `W` and `H_kl` the Hessian block between neurons `k` and `l`:
#
# $$\kappa = \sum_{k,l}\langle w_k, w_l\rangle\,\mathrm{tr} H_{kl}, \qquad \mathrm{tr} H_{kl} = \frac1N\sum_n \|\varphi_n\|^2\,\bigl(p_{nk}\delta_{kl}-p_{nk}p_{nl}\bigr).$$
#
# No second derivative is left to compute: there is the weight `p(1 − p)` again. The authors first scale each feature to standard deviation 1.


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
# The **Fisher-Rao norm** asks how fast each image's loss `ℓ_n` changes when the weights grow in proportion: `sqrt(mean_n ⟨θ, ∇ℓ_n⟩²)`. That is one directional derivative along `θ` itself.

# %%
def each_loss(t):
    return loss.sample_losses(loss.forward(t, x), y)


fisher_rao = torch.func.jvp(each_loss, (theta,), (theta,))[1].square().mean().sqrt()
assert abs(fisher_rao - fl.sharpness.fisher_rao_norm(loss)) < 1e-8

# %% [markdown] slideshow={"slide_type": "slide"}
# ### All in one table
#
# `fl.sharpness.table` returns in every later notebook, with the names and symbols of `fl.sharpness.SYMBOLS`. The train loss stands first for a reason that you will see under *Break it*. These are three seeds of *one* recipe: mind how far they differ from each other before you believe a difference between recipes.

# %% slideshow={"slide_type": "fragment"}
names = ["train loss", "gradient norm", "lambda max", "trace", "random direction", "worst case", "fisher rao", "relative flatness"]
table = fl.sharpness.table(three, names, draws=100)
table[names].rename(columns=fl.sharpness.SYMBOLS, index="seed {}".format).map("{:.3g}".format)

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
    image = left.imshow(maps[4, 4], vmin=0, vmax=1, **box)
    left.contour(*side, maps[4, 4], levels=[0.5], colors="black", linewidths=2)
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
        image.set_data(maps[i, j])
        for bar, value in zip(bars, turns[:, i, j].tolist(), strict=True):
            bar.set_width(value - 1)
        level = dials["train loss"][9 * i + j]
        return f"train loss {level:.2g}; λ_max × {turns[1, i, j]:.3g}; no decision has changed"

    return update


# %% [markdown] slideshow={"slide_type": "slide"}
# Move `a` first and watch which bars stay. Then move `c`.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
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
changed = {name: change(three) for name, change in changes.items()}
found = fl.sharpness.table(changed, ["train loss", *MEASURES], draws=100)
found["test error"] = torch.cat([1 - (f.outputs(inputs=x_test).argmax(-1) == y_test).double().mean(-1) for f in changed.values()])

# %% [markdown]
# The rule: a measure *survives* a change if in all three seeds it moves by at most 1 %, plus three standard errors where it is a sampled number.


# %%
rows = ["test error", "train loss", *MEASURES]
noise = found.reindex(columns=[f"{name} stderr" for name in rows]).fillna(0).set_axis(rows, axis=1)
before, kept, factors = found.loc["as it is", rows], {}, {}
for name in [*changes][1:]:
    after, spread = found.loc[name, rows], np.hypot(noise.loc[name], noise.loc["as it is"])
    kept[name] = ((after - before).abs() <= 0.01 * before.abs() + 3 * spread).all()
    factors[name] = after / before

# %% [markdown]
# ✓ survives. ✗ with the factor by which the measure changed (geometric mean of three seeds).

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
import pandas as pd

whole = pd.DataFrame(kept).loc[MEASURES].all(axis=1).sum()
print(f"{whole} of 8 measures survive all four changes.", survivors.settle("none" if whole == 0 else str(whole)))


def verdict(name):
    return kept[name].map({True: "✓", False: "✗  × "}) + np.exp(np.log(factors[name]).mean()).map("{:.2g}".format).where(~kept[name], "")


pd.DataFrame({name: verdict(name) for name in kept}).rename(fl.sharpness.SYMBOLS)

# %% [markdown]
# **What you see.** Read it by columns. *Layer*: the four measures that count steps in weight space fail, the four that are built relative to the weights pass. *Neurons*: raw κ now fails as well, and its normalisation is there to mend that. *Rotation*: what was mended on one side breaks on the other, since per-feature and per-weight scales have a favourite basis; the four that failed before pass. *Logits*: all fail, and the train loss with them. Only the test error, which is no sharpness, passes every column.
#
# Two claims about the first column: four measures move by less than 10⁻⁶, and the other four by more than a factor of 1.5.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
relative = ["adaptive worst case", "fisher rao", "relative flatness raw", "relative flatness"]
fl.claims.declare(
    "04.5",
    "adaptive worst case, Fisher-Rao, raw κ and normalised κ are unchanged by layer rescaling",
    (factors["layer × 3"][relative] - 1).abs().max(axis=1), "holds", below=1e-6,
    detail="Largest relative change of the four, three seeds, a = 3; no neuron is dead",
)

# %% [markdown]
# And the four that live in weight space:

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
stepwise = ["lambda max", "trace", "random direction", "worst case"]
fl.claims.declare(
    "04.6",
    "λ_max, trace, random direction and worst case change by more than 1.5 times "
    "under layer rescaling",
    factors["layer × 3"][stepwise].min(axis=1), "holds", above=1.5,
    detail="Smallest factor of the four, three seeds, a = 3, same outputs on every input",
)

# %% [markdown]
# The third is about the whole table: take for each measure the change that moves it most. Even the steadiest of the eight moves by more than a factor of 1.5. (Factors are compared by their logarithms. As plain numbers they differ so much between seeds that the interval of three would include anything: in a pilot run that version came out as inconclusive.)

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
moved = np.max([abs(np.log10(f[MEASURES])) for f in factors.values()], axis=0)
fl.claims.declare(
    "04.7",
    "none of the eight measures survives all four changes",
    moved.min(1), "holds", above=np.log10(1.5).item(),
    detail="In powers of ten: the largest factor of the steadiest measure; three seeds",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Same decisions, any curvature
#
# The logit scale deserves its own look, because it needs no trick: *training does it by itself*. Once all images are right, the loss falls on mainly by making the logits larger. So multiply the logits of the five finished networks by `c = 0.25 … 8`, measure `λ_max` on the training images and, as an experiment that a fair measurement would never use as its sharpness, on the test images, of which a few are *wrong*.

# %%
scales = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


def level_and_top(f, scales=scales):
    """Loss, λ_max and the share of right answers, (3, scales, networks)."""
    points = torch.stack([scale_logits(f, c).theta for c in scales])
    tops = fl.curvature.eigenpairs(f, points, tol=1e-4).values[..., 0]
    return torch.stack([f(points), tops, right(f, points)]).numpy()


level, top, share = level_and_top(five)
test_level, test_top, test_share = level_and_top(five_on_test)
assert (share == 1).all() and (np.ptp(test_share, axis=0) == 0).all()

# %% [markdown]
# The assertion says: at every `c`, all training images are right, and the test accuracy is the same number. One line per seed.

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

# %% [markdown]
# Two claims: on the training images `λ_max` falls by more than a factor of 10 from `c = 0.5` to 8; on the test images it rises from `c = 1` to 8.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fl.claims.declare(
    "04.8",
    "logits × c: from c = 0.5 to 8, λ_max falls by more than 10 times, and no decision changes",
    np.log10(top[1] / top[-1]), "holds with a caveat", above=1,
    caveat="only where every training image is right by a margin: see the half-trained networks below",
    detail="In powers of ten, five seeds, all training images right throughout; "
    f"mean λ_max from {top[1].mean():.2g} to {top[-1].mean():.1g}, "
    f"mean train loss from {level[1].mean():.2g} to {level[-1].mean():.1g}",
)

# %% [markdown]
# The other side of the same coin:

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fl.claims.declare(
    "04.9",
    "where some images are wrong, a larger logit scale makes the loss sharper: "
    "on test images λ_max rises from c = 1 to 8",
    test_top[-1] / test_top[2], "holds", above=1,
    detail=f"Five seeds, test accuracy {test_share.mean():.3f} at every c; "
    f"test loss from {test_level[2].mean():.2f} to {test_level[-1].mean():.2f}",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The same networks after half the training
#
# Claim 04.8 leans on our choice of 200 steps. Go back to step 100 of the same five runs, where hardly an image is wrong, and turn the same knob.

# %% slideshow={"slide_type": "fragment"}
half_level, half_top, half_share = level_and_top(five.at(run.kept[100]))
for seed in range(5):
    wrong = round(len(x) * (1 - half_share[0, seed]))
    tops = ", ".join(f"{v:.2g}" for v in half_top[:, seed])
    print(f"seed {seed}, wrong {wrong}, train loss {half_level[2, seed]:.3f}; λ_max at c = 0.25 … 8: {tops}")

# %% [markdown]
# From `c = 0.5` to 8 `λ_max` now loses less than two powers of ten instead of about seven, and in some seeds it *rises again* at the end. Seed 1 has no wrong image at all, only some that are right by very little. Whether confidence erases curvature is decided by the least certain image, not by the average one.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### One wrong label in a thousand
#
# How much of this hangs on every single image being right? Give *one* training image a wrong label and keep the networks as they are. For that image the network is confidently wrong: its Gauss-Newton weight vanishes as `c` grows, but its error `p − onehot` becomes a fixed vector of length √2. In the residual it meets `∂²z/∂W₁∂W₂`, which contains no weights, only the image and which neurons are on. So there must be a floor that no logit scale can lower:
#
# $$\lambda_{\text{floor}} = \frac{\sqrt2\,\sqrt{1+\|x_1\|^2}}{N},$$
#
# with `x₁` the image (the 1 under the root is its bias), provided that at least one neuron is active on it. At `c = 8`, `λ_max` is this floor within 1 %.

# %% slideshow={"slide_type": "fragment"}
one_wrong = y.clone()
one_wrong[0] = (y[0] + 1) % 10
floor = (2 * (1 + x[0].square().sum())).sqrt().item() / len(x)
mislabelled = fl.NetworkLoss(net, x, one_wrong, theta=three.theta)
stuck_level, stuck, _ = level_and_top(mislabelled, scales[2:])
print("c           1         2         4         8")
print("λ_max", *[f"{value:.7f}" for value in stuck[:, 0]], f" floor {floor:.7f} (seed 0)")

# %% [markdown]
# One thousandth of the labels decides what `λ_max` of all of them is:

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fl.claims.declare(
    "04.10",
    "with one wrong label in 1,000, λ_max at c = 8 is the residual of that one image: "
    "its ratio to √2·sqrt(1 + ‖x₁‖²)/N is 1 within 1 %",
    stuck[-1] / floor, "holds", above=0.99, below=1.01,
    detail="Three seeds; mean train loss "
    f"{stuck_level[-1].mean():.2g}, with the right label {level[-1, :3].mean():.1g}",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# This is the confound of the whole course: **two networks with different train losses can differ in sharpness for that reason alone,** whatever else distinguishes them. Hence the rule of the house: the train loss stands beside every sharpness, and trained networks are compared with a twin at equal loss (06, 08).

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
# ### Exercise 2 · Two meanings of ρ (★★, 6 minutes)
#
# `fl.sharpness.average` takes ρ as the standard deviation of *each coordinate* of the noise, `δ_i = ρ g_i`. `random_direction` and `worst_case` take ρ as the *length* of the step. Suppose that a table says "ρ = 0.002 per weight". Write `as_length(rho, P)`, the length that such noise has, approximately, for `P` weights.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
two_rhos = fl.exercises.Exercise(
    "04.rho",
    answer=lambda rho, P: rho * P**0.5,
    inputs=[(0.002, 1210), (0.05, 10_000), (0.3, 7)],
    mistakes={
        "no P in it: a step of ρ in every one of P coordinates is longer than ρ": lambda rho, P: rho,
        "the wrong way round: you went from a length to a coordinate": lambda rho, P: rho / P**0.5,
        "lengths do not add up like that: squares do (Pythagoras)": lambda rho, P: rho * P,
        "that is the squared length; take its root": lambda rho, P: rho**2 * P,
    },
    praise="in a network of ten million weights the two differ by a factor of 3,162.",
)

# %% [markdown]
# Your answer:


# %% slideshow={"slide_type": "skip"}
def as_length(rho, P):
    return ...


two_rhos.check(as_length)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def as_length(rho, P):
#     return rho * P**0.5
#
#
# two_rhos.check(as_length)
# ```
#
# `‖δ‖² = Σ_i ρ² g_i²` has the mean `ρ² P`, and for large `P` hardly varies around it. So `ρ_length ≈ ρ_coordinate · √P`. Two tables with "ρ = 0.05" may differ a hundredfold in the size of the step.
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


gauss_newton_weight = fl.exercises.Exercise(
    "04.weight",
    answer=bell,
    inputs=[(0.0,), (2.0,), (-1.0,), (6.0,)],
    mistakes={
        "that is p, the probability itself": right_class,
        "that is 1 − p, the size of the slope: differentiate once more": lambda m: right_class(-m),
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
# - Meyer, Musco, Musco and Woodruff 2021: Hutch++.

# %% [markdown]
# Your predictions beside what came out:

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()
