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
# # 08 · Six controls
#
# **Do regularisers end flatter or sharper, and are they better?** The paper at the centre of this course says: often *sharper*, and better. If that is so, flatness cannot be why they are better. This notebook trains six recipes on real digits, checks both halves of the sentence, and then asks the question that decides what the first half means: sharper than a baseline *at the same train loss*?

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/08_six_controls.ipynb` (other ways: `README.md`).
#
# ← [07 · Memorisation](07_memorisation.ipynb) · [09 · A ResNet on images](09_resnet.ipynb) →

# %% [markdown]
# > **You will be able to**
# > - write the calibration error in five lines, and say what it does not see;
# > - build an *early-stopped twin* and a *temperature twin*, and say what each of them holds fixed;
# > - read an arrow in the plane of sharpness and test error, and take the part of it away that the train loss explains;
# > - check the claims C3 and C4 on these data, raw and at equal train loss.
# >
# > **Needs** [03](03_regularising_a_function.ipynb) (weight decay, SAM) and [04](04_measuring_sharpness.ipynb) (the measures, and why confidence erases curvature) · **Time** 34 minutes to read, about 70 seconds of processor time to run · **Source** A Function-Centric Perspective on Flat and Sharp Minima (arXiv:2510.12451), claims C3 to C5 and the protocol of its image experiments

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
# - **C3** Regularised networks often end in *sharper* minima than the plain baseline …
# - **C4** … and are *better*: test error, calibration, robustness to corrupted images, agreement between seeds.
# - **C5** The baseline ends flatter and does worse. (This is C3 and C4 seen from the other side. On one set of data it is no third piece of evidence, so we count it once.)
#
# **The steelman of flatness** predicts the opposite of C3: noise on the weights costs ½σ² tr H (01), SAM looks for low worst cases, weight decay shortens the code; so whatever regularises should end *flatter*. One of the two must give way, at least on these digits.

# %% [markdown] slideshow={"slide_type": "subslide"}
# What counts as what. These rules stood first; what came after a look (the strength of augmentation, the interval rule, 08.9, 08.10) is said where it comes.
#
# 1. *Unit*: the seed. Twenty seeds; a seed's initial weights are shared by all six controls, so every comparison is a difference **per seed**.
# 2. *Sharper*: `λ_max`, per seed `log₁₀` of the ratio to base, lies above 0. *Better*: the difference in test error lies below 0. Five more measures and four more metrics stand in a table.
# 3. *Often*, *tend to*: at least three of the five regularisers.
# 4. *Fair measurement*: sharpness on the un-penalised loss, the clean un-augmented training images, hard labels. The train loss stands beside it, always.
#
# Verdicts come from Student's interval over the seeds, widened for the five that answer one question. (At first boxes used plain 95 % intervals and the table a rank test; now all follow this one rule. One verdict changed, and says so.) The number of images, steps and the learning rate were chosen on the baseline alone; the strengths are the paper's.

# %% [markdown]
# ### The data
#
# 300 training images of 8 × 8 pixels, so few that regularisers have something to do; 1,497 test images. As in 04, the mean image is subtracted.

# %%
import pandas as pd
from flatlab import compare
from IPython.display import display

digits = fl.data.digits(train=300)
mean = digits.x.mean(0)
x, y = digits.x - mean, digits.y
x_test, y_test = digits.x_test - mean, digits.y_test

# %% [markdown]
# **Augmentation.** At amount 1 we turn each image by up to 15° and shift it by up to half a pixel; at amount `a` by `a` times as much. A *pool* holds ten copies of each image, each moved at random; without augmentation it is the same image ten times. So every control sees pools of one size, for the same number of steps and, at the same seed, in the same order.


# %%
def pool(amount, copies=10):
    random, images = torch.Generator().manual_seed(0), digits.x.view(-1, 1, 8, 8)
    parts = [fl.images.turn_and_shift(images, random, 15 * amount, 0.5 * amount) for _ in range(copies)]
    return torch.cat(parts).flatten(1) - mean


# %% [markdown]
# **A choice that we have to confess.** At first we shifted by up to a whole pixel, the paper's own proportion. These digits fill their frame, and the test error rose. So we changed the augmentation *after a look at test errors*, and checked amount 1 on another split with other seeds. That weakens C4 for augmentation, and its claim says so.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Six controls, and three sweeps
#
# A setting is `(ρ, λ, a)`: the radius of SAM, the weight decay (λθ is added to the gradient), and the amount of augmentation. The six controls are the paper's, with its ρ = 0.05 and λ = 5 · 10⁻⁴. Around three of them we sweep the strength; the sweep of ρ is the paper's too.

# %%
RHOS = [0.0025, 0.005, 0.025, 0.05, 0.25, 0.5]
LAMBDAS = [5e-5, 1.5e-4, 5e-4, 1.5e-3, 5e-3, 1.5e-2]
AMOUNTS = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
CONTROLS = {
    "base": (0.0, 0.0, 0.0), "SAM": (0.05, 0.0, 0.0), "aug": (0.0, 0.0, 1.0),
    "aug+SAM": (0.05, 0.0, 1.0), "wd": (0.0, 5e-4, 0.0), "wd+SAM": (0.05, 5e-4, 0.0),
}
sweeps = {f"λ = {s:g}": (0.0, s, 0.0) for s in LAMBDAS} | {f"a = {s:g}": (0.0, 0.0, s) for s in AMOUNTS}
sweeps |= {f"ρ = {s:g}": (s, 0.0, 0.0) for s in RHOS}
SETTINGS = CONTROLS | {name: setting for name, setting in sweeps.items() if setting not in CONTROLS.values()}
NAMES, FIVE = {setting: name for name, setting in SETTINGS.items()}, list(CONTROLS)[1:]

# %% [markdown]
# The network has one hidden layer of 32 ReLU neurons. Mini-batches of 25, momentum 0.9, a learning rate that starts at 0.1 and follows a cosine to 0, and 1,200 steps: 100 passes over 300 images, the paper's 100 epochs.

# %%
SEEDS = range(20)
recipe = {"batch": 25, "lr": 0.1, "momentum": 0.9, "schedule": "cosine"}
pools = {amount: pool(amount) for amount in (0.0, *AMOUNTS)}


def net(seed=0):
    return fl.models.mlp(64, 32, 10, seed=seed)


def train(chosen, steps=1200):
    """All chosen settings × 20 seeds in one run: weights (settings, seeds, parameters)."""
    rho, decay, amount = zip(*[setting for setting in chosen for _ in SEEDS])
    images = [pools[a] for a in amount] if len(chosen) > 1 else pools[amount[0]]
    objective = fl.NetworkLoss(net, images, y.repeat(10), seeds=[*SEEDS] * len(chosen))
    sam = {"rule": fl.training.sam, "rho": rho} if any(rho) else {}
    run = fl.train(objective, steps, weight_decay=decay, **sam, **recipe)
    assert not run.diverged.any()
    return run.theta.unflatten(0, (len(chosen), -1))


# %% [markdown]
# 21 settings × 20 seeds: 420 networks in two batched runs (SAM needs two gradients a step, so its settings go together).

# %%
with_sam = [setting for setting in SETTINGS.values() if setting[0]]
without = [setting for setting in SETTINGS.values() if not setting[0]]
trained = dict(zip(without + with_sam, torch.cat([train(without), train(with_sam)])))
theta = torch.stack([trained[setting] for setting in SETTINGS.values()])  # (settings, seeds, parameters)

# %% [markdown]
# The loss on which everything is measured: clean images, hard labels, no penalty.

# %%
loss = fl.NetworkLoss(net(), x, y)
level = loss(theta)  # (settings, seeds)

# %% [markdown]
# Of the result we show the train loss now, and nothing else. The *range* is over the 20 seeds.

# %% slideshow={"slide_type": "fragment"}
for name, losses in zip(CONTROLS, level):
    print(f"{name:8s} train loss {losses.mean():.4f}   range {losses.min():.4f} to {losses.max():.4f}")

# %% [markdown]
# Weight decay keeps the network modest: its train loss is the highest. Augmentation, too, leaves the *clean* train loss above that of base. And SAM ends *below* base: its slope is taken a step uphill, where it is steeper, so it pushes on when plain descent is almost at rest. Whatever sharpness you measure next, it is measured at these different levels.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# Two questions. Take "sharper" as above: `λ_max` on the clean training images, per seed, beyond the noise.

# %% slideshow={"slide_type": "fragment"}
how_many = fl.predictions.ask(
    "08.sharper",
    "Five regularisers: SAM, augmentation, both, weight decay, weight decay and SAM. "
    "How many of them end sharper than the baseline?",
    choices=["none", "one", "two", "three", "four", "all five"],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# And the second: take for each augmented network its *early-stopped twin*, a baseline of the same seed with a shorter schedule that ends at the same train loss.

# %% slideshow={"slide_type": "fragment"}
at_equal_loss = fl.predictions.ask(
    "08.twin",
    "By which factor is augmentation's λ_max above that of its twin? (1: as sharp as its twin; below 1: flatter)",
    slider=(0.1, 10),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### The calibration error in five lines
#
# *Does a network know when it is wrong?* Its confidence is the probability of the class it chooses, `max_k p_k`. Sort the predictions into `B` bins by confidence, `n_b` of `N` in bin `b`. The **expected calibration error** adds up the gaps:
#
# $$\mathrm{ECE} = \sum_{b=1}^{B} \frac{n_b}{N}\,\bigl|\,\mathrm{accuracy}_b - \mathrm{confidence}_b\,\bigr| .$$


# %%
def calibration_error(outputs, targets, bins=15):
    confidence, chosen = outputs.softmax(-1).max(-1)
    gap = (chosen == targets).float() - confidence
    which = (confidence * bins).ceil().long() - 1
    return sum(abs(gap[which == b].sum()) for b in range(bins)) / len(gap)


# %%
base_outputs = loss.outputs(theta[0], x_test)
ours = torch.stack([calibration_error(z, y_test) for z in base_outputs])
assert torch.allclose(ours, fl.safety.calibration_error(base_outputs, y_test), atol=1e-6)
print(f"ECE of base: {100 * ours.mean():.2f} %, seeds from {100 * ours.min():.2f} to {100 * ours.max():.2f} %")

# %% [markdown]
# Mind what the ECE does not see: a network that says "10 % each" to every image of ten equally frequent classes is perfectly calibrated, and useless.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The temperature twin
#
# In 04, multiplying the logits by a number made `λ_max` anything you like, at the same decisions. Turn this into a control. Divide the logits of a *baseline* by a temperature `T`, chosen (by halving an interval) so that its train loss equals that of the regularised network of the same seed. No decision changed: whatever is left of a difference is not due to the confidence alone.


# %%
def temperature(z, target, halvings=40):
    """z: logits (seeds, N, K); target: train losses (settings, seeds). T (settings, seeds)."""
    low, high = torch.full_like(target, -6), torch.full_like(target, 6)  # powers of two
    for _ in range(halvings):
        middle = (low + high) / 2
        soft = fl.safety.negative_log_likelihood(z / 2 ** middle[..., None, None], y) < target
        low, high = torch.where(soft, middle, low), torch.where(soft, high, middle)
    return 2**middle


z = loss.outputs(theta[0]).double()
assert (z.argmax(-1) == y).all()
T = temperature(z, level[: len(CONTROLS)].double())

# %% [markdown]
# `fl.compare.temperature` does it too, and divides the last layer by `T`, weights and biases. (To divide another layer would give another `λ_max` at the same function, 04; the last layer is the usual choice.)

# %%
tempered = compare.temperature(loss.at(theta[0]), level)
assert tempered.found.all() and torch.allclose(tempered.at[: len(CONTROLS)], T, rtol=1e-3)
print(*[f"{name}: T = {t.mean():.2f}" for name, t in zip(CONTROLS, T)], sep="   ")

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The early-stopped twin
#
# The other way to a baseline at a given train loss is to train it for a shorter time. (SAM, whose train loss is *lower*, needs a longer time.) A snapshot from the middle of a run will not do: at that moment the learning rate is still high. So we train base with a whole ladder of lengths, each with **its own complete cosine schedule**, and for each regularised network take the one of its seed whose final train loss is closest.

# %% jupyter={"source_hidden": true}
from tqdm.auto import tqdm

lengths = [80, 92, 105, 120, 140, 160, 187, 215, 249, 290, 331, 380, 440, 490, 540, 590, 645, 720, 820, 1000, 1330, 1460, 1650, 2100]
lengths += [1200]
early = compare.cooled(loss, lambda steps: train([CONTROLS["base"]], steps)[0], level, tqdm(lengths, leave=False))

# %% [markdown]
# The rule of the house: if the train losses differ by more than 10 %, there is **no twin**, and the comparison is left out.

# %% jupyter={"source_hidden": true}
for name, steps, got, wanted, found in zip(CONTROLS, early.at, early.loss, early.target, early.found):
    print(
        f"{name:8s} twin trained for {steps.min()}–{steps.max()} steps, found {found.sum()} of 20,"
        f" mean mismatch {100 * (got / wanted - 1).mean():+.1f} %"
    )

# %% [markdown]
# What the two twins hold fixed, besides the train loss:
#
# | | initial weights | decisions of the full baseline | free |
# |---|---|---|---|
# | early-stopped | ✓ | – | length of training |
# | temperature | ✓ | ✓ | one number, T |

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The smoothed twin
#
# An early-stopped network is *unfinished*. Wanted: a baseline without any regulariser that runs the full schedule, *converges*, and still ends at a train loss that we choose. **Label smoothing** does it: the target is `1 − ε` on the right class plus `ε/K` on each of the `K` classes, so an accurate network stops at a confidence that ε sets. Exercise 3 finds the right ε; `fl.compare.smoothed` trains with it, a network of its own ε for each seed (measured on hard labels, as always). SAM ends below base, where smoothing cannot go.

# %%
def smooth(epsilon):
    objective = fl.NetworkLoss(net, pools[0.0], y.repeat(10), seeds=[*SEEDS] * len(epsilon))
    return fl.train(objective, 1200, label_smoothing=epsilon.flatten(), **recipe).theta.unflatten(0, (-1, 20))


SMOOTHED = ["aug", "wd"]
smoothed = compare.smoothed(loss.at(theta[0]), smooth, level[[[*SETTINGS].index(name) for name in SMOOTHED]])

# %% [markdown]
# Now measure everything: 420 networks and their twins, `λ_max` by ten Lanczos steps and five measures beside it; the safety metrics for the six controls and their twins. (The trace and the worst case of this small network have short formulas, folded; they are checked against `flatlab`.)

# %% jupyter={"source_hidden": true}
from flatlab.curvature import unit


def trace(f):
    w1, b1, W, _ = f.theta.split([64 * 32, 32, 32 * 10, 10], 1)
    h = (f.inputs @ w1.unflatten(1, (32, 64)).mT + b1[:, None]).relu()
    p, W = f.outputs().softmax(-1), W.unflatten(1, (10, 32))
    head = (1 - p.square().sum(-1)) * (1 + h.square().sum(-1))
    variance = p @ W.square() - (p @ W).square()  # of the head's column j under p, (networks, N, 32)
    return (head + (1 + f.inputs.square().sum(-1)) * ((h > 0) * variance).sum(-1)).mean(1)  # tr H = tr G (04)


def worst_case(f, rho=0.05, steps=10):
    offset = rho * unit(f.gradient())
    best = f(f.theta + offset)
    for i in range(steps):
        offset = offset + rho * (1 - i / steps) * unit(f.gradient(f.theta + offset))
        offset = unit(offset) * offset.norm(dim=-1, keepdim=True).clamp(max=rho)
        best = torch.maximum(best, f(f.theta + offset))
    return best - f()


# %% jupyter={"source_hidden": true}
f = loss.at(theta[: len(CONTROLS), 0])
fast = [fl.curvature.eigenvalues(f, steps=10)[:, 0], trace(f), worst_case(f)]
slow = [fl.curvature.eigenvalues(f)[:, 0], fl.curvature.trace(f, samples=60), fl.sharpness.worst_case(f, starts=0)]
assert all((a / b - 1).abs().max() < limit for a, b, limit in zip(fast, slow, (0.01, 0.05, 0.1)))

# %% jupyter={"source_hidden": true}
MEASURES = ["lambda max", "trace", "worst case", "random direction", "fisher rao", "relative flatness"]
LABELS = {name: fl.sharpness.SYMBOLS[name] for name in MEASURES}
KINDS = {"regularised": theta, "early-stopped twin": early.theta, "temperature twin": tempered.theta}


def measured(theta):  # (settings, seeds, parameters)
    f = loss.at(theta.flatten(0, 1))
    columns = ["train loss", "gradient norm", *(name for name in MEASURES if name not in ("trace", "worst case"))]
    rows = fl.sharpness.table(f, columns, draws=20, steps=10)
    wrong = 100 * (1 - fl.safety.accuracy(f.outputs(inputs=x_test), y_test))
    return rows.assign(trace=trace(f), **{"worst case": worst_case(f), "test error": wrong})


networks = pd.concat([measured(kind) for kind in tqdm(KINDS.values(), leave=False)])
networks.index = pd.MultiIndex.from_product([KINDS, SETTINGS, SEEDS], names=["kind", "control", "seed"])

# %% [markdown]
# *Corrupted error*: the mean error over five disturbances (two kinds of noise, blur, contrast, brightness) at severities 1, 3 and 5. *Disagreement*: how often a network's class differs from that of another seed, averaged over the other 19.

# %% jupyter={"source_hidden": true}
DISTURBANCES = ["gaussian noise", "shot noise", "blur", "contrast", "brightness"]
METRICS = ["test error", "NLL", "ECE", "corrupted error", "disagreement"]
images = digits.x_test.view(-1, 1, 8, 8)


def safety(theta):  # (settings, seeds, parameters)
    def predict(pictures):
        return loss.outputs(theta, pictures.flatten(1) - mean)

    z = predict(images)
    right = fl.safety.corrupted_accuracy(predict, images, y_test, DISTURBANCES, (1, 3, 5))
    per_cent = 100 * torch.stack([fl.safety.calibration_error(z, y_test), 1 - right, fl.safety.disagreement(z)])
    return torch.stack([fl.safety.negative_log_likelihood(z, y_test), *per_cent]).flatten(1).T.numpy()


# %% [markdown]
# Everything is now a table of numbers; nothing below trains while you play.

# %% jupyter={"source_hidden": true}
for kind, weights in KINDS.items():
    rows = pd.MultiIndex.from_product([[kind], CONTROLS, SEEDS])
    networks.loc[rows, METRICS[1:]] = safety(weights[: len(CONTROLS)])
twenty = {of: rows.droplevel([0, 1]) for of, rows in networks.groupby(level=[0, 1], sort=False)}  # (kind, name): seeds

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# One arrow, from base (grey) to the regularised networks (blue). To the right is sharper, down is better; each small dot is a seed. Choose a regulariser and turn up its strength. Where does the arrow point? The ghost is its **early-stopped twin**, at the same train loss, and a dotted arrow runs from it. That second arrow is what the regulariser did beyond changing the train loss.


# %% jupyter={"source_hidden": true}
SWEEPS = {"SAM: ρ": (0, RHOS), "weight decay: λ": (1, LAMBDAS), "augmentation: a": (2, AMOUNTS)}
LOOKS = dict(zip(KINDS, (("o", fl.plots.BLUE), ("D", fl.plots.ORANGE), ("s", fl.plots.PURPLE))))
home = twenty["regularised", "base"]


def where(regulariser, strength):
    part, values = SWEEPS[regulariser]
    setting = [0.0, 0.0, 0.0]
    setting[part] = values[strength - 1] if strength else 0.0
    return NAMES[tuple(setting)]


def beside(kind, name):
    """The networks of a setting, or those of its twins that have its train loss (none if fewer than ten have)."""
    rows = twenty[kind, name]
    off = rows["train loss"] / twenty["regularised", name]["train loss"] - 1
    return rows[abs(off) <= compare.CLOSE] if (abs(off) <= compare.CLOSE).sum() >= 10 else rows[:0]


def clouds(ax, kind):
    mark, colour = LOOKS[kind]
    hollow = {} if kind == "regularised" else {"mfc": "none", "mew": 2.5}
    (cloud,) = ax.plot([], [], mark, ms=4, color=colour, alpha=0.45, mew=0)
    (big,) = ax.plot([], [], mark, ms=13, color=colour, label=kind, **hollow)
    return cloud, big


# %% [markdown]
# The axis of sharpness is relative to base and has the same limits for all measures; the strip on the right shows the train losses of all networks that are in the picture.


# %% jupyter={"source_hidden": true}
from matplotlib.patches import FancyArrowPatch


def build(fig):
    left, right = fig.subplots(1, 2, width_ratios=[5, 1])
    left.plot([], [], "o", ms=13, color=fl.plots.GREY, label="base")
    (start,) = left.plot([], [], "o", ms=4, color=fl.plots.GREY, alpha=0.45, mew=0)
    left.plot(1, home["test error"].mean(), "o", ms=13, color=fl.plots.GREY)
    marks = [clouds(left, kind) for kind in KINDS]
    style = {"arrowstyle": "-|>", "mutation_scale": 26, "shrinkA": 7, "shrinkB": 8}
    main = left.add_patch(FancyArrowPatch((1, 5), (2, 5), lw=4.5, color=fl.plots.BLUE, **style))
    rest = left.add_patch(FancyArrowPatch((1, 5), (2, 5), lw=2.5, ls=":", color=fl.plots.ORANGE, **style))
    left.set(xscale="log", xlim=(0.045, 120), xticks=[0.1, 1, 10, 100], xticklabels=["÷ 10", "base", "× 10", "× 100"])
    left.set(yscale="log", ylim=(3.4, 10.2), yticks=[4, 5, 6, 8, 10], yticklabels=[4, 5, 6, 8, 10])
    left.set(xlabel="sharpness     flatter ←      → sharper", ylabel="test error (%)")
    left.tick_params(axis="y", which="minor", labelleft=False)
    left.legend(loc="upper left", fontsize=11)
    right.axhline(home["train loss"].mean(), color=fl.plots.GREY, lw=1.5, ls="-")
    dots = [right.plot([], [], mark, color=colour, ms=9)[0] for mark, colour in LOOKS.values()]
    right.set(yscale="log", ylim=(2e-4, 0.5), xlim=(0, 4), xticks=[], title="train loss")
    return lambda **values: move(start, marks, main, rest, dots, **values)


# %% [markdown]
# What moves. (All numbers are looked up.)


# %% jupyter={"source_hidden": true}
def move(start, marks, main, rest, dots, regulariser, strength, measure, early_twin, temperature_twin):
    name, column = where(regulariser, strength), next(c for c, label in LABELS.items() if label == measure)
    unit_of = 10 ** np.log10(home[column]).mean()
    start.set_data(home[column] / unit_of, home["test error"])
    middle = []
    for k, (kind, shown) in enumerate(zip(KINDS, (True, early_twin, temperature_twin))):
        rows = beside(kind, name) if shown else home[:0]
        across, up = rows[column] / unit_of, rows["test error"]
        marks[k][0].set_data(across, up)
        middle.append((10 ** np.log10(across).mean(), up.mean()))
        marks[k][1].set_data([middle[k][0]], [middle[k][1]])
        dots[k].set_data([k + 1], [rows["train loss"].mean()])
    main.set_positions((1, home["test error"].mean()), middle[0])
    main.set_visible(strength > 0)
    rest.set_visible(strength > 0 and np.isfinite(middle[1][0]))
    if rest.get_visible():
        rest.set_positions(middle[1], middle[0])
    return sentence(name, regulariser, strength, middle, early_twin)


# %% [markdown]
# And the line of text under the picture.


# %%
def sentence(name, regulariser, strength, middle, early_twin):
    fit = f"train loss {twenty['regularised', name]['train loss'].mean():.4f}"
    if not strength:
        return f"Strength 0 is base: {fit}, test error {middle[0][1]:.1f} %."
    amount = f"{regulariser.split(': ')[1]} = {SWEEPS[regulariser][1][strength - 1]:g}"
    control = " (the control)" if name in CONTROLS else ""
    text = f"{amount}{control}: {fit}, {middle[0][0]:.2f} × base, test error {middle[0][1]:.1f} %."
    if early_twin and np.isnan(middle[1][0]):
        text += " No early-stopped twin: no length of training ends within 10 % of this train loss."
    elif early_twin:
        text += f" Its twin at equal train loss: {middle[1][0]:.2f} × base, {middle[1][1]:.1f} %."
    return text


# %% [markdown] slideshow={"slide_type": "slide"}
# Turn the strength up slowly, for each regulariser. Press *twin* away and back.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
fl.panels.Panel(
    build,
    "sharpness and test error: an arrow from base to the regularised networks; a tick adds their twins",
    size=(9.5, 5.6),
    labels={
        "strength": "strength (0 none … 6)", "measure": "sharpness",
        "early_twin": "early-stopped twin", "temperature_twin": "temperature twin",
    },
    regulariser=([*SWEEPS], "augmentation: a"),
    strength=([0, 1, 2, 3, 4, 5, 6], 4),
    measure=[*LABELS.values()],
    early_twin=True,
    temperature_twin=False,
).show()

# %% [markdown]
# **What you see.**
#
# - *Augmentation* at the control's strength (4): right and down, sharper and better, as C3 and C4 say. The dotted arrow, from its twin, is shorter, and still points right and down. Now turn the strength. At 1 and 2 the blue arrow points **left** and down: raw, flatter and better, as the steelman has it. At 5 and 6 it points right and **up**: sharper and worse. Raw, one regulariser has three directions; look at the train losses too.
# - *Weight decay*: a long arrow to the right that dips a little. But look at the ghost: it lies to the *right* of the blue cloud. The dotted arrow points left and down. Beside a *shorter run* of the same train loss it is flatter and better; that shorter run is itself worse than base, and beside a converged twin the sign turns (below).
# - *SAM*: straight to the left. Flatter, and no better. At the two largest radii there is no twin: no baseline in our ladder gets that low.
# - The *temperature twin* always lies level with base, for `T` changes no decision.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### Five arrows
#
# The differences per seed, of each control from base and from its twins: in powers of ten for a sharpness, NaN where there is no twin.

# %%
from flatlab.compare import interval

regularised, ratios = networks.loc["regularised"].reset_index(), [*MEASURES, "train loss"]
index = pd.MultiIndex.from_product([SMOOTHED, SEEDS], names=["control", "seed"])
beside_what = {"base": None} | {kind: networks.loc[kind].reset_index() for kind in [*KINDS][1:]}
changes = {f"against {other}": compare.differences(regularised, [*ratios, *METRICS], twins, ratios) for other, twins in beside_what.items()}
RAW, EARLY, TEMPERED = changes
converged = compare.differences(
    regularised, ["lambda max", "test error"], measured(smoothed.theta).set_index(index).reset_index(), ["lambda max"]
)

# %% [markdown]
# The arrows of the panel, all five controls at once. Left they start from base; on the right each starts from its *own* early-stopped twin.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 2, figsize=(9.8, 4.8), sharex=True, sharey=True)
for ax, against in zip(axes, changes):
    for j, name in enumerate(FIVE):
        across, half = interval(changes[against].loc[name, "lambda max"], 0.99)
        up, reach = interval(changes[against].loc[name, "test error"], 0.99)
        tip, ends = 10**across, 10 ** np.array([[across - half], [across + half]])
        look = {"color": fl.plots.COLOURS[j], "lw": 3}
        ax.annotate("", (tip, up), (1, 0), arrowprops={"arrowstyle": "-|>", "shrinkB": 4, "mutation_scale": 20} | look)
        ax.errorbar(tip, up, reach, abs(ends - tip), fmt="sovD^"[j], ms=12, label=name, **look)
    ax.plot(1, 0, "o", ms=14, color="black")
    ax.axhline(0, color=fl.plots.GREY, lw=1, ls="-")
    ax.axvline(1, color=fl.plots.GREY, lw=1, ls="-")
    ax.set(xscale="log", xlim=(0.5, 5), ylim=(-1.05, 0.5), title=against)
    ax.set(xlabel="λ_max, factor    flatter ←   → sharper", xticks=[0.6, 1, 2, 4], xticklabels=[0.6, 1, 2, 4])
    ax.minorticks_off()
axes[0].set(ylabel="test error, points    ← better")
at_equal_loss.draw(axes[1], axis="x")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=12)
fl.plots.show(fig, "arrows of five controls in sharpness and test error, from base and from their twins")
sharper = [compare.counted(compare.family(changes[a].loc[FIVE, "lambda max"], above=0)["verdict"])[0] for a in (RAW, EARLY)]
print(how_many.settle(["none", "one", "two", "three", "four", "all five"][sharper[0]]))
print(at_equal_loss.settle(10 ** changes[EARLY].loc["aug", "lambda max"].mean()))

# %% [markdown]
# **What you see.** Left, raw: four tips to the right of base, one (SAM) to the left. None is clearly above the line; the two with augmentation are far below it. Right, at equal train loss: only the two with augmentation stay on the right. Weight decay, alone or with SAM, has crossed to the left; alone it also gained in test error. SAM stays flatter and on the line.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### C3 and C4, raw

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")


def five(id, sentence, column, verdicts, against, **more):
    return fl.claims.family(id, sentence, changes[against][column], verdicts, factors=column in MEASURES, **more)


HOLDS, CAVEAT, NOT, OPEN = "holds", "holds with a caveat", "does not hold here", "inconclusive"
DIGITS = "300 digits, raw and beside early-stopped twins"
c3 = {"SAM": NOT, "aug": HOLDS, "aug+SAM": HOLDS, "wd": HOLDS, "wd+SAM": HOLDS}
five("08.1", "ends sharper than base (λ_max)", "lambda max", c3, RAW, above=0, at_least=(3, CAVEAT), about={"C3": "supports"},
     experiment=DIGITS, caveat=f"at equal train loss {sharper[1]} of the five are sharper than their early-stopped twins; weaker augmentation is flatter than base")

# %% [markdown]
# The same for the test error, in percentage points:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
c4 = {"SAM": OPEN, "aug": CAVEAT, "aug+SAM": CAVEAT, "wd": CAVEAT, "wd+SAM": OPEN}
five("08.3", "has a lower test error than base", "test error", c4, RAW, below=0, at_least=(3, CAVEAT), about={"C4": "supports"}, experiment=DIGITS,
     caveat="of five metrics this is one, and on corrupted images and in ECE augmentation is worse than base; "
     "the augmentation was replaced once after a look at test errors, and the third, weight decay, gains 1¼ images of 1,497")

# %% [markdown]
# **The other metrics.** Means over the seeds; errors, ECE and disagreement in per cent, NLL (the test loss) in nats. Below each regulariser stands its early-stopped twin.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
def means(kind, name):
    rows = beside(kind, name)
    fit = np.exp(np.log(rows["train loss"]).mean())
    return {"train loss": fit, "‖∇L‖": rows["gradient norm"].mean(), **rows[METRICS].mean()}


lines = {"base": means("regularised", "base")}
for name in FIVE:
    lines |= {name: means("regularised", name), f"twin of {name}": means("early-stopped twin", name)}
pd.DataFrame(lines).T.map("{:.3g}".format)

# %% jupyter={"source_hidden": true}
def boldness(name):  # mean confidence less accuracy, in points
    z = loss.outputs(trained[CONTROLS[name]], x_test)
    return 100 * (z.softmax(-1).max(-1).values.mean(-1) - fl.safety.accuracy(z, y_test)).mean().item()


print("mean confidence less accuracy, points:", ", ".join(f"{name} {boldness(name):+.1f}" for name in CONTROLS))

# %% [markdown]
# Three columns deserve a look. **Corrupted error**: by far the largest change in the table goes the wrong way. Augmentation errs *more* on corrupted images than base, and than its twin, so these results support "generalise better", and "safer" only by some metrics (08.7 asks for all five). **‖∇L‖**: augmented networks are at rest on *their own* objective, the loss on moved images; on the clean images they stand on a slope, and measures that see slopes see it (04). **ECE**: all but weight decay are too bold (last line). Augmentation adds accuracy, and adds *more* confidence than accuracy; so here it is *worse* calibrated than base. In [10](10_many_minima.ipynb), on another split of the same digits, the accuracy gains more, and the ECE is better: at one recipe, the split decides.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### At equal train loss
#
# The same questions, asked of the early-stopped twin. (The same regularised networks, so both have one vote together.)

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
c3_twin = dict.fromkeys(FIVE, NOT) | {"aug": HOLDS, "aug+SAM": HOLDS}
five("08.5", "is sharper than its early-stopped twin (λ_max)", "lambda max", c3_twin, EARLY, above=0, at_least=(3, NOT),
     about={"C3": "supports"}, experiment=DIGITS)

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
c4_twin = {"SAM": OPEN, "aug": CAVEAT, "aug+SAM": CAVEAT, "wd": CAVEAT, "wd+SAM": OPEN}
five("08.6", "has a lower test error than its early-stopped twin (points)", "test error", c4_twin, EARLY, below=0, at_least=(3, CAVEAT),
     about={"C4": "supports"}, experiment=DIGITS,
     caveat="the augmentation was replaced once after a look at test errors; a plain 95 % interval had passed weight decay with SAM as well")

# %% [markdown]
# **Which twin?** Beside a *smoothed* twin, a converged baseline at the same train loss:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
for name, found, off in zip(SMOOTHED, smoothed.found, smoothed.loss / smoothed.target - 1):
    (a, b), (c, d) = interval(converged.loc[name, "lambda max"], 0.975), interval(converged.loc[name, "test error"], 0.975)
    print(f"{name:4s} {found.sum()} smoothed twins, mean mismatch {100 * off.mean():+.1f} %: λ_max × {10**a:.2f} [{10 ** (a - b):.2f}, {10 ** (a + b):.2f}]   test error {c:+.2f} ± {d:.2f} points")
box = fl.claims.family(
    "08.10", "is sharper than a label-smoothed baseline of the same train loss (λ_max)", converged["lambda max"],
    dict.fromkeys(SMOOTHED, HOLDS), above=0, factors=True, detail="Written after a first look",
)

# %% [markdown]
# Augmentation is sharper than this baseline too, and better: whichever way a plain network is held at that train loss, augmentation ends above it. But weight decay, *flatter* than its early-stopped twin, is *sharper* than its smoothed one. The train loss alone does not fix the sharpness of a plain network. So "at equal train loss" is not one comparison: state the twin.
#
# **And by other measures?** All of them, against all three, by the one rule:

# %% jupyter={"source_hidden": true}
def word(verdict, good, bad):
    return {"holds": good, "does not hold here": bad}.get(verdict, "·")


def block(against, columns, good, bad, **bounds):
    found = {c: compare.family(changes[against].loc[FIVE, c], m=5 * len(columns), **bounds)["verdict"] for c in columns}
    return pd.DataFrame(found).loc[FIVE].map(lambda v: word(v, good, bad))


tables = {}
for against, change in changes.items():
    factor = 10 ** change["train loss"].groupby("control").mean()[FIVE]
    parts = [factor.map("×{:.2f}".format).to_frame(), block(against, MEASURES, "sharper", "flatter", above=0).rename(columns=LABELS)]
    tables[against] = pd.concat([*parts, block(against, METRICS, "better", "worse", below=0)], axis=1)
table = pd.concat(tables)
from IPython.display import HTML

HTML(f"<details><summary>6 measures, 5 metrics, 3 baselines (· not established)</summary>{table.to_html()}</details>")

# %% jupyter={"source_hidden": true}
odd = {("SAM", "worst case", EARLY), ("wd", "trace", TEMPERED)}
for name, column, against in sorted(odd):
    mean_, half = interval(changes[against].loc[name, column])
    print(f"{name}, {LABELS[column]} {against}: × {10**mean_:.2f} [{10 ** (mean_ - half):.2f}, {10 ** (mean_ + half):.2f}]")

all_five = [(t[LABELS["lambda max"]] == "sharper") & (t[METRICS] == "better").all(axis=1) for t in (tables[RAW], tables[EARLY])]
maybe = (tables[RAW][LABELS["lambda max"]] != "flatter") & (tables[RAW][METRICS] != "worse").all(axis=1)
claim = fl.claims.declare(
    "08.7", "at least three of the five are sharper than base and better on all five metrics",
    float(all_five[0].sum()), NOT, above=2.5, interval=(all_five[0].sum(), maybe.sum()),
    detail="C3 and C4 on the same data: counted there, not here",
)

# %% [markdown]
# Two exceptions (last lines): SAM's worst case *at its own radius* is a little larger than its early-stopped twin's, and so is weight decay's trace beside its temperature twin, by a hundredth.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Over a sweep, sharpness follows the train loss
#
# All 420 networks: 21 settings, 20 seeds. Forget for a moment which regulariser made them.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
def maker(name):
    rho, decay, amount = SETTINGS[name]
    return {0: "base", 1: "SAM", 2: "weight decay", 4: "augmentation"}.get((rho > 0) + 2 * (decay > 0) + 4 * (amount > 0), "pairs")


made_by, labels = regularised["control"].map(maker), ["base", "weight decay", "augmentation", "SAM", "pairs"]
colours = ["black", fl.plots.ORANGE, fl.plots.BLUE, fl.plots.PURPLE, fl.plots.BROWN]
fig, ax = plt.subplots(figsize=(7.5, 4.4))
for label, mark, colour in zip(labels, "o^sDv", colours):
    rows = regularised[made_by == label]
    ax.loglog(rows["train loss"], rows["lambda max"], mark, ms=5, color=colour, label=label)
ax.set(xlabel="train loss (clean images)", ylabel="λ_max")
ax.legend(fontsize=12, markerscale=2)
fl.plots.show(fig, "sharpness over train loss for 420 networks: one rising band, with augmentation above it")

# %% jupyter={"source_hidden": true}
order = [compare.correlation(part["lambda max"], part["train loss"]) for _, part in regularised.groupby("seed")]
claim = fl.claims.declare(
    "08.8", "over 21 settings the order of λ_max is the order of the train losses: Spearman above 0.67",
    order, HOLDS, above=0.67, detail=f"Train losses from {level.min():.4f} to {level.max():.2f}; the bound is the least correlation that a study of 2023 reported on images",
)

def ranks(rows, other):
    return np.mean([compare.correlation(part["lambda max"], part[other]) for _, part in rows.groupby("seed")])


six = regularised[regularised["control"].isin(CONTROLS)]
print(f"rank correlation of λ_max with the train loss, mean of 20 seeds: {np.mean(order):.2f}; "
      f"with the test error {ranks(regularised, 'test error'):+.2f}; of the six controls alone with the train loss {ranks(six, 'train loss'):.2f}")

# %% [markdown]
# **What you see.** One rising band, over nearly three powers of ten of train loss, whoever made the network. Inside the band there is an order: at a given train loss augmentation lies highest. That height is all that the twins leave to be explained; the length of the band is what a raw comparison measures. Among the six controls alone the losses lie close together, and their order does not settle the order of sharpness (the last number). And the test error hardly goes with `λ_max` at all.
#
# **A caution.** The regulariser *causes* the train loss; the train loss is then one of the ways in which it acts on sharpness, a *mediator*. To hold it fixed is not to remove a nuisance: it asks another question. "Is an augmented network sharper?" and "is it sharper than a baseline stopped at its train loss?" are both good questions. The mistake is to answer one of them with the number of the other.

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Sharper and worse, flatter and better
#
# C3 and C4 say "sharper, and better". Turn one knob, the amount of augmentation:

# %% jupyter={"source_hidden": true}
change = changes[RAW]
for amount in AMOUNTS:
    name = NAMES[0.0, 0.0, amount]
    (factor, half), (points, reach) = (interval(change.loc[name, c]) for c in ("lambda max", "test error"))
    fit = twenty["regularised", name]["train loss"].mean()
    line = f"a = {amount:<5g} train loss {fit:.4f}   λ_max × {10**factor:5.2f} [{10 ** (factor - half):.2f}, {10 ** (factor + half):.2f}]   test error {points:+.2f} ± {reach:.2f} points"
    twinned = changes[EARLY].loc[name, "lambda max"].dropna()
    middle, width = interval(twinned) if len(twinned) > 2 else (np.nan, np.nan)
    print(line + f"   beside early-stopped twins λ_max × {10**middle:.2f} [{10 ** (middle - width):.2f}, {10 ** (middle + width):.2f}] ({len(twinned)})")

# %% [markdown]
# Raw, all of sharper and better, sharper and worse, flatter and better can be had from *augmentation alone*. A study that happened to choose a small `a` would have reported that augmentation finds flat minima, and that flat is good. Beside early-stopped twins the picture is another: from 0.25 to 1 sharper (and better), at 1.5 and 2 neither. The flatness of weak augmentation went with its low train loss. (Four halves of two sentences, each tested; written after a first look at the sweep, so they describe.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
weak, strong = change.loc["a = 0.5"], change.loc["a = 2"]
halves = {
    "a = 0.5 flatter (log₁₀ of the ratio)": -weak["lambda max"], "a = 0.5 better (points)": -weak["test error"],
    "a = 2 sharper (log₁₀ of the ratio)": strong["lambda max"], "a = 2 worse (points)": strong["test error"],
}
sides = {name: tuple(twenty["regularised", of]["train loss"].mean() for of in (name[: name.index(" ", 4)], "base")) for name in halves}
fl.claims.family("08.9", "than base", {name: values.to_numpy() for name, values in halves.items()}, dict.fromkeys(halves, HOLDS), above=0, losses=sides,
                 detail="The sign is turned so that each must be positive")

# %% [markdown]
# There is a way to see all of this at once that does not mention flatness, in the spirit of C6, and nothing here tests it: the augmentation changes *which function* is to be learned. A little of it fills gaps between the training images, too much asks for things that no test image shows, and the train loss follows how hard the task has become.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1 · Twelve predictions (★, 6 minutes)
#
# Twelve predictions, already sorted. What is the ECE with `B = 5` bins, (0, 0.2], (0.2, 0.4] … (0.8, 1]? Give it to three digits. (By hand it is quick; or put the twelve columns into code.)
#
# | confidence | .45 | .50 | .50 | .55 | .65 | .70 | .75 | .85 | .90 | .90 | .90 | .95 |
# |---|---|---|---|---|---|---|---|---|---|---|---|---|
# | right? | 1 | 1 | 0 | 1 | 1 | 0 | 1 | 0 | 1 | 1 | 0 | 1 |

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
sure = torch.tensor([0.45, 0.5, 0.5, 0.55, 0.65, 0.7, 0.75, 0.85, 0.9, 0.9, 0.9, 0.95])
hit = torch.tensor([1.0, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1])
gaps = [hit[a:b].mean() - sure[a:b].mean() for a, b in ((0, 4), (4, 7), (7, 12))]
weighted = [n / 12 * gap for n, gap in zip((4, 3, 5), gaps)]
twelve = fl.exercises.Exercise(
    "08.twelve",
    answer=sum(abs(w) for w in weighted),
    rtol=3e-3,
    mistakes={
        "the gaps were added with their signs, so over- and under-confidence cancel: take absolute values first": sum(weighted),
        "that is |accuracy − confidence| of all twelve together, one big bin: gaps of opposite sign cancel in it": abs(sum(weighted)),
        "a plain mean over the three bins that are used: weigh each with its share n_b/N": sum(map(abs, gaps)) / 3,
        "a plain mean over all five bins: empty bins do not count, and the others count by n_b/N": sum(map(abs, gaps)) / 5,
        "that is the largest gap (the maximum calibration error), not the expected one": max(map(abs, gaps)),
        "the gap of every single prediction, without bins: a lone right answer at 70 % is no error of calibration": (hit - sure).abs().mean(),
        "not yet divided by N = 12": 12 * sum(abs(w) for w in weighted),
        "the middle bin, (0.6, 0.8], has a small gap and counts, too": abs(weighted[0]) + abs(weighted[2]),
        "0.2 is the width of a bin, or a sum that was rounded on the way: keep three digits": 0.2,
    },
    praise="the signed sum would have been less than a quarter of it: the first bin is too modest, the last too bold.",
)

# %% [markdown]
# Your answer:

# %% slideshow={"slide_type": "skip"}
answer = ...
twelve.check(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# modest = 4 / 12 * abs(3 / 4 - 0.50)  # (0.4, 0.6]
# fair = 3 / 12 * abs(2 / 3 - 0.70)  # (0.6, 0.8]
# bold = 5 / 12 * abs(3 / 5 - 0.90)  # (0.8, 1]
# twelve.check(modest + fair + bold)
# ```
#
# The first bin is right more often than it says, the last one much less often. Averaged over everything, the two errors almost hide each other; that is why the absolute value is taken bin by bin.
#
# </details>

