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
# # 11 · Architectures
#
# **Is it the architecture?** So far a regulariser moved the sharpness of perceptrons and of residual networks. Does it move a VGG, a vision transformer and a small GPT in the same direction, or is "sharper" a habit of one kind of network?

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/11_architectures.ipynb` (other ways: `README.md`).
#
# ← [10 · What do 240 minima say?](10_many_minima.ipynb) · [12 · Photographs](12_photographs.ipynb) →

# %% [markdown]
# > **You will be able to**
# > - compare *effects within* an architecture, paired by seed, raw and at equal train loss;
# > - ask whether a sentence about sharpness holds by more than one measure;
# > - ask what the order of four architectures by raw `λ_max` is worth;
# > - say how much "k of 4 agree" is worth.
# >
# > **Needs** [08](08_six_controls.ipynb) (the rules of the game, twins) and [04](04_measuring_sharpness.ipynb) (the measures)
# > · **Time** 22 minutes to read, about 80 seconds of processor time to run
# > · **Source** Mason-Williams et al., arXiv:2510.12451 (ResNet-18, VGG-19, ViT and a GPT-2 on names). At toy size the networks, the data and the fourth architecture, a perceptron, are ours.

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
# ## The deal
#
# 1. *Unit*: the seed. Four seeds for each architecture, shared by all its regularisers; so no verdict is above "with a caveat".
# 2. *Effect*: `log₁₀` of the ratio to the baseline, same architecture, same seed, by `λ_max` and by normalised κ. Verdicts by intervals over the seeds, widened for the four architectures that answer one question.
# 3. *Agree*: at least 3 of 4 on one side. An open effect may turn out either way, so the count has a range.
# 4. *Twice*: raw, and at equal train loss. SAM with ρ = 0.05 and weight decay with λ = 5 · 10⁻⁴ are the paper's; other strengths are shown.
# 5. *Fair measurement*, as in 08: clean training data, hard labels, no penalty, eval mode, the train loss always beside it.
# 6. **Never**: the `λ_max` of one architecture beside that of another. *Break it* shows why.
#
# Sizes, epochs and the learning rate were chosen on baselines. The correction for four, and κ, came after readers had asked for them.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Images and names
#
# The perceptron, the VGG and the vision transformer (**ViT**) see 200 digits of 8 × 8 pixels. The GPT reads **names**: 15 classes, each with its own favourite letters and pairs of letters. They are *generated*, by fifteen random rules, and belong to no language. A name is a row of numbers, one per letter, filled up with 0.


# %% jupyter={"source_hidden": true}
def images(data, shape):
    return fl.data.Data(data.x.view(shape), data.y, data.x_test[:500].view(shape), data.y_test[:500])


def short(x, y, count, length=10):
    kept = (x[:, length:] == fl.names.PAD).all(1)
    return x[kept][:count, :length], y[kept][:count]


if SCALE == "laptop":
    digits, names = fl.data.digits(train=200), fl.names.names()
    flat, square = images(digits, (-1, 64)), images(digits, (-1, 1, 8, 8))
    words = fl.data.Data(*short(names.x, names.y, 200), *short(names.x_test, names.y_test, 500))
    DATA = {"MLP": flat, "VGG": square, "ViT": square, "GPT": words}
else:
    photographs, words = fl.images.cifar(10), fl.names.names(15_000, 3_000)
    DATA = {"ResNet": photographs, "VGG": photographs, "ViT": photographs, "GPT": words}

# %% [markdown]
# Three names of each of the first four classes:

# %% jupyter={"source_hidden": true}
for label in range(4):
    print(f"class {label}:", *fl.names.decode(words.x[words.y == label][:3]))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Four networks, two scales
#
# At laptop scale each network is as small as it can be and still deserve its name. At `paper` scale the same code builds the paper's: ResNet-18, VGG-19 with batch norm, a ViT with patch 4, width 512, depth 6, 6 heads, and a GPT-2 of 4 layers, width 128, 4 heads; on CIFAR-10, and on 15,000 generated names.

# %%
models = fl.models
if SCALE == "laptop":
    NETS = {
        "MLP": lambda seed: models.mlp(64, 32, 10, seed=seed),
        "VGG": lambda seed: models.vgg((1, 1, 1), width=8, channels=1, seed=seed),
        "ViT": lambda seed: models.vit(8, 4, 16, depth=1, heads=2, mlp=32, head_width=8, channels=1, seed=seed),
        "GPT": lambda seed: models.gpt(length=10, width=16, depth=1, heads=2, seed=seed),
    }
else:
    NETS = {
        "ResNet": lambda seed: models.resnet((2, 2, 2, 2), width=64, seed=seed),
        "VGG": lambda seed: models.vgg((2, 2, 4, 4, 4), width=64, seed=seed),
        "ViT": lambda seed: models.vit(32, 4, 512, depth=6, heads=6, mlp=256, head_width=64, seed=seed),
        "GPT": lambda seed: models.gpt(seed=seed),
    }
for name, build in NETS.items():
    net = build(0)
    print(f"{name:6s} {sum(p.numel() for p in net.parameters()):>10,} weights")

# %% [markdown]
# The recipe is one for all: SGD, momentum 0.9, a cosine to 0, so that a baseline of any length has a complete schedule of its own. The VGG needs fewer epochs than the others (12 against 40).

# %% jupyter={"source_hidden": true}
if SCALE == "laptop":
    SEEDS, RHOS, recipe = range(4), [0.005, 0.05, 0.25], {"batch": 25, "lr": 0.05, "momentum": 0.9}
    EPOCHS = {"MLP": 40, "VGG": 12, "ViT": 40, "GPT": 40}
else:
    SEEDS, RHOS, recipe = range(10), [0.0025, 0.005, 0.025, 0.05, 0.25, 0.5], {"batch": 128, "lr": 0.01, "momentum": 0.9}
    EPOCHS = {"ResNet": 100, "VGG": 100, "ViT": 100, "GPT": 200}
LENGTHS = [0.25, 0.5, 1.0, 1.25]  # of the baseline's schedule; 1 is the baseline
TEMPERATURES = [0.7, 1.4, 2.0, 2.8, 4.0]
SAM = {f"SAM {rho:g}": {"rho": rho} for rho in RHOS}
CONTROLS = {"base": {}, "wd 0.0005": {"weight_decay": 5e-4}, "wd 0.005": {"weight_decay": 5e-3}} | SAM

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict

# %% slideshow={"slide_type": "fragment"}
how_many = fl.predictions.ask(
    "11.flatter",
    "SAM with ρ = 0.05 against the baseline, λ_max on the training data, same seeds. "
    "In how many of the four architectures does SAM end flatter, beyond the noise?",
    choices=["none", "one", "two", "three", "all four"],
)

# %% [markdown]
# And the question that one should not ask:

# %% slideshow={"slide_type": "fragment"}
sharpest = fl.predictions.ask(
    "11.sharpest",
    "Four baselines, MLP, VGG, ViT and GPT, trained until (nearly) every training sample is right. "
    "Which architecture has the largest λ_max?",
    choices=["MLP", "VGG", "ViT", "GPT", "any of them, as I like"],
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### Attention, twice differentiable
#
# Each letter (or patch) `t` asks a *query* `q_t`; every letter `s` shows a *key* `k_s` and holds a *value* `v_s`, vectors of length `d`. The answer is a mean of the values, weighted by how well key and query match:
#
# $$a_t = \sum_s w_{ts}\,v_s, \qquad w_t = \mathrm{softmax}_s\!\left(\frac{\langle q_t, k_s\rangle}{\sqrt d}\right).$$
#
# A **mask** sets the matches that are not allowed to −∞, so that their weight is 0: in a GPT no letter looks ahead, and none looks at padding.


# %%
def attention(q, k, v, allowed):
    match = q @ k.mT / q.shape[-1] ** 0.5
    weights = match.masked_fill(~allowed, -torch.inf).softmax(-1)
    return weights @ v


# %% [markdown]
# PyTorch has this as one function. Six letters, the last two of them padding; does ours agree? And does the padding stay unread?

# %%
from torch.nn.functional import scaled_dot_product_attention

draw = torch.Generator().manual_seed(0)
q, k, v = torch.randn(3, 6, 8, generator=draw, dtype=torch.float64)
position, letters = torch.arange(6), torch.arange(6) < 4  # the first four are letters
allowed = (position <= position[:, None]) & letters
ours, theirs = attention(q, k, v, allowed), scaled_dot_product_attention(q, k, v, attn_mask=allowed)
print("as PyTorch's:", torch.allclose(ours, theirs, atol=1e-12))
k[4:], v[4:] = 100.0, -100.0  # other padding
print("padding is not read:", torch.equal(attention(q, k, v, allowed), ours))

# %% [markdown]
# <details><summary>Side road: why the fast kernels refuse a second derivative</summary>
#
# PyTorch has several kernels for attention and takes the fastest that fits, on a CPU the one called *flash*. It works through attention in blocks and never stores the weights `w`; its backward pass is written by hand, and nobody has written the derivative of *that*, so it refuses. The kernel called MATH is the plain formula above, slower and larger in memory, made of steps that can be differentiated as often as you like, and `fl.NetworkLoss` always takes it. That the curvature is right, too, is checked below: `Hu` must be the change of the gradient along `u`.
#
# </details>

# %% jupyter={"source_hidden": true}
def mismatch_of(architecture, step=1e-6):
    data, net = DATA[architecture], NETS[architecture](0).double()
    f = fl.NetworkLoss(net, data.x[:20], data.y[:20])
    u = torch.randn(f.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    difference = (f.gradient(f.theta + step * u) - f.gradient(f.theta - step * u)) / (2 * step)
    return ((f.hvp(f.theta, u) - difference).norm() / difference.norm()).item()


# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
worst = max(mismatch_of("ViT"), mismatch_of("GPT"))
print(f"largest relative error of Hu, ViT and GPT, float64: {worst:.1e}")
claim = fl.claims.declare(
    "11.1", "second derivatives through attention are right: Hu equals the change of the gradient along u",
    worst, "holds", below=1e-5, detail="Largest relative error, ViT and GPT, float64",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Train, measure, and a ladder of baselines
#
# A row per network: `λ_max` by ten Lanczos steps, normalised κ, slope, train loss, errors. All seeds and strengths of an architecture are trained as one batched program. (At `paper` scale, one network at a time, as a study that survives a night.) The *ladder* of baselines has four lengths, each with a complete schedule of its own: **early-stopped twins**. A **temperature twin** is the baseline with its head divided by `T`.

# %% jupyter={"source_hidden": true}
from math import ceil

import pandas as pd
from flatlab import compare

PROBE, MEASURES = 512, ["lambda max", "relative flatness"]
COLUMNS = ["train loss", *MEASURES, "gradient norm", "weight norm"]


def measure(f, data):
    errors = {"train error": (f.outputs(), data.y), "test error": (f.outputs(inputs=data.x_test), data.y_test)}
    errors = {name: 100 * (1 - fl.safety.accuracy(*both).cpu()) for name, both in errors.items()}
    return fl.sharpness.table(f, COLUMNS, subset=PROBE, steps=10).assign(**errors)


def trained(architecture, controls, length=1.0, seeds=SEEDS):
    """The run of all seeds of these controls, on the GPU if there is one."""
    data, members = DATA[architecture].to(fl.device()), [CONTROLS[c] for c in controls for _ in seeds]
    loss = fl.NetworkLoss(
        lambda seed: NETS[architecture](seed).to(fl.device()), data.x, data.y, seeds=[*seeds] * len(controls)
    )
    rho, decay = ([member.get(name, 0.0) for member in members] for name in ("rho", "weight_decay"))
    sam = {"rule": fl.training.sam, "rho": rho} if any(rho) else {}
    steps = round(length * EPOCHS[architecture]) * ceil(len(data.x) / recipe["batch"])
    return fl.train(loss, steps, schedule="cosine", weight_decay=decay, **sam, **recipe)


# %% jupyter={"source_hidden": true}
def measured(architecture, controls, length=1.0, seeds=SEEDS):
    """Train and measure: a row per network, and per temperature twin of a baseline."""
    run, data = trained(architecture, controls, length, seeds), DATA[architecture].to(fl.device())
    assert not run.diverged.any()
    f = run.loss().refreshed() if run.loss().buffers else run.loss()  # batch norm's statistics anew, here and everywhere
    labels = {"control": np.repeat(controls, len(seeds)), "seed": [*seeds] * len(controls)}
    labels |= {"architecture": architecture, "length": length}
    twins = {T: compare.tempered(f, T) for T in TEMPERATURES} if controls == ["base"] and length == 1 else {}
    return pd.concat([measure(g, data).assign(T=T, **labels) for T, g in ({1.0: f} | twins).items()])


def single(architecture, control, length, seed):
    """One run of a study, at paper scale: its rows."""
    return measured(architecture, [control], length, [seed]).drop(columns=["architecture", "control", "length", "seed"]).to_dict("records")


# %% jupyter={"source_hidden": true}
from tqdm.auto import tqdm

if SCALE == "laptop":
    plans = [(["base"], length) for length in LENGTHS] + [(["wd 0.0005", "wd 0.005"], 1.0), ([*SAM], 1.0)]
    plans = [(a, *plan) for a in NETS for plan in plans]
    table = pd.concat([measured(*plan) for plan in tqdm(plans, leave=False)], ignore_index=True)
else:
    plans = [(control, 1.0) for control in CONTROLS] + [("base", length) for length in LENGTHS if length != 1]
    cells = [
        {"architecture": a, "control": control, "length": length, "seed": seed}
        for a in NETS for control, length in plans for seed in SEEDS
    ]
    table = fl.study.run(single, cells, "architectures_paper", workers=1, inner=torch.get_num_threads())
    assert not len(fl.study.results("architectures_paper", errors=True))
print(f"{len(table)} rows, {(table['T'] == 1).sum()} networks")

# %% [markdown]
# From here on, one thing is compared: a regularised network with what its *own* architecture does without the regulariser, at the same seed: raw, or with a twin of the *same train loss*. The twin is read off the seed's ladder along straight lines (logarithm of the loss, logarithm of the sharpness). In 08 a twin had to lie within 10 % of the loss; here rungs may be up to a decade apart, so we test the lines: take the baseline's own rung out, read it off between its neighbours, and compare.

# %% jupyter={"source_hidden": true}
ends, base = table[(table["T"] == 1) & (table["length"] == 1)], table[table["control"] == "base"]
ladders = {"base": None, "early-stopped twin": base[base["T"] == 1], "temperature twin": base[base["length"] == 1]}


def effects_against(ladder):
    """log₁₀ of the factors per architecture, control and seed; NaN where no twin reaches the train loss."""
    found = {}
    for a, rows in ends.groupby("architecture"):
        twins = None
        if ladder is not None:
            rows = rows[rows["control"] != "base"]
            twins = compare.at_equal(rows, ladder, MEASURES, ["architecture", "seed"])
        found[a] = compare.differences(rows, MEASURES, twins, MEASURES)
    return pd.concat(found, names=["architecture"])


effects = {against: effects_against(ladder) for against, ladder in ladders.items()}
RAW, EARLY, TEMPERED = effects
others = ladders[EARLY][ladders[EARLY]["length"] != 1]
for a in NETS:
    own = ladders[EARLY].query("architecture == @a and length == 1")
    read = compare.at_equal(own, others, MEASURES, ["architecture", "seed"])
    off = {m: 10 ** np.log10(read[m] / own[m]).mean() for m in MEASURES}
    print(f"{a}: the baseline read off between its neighbours is × {off['lambda max']:.2f} of itself by λ_max, × {off['relative flatness']:.2f} by κ")

# %% [markdown]
# So an effect at equal train loss smaller than these factors is none. The intervals:

# %% jupyter={"source_hidden": true}
from flatlab.compare import interval


def of(architecture, control, against, measure="lambda max"):
    """The effects of one regulariser, a value per seed that has a twin."""
    return effects[against].loc[(architecture, control), measure].dropna().to_numpy()


def side(architecture, control, against, measure="lambda max"):
    centre, half = interval(of(architecture, control, against, measure), 1 - 0.05 / 4)
    if np.isnan(centre):
        return "no twin"
    return "sharper" if centre > half else "flatter" if centre < -half else "open"


def sides(control, against, measure="lambda max"):
    return ", ".join(f"{a} {side(a, control, against, measure)}" for a in NETS)


# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# Choose an architecture and a radius of SAM. On the left, four blue dots: its SAM networks, one per seed, by train loss and sharpness, relative to the seed's *own* baseline (grey ring). Grey lines join baselines of four lengths: what *no* regulariser does at each train loss. A thin orange line leads from each blue dot to the ladder of its own seed. On the right, the effect in all four architectures: raw (blue), and at equal train loss (orange), the mean length of the orange lines.


# %% jupyter={"source_hidden": true}
def relative(architecture, control, seed):
    """Train loss, and λ_max as a factor of the baseline's, of one network or of a baseline's whole ladder."""
    ladder = ladders["early-stopped twin"].query("architecture == @architecture and seed == @seed")
    home = ladder.query("length == 1")["lambda max"].item()
    rows = ladder if control == "ladder" else ends.query("architecture == @architecture and seed == @seed and control == @control")
    rows = rows.sort_values("train loss")
    return rows["train loss"].to_numpy(), rows["lambda max"].to_numpy() / home


def setting(rho):
    return f"SAM {rho:g}" if rho else "base"


# %% [markdown]
# What stays in the picture:


# %% jupyter={"source_hidden": true}
def build(fig):
    left, right = fig.subplots(1, 2, width_ratios=[1.1, 1])
    ladder_lines = [left.plot([], [], color=fl.plots.GREY, lw=1.5, ls="-", marker=".")[0] for _ in SEEDS]
    drops = [left.plot([], [], color=fl.plots.ORANGE, lw=2, ls="-")[0] for _ in SEEDS]
    rings = left.plot([], [], "o", mfc="none", mec=fl.plots.GREY, mew=2.5, ms=11, label="baselines")[0]
    dots = left.plot([], [], "o", color=fl.plots.BLUE, ms=9, label="SAM")[0]
    left.set(xscale="log", yscale="log", xlim=(0.002, 3), ylim=(0.06, 40), xlabel="train loss")
    left.set(ylabel="λ_max, factor of its own baseline", yticks=[0.1, 1, 10], yticklabels=["÷ 10", "1", "× 10"])
    left.legend(loc="lower right", fontsize=11)
    marks = []
    for shift, mark, colour, label in ((-0.12, "o", fl.plots.BLUE, "raw"), (0.12, "D", fl.plots.ORANGE, "equal loss")):
        (points,) = right.plot([], [], mark, ms=10, color=colour, label=label)
        lines = [right.plot([], [], color=colour, lw=3, ls="-")[0] for _ in NETS]
        marks.append((shift, points, lines))
    right.axvline(1, color=fl.plots.GREY, lw=1.5, ls="-")
    right.set(xscale="log", xlim=(0.1, 20), xticks=[0.1, 1, 10], xticklabels=["÷ 10", "1", "× 10"])
    right.set(yticks=range(4), yticklabels=[*NETS], ylim=(3.5, -0.6), xlabel="flatter ←  factor in λ_max  → sharper")
    right.legend(loc="upper right", fontsize=11)
    return lambda **values: move(left, ladder_lines, drops, rings, dots, marks, **values)


# %% [markdown]
# And what moves; everything is looked up.


# %% jupyter={"source_hidden": true}
def move(left, ladder_lines, drops, rings, dots, marks, architecture, rho, early_stopped_twins):
    left.set_title(architecture)
    for seed, line, drop in zip(SEEDS, ladder_lines, drops):
        line.set_data(*(relative(architecture, "ladder", seed) if early_stopped_twins else ([], [])))
        drop.set_data([], [])
        if early_stopped_twins and rho:
            x, y = relative(architecture, setting(rho), seed)
            drop.set_data([x, x], [y, y / 10 ** effects[EARLY].loc[(architecture, setting(rho), seed), "lambda max"]])
    for artist, control in ((rings, "base"), (dots, setting(rho))):
        artist.set_data(*np.concatenate([relative(architecture, control, seed) for seed in SEEDS], axis=1))
    said = []
    for (shift, points, lines), against in zip(marks, effects):
        shown = rho > 0 and (against == "base" or early_stopped_twins)
        found = [interval(of(a, setting(rho), against), 1 - 0.05 / 4) if shown else (np.nan, np.nan) for a in NETS]
        points.set_data([10**centre for centre, _ in found], np.arange(4) + shift)
        for row, (line, (centre, half)) in enumerate(zip(lines, found)):
            line.set_data([10 ** (centre - half), 10 ** (centre + half)], [row + shift] * 2)
        if shown:
            said.append(f"{points.get_label()}: {sides(setting(rho), against)}")
    return "; ".join(said) + "." if said else "ρ = 0 is the baseline."


# %% [markdown] slideshow={"slide_type": "slide"}
# Turn up ρ for each architecture. Where do the blue dots go: along the grey lines, above them, or below?

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
fl.panels.Panel(
    build,
    "left: SAM networks by train loss and sharpness beside baselines; right: effects in four architectures",
    size=(10, 4.6),
    labels={"rho": "radius ρ", "early_stopped_twins": "early-stopped twins"},
    architecture=([*NETS], "ViT"),
    rho=([0.0, *RHOS], 0.05),
    early_stopped_twins=True,
).show()

# %% [markdown]
# **What you see.** Raw, the architectures do not move together. In the perceptron SAM barely changes the train loss, and its dots go straight down. In the ViT the train loss *rises*: the dots go to the right, and some go up. The baselines' own ladders climb to the right as well, steeply in all but the perceptron: **near interpolation, whoever fits less far looks sharper.** Beside the ladders the blue dots lie lower, by `λ_max`.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### By two measures
#
# One row per regulariser, one mark per architecture: mean over the seeds and its interval (for a family of four), a small dot for each seed. Left `λ_max` against the baseline, in the middle at equal train loss, right the same by κ.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 3, figsize=(10, 4.6), sharex=True, sharey=True)
views = ((RAW, "lambda max", "raw: λ_max"), (EARLY, "lambda max", "at equal train loss: λ_max"), (EARLY, "relative flatness", "at equal train loss: κ"))
for ax, (against, name, title) in zip(axes, views):
    fl.plots.forest(effects[against][name].unstack("architecture")[[*NETS]].loc[[*CONTROLS][1:]], ax, m=4)
    ax.set(xlabel="flatter ←   factor   → sharper", title=title, xlim=(0.12, 14))
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=11)
fl.plots.show(fig, "factors of sharpness for five regularisers in four architectures, raw and at equal train loss, by two measures")
flatter = sum(side(a, "SAM 0.05", "base") == "flatter" for a in NETS)
print(how_many.settle(["none", "one", "two", "three", "all four"][flatter]))

# %% [markdown]
# **What you see.** Left, the marks of one row lie on both sides of 1: at ρ = 0.25 the perceptron is flatter and the GPT many times sharper. In the middle the rows draw together: from ρ = 0.05 on SAM's marks lie to the left of 1. Much of the disagreement was about the fit; ρ = 0.25 in the VGG is the plainest case. But look at the right: by κ, three of the four cannot be told from 1 with SAM at 0.05.
#
# The numbers, with train losses and errors (the columns from `λ_max` on are factors; errors in per cent):

# %% jupyter={"source_hidden": true}
def mean_of(architecture, control, column):
    return ends.query("architecture == @architecture and control == @control")[column].mean()


def line(control, a):
    losses = [f"{mean_of(a, c, 'train loss'):.4f}" for c in (control, "base")]
    factors = [f"× {10 ** of(a, control, g, m).mean():.2f} ({len(of(a, control, g, m))})" if len(of(a, control, g, m)) else "–"
               for g, m in ((RAW, "lambda max"), (EARLY, "lambda max"), (TEMPERED, "lambda max"), (EARLY, "relative flatness"))]
    errors = [f"{mean_of(a, c, e):.1f}" for e in ("train error", "test error") for c in (control, "base")]
    return [*losses, *factors, *errors, f"{mean_of(a, control, 'weight norm'):.1f} / {mean_of(a, 'base', 'weight norm'):.1f}"]


names_of = ["train loss", "of base", "λ_max raw (n)", "early-stopped", "temperature", "κ, early-stopped", "train error", "of base", "test error", "of base", "length of θ / of base"]
shown = [(control, a) for control in ("SAM 0.05", "SAM 0.25", "wd 0.0005", "wd 0.005") for a in NETS]
pd.DataFrame([line(*pair) for pair in shown], index=pd.MultiIndex.from_tuples(shown, names=["", ""]), columns=names_of)

# %% [markdown]
# Mind the errors: at ρ = 0.25 the GPT no longer fits a third of its names, and nothing there is a minimum to compare. (It generalises badly anyway: two of three new names go wrong.)

# %% jupyter={"source_hidden": true}
def family(id, sentence, control, against, measure, verdicts, at_least, **more):
    values = {a: of(a, control, against, measure) for a in NETS}
    losses = {a: (mean_of(a, control, "train loss"), mean_of(a, "base" if against == RAW else control, "train loss")) for a in NETS}
    return fl.claims.family(id, sentence, values, dict(zip(NETS, verdicts)), factors=True, losses=losses, at_least=at_least, **more)


HOLDS, NOT, OPEN, FEW = "holds with a caveat", "does not hold here", "inconclusive", "four seeds, toy networks"

# %% [markdown] slideshow={"slide_type": "slide"}
# ### SAM: does the sign agree?

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
family("11.2", "ends flatter than its baseline with SAM (ρ = 0.05), by λ_max", "SAM 0.05", RAW, "lambda max", (HOLDS, OPEN, OPEN, OPEN), (3, OPEN), below=0, caveat=FEW)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
family("11.3", "ends flatter than its early-stopped twin with SAM (ρ = 0.05), by λ_max", "SAM 0.05", EARLY, "lambda max", (HOLDS, HOLDS, OPEN, HOLDS), (3, HOLDS), below=0, caveat=FEW)

# %% [markdown]
# The other twin agrees in three of them; in the ViT SAM ends as sharp as its temperature twin (× 1.00 in the table): which twin is the fair one is the question of 08.
#
# And by κ, which no rescaling of layers moves:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
family("11.8", "ends flatter than its early-stopped twin with SAM (ρ = 0.05), by κ", "SAM 0.05", EARLY, "relative flatness", (HOLDS, OPEN, OPEN, OPEN), (3, OPEN), below=0, caveat=FEW)

# %% [markdown]
# So the sentence is "flatter *by `λ_max`*". Nothing here bears on the paper's C3, which speaks of regularisers in general: SAM alone is no count of five.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Weight decay
#
# At the paper's λ = 5 · 10⁻⁴ these short runs hardly feel it. Ten times as much is felt. (Written after seeing the figure.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
left_over = "; ".join(f"{g}: {sides('wd 0.005', g)}" for g in (EARLY, TEMPERED))
family("11.5", "ends sharper than its baseline with weight decay of 5e-3, by λ_max", "wd 0.005", RAW, "lambda max", (HOLDS, HOLDS, HOLDS, HOLDS), (3, HOLDS), above=0, caveat=f"{FEW}; all of them end at a higher train loss. {left_over}", about={"C3": "supports"}, experiment="weight decay in four architectures")

# %% jupyter={"source_hidden": true}
also = family("11.9", "ends sharper than its early-stopped twin with weight decay of 5e-3, by κ", "wd 0.005", EARLY, "relative flatness", (OPEN, OPEN, OPEN, OPEN), (3, OPEN), above=0, detail=FEW)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Which architecture is the sharpest?
#
# Now do what rule 6 forbids. One baseline of each architecture, all (nearly) at zero training error, their raw `λ_max` side by side, and κ for good measure. Then an attack: multiply the layer in front of the head, the last one with weights, by `c`, and divide the head's weights by `c`. What lies between the two (ReLUs, a maximum, an average, or nothing) passes a factor `c > 0` on, so every output stays as it was.


# %%
from copy import deepcopy


def rescaled(net, c):
    net = deepcopy(net)
    layers = torch.nn.Linear, torch.nn.BatchNorm2d, torch.nn.LayerNorm
    *_, front, head = [m for m in net.modules() if isinstance(m, layers)]
    with torch.no_grad():
        front.weight.mul_(c)
        front.bias.mul_(c)
        head.weight.div_(c)
    return net


# %% [markdown]
# (At `paper` scale the fourth network is a ResNet, whose last block adds a shortcut: there the attack would have to scale both. We attack the other three.)

# %% jupyter={"source_hidden": true}
SCALES = [1, 2, 4, 8, 16, 32]
attacked = [name for name in NETS if name != "ResNet"]


def probe_of(name, c):
    data = DATA[name].to(fl.device())
    return fl.NetworkLoss(rescaled(originals[name], c), data.x[:PROBE], data.y[:PROBE])


def top(f):
    return fl.curvature.eigenvalues(f, steps=10)[0].item()


originals = {name: trained(name, ["base"], seeds=[0]).model(0) for name in attacked}
raw_top = {name: {c: top(probe_of(name, c)) for c in SCALES} for name in attacked}
kappa = {name: [fl.sharpness.relative_flatness(probe_of(name, c)).item() for c in (1, 8)] for name in attacked}
order = sorted(attacked, key=lambda name: raw_top[name][1])
by_kappa = sorted(attacked, key=lambda name: kappa[name][0])
print("from flat to sharp, by λ_max:", " < ".join(order), "   by κ:", " < ".join(by_kappa))

# %% [markdown]
# Beginning with the sharpest, which stays as it is, each of the others gets the smallest `c` that lifts it above the one before.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
chosen, level = {}, 0.0
for name in reversed(order):
    chosen[name] = min(c for c in SCALES if raw_top[name][c] > 1.1 * level)
    level = raw_top[name][chosen[name]]
fig, ax = plt.subplots(figsize=(7.5, 3.6))
for i, name in enumerate(order):
    before, after = raw_top[name][1], raw_top[name][chosen[name]]
    if after > before:
        ax.annotate("", (i, after), (i, before), arrowprops={"arrowstyle": "->", "color": fl.plots.GREY, "shrinkB": 6})
    ax.plot(i, before, "o", ms=10, color=fl.plots.GREY, label="as trained" if i == 0 else None)
    ax.plot(i, after, "D", ms=10, mfc="none", mew=2.5, color=fl.plots.ORANGE, label="rescaled, same outputs" if i == 0 else None)
    ax.text(i + 0.1, after, f"c = {chosen[name]}", va="center")
ax.set(yscale="log", xticks=range(len(order)), xticklabels=order, ylabel="raw λ_max", xlim=(-0.4, len(order) - 0.4))
ax.set(ylim=(0.3 * raw_top[order[0]][1], 8 * level))
ax.legend(loc="upper center", ncols=2)
fl.plots.show(fig, "raw top eigenvalue of four architectures: grey dots rise from left to right, rescaled orange ones fall")

# %% [markdown]
# **What you see.** The grey dots rise from left to right, the orange ones fall. Both are the same four functions. That the order *can* be turned was built in, `c` was chosen for it; what is tested is that no output moves.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
def change(name):
    ours, theirs = (probe_of(name, c).outputs() for c in (1, chosen[name]))
    return ((ours - theirs).abs().max() / ours.abs().max()).item()


turned = min(raw_top[a][chosen[a]] / raw_top[b][chosen[b]] for a, b in zip(order, order[1:]))
moved, same = max(map(change, attacked)), max(abs(b / a - 1) for a, b in kappa.values())
print(sharpest.settle("any of them, as I like"))
assert turned > 1
fl.claims.declare(
    "11.7", "the rescaling that turns the order of the architectures by raw λ_max upside down changes no output (largest relative change)",
    moved, "holds", below=1e-5,
    detail=f"Smallest factor between neighbours in the new order {turned:.2f}; normalised κ changes by at most {same:.0e} with c = 8",
)

# %% [markdown]
# Three reasons, then, why `λ_max` of one architecture says nothing beside that of another. Its *coordinates*: the scale of a layer is free, and each architecture sets it in its own way. Its *weights*: other numbers of them, in other places. And its *train loss*. (Normalised κ hardly notices this attack; its order of the four is another one, and no better: the features of a ViT are not those of a VGG.)
#
# Within an architecture the same attack is possible, and a regulariser may make it by itself: weight decay shortens the weights (last column of the table). That is one more reason to ask κ as well.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1 · What the attack does to the Hessian (★★★, 10 minutes, on paper)
#
# The attack of *Break it*: weights `u` (and bias) in front are multiplied by `c`, the head's weights `w` divided by `c`, and the outputs stay: `L(c u, w/c) = L(u, w)`. Cut the Hessian into the block of `u`, the mixed block (one derivative by each), and the block of `w`. Write `factors(c)`, which returns the list of the three factors by which these blocks change *at the attacked weights*.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
blocks = fl.exercises.Exercise(
    "11.blocks",
    answer=lambda c: [c**-2, 1.0, c**2],
    inputs=[(2.0,), (0.5,), (8.0,)],
    mistakes={
        "the wrong way round: a weight that is longer needs a longer step for the same change, so its curvature is smaller": lambda c: [c**2, 1.0, c**-2],
        "one derivative too few: a Hessian has two": lambda c: [1 / c, 1.0, c],
        "the mixed block has one derivative by each: 1/c and c": lambda c: [c**-2, 1 / c, c**2],
        "the head is not spared: its weights were divided": lambda c: [c**-2, 1.0, 1.0],
        "the loss stays, and so do the outputs; the Hessian by the weights does not": lambda c: [1.0, 1.0, 1.0],
        "trace and λ_max can go either way; the blocks of u and of w go in opposite directions": lambda c: [c**2, 1.0, c**2],
    },
    praise="so λ_max follows c² once the head's block dominates, and cannot be pushed to 0.",
)

# %% [markdown]
# Your answer:


# %% slideshow={"slide_type": "skip"}
def factors(c):
    return ...


blocks.check(factors)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def factors(c):
#     return [c**-2, 1.0, c**2]
#
#
# blocks.check(factors)
# ```
#
# Put `v = c u`, `x = w/c`: `L(v, x)` at the attacked weights equals `L(v/c, c x)` of the old ones. Each derivative by `v` brings `1/c`, each by `x` brings `c`: `c⁻²`, `c⁻¹·c = 1`, `c²`.
#
# </details>

