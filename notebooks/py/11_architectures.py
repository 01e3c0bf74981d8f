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

# %% [markdown]
# > **You will be able to**
# > - write an attention head in three lines and differentiate it twice, and say why the fast kernels refuse;
# > - compare *effects within* an architecture, paired by seed, raw and at equal train loss;
# > - turn the order of four architectures by raw `λ_max` upside down without changing a single output;
# > - say how much "k of 4 agree" is worth.
# >
# > **Needs** [08](08_six_controls.ipynb) (the rules of the game, twins) and [04](04_measuring_sharpness.ipynb) (the measures)
# > · **Time** 45 minutes to read, about 80 seconds of processor time to run
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
# 1. *Unit*: the seed. Four seeds for each architecture; a seed's initial weights are shared by all its regularisers.
# 2. *Effect*: `log₁₀(λ_max / λ_max of the baseline)`, same architecture, same seed. It is *sharper* or *flatter* if the 95 % interval of its mean lies on one side of 0, and *open* otherwise.
# 3. *Agree*: `k` is the number of architectures on the side that has more of them. The sign "does not depend on the architecture" if `k` is at least 3 of 4. An effect that is open, or that lacks a twin, may turn out either way; so `k` has a range: at least the settled ones on the larger side, at most those and all undecided ones. One flatter and three open: `k` is 1 to 4, and nothing is decided.
# 4. *Which regularisers*: SAM with ρ = 0.05 and weight decay with λ = 5 · 10⁻⁴, the paper's values. Other strengths are shown, and what we say of them was written after seeing them.
# 5. *Twice*: raw, and at equal train loss.
# 6. *Fair measurement*, as in 08: clean training data, hard labels, no penalty, eval mode, and the train loss always beside it.
# 7. **Never**: the `λ_max` of one architecture beside that of another. *Break it* shows why.
#
# Sizes, epochs and the learning rate were chosen on baselines, by train loss, test error and running time. A first, longer run was cut down because it took too long; of its regularised networks we had seen train losses and test errors, and no sharpness. All rules but one were written before any result. The range in rule 3 came after a first look: it turns a "no" into an "inconclusive" where effects are open. Where a later claim was written after seeing the numbers, it says so.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Images and names
#
# The perceptron, the VGG and the vision transformer (**ViT**) see 200 digits of 8 × 8 pixels. The GPT reads **names**: 15 classes, each with its own favourite letters and pairs of letters. They are *generated*, by fifteen random rules, and belong to no language. A name is a row of numbers, one per letter, filled up with 0.


# %%
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
# Three names of each of the first four classes. Could you tell them apart?

# %%
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
# The recipe is one for all: SGD, momentum 0.9, a cosine to 0. The VGG needs fewer epochs than the others. (The paper keeps the learning rate constant on CIFAR-10. We keep the cosine at both scales, so that a baseline of any length has a complete schedule of its own.)

# %%
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

# %% [markdown] slideshow={"slide_type": "subslide"}
# Curvature needs a second derivative. PyTorch has several kernels for attention and takes the fastest that fits, on a CPU the one called *flash*. Ask it for a second derivative, and then the one called MATH:

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel


def second_derivative(kernel):
    q = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with sdpa_kernel(kernel):
        value = scaled_dot_product_attention(q, q, q).square().sum()
        (slope,) = torch.autograd.grad(value, q, create_graph=True)
        return torch.autograd.grad(slope.sum(), q)[0]


for name, kernel in {"flash": SDPBackend.FLASH_ATTENTION, "MATH": SDPBackend.MATH}.items():
    try:
        print(name, "gives a second derivative of shape", tuple(second_derivative(kernel).shape))
    except (NotImplementedError, RuntimeError) as refusal:
        print(name, "refuses:", refusal)

# %% [markdown]
# The flash kernel works through attention in blocks and never stores the weights `w`; its backward pass is written by hand, and nobody has written the derivative of *that*, so it refuses. MATH is the plain formula above, slower and larger in memory, made of steps that can be differentiated as often as you like, and `fl.NetworkLoss` always takes it.
#
# Is the curvature right, then? In float64, `Hu` must be the change of the gradient along `u`:


# %%
def mismatch_of(architecture, step=1e-6):
    data, net = DATA[architecture], NETS[architecture](0).double()
    f = fl.NetworkLoss(net, data.x[:20], data.y[:20])
    u = torch.randn(f.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    difference = (f.gradient(f.theta + step * u) - f.gradient(f.theta - step * u)) / (2 * step)
    return ((f.hvp(f.theta, u) - difference).norm() / difference.norm()).item()


# %% [markdown]
# The bound, 10⁻⁵, leaves room for the error of the difference itself.

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
worst = max(mismatch_of("ViT"), mismatch_of("GPT"))
fl.claims.declare(
    "11.1", "second derivatives through attention are right: Hu equals the change of the gradient along u",
    worst, "holds", below=1e-5, detail="Largest relative error, ViT and GPT, float64",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### One table for all
#
# `fl.sharpness.table` gives a row per network: `λ_max` by ten steps of the Lanczos iteration of 08, normalised κ (04), the slope, and the train loss. Beside them the errors. The curvature is taken on the first `PROBE` training samples: all of them at laptop scale.

# %%
import pandas as pd

PROBE, COLUMNS = 512, ["train loss", "lambda max", "relative flatness", "gradient norm"]


def measure(f, data):
    errors = {"train error": (f.outputs(), data.y), "test error": (f.outputs(inputs=data.x_test), data.y_test)}
    errors = {name: 100 * (1 - fl.safety.accuracy(*both).cpu()) for name, both in errors.items()}
    return fl.sharpness.table(f, COLUMNS, subset=PROBE, steps=10).assign(**errors)


# %% [markdown] slideshow={"slide_type": "subslide"}
# **Many at a time.** `fl.train` trains all seeds and strengths of an architecture as one batched program; the running means of batch norm, too, are each network's own.

# %%
from math import ceil


def trained(architecture, controls, length=1.0, seeds=SEEDS):
    """The run of all seeds of these controls, on the GPU if there is one."""
    data, members = DATA[architecture].to(fl.device()), [CONTROLS[c] for c in controls for _ in seeds]
    loss = fl.NetworkLoss(
        lambda seed: NETS[architecture](seed).to(fl.device()), data.x, data.y, seeds=[*seeds] * len(controls)
    )
    rho, decay = ([member.get(name, 0.0) for member in members] for name in ("rho", "weight_decay"))
    sam = {"rule": fl.training.sam, "rho": rho} if any(rho) else {}
    steps = round(length * EPOCHS[architecture]) * ceil(len(data.x) / recipe["batch"])
    run = fl.train(loss, steps, schedule="cosine", weight_decay=decay, **sam, **recipe)
    assert not run.diverged.any()
    return run


# %% [markdown]
# A baseline also gives rows for its **temperature twins**: the same weights with the head divided by `T`, which changes its confidence, so its train loss, and no decision.

# %%
from flatlab import compare


def measured(architecture, controls, length=1.0, seeds=SEEDS):
    """Train and measure: a row per network, and per temperature twin of a baseline."""
    f, data = trained(architecture, controls, length, seeds).loss(), DATA[architecture].to(fl.device())
    labels = {"control": np.repeat(controls, len(seeds)), "seed": [*seeds] * len(controls)}
    labels |= {"architecture": architecture, "length": length}
    twins = {T: compare.tempered(f, T) for T in TEMPERATURES} if controls == ["base"] and length == 1 else {}
    return pd.concat([measure(g, data).assign(T=T, **labels) for T, g in ({1.0: f} | twins).items()])


# %% [markdown]
# **One network at a time.** At `paper` scale the networks are too large to be trained together. There `single` is one run of a *study*: it returns rows, and the study keeps one record per run, so that a night on a GPU survives whatever happens and goes on where it was. The same networks? One epoch of the GPT and of the VGG, both ways, two seeds.


# %%
def single(architecture, control, length, seed):
    return measured(architecture, [control], length, [seed]).drop(columns=["architecture", "control", "length", "seed"]).to_dict("records")


for a in ("GPT", "VGG"):
    short_plan = 1 / EPOCHS[a]
    alone = [single(a, "SAM 0.05", short_plan, seed)[0]["train loss"] for seed in (0, 1)]
    together = measured(a, ["SAM 0.05"], short_plan)["train loss"].tolist()[:2]
    print(f"{a}, one at a time:", np.round(alone, 5), "  in one batch:", np.round(together, 5))
    assert np.allclose(alone, together, rtol=1e-3)

# %% [markdown]
# Now everything. The *ladder* of baselines has four lengths, three shorter or longer than the baseline, each trained to the end of a schedule of its own. As in 08 we call them **early-stopped twins**: stopped early by a shorter plan, not by cutting off a longer one.

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
# From here on, one thing is compared: a regularised network with what its *own* architecture does without the regulariser, at the same seed: raw with its baseline, or with a twin that has the *same train loss*. No twin has exactly that loss; so we join the seed's ladder by straight lines (logarithm of the loss, logarithm of `λ_max`) and read off the value at the loss in question. Where the ladder does not reach that loss, there is no twin.


# %%
ends, base = table[(table["T"] == 1) & (table["length"] == 1)], table[table["control"] == "base"]
ladders = {"base": None, "early-stopped twin": base[base["T"] == 1], "temperature twin": base[base["length"] == 1]}


def effects_against(ladder):
    """log₁₀ of the factor per architecture, control and seed; NaN where no twin reaches the train loss."""
    found = {}
    for a, rows in ends.groupby("architecture"):
        twins = None
        if ladder is not None:
            rows = rows[rows["control"] != "base"]
            twins = compare.at_equal(rows, ladder, ["lambda max"], ["architecture", "seed"])
        found[a] = compare.differences(rows, ["lambda max"], twins, ["lambda max"])["lambda max"]
    return pd.concat(found, names=["architecture"])


effects = {against: effects_against(ladder) for against, ladder in ladders.items()}
RAW, EARLY, TEMPERED = effects

# %% [markdown]
# And rules 2 and 3:


# %%
from flatlab.compare import interval


def side(architecture, control, against):
    centre, half = interval(effects[against][architecture, control])
    if np.isnan(centre):
        return "no twin"
    return "sharper" if centre > half else "flatter" if centre < -half else "open"


def agreement(control, against):
    """k from the settled ones alone, k with all open ones, and who is where."""
    sides = {a: side(a, control, against) for a in NETS}
    settled = max([*sides.values()].count(s) for s in ("sharper", "flatter"))
    undecided = sum(s in ("open", "no twin") for s in sides.values())
    return settled, settled + undecided, ", ".join(f"{a} {s}" for a, s in sides.items())


# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play
#
# Choose an architecture and a radius of SAM. On the left, four blue dots: its SAM networks, one per seed, by train loss and sharpness. All sharpnesses on the left are divided by that of the seed's *own* baseline (grey ring). On the right, the effect in all four architectures. Then tick **early-stopped twins**: grey lines join baselines of four lengths, so they show what *no* regulariser does at each train loss, and a thin orange line leads from each blue dot to the ladder of its own seed; on the right orange diamonds appear, the mean length of these lines: the effect at equal train loss.


# %%
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
            drop.set_data([x, x], [y, y / 10 ** effects[EARLY][architecture, setting(rho), seed]])
    for artist, control in ((rings, "base"), (dots, setting(rho))):
        artist.set_data(*np.concatenate([relative(architecture, control, seed) for seed in SEEDS], axis=1))
    said = []
    for (shift, points, lines), against in zip(marks, effects):
        shown = rho > 0 and (against == "base" or early_stopped_twins)
        found = [interval(effects[against][a, setting(rho)]) if shown else (np.nan, np.nan) for a in NETS]
        points.set_data([10**centre for centre, _ in found], np.arange(4) + shift)
        for row, (line, (centre, half)) in enumerate(zip(lines, found)):
            line.set_data([10 ** (centre - half), 10 ** (centre + half)], [row + shift] * 2)
        if shown:
            said.append(f"{points.get_label()}: {agreement(setting(rho), against)[2]}")
    return "; ".join(said) + "." if said else "ρ = 0 is the baseline."


# %% [markdown] slideshow={"slide_type": "slide"}
# Turn up ρ for each architecture, then tick the twins. Where do the blue dots go: along the grey lines, above them, or below?

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
fl.panels.Panel(
    build,
    "left: SAM networks by train loss and sharpness beside baselines; right: effects in four architectures",
    size=(10, 4.6),
    labels={"rho": "radius ρ", "early_stopped_twins": "early-stopped twins"},
    architecture=([*NETS], "ViT"),
    rho=([0.0, *RHOS], 0.05),
    early_stopped_twins=False,
).show()

# %% [markdown]
# **What you see.** Raw, the architectures do not move together. In the perceptron SAM barely changes the train loss, and its dots go straight down. In the ViT the train loss *rises*: the dots go to the right, and three of the four go up. Now tick the twins. The baselines' own ladders climb to the right as well, steeply in all but the perceptron: near interpolation, whoever fits less far looks sharper. At ρ = 0.05 every orange line leads *upwards*, from the blue dot to the ladder of its own seed: in all four architectures each SAM network is flatter than its twin.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### All effects at once
#
# One row per regulariser, one mark per architecture: mean of four seeds and its 95 % interval, and a small dot for each seed. Left against the baseline, right against the early-stopped twin. A mark is missing where no baseline of the ladder reaches the train loss.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharex=True, sharey=True)
titles = {"base": "raw: against the baseline", "early-stopped twin": "at equal train loss"}
for ax, (against, title) in zip(axes, titles.items()):
    fl.plots.forest(effects[against].unstack("architecture")[[*NETS]].loc[[*CONTROLS][1:]], ax)
    ax.set(xlabel="flatter ←   factor in λ_max   → sharper", title=title, xlim=(0.12, 14))
axes[0].legend(loc="upper right", fontsize=11)
fl.plots.show(fig, "factors in top eigenvalue for five regularisers in four architectures, raw and at equal train loss")

# %% [markdown]
# **What you see.** Left, the marks of one row may lie on both sides of 1: at ρ = 0.25 the perceptron is flatter and the GPT many times sharper. Weight decay of 0.005 is on the right in all four. On the right side of the figure the rows draw together: from ρ = 0.05 on SAM's marks lie to the left of 1 (the ViT's interval at 0.05 ends just before it), and weight decay's come towards 1. (At ρ = 0.25 two of the GPT's four seeds have no twin, so its mark, the loudest on the left, is missing.) How much closer? The spread of the four mean effects, in powers of ten:

# %% slideshow={"slide_type": "skip"}
for control in ("SAM 0.05", "wd 0.005"):
    spreads = [effects[against].unstack("architecture").loc[control].mean(skipna=False).std() for against in effects]
    print(f"{control:9s}", *(f"{name} {spread:.3f}   " for name, spread in zip(["raw", EARLY, TEMPERED], spreads)))

# %% [markdown]
# With the early-stopped twin half of the disagreement is gone, with the temperature twin a third: so much of it was about the train loss.

# %% [markdown] slideshow={"slide_type": "subslide"}
# The same in numbers, with the train losses, and with the **temperature twin** as the second way to hold the train loss fixed. The three columns from `λ_max` on are factors; the last two are the test error in per cent and its change against the baseline, mean and 95 % interval. (The GPT fits its names and generalises badly: two of three new names go wrong. Its curvature is that of a network that has learned its training names.)


# %%
def paired(architecture, control, column):
    return ends.query("architecture == @architecture and control == @control").sort_values("seed")[column].to_numpy()


def mean_of(architecture, control, column):
    return paired(architecture, control, column).mean()


def line(control, a):
    factors = [f"× {10 ** effects[against][a, control].mean():.2f}" for against in effects]
    losses = [f"{mean_of(a, c, 'train loss'):.4f}" for c in (control, "base")]
    now, before = (paired(a, c, "test error") for c in (control, "base"))
    centre, half = interval(now - before)
    return [*losses, *factors, f"{now.mean():.1f}", f"{centre:+.1f} ± {half:.1f}"]


names_of = ["train loss", "of base", "λ_max: raw", "early-stopped twin", "temperature twin", "test error", "change"]
shown = [(control, a) for control in ("SAM 0.05", "wd 0.0005", "wd 0.005") for a in NETS]
index = pd.MultiIndex.from_tuples(shown, names=["", ""])
pd.DataFrame([line(*pair) for pair in shown], index=index, columns=names_of)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### SAM: does the sign agree?
#
# Two claims of this part bear on the paper's **C3**, "regularised networks often end sharper". One is raw, one at equal train loss: two questions, and they need not get the same answer. Raw first. The number is `k`, to be at least 3; the bracket is its range by rule 3, not a confidence interval.


# %% jupyter={"source_hidden": true}
def k_of_4(id, sentence, control, against, verdict, **more):
    low, high, who = agreement(control, against)
    losses = ", ".join(f"{a} {mean_of(a, 'base', 'train loss'):.2g} → {mean_of(a, control, 'train loss'):.2g}" for a in NETS)
    detail = f"{len(SEEDS)} seeds each: {who}. Train loss, base → regularised: {losses}"
    return fl.claims.declare(id, sentence, low, verdict, above=2.5, interval=(low, high), detail=detail, **more)


flatter = sum(side(a, "SAM 0.05", "base") == "flatter" for a in NETS)
print(how_many.settle(["none", "one", "two", "three", "all four"][flatter]))
k_of_4(
    "11.2", "raw, the effect of SAM (ρ = 0.05) on λ_max has the same sign in at least 3 of 4 architectures",
    "SAM 0.05", "base", "inconclusive",
)

# %% [markdown]
# Then at equal train loss:

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "fragment"} tags=["result"]
print("result")
low, high, who = agreement("SAM 0.05", "temperature twin")
k_of_4(
    "11.3", "at equal train loss (early-stopped twin) the sign of SAM's effect agrees in at least 3 of 4 architectures",
    "SAM 0.05", "early-stopped twin", "holds with a caveat", about={"C3": "against"},
    caveat=f"against the temperature twin k is {low} to {high} ({who})",
)

# %% [markdown]
# The sign is *flatter*: at a given train loss SAM does in each kind of network what it was built for, by a factor between 0.6 and 0.9. (State the twin, said 08: beside its *temperature* twin the ViT is not moved.) Whether that shows in the raw number depends on what SAM does to the *fit*, and that does depend on the architecture:

# %% slideshow={"slide_type": "skip"}
for a in NETS:
    centre, half = interval(np.log10(paired(a, "SAM 0.05", "train loss") / paired(a, "base", "train loss")))
    low, mid, high = 10 ** np.array([centre - half, centre, centre + half])
    print(f"{a}: train loss × {mid:.2f} [{low:.2f}, {high:.2f}]")

# %% [markdown]
# The ViT pays for ρ = 0.05 with about four times the train loss. The perceptron fits a little *better* than without SAM; the VGG and the GPT end about a third higher, which four seeds do not tell from nothing. Nor does any change of the test error stand out from the noise of four seeds (the ± in the table).

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Weight decay
#
# At the paper's λ = 5 · 10⁻⁴ these short runs hardly feel it (and with four seeds it is a matter of luck which effects of a few per cent are settled and which are open; so, against rule 4, we make no claim on `k`). How small is it? (The bound was set after the first run.)

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
largest = max(abs(effects[RAW][a, "wd 0.0005"].mean()) for a in NETS)
fl.claims.declare(
    "11.4", "weight decay of 5e-4 changes λ_max by less than 25 % (mean of the seeds) in every architecture",
    10**largest, "holds", below=1.25, detail="Largest mean factor of the four, raw",
)

# %% [markdown]
# Ten times as much is felt. (This claim and the next were written after seeing the figure: they describe and do not test.)

# %% slideshow={"slide_type": "fragment"}
left_over = "; ".join(f"{g}: {agreement('wd 0.005', g)[2]}" for g in (EARLY, TEMPERED))
k_of_4(
    "11.5", "raw, weight decay of 5e-3 ends sharper in at least 3 of 4 architectures", "wd 0.005", "base",
    "holds with a caveat", about={"C3": "supports"},
    caveat=f"all of them end at a higher train loss. {left_over}",
)

# %% [markdown]
# How much of that is left at equal train loss? For each architecture, the mean effect against the twin as a share of the mean raw effect, in powers of ten:

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
def shares(against):
    """Per architecture: what of weight decay's raw effect is left beside a twin."""
    return {a: effects[against][a, "wd 0.005"].mean(skipna=False) / effects[RAW][a, "wd 0.005"].mean() for a in NETS}


said = {g: ", ".join(f"{a} {share:.2f}" for a, share in shares(g).items()) for g in (EARLY, TEMPERED)}
fl.claims.declare(
    "11.6", "in at least 3 of 4 architectures more than half of weight decay's added sharpness (λ = 5e-3) goes with "
    "the train loss (early-stopped twin)",
    sum(share < 0.5 for share in shares(EARLY).values()), "holds with a caveat", above=2.5,
    detail=f"Shares that are left: {said[EARLY]}",
    caveat=f"the temperature twin leaves more: {said[TEMPERED]}; these are means of four seeds, without intervals",
)

# %% [markdown]
# The exception is the ViT, which keeps more than half of it beside either twin.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Which architecture is the sharpest?
#
# Now do what rule 7 forbids. One baseline of each architecture, all (nearly) at zero training error, their raw `λ_max` side by side, and κ for good measure. Then an attack: multiply the layer in front of the head, the last one with weights, by `c`, and divide the head's weights by `c`. What lies between the two (ReLUs, a maximum, an average, or nothing) passes a factor `c > 0` on, so every output stays as it was.


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

# %%
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
# **What you see.** The grey dots rise from left to right, the orange ones fall. Both are the same four functions. That the order *can* be turned was built in, `c` was chosen for it; what is tested next is that no output moves. (The `c` are powers of 2, which a computer multiplies and divides by without rounding.)

# %% slideshow={"slide_type": "fragment"} jupyter={"source_hidden": true}
def change(name):
    ours, theirs = (probe_of(name, c).outputs() for c in (1, chosen[name]))
    return ((ours - theirs).abs().max() / ours.abs().max()).item()


turned = min(raw_top[a][chosen[a]] / raw_top[b][chosen[b]] for a, b in zip(order, order[1:]))
moved, same = max(map(change, attacked)), max(abs(b / a - 1) for a, b in kappa.values())
print(sharpest.settle("any of them, as I like"))
fl.claims.declare(
    "11.7", "rescaling turns the order of the architectures by raw λ_max upside down; all outputs stay",
    turned, "holds", above=1,
    detail=f"Smallest factor between neighbours in the new order; outputs change by {moved:.0e} of their largest; "
    f"normalised κ changes by at most {same:.0e} with c = 8",
)

# %% [markdown]
# Three reasons, then, why `λ_max` of one architecture says nothing beside that of another. Its *coordinates*: the scale of a layer is free, and each architecture sets it in its own way, by its initial weights, its norms, its learning rate. Its *weights*: other numbers of them, in other places. And its *train loss*. (Normalised κ hardly notices this attack: what little moves, in the perceptron alone, comes from features that are always 0. Its order of the four, printed above, is another one, and no better: it lives on the features in front of the head, and those of a ViT are not those of a VGG.)
#
# Within an architecture the same attack could be made on the regularised network alone. Nobody has: both networks of a pair started from the same weights and went through the same optimiser. That is an argument from how they were made; the number alone does not carry it.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1 · Count a layer (★★, 8 minutes)
#
# One layer of our ViT reads tokens of length `d`. It has `h` heads of length `e`: one linear map without bias makes all queries, keys and values, one *with* bias leads from the `h·e` answers back to `d`. Then an MLP, `d → m → d`, with biases. In front of each of the two parts a layer norm with a weight and a bias per coordinate. Write `weights(d, h, e, m)`.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
def _layer(d, h, e, m, qkv=3, bias=0, out_bias=1, norms=2, mlp_bias=1):
    attention_part = qkv * h * e * (d + bias) + (h * e + out_bias) * d
    return attention_part + d * m + m * d + mlp_bias * (m + d) + norms * 2 * d


count_layer = fl.exercises.Exercise(
    "11.layer",
    answer=_layer,
    inputs=[(16, 2, 8, 32), (512, 6, 64, 256), (10, 3, 4, 7)],
    mistakes={
        "queries, keys and values: that is three maps, you counted one": lambda d, h, e, m: _layer(d, h, e, m, qkv=1),
        "queries, keys and values have no bias here": lambda d, h, e, m: _layer(d, h, e, m, bias=1),
        "the map back to d has a bias": lambda d, h, e, m: _layer(d, h, e, m, out_bias=0),
        "the layer norms are missing: 2 d weights each": lambda d, h, e, m: _layer(d, h, e, m, norms=0),
        "the MLP's biases are missing: m and d": lambda d, h, e, m: _layer(d, h, e, m, mlp_bias=0),
        "each of the h heads has its own queries, keys and values: h·e numbers, not e": lambda d, h, e, m: _layer(d, h, e, m) - 3 * d * (h - 1) * e,
        "the MLP is two maps, d to m and m back to d": lambda d, h, e, m: _layer(d, h, e, m) - (m + 1) * d,
        "2 d too few: two layer norms, each with a weight *and* a bias per coordinate": lambda d, h, e, m: _layer(d, h, e, m, norms=1),
        "right only if h·e = d: the heads are h·e wide, whatever d is": lambda d, h, e, m: _layer(d, 1, d, m),
    },
    praise="for the paper's sizes that is 1,051,904 in each of six layers; and λ_max never divides by it.",
)

# %% [markdown]
# Your answer:


# %% slideshow={"slide_type": "skip"}
def weights(d, h, e, m):
    return ...


count_layer.check(weights)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def weights(d, h, e, m):
#     attention = 3 * d * h * e + (h * e + 1) * d
#     mlp = (d + 1) * m + (m + 1) * d
#     return attention + mlp + 2 * 2 * d
#
#
# count_layer.check(weights)
# ```
#
# With `d = 16`, `h = 2`, `e = 8`, `m = 32` it is 2,176: most of the toy ViT's weights.
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
# Of 16 outcomes, 4 have exactly three heads and 1 has four; the same for tails. 10 of 16, or 62.5 %. A count of signs without intervals would be nearly worthless. With rule 2 an effect of zero passes for "sharper" in 2.5 % of the cases and for "flatter" in 2.5 %, so three of four settled on one side by chance is rare (below 1 in 5,000 if the four are independent; they share digits, so they are not quite).
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
# With four toy networks of four kinds:
#
# | | raw | beside the early-stopped twin |
# |---|---|---|
# | SAM, ρ = 0.05 | MLP flatter, the others open; the ViT's train loss rises fourfold | flatter in all four (beside the temperature twin in three, the ViT open) |
# | weight decay, 5 · 10⁻⁴ | 2 to 11 % | – |
# | weight decay, 5 · 10⁻³ | sharper in all four | less than half of it is left in three; in the ViT more |
#
# **You may now say** "much of what the architectures disagreed about was the fit; beside their early-stopped twins SAM made all four kinds of network flatter (beside their temperature twins three, and none sharper)".
#
# **You may no longer say** "transformers have sharper minima than convolutional networks". Of which scale of the layers?

# %% [markdown]
# ### What this does not show
#
# - **Toy networks, toy data.** 200 samples, one layer of attention, 8 × 8 pixels, generated names. Four seeds give wide intervals: "open" often means "too few seeds".
# - **Confounded things.** The GPT differs from the others in its data as well, the VGG in the length of its training (12 epochs against 40). That their signs agree is the stronger for it; had they not, we could not have said why.
# - **No augmentation.** It is the regulariser that 08 found sharper *and* better, and for names there is no obvious one.
# - **Equal train loss is read off** between baselines of four lengths, on a straight line in logarithms.
# - **The `paper` branch has not been run.** At `paper` scale the same cells build ResNet-18, VGG-19, ViT and GPT-2 and keep their records in the folder `architectures_paper` (CIFAR-10 as for 09). That is 480 training runs, for GPUs. Where this notebook was made there was none: an earlier form of the cells up to the table was tried on a CPU, with networks of full size (the ViT with one layer), one epoch and 48 samples each, which shows that they run and nothing else. No result at that scale is claimed, and the verdicts above are those of laptop scale: a claim that comes out otherwise stops its cell and says so.
#
# ### References
#
# - Mason-Williams, Mason-Williams and Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451 (architectures, ρ, λ).
# - Simonyan and Zisserman 2015 (VGG); Dosovitskiy et al. 2021 (ViT); Radford et al. 2019 (GPT-2); Vaswani et al. 2017 (attention).
# - Dinh et al. 2017: rescalings that change the sharpness and not the function. Petzka et al. 2021, arXiv:2001.00939: relative flatness.

# %% [markdown]
# Your predictions beside what came out:

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()
