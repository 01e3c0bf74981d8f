"""Build and check the notebooks: `make notebooks`, `make slides` and `make ledger` call this.

A notebook is a pair: notebooks/NN_slug.ipynb (with outputs) and notebooks/py/NN_slug.py. Edit either one; a new
notebook may start as a .py alone.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from jupytext.cli import jupytext as run_jupytext
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import lessons
from lessons import CLAIM, ROOT, WIDGET
from rules import ADDRESS, STYLED_TABLE, fingerprint, problems

TIMEOUT = 600  # seconds for one cell; a safety net
LEDGER = ROOT / "data" / "ledger.json"
SLIDES = ROOT / "build" / "slides"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {  # all that a kernel says of itself, but for the version
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
_WIDGET_AS_TEXT = re.compile(r"[A-Z]\w*\(.*\)$|.*\d+%\|", re.DOTALL)  # "HBox(children=(…))" or a bar of tqdm's


def build(chosen: list[str]) -> int:
    """Pair, complete, run and clean each notebook, renew the ledger, then check."""
    for stem in lessons.stems(chosen):
        start = time.perf_counter()
        try:
            _build_one(stem)
        except CellExecutionError as error:
            print(f"{stem}: a cell failed, the notebook was not saved\n{error}", file=sys.stderr)
            return 1
        print(f"{stem}: built in {time.perf_counter() - start:.0f} s")
    ledger()
    return check(chosen)


def prose(chosen: list[str]) -> int:
    """After an edit of the text alone: pair, renew the launch line and the minutes, keep all outputs; then check."""
    for stem in lessons.stems(chosen):
        _pair(stem)
        nb = nbformat.read(lessons.ipynb(stem), as_version=4)
        _place_generated_cells(nb, stem)
        _announce(nb)
        _write(lessons.ipynb(stem), nbformat.writes(nb) + "\n")
        _pair(stem)
    return check(chosen)


def check(chosen: list[str]) -> int:
    """Print what breaks a rule; changes nothing."""
    stems = lessons.stems(chosen)
    missing = [f"{stem}: there is no notebooks/{stem}.ipynb: make notebooks" for stem in stems if not _exists(stem)]
    found = missing + [problem for stem in stems if _exists(stem) for problem in problems(lessons.read(stem))]
    print("\n".join(found) or f"{len(stems)} notebooks checked, all rules kept")
    return bool(found)


def minutes(chosen: list[str]) -> int:
    """Print how long each notebook is, by the formula of its box."""
    for stem in filter(_exists, lessons.stems(chosen)):
        found = lessons.length(lessons.read(stem).nb)
        print(f"{stem}: {found.minutes} min = {found.words} words / 150 + {found.lines} lines of code / 10 + "
              f"{found.figures} figures; {found.aside} words in side roads")  # fmt: skip
    return 0


def names(chosen: list[str]) -> int:
    """Print the names of the notebooks, one a line."""
    print("\n".join(lessons.stems(chosen)))
    return 0


def slides(chosen: list[str], reveal: str | None = None) -> int:
    """Write a deck of the cells that are marked as slides; the others are left out."""
    for stem in lessons.stems(chosen):
        _write(SLIDES / f"{stem}.slides.html", deck(nbformat.read(lessons.ipynb(stem), as_version=4), stem, reveal))
        print(f"build/slides/{stem}.slides.html")
    return 0


def deck(nb, name: str, reveal: str | None = None) -> str:
    from nbconvert import SlidesExporter

    for cell in nb.cells:
        # nbconvert would add an unmarked cell to the slide before it.
        cell.metadata.setdefault("slideshow", {}).setdefault("slide_type", "skip")
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["transient"] = {"remove_source": True}  # a self-check would show its answer
    exporter = SlidesExporter(exclude_input_prompt=True, exclude_output_prompt=True)
    if reveal:
        exporter.reveal_url_prefix = reveal
    return exporter.from_notebook_node(nb, resources={"metadata": {"name": name}})[0]


def ledger() -> int:
    """Write the claims in the stored outputs to data/ledger.json."""
    _write(LEDGER, ledger_text())
    return 0


def ledger_text() -> str:
    rows = [row for stem in lessons.stems() if _exists(stem) for row in _claims(stem)]
    return json.dumps(rows, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def clean(nb) -> list[str]:
    """Remove, in place, what cannot be stored or changes from run to run; returns the warnings among it.

    Results are folded again, which running them unfolds.
    """
    kept = {"kernelspec": KERNEL, "language_info": LANGUAGE}
    nb["metadata"] = {**{key: nb["metadata"][key] for key in ("flatlab",) if key in nb["metadata"]}, **kept}
    dropped = []
    for number, cell in enumerate(nb["cells"]):
        cell["metadata"].pop("execution", None)  # timestamps
        cell["metadata"].pop("collapsed", None)  # JupyterLab's double of outputs_hidden
        if cell["cell_type"] == "code":
            dropped += [output["text"] for output in cell["outputs"] if output.get("name") == "stderr"]
            stored = [output for output in cell["outputs"] if _worth_keeping(output)]
            cell["outputs"] = [_steady(output, f"T_cell{number}_{place}") for place, output in enumerate(stored)]
            if "result" in cell["metadata"].get("tags", ()):
                cell["metadata"]["jupyter"] = {**cell["metadata"].get("jupyter", {}), "outputs_hidden": True}
    return ["".join(text) for text in dropped if "%|" not in "".join(text)]


def _build_one(stem):
    _pair(stem)
    nb = nbformat.read(lessons.ipynb(stem), as_version=4)
    _place_generated_cells(nb, stem)
    _run(nb)
    for warning in clean(nb):
        print(f"{stem}: not stored: {warning.strip()}")
    _announce(nb)
    nb.metadata["flatlab"] = {"code": fingerprint(nb)}
    _write(lessons.ipynb(stem), nbformat.writes(nb) + "\n")
    _pair(stem)


def _pair(stem):
    """Bring both files in step, the newer one leads; outputs survive. Makes the one that is missing."""
    path = lessons.ipynb(stem)
    if not path.exists():
        nb = jupytext.read(lessons.twin(stem), fmt="py:percent")
        nb.metadata = {"kernelspec": KERNEL}
        _write(path, nbformat.writes(nb) + "\n")
    lessons.twin(stem).parent.mkdir(exist_ok=True)
    run_jupytext(["--quiet", "--sync", str(path)])


def _place_generated_cells(nb, stem):
    """Renew the launch line and the setup cell; where they are missing, put them at their place."""
    address = lessons.address()
    first_code = next((i for i, cell in enumerate(nb.cells) if cell.cell_type == "code"), len(nb.cells))
    setup = nbformat.v4.new_code_cell(lessons.setup_source(address), metadata={"tags": ["setup"]})
    launch = nbformat.v4.new_markdown_cell(lessons.launch_source(stem, address), metadata={"tags": ["launch"]})
    for place, generated in ((first_code, setup), (1, launch)):
        tag = generated.metadata.tags[0]
        present = [cell for cell in nb.cells if tag in lessons.tags(cell)]
        for cell in present:
            cell.source = generated.source
        if not present:
            nb.cells.insert(place, generated)


def _announce(nb):
    """Write the computed minutes into the box under the title."""
    minutes = lessons.length(nb).minutes
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(lessons.TIME, f"**Time** {minutes} minutes to read", cell.source)


def _run(nb):
    """Run all cells in a new kernel, as a reader would: in notebooks/, at laptop scale."""
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    options = {"kernel_name": "python3", "record_timing": False, "store_widget_state": False, "coalesce_streams": True}
    where = {"metadata": {"path": str(lessons.NOTEBOOKS)}}
    client = NotebookClient(nb, timeout=TIMEOUT, resources=where, **options)
    with tempfile.TemporaryDirectory() as home:  # no earlier predictions of ours in the stored outputs
        client.execute(env={**os.environ, "FLATLAB_SCALE": "laptop", "FLATLAB_HOME": home})


def _worth_keeping(output):
    """Strips the widget view from an output; False if nothing for a reader is left."""
    if output.get("name") == "stderr":
        return False
    data = output.get("data", {})
    if WIDGET in data:
        del data[WIDGET]
        text = "".join(data.get("text/plain", "Widget()"))
        return bool(set(data) - {"text/plain"}) or not _WIDGET_AS_TEXT.match(text)
    return output["output_type"] in ("stream", "error") or bool(data)


def _steady(output, table):
    """Replaces memory addresses, and by `table` the random name that pandas gives to a styled table."""
    for mime in {"text/plain", "text/html"} & set(output.get("data", {})):
        text = re.sub(ADDRESS, "at 0x…", "".join(output["data"][mime]))
        output["data"][mime] = re.sub(STYLED_TABLE, table, text)
    return output


def _claims(stem):
    """The claims in the stored outputs; those of a family one by one."""
    outputs = lessons.read(stem).outputs()
    shown = [output.data[CLAIM] for output in outputs if CLAIM in output.get("data", {})]
    return [{"notebook": stem, **claim} for box in shown for claim in box.get("claims", [box])]


def _exists(stem):
    return lessons.ipynb(stem).exists()


def _write(path: Path, text: str):
    """Write all or nothing: an interrupted run leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8", newline="\n")
    os.replace(unfinished, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for job in (build, prose, check, minutes, names, slides):
        command = commands.add_parser(job.__name__, help=job.__doc__)
        command.add_argument("chosen", nargs="*", metavar="NN", help="only these notebooks, e.g. 02")
    command.add_argument(
        "--reveal", help="where reveal.js is; without it a deck loads reveal.js and MathJax from the internet"
    )
    commands.add_parser("ledger", help=ledger.__doc__)
    options = vars(parser.parse_args())
    jobs = {job.__name__: job for job in (build, prose, check, minutes, names, slides, ledger)}
    return jobs[options.pop("command")](**options)


if __name__ == "__main__":
    sys.exit(main())