# %% [markdown]
# ### Exercise 2 · What is "3 of 4" worth? (★★, 8 minutes)
#
# Suppose a regulariser does nothing at all, and each of four architectures shows "sharper" or "flatter" by the toss of a coin. How likely is it that at least three of the four agree, on whichever side?

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
coins = fl.exercises.Exercise(
    "11.coins",
    answer=10 / 16,
    rtol=2e-3,
    mistakes={
        "that is for one side chosen beforehand; here three heads count, and three tails": 5 / 16,
        "that is exactly three of four: all four agreeing counts too": 8 / 16,
        "that is all four only": 2 / 16,
        "a number between 0 and 1, not per cent": 62.5,
        "that is exactly three heads; count all four heads, and the same with tails": 4 / 16,
        "that is four heads: one outcome of sixteen": 1 / 16,
        "the chance that they do not: two against two": 6 / 16,
    },
    praise="so the coins alone would do it more often than not. What protects us is rule 2: a sign counts only beyond the noise.",
)

# %% [markdown]
# Your answer, a number between 0 and 1:

# %% slideshow={"slide_type": "skip"}
answer = ...
coins.check(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# coins.check(2 * (4 + 1) / 2**4)
# ```
#
# Of 16 outcomes, 4 have exactly three heads and 1 has four; the same for tails. 10 of 16, or 62.5 %. A count of signs without intervals would be nearly worthless. With rule 2 an effect of zero passes for "sharper" or "flatter" in little more than 1 % of the cases, so three of four settled on one side by chance is very rare.
#
# </details>

# %% [markdown]
# ### Exercise 3 · Which comparison would you print? (★, 5 minutes)
#
# | | |
# |---|---|
# | A | "The minima of vision transformers are sharper than those of VGGs: λ_max is ten times as large." |
# | B | "In the ViT, SAM ends flatter than its early-stopped twin (4 seeds, paired)." |
# | C | "SAM flattens in all four architectures", with the early-stopped twins and their train losses beside it |
# | D | "SAM flattens the VGG more than the GPT: its factor in λ_max is smaller." |
# | E | "Weight decay of 0.005 ends sharper in the GPT (raw)", with both train losses beside it, and the sentence "beside its early-stopped twin the effect is open" |
#
# Which may stand? (Not all of these numbers are from this notebook: judge the kind of sentence.) Answer with a set of letters, such as `{"A", "D"}`.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
print_it = fl.exercises.Exercise(
    "11.print",
    answer={"B", "C", "E"},
    mistakes={
        "A compares raw numbers of two architectures: one rescaling, and it says the opposite": {"A", "B", "C", "E"},
        "D compares the sizes of two effects across architectures: the same ρ is not the same strength in both": {"B", "C", "D", "E"},
        "E may stand too: a raw effect is a fact, if the train losses stand beside it": {"B", "C"},
        "B may stand: one architecture, paired, at a named twin": {"C", "E"},
        "C may stand: four signs, each found within its own architecture": {"B", "E"},
        "only what stays within an architecture, or counts such signs, may stand": {"A", "D"},
    },
    praise="signs within an architecture can be counted; sizes across architectures cannot be ranked.",
)

# %% [markdown]
# Your answer:

# %% slideshow={"slide_type": "skip"}
ticks = ...
print_it.check(ticks)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# ticks = {"B", "C", "E"}
# print_it.check(ticks)
# ```
#
# A breaks rule 7. D is subtler: the effects are ratios within each architecture, but ρ = 0.05 is a length in the space of weights, long for a network with short weights and short for another. Signs can be counted; sizes cannot be ranked.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# Much of what architectures disagree about, raw, is the fit. Beside early-stopped twins of its own train loss SAM ends flatter by `λ_max` in three of four kinds of network, and the fourth leans the same way; by κ, only in the perceptron.
#
# **You may now say** "within this architecture, beside its early-stopped twin, SAM ended flatter by `λ_max`".
#
# **You may no longer say** "transformers have sharper minima than convolutional networks". Of which scale of the layers?

# %%
fl.claims.take_away()

# %% [markdown]
# **The steelman.** *"SAM looks for flat minima, and by the measure it was made for it found them in a perceptron, a VGG, a GPT and, if you had more seeds, perhaps in a vision transformer: that is not a habit of one architecture. In large vision transformers it also brings the better test error that your toys are too small to show"* (Foret et al. 2021; Chen et al. 2022). The boxes agree with the first sentence as far as they go; nothing here tests the second.
#
# ### What this does not show
#
# - **Toy networks, toy data.** 200 samples, one layer of attention, 8 × 8 pixels, generated names. Four seeds give wide intervals: "open" often means "too few seeds".
# - **Confounded things.** The GPT differs from the others in its data as well, the VGG in the length of its training (12 epochs against 40). That their signs agree is the stronger for it; had they not, we could not have said why.
# - **No augmentation.** It is the regulariser that 08 found sharper *and* better, and for names there is no obvious one.
# - **Equal train loss is read off** between baselines of four lengths, on a straight line in logarithms.
# - **The `paper` branch has not been run** (480 training runs, for GPUs): an earlier form of its cells was tried on a CPU, in small.
#
# ### References
#
# - Mason-Williams, Mason-Williams and Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451 (architectures, ρ, λ).
# - Simonyan and Zisserman 2015 (VGG); Dosovitskiy et al. 2021 (ViT); Radford et al. 2019 (GPT-2); Vaswani et al. 2017 (attention).
# - Chen, Hsieh and Gong 2022, arXiv:2106.01548: SAM for vision transformers. Foret et al. 2021, arXiv:2010.01412.
# - Dinh et al. 2017: rescalings that change the sharpness and not the function. Petzka et al. 2021, arXiv:2001.00939: relative flatness.

# %% [markdown]
# All numbers without a box, and your predictions beside what came out:

# %%
fl.claims.numbers()

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()
