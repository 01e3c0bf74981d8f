"""One small class for every slider panel: a picture that follows its controls at once and never jumps."""

import io
import math
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.spines import Spine

from flatlab import plots

KEPT = 256  # rendered positions that are kept, so that going back costs nothing


class Panel:
    """A figure with controls; the picture is redrawn whenever a control moves.

    build: `build(fig)` draws what stays and returns `update(**values)`, which changes what moves (and may return a
        line of text that is shown below). `update` must only look numbers up, or compute what is instant: sweeps are
        computed beforehand.
    alt: at least 8 words for readers who cannot see the picture; also kept in the stored notebook.
    controls: one per argument of `update`: `(low, high, start)` a slider in 40 steps; a list of numbers a slider over
        just these; a list of strings a menu; a bool a check box; or any ipywidgets control with a `.value`. The first
        entry of a list is the start, or give `(list, start)`.
    labels: `{name: text}` for names that need a nicer label.

    Errors: ValueError for a control that cannot be understood; an error inside `update` is shown in the panel.
    """

    def __init__(
        self, build: Callable, alt: str, size: tuple[float, float] = (6.5, 3.6),
        labels: dict[str, str] | None = None, **controls: Any,
    ):  # fmt: skip
        plots.check_alt(alt)
        self.alt, self._laid_out, self._pixels, self._frame = alt, False, None, None
        self._frames: dict[tuple, tuple] = {}
        self._moving: set[Artist] = set()
        self._front: list[tuple] = []
        self.controls = {name: _control(name, spec, (labels or {}).get(name)) for name, spec in controls.items()}
        with mpl.rc_context(plots.STYLE):
            self.figure = Figure(figsize=size, dpi=100)
            self._canvas = FigureCanvasAgg(self.figure)
            self._update = build(self.figure)
        self.image = widgets.Image(
            format="png", width=round(100 * size[0]), height=round(100 * size[1]), layout=widgets.Layout(margin="0")
        )  # with ipywidgets' own margin of 2 px the output would scroll
        self.readout = widgets.HTML()
        self._render()
        for control in self.controls.values():
            control.observe(self._moved, names="value")
        self.widget = widgets.VBox([*self.controls.values(), self.image, self.readout])

    @property
    def values(self) -> dict:
        """The present position of every control."""
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values: Any) -> "Panel":
        """Move controls from code, as a reader would."""
        if unknown := set(values) - set(self.controls):
            raise ValueError(f"{', '.join(unknown)}: this panel has the controls {', '.join(self.controls)}")
        for name, value in values.items():
            self.controls[name].value = value
        return self

    def show(self) -> None:
        """Display the panel: live where widgets work, else as a picture with its alt text."""
        from IPython.display import display

        text = f"{self.alt} {self._text or ''}".strip()
        bundle = {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2, "version_minor": 0, "model_id": self.widget.model_id,
            },
            "image/png": plots.png(self.figure),
            "text/plain": text,
        }  # fmt: skip
        display(bundle, metadata={"image/png": plots.size(self.figure) | {"alt": text}}, raw=True)
        display({"text/html": plots.in_words(text), "text/plain": ""}, raw=True)

    def _moved(self, _):
        try:
            self._render()
        except Exception as error:  # a callback's error would otherwise vanish in the log
            self.readout.value = f"<b>{type(error).__name__}</b>: {error}"

    def _render(self):
        key = tuple(self.values.values())
        if key not in self._frames:
            with mpl.rc_context(plots.STYLE):
                text = self._update(**self.values)
                picture = self._picture()
            if len(self._frames) >= KEPT:
                self._frames.pop(next(iter(self._frames)))
            self._frames[key] = picture, text
        self.image.value, self._text = self._frames[key]
        self.readout.value = f"<div role='status' aria-live='polite'>{self._text or ''}</div>"

    def _picture(self):
        from PIL import Image

        self._canvas.restore_region(self._background()) if self._laid_out else self._lay_out()
        for axes, artist in self._front:
            axes.draw_artist(artist)
        buffer = io.BytesIO()
        pixels = np.asarray(self._canvas.buffer_rgba())[..., :3]
        Image.fromarray(pixels).save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def _lay_out(self):
        """The layout is settled once: it is the slowest part, and a moving frame would flicker."""
        self.figure.set_layout_engine("constrained")
        self._canvas.draw()
        self.figure.set_layout_engine("none")
        self._canvas.draw()
        self._laid_out = True

    def _background(self):
        """Everything behind the artists that move, as pixels: most of the time goes into ticks and contours."""
        changed = {a for axes in self.figure.axes for a in axes.get_children() if a.stale}
        frame = [(tuple(axes.viewLim.extents), axes.xaxis.stale, axes.yaxis.stale) for axes in self.figure.axes]
        if self._pixels is None or frame != self._frame or not changed <= self._moving:
            self._moving |= changed
            self._front = [pair for axes in self.figure.axes for pair in self._in_front(axes)]
            for _, artist in self._front:
                artist.set_animated(True)  # left out of the next draw
            self._canvas.draw()
            self._pixels, self._frame = self._canvas.copy_from_bbox(self.figure.bbox), frame
        return self._pixels

    def _in_front(self, axes):
        """The artists of `axes` from the lowest one that moves upwards, in the order in which they are drawn."""
        children = [a for a in axes.get_children() if not isinstance(a, Axis | Spine) and a is not axes.patch]
        lowest = min((a.zorder for a in children if a in self._moving), default=math.inf)
        return [(axes, a) for a in sorted(children, key=lambda a: a.zorder) if a.zorder >= lowest]


def _control(name, spec, label):
    look = {
        "description": label or name.replace("_", " "),
        "style": {"description_width": "initial"},
        "layout": widgets.Layout(width="95%", max_width="640px"),
    }
    if isinstance(spec, widgets.Widget):
        spec.description = spec.description or look["description"]
        return spec
    if isinstance(spec, bool):
        return widgets.Checkbox(spec, indent=False, **look)
    options, start = spec if isinstance(spec, tuple) and len(spec) == 2 else (spec, None)
    if isinstance(options, list) and options:
        start = options[0] if start is None else start
        if start not in options:
            raise ValueError(f"{name} is {spec!r}: its start {start!r} is not among its positions")
        return _menu(options, start, look)
    if isinstance(spec, tuple) and len(spec) == 3 and spec[0] <= spec[2] <= spec[1] and spec[0] < spec[1]:
        low, high, start = map(float, spec)
        return widgets.FloatSlider(start, min=low, max=high, step=(high - low) / 40, **look)
    raise ValueError(f"{name} is {spec!r}: a control is (low, high, start), a list, (list, start), a bool or a widget")


def _menu(options, start, look):
    if all(isinstance(option, str) for option in options):
        return widgets.Dropdown(options=options, value=start, **look)
    named = [(f"{option:.4g}", option) for option in options]
    return widgets.SelectionSlider(options=named, value=start, **look)
