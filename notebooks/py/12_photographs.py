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
# # 12 · Photographs
#
# **What do real photographs say?** The digits of the last notebooks are small and clean. The paper's own evidence comes from photographs: a ResNet on CIFAR-10, six ways to train it, 240 minima. Here is the same study in small, recorded, and asked the same questions twice: beside the plain baseline, as the paper does, and beside a baseline of the *same train loss* that has come to rest.

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/12_photographs.ipynb` (other ways: `README.md`).
#
# ← [11 · Architectures](11_architectures.ipynb)

# %% [markdown]
# > **You will be able to**
# > - build a *cooled twin* from complete, shorter schedules, and say why a snapshot will not do in its place;
# > - read one figure in which the raw comparison and the comparison at equal train loss are two distances;
# > - take a subgroup out of a correlation and say what was carried by it;
# > - say with how many seeds a family of verdicts can be decided at all.
# >
# > **Needs** [08](08_six_controls.ipynb) (the six controls, the twins), [10](10_many_minima.ipynb) (strata, one unit of replication)
# > · **Time** 23 minutes to read, about 10 seconds to run on 2 cores (everything is recorded)
# > · **Source** Mason-Williams et al., arXiv:2510.12451, the 240 minima. Its claims **C3**: *regularised networks often end in sharper minima*, and **C4**: *these networks generalise better and are safer.*

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
# ## The record
#
# | | the paper | here |
# |---|---|---|
# | images | CIFAR-10, 50,000 to train on | 2,000 to train on, 2,000 to test; re-encoded as JPEG, so the pixels differ by compression noise |
# | network | ResNet-18 (and others) | ResNet-8, width 16, with batch norm: 78,042 weights |
# | controls | base, SAM, augmentation, weight decay, two pairs | the same, with the paper's strengths |
# | settings | 2 batch sizes × 2 learning rates | batch 128 and 64, learning rate 0.05 and 0.02 |
# | schedule | 100 epochs | 60 epochs, cosine to 0: every run is *complete*, it ends at rest |
# | seeds | 10 | as many as are in: see below |
#
# A run takes minutes and the grid has 240, so it is **recorded**, and it is not finished. Nothing is trained here; the notebook reads what is in and recomputes every verdict from it. What needs derivatives is measured on the first 256 training images, everything on clean images and hard labels.

# %% jupyter={"source_hidden": true}
import pandas as pd
from flatlab import compare

CELL = ["batch", "lr"]  # a setting


def in_points(rows):
    """Errors and calibration in points (per cent)."""
    errors = {f"{kind} error": 100 * (1 - rows[f"{kind} accuracy"]) for kind in ("test", "corrupted")}
    return rows.assign(**errors, ece=100 * rows["ece"])


def agreeing(rows, by):
    """With the disagreement: how often another seed of the same cell chooses another class, in points."""
    rows = compare.consistency(rows, by)
    return rows.assign(disagreement=100 * rows["disagreement"])


record = in_points(fl.data.recorded("photographs"))
photos = record[record["stop"] == "end"]
count = photos.groupby("seed").size()
complete = [seed for seed, runs in count.items() if runs == 24]
photos = agreeing(photos[photos["seed"].isin(complete)].reset_index(drop=True), ("control", *CELL))
REGULARISERS = [name for name in photos["control"].unique() if name != "base"]
REGULARISERS.sort(key=["SAM", "aug", "aug+SAM", "wd", "wd+SAM"].index)

# %% jupyter={"source_hidden": true}
with_spectrum = photos.dropna(subset=["lambda max"])["seed"].nunique()
print(f"complete seeds: {len(complete)} of 10 (24 minima each); λ_max and trace are measured for {with_spectrum} of them")

# %% [markdown]
# With so few seeds no verdict here is above *holds with a caveat*. λ_max and trace stay at three seeds: their intervals are wide, and the signs of three seeds alone could never give a p below 0.25.
#
# **Six measures.** The paper's three: relative flatness κ, the Fisher-Rao norm, and the random direction (its "SAM-sharpness", which 04 found to be mostly a gradient norm). Beside them λ_max, the trace, and the *adaptive* weight noise, which no rescaling of layers can change (04). **Four safety metrics**, all in points and better when lower: test error; calibration error (ECE); error on corrupted images; and disagreement, the share of test images on which two seeds of one control choose different classes (the paper's *functional consistency*).

# %%
SHARP = ["relative flatness", "fisher rao", "random direction", "weight noise", "lambda max", "trace"]
SAFE = ["test error", "ece", "corrupted error", "disagreement"]
SYMBOL = fl.sharpness.SYMBOLS | {name: name for name in SAFE} | {"ece": "ECE"}

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# Augmentation (every image shifted and mirrored anew in each epoch) is the strongest of the five regularisers. First the paper's comparison, with the plain baseline of the same seed and setting.

# %% slideshow={"slide_type": "fragment"}
raw_guess = fl.predictions.ask(
    "12.raw", "By how many powers of ten is κ of the augmented networks larger than κ of the baseline? (0: equal, −1: ten times flatter)",
    slider=(-1.5, 1.5),
)

# %% [markdown]
# Now beside a baseline that is trained for fewer epochs, with a complete schedule of its own, so that it ends at the *same train loss* as the augmented network.

# %% slideshow={"slide_type": "fragment"}
twin_guess = fl.predictions.ask(
    "12.twin", "At equal train loss, what do κ and λ_max say of augmentation? ('beyond the noise': the interval excludes 'equal')",
    choices=[
        "both say sharper, beyond the noise", "both say flatter, beyond the noise",
        "they contradict each other, both beyond the noise", "at least one of them cannot tell",
    ],
)

# %% [markdown]
# And the question of 10: in one seed's 24 minima (six controls, four settings), does sharpness go with test error?

# %% slideshow={"slide_type": "fragment"}
all_guess = fl.predictions.ask(
    "12.all", "Rank correlation of κ with test error among all 24 minima of a seed (mean over seeds; +1: the sharper, the worse)",
    slider=(-1, 1),
)
rest_guess = fl.predictions.ask(
    "12.rest", "And among the 16 minima trained without augmentation?", slider=(-1, 1)
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Build it: a twin that has come to rest
#
# An augmented network never sees the same image twice, and ends at a train loss of about 0.6 on the clean images; the baseline ends near 0.01. 04 showed what that alone does: where a network is confident, cross-entropy has no curvature left. So a raw ratio of sharpnesses mixes two things, *another minimum* and *a higher train loss*.
#
# The **cooled twin** takes the second away. Train the baseline again, from the same initial weights, for 12, 16, 20, 25 … epochs instead of 60, each time with a *complete* cosine down to 0. Every such run ends at rest, each at another train loss: a ladder. Between two rungs we join by a straight line, in the logarithms of train loss `L` and sharpness `s`, and read off the twin at the train loss of the regularised network:
#
# $$\log s_\text{twin} = \log s_1 + \frac{\log L - \log L_1}{\log L_2 - \log L_1}\,(\log s_2 - \log s_1).$$

# %%
def twin_by_hand(rungs, level, measure):
    rungs = rungs.sort_values("train loss")
    above = np.searchsorted(rungs["train loss"], level)
    if above in (0, len(rungs)):
        return np.nan  # the ladder does not reach
    (L1, s1), (L2, s2) = np.log(rungs[["train loss", measure]].to_numpy()[above - 1 : above + 1])
    return np.exp(s1 + (np.log(level) - L1) / (L2 - L1) * (s2 - s1))


# %% [markdown]
# The recorded ladders, with the 60-epoch baseline as their last rung. `fl.compare.at_equal` does the same for every row and measure at once:

# %% jupyter={"source_hidden": true}
annealed = fl.data.recorded("photographs_annealed").assign(batch=128, lr=0.05)
rungs = in_points(pd.concat([annealed, fl.data.recorded("photographs_cooled")], ignore_index=True))
rungs = rungs[rungs["seed"].isin(complete)].reset_index(drop=True)
rungs = agreeing(rungs, (*CELL, "epochs"))
ladder = pd.concat([rungs, photos[photos["control"] == "base"].assign(epochs=60)], ignore_index=True)

# %%
regularised = photos[photos["control"] != "base"]
twins = compare.at_equal(regularised, ladder, SHARP + SAFE, ["seed", *CELL])
row = regularised[regularised["control"] == "aug"].iloc[0]
own = ladder[(ladder["seed"] == row["seed"]) & (ladder["batch"] == row["batch"]) & (ladder["lr"] == row["lr"])]
assert np.isclose(twin_by_hand(own, row["train loss"], "relative flatness"), twins.loc[row.name, "relative flatness"])
print(f"seed {row['seed']}, batch {row['batch']}, lr {row['lr']}: κ of augmentation {row['relative flatness']:.1f}, "
      f"of its cooled twin {twins.loc[row.name, 'relative flatness']:.1f}, of base {own.iloc[-1]['relative flatness']:.1f}")

# %% [markdown]
# **Which twins exist?** A straight line is fair between rungs that lie close together. For augmentation, with and without SAM, all four settings have such rungs. SAM and weight decay end at train losses between 0.003 and 0.1, just above base; rungs that close (52 and 56 epochs) were made in one setting only, batch 128 with learning rate 0.05. There they have a twin; elsewhere the gap from 30 to 60 epochs is more than a decade wide, and we leave them without one.

# %% jupyter={"source_hidden": true}
one = (regularised["batch"] == 128) & (regularised["lr"] == 0.05)
near = regularised["control"].str.startswith("aug") | one & regularised["seed"].isin(rungs.loc[rungs["epochs"] == 56, "seed"])
twins.loc[~near, ["train loss", *SHARP, *SAFE]] = np.nan
there = twins[twins["relative flatness"].notna()].groupby(["control", "batch", "lr"]).size().unstack(CELL)
print("seeds with a cooled twin, by control and setting (batch, learning rate):")
print(there.reindex(REGULARISERS).fillna(0).astype(int).to_string())

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Play: two distances in one picture
#
# Left a sharpness, right a safety metric, both over the train loss (training moves to the left). The black line is the baseline's ladder: short schedules at the right, 60 epochs at its left end. Coloured marks are the regularised networks, means over the seeds. So each mark has two distances: to the *end* of the black line (the raw comparison), and straight up or down to the *line* (its cooled twin).

# %% jupyter={"source_hidden": true}
LOOK = dict(zip(REGULARISERS, zip(fl.plots.COLOURS, "vosD^"), strict=True))
SETTINGS = {f"batch {b}, lr {lr}": (b, lr) for b in (128, 64) for lr in (0.05, 0.02)}


def geometric(rows, column):
    return np.exp(np.log(rows[column]).mean())


def average(rows, columns):
    return rows.groupby("epochs" if "epochs" in rows else "control")[["train loss", *columns]].agg(
        lambda v: np.exp(np.log(v).mean())
    )


# %% jupyter={"source_hidden": true}
def axis(ax, log):
    (line,) = ax.plot([], [], "-o", color="black", ms=5, lw=2.5, label="base, 12 to 60 epochs")
    (end,) = ax.plot([], [], "*", color="black", ms=20, label="base, 60 epochs")
    marks = {name: ax.plot([], [], mark, color=colour, ms=13, ls="none", label=name)[0] for name, (colour, mark) in LOOK.items()}
    ax.set(xscale="log", xlabel="train loss (training: ←)", xlim=(2e-3, 2))
    if log:
        ax.set(yscale="log")
    return line, end, marks


def place(ax, artists, column, setting):
    line, end, marks = artists
    inside = [(rows["batch"] == setting[0]) & (rows["lr"] == setting[1]) for rows in (ladder, regularised)]
    steps, ends = average(ladder[inside[0]], [column]), average(regularised[inside[1]], [column])
    steps = steps.sort_values("train loss").dropna()
    line.set_data(steps["train loss"], steps[column])
    end.set_data([steps["train loss"].iloc[0]], [steps[column].iloc[0]])
    for name, mark in marks.items():
        mark.set_data([ends.loc[name, "train loss"]], [ends.loc[name, column]])
    values = np.concatenate([steps[column], ends[column].dropna()])
    ax.set(ylim=(0.7 * values.min(), 1.4 * values.max()) if ax.get_yscale() == "log" else (values.min() - 3, values.max() + 3))


# %% jupyter={"source_hidden": true}
def build(fig):
    axes = fig.subplots(1, 2)
    drawn = [axis(ax, log) for ax, log in zip(axes, (True, False), strict=True)]
    axes[1].legend(fontsize=10, loc="lower left", ncols=2)

    def update(sharpness, metric, setting):
        columns = [next(name for name in names if SYMBOL[name] == chosen) for names, chosen in ((SHARP, sharpness), (SAFE, metric))]
        for ax, artists, column in zip(axes, drawn, columns, strict=True):
            place(ax, artists, column, SETTINGS[setting])
        axes[0].set(title=f"{sharpness}: → sharper is up")
        axes[1].set(title=f"{metric} (points): → worse is up")
        inside = (regularised["control"] == "aug") & (regularised["batch"] == SETTINGS[setting][0]) & (regularised["lr"] == SETTINGS[setting][1])
        at, beside = regularised[inside], twins[inside]
        ratio = 10 ** np.log10(at[columns[0]] / beside[columns[0]]).mean()
        gap = (at[columns[1]] - beside[columns[1]]).mean()
        return f"{setting}: augmentation beside its cooled twin: {sharpness} × {ratio:.2f}, {metric} {gap:+.1f} points."

    return update


# %% [markdown]
# Choose another sharpness and watch the orange circle of augmentation against the black line. Then choose another metric: in three of four it stays below the line. Find the fourth.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fl.panels.Panel(
    build, "left a sharpness and right an error over the train loss: the baseline's line, and five regularised networks beside it",
    size=(9.8, 4.3), sharpness=([SYMBOL[name] for name in SHARP], SYMBOL["lambda max"]), metric=[SYMBOL[name] for name in SAFE],
    setting=[*SETTINGS],
).show()

# %% [markdown]
# **What you see.** The baseline's λ_max is a hill: over the length of the schedule it rises first, and falls once the images are fitted. The star, at the far left, lies low *because it is confident*. Augmentation ends higher up the slope, at about seventy times the train loss: raw it is far sharper than the star. But it lies *below* the line. Now choose κ: the circle lies above the line. On the right, in test error, augmentation is below the line by many points.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Measure
#
# ### The paper's comparison first
#
# The unit is the seed: for each seed the mean over its four settings, then Student's interval over the seeds. Five regularisers make a family of five; the intervals are widened for that (level 1 − .05/5).

# %% jupyter={"source_hidden": true}
raw = compare.differences(photos, SHARP + SAFE, ratio=SHARP, match=CELL)
beside = compare.differences(regularised, SHARP + SAFE, twins, SHARP, match=CELL)
LEVELS = {name: f"{loss:.2g}" for name, (loss, _) in raw.attrs["train loss"].items()}
print("train loss (geometric means): base", f"{geometric(photos[photos['control'] == 'base'], 'train loss'):.2g},", ", ".join(f"{n} {v}" for n, v in LEVELS.items()))
accuracy = 100 * photos.groupby("control")["train accuracy"].mean()
print("train accuracy on clean images (%):", ", ".join(f"{name} {accuracy[name]:.0f}" for name in ["base", *REGULARISERS]))

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 5, figsize=(10, 3.4), sharey=True)
for ax, column in zip(axes, ["relative flatness", *SAFE], strict=True):
    values = {name: raw.loc[name, column].to_numpy() for name in REGULARISERS}
    fl.plots.forest(values, ax, m=5, factors=column in SHARP)
    ax.set(title=SYMBOL[column], xlabel="factor" if column in SHARP else "points, ← better")
if raw_guess.answer is not None:
    axes[0].axvline(10**raw_guess.answer, color="black", ls=":", lw=2)
axes[0].set_xticks([1, 3, 10], ["1", "3", "10"])
fl.plots.show(fig, "against base: augmentation is far sharper by κ and better in all four metrics; the other regularisers lie close to no difference")
print("augmentation, κ, powers of ten:", raw_guess.settle(raw.loc["aug", "relative flatness"].mean()))

# %% [markdown]
# **What you see.** The paper's picture. With augmentation, alone or with SAM, a network is several times sharper by κ and better in every metric, by 9 to 10 points of test error, 17 to 21 of ECE, 3 on corrupted images, 17 to 19 of disagreement. SAM is sharper by κ, too (× 1.6). Weight decay and SAM move test error and corruption by less than these seeds can tell; their ECE is better.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
FEW = "few seeds (see n); 2,000 images; one small ResNet"
against_base = {"experiment": "photographs, against base"}
RAW = {"SAM": "holds with a caveat", "aug": "holds with a caveat", "aug+SAM": "holds with a caveat", "wd": "inconclusive", "wd+SAM": "holds with a caveat"}
fl.claims.family(
    "12.1", "is sharper than the plain baseline by κ, at its own train loss", raw["relative flatness"], RAW, above=0,
    at_least=(3, "holds with a caveat"), factors=True, caveat=FEW, about={"C3": "supports"}, **against_base,
)

# %% [markdown]
# C4 has twenty cells, five regularisers times four metrics, so its intervals are those of a family of twenty. A regulariser counts if it is better in at least three of the four metrics; C4 needs three such regularisers. *Not excluded* are those that could still reach three.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
cells = pd.DataFrame({column: compare.family(raw[column], below=0, m=20)["verdict"] for column in SAFE}).loc[REGULARISERS]
better = (cells == "holds").sum(axis=1)
maybe = better + (cells == "inconclusive").sum(axis=1)
sure, possible = (better >= 3).sum(), (maybe >= 3).sum()
print(cells.rename(columns=SYMBOL).replace({"holds": "better", "does not hold here": "not better", "inconclusive": "open"}).to_string())
fl.claims.declare(
    "12.2", "at least three of the five regularisers are better than base in at least three of four safety metrics",
    float(sure), "inconclusive", above=2.5, interval=(sure, possible), about={"C4": "supports"}, **against_base,
    detail=f"Established for {', '.join(better.index[better >= 3])}; {len(complete)} seeds; not excluded for {possible}",
    losses=(geometric(photos[photos["control"] != "base"], "train loss"), geometric(photos[photos["control"] == "base"], "train loss")),
)

# %% [markdown]
# So on these photographs C4 rests on augmentation; only the ECE is better for all five. Disagreement deserves a note. The paper counts it among its strongest results, and with the first four seeds and a plain 95 % interval all five regularisers did agree better:

# %% jupyter={"source_hidden": true}
first = compare.consistency(photos[photos["seed"] < 4].reset_index(drop=True))
first = compare.differences(first.assign(disagreement=100 * first["disagreement"]), ["disagreement"], match=CELL)
for label, change in (("seeds 0 to 3, 95 %", first), (f"all {len(complete)} seeds, 95 %", raw)):
    ends = {name: compare.interval(change.loc[name, "disagreement"]) for name in REGULARISERS}
    print(f"{label}: disagreement", ", ".join(f"{name} {mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]" for name, (mean, half) in ends.items()))

# %% [markdown]
# A fifth seed opens weight decay again, and the correction for twenty cells the other two without augmentation. (And two seeds share a pair, so such intervals are somewhat too narrow: 10.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Beside the cooled twin

# %% jupyter={"source_hidden": true}
def beside_twin(ax, names):
    """A row per measure: mean and interval over the seeds for augmentation without and with SAM."""
    for k, (control, mark) in enumerate(zip(("aug", "aug+SAM"), "os", strict=True)):
        for place_at, name in enumerate(names):
            d = beside.loc[control, name].dropna()
            mean, half = compare.interval(d, 1 - 0.05 / len(names))
            scale = (lambda v: 10.0**v) if names is SHARP else np.asarray
            at = place_at + 0.3 * (k - 0.5)
            ends = abs(scale(np.array([[mean - half], [mean + half]])) - scale(mean))
            ax.plot(scale(d), [at] * len(d), ".", ms=4, color=fl.plots.COLOURS[k], alpha=0.5)
            ax.errorbar(scale(mean), at, xerr=ends, fmt=mark, ms=9, lw=2.5, color=fl.plots.COLOURS[k], label=control if place_at == 0 else "")
    ax.axvline(1 if names is SHARP else 0, color="black", lw=1.2)
    ax.set(yticks=range(len(names)), yticklabels=[SYMBOL[n] for n in names])
    ax.invert_yaxis()


# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
fig, axes = plt.subplots(1, 2, figsize=(9.8, 4), width_ratios=[1.25, 1])
for ax, names in zip(axes, (SHARP, SAFE), strict=True):
    beside_twin(ax, names)
axes[0].set(xscale="log", xlabel="factor, → sharper", xlim=(0.3, 3))
axes[0].set_xticks([0.3, 0.5, 1, 2, 3], ["0.3", "0.5", "1", "2", "3"])
axes[0].minorticks_off()
axes[1].set(xlabel="points, ← better")
axes[0].legend(loc="lower right")
fl.plots.show(fig, "beside the cooled twin augmentation is sharper by κ, flatter by λ_max, and better in test error and disagreement")
signs = [compare.family({"x": beside.loc["aug", name].dropna()}, above=0, m=6)["verdict"].iloc[0] for name in ("relative flatness", "lambda max")]
said = {("holds", "holds"): 0, ("does not hold here",) * 2: 1}.get(tuple(signs), 3 if "inconclusive" in signs else 2)
print(twin_guess.settle([
    "both say sharper, beyond the noise", "both say flatter, beyond the noise",
    "they contradict each other, both beyond the noise", "at least one of them cannot tell",
][said]))

# %% [markdown]
# **What you see.** Most of the raw factors are gone: from nearly nine to one and a half by κ, from twenty to 1.2 by Fisher-Rao. What is left has no common sign. Without SAM, by κ, by the adaptive weight noise and, a little, by Fisher-Rao, augmentation is *sharper* than a baseline of its own train loss; by λ_max it is *flatter*; the trace and the random direction cannot tell. The right half does not care: all three errors are better, test error and disagreement by many points. And the ECE is *worse*. With SAM on top only κ clearly still says sharper. (With the twins of four seeds, Fisher-Rao and the corrupted images had still been open.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
at_twin = {"experiment": "photographs, beside cooled twins"}
SIX = {"relative flatness": "holds with a caveat", "fisher rao": "holds with a caveat", "random direction": "inconclusive",
       "weight noise": "holds with a caveat", "lambda max": "does not hold here", "trace": "inconclusive"}
losses = beside.attrs["train loss"]["aug"]
fl.claims.family(
    "12.3", "calls augmentation sharper than its cooled twin (log₁₀ of the ratio above 0)",
    {name: beside.loc["aug", name].dropna() for name in SHARP}, SIX, above=0, factors=True,
    losses=dict.fromkeys(SHARP, losses), caveat=FEW, about={"C3": "supports"}, **at_twin,
)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
FOUR = {"test error": "holds with a caveat", "ece": "does not hold here", "corrupted error": "holds with a caveat", "disagreement": "holds with a caveat"}
fl.claims.family(
    "12.4", "is better with augmentation than in the cooled twin (difference in points below 0)",
    {name: beside.loc["aug", name].dropna() for name in SAFE}, FOUR, below=0,
    losses=dict.fromkeys(SAFE, losses), caveat=FEW, about={"C4": "supports"}, **at_twin,
)

# %% [markdown]
# **Why was calibration better, raw?** Because it, too, follows the train loss. A baseline that stops at a train loss of 0.6 is not overconfident yet; after 60 epochs it is. Raw, augmentation's ECE is better because it *is* at a higher loss. Why it is worse at equal train loss we did not measure. This was the one metric that all five regularisers improved.

# %% jupyter={"source_hidden": true}
shown = average(ladder[(ladder["batch"] == 128) & (ladder["lr"] == 0.05)], ["ece", "test error"])
print("base, batch 128, learning rate 0.05, geometric means over seeds:")
print(shown.round(3).rename(columns=SYMBOL).T.to_string())

# %% [markdown] slideshow={"slide_type": "subslide"}
# **SAM and weight decay**, where they have a twin (one setting). Their train losses are close to base, but κ is steep there: raw, SAM with and without weight decay is about one and a half times sharper; beside its twin SAM cannot be told, and weight decay is *flatter*:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
three = ["SAM", "wd", "wd+SAM"]
values = {f"{name}, {SYMBOL[m]}": beside.loc[name, m].dropna() for m in ("relative flatness", "lambda max") for name in three}
level = {f"{name}, {SYMBOL[m]}": beside.attrs["train loss"][name] for m in ("relative flatness", "lambda max") for name in three}
fl.claims.family(
    "12.5", "is sharper than its cooled twin (batch 128, learning rate 0.05)", values, dict.fromkeys(values, "inconclusive") | dict.fromkeys(("wd, κ", "wd+SAM, κ"), "does not hold here"),
    above=0, factors=True, losses=level, about={"C3": "supports"}, **at_twin,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Take the subgroup out
#
# "Among photograph networks the sharper one is the better one." Look at who carries it.

# %% jupyter={"outputs_hidden": true, "source_hidden": true} slideshow={"slide_type": "slide"} tags=["result"]
print("result")
moved = photos["control"].str.contains("aug")
fig, ax = plt.subplots(figsize=(7.5, 4.2))
for inside, colour, mark, label in ((~moved, fl.plots.BLUE, "o", "without augmentation"), (moved, fl.plots.ORANGE, "^", "with augmentation")):
    rows = photos[inside]
    ax.plot(rows["relative flatness"], rows["test error"], mark, ms=4, color=colour, alpha=0.35)
    centres = rows.groupby(["control", *CELL])[["relative flatness", "test error"]].mean()
    ax.plot(centres["relative flatness"], centres["test error"], mark, ms=12, color=colour, label=label)
ax.set(xscale="log", xlabel="κ, → sharper", ylabel="test error (%)")
ax.set_xticks([5, 10, 20, 50, 100], [5, 10, 20, 50, 100])
ax.minorticks_off()
ax.legend()
fl.plots.show(fig, "test error over κ: two clouds, the augmented one sharper and lower; inside the other cloud the error does not fall")


def per_seed(rows, column="relative flatness"):
    return np.array([compare.correlation(part[column], part["test error"]) for _, part in rows.groupby("seed")])


every, rest = per_seed(photos), per_seed(photos[~moved])
for name, values, guess in (("all 24 minima", every, all_guess), ("without augmentation, 16", rest, rest_guess)):
    mean, half = compare.interval(values, 1 - 0.05 / 2)
    print(f"{name}: {mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}], {len(values)} seeds; {guess.settle(mean)}")

# %% [markdown]
# **What you see.** A large mark is a control in a setting, a small one a network. Over both clouds together the error falls: sharper goes with better. Most of that is one difference, between two clouds, seen many times. Inside the cloud without augmentation a fall is not established, and the mean correlation has the other sign. So "at every stage the sharper network is the better one" was a sentence about augmentation. (Augmentation also differs in train accuracy: it ends at 75 to 79 % of the clean training images, the others at 100 %.)

# %% jupyter={"source_hidden": true}
also = [
    fl.claims.declare(
        "12.6", "within a seed's 24 minima the sharper one (κ) has the lower test error: rank correlation below 0",
        every, "holds with a caveat", below=0, m=2, caveat=f"carried by augmentation alone, see 12.7; {FEW}",
        experiment="photographs, correlations",
    ),
    fl.claims.declare(
        "12.7", "the same among the 16 minima without augmentation", rest, "inconclusive", below=0, m=2, experiment="photographs, correlations",
    ),
]
for number, column, verdicts in (
    (8, "fisher rao", {"SAM": "holds with a caveat", "aug": "holds with a caveat", "aug+SAM": "holds with a caveat", "wd": "holds with a caveat", "wd+SAM": "holds with a caveat"}),
    (9, "lambda max", {"SAM": "inconclusive", "aug": "holds with a caveat", "aug+SAM": "holds with a caveat", "wd": "holds with a caveat", "wd+SAM": "inconclusive"}),
):
    box = fl.claims.family(
        f"12.{number}", f"is sharper than the plain baseline by {SYMBOL[column]}", raw[column], verdicts, above=0,
        at_least=(3, "holds with a caveat"), factors=True, caveat=FEW, about={"C3": "supports"}, **against_base,
    )

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Break it
#
# ### A snapshot is no twin
#
# It is tempting to save the shorter schedules: take the 60-epoch baseline *on its way*, when its train loss is that of the augmented network. Such a snapshot is hot, since its learning rate is still high; and its batch-norm statistics are stale, since they are running averages over weights that have moved on since. Baselines were trained again and measured on the way, once as training had left them, once with the statistics taken anew.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "slide"}
on_the_way = fl.data.recorded("photographs_path").rename(columns={"epoch": "epochs"})
on_the_way = in_points(on_the_way.assign(**{"corrupted accuracy": np.nan}))
cool = ladder[(ladder["batch"] == 128) & (ladder["lr"] == 0.05) & ladder["seed"].isin(on_the_way["seed"])]
ways = {"snapshot, as training left it": on_the_way[on_the_way["buffers"] == "as left"],
        "snapshot, statistics anew": on_the_way[on_the_way["buffers"] == "anew"], "complete, shorter schedule": cool}
fig, axes = plt.subplots(1, 2, figsize=(9.8, 3.9))
for (label, rows), mark, colour in zip(ways.items(), "x^o", (fl.plots.GREY, fl.plots.PURPLE, "black"), strict=True):
    mean = average(rows, ["relative flatness", "test error"]).sort_index()
    for ax, column in zip(axes, ("relative flatness", "test error"), strict=True):
        ax.plot(mean["train loss"], mean[column], marker=mark, ms=8, color=colour, label=label)
augmented = regularised[one & (regularised["control"] == "aug") & regularised["seed"].isin(on_the_way["seed"])]
seen = average(augmented, ["relative flatness", "test error"])
for ax, column in zip(axes, ("relative flatness", "test error"), strict=True):
    ax.plot(seen.loc["aug", "train loss"], seen.loc["aug", column], "*", ms=20, color=fl.plots.ORANGE, label="augmentation")
    ax.set(xscale="log", xlabel="train loss (training: ←)", title="κ" if column == "relative flatness" else "test error (%)")
axes[0].set(yscale="log")
axes[0].set_yticks([10, 20, 40, 80], ["10", "20", "40", "80"])
axes[0].minorticks_off()
axes[0].legend(fontsize=10, loc="lower center")
fl.plots.show(fig, "κ and test error over train loss: snapshots lie above the complete schedules, most of all with stale statistics")

# %% jupyter={"source_hidden": true}
print(f"augmentation beside three kinds of baseline of its train loss (batch 128, lr 0.05; {augmented['seed'].nunique()} retrained seeds):")
for label, rows in ways.items():
    other = compare.at_equal(augmented, rows, ["relative flatness", "test error", "ece"], ["seed"])
    ratio = np.exp(np.log(augmented["relative flatness"] / other["relative flatness"]).mean())
    gaps = [(augmented[c] - other[c]).mean() for c in ("test error", "ece")]
    print(f"{label:32s} κ × {ratio:.2f}   test error {gaps[0]:+.1f}   ECE {gaps[1]:+.1f}")

# %% [markdown]
# **What you see.** At one train loss a snapshot has a larger κ than the complete schedule, with stale or with new statistics. So beside a snapshot augmentation looks no sharper, beside the cooled twin it is. In test error the snapshot flatters augmentation: its gain shrinks from line to line above, and for the ECE even the sign turns. Part of the gap is the statistics, part is heat. At the left end, where the schedule is complete, the curves of κ meet: there the buffers have caught up, and nothing needs to be measured again. (The black curve holds the recorded runs of the same seeds, in part from another machine; single runs differ by points.) An earlier version of this course drew four verdicts from such snapshots. They are withdrawn.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1 · Could a scale have done it? (★★, 10 minutes, on paper)
#
# In this ResNet every convolution is followed by batch norm, so multiplying all convolutions by `a` leaves the function unchanged, `L(aθ) = L(θ)`, for the training loss as well (leave the small head aside). Augmentation's weights are longer than those of its twin. Write `at_equal_length(ratio, a)`: what the ratio of λ_max (augmentation over twin) becomes when augmentation's weights, longer by the factor `a`, are first shortened to the twin's length. Derive it from `L(aθ) = L(θ)`.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
shortened = fl.exercises.Exercise(
    "12.scale",
    answer=lambda ratio, a: ratio * a**2,
    inputs=[(0.7, 1.08), (1.5, 2.0), (0.4, 1.3)],
    mistakes={
        "one derivative too few: that is what a *gradient* does; the Hessian has two": lambda ratio, a: ratio * a,
        "wrong way round: differentiate L(aθ) = L(θ) twice by θ: a² H(aθ) = H(θ), so *shorter* weights are *sharper*": lambda ratio, a: ratio / a**2,
        "wrong way round, and one derivative too few": lambda ratio, a: ratio / a,
        "the function stays, and so does its loss, but not its Hessian by the weights": lambda ratio, a: ratio,
        "that makes the ratio larger without a scale having acted: nothing is added": lambda ratio, a: ratio + a**2,
        "the square is of the factor a, and only once: the Hessian has two derivatives": lambda ratio, a: ratio * a**4,
    },
    praise="so part of 'flatter by λ_max' is only 'longer'. The next cell says how much.",
)

# %% [markdown]
# Your answer:


# %% slideshow={"slide_type": "skip"}
def at_equal_length(ratio, a):
    return ...


shortened.check(at_equal_length)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def at_equal_length(ratio, a):
#     return ratio * a**2
#
#
# shortened.check(at_equal_length)
# ```
#
# Differentiate `L(aθ) = L(θ)` by θ: `a ∇L(aθ) = ∇L(θ)`; once more: `a² H(aθ) = H(θ)`. The longer network has the *smaller* Hessian by `1/a²`; shortened by `a`, its λ_max grows by `a²`.
#
# </details>

