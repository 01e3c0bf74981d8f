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
# # 01 · One dimension
#
# **What does "flat" mean, and why should it be good?**

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/01_one_dimension.ipynb` (other ways: `README.md`).
#
# ← [00 · Start here](00_start_here.ipynb) · [02 · Two dimensions](02_two_dimensions.ipynb) →

# %% [markdown]
# > **You will be able to**
# > - compute a curvature from three values of a function, and read the width of a valley from it;
# > - give the three best arguments for flat minima, each with its formula;
# > - work out what a change of variable does to a curvature, and to the order of two curvatures;
# > - name the assumption on which all three arguments rest.
# >
# > **Needs** derivatives, the chain rule, notebook [00](00_start_here.ipynb) (its [glossary](00_start_here.ipynb#glossary) explains the terms)
# > · **Time** 36 minutes to read, 6 seconds to run on 2 cores
# > · **Source** Keskar et al. 2017 (the sketch of a shifted test loss); Hochreiter & Schmidhuber 1997 (short descriptions);
# > MacKay 1992 and Dziugaite & Roy 2017 (evidence, PAC-Bayes); Dinh et al. 2017 (change of variable)

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
# ## Two valleys, one depth
#
# Training a network is walking downhill on a loss. Take away everything but one parameter, and this is what is left:
# a *parameter* $\theta$ (one number) and a *training loss* $L(\theta)$. Ours has two valleys,
#
# $$L(\theta) = \tfrac14\,(\theta^2-1)^2\,e^{\theta},$$
#
# with minima at $\theta^*=-1$ and $\theta^*=+1$ (a star marks a minimum), and the loss is 0 at both. As far as training is concerned they are equally good.

# %% slideshow={"slide_type": "skip"}
well = fl.functions.double_well()
flat, sharp = well.minima
BLUE, ORANGE, GREY = fl.plots.BLUE, fl.plots.ORANGE, fl.plots.GREY  # blue: flat, orange: sharp

# %% [markdown]
# The picture to keep in mind:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fig, ax = plt.subplots()
fl.plots.curve(well, ax, minima=False, color="black")
ax.plot(flat, 0, "o", color=BLUE, ms=10)
ax.plot(sharp, 0, "s", color=ORANGE, ms=10)
ax.text(flat, 0.2, "flat valley", ha="center", color=BLUE)
ax.text(0.85, 0.4, "sharp valley", ha="center", color=ORANGE)
ax.set(xlabel="parameter θ", ylabel="training loss L(θ)", xlim=(-2, 1.6), ylim=(-0.02, 0.5))
fl.plots.show(fig, alt="A curve with two valleys down to zero: a wide one at −1, a narrow one at +1.")

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** Two valleys that reach the same depth; the left one is wide, the right one narrow. "Wide" and "narrow" are words so far.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# You trained, and you sit at the bottom of one of the two valleys. Then the test data arrive. Suppose that the *test loss* is the training loss
# moved sideways by a *shift* $s$:
#
# $$L_\text{test}(\theta) = L(\theta - s).$$
#
# You do not move: you pay $L_\text{test}(\theta^*) = L(\theta^* - s)$. Nobody knows the direction of the shift, so average over $+s$ and $-s$.
# Look at the picture above, and commit yourself before you read on.

# %% slideshow={"slide_type": "fragment"}
shift_guess = fl.predictions.ask(
    "01.shift",
    "With s = 0.1, how many times as much does the sharp valley pay as the flat one?",
    slider=(1, 15),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### A curvature from three values
#
# The second derivative says how fast the slope changes. Three values, a small *step* $\delta$ apart, are enough to find it:
#
# $$L''(\theta) \approx \frac{L(\theta+\delta) - 2L(\theta) + L(\theta-\delta)}{\delta^2}.$$

# %% slideshow={"slide_type": "fragment"}
def curvature(f, theta, step=1e-4):
    return (f(theta + step) - 2 * f(theta) + f(theta - step)) / step**2


# %% [markdown] slideshow={"slide_type": "skip"}
# That is the whole idea. `flatlab` gives the same number from a formula that you could derive on paper: `well.hessian(theta)` ("Hessian" is the name of the second
# derivative when there are many parameters; notebook 02). The last line fails if the two disagree.

# %% slideshow={"slide_type": "fragment"} tags=["nbval-check-output"]
for name, theta in (("flat", flat), ("sharp", sharp)):
    by_hand, exact = curvature(well, theta), well.hessian(theta)
    print(f"{name:5}  θ* = {theta:+.0f}   by differences {by_hand:.4f}   from the formula {exact:.4f}")
    assert abs(by_hand - exact) < 1e-6

# %% [markdown] slideshow={"slide_type": "skip"}
# We write $h = L''(\theta^*)$ for the curvature *at a minimum*. On paper the two are $h = 2/e$ and $h = 2e$, so their ratio is $e^2$:

# %% slideshow={"slide_type": "fragment"} tags=["nbval-check-output"]
h_flat, h_sharp = well.hessian(flat), well.hessian(sharp)
print(f"the sharp valley is {h_sharp / h_flat:.3f} times as curved as the flat one; e² = {np.e**2:.3f}")

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The bowl, and its width
#
# At a minimum the slope is 0, so Taylor's formula has no linear term. Close to $\theta^*$ every smooth valley is a parabola, the **Taylor bowl**:
#
# $$L(\theta) \approx L(\theta^*) + \tfrac12\,h\,(\theta-\theta^*)^2.$$
#
# How wide is the bowl at a *height* $\varepsilon$ above its bottom? Set $\tfrac12 h\,(w/2)^2 = \varepsilon$ and solve for the *width* $w$:
#
# $$w = 2\sqrt{2\varepsilon/h}.$$

# %% slideshow={"slide_type": "skip"}
def bowl(theta, minimum):
    return well(minimum) + well.hessian(minimum) * (theta - minimum) ** 2 / 2


def bowl_width(minimum, eps):
    return 2 * (2 * eps / well.hessian(minimum)) ** 0.5


# %% [markdown] slideshow={"slide_type": "skip"}
# To see how good the bowl is, measure the width on the curve itself: count the points of a fine grid around the minimum where the loss is below $\varepsilon$.

# %% slideshow={"slide_type": "fragment"}
def width_on_the_curve(minimum, eps):
    near = minimum + torch.linspace(-0.7, 0.7, 14001, dtype=torch.float64)
    return (well(near[:, None]) < eps).sum() * (near[1] - near[0])


for eps in (0.001, 0.01, 0.1):
    for name, theta in (("flat", flat), ("sharp", sharp)):
        on_curve, on_bowl = width_on_the_curve(theta, eps), bowl_width(theta, eps)
        print(f"ε = {eps:<6} {name:5}  curve {on_curve:.4f}   bowl {on_bowl:.4f}")

# %% [markdown] slideshow={"slide_type": "skip"}
# Near the bottom the two columns agree; higher up they drift apart, because a valley is not a parabola for ever. Here is the last pair of rows as a picture.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "subslide"}
fig, ax = plt.subplots()
fl.plots.curve(well, ax, minima=False, color="black", lw=1.6, label="L")
for minimum, colour, style, name in ((flat, BLUE, "--", "flat"), (sharp, ORANGE, "-.", "sharp")):
    near = minimum + torch.linspace(-0.8, 0.8, 161, dtype=torch.float64)
    ax.plot(near, bowl(near, minimum), color=colour, linestyle=style, label=f"bowl, {name}")
    ends = minimum + bowl_width(minimum, 0.1) / 2 * torch.tensor([-1, 1])
    ax.plot(ends, [0.1, 0.1], "|-", color=colour, ms=14, mew=2)
ax.text(flat, 0.115, f"w = {bowl_width(flat, 0.1):.2f}", ha="center", color=BLUE)
ax.text(0.7, 0.09, f"w = {bowl_width(sharp, 0.1):.2f}", ha="right", color=ORANGE)
ax.set(xlabel="parameter θ", ylabel="training loss L(θ)", xlim=(-2.1, 1.6), ylim=(-0.02, 0.42))
ax.legend(loc="upper left", bbox_to_anchor=(0.3, 1.0))
fl.plots.show(fig, alt="Both valleys with their parabolas; a bar marks the width at height 0.1: long left, short right.")

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** The flat valley hugs its parabola. The sharp valley leaves its own sooner: it is steeper than the bowl on the right and gentler on the left. The bars are the
# widths $2\sqrt{2\varepsilon/h}$ at $\varepsilon = 0.1$. A curvature $e^2$ times as large makes a valley only $e$ times narrower: **curvature counts squared widths**.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Why should flat be good? The best case
#
# Three arguments, each at its strongest. This course will question them later, so it owes them a fair hearing first.
#
# **1. The test loss is not quite the training loss.** If it is the same curve moved by $s$, you pay $L(\theta^*-s)$, and the bowl says
#
# $$\text{cost of a shift} \approx \tfrac12\,h\,s^2 .$$
#
# The cost is in proportion to $h$. Of two minima with equal training loss, take the flat one.

# %% slideshow={"slide_type": "fragment"}
def shift_cost(f, minimum, s):
    return f(minimum - s) - f(minimum)


cost = shift_cost(well, flat, 0.02)
print(f"flat valley, s = 0.02:   cost {cost:.6f}   ½ h s² = {h_flat * 0.02**2 / 2:.6f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# **2. Parameters are never exact.** They are rounded, and stochastic training makes them tremble. Add *noise* $\sigma z$, with $z$ normal with mean 0 and variance 1, so that $\sigma$ is its
# standard deviation, and take the average $\mathbb E$ over $z$. The linear and the cubic term of Taylor's formula vanish because $z$ and $-z$ are equally likely, and $\mathbb E z^2 = 1$:
#
# $$\mathbb E\,L(\theta^*+\sigma z) \approx L(\theta^*) + \tfrac12\,\sigma^2 h .$$
#
# An average over a bell curve is a weighted sum: values of $L$ on a grid of $z$, times the height of the bell curve there.

# %% slideshow={"slide_type": "fragment"}
z = torch.linspace(-8, 8, 401, dtype=torch.float64)
weight = torch.exp(-(z**2) / 2) / torch.exp(-(z**2) / 2).sum()


def noisy(f, theta, sigma):
    """E f(theta + sigma z) for a tensor of points theta (n,)."""
    return f((theta[:, None] + sigma * z)[..., None]) @ weight


# %% [markdown] slideshow={"slide_type": "skip"}
# `fl.sharpness.average` draws random $z$ instead. It will work with a million parameters, where no grid does, but it gives an estimate with a standard error. Both must tell the same story:

# %% slideshow={"slide_type": "skip"}
estimate = fl.sharpness.average(well, [sharp], rho=0.05, samples=2000)
exact = noisy(well, sharp[None], 0.05)[0]
print(f"sharp valley, σ = 0.05:   grid {exact:.5f}   random draws {estimate:.5f} ± {estimate.stderr:.5f}")
print(f"                       ½ σ² h {0.05**2 * h_sharp / 2:.5f}")
assert abs(estimate - exact) < 4 * estimate.stderr

# %% [markdown] slideshow={"slide_type": "subslide"}
# **3. A flat minimum takes fewer digits to write down** (*minimum description length*). To send $\theta^*$ to a friend who may lose at most $\varepsilon$ of loss, you need not send all digits: any number within the width
# $w = 2\sqrt{2\varepsilon/h}$ will do. So a valley that is twice as wide saves one bit, $\log_2 2$, for every parameter. And a solution that fits the data with a
# *shorter* description is less likely to fit them by accident.

# %% slideshow={"slide_type": "fragment"} tags=["nbval-check-output"]
times = bowl_width(flat, 0.01) / bowl_width(sharp, 0.01)
print(f"the flat valley is {times:.3f} times as wide and saves {torch.log2(times):.2f} bits")

# %% [markdown] slideshow={"slide_type": "skip"}
# The height $\varepsilon$ drops out of that number: any other gives the same saving.
#
# **Two relatives**, so that the case is complete. A *PAC-Bayes bound* limits the test loss, averaged over noise on the weights, by the training loss under the same noise plus a price for how far that noise is from a
# *prior* fixed before the data, and in a flat valley the noise may be wide, which makes it cheaper. The *Bayesian evidence* of a minimum is its likelihood times an *Occam factor*, the share of the prior's width that the data leave open;
# for $N$ samples that is about $1/\sqrt{N h}$ over the prior's width, so the flat valley has more of it. Both name a prior, and with it an axis: what that is worth is a question of Part IV (notebook 20).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# Both effects in one panel: the test loss is the training loss moved by $s$ and averaged over noise $\sigma$. Everything is computed here, before you drag.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"}
shifts, sigmas = [i / 50 for i in range(-8, 9)], [i / 50 for i in range(9)]
grid = torch.linspace(-2.4, 2, 300, dtype=torch.float64)
curves = {sigma: noisy(well, grid, sigma) for sigma in sigmas}
paid = {(s, sigma): noisy(well, well.minima - s, sigma).tolist() for s in shifts for sigma in sigmas}

# %% [markdown] slideshow={"slide_type": "skip"}
# Left, the training loss (dotted) and the test loss (solid), with the loss that you pay at each minimum. Right, the same two numbers as bars; the short black lines
# are what the bowl predicts for both effects together, $\tfrac12 h\,(s^2+\sigma^2)$.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"}
def build(fig):
    left, right = fig.subplots(1, 2, width_ratios=[2.2, 1])
    fl.plots.curve(well, left, minima=False, color=GREY, linestyle=":")
    (test,) = left.plot([], [], color="black", linestyle="-", lw=1.8)
    looks = {"markevery": [1], "linestyle": "-", "lw": 3, "ms": 8}
    stems = [left.plot([0, 0], [0, 0], m, color=c, **looks)[0] for m, c in (("o", BLUE), ("s", ORANGE))]
    left.set(xlabel="parameter θ", ylabel="loss", xlim=(-2, 1.6), ylim=(-0.015, 0.32))
    bars = right.bar(["flat", "sharp"], [0, 0], color=[BLUE, ORANGE], width=0.6)
    (bowls,) = right.plot([0, 1], [0, 0], "_", color="black", ms=46, mew=2)
    right.set(ylabel="test loss at the minimum", xlim=(-0.6, 1.6), ylim=(0, 0.28), yticks=(0, 0.1, 0.2))

    def update(s, sigma):
        test.set_data(grid + s, curves[sigma])
        for theta, pay, stem, bar in zip((-1, 1), paid[s, sigma], stems, bars, strict=True):
            stem.set_data([theta, theta], [0, pay])
            bar.set_height(pay)
        guess = [h * (s**2 + sigma**2) / 2 for h in (h_flat.item(), h_sharp.item())]
        bowls.set_ydata(guess)
        a, b = paid[s, sigma]
        times = f" ({b / a:.1f} times as much)" if a > 0 else ""
        bowl_says = f"the bowl says {guess[0]:.4f} and {guess[1]:.4f}"
        return f"flat pays {a:.4f}, sharp pays {b:.4f}{times}; {bowl_says}"

    return update


# %% [markdown] slideshow={"slide_type": "skip"}
# Move the shift with the arrow keys, first towards 0 and on to the other side; then add noise.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "subslide"}
fl.panels.Panel(
    build,
    alt="Left: training loss and shifted test loss. Right: a low bar for the flat valley, a high one for the sharp.",
    size=(8, 3.8),
    labels={"s": "shift s", "sigma": "noise σ"},
    s=(shifts, -0.12),
    sigma=(sigmas, 0.0),
).show()

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** Whatever you turn, the orange bar is the higher one (at $s = \sigma = 0$ both are 0). For small shifts both bars meet their black lines. For larger ones the bar of the sharp valley runs away from its line, upwards when
# the curve moves left and downwards when it moves right (its right wall is the steeper one). With noise alone the lines hold longer: left and right cancel.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# How many times as much does the sharp valley pay? The bowl says $h_2/h_1 = e^2$ for every shift, where $h_1$ and $h_2$ are the curvatures of the flat and of the sharp valley.
# Your guess is drawn as a dotted black line.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
s = torch.linspace(0.002, 0.2, 100, dtype=torch.float64)
right, left = (well((well.minima - shift * s[:, None])[..., None]) for shift in (1, -1))
mean = (right + left) / 2

fig, ax = plt.subplots()
ax.plot(s, left[:, 1] / left[:, 0], "--", color=fl.plots.PURPLE, label="curve moves left")
ax.plot(s, mean[:, 1] / mean[:, 0], "-", color="black", label="average")
ax.plot(s, right[:, 1] / right[:, 0], "-.", color=fl.plots.RED, label="curve moves right")
ax.axhline(np.e**2, color=GREY, linestyle="-", lw=1.2, label="bowl: h₂/h₁ = e²")
shift_guess.draw(ax, axis="y")
ax.set(xlabel="shift s", ylabel="sharp pays … times as much", xlim=(0, 0.2), ylim=(0, 16))
ax.legend(loc="upper left", ncols=2)
fl.plots.show(fig, alt="Ratio of the costs against the shift: from e squared three curves fan out, the average stays close.")
at = (s - 0.1).abs().argmin()
print(shift_guess.settle((mean[at, 1] / mean[at, 0]).item()))

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** All three curves begin at $e^2$. The two directions fan out, their average stays near the line: the cubic term of Taylor's formula has opposite signs on the two sides.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Claim 01.1: a small shift costs ½ h s²
#
# "Small" needs a number. The next term of Taylor's formula is $\tfrac16 L'''(\theta^*)\,s^3$. On paper it changes the cost by the fraction $2s$ at the sharp valley
# and by nothing at the flat one, so at $s=0.02$ we expect 4 %. The claim: **within 5 % for all $|s| \le 0.02$, in both valleys and both directions.** Measured is the worst case.

# %% slideshow={"slide_type": "fragment"}
h = well.hessian(well.minima[:, None])[:, 0, 0]
s = torch.linspace(-0.02, 0.02, 200, dtype=torch.float64)[:, None]  # 200 points: 0 itself is not among them
cost = well((well.minima - s)[..., None])
error = cost / (h * s**2 / 2) - 1
fl.claims.declare(
    "01.1", "For |s| ≤ 0.02 the cost of a shift is ½ h s² to within 5 %",
    error.abs().max(), "holds", below=0.05,
    detail="Worst relative error flat {:.2%}, sharp {:.2%}".format(*error.abs().amax(0).tolist()),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Noise costs ½ σ² h (01.2)
#
# Here the cubic term cancels. The next one is $\tfrac1{24}\sigma^4 L''''\,\mathbb E z^4 = \tfrac18\sigma^4 L''''$, that is the fraction $\sigma^2 L''''/4h$ of the cost: $5.25\,\sigma^2$ at the sharp valley ($L'''' = 42e$), $-0.75\,\sigma^2$ at the
# flat one ($L'''' = -6/e$). At $\sigma = 0.05$ we expect 1.3 %. The claim leaves room above it: **within 2 % for all $\sigma \le 0.05$, in both valleys** (its number is in the folded table at the end).

# %% slideshow={"slide_type": "fragment"}
sigma = torch.linspace(0.002, 0.05, 25, dtype=torch.float64)
cost = torch.stack([noisy(well, well.minima, value) for value in sigma])
error = cost / (sigma[:, None] ** 2 * h / 2) - 1
claim = fl.claims.declare(
    "01.2", "For σ ≤ 0.05 the expected loss under noise is ½ σ² h to within 2 %",
    error.abs().max(), "holds", below=0.02,
    detail="Worst relative error flat {:.2%}, sharp {:.2%}".format(*error.abs().amax(0).tolist()),
)
print(f"worst relative error {error.abs().max():.2%}: {claim.verdict}")

# %% [markdown] slideshow={"slide_type": "fragment"}
# So the case for flatness is no hand-waving: where its assumptions hold, it predicts the bill to a few per cent. Now for the assumptions.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# Nobody told us to call the parameter $\theta$. Take another number $u$ that carries the same information, $\theta = g(u)$ with $g$ smooth and increasing, and
# write the same loss over $u$: $\tilde L(u) = L(g(u))$. Each model has the same loss as before, and only its label on the axis has changed. Is the flat valley still the flat one?

# %% slideshow={"slide_type": "fragment"}
units_guess = fl.predictions.ask(
    "01.units",
    "Which change of variable can make the sharp valley the flatter of the two?",
    choices=[
        "none: curvature belongs to the loss",
        "other units, such as u = 10 θ",
        "an uneven stretch of the axis, but not other units",
        "any change of variable",
    ],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# And a number, for an axis that is stretched around the sharp valley alone:

# %% slideshow={"slide_type": "fragment"}
flip_guess = fl.predictions.ask(
    "01.flip",
    "The sharp valley is 7.4 times as curved as the flat one. "
    "How many times must the axis be stretched under it until both are equally flat?",
    slider=(1, 10),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The chain rule, twice
#
# Differentiate $\tilde L(u) = L(g(u))$ once, then again:
#
# $$\tilde L' = L'(g)\,g', \qquad \tilde L'' = L''(g)\,g'^2 + L'(g)\,g''.$$
#
# At a minimum $L' = 0$ and the last term is gone. What is left is the rule of this chapter:
#
# $$\boxed{\;\tilde h = h\,g'(u^*)^2\;}$$

# %% slideshow={"slide_type": "fragment"}
def hessian_over_u(f, g, u):
    theta = g.value(u)
    return f.hessian(theta) * g.first(u) ** 2 + f.gradient(theta) * g.second(u)


# %% [markdown] slideshow={"slide_type": "skip"}
# Our change of variable, `fl.functions.stretch(k, at=1)`, stretches the axis $k$ times around $\theta = 1$. Far away it only pushes the axis aside, by $0.3\,(1-1/k)$, without stretching it:
#
# $$\theta = g(u) = u + \left(\tfrac1k-1\right)0.3\,\tanh\frac{u-1}{0.3}, \qquad g'(1) = \tfrac1k .$$
#
# `fl.functions.change_variable` gives the loss over $u$. Three ways to its second derivative, at the sharp minimum and off it:

# %% slideshow={"slide_type": "skip"} tags=["nbval-check-output"]
g = fl.functions.stretch(2, at=sharp.item())
over_u = fl.functions.change_variable(well, g)
for u in (over_u.minima[1], torch.tensor(1.3, dtype=torch.float64)):
    ours, theirs, differences = hessian_over_u(well, g, u), over_u.hessian(u), curvature(over_u, u)
    print(f"u = {u:.1f}   chain rule {ours:.4f}   flatlab {theirs:.4f}   by differences {differences:.4f}")
    assert abs(ours - theirs) < 1e-8 and abs(differences - theirs) < 1e-5

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Play: pull the axis
#
# Two ways to pull: *uneven* (around the sharp valley only) and *uniform* (`fl.functions.rescaling(k)`, $u = k\,\theta$, other units). All positions are computed here.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"}
WAYS = {
    "uneven: around the sharp valley": lambda k: fl.functions.stretch(k, at=1),
    "uniform: other units": fl.functions.rescaling,
}
ks = [i / 10 for i in range(10, 36)]
theta = torch.linspace(-2.2, 1.7, 400, dtype=torch.float64)
loss = well(theta[:, None])
moved = {}
for way, make in WAYS.items():
    for k in ks:
        view = fl.functions.change_variable(well, make(k))
        curvatures = [view.hessian(u).item() for u in view.minima]
        moved[way, k] = make(k).inverse(theta), view.minima, curvatures

# %% [markdown] slideshow={"slide_type": "skip"}
# Left, the loss over $u$ (solid) with the old one for comparison (dotted). Right, a bar for each of the two curvatures. The picture opens at $k = 3.5$.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"}
def build_stretch(fig):
    left, right = fig.subplots(1, 2, width_ratios=[2.2, 1])
    left.plot(theta, loss, color=GREY, linestyle=":", lw=1.5)
    (curve,) = left.plot([], [], color="black", linestyle="-", lw=1.8)
    dots = [left.plot([], [], marker=m, color=c, ms=7)[0] for m, c in (("o", BLUE), ("s", ORANGE))]
    left.set(xlabel="u", ylabel="loss over u", xlim=(-4, 4), ylim=(-0.015, 0.32))
    bars = right.bar(["flat\nin θ", "sharp\nin θ"], [0, 0], color=[BLUE, ORANGE], width=0.6)
    numbers = [right.text(x, 0, "", ha="center", va="bottom") for x in (0, 1)]
    right.set(ylabel="curvature over u", ylim=(0, 6))

    def update(way, k):
        u, minima, curvatures = moved[way, k]
        curve.set_data(u, loss)
        for minimum, value, dot, bar, number in zip(minima, curvatures, dots, bars, numbers, strict=True):
            dot.set_data([minimum], [0])
            bar.set_height(value)
            number.set_y(value)
            number.set_text(f"{value:.2f}")
        ratio = curvatures[1] / curvatures[0]
        flatter = "blue" if ratio > 1 else "orange"
        return f"orange / blue = {ratio:.2f}: the {flatter} valley is the flatter one"

    return update


# %% [markdown] slideshow={"slide_type": "skip"}
# Drag the stretch back until the bars change places. Then try the same with other units.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "subslide"}
fl.panels.Panel(
    build_stretch,
    alt="Left: the loss over u, its right valley widened. Right: the orange bar is now lower than the blue one.",
    size=(8, 3.8),
    labels={"way": "how", "k": "stretch k"},
    way=list(WAYS),
    k=(ks, 3.5),
).show()

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** The heights never change, neither those of the two valley floors nor that of the rim between them. Pulled unevenly, the orange bar falls with the square of $k$ until the two change places, while the blue one stands still: the blue valley is only pushed aside, by $0.3\,(1-1/k)$, and keeps its shape. Pulled uniformly, both fall together:
# each is divided by $k^2$, and the order cannot change. That is why other units are harmless and an uneven axis is not: **$g'$ must differ between the two minima.**

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Where does the order flip?
#
# The curvatures are equal when $h_2/k^2 = h_1$, that is at $k = \sqrt{h_2/h_1} = e$. Only if the stretch did not reach the flat valley at all would this be exact: the $\tanh$ has tails. So we
# look for the crossing by root finding.

# %% slideshow={"slide_type": "skip"}
from scipy.optimize import brentq


def log_ratio(k, way="uneven: around the sharp valley"):
    view = fl.functions.change_variable(well, WAYS[way](k))
    return torch.log(view.hessian(view.minima[1]) / view.hessian(view.minima[0])).item()


flip = brentq(log_ratio, 1, 10)  # the logarithm of the ratio is 0 where both are equally curved

# %% [markdown]
# Your guess is the dotted vertical line.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
fig, ax = plt.subplots()
stretches = np.linspace(1, 10, 46)
for way, colour, style in zip(WAYS, ("black", fl.plots.PURPLE), ("-", "--"), strict=True):
    ax.semilogy(stretches, np.exp([log_ratio(k, way) for k in stretches]), style, color=colour, label=way)
ax.axhline(1, color=GREY, linestyle="-", lw=1.2)
ax.text(9.9, 1.1, "equally curved", ha="right", color=GREY)
ax.plot(flip, 1, "o", mfc="none", mec=ORANGE, ms=14, mew=2.5)
flip_guess.draw(ax)
ax.set(xlabel="stretch k", ylabel="curvature: sharp / flat", xlim=(1, 10), ylim=(0.05, 150))
ax.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
ax.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none")
fl.plots.show(fig, alt="Ratio of the curvatures against the stretch: uneven, it falls through 1 in a ring; uniform, it is level.")
print(flip_guess.settle(flip))
print(units_guess.settle("an uneven stretch of the axis, but not other units"))

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you see.** The uneven stretch pulls the ratio down through 1, in the ring; with other units it stays where it was. If you guessed the ratio of the curvatures itself,
# think of the bowl: curvature counts *squared* widths, so the square root of the ratio is enough.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Claim 01.3: the order can be reversed
#
# From the formula: the flip must lie within 0.1 % of $\sqrt{h_2/h_1} = e$.

# %% slideshow={"slide_type": "fragment"}
view = fl.functions.change_variable(well, fl.functions.stretch(flip, at=1))
floor = view(view.minima[:, None]).max()
fl.claims.declare(
    "01.3", "A smooth, uneven change of variable reverses the order of the valleys at the stretch √(h₂/h₁) = e",
    flip, "holds", above=np.e * 0.999, below=np.e * 1.001,
    about={"C1": "silent", "C5": "silent"}, experiment="a curve, moved by hand",
    detail=f"The tails move the flip by {flip - np.e:.1e}; loss at the minima {floor:.6f}",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Other units do not reverse it (01.4)
#
# For $u = k\,\theta$ the ratio of the two curvatures should stay $e^2$ whatever $k$ is. This is an identity, so the bound is strict: a relative error below $10^{-8}$ over
# stretches from 0.01 to 100.

# %% slideshow={"slide_type": "fragment"}
ratios = np.exp([log_ratio(k, "uniform: other units") for k in np.logspace(-2, 2, 41)])
claim = fl.claims.declare(
    "01.4", "A uniform rescaling leaves the ratio of the two curvatures at e²",
    abs(ratios / np.e**2 - 1).max(), "holds", below=1e-8,
)
print(f"the ratio stays e² = {np.e**2:.3f}: {claim.verdict}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Small print: how high does it reach?
#
# A curvature speaks for the bottom of a valley only. This stretch acts within about 0.3 of the sharp minimum, so it widens the bottom and leaves the walls. The widths over $u$ at a
# stretch of 4, at three heights:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"} tags=["nbval-check-output"]
# widths over u at three heights
g = fl.functions.stretch(4, at=1)
for eps in (0.001, 0.01, 0.1):
    widths = []
    for minimum in well.minima:
        near = minimum + torch.linspace(-0.7, 0.7, 14001, dtype=torch.float64)
        ends = near[well(near[:, None]) < eps][[0, -1]]
        widths.append((g.inverse(ends[1]) - g.inverse(ends[0])).item())
    print(f"ε = {eps:<6} width over u: flat in θ {widths[0]:.2f}, sharp in θ {widths[1]:.2f}")

# %% [markdown] slideshow={"slide_type": "skip"}
# Low down the order is reversed, at the height 0.1 it is not (with `width=0.8` the broader stretch reverses it there too). Wherever you say "flat", say at which height, or how far from the minimum, you mean it.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Does the case for flatness survive?
#
# Go back to argument 1 with a stretch of $k = 4$, past the flip. The test loss is again the training loss moved sideways by 0.05. But sideways along *which* axis?

# %% slideshow={"slide_type": "fragment"}
survive_guess = fl.predictions.ask(
    "01.survive",
    "At stretch 4 the loss over u is moved sideways by 0.05 along u. "
    "Who pays more, averaged over both directions?",
    choices=["the valley that is sharp in θ", "the valley that is flat in θ", "both the same"],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# We move the curve over $u$, first by 0.05 along $u$, then by 0.05 along $\theta$ (walk to $\theta$, step aside, walk back with $g^{-1}$), and average over both directions.

# %% jupyter={"outputs_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
over_u = fl.functions.change_variable(well, g)
along_u = [(over_u(u - 0.05) + over_u(u + 0.05)) / 2 for u in over_u.minima]
along_theta = [(over_u(g.inverse(t - 0.05)) + over_u(g.inverse(t + 0.05))) / 2 for t in well.minima]
for name, (a, b) in (("u", along_u), ("θ", along_theta)):
    print(f"moved along {name}:   flat in θ pays {a:.5f}   sharp in θ pays {b:.5f}   ratio {b / a:.2f}")
print(survive_guess.settle("the valley that is flat in θ"))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Claim 01.5: is flat in θ cheap under a shift along u?
#
# The sentence needs a ratio above 1: the valley that is sharp in $\theta$ pays more. This is a claim that we declare *not* to hold, and the run must agree.

# %% slideshow={"slide_type": "fragment"}
fl.claims.declare(
    "01.5", "The valley that is flat in θ is also the cheaper one under a shift along u (stretch 4, s = 0.05)",
    along_u[1] / along_u[0], "does not hold here", above=1,
    about={"C1": "silent", "C5": "silent"}, experiment="a curve, moved by hand",
    detail=f"Shifted along θ instead, the ratio is {along_theta[1] / along_theta[0]:.2f}",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **So what does the best case assume?** That the shift, the noise or the grid of digits *lives in the coordinates in which you measure the curvature*, and has the same size in both valleys.
#
# - The algebra survives: a shift along $u$ costs about $\tfrac12\tilde h s^2$, with the curvature over $u$. A shift along $\theta$ costs what it always did, because over $u$ the stretched valley
#   then moves about four times as far as the other one.
# - What does not survive is "flat" without an axis. Two people who plot the same models over $\theta$ and over $u$ call different valleys flat, and both formulas are right.
# - Sometimes an axis is given. Weights that are stored in 8 bits are rounded as they are stored, so there argument 2 is about real noise on real numbers.
# - The test data give no axis. The test loss of a model is one number, the same over $\theta$ and over $u$; the curvature is not. Whether test losses of networks really differ from training losses by something like an
#   equal sideways shift is a question for experiments, not for a drawing.
#
# Is the uneven stretch far-fetched? In one dimension, perhaps. A ReLU network has something like it built in: multiply one layer by $a > 0$ (weights and biases),
# divide the weights of the next by $a$, and the network computes the same function at another point, with other curvatures (notebook 04).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Exercises
#
# Four, on paper first. Replace the `...`, run the cell, and it says what kind of mistake was made, if any.

# %% [markdown]
# ### Exercise 1 · Width at a height  (★, 5 minutes)
#
# A valley has curvature $h = 50$ at its minimum. How wide is its bowl, from wall to wall, at the height $\varepsilon = 0.01$ above the bottom?

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
ex_width = fl.exercises.Exercise(
    "01.width",
    answer=0.04,
    mistakes={
        "this is the distance from the minimum to one wall; the width goes from wall to wall": 0.02,
        "the factor ½ of the bowl is missing: it is ½ h (w/2)² that reaches ε": 2 * (0.01 / 50) ** 0.5,
        "upside down: a larger curvature must make the valley narrower": 2 * (2 * 0.01 * 50) ** 0.5,
        "a square root is missing: the loss grows with the square of the distance": 2 * 2 * 0.01 / 50,
    },
    praise="And at four times the height the valley is only twice as wide.",
)

# %% [markdown]
# Your answer, as a number:

# %%
width = ...
ex_width.check(width)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# width = 2 * (2 * 0.01 / 50) ** 0.5
# ex_width.check(width)
# ```
#
# The bowl reaches the height ε at a distance $d$ from the minimum with $\tfrac12 h d^2 = \varepsilon$, so $d = \sqrt{2\varepsilon/h} = \sqrt{0.0004} = 0.02$, and the width is $2d = 0.04$.
#
# </details>

