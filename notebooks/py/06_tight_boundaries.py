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
# # 06 · Tight boundaries
#
# **Does a tighter boundary make a sharper minimum even with perfect generalisation?** Sharpness is often read as a sign of memorisation. Here is a task without noise, on which networks get every training point *and* every test point right. If some of them are sharper than others, memorisation can hardly be the reason.

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/06_tight_boundaries.ipynb` (other ways: `README.md`).

# %% [markdown]
# > **You will be able to**
# > - prove in two lines that a network which is steep in its *input* is steep in its *weights*, and say where the proof can be escaped;
# > - follow a gap between two classes, link by link, to the trace of the Hessian, and say which link is not a theorem;
# > - split a difference in sharpness into a part that the train loss explains and a part that it does not;
# > - decide which networks may be compared when only some of them succeed.
# >
# > **Needs** 01 (change of variable), 04 (Gauss-Newton split, why confidence erases curvature)
# > · **Time** 55 minutes to read, about one minute to run on 2 cores
# > · **Source** Mason-Williams et al., arXiv:2510.12451, claim C2 and the circles experiment (protocol: the released code). The bound and its check are ours to derive here.

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

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Two circles
#
# One class lies on a circle of radius 1, the other on a circle of radius `f`, the **tightness**: the nearer `f` is to 1, the narrower is the **gap** `g = 1 − f` in which the decision boundary has to fit. There is no noise. 50 points are for training, 50 for testing, always the same.

# %%
from sklearn.datasets import make_circles


def circles(f):
    points, labels = make_circles(n_samples=100, noise=0, random_state=0, factor=f)
    x, y = torch.tensor(points, dtype=torch.float32), torch.tensor(labels)
    return fl.data.Data(x[:50], y[:50], x[50:], y[50:])


# %% [markdown]
# Class 0 is the outer circle, class 1 the inner one.

# %% slideshow={"slide_type": "fragment"}
fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.9))
for ax, f in zip(axes, (0.3, 0.8), strict=True):
    data = circles(f)
    for label, mark, colour in ((0, "o", fl.plots.BLUE), (1, "^", fl.plots.ORANGE)):
        ax.plot(*data.x[data.y == label].T, mark, color=colour, ls="none", ms=7)
        test = data.x_test[data.y_test == label]
        ax.plot(*test.T, mark, mfc="none", mec=colour, ls="none", ms=7)
    ax.set(title=f"f = {f}, gap g = {1 - f:.1f}", xlabel="input 1", aspect="equal")
axes[0].set(ylabel="input 2")
fl.plots.show(fig, "two concentric circles of points: far apart for f = 0.3, close together for f = 0.8")

# %% [markdown]
# **What you see.** Full marks are for training, open ones for testing. Left, a careless boundary will do; right, there is little room between the circles.
#
# **The best case for flatness first.** If a flat minimum stands for a simple solution and a sharp one for a memorised one, then two networks that both generalise perfectly should look alike, or differ only by chance. The paper's claim **C2** says otherwise: *a tighter boundary makes minima sharper even when the model generalises perfectly.*

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# We shall compare `f = 0.3` with `f = 0.8`: the gap shrinks from 0.7 to 0.2, by 3.5 times. Same initial weights, same number of steps, all points right in both. The sharpness is `tr H`, the trace of the Hessian of the training loss (02, 04).

# %% slideshow={"slide_type": "fragment"}
at_stop = fl.predictions.ask(
    "06.stop",
    "Both networks train for 3,000 steps. By how many powers of ten is the trace larger "
    "with the tight boundary? (0: equal; 1: ten times sharper; −1: ten times flatter)",
    slider=(-1, 2),
)

# %% [markdown]
# Now let each network stop when its train loss reaches 0.01, however many steps it takes.

# %% slideshow={"slide_type": "fragment"}
at_equal = fl.predictions.ask(
    "06.equal",
    "And at equal train loss, 0.01 for both: by how many powers of ten is the trace larger?",
    slider=(-1, 2),
)

# %% [markdown]
# And how tight may it get?

# %% slideshow={"slide_type": "fragment"}
how_many = fl.predictions.ask(
    "06.count",
    "At f = 0.9 (gap 0.1) 100 networks are trained for the same 3,000 steps. "
    "How many of them get every training point and every test point right?",
    slider=(0, 100),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One hundred networks per tightness
#
# The paper's protocol: a perceptron 2-100-100-2 with ReLU, cross-entropy, SGD with step size 0.01, momentum 0.9 and batches of 5, 3,000 steps. **100 seeds** per tightness; seed `s` starts from the same weights at every `f`. All 100 train as one batched program. (At `paper` scale: all nine tightnesses.)

# %%
SEEDS, STEPS = 100, 3000
loose, tight = 0.3, 0.8
factors = [0.3, 0.5, 0.7, 0.8] if SCALE == "laptop" else [k / 10 for k in range(1, 10)]
protocol = {"batch": 5, "lr": 0.01, "momentum": 0.9}
marks = sorted({round(s / 5) * 5 for s in np.geomspace(60, STEPS, 48)})
levels = [0.3, 0.1, 0.03, 0.01, 0.003]


def net(seed):
    return fl.models.mlp(2, 100, 100, 2, seed=seed)


# %% [markdown]
# We keep the networks at several **stops**: the start, the paper's stop (step 3,000), and for each of five train losses the moment at which a network is nearest to it. The learning rate is constant, so stopping early is a complete schedule of its own, and each of these is an [early-stopped twin](00_start_here.ipynb#early-stopped-twin). Level 0.01 is the one that we call "equal train loss": every network passes it, and near it the loss no longer jumps much from batch to batch.


# %%
def train(f):
    data = circles(f)
    start = fl.NetworkLoss(net, data.x, data.y, seeds=range(SEEDS))
    run = fl.train(start, STEPS, keep=marks, **protocol)
    twins = fl.compare.early_stopped(start, run.kept, torch.tensor(levels)[:, None])
    return {"start": start, "paper": run.loss()} | dict(zip(levels, map(start.at, twins.theta)))


nets = {f: train(f) for f in factors}  # nets[f][stop]: the loss of 100 networks

# %% [markdown] slideshow={"slide_type": "subslide"}
# **Only perfect networks count**: all 50 training points and all 50 test points right, *at the stop where they are measured*. How many are they?


# %%
def perfect(f, stop):
    loss, data = nets[f][stop], circles(f)
    right = fl.safety.accuracy(loss.outputs(), data.y) == 1
    return (right & (fl.safety.accuracy(loss.outputs(inputs=data.x_test), data.y_test) == 1)).numpy()


good = {(f, stop): perfect(f, stop) for f in factors for stop in nets[f]}
for f in factors:
    counts = [good[f, stop].sum() for stop in (0.1, 0.01, "paper")]
    print(f"f = {f}: perfect of {SEEDS} at train loss 0.1, 0.01 and the paper's stop:", *counts)

# %% [markdown]
# So the question can be asked without excuses: at the two stops that we compare, no network has been left out, up to `f = 0.8`. What happens at 0.9 waits for *Measure*.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### Curvature = confidence × steepness
#
# Two logits `z₀`, `z₁`; only their difference `d(x) = z₁ − z₀` decides, and `p = 1/(1 + e^{−d})` is the probability of the inner class. For two classes the Gauss-Newton part of 04 is a sum of squares, one for each training point:
#
# $$G = \frac1N\sum_n p_n(1-p_n)\;\frac{\partial d_n}{\partial\theta}\,\frac{\partial d_n}{\partial\theta}^{\!\top}, \qquad \mathrm{tr}\,H = \mathrm{tr}\,G = \frac1N\sum_n \underbrace{p_n(1-p_n)}_{\text{confidence}}\;\underbrace{\Bigl\|\frac{\partial d_n}{\partial\theta}\Bigr\|^2}_{\text{steepness in the weights}}$$
#
# (`tr H = tr G` exactly, because the network is ReLU: 04.) So no second derivative is needed, only a backward pass. We write it for all networks at once; `delta` is the derivative of `d` by what a layer puts out, before its ReLU, and `h` is what the layer takes in.

# %%
SIZES = [p.shape for p in net(0).parameters()]  # W₁, b₁, W₂, b₂, W₃, b₃


def backward(theta, x):  # theta (..., P), x (..., N, 2)
    pieces = theta.split([size.numel() for size in SIZES], -1)
    W1, b1, W2, b2, W3, b3 = (p.unflatten(-1, size) for p, size in zip(pieces, SIZES, strict=True))
    h1 = (x @ W1.mT + b1[..., None, :]).relu()
    h2 = (h1 @ W2.mT + b2[..., None, :]).relu()
    z = h2 @ W3.mT + b3[..., None, :]
    delta3 = torch.tensor([-1.0, 1.0]).to(z).expand_as(z)
    delta2 = (delta3 @ W3) * (h2 > 0)
    delta1 = (delta2 @ W2) * (h1 > 0)
    return z[..., 1] - z[..., 0], [(delta1, x), (delta2, h1), (delta3, h2)], W1


# %% [markdown]
# The derivative by a weight matrix is the outer product of its `delta` and its input, `∂d/∂W₁ = δ₁ xᵀ`, and by a bias it is `delta` itself: together they have the squared length `‖δ‖² (1 + ‖h‖²)`. A sum over the layers, and the trace is done:


# %%
def squared(v):
    return v.square().sum(-1)


def measure(loss):
    d, layers, _ = backward(loss.theta, loss.inputs.to(loss.theta))
    weight = d.sigmoid() * (-d).sigmoid()  # p (1 − p)
    steep = sum(squared(delta) * (1 + squared(h)) for delta, h in layers)
    return {"train loss": loss(), "trace": (weight * steep).mean(-1), "weight": weight.mean(-1)}


# %% [markdown]
# Against `flatlab`, first two networks at the paper's stop:

# %%
pair = nets[tight]["paper"].double()
pair = pair.at(pair.theta[:2])
trace, estimate = measure(pair)["trace"], fl.curvature.trace(pair, samples=90)
of_G, of_H = (fl.curvature.eigenvalues(part)[:, 0] for part in (fl.curvature.GaussNewton(pair), pair))
for k in range(2):
    print(f"λ_max of G {of_G[k]:.5f}, of H {of_H[k]:.5f};  trace {trace[k]:.4f}, ", end="")
    print(f"Hutch++ {estimate[k]:.4f} ± {estimate.stderr[k]:.1g}")
assert ((trace - estimate).abs() < 4 * estimate.stderr).all()

# %% [markdown]
# Then all of them. With momentum β and step size η, the largest curvature at which descent stays stable is `2(1 + β)/η` (05 shows what happens there). Is the optimiser near that cap? No eigenvalue of `G` is larger than its trace. And how well do the train losses agree where they should?

# %%
sharp = {(f, stop): measure(nets[f][stop]) for f, stop in good}
largest = max(found["trace"].max().item() for found in sharp.values())
cap = 2 * (1 + protocol["momentum"]) / protocol["lr"]
print(f"largest trace of {len(sharp) * SEEDS:,} networks: {largest:.0f};  2(1 + β)/η = {cap:.0f}")
matched = torch.stack([sharp[f, 0.01]["train loss"] for f in (loose, tight)])
print(f"train losses at the stop 0.01: {matched.min():.4f} to {matched.max():.4f}")

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The input-smoothness bound, in two lines
#
# `W₁` and `b₁` meet the input only as `W₁x + b₁`. With `δ = δ₁`, the chain rule gives
#
# $$\frac{\partial d}{\partial W_1}=\delta x^{\!\top},\quad \frac{\partial d}{\partial b_1}=\delta,\quad \nabla_x d = W_1^{\!\top}\delta \quad\Rightarrow\quad \Bigl\|\frac{\partial d}{\partial (W_1,b_1)}\Bigr\|^2=\|\delta\|^2\,(1+\|x\|^2),$$
#
# $$\|\nabla_x d\|\le\|W_1\|_2\,\|\delta\| \quad\Rightarrow\quad \boxed{\;\|W_1\|_2^2\;\Bigl\|\frac{\partial d}{\partial (W_1,b_1)}\Bigr\|^2\;\ge\;(1+\|x\|^2)\,\|\nabla_x d\|^2\;}$$
#
# (`‖W₁‖₂` is the largest singular value.) In words: **a function that is steep in its input is steep in its weights**, unless `‖W₁‖₂` is large. It holds for whatever lies behind the first layer, however deep, as long as the input enters through that one linear layer.


# %%
def bound(theta, x):
    _, [(delta1, _), *_], W1 = backward(theta, x)
    rows = 1 + squared(x)
    left = torch.linalg.matrix_norm(W1, 2)[..., None] ** 2 * squared(delta1) * rows
    return left / (rows * squared(delta1 @ W1))  # at least 1, says the bound


# %% [markdown]
# Checked on every network, at every stop from the untrained start on, at every training and test point:

# %%
ratios = [bound(nets[f][stop].theta, torch.cat(circles(f)[::2])) for f, stop in good]
ratios = torch.stack(ratios)
print(f"{ratios.numel():,} cases, broken in {(ratios < 1).sum()};", end=" ")
print(f"left/right: smallest {ratios.min():.2f}, median {ratios.median():.1f}")

# %% [markdown]
# The smallest ratio tells us how close the bound comes to being an equality: a factor of two or so.

# %% slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "06.1",
    "the input-smoothness bound holds for every network at every point: "
    "the left side is never below the right",
    ratios.min().item(), "holds", above=1,
    detail=f"Smallest ratio of {ratios.numel():,} cases ({len(factors)} tightnesses, {SEEDS} seeds, "
    f"{len(nets[tight])} stops, 100 points)",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### From the gap to the curvature: the whole chain
#
# The *margin* `m_n` is `d` for an inner point and `−d` for an outer one: how clearly the point is right. Five links:
#
# | | link | status |
# |---|---|---|
# | 1 | a train loss `L` forces a mean margin of at least `−log(e^L − 1)`, about `log(1/L)` | theorem (Jensen: `ℓ = log(1 + e^{−m})` is convex) |
# | 2 | on the way from an outer point to the inner one on the same ray, `d` changes by `m_in + m_out` over a distance `g`: somewhere `‖∇ₓd‖ ≥ (m_in + m_out)/g` | theorem (mean value) |
# | 3 | `d` is about as steep *at the training points* as on the way between the circles | **not a theorem**: measured |
# | 4 | steep in the input forces steep in the weights: `‖∂d/∂θ‖² ≥ (1 + ‖x‖²) ‖∇ₓd‖²/‖W₁‖₂²` | theorem (the bound; the other layers only add) |
# | 5 | `tr H` is the mean of `p(1 − p) ‖∂d/∂θ‖²` | identity |
#
# Now the links one at a time, at equal train loss. Each row below is a tightness; numbers are means over points and networks.

# %%
def links(f, stop):
    data, theta, found = circles(f), nets[f][stop].theta, sharp[f, stop]
    d, [(delta1, x), *_], W1 = backward(theta, data.x)
    slope, norm = (delta1 @ W1).norm(dim=-1), torch.linalg.matrix_norm(W1, 2)
    floor = d.sigmoid() * (-d).sigmoid() * (1 + squared(x)) * slope**2
    outer = torch.cat(data[::2])[torch.cat(data[1::2]) == 0]  # f · outer: the inner points on the same rays
    change = (backward(theta, f * outer)[0] - backward(theta, outer)[0]).mean(-1)
    return {
        "gap g": torch.full((SEEDS,), 1 - f), "train loss": found["train loss"],
        "margin by link 1": -found["train loss"].expm1().log(),
        "mean margin": (d * (2 * data.y - 1)).mean(-1),
        "slope across the gap": change / (1 - f), "slope at the points": slope.mean(-1),
        "‖W₁‖₂": norm,
        "floor of tr H": floor.mean(-1) / norm**2, "tr H": found["trace"],
    }


# %% [markdown]
# Links 1, 4 and 5 are then assertions. For link 2 we walk along the rays and look for the steepest place (first 10 networks):

# %% slideshow={"slide_type": "fragment"}
import pandas as pd

chain = {f: links(f, 0.01) for f in factors}
for f in factors:
    row, theta, data = chain[f], nets[f][0.01].theta[:10], circles(f)
    assert (row["mean margin"] > row["margin by link 1"]).all()
    assert (row["tr H"] > row["floor of tr H"]).all()
    outer = torch.cat(data[::2])[torch.cat(data[1::2]) == 0]
    way = (outer[:, None] * torch.linspace(f, 1, 21)[:, None]).flatten(0, 1)
    _, [(delta1, _), *_], W1 = backward(theta, way)
    steepest = (delta1 @ W1).norm(dim=-1).view(10, -1, 21).amax(-1)
    change = backward(theta, f * outer)[0] - backward(theta, outer)[0]
    assert (steepest > 0.99 * change / (1 - f)).all()  # 21 places a ray: we may just miss it
rows = {f"f = {f}": {k: v.mean().item() for k, v in chain[f].items()} for f in factors}
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# **Read it as a chain.** The train loss is the same in all rows, and so is the margin that it forces. The gap shrinks, so the slope across it must grow. Compare "slope across the gap" with "slope at the points": link 3, which nobody proved, holds here to within a few percent. `‖W₁‖₂` grows a little: the escape of link 4 stands open, and training hardly uses it. The floor is far below the trace, since the bound is loose and the other layers count too; but both rise together.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# Tightness and training time, side by side. The panel shows **seed 0 at nine tightnesses** (no selection: where a point is wrong, it is ringed in red). Nine networks, one batch:

# %%
nine = [k / 10 for k in range(1, 10)]
sets = [circles(f) for f in nine]
xs, ys = [s.x for s in sets], [s.y for s in sets]
times = list(range(0, STEPS + 1, 20))
seed0 = fl.train(fl.NetworkLoss(net, xs, ys, seeds=[0] * 9), STEPS, keep=times, **protocol)
path = [measure(seed0.loss(step=t)) for t in times]
path = {name: torch.stack([p[name] for p in path]).T for name in ("train loss", "trace")}  # each (9, times)

# %% [markdown]
# Which moments can be shown: the epochs of a slider (10 steps are an epoch), and for each network the moment nearest to train loss 0.01.

# %%
epochs = [0, 2, 4, 8, 12, 16, 20, 30, 40, 60, 80, 120, 160, 200, 250, 300]
equal = (path["train loss"].log() - np.log(0.01)).abs().argmin(1).tolist()
STOPS = ["epoch on the slider", "the paper's stop (epoch 300)", "equal train loss 0.01"]


def moments(epoch, stop):  # one index into times per tightness
    if stop == STOPS[2]:
        return equal
    return [times.index(10 * (epoch if stop == STOPS[0] else 300))] * 9


needed = {(i, k) for e in epochs for s in STOPS for i, k in enumerate(moments(e, s))}
axis = torch.linspace(-1.25, 1.25, 81)
grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)

# %% [markdown]
# For each of them: the decision map on a grid, its boundary as a line, the training point that is nearest to it, and the points that are wrong.

# %%
from contourpy import contour_generator
from matplotlib.patheffects import withStroke


def frame(i, k):
    theta, data = seed0.kept[times[k]][i], sets[i]
    p = backward(theta, grid)[0].sigmoid().view(81, 81)
    lines = contour_generator(axis, axis, p).lines(0.5)
    pause = np.full((1, 2), np.nan)  # lifts the pen between two lines
    border = np.concatenate([part for line in lines for part in (line, pause)] or [pause])
    corners = torch.tensor(border[~np.isnan(border[:, 0])], dtype=torch.float32)
    points, labels = torch.cat(data[::2]), torch.cat(data[1::2])
    wrong = (backward(theta, points)[0] > 0) != (labels == 1)
    nearest, margin = np.full((2, 2), np.nan), np.nan
    if len(corners):
        distance = torch.cdist(data.x, corners)
        n, m = np.unravel_index(distance.argmin().item(), distance.shape)
        nearest, margin = torch.stack([data.x[n], corners[m]]).numpy(), distance.min().item()
    return p, border, nearest, margin, points[wrong]


frames = {key: frame(*key) for key in sorted(needed)}

# %% [markdown]
# The picture has three parts. The **map**: colour is the probability of the inner class, the black line the boundary, red the **margin**, the distance from the boundary to the nearest training point (at most half the gap). Grey dots are test points.


# %%
def draw_map(ax):
    image = ax.imshow(frames[0, 0][0], origin="lower", extent=(-1.25, 1.25) * 2, vmin=0, vmax=1)
    rim = {"color": fl.plots.RED, "path_effects": [withStroke(linewidth=4.5, foreground="white")]}
    (border,) = ax.plot([], [], color="black", ls="-", lw=2)
    (outer,) = ax.plot([], [], "o", color="white", mec="black", ls="none", ms=5)
    (inner,) = ax.plot([], [], "^", color="black", mec="white", ls="none", ms=6)
    (tests,) = ax.plot([], [], ".", color=fl.plots.GREY, ls="none", ms=5)
    (wrong,) = ax.plot([], [], "o", mfc="none", ls="none", ms=13, mew=2.5, **rim)
    (margin,) = ax.plot([], [], ls="-", lw=3, **rim)
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], title="decision map")
    ax.grid(False)

    def update(i, k):
        p, line, nearest, _, missed = frames[i, k]
        image.set_data(p)
        border.set_data(*line.T)
        margin.set_data(*nearest.T)
        wrong.set_data(*missed.T)
        for marker, where in ((outer, ys[i] == 0), (inner, ys[i] == 1)):
            marker.set_data(*xs[i][where].T)
        tests.set_data(*sets[i].x_test.T)

    return update


# %% [markdown]
# The **race**: trace over train loss. Every dot is one of the nine networks; the large one is yours, with the path that it has come (training moves to the left).


# %%
def draw_race(ax):
    (trail,) = ax.plot([], [], color=fl.plots.ORANGE, ls="-", lw=1.5)
    (others,) = ax.plot([], [], "o", color=fl.plots.GREY, ls="none", ms=6)
    (mine,) = ax.plot([], [], "o", color=fl.plots.ORANGE, mec="black", ls="none", ms=12)
    label = ax.text(1, 1, "", fontsize=11, ha="right", va="bottom")
    ax.axvline(0.01, color="black", ls=":", lw=1.5)
    ax.set(xscale="log", yscale="log", xlim=(1.5e-4, 1.5), ylim=(0.01, 300))
    ax.set(xlabel="train loss", title="tr H over train loss")

    def update(i, at):
        level, trace = path["train loss"], path["trace"]
        trail.set_data(level[i, : at[i] + 1], trace[i, : at[i] + 1])
        others.set_data(level[range(9), at], trace[range(9), at])
        mine.set_data([level[i, at[i]]], [trace[i, at[i]]])
        label.set_position((level[i, at[i]] / 1.5, trace[i, at[i]] * 1.2))
        label.set_text(f"f = {nine[i]}")

    return update


# %% [markdown]
# The **dials**: train loss, trace, `λ_max` and relative flatness κ, each relative to the `f = 0.3` network at the same stop.

# %%
names = ["train loss", "trace", "lambda max", "relative flatness"]
dials = {
    k: fl.sharpness.table(seed0.loss(step=times[k]), names[::2] + names[3:], steps=10).assign(trace=path["trace"][:, k])[names]
    for k in {k for _, k in needed}
}


def draw_dials(ax):
    symbols = [fl.sharpness.SYMBOLS[name] for name in names]
    bars = ax.barh(symbols, [0.0] * 4, left=1, color=[fl.plots.GREY] + [fl.plots.BLUE] * 3)
    ax.axvline(1, color="black", lw=1)
    ax.set(xscale="log", xlim=(0.05, 200), title="relative to f = 0.3")
    ax.set(xticks=[0.1, 1, 10, 100], xticklabels=["× 0.1", "× 1", "× 10", "× 100"])
    ax.invert_yaxis()

    def update(i, at):
        for bar, value in zip(bars, dials[at[i]].loc[i] / dials[at[2]].loc[2], strict=True):
            bar.set_width(value - 1)

    return update


# %% [markdown]
# And the three together. `update` only looks numbers up.


# %%
def build(fig):
    axes = fig.subplots(1, 3, width_ratios=[1.05, 1, 0.8])
    see_map, see_race, see_dials = draw_map(axes[0]), draw_race(axes[1]), draw_dials(axes[2])

    def update(f, epoch, stop):
        i, at = nine.index(f), moments(epoch, stop)
        see_map(i, at[i])
        see_race(i, at)
        see_dials(i, at)
        _, _, _, margin, wrong = frames[i, at[i]]
        level, trace = path["train loss"][i, at[i]], path["trace"][i, at[i]]
        state = f"all 100 points right, margin {margin:.3f} of at most {(1 - f) / 2:.2f}"
        state = f"{len(wrong)} of 100 points wrong" if len(wrong) else state
        where = f"f = {f}, epoch {times[at[i]] // 10}"
        return f"{where}: {state}; train loss {level:.2g}, tr H {trace:.3g}"

    return update


# %% [markdown] slideshow={"slide_type": "slide"}
# Three things to do, in this order. **(1)** Leave the menu as it is and move the *epoch* from 0 to 300, first at `f = 0.3`, then at 0.8 and at 0.9. **(2)** Set the menu to *the paper's stop* and move `f`. **(3)** Set it to *equal train loss*, watch the nine dots, and move `f` again.

# %% slideshow={"slide_type": "fragment"}
fl.panels.Panel(
    build,
    "decision map of two circles, trace over train loss of nine networks, four dials",
    size=(10.5, 4.0), labels={"f": "tightness f", "stop": "compare at"},
    f=(nine, 0.8), epoch=(epochs, 40), stop=STOPS,
).show()

# %% [markdown]
# **What you see.** (1) The trace first *rises* while the boundary is being found, and falls again as confidence grows (04). Tight networks find the boundary later and climb higher. (2) At the paper's stop the nine dots lie on a slope: the tighter, the sharper, *and* the higher the train loss. Which of the two did it? (3) At equal train loss the dots line up one above the other. The grey dial has gone back to about 1; the blue ones have shrunk, and stay.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### Both ways, with all seeds
#
# Now 100 seeds, paired: seed by seed, each measure at `f = 0.8` divided by the same measure at `f = 0.3`. Seeds that are not perfect at *both* would be left out. Six measures beside the train loss: the trace as built above; `λ_max`; normalised κ; the *adaptive* weight noise, the rise of the loss under noise in proportion to each weight, which no layer rescaling can change (04); the random direction at the paper's ρ = 0.005, which 04 found to be a gradient norm; and Fisher-Rao. One row per network:

# %%
measures = ["train loss", "trace", "lambda max", "relative flatness", "weight noise", "random direction", "fisher rao"]


def rows_at(f, stop):
    rows = fl.sharpness.table(nets[f][stop], [name for name in measures if name != "trace"])
    return rows.assign(factor=f, stop=stop, seed=range(SEEDS), trace=sharp[f, stop]["trace"])[good[f, stop]]


rows = pd.concat([rows_at(f, stop) for f in (loose, tight) for stop in ("paper", 0.01)])

# %% [markdown]
# `ratios_at[stop][measure]`: the logarithm (base 10) of tight over loose, one per seed.

# %%
ratios_at = {
    stop: fl.compare.differences(part, measures, ratio=measures, by="factor", base=loose).dropna()
    for stop, part in rows.groupby("stop", sort=False)
}

# %% [markdown]
# In the figure a mark is the mean over the seeds (its 95 % interval is hardly wider), a small dot is a seed, and the grey line is "no difference".

# %% jupyter={"outputs_hidden": true} slideshow={"slide_type": "slide"}
fig, axes = plt.subplots(1, 2, figsize=(9.5, 4), sharey=True)
titles = {"paper": "at the paper's stop", 0.01: "at equal train loss 0.01"}
for ax, stop, guess in zip(axes, titles, (at_stop, at_equal), strict=True):
    ratios = ratios_at[stop]
    fl.plots.forest({fl.sharpness.SYMBOLS[name]: ratios[name] for name in measures}, ax, factors=False)
    for row, mean in enumerate(ratios.mean()):
        ax.text(1.75, row, f"× {10**mean:.2g}", va="center", ha="left")
    guess.draw(ax)
    if guess.answer is not None:
        ax.legend(loc="upper right")
    ax.set(title=titles[stop], xlim=(-0.7, 1.7), xlabel="f = 0.8 relative to f = 0.3")
    ax.set(xticks=[-0.5, 0, 0.5, 1, 1.5], xticklabels=["× 0.3", "× 1", "× 3", "× 10", "× 30"])
alt = "ratios tight over loose of seven quantities: large at the paper's stop, smaller at equal loss"
fl.plots.show(fig, alt)
print("trace, paper's stop:", at_stop.settle(ratios_at["paper"]["trace"].mean()))
print("trace, equal loss:  ", at_equal.settle(ratios_at[0.01]["trace"].mean()))

# %% [markdown]
# **What you see.** Left: every measure says "sharper", and the train loss (first row) is higher too. Right: the train loss has been taken out. Trace, `λ_max`, κ and the weight noise stay well to the right of the line, in every seed. Fisher-Rao has collapsed onto it, since it follows the train loss. The random direction leans to the right, but its dots lie on both sides of the line: it is a gradient norm, and the gradient where SGD happens to stop is mostly chance.
#
# About the claims: these settings had been tried before this notebook was written, so we knew the signs. The bound is therefore the plainest there is, the claim's own: *sharper* means a ratio above 1, a logarithm above 0.

# %% slideshow={"slide_type": "fragment"}
def sentence(values):
    seeds = f"{(values > 0).sum()} of {len(values)} seeds"
    return f"× {10 ** values.mean():.3g} (geometric mean), above 1 in {seeds}"


stop_ratio, equal_ratio = (ratios_at[stop]["trace"] for stop in ("paper", 0.01))
fl.claims.declare(
    "06.2",
    "at the paper's stop the tighter boundary (f = 0.8 against 0.3) has the larger trace, "
    "all networks perfect",
    stop_ratio, "holds", above=0,
    detail=f"Powers of ten, paired seeds; {sentence(stop_ratio)}; "
    f"train loss {sentence(ratios_at['paper']['train loss'])}",
    about={"C2": "supports"},
)

# %% [markdown]
# And with the train loss out of the way:

# %% slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "06.3",
    "at equal train loss (0.01) the tighter boundary still has the larger trace",
    equal_ratio, "holds", above=0,
    detail=f"Powers of ten, paired seeds; {sentence(equal_ratio)}; "
    f"train loss × {10 ** ratios_at[0.01]['train loss'].mean():.2g}",
    about={"C2": "supports"},
)

# %% [markdown]
# Do the measures agree? First those that see curvature. For each seed we take the *smallest* of the four ratios:

# %% slideshow={"slide_type": "fragment"}
least = ratios_at[0.01][["trace", "lambda max", "relative flatness", "weight noise"]].min(axis=1)
fl.claims.declare(
    "06.4",
    "trace, λ_max, normalised κ and the adaptive weight noise all call the tighter boundary sharper "
    "at equal train loss",
    least, "holds", above=0,
    detail=f"Powers of ten, the least of the four per seed; {sentence(least)}",
    about={"C2": "supports"},
)

# %% [markdown]
# Then the other two. Their means are above the line as well, but look how far, and in how many seeds:

# %% slideshow={"slide_type": "fragment"}
fisher, direction = (ratios_at[0.01][name] for name in ("fisher rao", "random direction"))
fl.claims.declare(
    "06.5",
    "at equal train loss the Fisher-Rao norm, too, is larger for the tighter boundary",
    fisher, "holds with a caveat", above=0,
    caveat=f"{sentence(fisher)}, against {sentence(ratios_at['paper']['fisher rao'])} at the paper's stop: "
    "nearly all of what it showed there was the train loss",
    detail="Powers of ten, paired seeds", about={"C2": "supports"},
)

# %% [markdown]
# The random direction:

# %% slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "06.6",
    "at equal train loss the random direction (ρ = 0.005) is larger for the tighter boundary",
    direction, "holds with a caveat", above=0,
    caveat=f"{sentence(direction)}: at this radius it is a gradient norm, "
    "and a single pair of networks may well say the opposite",
    detail="Powers of ten, paired seeds",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### How much of it was the train loss?
#
# By the identity of *Build it*, the trace is the mean weight `p(1 − p)` times the (weighted) mean steepness. So the ratio of two traces is a product of two ratios, exactly, and its logarithm a sum. For a network that is right everywhere, `p(1 − p) ≈ ℓ`: the first factor *is* the train loss.

# %% slideshow={"slide_type": "fragment"}
for stop, title in titles.items():
    loose_one, tight_one = sharp[loose, stop], sharp[tight, stop]
    whole, weight = ((tight_one[k] / loose_one[k]).log10().mean() for k in ("trace", "weight"))
    factors_of = f"confidence × {10**weight:.3g} · steepness × {10 ** (whole - weight):.3g}"
    print(f"{title}: trace × {10**whole:.3g} = {factors_of}")

# %% [markdown]
# At the paper's stop about half of the effect (in powers of ten) is confidence: the tight networks have simply not come as far in the same 3,000 steps. The other half is steepness, and equal train loss leaves it nearly untouched. Is 0.01 a lucky choice of level? The same ratio at all five, and for a second kind of twin, the [temperature twin](00_start_here.ipynb#temperature-twin): take the finished loose network and divide its logits by the `T` that gives it the train loss of the tight network of the same seed. No decision changes.

# %%
finished, target = nets[loose]["paper"].double(), sharp[tight, "paper"]
twin = fl.compare.temperature(finished, target["train loss"])
assert twin.found.all()
warm = measure(finished.at(twin.theta))
twin_ratio = (target["trace"] / warm["trace"]).log10().numpy()
print(f"T = {twin.at.min():.2f} … {twin.at.max():.2f}; trace {sentence(twin_ratio)}")

# %% [markdown]
# Bands hold 90 % of the seeds.

# %% slideshow={"slide_type": "fragment"}
fig, ax = plt.subplots(figsize=(7.5, 3.8))
by_level = []
for level in levels:
    quotient = (sharp[tight, level]["trace"] / sharp[loose, level]["trace"]).numpy()
    by_level.append(np.where(good[loose, level] & good[tight, level], quotient, np.nan))
look = {"color": fl.plots.BLUE, "ls": "-", "marker": "o", "label": "both stopped at this train loss"}
fl.plots.band(levels, by_level, ax, share=0.9, **look)
points = {"temperature twin": (twin_ratio, fl.plots.PURPLE, "D")}
points["both at step 3,000"] = stop_ratio, fl.plots.ORANGE, "s"
end = target["train loss"].mean()
for name, (values, colour, mark) in points.items():
    band = 10 ** np.quantile(values, [0.05, 0.95])
    ax.plot([end, end], band, color=colour, ls="-", lw=8, alpha=0.4)
    ax.plot(end, 10 ** values.mean(), mark, color=colour, ms=9, label=name)
ax.axhline(1, color="black", lw=1)
ax.set(xscale="log", yscale="log", xlabel="train loss of the tight network", ylabel="trace, tight / loose")
ax.set(yticks=[1, 2, 5, 10, 20], yticklabels=[1, 2, 5, 10, 20], ylim=(0.9, 25))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
fl.plots.show(fig, "ratio of traces over train loss: three to five at equal loss, far higher at equal steps")

# %% [markdown]
# **What you see.** The level matters little: wherever the train losses agree, the tight network is sharper, by a factor that drifts from about 3 to about 5 as the loss falls, and the temperature twin carries that line on. Only the comparison at equal *steps*, where the losses differ, stands out. (At a loss of 0.1 and above some tight networks are not perfect yet; they are left out of the band.)

# %% slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "06.7",
    "against a temperature twin (the loose network's logits divided by T, "
    "its train loss equal to the tight one's) "
    "the tighter boundary has the larger trace",
    twin_ratio, "holds", above=0,
    detail=f"Powers of ten, paired seeds; {sentence(twin_ratio)}",
)

# %% [markdown]
# And yet the comparison at equal steps overstates the effect:

# %% slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "06.8",
    "comparing at equal steps overstates the effect: "
    "the ratio of traces is larger there than at equal train loss",
    stop_ratio - equal_ratio, "holds", above=0,
    detail=f"Powers of ten, paired seeds; at equal steps × {10 ** stop_ratio.mean():.3g}, "
    f"at equal train loss × {10 ** equal_ratio.mean():.3g}",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Does curvature follow the gap as the chain says?
#
# Links 1 and 2 say: at equal train loss the slope must grow at least like `1/g`, its square like `1/g²`. The later links may lose some of that growth. All four tightnesses, relative to the loosest:

# %% slideshow={"slide_type": "fragment"}
def first_layer(f, stop):
    _, [(delta1, x), *_], _ = backward(nets[f][stop].theta, circles(f).x)
    return (squared(delta1) * (1 + squared(x))).mean(-1)


inverse_gap = np.array([1 / (1 - f) for f in factors])
steps_of = {
    "slope at the points, squared": [chain[f]["slope at the points"].square() for f in factors],
    "‖∂d/∂(W₁, b₁)‖²": [first_layer(f, 0.01) for f in factors],
    "tr H": [chain[f]["tr H"] for f in factors],
}
fig, ax = plt.subplots(figsize=(7.5, 3.8))
forced = (inverse_gap / inverse_gap[0]) ** 2
ax.loglog(inverse_gap, forced, color="black", ls=":", label="1/g²: what links 1 and 2 force")
for (name, values), mark in zip(steps_of.items(), "o^s", strict=True):
    curve = np.array([(v / values[0]).log().mean().exp().item() for v in values])
    power = np.polyfit(np.log(inverse_gap), np.log(curve), 1)[0]
    ax.loglog(inverse_gap, curve, marker=mark, label=f"{name}  (power {power:.2f})")
ax.set(xlabel="1/g", ylabel=f"relative to f = {factors[0]}")
ax.set_xticks(inverse_gap, [f"{v:.1f}" for v in inverse_gap])
ax.set_yticks([1, 2, 5, 10], [1, 2, 5, 10])
ax.minorticks_off()
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
fl.plots.show(fig, "at equal loss squared slope follows one over gap squared, the trace rises more slowly")

# %% [markdown]
# **What you see.** The squared slope lies on the dotted line: link 3, the one without a proof, costs nothing here. The first layer loses a little, because `‖W₁‖₂` has grown. The whole trace rises more slowly; the first layer is a part of it, so the parts of the other layers must grow less: the bound forces nothing there. In each seed, is the order of the traces the order of the tightness?

# %%
for stop, title in titles.items():
    traces = np.array([sharp[f, stop]["trace"].numpy() for f in factors])
    rising = (np.diff(traces, axis=0) > 0).all(0)
    print(f"{title}: trace rises with every step of f in {rising.sum()} of {SEEDS} seeds")

# %% [markdown] slideshow={"slide_type": "slide"}
# ### All nine tightnesses, recorded
#
# The full protocol takes minutes, so it was **recorded**: 100 seeds at every `f`, at the paper's stop and at the first kept step below a train loss of 0.03. (There λ_max and trace are those of `H`, by Lanczos and Hutch++.)

# %%
record = fl.data.recorded("circles")
about = record.attrs["about"]
right = (record["train accuracy"] == 1) & (record["test accuracy"] == 1)
record["perfect"] = right & record["reached"] & ~record["diverged"]
there = sorted(record["factor"].unique())
print(f"recorded with `{about['command']}` on {about['date']}, {about['protocol']}")
print("tightnesses:", *there, f"({len(there)} of 9)")
in_record = ["trace", "lambda max", "relative flatness", "random direction", "fisher rao"]


def against(base, rows):
    return fl.compare.differences(rows, in_record, ratio=in_record, by="factor", base=base)


# %% [markdown]
# Perfect networks only, paired with the same seed at `f = 0.3`. The counts stand below.

# %% jupyter={"outputs_hidden": true} slideshow={"slide_type": "slide"}
fig, axes = plt.subplots(2, 2, figsize=(9.5, 5.6), height_ratios=[2.2, 1], sharex=True)
panels = {"paper": "recorded: the paper's stop", "train loss 0.03": "recorded: train loss 0.03"}
for (top, bottom), (stop, title) in zip(axes.T, panels.items(), strict=True):
    rows = record[record["stop"] == stop]
    means = 10 ** against(loose, rows[rows["perfect"]]).groupby("factor").mean()
    means.loc[loose] = 1.0
    for name, mark in zip(in_record, "os^vD", strict=True):
        top.semilogy(means[name].sort_index(), marker=mark, ms=5, label=fl.sharpness.SYMBOLS[name])
    top.axhline(1, color="black", lw=1)
    top.set(title=title, ylim=(0.3, 150))
    counts = rows.groupby("factor")["perfect"].sum()
    bars = bottom.bar(counts.index, counts, width=0.07, color=fl.plots.GREY)
    bottom.bar_label(bars, padding=2, fontsize=10)
    bottom.set(xlabel="tightness f", ylim=(0, 130), xticks=nine)
how_many.draw(axes[1, 0], axis="y")  # dotted: your guess
axes[0, 0].set(ylabel="relative to f = 0.3")
axes[1, 0].set(ylabel="perfect of 100")
axes[0, 0].legend(loc="upper left", fontsize=10)
fl.plots.show(fig, "five measures rise with tightness; below, perfect networks fall to a few at 0.9")
tightest = record[(record["stop"] == "paper") & (record["factor"] == 0.9)]
if len(tightest):
    print(how_many.settle(float(tightest["perfect"].sum())))

# %% [markdown]
# **What you see.** Trace, `λ_max` and κ rise all the way from 0.2 on, at both stops. The two others rise at the paper's stop and, up to 0.8, are much flatter at equal train loss. And the counts: up to `f = 0.8` every network is perfect; at 0.9 most are not, and (see the cell below) not because of the *training* points. So `f = 0.9` cannot be taken like the others. The few that count have been *chosen by their outcome*. Does the choice change the answer?

# %% slideshow={"slide_type": "fragment"}
if {0.8, 0.9} <= set(there):
    last_two = record[(record["stop"] == "paper") & record["factor"].isin([0.8, 0.9])]
    for name, rows in (("perfect at both", last_two[last_two["perfect"]]), ("all, perfect or not", last_two)):
        values = against(0.8, rows)["trace"].dropna()
        result = f"× {10 ** values.mean():.3f} ({len(values)} seeds)"
        print(f"trace, f = 0.9 over 0.8, paired, {name}: {result}")
    loss, chosen = tightest["train loss"], tightest["perfect"]
    print(f"at 0.9 all training points are right in {(tightest['train accuracy'] == 1).sum()} of {len(loss)}")
    print(f"median train loss: perfect {loss[chosen].median():.5f}, others {loss[~chosen].median():.5f}")

# %% [markdown]
# In this case the two answers differ little, and we know it only because we looked at those who were left out. That it might have been otherwise shows in the last line: the perfect ones had got a little further in training. Exercise 1 asks which comparisons at `f = 0.9` are fair.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Same decision map, any order
#
# C2 speaks of *the* sharpness of a decision boundary. But the same boundary can be had with other weights.
#
# 1. **Confidence.** Multiply the logits of the finished networks by `c`. No decision changes, for any input.
# 2. **Rescaling.** Multiply `W₁`, `b₁` by `a`, and divide `W₂` by `a`. Not even a probability changes. This is the escape of the bound: the first layer's part of the trace falls as `1/a²`. But `W₂` now sees inputs that are `a` times larger, and its part rises as `a²`.

# %%
def rescale(loss, a):
    changed = loss.theta.clone()
    changed[:, :300] *= a  # W1 and b1
    changed[:, 300:10_300] /= a  # W2
    return loss.at(changed)


cs = turns = np.geomspace(0.25, 4, 17)
by_c, by_a = {}, {}
for f in (loose, tight):
    by_c[f] = [measure(fl.compare.tempered(nets[f]["paper"], 1 / c))["trace"] for c in cs]
    by_a[f] = [measure(rescale(nets[f][0.01], a))["trace"] for a in turns]

# %% [markdown]
# Bands hold 90 % of the seeds. Left, the networks at the paper's stop; right, at equal train loss.

# %% slideshow={"slide_type": "slide"}
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True)
sweeps = (by_c, cs, "logits × c (paper's stop)"), (by_a, turns, "first layer × a (train loss 0.01)")
for ax, (found, strength, title) in zip(axes, sweeps, strict=True):
    for f, colour, style in ((loose, fl.plots.BLUE, "-"), (tight, fl.plots.ORANGE, "--")):
        fl.plots.band(strength, torch.stack(found[f]), ax, share=0.9, color=colour, ls=style, label=f"f = {f}")
    ax.axvline(1, color="black", lw=1)
    ax.set(title=title, xscale="log", yscale="log", ylim=(1e-3, 200))
    ax.set_xticks([0.25, 0.5, 1, 2, 4], ["× ¼", "× ½", "× 1", "× 2", "× 4"])
    ax.minorticks_off()
axes[0].set(ylabel="tr H", xlabel="scale of the logits")
axes[1].set(xlabel="scale of the first layer")
axes[0].legend(loc="lower left")
fl.plots.show(fig, "trace over logit scale falls steeply for both; over first-layer scale it is a valley")

# %% [markdown]
# **What you see.** Left: go down a little in `c` with the loose network and up a little with the tight one, and their order is reversed, at the same decision maps. Right: rescaling can make either network as sharp as you like, but not as flat: each curve is a valley, and the trained network sits near its bottom.
#
# The first as a claim: a loose network with its logits halved is sharper than the tight one as trained.

# %% slideshow={"slide_type": "fragment"}
halved = measure(fl.compare.tempered(nets[loose]["paper"], 2))
reversed_ratio = (target["trace"] / halved["trace"]).log10().numpy()
fl.claims.declare(
    "06.9",
    "the order of C2 can be reversed without changing a decision: "
    "loose networks with their logits × ½ have a larger trace than tight ones as trained",
    reversed_ratio, "holds", below=0,
    detail=f"Powers of ten, tight over loose, paired seeds; × {10 ** reversed_ratio.mean():.3g}; "
    f"train loss of the loose networks {halved['train loss'].mean():.3g}, "
    f"of the tight ones {target['train loss'].mean():.2g}",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# The second deserves a hard test, because it is C2's best argument. Give the tight network *every* advantage: search over the scales of both hidden layers (`a` for the first, `b` for the second; `∂d/∂b₂ = δ₂` feels `b` too) for the flattest weights that compute the same function. The parts of the trace scale as `a^{−2}`, `a²b^{−2}`, `b^{−2}` and `b²`. Is even that sharper than the loose network *as trained*, at equal train loss?


# %%
def flattest(loss):
    d, [(delta1, x), (delta2, h1), (_, h2)], _ = backward(loss.theta, loss.inputs)
    D1, D2, H1, H2 = (squared(v) for v in (delta1, delta2, h1, h2))
    parts = D1 * (1 + squared(x)), D2 * H1, D2, 2 * H2  # (W1, b1), W2, b2, W3
    weight = d.sigmoid() * (-d).sigmoid()
    first, second, bias, head = ((weight * part).mean(-1)[:, None, None] for part in parts)
    scales = torch.tensor(np.geomspace(0.2, 5, 61))
    a, b = scales[:, None], scales
    trace = first / a**2 + second * a**2 / b**2 + bias / b**2 + head * b**2
    return trace.flatten(1).amin(1) + 2 * weight.mean(-1)  # the last bias never scales


best_tight, best_loose = flattest(nets[tight][0.01]), flattest(nets[loose][0.01])
as_trained = chain[loose]["tr H"]
tight_trained = chain[tight]["tr H"]
print(f"tight: as trained {tight_trained.median():.2f}, flattest {best_tight.median():.2f}")
print(f"loose: as trained {as_trained.median():.2f}, flattest {best_loose.median():.2f}")

# %% [markdown]
# Medians, so far. As a claim, seed by seed:

# %% slideshow={"slide_type": "fragment"}
hard_ratio = (best_tight / as_trained).log10().numpy()
fl.claims.declare(
    "06.10",
    "at equal train loss even the flattest layer rescaling of the tight network "
    "has a larger trace than the loose one as trained",
    hard_ratio, "holds", above=0,
    detail=f"Powers of ten, paired seeds; {sentence(hard_ratio)}; "
    f"flattest against flattest × {(best_tight / best_loose).log().mean().exp():.2g}",
    about={"C2": "supports"},
)

# %% [markdown]
# So "a tight boundary has a sharper minimum" is not true of boundaries as such: with a change of confidence, or with a clumsy scale for the loose network, either order can be had. What holds is this: at fixed confidence the *function* sets a floor under the curvature, and moving scales between the layers did not bring the tight one down to where the loose one stands.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1 · May f = 0.9 count? (★★, 8 minutes)
#
# At `f = 0.8` all 100 networks are perfect, at `f = 0.9` only some are. You want to know whether the step from 0.8 to 0.9 makes minima sharper, and to say honestly for whom. Which of these comparisons are fair?
#
# | | |
# |---|---|
# | A | the mean trace of the perfect ones at 0.9 against the mean trace of all 100 at 0.8 |
# | B | the seeds that are perfect at both, paired, with the count beside the number and "of these seeds" in the sentence |
# | C | all 100 seeds, paired, perfect or not, with the question changed to "whether or not it generalises" |
# | D | train the failures at 0.9 on until their *test* points are right, then compare all 100 with 0.8 at step 3,000 |
# | E | B, but without the count: "perfect networks are sharper at 0.9" |
#
# Answer with a set of letters.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
fair = fl.exercises.Exercise(
    "06.fair",
    answer={"B", "C"},
    mistakes={
        "A compares different seeds: whoever succeeds at 0.9 may be special already at 0.8, and nobody has looked": {"A", "B", "C"},
        "D chooses each stopping time by the test set, and then compares networks at different train losses": {"B", "C", "D"},
        "a number without its count hides that the others were dropped: E is not fair": {"B", "C", "E"},
        "B is fair, and there is one more: what if the question does not ask for perfection?": {"B"},
        "C is fair, but C2 is about perfect generalisation: there is a comparison that keeps to it and says so": {"C"},
        "A is the natural first try, but it sets a chosen few against everybody": {"A"},
        "B is right, but A is not: it sets a few chosen seeds against everybody, unpaired": {"A", "B"},
        "all five? Look at D again: which data decide when it stops?": {"A", "B", "C", "D", "E"},
    },
    praise="selection does not forbid a comparison; it changes whom the answer is about.",
)

# %% [markdown]
# Your answer:

# %% slideshow={"slide_type": "skip"}
ticks = ...
fair.check(ticks)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# ticks = {"B", "C"}
# fair.check(ticks)
# ```
#
# B answers a narrow question (these seeds) cleanly, because every seed is its own control. C answers another question cleanly, because nobody is left out. A mixes the effect of `f` with the difference between the chosen and the rest. D lets the test set choose the stopping time, and longer training also lowers the train loss, the confound of this whole notebook. E is B with the label torn off.
#
# </details>

