"""Claims: the numbers decide on the verdict, and a claim that does not hold stops the notebook."""

import json
import math

import numpy as np
import pytest
import torch

from flatlab import Estimate
from flatlab.claims import MIME, ClaimError, declare

SEEDS = [1.0, 1.2, 1.1, 0.9]  # mean 1.05 ± 0.205
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
    (SEEDS, {"above": 0.8}, "holds"),
    (SEEDS, {"above": 0.9}, "inconclusive"),
    (np.array(SEEDS), {"above": 1.3}, "does not hold here"),
    (torch.tensor(SEEDS), {"above": 0.8, "below": 1.3}, "holds"),
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
    claim = declare("C1.a", "wells differ", SEEDS, "holds", above=0)
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
    bundle = declare("C1.a", "wells differ.", SEEDS, "holds", 0, 5, detail="4 seeds", about=about)._repr_mimebundle_()
    stored = json.loads(json.dumps(bundle[MIME]))
    assert (stored["id"], stored["verdict"], stored["bounds"]) == ("C1.a", "holds", [0, 5])
    assert stored["about"] == about and stored["interval"] == pytest.approx([0.8446, 1.2554], abs=1e-4)
    for part in ("C1.a", "holds", "wells differ.", "1.05", "> 0 and < 5", "4 seeds.", "upports C1."):
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
    "NaN bound": ((1.0, "holds"), {"above": math.nan}, "above"),
}


@pytest.mark.parametrize("case", BAD_CLAIMS)
def test_a_bad_claim_is_named(case):
    arguments, options, message = BAD_CLAIMS[case]
    with pytest.raises(ValueError, match=message):
        declare("C1.a", "wells differ", *arguments, **options)
