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
# # 10 · What do 240 minima say?
#
# **Do sharper minima generalise worse?** Collect many trained networks, plot test error over sharpness, and read the slope: this is how much of the literature answers, on both sides. This notebook collects 240 minima of digit networks, live, and a second set on real photographs, recorded. Then it asks them the same question several times, and each time holds something else fixed. Watch what the answer does.

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/10_many_minima.ipynb` (other ways: `README.md`).

# %% [markdown]
# > **You will be able to**
# > - compute a correlation within strata and a partial correlation, and say what each of them holds fixed;
# > - say why the learning rate is a *cause* of sharpness, and when the train loss is a *mediator*;
# > - test 20 hypotheses on ten seeds with Wilcoxon, rank-biserial and Benjamini-Yekutieli, and say what ten seeds cannot show;
# > - say what 240 minima show about C3, C4 and C5, measure by measure.
# >
# > **Needs** [04](04_measuring_sharpness.ipynb) (the measures), [05](05_learning_a_function.ipynb) (the edge of stability) and [08](08_six_controls.ipynb) (the six controls, the twins) · **Time** 98 minutes to read, about 60 seconds of processor time to run · **Source** A Function-Centric Perspective on Flat and Sharp Minima (arXiv:2510.12451), the protocol and the statistics of its 240 minima

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
# ## The deal, before any result
#
# The paper trains ResNets: 6 controls × 10 seeds × 2 batch sizes × 2 learning rates = **240 minima**. We keep the shape of that design and shrink the rest. Two kinds of question are asked of such a set, and they are easily confused:
#
# - *Does sharpness go with test error?* A **correlation**, over all minima or over some.
# - *Does the regulariser make it sharper, or better?* A **comparison** with the baseline, per seed. Three of the paper's claims are of this kind. **C3**: regularised networks are often sharper than the baseline. **C4**: they tend to be better on test error, calibration error (ECE), corrupted images, and agreement between seeds. **C5**: so the baseline is the flatter one, and the worse one on all four.

# %% [markdown] slideshow={"slide_type": "subslide"}
# What counts as what, written down (but for rule 6) before any regularised network was trained for this notebook:
#
# 1. *Unit*: the seed. The 24 networks of a seed share their initial weights, so intervals of correlations come from a **bootstrap over seeds**: ten seeds are drawn with replacement, all networks of a seed together.
# 2. *Sharper goes with worse* (or *better*): the 95 % interval of Spearman's correlation of `λ_max` with the test error lies above (below) 0. Three more measures stand beside it.
# 3. *Reversal*: at two stages of conditioning the intervals lie on opposite sides of 0.
# 4. *Sharper*, *better* than base: per seed, the mean over the four pairs of learning rate and batch size; Wilcoxon's signed-rank test on the ten differences, two-sided, corrected by Benjamini and Yekutieli within the sharpness measures and within the safety metrics; α = 0.05.
# 5. *Often* (C3), *tend to* (C4), and C5: at least three of the five regularisers.
# 6. (Written after a first look at the grid, before the runs that it judges.) *The learning rate makes flat*: `log₁₀` of the ratio of `λ_max` at the largest to that at the smallest learning rate lies below 0, per seed, at equal steps and at equal train loss. *The radius of SAM makes flat*, or *better*: the rank correlation of the radius with `λ_max`, or with the test error, lies below 0.
# 7. *Fair measurement*: un-penalised loss, clean training images, hard labels. The train loss stands beside every sharpness.
#
# Learning rates, batch sizes and length were chosen on the baseline's train loss alone: base fits the training set in every cell (at least 99 % of it), and the learning rates lie a factor of ten apart, as the paper's do.

# %% [markdown]
# ### The data and the grid
#
# Digits again, 300 to train on as in 08, but **other** images: another split of the set. Augmentation, pools and network are those of 08.

# %% jupyter={"source_hidden": true}
from itertools import product

import pandas as pd
from flatlab import compare
from IPython.display import display
from tqdm.auto import tqdm

digits = fl.data.digits(train=300, seed=1)
mean = digits.x.mean(0)
x, y = digits.x - mean, digits.y
x_test, y_test = digits.x_test - mean, digits.y_test

# %% [markdown]
# Each image turned by up to 15° and shifted by up to half a pixel; a pool holds ten copies of every image, moved or (without augmentation) all alike.

# %%
random, images = torch.Generator().manual_seed(0), digits.x.view(-1, 1, 8, 8)
moved_pool = torch.cat([fl.images.turn_and_shift(images, random) for _ in range(10)]).flatten(1) - mean
pools = {False: x.repeat(10, 1), True: moved_pool}

# %% [markdown] slideshow={"slide_type": "subslide"}
# The grid: one row per minimum. ρ and λ are the paper's.

# %%
CONTROLS = {
    "base": (0.0, 0.0, False), "SAM": (0.05, 0.0, False), "aug": (0.0, 0.0, True),
    "aug+SAM": (0.05, 0.0, True), "wd": (0.0, 5e-4, False), "wd+SAM": (0.05, 5e-4, False),
}
FIVE = list(CONTROLS)[1:]
strengths = pd.DataFrame(CONTROLS, index=["rho", "weight_decay", "augment"]).T
cells = pd.DataFrame(fl.study.grid(batch=(25, 50), lr=(0.3, 0.03), control=CONTROLS, seed=range(10)))
grid = cells.join(strengths, on="control")
print(len(grid), "minima")

# %% [markdown]
# Every group of equal batch size is one batched run, in which each network has its own learning rate, radius, decay and images. (SAM needs two gradients a step, so its networks go together.) 100 epochs, the paper's number; a cosine takes the learning rate to 0.


# %%
def net(seed=0):
    return fl.models.mlp(64, 32, 10, seed=seed)


def train(table, epochs=100):
    """A table with a row per network: their weights (networks, parameters), in order."""
    weights = {}
    for (batch, sam), part in table.groupby(["batch", table["rho"] > 0]):
        own = {name: part[name].astype(float).tolist() for name in ("lr", "weight_decay", *["rho"] * sam)}
        objective = fl.NetworkLoss(net, [pools[a] for a in part["augment"]], y.repeat(10), seeds=part["seed"])
        recipe = {"batch": batch, "momentum": 0.9, "schedule": "cosine", "rule": fl.training.sam if sam else None}
        run = fl.train(objective, epochs * 300 // batch, **recipe, **own)
        assert not run.diverged.any()
        weights |= dict(zip(part.index, run.theta))
    return torch.stack([weights[row] for row in table.index])


theta = train(grid)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# 240 minima: six controls, two learning rates, two batch sizes. `λ_max` on one axis, test error on the other.

# %% slideshow={"slide_type": "fragment"}
pooled_guess = fl.predictions.ask(
    "10.pooled",
    "What is the rank correlation of λ_max with the test error, over all 240? (+1: the sharper, the worse)",
    slider=(-1, 1),
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# Then we compare like with like: only minima of equal learning rate and batch size, and, in ranks, of equal train loss.

# %% slideshow={"slide_type": "fragment"}
fixed_guess = fl.predictions.ask(
    "10.fixed",
    "Holding learning rate, batch size and train loss fixed, what becomes of that correlation?",
    choices=["it stays, beyond the noise", "it is lost in the noise", "it changes its sign, beyond the noise"],
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### λ_max of hundreds of networks
#
# `fl.curvature.eigenvalues` takes one network or many at once, by the **Lanczos iteration** that 08 builds. With `steps=10` ten Hessian-vector products span a small space, in which `H` is a 10 × 10 tridiagonal matrix; each product serves all networks at once. Left to itself it goes on until it is sure. For one network of each control and cell:

# %%
loss = fl.NetworkLoss(net(), x, y)
some = loss.at(theta[::10])
quick, exact = (fl.curvature.eigenvalues(some, steps=steps)[:, 0] for steps in (10, None))
off = (quick / exact - 1).abs().max().item()
print(f"largest relative error among {len(exact)} networks: {off:.1e}")
assert off < 0.02

# %% [markdown]
# Beside it the paper's three measures: relative flatness κ (normalised), the Fisher-Rao norm, and the loss a random step away ("SAM-sharpness" there). The safety metrics are the paper's too: test error, the expected calibration error (ECE), the error on corrupted images, and *disagreement*, which compares a network with the nine others of its control and cell. (A *cell* is a pair of learning rate and batch size.)

# %%
SHARP = {name: fl.sharpness.SYMBOLS[name] for name in ("lambda max", "relative flatness", "fisher rao", "random direction")}
SAFE = ["test error", "ece", "corrupted error", "disagreement"]
KINDS = ["gaussian noise", "shot noise", "blur", "contrast", "brightness"]
test_images = digits.x_test.view(-1, 1, 8, 8)


def safety(theta):  # (cells, seeds, parameters)
    def predict(images):
        return loss.outputs(theta, images.flatten(1) - mean)

    z = predict(test_images)
    values = {"test error": 1 - fl.safety.accuracy(z, y_test), "ece": fl.safety.calibration_error(z, y_test)}
    values["corrupted error"] = 1 - fl.safety.corrupted_accuracy(predict, test_images, y_test, KINDS, (1, 3, 5))
    values["disagreement"] = fl.safety.disagreement(z)
    return pd.DataFrame({name: 100 * value.flatten() for name, value in values.items()}, dtype=float)  # per cent


# %% [markdown]
# Every ten rows are the seeds of one control and cell.


# %%
def measure(table, theta):
    """The table with its measures, a row per network."""
    sharp = fl.sharpness.table(loss.at(theta), ["train loss", *SHARP], steps=10, draws=20)
    return pd.concat([table, sharp, safety(theta.unflatten(0, (-1, 10)))], axis=1)


minima = measure(grid, theta)

# %% [markdown]
# Of the result we show the train losses now: geometric means over the ten seeds.

# %% slideshow={"slide_type": "fragment"}
def geometric_mean(v):
    return np.exp(np.log(v).mean())


def by_cell(column, average="mean"):
    table = minima.pivot_table(column, "control", ["lr", "batch"], average, sort=False)
    return table.sort_index(axis=1, ascending=[False, True])


by_cell("train loss", geometric_mean).map("{:.4f}".format)

# %% [markdown]
# Without weight decay the learning rate changes the train loss by a factor of 40 to 300; weight decay takes most of that away. Whatever follows the train loss will look like an effect of the learning rate, and the other way round.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### What it means to hold something fixed
#
# **Within strata.** Sort the minima into groups of equal learning rate (the strata), take the correlation inside each, and average. No comparison across groups enters any more.
#
# **Given a number.** Train losses are never equal, so there are no groups. Instead, remove from both quantities what the train loss predicts, here by a straight line in the ranks, and correlate what is left: the **partial rank correlation**. With one covariate it has a closed form,
#
# $$r_{ab\cdot g} = \frac{r_{ab} - r_{ag}\, r_{bg}}{\sqrt{(1 - r_{ag}^2)(1 - r_{bg}^2)}}\,,$$
#
# where `r` is Spearman's coefficient. If `a` and `b` are tied to each other only through `g`, the numerator is 0.


# %%
from scipy.stats import rankdata


def partial(a, b, g):
    a, b, g = (rankdata(v) for v in (a, b, g))
    a, b = (v - np.polyval(np.polyfit(g, v, 1), g) for v in (a, b))
    return np.corrcoef(a, b)[0, 1]


# %% [markdown]
# Three ways to one number: residuals, closed form, and `flatlab`.

# %%
a, b, g = (minima[name] for name in ("lambda max", "test error", "train loss"))
ab, ag, bg = (compare.correlation(*pair) for pair in ((a, b), (a, g), (b, g)))
formula = (ab - ag * bg) / np.sqrt((1 - ag**2) * (1 - bg**2))
assert np.allclose([partial(a, b, g), formula], compare.correlation(a, b, given=[g]))
print(f"λ_max and train loss: {ag:+.2f}   test error and train loss: {bg:+.2f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### A test with ten seeds
#
# **Wilcoxon's signed-rank test.** Ten differences, one per seed. Rank them by size; `W₊` is the sum of the ranks of the positive ones. If the regulariser did nothing, each sign would be a coin toss, and all 2¹⁰ = 1,024 patterns of signs equally likely. The p-value is the share of patterns that give a `W₊` at least as large as ours. Nothing is assumed about a normal distribution.


# %%
def signed_rank(d):
    ranks = rankdata(abs(d))
    sums = [ranks[list(signs)].sum() for signs in map(np.array, product((False, True), repeat=len(d)))]
    return np.mean(np.array(sums) >= ranks[d > 0].sum())


means = minima.pivot_table("test error", "seed", "control")
d = (means["base"] - means["wd"]).to_numpy()  # positive where weight decay is better
ours, theirs = signed_rank(d), compare.signed_ranks({"wd": d}, "greater").loc["wd"]
assert np.isclose(ours, theirs["p"])
print(f"weight decay better than base: one-sided p = {ours:.4f}, rank-biserial {theirs['effect']:+.2f}")

# %% [markdown]
# The **rank-biserial** effect size, `(W₊ − W₋)/(W₊ + W₋)`, runs from −1 to 1, and is ±1 if all seeds agree. It measures agreement and not size: a difference of a hundredth of a point that every seed shows has effect size 1. With `n` seeds no one-sided p-value can be below `2⁻ⁿ`: five seeds can just pass α = 0.05, four cannot.
#
# **Many tests.** Five regularisers in four measures are twenty tests, and twenty times a chance of 5 % makes one false alarm. Benjamini and Yekutieli keep the expected share of false alarms among all alarms below α, also where the tests are not independent: sort the `m` p-values, and multiply the `k`-th smallest by `(m/k) · (1 + 1/2 + … + 1/m)`. (Where a later one comes out smaller, the earlier one takes its value.) Twenty p-values that are all 0.00195 are multiplied by 3.6, the sum, for the last of them has `k = m`: each becomes 0.007.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# Four stages that hold ever more fixed, and a fifth that holds something else:

# %%
STAGES = {
    "nothing": ([], []),
    "learning rate": (["lr"], []),
    "learning rate, batch": (["lr", "batch"], []),
    "… and train loss": (["lr", "batch"], ["train loss"]),
    "regulariser instead": (["lr", "batch", "control"], []),
}

# %% [markdown]
# `fl.compare.correlation` takes the strata (`within`) and what is given besides:


# %%
def conditioned(table, column, metric, stage):
    within, given = ([table[name] for name in names] for names in STAGES[stage])
    return compare.correlation(table[column], table[metric], given, within)


# %% [markdown]
# (At the last stage the regulariser is held fixed *instead of* the train loss; only the seed still differs.) `left_over` takes from a column everything that the stage holds fixed: ranks within the stratum, less the straight line in the ranks of the train loss, in units of their standard deviation. The slope in the picture is then the correlation.


# %%
def left_over(table, column, by, given):
    rest = pd.Series(0.0, table.index)
    for _, part in table.groupby(by) if by else [("", table)]:
        ranks = rankdata(part[column])
        for g in given:
            other = rankdata(part[g])
            ranks = ranks - np.polyval(np.polyfit(other, ranks, 1), other)
        rest[part.index] = (ranks - ranks.mean()) / ranks.std()
    return rest


# %% [markdown]
# One cloud for each cell, with a large mark in its middle.


# %% jupyter={"source_hidden": true}
CELLS = list(product((0.3, 0.03), (25, 50)))
LOOK = dict(zip(CELLS, zip((fl.plots.BLUE, fl.plots.BLUE, fl.plots.ORANGE, fl.plots.ORANGE), "osos")))


def build(fig):
    ax = fig.subplots()
    artists = {}
    for size, (cell, (colour, mark)) in zip((26, 22, 16, 12), LOOK.items()):
        (dots,) = ax.plot([], [], mark, ms=5, color=colour, alpha=0.5, mew=0)
        look = {"ms": size, "mfc": "none", "mec": colour, "mew": 3.5}  # hollow: they may lie on each other
        (middle,) = ax.plot([], [], mark, **look)
        ax.plot([], [], mark, **look | {"ms": 10}, label=f"lr {cell[0]}, batch {cell[1]}")
        artists[cell] = dots, middle
    (line,) = ax.plot([], [], color="black", lw=3)
    ax.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xlabel="sharpness     flatter ←      → sharper")
    ax.set(ylabel="the metric, worse →", xticks=[], yticks=[])
    ax.legend(loc="upper left", ncols=2, fontsize=10)
    return lambda **values: move(artists, line, **values)


# %% [markdown]
# What moves, and the line of text below.


# %% jupyter={"source_hidden": true}
def move(artists, line, held_fixed, sharpness, metric):
    by, given = STAGES[held_fixed]
    column = next(name for name, label in SHARP.items() if label == sharpness)
    across, up = (left_over(minima, name, by, given) for name in (column, metric))
    for (lr, batch), (dots, middle) in artists.items():
        here = (minima["lr"] == lr) & (minima["batch"] == batch)
        dots.set_data(across[here], up[here])
        middle.set_data([across[here].mean()], [up[here].mean()])
    r = conditioned(minima, column, metric, held_fixed)
    line.set_data([-3, 3], [-3 * r, 3 * r])
    fixed = "Nothing held fixed" if not by else f"Held fixed: {', '.join(by)}{' and train loss' if given else ''}"
    return f"{fixed}. Rank correlation of {sharpness} with {metric}: {r:+.2f} (240 minima)."


# %% [markdown] slideshow={"slide_type": "slide"}
# Move **held fixed** from left to right, and watch the line.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
import ipywidgets as widgets

fl.panels.Panel(
    build,
    "scatter of 240 minima, sharpness across and test error up, with the line of their rank correlation; "
    "a slider holds learning rate, batch size and train loss fixed, one after the other",
    size=(7.5, 5),
    held_fixed=widgets.SelectionSlider(
        options=[*STAGES], description="held fixed", style={"description_width": "initial"},
        layout=widgets.Layout(width="95%", max_width="640px"),
    ),
    sharpness=[*SHARP.values()],
    metric=SAFE,
).show()

# %% [markdown]
# The axes show ranks. Behind them, the mean `λ_max` of each cell (geometric, all controls together):

# %%
minima.groupby(["lr", "batch"], sort=False)["lambda max"].agg(geometric_mean).map("{:.3f}".format).to_frame().T

# %% [markdown]
# **What you see.** Nothing held fixed: the line rises a little, "sharper is worse". The large marks lie apart: the two learning rates differ in sharpness by an order of magnitude. Hold the learning rate fixed and the blue and the orange cloud slide over each other; circles and squares, the batch sizes, still lie apart. With the batch size too all four sit in the middle, and the line has tipped over to a little below flat. With the train loss it **falls**: "sharper is better". No number has been changed on the way. This is a relative of **Simpson's paradox**: the same 240 networks answer a question in two ways, depending on what you compare with what. (In its textbook form all groups agree with each other and disagree with the whole. Whether ours agree we look up below.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### The answer, five times
#
# First with its intervals. In the picture `λ_max` has intervals, from the bootstrap over seeds; those of the other measures are printed below it for two stages. (Strata are averaged by their numbers of networks. At first we averaged Fisher's `artanh r`; but when the bootstrap draws a seed twice, a stratum of ten can come out near ±1 and outweigh all others. The three verdicts below were the same.)


# %% jupyter={"source_hidden": true}
def answers(table, column, metric, stages=tuple(STAGES)):
    return [conditioned(table, column, metric, stage) for stage in stages]


RESAMPLES = {"laptop": 200, "paper": 2000}[SCALE]


def answer_with_interval(table, stage, column="lambda max"):
    return compare.bootstrap(lambda part: conditioned(part, column, "test error", stage), table, RESAMPLES)


spread = {stage: answer_with_interval(minima, stage) for stage in tqdm(STAGES, leave=False)}

# %% [markdown]
# Bars are 95 % intervals. Right: the same answer, of `λ_max` alone, for the other safety metrics.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.6), sharey=True)
ends = np.array([interval for _, interval in spread.values()]).T
middle = np.array([value for value, _ in spread.values()])
axes[0].errorbar(range(5), middle, abs(ends - middle), fmt="o-", ms=10, lw=3, label="λ_max")
for k, (name, mark) in enumerate(zip([*SHARP][1:], "s^v")):
    beside = np.arange(5) + 0.08 * (k + 1)
    axes[0].plot(beside, answers(minima, name, "test error"), marker=mark, ms=6, lw=1.5, label=SHARP[name])
for name, mark in zip(SAFE, "os^v"):
    axes[1].plot(answers(minima, "lambda max", name), marker=mark, ms=7, label=name)
for ax, title in zip(axes, ("of each measure with the test error", "of λ_max with each safety metric")):
    ax.axhline(0, color="black", lw=1.2, ls="-")
    ax.set(title=title, ylim=(-1, 1))
    ax.set_xticks(range(5), ["nothing", "lr", "lr,\nbatch", "lr, batch,\ntrain loss", "lr, batch,\nregulariser"])
    ax.tick_params(axis="x", labelsize=10)
    ax.legend(fontsize=10, ncols=2, loc="upper right")
axes[0].set(ylabel="rank correlation", xlabel="held fixed")
axes[1].set(xlabel="held fixed")
pooled_guess.draw(axes[0], axis="y")
fl.plots.show(fig, "rank correlation of sharpness with test error, over five stages of conditioning: it turns its sign")

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "skip"} tags=["result"]
print("result")
for name in [*SHARP][1:]:
    for stage in ("nothing", "… and train loss"):
        value, (low, high) = answer_with_interval(minima, stage, name)
        print(f"{SHARP[name]:16s} and test error, held fixed: {stage:16s} {value:+.2f} [{low:+.2f}, {high:+.2f}]")

# %% [markdown]
# **What you see.** Left: the curve of `λ_max` starts above 0 and lies below it once the train loss is held fixed. At the last stage, where only the seed differs, nothing is left that ten seeds could show. The curves of the other measures have the same shape, but by the intervals above only κ reverses as well; the random direction has no clear beginning, Fisher-Rao no clear end. Right: the *other* safety metrics have stories of their own. With the error on corrupted images `λ_max` begins on the *other* side, "sharper is better", and crosses over to "sharper is worse" within learning rate and batch size. So not even the direction of the reversal is a fact about sharpness; it is one about this grid and this metric.

# %% [markdown]
# The claims: rule 2 at three stages.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
def correlated(id, sentence, stage, verdict, **bounds):
    value, interval = spread[stage]
    detail = f"240 minima; train losses from {minima['train loss'].min():.4f} to {minima['train loss'].max():.2f}"
    display(fl.claims.declare(id, sentence, value, verdict, interval=interval, detail=detail, **bounds))


print(pooled_guess.settle(spread["nothing"][0]))
sharper_worse = "the sharper (λ_max), the higher the test error: Spearman above 0"
correlated("10.1 pooled", f"over all 240, {sharper_worse}", "nothing", "holds", above=0)
correlated("10.1 cell", f"within lr and batch, {sharper_worse}", "learning rate, batch", "inconclusive", above=0)
correlated("10.1 loss", f"given train loss as well, {sharper_worse}", "… and train loss", "does not hold here", above=0)

# %% [markdown]
# Between the first and the third the sign has turned, and by rule 3 that is a reversal:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
first, last = spread["nothing"], spread["… and train loss"]
kinds = ["it stays, beyond the noise", "it is lost in the noise", "it changes its sign, beyond the noise"]
kind = 0 if last[1][0] > 0 else 2 if last[1][1] < 0 else 1
print(fixed_guess.settle(kinds[kind]))
fl.claims.declare(
    "10.2", "conditioning reverses the sign: pooled above 0; below 0 given learning rate, batch size and train loss",
    max(-first[1][0], last[1][1]), "holds with a caveat", below=0,
    caveat="without the cell of learning rate 0.03 and batch 50 there is nothing to reverse, see Break it",
    detail="Measured: of the two intervals the end nearer to 0, signed so that it must be negative",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### An average hides what it averages
#
# "Within learning rate and batch size" is a mean over four strata, and the last stage one over 24. Look at them before you believe in the mean. In the first row the four cells, 60 networks each; below, the 24 strata of ten; in the last column each control over all four cells.

# %%
def strata(by):
    groups = minima.groupby(by)[["lambda max", "test error"]]
    return groups.apply(lambda part: compare.correlation(part["lambda max"], part["test error"]))


parts = strata(["control", "lr", "batch"]).unstack(["lr", "batch"]).sort_index(axis=1, ascending=[False, True])
parts = pd.concat([strata(["lr", "batch"])[parts.columns].to_frame("all controls").T, parts.loc[[*CONTROLS]]])
parts["all", "cells"] = [np.nan, *strata("control")[[*CONTROLS]]]
parts.map(lambda r: "" if np.isnan(r) else f"{r:+.2f}")

# %% [markdown]
# The first mean does not describe its parts. Three cells say "sharper is better", and the fourth, learning rate 0.03 with batch 50, says the contrary, loudly. There the training is slowest: 100 epochs are barely enough, augmented networks stay at the highest train loss of all, and they are the sharpest *and* the worst. The 24 small strata scatter about 0, as correlations of ten numbers do (beyond ±0.65 once in twenty). Now the last column: "among augmented networks sharper is much worse"? It pools four cells whose own numbers, in the same row, say nothing of the kind. That is Simpson's paradox once more.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Who causes whom?
#
# Which of the five answers is right? No statistic can say. It depends on the question, and the question on how the numbers come about:

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(7.8, 3.6))
boxes = {
    "learning rate\nbatch size": (0, 2), "regulariser": (0, 0), "train loss\n(confidence)": (2, 2),
    "function\nbetween the images": (2, 0), "sharpness": (4, 2), "test error": (4, 0),
}
arrows = [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (2, 4), (3, 4), (3, 5), (2, 5)]
frames = []
ax.set(xlim=(-0.8, 4.8), ylim=(-0.6, 3.4))
ax.axis("off")
for name, (across, up) in boxes.items():
    box = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": fl.plots.BLUE if across == 0 else fl.plots.GREY, "lw": 2}
    frames.append(ax.text(across, up, name, ha="center", va="center", bbox=box, zorder=3))
fig.draw_without_rendering()  # now the frames know their places
places = list(boxes.values())
for i, j in arrows:
    bend = "arc3,rad=-0.35" if (i, j) == (0, 4) else "arc3"
    ends = {"patchA": frames[i].get_bbox_patch(), "patchB": frames[j].get_bbox_patch(), "shrinkA": 4, "shrinkB": 4}
    look = {"arrowstyle": "-|>", "lw": 2, "color": fl.plots.GREY, "connectionstyle": bend}
    ax.annotate("", places[j], places[i], arrowprops=look | ends)
fl.plots.show(fig, "diagram of causes: settings act on train loss and function, and these on sharpness and test error")

# %% [markdown]
# **What you see.** Blue, left: what the experimenter sets. Everything else follows. There is *no* arrow from sharpness to test error; whether there ought to be one is what the debate is about.
#
# - **Learning rate and batch size** point at both sides: a **confounder** (a common cause) of sharpness and test error. A pooled correlation contains what *they* do. To ask about sharpness, hold them fixed.
# - **Train loss** plays two parts. For "what do the *settings* do to the sharpness?" it stands in between, a **mediator**: hold it fixed, and you block a road of the effect. For "what does *sharpness* tell about the test error?" it points at both, one more common cause: to hold it fixed asks what sharpness tells beyond how confidently the training set is fitted. Both are good questions.
# - **The regulariser** is a common cause as well. Hold it fixed too, and only the luck of the seed is left (a setting that is not drawn).
# - A thing that *both* cause (a **collider**, say "was this network worth publishing?") must not be held fixed at all: that makes a correlation where there was none.
#
# The diagram is an assumption. What we can do is to check single arrows of it: by setting the thing on the left ourselves.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The learning rate as a cause
#
# We *set* the learning rate, so whatever changes with it is its effect, not a mere correlation. In 05 full-batch gradient descent with a step η pushed `λ_max` up to 2/η, and no further: a larger step, a lower ceiling. Six learning rates × five seeds in one batched run, with the optimiser of the grid (mini-batches of 25, momentum), but the learning rate constant, so that "the" learning rate means something all along the way. Beside it five steps of plain full-batch descent, as in 05.

# %%
def path(rates, seeds, keep, **recipe):
    """Train loss and λ_max on the way: two arrays (kept steps, rates, seeds)."""
    objective = fl.NetworkLoss(net, x, y, seeds=[*seeds] * len(rates))
    run = fl.train(objective, keep[-1], lr=np.repeat(rates, len(seeds)).tolist(), keep=keep, **recipe)
    assert not run.diverged.any()
    theta = torch.stack([*run.kept.values()]).unflatten(1, (len(rates), -1))
    return loss(theta).numpy(), fl.curvature.eigenvalues(loss, theta, steps=10)[..., 0].numpy()


RATES, FULL = [0.01, 0.02, 0.05, 0.1, 0.2, 0.4], [0.5, 1.0, 2.0, 4.0, 6.0]
steps = [12, 24, 36, 60, 96, 144, 240, 360, 600, 960, 1440, 2400]
mini = path(RATES, range(5), steps, batch=25, momentum=0.9)
full = path(FULL, range(10, 15), [12, 20, 30, 45, 70, 100, 150, 220, 320, 450, 600])

# %% [markdown]
# The steps of full-batch descent, and the train loss 0.03 at which they are compared below, were chosen after a look at three seeds; the five seeds here are others.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.7), sharey=True)
shades = plt.cm.cividis(np.linspace(0, 0.85, 6))
pictures = [(axes[0], RATES, steps, mini), (axes[1], RATES, None, mini), (axes[2], FULL, None, full)]
for ax, rates, time, values in pictures:
    losses, tops = (np.exp(np.log(v).mean(2)) for v in values)
    for i, (rate, shade, mark) in enumerate(zip(rates, shades, "osD^vP")):
        across = losses[:, i] if time is None else time
        ax.loglog(across, tops[:, i], "-", marker=mark, ms=5, color=shade, label=f"{rate:g}")
        if rates is FULL:
            ax.axhline(2 / rate, color=shade, ls=":", lw=1.5)
for ax in axes[[0, 2]]:
    ax.legend(title="learning rate", fontsize=9, ncols=2)
axes[0].set(xlabel="step", ylabel="λ_max", title="mini-batches", ylim=(1e-3, 6))
axes[1].set(xlabel="train loss (training: ←)", title="mini-batches")
axes[2].set(xlabel="train loss (training: ←)", title="full batch; dotted: 2/η")
fl.plots.show(fig, "top eigenvalue over steps, and over train loss, for six learning rates; right, full-batch descent")

# %% [markdown]
# **What you see.** Left: after equal steps the largest and the smallest learning rate differ in `λ_max` by a factor of more than a hundred. Middle: the *same networks* over their train loss, and the six curves have become one (the fastest runs a little below the others at the end). Right, full batch: one curve again, until it meets its ceiling 2/η; the two largest learning rates begin above it, are thrown down, and pass below.


# %%
def at_level(values, level):
    """log₁₀ λ_max (rates, seeds) where the train loss first falls to `level`, between the kept steps around it."""
    losses, tops = (np.log10(v) for v in values)
    assert (losses.min(0) < np.log10(level)).all()
    last = (losses <= np.log10(level)).argmax(0)
    (l1, t1), (l2, t2) = ([np.take_along_axis(v, k[None], 0)[0] for v in (losses, tops)] for k in (last - 1, last))
    return t1 + (t2 - t1) * (np.log10(level) - l1) / (l2 - l1)


ends = np.exp(np.log(mini[0][-1]).mean(1))
comparisons = {
    "10.3 raw": ("mini-batches, after 2,400 steps", np.log10(mini[1][-1]), RATES),
    "10.3 equal": ("mini-batches, at train loss 0.1", at_level(mini, 0.1), RATES),
    "10.3 full": ("full batch, at train loss 0.03", at_level(full, 0.03), FULL),
}
AT = {"10.3 raw": "; train loss " + ", ".join(f"{loss:.2g}" for loss in ends)}
for level in (0.1, 0.05, 0.02):
    ratio = at_level(mini, level)[-1] - at_level(mini, level)[0]
    print("mini-batches, at train loss {:g}: log₁₀ of the ratio {:+.2f} ± {:.2f}".format(level, *compare.interval(ratio)))

# %% [markdown]
# Rule 6, three times:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
verdicts = {"10.3 raw": "holds", "10.3 equal": "inconclusive", "10.3 full": "holds"}
for id, (where, top, rates) in comparisons.items():
    means = ", ".join(f"{10**m:.3g}" for m in top.mean(1))
    sentence = f"{where}, λ_max is smaller at learning rate {rates[-1]:g} than at {rates[0]:g}"
    detail = f"log₁₀ of the ratio, {top.shape[1]} seeds; λ_max from the smallest rate to the largest: {means}"
    detail += AT.get(id, "")
    display(fl.claims.declare(id, sentence, top[-1] - top[0], verdicts[id], below=0, detail=detail))

# %% [markdown]
# So there are two roads from the learning rate to the sharpness. One leads **through the train loss**: a larger rate gets further in the same time, confidence grows, curvature vanishes. In our grid this road carries nearly everything that we can see: what is left at equal train loss is a few tenths of a power of ten at most, against two powers raw, and five seeds do not tell it from nothing. The other is **the ceiling** of 05, and it works only where it is touched. With momentum μ it lies at 2(1 + μ)/η for full batches (the noise of mini-batches lowers it), which is 12.7 at the largest rate of the grid, and these networks never come near it. (Deeper networks with more stubborn curvature do; there the second road is the wide one.) "The learning rate causes sharpness" is true both times, and "so hold it fixed" as well; but *why* it does decides what you find at equal train loss.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### C3, C4, C5: against base, and at equal train loss
#
# Now the other kind of question: not what goes with what, but what a regulariser *does*, seed by seed. For the comparison at equal train loss we need baselines of other train losses: a ladder of eight other lengths of training, each with its own complete cosine, in every cell. `fl.compare.at_equal` reads every measure off this ladder, along straight lines in the logarithms, at the train loss of each regularised network: its **early-stopped twin** (08).

# %% jupyter={"source_hidden": true}
LENGTHS = (8, 13, 20, 32, 50, 70, 150, 260)  # epochs
base_cells = cells[cells["control"] == "base"].join(strengths, on="control").reset_index(drop=True)
rungs = pd.concat([measure(base_cells, train(base_cells, epochs)) for epochs in tqdm(LENGTHS, leave=False)])
COLUMNS, CELL = [*SHARP, *SAFE], ["batch", "lr"]
base, regularised = minima[minima["control"] == "base"], minima[minima["control"] != "base"]
ladder = pd.concat([base, rungs])
twins = compare.at_equal(regularised, ladder, COLUMNS, ["seed", *CELL])
print(twins.dropna().groupby("control", sort=False).size().to_dict(), "of 40 have a twin")

# %% [markdown]
# **How good is the ladder?** Base itself is the test: take its own rung out, read it off between its neighbours, and compare.

# %%
own = [rows.assign(cell=rows["lr"].astype(str) + "/" + rows["batch"].astype(str)) for rows in (base, rungs)]
read = compare.at_equal(own[0], own[1], COLUMNS, ["seed", "cell"])
error = compare.differences(own[0], COLUMNS, read, SHARP, by="cell").groupby("cell").mean()
for column in COLUMNS:
    worst, unit_of = error.loc[error[column].abs().idxmax(), column], "powers of ten" if column in SHARP else "points"
    name = SHARP.get(column, column)
    print(f"{name:16s} off by {error[column].mean():+.3f}, in the worst cell {worst:+.3f} {unit_of}")

# %% [markdown]
# In the worst cell `λ_max` is off by 5 %. So beside a twin, sharpness that differs by **less than 5 %** counts as no difference, however small its p-value. (This rule was added after a first run, in which Fisher-Rao norms 1 % apart earned a ✓.)
#
# `fl.compare.differences` takes the differences, per seed the mean over the four cells, from base or from the twins; `fl.compare.signed_ranks` tests them, a family at a time.

# %%
FAMILIES = {"sharpness": [*SHARP], "safety": SAFE}
changes = {
    "against base": compare.differences(minima, COLUMNS, ratio=SHARP, match=CELL),
    "against the twin": compare.differences(regularised, COLUMNS, twins, SHARP, match=CELL),
}
tests = pd.concat({
    (comparison, family): compare.signed_ranks(change[names])
    for comparison, change in changes.items() for family, names in FAMILIES.items()
}).rename_axis(["comparison", "family", "measure", "control"])
tests.loc["against base"].droplevel("family").loc[["lambda max", "test error"]].map("{:.3g}".format)

# %% [markdown]
# How to read a row: `difference` is the median of all means of two of the ten differences (for `λ_max` in powers of ten, for the test error in points), `effect` the rank-biserial correlation. `p` cannot be below `smallest p`. The corrected p is larger by far: a family of 20 tests is a place where chance has 20 tries.

# %% [markdown] slideshow={"slide_type": "subslide"}
# All eight measures, against base and against the early-stopped twin: means with their 95 % t-intervals, and a small dot for each seed.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(2, 4, figsize=(9.6, 5.4), sharey=True)
for ax, name in zip(axes.flat, COLUMNS):
    both = pd.DataFrame({comparison: change[name] for comparison, change in changes.items()})
    fl.plots.forest(both.loc[FIVE], ax, factors=name in SHARP)
    ax.set(title=SHARP.get(name, name), xlabel="factor, → sharper" if name in SHARP else "points, → worse")
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=11)
fl.plots.show(fig, "intervals of eight measures for five regularisers, against base and against the early-stopped twin")

# %% [markdown]
# **What you see.** Upper row, against base (blue): by all four measures augmentation and weight decay are sharper, alone or with SAM, and SAM alone is flatter. Beside the twin (orange): weight decay crosses to the flatter side, except by Fisher-Rao, where everything lies near 0; augmentation comes closer to 0 and stays sharper. Lower row: test error and ECE are better for the same four; corrupted images are *worse* for augmentation; the seeds agree better with weight decay. SAM alone changes no safety metric against base; beside the twin its seeds agree a little less. Every sign in `λ_max` is that of 08, on other images, another batch size and other learning rates.

# %% [markdown]
# By rule 4: ✓ sharper, or better; ✗ flatter, or worse; – neither is established.


# %%
def too_small(comparison):
    """Beside a twin: sharpness that differs by less than 5 %, which is no difference."""
    rows = tests.loc[comparison]
    beside = (comparison == "against the twin") & (rows.index.get_level_values("family") == "sharpness")
    return beside & (abs(rows["difference"]) < np.log10(1.05))


def by_control(values):
    return values.unstack(["family", "measure"]).loc[FIVE]


def marks(comparison):
    rows = tests.loc[comparison]
    good = np.where(rows.index.get_level_values("family") == "sharpness", 1, -1) * rows["effect"] > 0
    nothing = (rows["corrected p"] > 0.05) | too_small(comparison)
    return by_control(pd.Series(np.where(nothing, "–", np.where(good, "✓", "✗")), rows.index))


pd.concat({comparison: marks(comparison) for comparison in ("against base", "against the twin")})

# %% [markdown]
# "Better", as a mean over cells, can hide a cell. The test error less that of base, in points, mean over the ten seeds:

# %%
(by_cell("test error") - by_cell("test error").loc["base"]).loc[FIVE].map("{:+.2f}".format)

# %% [markdown]
# Weight decay is better at the larger learning rate only. And at learning rate 0.03 with batch 50 augmentation has a *higher* test error than base: with a train loss of 0.12 on the clean images it is not done yet, and hardly a minimum.
#
# The claims, per measure, by rule 5: the number of regularisers with a ✓ must be at least three. A "–" is not a "no": it leaves the question open (unless it stands for a difference below the 5 % above). So the count has a range, from the established ones to all that are not excluded: below 3 from end to end is "does not hold here", across 3 "inconclusive". (This way of counting came late, when a reader pointed out that we had counted "–" as "no".)


# %%
def not_excluded(comparison):
    """✓, and every – whose difference is not too small to be one."""
    mark = marks(comparison)
    return (mark == "✓") | (mark == "–") & ~by_control(too_small(comparison))


# %% [markdown]
# And the claims of one kind:


# %% jupyter={"source_hidden": true}
def often(id, claim, names, sentence, verdicts):
    for comparison, expected in verdicts.items():
        table, possible = marks(comparison).droplevel(0, axis=1), not_excluded(comparison).droplevel(0, axis=1)
        for name, verdict in zip(names, expected):
            yes, no = (list(table.index[table[name] == mark]) for mark in "✓✗")
            detail = f"✓ {', '.join(yes) or 'none'}; ✗ {', '.join(no) or 'none'}. {LEVELS[comparison]}"
            stance = {HOLDS: "supports", CAVEAT: "supports", NOT: "against"}.get(verdict, "silent")
            about = {claim: stance} if comparison == "against base" else {}
            label = SHARP.get(name, name)
            text = f"{comparison}, at least three of the five {sentence} ({label})"
            id_here = f"{id} {label}, {comparison.split()[-1]}"
            more = {"interval": (len(yes), int(possible[name].sum())), "detail": detail, "about": about}
            if verdict == CAVEAT:
                more["caveat"] = "the p-values of a metric made of pairs are too small, see Break it"
            display(fl.claims.declare(id_here, text, len(yes), verdict, above=2.5, **more))


HOLDS, CAVEAT, NOT, OPEN = "holds", "holds with a caveat", "does not hold here", "inconclusive"
middle = minima.groupby("control", sort=False)["train loss"].agg(lambda v: np.exp(np.log(v).mean()))
LEVELS = {
    "against base": "Train loss " + ", ".join(f"{name} {loss:.4f}" for name, loss in middle.items()),
    "against the twin": "At the train loss of each regularised network",
}

# %% [markdown]
# **C3**, sharper:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
often("10.4", "C3", [*SHARP], "are sharper", {
    "against base": [HOLDS, HOLDS, HOLDS, HOLDS],
    "against the twin": [NOT, NOT, NOT, NOT],
})

# %% [markdown]
# **C4**, better:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
often("10.5", "C4", SAFE, "are better", {
    "against base": [HOLDS, HOLDS, OPEN, OPEN],
    "against the twin": [HOLDS, HOLDS, OPEN, CAVEAT],
})

# %% [markdown]
# **C5**: the baseline is flatter and still worse on *all* safety metrics. A regulariser speaks for it if it has ✓ for `λ_max` and in all four safety columns.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
for comparison in ("against base", "against the twin"):
    table = marks(comparison)
    both = table.index[(table["sharpness", "lambda max"] == "✓") & (table["safety"] == "✓").all(axis=1)]
    maybe = not_excluded(comparison)
    maybe = list(maybe.index[maybe["sharpness", "lambda max"] & maybe["safety"].all(axis=1)])
    about = {"C5": "supports"} if comparison == "against base" else {}
    detail = f"They are: {', '.join(both) or 'none'}; not excluded: {', '.join(maybe) or 'none'}. {LEVELS[comparison]}"
    display(fl.claims.declare(
        f"10.6 {comparison}", f"{comparison}: at least three of the five are sharper and better on all four metrics",
        len(both), NOT, above=2.5, interval=(len(both), len(maybe)), detail=detail, about=about,
    ))

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The paper's six radii
#
# SAM alone, at all six radii of the paper, in one cell (learning rate 0.3, batch 50), with the ten seeds of the grid; ρ = 0 is base.

# %%
RHOS = (0.0025, 0.005, 0.025, 0.05, 0.25, 0.5)
in_cell = {"batch": 50, "lr": 0.3, "weight_decay": 0.0, "augment": False}
radii = pd.DataFrame(fl.study.grid(rho=RHOS, seed=range(10))).assign(control="SAM", **in_cell)
radii = measure(radii, train(radii))
radii["beside the twin"] = radii["lambda max"] / compare.at_equal(radii, ladder, ["lambda max"], ["seed", *CELL])["lambda max"]
radii = pd.concat([base.query("batch == 50 and lr == 0.3"), radii], ignore_index=True)
print("with a twin:", radii.dropna(subset=["beside the twin"]).groupby("rho").size().to_dict(), "of 10")

# %% [markdown]
# Geometric means over the seeds, with 95 % intervals of the difference from base per seed (the first dot, ρ = 0).

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 4, figsize=(10, 3))
names = {"train loss": "train loss", "lambda max": "λ_max", "beside the twin": "λ_max ÷ twin"}
names |= {"test error": "test error (%)"}
ticks = [[2e-4, 5e-4, 1e-3], [0.002, 0.005, 0.01, 0.02, 0.04], [0.85, 0.9, 0.95, 1], [5.5, 6, 6.5]]
for ax, (name, title), marks_at in zip(axes, names.items(), ticks):
    table = np.log10(radii.pivot(index="rho", columns="seed", values=name).astype(float))
    table = table.where(table.notna().sum(axis=1) >= 5, axis=0)
    change = table if name == "beside the twin" else table - table.loc[0.0]
    half, centre = (change.apply(compare.interval, axis=1, result_type="expand")[1], table.mean(axis=1))
    bars = 10**centre - 10 ** (centre - half), 10 ** (centre + half) - 10**centre
    ax.errorbar([0.001, *RHOS], 10**centre, bars, fmt="o-", color=fl.plots.PURPLE, ms=5)
    ax.set(xscale="log", title=title, xlabel="radius ρ", xticks=[0.001, 0.01, 0.1], xticklabels=["0", "0.01", "0.1"])
    ax.set(yscale="log", yticks=marks_at, yticklabels=[f"{tick:g}" for tick in marks_at])
    ax.minorticks_off()
axes[2].axhline(1, color="black", lw=1.2, ls="-")
fl.plots.show(fig, "train loss, top eigenvalue, its ratio to the twin and test error over the six radii of SAM")

# %% [markdown]
# **What you see.** `λ_max` falls by a factor of ten over the radii, and the train loss falls with it. The ratio to the twin of equal train loss falls too: SAM's own part. (At the two largest radii fewer than five seeds have a twin: SAM ends at a lower train loss than the longest baseline.) The test error moves only at the largest radii, where the train loss has gone down to a third and a quarter as well, and not in every seed.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
def along_radius(name):
    return [compare.correlation(part["rho"], part[name]) for _, part in radii.groupby("seed")]


r = along_radius("test error")
centre, half = compare.interval(r)
print(f"radius and test error: {centre:+.2f} ± {half:.2f}, seeds from {min(r):+.2f} to {max(r):+.2f}")
centre, half = compare.interval(along_radius("lambda max"))
losses = radii.groupby("rho")["train loss"].mean()
fl.claims.declare(
    "10.7", "the larger SAM's radius, the smaller λ_max (rank correlation per seed)",
    centre, "holds", below=0, interval=(max(centre - half, -1), centre + half),
    detail=f"Ten seeds, seven radii; mean train loss from {losses.iloc[0]:.2g} to {losses.iloc[-1]:.2g}",
)

# %% [markdown]
# (Rule 6 announced the same for the test error. Its interval reaches just across 0: inconclusive, and so close that another processor might decide otherwise. So there is a number and no claim.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Photographs, recorded
#
# The same grid for a network as they are used: ResNet-8 (width 16) on **CIFAR-10, JPEG re-encoded, 2,000-image subset**, 60 epochs, batch 128 or 64, learning rate 0.05 or 0.02. A run takes minutes, 240 of them take many hours: the study is **recorded**, it goes on, and this notebook reads what is in.

# %%
def in_points(table):
    errors = {f"{metric} error": 100 * (1 - table[f"{metric} accuracy"]) for metric in ("test", "corrupted")}
    return table.assign(**errors, ece=100 * table["ece"])


record = in_points(fl.data.recorded("photographs"))
photos = record[record["stop"] == "end"].copy()
runs_in = photos.groupby("seed").size()
seeds_in = [seed for seed, count in runs_in.items() if count == 24]
print(f"recorded: {len(photos)} of the 240 minima are in; complete: {len(seeds_in)} of 10 seeds.")

# %% [markdown]
# A two-sided test needs six complete seeds (with five its p cannot be below 0.0625), an interval three. First, then, plain counts: in how many cells (a seed, a batch size, a learning rate) a regulariser is sharper, or better, than the base run of the *same* initial weights, with the range from the smallest to the largest change. Cells of one seed share their initial weights, so "4 of 4" is less than it looks.


# %%
METRICS = ("test error", "ece", "corrupted error")
RAW = ("lambda max", "trace", "relative flatness", "fisher rao", "random direction", *METRICS)
RATIOS = [*RAW[:5], "train loss", "gradient norm"]


def in_cells(rows, columns, twins=None):
    """The differences cell by cell: of a sharpness or a loss log₁₀ of the ratio, of a safety metric points."""
    sides = [side if side is None else side.assign(cell=list(zip(*(side[a] for a in ("seed", *CELL))))) for side in (rows, twins)]
    return compare.differences(sides[0], columns, sides[1], RATIOS, unit="cell")


def counted(change):
    """In how many cells sharper (or better), and the range of the factors (or the points)."""
    change, good = change.dropna(), (change.name in METRICS and change < 0) | (change.name not in METRICS and change > 0)
    ends = dict.fromkeys(f"{10**d if change.name in RATIOS else d:.2g}" for d in (change.min(), change.max()))
    return f"{good.sum()}/{len(change)}: {' … '.join(ends)}" if len(change) else "not in"


def summary(changes):
    rows = {SHARP.get(c, c): {name: counted(v) for name, v in changes[c].groupby("control")} for c in changes}
    return pd.DataFrame(rows).reindex(FIVE)


raw_cells = in_cells(photos, ["train loss", *RAW])
summary(raw_cells)

# %% [markdown]
# **How to read it.** In the first six columns the count is of cells with a *higher* train loss, or a *sharper* minimum, and the range that of the factor; in the last three it is of cells in which the metric is *better* (lower), with the range of the change in points. `λ_max` and the trace (of the Hessian on the first 256 training images) are measured for the first three seeds only.
#
# And at equal train loss. The base runs were also measured on the way, whenever their train loss had fallen to 0.6 of its last mark. That makes a *weaker* twin than those above: a snapshot from the middle of a schedule, where the learning rate is still high.


# %%
ON_THE_WAY = ["relative flatness", "fisher rao", "gradient norm", "test error", "ece"]
photo_base, photo_others = record[record["control"] == "base"], photos[photos["control"] != "base"]
photo_twins = compare.at_equal(photo_others, photo_base, ON_THE_WAY, ["seed", *CELL])
equal_cells = in_cells(photo_others, ON_THE_WAY, photo_twins)
summary(equal_cells)

# %% [markdown]
# What these two tables say, in words. A direction is named only where *all* cells that are in agree.


# %%
def in_words(change, up, down):
    change = change.dropna()
    if not len(change):
        return "no twin"
    return "no common direction" if change.min() < 0 < change.max() else up if change.min() >= 0 else down


for name in FIVE:
    kappa, error = (raw_cells.loc[name, column] for column in ("relative flatness", "test error"))
    twin = in_words(equal_cells.loc[name, "relative flatness"], "sharper", "flatter")
    print(f"{name:8s} cells in: {len(kappa):2d}   κ: {in_words(kappa, 'sharper', 'flatter')}; "
          f"test error: {in_words(error, 'worse', 'better')}; κ at equal train loss: {twin}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# **C3, C4 and C5 on photographs.** From three complete seeds on the same can be said with intervals: for each complete seed the mean over its four cells, then the mean over seeds and its 95 % t-interval; factors for a sharpness, points for a safety metric.


# %% jupyter={"source_hidden": true}
EQUAL = [column for column in ON_THE_WAY if column != "gradient norm"]
complete, complete_twins = (rows[rows["seed"].isin(seeds_in)] for rows in (photos, photo_twins))
photo_changes = {
    "against base": compare.differences(complete, RAW, ratio=RATIOS, match=CELL),
    "at equal train loss": compare.differences(
        complete[complete["control"] != "base"], EQUAL, complete_twins, RATIOS, match=CELL
    ),
}


def in_numbers(change):
    centre, half = compare.interval(change)
    ends = np.array([centre, centre - half, centre + half])
    if change.name in METRICS:
        return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*ends)
    return "×{:.3g} [{:.3g}, {:.3g}]".format(*10**ends)


def shown_in_numbers(change):
    table = {SHARP.get(c, c): {name: in_numbers(v) for name, v in change[c].groupby("control", sort=False)} for c in change}
    return pd.DataFrame(table).T


for comparison, change in photo_changes.items():
    display(shown_in_numbers(change)[FIVE].rename_axis(comparison))

# %% [markdown]
# The claims count as above: how many of the five are established, to how many are not excluded. The records do not change from one computer to the next, so neither do these verdicts; they may change as more seeds come in.


# %% jupyter={"source_hidden": true}
def judged(column, comparison):
    """Who is sharper (or better), and who may be: the interval lies on the good side, or reaches it."""
    bound = {"below": 0} if column in METRICS else {"above": 0}
    verdicts = compare.family(photo_changes[comparison][column], m=1, **bound)["verdict"][FIVE]
    return [[*verdicts.index[verdicts.isin(kinds)]] for kinds in ([HOLDS], [HOLDS, OPEN])]


def claim_photos(claim, comparison, verdicts):
    for column, verdict in verdicts.items():
        yes, possible = judged(column, comparison)
        sentence = f"photographs, {comparison}: at least three of the five are {'better' if column in METRICS else 'sharper'}"
        display(fl.claims.declare(
            f"10.8 {claim} {SHARP.get(column, column)}, {comparison.split()[-1]}", f"{sentence} ({SHARP.get(column, column)})",
            len(yes), verdict, above=2.5, interval=(len(yes), len(possible)),
            detail=f"Recorded, {len(seeds_in)} complete seeds. Established: {', '.join(yes) or 'none'}; not excluded: "
            f"{', '.join(possible) or 'none'}. {PHOTO_LEVELS}",
            about={claim: "supports"} if comparison == "against base" else {},
        ))


losses = photos[photos["seed"].isin(seeds_in)].groupby("control", sort=False)["train loss"].agg(geometric_mean)
PHOTO_LEVELS = "Train loss " + ", ".join(f"{name} {loss:.3g}" for name, loss in losses.items())

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
claim_photos("C3", "against base", dict.fromkeys(SHARP, HOLDS))
claim_photos("C3", "at equal train loss", dict(zip(EQUAL, (NOT, NOT))))

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
claim_photos("C4", "against base", dict(zip(METRICS, (OPEN, HOLDS, OPEN))))
claim_photos("C4", "at equal train loss", dict(zip(METRICS, (HOLDS, HOLDS))))

# %% [markdown]
# **What you see.** Raw, C3 holds by all four measures: augmentation is sharper by a factor of four to twenty, the others by 10 to 70 %, where they are established. SAM, which flattened the perceptrons, leaves `λ_max` and the trace where they were and ends *sharper* by κ and Fisher-Rao, at twice the train loss. At equal train loss nothing of that is left: by κ all five are flatter, by Fisher-Rao nobody is established as sharper. (Mind that these twins are snapshots; the next part shows what that can do.) C4: the ECE is better for all five. Test error and corrupted images are better, by many points, with augmentation; for the other three, four seeds cannot tell (beside the twin, weight decay with SAM is better by a hair's breadth, which makes three of five). (On digits augmentation was *worse* on corrupted images. What helps against which corruption depends on the images.)
#
# **C5**, the baseline flatter (by `λ_max`) and worse in all three metrics:

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
columns = ("lambda max", *METRICS)
sets = [[set(part) for part in judged(column, "against base")] for column in columns]
yes, possible = (sorted(set.intersection(*(pair[k] for pair in sets))) for k in (0, 1))
fl.claims.declare(
    "10.8 C5", "photographs, against base: at least three of the five are sharper and better on all three metrics",
    len(yes), OPEN, above=2.5, interval=(len(yes), len(possible)), about={"C5": "supports"},
    detail=f"Recorded. Established: {', '.join(yes) or 'none'}; not excluded: {', '.join(possible) or 'none'}. {PHOTO_LEVELS}",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# **A twin that has cooled down.** For one setting (batch 128, learning rate 0.05) the baseline was also trained with *complete* schedules of 12 to 30 epochs instead of 60. Each ends with a learning rate of 0, as the regularised runs do. Between two lengths lies one that ends at augmentation's train loss; as before we join the points by straight lines in the logarithms.

# %%
annealed = in_points(fl.data.recorded("photographs_annealed"))
seeds_cooled = sorted(annealed["seed"].unique().tolist())
setting = photos.query("batch == 128 and lr == 0.05 and seed in @seeds_cooled")
augmented = setting[setting["control"].isin(["aug", "aug+SAM"])]
cooled_twins = compare.at_equal(augmented, annealed, RAW, ["seed"])
moved = compare.differences(augmented, RAW, cooled_twins, RATIOS)
ends = dict(list(augmented.groupby("control")))
ends |= {f"base, {epochs} epochs": rows for epochs, rows in annealed.groupby("epochs")}
ends["base, 60 epochs"] = setting[setting["control"] == "base"]
print(f"recorded: seeds {seeds_cooled}")
for name, rows in ends.items():
    print(f"{name:16s} train loss", *rows["train loss"].map("{:.2g}".format), f"  ECE, mean {rows['ece'].mean():.1f} %")
shown_in_numbers(moved).rename_axis("beside a cooled twin")

# %% [markdown]
# **What you see.** Means over three seeds with 95 % t-intervals: factors for a sharpness, points for a safety metric. At equal train loss, both fully cooled, augmentation is *sharper* than the baseline by κ and *flatter* by the trace; the other measures cannot tell. Raw, over all four settings, they had called it six to twenty times sharper. And it is better in test error by many points, *and worse in ECE*: a baseline whose training ends that early has a small ECE (the list above the table), a quarter of what it has after 60 epochs. So calibration, which raw was the one metric that all five improved, is at equal train loss the one that augmentation loses. With SAM on top κ still says sharper, and now `λ_max` too says flatter.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
def claim_cooled(end, sentence, values, verdict, caveat="one setting, three seeds", **bounds):
    centre, half = compare.interval(values)
    return fl.claims.declare(
        f"10.8 cooled {end}", f"photographs, augmentation beside a cooled twin: {sentence}",
        centre, verdict, interval=(centre - half, centre + half), caveat=caveat if verdict == CAVEAT else "",
        detail="Recorded, seed by seed: " + ", ".join(f"{v:+.2f}" for v in values)
        + "; train loss " + ", ".join(f"{loss:.2g}" for loss in ends["aug"]["train loss"]), **bounds,
    )


cooled = moved.loc["aug"]
for column, verdict in {"relative flatness": CAVEAT, "lambda max": OPEN, "trace": NOT}.items():
    label = SHARP.get(column, column)
    display(claim_cooled(label, f"sharper by {label} (log₁₀ of the ratio)", cooled[column], verdict, above=0))
for column, verdict in {"test error": CAVEAT, "ece": NOT, "corrupted error": OPEN}.items():
    display(claim_cooled(column, f"better by {column} (points)", cooled[column], verdict, below=0))

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
claim_cooled(
    "disagree", "κ makes more of it than λ_max does (log₁₀ of the ratio)",
    cooled["relative flatness"] - cooled["lambda max"], CAVEAT, above=0,
    caveat="one setting; written after a look at the first seed; the two others came later",
)

# %% [markdown]
# Compare κ with the table of snapshots above. Beside a snapshot the augmented network's κ is *smaller*, beside the cooled twin *larger*, in the one setting where we have both. A snapshot is taken at a high learning rate and has not come to rest; so do not read directions off the table of snapshots. This is what a sentence such as "sharper and better" rests on: on a measure, and on what is held fixed, and how.

# %% [markdown]
# The conditioning slider on photographs, as far as it can be had: from one complete seed on the numbers, from three on also given the train loss and with intervals, from six on the tests. (A stratum of one seed holds six minima: too few to take the train loss out as well. Four seeds can be drawn with replacement in 35 ways only: such an interval shows the scatter, and is no 95 %.)

# %%
PHOTO_SHARP, four = ["relative flatness", "fisher rao", "random direction"], [*STAGES][:4]
done = complete
rows = {SHARP[column]: answers(done, column, "test error", four) for column in PHOTO_SHARP}
display(pd.DataFrame(rows, index=four).T.map("{:+.2f}".format))
for stage in four:
    value, (low, high) = answer_with_interval(done, stage, "relative flatness")
    print(f"κ and test error, held fixed: {stage:22s} {value:+.2f} [{low:+.2f}, {high:+.2f}]")
if len(seeds_in) >= 6:
    done = compare.consistency(done)
    for names in (PHOTO_SHARP, SAFE):
        photo_tests = compare.signed_ranks(compare.differences(done, names, ratio=PHOTO_SHARP, match=CELL))
        display(photo_tests.rename_axis(["measure", "control"]).map("{:.3g}".format))

# %% [markdown]
# **What you see.** No reversal here. At every stage the sharper photograph network is the *better* one: whoever has learned from moved images is sharper and errs less. Given the train loss as well, a third (κ) to a half (random direction) of that is left, with the same sign.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Choose your design, choose your sign
#
# Somebody else might have run the study with other cells: one learning rate only, or three of our four pairs. What would they have found? Before you look: which single cell would you leave out to turn the sign of the pooled correlation?
#
# All 15 possible choices of cells, with the pooled correlation of `λ_max` and test error and its interval:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} tags=["result"]
print("result")
from itertools import combinations


def pooled(part):
    return conditioned(part, "lambda max", "test error", "nothing")


found = {}
for count in range(1, 5):
    for chosen in combinations(CELLS, count):
        part = minima[[cell in chosen for cell in zip(minima["lr"], minima["batch"])]]
        name = ", ".join(f"{lr}/{batch}" for lr, batch in chosen)
        found[name] = compare.bootstrap(pooled, part, RESAMPLES)
for design, (r, (low, high)) in sorted(found.items(), key=lambda pair: pair[1][0]):
    print(f"{r:+.2f} [{low:+.2f}, {high:+.2f}]   {design}")
without = minima[(minima["lr"] != 0.03) | (minima["batch"] != 50)]
r, (low, high) = answer_with_interval(without, "… and train loss")
print(f"\nwithout 0.03/50, given lr, batch and train loss: {r:+.2f} [{low:+.2f}, {high:+.2f}]")

# %% [markdown]
# The sign of a study's headline was decided by *one* cell. Every design with the cell 0.03/50 has a positive number, "the sharper, the worse", every design without it a negative one (with an interval that contains 0 for some of them). Nobody has cheated: all the networks are real and all the correlations are right. So the reversal of 10.2 hangs on that cell: without it the pooled correlation is not above 0 to begin with. Its second half does not: given learning rate, batch size and train loss, "the sharper, the better" is only stronger without the cell (last line). This is what "over a large and diverse set of networks" means: diverse in the ways in which somebody happened to vary them.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### 45 pairs are not 45 samples
#
# Disagreement is measured on pairs of networks. Ten seeds make 45 pairs, and 45 numbers make small p-values. But a network that is unlike the others is in *nine* of the pairs. How wrong is a test on the pairs? Take 40 baselines, all trained alike, and split twenty of them at random into two "controls" of ten. Nothing distinguishes these, so of such comparisons 5 % should reach p ≤ 0.05. (All groups are drawn from the one pool of 40, and they do not share initial weights in pairs as our controls do; the numbers are those of this pool.) Three ways to count: all 45 pairs; ten seeds, each with its mean over the nine others; five pairs that have no network in common.

# %%
alike = cells.query("control == 'base' and batch == 25 and lr == 0.3").join(strengths, on="control")
alike = pd.concat([alike.assign(seed=alike["seed"] + 10 * k) for k in range(4)], ignore_index=True)
chosen = loss.outputs(train(alike), x_test).argmax(-1).numpy()
apart = np.array([[100 * (a != b).mean() for b in chosen] for a in chosen])

# %% [markdown]
# 400 such comparisons of base with base:


# %%
from scipy.stats import wilcoxon


def p_values(rng):
    pairs, disjoint = np.triu_indices(10, 1), (range(0, 10, 2), range(1, 10, 2))
    order = rng.permutation(40)
    a, b = (apart[np.ix_(group, group)] for group in (order[:10], order[10:20]))
    ways = [a[pairs] - b[pairs], a.sum(1) - b.sum(1), a[disjoint] - b[disjoint]]
    return [wilcoxon(d, alternative="greater", method="exact").pvalue for d in ways]


rng = np.random.default_rng(0)
nulls = np.array([p_values(rng) for _ in range(400)])
alarms = (nulls <= 0.05).mean(0)

# %% [markdown]
# At α = 0.05, one-sided:

# %% slideshow={"slide_type": "fragment"}
print("base declared different from base, of 400 comparisons (5 % promised):")
for way, share in zip(("45 pairs", "10 seeds", "5 disjoint pairs"), alarms):
    print(f"{way:17s} {100 * share:4.1f} %")

# %% [markdown]
# Counted as 45 pairs, recipes that are identical are declared different several times as often as promised. The surprise is the second line: ten means, one per seed, are hardly better, because each mean shares a pair with every other. "The seed as the unit" is no cure where the metric itself is made of pairs. The five pairs without a common network keep the promise, but five numbers have hardly a chance to pass (all five must agree: 1 in 32). So read the column *disagreement* in every table, here and in 08, as a description: its p-values are too small.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fl.claims.declare(
    "10.9", "a test on 45 pairs at α = 0.05 gives more than twice as many false alarms as it promises",
    alarms[0], "holds", above=0.1,
    detail=f"400 comparisons of base with base; with the ten seeds' means {100 * alarms[1]:.0f} %",
)

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1 · What is left? (★, 5 minutes)
#
# In a study the rank correlation of sharpness with test error is 0.5. That of sharpness with train loss is 0.8, and that of test error with train loss 0.7. What is the partial correlation of sharpness with test error, given the train loss? (Three digits.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
left = fl.exercises.Exercise(
    "10.partial",
    answer=(0.5 - 0.56) / (0.36 * 0.51) ** 0.5,
    rtol=5e-3,
    mistakes={
        "that is the numerator: what remains must be put in relation to what *could* remain": 0.5 - 0.56,
        "the square root in the denominator is missing": (0.5 - 0.56) / (0.36 * 0.51),
        "square the correlations in the denominator: 1 − 0.8², not 1 − 0.8": (0.5 - 0.56) / (0.2 * 0.3) ** 0.5,
        "only the sharpness was cleaned (*semi*-partial): both 1 − r² belong under the root": (0.5 - 0.56) / 0.36**0.5,
        "only the test error was cleaned: both 1 − r² belong under the root": (0.5 - 0.56) / 0.51**0.5,
        "mind the sign: r_ab comes first, minus the product": (0.56 - 0.5) / (0.36 * 0.51) ** 0.5,
    },
    praise="a solid 0.5 becomes a faint minus: the train loss alone would have made 0.56.",
)

# %% [markdown]
# Your answer:

# %% slideshow={"slide_type": "skip"}
answer = ...
left.check(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# left.check((0.5 - 0.8 * 0.7) / ((1 - 0.8**2) * (1 - 0.7**2)) ** 0.5)
# ```
#
# If sharpness and test error were tied through the train loss alone, their correlation would be 0.8 · 0.7 = 0.56. It is a little less than that.
#
# </details>

