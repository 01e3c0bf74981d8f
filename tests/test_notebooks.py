"""Every notebook keeps every rule, and every rule can be broken."""

import shutil
from functools import cache

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import lessons
import notebooks
from lessons import CLAIM, WIDGET, Lesson
from rules import RULES, applies, fingerprint

ALT = "two parabolas, the left one wide and the right one narrow"
SOLUTION = "<details><summary>Solution</summary>\n\n```python\n# two\ncurvature.check(2)\n```\n</details>"
ADDRESS = "https://github.com/a/b"
NO_ALT = new_output("display_data", {"image/png": "iVBORw0KGgo="})
CLAIMED = new_output("display_data", {CLAIM: {"verdict": "holds"}})
STEMS = [stem for stem in lessons.stems() if lessons.ipynb(stem).exists()]
stored = cache(lessons.read)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stem", STEMS)
def test_notebook_keeps_the_rule(stem, rule):
    if not applies(rule, stem):
        pytest.skip("not yet in the shorter form")
    assert list(RULES[rule](stored(stem))) == []


def test_every_twin_has_its_notebook():
    assert lessons.stems() == STEMS


def test_ledger_holds_the_claims_of_the_notebooks():
    if STEMS:
        assert notebooks.LEDGER.read_text(encoding="utf-8") == notebooks.ledger_text()


def figure(alt=ALT, **more):
    return new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": alt, **more}, metadata=png(alt))


def png(alt):
    return {"image/png": {"alt": alt}}


def prose(source, **metadata):
    return new_markdown_cell(source, metadata=metadata)


def code(source, count, *outputs, **metadata):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata=metadata)


def good_lesson():
    """A small lesson that keeps all rules; the tests below break it."""
    stem, shown = "01_example", {"slideshow": {"slide_type": "slide"}}
    claim = new_output("display_data", {CLAIM: {"verdict": "holds"}, "text/markdown": "**holds**"})
    cells = [
        prose("# 01 · An example", **shown),
        prose(lessons.launch_source(stem, ""), tags=["launch"]),
        prose("You will be able to … · **Time** 2 minutes to read"),
        code(lessons.setup_source(""), 1, tags=["setup"]),
        *[prose(f"## {heading}", **shown) for heading in ("Predict", "Build it", "Play")],
        code("panel()", 2, figure()),
        prose("**What you see.** One is wide.\n\n## Break it", **shown),
        code("1 + 1", 3, new_output("execute_result", {"text/plain": "2"}, execution_count=3)),
        code("claim()", 4, claim),
        prose(f"## Exercises\n{SOLUTION}\n{SOLUTION}"),
        prose("## Take away\nYou may now say …"),
    ]
    lesson = Lesson(stem, new_notebook(cells=cells), None, size=10_000, address="")
    return in_step(lesson)


def in_step(lesson):
    lesson.nb.metadata["flatlab"] = {"code": fingerprint(lesson.nb)}
    lesson.twin = new_notebook(cells=[cell.copy() for cell in lesson.nb.cells])
    return lesson


def edit(index, **changes):
    return lambda lesson: lesson.nb.cells[index].update(changes)


def make(**fields):
    return lambda lesson: vars(lesson).update(fields)


def warn(lesson):
    lesson.nb.cells[7].outputs.append(new_output("stream", name="stderr", text="UserWarning"))


def replace_all(old, new):
    def change(lesson):
        for cell in lesson.nb.cells:
            cell.source = cell.source.replace(old, new)

    return change


def hide_slides(lesson):
    for cell in lesson.nb.cells[:5]:
        cell.metadata.pop("slideshow", None)


