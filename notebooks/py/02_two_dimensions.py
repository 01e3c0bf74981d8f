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
# # 02 · Two dimensions
#
# **What is a Hessian, and can it say which of two functions is the sharper one?**

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/02_two_dimensions.ipynb` (other ways: `README.md`).
#
# ← [01 · One dimension](01_one_dimension.ipynb) · [03 · Regularising a function](03_regularising_a_function.ipynb) →

# %% [markdown]
# > **You will be able to**
# > - write down a gradient and a Hessian by hand, and check both with a few lines of differences,
# > - read the eigenvalues of a Hessian as the axes of a bowl, and their ratio as its condition number,
# > - predict the learning rate at which gradient descent leaves a minimum, and say what happens just above it,
# > - explain why "function A is sharper than function B" means nothing until a scale is named.
# >
# > **Needs** notebook [01](01_one_dimension.ipynb) (curvature in one dimension), eigenvalues of a 2×2 matrix; notebook [00](00_start_here.ipynb) has a glossary · **Time** 37 minutes to read, less than 10 seconds to run on 2 cores ·
# > **Source** Mason-Williams, Mason-Williams and Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451: the seven functions of its single-objective experiment, from the authors' code

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
# ## Seven landscapes
#
# A network's loss has thousands of parameters. A loss with two, `θ = (x, y)`, can be drawn as a map, and that is where this notebook stays. These are the seven functions on which the paper tests its idea, each on the same square $[-3.5, 3.5]^2$. They have one thing in common: the value at the best point is exactly 0.

# %% slideshow={"slide_type": "skip"}
from IPython.display import Markdown

from flatlab.functions import SEVEN, booth, himmelblau, rastrigin, rosenbrock

torch.set_default_dtype(torch.float64)  # 16 digits: what we check here are identities
Markdown("\n".join(f"- **{f.name}** ${f.formula}$" for f in SEVEN))

# %% [markdown]
# One call draws a map. Rastrigin has 49 minima on the square, all of them round, so we leave out the axes there.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fig, axes = plt.subplots(2, 4, figsize=(9.2, 5), sharex=True, sharey=True)
for f, ax in zip(SEVEN, axes.flat, strict=False):
    fl.plots.surface(f, ax, eigen_axes=f is not rastrigin)
    ax.set(aspect="equal", xlabel="", ylabel="")
key = "dark: low\nbright: high\n(bands even in\nlog(1 + f))\n\n+ : a minimum\nlines: axes of\nits bowl"
axes[1, 3].axis("off")
axes[1, 3].text(0.05, 0.5, key, va="center", transform=axes[1, 3].transAxes)
fig.supxlabel("x"), fig.supylabel("y")
fl.plots.show(
    fig, alt="Seven contour maps on one square: round sphere, oblique booth, camel with three minima, Himmelblau with two "
    "in view, curved Rosenbrock valley, Beale with high corners, egg-box Rastrigin",
)

# %% [markdown]
# **What you see.** Bowls of every shape: round (sphere), oblique (booth), bent into a valley so thin that its cross is almost a line (rosenbrock), repeated like an egg box (rastrigin). The lines through a minimum show the *shape* of its bowl only, long where the bowl is wide; they are drawn to the same largest length everywhere, so they do not say which of two bowls is wider. To say that we need numbers.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# Commit before you compute. In one dimension the curvature was one number, `h`. In two it depends on the direction in which you walk: booth's bowl curves with 18 across its valley and with 2 along it. Gradient descent walks $\theta \leftarrow \theta - \eta \nabla f(\theta)$, with the learning rate $\eta$.

# %% slideshow={"slide_type": "fragment"}
edge = fl.predictions.ask(
    "02.edge",
    "Gradient descent starts close to booth's minimum (curvatures 18 and 2). "
    "Up to which learning rate η does it still come back?",
    slider=(0, 0.3),
)

# %% [markdown]
# And a guess about all seven at once.

# %% slideshow={"slide_type": "fragment"}
largest = fl.predictions.ask(
    "02.largest",
    "Seven minima, all of value 0. The sphere curves with 2 at its minimum. "
    "What is the largest curvature among the seven?",
    slider=(2, 2000),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### A gradient and a Hessian by hand
#
# The **gradient** collects the slopes along the two axes, $\nabla f = (f_x,\; f_y)$. The **Hessian** collects how these slopes change, one row per slope:
#
# $$H = \begin{pmatrix} f_{xx} & f_{xy} \\ f_{xy} & f_{yy} \end{pmatrix}$$
#
# Take Himmelblau's function, $f = a^2 + b^2$ with $a = x^2 + y - 11$ and $b = x + y^2 - 7$. The chain rule gives $f_x = 2a\,a_x + 2b\,b_x = 4xa + 2b$ and $f_y = 2a + 4yb$. Differentiate once more:

# %% slideshow={"slide_type": "fragment"}
def gradient(theta):
    x, y = theta
    a, b = x**2 + y - 11, x + y**2 - 7
    return torch.stack([4 * x * a + 2 * b, 2 * a + 4 * y * b])


def hessian(theta):
    x, y = theta.tolist()
    xx, xy, yy = 12 * x**2 + 4 * y - 42, 4 * x + 4 * y, 12 * y**2 + 4 * x - 26
    return torch.tensor([[xx, xy], [xy, yy]])


hessian(torch.tensor([3.0, 2.0]))

# %% [markdown] slideshow={"slide_type": "fragment"}
# Errors in hand-made derivatives are easy to make and easy to find: a Hessian must predict *differences of gradients*. Step by $\pm s$ along each axis $e_i$, and column $i$ of $H$ is
#
# $$H e_i \approx \frac{\nabla f(\theta + s\,e_i) - \nabla f(\theta - s\,e_i)}{2s}.$$

# %% slideshow={"slide_type": "fragment"}
def hessian_by_differences(gradient, theta, s=1e-5):
    axes = torch.eye(len(theta))
    columns = [(gradient(theta + s * e) - gradient(theta - s * e)) / (2 * s) for e in axes]
    return torch.stack(columns, dim=1)

# %% [markdown]
# Three ways to one matrix: by hand, by differences, and `flatlab`'s. They must agree, at minima and elsewhere.

# %% tags=["nbval-check-output"]
for theta in [himmelblau.minima[0], himmelblau.minima[1], torch.tensor([0.5, -1.0])]:
    assert torch.allclose(hessian(theta), himmelblau.hessian(theta), rtol=1e-12)
    assert torch.allclose(hessian(theta), hessian_by_differences(gradient, theta), rtol=1e-6, atol=1e-6)
    print([round(t, 3) for t in theta.tolist()], "->", hessian(theta).round(decimals=2).tolist())

# %% [markdown]
# Booth is the easy case: a sum of squares of straight lines, so its second derivatives do not depend on the point. You can do it in your head.

# %% tags=["nbval-check-output"]
by_differences = hessian_by_differences(booth.gradient, torch.tensor([1.0, 3.0]))
assert torch.allclose(by_differences, torch.tensor([[10.0, 8.0], [8.0, 10.0]]), atol=1e-6)
assert torch.equal(booth.hessian([1.0, 3.0]), booth.hessian([-2.0, 0.5]))
print("eigenvalues", [round(v, 6) for v in fl.curvature.eigenvalues(booth, [1.0, 3.0], k=2).tolist()])

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Eigenvalues are the axes of a bowl
#
# Along a direction $v$ of length 1 the function curves with $v^\top H v$. This number is largest along one eigenvector of $H$ and smallest along the other; the two extremes are the eigenvalues $\lambda_{\max}$ and $\lambda_{\min}$. The two directions are always at right angles.
#
# Near a minimum $\theta^*$ of value 0 the function is the **Taylor bowl** $f(\theta) \approx \tfrac12 (\theta - \theta^*)^\top H\, (\theta - \theta^*)$. Fill it to the height $c$: the shore is an ellipse, and along the eigenvector of $\lambda$ it is reached where $\tfrac12 \lambda r^2 = c$. So the **half-axes are** $r = \sqrt{2c/\lambda}$: *a bowl is narrow like $1/\sqrt{\lambda}$.*

# %% slideshow={"slide_type": "fragment"}
def shore(f, minimum, c):
    values, vectors = torch.linalg.eigh(f.hessian(minimum))
    phi = torch.linspace(0, 2 * torch.pi, 200)
    circle = torch.stack([phi.cos(), phi.sin()], dim=-1)
    return minimum + (circle * (2 * c / values).sqrt()) @ vectors.T

# %% [markdown]
# Does the ellipse hold what it promises? We fill two bowls to the heights 1, 5 and 12, and compare with the true contours.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "subslide"}
fig, axes = plt.subplots(1, 2, figsize=(7.6, 4))
for ax, f, reach in zip(axes, (booth, himmelblau), (3.9, 1.9), strict=True):
    minimum = f.minima[0]
    x, y = (torch.linspace(-reach, reach, 161) + m for m in minimum)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    ax.contour(x, y, f(grid), [1, 5, 12], colors=fl.plots.BLUE, linewidths=2.5)
    for c in (1, 5, 12):
        ax.plot(*shore(f, minimum, c).T, color=fl.plots.ORANGE, linestyle="--")
    ax.set(aspect="equal", title=f.name, xlabel="x", ylabel="y")
axes[0].plot([], [], color=fl.plots.BLUE, linestyle="-", label="f = 1, 5, 12")
axes[0].plot([], [], color=fl.plots.ORANGE, linestyle="--", label="Taylor bowl")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
fl.plots.show(
    fig, alt="Contours and ellipses of the Taylor bowl at three heights: on booth they coincide, on Himmelblau only the "
    "inner ones agree and the outer contour bulges towards a neighbouring minimum",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** Booth *is* its Taylor bowl: the curves coincide. On himmelblau the two agree near the minimum and part further out, where the true contour bulges towards the next minimum. A Hessian is a statement about a neighbourhood; how large that neighbourhood is, it does not say.
#
# The ratio $\kappa = \lambda_{\max}/\lambda_{\min}$ is the **condition number**. It says how far from round the bowl is: $\sqrt\kappa$ times longer than wide.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Why $2/\lambda_{\max}$: two lines
#
# In the Taylor bowl the gradient is $H(\theta - \theta^*)$, so one step turns the error $e = \theta - \theta^*$ into
#
# $$e \;\leftarrow\; e - \eta H e = (I - \eta H)\,e .$$
#
# Along an eigenvector that is multiplication by a number, $1 - \eta\lambda$. It shrinks the error if $|1 - \eta\lambda| < 1$, that is if $0 < \eta < 2/\lambda$. Every direction must shrink, so **the sharpest one decides: $\eta < 2/\lambda_{\max}$.** ($I$ is the identity matrix.)

# %% slideshow={"slide_type": "fragment"} tags=["nbval-check-output"]
eta, minimum = 0.1, booth.minima[0]
values, vectors = torch.linalg.eigh(booth.hessian(minimum))
errors = vectors.T  # an error of length 1 along each eigenvector
after = errors - eta * booth.gradient(minimum + errors)  # one step of gradient descent
factors = (after * errors).sum(-1)
assert torch.allclose(factors, 1 - eta * values)
print("λ", values.round(decimals=6).tolist(), "  factor 1 − ηλ", factors.round(decimals=6).tolist())

# %% [markdown]
# A negative factor means that the step jumps *over* the valley to the other side. At $\eta = 1/\lambda_{\max}$ the sharp direction is solved in one step, while the flat one keeps a share $1 - 1/\kappa$ of its error: about $\kappa$ steps for a factor of $e$. So $\lambda_{\max}$ sets the speed limit, and $\kappa$ the length of the road.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# We measure $\eta$ in units of its limit $2/\lambda_{\max}$, so that 1 is the edge for every function. First a guess about what lies just beyond it:

# %% slideshow={"slide_type": "fragment"}
bounce = fl.predictions.ask(
    "02.bounce",
    "η is 5 % too large. What becomes of a run that starts close to Himmelblau's minimum?",
    choices=[
        "it flies off, further with every step",
        "it comes back all the same",
        "it bounces between two points for ever",
    ],
)

# %% [markdown]
# Gradient descent by hand, for many learning rates at once: `theta` is a batch `(n_eta, 2)`, one row per $\eta$.

# %% slideshow={"slide_type": "fragment"}
def descend(f, start, eta, steps):
    path = [start.expand(len(eta), 2)]
    for _ in range(steps):
        path.append(path[-1] - eta[:, None] * f.gradient(path[-1]))
    return torch.stack(path, dim=1)  # (n_eta, steps + 1, 2)

# %% [markdown]
# Every position of the panel is computed now: 7 functions, 18 learning rates, 60 steps from a start 0.2 away from the minimum. Beside them what we need to divide by later: the standard deviation of each function over the square, on a fine grid.

# %%
multiples = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0, 1.01, 1.02, 1.05, 1.1, 1.2]
offset, window = torch.tensor([0.2, -0.05]), 0.55
middles = (torch.arange(350) + 0.5) / 175 - 1  # midpoints of 350 cells on [-1, 1]
unit_square = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1)
runs, maps, sharpest, sd = {}, {}, {}, {}
for f in SEVEN:
    minimum = f.minima[0]
    sharpest[f.name] = fl.curvature.eigenvalues(f, minimum)[0].item()
    sd[f.name] = f(3.5 * unit_square).std().item()
    etas = 2 * torch.tensor(multiples) / sharpest[f.name]
    runs[f.name] = descend(f, minimum + offset, etas, 60) - minimum
    height = f(minimum + window * unit_square)
    maps[f.name] = (12 * (height / height.max()) ** 0.3).floor()  # 12 bands, like contours

# %% [markdown]
# What stays in the figure, and a function that moves what changes:

# %% jupyter={"source_hidden": true}
def build(fig):
    left, right = fig.subplots(1, 2)
    box = [-window, window]
    picture = left.imshow(maps["sphere"], "cividis", extent=box * 2, origin="lower", vmin=-4, vmax=12)
    (whole,) = left.plot([], [], color="white", linestyle="-", lw=1)
    (tail,) = left.plot([], [], color=fl.plots.RED, linestyle="-", marker="o", ms=5, lw=1.5)
    left.set(xlabel="x − x*", ylabel="y − y*", xlim=box, ylim=box)
    (distance,) = right.semilogy([], [], color=fl.plots.BLUE, linestyle="-")
    (last,) = right.plot([], [], color=fl.plots.RED, linestyle="none", marker="o", ms=5)
    right.set(xlim=(0, 61), ylim=(1e-6, 1e2), xlabel="step", ylabel="distance to the minimum")
    right.set_yticks([1e-6, 1e-4, 1e-2, 1, 100])
    left.grid(False), right.minorticks_off()  # many ticks make a panel slow

    def update(eta, function, per_sd):
        run = runs[function][multiples.index(eta)]
        away, unit = run.norm(dim=-1), sd[function] if per_sd else 1
        picture.set_data(maps[function])
        whole.set_data(*run.T), tail.set_data(*run[-10:].T)
        distance.set_data(range(61), away), last.set_data(range(51, 61), away[-10:])
        left.set_title(f"{function}: λ_max = {sharpest[function] / unit:.4g}")
        right.set_title(f"η = {eta:g} · 2/λ_max = {2 * eta / sharpest[function] * unit:.3g}")
        step = (run[-1] - run[-2]).norm()
        return f"Start {away[0]:.2g} away, end {away[-1]:.2g} away; the last step was {step:.2g} long."

    return update

# %% [markdown] slideshow={"slide_type": "slide"}
# Click the first slider and use the arrow keys. Red: the last ten points of the run.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
panel = fl.panels.Panel(
    build, size=(8.2, 4.2),
    alt="Left: a bowl with a path of gradient descent, its last ten points red. Right: its distance to the minimum.",
    labels={"eta": "η, in units of 2/λ_max", "per_sd": "÷ sd of f"},
    eta=(multiples, 0.95), function=([f.name for f in SEVEN], "himmelblau"), per_sd=False,
)
panel.show()

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** Up to 0.5 the run walks in without a zigzag; above it, it jumps across the valley at every step, and the closer to 1, the more slowly the jumps die out. Above 1 they grow.
# - Choose *booth* or *sphere* at 1.1: the run is gone. Choose *himmelblau*, *three-hump camel* or *rastrigin* at 1.1: it is not. The next section looks closer.
# - Choose *rosenbrock*: the jumps die out, even above 1, and then the run creeps along the valley floor. The creeping is what a large $\kappa$ feels like; why the jumps die out is told below.
# - Tick *÷ sd of f*: both numbers change, and **the path does not move by a pixel**. Keep that in mind for *Break it*.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### Where is the edge?
#
# On booth, which *is* a quadratic, we start 10⁻⁴ from the minimum and measure the factor by which the distance grows per step, late in the run.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
minimum, etas = booth.minima[0], torch.linspace(0.004, 0.3, 75)
away = (descend(booth, minimum + 1e-4 * torch.tensor([1.0, 0.0]), etas, 16) - minimum).norm(dim=-1)
fig, ax = plt.subplots()
ax.axhspan(1, 2.4, color=fl.plots.GREY, alpha=0.15)
ax.plot(etas, away[:, 16] / away[:, 15], ".", color=fl.plots.BLUE, label="measured, step 16")
law = torch.maximum((1 - 2 * etas).abs(), (1 - 18 * etas).abs())
ax.plot(etas, law, color=fl.plots.ORANGE, linestyle="--", label="largest |1 − ηλ|")
ax.plot(2 / 18, 1, "D", ms=9, color=fl.plots.RED, label="2/λ_max")
ax.text(0.298, 1.05, "leaves", ha="right"), ax.text(0.298, 0.87, "comes back", ha="right")
ax.set(xlabel="learning rate η", ylabel="growth per step", xlim=(0, 0.3), ylim=(0.6, 2.4))
edge.draw(ax)
ax.legend(loc="upper right")
fl.plots.show(
    fig, alt="Growth per step over the learning rate on booth: falls slowly to a kink, then rises steeply and crosses one "
    "at two eighteenths, measured points on the predicted line",
)
print(edge.settle(2 / 18))

# %% [markdown]
# **What you see.** A gentle slope down (the flat direction shrinks a little faster), a kink, and a steep way up: from there on the sharp direction decides. It crosses 1 at the diamond.
#
# The other five functions are no quadratics. *Declared before the run:* we start 10⁻⁴ from each minimum, take 200 steps, and say that the law works if for all seven the edge between "nearer than at the start" and "farther" lies within 1 % of $2/\lambda_{\max}$.

# %%
near_one = torch.linspace(0.9, 1.1, 40)
growth = {}
for f in SEVEN:
    minimum = f.minima[0]
    start = minimum + 1e-4 * offset / offset.norm()
    run = descend(f, start, 2 * near_one / sharpest[f.name], 200)
    growth[f.name] = (run[:, -1] - minimum).norm(dim=-1) / 1e-4

# %% [markdown]
# All seven in one figure, over $\eta$ in units of $2/\lambda_{\max}$:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "subslide"} tags=["result"]
print("result")
fig, ax = plt.subplots(figsize=(8, 3.8))
styles, colours = ["-", "--", "-.", ":", "-", "--", "-."], [*fl.plots.COLOURS, "black"]
for (name, ratio), style, colour in zip(growth.items(), styles, colours, strict=True):
    ax.semilogy(near_one, ratio, linestyle=style, color=colour, label=name)
ax.axhline(1, color="black", lw=1, linestyle="-"), ax.axvline(1, color="black", lw=1, linestyle="-")
ax.set(xlabel="η, in units of 2/λ_max", ylabel="distance, end / start", xlim=(0.9, 1.1), ylim=(1e-8, 1e8))
ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
fl.plots.show(
    fig, alt="Growth of the distance in 200 steps over the learning rate: all seven curves cross the line of no growth "
    "at one; beyond it two rise without limit and five level off",
)

# %% [markdown]
# **What you see.** Seven functions, one crossing. To its left, rosenbrock and beale lag behind: their flat direction has hardly moved in 200 steps. To its right two curves go on rising, and five level off: they leave their minimum *but do not go far*.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
edges = [(near_one[ratio < 1].max() + near_one[ratio > 1].min()).item() / 2 for ratio in growth.values()]
farthest = max(abs(e - 1) for e in edges)
half_a_grid_step = (near_one[1] - near_one[0]).item() / 2
fl.claims.declare(
    "02.1", "for each of the seven functions gradient descent leaves the minimum when η exceeds 2/λ_max",
    farthest, "holds with a caveat", below=0.01, interval=(0, farthest + half_a_grid_step),
    detail="largest relative distance of an edge from 2/λ_max, with the grid's resolution as interval",
    caveat='"leaves" is all that a Hessian can promise: where the run goes depends on the function further out',
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# What becomes of those that leave? We stay 5 % above the edge for 500 steps, from the panel's start, and look at the last three points. "Flies off": more than 100 away. "Bounces": less than 1 away, and back where it was two steps ago, to within a hundredth of a step.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
fate, jumps = {}, {}
for f in SEVEN:
    eta = torch.tensor([2.1 / sharpest[f.name]])
    *_, before, previous, last = descend(f, f.minima[0] + offset, eta, 500)[0]
    away, step, back = ((last - point).norm().item() for point in (f.minima[0], previous, before))
    fate[f.name] = "flies off" if away > 100 else "bounces" if away < 1 and back < step / 100 else "neither"
    jumps[f.name] = previous, last
    print(f"{f.name:17s} {away:9.2g} away, last step {step:9.2g} long: {fate[f.name]}")
print(bounce.settle({"flies off": bounce.choices[0], "bounces": bounce.choices[2]}[fate["himmelblau"]]))

# %% [markdown]
# The two quadratics fly off. Four runs bounce for ever across a floor that they cannot reach, and there is a reason for the width of the bounce. Two points $p$ and $q$ that step onto each other satisfy $q = p - \eta\nabla f(p)$ and $p = q - \eta\nabla f(q)$. Subtract: $\nabla f(q) - \nabla f(p) = \tfrac{2}{\eta}(q - p)$. **Averaged over the jump, the curvature is exactly $2/\eta$**: the run has moved out just as far as the bowl must flatten for that. Check it:

# %%
for f in SEVEN:
    if fate[f.name] == "bounces":
        p, q = jumps[f.name]
        mean_curvature = (f.gradient(q) - f.gradient(p)) @ (q - p) / ((q - p) @ (q - p))
        print(f"{f.name:17s} η · mean curvature over the jump = {2.1 / sharpest[f.name] * mean_curvature:.3f}")

# %% [markdown]
# And rosenbrock, the one that did neither in 500 steps? Its curvature changes *along* the valley. Where does the run stand, how sharp is it there, and how far is it from where it was two steps ago?

# %%
eta = 2.1 / sharpest["rosenbrock"]
run = descend(rosenbrock, rosenbrock.minima[0] + offset, torch.tensor([eta]), 20_000)[0]
away = (run - rosenbrock.minima[0]).norm(dim=-1)
for step in (2, 500, 1000, 2000, 5000, 20_000):
    here, back = eta * fl.curvature.eigenvalues(rosenbrock, run[step])[0], (run[step] - run[step - 2]).norm()
    print(f"step {step:5d}: {away[step]:.3f} away, η · λ_max there {here:.2f}, moved in two steps {back:.1e}")

# %% [markdown]
# It was thrown to a stretch of its valley where $\eta\lambda_{\max} < 2$, and is quiet there. Gently it slides back towards the minimum, until the valley is too sharp again, and is thrown out once more, each time less far. After many thousand steps it, too, bounces between two points. Remember this picture: notebook 05 meets it in a network, where it is called the *edge of stability*. A learning rate puts a ceiling on the sharpness that a run can live with.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Equally good, equally sharp?
#
# The paper's claim **C1** says that flatness is relative to the function being learned: equally optimal solutions of *different* functions have markedly different local geometry. Half of that can be checked without any network: the curvature at the minimum itself. *Declared before the run:* "markedly" means that the largest λ_max is more than 10 times the smallest. (The table also holds κ and the **trace**, $\operatorname{tr} H = \lambda_{\max} + \lambda_{\min}$, the sum of the curvatures along any two directions at right angles.)

# %%
import pandas as pd


def at_minimum(f, theta):
    high, low = fl.curvature.eigenvalues(f, theta, k=2).tolist()
    return {"f(θ*)": f(theta).item(), "λ_max": high, "λ_min": low, "κ": high / low, "trace": high + low}


table = pd.DataFrame({f.name: at_minimum(f, f.minima[0]) for f in SEVEN}).T.sort_values("λ_max")
table.round(3)

# %% [markdown]
# One row per function, at its global minimum. As a picture:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "subslide"} tags=["result"]
print("result")
fig, ax = plt.subplots(figsize=(7.4, 3.8))
ax.hlines(table.index, table["λ_min"], table["λ_max"], color=fl.plots.GREY, lw=2)
ax.plot(table["λ_min"], table.index, "o", mfc="white", mec=fl.plots.ORANGE, mew=2, ms=13, label="λ_min")
ax.plot(table["λ_max"], table.index, "o", color=fl.plots.BLUE, ms=8, label="λ_max")
ax.set(xscale="log", xlabel="curvature at the minimum", xlim=(0.2, 3000))
largest.draw(ax)
ax.legend(loc="lower right")
fl.plots.show(
    fig, alt="Smallest and largest curvature of seven functions on a logarithmic axis: the sphere lowest, Rosenbrock "
    "highest, with the longest line between its two values",
)
print(largest.settle(table["λ_max"].max()))

# %% [markdown]
# **What you see.** Seven minima of one and the same value, and curvatures over almost three powers of ten. The length of each line is the condition number: sphere and rastrigin are round, rosenbrock is a knife-edge in one direction and nearly flat in the other. It is at once the *sharpest* of the seven by $\lambda_{\max}$ and the second flattest by $\lambda_{\min}$: "sharp" is a property of a direction.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
assert table["f(θ*)"].abs().max() < 1e-20
fl.claims.declare(
    "02.2", "at global minima of equal value 0 λ_max differs markedly between the seven functions",
    table["λ_max"].max() / table["λ_max"].min(), "holds with a caveat", above=10,
    detail=f"largest over smallest; λ_max runs from {table['λ_max'].min():.4g} to {table['λ_max'].max():.5g}",
    caveat="raw numbers, in the units of each f: 02.4 says what they are worth for comparing functions",
    about={"C1": "supports"}, experiment="minima of the seven functions",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### One function, four minima
#
# Does the function alone decide? Himmelblau's function has four global minima (two of them just outside the square). *Declared before the run:* they differ if the largest λ_max is more than 1.25 times the smallest.

# %% slideshow={"slide_type": "fragment"}
four = pd.DataFrame([at_minimum(himmelblau, theta) for theta in himmelblau.minima], index=[1, 2, 3, 4])
four.insert(0, "θ*", [f"({x:.2f}, {y:.2f})" for x, y in himmelblau.minima.tolist()])
four.round(2)

# %% [markdown]
# Same function, same value 0 (up to rounding), and four different bowls. Notice also *which* is the flattest: by λ_max it is the second, by the trace it is the first. Which of them counts depends on the argument. Shake both weights by independent noise of size σ, $\theta^* + \sigma g$: the loss rises on average by $\tfrac12\sigma^2\,\mathbb E\,g^\top H g = \tfrac12\sigma^2\operatorname{tr} H$, since $\mathbb E\,g_ig_j$ is 1 on the diagonal and 0 off it. So 01's cost of noise asks for the *trace*: noise shakes every direction, and seldom the steepest one alone. The speed limit above asks for λ_max.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
assert four["f(θ*)"].abs().max() < 1e-20
fl.claims.declare(
    "02.3", "equally optimal minima of one and the same function differ in sharpness",
    four["λ_max"].max() / four["λ_max"].min(), "holds", above=1.25,
    detail="himmelblau, largest over smallest λ_max of its four minima; the flattest is number "
    f"{four['λ_max'].idxmin()} by λ_max and number {four['trace'].idxmin()} by the trace",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Sharper than what?
#
# The last section compared curvatures of *different* functions, as if they were lengths measured with one ruler. They are not. Multiply $f$ by a number $c > 0$:
#
# $$c f \;\text{ has the Hessian }\; c H .$$
#
# Same minima, same contours, same paths of gradient descent (with $\eta/c$: the check box of the panel), and *any* sharpness you like. A cost in cents is a hundred times sharper than the same cost in euros. And our seven functions live on very different scales. This is how much each of them varies over the square, as a standard deviation (sd):

# %%
table["sd of f"] = pd.Series(sd)
table[["sd of f"]].map("{:.4g}".format).T

# %% [markdown] slideshow={"slide_type": "fragment"}
# A natural remedy: measure each function in units of its own sd, as one standardises the targets of a regression.

# %% slideshow={"slide_type": "fragment"}
order = fl.predictions.ask(
    "02.order",
    "Divide every λ_max by the standard deviation of its function. How many of the 21 pairs of functions swap places? "
    "(A random order would swap half. More than a quarter we call another order.)",
    choices=["none: it stays", "at most a quarter", "more than a quarter: it becomes another order"],
)

# %% [markdown]
# The threshold stood in the question before the run.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
from itertools import combinations

table["λ_max / sd"] = table["λ_max"] / table["sd of f"]
raw, scaled = table["λ_max"], table["λ_max / sd"]
swapped = [(f, g) for f, g in combinations(table.index, 2) if (raw[f] < raw[g]) != (scaled[f] < scaled[g])]
outcome = order.choices[0 if not swapped else 1 if len(swapped) <= 21 / 4 else 2]
print(f"{len(swapped)} of 21 pairs swap places.", order.settle(outcome))
table[["λ_max", "sd of f", "λ_max / sd"]].map("{:.4g}".format)

# %% [markdown]
# Both orders side by side, the sharpest at the top:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "subslide"} tags=["result"]
print("result")
fig, ax = plt.subplots(figsize=(7.4, 4.4))
for name, left, right in zip(table.index, raw.rank(), scaled.rank(), strict=True):
    direction = int(np.sign(right - left))
    look = {1: (fl.plots.ORANGE, "-"), 0: (fl.plots.GREY, ":"), -1: (fl.plots.BLUE, "--")}[direction]
    ax.plot([0, 1], [left, right], marker="o", ms=9, color=look[0], linestyle=look[1])
    ax.text(-0.05, left, f"{name}  {raw[name]:.4g}", ha="right", va="center")
    ax.text(1.05, right, f"{scaled[name]:.2g}  {name}", va="center")
ax.text(0, 7.6, "by λ_max", ha="center", weight="bold"), ax.text(1, 7.6, "by λ_max / sd", ha="center", weight="bold")
ax.set(xlim=(-0.8, 1.8), ylim=(0.5, 8))
ax.axis("off")
fl.plots.show(
    fig, alt="Two columns of seven ranks joined by lines: Rosenbrock falls from first to fourth, Beale from fourth to "
    "last, the sphere climbs from last to third",
)

# %% [markdown]
# **What you see.** Dashed blue: functions that lose rank once their scale is taken out; solid orange: those that gain. Rosenbrock falls from the top to the middle, beale to the bottom: both are enormous in the corners of the square, and beside that their minimum is a gentle place. The sphere climbs from last to third without having changed at all.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
claim = fl.claims.declare(
    "02.4", "dividing each function by its standard deviation puts the seven in another order of sharpness",
    len(swapped) / 21, "holds", above=0.25, below=0.75,
    detail=f"share of pairs that swap; Kendall's τ between the two orders is {1 - 2 * len(swapped) / 21:.2f}",
)

# %% [markdown]
# So *which* function is the sharper one is not answered by the functions alone. But C1 does not need an order. It needs a difference, and by the same threshold as before:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "02.5", "per standard deviation, too, λ_max differs markedly between the seven functions",
    scaled.max() / scaled.min(), "holds with a caveat", above=10,
    detail=f"largest over smallest; λ_max/sd runs from {scaled.min():.2g} to {scaled.max():.1f}",
    caveat="on the paper's square; on one of half-width 0.7 or less around each minimum it does not hold (02.6)",
    about={"C1": "supports"}, experiment="minima of the seven functions",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Is *this* the right scale, then?
#
# No: it is one more choice. The standard deviation depends on the square over which it is taken. Let the square be centred at the minimum, with half-width $a$, and measure lengths in units of $a$ as well; then $\lambda_{\max}\,a^2/\mathrm{sd}$ has no units left. Here it is for thirteen squares.

# %%
widths = [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
unitless = {}
for a in widths:
    sds = [f(f.minima[0] + a * unit_square).std().item() for f in SEVEN]
    unitless[a] = [sharpest[f.name] * a**2 / sd_here for f, sd_here in zip(SEVEN, sds, strict=True)]

# %% [markdown]
# Left, one dot per function. Right, the largest of the seven over the smallest, for every square; the line is the threshold of C1, a factor of 10.

# %% jupyter={"source_hidden": true}
spread = [max(unitless[a]) / min(unitless[a]) for a in widths]


def build_square(fig):
    left, right = fig.subplots(1, 2)
    names = [f.name for f in SEVEN]
    left.plot(unitless[3.5], names, "|", ms=22, mew=2.5, color=fl.plots.GREY, label="at a = 3.5")
    (dots,) = left.plot([], [], "o", ms=11, color=fl.plots.BLUE, label="at your a")
    left.set(xscale="log", xlim=(0.02, 1000), ylim=(6.5, -0.8), xlabel="λ_max · a² / sd of f on the square")
    left.legend(loc="upper left", fontsize=10)
    right.loglog(widths, spread, "-", color="black")
    (here,) = right.plot([], [], "o", ms=13, color=fl.plots.BLUE)
    right.axhline(10, color=fl.plots.ORANGE, ls="--")
    right.set(xlabel="half-width a of the square", ylabel="largest over smallest", ylim=(1, 3e4))
    right.set_xticks([0.02, 0.1, 0.5, 1, 3.5], ["0.02", "0.1", "0.5", "1", "3.5"])
    right.minorticks_off()

    def update(a):
        dots.set_data(unitless[a], names)
        here.set_data([a], [spread[widths.index(a)]])
        return f"a = {a:g}: largest over smallest {spread[widths.index(a)]:.3g}."

    return update

# %% [markdown] slideshow={"slide_type": "fragment"}
# Drag it.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.panels.Panel(
    build_square,
    alt="left seven sharpnesses without units on a square; right their largest over smallest, which falls from "
    "thousands to near one as the square shrinks, and crosses ten",
    size=(9.4, 3.8), labels={"a": "half-width a of the square"}, a=(widths, 0.5),
).show()

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** On the paper's square ($a = 3.5$, grey marks) the seven lie far apart, by a factor of thousands. Shrink it, and they slide together; somewhere between 0.7 and 1 the factor falls below 10, and in the end hardly anything tells them apart. On a small enough square every function *is* its Taylor bowl, and what is left is the bowl's shape and how it lies in the square. So a sharpness without units compares the minimum with its *surroundings*: it is large where the floor bends more than the walls suggest (rastrigin) and small where the walls dwarf the floor (beale). Choose the surroundings, and you choose the verdict on C1. The same threshold, on a square of half-width 0.5, decided by the rule that decided above:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "02.6", "in units of the square with half-width 0.5 around each minimum, too, the seven differ markedly",
    spread[widths.index(0.5)], "does not hold here", above=10,
    detail="largest over smallest λ_max · a² / sd; on other squares "
    + ", ".join(f"{ratio:.3g} (a = {a:g})" for a, ratio in zip(widths, spread, strict=True) if a in (0.02, 0.7, 1.0, 2.0, 3.5)),
    about={"C1": "supports"}, experiment="minima of the seven functions",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Exercises
#
# Four questions, with a check that tells you *what kind* of mistake it sees.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
learning_rate = fl.exercises.Exercise(
    "02.learning_rate",
    answer=2 / 18,
    mistakes={
        "that is the limit of the flat direction; with it the sharp one grows at every step": 2 / 2,
        "you divided by the trace, the sum of both curvatures; each direction grows or shrinks alone": 2 / 20,
        "that step solves the sharp direction at once (1 − ηλ = 0); the limit is where 1 − ηλ = −1": 1 / 18,
        "10 is the curvature along the x-axis, which is no eigenvector: some direction curves more": 2 / 10,
        "upside down: a sharper bowl needs a smaller step": 18 / 2,
    },
    rtol=0.015,
    praise="the sharpest direction sets the limit, and the other one has no say",
)

# %% [markdown]
# **Exercise 1 · the speed limit** (★, 3 minutes). Without looking back: booth has $H = \begin{pmatrix} 10 & 8 \\ 8 & 10 \end{pmatrix}$. What is the largest η (the edge itself) with which gradient descent does not grow in any direction?

# %%
answer = ...
learning_rate.check(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The eigenvectors are (1, 1) and (1, −1): multiply, and you get them back, 18 times and 2 times as long. The larger eigenvalue decides, η = 2/18:
#
# ```python
# lam = torch.linalg.eigvalsh(torch.tensor([[10.0, 8.0], [8.0, 10.0]]))
# learning_rate.check(2 / lam.max().item())
# ```
#
# </details>

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
kappa = (54 + 800**0.5) / (54 - 800**0.5)
bowl = fl.exercises.Exercise(
    "02.bowl",
    answer=kappa**0.5,
    rtol=3e-3,
    mistakes={
        "that is κ, the ratio of the curvatures; a width goes with the square root of a curvature": kappa,
        "upside down: asked is long over short, and the long axis belongs to the small eigenvalue": kappa**-0.5,
        "upside down, and without the square root": 1 / kappa,
        "you used the diagonal of H; the axes of the bowl are the eigenvectors, not x and y": (74 / 34) ** 0.5,
        "you used the diagonal of H, and forgot the square root": 74 / 34,
    },
    praise="a width is 1/√λ: a bowl that is four times sharper is only half as wide",
)

