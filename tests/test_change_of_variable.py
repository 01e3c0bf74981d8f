"""Wells of one variable, and what a change of variable does to their curvature."""

import math
from math import pi, sqrt

import pytest
import torch
from helpers import central, close
from test_functions import MAPS, WELLS

from flatlab import sharpness
from flatlab.functions import change_variable, double_well, multi_well, single_well, stretch

every_map = pytest.mark.parametrize("g", MAPS.values(), ids=list(MAPS))


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0, -2.0])
@pytest.mark.parametrize("centre", [0.0, 3.0])
def test_valleys_of_the_double_well(tilt, centre):
    f = double_well(tilt, centre)
    assert close(f.minima, [centre - 1, centre + 1], 1e-15)
    assert close(f.hessian(f.minima[:, None])[:, 0, 0], [2 * math.exp(-tilt), 2 * math.exp(tilt)], 1e-12)


@every_map
@pytest.mark.parametrize("f", WELLS.values(), ids=list(WELLS))
def test_curvature_of_a_minimum_takes_the_squared_slope_of_the_map(f, g):
    changed, new = change_variable(f, g), g.inverse(f.minima)
    assert close(changed.minima, new, 1e-15)
    assert close(changed(new[:, None]) + 1, f(f.minima[:, None]) + 1, 1e-14)
    wanted = f.hessian(f.minima[:, None])[:, 0, 0] * g.first(new) ** 2
    assert close(changed.hessian(new[:, None])[:, 0, 0], wanted, 1e-10)


@every_map
def test_maps_increase_and_their_inverse_undoes_them(g):
    u = torch.linspace(-3, 3, 101, dtype=torch.float64)
    assert (g.first(u) > 0).all()
    assert close(g.inverse(g.value(u)), u, 1e-12)
    assert close(g.first(u), central(g.value, u[:, None])[:, 0, 0], 1e-8)
    assert close(g.second(u), central(g.first, u[:, None])[:, 0, 0], 1e-8) or g is MAPS["rescaled"]


def test_stretch_divides_one_curvature_and_leaves_the_far_one_alone():
    f = change_variable(double_well(), stretch(5.0, at=1.0))
    left, right = f.hessian(f.minima[:, None])[:, 0, 0].tolist()
    assert right == pytest.approx(2 * math.e / 25, rel=1e-12)
    assert left == pytest.approx(2 / math.e, rel=1e-4)


@pytest.mark.parametrize("tilt", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("nudge, right_is_sharper", [(0.999, True), (1.001, False)])
def test_stretch_flips_the_order_at_the_root_of_the_ratio(tilt, nudge, right_is_sharper):
    """√(h₂/h₁) = e^tilt: any smaller stretch leaves the right valley the sharper one, any larger one does not."""
    f = change_variable(double_well(tilt), stretch(nudge * math.exp(tilt), at=1.0))
    left, right = f.hessian(f.minima[:, None])[:, 0, 0]
    assert (right > left) == right_is_sharper


@pytest.mark.parametrize("k", [2 * pi, 8.0, 12.0, 20.0])
def test_radius_one_cannot_tell_many_wells_apart_but_the_slope_can(k):
    f = multi_well(k)
    assert sharpness.worst_case(f, [0.0], rho=1.0) == pytest.approx(0.5, rel=0.01)
    assert sharpness.first_order(f, [0.0], rho=1.0) == pytest.approx(k / 4, rel=0.01)


@pytest.mark.parametrize("k", [3.0, 4.0, 8.0, 20.0])
def test_radius_one_cannot_tell_single_wells_apart_but_the_slope_can(k):
    f = single_well(k)
    slope = sqrt(k) * math.exp(-0.5) / 2 / (1 - math.exp(-k / 2))
    assert sharpness.worst_case(f, [0.0], rho=1.0) == pytest.approx(0.5, rel=1e-12)
    assert sharpness.first_order(f, [0.0], rho=1.0) == pytest.approx(slope, rel=0.01)
