"""One style for every figure, and the pictures that return in every notebook."""

import io
from html import escape
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import rcsetup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from flatlab import compare
from flatlab.curvature import SpectralDensity
from flatlab.functions import Function

# petroff10 (Petroff 2021), ordered by a survey for colour-blind readers; line styles tell the curves apart in grey.
COLOURS = ("#3f90da", "#e76300", "#92140c", "#717581", "#832db6", "#a96b59")
BLUE, ORANGE, RED, GREY, PURPLE, BROWN = COLOURS
DPI = 150

STYLE: Any = {
    "axes.prop_cycle": rcsetup.cycler(color=COLOURS, linestyle=["-", "--", "-.", ":", "-", "--"]),
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "figure.constrained_layout.use": True,
    "figure.figsize": (6.5, 3.6),
    "font.size": 11.5,
    "grid.alpha": 0.3,
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.linewidth": 2.2,
}


def use_style() -> None:
    """Use the course's figure style from here on: colour-blind safe, told apart in grey, readable from the last row."""
    mpl.rcParams.update(STYLE)


def show(fig: Figure, alt: str) -> None:
    """Display a figure with a text `alt` (at least 8 words) that says what is seen, and close it.

    Errors: ValueError if `alt` is too short to help a reader who cannot see the picture.
    """
    from IPython.display import display

    check_alt(alt)
    picture = png(fig)
    plt.close(fig)
    display({"image/png": picture, "text/plain": alt}, metadata={"image/png": size(fig) | {"alt": alt}}, raw=True)
    display({"text/html": in_words(alt), "text/plain": ""}, raw=True)


def in_words(alt: str) -> str:
    """HTML that a screen reader reads and nobody sees: the notebooks' front ends give a picture no alternative text."""
    style = "position:absolute;width:1px;height:1px;margin:0;overflow:hidden;clip-path:inset(50%)"
    return f'<p style="{style}">{escape(alt)}</p>'


def check_alt(alt: str) -> None:
    """Refuse a text that cannot stand in for the picture."""
    if len(alt.split()) < 8:
        raise ValueError(f"alt is {alt!r}: describe in at least 8 words what the picture shows")


def png(fig: Figure) -> bytes:
    """The figure as a PNG of 256 colours, a third of the usual size, so that notebooks stay small."""
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI)
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def size(fig: Figure) -> dict[str, int]:
    """Width and height in which the picture is to be shown, in CSS pixels."""
    width, height = fig.get_size_inches() * 100
    return {"width": round(width), "height": round(height)}


def curve(
    f: Function, ax: Axes | None = None, domain: tuple[float, float] | None = None, minima: bool = True,
    points: int = 400, **style: Any,
) -> Axes:  # fmt: skip
    """A function of one variable over `domain` (its own by default), with a dot on every minimum."""
    ax = ax or _new()
    low, high = domain if domain is not None else f.domain[0].tolist()
    grid = torch.linspace(low, high, points, dtype=torch.float64)
    (drawn,) = ax.plot(grid, f(grid[:, None]), **{"label": f.name} | style)
    if minima:
        inside = f.minima[(f.minima >= low) & (f.minima <= high)]
        ax.plot(inside, f(inside[:, None]), "o", ms=8, color=drawn.get_color())
    return ax


def surface(f: Function, ax: Axes | None = None, eigen_axes: bool = True, points: int = 201) -> Axes:
    """Contours of a function of two variables (evenly spaced in log(1 + f)), its minima and the axes of their bowls.

    Each cross is one minimum; the half-axes have length `∝ 1/√λ`, the shape of the bowl at equal height.
    """
    ax = ax or _new()
    x, y = (torch.linspace(low, high, points, dtype=torch.float64) for low, high in f.domain.tolist())
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    ax.contourf(x, y, torch.log1p(f(grid) - f(f.minima).min()), levels=24, alpha=0.9)
    inside = ((f.minima >= f.domain[:, 0]) & (f.minima <= f.domain[:, 1])).all(1)
    for minimum in f.minima[inside]:
        if eigen_axes:
            _bowl_axes(ax, f, minimum)
        ax.plot(*minimum, "+", color="white", ms=9, mew=2)
    ax.set(xlabel="x", ylabel="y", xlim=f.domain[0].tolist(), ylim=f.domain[1].tolist(), title=f.name)
    ax.grid(False)
    return ax


