"""Claims: a sentence, a measured number with its spread, and a declared verdict that every run recomputes."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from flatlab.objective import Estimate
from flatlab.statistics import interval as t_interval

VERDICTS = ("holds", "holds with a caveat", "does not hold here", "inconclusive")
STANCES = ("supports", "against", "silent")
MIME = "application/vnd.flatlab.claim+json"


class ClaimError(AssertionError):
    """The verdict that was declared is not the one that was measured."""


@dataclass(frozen=True)
class Claim:
    """One claim as the ledger keeps it: `measured` with its 95 % `interval`, the bounds it must keep, the verdict."""

    id: str
    sentence: str
    measured: float
    interval: tuple[float, float]
    bounds: tuple[float | None, float | None]
    verdict: str
    caveat: str = ""
    detail: str = ""
    about: dict[str, str] = field(default_factory=dict)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {MIME: asdict(self), "text/markdown": self.text(), "text/plain": self.text()}

    def text(self) -> str:
        """The claim in Markdown."""
        low, high = self.interval
        spread = f" [{low:.4g}, {high:.4g}]" if high > low else ""
        about = "; ".join(f"{stance.replace('silent', 'silent on')} {claim}" for claim, stance in self.about.items())
        notes = [self.detail, f"Caveat: {self.caveat}" if self.caveat else "", about]
        tail = " ".join(f"{_capital(note).rstrip('. ')}." for note in notes if note)
        return (
            f"> **Claim {self.id} · {self.verdict}** · {self.sentence}.  \n"
            f"> Measured {self.measured:.4g}{spread}; the claim needs {_needs(self.bounds)}. {tail}".rstrip()
        )


def declare(
    id: str, sentence: str, measured, verdict: str, above: float | None = None, below: float | None = None,
    interval: tuple[float, float] | None = None, caveat: str = "", detail: str = "",
    about: dict[str, str] | None = None,
) -> Claim:  # fmt: skip
    """Declare a claim and check it: the cell fails if the verdict that comes out is not the declared one.

    measured: a number (exact), an `Estimate` (± 1.96 standard errors), or one value per seed, at least three (mean with
        its 95 % t-interval, scale: that of the values). `interval` replaces the computed one.
    above, below: the open bounds that the sentence needs, fixed before the run; give one or both.
    verdict: "holds" if the interval lies inside the bounds, "does not hold here" if it lies outside, "inconclusive"
        otherwise; "holds with a caveat" is "holds" with a `caveat`.
    about: what it says of the paper's claims, e.g. `{"C1": "supports"}`.

    Returns the `Claim`; as the last line of a cell it is displayed and kept for the ledger.
    Errors: ClaimError if the verdicts differ; ValueError for missing bounds, fewer than 3 seeds, values that are not
    finite, or an unknown verdict.
    """
    low, high = (-math.inf if above is None else above), (math.inf if below is None else below)
    if verdict not in VERDICTS:
        raise ValueError(f"verdict is {verdict!r}: choose one of {', '.join(VERDICTS)}")
    if (verdict == "holds with a caveat") != bool(caveat):
        raise ValueError('caveat goes with the verdict "holds with a caveat", and only with it')
    if not low < high or (above is None and below is None):
        raise ValueError("above and below: give at least one bound, with above < below")
    if unknown := [s for s in (about or {}).values() if s not in STANCES]:
        raise ValueError(f"about holds {unknown}: choose from {', '.join(STANCES)}")
    centre, spread = _spread(measured)
    spread = tuple(map(float, interval)) if interval is not None else spread
    if spread[0] > spread[1]:
        raise ValueError(f"interval is {spread}: give (low, high)")
    if not all(map(math.isfinite, (centre, *spread))):
        raise ValueError(f"measured is {centre} {spread}: a claim needs finite numbers; look for runs that diverged")
    claim = Claim(id, sentence.rstrip("."), centre, spread, (above, below), verdict, caveat, detail, about or {})
    found = _judge(spread, low, high)
    if found != verdict.removesuffix(" with a caveat"):
        raise ClaimError(f"declared {verdict!r}, but it came out as {found!r}.\n{claim.text()}")
    return claim


def _spread(measured) -> tuple[float, tuple[float, float]]:
    if isinstance(measured, Estimate):
        return float(measured), (measured - 1.96 * measured.stderr, measured + 1.96 * measured.stderr)
    if not isinstance(measured, Sequence) and not getattr(measured, "ndim", 0):
        return float(measured), (float(measured), float(measured))
    values = [float(v) for v in measured]
    if len(values) < 3:
        raise ValueError(f"measured has {len(values)} values: a claim about trained networks needs at least 3 seeds")
    mean, half = t_interval(values) if all(map(math.isfinite, values)) else (math.nan, math.nan)
    return mean, (mean - half, mean + half)


def _judge(interval, low, high):
    if low < interval[0] and interval[1] < high:
        return "holds"
    return "does not hold here" if interval[1] <= low or interval[0] >= high else "inconclusive"


def _capital(note):
    """A sentence begins with a capital, but a symbol such as λ stays what it is."""
    return note[0].upper() + note[1:] if note[0].isascii() else note


def _needs(bounds):
    parts = [f"{sign} {bound:.4g}" for sign, bound in zip((">", "<"), bounds, strict=True) if bound is not None]
    return " and ".join(parts)
