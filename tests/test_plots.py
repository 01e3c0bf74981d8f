"""Figures show what they say, in one style, and are stored small with a text."""

import io
import math

import IPython.display
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from flatlab import plots
from flatlab.curvature import SpectralDensity
from flatlab.functions import double_well, himmelblau, rastrigin, three_hump_camel

ALT = "a parabola whose bottom follows the slider from left to right"


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as a list of (bundle, metadata)."""
    calls = []

    def display(bundle, metadata=None, raw=False):
        calls.append((bundle, metadata))

    monkeypatch.setattr(IPython.display, "display", display)
    return calls


@pytest.fixture(autouse=True)
def clean_figures():
    with mpl.rc_context():
        yield
    plt.close("all")


def image(data):
    return Image.open(io.BytesIO(data))


def test_a_figure_is_shown_with_its_alt_text_and_closed(shown):
    fig, ax = plt.subplots(figsize=(6, 3))
    ax.plot([1, 2])
    plots.show(fig, ALT)
    ((bundle, metadata),) = shown
    assert bundle["text/plain"] == metadata["image/png"]["alt"] == ALT
    assert (metadata["image/png"]["width"], metadata["image/png"]["height"]) == (600, 300)
    assert image(bundle["image/png"]).size == (900, 450)
    assert not plt.fignum_exists(fig.number)


def test_a_figure_is_stored_with_a_palette_and_smaller_than_usual():
    ax, usual = plots.surface(himmelblau), io.BytesIO()
    ax.figure.savefig(usual, format="png", dpi=plots.DPI)
    stored = plots.png(ax.figure)
    assert image(stored).mode == "P"
    assert len(stored) < len(usual.getvalue()) / 2
    before, after = (np.asarray(image(data).convert("RGB"), dtype=float) for data in (usual.getvalue(), stored))
    assert np.abs(before - after).mean() < 4  # of 255


@pytest.mark.parametrize("alt", ["", "a curve", "one two three four five six seven"])
def test_a_figure_needs_an_alt_text_of_eight_words(alt, shown):
    fig = plt.figure()
    with pytest.raises(ValueError, match="alt is"):
        plots.show(fig, alt)
    assert shown == []


def test_the_style_changes_only_its_own_settings():
    before, backend = dict(mpl.rcParams), mpl.get_backend()
    plots.use_style()
    changed = {key for key in before if key != "backend" and mpl.rcParams[key] != before[key]}
    assert changed and changed <= set(plots.STYLE)
    assert {key: mpl.rcParams[key] for key in plots.STYLE} == dict(mpl.RcParams(plots.STYLE))
    assert mpl.get_backend() == backend and not plt.get_fignums()


def test_colours_are_told_apart_by_line_style_too():
    cycle = list(plots.STYLE["axes.prop_cycle"])
    assert len({step["color"] for step in cycle}) == len(cycle) == 6
    assert len({step["linestyle"] for step in cycle[:4]}) == 4


@pytest.mark.parametrize("domain, dots", [(None, [-1, 1]), ((0, 3), [1]), ((2, 3), [])])
def test_a_curve_has_a_dot_on_every_minimum_in_sight(domain, dots):
    f = double_well()
    drawn, marks = plots.curve(f, domain=domain).lines
    assert np.allclose(drawn.get_ydata(), f(torch.tensor(drawn.get_xdata())[:, None]))
    assert list(drawn.get_xdata()[[0, -1]]) == pytest.approx(domain or f.domain[0].tolist())
    assert list(marks.get_xdata()) == dots


@pytest.mark.parametrize("f, minima", [(himmelblau, 2), (rastrigin, 49), (three_hump_camel, 3)])
def test_a_surface_has_a_cross_and_two_axes_at_every_minimum_in_the_square(f, minima):
    lines = plots.surface(f).lines
    assert sum(line.get_marker() == "+" for line in lines) == minima
    assert len(lines) == 3 * minima


def test_a_surface_is_the_right_way_round():
    """Half-axes of a bowl are as 1/√λ: the camel at 0 is flat along y, sharp along x."""
    lines = plots.surface(three_hump_camel).lines[:2]
    ends = [np.ptp(np.array(line.get_data()), axis=1) for line in lines]
    long, short = sorted(ends, key=np.linalg.norm, reverse=True)
    assert np.linalg.norm(long) / np.linalg.norm(short) == pytest.approx(math.sqrt((3 + 2**0.5) / (3 - 2**0.5)))
    assert long[1] > long[0] and short[0] > short[1]


def test_a_trajectory_runs_from_its_ring_to_its_dot():
    path = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 4.0]])
    line, ring, dot = plots.trajectory(path, plt.subplots()[1]).lines
    assert np.array(line.get_data()).T.tolist() == path.tolist()
    assert (ring.get_xydata().tolist(), dot.get_xydata().tolist()) == ([[0, 1]], [[4, 4]])


def test_a_plane_is_drawn_with_beta_upwards():
    alphas, betas = torch.arange(-2, 3) / 2, torch.arange(-3, 4)
    ax = plots.plane(alphas, betas, betas[:, None].expand(7, 5).float())
    heights = [path.vertices[:, 1].mean() for path in ax.collections[0].get_paths() if len(path.vertices)]
    assert heights == sorted(heights) and ax.get_ylabel().startswith("β")


def test_a_spectrum_falls_and_a_density_is_drawn_over_its_range():
    (line,) = plots.spectrum(torch.tensor([1.0, 3.0, 2.0])).lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2, 3], [3, 2, 1])
    density = SpectralDensity(torch.tensor([[0.0, 10.0]]).double(), torch.tensor([[0.5, 0.5]]).double())
    (line,) = plots.spectrum(density).lines
    peaks = line.get_xdata()[line.get_ydata() > 0.9 * line.get_ydata().max()]
    assert {round(x) for x in peaks.tolist()} == {0, 10}


def test_a_spectrum_of_one_eigenvalue_can_be_drawn():
    (line,) = plots.spectrum(SpectralDensity(torch.full((2, 1), 3.0), torch.ones(2, 1))).lines
    assert np.isfinite(line.get_ydata()).all() and line.get_ydata().max() > 1e-3
