"""What runs the notebooks (tests/lesson_run.py) finds each fault that a run can show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from lesson_run import FEWEST_MISTAKES, MOST_MEMORY, Exercises, within_memory
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

HERE = Path(__file__).resolve().parent
PATIENCE = 600  # seconds; a safety net

EXERCISE = """
from flatlab.exercises import Exercise
wrong = {"too large": 3, "too small": 1, "the sign": -2}
two = Exercise("two", 2, wrong)
print(6 * 7)
"""
SOLUTION = "<details><summary>Solution</summary>\n\n```python\nprint('so')\ntwo.check(2)\n```\n</details>"
GRAVE = {"small": ("mistake", "small"), "large": ("mistake", "large"), "sign": ("mistake", "sign")}


def checked(*, stubs=None, solutions=(), mistakes=None):
    """What one notebook's added cells printed, judged in their order."""
    exercises = Exercises()
    exercises.stubs(stubs or {"a": ["not answered yet"]})
    for history in solutions:
        exercises.solution(history)
    exercises.mistakes({"a": [(name, *said) for name, said in (mistakes or GRAVE).items()]})


OPEN, SOLVED = ["not answered yet"], ["not answered yet", "correct"]
FAULTS = {
    "a stub is answered": dict(stubs={"a": ["not answered yet", "correct"]}),
    "an exercise is never checked": dict(stubs={"a": []}),
    "a solution is wrong": dict(solutions=[{"a": ["not answered yet", "mistake"]}]),
    "a solution checks nothing": dict(solutions=[{"a": OPEN}]),
    "a solution solves two": dict(stubs={"a": OPEN, "b": OPEN}, solutions=[{"a": SOLVED, "b": SOLVED}]),
    "an exercise has no solution": dict(solutions=[]),
    "an exercise has two solutions": dict(solutions=[{"a": SOLVED}, {"a": [*SOLVED, "correct"]}]),
    "a mistake is not found": dict(solutions=[{"a": SOLVED}], mistakes=GRAVE | {"sign": ("wrong", "go on")}),
    "a mistake gets another's message": dict(solutions=[{"a": SOLVED}], mistakes=GRAVE | {"sign": GRAVE["large"]}),
    "too few mistakes": dict(solutions=[{"a": SOLVED}], mistakes={"small": GRAVE["small"]}),
}


def test_a_good_run_is_accepted():
    checked(solutions=[{"a": SOLVED}])
    within_memory(MOST_MEMORY)
    assert len(GRAVE) == FEWEST_MISTAKES


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault):
    with pytest.raises(AssertionError):
        checked(**FAULTS[fault])


def test_too_much_memory_is_found():
    with pytest.raises(AssertionError, match="1.30 GB were needed"):
        within_memory(1.3)


def written(folder, number, *cells):
    """A notebook as it is stored: run, with what its first cell printed, a stub and a solution."""
    shown = new_output("stream", name="stdout", text="42\n")
    first = new_code_cell(EXERCISE, execution_count=1, outputs=[shown], metadata={"tags": ["nbval-check-output"]})
    stub = new_code_cell("two.check(...)", execution_count=2)
    nbformat.write(new_notebook(cells=[first, stub, *cells]), folder / f"{number}.ipynb")


def test_one_run_of_a_notebook_tests_its_cells_and_its_exercises(tmp_path):
    """In real kernels: a good notebook; one with another output, a cell that fails, and a mistake as its solution."""
    written(tmp_path, "00", new_markdown_cell(SOLUTION))
    bad = new_markdown_cell(SOLUTION.replace("check(2)", "check(3)"))
    written(tmp_path, "01", new_code_cell("1 / 0", execution_count=3), bad)
    first = nbformat.read(tmp_path / "01.ipynb", as_version=4)
    first.cells[0].outputs[0].text = "41\n"
    nbformat.write(first, tmp_path / "01.ipynb")

    options = "-p lesson_run --nbval-lax --nbval-current-env -v --color=no -p no:cacheprovider -p no:xdist".split()
    paths = os.pathsep.join([str(HERE), str(HERE.parent / "tools"), str(HERE.parent)])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), "."],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    lines = re.findall(r"^(\d\d)(?:\.|::)ipynb::(.+?) ([A-Z]+) ", run.stdout, re.MULTILINE)
    found = {(file, name): word for file, name, word in lines}
    good = ("Cell 0", "Cell 1", "memory", "stubs", "solution 1", "mistakes")
    assert {name: word for (file, name), word in found.items() if file == "00"} == dict.fromkeys(good, "PASSED")
    failed = {name for (file, name), word in found.items() if file == "01" and word == "FAILED"}
    assert failed == {"Cell 0", "Cell 2", "solution 1", "mistakes"}, run.stdout
    assert "Cell outputs differ" in run.stdout and "ZeroDivisionError" in run.stdout
    assert "it must solve one exercise, and its checks said {'two': 'mistake'}" in run.stdout