# %% [markdown]
# The rival explanation of "flatter by λ_max", measured: the same ratio with every network at the length of its twin (all weights counted, which is not exact, since the head is no convolution).

# %% jupyter={"source_hidden": true}
lengths = [*CELL, "seed"]
columns = ["weight norm", "at equal length"]
scaled = [rows.assign(**{"at equal length": rows["lambda max"] * rows["weight norm"] ** 2}) for rows in (regularised, ladder)]
scaled_twins = compare.at_equal(*scaled, columns, lengths).where(near)
longer = compare.differences(scaled[0], columns, scaled_twins.assign(**{n: scaled[0][n] for n in ("control", "train loss", *lengths)}), columns, match=CELL)
for name in ("aug", "aug+SAM"):
    for column, label in (("weight norm", "weights longer by"), ("at equal length", "λ_max at equal length")):
        mean, half = compare.interval(longer.loc[name, column])
        print(f"{name:8s} {label:22s} × {10**mean:.2f} [{10 ** (mean - half):.2f}, {10 ** (mean + half):.2f}] (95 %, {longer.loc[name, column].notna().sum()} seeds)")

# %% [markdown]
# ### Exercise 2 · How many seeds? (★★, 6 minutes)
#
# A family of `m` verdicts is to be decided at level 1 − .05/m each, and you trust only the *signs* of the paired differences: with `n` seeds that all agree, the two-sided p is `2^{1−n}`. Write `seeds(m)`: the smallest `n` with which a verdict can be reached at all.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
import math

