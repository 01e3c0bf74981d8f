"""Claims: a sentence, a measured number with its spread, and a declared verdict that every run recomputes."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from flatlab import compare
from flatlab.objective import Estimate

if TYPE_CHECKING:
    from IPython.display import Markdown

PAPER = {
    "C1": "flatness is relative to the function that is learned",
    "C2": "a tighter decision boundary makes minima sharper, even at perfect generalisation",
    "C3": "regularised networks often end in sharper minima",
    "C4": "these networks generalise better and are safer",
    "C5": "flatness is not a reliable sign of safety",
    "C6": "the function's complexity, not flatness alone, shapes the geometry of solutions",
}
VERDICTS = ("holds", "holds with a caveat", "does not hold here", "inconclusive")
STANCES = ("supports", "against", "silent")
MIME = "application/vnd.flatlab.claim+json"

_declared: dict[str, "Claim"] = {}
_shown: set[str] = set()


class ClaimError(AssertionError):
    """The verdict that was declared is not the one that was measured."""


@dataclass(frozen=True)
class Claim:
    """One claim as the ledger keeps it: `measured` with its `interval`, the bounds it must keep, the verdict.

    experiment: where it comes from (one vote each); n: its seeds; losses: the train losses of both sides; factors: the
    numbers are powers of ten, shown as factors.
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
    factors: bool = False

    def _repr_mimebundle_(self, include=None, exclude=None):
        _shown.add(self.id)
        return {MIME: asdict(self), "text/markdown": self.text(), "text/plain": self.text()}

    def text(self) -> str:
        """The claim in Markdown."""
        pairs = self.n and f"{self.n} seeds; their signs alone could show p = {2.0 ** (1 - self.n):.2g}"
        losses = self.losses and f"Train losses {' and '.join(f'{loss:.3g}' for loss in self.losses)}"
        caveat = self.caveat and f"Caveat: {self.caveat}"
        notes = _sentences(self.detail, pairs, losses, caveat, "; ".join(_said(self)))
        return (
            f"> **Claim {self.id} · {self.verdict}** · {self.sentence}.  \n"
            f"> Measured {_number(self)}; the claim needs {_needs(self.bounds, self.factors)}. {notes}".rstrip()
        )


@dataclass(frozen=True)
class Family:
    """Claims on one question: one box with a small table for the reader, each a claim of its own for the ledger."""

    id: str
    sentence: str
    claims: list[Claim]
    note: str

    def _repr_mimebundle_(self, include=None, exclude=None):
        _shown.update(claim.id for claim in self.claims)
        data = {"id": self.id, "claims": [asdict(claim) for claim in self.claims]}
        return {MIME: data, "text/markdown": self.text(), "text/plain": self.text()}

    def text(self) -> str:
        """The family in Markdown; its table stands outside the quotes, where nbconvert would not see it."""
        head = "| | measured | n | train loss | beside it | verdict |\n|:---|:---|:---|:---|:---|:---|"
        table = "\n".join([head, *map(self._row, self.claims)])
        return f"> **Claims {self.id}** · {self.sentence.lstrip(': ')}.\n\n{table}\n\n> {self.note}"

    def _row(self, claim):
        name, losses = claim.id.removeprefix(self.id).strip(), [f"{loss:.3g}" for loss in claim.losses] or ["", ""]
        cells = name, _number(claim), str(claim.n or ""), *losses, "; ".join([claim.verdict, *_said(claim)])
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Numbers:
    """Claims without a box, as one folded table."""

    claims: list[Claim]

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"folded": True, "claims": [asdict(claim) for claim in self.claims]}
        return {MIME: data, "text/markdown": self.text(), "text/plain": self.text()}

    def text(self) -> str:
        """The table in Markdown, inside a block that is opened by a click."""
        head = f"<details><summary>All numbers: {len(self.claims)} more claims</summary>"
        rows = [
            f"| {claim.id} | {claim.sentence} | {_number(claim)}; needs {_needs(claim.bounds, claim.factors)} | "
            f"{claim.n or ''} | "
            f"{' and '.join(f'{loss:.3g}' for loss in claim.losses)} | {'; '.join([claim.verdict, *_said(claim)])} |"
            for claim in self.claims
        ]
        table = ["| | claim | measured | n | train losses | verdict |", "|:---|:---|:---|:---|:---|:---|", *rows]
        notes = [f"{claim.id}: {_sentences(claim.detail, claim.caveat)}" for claim in self.claims]
        notes = [note for note in notes if not note.endswith(": ")]
        return "\n".join([head, "", *table, "", "  \n".join(notes), "", "</details>"])


