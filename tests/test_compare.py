"""Twins stand at the wanted train loss or say so; differences, verdicts and correlations are those of scipy."""

import base64
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import classes, close, examples, normal
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from flatlab import compare, safety
from flatlab.loss import NetworkLoss
from flatlab.models import mlp
from flatlab.objective import Objective

nll = safety.negative_log_likelihood
BOWL = Objective(lambda t: t.square().sum(-1))
Y = classes(60, 4)
RIGHT = 6 * torch.eye(4, dtype=torch.float64)[Y] + normal(60, 4)  # logits of a baseline that makes no mistake
WRONG = 5 * torch.eye(4, dtype=torch.float64)[Y] + 3 * normal(60, 4)  # … and of one that makes some, with confidence


def at_loss(value):
    """A point of the bowl where the loss is `value`."""
    return torch.tensor([0.6, -0.8], dtype=torch.float64) * value**0.5


def giving(logits):
    """The loss of a network whose outputs are `logits (60, 4)`, or of as many as there are in a list."""
    shown = [torch.cat([z, torch.zeros_like(z)], 1) for z in (logits if isinstance(logits, list) else [logits])]
    head = nn.Linear(8, 4, bias=False).double()
    with torch.no_grad():
        head.weight.copy_(torch.eye(4, 8))
    if not isinstance(logits, list):
        return NetworkLoss(head, shown[0], Y)
    return NetworkLoss(head, shown, Y, theta=head.weight.detach().flatten().expand(len(shown), -1))


# Temperature


def test_the_baselines_are_what_they_are_called():
    assert (RIGHT.argmax(1) == Y).all() and 0.6 < (WRONG.argmax(1) == Y).double().mean() < 0.9


@pytest.mark.parametrize("target", [1e-8, 0.01, 0.1, 0.5, 1.0, 1.3])
def test_a_temperature_twin_reaches_its_target_with_the_same_decisions(target):
    loss = giving(RIGHT)
    twin = compare.temperature(loss, target)
    assert twin.found and twin.at.shape == () and twin.theta.shape == (32,)
    assert abs(nll(RIGHT / twin.at, Y) - target) < 1e-8 * target + 1e-15 and close(twin.loss, nll(RIGHT / twin.at, Y))
    assert close(loss.at(twin.theta).outputs(), RIGHT / twin.at) and close(loss.at(twin.theta)(), target, 1e-8)
    assert torch.equal(loss.at(twin.theta).outputs().argmax(1), RIGHT.argmax(1))