# %% [markdown]
# ### Exercise 2 · When is flat worth a higher loss?  (★★, 10 minutes)
#
# Valley A has training loss 0.03 and curvature 2. Valley B is deeper, training loss 0.01, and sharper, curvature 18. Your parameter is stored with noise of standard deviation $\sigma$. From which $\sigma$ on
# has A the lower expected loss? (Treat both as perfect bowls.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
ex_noise = fl.exercises.Exercise(
    "01.noise",
    answer=0.05,
    mistakes={
        "this is σ², the variance; σ is its square root": 0.0025,
        "the factor ½ is missing: noise costs ½σ²h, not σ²h": (0.02 / 16) ** 0.5,
        "you let only B pay for the noise; A is curved too": (0.02 / 9) ** 0.5,
        "the curvatures were added; on the two sides of one equation they are subtracted": (0.02 / 10) ** 0.5,
        "the depths were added; what A has to make up for is their difference": (0.04 / 8) ** 0.5,
        "upside down: a larger difference of the curvatures must make less noise enough": (8 / 0.02) ** 0.5,
    },
    praise="Below it the deeper valley wins: flatness is worth something only in proportion to the noise.",
)

# %% [markdown]
# Your answer, as a number:

# %%
sigma_equal = ...
ex_noise.check(sigma_equal)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# sigma_equal = ((0.03 - 0.01) / (18 / 2 - 2 / 2)) ** 0.5
# ex_noise.check(sigma_equal)
# ```
#
# The expected losses are $0.03 + \tfrac12\sigma^2\cdot 2$ and $0.01 + \tfrac12\sigma^2\cdot 18$. They are equal at $8\sigma^2 = 0.02$, so $\sigma = 0.05$.
#
# </details>

