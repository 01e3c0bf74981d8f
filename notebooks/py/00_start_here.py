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
# # 00 · Start here
#
# **What is this course, and does my set-up work?**

# %% [markdown] tags=["launch"]
# **Run it:** in the course's folder type `make lab` and open `notebooks/00_start_here.ipynb` (other ways: `README.md`).
#
# [01 · One dimension](01_one_dimension.ipynb) →

# %% [markdown]
# > **You will be able to**
# > - say what the course asks, and tell whether your machine is ready for it,
# > - make a prediction, move a panel and use a self-check, as in every later notebook,
# > - put your own belief on record before you see any evidence.
# >
# > **Needs** the idea of a derivative, and enough Python to read a loop · **Time** 22 minutes to read, 5 seconds to run on 2 cores ·
# > **Source** Mason-Williams, Mason-Williams and Yannakoudakis, *A Function-Centric Perspective on Flat and Sharp Minima*, arXiv:2510.12451, abstract
#
# The [glossary](#glossary) at the end explains every term of the course in a sentence. Look words up there; nobody reads it through.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What this course asks
#
# Training a network means walking downhill on a [loss](#loss) until the ground is level. Some of the places where one can end are wide, gentle bowls: [flat](#flat) minima. Others are steep and narrow: [sharp](#sharp) ones. It is an old idea that the flat ones are better, and it is disputed to this day.
#
# **What do flat and sharp minima mean, and what do they tell you about a network?** You will settle that with your own hands: derive each quantity, build it in a few lines, measure it, and then try to break it.

# %% [markdown]
# ## Does your set-up work?
#
# The first cell of every notebook loads the course's module, `flatlab`. It is small enough to be read, and no lesson needs the internet. The second one (folded) compares your versions with those that the course supports.

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

# %% jupyter={"source_hidden": true}
# versions
import sys
from importlib import import_module

from packaging.requirements import Requirement
from packaging.version import Version

NEEDED = ["Python>=3.11", "torch>=2.6", "numpy>=2.0", "matplotlib>=3.10", "ipywidgets>=7.7.1,<9"]


def outside(line):
    """A sentence if the version that runs here is not a supported one, else an empty text."""
    need = Requirement(line)
    module = None if need.name == "Python" else import_module(need.name)
    found = module.__version__ if module else ".".join(map(str, sys.version_info[:3]))
    if need.specifier.contains(Version(found).base_version):
        return ""
    return f"{need.name} is {found}, the course needs {need.specifier}: open the list below."


complaints = [text for text in map(outside, NEEDED) if text]
print("\n".join(complaints) or f"All good: {', '.join(NEEDED)}.")

# %% [markdown]
# <details><summary>If something is too old (or too new)</summary>
#
# - *You have the course's folder.* Close the notebook and open it with `make lab` (`README.md` has the way without `make`). The usual cause is that the notebook runs in another Python than the one that was set up for it. If that does not help, delete the folder `.venv` and type `make lab` again; this takes a few minutes.
# - *You use conda.* `conda env update -f environment.yml`, then *Kernel → Restart Kernel*.
# - *Colab.* Menu *Runtime → Disconnect and delete runtime*, then connect again: a new machine has new versions. Do not upgrade torch there by hand.
# - *A server that others look after.* Send them the line above; all lower bounds are in `pyproject.toml`.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Our promise: the best case for flatness comes first
#
# No notebook argues against an idea before it has argued for it. Notebook 01 gives the three best reasons to like flat minima:
#
# 1. *The test loss is not quite the train loss.* If it is the same curve shifted a little, a flat valley loses less by the shift.
# 2. *Weights are never exact.* Under noise of size $\sigma$ on one weight, the loss at a minimum with curvature $h$ rises by about $\tfrac12\sigma^2 h$.
# 3. *Flat means short.* Where the loss hardly changes, a weight needs few digits to be written down, and short descriptions tend to hold on new data.
#
# Then the course asks when these reasons apply. It is not a take-down. Where flatness turns out to matter, the notebook says so, with a number that is measured again in every run.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The map
#
# One notebook is one lecture around one question, in four parts. The fourth has one notebook for each neighbouring paper, and a last one, the *ledger* (25), for the final account.

# %% jupyter={"source_hidden": true}
# the list of notebooks
PARTS = {
    "I · Functions you can see": "start here, one dimension, two dimensions, regularising a function",
    "II · Functions a network learns": "measuring sharpness, learning a function, tight boundaries,"
    "memorisation, six controls",
    "III · Classification at scale": "ResNet, many minima, architectures, photographs",
    "IV · The debate": "soft rank, modern look, relative flatness, universal SAM, first-order flatness,"
    "label noise, unhinged loss, interpolating information, meta-learning, perceptual manifolds,"
    "federated, combinatorial solvers, ledger",
}
WRITTEN = range(13)  # notebooks 00 to 12

# %% [markdown]
# The whole course at a glance:

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "subslide"}
# the drawing
import textwrap