def test_a_temperature_of_one_is_the_baseline_itself_in_float32_too():
    model = nn.Linear(4, 4)
    with torch.no_grad():
        model.weight.copy_(torch.eye(4))
    loss = NetworkLoss(model, RIGHT.float(), Y)
    twin = compare.temperature(loss, nll(loss.outputs().double(), Y))
    assert twin.found and abs(twin.at - 1) < 1e-10 and close(twin.theta, loss.theta, 1e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_baseline_with_confident_mistakes_takes_the_softer_of_two_temperatures(share):
    # Its best temperature is above 1: the loss first falls with T and then rises, and passes the target twice.
    temperatures = torch.linspace(1, 5, 401)
    losses = torch.stack([nll(WRONG / t, Y) for t in temperatures])
    assert losses.min() < 0.9 * nll(WRONG, Y)
    target = losses.min() + share * (nll(WRONG, Y) - losses.min())
    twin = compare.temperature(giving(WRONG), target)
    assert twin.found and close(twin.loss, target, 1e-8) and twin.at > temperatures[losses.argmin()]


def test_a_target_that_no_temperature_reaches_comes_back_as_near_as_it_gets():
    above = compare.temperature(giving(RIGHT), 2.0)
    assert not above.found and above.at == 100 and close(above.loss, nll(RIGHT / 100, Y))
    best = min(nll(WRONG / t, Y) for t in torch.linspace(1, 5, 4001))
    below = compare.temperature(giving(WRONG), best / 2)
    assert not below.found and close(below.loss, best, 1e-6) and close(below.loss / below.target, 2.0, 1e-5)


def test_members_and_several_targets_are_their_solo_twins():
    many, targets = giving([RIGHT, WRONG, -RIGHT]), torch.tensor([[0.3, 0.9, 3.0], [1.0, 1.2, 5.0]])
    both = compare.temperature(many, targets)
    assert both.at.shape == (2, 3) and both.theta.shape == (2, 3, 32)
    for k, logits in enumerate((RIGHT, WRONG, -RIGHT)):
        for i in (0, 1):
            solo = compare.temperature(giving(logits), targets[i, k])
            assert close(solo.at, both.at[i, k], 1e-14) and close(solo.theta, both.theta[i, k], 1e-14)
    assert compare.temperature(many, 1.0).at.shape == (3,) and compare.temperature(
        giving(RIGHT), [0.1, 0.2]
    ).at.shape == (2,)


def test_a_temperature_of_data_that_are_streamed():
    whole = giving(RIGHT)
    batches = list(zip(whole.inputs.split(25), Y.split(25), strict=True))
    assert close(
        compare.temperature(NetworkLoss(whole.model, batches), 0.2).at, compare.temperature(whole, 0.2).at, 1e-12
    )


@pytest.mark.parametrize("t", [2.0, torch.tensor([0.5, 1.0, 3.0])])
def test_a_tempered_network_is_a_loss_like_any_other(t):
    x = normal(20, 4)
    many = NetworkLoss(lambda seed: mlp(4, 5, 3, seed=seed).double(), x, classes(20, 3), seeds=range(3))
    warm = compare.tempered(many, t)
    assert warm.loss == "cross_entropy" and warm.theta.shape == many.theta.shape
    assert close(warm.outputs(), many.outputs() / torch.as_tensor(t).expand(3)[:, None, None], 1e-12)
    assert close(warm.theta[:, :-18], many.theta[:, :-18], 1e-14)  # the head has 15 weights and 3 biases
    solo = compare.tempered(many.member(1), torch.as_tensor(t).expand(3)[1])
    assert close(solo.gradient(), warm.gradient()[1], 1e-12)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.head(x)


def test_what_has_no_head_is_refused():
    x, y = normal(9, 3).float(), classes(9, 3)
    for model, head, name in (
        (Residual(), None, "head is 'head'"),
        (nn.Sequential(nn.Conv1d(3, 3, 1), nn.Flatten()), None, "head is None"),
        (mlp(3, 4, 3), "0", "head is '0'"),
    ):
        inputs = x[..., None] if name.endswith("None") else x
        with pytest.raises(ValueError, match=name):
            compare.tempered(NetworkLoss(model, inputs, y), 2.0, head)
    with pytest.raises(ValueError, match="loss is 'mse'"):
        compare.temperature(NetworkLoss(mlp(3, 4, 3), x, normal(9, 3), "mse"), 0.1)


# Early-stopped, cooled, smoothed


def test_early_stopped_picks_the_nearest_snapshot_above_or_below():
    path = {step: at_loss(value) for step, value in ((0, 4.0), (10, 1.0), (20, 0.52), (30, 0.4), (40, 0.1))}
    wanted = {0.5: 20, 0.45: 30, 0.47: 20, 5.0: 0, 0.0999: 40}
    for target, step in wanted.items():
        twin = compare.early_stopped(BOWL, path, target)
        assert twin.at == step and torch.equal(twin.theta, path[step]) and close(twin.loss, BOWL(path[step]))
        assert twin.target == target
    together = compare.early_stopped(BOWL, path, list(wanted))
    assert together.at.tolist() == list(wanted.values()) and together.theta.shape == (5, 2)


def test_each_member_gets_its_own_step():
    values = torch.tensor([[4.0, 9.0], [1.0, 2.0], [0.1, math.nan]], dtype=torch.float64)  # (steps, members)
    path = {k: torch.stack([at_loss(v) for v in row]) for k, row in enumerate(values)}
    twin = compare.early_stopped(BOWL, path, torch.tensor([[1.1, 8.0], [0.1, 0.1]]))
    assert twin.at.tolist() == [[1, 0], [2, 1]] and twin.found.tolist() == [[True, False], [True, False]]
    assert torch.equal(twin.theta[0, 1], path[0][1]) and torch.equal(twin.theta[1, 0], path[2][0])


@pytest.mark.parametrize("loss, found", [(1.09, True), (0.91, True), (1.11, False), (0.89, False)])
def test_found_means_within_a_tenth_of_the_target(loss, found):
    assert compare.CLOSE == 0.1
    assert compare.early_stopped(BOWL, {7: at_loss(2 * loss)}, 2.0).found == found


def test_batch_norm_is_measured_anew_at_every_snapshot():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).double()
    loss = NetworkLoss(model, normal(40, 3), classes(40, 3))
    path = {step: loss.theta * (1 + step) for step in range(3)}
    twin = compare.early_stopped(loss, path, loss.refreshed(path[2])())
    assert twin.at == 2 and close(twin.loss, loss.refreshed(path[2])()) and not close(twin.loss, loss(path[2]), 1e-3)