# %% [markdown]
# ### Exercise 3 · A valley without a lopsided side  (★★★, 15 minutes and a sheet of paper)
#
# To the left the sharp valley is gentler than its bowl, to the right it is steeper, because $L''' \ne 0$. Is even that a matter of the axis? Let $\theta = g(u)$, at a minimum with $L'' =$ `d2` and $L''' =$ `d3`, and let $g' =$ `g1` there.
# Which $g''$ makes the *third* derivative of $\tilde L(u) = L(g(u))$ vanish?

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
ex_symmetric = fl.exercises.Exercise(
    "01.symmetric",
    answer=lambda d2, d3, g1: -d3 * g1**2 / (3 * d2),
    mistakes={
        "the sign: the two terms must cancel": lambda d2, d3, g1: d3 * g1**2 / (3 * d2),
        "the term L′ g″ is 0 at the minimum, but its derivative is not: differentiate first, then set L′ = 0":
            lambda d2, d3, g1: -d3 * g1**2 / (2 * d2),
        "L″ g′ g″ comes in more than once: count from which factors it comes": lambda d2, d3, g1: -d3 * g1**2 / d2,
        "g′ has too low a power: L‴ is multiplied by g′³, and one g′ cancels": lambda d2, d3, g1: -d3 * g1 / (3 * d2),
        "g′³ over g′ is g′², and you kept g′³": lambda d2, d3, g1: -d3 * g1**3 / (3 * d2),
        "g′ is missing altogether": lambda d2, d3, g1: -d3 / (3 * d2),
        "g′ and g″ are swapped: this is what the equation says of g′², with g1 in the place of g″":
            lambda d2, d3, g1: -3 * d2 * g1 / d3,
        "L″ and L‴ are swapped": lambda d2, d3, g1: -d2 * g1**2 / (3 * d3),
    },
    inputs=[(5.0, 2.0, 0.5), (2.0, -7.0, 0.4), (1.5, 4.0, 3.0)],
    praise="So not only the width but the symmetry of a valley depends on the axis.",
)

