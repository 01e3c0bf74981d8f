"""Predictions: the reader commits to a guess before each result, and meets it again in the figure."""

import base64
import json
import os
from pathlib import Path

import ipywidgets as widgets
from IPython.display import Markdown
from matplotlib.axes import Axes

_asked: dict[str, "Prediction"] = {}
_memory: dict[str, str | float] = {}


class Prediction:
    """A question with the reader's answer: `.answer` is None until one is given, then a choice or a number.

    Made by `ask`. It works unattended: without an answer nothing is drawn and nothing fails.
    """

    def __init__(self, id: str, question: str, choices: list[str] | None, slider: tuple[float, float] | None):
        self.id, self.question, self.choices, self.slider = id, question, choices, slider
        self.outcome: str | float | None = None

    @property
    def answer(self) -> str | float | None:
        return answers().get(self.id)

    def settle(self, outcome: str | float) -> str:
        """Say what came out; returns a sentence that sets it beside the guess."""
        self.outcome = outcome
        guess = "no guess was made" if self.answer is None else f"your guess was {_show(self.answer)}"
        return f"It came out as {_show(outcome)}; {guess}."

    def draw(self, ax: Axes, axis: str = "x") -> None:
        """Draw a numeric guess into a figure, as a dotted line labelled "your guess"."""
        if isinstance(self.answer, int | float):
            line = ax.axvline if axis == "x" else ax.axhline
            line(self.answer, color="black", linestyle=":", lw=2, label="your guess")

    def _widget(self):
        control, slack = self._control()
        kept = widgets.Label("kept" if self.answer is not None else "not answered yet")
        start, moved = control.value, []

        def keep(change):
            # The browser rounds the start of a slider to its steps: that is no move of the reader's.
            if moved or not slack or abs(change["new"] - start) > slack:
                moved.append(True)
                answer(self.id, change["new"])
                kept.value = "kept"

        control.observe(keep, names="value")
        return widgets.VBox([widgets.HTML(f"<b>Predict.</b> {self.question}"), control, kept])

    def _control(self):
        """The widget, and half a step of it (0 for a choice)."""
        if self.choices:
            chosen = self.answer if self.answer in self.choices else None
            return widgets.RadioButtons(options=self.choices, value=chosen, layout=widgets.Layout(width="95%")), 0
        low, high = self.slider
        start = self.answer if isinstance(self.answer, int | float) else (low + high) / 2
        step, inside = (high - low) / 100, min(max(start, low), high)
        return widgets.FloatSlider(inside, min=low, max=high, step=step, readout_format=".3g"), step / 2


def ask(
    id: str, question: str, choices: list[str] | None = None, slider: tuple[float, float] | None = None
) -> Prediction:
    """Ask for a prediction and display the question; `choices` for a pick, `slider=(low, high)` for a number.

    The answer is kept in `~/.flatlab/predictions.json` (or under FLATLAB_HOME) and survives a restart; where nothing
    can be written it lives as long as the kernel. Where widgets are dead the question is shown as text, and
    `answer(id, value)` records it. Errors: ValueError unless exactly one of `choices`, `slider` is given.
    """
    from IPython.display import display

    if bool(choices) == bool(slider):
        raise ValueError("choices or slider: give exactly one of them, and not empty")
    if slider and not slider[0] < slider[1]:
        raise ValueError(f"slider is {slider}: give (low, high)")
    prediction = _asked[id] = Prediction(id, question, choices, slider)
    options = "".join(f"\n> - {choice}" for choice in choices or [])
    scale = f"\n> *a number from {slider[0]:g} to {slider[1]:g}*" if slider else ""
    text = f"> **Predict.** {question}{options}{scale}"
    view = {"version_major": 2, "version_minor": 0, "model_id": prediction._widget().model_id}
    display(
        {"application/vnd.jupyter.widget-view+json": view, "text/markdown": text, "text/plain": text}, raw=True
    )  # fmt: skip
    return prediction


def answer(id: str, value: str | float) -> None:
    """Record an answer from code, where widgets are dead; it survives a restart under its `id`."""
    answers()[id] = value if isinstance(value, str) else float(value)
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        draft = _file().with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(_memory, indent=1), encoding="utf-8")
        draft.replace(_file())
    except OSError:
        pass  # a read-only home: the answers live as long as the kernel


def compare() -> Markdown:
    """All predictions of this notebook beside what came out, as a table."""
    rows = [("", "question", "you", "result"), (":---",) * 4]  # without the colon JupyterLab sets cells to the right
    rows += [(id, p.question, _show(p.answer), _show(p.outcome)) for id, p in _asked.items()]
    return Markdown("\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows))


def code() -> str:
    """All your predictions as a text to copy: Binder and Colab forget them, `restore(code)` brings them back."""
    return base64.urlsafe_b64encode(json.dumps(answers()).encode()).decode()


def restore(code: str) -> None:
    """Take predictions back from a text that `code()` gave. Errors: ValueError if it is not such a text."""
    try:
        found = json.loads(base64.urlsafe_b64decode(code.encode()))
        if not isinstance(found, dict) or not all(isinstance(v, str | int | float) for v in found.values()):
            raise ValueError
    except ValueError as error:
        raise ValueError("code is not a text that predictions.code() gave: copy the whole of it") from error
    for id, value in found.items():
        answer(id, value)


def _file():
    return Path(os.environ.get("FLATLAB_HOME", "~/.flatlab")).expanduser() / "predictions.json"


def answers() -> dict[str, str | float]:
    """All answers: those of the file, which other notebooks write as well, and where there is none those of here."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    _memory.update(found if isinstance(found, dict) else {})
    return _memory


def _show(value):
    return "–" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)