def declare(
    id: str, sentence: str, measured: Any, verdict: str, above: float | None = None, below: float | None = None,
    interval: tuple[float, float] | None = None, caveat: str = "", detail: str = "",
    about: Mapping[str, str] | None = None, experiment: str = "", losses: tuple[float, ...] = (), m: int = 1,
) -> Claim:  # fmt: skip
    """Declare a claim and check it: the cell fails if the verdict that comes out is not the declared one.

    measured: a number (exact), an `Estimate` (± 1.96 standard errors), or one value per seed, at least three (mean with
        its t-interval at level 1 − .05/m, scale: that of the values). `interval` replaces the computed one.
    above, below: the open bounds that the sentence needs, fixed before the run; give one or both.
    verdict: "holds" if the interval lies inside the bounds, "does not hold here" if it lies outside, "inconclusive"
        otherwise; "holds with a caveat" is "holds" with a `caveat`, and the most that fewer than ten seeds should say.
    about: what it says of the paper's claims *if it holds*, e.g. `{"C1": "supports"}`. If it does not hold it says the
        opposite, if it is inconclusive nothing: the same measure and bound decide in both directions.
    experiment: where it comes from, in a few words; claims of one experiment have one vote. losses: the train losses
        of both sides. m: how many verdicts answer this one question (see `family`).

    Returns the `Claim`; as the last line of a cell it is displayed as a box, otherwise `numbers()` shows it.
    Errors: ClaimError if the verdicts differ; ValueError for missing bounds, fewer than 3 seeds, values that are not
    finite, an unknown verdict.
    """
    _check([verdict], above, below, caveat, about)
    centre, spread, n = _spread(measured, m)
    spread = (float(interval[0]), float(interval[1])) if interval is not None else spread
    if spread[0] > spread[1]:
        raise ValueError(f"interval is {spread}: give (low, high)")
    if not all(map(math.isfinite, (centre, *spread))):
        raise ValueError(f"measured is {centre} {spread}: a claim needs finite numbers; look for runs that diverged")
    said, losses = _stances(verdict, about), tuple(float(loss) for loss in losses)
    claim = Claim(
        id, sentence.rstrip("."), centre, spread, (above, below), verdict, caveat, detail, said, experiment, n, losses
    )
    _agree([claim], [compare.verdict(*spread, above, below)], claim)
    return claim


def family(
    id: str, sentence: str, values: Any, verdicts: Mapping[str, str], above: float | None = None,
    below: float | None = None, m: int | None = None, at_least: tuple[int, str] | None = None, factors: bool = False,
    losses: Mapping[Any, tuple[float, float]] | None = None, caveat: str = "", detail: str = "",
    about: Mapping[str, str] | None = None, experiment: str = "",
) -> Family:  # fmt: skip
    """Declare a family of claims, one row per name, and check each by the one rule, `compare.family`.

    sentence: what follows each name; one that begins with ":" stands on its own.
    values: a column of `compare.differences`, or `{name: one value per seed}` where NaN is left out. factors: they are
        powers of ten, shown as factors; bounds stay in powers of ten.
    verdicts: `{name: verdict}`, see `declare`. m: the size of the declared family, by default of `verdicts`: give it
        where the question has more rows than these.
    at_least: `(k, verdict)`, a last row: it holds for k of them (from all that are established to all not excluded).
    losses: `{name: (its own train loss, that beside it)}`; by default those that `compare.differences` leaves.
    about: what the last row with `at_least`, else each row, says if it holds; see `declare`.
    experiment: as in `declare`, by default the id.

    Errors: as `declare`; ValueError for a name without values.
    """
    named = compare.by_name(values)
    missing = [name for name in verdicts if name not in named]
    if missing or not verdicts:
        raise ValueError(f"verdicts has {missing or 'no name'}: there are values for {', '.join(map(str, named))}")
    _check([*verdicts.values(), *(at_least or ())[1:]], above, below, caveat, about)
    table, m = compare.family({name: named[name] for name in verdicts}, above, below, m), m or len(verdicts)
    losses = losses if losses is not None else getattr(values, "attrs", {}).get("train loss", {})

    def row(name, text, spread, bounds, verdict, said, n=None):
        numbers = [float(v) if math.isfinite(v) else None for v in spread]
        note, sides = caveat if verdict == "holds with a caveat" else "", tuple(losses.get(name, ()))
        whole = f"{text} {sentence.rstrip('.')}".replace(" :", ":", 1)
        return Claim(f"{id} {name}", whole, numbers[0], (numbers[1], numbers[2]), bounds,
                     verdict, note, detail, _stances(verdict, said), experiment or id, n, sides,
                     factors and n is not None)  # fmt: skip

    each = {} if at_least else about
    rows = [
        row(name, name, found[1:4], (above, below), verdicts[name], each, found.n)
        for name, found in zip(verdicts, table.itertuples(), strict=True)
    ]
    verdict = list(table["verdict"])
    if at_least:
        (sure, possible), bound = compare.counted(verdict), at_least[0] - 0.5
        name = f"at least {at_least[0]} of {len(rows)}"
        rows.append(row(name, name, (sure, sure, possible), (bound, None), at_least[1], about))
        verdict.append(compare.verdict(sure, possible, bound))
    note = _sentences(
        f"Each needs {_needs((above, below), factors)}, by t-intervals at {100 - 5 / m:.4g} %"
        f"{f' (95 % for {m} in all)' if m > 1 else ''}; the signs of {table['n'].min()} pairs alone could show "
        f"p = {table['smallest p'].max():.2g}",
        detail, caveat and f"Caveat: {caveat}",
    )  # fmt: skip
    box = Family(id, sentence.rstrip("."), rows, note)
    _agree(rows, verdict, box)
    return box