# %% [markdown]
# Your answer, as a function:

# %%
def bend(d2, d3, g1):
    return ...


ex_symmetric.check(bend)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def bend(d2, d3, g1):
#     return -d3 * g1**2 / (3 * d2)
#
#
# ex_symmetric.check(bend)
# ```
#
# Differentiate $\tilde L'' = L''\,g'^2 + L'\,g''$ once more: $L''' g'^3 + 2 L'' g' g''$ from the first term, $L'' g' g'' + L' g'''$ from the second. At the minimum $L' = 0$, and $L''' g'^3 + 3 L'' g' g'' = 0$ gives $g'' = -L''' g'^2 / (3 L'')$.
#
# </details>

# %% [markdown]
# ### Exercise 4 · Which conclusions follow?  (★★, 10 minutes)
#
# P and Q are two minima of one model with a single parameter, of equal training loss, and all steps are small enough for the bowls. Which of these conclusions follow from what is said? Tick them, as a set of letters.
#
# - **A.** Curvature over $\theta$: 3 at P, 9 at Q. The parameter is stored on a grid of equal steps in $\theta$. *Rounding costs Q three times as much.*
# - **B.** Curvature over $u = \log\theta$: 3 at P, 9 at Q. The parameter is stored on a grid of equal steps in $\theta$. *Rounding costs Q three times as much.*
# - **C.** Curvature over $\theta$: 3 at P, 9 at Q, with $\theta$ in volts. *In millivolts Q is still three times as curved as P.*
# - **D.** Curvature over $\theta$: 3 at P, 9 at Q; the test set is new. *The test loss of Q exceeds its training loss by three times as much.*
# - **E.** Curvature over $\theta$: 3 at P, 9 at Q; $\theta^* = 0.1$ at P, 0.01 at Q. The parameter is stored with an error in proportion to $\theta^*$ (so many digits, a floating point). *Rounding costs P more.*
# - **F.** Measured test losses: 0.31 at P, 0.28 at Q; curvature over $\theta$: 3 at P, 9 at Q. *So the flat valley lies along another axis.*

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
ex_follows = fl.exercises.Exercise(
    "01.follows",
    answer={"A", "C", "E"},
    mistakes={
        "A: noise of one size, in the coordinate of the curvature, is just what ½σ²h is about": {"C", "E"},
        "B: the noise lives in θ, the curvature in u; convert one of them first": {"A", "B", "C", "E"},
        "C: other units divide both curvatures by the same number": {"A", "E"},
        "D: nobody has said that the test loss is the training loss moved by the same step along θ":
            {"A", "C", "D", "E"},
        "E: work it out: the error is r θ*, so the cost is ½ h r² θ*² in each valley": {"A", "C"},
        "F: the loss of a model has no axis; that a curvature fails to predict it need not be the axis's fault":
            {"A", "C", "E", "F"},
    },
    praise="In E floating point has changed the axis to log θ, and P pays 33 times as much.",
)

