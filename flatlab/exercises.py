"""Self-checks that say what kind of mistake was made. The mistakes themselves belong to each notebook."""

from dataclasses import dataclass
from typing import Any

import torch
from IPython.display import Markdown

from flatlab import predictions

CLOSE = 0.02  # relative: what looks like rounding
SOLVED = "exercise "  # before the name of a solved exercise, among the reader's answers
REGISTRY: dict[str, "Exercise"] = {}


@dataclass(frozen=True)
class Result:
    """What a check found: `status` is "not answered yet", "correct", "mistake" (a known one) or "wrong"."""

    status: str
    message: str

    def _repr_markdown_(self):
        mark = {"correct": "✔ ", "not answered yet": "… "}.get(self.status, "✘ ")
        return f"{mark}**{self.status}** · {self.message}" if self.message else f"{mark}**{self.status}**"


class Exercise:
    """A question with its answer and its typical mistakes.

    answer: a number, a tensor, a string, a set of strings (a list of ticks is taken as a set), or a function.
    mistakes: `{message: wrong answer}`, a value (of any shape) or a function, as `answer` is; each message says what
        went wrong, not what the answer is. They are compared in order. A set one tick away from the answer speaks of
        that tick: its message is also for any other set with this tick on the wrong side.
    inputs: for a function, the argument tuples on which it is compared. rtol, atol: how close numbers must be.
    praise: shown with a correct answer.

    Errors: ValueError for a function without `inputs`.
    """

    def __init__(
        self, name: str, answer: Any, mistakes: dict[str, object], inputs: list[tuple] | None = None,
        rtol: float = 1e-3, atol: float = 1e-8, praise: str = "",
    ):  # fmt: skip
        if callable(answer) and not inputs:
            raise ValueError("inputs is missing: a function is compared on argument tuples, e.g. inputs=[(1.0,)]")
        self.name, self.answer, self.mistakes, self.inputs = name, answer, mistakes, inputs
        self.rtol, self.atol, self.praise = rtol, atol, praise
        self.history: list[Result] = []
        REGISTRY[name] = self

    def check(self, given: Any) -> Result:
        """Compare the reader's answer; as the last line of a cell the result is displayed."""
        result = self._judge(given)
        self.history.append(result)
        if result.status == "correct":
            predictions.answer(f"{SOLVED}{self.name}", "solved")
        return result

    def _judge(self, given):
        try:
            value = self._evaluate(given)
        except _NotComparable as problem:
            return Result("wrong", str(problem))
        except Exception as error:
            return Result("wrong", f"your function stopped with {type(error).__name__}: {error}")
        if callable(given) and value and all(v is None for v in value):
            return Result("wrong", "your function returns None: is its `return` missing?")
        if _unanswered(value):
            return Result("not answered yet", "replace the … with your answer and run the cell again")
        fault = "not a mistake that we know; go through the steps of the text above once more"
        try:
            answer = self._evaluate(self.answer)
            if self._same(value, answer):
                return Result("correct", self.praise)
            if self._same(value, answer, CLOSE):
                fault = f"within {100 * CLOSE:.0f} % of the answer: give more digits, or look for a small term"
        except _NotComparable as problem:
            fault = str(problem)
        for message, wrong in self.mistakes.items():
            try:
                if self._same(value, self._evaluate(wrong)):
                    return Result("mistake", message)
            except _NotComparable:
                continue  # of another shape or kind, so not this one
        return self._wrong_tick(value) or Result("wrong", fault)

    def _wrong_tick(self, given):
        if isinstance(self.answer, set | frozenset) and isinstance(given, list | tuple | set | frozenset):
            answer = _ticks(self.answer)
            for message, wrong in self.mistakes.items():
                tick = _ticks(wrong) ^ answer
                if len(tick) == 1 and tick <= _ticks(given) ^ answer:
                    return Result("mistake", f"one thing among others: {message}")
        return None

    def _evaluate(self, answer):
        if not callable(answer):
            if callable(self.answer) and not _unanswered(answer):
                raise _NotComparable("this exercise asks for a function, not for a value")
            return answer
        if not self.inputs:
            raise _NotComparable("this exercise asks for a value, not for a function")
        return [answer(*arguments) for arguments in self.inputs]

    def _same(self, given, wanted, rtol=None):
        if isinstance(wanted, list) and callable(self.answer):
            return all(self._same(g, w, rtol) for g, w in zip(given, wanted, strict=True))
        if wanted is None or given is None:
            return wanted is given
        if isinstance(wanted, set | frozenset) and isinstance(given, list | tuple | set | frozenset):
            return _ticks(given) == _ticks(wanted)
        if isinstance(wanted, str | set | frozenset | bool):
            if not isinstance(given, type(wanted)):
                raise _NotComparable(f"the answer must be a {type(wanted).__name__}, and this is {given!r}")
            return given == wanted
        try:
            given, wanted = (torch.as_tensor(v, dtype=torch.float64).detach() for v in (given, wanted))
        except (TypeError, ValueError, RuntimeError) as error:
            raise _NotComparable(f"the answer must be numbers, and this is {given!r}") from error
        if given.shape != wanted.shape:
            raise _NotComparable(f"this is {_form(given)}, and it should be {_form(wanted)}")
        return torch.allclose(given, wanted, rtol=rtol or self.rtol, atol=self.atol)


def progress() -> Markdown:
    """How far you have come, a row per notebook: predictions made and exercises solved, on this machine or restored."""
    made: dict[str, list[int]] = {}
    for name in predictions.answers():
        solved = name.startswith(SOLVED)
        notebook = name.removeprefix(SOLVED).split(".")[0]
        made.setdefault(notebook, [0, 0])[solved] += 1
    rows = ["| notebook | predictions made | exercises solved |", "|:---|:---|:---|"]
    rows += [f"| {notebook} | {counts[0]} | {counts[1]} |" for notebook, counts in sorted(made.items())]
    return Markdown("\n".join(rows) if made else "Nothing yet: answer a prediction or solve an exercise.")


class _NotComparable(Exception):
    pass


def _form(value):
    shape = tuple(value.shape)
    if not shape:
        return "one number"
    return f"a list of {shape[0]} number{'s' * (shape[0] != 1)}" if len(shape) == 1 else f"an array of shape {shape}"


def _ticks(letters):
    return {tick.casefold() if isinstance(tick, str) else tick for tick in letters}


def _unanswered(value):
    if isinstance(value, list | tuple) and value:
        return all(map(_unanswered, value))
    return value is None or value is ...
