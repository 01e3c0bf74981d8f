"""A panel follows its controls, never jumps, and says what went wrong."""

import io

import IPython.display
import ipywidgets as widgets
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from PIL import Image

from flatlab.panels import Panel

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


def parabola(fig):
    ax = fig.subplots()
    (line,) = ax.plot([0, 1], [0, 0])
    ax.set_ylim(-3, 3)

    def update(shift, kind="square"):
        if shift == 2:
            raise ZeroDivisionError("no bowl here")
        line.set_ydata([shift, shift**2])
        return f"shift {shift:g}, {kind}"

    return update


def panel(**controls):
    return Panel(parabola, ALT, **({"shift": (-2, 2, 0)} | controls))


def test_moving_a_control_changes_the_picture_and_the_text():
    p = panel(kind=["square", "cube"])
    start = p.image.value
    assert image(start).size == (650, 360) and "shift 0, square" in p.readout.value
    moved = p.set(shift=1.0, kind="cube")
    assert moved is p and p.values == {"shift": 1.0, "kind": "cube"}
    assert p.image.value != start and "shift 1, cube" in p.readout.value


@pytest.mark.parametrize("kept", [256, 1])
def test_going_back_shows_the_same_picture_kept_or_drawn_anew(kept, monkeypatch):
    monkeypatch.setattr("flatlab.panels.KEPT", kept)
    p = panel()
    start = p.image.value
    assert p.set(shift=1.0).set(shift=0.0).image.value == start


def test_a_kept_frame_is_not_drawn_again_and_few_are_kept(monkeypatch):
    monkeypatch.setattr("flatlab.panels.KEPT", 2)
    drawn = []
    p = Panel(lambda fig: lambda shift: drawn.append(shift), ALT, shift=(-2, 2, 0))
    for shift in (1.0, 0.0, 1.0, -1.0, 0.0):
        p.set(shift=shift)
    assert drawn == [0.0, 1.0, -1.0, 0.0]


def test_an_error_in_a_panel_is_shown_and_the_panel_goes_on():
    p = panel().set(shift=2.0)
    assert "ZeroDivisionError" in p.readout.value and "no bowl here" in p.readout.value
    assert "shift 1" in p.set(shift=1.0).readout.value


def test_a_panel_is_shown_with_a_picture_for_those_without_widgets(shown):
    p = panel()
    p.show()
    (bundle, metadata), (words, _) = shown
    assert f">{ALT} shift 0, square</p>" in words["text/html"]
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == p.widget.model_id
    assert image(bundle["image/png"]).mode == "P"
    assert bundle["text/plain"] == metadata["image/png"]["alt"] == f"{ALT} shift 0, square"


def test_a_panel_leaves_the_global_style_and_figures_alone():
    before = dict(mpl.rcParams)
    panel().set(shift=1.0)
    assert dict(mpl.rcParams) == before and not plt.get_fignums()


CONTROLS = {
    "slider": ((-1, 3, 0.5), widgets.FloatSlider, 0.5),
    "numbers": ([1, 10, 100], widgets.SelectionSlider, 1),
    "numbers with a start": (([1, 10, 100], 10), widgets.SelectionSlider, 10),
    "menu": (["a", "b"], widgets.Dropdown, "a"),
    "menu with a start": ((["a", "b"], "b"), widgets.Dropdown, "b"),
    "box": (True, widgets.Checkbox, True),
    "widget": (widgets.IntSlider(4), widgets.IntSlider, 4),
}


@pytest.mark.parametrize("kind", CONTROLS)
def test_each_kind_of_control(kind):
    spec, widget, start = CONTROLS[kind]
    p = Panel(lambda fig: lambda step_size: None, ALT, labels={"step_size": "η"}, step_size=spec)
    assert isinstance(p.controls["step_size"], widget)
    assert p.values == {"step_size": start} and p.controls["step_size"].description == "η"


@pytest.mark.parametrize(
    "spec", [(1, 2), (1, 2, 3), (2, 1, 1.5), (1, 1, 1), [], "abc", None, 3.0, ([1, 2], 5)], ids=str
)
def test_a_control_that_cannot_be_understood_is_named(spec):
    with pytest.raises(ValueError, match="shift is"):
        panel(shift=spec)


def test_a_control_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="colour"):
        panel().set(colour="red")


def test_a_panel_needs_an_alt_text():
    with pytest.raises(ValueError, match="alt is"):
        Panel(parabola, "a parabola", shift=(-1, 1, 0))