# %% [markdown]
# Your answer, as a set of letters:

# %%
follows = ...
ex_follows.check(follows)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# follows = {"A", "C", "E"}
# ex_follows.check(follows)
# ```
#
# A is argument 2 with its assumption stated. In B the curvatures over $\theta$ are $3/\theta^{*2}$ and $9/\theta^{*2}$, each at its own $\theta^*$, which is not given. C is claim 01.4. D takes for granted what only an experiment can show. In E the costs are as $3 \cdot 0.1^2 = 0.03$ to
# $9 \cdot 0.01^2 = 0.0009$. F explains away a fact: a test loss may simply differ for another reason.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# **You may now say:** "flat *in these coordinates, at this height*", and "if the shift or the noise lives in these coordinates, a minimum pays $\tfrac12 h s^2$ or $\tfrac12\sigma^2 h$ for it".
#
# **You may no longer say:** "flat" alone, or "this minimum is flat, therefore it generalises".
#
# What it says of the paper's claims (a curve that we drew and moved ourselves has no vote):

# %% slideshow={"slide_type": "skip"}
fl.claims.take_away()

# %% [markdown] slideshow={"slide_type": "skip"}
# *What this does not show.* Nothing here says that flat minima of networks generalise badly, or well: there was no network and no test set, only a curve and a copy of it that we moved ourselves. Nor does a change of
# variable show that curvature is useless; it shows that a curvature needs an axis, and that a comparison of two curvatures needs a reason why that axis is the right one.
#
# *What its defenders would say*, and rightly: nobody compares minima along an axis that is pulled under one of them. A network's coordinates are fixed before the data, by the way it is initialised, decayed and stored, and are the same for
# both minima; a PAC-Bayes bound whose prior was fixed in them stays true whatever else we call the axis, and among more than forty measures those of this kind followed the test error best (Jiang et al. 2020).
#
# In one dimension there is one curvature; notebook [02](02_two_dimensions.ipynb) has two, and a matrix.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Your predictions** beside what came out:

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()

