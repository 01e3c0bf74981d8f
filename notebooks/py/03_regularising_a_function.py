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
# # 03 · Regularising a function
#
# **What do weight decay, SAM, gradient noise and label noise do to a minimiser?**

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/03_regularising_a_function.ipynb` (other ways: `README.md`).
#
# ← [02 · Two dimensions](02_two_dimensions.ipynb) · [04 · Measuring sharpness](04_measuring_sharpness.ipynb) →

# %% [markdown]
# > **You will be able to**
# > - write one step of weight decay, SAM, gradient noise and label noise, and say what each one adds to gradient descent;
# > - compute where a penalty `λθ²` moves the minimum of a parabola, and what it adds to every curvature;
# > - find out, by experiment, which property of a valley each of the four responds to;
# > - measure a sharpness so that the regulariser cannot improve it on paper.
# >
# > **Needs** [01](01_one_dimension.ipynb) (curvature, the two valleys) and [02](02_two_dimensions.ipynb) (Hessian, gradient descent, `η λ_max < 2`).
# >
# > **Time** 45 minutes to read, about 9 seconds of processor time to run.
# >
# > **Source** Mason-Williams et al., arXiv:2510.12451, claim C3; SAM is from Foret et al., arXiv:2010.01412, section 2.

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
# ## Four ways to disturb gradient descent
#
# Gradient descent walks against the slope, `θ ← θ − η ∇f(θ)`, with a step size `η`. A *regulariser* changes the walk, in the hope of
# ending in a better minimum:
#
# | regulariser | strength | one step |
# |---|---|---|
# | weight decay | `λ` | `θ ← θ − η (∇f(θ) + 2λθ)`, descent on the penalised loss `f(θ) + λθ²` |
# | SAM (sharpness-aware minimisation) | `ρ` | `θ ← θ − η ∇f(θ + ε)`, with `ε = ρ ∇f(θ)/‖∇f(θ)‖`: the slope is taken a step *uphill* |
# | gradient noise | `σ` | `θ ← θ − η (∇f(θ) + σξ)`, with `ξ` a fresh normal number for each coordinate |
# | label noise | `σ` | the same gradient, but of a loss whose *target* is shaken by `σξ` at each step |
#
# **The best case first.** Each of them has a good argument in favour of flatness. SAM minimises the loss at the worst point within `ρ`, and
# a sharp valley is bad there. Noise shakes the minimiser, and a narrow valley is easy to be shaken out of. Weight decay keeps weights small, and in
# many models small weights mean gentle slopes.
#
# *(In PyTorch `weight_decay=w` means the penalty `(w/2)θ²`, so our `λ` is `w/2`.)*

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# The product model has two weights and one datum: `L(a, b) = ½ (ab − 1)²`. Every point with `ab = 1` has loss 0, so its minima form a long
# curved valley. The trace of the Hessian is `tr H = a² + b²`: the valley is flattest at `a = b = 1`, where the trace is 2, and gets
# sharper in both directions. All walks start at `(a, b) = (3, 0.1)`, far up the sharp end.

# %% slideshow={"slide_type": "fragment"}
slide = fl.predictions.ask(
    "03.slide",
    "Each regulariser acts for 2,000 steps at its largest strength. Which of them carry the minimiser to the flattest part of the "
    "valley? ('Carry': the trace, 9.01 at the start and 2 at the flattest point, is below 3 at the end, on average over 64 runs.)",
    choices=["only SAM", "all but weight decay", "all but gradient noise", "all but label noise", "all four"],
)

# %% [markdown]
# First we build the four, one at a time.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### Weight decay moves the minimum
#
# Take a parabola of curvature `h` with its minimum at `a`. With the penalty the slope is zero where `h(θ − a) + 2λθ = 0`:
#
# $$\min_\theta\ \tfrac12 h(\theta-a)^2+\lambda\theta^2 \quad\Rightarrow\quad \theta = a\,\frac{h}{h+2\lambda}$$
#
# The minimum is pulled towards 0, and **a flat valley gives way more easily than a sharp one**: `h` is its resistance.

# %%
def descend(f, theta, lam=0.0, eta=0.05, steps=2000):
    for _ in range(steps):
        theta = theta - eta * (f.gradient(theta) + 2 * lam * theta)
    return theta


# %% [markdown]
# Four penalties in one batch: does descent end where the formula says?

# %%
a, h = 1.5, 2.0
parabola = fl.Objective(lambda theta: h / 2 * (theta[..., 0] - a) ** 2, dim=1)
lam = torch.tensor([[0.0], [0.1], [0.5], [2.0]], dtype=torch.float64)
found = descend(parabola, torch.zeros_like(lam), lam, steps=400)
assert torch.allclose(found, a * h / (h + 2 * lam), atol=1e-8)
for strength, theta in zip(lam, found, strict=True):
    print(f"λ = {strength.item():.1f}   minimum at θ = {theta.item():.4f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### … and adds exactly 2λ to every curvature
#
# The second derivative of `λθ²` is `2λ`, everywhere. So the *penalised* loss is sharper at every point, for every function, and that says
# nothing about the solution. The course's rule of **fair measurement**: sharpness is taken on the *un-penalised* loss `f` (below: "clean"), and
# never on the loss that was trained.
#
# What difference does it make? Take the double well of notebook 01, shifted by half a unit to the left: a flat valley and a sharp one, both of depth 0.

# %%
well = fl.functions.double_well(centre=-0.5)
for minimum in well.minima:
    print(f"valley at θ = {minimum:+.1f}   depth {well(minimum):.1f}   curvature {well.hessian(minimum):.3f}")

# %% [markdown]
# From each bottom we descend on `f + λθ²`, and measure the curvature of both losses at the point that we reach.

# %% tags=["nbval-check-output"]
lam = torch.tensor([0.0, 0.1, 0.15, 0.2], dtype=torch.float64)[:, None]
penalised = fl.Objective(lambda theta: well(theta) + lam * theta[..., 0] ** 2, dim=1)
theta = descend(well, well.minima[:, None].expand(4, 2, 1), lam[..., None])
clean, trained = well.hessian(theta)[..., 0, 0], penalised.hessian(theta)[..., 0, 0]  # (4 penalties, 2 valleys)
assert torch.allclose(trained - clean, 2 * lam.expand(4, 2), atol=1e-8)
for i, strength in enumerate(lam):
    for j, name in enumerate(("flat ", "sharp")):
        print(f"λ = {strength.item():<4}  {name} valley, now at θ = {theta[i, j].item():+.2f}", end="   ")
        print(f"clean {clean[i, j]:+.2f}   penalised {trained[i, j]:+.2f}")

# %% [markdown]
# The gap is `2λ` to eight digits. Look at the flat valley in the last row but one: the clean curvature there is a small part of what the penalised loss shows.
# Whoever measures the training objective sees an ordinary valley; whoever measures the loss finds hardly any.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### One step of SAM
#
# Four moves: the slope `g` here; a step of length `ρ` *uphill*, `ε = ρ g/‖g‖`; the slope *there*; and a step of descent with that slope,
# **starting from where you were**, not from the place that you looked at.

# %%
def uphill(f, theta, rho):
    g = f.gradient(theta)
    return rho * g / g.norm(dim=-1, keepdim=True).clamp(min=1e-12)  # ε; zero where the slope is zero


def sam_step(f, theta, eta, rho):
    return theta - eta * f.gradient(theta + uphill(f, theta, rho))


# %% [markdown]
# The rise that SAM sees on its way up, `f(θ + ε) − f(θ)`, is what `flatlab` calls `sharpness.one_step`. Ours must agree, and so must the step: later notebooks train with `fl.train(…, rule=fl.training.sam, rho=…)`.

# %%
f, theta = fl.functions.himmelblau, torch.tensor([1.0, 2.5], dtype=torch.float64)
rise = f(theta + uphill(f, theta, 0.1)) - f(theta)
assert abs(rise - fl.sharpness.one_step(f, theta, 0.1)) < 1e-8
one = fl.train(f, 1, rule=fl.training.sam, theta=theta, lr=0.01, rho=0.1)
assert torch.allclose(one.theta, sam_step(f, theta, 0.01, 0.1))
print(f"rise within ρ = 0.1: {rise:.3f}   next point: {sam_step(f, theta, 0.01, 0.1).numpy().round(4)}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### SAM never comes to rest
#
# On the parabola `½hθ²` the slope at `θ + ε` is `h(θ + ρ sign θ)`. Suppose SAM jumps from `+A` to `−A` and back for ever. Then
#
# $$-A = A-\eta h(A+\rho)\quad\Rightarrow\quad A=\frac{\eta h\rho}{2-\eta h}$$
#
# So it hovers over the minimum and **bounces**. The higher the curvature, the wider the bounce: that is how SAM "feels" a sharp valley. As `ηh` nears 2,
# the edge of plain descent (02), the bounce has no bound. But SAM has an *edge of its own*, and it stands on it all the time. At a slope of length `‖g‖` it
# multiplies a deviation by `1 − ηh(1 + ρh/‖g‖)`, and `−1` is reached at the curvature (Long and Bartlett 2023)
#
# $$h_\text{SAM}=\frac{\|g\|}{2\rho}\Bigl(\sqrt{1+\frac{8\rho}{\eta\|g\|}}-1\Bigr)\;<\;\frac2\eta .$$
#
# With a small slope this edge lies far below `2/η`. The bounce is the amplitude at which the parabola's own `h` is that edge; the last line checks it.

# %%
eta, rho = 0.1, 0.5
curvatures = torch.linspace(0.5, 16, 32, dtype=torch.float64)[:, None]
many = fl.Objective(lambda theta: curvatures[:, 0] / 2 * theta[..., 0] ** 2, dim=1)
sam, plain = [torch.ones_like(curvatures)], [torch.ones_like(curvatures)]
for _ in range(500):
    sam.append(sam_step(many, sam[-1], eta, rho))
    plain.append(plain[-1] - eta * many.gradient(plain[-1]))
bounce = eta * curvatures * rho / (2 - eta * curvatures)
assert torch.allclose(sam[-1].abs(), bounce, atol=1e-8) and torch.allclose(sam[-2], -sam[-1], atol=1e-8)
g = curvatures * bounce  # the slope at the end of a bounce
assert torch.allclose(g / (2 * rho) * ((1 + 8 * rho / (eta * g)).sqrt() - 1), curvatures)

# %% [markdown]
# Thirty-two parabolas in one batch, and both formulas hold to eight digits on each. The picture of one of them, and of all:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
one = 7  # the parabola that is drawn on the left
left.plot(torch.stack(plain)[:40, one], "-", label="gradient descent")
left.plot(torch.stack(sam)[:40, one], ".-", label="SAM")
left.axhline(bounce[one].item(), color="black", ls=":", lw=1.5)
left.axhline(-bounce[one].item(), color="black", ls=":", lw=1.5, label="±A")
left.set(xlabel="step", ylabel="θ", title=f"on a parabola with h = {curvatures[one].item():g}")
left.legend()
right.plot(curvatures, bounce, "-", label="ηhρ/(2 − ηh)")
right.plot(curvatures, sam[-1].abs(), "o", ms=5, label="SAM after 500 steps")
right.set(xlabel="curvature h", ylabel="bounce A", title=f"η = {eta}, ρ = {rho}")
right.legend()
fl.plots.show(fig, alt="left: gradient descent settles at 0, SAM jumps between plus and minus A; right: the bounce grows")

# %% [markdown]
# **What you see.** Left: gradient descent reaches the minimum, while SAM ends in a jump between `+A` and `−A`. Right: the measured bounce lies on
# the curve, and rises steeply as `h` nears `2/η`.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Gradient noise: a sharp valley holds the walker tighter
#
# On the parabola one noisy step is `θ ← (1 − ηh)θ − ησξ`. When the spread has settled, one more step must leave the variance `V` as it was:
#
# $$V=(1-\eta h)^2V+\eta^2\sigma^2\quad\Rightarrow\quad V=\frac{\eta\sigma^2}{h(2-\eta h)}$$
#
# We let 2,000 chains run for each of six curvatures. With 2,000 chains a variance is known to `√(2/2000)`, about 3 %; we accept four of those.

# %%
eta, sigma, chains = 0.1, 1.0, 2000
h = torch.tensor([0.5, 1, 2, 4, 8, 16], dtype=torch.float64)
generator, theta = torch.Generator().manual_seed(0), torch.zeros(chains, len(h), dtype=torch.float64)
for _ in range(400):
    xi = torch.randn(theta.shape, generator=generator, dtype=torch.float64)
    theta = theta - eta * (h * theta + sigma * xi)
spread, formula = theta.var(0), eta * sigma**2 / (h * (2 - eta * h))
assert ((spread / formula - 1).abs() < 4 * (2 / chains) ** 0.5).all()

# %% [markdown]
# The assertion has passed. Set beside the bounce of SAM, the same axis gives another picture:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
grid = torch.linspace(0.4, 17, 300, dtype=torch.float64)
fig, ax = plt.subplots()
ax.loglog(grid, (eta * sigma**2 / (grid * (2 - eta * grid))).sqrt(), "-", label="√V, formula")
ax.loglog(h, spread.sqrt(), "o", color=fl.plots.BLUE, label="√V, 2,000 chains")
ax.loglog(curvatures, bounce, "--", color=fl.plots.ORANGE, label="bounce of SAM")
ax.set(xlabel="curvature h", ylabel="distance from the minimum", title="opposite answers to one curvature")
ax.legend(loc="lower right")
fl.plots.show(fig, alt="over curvature the spread under gradient noise falls while the bounce of SAM rises")

# %% [markdown]
# **What you see.** The spread under noise *falls* with curvature (until `ηh` passes 1, when each step overshoots), and the bounce of SAM *rises*.
# The two are often named in one breath as "preferring flat minima"; on a parabola they respond to curvature in opposite ways. (Tighter does not mean safer: between two valleys of one depth, noise will leave the narrow one *sooner*, because there it tries the barrier more often. See *Measure*.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Label noise: the same noise, through another door
#
# In the product model the datum has the target 1. Label noise shakes this target, so the gradient of `½(ab − 1 − σξ)²` is `r·(b, a)`
# with the residual `r = ab − 1 − σξ`. It is noise, but only in the direction `(b, a)`, *across* the valley.
#
# One line of algebra shows why it matters. A step takes `a` to `a − ηrb` and `b` to `b − ηra`, so
#
# $$a_{\rm new}^2-b_{\rm new}^2=(a^2-b^2)\,(1-\eta^2r^2)$$
#
# As long as the residual `r` is kept alive, the imbalance `a² − b²` shrinks. Plain descent reaches `r = 0`, and the sliding stops.

# %%
def slope(theta, target=1.0):
    return (theta.prod(-1, keepdim=True) - target) * theta.flip(-1)  # r · (b, a)


# %% [markdown]
# Three checks on random points: the slope against autograd, the trace, and the identity with a noisy target.

# %%
product = fl.Objective(lambda theta: (theta[..., 0] * theta[..., 1] - 1) ** 2 / 2, dim=2)
points = torch.randn(5, 2, generator=generator, dtype=torch.float64)
assert torch.allclose(product.gradient(points), slope(points))
assert torch.allclose(product.hessian(points).diagonal(dim1=-2, dim2=-1).sum(-1), points.square().sum(-1))
target, eta = 1 + torch.randn(5, 1, generator=generator, dtype=torch.float64), 0.05
new, r = points - eta * slope(points, target), points.prod(-1) - target[:, 0]
before, after = (p[:, 0] ** 2 - p[:, 1] ** 2 for p in (points, new))
assert torch.allclose(after, before * (1 - eta**2 * r**2))

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# Back to your prediction. The four regularisers, each in one line; `t` is a batch of points `(a, b)`, `s` is the strength.

# %%
noise = torch.Generator().manual_seed(0)


def normal(t):
    return torch.randn(t.shape, generator=noise, dtype=torch.float64)


def unit(g):
    return g / g.norm(dim=-1, keepdim=True).clamp(min=1e-12)


rules = {
    "weight decay λ": lambda t, s: slope(t) + 2 * s * t,
    "SAM ρ": lambda t, s: slope(t + s * unit(slope(t))),
    "gradient noise σ": lambda t, s: slope(t) + s * normal(t),
    "label noise σ": lambda t, s: slope(t, 1 + s * normal(t[..., :1])),
}

# %% [markdown]
# Nine strengths from 0 to a maximum, 64 chains each, 2,000 steps.

# %%
def walk(rule, strengths, start=(3.0, 0.1), eta=0.05, steps=2000, chains=64):
    s = torch.as_tensor(strengths, dtype=torch.float64)[:, None, None]
    theta = torch.as_tensor(start, dtype=torch.float64).expand(len(s), chains, 2)
    path = [theta]
    for _ in range(steps):
        theta = theta - eta * rules[rule](theta, s)
        path.append(theta)
    return torch.stack(path)  # (steps + 1, strengths, chains, 2)


strongest = dict(zip(rules, (0.2, 0.8, 1.0, 1.0), strict=True))
paths = {rule: walk(rule, [top * i / 8 for i in range(9)])[::10] for rule, top in strongest.items()}

# %% [markdown]
# The panel draws one chain on the surface, and beside it the trace `a² + b²` of the 64 chains: their mean (solid) and their median (dashed). Move the strength, then change the regulariser.

# %% jupyter={"source_hidden": true}
def surface(ax):
    a, b = (torch.linspace(low, high, 150, dtype=torch.float64) for low, high in ((0, 4), (-0.6, 2.4)))
    ax.contourf(a, b, product(torch.stack(torch.meshgrid(a, b, indexing="xy"), -1)).log1p(), levels=24)
    ax.plot(a[10:], 1 / a[10:], "--", color="white", lw=1.5)
    ax.plot(1, 1, "*", color="white", ms=13)
    ax.plot(3, 0.1, "o", mfc="none", mec=fl.plots.ORANGE, ms=10, mew=2)
    ax.grid(False)
    ax.set(xlabel="a", ylabel="b", xlim=(0, 4), ylim=(-0.6, 2.4), title="dashed: loss 0, star: flattest")
    (trail,) = ax.plot([], [], "-", color=fl.plots.ORANGE, lw=1.8)
    (end,) = ax.plot([], [], "o", color="white", mec="black", ms=9)
    return trail, end


# %% [markdown]
# And what moves:


# %% jupyter={"source_hidden": true}
def build(fig):
    left, right = fig.subplots(1, 2)
    trail, end = surface(left)
    (curve,) = right.plot([], [], "-", label="mean")
    (middle,) = right.plot([], [], "--", label="median")
    right.legend(loc="upper right")
    right.axhline(2, color="black", ls=":", lw=1.5)
    right.set(xlabel="step", ylabel="tr H = a² + b²", xlim=(0, 2000), ylim=(0, 13), title="dotted: least trace at loss 0")

    def update(rule, strength):
        path = paths[rule][:, int(strength)]
        trace, loss = path.square().sum(-1).mean(1), product(path[-1]).mean()
        trail.set_data(*path[:, 0].T)
        end.set_data(*path[-1, 0][:, None])
        curve.set_data(range(0, 2001, 10), trace)
        middle.set_data(range(0, 2001, 10), path.square().sum(-1).median(1).values)
        s = strongest[rule] * strength / 8
        return f"{rule} = {s:.3g}: ends at tr H {trace[-1]:.2f}, un-penalised train loss {loss:.4f}"

    return update


# %% [markdown]
# All of it is measured on the clean loss.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fl.panels.Panel(
    build,
    alt="left: the valley of the product model with the trail of the minimiser; right: the trace over the steps",
    size=(9, 3.8), labels={"rule": "regulariser", "strength": "strength (eighths of the maximum)"},
    rule=(list(rules), "label noise σ"), strength=(list(range(9)), 8),
).show()

# %% [markdown] slideshow={"slide_type": "fragment"}
# **What you see.** Without a regulariser (strength 0) the walk drops onto the valley and stays where it fell. Weight decay, SAM and label noise all slide
# towards the star, and the stronger they are, the faster. Gradient noise wanders along the valley, up and down.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["result"]
print("result")
late = {rule: path[-20:, -1] for rule, path in paths.items()}  # the largest strength, the last 200 steps
traces = {rule: points.square().sum(-1) for rule, points in late.items()}
for rule, trace in traces.items():
    print(f"{rule[:-2]:<14}  tr H: mean {trace.mean():5.2f}, median {trace.median():5.2f}, below 3 in {(trace < 3).double().mean():4.0%}", end="")
    print(f"   un-penalised loss {product(late[rule]).mean():.4f}")
left_out = [rule[:-2] for rule, trace in traces.items() if trace.mean() > 3]
print(slide.settle("all but " + ", ".join(left_out) if left_out else "all four"))

# %% [markdown]
# Two things to notice. **Weight decay** shows a trace *below* 2, which no point of loss 0 has: it has left the valley, and the loss beside it is the price. **Gradient noise** cannot lower the mean trace, whatever it does: it adds the same `η²σ²` to the mean of `a²` and of `b²`, so the mean of `a² − b²` changes by the factor `1 − η²r²` of the plain step alone, which is 1 on the valley; and `a² + b²` is never smaller than that. The median is another matter: most walkers do spend their time lower down, and a few far up make up the mean.
#
# That is the case for flatness, and it is a good one: three quite different methods agree on the flattest point. But the star has another property.
# It is also the point of the valley **nearest to 0**.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Flat or near? Move the origin
#
# In the product model nearness and flatness are one and the same number, `a² + b² = tr H = ‖θ‖²`. So take them apart: `½((a − 2)b − 1)²` is the same valley, moved to the right by 2. Its flattest points are where `a − 2 = b = ±1`, with trace 2 again; the point nearest to 0 is another one. We start on the lower branch, at `(−1, −0.1)`, which is the old start mirrored.

# %%
origin = torch.tensor([2.0, 0.0], dtype=torch.float64)
valley_points = -torch.linspace(0.2, 5, 4801, dtype=torch.float64)  # a − 2 on the lower branch
nearest = ((valley_points + 2) ** 2 + 1 / valley_points**2).argmin()
trace_at_nearest = (valley_points**2 + 1 / valley_points**2)[nearest].item()


def shifted(rule, strength, steps=4000, chains=64, eta=0.05):
    theta = torch.tensor([-1.0, -0.1], dtype=torch.float64).expand(chains, 2)
    for _ in range(steps):
        pull = 2 * strength * theta if rule == "weight decay λ" else rules[rule](theta - origin, strength)
        theta = theta - eta * (slope(theta - origin) + pull if rule == "weight decay λ" else pull)
    return theta


# %% [markdown]
# Weight decay so weak that it hardly leaves the valley, and the two others at a moderate strength:

# %% jupyter={"source_hidden": true}
moved = {"weight decay λ": shifted("weight decay λ", 0.003, 12_000, 1), "SAM ρ": shifted("SAM ρ", 0.4), "label noise σ": shifted("label noise σ", 1.0)}
print(f"nearest point of the valley: trace {trace_at_nearest:.2f}; flattest: 2.00")
for rule, theta in moved.items():
    u = theta - origin
    print(f"{rule[:-2]:<14} ends at a − 2 = {u[:, 0].mean():+.2f}, tr H {u.square().sum(-1).mean():.2f}, ‖θ‖² {theta.square().sum(-1).mean():.2f}, loss {product(u).mean():.4f}")
ratio = (moved["weight decay λ"] - origin).square().sum(-1).mean().item()

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "03.6", "with the origin moved, weight decay (λ = 0.003) stops at a trace more than twice that of the flattest point of its valley",
    ratio, "holds", above=4.0, detail=f"the point nearest to 0 has trace {trace_at_nearest:.2f}, the flattest 2; "
    f"un-penalised loss {product(moved['weight decay λ'] - origin).mean():.4f}; label noise ends at {(moved['label noise σ'] - origin).square().sum(-1).mean():.2f}",
)

# %% [markdown]
# So the three do not want the same thing. Weight decay goes to the *near* point, sharp as it is there; SAM and label noise do not know where 0 is, and go on to the flat one. What does each of them minimise? For label noise on a squared loss it is the trace (Blanc et al. 2020; Damian, Ma and Lee 2021); for SAM it depends on how it is run: full-batch SAM follows λ_max, single-sample SAM the trace (Wen, Ma and Li 2023).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure: two valleys
#
# ### Predict
#
# The double well from above has a flat valley at −1.5 and a sharp one at 0.5. They are equally deep. The sharp one is nearer to 0.

# %% slideshow={"slide_type": "fragment"}
valley = fl.predictions.ask(
    "03.valley",
    "We add λθ² with a small λ. In which valley is the lowest point of the penalised loss?",
    choices=["the flat one", "the sharp one", "it depends on λ"],
)

# %% [markdown]
# Descent does not jump to the lowest point, it starts somewhere and walks. So there is a second question:

# %% slideshow={"slide_type": "fragment"}
switch = fl.predictions.ask(
    "03.lambda",
    "From which λ on does gradient descent end in the sharp valley from every start between −2.7 and 1.2?",
    slider=(0.0, 0.5),
)

# %% [markdown]
# ### Weight decay
#
# Two sentences with their bounds, over the fifty `λ` from 0.01 to 0.5. (The range is *ours*: we had looked at some `λ` before, and the first sentence fails for larger ones.)
# 1. *Weight decay selects the sharper valley when it is nearer to 0*: the clean curvature at the lowest penalised point, divided by that of the flat valley, must
#    exceed 1 at **every** `λ`. We report the smallest ratio.
# 2. *Descent follows*: the mean clean curvature of the 100 ends, divided by the mean without penalty, must exceed 1 at every `λ` too.
#
# So: fifty-one penalties times one hundred starts in one batch, and the clean curvature at each end.

# %%
lambdas = torch.linspace(0, 0.5, 51, dtype=torch.float64)
starts = torch.linspace(-2.7, 1.2, 100, dtype=torch.float64)[:, None]
ends = descend(well, starts.expand(51, -1, -1), lambdas[:, None, None])  # (51, 100, 1)
curvature = well.hessian(ends)[..., 0, 0]  # clean


# %% [markdown]
# Beside it, the lowest point of the penalised loss on a fine grid. The function is an argument, because we will ask the same of another well.

# %%
def lowest(f, lam):
    grid = torch.linspace(-3, 2.2, 5_201, dtype=torch.float64)[:, None]
    return grid[(f(grid) + lam * grid[:, 0] ** 2).argmin()]


best = torch.stack([lowest(well, lam) for lam in lambdas[1:]])  # (50, 1)
best_curvature = well.hessian(best)[:, 0, 0]

# %% [markdown]
# In this panel `λ` moves the penalised loss. The dots are where descent ends from the outermost start on each side.

# %% jupyter={"source_hidden": true}
def build_well(fig):
    left, right = fig.subplots(1, 2)
    t = torch.linspace(-2.2, 1.0, 300, dtype=torch.float64)
    left.plot(t, well(t[:, None]), "-", color=fl.plots.GREY, label="f (clean)")
    (curve,) = left.plot([], [], "--", color=fl.plots.BLUE, label="f + λθ²")
    (trail,) = left.plot([], [], ".", color=fl.plots.ORANGE, ms=4)
    (dots,) = left.plot([], [], "o", color=fl.plots.ORANGE, ms=9, label="descent ends here")
    left.set(xlabel="θ", xlim=(-2.2, 1.0), ylim=(-0.05, 1.1), title="the loss")
    left.legend(loc="upper center", fontsize=10)
    for side, style, name in ((0, ".", "from the left"), (-1, "x", "from the right")):
        right.plot(lambdas, curvature[:, side], style, label=name)
    (now,) = right.plot([], [], "o", color="black", ms=7)
    right.set(xlabel="λ", ylabel="clean curvature", ylim=(-1, 6), title="where descent ends")
    right.legend(fontsize=10)

    def update(lam):
        i = round(lam * 100)
        curve.set_data(t, well(t[:, None]) + lam * t**2)
        for artist, rows in ((trail, ends[: i + 1]), (dots, ends[i : i + 1])):
            places = rows[:, [0, -1], 0].flatten()
            artist.set_data(places, well(places[:, None]))
        now.set_data([lam, lam], curvature[i, [0, -1]])

    return update


# %% [markdown]
# Drag slowly between 0.2 and 0.3.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fl.panels.Panel(
    build_well,
    alt="left: double well with and without penalty and where descent ends; right: clean curvature there against λ",
    size=(9, 3.8), labels={"lam": "λ"}, lam=(lambdas.tolist(), lambdas.tolist()[27]),
).show()

# %% [markdown]
# **What you see.** The penalty lifts the flat valley, which is farther from 0, and the minimiser there gives way and climbs; the sharp valley hardly moves. At some `λ`
# the flat valley is gone, and the walker from the left falls into the sharp one. Until then, *inside* each valley, more penalty means less clean curvature.

# %% [markdown] slideshow={"slide_type": "subslide"}
# The flat valley is gone where its slope can no longer hold against the pull `2λ|θ|`: beyond the largest `f′(θ)/(2|θ|)` on its right flank.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["result"]
print("result")
top = -2.5 + 5**0.5  # the top of the barrier, where f′ = 0
flank = torch.linspace(-1.5, top, 10_001, dtype=torch.float64)[:, None]
closed = (well.gradient(flank) / (2 * flank.abs())).max().item()
share = (ends[..., 0] > top).double().mean(1)  # of the starts, those that end in the sharp valley
print(f"the flat valley is gone beyond λ = {closed:.3f}")
print(switch.settle(lambdas[share == 1][0].item()))

# %% [markdown]
# Now all starts together.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
mean = curvature.mean(1)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
left.plot(lambdas, share, ".", ms=9, label="100 starts of descent")
switch.draw(left)
left.set(xlabel="λ", ylabel="share of starts", ylim=(0, 1.05), title="ends in the sharp valley")
left.legend(loc="lower right")
right.plot(lambdas[1:], best_curvature, "--", color=fl.plots.ORANGE, label="lowest point, clean")
right.plot(lambdas, mean, ".", ms=9, color=fl.plots.BLUE, label="mean of the starts, clean")
right.plot(lambdas, mean + 2 * lambdas, "x", ms=5, color=fl.plots.GREY, label="the same, penalised")
right.axhline(well.hessian(well.minima[0]).item(), color="black", lw=1, ls="-.", label="the flat valley")
right.set(xlabel="λ", ylabel="curvature", ylim=(0, 7.8), title="how sharp is the solution?")
right.legend(fontsize=9, ncols=2, loc="upper center")
fl.plots.show(fig, alt="left: share of starts that end in the sharp valley, with a jump to one; right: clean curvatures against λ")

# %% [markdown]
# **What you see.** The lowest point (dashed) is in the sharp valley for every positive `λ` drawn here. Descent is slower to follow: at first the average start ends
# *flatter*, because each valley gives way a little; at the switch all starts end in the sharp valley, and the average jumps. The grey crosses, the wrong ruler, would have hidden
# half of the fall before the switch.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The two claims
#
# The sentences and bounds from above.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
print(valley.settle("the sharp one" if (best[:, 0] > top).all() else "it depends on λ"))
wide = torch.linspace(0.02, 2, 100, dtype=torch.float64)
ratio = torch.stack([well.hessian(lowest(well, lam))[0, 0] for lam in wide]) / well.hessian(well.minima[0])
limit = wide[ratio < 1][0].item()
fl.claims.declare(
    "03.1", "the lowest point of f + λθ² is in the sharper valley if that is nearer to 0, at each λ from 0.01 to 0.5",
    (best_curvature / well.hessian(well.minima[0])).min().item(), "holds with a caveat", above=1.0,
    caveat=f"a range of λ chosen after a look: from λ = {limit:.2f} on the ratio is below 1. And a toy in which we placed "
    "the sharp valley nearer to 0; mirrored, the flat one is selected (the control below)",
    detail=f"ratio of clean curvatures; the clean loss there is at most {well(best).max():.3f}, against 0 in both valleys",
    about={"C3": "silent"}, experiment="two valleys placed by hand",
)

# %% [markdown]
# And the second, a tested result as well:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
fl.claims.declare(
    "03.2", "descent on f + λθ² ends sharper, on average over 100 starts, than on f, at each λ from 0.01 to 0.5",
    (mean[1:] / mean[0]).min().item(), "does not hold here", above=1.0,
    detail=f"ratio of clean curvatures; flatter at λ = 0.20 ({mean[20] / mean[0]:.2f}), sharper at 0.30 ({mean[30] / mean[0]:.2f})",
)

# %% [markdown]
# **The control.** Mirror the situation: move the centre to +0.5, so that the *flat* valley is the near one. Nothing else changes.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "subslide"} tags=["result"]
print("result")
for centre in (-0.5, 0.5):
    f = fl.functions.double_well(centre=centre)
    point = lowest(f, 0.1)
    print(f"minima {f.minima.tolist()}   with λ = 0.1 lowest at θ = {point.item():+.2f}", end="   ")
    print(f"clean curvature {f.hessian(point).item():.2f}")

# %% [markdown]
# So weight decay is neither for nor against flatness. It is for **nearness to 0**, and its solution is as sharp as the function happens to be there.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Gradient noise
#
# Here noise has two valleys of equal depth to choose from. For small `η` a noisy walker visits `θ` with a frequency proportional to `exp(−2f(θ)/(ησ²))` (we do not derive this; we check it), near a bottom a normal curve of width `∝ 1/√h`. So **the flat valley, being wider, is visited more often.** 1,000 chains start in each valley, with `σ` large enough to settle in the steps that we can afford. **Bound:** the flat valley must hold more than half of them.

# %%
eta, sigma, steps = 0.05, 2.0, 3000
theta, in_flat = well.minima[:, None, None].expand(2, 1000, 1), []
for _ in range(steps):
    theta = theta - eta * (well.gradient(theta) + sigma * normal(theta))
    in_flat.append(theta[..., 0] < top)
in_flat = torch.stack(in_flat).double()  # (steps, where it started, chain)

# %% [markdown]
# How soon each valley is left, and the prediction of the formula, a sum over a grid:

# %%
grid = torch.linspace(-2.8, 2, 10_001, dtype=torch.float64)[:, None]
weight = torch.exp(-2 * well(grid) / (eta * sigma**2))
predicted = (weight[grid[:, 0] < top].sum() / weight.sum()).item()
early = 1 - in_flat[:300, 0].min(0).values.mean().item(), in_flat[:300, 1].max(0).values.mean().item()
print(f"within 300 steps {early[0]:.0%} have left the flat valley at least once, {early[1]:.0%} the sharp one")
print(f"predicted share in the flat valley: {predicted:.3f}")

# %% [markdown]
# The picture over all steps:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fig, ax = plt.subplots()
for start, style, name in ((0, "-", "started in the flat one"), (1, "--", "started in the sharp one")):
    ax.plot(in_flat[:, start].mean(1), style, label=name)
ax.axhline(predicted, color="black", ls=":", lw=1.5, label="predicted")
ax.set(xlabel="step", ylabel="share in the flat valley", ylim=(0, 1.02), title=f"η = {eta}, σ = {sigma:g}")
ax.legend(loc="lower right")
fl.plots.show(fig, alt="the share of walkers in the flat valley, from two starts, meets near the prediction of seventy per cent")

# %% [markdown]
# **What you see.** The two groups forget where they started, and meet near the prediction. The sharp valley, which held its walkers tighter, is left sooner.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
visits = in_flat[-500:].mean(0).flatten()  # one value per chain
occupied = fl.Estimate(visits.mean().item(), visits.std().item() / len(visits) ** 0.5)
assert abs(occupied - predicted) < 0.04  # the formula is for small η
claim = fl.claims.declare(
    "03.3", "with gradient noise the flatter of two equally deep valleys holds more than half of the walkers",
    occupied, "holds", above=0.5, detail=f"predicted {predicted:.3f}; 2,000 chains, last 500 of {steps:,} steps",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### SAM
#
# The bounce grows with curvature, so SAM should give up the sharp valley first. A valley is lost when the place that SAM *looks at* lies beyond the top of the barrier, where the
# slope pulls the other way. How far the top is from each bottom stands in the question.

# %% slideshow={"slide_type": "fragment"}
radius = fl.predictions.ask(
    "03.rho",
    f"The top of the barrier is {0.5 - top:.2f} away from the sharp bottom and {top + 1.5:.2f} from the flat one. "
    "SAM starts next to the sharp bottom, with η = 0.1. At which radius ρ does it give the sharp valley up?",
    slider=(0.0, 1.2),
)

# %% [markdown]
# For 111 radii we start SAM at six points around each bottom, and keep its last 20 positions. "Given up" means: more than 0.5 away from the bottom, on average over
# these steps, for at least one of the six. **Bound:** the rival explanation is mere distance: the flat valley's barrier is 1.62 times as far away. So the radius for the flat valley, divided by that for the sharp one, must exceed 1.62 for **every one** of four step sizes. (The bound was 1 at first, which distance alone would have passed. The figure shows `η = 0.1`, where all bands are visible.)

# %%
radii = torch.linspace(0, 2.2, 111, dtype=torch.float64)
nudges = torch.tensor([-0.05, -0.03, -0.01, 0.01, 0.03, 0.05], dtype=torch.float64)
etas = torch.tensor([0.02, 0.05, 0.1, 0.2], dtype=torch.float64)
theta, every = (well.minima[:, None] + nudges).expand(4, 111, 2, 6)[..., None], []
for i in range(1000):
    theta = sam_step(well, theta, etas.view(4, 1, 1, 1, 1), radii.view(111, 1, 1, 1))
    every += [theta[..., 0]] if i >= 980 else []
every = torch.stack(every, 1)  # (step size, 20, radius, valley, start)

# %% [markdown]
# For each step size: the radius at which each valley is given up, and from the sharp bottom, how many of the 111 radii bring all six starts to the flat valley.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["result"]
print("result")
away = ((every.mean(1) - well.minima[:, None]).abs() > 0.5).any(-1)  # (step size, radius, valley)
given_up = radii[away.int().argmax(1)]  # (step size, valley)
arrived = ((every[:, :, :, 1] - well.minima[0]).abs() < 0.5).all(-1).all(1).sum(-1)
for eta, (flat, sharp), count in zip(etas, given_up, arrived, strict=True):
    print(f"η = {eta.item():<4}  given up: sharp at ρ = {sharp:.2f}, flat at ρ = {flat:.2f}", end="   ")
    print(f"all six reach the flat valley for {count} radii")
last, rho_sharp = every[2], given_up[2, 1].item()  # η = 0.1 from here on
thrown_out = radii[(last[-1, :, 1] < -2.2).any(-1)][0].item()

# %% [markdown]
# One helper draws the last positions over `ρ`; we will use it twice.

# %% jupyter={"source_hidden": true}
def draw(ax, side, low, high):
    chosen = (radii >= low - 1e-9) & (radii <= high + 1e-9)
    x = radii[chosen][None, :, None].expand(20, -1, 6)
    ax.plot(x.flatten(), last[:, chosen, side].flatten(), ".", ms=3, color=fl.plots.BLUE, label="SAM")
    lines = (0.5, "--", "sharp bottom"), (top, "-", "top of the barrier"), (-1.5, "-.", "flat bottom")
    for y, style, name in lines:
        ax.axhline(y, color=fl.plots.GREY, lw=1.2, ls=style)
        ax.text(high, y + 0.12, name, ha="right", fontsize=9.5)
    ax.set(xlabel="radius ρ", ylabel="θ, last 20 steps", xlim=(low, high), ylim=(-2.2, 1.2))


# %% [markdown]
# The result, up to a radius that is a little smaller than the flat valley:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
for ax, side, name in zip(axes, (1, 0), ("sharp", "flat"), strict=True):
    draw(ax, side, 0, 1.18)
    ax.set(title=f"started at the {name} bottom, η = 0.1")
axes[1].set(ylabel="")
radius.draw(axes[0])
axes[0].legend(loc="upper right", ncols=2, fontsize=9.5, markerscale=3)
fl.plots.show(fig, alt="SAM's last positions: from the sharp bottom to the barrier, then the flat valley; from the flat bottom it stays")
print(f"some starts are thrown out of the picture from ρ = {thrown_out:.2f} on")
print(radius.settle(rho_sharp))

# %% [markdown]
# **What you see.** Right: from the flat bottom SAM stays, with a small bounce, over the whole range. Left: in the sharp valley the bounce widens, and the valley is given up long
# before `ρ` reaches the barrier, because the bounce adds to the reach. But *given up* is not *arrived*: SAM hovers on **top of the barrier**, at the worst loss between the valleys; then it lands in the flat valley (a band that is missing at the two smaller step sizes); and at the right it stands on the slope, or is thrown out of the picture.
#
# <details><summary>Side road: why on top?</summary>
#
# To the right of the top, uphill is left: SAM looks across the top, where the slope drives it left. To the left of the top it is the other way round. So the top *attracts*.
#
# </details>

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
assert (arrived[:2] == 0).all() and (arrived[2:] > 0).all()  # what the caveat says
distance = (top + 1.5) / (0.5 - top)
fl.claims.declare(
    "03.4", f"SAM gives up the sharp valley at a radius smaller by more than the ratio of the distances to the barrier ({distance:.2f}), at each of four step sizes",
    (given_up[:, 0] / given_up[:, 1]).min().item(),
    "holds with a caveat", above=distance, about={"C3": "silent"}, experiment="two valleys placed by hand",
    caveat="giving up is not arriving: at the two smaller step sizes no radius brings all starts to the flat valley, "
    "and at the larger ones only a band of radii does; so it does not say that SAM ends flatter",
    detail=f"smallest ratio of the two radii; at η = 0.1 they are {given_up[2, 0]:.2f} and {rho_sharp:.2f}; no noise",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Label noise
#
# The product model once more, with a bound. At loss 0 no point has a trace below 2. We run 200 chains for 3,200 steps of label noise with `σ = 1`, then 300 quiet steps, so that the
# loss is 0 again and the floor applies. **Bound:** even the worst chain must end within 1 % of the floor, below 2.02.

# %%
noisy = walk("label noise σ", [1.0], steps=3200, chains=200)[-1]
quiet = walk("label noise σ", [0.0], start=noisy, steps=300, chains=200)[-1]
unregularised = walk("label noise σ", [0.0], steps=3200, chains=1)[-1]
traces = quiet.square().sum(-1)

# %% [markdown]
# The largest of the 200 traces is what we declare.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "03.5", "label noise slides the product model along its valley to the flattest minimum",
    traces.max().item(), "holds", below=2.02,
    detail=f"largest tr H of 200 chains; their train loss is below {max(1e-20, product(quiet).max()):.0e}; "
    f"without noise tr H = {unregularised.square().sum():.2f}",
)

# %% [markdown]
# The loss is back at 0. Whether the flattest interpolator is also the *right* one is the subject of notebook 18.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# SAM with a radius larger than both valleys. It looks `ρ` uphill, over the barrier, into the other valley. What does it do? We start at the flat bottom; the data
# are in the sweep above.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "slide"}
fig, ax = plt.subplots(figsize=(6.5, 4))
draw(ax, 0, 1.1, 2.2)
ax.plot(radii, 0.5 - radii, "-", color=fl.plots.ORANGE, lw=7, alpha=0.4, zorder=1, label="sharp bottom − ρ")
ax.set(title="started at the flat bottom")
ax.legend(loc="upper right", ncols=2, fontsize=9.5)
fl.plots.show(fig, alt="SAM from the flat bottom rests on the slope between the valleys, on the line sharp bottom minus ρ")

# %% [markdown]
# **What you see.** Above the radius at which the flat valley is given up, SAM comes to rest after all, in the middle of a slope, on the broad line. There it stands exactly `ρ` to the left of the
# sharp bottom: the place that it *looks at* is a minimum, the slope there is 0, and SAM is content.

# %%
resting = (radii > 1.25) & (radii < 1.95)
assert torch.allclose(last[-1, resting, 0] + radii[resting, None], torch.full((1,), 0.5).double(), atol=1e-6)
for i in (65, 75, 85):
    rho, here = radii[i].item(), last[-1, i, 0, :1]
    print(f"ρ = {rho:.1f}: rests at θ = {here.item():+.2f}   loss {well(here):.3f}", end="   ")
    print(f"slope {well.gradient(here).item():+.3f}   loss where it looks {well(here + rho):.3f}")

# %% [markdown] slideshow={"slide_type": "fragment"}
# Not a minimiser of `f`, not flat, not even level. A radius is a length, and a length means something only beside the width of the valley. (Saddle points can attract SAM in the same way: Kim et al., arXiv:2301.06308.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Exercises
#
# ### 1 · The fair ruler (★, 3 minutes)
#
# A colleague trains on `f(θ) + λθ²` with `λ = 0.3`, and reports the curvature of the training objective at the solution: 6.0. Which sharpness should the report state?

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
ruler = fl.exercises.Exercise(
    "03.ruler",
    answer=6.0 - 2 * 0.3,
    mistakes={
        "you subtracted λ; differentiate λθ² twice": 6.0 - 0.3,
        "this is the sharpness of the training objective; fair measurement takes the un-penalised loss": 6.0,
        "right amount, wrong direction: is the penalised loss the sharper or the flatter of the two?": 6.0 + 2 * 0.3,
        "this is what the penalty alone contributes": 2 * 0.3,
    },
    praise="the penalty adds 2λ at every point, so it can be taken off again without knowing f",
)

# %% [markdown]
# Put your number in place of the dots.

# %%
answer = ...
ruler.check(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# ruler.check(6.0 - 2 * 0.3)
# ```
#
# The second derivative of `λθ²` is `2λ`. The clean curvature *at the same point* is what is left. It is not the curvature at the minimum of `f`:
# the penalty has moved the solution as well.
#
# </details>