enough = fl.exercises.Exercise(
    "12.seeds",
    answer=lambda m: math.ceil(1 + math.log2(m / 0.05)),
    inputs=[(1,), (5,), (20,)],
    mistakes={
        "one-sided: n signs that agree may agree either way, so p is 2 · 2⁻ⁿ": lambda m: math.ceil(math.log2(m / 0.05)),
        "n counts seeds: round up": lambda m: 1 + math.log2(m / 0.05),
        "not corrected: each of m verdicts gets .05/m, not .05": lambda m: math.ceil(1 + math.log2(1 / 0.05)),
        "corrected the wrong way: .05/m is a *smaller* level": lambda m: math.ceil(1 + math.log2(1 / (0.05 * m))),
        "the natural logarithm counts in e, signs count in 2": lambda m: math.ceil(1 + math.log(m / 0.05)),
    },
    praise="one verdict: six seeds; a family of twenty: ten. That is why everything here carries a caveat.",
)

# %% [markdown]
# Your answer:


# %% slideshow={"slide_type": "skip"}
def seeds(m):
    return ...


enough.check(seeds)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# import math
#
#
# def seeds(m):
#     return math.ceil(1 + math.log2(m / 0.05))
#
#
# enough.check(seeds)
# ```
#
# `2^{1−n} ≤ .05/m` means `n ≥ 1 + log₂(m/.05)`. The t-intervals used above decide with fewer, because they also trust the *sizes* of the differences, and that they are roughly normal: an assumption that three to six seeds cannot check.
#
# </details>

