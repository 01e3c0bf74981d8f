"""Every notebook is run once, with more cells at its end: the hidden solutions, then every typical mistake."""

import json
import os
from dataclasses import dataclass
from datetime import datetime

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

import lessons

STEMS = [stem for stem in lessons.stems() if lessons.ipynb(stem).exists()]
MOST_MEMORY = 1.2  # GB, the least that a reader's machine (or Binder) leaves to one notebook
FEWEST_MISTAKES = 3

HISTORY = """
import json
from flatlab.exercises import REGISTRY
print(json.dumps({name: [result.status for result in exercise.history] for name, exercise in REGISTRY.items()}))
"""
MISTAKES = """
found = {}
for name, exercise in REGISTRY.items():
    results = [(message, exercise.check(wrong)) for message, wrong in exercise.mistakes.items()]
    found[name] = [(message, result.status, result.message) for message, result in results]
print(json.dumps(found))
"""
MEMORY = """
import json, re, sys
try:
    # Linux: the peak of this process alone; getrusage also counts the process that started it.
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
except OSError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps(peak / 1e9))
"""


@dataclass
class Run:
    seconds: float
    memory: float  # GB
    before: dict  # {exercise: statuses of its checks} after the notebook's own cells
    after: list[dict]  # the same after each hidden solution
    mistakes: dict  # {exercise: [(mistake, status, message), ...]}


@pytest.fixture(scope="module", params=STEMS)
def run(request) -> Run:
    nb = lessons.read(request.param).nb
    solutions = lessons.hidden_solutions(nb)
    own, added = len(nb.cells), [MEMORY, HISTORY, *[cell for code in solutions for cell in (code, HISTORY)], MISTAKES]
    nb.cells += [new_code_cell(source) for source in added]
    where = {"metadata": {"path": str(lessons.NOTEBOOKS)}}
    NotebookClient(nb, timeout=300, kernel_name="python3", resources=where).execute(
        env={**os.environ, "FLATLAB_SCALE": "laptop"}
    )
    memory, before, *after, mistakes = [
        _printed(cell) for cell in nb.cells[own:] if cell.source in added[:2] + [MISTAKES]
    ]
    return Run(_seconds(nb.cells[:own]), memory, before, after, mistakes)


def test_needs_little_memory(run, request, record_property):
    stem = request.node.callspec.params["run"]
    record_property("lesson", f"{stem}: {run.seconds:.1f} s, {run.memory:.2f} GB at most")
    assert run.memory <= MOST_MEMORY


def test_stubs_are_not_answered_yet(run):
    assert {name: set(statuses) for name, statuses in run.before.items()} == {
        name: {"not answered yet"} for name in run.before
    }


def test_hidden_solutions_are_correct(run):
    """Each solution adds one check to one exercise, which finds it correct; every exercise has its solution."""
    solved, before = [], run.before
    for after in run.after:
        checked = [name for name in after if len(after[name]) > len(before[name])]
        assert [after[name][-1] for name in checked] == ["correct"]
        solved, before = solved + checked, after
    assert sorted(solved) == sorted(run.before)


def test_each_mistake_gets_its_own_message(run):
    for name, results in run.mistakes.items():
        assert len(results) >= FEWEST_MISTAKES, name
        for mistake, status, message in results:
            assert (status, message) == ("mistake", mistake), name


def _printed(cell):
    return json.loads("".join(output.text for output in cell.outputs if output.get("name") == "stdout"))


def _seconds(cells):
    """From the start of the first code cell to the end of the last, without the start of the kernel."""
    times = [cell.metadata.execution for cell in cells if cell.cell_type == "code" and "execution" in cell.metadata]
    first, last = times[0]["iopub.status.busy"], times[-1]["iopub.status.idle"]
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
