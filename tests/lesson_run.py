"""Every notebook is run once. nbval makes a test of each of its code cells; here more cells follow in the same kernel.

They print what that run has used, then the hidden solutions and every typical mistake are tried. Each of these cells is
a test as well: it fails if it stops with an error, or if what it printed is not as it must be.
"""

import json
import time
from collections import defaultdict

import pytest
from nbformat.v4 import new_code_cell
from nbval.plugin import IPyNbCell, IPyNbFile

import lessons

MOST_MEMORY = 1.2  # GB, the least that a reader's machine (or Binder) leaves to one notebook
FEWEST_MISTAKES = 3

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
HISTORY = """
import json
from flatlab.exercises import REGISTRY
print(json.dumps({name: [result.status for result in exercise.history] for name, exercise in REGISTRY.items()}))
"""
MISTAKES = """
import json
from flatlab.exercises import REGISTRY
found = {}
for name, exercise in REGISTRY.items():
    results = [(message, exercise.check(wrong)) for message, wrong in exercise.mistakes.items()]
    found[name] = [(message, result.status, result.message) for message, result in results]
print(json.dumps(found))
"""


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Where nbval collects a notebook, collect a `LessonRun` of it."""
    nodes = yield
    return [LessonRun.from_parent(parent, path=file_path) if type(n) is IPyNbFile else n for n in nodes]


class LessonRun(IPyNbFile):
    """A notebook under nbval, with the added cells at its end."""

    def setup(self):
        super().setup()
        self.started = time.monotonic()  # the kernel is up

    def collect(self):
        cells = list(super().collect())
        yield from cells
        for number, (name, source, judge) in enumerate(self._added(Exercises()), len(cells)):
            options = defaultdict(bool)  # no comparison with stored outputs: there are none
            cell = AddedCell.from_parent(self, name=name, cell_num=number, cell=new_code_cell(source), options=options)
            cell.judge = judge
            yield cell

    def _added(self, exercises):
        """(name, source, what judges the printed value) of each added cell."""
        yield "memory", MEMORY, self._used
        yield "stubs", HISTORY, exercises.stubs
        for number, solution in enumerate(lessons.hidden_solutions(self.nb), 1):
            yield f"solution {number}", solution + HISTORY, exercises.solution
        yield "mistakes", MISTAKES, exercises.mistakes

    def _used(self, memory):
        seconds = time.monotonic() - self.started
        within_memory(memory)
        return "lesson", f"{self.path.stem}: {seconds:.1f} s, {memory:.2f} GB at most"


class AddedCell(IPyNbCell):
    """A cell that ends by printing one line of JSON; `judge` fails, or returns a property to record, or None."""

    def runtest(self):
        super().runtest()
        printed = "".join(output.text for output in self.test_outputs if output.get("name") == "stdout")
        note = self.judge(json.loads(printed.splitlines()[-1]))
        if note:
            self.user_properties.append(note)

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, AssertionError):
            return f"{self.name}: {excinfo.value}"
        return super().repr_failure(excinfo)


def within_memory(peak):
    assert peak <= MOST_MEMORY, f"{peak:.2f} GB were needed, at most {MOST_MEMORY} GB are allowed"


class Exercises:
    """What the self-checks of one notebook must have said, in the order of the added cells.

    A history is `{exercise: statuses of its checks so far}`.
    """

    def __init__(self):
        self.before, self.solved = {}, []

    def stubs(self, history):
        """After the notebook's own cells every exercise has been checked, and none is answered."""
        for name, statuses in history.items():
            assert set(statuses) == {"not answered yet"}, f"{name!r} is not a stub: its checks said {statuses}"
        self.before = history

    def solution(self, history):
        """A hidden solution adds a check to one exercise, which finds it correct."""
        checked = {name: said[-1] for name, said in history.items() if len(said) > len(self.before.get(name, []))}
        assert list(checked.values()) == ["correct"], f"it must solve one exercise, and its checks said {checked}"
        self.before = history
        self.solved += checked

    def mistakes(self, results):
        """Each exercise has one solution, and each of its mistakes gets its own message.

        results: `{exercise: [(message of the mistake, status, message that was shown), ...]}`.
        """
        assert sorted(self.solved) == sorted(results), f"exercises {sorted(results)}, with solutions {self.solved}"
        for name, found in results.items():
            assert len(found) >= FEWEST_MISTAKES, f"{name!r} knows {len(found)} mistakes, expected {FEWEST_MISTAKES}"
            for mistake, status, message in found:
                assert (status, message) == ("mistake", mistake), f"{name!r}: {mistake!r} got {status}: {message!r}"