def numbers() -> Numbers:
    """All claims declared in this kernel that were not shown as a box: one folded table, and rows of the ledger."""
    return Numbers([claim for id, claim in _declared.items() if id not in _shown])


def take_away() -> "Markdown":
    """What this notebook's claims say of the paper's, a line for each that they touch: supports, against or silent.

    One vote per experiment: it supports (is against) if a claim of its own does and none does the opposite; where its
    claims disagree it is "divided", where all are inconclusive it is "silent".
    """
    from IPython.display import Markdown

    votes: dict[str, dict[str, list[Claim]]] = {}
    for claim in _declared.values():
        for name in claim.about:
            votes.setdefault(name, {}).setdefault(claim.experiment or claim.id, []).append(claim)
    lines = []
    for name in sorted(votes, key=lambda name: (name[0], int(name[1:]))):
        text = f"**{name}**, {PAPER[name]}" if name in PAPER else f"**{name}**, this notebook's paper"
        lines.append(f"- {text}: {'; '.join(_vote(name, *pair) for pair in votes[name].items())}.")
    return Markdown("\n".join(lines))


def _vote(name, experiment, claims):
    said = {claim.about[name] for claim in claims} - {"silent"} or {"silent"}
    ids = ", ".join(f"{claim.id} {claim.verdict}" for claim in claims)
    return f"*{said.pop() if len(said) == 1 else 'divided'}*, {experiment} ({ids})"


def _stances(verdict, about):
    """What is said of the paper's claims: as declared if it holds, the opposite if not, nothing if it is open."""
    opposite = {"supports": "against", "against": "supports", "silent": "silent"}
    turn = {"does not hold here": opposite, "inconclusive": dict.fromkeys(STANCES, "silent")}.get(verdict, {})
    return {name: turn.get(stance, stance) for name, stance in (about or {}).items()}


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
    if unknown := [name for name in about or {} if name not in PAPER and not re.fullmatch(r"P\d+", name)]:
        raise ValueError(f"about speaks of {unknown}: name the paper's claims C1 to C6, or P13, P14 … of a notebook")


def _agree(claims, found, shown):
    """Errors: ClaimError that names every claim whose declared verdict is not the one that was found."""
    pairs = [(claim.id, claim.verdict, came) for claim, came in zip(claims, found, strict=True)]
    if wrong := [pair for pair in pairs if pair[1].removesuffix(" with a caveat") != pair[2]]:
        told = [f"{id}: declared {said!r}, but it came out as {came!r}." for id, said, came in wrong]
        raise ClaimError("\n".join([*told, shown.text()]))
    _declared.update({claim.id: claim for claim in claims})
    _shown.difference_update(claim.id for claim in claims)


def _spread(measured, m) -> tuple[float, tuple[float, float], int | None]:
    if not isinstance(measured, Sequence) and not getattr(measured, "ndim", 0):
        value, error = float(measured), float(measured.stderr) if isinstance(measured, Estimate) else 0.0
        return value, (value - 1.96 * error, value + 1.96 * error), None
    values = [float(v) for v in measured]
    if len(values) < 3:
        raise ValueError(f"measured has {len(values)} values: a claim about trained networks needs at least 3 seeds")
    finite = all(map(math.isfinite, values))
    mean, half = compare.interval(values, 1 - 0.05 / m) if finite else (math.nan, math.nan)
    return mean, (mean - half, mean + half), len(values)


def _number(claim):
    """The measured number with its interval, e.g. "1.05 [0.845, 1.26]", or of powers of ten "× 11.2 [7, 18.2]"."""
    number, low, high = ("–" if v is None else _digits(v, claim.factors) for v in (claim.measured, *claim.interval))
    return f"{'× ' * claim.factors}{number}" + (f" [{low}, {high}]" if low != high else "")


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