# %% [markdown]
# ### Exercise 3 · Which sentences survive? (★★★, 8 minutes)
#
# A talk about this notebook makes six statements. Which of them do its results support, as they stand?
#
# | | |
# |---|---|
# | A | "With augmentation these networks err less than a baseline of the same train loss, whichever sharpness you measure." |
# | B | "Augmentation finds sharper minima; that is why it generalises." |
# | C | "At equal train loss λ_max and κ need not agree on which of two networks is the sharper one." |
# | D | "Weight decay and SAM make no difference to sharpness on photographs." |
# | E | "Augmentation improves calibration." |
# | F | "Whoever pools all six controls learns that sharper photograph networks are better; whoever leaves augmentation out does not." |

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "skip"} tags=["self-check"]
# self-check
survive = fl.exercises.Exercise(
    "12.survive",
    answer={"A", "C", "F"},
    mistakes={
        "B has two halves: 'sharper' depends on the measure, and the 'why' was not tested by anything here": {"A", "B", "C", "F"},
        "D reads 'inconclusive' as 'no': three to six seeds in one setting could not tell": {"A", "C", "D", "F"},
        "E is true raw and false at equal train loss: as it stands it lacks its condition": {"A", "C", "E", "F"},
        "A survives: the right half of the figure did not ask about sharpness at all": {"C", "F"},
        "C survives: 'need not agree' asks for one case, and the figure shows the two marks on different sides of 1": {"A", "F"},
        "F survives: it says what was pooled and what was left out": {"A", "C"},
        "the natural summary, but 'why' is a cause, and nothing here sets the sharpness": {"B"},
        "two of these lack their condition: ask of each 'beside what?'": {"A", "B", "C", "D", "E", "F"},
    },
    praise="each survivor says beside what, or of whom.",
)

