"""The lessons as files: where they are, what is in them, and the two cells that are generated."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
CLAIM = "application/vnd.flatlab.claim+json"
TIME = r"\*\*Time\*\* (\d+) minutes to read"  # in the box under the title; the number is computed
WIDGET = "application/vnd.jupyter.widget-view+json"

_LOCAL = "in the course's folder type `make lab` and open `notebooks/{stem}.ipynb` (other ways: `README.md`)"
_SETUP = """\
try:
    import flatlab as fl
{absent}
import matplotlib.pyplot as plt
import numpy as np
import torch

fl.plots.use_style()
SCALE = fl.scale()  # "laptop"; "paper" runs the full protocol: fl.scale("paper") or FLATLAB_SCALE=paper"""
_ABSENT_HERE = """\
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("flatlab is missing: run `make lab` in the course's folder (README.md)") from error"""
_ABSENT_ON_COLAB = """\
except ModuleNotFoundError:  # on Colab: fetch the course, keep Colab's own torch
    %pip install -q --no-deps "flatlab @ git+{address}"
    import flatlab as fl
"""


@dataclass
class Lesson:
    """One notebook and its .py twin (None where there is none), as the rules see them."""

    stem: str  # "01_one_dimension"
    nb: NotebookNode
    twin: NotebookNode | None
    size: int  # bytes of the .ipynb
    address: str  # the course's public address, or ""

    @property
    def number(self) -> int:
        return int(self.stem[:2])

    def cells(self, kind: str) -> list[NotebookNode]:
        return [cell for cell in self.nb.cells if cell.cell_type == kind]

    def outputs(self) -> list[NotebookNode]:
        return [output for cell in self.cells("code") for output in cell.outputs]


def stems(chosen: list[str] = ()) -> list[str]:
    """The names of all lessons, or of those whose names begin as one of `chosen` does."""
    files = [*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("py/*.py")]
    names = sorted({file.stem for file in files if re.match(r"\d\d_", file.stem)})
    for start in chosen:
        if not any(name.startswith(start) for name in names):
            raise SystemExit(f"no notebook begins with {start!r}; there are: {', '.join(names) or 'none'}")
    return [name for name in names if not chosen or name.startswith(tuple(chosen))]


def ipynb(stem: str) -> Path:
    return NOTEBOOKS / f"{stem}.ipynb"


def twin(stem: str) -> Path:
    return NOTEBOOKS / "py" / f"{stem}.py"


def read(stem: str) -> Lesson:
    path = ipynb(stem)
    pair = jupytext.read(twin(stem), fmt="py:percent") if twin(stem).exists() else None
    return Lesson(stem, nbformat.read(path, as_version=4), pair, path.stat().st_size, address())


def address() -> str:
    """The course's public address, from pyproject.toml; "" while it has none."""
    setting = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flatlab"]["repository"]
    if setting and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]*\w", setting):
        raise SystemExit(f'repository in pyproject.toml is {setting!r}: expected "https://github.com/<owner>/<name>"')
    return setting


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def launch_source(stem: str, address: str) -> str:
    """The lines under the title: how this notebook can be run, and the ones before and after it."""
    return f"{_ways(stem, address)}\n\n{_neighbours(stem)}".strip()


def _neighbours(stem: str) -> str:
    """Links to the notebook before and the one after, with their titles."""
    names = stems()
    place = names.index(stem) if stem in names else len(names)
    before, after = names[max(place - 1, 0) : place], names[place + 1 : place + 2]
    back = [f"← [{_name(name)}]({name}.ipynb)" for name in before]
    return " · ".join(back + [f"[{_name(name)}]({name}.ipynb) →" for name in after])


def _name(stem: str) -> str:
    """The title of a notebook as it stands in its twin, "01 · One dimension"."""
    source = twin(stem) if twin(stem).exists() else ipynb(stem)
    found = re.search(r'# (\d\d · [^\n"\\]+)', source.read_text(encoding="utf-8"))
    return found[1].strip() if found else stem


def _ways(stem: str, address: str) -> str:
    local = _LOCAL.format(stem=stem)
    if not address:
        return f"**Run it:** {local}."
    place = address.removeprefix("https://github.com/")
    binder = f"https://mybinder.org/v2/gh/{place}/HEAD?urlpath=lab/tree/notebooks/{stem}.ipynb"
    colab = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{stem}.ipynb"
    return f"**Run it:** [on Binder]({binder}) · [on Colab]({colab}) · {local}."


def setup_source(address: str) -> str:
    """The first code cell, the same in all notebooks."""
    absent = _ABSENT_ON_COLAB.format(address=address).rstrip() if address else _ABSENT_HERE
    return _SETUP.format(absent=absent)


@dataclass
class Length:
    """What a notebook asks of a reader, exercises and hidden solutions counted apart."""

    words: int  # of prose
    lines: int  # of code that is not folded
    figures: int
    aside: int  # words in folded side roads

    @property
    def minutes(self) -> int:
        """150 words or 10 lines of code a minute, and a minute for each figure."""
        return round(self.words / 150 + self.lines / 10 + self.figures)


def length(nb: NotebookNode) -> Length:
    found, exercises = Length(0, 0, 0, 0), False
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            heading = re.search(r"^## +(.*)", cell.source, re.MULTILINE)
            exercises = heading[1].startswith("Exercises") if heading else exercises
            if "launch" not in tags(cell) and not exercises:
                aside = "".join(re.findall(r"<details>.*?</details>", cell.source, re.DOTALL))
                found.aside += _words(aside)
                found.words += _words(cell.source) - _words(aside)
        elif not exercises and "setup" not in tags(cell):
            found.figures += sum("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))
            if not cell.metadata.get("jupyter", {}).get("source_hidden"):
                found.lines += sum(bool(line.strip()) for line in cell.source.splitlines())
    return found


def _words(text):
    """How many words are read: a formula between dollars is one, signs of a table or a heading are none."""
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", " formula ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|<[^>]+>", " ", text)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def hidden_solutions(nb: NotebookNode) -> list[str]:
    """The Python code in the `<details>` blocks of the prose, in the order of the notebook."""
    prose = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    hidden = re.findall(r"<details>.*?</details>", prose, re.DOTALL)
    return [code for block in hidden for code in re.findall(r"```python\n(.*?)```", block, re.DOTALL)]