# %% [markdown] slideshow={"slide_type": "skip"}
# The claims that were measured without a box:

# %% slideshow={"slide_type": "skip"}
fl.claims.numbers()

# %% [markdown] slideshow={"slide_type": "skip"}
# ## References
#
# - S. Hochreiter, J. Schmidhuber, *Flat minima*, Neural Computation 9, 1997: flat minima as short descriptions.
# - N. S. Keskar et al., *On large-batch training for deep learning: generalization gap and sharp minima*, ICLR 2017, arXiv:1609.04836: the sketch of a flat and a sharp minimum under a shifted test loss.
# - L. Dinh et al., *Sharp minima can generalize for deep nets*, ICML 2017, arXiv:1703.04933: the geometry of a minimum changes with the parametrisation while the function stays.
# - D. J. C. MacKay, *Bayesian interpolation*, Neural Computation 4, 1992: evidence and the Occam factor.
# - G. K. Dziugaite, D. M. Roy, *Computing nonvacuous generalization bounds for deep (stochastic) neural networks*, UAI 2017, arXiv:1703.11008: a PAC-Bayes bound from a flat minimum.
# - Y. Jiang et al., *Fantastic generalization measures and where to find them*, ICLR 2020, arXiv:1912.02178.
# - The course's paper: I. Mason-Williams et al., *A function-centric perspective on flat and sharp minima*, arXiv:2510.12451.