def spectrum(density: SpectralDensity, ax: Axes | None = None, **style: Any) -> Axes:
    """The density of all eigenvalues, on a logarithmic axis."""
    ax = ax or _new()
    low, high = density.values.min().item(), density.values.max().item()
    grid = torch.linspace(low - 0.05 * (high - low), high + 0.05 * (high - low), 600, dtype=torch.float64)
    ax.semilogy(grid, density.density(grid, max(0.01 * (high - low), 1e-12)).clamp(min=1e-6), **style)
    ax.set(xlabel="eigenvalue λ", ylabel="density")
    return ax


def forest(values: Any, ax: Axes | None = None, m: int = 1, factors: bool = True) -> Axes:
    """Differences per seed, a row for each name: mean and t-interval at level 1 − .05/m, and a small dot per seed.

    values: a frame of `compare.differences` (in each row a mark for each column, "train loss" as a black bar), one
    column, or `{name: values}`. factors: they are powers of ten, and the axis shows factors. The line: no difference.
    """
    ax = ax or _new()
    several = getattr(values, "ndim", 1) == 2
    series = {label: compare.by_name(values[label]) for label in values} if several else {"": compare.by_name(values)}
    names = list(dict.fromkeys(name for part in series.values() for name in part))
    scale = (lambda v: 10.0**v) if factors else np.asarray
    bars = series.pop("train loss", {}) if several else {}
    ax.plot([scale(d.mean()) for d in bars.values()], [names.index(n) for n in bars], "|", color="black", ms=26, mew=3,
            label="train loss" if bars else "")  # fmt: skip
    for k, (label, part) in enumerate(series.items()):
        rows = [names.index(name) + 0.7 * ((k + 0.5) / len(series) - 0.5) for name in part]
        for row, d in zip(rows, part.values(), strict=True):
            ax.plot(scale(d), [row] * len(d), ".", ms=3, color=COLOURS[k % 6], alpha=0.5)
        mean, half = np.transpose([compare.interval(d, 1 - 0.05 / m) for d in part.values()])
        ends = abs(scale(np.array([mean - half, mean + half])) - scale(mean))
        ax.errorbar(scale(mean), rows, xerr=ends, fmt="osD^vP"[k % 6], ms=7, color=COLOURS[k % 6], label=label)
    ax.axvline(float(factors), color=GREY, lw=1.5, ls="-")
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    if factors:
        ax.set(xscale="log", xlabel="factor")
        ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
    return ax


def band(x: Any, values: Any, ax: Axes | None = None, share: float | None = 0.8, **style: Any) -> Axes:
    """The median over seeds of `values (len(x), seeds)` with a band that holds the middle `share` of them.

    `share=None`: the mean with its 95 % t-interval. NaN is left out.
    """
    ax, values = ax or _new(), np.asarray(values, dtype=float)
    if share is None:
        middle, half = np.transpose([compare.interval(row) for row in values])
        low, high = middle - half, middle + half
    else:
        low, middle, high = np.nanquantile(values, [0.5 - share / 2, 0.5, 0.5 + share / 2], axis=1)
    (line,) = ax.plot(x, middle, **style)
    ax.fill_between(x, low, high, color=line.get_color(), alpha=0.25, lw=0)
    return ax


def _bowl_axes(ax, f, minimum):
    values, vectors = torch.linalg.eigh(f.hessian(minimum))
    reach = 0.25 * (f.domain[0, 1] - f.domain[0, 0]) * (values.min() / values).sqrt()
    for length, direction in zip(reach, vectors.T, strict=True):
        ends = torch.stack([minimum - length * direction, minimum + length * direction])
        ax.plot(*ends.T, color="white", lw=1.4, linestyle="-")


def _new():
    return plt.subplots()[1]
