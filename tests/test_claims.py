"""Claims: the numbers decide on the verdict, and a claim that does not hold stops the notebook."""

import json
import math

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbconvert.filters.markdown_mistune import markdown2html_mistune

import lessons
import notebooks
from flatlab import Estimate, claims, compare
from flatlab.claims import MIME, ClaimError, declare, family

SEEDS = [1.0, 1.2, 1.1, 0.9]  # mean 1.05 ± 0.205
TEN = [1.05 + 0.02 * k for k in range(-5, 5)]  # mean 1.04 ± 0.043, corrected for twelve ± 0.072
VERDICTS = [
    (2.0, {"above": 1}, "holds"),
    (2.0, {"below": 1}, "does not hold here"),
    (2.0, {"above": 1, "below": 3}, "holds"),
    (2.0, {"above": 3, "below": 4}, "does not hold here"),
    (2.0, {"above": 2}, "does not hold here"),  # the bounds are open
    (2.0, {"above": 1, "interval": (0.5, 2.5)}, "inconclusive"),
    (Estimate(2.0, 0.5), {"above": 1}, "holds"),
    (Estimate(2.0, 0.52), {"above": 1}, "inconclusive"),
    (Estimate(2.0, 0.5), {"below": 1.01}, "does not hold here"),
    (TEN, {"above": 0.9}, "holds"),
    (SEEDS, {"above": 0.9}, "inconclusive"),
    (np.array(SEEDS), {"above": 1.3}, "does not hold here"),
    (torch.tensor(TEN), {"above": 0.9, "below": 1.3}, "holds"),
    (TEN, {"above": 0.98}, "holds"),
    (TEN, {"above": 0.98, "m": 12}, "inconclusive"),
]


@pytest.mark.parametrize("measured, needs, verdict", VERDICTS)
def test_the_numbers_decide_on_the_verdict(measured, needs, verdict):
    assert declare("C1.a", "wells differ", measured, verdict, **needs).verdict == verdict
    for other in {"holds", "does not hold here", "inconclusive"} - {verdict}:
        with pytest.raises(ClaimError, match=f"it came out as '{verdict}'"):
            declare("C1.a", "wells differ", measured, other, **needs)


def test_the_interval_over_seeds_is_that_of_student():
    from scipy import stats

    wanted = stats.ttest_1samp(SEEDS, 0).confidence_interval(0.95)
    claim = declare("C1.a", "wells differ", SEEDS, "holds with a caveat", above=0, caveat="4 seeds")
    assert claim.measured == pytest.approx(1.05) and claim.interval == pytest.approx((wanted.low, wanted.high))


def test_a_caveat_goes_with_its_verdict_and_only_with_it():
    claim = declare("C1.a", "wells differ", 2.0, "holds with a caveat", above=1, caveat="one network only")
    assert claim.verdict == "holds with a caveat" and "Caveat: one network only." in claim.text()
    for verdict, caveat in (("holds with a caveat", ""), ("holds", "one network only")):
        with pytest.raises(ValueError, match="caveat"):
            declare("C1.a", "wells differ", 2.0, verdict, above=1, caveat=caveat)
    with pytest.raises(ClaimError):
        declare("C1.a", "wells differ", 0.0, "holds with a caveat", above=1, caveat="one network only")


def test_a_claim_is_displayed_for_the_ledger_and_for_the_reader():
    about = {"C1": "supports"}
    options = {"detail": "4 seeds", "about": about, "experiment": "wells", "losses": (0.25, 0.5), "caveat": "few"}
    bundle = declare("C1.a", "wells differ.", SEEDS, "holds with a caveat", 0, 5, **options)._repr_mimebundle_()
    stored = json.loads(json.dumps(bundle[MIME]))
    assert (stored["id"], stored["verdict"], stored["bounds"]) == ("C1.a", "holds with a caveat", [0, 5])
    assert stored["about"] == about and stored["interval"] == pytest.approx([0.8446, 1.2554], abs=1e-4)
    assert (stored["experiment"], stored["n"], stored["losses"]) == ("wells", 4, [0.25, 0.5])
    parts = ("C1.a", "wells differ.", "1.05", "> 0 and < 5", "4 seeds.", "p = 0.12", "0.25 and 0.5", "upports C1.")
    for part in parts:
        assert part in bundle["text/markdown"]


