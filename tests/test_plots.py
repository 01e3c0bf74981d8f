"""Figures show what they say, in one style, and are stored small with a text."""

import io
import math

import IPython.display
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from flatlab import compare, plots
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
    (bundle, metadata), (words, _) = shown
    assert f">{ALT}</p>" in words["text/html"] and "clip-path" in words["text/html"]
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


def test_a_density_is_drawn_over_its_range():
    density = SpectralDensity(torch.tensor([[0.0, 10.0]]).double(), torch.tensor([[0.5, 0.5]]).double())
    (line,) = plots.spectrum(density).lines
    peaks = line.get_xdata()[line.get_ydata() > 0.9 * line.get_ydata().max()]
    assert {round(x) for x in peaks.tolist()} == {0, 10}


def test_a_spectrum_of_one_eigenvalue_can_be_drawn():
    (line,) = plots.spectrum(SpectralDensity(torch.full((2, 1), 3.0), torch.ones(2, 1))).lines
    assert np.isfinite(line.get_ydata()).all() and line.get_ydata().max() > 1e-3


PAIRS = pd.MultiIndex.from_product([["SAM", "aug"], range(5)])
DIFFERENCES = pd.DataFrame(
    {"λ_max": [-0.3, -0.2, -0.1, -0.2, -0.2, 0.4, 0.5, 0.6, np.nan, 0.5], "train loss": [-0.1] * 5 + [1.0] * 5}, PAIRS
)


@pytest.mark.parametrize("factors", [True, False])
@pytest.mark.parametrize("m", [1, 4])
def test_a_forest_has_means_with_their_intervals_and_a_dot_per_seed(factors, m):
    ax = plots.forest(DIFFERENCES, m=m, factors=factors)
    scale = (lambda v: 10**v) if factors else (lambda v: v)
    bars, *dots, _, zero = ax.lines
    assert np.allclose(bars.get_xdata(), [scale(-0.1), scale(1.0)]) and list(bars.get_ydata()) == [0, 1]
    assert [len(line.get_xdata()) for line in dots] == [5, 4]
    assert list(zero.get_xdata()) == [scale(0), scale(0)] and ax.get_xscale() == ("log" if factors else "linear")
    (marks,) = ax.containers
    for (left, right), name in zip(marks[2][0].get_segments(), ("SAM", "aug"), strict=True):
        mean, half = compare.interval(DIFFERENCES["λ_max"][name], 1 - 0.05 / m)
        assert (left[0], right[0]) == pytest.approx((scale(mean - half), scale(mean + half)))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["SAM", "aug"] and ax.yaxis_inverted()
    assert ax.get_legend_handles_labels()[1] == ["train loss", "λ_max"]


def test_a_forest_of_one_column_or_of_names_has_one_mark_in_each_row():
    for values in (DIFFERENCES["λ_max"], {"SAM": DIFFERENCES["λ_max"]["SAM"], "aug": [0.4, 0.5, 0.6, 0.5]}):
        ax = plots.forest(values)
        assert np.allclose(ax.containers[0][0].get_xdata(), [10**-0.2, 10**0.5])
        assert list(ax.containers[0][0].get_ydata()) == [0, 1] and ax.get_legend_handles_labels()[1] == []


def test_marks_of_several_columns_differ_in_shape_as_in_colour():
    names = ["λ_max", "tr H", "κ", "worst case"]
    ax = plots.forest(pd.DataFrame({name: DIFFERENCES["λ_max"] for name in names}))
    marks = [container[0] for container in ax.containers]
    assert len({mark.get_marker() for mark in marks}) == len({mark.get_color() for mark in marks}) == 4
    heights = np.array([mark.get_ydata() for mark in marks])
    assert (np.diff(heights, axis=0) > 0.1).all() and np.ptp(heights, axis=0).max() < 0.9


def test_a_band_holds_the_middle_share_of_the_seeds():
    values = np.arange(11.0) * np.array([[1.0], [2.0]])  # (2 places, 11 seeds)
    values[1, 10] = np.nan
    ax = plots.band([3, 4], values, share=0.8, label="base")
    assert list(ax.lines[0].get_ydata()) == [5, 9] and ax.lines[0].get_label() == "base"
    edge = ax.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in edge.round(9)} >= {(3, 1), (3, 9), (4, 1.8), (4, 16.2)}


def test_a_band_of_a_mean_is_its_t_interval():
    values = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    ax = plots.band(range(3), values, share=None)
    mean, half = np.transpose([compare.interval(row) for row in values])
    assert np.allclose(ax.lines[0].get_ydata(), mean)
    low = [ax.collections[0].get_paths()[0].vertices[:, 1].min(), ax.collections[0].get_paths()[0].vertices[:, 1].max()]
    assert np.allclose(low, [(mean - half).min(), (mean + half).max()])
