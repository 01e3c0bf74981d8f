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
# **Is it the architecture?** So far a regulariser moved the sharpness of perceptrons and of residual networks. Does it move a VGG, a vision transformer and a small GPT in the same direction, or does each kind of network answer in its own way?

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/11_architectures.ipynb` (other ways: `README.md`).
#
# ← [10 · What do 240 minima say?](10_many_minima.ipynb) · [12 · Photographs](12_photographs.ipynb) →

# %% [markdown]
# > **You will be able to**
# > - compare *effects within* an architecture, paired by seed, raw and at equal train loss;
# > - read a twin of equal train loss off a ladder of baselines, and test the reading;
# > - ask of a sentence about sharpness by which measure it holds;
# > - say how much "k of 4 agree" is worth.
# >
# > **Needs** [08](08_six_controls.ipynb) (the rules of the game, twins) and [04](04_measuring_sharpness.ipynb) (the measures)
# > · **Time** 22 minutes to read, about 85 seconds of processor time to run
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
# 1. *Unit*: the seed. Ten for each architecture, shared by all its regularisers.
# 2. *Effect*: `log₁₀` of the ratio to the baseline, same architecture, same seed. Verdicts by Student's intervals over the seeds, at level 98.75 %, since four architectures answer one question. Two measures: `λ_max`, and [relative flatness](00_start_here.ipynb#relative-flatness) κ of the last layer, features normalised (04). Large κ is *sharp*; rescaling layers hardly moves it.
# 3. *Agree*: at least 3 of 4 on one side. An open effect may turn out either way, so the count has a range.
# 4. *Twice*: raw, and at equal train loss. SAM with ρ = 0.05 and weight decay with λ = 5 · 10⁻⁴ are the paper's; other strengths are shown.
# 5. *Fair measurement*, as in 08: clean training data, hard labels, no penalty, eval mode, the train loss always beside it.
# 6. *Within*: every effect compares networks of one architecture. Numbers of two architectures meet only in *Break it*.
#
# Sizes, epochs and the learning rate were chosen on baselines. At first there were four seeds, four baselines in a ladder, no κ and no correction for four; all that came after a look at those four seeds. So the boxes keep a caveat, and the six new seeds are also tested alone.

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

# %% jupyter={"source_hidden": true}
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
    SEEDS, RHOS, recipe = range(10), [0.05, 0.25], {"batch": 25, "lr": 0.05, "momentum": 0.9}
    EPOCHS = {"MLP": 40, "VGG": 12, "ViT": 40, "GPT": 40}
else:
    SEEDS, RHOS, recipe = range(10), [0.0025, 0.005, 0.025, 0.05, 0.25, 0.5], {"batch": 128, "lr": 0.01, "momentum": 0.9}
    EPOCHS = {"ResNet": 100, "VGG": 100, "ViT": 100, "GPT": 200}
LENGTHS = [0.25, 0.35, 0.5, 0.7, 1.0, 1.25]  # of the baseline's schedule; 1 is the baseline
TEMPERATURES = [0.7, 1.4, 2.4, 4.0]
SAM = {f"SAM {rho:g}": {"rho": rho} for rho in RHOS}
CONTROLS = {"base": {}, "wd 0.0005": {"weight_decay": 5e-4}, "wd 0.005": {"weight_decay": 5e-3}} | SAM

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict

# %% slideshow={"slide_type": "fragment"}
how_many = fl.predictions.ask(
    "11.flatter",
    "SAM with ρ = 0.05 against the baseline, λ_max on the training data, same seeds. "
    "In how many of the four architectures does SAM end flatter, beyond the noise (its interval lies below × 1)?",
    choices=["none", "one", "two", "three", "all four"],
)

# %% [markdown]
# The same networks, but each beside a baseline that was trained for a shorter or longer time, to the *same train loss*:

# %% slideshow={"slide_type": "fragment"}
by_two = {
    symbol: fl.predictions.ask(
        f"11.equal {name}",
        f"SAM with ρ = 0.05 against baselines of the same train loss, by {symbol}. In how many of the four does its interval lie below × 1?",
        choices=["none", "one", "two", "three", "all four"],
    )
    for symbol, name in (("λ_max", "lambda max"), ("κ", "relative flatness"))
}

# %% [markdown]
# And a question about the four baselines themselves:

# %% slideshow={"slide_type": "fragment"}
sharpest = fl.predictions.ask(
    "11.sharpest",
    "Four baselines, MLP, VGG, ViT and GPT, and their λ_max side by side. You may multiply one layer's weights and divide the next one's, "
    "as long as no output moves. How many of the four can you make sharper than the other three are as trained?",
    choices=["only the sharpest", "two", "three", "each of the four"],
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it
#
# ### A ladder of baselines
#
# Beside the regularised networks we train a *ladder* of baselines: six lengths, from a quarter of the schedule to 1.25 of it, each with a complete schedule of its own. From it come the [early-stopped twins](00_start_here.ipynb#early-stopped-twin). (A [temperature twin](00_start_here.ipynb#temperature-twin) is the baseline with its head divided by `T`.) A row per network: train loss, `λ_max` by ten Lanczos steps, κ, length of the weights, errors; batch norm's statistics are taken anew before anything is measured.
#
# <details><summary>Side road: attention, and why its fast kernels refuse a second derivative</summary>
#
# Each letter (or patch) `t` asks a *query* `q_t`; every letter `s` shows a *key* `k_s` and holds a *value* `v_s`, vectors of length `d`. The answer is a mean of the values, weighted by how well key and query match:
#
# $$a_t = \sum_s m_{ts}\,v_s, \qquad m_t = \mathrm{softmax}_s\!\left(\frac{\langle q_t, k_s\rangle}{\sqrt d}\right).$$
#
# A *mask* sets the matches that are not allowed to −∞, so that their weight is 0: in a GPT no letter looks ahead, and none looks at padding.
#
# PyTorch takes the fastest kernel that fits, on a CPU the one called *flash*. It never stores the weights `m`; its backward pass is written by hand, and nobody has written the derivative of *that*, so it refuses. The kernel called MATH is the plain formula, slower and larger in memory, which can be differentiated as often as you like; `fl.NetworkLoss` always takes it. That the curvature is right is checked below (11.1): `Hu` must be the change of the gradient along `u`.
#
# </details>

# %% jupyter={"source_hidden": true}
from math import ceil

import pandas as pd
from flatlab import compare

PROBE, MEASURES = 512, ["lambda max", "relative flatness"]
COLUMNS = ["train loss", *MEASURES, "weight norm"]


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
    plans = [(["base"], length) for length in LENGTHS] + [([name], 1.0) for name in CONTROLS if name != "base"]
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
# ### A twin between two rungs
#
# From here on, one thing is compared: a regularised network with what its *own* architecture does without the regulariser, at the same seed: raw, or at the *same train loss*. In 08 a twin had to lie within 10 % of that loss. Here rungs are farther apart, so the twin is read off between the two nearest, along a straight line in the logarithms of train loss and sharpness:


# %%
def read_off(loss, losses, sharpness):
    """The sharpness of a ladder with these (rising) train losses at `loss`; NaN beyond its ends."""
    x, y = np.log(losses), np.log(sharpness)
    return np.exp(np.interp(np.log(loss), x, y, left=np.nan, right=np.nan))


# %% jupyter={"source_hidden": true}
ends, base = table[(table["T"] == 1) & (table["length"] == 1)], table[table["control"] == "base"]
ladders = {"base": None, "early-stopped twin": base[base["T"] == 1], "temperature twin": base[base["length"] == 1]}
RAW, EARLY, TEMPERED = ladders
one = ends.query("architecture == 'VGG' and control == 'SAM 0.05' and seed == 0")
rungs = ladders[EARLY].query("architecture == 'VGG' and seed == 0").sort_values("train loss")
ours = read_off(one["train loss"].item(), rungs["train loss"], rungs["lambda max"])
theirs = compare.at_equal(one, rungs, MEASURES, ["architecture", "seed"])["lambda max"].item()
assert abs(ours / theirs - 1) < 1e-9
print("as fl.compare.at_equal reads it")

# %% [markdown]
# A straight line is a guess, so test it: take one rung out, read it off between its neighbours, and divide by what it really was (geometric mean over the seeds).

# %% jupyter={"source_hidden": true}
def left_out(architecture, length, measure):
    rows = ladders[EARLY].query("architecture == @architecture")
    out, rest = rows[rows["length"] == length], rows[rows["length"] != length]
    read = compare.at_equal(out, rest, MEASURES, ["architecture", "seed"])
    return 10 ** np.log10(read[measure] / out[measure]).mean()


pd.DataFrame({(symbol, a): {f"rung {length:g} of the schedule": f"× {left_out(a, length, m):.2f}" for length in LENGTHS[1:-1]}
              for m, symbol in zip(MEASURES, ("λ_max", "κ")) for a in NETS})

# %% [markdown]
# Most are below 1: the lines lie too low. So a regularised network looks a little too *sharp* beside its twin, which works against "flatter" and in favour of "sharper". With all rungs in, gaps are half as wide, and the error of a straight line falls about as the square of the gap.

# %% jupyter={"source_hidden": true}
from flatlab.compare import interval


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


# %% jupyter={"source_hidden": true}
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
# Choose an architecture and a radius ρ of SAM. On the left, ten blue dots: its SAM networks, one per seed, by train loss and sharpness, relative to the seed's *own* baseline (grey ring). Grey lines are the ladders: what *no* regulariser does at each train loss. An orange line leads from each blue dot to the ladder of its own seed. On the right, the effect in all four architectures: raw (blue), and at equal train loss (orange), the mean length of the orange lines.


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
    ladder_lines = [left.plot([], [], color=fl.plots.GREY, lw=1, ls="-", marker=".")[0] for _ in SEEDS]
    drops = [left.plot([], [], color=fl.plots.ORANGE, lw=2, ls="-")[0] for _ in SEEDS]
    rings = left.plot([], [], "o", mfc="none", mec=fl.plots.GREY, mew=2, ms=10, label="baselines")[0]
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
def move(left, ladder_lines, drops, rings, dots, marks, architecture, rho):
    left.set_title(architecture)
    for seed, line, drop in zip(SEEDS, ladder_lines, drops):
        line.set_data(*relative(architecture, "ladder", seed))
        drop.set_data([], [])
        if rho:
            x, y = relative(architecture, setting(rho), seed)
            drop.set_data([x, x], [y, y / 10 ** effects[EARLY].loc[(architecture, setting(rho), seed), "lambda max"]])
    for artist, control in ((rings, "base"), (dots, setting(rho))):
        artist.set_data(*np.concatenate([relative(architecture, control, seed) for seed in SEEDS], axis=1))
    said = []
    for (shift, points, lines), against in zip(marks, effects):
        found = [interval(of(a, setting(rho), against), 1 - 0.05 / 4) if rho else (np.nan, np.nan) for a in NETS]
        points.set_data([10**centre for centre, _ in found], np.arange(4) + shift)
        for row, (line, (centre, half)) in enumerate(zip(lines, found)):
            line.set_data([10 ** (centre - half), 10 ** (centre + half)], [row + shift] * 2)
        if rho:
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
    labels={"rho": "radius ρ"},
    architecture=([*NETS], "VGG"),
    rho=([0.0, *RHOS], 0.25),
).show()

# %% [markdown]
# **What you see.** The VGG at ρ = 0.25. All blue dots lie to the right of their rings, at a higher train loss, and above: raw, SAM is *sharper*. But the grey ladders climb to the right, too, and every blue dot lies below its own: at equal train loss SAM is *flatter*. **Near interpolation, whoever fits less far looks sharper.** In the perceptron at ρ = 0.05 SAM barely changes the train loss, and its dots go straight down.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### By two measures
#
# One row per regulariser (wd: weight decay, with its λ; SAM with its ρ), one mark per architecture: mean over the seeds and its interval. Left `λ_max` against the baseline, in the middle at equal train loss (early-stopped twins), right the same by κ.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 3, figsize=(10, 4.6), sharex=True, sharey=True)
views = ((RAW, "lambda max", "raw: λ_max"), (EARLY, "lambda max", "at equal train loss: λ_max"), (EARLY, "relative flatness", "at equal train loss: κ"))
for ax, (against, name, title) in zip(axes, views):
    fl.plots.forest(effects[against][name].unstack("architecture")[[*NETS]].loc[[*CONTROLS][1:]], ax, m=4)
    ax.set(xlabel="flatter ←   factor   → sharper", title=title, xlim=(0.12, 14))
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=11)
fl.plots.show(fig, "factors of sharpness for four regularisers in four architectures, raw and at equal train loss, by two measures")
for asked, against, name in ((how_many, RAW, "lambda max"), (by_two["λ_max"], EARLY, "lambda max"), (by_two["κ"], EARLY, "relative flatness")):
    flatter = sum(side(a, "SAM 0.05", against, name) == "flatter" for a in NETS)
    print(asked.settle(["none", "one", "two", "three", "all four"][flatter]))

# %% [markdown]
# **What you see.** Left, the marks of one row lie on both sides of 1: at ρ = 0.25 the perceptron is flatter, the VGG and the GPT are sharper. In the middle all of SAM's marks at 0.05 and 0.25 lie to the left of 1: what the architectures disagreed about was largely the fit. But look at the right: by κ, with ρ = 0.05, only the perceptron is clear of 1.
#
# The numbers (factors with the number of seeds that have a twin; errors in per cent):

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
# Mind the errors: at ρ = 0.25 the GPT gets a quarter of its *training* names wrong, and half of its seeds have no twin, since their train loss lies beyond the ladder. The ViT's train error is 13 %. Nothing there is a minimum to compare; at ρ = 0.05 three of the four fit every sample, and the ViT gets 2 % wrong. (On new names the GPT is wrong two times out of three, with or without a regulariser.)
#
# And the batch norm of the VGG: does it matter that its statistics were taken anew?

# %% jupyter={"source_hidden": true}
if SCALE == "laptop":
    run = trained("VGG", ["base", "SAM 0.05"], seeds=range(4)).loss()
    tops = {name: fl.curvature.eigenvalues(f, steps=10)[..., 0] for name, f in (("as training left them", run), ("taken anew", run.refreshed()))}
    for name, values in tops.items():
        plain, sam = values.log().view(2, -1).mean(1)
        print(f"statistics {name}: λ_max of the VGG's SAM × {(sam - plain).exp():.2f} of its baseline (seeds 0 to 3)")

# %% jupyter={"source_hidden": true}
def family(id, sentence, control, against, measure, verdicts, at_least, **more):
    values = {a: of(a, control, against, measure) for a in NETS}
    losses = {a: (mean_of(a, control, "train loss"), mean_of(a, "base" if against == RAW else control, "train loss")) for a in NETS}
    return fl.claims.family(id, sentence, values, dict(zip(NETS, verdicts)), factors=True, losses=losses, at_least=at_least, **more)


HOLDS, NOT, OPEN = "holds with a caveat", "does not hold here", "inconclusive"
PAPERS = "four architectures at the paper's strengths"
FEW = "toy networks; seeds 4 to 9 and two rungs were added after a look at seeds 0 to 3"

# %% [markdown] slideshow={"slide_type": "slide"}
# ### SAM: does the sign agree?

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
family("11.2", "ends flatter than its baseline with SAM (ρ = 0.05), by λ_max", "SAM 0.05", RAW, "lambda max", (HOLDS, OPEN, OPEN, OPEN), (3, OPEN), below=0, caveat=FEW, about={"C3": "against"}, experiment=PAPERS)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
family("11.3", "ends flatter than its early-stopped twin with SAM (ρ = 0.05), by λ_max", "SAM 0.05", EARLY, "lambda max", (HOLDS, HOLDS, HOLDS, HOLDS), (3, HOLDS), below=0, caveat=f"{FEW}; {TEMPERED}: {sides('SAM 0.05', TEMPERED)}")

# %% [markdown]
# Two checks. The six seeds that were added later, alone (11.4): two are flatter, two open. The other twin (11.10): the perceptron and the GPT are flatter, the VGG and the ViT open. No mark changes its side; which twin is the fair one is the question of 08.

# %% jupyter={"source_hidden": true}
new = {a: effects[EARLY].loc[(a, "SAM 0.05"), "lambda max"].loc[4:].to_numpy() for a in NETS}
fresh = fl.claims.family(
    "11.4", "ends flatter than its early-stopped twin with SAM (ρ = 0.05), by λ_max, seeds 4 to 9 alone", new, dict(zip(NETS, (HOLDS, OPEN, HOLDS, OPEN))),
    below=0, factors=True, at_least=(3, OPEN), caveat="six seeds, toy networks",
)
other = family("11.10", "ends flatter than its temperature twin with SAM (ρ = 0.05), by λ_max", "SAM 0.05", TEMPERED, "lambda max", (HOLDS, OPEN, OPEN, HOLDS), (3, OPEN), below=0, caveat=FEW)

# %% [markdown]
# And by κ, which a rescaling of layers hardly moves:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
family("11.8", "ends flatter than its early-stopped twin with SAM (ρ = 0.05), by κ", "SAM 0.05", EARLY, "relative flatness", (HOLDS, OPEN, OPEN, OPEN), (3, OPEN), below=0, caveat=FEW)

# %% [markdown]
# One box holds, the other is open. That is not yet a difference between the measures: "not established" is not "absent". So divide, seed by seed, SAM's factor in κ by its factor in `λ_max`. Above 1, κ sees less flattening (11.11, thought of after the boxes):

# %% jupyter={"source_hidden": true}
less = {a: of(a, "SAM 0.05", EARLY, "relative flatness") - of(a, "SAM 0.05", EARLY) for a in NETS}
between = fl.claims.family(
    "11.11", "is flattened less by κ than by λ_max with SAM (ρ = 0.05), beside its early-stopped twin", less, dict(zip(NETS, (NOT, OPEN, HOLDS, HOLDS))),
    above=0, factors=True, caveat=f"{FEW}; a factor of κ need not weigh as much as the same factor of λ_max",
)
for claim in between.claims:
    print(claim.id, *(f"{name} × {10**v:.2f}" for name, v in zip(("mean", "from", "to"), (claim.measured, *claim.interval))), claim.verdict, sep="   ")

# %% [markdown]
# In both transformers the measures part, in the VGG that is open, in the perceptron κ falls even a little more. So the sentence is "flatter *by `λ_max`*", and the measure belongs into it.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Weight decay
#
# At the paper's λ = 5 · 10⁻⁴ these short runs hardly feel it: every factor lies within 15 % of 1 (11.6). Ten times as much is felt.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
left_over = "; ".join(f"{g}: {sides('wd 0.005', g)}" for g in (EARLY, TEMPERED))
family("11.5", "ends sharper than its baseline with weight decay of 5e-3, by λ_max", "wd 0.005", RAW, "lambda max", (HOLDS, HOLDS, HOLDS, HOLDS), (3, HOLDS), above=0, caveat=f"{FEW}; all of them end at a higher train loss. {left_over}")

# %% jupyter={"source_hidden": true}
weak = family("11.6", "ends sharper than its baseline with weight decay of 5e-4, by λ_max", "wd 0.0005", RAW, "lambda max", (HOLDS, OPEN, OPEN, HOLDS), (3, OPEN), above=0, caveat=FEW, about={"C3": "supports"}, experiment=PAPERS)
also = family("11.9", "ends sharper than its early-stopped twin with weight decay of 5e-3, by κ", "wd 0.005", EARLY, "relative flatness", (NOT, NOT, OPEN, OPEN), (3, NOT), above=0, detail=FEW)

# %% [markdown]
# Raw, that is the paper's direction, in four of four. Beside the early-stopped twins, whose train loss is the same, `λ_max` divides the four, and the two that are still sharper barely clear 1, in the direction in which the lines err; κ calls none of them sharper, two flatter (11.9). Beside the temperature twins three are sharper by `λ_max`: the twin decides, as in 08. The larger λ was chosen after a look at the figure, so it has no vote on C3; at the paper's own strengths, SAM and weight decay, raw, both counts are open, and the vote is silent.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### Which architecture is the sharpest?
#
# One baseline of each architecture (seed 0), all (nearly) at zero training error, their raw `λ_max` side by side, and κ for good measure. Then an attack: multiply the layer in front of the head, the last one with weights, by `c`, and divide the head's weights by `c`. What lies between the two (ReLUs, a maximum, an average, or nothing) passes a factor `c > 0` on, so every output stays as it was.


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
print("from flat to sharp, as trained, by λ_max:", " < ".join(order), "   by κ:", " < ".join(by_kappa))

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
# **What you see.** The grey dots rise from left to right, the orange ones fall. Both are the same four functions. That the order *can* be turned was built in, `c` was chosen for it; what is tested (11.7) is that no output moves. Every `c` is a power of two, which a computer multiplies exactly.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
def change(name):
    ours, theirs = (probe_of(name, c).outputs() for c in (1, chosen[name]))
    return ((ours - theirs).abs().max() / ours.abs().max()).item()


turned = min(raw_top[a][chosen[a]] / raw_top[b][chosen[b]] for a, b in zip(order, order[1:]))
moved, same = max(map(change, attacked)), max(abs(b / a - 1) for a, b in kappa.values())
lifted = sum(max(raw_top[a].values()) > max(raw_top[b][1] for b in attacked if b != a) for a in attacked)
print(sharpest.settle(["only the sharpest", "two", "three", "each of the four"][lifted - 1]))
assert turned > 1
fl.claims.declare(
    "11.7", "the rescaling that turns the order of the architectures by raw λ_max upside down changes no output (largest relative change)",
    moved, "holds", below=1e-5,
    detail=f"Smallest factor between neighbours in the new order {turned:.2f}; normalised κ changes by at most {same:.0e} with c = 8",
)

# %% [markdown]
# Three reasons, then, why `λ_max` of one architecture says nothing beside that of another. Its *coordinates*: the scale of a layer is free, and each architecture sets it in its own way. Its *weights*: other numbers of them, in other places. And its *train loss*. (κ hardly notices this attack: only a dead neuron, which has no scale to divide by, lets it move at all. Its order of the four is another one, and no better: the features of a ViT are not those of a VGG.)
#
# Within an architecture the same attack is possible, and a regulariser may make it by itself: weight decay shortens the weights (last column of the table above). That is one more reason to ask κ as well.

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
# ### Exercise 3 · Which box falls? (★★, 8 minutes)
#
# A referee finds out: before anything was measured, somebody had attacked the SAM networks with ρ = 0.05 as in *Break it*, each with another `c ≠ 1` that is lost. No other network was touched, and no output moved. Which of these can no longer be read off your numbers?
#
# | | |
# |---|---|
# | A | 11.2: SAM against its baseline, by `λ_max`, raw |
# | B | 11.3: SAM against its early-stopped twin, by `λ_max` |
# | C | 11.8: SAM against its early-stopped twin, by κ |
# | D | 11.5: weight decay against its baseline, by `λ_max`, raw |
# | E | the train losses and errors of SAM in the table |
# | F | 11.11: SAM's factor in κ divided by its factor in `λ_max` |

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
falls = fl.exercises.Exercise(
    "11.falls",
    answer={"A", "B", "F"},
    mistakes={
        "a twin of equal train loss does not help: the twin was not attacked, the network beside it was": {"A", "F"},
        "the baseline is as it was, but a ratio has two sides: SAM's own λ_max moved": {"B", "F"},
        "F has κ in it, which stands, and λ_max, which does not: a ratio falls with either": {"A", "B"},
        "κ weighs the head's curvature by its weights: dividing the head by c leaves it as it is": {"A", "B", "C", "F"},
        "no network of D was touched": {"A", "B", "D", "F"},
        "a train loss and an error are made of outputs, and no output moved": {"A", "B", "E", "F"},
        "those are what stands; which fall?": {"C", "D", "E"},
    },
    praise="nor would it help if all networks had been attacked with one c: exercise 1 says that only one block grows, so the ratios of λ_max could still move.",
)

# %% [markdown]
# Your answer, a set of letters:

# %% slideshow={"slide_type": "skip"}
fallen = ...
falls.check(fallen)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# fallen = {"A", "B", "F"}
# falls.check(fallen)
# ```
#
# `λ_max` of the attacked networks may be anything from some level upwards, so every number that contains it falls: A, B and F. Outputs did not move, so train losses, errors and the twins of equal train loss stand (E), and κ does (C). D speaks of networks that nobody touched.
#
# </details>