# %% [markdown]
# ### Exercise 2 · Alone among twenty (★★, 8 minutes)
#
# Ten seeds, twenty two-sided tests in one family, α = 0.05. The smallest p-value that Wilcoxon's test can give is 2 · 2⁻¹⁰. Benjamini and Yekutieli multiply the k-th smallest of m p-values by `(m/k) · (1 + 1/2 + … + 1/m)`. Suppose that `k` tests have the smallest possible p, and all others are near 1. How large must `k` be, at least, for these `k` to pass?

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
alone = fl.exercises.Exercise(
    "10.alone",
    answer=3,
    mistakes={
        "without the harmonic sum (that is Benjamini and Hochberg), or with p = 2⁻¹⁰ and rounding down: multiply by 1 + 1/2 + … + 1/20 = 3.6": 1,
        "either p was taken one-sided (it is 2 · 2⁻¹⁰ here), or 2.81 was rounded down": 2,
        "k counts tests: round up to the next whole number": 2.8107,
        "p was doubled twice: the smallest two-sided p with ten seeds is 2⁻⁹": 6,
        "they need not all pass: the factor m/k falls with k": 20,
    },
    praise="with ten seeds a single effect, however clear, cannot pass in a family of twenty. Absence of a ✓ is no evidence of absence.",
)