# %% [markdown]
# ### Exercise 2 · What does T change? (★★, 6 minutes)
#
# Divide all logits of a trained network by `T = 2`. Which of these keep their value, exactly?
#
# | | |
# |---|---|
# | A | test accuracy |
# | B | ECE |
# | C | NLL on the test set |
# | D | accuracy on corrupted images |
# | E | disagreement with a second network, whose logits are also divided by 2 |
# | F | disagreement with a second network that is *not* changed |
# | G | `λ_max` of the training loss |
# | H | Jensen-Shannon divergence between the two networks' softmax outputs |

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
warm = fl.exercises.Exercise(
    "08.temperature",
    answer={"A", "D", "E", "F"},
    mistakes={
        "F is a matter of decisions too: dividing one network's logits leaves its largest logit the largest": {"A", "D", "E"},
        "E and F compare decisions, not probabilities: they are missing": {"A", "D"},
        "corrupted images are only other inputs: every decision, on every input, stays": {"A", "E", "F"},
        "the confidence changes while the accuracy in no way follows it: how could the ECE stay?": {"A", "B", "D", "E", "F"},
        "H looks at probabilities, not at decisions: softer outputs lie closer together": {"A", "D", "E", "F", "H"},
        "those are what changes; which keep their value?": {"B", "C", "G", "H"},
        "notebook 04: λ_max follows the confidence": {"A", "D", "E", "F", "G"},
        "D, E and F are decided by the largest logit as well": {"A"},
    },
    praise="whatever looks at decisions alone is blind to T; so a regulariser that only changes the confidence cannot move A, D, E or F.",
)