def box(ax, x, y, number, name):
    """One notebook: filled if it exists, outlined if it is planned."""
    exists = number in WRITTEN
    look = {"facecolor": fl.plots.BLUE if exists else "white", "linestyle": "-" if exists else "--"}
    ax.add_patch(plt.Rectangle((x + 0.04, y), 0.92, 0.66, edgecolor=fl.plots.BLUE, **look))
    text = f"{number:02}\n" + textwrap.fill(name.strip(), 12, break_long_words=False)
    weight = "bold" if exists else "normal"
    ax.text(x + 0.5, y + 0.33, text, ha="center", va="center", fontsize=10, weight=weight)


fig, ax = plt.subplots(figsize=(9, 5.2))
number = 0
for row, (part, names) in enumerate(PARTS.items()):
    ax.text(0.04, 0.72 - row, part, weight="bold")
    for place, name in enumerate(names.split(",")):
        box(ax, place % 7, -row - 0.74 * (place // 7), number, name)
        number += 1
ax.set(xlim=(0, 7), ylim=(-3.8, 0.95))
ax.axis("off")
fl.plots.show(fig, alt=f"{number} notebooks in four parts; boxes 00 to {WRITTEN[-1]} are filled, all others only outlined")

# %% [markdown]
# **What you see.** Filled boxes are notebooks that you can open today; dashed ones are planned. The first part needs no training at all, the second trains small networks, the third asks whether the picture survives at scale.

# %% [markdown]
# | open now | its question |
# |---|---|
# | [01 · one dimension](01_one_dimension.ipynb) | What does "flat" mean, and why should it be good? |
# | [02 · two dimensions](02_two_dimensions.ipynb) | What is a Hessian, and can it say which of two functions is the sharper one? |
# | [03 · regularising a function](03_regularising_a_function.ipynb) | What do weight decay, SAM and noise in gradients and labels do to a minimiser? |
# | [04 · measuring sharpness](04_measuring_sharpness.ipynb) | Which number is "the" sharpness? |
# | [05 · learning a function](05_learning_a_function.ipynb) | Is a minimum sharp because of the network, the optimiser, or the function it learned? |
# | [06 · tight boundaries](06_tight_boundaries.ipynb) | Does a tighter boundary make a sharper minimum even with perfect generalisation? |
# | [07 · memorisation](07_memorisation.ipynb) | Is sharpness memorisation? |
# | [08 · six controls](08_six_controls.ipynb) | Do regularisers end flatter or sharper, and are they better? |
# | [09 · ResNet](09_resnet.ipynb) | Does the picture hold for a ResNet on images? |
# | [10 · many minima](10_many_minima.ipynb) | What do 240 minima say? |
# | [11 · architectures](11_architectures.ipynb) | Is it the architecture? |
# | [12 · photographs](12_photographs.ipynb) | What do real photographs say? |
#
# **In a hurry?** Four lectures: 01 → 04 → 06 → 08. One afternoon: 01 → 06 → 08 → *25*. Part IV will need only 02 to 04.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## How a notebook works
#
# | step | what happens |
# |---|---|
# | **Predict** | you commit to a guess before the result is shown |
# | **Build it** | the idea of the chapter in at most 15 lines, beside its formula |
# | **Play** | a panel with sliders that reacts at once |
# | **Measure** | the experiment, and its *claims* |
# | **Break it** | a case in which the claim, or the measure, fails |
# | **Exercises** | with self-checks that say what kind of mistake was made |
# | **Take away** | one sentence you may now say, one you may no longer say |
#
# A **claim** is a sentence with its measured number and a verdict: *holds*, *holds with a caveat*, *does not hold here* (the interval excludes it), or *inconclusive*. Its threshold is fixed before the run. Each run measures the claim again and stops if the verdict has changed, so the text cannot drift from the code. A claim about trained networks rests on several seeds, in pairs, and its interval is the wider the more claims answer the same question.
#
# **Run one cell at a time, not *Run All*.** Run All spoils predictions, since the results appear before you have answered; and panels wait while later cells run: a slider that you drag meanwhile moves its picture only when they are done.
#
# Now try three of these steps on something harmless.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Predict
#
# A prediction that you have written down cannot be bent afterwards. That is all the next cells are for. Here are three pictures of a minimum, without numbers. (The code that draws them is folded away, because it would give the answer.)

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
# the drawing, and the answer
parabola = fl.functions.quadratic(1.0)
WINDOWS = {"A": (1.5, 1.0), "B": (0.5, 1.0), "C": (1.5, 0.25)}  # half of the width, and the height


def three_windows(numbers):
    fig, axes = plt.subplots(1, 3, figsize=(7.5, 2.6))
    for ax, (name, (width, height)) in zip(axes, WINDOWS.items(), strict=True):
        fl.plots.curve(parabola, ax, domain=(-width, width))
        ax.set(title=name, xlabel="θ", ylim=(-0.1 * height, height))
        ax.set(xticks=(-width, 0, width), yticks=(0, height))
        ax.tick_params(labelbottom=numbers, labelleft=numbers)
    axes[0].set_ylabel("L(θ)")
    return fig


fl.plots.show(three_windows(numbers=False), alt="three bowls without numbers: B looks widest, C looks narrowest")

# %% [markdown]
# **What you see.** Three smooth bowls: B looks wide and gentle, C looks narrow and steep. Choose an answer; "kept" appears below it when it is on record. (Where nothing can be clicked, write `fl.predictions.answer("00.zoom", "B")` in a cell of your own.)

# %% slideshow={"slide_type": "fragment"}
zoom = fl.predictions.ask(
    "00.zoom",
    "Which of the three minima is the flattest?",
    choices=["A", "B", "C", "they are equally flat", "impossible to tell without numbers"],
)

# %% [markdown]
# Results are folded away until you open them, so that the answer does not spoil the question. Run the next cell, or click on the three dots below it.

# %% jupyter={"outputs_hidden": true} slideshow={"slide_type": "subslide"} tags=["result"]
print("result")
fl.plots.show(three_windows(numbers=True), alt="the same bowls with numbers: one parabola in three windows")
print(zoom.settle("impossible to tell without numbers"))

# %% [markdown]
# **What you see.** All three are $L(\theta) = \tfrac12\theta^2$, whose [curvature](#curvature) $L''(\theta) = 1$ is the same in each picture and at each point. Only the limits of the axes differ. "They are equally flat" is true, but nobody could have known it from the first picture. In later notebooks a guess that is a number is drawn *into* the result, as a dotted line.

# %% [markdown]
# ## Play
#
# A panel is a picture with sliders. Drag one, or click on it and use the arrow keys: the picture follows at once. Left is the whole parabola with an orange frame; right is what the frame holds, blown up to the same size. If the picture moves, your set-up works.

# %% [markdown]
# How curved does the *drawing* look? Measure positions in the window as shares of its size: $\theta = w\,s$ with $w$ half of the width shown, and $L = H\,r$ with $H$ the height shown. Then $L = \tfrac12 h\,\theta^2$, with $h = L''(0)$, becomes $r = \tfrac12 (h\,w^2/H)\,s^2$. So the curve on the screen has curvature $h\,w^2/H$. For the whole parabola on the left, $w = 2$ and $H = 2$.

# %% jupyter={"source_hidden": true}
# the drawing
h = parabola.hessian(0.0).item()


def build(fig):
    whole, window = fig.subplots(1, 2)
    fl.plots.curve(parabola, whole)
    frame = whole.add_patch(plt.Rectangle((0, 0), 1, 1, fill=False, lw=2.5, edgecolor=fl.plots.ORANGE))
    whole.set(title="the loss", xlabel="θ", ylabel="L(θ)", xlim=(-2.04, 2.04), ylim=(-0.02, 2.04))
    whole.set(xticks=(-1, 0, 1), yticks=(0, 1, 2))
    (line,) = window.plot([], [])
    window.set(title="your window", xlabel="θ")
    window.spines[:].set(visible=True, color=fl.plots.ORANGE, linewidth=2.5)

    def update(w, H):
        theta = torch.linspace(-w, w, 101, dtype=torch.float64)
        line.set_data(theta, parabola(theta[:, None]))
        frame.set_bounds(-w, 0, 2 * w, H)
        window.set(xlim=(-w, w), ylim=(0, H), xticks=(-w, 0, w), yticks=(0, H))
        ratio = (h * w**2 / H) / (h * 2**2 / 2)
        return f"Curvature of the loss: {h:.2f}. The drawing is {ratio:.3g} times as curved as the left one."

    return update


# %% [markdown] slideshow={"slide_type": "slide"}
# **Flatter now?** Make the right curve look as flat as you can, then as sharp as you can, and watch the sentence below the picture.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "fragment"}
fl.panels.Panel(
    build,
    alt="left a parabola with an orange frame, right what the frame holds, blown up: it looks almost flat",
    size=(7.5, 3.4),
    labels={"w": "half of the width shown, w", "H": "height shown, H"},
    w=([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0], 0.5),
    H=([0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0], 2.0),
).show()

# %% [markdown]
# **What you see.** The drawing can be made to look as flat or as sharp as you like, while the curvature of the loss stays put. It is a number with a unit, loss per $\theta^2$. Keep the two ways to fool the eye in mind. The width enters squared and the height divides. Both return in this course, not as tricks of drawing but as changes of the problem: stretching a weight's axis (01), and multiplying the loss (02).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Exercises
#
# A self-check compares your answer with the right one *and* with the mistakes that people make, and says which one it was. Its cell is folded away, because it holds the answers.
#
# **Exercise 1** (★, 2 minutes). The window is made half as wide and keeps its height. By which factor is the curvature of the *drawing* multiplied? The panel may help. Give a wrong answer first, to see what happens.

# %% jupyter={"source_hidden": true} tags=["self-check"]
# self-check
factor = fl.exercises.Exercise(
    "00.window",
    answer=0.25,
    mistakes={
        "the width enters squared: look at w in h·w²/H": 0.5,
        "upside down: a narrower window makes the drawing flatter": 4.0,
        "upside down, and the width enters squared": 2.0,
        "true of the loss, which no window changes; but the question is about the drawing": 1.0,
        "the height stays the same here; only the width is halved": 0.125,
        "this is the number under the panel as it opens, beside the left picture (or squared twice); halve the width once": 0.0625,
    },
    praise="The width enters squared. You will meet this square again in notebook 01.",
)

# %% [markdown]
# Replace the dots by a number and run the cell again.

# %% slideshow={"slide_type": "fragment"}
answer = ...
factor.check(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = (1 / 2) ** 2
# factor.check(answer)
# ```
#
# The drawing has curvature $h\,w^2/H$. With $w/2$ in the place of $w$ it is $h\,w^2/(4H)$, so the factor is $\tfrac14$.
#
# </details>

# %% [markdown]
# **Exercise 2** (★★, 5 minutes, on paper). A minimum has curvature $h$. The window shows it to a distance $w$ on both sides. Choose the height $H$ so that its drawing has curvature 1, whatever $h$ and $w$ are.

# %% jupyter={"source_hidden": true} tags=["self-check"]
# self-check
same = fl.exercises.Exercise(
    "00.same",
    answer=lambda h, w: h * w**2,
    mistakes={
        "a square is missing: the loss grows with the square of the distance": lambda h, w: h * w,
        "upside down: this height makes the curvature of the drawing h²w⁴": lambda h, w: 1 / (h * w**2),
        "this lets the curve leave the window at its upper corners; its curvature is then 2": lambda h, w: h * w**2 / 2,
        "w is half of the width already": lambda h, w: h * (2 * w) ** 2,
        "the curvature of the loss is missing": lambda h, w: w**2,
    },
    inputs=[(1.0, 0.5), (4.0, 2.0), (0.3, 3.0)],
    praise="So any minimum can be drawn to look like any other.",
)

# %%
def height(h, w):
    return ...


same.check(height)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def height(h, w):
#     return h * w**2
#
#
# same.check(height)
# ```
#
# The drawing has curvature $h\,w^2/H$, and this is 1 for $H = h\,w^2$.
#
# </details>

# %% [markdown]
# **Exercise 3** (★★, 5 minutes). A talk shows the losses of two trained networks, X and Y, each along a line through its minimum; X looks flatter. What would you need to be told before "X is flatter than Y *along these lines*" follows? Tick what is *necessary*, as a set of letters.
#
# - **A.** the limits of the horizontal axis · **B.** the limits of the vertical axis · **C.** how long a step of 1 on the horizontal axis is, in weights
# - **D.** the test loss of both · **E.** that both losses at the minimum are 0

# %% jupyter={"source_hidden": true} tags=["self-check"]
# self-check
needed = fl.exercises.Exercise(
    "00.needed",
    answer={"A", "B", "C"},
    mistakes={
        "A: halve the width shown, and the drawing changes by a factor": {"B", "C"},
        "B: the height divides the curvature of the drawing": {"A", "C"},
        "C: with both axes numbered, the unit is still open: a line is often scaled to each network's own weights":
            {"A", "B"},
        "D: it may be why you ask, but a curvature is a fact about the loss that is drawn": {"A", "B", "C", "D"},
        "E: a constant added to a loss leaves its curvature alone (that of trained networks may depend on their "
        "loss, which is a reason to show it, notebook 04)": {"A", "B", "C", "E"},
    },
    praise="C is the one that talks forget.",
)

# %%
needs = ...
needed.check(needs)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# needs = {"A", "B", "C"}
# needed.check(needs)
# ```
#
# Curvature is loss per $\theta^2$: both axes need numbers, and the horizontal one needs its unit. D is another question, and E shifts a curve without bending it.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What do you believe now?
#
# The paper at the centre of this course makes six claims, here in our words, after its abstract. The course tests them, and its last notebook (25, planned) draws the verdicts beside what you believe *today*. That only works if you answer before you have seen anything.
#
# - **C1.** *Flat compared with what?* Take two functions and an equally good solution of each. Their surroundings can look very different. So flatness is relative to the function that is being learned.
# - **C2.** *A tighter boundary is sharper.* If two classes lie closer together, a network must draw its boundary more tightly, and its minimum gets sharper, even if it classifies every point correctly. So sharpness is not just [memorisation](#memorisation).
# - **C3.** *Regularised often means sharper.* With [weight decay](#weight-decay), data augmentation or [SAM](#sam), networks often end in *sharper* minima than the plain baseline …
# - **C4.** *… and better.* … and this goes together with better [generalisation](#generalisation-gap), better [calibration](#calibration), more robustness against [corrupted](#corruption) inputs, and more [agreement](#functional-consistency) from seed to seed.
# - **C5.** *Flatness is no reliable sign.* Unregularised networks tend to end in flatter minima and still do worse on all four counts, so flatness is no reliable sign of safety.
# - **C6.** *It is the function.* So the complexity of the learned function, not flatness alone, shapes the geometry of solutions.
#
# C5 is C3 and C4 seen from the other side: on the same data the course counts it once.

# %% [markdown]
# Move each slider to your belief in per cent: 0 means "surely false", 100 means "surely true". A slider that you have not moved counts as no answer. If you really mean 50, move it away and back.

# %% slideshow={"slide_type": "subslide"}
beliefs = {
    name: fl.predictions.ask(f"belief.{name}", f"{name}: {text}. How likely is that (%)?", slider=(0, 100))
    for name, text in fl.claims.PAPER.items()
}

# %% [markdown]
# When you have moved the sliders, run the next cell (again) to see where you stand.

# %% jupyter={"source_hidden": true} slideshow={"slide_type": "subslide"}
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for name, belief in beliefs.items():
    if belief.answer is None:
        ax.bar(name, 50, fill=False, edgecolor=fl.plots.GREY, linestyle="--")
        ax.text(name, 25, "no\nanswer", ha="center", va="center", color=fl.plots.GREY)
    else:
        ax.bar(name, belief.answer, color=fl.plots.BLUE)
ax.axhline(50, color="black", lw=1)
ax.set(ylim=(0, 100), ylabel="your belief (%)", title="before any evidence")
ax.grid(axis="x", visible=False)
fl.plots.show(fig, alt="six bars, C1 to C6: your belief in per cent; empty bars at 50 have no answer")

# %% [markdown]
# **What you see.** One bar for each claim. A filled bar is your belief; an empty, dashed one at 50 % stands for "no answer". The line at 50 % is a coin toss.

# %% [markdown]
# ## Take your predictions with you
#
# Your answers are kept on this machine, in `~/.flatlab/predictions.json`, and sent nowhere. Binder and Colab forget them when you leave. There, copy the text that this cell prints …

# %%
print(fl.predictions.code())

# %% [markdown]
# … and next time paste it between the quotes here and run the cell. Questions that you run after it open at your answers. It works in any notebook of the course.

# %%
my_code = ""
if my_code:
    fl.predictions.restore(my_code)

# %% [markdown]
# ## How far you have come
#
# Predictions made and exercises solved, notebook by notebook, on this machine (or restored with your code):

# %%
fl.exercises.progress()

# %% [markdown]
# ## How large the experiments are
#
# The same code runs at two scales. **laptop** is the default and what is stored here: at most two minutes on two cores, without a network connection. **paper** is for a GPU or a night; nobody has run it in full yet. What is too long for a laptop is **recorded**: it comes with the course, and is labelled so wherever it is shown.
#
# | notebook | laptop | paper | recorded |
# |---|---|---|---|
# | 00 – 04, 08 | all of it | the same | – |
# | 05 | all but the long runs | the same | the paper's seven functions, 10,000 epochs, 3 seeds; eleven functions to the end of training, 10 seeds |
# | 06 | 4 tightnesses | 9 tightnesses | 9 tightnesses, 100 seeds, the paper's protocol |
# | 07 | 16 seeds | 100 seeds | 11 shares of random labels, 20 seeds, 50,000 steps |
# | 09 | ResNet-8 on digits | ResNet-18 on CIFAR-10 | – |
# | 10 | 720 networks on digits | the same | – |
# | 11 | four toy networks | ResNet-18, VGG-19, ViT, GPT-2 | – |
# | 12 | reads the record | the same | a ResNet-8 on 2,000 photographs, five complete seeds |
#
# Choose with `fl.scale("paper")` in a notebook, or with the environment variable `FLATLAB_SCALE=paper` before you start it.

# %%
SCALE

# %% [markdown]
# ## If you teach with it
#
# - `make slides` turns each notebook into a reveal.js deck in `build/slides`; `make slides NB=01` makes one. A deck holds the cells that are marked as slides: questions, figures, panels and claims. Panels appear as still pictures there, so keep the notebook open beside the deck and drag the sliders in it.
# - A notebook takes at most 45 minutes to read, and an hour with discussion. Let the room vote at every *Predict* before you open the result.
# - Solutions and self-checks are folded away. Every typical mistake has its own message, so these lists also tell you what your students will get wrong.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take away
#
# *You may now say:* "Curvature is a number with a unit; how flat a picture looks depends on its axes."
#
# *You may no longer say:* "Look how flat this minimum is", of a picture without numbers.
#
# ### What this does not show
# Nothing about networks yet, and nothing for or against flat minima. One parabola was drawn in several windows.
#
# ### References
# I. Mason-Williams, G. Mason-Williams, H. Yannakoudakis. *A Function-Centric Perspective on Flat and Sharp Minima.* arXiv:2510.12451.
#
# **Next:** [01 · one dimension](01_one_dimension.ipynb)

# %% [markdown]
# The last code cell of every notebook sets what you predicted beside what came out. The beliefs have to wait for notebook 25.

# %%
for belief in beliefs.values():
    belief.settle("wait for notebook 25")
fl.predictions.compare()

# %% [markdown]
# <a id="glossary"></a>
# ## Glossary
#
# A page to look things up. **Symbols:** $\theta$ the parameters, $P$ of them; $L(\theta)$ the loss; $\ell_n$ the loss of sample $n$ out of $N$; $\nabla L$ its gradient and $H$ its Hessian, both with respect to $\theta$ unless something else is said; $z$ the logits and $p$ their softmax, for $K$ classes; $y$ the right class; $\mathbb E$ an average; $g$ a vector of independent standard normal numbers; $\lVert\cdot\rVert$ the length of a vector. Watch $\lambda$: with an index ($\lambda_i$, $\lambda_\max$) it is an eigenvalue, alone it is the strength of a regulariser.
#
# Unless something else is said, a loss is a *mean* over samples, and every sharpness is taken on the plain loss, without penalties.
#
# A link to a term leads to the line that names it; click on that line to open its group.

# %% [markdown]
# <details><summary><b>A – C</b>: <a id="adaptive-sharpness"></a>adaptive sharpness · <a id="average-sharpness"></a>average sharpness · <a id="batch"></a>batch · <a id="calibration"></a><a id="ece"></a>calibration (ECE) · <a id="claim"></a>claim · <a id="condition-number"></a>condition number · <a id="confidence"></a>confidence · <a id="confound"></a>confound · <a id="corruption"></a>corruption · <a id="cross-entropy"></a>cross-entropy · <a id="curvature"></a>curvature</summary>
#
# **adaptive sharpness.** Average or worst-case sharpness in which each weight is moved in proportion to its own size $|\theta_i|$; unchanged by function-preserving rescaling of ReLU layers and neurons, but not by the scale of the logits; units: loss. Code: `adaptive=True` in `fl.sharpness.average` and `fl.sharpness.worst_case`.
#
# **average sharpness.** The mean rise of the loss when noise of standard deviation $\rho$ is added to *each* parameter, $\mathbb E\,L(\theta + \rho g) - L(\theta)$; for small $\rho$ it tends to $\tfrac12\rho^2\,\mathrm{tr}\,H$; units: loss. Code: `fl.sharpness.average`.
#
# **batch.** The samples from which one step of training computes its gradient; *full batch* means all of them.
#
# **calibration (ECE).** Whether confidence tells the truth: among predictions made with 80 % confidence, 80 % should be right. The expected calibration error sorts predictions into bins $b$ by confidence, $n_b$ in each (15 bins in the paper), and averages the mismatch: $\mathrm{ECE} = \sum_b \tfrac{n_b}{N}\,|\mathrm{accuracy}_b - \mathrm{confidence}_b|$.
#
# **claim.** A sentence with a measured number, bounds that were fixed before the run, and a verdict that each run computes again. Code: `fl.claims.declare`.
#
# **condition number.** The largest eigenvalue of the Hessian at a minimum divided by the smallest, $\lambda_\max/\lambda_\min$: how elongated the bowl is.
#
# **confidence.** The probability that a network gives to the class it chooses, $\max_k p_k$.
#
# **confound.** Something else that differs together with what you compare, and may be the real cause: two networks that differ in sharpness often also differ in train loss.
#
# **corruption.** A disturbance of the *inputs*, such as blur, noise or fog; *robustness* is the accuracy that is left under it.
#
# **cross-entropy.** The loss of a classifier, $\ell_n = -\log p_{n,y_n}$: minus the logarithm of the probability it gives to the right class, averaged over samples; units: nats.
#
# **curvature.** How fast the slope changes: $L''(\theta)$ in one dimension, and $v^\top H v / v^\top v$ along a direction $v$; units: loss per $\theta^2$. Code: `fl.curvature.directional`.
#
# </details>

# %% [markdown]
# <details><summary><b>D – G</b>: <a id="decision-boundary"></a>decision boundary · <a id="dirichlet-energy"></a>Dirichlet energy · <a id="early-stopped-twin"></a>early-stopped twin · <a id="edge-of-stability"></a>edge of stability · <a id="eigenvalue"></a><a id="lambda-max"></a>eigenvalue · <a id="first-order-flatness"></a>first-order flatness · <a id="fisher-rao-norm"></a>Fisher-Rao norm · <a id="flat"></a>flat · <a id="function-preserving-rescaling"></a>function-preserving rescaling · <a id="functional-consistency"></a>functional consistency · <a id="gauss-newton"></a><a id="gauss-newton-matrix"></a>Gauss-Newton matrix · <a id="generalisation-gap"></a>generalisation gap · <a id="gradient"></a>gradient</summary>
#
# **decision boundary.** The set of inputs at which a classifier changes its answer; it is *tight* where the classes leave it little room.
#
# **Dirichlet energy.** How much a function $f$ changes from place to place: the mean squared length of its gradient with respect to its *inputs*. In this course it is divided by the variance, $\mathbb E\lVert\nabla f\rVert^2/\mathrm{Var} f$, so that multiplying $f$ by a number changes nothing; units: per input².
#
# **early-stopped twin.** A baseline network, trained with a complete learning-rate schedule of its own, that ends at the train loss of the regularised network it is compared with.
#
# **edge of stability.** In full-batch gradient descent with learning rate $\eta$, the state in which $\lambda_\max$ has risen to about $2/\eta$ and stays there: beyond it a step overshoots.
#
# **eigenvalue.** A number $\lambda_i$ with $H v_i = \lambda_i v_i$: the curvature along its own direction $v_i$, the *eigenvector*. The largest, $\lambda_\max$, is the curvature along the steepest direction of a bowl. Code: `fl.curvature.eigenvalues`, largest first.
#
# **first-order flatness.** The steepest slope nearby instead of the highest loss, $\rho\,\max_{\lVert\delta\rVert\le\rho}\lVert\nabla L(\theta+\delta)\rVert$; units: loss. Code: `fl.sharpness.first_order`.
#
# **Fisher-Rao norm.** How strongly the samples' losses react when all weights are scaled together, $\sqrt{\tfrac1N\sum_n \langle\theta, \nabla\ell_n(\theta)\rangle^2}$; units: loss. Code: `fl.sharpness.fisher_rao_norm`.
#
# **flat.** Of a minimum: with little curvature, by a measure and in coordinates that have to be named. The opposite of *sharp*.
#
# **function-preserving rescaling.** Multiplying the weights and biases in front of a ReLU by $a > 0$ and dividing the weights (not the biases) behind it by $a$: the network computes the same function, but the curvatures change.
#
# **functional consistency.** How far networks from different seeds agree; the *disagreement* is the share of inputs to which two of them give different classes.
#
# **Gauss-Newton matrix.** The part of the Hessian that remains if the network is replaced by its linear approximation in $\theta$, $G = \tfrac1N\sum_n J_n^\top \tfrac{\partial^2\ell}{\partial z^2} J_n$, with $J_n = \partial z_n/\partial\theta$. For cross-entropy the middle factor is $\mathrm{diag}(p) - p\,p^\top$, which vanishes as the network becomes confident. Code: `fl.curvature.GaussNewton`; the rest, $H - G$, is `Residual`.
#
# **generalisation gap.** How much worse a network does on new data than on its training data: test loss − train loss, or train accuracy − test accuracy.
#
# **gradient.** The vector of all first derivatives, $\nabla L = (\partial L/\partial\theta_1, \dots, \partial L/\partial\theta_P)$; it points uphill and is zero at every minimum, sharp or flat; units: loss per $\theta$.
#
# </details>

# %% [markdown]
# <details><summary><b>H – M</b>: <a id="hessian"></a>Hessian · <a id="hessian-vector-product"></a>Hessian-vector product · <a id="interpolation"></a>interpolation · <a id="label-noise"></a>label noise · <a id="learning-rate"></a>learning rate · <a id="logit"></a>logit · <a id="loss"></a>loss · <a id="memorisation"></a>memorisation · <a id="minimum"></a>minimum · <a id="mse"></a>MSE</summary>
#
# **Hessian.** The matrix of all second derivatives, $H_{ij} = \partial^2 L/\partial\theta_i\,\partial\theta_j$; it holds every curvature at a point; units: loss per $\theta^2$. Code: `fl.curvature.hessian`.
#
# **Hessian-vector product.** $H v$ for one vector $v$, obtained by differentiating twice without ever writing down $H$; it costs about two gradients. Code: `fl.curvature.hvp`.
#
# **interpolation.** Fitting all training data: every training sample is classified correctly, or every target is met. (*Linear* interpolation is something else: a straight line from one network's weights to another's.)
#
# **label noise.** Targets that are wrong at random: redrawn once before training, or disturbed afresh at every step. The notebook says which. If a label is redrawn among $K$ classes, it is still right with probability $1/K$.
#
# **learning rate.** The number $\eta$ by which a gradient step is multiplied, $\theta \leftarrow \theta - \eta\,\nabla L(\theta)$.
#
# **logit.** An output $z_k$ of a classifier before the softmax; only differences between logits matter.
#
# **loss.** A number that says how badly the parameters do on given data, $L(\theta) = \tfrac1N\sum_n \ell_n(\theta)$: a mean over samples, without penalties. Code: `fl.NetworkLoss`.
#
# **memorisation.** Fitting samples one by one instead of a rule behind them, as when labels are random.
#
# **minimum.** A point that no small step can improve (a *local* minimum; the *global* one is the lowest of all). The gradient is zero there, and no curvature is negative.
#
# **MSE.** Mean squared error, the mean of $(z - y)^2$ over samples *and* outputs, where $y$ is the target.
#
# </details>

# %% [markdown]
# <details><summary><b>N – R</b>: <a id="objective"></a>objective · <a id="parameter"></a>parameter · <a id="perturbation-radius"></a><a id="rho"></a>perturbation radius ρ · <a id="power-iteration"></a>power iteration · <a id="r2"></a>R² · <a id="random-direction-sharpness"></a>random-direction sharpness · <a id="regulariser"></a>regulariser · <a id="relative-flatness"></a>relative flatness · <a id="reparametrisation"></a>reparametrisation</summary>
#
# **objective.** Whatever is minimised: a scalar function of a parameter vector. A parabola is one, and so is the loss of a network; a *training* objective may also hold penalties. Code: `fl.Objective`.
#
# **parameter.** One of the $P$ numbers that training changes (weights and biases); all of them together are the vector $\theta$.
#
# **perturbation radius ρ.** How far away a measure looks. In worst-case and random-direction sharpness and in SAM, $\rho$ is the length of the whole step; in average sharpness it is the standard deviation of *each coordinate*, so the step is about $\rho\sqrt P$ long. In the adaptive forms it is relative to the size of each parameter.
#
# **power iteration.** Multiply a vector by $H$, divide it by its length, repeat: it turns towards the eigenvector whose eigenvalue is largest *in size*, which may be a negative one.
#
# **R².** The share of the targets' variance that a model explains, $R^2 = 1 - \mathrm{MSE}/\mathrm{Var}(y)$: 1 is perfect, 0 is no better than the mean.
#
# **random-direction sharpness.** The mean change of the loss a random step of length about $\rho$ away, $\mathbb E\,|L(\theta+\varepsilon)-L(\theta)|/\rho$ with $\varepsilon = \rho\,g/\sqrt P$; units: loss per $\theta$. The paper calls it "SAM-sharpness". For small $\rho$, away from a minimum, it measures the gradient and not the curvature. Code: `fl.sharpness.random_direction`.
#
# **regulariser.** Anything added to training that is not needed to fit the data: weight decay, augmentation, SAM, noise, early stopping.
#
# **relative flatness.** Curvature of the last layer, weighted by the size of its weights: $\kappa = \tfrac12\,\tfrac1N\sum_n \lVert\varphi_n\rVert^2 \sum_{ij} p_{ni}\,p_{nj}\,\lVert w_i - w_j\rVert^2$ for softmax and cross-entropy, with $\varphi_n$ the features in front of that layer and $w_i$ its rows. In spite of its name, a large $\kappa$ means sharp. Each feature is first scaled to standard deviation 1, and its weights with it, unless `normalise=False`. Code: `fl.sharpness.relative_flatness`.
#
# **reparametrisation.** Describing the same functions by other parameters, $\theta = g(u)$. Values at minima stay as they are, curvatures do not: in one dimension $h$ becomes $h\,g'(u)^2$ at a minimum.
#
# </details>

# %% [markdown]
# <details><summary><b>S – Z</b>: <a id="sam"></a>SAM · <a id="seed"></a>seed · <a id="sharp"></a>sharp · <a id="softmax"></a>softmax · <a id="spectrum"></a>spectrum · <a id="standard-error"></a>standard error · <a id="temperature-twin"></a>temperature twin · <a id="test-loss"></a>test loss · <a id="trace"></a>trace · <a id="train-loss"></a>train loss · <a id="twin"></a>twin · <a id="weight-decay"></a>weight decay · <a id="worst-case-sharpness"></a>worst-case sharpness</summary>
#
# **SAM.** Sharpness-aware minimisation: step uphill to $\theta + \rho\,\nabla L/\lVert\nabla L\rVert$, take the gradient there, go back, and use it for the step downhill from $\theta$. The rise of the loss on the way up is `fl.sharpness.one_step`.
#
# **seed.** The number that fixes all random choices of a run: first weights, order of the data, noise. Results are shown for several seeds.
#
# **sharp.** Of a minimum: with much curvature, by a measure and in coordinates that have to be named. The opposite of *flat*.
#
# **softmax.** Turns logits into probabilities, $p_k = e^{z_k}/\sum_j e^{z_j}$.
#
# **spectrum.** All $P$ eigenvalues of the Hessian together. Code: `fl.curvature.spectral_density` estimates how they are distributed.
#
# **standard error.** The standard deviation of an estimate if it were repeated; for a mean of $n$ independent values with standard deviation $s$ it is $s/\sqrt n$. A 95 % interval is about two standard errors to each side. Code: `.stderr` of an `fl.Estimate`.
#
# **temperature twin.** The baseline network with its logits divided by a number $T$ that makes its train loss equal to that of the regularised network: same decisions, no training, another sharpness.
#
# **test loss.** The loss on data that training has not seen.
#
# **trace.** The sum of the Hessian's diagonal, which is the sum of all eigenvalues, $\mathrm{tr}\,H = \sum_i \lambda_i$: $P$ times the mean curvature; units: loss per $\theta^2$. Code: `fl.curvature.trace`, an estimate with its standard error.
#
# **train loss.** The loss on the training data, without penalties, with clean inputs and hard labels; shown beside every sharpness of a network.
#
# **twin.** A baseline network that has been brought to the same train loss as the network it is compared with, so that what is left of a difference in sharpness is not just a difference in loss.
#
# **weight decay.** A regulariser that pulls all parameters towards 0 by adding $\lambda\lVert\theta\rVert^2$ to the objective, which adds exactly $2\lambda$ to every curvature of the *objective*. PyTorch's `weight_decay=w` stands for $\tfrac w2\lVert\theta\rVert^2$, so $w = 2\lambda$.
#
# **worst-case sharpness.** The largest rise of the loss within a radius, $\max_{\lVert\delta\rVert\le\rho} L(\theta+\delta)-L(\theta)$; on a quadratic, at its minimum, it is $\tfrac12\rho^2\lambda_\max$; units: loss. Code: `fl.sharpness.worst_case`, the best of several searches and so a lower bound.
#
# </details>