def test_cooled_runs_each_length_once_for_all_members_and_targets():
    tried = []

    def train(steps):
        tried.append(steps)
        return torch.stack([at_loss(1 / steps), at_loss(3 / steps)])

    twin = compare.cooled(BOWL, train, torch.tensor([[0.5, 0.5], [0.1, 1.0]]), lengths=(2, 3, 6, 10))
    assert tried == [2, 3, 6, 10] and twin.at.tolist() == [[2, 6], [10, 3]] and twin.found.all()


@pytest.mark.parametrize("unfinished", [0.0, 0.01])
def test_a_smoothed_twin_converges_at_the_target(unfinished):
    """One image per class, s·1 as weights: p_y = eˢ/(eˢ + K − 1), and smoothing wants 1 − ε + ε/K, nearly reached."""
    asked, eye = [], torch.eye(5, dtype=torch.float64)

    def train(epsilon):
        asked.append(epsilon)
        p = (1 - epsilon + epsilon / 5) * (1 - unfinished) - 1e-9
        return (torch.log(4 * p / (1 - p))[..., None, None] * eye).flatten(-2)

    model = nn.Linear(5, 5, bias=False).double()
    plain = train(torch.zeros(2, dtype=torch.float64))
    loss = NetworkLoss(model, eye, torch.arange(5), theta=plain)
    targets = torch.tensor([[0.1, 0.2], [0.05, 0.6], [0.001, 0.3]])
    twin = compare.smoothed(loss, train, targets)
    assert len(asked) == 4 and twin.at.shape == (3, 2) and twin.theta.shape == (3, 2, 25)
    first = (1 - torch.exp(-targets.double())) * 5 / 4
    assert close(asked[1], first) and close(twin.loss, torch.stack([loss(part) for part in twin.theta]))
    reachable = targets > 1.1 * unfinished
    assert torch.equal(twin.found, reachable) and ((twin.loss / twin.target)[reachable] - 1).abs().max() < 0.02


# Rows of networks