BAD_CLAIMS = {
    "unknown verdict": ((1.0, "true"), {"above": 0}, "verdict is 'true'"),
    "no bound": ((1.0, "holds"), {}, "above and below"),
    "bounds in the wrong order": ((1.0, "holds"), {"above": 2, "below": 1}, "above and below"),
    "two seeds": (([1.0, 2.0], "holds"), {"above": 0}, "measured has 2 values"),
    "no seeds": (([], "holds"), {"above": 0}, "measured has 0 values"),
    "NaN": ((math.nan, "holds"), {"above": 0}, "measured is nan"),
    "a seed that diverged": (([1.0, 2.0, math.inf], "holds"), {"above": 0}, "measured is"),
    "unknown spread": ((Estimate(1.0), "holds"), {"above": 0}, "measured is"),
    "unknown stance": ((1.0, "holds"), {"above": 0, "about": {"C1": "proves"}}, "about holds .'proves'"),
    "interval in the wrong order": ((1.0, "holds"), {"above": 0, "interval": (2, 0.5)}, "interval"),
    "nobody's claim": ((1.0, "holds"), {"above": 0, "about": {"C7": "supports"}}, "about speaks of .'C7'"),
    "NaN bound": ((1.0, "holds"), {"above": math.nan}, "above"),
}


@pytest.mark.parametrize("case", BAD_CLAIMS)
def test_a_bad_claim_is_named(case):
    arguments, options, message = BAD_CLAIMS[case]
    with pytest.raises(ValueError, match=message):
        declare("C1.a", "wells differ", *arguments, **options)


# Families

RANDOM = np.random.default_rng(0)
VALUES = {  # powers of ten, one per seed
    "SAM": RANDOM.normal(-0.3, 0.1, 20),
    "aug": RANDOM.normal(0.5, 0.1, 20),
    "wd": RANDOM.normal(-0.03, 0.1, 20),
    "late": [math.nan, 0.1, 0.2],
}
DECLARED = {"SAM": "does not hold here", "aug": "holds", "wd": "inconclusive", "late": "inconclusive"}


def sharper(verdicts=DECLARED, **options):
    return family("08.1", "is sharper than base (λ_max).", VALUES, verdicts, **{"above": 0} | options)


def stored(box):
    """The claims of a family as a notebook stores them."""
    return {
        claim["id"]: claim for claim in json.loads(json.dumps(box._repr_mimebundle_()[MIME], allow_nan=False))["claims"]
    }


def test_each_row_of_a_family_is_judged_by_the_one_rule_and_kept():
    rows, table = stored(sharper()), compare.family(VALUES, above=0)
    assert list(rows) == ["08.1 SAM", "08.1 aug", "08.1 wd", "08.1 late"]
    for name, row in zip(DECLARED, rows.values(), strict=True):
        assert (row["verdict"], row["n"], row["bounds"]) == (DECLARED[name], table.loc[name, "n"], [0, None])
        assert row["sentence"] == f"{name} is sharper than base (λ_max)" and row["experiment"] == "08.1"
        assert row["measured"] == pytest.approx(table.loc[name, "measured"])
    assert rows["08.1 aug"]["interval"] == pytest.approx(table.loc["aug", ["low", "high"]].tolist())
    assert rows["08.1 late"]["interval"] == [None, None]  # two pairs have none


def test_the_size_of_the_family_corrects_the_level():
    """At 95 % the gain of a tenth is established, not as one of twenty."""
    values = {"wd": [0.1, 0.2, 0.05, 0.15, 0.02, 0.08, -0.04, 0.07, -0.02, 0.04]}
    for m, verdict in ((1, "holds"), (20, "inconclusive")):
        assert family("08.2", "gains", values, {"wd": verdict}, above=0, m=m).claims[0].verdict == verdict
    assert (
        "at 99.75 % (95 % for 20 in all)"
        in family("08.2", "gains", values, {"wd": "inconclusive"}, above=0, m=20).text()
    )