# %% [markdown]
# Your answer:

# %% slideshow={"slide_type": "skip"}
k = ...
alone.check(k)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# harmonic = sum(1 / i for i in range(1, 21))
# k = next(k for k in range(1, 21) if 2 * 2**-10 * 20 / k * harmonic <= 0.05)
# alone.check(k)
# ```
#
# 2⁻⁹ · 20 · 3.598 = 0.1405, and 0.1405/k ≤ 0.05 from k = 3 on. The correction asks for company. (In the sharpness family above, against base, all twenty are at the smallest p, so each of them passes with 0.007.)
#
# </details>

# %% [markdown]
# ### Exercise 3 · What must you not hold fixed? (★★, 6 minutes)
#
# You want the **total effect of weight decay on `λ_max`**: how much sharper or flatter does a network end because somebody turned weight decay on? Which of these must you *not* hold fixed?
#
# | | |
# |---|---|
# | A | the seed |
# | B | the learning rate |
# | C | the train loss at the end |
# | D | the length of the weight vector at the end |
# | E | the batch size |
# | F | the test error at the end |

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
fixed = fl.exercises.Exercise(
    "10.fixed_or_not",
    answer={"C", "D", "F"},
    mistakes={
        "those are set before training and may be held fixed: pair on them. Which are *consequences* of the decay?": {"A", "B", "E"},
        "the train loss is one road of the effect; there is another mediator, and a consequence of a different kind": {"C"},
        "the test error is a consequence of the decay as well, one that shares other causes with λ_max": {"C", "D"},
        "short weights are what weight decay makes: the effect runs through them": {"C", "F"},
        "the train loss is lowered or raised *by* the decay: holding it fixed blocks a road": {"D", "F"},
        "the learning rate is set by you, like the seed: holding it fixed makes the comparison fairer": {"B", "C", "D", "F"},
        "the seed is set before training: pair on it, it only takes out noise": {"A", "C", "D", "F"},
        "the batch size is set before training, and may be held fixed": {"C", "D", "E", "F"},
    },
    praise="everything that comes after the decay stays free; everything that is set before may be paired.",
)