# %% [markdown]
# ### Exercise 4 · Which comparison would you print? (★, 5 minutes)
#
# | | |
# |---|---|
# | A | "The minima of vision transformers are sharper than those of VGGs: λ_max is ten times as large." |
# | B | "In the ViT, SAM ends flatter than its early-stopped twin (4 seeds, paired)." |
# | C | "SAM flattens in all four architectures", with the early-stopped twins and their train losses beside it |
# | D | "SAM flattens the VGG more than the GPT: its factor in λ_max is smaller." |
# | E | "Weight decay of 0.005 ends sharper in the GPT (raw)", with both train losses beside it, and its factor beside the early-stopped twin |
# | F | "By κ, SAM does nothing in the GPT: its interval contains 1." |
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
        "F takes \"not established\" for \"nothing\": an interval with 1 in it contains other numbers, too": {"B", "C", "E", "F"},
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
# A breaks rule 6. F may say "open", with the interval; how large an effect is excluded, the interval tells. D is subtler: the effects are ratios within each architecture, but ρ = 0.05 is a length in the space of weights, long for a network with short weights and short for another. Signs can be counted; sizes cannot be ranked.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# What architectures disagree about, raw, is largely the fit. Beside early-stopped twins of its own train loss SAM ends flatter by `λ_max` in all four kinds of network; by κ that is established in the perceptron alone.
#
# **You may now say** "within each of these four architectures, beside its early-stopped twin, SAM ended flatter by `λ_max`": with the twin and the measure in the sentence.
#
# **You may no longer say** "transformers have sharper minima than convolutional networks". Of which scale of the layers?

