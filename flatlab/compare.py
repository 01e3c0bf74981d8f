"""Beside what, and is it more than chance? Twins, differences per seed, one rule for verdicts, and correlations.

A sharpness is compared beside a base, or a twin of equal train loss; the unit is the seed, never the run or the pair.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flatlab import safety
from flatlab.loss import NetworkLoss
from flatlab.objective import Numbers, Objective

if TYPE_CHECKING:
    from pandas import DataFrame, Series

CLOSE = 0.1  # how far, as a share of the wanted train loss, a twin may be off
PACKED = 128  # test samples whose softmax outputs a record keeps


@dataclass(frozen=True)
class Twin:
    """A baseline at train loss `loss`, wanted `target`: of one network, of M, or several of each, `(...)`.

    at: the step, the length, T or ε. theta `(..., P)`: measure it as `objective.at(theta)`, with batch norm as
    `objective.refreshed(theta)`. found: where the loss is off by at most `CLOSE`; elsewhere there is no twin.
    """

    target: Tensor
    loss: Tensor
    at: Tensor
    theta: Tensor

    @property
    def found(self) -> Tensor:
        return (self.loss / self.target - 1).abs() <= CLOSE


def early_stopped(objective: Objective, path: Mapping[int, Tensor], target: Numbers) -> Twin:
    """The weights on a run's path whose train loss is nearest to `target`, by the ratio.

    path: `{step: theta (P,) or (M, P)}`. target: a number, one per member, or `(..., M)`. Batch norm's statistics are
    taken anew at each step. A snapshot from mid-schedule is hotter than a finished run: prefer `cooled`.
    """
    thetas = torch.stack([*path.values()])
    losses = torch.stack([_level(objective, theta) for theta in thetas])
    target = _wanted(target, losses[0])
    gaps = losses.log()[(slice(None), *[None] * (target.ndim - losses[0].ndim))] - target.log()
    nearest = gaps.abs().nan_to_num(torch.inf).argmin(0)
    chosen = (nearest, torch.arange(losses.shape[1])) if losses.ndim > 1 else nearest
    return Twin(target, losses[chosen], torch.tensor([*path])[nearest], thetas[chosen])


def cooled(objective: Objective, train: Callable[[int], Tensor], target: Numbers, lengths: Iterable[int]) -> Twin:
    """The run with a complete schedule of its own, among other `lengths`, that ends nearest to `target`, as above.

    train: `train(steps)` gives the weights `(P,)` or `(M, P)`. One ladder of lengths serves all members and targets.
    """
    return early_stopped(objective, {steps: train(steps) for steps in lengths}, target)


def temperature(loss: NetworkLoss, target: Numbers, head: str | None = None) -> Twin:
    """The baseline with its logits divided by T, so that its train loss is `target`: same decisions, no training.

    `.at` is T, from the best T (0.01 or more) up to 100; the nearest if none there does it, as above log K. target: as
    in `early_stopped`; head: as in `tempered`. Errors: ValueError for a loss that is not "cross_entropy".
    """
    if loss.loss != "cross_entropy":
        raise ValueError(f"loss is {loss.loss!r}: a temperature twin needs softmax cross-entropy")
    z, y = loss.outputs().cpu().double(), loss.collected(lambda rows, _, y: y.expand(len(rows), -1)).cpu()
    right = z.gather(-1, y[..., None])[..., 0].mean(-1)
    target = _wanted(target, right)
    low, high = torch.full_like(target, -2.0), torch.full_like(target, 2.0)
    for _ in range(60):
        x = (low + high) / 2  # of logits times 10^x; over 10^x the loss is convex: it falls, and may rise again
        warm = z * 10 ** x[..., None, None]
        falls = (warm.softmax(-1) * z).sum(-1).mean(-1) < right
        soft = (safety.negative_log_likelihood(warm, y) > target) & falls
        low, high = torch.where(soft, x, low), torch.where(soft, high, x)
    t = 10**-low
    return Twin(target, safety.negative_log_likelihood(z / t[..., None, None], y), t, _divided(loss, t, head))


def tempered(loss: NetworkLoss, t: float | Tensor, head: str | None = None) -> NetworkLoss:
    """The loss with its logits divided by `t`, one number or one per member: at the weights whose head is divided.

    head: the name of that layer, by default the last `nn.Linear`. (To divide another one gives the same function with
    other curvature.) Errors: ValueError if there is none, or if dividing it does not divide the outputs.
    """
    return loss.at(_divided(loss, torch.as_tensor(t), head))


def smoothed(loss: NetworkLoss, train: Callable[[Tensor], Tensor], target: Numbers) -> Twin:
    """A baseline that converges at train loss `target` (hard labels), since its training labels are smoothed by ε.

    loss: at the weights of the plain baseline, above whose loss alone a twin is found. train: `train(epsilon (...))`
    gives weights `(..., P)`. First ε = (1 − e⁻ᴸ) K/(K − 1), then corrected twice along the line from the baseline.
    """
    plain, classes = _level(loss, loss.point()), loss.outputs().shape[-1]
    target = _wanted(target, plain)
    epsilon = (1 - torch.exp(-target)) * classes / (classes - 1)
    for _ in range(2):
        share = (target - plain) / (_level(loss, train(epsilon)) - plain)
        epsilon = (epsilon * share).nan_to_num(0.0).clamp(0, 0.999)
    theta = train(epsilon)
    return Twin(target, _level(loss, theta), epsilon, theta)


def at_equal(rows: "DataFrame", ladder: "DataFrame", columns: Sequence[str], match: Sequence[str]) -> "DataFrame":
    """The twins of `rows`: their `columns` become what the baselines in `ladder` have at the row's train loss.

    ladder: baselines of other lengths; a row meets those that agree with it in `match` (seed …), joined by straight
    lines in the logarithms of the column and the train loss. NaN where they do not reach. Errors: ValueError if one is
    missing or not positive.
    """
    columns, match, level = list(columns), list(match), "train loss"
    for frame in (rows, ladder):
        need(frame, [*match, level, *columns], positive=[level, *columns])
    twins, known = rows.assign(**dict.fromkeys(columns, np.nan)), dict(list(ladder.sort_values(level).groupby(match)))
    for key, part in twins.groupby(match):
        for column in columns if key in known else ():
            x, y = np.log(known[key][[level, column]].dropna().to_numpy(float)).T
            if len(x):
                twins.loc[part.index, column] = np.exp(np.interp(np.log(part[level]), x, y, np.nan, np.nan))
    return twins


def consistency(frame: "DataFrame", by: Sequence[str] = ("control", "batch", "lr")) -> "DataFrame":
    """`frame` and how far each end row is from the other seeds of its cell (the rows equal in `by`), on average.

    New columns: "disagreement" (share of the test set), "js divergence" (nats), "activation distance" (both on the
    packed samples), see `safety`; NaN in rows without "chosen" and where a cell has one seed. Rows of a cell share
    models: use the seed as the unit of a test. Errors: ValueError if a seed comes twice in a cell, or an index twice.
    """
    names = ["disagreement", "js divergence", "activation distance"]
    need(frame, [*by, "seed", "chosen", "probabilities"])
    if not frame.index.is_unique:
        raise ValueError("frame has rows of one index: give each its own, e.g. pd.concat(…, ignore_index=True)")
    frame = frame.assign(**dict.fromkeys(names, np.nan))
    for key, cell in frame[frame["chosen"].notna()].groupby(list(by), dropna=False):
        if cell["seed"].duplicated().any():
            raise ValueError(f"by is {tuple(by)}: in the cell {key} a seed comes more than once; name every axis in by")
        if len(cell) > 1:
            classes = torch.tensor([[ord(letter) - ord("a") for letter in text] for text in cell["chosen"]])
            packed = [np.frombuffer(base64.b64decode(text), "<f2") for text in cell["probabilities"]]
            logits = torch.tensor(np.stack(packed).astype("float32")).view(*classes[:, :PACKED].shape, -1).log()
            far = safety.js_divergence(logits), safety.activation_distance(logits)
            frame.loc[cell.index, names] = torch.stack([safety.disagreement(F.one_hot(classes)), *far], 1).numpy()
    return frame


def differences(
    rows: "DataFrame", columns: Sequence[str], twins: "DataFrame | None" = None, ratio: Sequence[str] = (),
    by: str = "control", base: Any = "base", unit: str = "seed", match: Sequence[str] = (),
) -> "DataFrame":  # fmt: skip
    """Per control and seed: its network less the base of that seed, or less its own twin; the index is `(by, unit)`.

    rows, twins: one row per network. ratio: the columns compared by log₁₀ of the ratio (sharpness, losses). Rows of a
    seed that differ in `match` (learning rate …) are paired one by one, then averaged. NaN where there is no partner or
    a twin's train loss is off by more than `CLOSE`. `.attrs["train loss"]`: `{name: (its own, beside)}`, geometric
    means over the pairs. Errors: ValueError for missing columns, ratios of what is not positive, rows not told apart.
    """
    wanted = [*dict.fromkeys([*columns, *({"train loss"} & set(rows))])]
    ratio = [name for name in columns if name in ratio]
    keys, shared = [by, unit, *match], [*([] if twins is None else [by]), unit, *match]
    ours, theirs = (rows[rows[by] != base], rows[rows[by] == base]) if twins is None else (rows, twins)
    for frame, axes in ((ours, keys), (theirs, shared)):
        need(frame, [*keys, *wanted], positive=ratio)
        if not len(frame) or frame.duplicated(axes).any():
            raise ValueError(f"match is {tuple(match)}: of {len(frame)} rows some agree in {axes}; name every axis")
    pairs = ours[keys + wanted].merge(theirs[shared + wanted], on=shared, how="left", suffixes=("", "|"))
    pairs = pairs.set_index([by, unit])
    a, b = pairs[wanted].astype(float), pairs[[f"{name}|" for name in wanted]].set_axis(wanted, axis=1).astype(float)
    gaps = (a - b).assign(**{name: np.log10(a[name] / b[name]) for name in ratio})
    if "train loss" in wanted and twins is not None:
        gaps[(b["train loss"] / a["train loss"] - 1).abs() > CLOSE] = np.nan
    found = gaps[list(columns)].groupby(level=[0, 1], sort=False).mean()
    if "train loss" in wanted:
        sides = np.log(pairs[["train loss", "train loss|"]][gaps.notna().any(axis=1)]).groupby(level=0, sort=False)
        found.attrs["train loss"] = {name: tuple(np.exp(part.mean())) for name, part in sides}
    return found


def by_name(values: "Mapping | Series | DataFrame") -> dict[Any, np.ndarray]:
    """`{name: values}` without NaN, of one column of `differences` or, as `{(column, name): …}`, all; none infinite."""
    if isinstance(values, Mapping):
        parts = {name: np.asarray(v, dtype=float) for name, v in values.items()}
        if wrong := [name for name, v in parts.items() if np.isinf(v).any()]:
            raise ValueError(f"values of {wrong} are infinite somewhere: look for runs that diverged")
        return {name: v[~np.isnan(v)] for name, v in parts.items()}
    if values.ndim == 2:
        return {(column, name): v for column in values for name, v in by_name(values[column]).items()}
    return by_name({name: part for name, part in values.groupby(level=0, sort=False)})


def interval(values: Numbers, level: float = 0.95) -> tuple[float, float]:
    """Mean and half width of Student's interval over the finite `values (n,)`: `t(level, n − 1) · sd / √n`.

    Both NaN for fewer than three of them. Units: those of the values, which should be one per seed.
    """
    from scipy.stats import sem, t

    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if len(finite) < 3:
        return np.nan, np.nan
    return float(finite.mean()), float(t.ppf((1 + level) / 2, len(finite) - 1) * sem(finite))


def verdict(low: float, high: float, above: float | None = None, below: float | None = None) -> str:
    """The rule of the course: an interval inside the open bounds holds, one outside does not, all else is open."""
    least, most = (-np.inf if above is None else above), (np.inf if below is None else below)
    if least < low and high < most:
        return "holds"
    return "does not hold here" if high <= least or low >= most else "inconclusive"


def family(values: Any, above: float | None = None, below: float | None = None, m: int | None = None) -> "DataFrame":
    """One verdict per name, corrected within the family: on the t-interval at level 1 − .05/m of its values per seed.

    values: see `by_name`. m: the size of the declared family, by default that of values. Columns: "measured" (mean),
    "low", "high", "n", "smallest p" (at best, of n signs: 2¹⁻ⁿ), "verdict" ("inconclusive" below three pairs).
    """
    import pandas as pd

    parts, rows = by_name(values), {}
    for name, d in parts.items():
        mean, half = d.mean() if len(d) else np.nan, interval(d, 1 - 0.05 / (m or len(parts)))[1]
        ends = mean - half, mean + half
        rows[name] = [mean, *ends, len(d), 2.0 ** (1 - len(d)), verdict(*ends, above, below)]
    columns = ["measured", "low", "high", "n", "smallest p", "verdict"]
    return pd.DataFrame([*rows.values()], pd.Index([*rows]), columns)


def counted(verdicts: Iterable[str]) -> tuple[int, int]:
    """For how many of a family it holds, and for how many it is not excluded: k of m as an interval."""
    plain = [v.removesuffix(" with a caveat") for v in verdicts]
    return plain.count("holds"), plain.count("holds") + plain.count("inconclusive")


def correlation(x: Any, y: Any, given: Sequence = (), within: Sequence = (), kind: str = "spearman") -> float:
    """The correlation of `x (n,)` and `y (n,)`, partial given covariates `(n,)`, within strata of equal labels `(n,)`.

    kind: "spearman", "kendall" (τ_b) or "pearson". Partial: `−P_xy / sqrt(P_xx P_yy)`, P the inverse of the matrix of
    correlations. It removes straight lines (in ranks), no more, and says nothing of causes: to hold a *mediator* or a
    common effect fixed asks another question. Strata: their mean, weighted by rows; it hides where they disagree.
    Errors: ValueError for unequal lengths, NaNs, constant numbers, too few rows, or covariates that determine x or y.
    """
    import pandas as pd

    named = {"x": x, "y": y} | {f"given[{k}]": v for k, v in enumerate(given)}
    frame = pd.DataFrame({name: np.asarray(v, dtype=float) for name, v in named.items()})
    strata = frame.groupby([np.asarray(labels) for labels in within]) if len(within) else [("", frame)]
    parts = [(_partial(part, kind, key and f" in the stratum {key}"), len(part)) for key, part in strata]
    return float(np.average([r for r, _ in parts], weights=[n for _, n in parts]))


def bootstrap(statistic: Callable, frame: "DataFrame", resamples: int = 1000) -> tuple[float, tuple[float, float]]:
    """`statistic(frame)`, and its 95 % percentile interval over draws of whole seeds with replacement.

    All rows of a seed stay together: they share initial weights and data order. One that is drawn twice counts as two.
    With ten seeds the interval is somewhat too narrow. Errors: ValueError for fewer than 3, or what is not finite.
    """
    need(frame, ["seed"])
    rows = list(frame.groupby("seed", sort=True).indices.values())
    if len(rows) < 3:
        raise ValueError(f"frame has {len(rows)} seeds: an interval over seeds needs at least 3")
    random, values = np.random.default_rng(0), []
    for _ in range(resamples):
        drawn = [rows[k] for k in random.integers(len(rows), size=len(rows))]
        names = np.repeat(range(len(rows)), [len(part) for part in drawn])
        values.append(statistic(frame.iloc[np.concatenate(drawn)].assign(seed=names)))
    value = float(statistic(frame))
    if not np.isfinite([value, *values]).all():
        raise ValueError("statistic is not finite in every draw: give one that is defined for few seeds")
    low, high = np.quantile(values, [0.025, 0.975])
    return value, (float(low), float(high))


def need(frame: "DataFrame", columns: Sequence[str], positive: Sequence[str] = ()) -> None:
    """Errors: ValueError that names the columns `frame` lacks, or those whose logarithm it does not allow."""
    if missing := [name for name in columns if name not in frame]:
        raise ValueError(f"frame has no column {', '.join(map(repr, missing))}; it has {', '.join(map(str, frame))}")
    if wrong := [name for name in positive if (frame[name] <= 0).any()]:
        raise ValueError(f"{', '.join(wrong)}: 0 or negative somewhere, which has no logarithm and no ratio")


def _partial(frame, kind, stratum):
    """The correlation of the first two columns given the others."""
    for name, v in frame.items():
        if len(v) <= frame.shape[1] or not np.isfinite(v).all() or np.ptp(v) == 0:
            raise ValueError(f"{name} has {len(v)} numbers{stratum}, {v.nunique()} of them different: a correlation "
                             f"needs at least {frame.shape[1] + 1}, none NaN or infinite, not all equal")  # fmt: skip
    matrix = frame.corr(method=kind).to_numpy()
    for k, name in ((1, "x"), (0, "y")):
        if frame.shape[1] > 2 and np.linalg.cond(np.delete(np.delete(matrix, k, 0), k, 1)) > 1e10:
            raise ValueError(f"given determines {name}, or its columns each other: nothing is left to correlate")
    outer = matrix[:2, 2:]
    left = matrix[:2, :2] - outer @ np.linalg.solve(matrix[2:, 2:], outer.T)  # P's block for x and y, inverted
    return np.clip(left[0, 1] / np.sqrt(left[0, 0] * left[1, 1]), -1, 1)


def _level(objective, theta):
    """The loss at `theta`; of a network with batch norm, after its statistics were taken anew."""
    model = getattr(objective, "model", nn.Identity())
    return (objective.refreshed(theta) if any(True for _ in model.buffers()) else objective)(theta).cpu().double()


def _wanted(target, like):
    """The target in float64, with one number per member (and leading axes of its own)."""
    target = torch.as_tensor(target, dtype=torch.float64)
    return target.expand(torch.broadcast_shapes(target.shape, like.shape)).clone()


def _divided(loss, t, head):
    """The weights `(..., P)` at which the logits are divided by `t (...)`: those of the head are."""
    linear = [n for n, module in loss.model.named_modules() if isinstance(module, nn.Linear)]
    name = linear[-1] if head is None and linear else head
    trained = [(n, p.numel()) for n, p in loss.model.named_parameters() if p.requires_grad]
    inside = torch.cat([torch.full((size,), n.rpartition(".")[0] == name) for n, size in trained])
    theta, z = loss.point(), loss.outputs()
    halved = loss.outputs(torch.where(inside, theta / 2, theta))
    if not torch.allclose(halved, z / 2, rtol=1e-3, atol=1e-3 * z.abs().max().item()):
        raise ValueError(f"head is {name!r}: dividing it does not divide the outputs; name the last linear layer")
    return torch.where(inside, theta / t[..., None].to(theta), theta)
