"""The hard rules for a notebook. A rule takes a Lesson and yields a sentence for each thing that breaks it."""

import hashlib
import re
from itertools import zip_longest

from lessons import CLAIM, TIME, WIDGET, Lesson, hidden_solutions, launch_source, length, setup_source, tags

HEADINGS = ("Predict", "Build it", "Play", "Break it", "Exercises", "Take away")
LONGEST_CELL = 25  # lines
SHORTEST_ALT = 8  # words
LONGEST_READING = 45  # minutes
MOST_WORDS = 3_200  # "about 3,000"
MOST_ASIDE = 1_000  # words in folded side roads
MOST_BOXES = 5
FEWEST_SEEDS = 10  # for a verdict without a caveat
UNMENDED = ()  # notebooks not yet rebuilt in the shorter form
LEDGER = 25  # the notebook that draws the others together is longer
LARGEST_FILE = 500_000  # bytes
FEWEST_SLIDES = 5
ADDRESS = r"\bat 0x[0-9a-f]{6,}"  # <object at 0x7f8a12345678>
MARK = r"# *fmt: *(skip|off|on)\b"  # for a formatter, which leaves the notebooks alone
THREADS = r"\bfl\.(runtime\.)?threads\b|\bset_num_threads\b"
STYLED_TABLE = r"\bT_[0-9a-f]{5}(?![0-9a-z])"  # the random name of a table styled by pandas


def problems(lesson: Lesson) -> list[str]:
    """Everything that is wrong with a notebook; empty if nothing is."""
    rules = {name: rule for name, rule in RULES.items() if applies(name, lesson.stem)}
    return [f"{lesson.stem}: {problem} [{name}]" for name, rule in rules.items() for problem in rule(lesson)]


def applies(name: str, stem: str) -> bool:
    """Whether a rule is asked of a notebook: those of the shorter form not yet of all."""
    return not (stem.startswith(UNMENDED) and RULES[name] in SHORTER)