# %% [markdown]
# ### Exercise 2 · Read the bound backwards (★★, 8 minutes)
#
# You know the spectral norm `w` of the first layer, the slope `s = ‖∇ₓd‖` at one point, and `r = ‖x‖`, the length of that input. Write `floor(w, s, r)`: the smallest value that `‖∂d/∂(W₁, b₁)‖²` can have.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
read_bound = fl.exercises.Exercise(
    "06.floor",
    answer=lambda w, s, r: (1 + r**2) * s**2 / w**2,
    inputs=[(5.0, 40.0, 1.0), (2.0, 3.0, 0.5), (0.5, 1.0, 0.0)],
    mistakes={
        "the bias is missing: ∂d/∂b₁ = δ adds the 1 in 1 + ‖x‖²": lambda w, s, r: r**2 * s**2 / w**2,
        "‖x‖ enters squared: ‖δ xᵀ‖² = ‖δ‖² ‖x‖²": lambda w, s, r: (1 + r) * s**2 / w**2,
        "wrong way round: a large ‖W₁‖₂ lets the weights' steepness be small, so it divides": lambda w, s, r: (1 + r**2) * s**2 * w**2,
        "‖W₁‖₂ enters squared, as the slope does": lambda w, s, r: (1 + r**2) * s**2 / w,
        "that is the root: the question asks for the squared length": lambda w, s, r: (1 + r**2) ** 0.5 * s / w,
        "no ‖W₁‖₂ in it: then layer rescaling would break your floor": lambda w, s, r: (1 + r**2) * s**2,
    },
    praise="double w and the floor falls to a quarter: that is the whole escape.",
)

