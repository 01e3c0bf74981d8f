"""Claims: a sentence, a measured number with its spread, and a declared verdict that every run recomputes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flatlab import compare
from flatlab.objective import Estimate

VERDICTS = ("holds", "holds with a caveat", "does not hold here", "inconclusive")
STANCES = ("supports", "against", "silent")
MIME = "application/vnd.flatlab.claim+json"


class ClaimError(AssertionError):
    """The verdict that was declared is not the one that was measured."""


@dataclass(frozen=True)
class Claim:
    """One claim as the ledger keeps it: `measured` with its `interval`, the bounds it must keep, the verdict.

    experiment: where it comes from (one vote each); n: its seeds; losses: the train losses of both sides.
    """

    id: str
    sentence: str
    measured: float | None
    interval: tuple[float | None, float | None]
    bounds: tuple[float | None, float | None]
    verdict: str
    caveat: str = ""
    detail: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    experiment: str = ""
    n: int | None = None
    losses: tuple[float, ...] = ()

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {MIME: asdict(self), "text/markdown": self.text(), "text/plain": self.text()}

    def text(self) -> str:
        """The claim in Markdown."""
        notes = _sentences(self.detail, self.caveat and f"Caveat: {self.caveat}", "; ".join(_said(self)))
        return (
            f"> **Claim {self.id} · {self.verdict}** · {self.sentence}.  \n"
            f"> Measured {_number(self)}; the claim needs {_needs(self.bounds)}. {notes}".rstrip()
        )


@dataclass(frozen=True)
class Family:
    """Claims on one question: one box with a small table for the reader, each a claim of its own for the ledger."""

    id: str
    sentence: str
    claims: list[Claim]
    note: str
    factors: bool

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"id": self.id, "claims": [asdict(claim) for claim in self.claims]}
        return {MIME: data, "text/markdown": self.text(), "text/plain": self.text()}

    def text(self) -> str:
        """The family in Markdown; its table stands outside the quotes, where nbconvert would not see it."""
        head = "| | measured | n | train loss | beside it | verdict |\n|---|---|---|---|---|---|"
        table = "\n".join([head, *map(self._row, self.claims)])
        return f"> **Claims {self.id}** · {self.sentence}.\n\n{table}\n\n> {self.note}"

    def _row(self, claim):
        name, losses = claim.id.removeprefix(self.id).strip(), [f"{loss:.3g}" for loss in claim.losses] or ["", ""]
        number = _number(claim, self.factors and claim.n is not None)
        cells = name, number, str(claim.n or ""), *losses, "; ".join([claim.verdict, *_said(claim)])
        return f"| {' | '.join(cells)} |"


def declare(
    id: str, sentence: str, measured: Any, verdict: str, above: float | None = None, below: float | None = None,
    interval: tuple[float, float] | None = None, caveat: str = "", detail: str = "",
    about: Mapping[str, str] | None = None,
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
    _check([verdict], above, below, caveat, about)
    centre, spread = _spread(measured)
    spread = (float(interval[0]), float(interval[1])) if interval is not None else spread
    if spread[0] > spread[1]:
        raise ValueError(f"interval is {spread}: give (low, high)")
    if not all(map(math.isfinite, (centre, *spread))):
        raise ValueError(f"measured is {centre} {spread}: a claim needs finite numbers; look for runs that diverged")
    claim = Claim(id, sentence.rstrip("."), centre, spread, (above, below), verdict, caveat, detail, about or {})
    _agree([claim], [compare.verdict(*spread, above, below)], claim)
    return claim


def family(
    id: str, sentence: str, values: Any, verdicts: Mapping[str, str], above: float | None = None,
    below: float | None = None, m: int | None = None, at_least: tuple[int, str] | None = None, factors: bool = False,
    losses: Mapping[Any, tuple[float, float]] | None = None, caveat: str = "", detail: str = "",
    about: Mapping[str, str] | None = None,
) -> Family:  # fmt: skip
    """Declare a family of claims, one row per name, and check each by the one rule, `compare.family`.

    sentence: what follows each name. values: a column of `compare.differences`, or `{name: one value per seed}` where
        NaN is left out. factors: they are powers of ten, shown as factors; bounds stay in powers of ten.
    verdicts: `{name: verdict}`, see `declare`. m: the size of the declared family, by default of `verdicts`.
    at_least: `(k, verdict)`, a last row: it holds for k of them (from all that are established to all not excluded).
    losses: `{name: (its own train loss, that beside it)}`; by default those that `compare.differences` leaves.
    about: what the last row with `at_least`, else each row, says if it holds; if not, the opposite, or it is silent.

    Errors: as `declare`; ValueError for a name without values.
    """
    named = compare.by_name(values)
    missing = [name for name in verdicts if name not in named]
    if missing or not verdicts:
        raise ValueError(f"verdicts has {missing or 'no name'}: there are values for {', '.join(map(str, named))}")
    _check([*verdicts.values(), *(at_least or ())[1:]], above, below, caveat, about)
    table, m = compare.family({name: named[name] for name in verdicts}, above, below, m), m or len(verdicts)
    losses = losses if losses is not None else getattr(values, "attrs", {}).get("train loss", {})
    rows = [
        _row(id, name, sentence, row[1:4], (above, below), verdicts[name], {} if at_least else about, caveat, detail,
             row.n, tuple(losses.get(name, ())))
        for name, row in zip(verdicts, table.itertuples(), strict=True)
    ]  # fmt: skip
    found = list(table["verdict"])
    if at_least:
        (sure, possible), bound = compare.counted(found), at_least[0] - 0.5
        name, spread = f"at least {at_least[0]} of {len(rows)}", (sure, sure, possible)
        rows.append(_row(id, name, sentence, spread, (bound, None), at_least[1], about, caveat, detail))
        found.append(compare.verdict(sure, possible, bound))
    note = _sentences(
        f"Each needs {_needs((above, below), factors)}, by t-intervals at {100 - 5 / m:.4g} % (95 % for {m} in all); "
        f"the signs of {table['n'].min()} pairs alone could show p = {table['smallest p'].max():.2g}",
        detail, caveat and f"Caveat: {caveat}",
    )  # fmt: skip
    box = Family(id, sentence.rstrip("."), rows, note, factors)
    _agree(rows, found, box)
    return box


def _row(id, name, sentence, numbers, bounds, verdict, about, caveat, detail, n=None, losses=()):
    """A claim of a family: its stance follows from its verdict, and a number that is not there is None."""
    opposite = {"supports": "against", "against": "supports", "silent": "silent"}
    turn = {"does not hold here": opposite, "inconclusive": dict.fromkeys(STANCES, "silent")}.get(verdict, {})
    said = {claim: turn.get(stance, stance) for claim, stance in (about or {}).items()}
    centre, low, high = (float(v) if math.isfinite(v) else None for v in numbers)
    caveat, text = caveat if verdict == "holds with a caveat" else "", f"{name} {sentence.rstrip('.')}"
    return Claim(f"{id} {name}", text, centre, (low, high), bounds, verdict, caveat, detail, said, id, n, losses)


def _check(verdicts, above, below, caveat, about):
    if unknown := [v for v in verdicts if v not in VERDICTS]:
        raise ValueError(f"verdict is {unknown[0]!r}: choose one of {', '.join(VERDICTS)}")
    if ("holds with a caveat" in verdicts) != bool(caveat):
        raise ValueError('caveat goes with the verdict "holds with a caveat", and only with it')
    least, most = (-math.inf if above is None else above), (math.inf if below is None else below)
    if not least < most or (above is None and below is None):
        raise ValueError("above and below: give at least one bound, with above < below")
    if unknown := [s for s in (about or {}).values() if s not in STANCES]:
        raise ValueError(f"about holds {unknown}: choose from {', '.join(STANCES)}")


def _agree(claims, found, shown):
    """Errors: ClaimError that names every claim whose declared verdict is not the one that was found."""
    pairs = [(claim.id, claim.verdict, came) for claim, came in zip(claims, found, strict=True)]
    if wrong := [pair for pair in pairs if pair[1].removesuffix(" with a caveat") != pair[2]]:
        told = [f"{id}: declared {said!r}, but it came out as {came!r}." for id, said, came in wrong]
        raise ClaimError("\n".join([*told, shown.text()]))


def _spread(measured) -> tuple[float, tuple[float, float]]:
    if not isinstance(measured, Sequence) and not getattr(measured, "ndim", 0):
        value, error = float(measured), float(measured.stderr) if isinstance(measured, Estimate) else 0.0
        return value, (value - 1.96 * error, value + 1.96 * error)
    values = [float(v) for v in measured]
    if len(values) < 3:
        raise ValueError(f"measured has {len(values)} values: a claim about trained networks needs at least 3 seeds")
    mean, half = compare.interval(values) if all(map(math.isfinite, values)) else (math.nan, math.nan)
    return mean, (mean - half, mean + half)


def _number(claim, factors=False):
    """The measured number with its interval, e.g. "1.05 [0.845, 1.26]", or of powers of ten "× 11.2 [7, 18.2]"."""
    number, low, high = ("–" if v is None else _digits(v, factors) for v in (claim.measured, *claim.interval))
    return f"{'× ' * factors}{number}" + (f" [{low}, {high}]" if low != high else "")


def _digits(value, factors):
    return f"{10**value:.3g}" if factors else f"{value:.4g}"


def _needs(bounds, factors=False):
    signs = zip((">", "<"), bounds, strict=True)
    return " and ".join(
        f"{sign} {'× ' * factors}{_digits(bound, factors)}" for sign, bound in signs if bound is not None
    )


def _said(claim):
    return [f"{stance.replace('silent', 'silent on')} {name}" for name, stance in claim.about.items()]


def _sentences(*notes):
    """One after the other; each begins with a capital, but a symbol such as λ stays what it is."""
    capital = [note[0].upper() + note[1:] if note[0].isascii() else note for note in notes if note]
    return " ".join(f"{note.rstrip('. ')}." for note in capital)