# %%
fl.claims.take_away()

# %% [markdown]
# **The steelman.** *"SAM looks for flat minima, and by a worst-case measure, the kind it was made for, it found them in a perceptron, a VGG, a vision transformer and a GPT, as soon as you compared like with like: that is not a habit of one architecture. κ sees the last layer alone; why should SAM have to work there? In large vision transformers it also brings the better test error that your toys are too small to show"* (Foret et al. 2021; Chen et al. 2022). The boxes agree with the first sentence beside early-stopped twins, and beside temperature twins for two of four; nothing here tests the last.
#
# ### What this does not show
#
# - **Toy networks, toy data.** 200 samples, one layer of attention, 8 × 8 pixels, generated names. Ten seeds vary the initial weights and the order of the batches, not the data; "open" may still mean "too few seeds", and of the six new seeds alone "flatter" is established in two of four (11.4).
# - **Confounded things.** The GPT differs from the others in its data as well, the VGG in the length of its training (12 epochs against 40). That their signs agree is the stronger for it; had they not, we could not have said why.
# - **No augmentation.** It is the regulariser that 08 found sharper *and* better, and for names there is no obvious one.
# - **Equal train loss is read off** between baselines of six lengths, on straight lines in logarithms. Beside the temperature twin two of four are open.
# - **The `paper` branch has not been run** (560 training runs, for GPUs): an earlier form of its cells was tried on a CPU, in small.
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