def test_a_family_fails_by_naming_every_verdict_that_differs():
    with pytest.raises(ClaimError) as error:
        sharper(DECLARED | {"SAM": "holds", "wd": "does not hold here"})
    text = str(error.value)
    assert "08.1 SAM: declared 'holds', but it came out as 'does not hold here'" in text
    assert "08.1 wd: declared" in text and "08.1 aug: declared" not in text


@pytest.mark.parametrize(
    "k, verdict, stance",
    [(1, "holds", "supports"), (4, "does not hold here", "against"), (3, "inconclusive", "silent")],
)
def test_of_how_many_it_holds_is_one_more_claim_with_the_vote_of_all(k, verdict, stance):
    box = sharper(at_least=(k, verdict), about={"C3": "supports"})
    *rows, last = stored(box).values()
    assert (last["id"], last["measured"], last["interval"]) == (f"08.1 at least {k} of 4", 1, [1, 3])
    assert last["bounds"] == [k - 0.5, None] and last["about"] == {"C3": stance} and not any(r["about"] for r in rows)
    for other in {"holds", "does not hold here", "inconclusive"} - {verdict}:
        with pytest.raises(ClaimError, match=f"at least {k} of 4: declared"):
            sharper(at_least=(k, other))


@pytest.mark.parametrize("said, turned", [("supports", "against"), ("against", "supports"), ("silent", "silent")])
def test_stances_are_symmetric(said, turned):
    stances = [claim.about["C3"] for claim in sharper(about={"C3": said}).claims]
    assert stances == [turned, said, "silent", "silent"]


def test_a_family_is_one_table_for_the_reader():
    text = sharper(factors=True, losses={"aug": (0.01, 0.002)}, detail="recorded", at_least=(3, "inconclusive")).text()
    assert text.count("**Claims 08.1**") == 1 and markdown2html_mistune(text).count("<tr>") == 6
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"][2:]
    assert {len(row) for row in cells} == {6} and [row[0] for row in cells] == [*DECLARED, "at least 3 of 4"]
    low, high = 10 ** compare.family(VALUES, above=0).loc["aug", ["low", "high"]].astype(float)
    middle = 10 ** VALUES["aug"].mean()
    assert cells[1][1:] == [f"× {middle:.3g} [{low:.3g}, {high:.3g}]", "20", "0.01", "0.002", "holds"]
    assert cells[3][1:] == ["× 1.41", "2", "", "", "inconclusive"] and cells[4][1] == "1 [1, 3]"
    assert "> × 1, by t-intervals at 98.75 % (95 % for 4 in all)" in text and "Recorded." in text
    assert "the signs of 2 pairs alone could show p = 0.5" in text
    assert f"× {middle:.3g} [{low:.3g}, {high:.3g}]; needs > × 1 |" in claims.numbers().text()


def test_losses_come_with_the_differences():
    rows = [(c, s, loss * (1 + s), k) for c, loss, k in (("base", 0.1, 2.0), ("aug", 0.4, 6.0)) for s in range(4)]
    found = compare.differences(pd.DataFrame(rows, columns=["control", "seed", "train loss", "κ"]), ["κ"], ratio=["κ"])
    (claim,) = family("10.1", "is sharper", found["κ"], {"aug": "holds with a caveat"}, above=0, caveat="four").claims
    assert claim.losses == pytest.approx((0.4 * 24**0.25, 0.1 * 24**0.25)) and claim.n == 4


def test_a_caveat_belongs_to_the_rows_that_declare_it():
    box = sharper(DECLARED | {"aug": "holds with a caveat"}, caveat="four seeds", at_least=(1, "holds"))
    assert [claim.caveat for claim in box.claims] == ["", "four seeds", "", "", ""]
    assert "Caveat: four seeds." in box.text()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"verdicts": {"sam": "holds"}}, "verdicts has .'sam'.: there are values for SAM, aug, wd, late"),
        ({"verdicts": {}}, "verdicts has no"),
        ({"verdicts": {"SAM": "true"}}, "verdict is 'true'"),
        ({"above": None}, "above and below"),
        ({"caveat": "alone"}, "caveat goes with"),
        ({"about": {"C3": "proves"}}, "about holds"),
        ({"at_least": (3, "yes")}, "verdict is 'yes'"),
    ],
)
def test_a_bad_family_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        sharper(**options)