# %% [markdown]
# Your answer, a set of letters such as `{"A", "B"}`:

# %% slideshow={"slide_type": "skip"}
ticks = ...
fixed.check(ticks)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# ticks = {"C", "D", "F"}
# fixed.check(ticks)
# ```
#
# C and D are mediators: weight decay acts *through* them. F is a common consequence of what decay does to the function and of much else. Holding any of the three fixed answers another question (08: "is it sharper than its twin?" is such a one, and a good one). A, B and E are chosen before training; pairing on them removes noise.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# On 240 minima of digit networks:
#
# | question | answer |
# |---|---|
# | does sharpness go with test error? | pooled: a little, "the sharper, the worse"; with learning rate, batch size and train loss held fixed: "the sharper, the better"; seed against seed: nothing that ten seeds can show |
# | C3, sharper than base? | raw: four of five, by every measure; beside an early-stopped twin: augmentation only (weight decay is flatter); by Fisher-Rao hardly anybody |
# | C4, better than base? | test error and ECE: four of five; corrupted images: none; agreement of the seeds: weight decay (with the caution of "45 pairs") |
# | C5, flatter baseline, worse on all metrics? | established for none of the five |
# | learning rate → sharpness? | a factor of a hundred, nearly all of it by way of the train loss; the ceiling 2/η where it is touched |
#
# And on the photographs that are in (four complete seeds, three of them with `λ_max`): raw, at least four of five are sharper by each of four measures, C3; beside snapshots of equal train loss none is; beside a cooled twin (one setting, three seeds) augmentation is sharper by κ and flatter by the trace, better in test error and worse in ECE. Raw, ECE is better for all five, test error and corrupted images with augmentation.
#
# **You may now say** "within equal learning rate and batch size", or "given the train loss", and say why you chose that.
#
# **You may no longer say** "sharpness correlates with generalisation" (or "does not") of a set of networks without saying in what they differ.