def power_law() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Baselines whose trace is c · L^0.7, with c = 2 + seed; controls with twice that, at losses of their own."""
    ladder = [(seed, loss, (2 + seed) * loss**0.7) for seed in (0, 1) for loss in (1.0, 0.02, 0.3, 0.004)]
    losses = {"SAM": 0.01, "aug": 0.5, "wd": 0.001, "noise": 2.0, "same": 0.004}
    rows = [(seed, loss, 2 * (2 + seed) * loss**0.7, name) for seed in (0, 1, 9) for name, loss in losses.items()]
    names = ["seed", "train loss", "trace"]
    return pd.DataFrame(rows, columns=[*names, "control"]), pd.DataFrame(ladder, columns=names)


def test_the_twin_at_equal_loss_follows_a_power_law_exactly():
    rows, ladder = power_law()
    twins = compare.at_equal(rows, ladder, ["trace"], match=["seed"])
    assert list(twins) == list(rows) and twins["train loss"].equals(rows["train loss"])
    inside = rows["control"].isin(["SAM", "aug", "same"]) & (rows["seed"] < 9)
    assert close(twins["trace"][inside].tolist(), (rows["trace"][inside] / 2).tolist(), 1e-12)
    assert twins["trace"][~inside].isna().all()  # beyond either end of the ladder, or without one
    found = compare.differences(rows, ["trace"], twins, ratio=["trace"])["trace"]
    assert close(found.dropna().tolist(), np.full(6, np.log10(2)), 1e-12) and len(found) == 15


def test_between_two_baselines_lines_are_straight_in_logarithms():
    rows = pd.DataFrame({"cell": [1], "seed": [3], "train loss": [0.01], "a": [1.0], "b": [1.0]})
    ladder = pd.DataFrame(
        {"cell": 1, "seed": 3, "train loss": [0.02, 0.004, 0.001], "a": [5, 0.5, 0.1], "b": [2, np.nan, 1]}
    )
    twins = compare.at_equal(rows, ladder, ["a", "b"], match=["cell", "seed"])
    assert close(twins["a"].item(), 0.5 * 10 ** (np.log(0.01 / 0.004) / np.log(5)), 1e-12)
    assert close(twins["b"].item(), 2 ** (np.log(10) / np.log(20)), 1e-12)  # NaN is passed over


def packed(probabilities) -> str:
    return base64.b64encode(probabilities.half().numpy().tobytes()).decode()


def records(count: int) -> tuple[list[dict], torch.Tensor]:
    """End rows of as many seeds, and their logits `(count, 200, 4)`; one is certain, so that float16 holds zeros."""
    z = 3 * normal(count, 200, 4)
    z[0] *= 40
    rows = [
        {"control": "base", "batch": 64, "lr": 0.1, "seed": seed, "probabilities": packed(p[:128]),
         "chosen": "".join("abcd"[k] for k in p.argmax(1).tolist())}
        for seed, p in enumerate(z.softmax(-1))
    ]  # fmt: skip
    return rows, z


def test_consistency_is_that_of_safety_within_each_cell():
    rows, z = records(4)
    on_the_way, single = {**rows[0], "chosen": None, "probabilities": None}, {**rows[1], "control": "SAM"}
    frame = pd.DataFrame([on_the_way, rows[2], single, rows[0], rows[3], rows[1]], index=[5, 3, 8, 0, 1, 2])
    frame.attrs["about"] = "kept"
    found = compare.consistency(frame)
    names = ["disagreement", "js divergence", "activation distance"]
    assert list(found) == [*frame.columns, *names] and "disagreement" not in frame and found.attrs == frame.attrs
    assert found.index.tolist() == [5, 3, 8, 0, 1, 2] and found.loc[[5, 8], names].isna().all(axis=None)
    cell = found.loc[[0, 2, 3, 1]]
    assert close(cell["disagreement"].tolist(), safety.disagreement(z))
    assert close(cell["js divergence"].tolist(), safety.js_divergence(z[:, :128]), 2e-3)
    assert close(cell["activation distance"].tolist(), safety.activation_distance(z[:, :128]), 2e-3)


def test_consistency_wants_every_axis():
    rows, _ = records(2)
    twice = pd.DataFrame([*rows, *rows]).assign(rho=[0.1, 0.1, 0.2, 0.2])
    with pytest.raises(ValueError, match="a seed comes more than once"):
        compare.consistency(twice)
    with pytest.raises(ValueError, match="rows of one index"):
        compare.consistency(twice.set_index(pd.Index([0, 1, 0, 1])), by=("control", "batch", "lr", "rho"))
    found = compare.consistency(twice, by=("control", "batch", "lr", "rho"))
    assert found["disagreement"].nunique() == 1 and found["disagreement"].notna().all()


# Differences per seed


def grid(seeds=10, effect=1.0, noise=0.1, lr=(0.1, 0.2)):
    """Runs of base and two controls; "up" lies `effect` above base, whose level differs by seed and lr."""
    random, rows = np.random.default_rng(1), []
    for seed, rate, control in itertools.product(range(seeds), lr, ("base", "up", "same")):
        level = 3 + seed + 10 * rate + effect * (control == "up") + noise * random.standard_normal()
        rows.append({"seed": seed, "lr": rate, "control": control, "sharpness": level, "error": -level})
    return pd.DataFrame(rows)


def test_differences_are_taken_pair_by_pair_and_averaged_per_seed():
    frame = grid().sample(frac=1, random_state=0)
    found = compare.differences(frame, ["sharpness", "error"], match=["lr"])
    table = frame.pivot(index=["seed", "lr"], columns="control", values="sharpness")
    for name in ("up", "same"):
        wanted = (table[name] - table["base"]).groupby("seed").mean()
        assert close(found["sharpness"][name].sort_index().to_numpy(), wanted.to_numpy())
        assert close(found["error"][name].sort_index().to_numpy(), -wanted.to_numpy())
    ratio = compare.differences(frame, ["sharpness"], match=["lr"], ratio=["sharpness", "trace"])["sharpness"]["up"]
    wanted = np.log10(table["up"] / table["base"]).groupby("seed").mean()
    assert close(ratio.sort_index().to_numpy(), wanted.to_numpy())


def test_a_seed_without_base_and_a_twin_of_other_loss_have_no_difference():
    rows = pd.DataFrame({"control": "aug", "seed": range(4), "train loss": 0.1, "κ": 6.0})
    base = pd.DataFrame({"control": "base", "seed": [0, 1, 2], "train loss": 0.001, "κ": [2.0, 3, 6]})
    raw = compare.differences(pd.concat([base, rows]), ["κ"], ratio=["κ"])
    assert close(raw["κ"].to_numpy()[:3], np.log10([3, 2, 1])) and np.isnan(raw["κ"].iloc[3])
    assert close(raw.attrs["train loss"]["aug"], [0.1, 0.001])
    twins = rows.assign(**{"train loss": [0.109, 0.091, 0.111, 0.089], "κ": 3.0})
    beside = compare.differences(rows, ["κ"], twins)
    assert beside["κ"].tolist()[:2] == [3, 3] and beside["κ"][2:].isna().all()
    assert close(beside.attrs["train loss"]["aug"], [0.1, math.sqrt(0.109 * 0.091)])
    assert beside["κ"].attrs == beside.attrs  # a column still knows them


# One rule for verdicts


def test_the_interval_of_a_mean_is_student_s_over_the_finite_values():
    values = [1.0, 2.0, 4.0, np.nan, 5.0]
    mean, half = compare.interval(values)
    wanted = stats.ttest_1samp([1.0, 2.0, 4.0, 5.0], 0).confidence_interval(0.95)
    assert mean == 3.0 and close([mean - half, mean + half], [wanted.low, wanted.high])
    assert compare.interval([1.0, 2.0, 6.0], level=0.5)[1] == pytest.approx(0.8164965809 * 7**0.5 / 3**0.5, rel=1e-8)
    assert np.isnan(compare.interval([1.0, np.nan, 2.0])).all()


def test_the_rule_is_symmetric_and_its_bounds_are_open():
    spread = {(1, 2): "holds", (-2, -1): "does not hold here", (-1, 1): "inconclusive", (0, 1): "inconclusive"}
    for (low, high), found in spread.items():
        assert compare.verdict(low, high, above=0) == compare.verdict(-high, -low, below=0) == found
    assert compare.verdict(0, 0, above=0) == compare.verdict(3, 4, above=1, below=3) == "does not hold here"
    assert (
        compare.verdict(1.5, 2, above=1, below=3) == "holds" and compare.verdict(math.nan, 1, above=0) == "inconclusive"
    )


def test_a_family_is_judged_at_a_level_that_its_size_corrects():
    random = np.random.default_rng(3)
    values = {name: random.normal(shift, 1, n) for name, shift, n in (("up", 2, 10), ("down", -3, 4), ("open", 0, 7))}
    values |= {"two": [1.0, np.nan, 2.0], "none": []}
    for m in (None, 20):
        table = compare.family(values, above=0, m=m)
        for name in ("up", "down", "open"):
            wanted = stats.ttest_1samp(values[name], 0).confidence_interval(1 - 0.05 / (m or 5))
            assert close([table.loc[name, "low"], table.loc[name, "high"]], [wanted.low, wanted.high])
            outside = stats.ttest_1samp(values[name], 0).pvalue < 0.05 / (m or 5)
            assert (table.loc[name, "verdict"] != "inconclusive") == outside
        assert table["n"].tolist() == [10, 4, 7, 2, 0] and table["smallest p"].tolist() == [2**-9, 1 / 8, 2**-6, 0.5, 2]
        assert table.loc[["two", "none"], "verdict"].eq("inconclusive").all() and table.loc["two", "measured"] == 1.5
    assert compare.counted(compare.family(values, above=0)["verdict"]) == (1, 4)
    assert compare.counted(["holds", "holds with a caveat", "does not hold here", "inconclusive"]) == (2, 3)


def test_a_family_of_equals_rarely_finds_anything():
    draws = np.random.default_rng(0).standard_normal((400, 5, 6))
    false = [(compare.family(dict(enumerate(d)), above=0)["verdict"] != "inconclusive").any() for d in draws]
    assert 0.02 < np.mean(false) < 0.08


def test_a_frame_is_a_family_of_all_its_columns():
    found = compare.differences(grid(), ["sharpness", "error"], match=["lr"])
    whole, one = compare.family(found, above=0), compare.family(found["sharpness"], above=0, m=4)
    assert list(whole.index) == [(c, n) for c in ("sharpness", "error") for n in ("up", "same")]
    assert whole.loc["sharpness"].equals(one) and one.loc["up", "verdict"] == "holds"
    assert whole.loc[("error", "up"), "verdict"] == "does not hold here"


# Correlations


def confounded(n=400, direct=0.0, seed=0):
    """z moves x and y; `direct` is what x adds to y."""
    z, a, b = np.random.default_rng(seed).standard_normal((3, n))
    x = 2 * z + a
    return x, -3 * z + direct * x + b, z


PEERS = {"spearman": stats.spearmanr, "kendall": stats.kendalltau, "pearson": stats.pearsonr}


@pytest.mark.parametrize("kind, peer", PEERS.items())
def test_plain_correlations_are_scipys(kind, peer):
    x, y, _ = np.round(confounded(60), 1)  # with ties
    assert compare.correlation(x, y, kind=kind) == pytest.approx(peer(x, y)[0])


@pytest.mark.parametrize("kind", PEERS)
def test_one_covariate_is_the_formula_of_three_variables(kind):
    x, y, z = confounded(80, direct=0.7)
    xy, xz, yz = (compare.correlation(a, b, kind=kind) for a, b in ((x, y), (x, z), (y, z)))
    wanted = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert compare.correlation(x, y, [z], kind=kind) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_several_covariates_leave_the_correlation_of_the_residuals(kind):
    random = np.random.default_rng(3)
    x, y, u, v = random.standard_normal((4, 50)) + random.standard_normal(50)
    a, b, c, d = (stats.rankdata(w) if kind == "spearman" else w for w in (x, y, u, v))
    design = np.column_stack([np.ones(50), c, d])
    left = [w - design @ np.linalg.lstsq(design, w, rcond=None)[0] for w in (a, b)]
    assert compare.correlation(x, y, [u, v], kind=kind) == pytest.approx(stats.pearsonr(*left)[0], abs=1e-12)


def test_a_confounder_is_taken_away_and_a_direct_effect_is_left():
    x, y, z = confounded()
    assert compare.correlation(x, y) < -0.7 and abs(compare.correlation(x, y, given=[z])) < 0.1
    x, y, z = confounded(direct=1.0)
    assert compare.correlation(x, y, given=[z]) > 0.6


@given(st.integers(0, 10**6))
@examples
def test_a_partial_rank_correlation_is_one_of_ranks(seed):
    """Rising functions change nothing, a falling one the sign; always within −1 … 1."""
    x, y, z = confounded(30, seed=seed)
    r = compare.correlation(x, y, [z])
    assert compare.correlation(np.exp(x), y**3, [np.arctan(z)]) == pytest.approx(r)
    assert compare.correlation(-x, y, [z]) == pytest.approx(-r)
    assert -1 <= r <= 1 and r == pytest.approx(compare.correlation(y, x, [z]))


def test_strata_reverse_what_the_pool_says_and_count_by_their_rows():
    """In each of two strata y falls with x; the strata's means rise."""
    x, lr = np.tile(np.arange(10.0), 2), np.repeat([0, 1], 10)
    assert compare.correlation(x + 20 * lr, 30 * lr - x) > 0.4
    assert compare.correlation(x + 20 * lr, 30 * lr - x, within=[lr]) == pytest.approx(-1)
    x, y, z = confounded(60)
    parts = [compare.correlation(x[k], y[k], [z[k]]) for k in (slice(0, 20), slice(20, 60))]
    cells = [np.repeat(["a", "b"], [20, 40]), np.repeat([0.1, 0.3], [20, 40])]
    assert compare.correlation(x, y, [z], within=cells) == pytest.approx((parts[0] + 2 * parts[1]) / 3)