# %% [markdown]
# Your answer, a set of letters such as `{"A", "B"}`:

# %% slideshow={"slide_type": "skip"}
ticks = ...
warm.check(ticks)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# ticks = {"A", "D", "E", "F"}
# warm.check(ticks)
# ```
#
# Dividing by a positive number keeps the largest logit the largest, on every input. So everything that depends on decisions alone stays: A, D, E, F. Everything that reads probabilities moves: B, C, H, and G through the weight `p(1 − p)`. This is also why the temperature twin of a regulariser has base's row in the columns of test error, corrupted error and disagreement.
#
# </details>

# %% [markdown]
# ### Exercise 3 · The level of a smoothed network (★★, 8 minutes, on paper)
#
# The smoothed twin needs its ε. Training on smoothed labels, an accurate network wants `p_y = 1 − ε + ε/K` for the right class `y` on every training image, and no more.
#
# Write `smoothing(L, K)`: the ε at which the *hard-label* train loss of such a converged network is `L` nats.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
import math

level_only = fl.exercises.Exercise(
    "08.smoothing",
    answer=lambda L, K: (1 - math.exp(-L)) * K / (K - 1),
    inputs=[(0.01, 10), (0.16, 10), (0.3, 2)],
    mistakes={
        "the right class also gets its share ε/K back: p_y is not 1 − ε": lambda L, K: 1 - math.exp(-L),
        "that is p_y itself; solve 1 − ε + ε/K = p_y for ε": lambda L, K: math.exp(-L),
        "the factor is upside down: ε (K − 1)/K = 1 − p_y": lambda L, K: (1 - math.exp(-L)) * (K - 1) / K,
        "right only for small L: the loss is −log p_y, not 1 − p_y": lambda L, K: L * K / (K - 1),
        "ε is no loss: it is a probability that is given away": lambda L, K: L,
        "that is the probability left for each *other* class": lambda L, K: (1 - math.exp(-L)) / (K - 1),
        "the loss is in nats: use exp(−L), not 2^(−L)": lambda L, K: (1 - 2**-L) * K / (K - 1),
    },
    praise="with this ε, and two small corrections, the smoothed twins above were trained.",
)