def test_the_ledger_reads_single_claims_and_families(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    boxes = declare("08.0", "one", 1.0, "holds", above=0), sharper(at_least=(1, "holds"))
    shown = [nbformat.v4.new_output("display_data", box._repr_mimebundle_()) for box in boxes]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("claims", outputs=shown)])
    nbformat.write(nb, tmp_path / "08_example.ipynb")
    rows = json.loads(notebooks.ledger_text())
    assert [row["id"] for row in rows] == ["08.0", *(claim.id for claim in boxes[1].claims)]
    assert {row["notebook"] for row in rows} == {"08_example"} and len({tuple(row) for row in rows}) == 1


# The stances, and what is made of them


@pytest.fixture
def kernel(monkeypatch):
    """A kernel in which nothing has been declared."""
    monkeypatch.setattr(claims, "_declared", {})
    monkeypatch.setattr(claims, "_shown", set())


def test_the_same_bound_decides_in_both_directions():
    said = {
        verdict: declare("C1.a", "wells differ", value, verdict, above=1, about={"C1": "supports", "P13": "silent"})
        for verdict, value in (("holds", 2.0), ("does not hold here", 0.5), ("inconclusive", Estimate(1.0, 1.0)))
    }
    assert [claim.about["C1"] for claim in said.values()] == ["supports", "against", "silent"]
    assert {claim.about["P13"] for claim in said.values()} == {"silent"}


def test_the_take_away_has_one_vote_per_experiment(kernel):
    def claim(id, value, experiment, **about):
        verdict = "holds" if value > 1 else "does not hold here"
        return declare(id, "it is", value, verdict, above=1, about=about, experiment=experiment)

    claim("1", 2.0, "circles", C2="supports", P13="supports")
    claim("2", 3.0, "circles", C2="supports")
    claim("3", 2.0, "digits", C2="supports", C6="against")
    claim("4", 0.0, "digits", C2="supports")
    claim("5", 0.0, "waves", C2="supports")
    lines = claims.take_away().data.splitlines()
    assert [line[4:6] for line in lines] == ["C2", "C6", "P1"]
    assert "*supports*, circles (1 holds, 2 holds); *divided*, digits (3 holds, 4 does not hold here)" in lines[0]
    assert "*against*, waves (5 does not hold here)" in lines[0] and "*against*, digits (3 holds)" in lines[1]


def test_claims_without_a_box_stand_in_one_folded_table_and_in_the_ledger(kernel, tmp_path, monkeypatch):
    shown, hidden = declare("00.1", "boxed", 2.0, "holds", above=1), declare("00.2", "alone", 2.0, "holds", above=1)
    box = sharper()
    for displayed in (shown, box):
        displayed._repr_mimebundle_()
    table = claims.numbers()
    assert [claim.id for claim in table.claims] == [hidden.id]
    html = markdown2html_mistune(table.text())
    assert "<details>" in html and "alone</td>" in html and "boxed" not in html
    monkeypatch.setattr(lessons, "NOTEBOOKS", tmp_path)
    output = nbformat.v4.new_output("display_data", table._repr_mimebundle_())
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("claims", outputs=[output])])
    nbformat.write(nb, tmp_path / "00_example.ipynb")
    assert [row["id"] for row in json.loads(notebooks.ledger_text())] == [hidden.id]


def test_a_claim_that_is_declared_again_is_shown_again(kernel):
    declare("00.1", "boxed", 2.0, "holds", above=1)._repr_mimebundle_()
    declare("00.1", "boxed", 3.0, "holds", above=1)
    assert [claim.measured for claim in claims.numbers().claims] == [3.0]