# %% [markdown]
# Your answer:


# %% slideshow={"slide_type": "skip"}
def floor(w, s, r):
    return ...


read_bound.check(floor)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def floor(w, s, r):
#     return (1 + r**2) * s**2 / w**2
#
#
# read_bound.check(floor)
# ```
#
# `s ≤ w‖δ‖`, so `‖δ‖² ≥ s²/w²`; and the squared length of the derivative by `W₁` and `b₁` together is `‖δ‖²(‖x‖² + 1)`. Equality needs a `δ` along the top left singular vector of `W₁`.
#
# </details>

# %% [markdown]
# ### Exercise 3 · How steep must it be? (★★★, 10 minutes)
#
# A perfect network has train loss `L`, and every training point has the same margin. Write `steepness(L, f)`: the slope `‖∇ₓd‖` that `d` must reach somewhere between the two circles. (`math.log`, `math.exp`. Do not use that `L` is small.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
import math


def margin_for(L):
    return -math.log(math.expm1(L))


forced = fl.exercises.Exercise(
    "06.steepness",
    answer=lambda L, f: 2 * margin_for(L) / (1 - f),
    inputs=[(0.01, 0.8), (0.3, 0.3), (0.5, 0.5)],
    mistakes={
        "one side only: d must go from −m on the outer circle to +m on the inner one": lambda L, f: margin_for(L) / (1 - f),
        "right for small L only: solve L = log(1 + e^{−m}) for m exactly": lambda L, f: -2 * math.log(L) / (1 - f),
        "you divided by the tightness; the distance is the gap between the circles": lambda L, f: 2 * margin_for(L) / f,
        "the way from circle to circle is one gap, not the diameter between opposite sides": lambda L, f: 2 * margin_for(L) / (1 + f),
        "that is how far d must change; a slope is a change per distance": lambda L, f: 2 * margin_for(L),
        "the change is 2m over the whole gap: you counted the two sides twice": lambda L, f: 4 * margin_for(L) / (1 - f),
    },
    praise="compare steepness(0.01, f) with the column 'slope across the gap' of the chain's table.",
)

