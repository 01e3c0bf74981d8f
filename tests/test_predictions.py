"""Predictions: written when there is an answer, kept over a restart, and met again in the figure."""

import gc
import importlib
import json
import subprocess
import sys

import IPython.display
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from flatlab import predictions


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """A home folder that is not there yet, and no predictions in memory."""
    monkeypatch.setenv("FLATLAB_HOME", str(tmp_path / "home"))
    restart()
    return tmp_path / "home"


def restart():
    importlib.reload(predictions)


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    calls = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, **_: calls.append(bundle))
    return calls


def stored(home):
    return json.loads((home / "predictions.json").read_text(encoding="utf-8"))


def pick():
    return predictions.ask("wells", "Which well is sharper?", choices=["left", "right"])


def guess():
    return predictions.ask("ratio", "How much sharper?", slider=(1, 10))


def test_nothing_is_written_until_there_is_an_answer(home):
    assert pick().answer is None and guess().answer is None
    pick().settle("right"), predictions.compare(), predictions.code()
    assert not home.exists()


def test_an_answer_is_kept_at_once_and_survives_a_restart(home):
    question = pick()
    predictions.answer("wells", "right")
    assert question.answer == "right" and stored(home) == {"wells": "right"}
    restart()
    assert pick().answer == "right"
    assert [file.name for file in home.iterdir()] == ["predictions.json"]


def control(shown):
    """What the reader moves in the question that was shown last."""
    model = shown[-1]["application/vnd.jupyter.widget-view+json"]["model_id"]
    (box,) = [w for w in gc.get_objects() if type(w) is widgets.VBox and w.model_id == model]
    return box.children[1]


@pytest.mark.parametrize("ask, kind, value", [(pick, widgets.RadioButtons, "left"), (guess, widgets.FloatSlider, 7.03)])
def test_moving_the_control_is_an_answer(ask, kind, value, home, shown):
    question = ask()
    assert isinstance(control(shown), kind)
    control(shown).value = value
    assert question.answer == value and stored(home) == {question.id: value}


def test_a_start_that_the_browser_rounds_is_no_answer(home, shown):
    """Steps of 0.09 from 1: the start 5.5 may come back as 5.4999…; from the first move on, every place counts."""
    question = guess()
    slider = control(shown)
    for value in (5.5 - 1e-9, 5.5 + 0.04, 5.5):
        slider.value = value
        assert question.answer is None and not home.exists()
    slider.value = 5.59
    assert question.answer == 5.59
    slider.value = 5.5
    assert question.answer == 5.5


def test_a_kept_answer_is_not_rounded_by_the_browser(shown):
    predictions.answer("ratio", 7.033)
    question = guess()
    control(shown).value = 7.03
    assert question.answer == 7.033


def test_the_question_is_shown_as_text_too(shown):
    pick(), guess()
    assert "Which well is sharper?" in shown[0]["text/markdown"] and "- right" in shown[0]["text/plain"]
    assert "from 1 to 10" in shown[1]["text/markdown"]
    assert all(bundle["application/vnd.jupyter.widget-view+json"]["model_id"] for bundle in shown)


def test_settling_sets_the_outcome_beside_the_guess():
    question = guess()
    assert question.settle(7.389) == "It came out as 7.389; no guess was made."
    predictions.answer("ratio", 4.0)
    assert question.settle(7.389) == "It came out as 7.389; your guess was 4."


@pytest.mark.parametrize("axis, data", [("x", [[4, 0], [4, 1]]), ("y", [[0, 4], [1, 4]])])
def test_a_guess_is_drawn_only_if_it_was_made(axis, data):
    question, ax = guess(), plt.figure().subplots()
    question.draw(ax, axis)
    assert list(ax.lines) == []
    predictions.answer("ratio", 4)
    question.draw(ax, axis)
    assert ax.lines[0].get_xydata().tolist() == data and ax.lines[0].get_label() == "your guess"
    plt.close()


def test_a_pick_has_no_place_on_an_axis():
    question, ax = pick(), plt.figure().subplots()
    predictions.answer("wells", "left")
    question.draw(ax)
    assert list(ax.lines) == []
    plt.close()


def test_all_predictions_are_set_beside_what_came_out():
    pick(), guess().settle(7.389)
    predictions.answer("wells", "left")
    assert predictions.compare().data.splitlines()[2:] == [
        "| wells | Which well is sharper? | left | – |",
        "| ratio | How much sharper? | – | 7.389 |",
    ]


def test_a_bar_in_a_question_does_not_break_the_table():
    predictions.ask("norm", "Is |w| larger?", choices=["yes", "no"])
    assert r"| norm | Is \|w\| larger? | – | – |" in predictions.compare().data


def test_two_notebooks_keep_each_others_answers(home):
    """Both have read the file when it was empty; each writes, one in another process, and nothing is lost."""
    question = pick()
    assert question.answer is None
    other = "from flatlab import predictions as p; p.answer('other', 3.5); p.answer('wells', 'left')"
    subprocess.run([sys.executable, "-c", other], check=True)
    predictions.answer("ratio", 2.0)
    assert stored(home) == {"other": 3.5, "wells": "left", "ratio": 2.0} and question.answer == "left"
    assert [file.name for file in home.iterdir()] == ["predictions.json"]


def test_a_code_carries_the_answers_to_another_machine(monkeypatch, tmp_path):
    predictions.answer("wells", "rechts ≥ links")
    predictions.answer("ratio", 2.5)
    code = predictions.code()
    monkeypatch.setenv("FLATLAB_HOME", str(tmp_path / "elsewhere"))
    restart()
    assert pick().answer is None
    predictions.restore(code)
    assert (pick().answer, guess().answer) == ("rechts ≥ links", 2.5)
    assert stored(tmp_path / "elsewhere") == {"wells": "rechts ≥ links", "ratio": 2.5}


@pytest.mark.parametrize("code", ["", "abc", "é", "WzFd", "bnVsbA==", "eyJhIjogWzFdfQ==", "eyJhIjogMX0=="[:7]])
def test_a_broken_code_is_named_and_changes_nothing(code, home):
    predictions.answer("wells", "left")
    with pytest.raises(ValueError, match="code is not a text"):
        predictions.restore(code)
    assert stored(home) == {"wells": "left"}


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '"text"'])
def test_a_spoilt_file_counts_as_empty(content, home):
    home.mkdir()
    (home / "predictions.json").write_text(content)
    assert pick().answer is None
    predictions.answer("wells", "left")
    assert stored(home) == {"wells": "left"}


def test_where_nothing_can_be_written_answers_live_in_memory(home):
    home.write_text("a file where the folder should be")
    question = pick()
    predictions.answer("wells", "left")
    assert question.answer == "left"


@pytest.mark.parametrize("value", [np.float32(2.5), np.int64(2), torch.tensor(2.5)])
def test_an_answer_may_come_from_a_computation(value, home):
    predictions.answer("ratio", value)
    assert stored(home) == {"ratio": float(value)}


@pytest.mark.parametrize(
    "how", [{}, {"choices": ["a"], "slider": (0, 1)}, {"choices": []}, {"slider": (1, 0)}], ids=str
)
def test_a_question_takes_choices_or_a_slider(how):
    with pytest.raises(ValueError, match="choices|slider"):
        predictions.ask("wells", "Which well?", **how)
