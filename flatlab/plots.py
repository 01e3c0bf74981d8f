"""One style for every figure, and the pictures that return in every notebook."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from flatlab.curvature import SpectralDensity
from flatlab.functions import Function

# petroff10 (Petroff 2021), ordered by a survey for colour-blind readers; line styles tell the curves apart in grey.
COLOURS = ("#3f90da", "#e76300", "#92140c", "#717581", "#832db6", "#a96b59")
BLUE, ORANGE, RED, GREY, PURPLE, BROWN = COLOURS
DPI = 150

STYLE = {
    "axes.prop_cycle": mpl.cycler(color=COLOURS) + mpl.cycler(linestyle=["-", "--", "-.", ":", "-", "--"]),
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


def curve(f: Function, ax: Axes | None = None, domain=None, minima: bool = True, points: int = 400, **style) -> Axes:
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


def trajectory(points: Tensor, ax: Axes, **style) -> Axes:
    """The path of an optimiser, `points (steps, 2)`, from a ring at its start to a dot at its end."""
    points = torch.as_tensor(points)
    ax.plot(*points.T, **{"color": ORANGE, "linestyle": "-", "marker": ".", "lw": 1.5} | style)
    ax.plot(*points[0], "o", mfc="none", mec=style.get("color", ORANGE), ms=10, mew=2)
    ax.plot(*points[-1], "o", color=style.get("color", ORANGE), ms=8)
    return ax


def plane(alphas: Tensor, betas: Tensor, losses: Tensor, ax: Axes | None = None, label: str = "loss") -> Axes:
    """A two-dimensional slice of a loss, `losses (len(betas), len(alphas))`, with a cross at the network itself."""
    ax = ax or _new()
    filled = ax.contourf(alphas, betas, losses, levels=24)
    ax.figure.colorbar(filled, ax=ax, label=label)
    ax.plot(0, 0, "+", color="white", ms=12, mew=2)
    ax.set(xlabel="α (first direction)", ylabel="β (second direction)")
    ax.grid(False)
    return ax


def spectrum(eigenvalues: Tensor | SpectralDensity, ax: Axes | None = None, **style) -> Axes:
    """All eigenvalues in falling order, or the density of a `SpectralDensity` on a logarithmic axis."""
    ax = ax or _new()
    if isinstance(eigenvalues, SpectralDensity):
        low, high = eigenvalues.values.min().item(), eigenvalues.values.max().item()
        grid = torch.linspace(low - 0.05 * (high - low), high + 0.05 * (high - low), 600, dtype=torch.float64)
        ax.semilogy(grid, eigenvalues.density(grid, max(0.01 * (high - low), 1e-12)).clamp(min=1e-6), **style)
        ax.set(xlabel="eigenvalue λ", ylabel="density")
    else:
        values = torch.as_tensor(eigenvalues).sort(descending=True).values
        ax.plot(np.arange(1, len(values) + 1), values, **{"marker": ".", "linestyle": "none"} | style)
        ax.set(xlabel="rank", ylabel="eigenvalue λ")
    return ax


def _bowl_axes(ax, f, minimum):
    values, vectors = torch.linalg.eigh(f.hessian(minimum))
    reach = 0.25 * (f.domain[0, 1] - f.domain[0, 0]) * (values.min() / values).sqrt()
    for length, direction in zip(reach, vectors.T, strict=True):
        ends = torch.stack([minimum - length * direction, minimum + length * direction])
        ax.plot(*ends.T, color="white", lw=1.4, linestyle="-")


def _new():
    return plt.subplots()[1]