# %% [markdown]
# ### 2 · SAM and weight decay together (★★, 8 minutes)
#
# One of the six controls of notebook 08 is "weight decay + SAM". Write one step of it: SAM's slope is that of the clean loss `f`, and the decay term is added to
# it, taken at the point **where you are**. `gradient` is a function; `theta` is a tensor.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
def _look(theta, gradient, rho):
    return theta + rho * gradient(theta) / gradient(theta).norm()


_points = [torch.tensor(p, dtype=torch.float64) for p in ([1.0, 2.5], [-2.0, 1.0])]


def _penalised(t, g, rho, lam):
    return t + rho * (g(t) + 2 * lam * t) / (g(t) + 2 * lam * t).norm()


_slips = {
    "no restore: you stepped from the point that you looked at; the step starts at theta":
        lambda t, g, eta, rho, lam: _look(t, g, rho) - eta * (g(_look(t, g, rho)) + 2 * lam * t),
    "no norm: ε = ρ g has the length ρ‖g‖; divide by the norm so that its length is ρ":
        lambda t, g, eta, rho, lam: t - eta * (g(t + rho * g(t)) + 2 * lam * t),
    "sign(g) makes a step of length ρ in *every* coordinate; ε has the length ρ and the direction of g":
        lambda t, g, eta, rho, lam: t - eta * (g(t + rho * g(t).sign()) + 2 * lam * t),
    "you went uphill on the *penalised* loss: here SAM's way up is that of the clean loss f":
        lambda t, g, eta, rho, lam: t - eta * (g(_penalised(t, g, rho, lam)) + 2 * lam * t),
}

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
both = fl.exercises.Exercise(
    "03.step",
    answer=lambda t, g, eta, rho, lam: t - eta * (g(_look(t, g, rho)) + 2 * lam * t),
    mistakes=_slips | {
        "wrong sign: you looked downhill; SAM looks at the worst place, uphill":
            lambda t, g, eta, rho, lam: t - eta * (g(_look(t, g, -rho)) + 2 * lam * t),
        "the slope is taken at theta, so ρ has no effect: this is gradient descent with weight decay":
            lambda t, g, eta, rho, lam: t - eta * (g(t) + 2 * lam * t),
        "the decay is taken at the point that you looked at; it belongs to theta":
            lambda t, g, eta, rho, lam: t - eta * (g(_look(t, g, rho)) + 2 * lam * _look(t, g, rho)),
        "the derivative of λθ² is not λθ":
            lambda t, g, eta, rho, lam: t - eta * (g(_look(t, g, rho)) + lam * t),
        "the decay is outside the step size: η multiplies both parts":
            lambda t, g, eta, rho, lam: t - eta * g(_look(t, g, rho)) - 2 * lam * t,
        "the decay is missing":
            lambda t, g, eta, rho, lam: t - eta * g(_look(t, g, rho)),
    },
    praise="look uphill on the clean loss, come back, and let the decay act where you are",
    inputs=[(p, fl.functions.himmelblau.gradient, 0.01, 0.3, 0.2) for p in _points], rtol=1e-6,
)