# %% [markdown]
# Your answer:


# %% slideshow={"slide_type": "skip"}
def steepness(L, f):
    return ...


forced.check(steepness)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def steepness(L, f):
#     margin = -math.log(math.exp(L) - 1)
#     return 2 * margin / (1 - f)
#
#
# forced.check(steepness)
# ```
#
# `L = log(1 + e^{−m})` gives `m = −log(e^L − 1)`. From the outer to the inner circle `d` changes from `−m` to `+m` over a distance of `1 − f`, so by the mean value theorem its slope along the way is `2m/(1 − f)` somewhere. If the margins differ, Jensen's inequality says that their mean is at least this `m`.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# A narrow gap forces a steep function; a steep function forces large derivatives by the weights; and curvature is those, squared, times what confidence has left of the weight `p(1 − p)`.
#
# **You may now say** "at the same train loss, with every training and test point right, the tighter boundary sits at the sharper minimum, by every curvature measure tried, in every seed".
#
# **You may no longer say** "it is sharp, so it has memorised". Nor "the tight boundary is sharper *by this factor*" without the train loss beside it: at equal steps about half of the factor (in powers of ten) was the train loss.

# %% [markdown]
# ### What this does not show
#
# - **Perfect generalisation is cheap here.** Test points lie on the same two circles, between the training points. Nothing is said about inputs off the circles.
# - **One data set.** The seeds vary initial weights and the order of batches, not the 50 points. The intervals are about training, not about data.
# - **Link 3 is an observation.** A network could be flat at the training points and steep in between; then the training loss would not see the steepness. Ours do not do that, others may.
# - **The floor is about `d`, the first layer and its norm.** We searched over layer scales, not over a scale for each neuron, nor over all weights that compute the same function.
# - **Not the edge of stability.** With momentum β the largest stable curvature is `2(1 + β)/η`, here 380 (05 shows such a cap at work); all `λ_max` that we measured are far below, so the optimiser has not set them.
# - That tightness makes minima sharper does not mean that sharpness is never a sign of memorisation: 07 sets the two roads side by side.
#
# ### References
#
# - Mason-Williams, Mason-Williams and Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451: claim C2 and the circles.
# - Dinh et al. 2017: rescalings that change the sharpness and not the function. Petzka et al. 2021, arXiv:2001.00939: relative flatness. Andriushchenko et al. 2023, arXiv:2302.07011: adaptive measures. Liang et al. 2019: the Fisher-Rao norm.

# %% [markdown]
# Your predictions beside what came out:

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()