# Each rule with the ways to break it.
BREAKS = {
    "pair_in_step": [edit(9, source="1 + 2"), lambda lesson: lesson.nb.cells.pop(), make(twin=None)],
    "title": [edit(0, source="# An example"), edit(0, source="# 02 · An example")],
    "launch_cell": [edit(1, source="Run it"), edit(1, metadata={}), make(address=ADDRESS)],
    "setup_cell": [edit(3, source="import flatlab as fl"), make(address=ADDRESS)],
    "headings": [replace_all("## Play", "Play"), replace_all("## Break it", "```python\n## Break it\n```")],
    "clean_run": [edit(9, execution_count=5), edit(9, execution_count=None), edit(9, source="2 + 2")],
    "no_errors": [edit(9, outputs=[new_output("error", ename="ValueError", evalue="", traceback=[])])],
    "stable_outputs": [
        warn,
        edit(9, outputs=[new_output("stream", text="<object at 0x7f8a12345678>")]),
        edit(9, outputs=[new_output("display_data", {"text/html": '<table id="T_0a1b2">'})]),
    ],
    "no_widget_state": [
        edit(7, outputs=[figure(**{WIDGET: {}})]),
        lambda lesson: lesson.nb.metadata.update(widgets={}),
    ],
    "no_semicolon": [edit(9, source="1 + 1;"), edit(9, source="1 + 1; \n")],
    "plumbing_out_of_sight": [
        edit(9, source="f(\n    1,\n)  # fmt: skip"),
        edit(9, source="# fmt: off", metadata={"jupyter": {"source_hidden": True}}),
        edit(9, source="with fl.threads(1):\n    f()"),
        edit(4, source="We set `fl.threads(1)`."),
    ],
    "short_cells": [edit(9, source="1\n" * 26), edit(9, source="1\n" * 26, metadata={"tags": ["self-check"]})],
    "enough_prose": [lambda lesson: lesson.nb.cells.extend(code("1", 9) for _ in range(9))],
    "alt_text": [edit(7, outputs=[figure(alt="two parabolas")]), edit(7, outputs=[NO_ALT])],
    "what_you_see": [replace_all("What you see", "Look"), edit(10, outputs=[figure()])],
    "claims": [edit(10, outputs=[])],
    "boxes": [
        edit(10, outputs=6 * [CLAIMED]),
        edit(10, outputs=[CLAIMED, new_output("display_data", {CLAIM: {"folded": True, "claims": []}}), CLAIMED]),
    ],
    "few_seeds": [edit(10, outputs=[new_output("display_data", {CLAIM: {"id": "1", "verdict": "holds", "n": 9}})])],
    "reading_time": [
        edit(2, source="**Time** 9 minutes to read"),
        edit(2, source="You will be able to …"),
        edit(8, source="**What you see.** \n\n## Break it" + " word" * 3_300),
        edit(8, source=f"**What you see.** \n\n## Break it <details>{' word' * 1_100}</details>"),
        edit(9, source="1 + 1\n" * 450),
    ],
    "results_stay_folded": [
        edit(9, metadata={"jupyter": {"outputs_hidden": True}}),
        edit(9, metadata={"tags": ["result"]}),
        edit(9, metadata={"tags": ["result"], "jupyter": {"outputs_hidden": True}}),
    ],
    "self_checks": [edit(9, source="import math\none = fl.exercises.Exercise('one', 1, {})")],
    "exercises": [edit(11, source=f"## Exercises\n{SOLUTION}"), edit(11, source="## Exercises" + 5 * SOLUTION)],
    "slides": [hide_slides],
    "file_size": [make(size=500_000)],
}


@pytest.mark.parametrize("rule", RULES)
def test_rule_accepts_the_good_lesson(rule):
    assert list(RULES[rule](good_lesson())) == []


@pytest.mark.parametrize("rule, number", [(rule, i) for rule in RULES for i in range(len(BREAKS[rule]))])
def test_rule_finds_what_breaks_it(rule, number):
    lesson = good_lesson()
    BREAKS[rule][number](lesson)
    assert list(RULES[rule](lesson))


def test_a_result_begins_with_a_word_that_tells_nothing():
    lesson = good_lesson()
    shown = [new_output("stream", text="result\n"), figure()]
    lesson.nb.cells[7].update(outputs=shown, metadata={"tags": ["result"], "jupyter": {"outputs_hidden": True}})
    assert list(RULES["results_stay_folded"](lesson)) == []


def test_exercises_folded_code_and_side_roads_are_no_reading_time():
    lesson = good_lesson()
    before = lessons.length(lesson.nb)
    lesson.nb.cells[11].source += " word" * 900
    lesson.nb.cells[8].source += f"<details>{' word' * 900}</details>"
    lesson.nb.cells[9].update(source="1 + 1\n" * 300, metadata={"jupyter": {"source_hidden": True}})
    after = lessons.length(lesson.nb)
    assert (after.words, after.figures, after.aside) == (before.words, before.figures, 900)
    assert after.lines == before.lines - 1


def test_a_cell_of_the_greatest_length_is_accepted():
    lesson = good_lesson()
    lesson.nb.cells[9].update(source="1\n" * 25)
    assert list(RULES["short_cells"](lesson)) == []


def test_a_folded_cell_may_set_the_threads():
    lesson = good_lesson()
    lesson.nb.cells[9].update(source="with fl.threads(1):\n    f()", metadata={"jupyter": {"source_hidden": True}})
    assert list(RULES["plumbing_out_of_sight"](lesson)) == []


