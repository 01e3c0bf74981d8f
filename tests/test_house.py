"""The house: floors, rooms that keep their private names, public types, a table of contents that shows it all."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flatlab as fl

ROOT = Path(__file__).resolve().parent.parent
ROOMS = sorted(path for path in (ROOT / "flatlab").glob("*.py") if path.stem != "__init__")
READERS = [*ROOMS, *(path for folder in ("tests", "tools", "notebooks/py") for path in (ROOT / folder).glob("*.py"))]
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def private(name):
    """`_name`; neither `__init__` nor `_repr_html_`, which are Python's and IPython's."""
    return name.startswith("_") and not name.endswith("_")


def own_names(node):
    """The names that some code defines: functions, classes, variables, fields and attributes of `self`."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            yield part.name
        elif isinstance(part, ast.Name | ast.Attribute) and isinstance(part.ctx, ast.Store):
            yield part.id if isinstance(part, ast.Name) else part.attr
        elif isinstance(part, ast.alias):
            yield part.asname or part.name


def borrowed(node, own, foreign):
    """(line, name) of each private name that this code takes from another room."""
    for part in ast.walk(node):
        if isinstance(part, ast.ImportFrom) and (part.module or "").partition(".")[0] == "flatlab":
            yield from ((part.lineno, alias.name) for alias in part.names if private(alias.name))
        elif isinstance(part, ast.Attribute) and private(part.attr) and part.attr not in own and part.attr in foreign:
            yield part.lineno, part.attr


def intrusions(path, sources):
    """The lines of `path` that use a private name of another room; `sources`: `{path: tree}` of all rooms."""
    node = sources.get(path) or tree(path)
    own = set(own_names(node))
    foreign = {name for room, other in sources.items() if room != path for name in own_names(other) if private(name)}
    return [f"{path.name}:{line} uses {name}" for line, name in borrowed(node, own, foreign)]


@pytest.fixture(scope="module")
def sources():
    return {path: tree(path) for path in ROOMS}


@pytest.mark.parametrize("path", READERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_stay_in_their_room(path, sources):
    assert intrusions(path, sources) == []


@pytest.mark.parametrize(
    "code", ["from flatlab.room import _key", "import flatlab.room as r\nr._key()", "def f(loss): return loss._drawer"]
)
def test_a_borrowed_private_name_is_found(code):
    room = ast.parse("class Loss:\n    def __init__(self): self._drawer = 1\ndef _key(): pass")
    foreign = {name for name in own_names(room) if private(name)}
    assert foreign == {"_drawer", "_key"}
    assert len(list(borrowed(ast.parse(code), set(), foreign))) == 1


def test_what_is_private_to_oneself_or_to_a_library_is_no_loan():
    code = ast.parse("class Mine:\n    def f(self): self._drawer = hooks._forward_hooks\n    def g(self): self._drawer")
    assert list(borrowed(code, set(own_names(code)), {"_drawer"})) == []


def missing_hints(node, where=""):
    """The public functions and methods with an argument or a result without a type."""
    for part in node.body:
        if isinstance(part, ast.ClassDef) and not part.name.startswith("_"):
            yield from missing_hints(part, f"{part.name}.")
        elif isinstance(part, ast.FunctionDef) and re.match("__(init|new|call)__|[^_]", part.name):
            spec = part.args
            arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, [spec.vararg, spec.kwarg])]
            untyped = [a.arg for a in arguments[bool(where) :] if a.annotation is None]
            if untyped or (part.returns is None and not part.name.startswith("__")):
                yield f"{where}{part.name}: {', '.join(untyped) or 'the result'}"


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: path.stem)
def test_every_public_argument_and_result_has_a_type(path):
    assert list(missing_hints(tree(path))) == []


def test_the_contract_places_every_room():
    """Whoever adds a room decides on its floor; `lint-imports` says so, too (in `make test`)."""
    assert CONTRACT["exhaustive"]
    placed = [room for floor in CONTRACT["layers"] for room in floor.split(" : ")]
    assert sorted(placed) == [path.stem for path in ROOMS]


def test_the_table_of_contents_shows_the_house():
    """The floors and rooms of the docstring are those of the contract; what the stub offers is what is there."""
    floors = re.findall(r"^(?:reader|work|measure|ground) +(.+)$", fl.__doc__, re.MULTILINE)
    assert [re.findall(r"`(\w+)`", floor) for floor in floors] == [floor.split(" : ") for floor in CONTRACT["layers"]]
    assert set(path.stem for path in ROOMS) < set(fl.__all__) <= set(dir(fl))
    for name in set(fl.__all__) - {path.stem for path in ROOMS}:
        assert f"`{name}`" in fl.__doc__ and getattr(fl, name).__name__ == name


def test_the_types_are_shipped():
    assert (ROOT / "flatlab" / "py.typed").exists() and (ROOT / "flatlab" / "__init__.pyi").exists()


def test_importing_the_course_warns_of_nothing_and_loads_no_library():
    code = "import flatlab, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "scipy", "sklearn", "pandas", "matplotlib"}.isdisjoint(loaded.stdout.split())