# %% [markdown]
# Your answer, a set of letters:

# %% slideshow={"slide_type": "skip"}
sentences = ...
survive.check(sentences)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# sentences = {"A", "C", "F"}
# survive.check(sentences)
# ```
#
# A is claim 12.4. C is the left half of the same figure. F is the pair 12.6 and 12.7. B infers a cause, and its first half holds by some measures only. D is contradicted by 12.5, where weight decay ends *flatter* by κ than its twin, and for the open rows it takes absence of evidence for evidence of absence. E holds beside the 60-epoch baseline and is reversed beside a baseline of the same train loss.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# On 2,000 photographs augmentation errs less than its baseline, raw and at equal train loss; its calibration is better raw, and worse at equal train loss. Whether it is *sharper* depends on what it is compared with, and at equal train loss on the measure.
#
# **You may now say** "beside a complete baseline of the same train loss, augmentation is sharper by κ and better in test error".
#
# **You may no longer say** "regularised photograph networks are sharper" without the measure and the train loss beside it; nor take a snapshot for a twin.

# %%
fl.claims.take_away()

# %% [markdown]
# ### The steelman
#
# Keskar et al. (2017) and Foret et al. (2021) would answer: *"We compare minima of one training objective. Augmentation changes the data: the minimum you found is not a minimum of the clean loss at all, it sits at a train loss of 0.6. Of course it is curved there. Measure the augmented loss, where we optimise, and see who is flatter; and your own λ_max, at equal train loss, is on our side."* The first half is fair, and so is the second as far as three seeds carry it. What remains is narrow: sharpness *of the clean training loss*, the number that is usually reported, does not rank these networks.
#
# ### What this does not show
#
# - **Small.** 2,000 images, 78,042 weights, JPEG pixels. A GPU would add the paper's size: `FLATLAB_SCALE=paper` in [09](09_resnet.ipynb) trains a ResNet-18 on CIFAR-10.
# - **Few seeds**, three of them with λ_max and trace; four settings that were chosen once.
# - **Twins are read between rungs**, and SAM and weight decay have them in one setting only.
# - Derivatives are taken on 256 of the 2,000 images, train losses on all.
# - Augmented networks have not fitted the clean images (about 80 % right); whether longer training would change the picture was not tried.
#
# ### References
#
# - Mason-Williams, Mason-Williams and Yannakoudakis, arXiv:2510.12451: C3, C4 and the 240 minima. Krizhevsky 2009 (CIFAR-10). Keskar et al. 2017, arXiv:1609.04836; Foret et al. 2021, arXiv:2010.01412 (SAM). Petzka et al. 2021, arXiv:2001.00939 (κ). Guo et al. 2017, arXiv:1706.04599: calibration and train loss. Simpson 1951.

# %% [markdown]
# All numbers without a box, and your predictions beside what came out:

# %%
fl.claims.numbers()

# %% slideshow={"slide_type": "skip"}
fl.predictions.compare()
