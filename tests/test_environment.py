"""pyproject.toml, environment.yml and constraints.txt must tell the same story."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
IMPORTED_AS = {"sklearn": "scikit-learn", "PIL": "matplotlib", "IPython": "ipywidgets"}  # two come with another

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def bounds(lines):
    """{name: its version bounds}, names as in the wheels."""
    requirements = [Requirement(line) for line in lines]
    return {CONDA_NAMES.get(r.name, r.name).lower(): r.specifier for r in requirements}


ALLOWED = bounds(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"])
ALL = ALLOWED | bounds(PROJECT["optional-dependencies"]["test"])
PINS = bounds(
    line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
)


def test_conda_environment_has_the_same_bounds():
    packages = bounds(line for line in CONDA["dependencies"] if isinstance(line, str) and "python=" not in line)
    assert packages.pop("pip") == SpecifierSet()
    assert packages == ALLOWED


def test_conda_environment_has_an_allowed_python_and_installs_the_course():
    # Binder only understands "python=3.x".
    python = next(line for line in CONDA["dependencies"] if str(line).startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert CONDA["dependencies"][-1] == {"pip": ["-e ."]}
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]


@pytest.mark.parametrize("name", sorted(ALL | PINS))
def test_every_direct_dependency_is_pinned_within_its_bounds(name):
    assert name in ALL, "constraints.txt pins it, pyproject.toml does not ask for it"
    assert name in PINS, "pyproject.toml asks for it, constraints.txt does not pin it"
    (pin,) = PINS[name]
    assert pin.operator == "==" and "+" not in pin.version
    assert ALL[name].contains(pin.version)


def imported(path):
    """The packages that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_the_module_asks_for_what_it_imports_and_for_nothing_else():
    used = {name for path in (ROOT / "flatlab").glob("*.py") for name in imported(path)}
    wanted = {IMPORTED_AS.get(name, name) for name in used - sys.stdlib_module_names - {"flatlab"}}
    assert wanted == set(bounds(PROJECT["dependencies"]))


def test_notebook_00_checks_the_bounds_of_pyproject():
    cells = (ROOT / "notebooks" / "py" / "00_start_here.py").read_text(encoding="utf-8")
    needed = bounds(ast.literal_eval(re.search(r"^NEEDED = (\[.*\])$", cells, re.MULTILINE)[1]))
    assert needed.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert needed == {name: ALL[name] for name in needed}
