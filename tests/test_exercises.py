"""Exercises: right answers, known mistakes by their message, and whatever else a reader may type."""

import math

import numpy as np
import pytest
import torch

from flatlab import exercises, predictions
from flatlab.exercises import Exercise, progress


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(exercises, "REGISTRY", {})


MISTAKES = {"that is f′": 2.0, "that is f″ at the other valley": 0.7358}


def number():
    return Exercise("curvature", 5.4366, MISTAKES, praise="as on the sheet")


@pytest.mark.parametrize(
    "given, status, message",
    [
        (..., "not answered yet", "replace"),
        (None, "not answered yet", "replace"),
        (5.4366, "correct", "as on the sheet"),
        (torch.tensor(5.437), "correct", "as on the sheet"),
        (np.float64(5.436), "correct", "as on the sheet"),
        (2, "mistake", "that is f′"),
        (0.7358, "mistake", "other valley"),
        (5.1, "wrong", "not a mistake that we know"),
        (5.4, "wrong", "give more digits"),
        (math.nan, "wrong", "not a mistake that we know"),
        ("five", "wrong", "must be numbers"),
        ([5.4366], "wrong", "this is a list of 1 number, and it should be one number"),
        (abs, "wrong", "asks for a value"),
    ],
)
def test_a_number_is_judged(given, status, message):
    result = number().check(given)
    assert result.status == status and message in result.message


def slope(x):
    return 2 * x


def function():
    return Exercise("slope", slope, {"a square": lambda x: x**2, "the half": lambda x: x / 2}, inputs=[(1.0,), (3.0,)])


def fails(x):
    raise IndexError("no such well")


@pytest.mark.parametrize(
    "given, status, message",
    [
        (lambda x: ..., "not answered yet", "replace"),
        (lambda x: None, "wrong", "returns None"),
        (..., "not answered yet", "replace"),
        (None, "not answered yet", "replace"),
        (lambda x: x + x, "correct", ""),
        (lambda x: torch.tensor(2.0 * x, requires_grad=True), "correct", ""),
        (lambda x: x * x, "mistake", "a square"),
        (lambda x: 0.5 * x, "mistake", "the half"),
        (lambda x: 2.0, "wrong", "not a mistake that we know"),
        (lambda x: 2.02 * x, "wrong", "small term"),
        (fails, "wrong", "IndexError: no such well"),
        (lambda: 2, "wrong", "TypeError"),
        (lambda x: "two", "wrong", "must be numbers"),
        (lambda x: [2 * x], "wrong", "this is a list of 1 number"),
        (4.0, "wrong", "asks for a function"),
    ],
)
def test_a_function_is_judged_on_its_values(given, status, message):
    result = function().check(given)
    assert result.status == status and message in result.message


@pytest.mark.parametrize("given", [4.0, "four"])
def test_a_value_in_place_of_a_function_has_not_stopped(given):
    assert "your function stopped" not in function().check(given).message


@pytest.mark.parametrize(
    "answer, right, wrong",
    [
        ("left", "left", "right"),
        ({"trace", "κ"}, {"κ", "trace"}, {"κ"}),
        ({"trace", "κ"}, ["κ", "trace"], ["κ"]),
        (True, True, False),
        ([1.0, 2.0], (1, 2), (2, 1)),
        (torch.eye(2), [[1, 0], [0, 1]], [[0, 1], [1, 0]]),
        ("left", "left", np.array([1.0, 2.0])),
        ({"trace", "κ"}, {"κ", "trace"}, torch.ones(2)),
    ],
)
def test_answers_of_every_kind(answer, right, wrong):
    exercise = Exercise("kinds", answer, {"the known mistake": wrong})
    assert exercise.check(right).status == "correct"
    assert exercise.check(wrong).status in ("mistake", "wrong")
    assert exercise.check(...).status == "not answered yet"


@pytest.mark.parametrize(
    "given, status, message",
    [
        ({"b", "C"}, "correct", ""),
        ({"A", "B", "C"}, "mistake", "A compares two seeds"),
        (["A", "C"], "mistake", "one thing among others: A compares two seeds"),
        ({"D"}, "mistake", "D alone"),
        ({"C", "D"}, "wrong", "not a mistake that we know"),
        ("BC", "wrong", "must be a set"),
    ],
)
def test_a_set_hears_of_one_tick_that_is_wrong(given, status, message):
    mistakes = {"D alone is not it": {"D"}, "A compares two seeds": {"A", "B", "C"}}
    result = Exercise("ticks", {"B", "C"}, mistakes).check(given)
    assert result.status == status and message in result.message


def test_a_mistake_may_have_a_shape_of_its_own():
    exercise = Exercise("gradient", torch.ones(2), {"you summed over the data": torch.tensor(2.0)})
    assert exercise.check(2.0).message == "you summed over the data"
    assert "it should be one number" not in exercise.check([3.0, 3.0]).message
    assert "it should be a list of 2 numbers" in exercise.check([1.0, 1.0, 1.0]).message


def test_checks_are_counted_and_registered():
    exercise = number()
    exercise.check(...), exercise.check(2.0), exercise.check(5.4366)
    assert [result.status for result in exercises.REGISTRY["curvature"].history] == [
        "not answered yet",
        "mistake",
        "correct",
    ]


@pytest.mark.parametrize(
    "given, mark", [(5.4366, "✔ **correct** · as on"), (2.0, "✘ **mistake**"), (None, "… **not ans")]
)
def test_a_result_is_displayed(given, mark):
    assert number().check(given)._repr_markdown_().startswith(mark)


@pytest.mark.parametrize("inputs", [None, []])
def test_a_function_needs_inputs(inputs):
    with pytest.raises(ValueError, match="inputs is missing"):
        Exercise("slope", slope, {}, inputs=inputs)


def test_ctrl_c_stops_a_function_that_never_ends():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        function().check(interrupted)


def test_progress_counts_what_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("FLATLAB_HOME", str(tmp_path))
    monkeypatch.setattr(predictions, "_memory", {})
    assert "Nothing yet" in progress().data
    predictions.answer("01.shift", 7.4)
    exercise = Exercise("01.square", 4.0, {})
    exercise.check(3.0)
    assert "| 01 | 1 | 0 |" in progress().data
    exercise.check(4.0)
    assert "| 01 | 1 | 1 |" in progress().data


def test_a_function_may_answer_with_none():
    first = Exercise(
        "first", lambda v: v[0] if v else None, {"zero": lambda v: v[0] if v else 0.0}, inputs=[([2.0],), ([],)]
    )
    assert first.check(lambda v: v[0] if v else None).status == "correct"
    assert first.check(lambda v: sum(v)).message == "zero"
    assert first.check(lambda v: None).status == "wrong"