def test_cleaning_keeps_the_picture_and_drops_what_needs_a_kernel():
    bar = new_output("display_data", {WIDGET: {}, "text/plain": "  0%|          | 0/10 [00:00<?, ?it/s]"})
    slider = new_output("display_data", {WIDGET: {}, "text/plain": "IntSlider(value=0)"})
    guess = new_output("display_data", {WIDGET: {}, "text/plain": "Your prediction: not yet given"})
    warning = new_output("stream", name="stderr", text="UserWarning: careful")
    progress = new_output("stream", name="stderr", text=" 50%|#####     | 5/10")
    cell = code("panel()", 1, bar, slider, figure(**{WIDGET: {}}), guess, warning, progress, execution={"shell": "now"})
    seen = code("settle()", 2, figure(), tags=["result"])  # running has unfolded it
    nb = new_notebook(cells=[cell, seen], metadata={"widgets": {}, "language_info": {"name": "python"}})
    assert notebooks.clean(nb) == ["UserWarning: careful"]
    assert cell.outputs == [figure(), {**guess, "data": {"text/plain": "Your prediction: not yet given"}}]
    assert seen.metadata["jupyter"]["outputs_hidden"]
    assert cell.execution_count == 1 and "execution" not in cell.metadata
    assert "widgets" not in nb.metadata and "version" not in nb.metadata.language_info


def test_cleaning_makes_a_styled_table_the_same_in_every_run():
    html = '<style>#T_a1b2c_row0_col0 {}</style><table id="T_a1b2c"></table>'
    table = new_output("execute_result", {"text/html": html, "text/plain": "<Styler at 0x7f8a12345678>"})
    nb = new_notebook(cells=[prose("a"), code("table", 1, table)])
    notebooks.clean(nb)
    assert nb.cells[1].outputs[0].data == {
        "text/html": '<style>#T_cell1_0_row0_col0 {}</style><table id="T_cell1_0"></table>',
        "text/plain": "<Styler at 0x…>",
    }


def test_deck_holds_the_marked_cells_only():
    deck = notebooks.deck(good_lesson().nb, "01_example")
    assert "An example" in deck and "data:image/png" in deck
    assert "You will be able to" not in deck


def test_deck_hides_the_code_of_a_self_check():
    nb = good_lesson().nb
    nb.cells.append(new_code_cell("the_hidden_answer = 1", metadata={"jupyter": {"source_hidden": True}}))
    nb.cells[-1].metadata["slideshow"] = {"slide_type": "slide"}
    assert "the_hidden_answer" not in notebooks.deck(nb, "01_example")


def test_address_makes_the_links_and_the_colab_setup():
    launch = lessons.launch_source("01_example", ADDRESS)
    assert "mybinder.org/v2/gh/a/b/HEAD?urlpath=lab/tree/notebooks/01_example.ipynb" in launch
    assert "colab.research.google.com/github/a/b/blob/main/notebooks/01_example.ipynb" in launch
    assert f'%pip install -q --no-deps "flatlab @ git+{ADDRESS}"' in lessons.setup_source(ADDRESS)
    assert "http" not in lessons.launch_source("01_example", "") + lessons.setup_source("")


def test_build_starts_from_a_twin_alone_and_keeps_outputs(tmp_path, monkeypatch):
    """The whole way on a small notebook: .py alone, .ipynb with outputs, an edit of the .py, a second build."""
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(notebooks, "LEDGER", tmp_path / "data" / "ledger.json")
    monkeypatch.setattr(lessons, "setup_source", lambda address: "import sys")
    shutil.copy(lessons.ROOT / "pyproject.toml", tmp_path)  # jupytext's settings
    twin = lessons.twin("00_small")
    twin.parent.mkdir(parents=True)
    twin.write_text("# %% [markdown]\n# # 00 · Small\n\n# %%\nprint(6 * 7)\n", encoding="utf-8")

    notebooks.build(["00"])
    built = lessons.read("00_small")
    assert [cell.source for cell in built.cells("code")] == ["import sys", "print(6 * 7)"]
    assert lessons.tags(built.nb.cells[1]) == ["launch"]
    assert built.outputs()[0].text == "42\n"
    for rule in ("pair_in_step", "clean_run", "launch_cell", "stable_outputs"):
        assert list(RULES[rule](built)) == []

    first = lessons.ipynb("00_small").read_text(encoding="utf-8")
    notebooks.build(["00"])
    assert lessons.ipynb("00_small").read_text(encoding="utf-8") == first

    twin.write_text(twin.read_text(encoding="utf-8").replace("6 * 7", "6 * 8"), encoding="utf-8")
    assert list(RULES["pair_in_step"](lessons.read("00_small")))
    notebooks.build(["00"])
    changed = lessons.read("00_small")
    assert changed.outputs()[0].text == "48\n"
    assert [cell.id for cell in changed.nb.cells] == [cell.id for cell in built.nb.cells]