# %% [markdown]
# ### What this does not show
#
# - That sharpness causes, or does not cause, anything. We set learning rates, batch sizes and regularisers, never the sharpness. (04 does: there one and the same function is made sharper and flatter.)
# - Two learning rates and two batch sizes, with train losses from 0.0002 to 0.13. Another pair gives other strata; "choose your design" shows what that can do. The numbers of a pool describe the pool.
# - One set of 300 training and 1,497 test images. The seeds vary initial weights and order of the batches, not the images.
# - A partial rank correlation removes a straight line in the ranks. Where the true relation is bent, something of the train loss is left in.
# - The bootstrap over ten seeds is somewhat too narrow, and Wilcoxon's test needs differences whose signs could as well be turned; neither knows about other data sets.
# - The study on photographs is unfinished where the count says so, its twins are snapshots from the middle of a schedule (cooled ones exist for one setting and three seeds), and it is not the paper's size: ResNet-8, 2,000 images.
#
# ### References
#
# - Mason-Williams, Mason-Williams and Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451 (the 240 minima, the statistics, C3 to C5).
# - Simpson 1951, *The Interpretation of Interaction in Contingency Tables*; Pearl, *Causality* (confounders, mediators, colliders).
# - Wilcoxon 1945 (the signed-rank test); Kerby 2014 (rank-biserial); Benjamini and Yekutieli 2001; Efron 1979 (the bootstrap).
# - Cohen, Kaur, Li, Kolter and Talwalkar 2021: the edge of stability.

# %% [markdown]
# Your predictions beside what came out:

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()