# %% [markdown]
# **Exercise 2 · how long is the bowl?** (★★, 6 minutes). Himmelblau's function at (3, 2) has $H = \begin{pmatrix} 74 & 20 \\ 20 & 34 \end{pmatrix}$. Fill its Taylor bowl with a little water. How many times longer than wide is the pond? (Three digits.)

# %%
answer = ...
bowl.check(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The eigenvalues have the sum 74 + 34 and the product 74 · 34 − 20², so they are 54 ± √800. The half-axes are √(2c/λ), and the height c cancels in the ratio: √(λ_max/λ_min) = √κ.
#
# ```python
# lam = torch.linalg.eigvalsh(torch.tensor([[74.0, 20.0], [20.0, 34.0]]))
# bowl.check((lam.max() / lam.min()).sqrt().item())
# ```
#
# </details>

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
def _form(H, v):
    return v @ H @ v


def _diagonal(H, v):
    return (H.diagonal() * v**2).sum()


direction = fl.exercises.Exercise(
    "02.direction",
    answer=lambda H, v: _form(H, v) / (v @ v),
    mistakes={
        "a curvature must not change when the arrow gets longer: divide by something": _form,
        "you divided by the length of v; v enters twice, so use its square": lambda H, v: _form(H, v) / v.norm(),
        "you lost the off-diagonal of H, the mixed derivative f_xy": lambda H, v: _diagonal(H, v) / (v @ v),
        "the off-diagonal counts twice: xy and yx": lambda H, v: (_form(H, v) + _diagonal(H, v)) / 2 / (v @ v),
        "that is the length of H v, which also changes sideways; project it on v": lambda H, v: (H @ v).norm() / v.norm(),
    },
    inputs=[
        (torch.tensor([[802.0, -400.0], [-400.0, 200.0]]), torch.tensor([1.0, 2.0])),
        (torch.tensor([[10.0, 8.0], [8.0, 10.0]]), torch.tensor([3.0, -1.0])),
    ],
    praise="now try it on rosenbrock.hessian([1.0, 1.0]) along (1, 2) and along (2, -1)",
)

# %% [markdown]
# **Exercise 3 · one minimum, many curvatures** (★★, 8 minutes). Rosenbrock's valley runs through its minimum (1, 1) in the direction $v = (1, 2)$. Derive $H$ there by hand ($f = (1-x)^2 + 100\,(y - x^2)^2$), then write the curvature of a function with Hessian `H` along *any* arrow `v`, of whatever length. How sharp is the "sharpest" of the seven along its valley?

# %%
def curvature_along(H, v):
    return ...


direction.check(curvature_along)

# %% [markdown]
# <details><summary>Solution</summary>
#
# f_xx = 2 − 400y + 1200x², f_xy = −400x, f_yy = 200, so H = [[802, −400], [−400, 200]] at (1, 1). With v = (1, 2) the form vᵀHv is 802 − 1600 + 800 = 2, and v has the squared length 5: the curvature along the valley is 2/5, while λ_max is over a thousand. `flatlab` calls it `fl.curvature.directional`.
#
# ```python
# def curvature_along(H, v):
#     return v @ H @ v / (v @ v)
#
# assert torch.isclose(curvature_along(rosenbrock.hessian([1.0, 1.0]), torch.tensor([1.0, 2.0])), torch.tensor(0.4))
# direction.check(curvature_along)
# ```
#
# </details>

# %% [markdown]
# **Exercise 4 · which claim falls?** (★★★, 6 minutes). A colleague measures all seven functions again, but of each function she takes the square root, $\sqrt{f}$, smoothed to $\sqrt{f + 1} - 1$ so that it has a Hessian at the minimum. Same square, same minima, value 0 there. Which of these sentences can *not* be carried over to her functions without computing anything new?
#
# | | |
# |---|---|
# | A | "Gradient descent leaves a minimum when η exceeds 2/λ_max *of the function that it descends*." |
# | B | "λ_max runs from 2 to 1,001.6." |
# | C | "By raw λ_max the seven stand in the same order as before." |
# | D | "By λ_max/sd the seven stand in the order of the right column above." |
# | E | "The four minima of himmelblau differ in λ_max by the same factor as before." |
#
# Work out first what her Hessian at the minimum is. Answer with a set of letters.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
root = fl.exercises.Exercise(
    "02.root",
    answer={"B", "D"},
    mistakes={
        "at a minimum with f = 0 the chain rule leaves H/2: every curvature is halved, so the factor of E stays": {"B", "D", "E"},
        "all seven Hessians are halved alike, so the raw order of C stays": {"B", "C", "D"},
        "the Hessian is halved, so the range of B becomes 1 to 500.8": {"D"},
        "D falls: the sd of √(f + 1) is not half of the sd of f, it tames the tall functions most": {"B"},
        "A speaks of the function that is descended, with its own λ_max: it stands": {"A", "B", "D"},
        "you took the derivative of √ at 0, which is infinite; the + 1 is there to avoid that": {"A", "B", "C", "D", "E"},
    },
    praise="the minimum's curvature is halved; the walls shrink by another law, and only D looks at the walls.",
)

# %%
falls = ...
root.check(falls)

# %% [markdown]
# <details><summary>Solution</summary>
#
# For $g(f) = \sqrt{f+1} - 1$ the chain rule gives $\nabla^2 g = g'(f)\,H + g''(f)\,\nabla f\,\nabla f^\top$; at a minimum with $f = 0$ the gradient vanishes and $g'(0) = \tfrac12$, so the Hessian is $H/2$.
#
# ```python
# falls = {"B", "D"}
# root.check(falls)
# ```
#
# B needs new numbers (1 to 500.8). C and E are ratios within or between Hessians that are all halved. A holds for any smooth function. D divides by a standard deviation that the root changes for each function in its own way.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# **You may now say:** at a minimum the Hessian's eigenvalues are the bowl's axes (half-axes like $1/\sqrt\lambda$), and gradient descent leaves that minimum when $\eta > 2/\lambda_{\max}$.
#
# **You may no longer say:** "function A is sharper than function B", unless you also say on which scale, and why on that one.

# %%
fl.claims.take_away()

# %% [markdown]
# "Divided" is the honest word: the same minima of the same functions differ markedly or not, depending on a scale that somebody has to choose.
#
# **The steelman.** A defender of C1 will say: *"You may choose a unit for the whole table, but not one for each function to make them equal. A network is trained on the targets as they are, and on the square as it is; there the minima differ by a factor of thousands. And your small square throws away the function: every bowl is a bowl."* (Mason-Williams et al. 2025.) That is why 05 asks a network, with the targets raw and standardised, on the whole square.

# %% [markdown] slideshow={"slide_type": "subslide"}
# *What this does not show.* Nothing here was learned: these are curvatures of seven formulas in $(x, y)$. The paper's experiment lets a *network* learn each formula and measures sharpness in the network's weights, where the scale of the targets enters in part only; that is notebook 05. Nor does anything here say that a flat minimum is better or worse: all of ours are equally good. And the law $\eta < 2/\lambda_{\max}$ is a promise about a neighbourhood: from farther away a run may end elsewhere.

# %% [markdown]
# ### References
#
# - I. Mason-Williams, G. Mason-Williams, H. Yannakoudakis. *A Function-Centric Perspective on Flat and Sharp Minima.* arXiv:2510.12451. Claim C1 from its abstract; functions and square from the authors' code.
# - J. Cohen, S. Kaur, Y. Li, J. Z. Kolter, A. Talwalkar. *Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability.* arXiv:2103.00065. Where the bouncing runs of this notebook lead.

# %% [markdown]
# All numbers without a box, and your predictions beside what came out:

# %%
fl.claims.numbers()

# %%
fl.predictions.compare()