# %% [markdown]
# Your answer (`math.exp` is at hand):


# %% slideshow={"slide_type": "skip"}
def smoothing(L, K):
    return ...


level_only.check(smoothing)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def smoothing(L, K):
#     p_right = math.exp(-L)
#     return (1 - p_right) * K / (K - 1)
#
#
# level_only.check(smoothing)
# ```
#
# The hard-label loss of such a network is `−log(1 − ε + ε/K)` on every image. Put it equal to `L` and solve for ε.
#
# </details>

# %% [markdown]
# ### Exercise 4 · Which twin for which doubt? (★★★, 8 minutes)
#
# Somebody finds that networks trained with dropout are sharper than their baselines, at ten times the train loss, and better. Four people doubt the conclusion, each for one reason. Which *single* comparison answers each doubt? Write four letters in the order of the doubts, for example `"ABCD"`.
#
# | doubt | |
# |---|---|
# | 1 | "It is only less confident: its decisions have nothing to do with it." |
# | 2 | "It is only trained less far. A shorter run of the baseline would be as sharp." |
# | 3 | "Your shorter run is unfinished, and therefore hot. Compare with a baseline that has converged." |
# | 4 | "You were lucky with the strength." |
#
# | comparison | |
# |---|---|
# | A | early-stopped twins with complete schedules of their own |
# | B | label-smoothed twins |
# | C | a sweep over the dropout rate |
# | D | temperature twins |

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
doubts = fl.exercises.Exercise(
    "08.doubts",
    answer="DABC",
    mistakes={
        "the first two are exchanged: T changes the confidence and no decision; a shorter run changes both": "ADBC",
        "a smoothed baseline converges at that loss, an early-stopped one does not: look at doubt 3 again": "DBAC",
        "a sweep changes the strength, and nothing else: it belongs to the last doubt": "DACB",
        "label smoothing needs a new training, so it cannot be about confidence alone: doubt 1 asks for unchanged decisions": "BADC",
        "the sweep does not answer the first doubt: every strength may be less confident": "CABD",
    },
    praise="and none of the four answers the question why it is better.",
)