# Bootstrap


def test_the_bootstrap_draws_whole_seeds():
    """Copies of every run leave the interval as it is, though a bootstrap over runs would shrink it by half."""
    frame = grid().query("control == 'up'")

    def mean(part):
        assert part.groupby("seed").size().nunique() == 1 and part["seed"].nunique() == 10
        return part["sharpness"].mean()

    value, (low, high) = compare.bootstrap(mean, frame, resamples=300)
    again = compare.bootstrap(lambda p: p["sharpness"].mean(), pd.concat([frame] * 4), resamples=300)
    assert again == (pytest.approx(value), (pytest.approx(low), pytest.approx(high)))
    means = frame.groupby("seed")["sharpness"].mean()
    assert value == pytest.approx(means.mean())
    assert high - low == pytest.approx(2 * 1.96 * means.std(ddof=0) / 10**0.5, rel=0.15)


def test_the_bootstrap_covers():
    """A mean of ten normal numbers: about nine of ten intervals at 95 % hold it (percentiles are a little narrow)."""
    frames = [pd.DataFrame({"seed": range(10), "v": v}) for v in np.random.default_rng(5).standard_normal((100, 10))]
    ends = [compare.bootstrap(lambda p: p["v"].mean(), frame, resamples=100)[1] for frame in frames]
    assert 0.8 < np.mean([low < 0 < high for low, high in ends]) < 0.98