# %% [markdown]
# The function gets everything as arguments; return the new point.

# %%
def step(theta, gradient, eta, rho, lam):
    return ...


both.check(step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def step(theta, gradient, eta, rho, lam):
#     g = gradient(theta)
#     epsilon = rho * g / g.norm()
#     return theta - eta * (gradient(theta + epsilon) + 2 * lam * theta)
#
# both.check(step)
# ```
#
# The usual SAM code does the same: it restores the weights *before* the optimiser steps, and the optimiser adds its decay to whatever gradient it finds.
#
# </details>

# %% [markdown]
# ### 3 · When does the order change? (★★★, 12 minutes)
#
# Two parabolic valleys of equal depth 0: a flat one with `h₁ = 1` at `a₁ = −1.5`, and a sharp one with `h₂ = 8` at `a₂ = 1`, so `f(θ) = min(½h₁(θ − a₁)², ½h₂(θ − a₂)²)`.
# For small `λ` the sharp valley is the lower one of `f + λθ²`, since it is nearer to 0. But the flat valley gives way more easily. At which `λ` are the two *penalised* depths equal?

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
order = fl.exercises.Exercise(
    "03.order",
    answer=10 / 11.5,
    mistakes={
        "a factor of two: you used ½λθ² for the penalty, or stopped at the value of 2λ": 20 / 11.5,
        "here the two minimisers are equally far from 0; the depths also contain what each has climbed in its own parabola": 4 / 13,
        "you compared only the climb ½h(θ − a)²; the penalty λθ² belongs to the depth": (12 - 2**1.5) / (2**2.5 - 3),
        "the size is right, the sign is not: check which side you subtracted from which": -10 / 11.5,
        "to first order in λ the nearer valley always wins; let the minimisers move": 0.0,
    },
    praise="below this λ the near, sharp valley is lower; above it the flat one, which can give way, wins",
)

# %% [markdown]
# Three significant digits are enough.

# %%
answer = ...
order.check(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Put `θ = a h/(h + 2λ)` into `½h(θ − a)² + λθ²`. The depth of a penalised parabola is `λ h a²/(h + 2λ)`. Setting the two equal,
# `h₁a₁²(h₂ + 2λ) = h₂a₂²(h₁ + 2λ)`, gives
#
# ```python
# h1, a1, h2, a2 = 1.0, -1.5, 8.0, 1.0
# order.check(h1 * h2 * (a1**2 - a2**2) / (2 * (h2 * a2**2 - h1 * a1**2)))
# ```
#
# For small `λ` the depth is about `λa²`: the nearer valley wins. For large `λ` it tends to `½ha²`: the flat valley wins although it is farther away. So even "weight decay
# prefers what is near" is a statement about a *range* of `λ`. In the double well this second switch never comes, because its flat valley disappears first.
#
# </details>

# %% [markdown]
# ### 4 · What follows? (★★, 6 minutes)
#
# A talk shows that a network trained with weight decay has a *larger* trace, on the clean training loss, than one trained without, at nearly the same train loss. Which conclusions follow from that together with what this notebook has shown?
#
# | | |
# |---|---|
# | A | "The decay adds 2λ to each curvature, so this was to be expected." |
# | B | "Of the solutions that fit, the one with smaller weights may be the sharper one." |
# | C | "Weight decay prefers sharp minima." |
# | D | "To see whether nearness to 0 did it, repeat with decay towards another point, λ‖θ − θ₀‖²." |
# | E | "The solution with decay generalises better because it is sharper." |

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
follows = fl.exercises.Exercise(
    "03.follows",
    answer={"B", "D"},
    mistakes={
        "A: the sharpness was taken on the *clean* loss, where the decay adds nothing": {"A", "B", "D"},
        "C: mirrored, the same decay selected the flat valley; it prefers what is near": {"B", "C", "D"},
        "E: nothing was said about new data, and a cause even less": {"B", "D", "E"},
        "D is the control of this notebook, for a network: move the point that the decay pulls to": {"B"},
        "B is what the double well and the moved product model show: it may be": {"D"},
        "the slogan is tempting, but the control with the mirrored well contradicts it": {"C"},
    },
    praise="a regulariser has a property that it prefers; whether that property is flat is up to the function.",
)

# %% [markdown]
# A set of letters:

# %%
conclusions = ...
follows.check(conclusions)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# conclusions = {"B", "D"}
# follows.check(conclusions)
# ```
#
# A forgets the fair ruler. C is refuted by the mirrored well. E speaks of something that was not measured. B is possible and was shown on two toys; D is the experiment that would tell nearness from flatness.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# Each regulariser asks its own question of a valley:
#
# | | what it responds to | product model | double well, sharp valley near 0 |
# |---|---|---|---|
# | weight decay | distance from 0, and how easily the valley gives way | flattest; with the origin moved, **not** | **sharp** |
# | SAM | the bounce, and what lies within `ρ` of it | flattest | gives up the sharp one first |
# | gradient noise | the width of the valley | wanders | flat, most of the time |
# | label noise | `tr H` | flattest, wherever the origin is | (needs a model with data) |
#
# **You may now say** "this regulariser prefers minima that are *near*, or *wide*, or *of small trace*", and name which.
#
# **You may no longer say** "it is regularised, so it is flatter".
#
# The paper's C3 ("regularised networks often end in sharper minima") is not touched: we placed the valleys ourselves.

# %%
fl.claims.take_away()

# %% [markdown]
# **The steelman.** *"Of course you can place a sharp valley nearer to 0. In networks, large weights are what makes a function steep, so near *is* flat far more often than not; and SAM and label noise, which do look for flatness, found it in every model of yours."* (Foret et al. 2021; Damian, Ma and Lee 2021.) Whether near is flat in a network is measured in 08.
#
# ### What this does not show
#
# - Nothing here was trained on data that generalise: no claim about test error is made or meant.
# - We placed the valleys. The double well shows that weight decay *can* select the sharp one, not that it usually does; C3 is put to the test on networks in notebook 08.
# - Our gradient noise is the same in every direction and at every point. The noise of mini-batches is not.
# - SAM ran without noise or momentum, in one and two dimensions. Either may shake it off the barrier; we did not try.

# %% [markdown]
# ### References
#
# - I. Mason-Williams, G. Mason-Williams, H. Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451.
# - P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, *Sharpness-Aware Minimization for Efficiently Improving Generalization*, arXiv:2010.01412.
# - P. Bartlett, P. Long, O. Bousquet, *The Dynamics of Sharpness-Aware Minimization*, arXiv:2210.01513 (the bounce, in any dimension).
# - H. Kim, J. Park, Y. Choi, J. Lee, *Stability Analysis of Sharpness-Aware Minimization*, arXiv:2301.06308 (SAM near saddle points).
# - K. Gatmiry, Z. Li, S. Reddi, S. Jegelka, *Simplicity Bias via Global Convergence of Sharpness Minimization*, arXiv:2410.16401 (label noise; notebook 18).
# - P. Long, P. Bartlett, *Sharpness-Aware Minimization and the Edge of Stability*, arXiv:2309.12488 (SAM's own edge).
# - K. Wen, T. Ma, Z. Li, *How Does Sharpness-Aware Minimization Minimize Sharpness?*, arXiv:2211.05729.
# - G. Blanc, N. Gupta, G. Valiant, P. Valiant, *Implicit Regularization for Deep Neural Networks Driven by an Ornstein-Uhlenbeck Like Process*, arXiv:1904.09080; A. Damian, T. Ma, J. D. Lee, *Label Noise SGD Provably Prefers Flat Global Minimizers*, arXiv:2106.06530.

# %% [markdown]
# All numbers without a box, and your predictions beside what came out:

# %%
fl.claims.numbers()

# %%
fl.predictions.compare()