# %% [markdown]
# Your answer:

# %% slideshow={"slide_type": "skip"}
letters = ...
doubts.check(letters)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# letters = "DABC"
# doubts.check(letters)
# ```
#
# D keeps every decision of the full baseline and changes its confidence. A trains the baseline for a shorter time. B holds a *converged* baseline at that train loss. C varies the strength.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# On 300 digits most of the paper's regularisers end sharper than the baseline. Much of that is the train loss. What is left is augmentation, which is sharper *and* better beside every twin; beside a twin weight decay is flatter or sharper as the twin has it; SAM is flatter, and no better.
#
# **You may now say** "this augmentation ended sharper than each of the baselines of its train loss that we built, and with a lower test error: there flatness is not the reason". In fairness you may add: "beside base weak augmentation ended flatter and better, and so did weight decay beside its early-stopped twin".
#
# **You may no longer say** "it is sharper", or "it is flatter", of two trained networks without their train losses beside it, or "at equal train loss" without naming the twin.

# %%
fl.claims.take_away()

# %% [markdown]
# **The steelman.** *"You judge sharpness on images that augmentation never trains on. On its own loss, the moved images, it may well sit in a flat place, and that is the loss whose flatness the PAC-Bayes argument is about (Dziugaite and Roy 2017; Foret et al. 2021). SAM is flatter by your own numbers, at no cost in error; 300 digits leave it nothing to gain. And small augmentation is flatter and better, since it fits better."* All of this is compatible with the boxes; it gives up the sentence that flatness of the *training loss* ranks networks.
#
# ### What this does not show
#
# - One training set of 300 digits. The seeds vary the initial weights and the order of the batches, not the images, so the intervals say nothing about other digits.
# - One small network without normalisation layers, one optimiser, one schedule. Whether a ResNet agrees is the question of 09; whether it is the architecture, of 11.
# - ρ and λ are the paper's, chosen for other data; the amount of augmentation is ours. "Weight decay gains little" is a statement about λ = 5 · 10⁻⁴; in the sweep a larger λ gains more.
# - SAM had as many steps as the others, and so twice the gradients.
# - A twin holds the train *loss* fixed, not how it is spread over the images, nor the length of the weights. Disagreement is made of pairs of networks: its p-values are too small (10).
# - The regularised networks are minima of their own objectives. On the clean loss they stand on a slope, so their "sharpness" is that of a place, not of a minimum.
#
# ### References
#
# - Mason-Williams, Mason-Williams and Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451 (C3 to C5, the six controls), and the study of 2023 that it grew out of, *Explicit Regularisation, Sharpness and Calibration*.
# - Foret, Kleiner, Mobahi and Neyshabur, *Sharpness-Aware Minimization for Efficiently Improving Generalization*, arXiv:2010.01412.
# - Guo, Pleiss, Sun and Weinberger 2017: temperature scaling and the calibration error.
# - Keskar et al. 2017, arXiv:1609.04836; Dziugaite and Roy 2017, arXiv:1703.11008: the case for flatness.

# %% [markdown]
# All numbers without a box, and your predictions beside what came out:

# %%
fl.claims.numbers()

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()