def fingerprint(nb) -> str:
    """A hash of all code. `make notebooks` stores it beside the outputs, so that old outputs of new code are found."""
    code = "\0".join(cell.source for cell in nb.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def pair_in_step(lesson):
    twin_cells = lesson.twin.cells if lesson.twin else []
    for number, (ours, theirs) in enumerate(zip_longest(lesson.nb.cells, twin_cells)):
        if _essence(ours) != _essence(theirs):
            yield f"cell {number} differs from its twin notebooks/py/{lesson.stem}.py: make notebooks"
            return  # after an added cell all later ones differ too


def title(lesson):
    first = lesson.nb.cells[0].source.splitlines()[0] if lesson.nb.cells else ""
    if not re.fullmatch(rf"# {lesson.stem[:2]} · \S.*", first):
        yield f"the first line is {first!r}: expected '# {lesson.stem[:2]} · Title'"


def launch_cell(lesson):
    if _tagged(lesson, "launch") != [launch_source(lesson.stem, lesson.address)]:
        yield "the cell tagged 'launch' is not the generated one: make notebooks"


def setup_cell(lesson):
    if _tagged(lesson, "setup") != [setup_source(lesson.address)]:
        yield "the cell tagged 'setup' is not the generated one: make notebooks"


def headings(lesson):
    found = [heading for heading, _, _ in _sections(lesson)]
    for wanted in HEADINGS if lesson.number else ():
        if not any(heading.startswith(wanted) for heading in found):
            yield f"no heading begins with {wanted!r}"


def clean_run(lesson):
    counts = [cell.execution_count for cell in lesson.cells("code") if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the cells were not run once from top to bottom: their numbers are {counts}"
    if lesson.nb.metadata.get("flatlab", {}).get("code") != fingerprint(lesson.nb):
        yield "the outputs belong to other code: make notebooks"


def no_errors(lesson):
    for cell in lesson.cells("code"):
        if "raises-exception" not in tags(cell) and any(output.output_type == "error" for output in cell.outputs):
            yield f"a cell ended in an error: {_start(cell)}"


def stable_outputs(lesson):
    for output in lesson.outputs():
        data = output.get("data", {})
        text = output.get("text", "") + data.get("text/plain", "") + data.get("text/html", "")
        if output.get("name") == "stderr" or re.search(f"{ADDRESS}|{STYLED_TABLE}", text):
            yield f"an output changes from run to run: {text[:60]!r}"


def no_widget_state(lesson):
    if "widgets" in lesson.nb.metadata:
        yield "widget state is stored (metadata.widgets), which GitHub cannot render: make notebooks"
    if any(WIDGET in output.get("data", {}) for output in lesson.outputs()):
        yield "a widget view is stored, which says 'Error displaying widget' when reopened: make notebooks"


def no_semicolon(lesson):
    for cell in lesson.cells("code"):
        if cell.source.rstrip().endswith(";"):
            yield f"a cell ends in ';': {_start(cell)}"


def plumbing_out_of_sight(lesson):
    for cell in lesson.nb.cells:
        if re.search(MARK, cell.source):
            yield f"a mark for the formatter, which leaves notebooks alone anyway: {_start(cell)}"
        if re.search(THREADS, cell.source) and not cell.metadata.get("jupyter", {}).get("source_hidden"):
            yield f"threads are set in a cell that is not folded (source_hidden): {_start(cell)}"


def short_cells(lesson):
    for cell in lesson.cells("code"):
        lines = len(cell.source.splitlines())
        if lines > LONGEST_CELL:
            yield f"a code cell has {lines} lines, at most {LONGEST_CELL} are allowed: {_start(cell)}"


def enough_prose(lesson):
    prose, code = len(lesson.cells("markdown")), len(lesson.cells("code"))
    if prose < code:
        yield f"{prose} prose cells for {code} code cells: at least one each"


def alt_text(lesson):
    for cell in lesson.cells("code"):
        for output in filter(_is_figure, cell.outputs):
            alt = output.metadata.get("image/png", {}).get("alt", "")
            if len(alt.split()) < SHORTEST_ALT:
                yield f"alt text {alt!r} has fewer than {SHORTEST_ALT} words: {_start(cell)}"


def what_you_see(lesson):
    for heading, prose, figures in _sections(lesson):
        if figures and "What you see" not in prose:
            yield f"a figure without a 'What you see' sentence in the section {heading!r}"


def claims(lesson):
    if lesson.number and not any(CLAIM in output.get("data", {}) for output in lesson.outputs()):
        yield "no claim among the outputs"


def boxes(lesson):
    shown = [output.data[CLAIM] for output in lesson.outputs() if CLAIM in output.get("data", {})]
    count = sum(not box.get("folded") for box in shown)
    if count > MOST_BOXES and lesson.number != LEDGER:
        yield f"{count} claim boxes: at most {MOST_BOXES}; make a family of them, or leave them to claims.numbers()"
    if len(shown) > count and not shown[-1].get("folded"):
        yield "claims.numbers() stands before a claim: put it last"


def few_seeds(lesson):
    shown = [output.data[CLAIM] for output in lesson.outputs() if CLAIM in output.get("data", {})]
    for claim in [claim for box in shown for claim in box.get("claims", [box])]:
        if claim.get("n") and claim["n"] < FEWEST_SEEDS and claim["verdict"] == "holds":
            yield f"{claim['id']} holds with {claim['n']} seeds: at most with a caveat below {FEWEST_SEEDS}"


def reading_time(lesson):
    found = length(lesson.nb)
    for what, count, most in (
        ("minutes to read", found.minutes, LONGEST_READING),
        ("words of prose", found.words, MOST_WORDS),
        ("words in folded side roads", found.aside, MOST_ASIDE),
    ):
        if count > most and lesson.number != LEDGER and lesson.number:
            yield f"{count} {what}: at most {most:,}"
    said = [int(match[1]) for cell in lesson.cells("markdown") for match in re.finditer(TIME, cell.source)]
    if said != [found.minutes]:
        yield f"the box announces {said} minutes to read, it takes {found.minutes}: make notebooks"


def results_stay_folded(lesson):
    for cell in lesson.cells("code"):
        tagged = "result" in tags(cell)
        if tagged != bool(cell.metadata.get("jupyter", {}).get("outputs_hidden")):
            yield f"a folded output goes with the tag 'result', and only with it: {_start(cell)}"
        elif tagged and cell.outputs and _first_text(cell.outputs[0]) != "result":
            yield f"the first output of a folded result is shown: begin with print('result'): {_start(cell)}"


def self_checks(lesson):
    for cell in lesson.cells("code"):
        if "exercises.Exercise(" in cell.source and not cell.source.startswith("# self-check"):
            yield f"the first line of a folded self-check is shown: begin with '# self-check': {_start(cell)}"


def exercises(lesson):
    count = len(hidden_solutions(lesson.nb))
    if lesson.number and not 2 <= count <= 4:
        yield f"{count} exercises with a hidden solution (```python in <details>): expected 2 to 4"


def slides(lesson):
    shown = [cell for cell in lesson.nb.cells if cell.metadata.get("slideshow", {}).get("slide_type", "skip") != "skip"]
    if len(shown) < FEWEST_SLIDES:
        yield f"{len(shown)} cells are marked as slides: at least {FEWEST_SLIDES} expected"


def file_size(lesson):
    if lesson.size >= LARGEST_FILE:
        yield f"the file has {lesson.size:,} bytes: it must stay below {LARGEST_FILE:,}"


SHORTER = (boxes, few_seeds, reading_time, results_stay_folded, self_checks)
RULES = {
    rule.__name__: rule
    for rule in (pair_in_step, title, launch_cell, setup_cell, headings, clean_run, no_errors, stable_outputs)
    + (no_widget_state, no_semicolon, plumbing_out_of_sight, short_cells, enough_prose, alt_text, what_you_see, claims)
    + SHORTER
    + (exercises, slides, file_size)
}


def _essence(cell):
    """What a twin holds of a cell; None for a cell that is not there."""
    if cell is None:
        return None
    kept = {key: cell.metadata[key] for key in ("tags", "slideshow", "jupyter") if cell.metadata.get(key)}
    return cell.cell_type, cell.source.strip(), kept


def _tagged(lesson, tag):
    return [cell.source for cell in lesson.nb.cells if tag in tags(cell)]


def _sections(lesson):
    """[heading, prose, number of figures] from one heading to the next; a comment in a code fence is no heading."""
    sections = [["before the first heading", "", 0]]
    for cell in lesson.nb.cells:
        if cell.cell_type == "code":
            sections[-1][2] += sum(map(_is_figure, cell.outputs))
        elif cell.cell_type == "markdown":
            for line in re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL).splitlines():
                heading = re.fullmatch(r"#{1,6} +(.+)", line)
                if heading:
                    sections.append([heading[1], "", 0])
                else:
                    sections[-1][1] += line + "\n"
    return sections


def _first_text(output):
    text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
    return text.strip().split("\n")[0].strip(" *·:.").lower()


def _is_figure(output):
    return "image/png" in output.get("data", {})


def _start(cell):
    return repr(cell.source.strip().split("\n")[0][:60])