# Errors

THREE = pd.DataFrame({"control": ["base", "up", "up"], "seed": [0, 0, 0], "a": [1.0, 2.0, 0.0], "train loss": 0.1})
TEN = np.arange(10.0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: compare.differences(THREE[:2], ["b"]), "frame has no column 'b'; it has control, seed"),
        (lambda: compare.differences(THREE, ["a"]), "match is .*: of 2 rows some agree in .'control', 'seed'."),
        (lambda: compare.differences(THREE[1:2], ["a"]), "match is .*: of 0 rows"),
        (lambda: compare.differences(THREE[::2], ["a"], ratio=["a"]), "a: 0 or negative somewhere"),
        (lambda: compare.family({"aug": [1.0, math.inf, 2.0]}, above=0), "values of .'aug'. are infinite"),
        (lambda: compare.at_equal(THREE, THREE, ["a"], ["seed"]), "a: 0 or negative somewhere"),
        (lambda: compare.at_equal(THREE, THREE, ["λ_max"], ["seed"]), "no column 'λ_max'"),
        (lambda: compare.correlation([1, 2, 3], [4, 4, 4]), "y has 3 numbers, 1 of them different"),
        (lambda: compare.correlation([1, 2], [1, 2]), "x has 2 numbers.*at least 3"),
        (lambda: compare.correlation([1, 2, 3, math.nan], [1, 2, 3, 4]), "x has 4 numbers.*none NaN"),
        (lambda: compare.correlation([1, 2, 3, 4], [1, 2, 3]), "same length"),
        (lambda: compare.correlation([1, 2, 3], [1, 3, 2], kind="rank"), "spearman"),
        (lambda: compare.correlation([1, 2, 3, 4], [1, 3, 2, 4], [[2, 4, 6, 8]]), "given determines x"),
        (lambda: compare.correlation([1, 2, 3, 4], [1, 3, 2, 4], [[2, 6, 4, 8]]), "given determines y"),
        (lambda: compare.correlation(TEN, TEN > 4, within=[TEN > 4]), "y has 5 numbers in the stratum .*, 1 of them"),
        (lambda: compare.bootstrap(len, THREE), "frame has 1 seeds: .* at least 3"),
        (lambda: compare.bootstrap(lambda f: math.nan, grid(), resamples=2), "statistic is not finite"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
