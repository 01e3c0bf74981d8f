"""`make bench`: flatlab beside its incumbents, each pair timed in turn in one run. It prints medians and ratios.

Seconds depend on the machine and on what else it does; the ratios are what to read. Nothing here is a test.
"""

import contextlib
import gc
import io
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import flatlab as fl

matplotlib.use("Agg")
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks" / "py"


def main():
    torch.manual_seed(0)
    for bench in (
        *(relative_flatness, hessian_vector_product, top_eigenvalue, trace, measures),
        *(ensembles, openness, growth, training, panels, imports),
    ):
        print(f"\n{bench.__doc__.splitlines()[0]}")
        bench()


def relative_flatness():
    """Relative flatness, K = 10, d = 512, N = 256: closed form against the autograd definition (1 thread)"""
    with fl.threads(1):
        head, x = nn.Linear(512, 10), torch.randn(256, 512)
        y = torch.randint(0, 10, (256,))
        loss = fl.NetworkLoss(head, x, y)
        ours = median(lambda: fl.sharpness.relative_flatness(loss, normalise=False), 50)
        begin = time.perf_counter()
        defined = kappa_by_autograd(head, x, y)
        theirs = time.perf_counter() - begin
        mine = fl.sharpness.relative_flatness(loss, normalise=False)
    row("definition / closed form", theirs / ours, "≥ 10,000", f"{theirs:.2f} s / {ours * 1e6:.0f} µs")
    row("relative difference", abs(mine / defined - 1), "≤ 1e-6")


def hessian_vector_product():
    """One Hessian-vector product with the graph kept, in units of one gradient (1 thread)"""
    with fl.threads(1):
        for name, loss, target, repeats in (
            ("MLP 64-128-128-10", digits_mlp(), 1.8, 60),
            ("ResNet-8", resnet(), 3.3, 5),
        ):
            product, v = loss.linearize(), torch.randn(loss.dim)
            gradient, hvp = paired(loss.gradient, lambda p=product, v=v: p(v), repeats)
            row(f"{name}, {loss.dim:,} parameters", hvp / gradient, f"≤ {target}", f"{hvp:.3g} s / {gradient:.3g} s")


def top_eigenvalue():
    """λ₁ of a ResNet-8 with 78k parameters, N = 256, against curvlinops with the same solver (1 thread)"""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh

    loss = resnet()
    model = loss.model.eval()
    start = np.random.default_rng(0).standard_normal(loss.dim).astype(np.float32)

    def peer():
        data = [(loss.inputs, loss.targets)]
        operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), list(model.parameters()), data)
        return eigsh(operator.to_scipy(), 1, which="LA", v0=start, tol=1e-4)[0][0]

    with fl.threads(1):
        ours, mine = timed(lambda: fl.curvature.eigenvalues(loss)[0].item())
        theirs, other = timed(peer)
    row("flatlab / curvlinops", ours / theirs, "≤ 0.75", f"{ours:.1f} s / {theirs:.1f} s")
    row(f"relative difference of λ₁ = {mine:.2f}", abs(mine / other - 1), "≤ 1e-4")


def trace():
    """Relative RMSE of the trace of an MLP over 30 seeds, Hutch++ against Hutchinson with the common stop rule"""
    with fl.threads(1):
        loss = digits_mlp(16)
        exact = float(fl.curvature.trace(loss, samples=loss.dim))
        product = loss.linearize()
        for samples in (21, 30):
            errors = [fl.curvature.trace(loss, samples=samples, seed=s).item() / exact - 1 for s in range(30)]
            row(f"Hutch++, {samples} products", rms(errors), "≤ 0.02", f"exact {exact:.2f}")
        runs = [stop_rule(product, loss.dim, seed) for seed in range(30)]
        used = statistics.median(count for _, count in runs)
        row("stop rule", rms([value / exact - 1 for value, _ in runs]), "about 0.28", f"median {used:.0f} products")


def measures():
    """Every measure of 100 trained MLPs: member by member / in one call (1 thread)"""
    s, c = fl.sharpness, fl.curvature
    cases = {
        "train loss": (lambda f: f(), "≥ 5"),
        "gradient norm": (s.gradient_norm, "≥ 5"),
        "one step": (s.one_step, "≥ 5"),
        "random direction, 20 draws": (lambda f: s.random_direction(f, samples=20), "≥ 5"),
        "weight noise, 20 pairs": (lambda f: s.average(f, samples=20, adaptive=True), "≥ 5"),
        "Fisher-Rao": (s.fisher_rao_norm, "≥ 5"),
        "logit Fisher-Rao": (s.logit_fisher_rao, "≥ 5"),
        "relative flatness": (s.relative_flatness, "≥ 5"),
        "λ_max": (lambda f: c.eigenvalues(f)[..., 0], "≥ 3"),
        "λ_max in 10 steps": (lambda f: c.eigenvalues(f, steps=10)[..., 0], "≥ 3"),
        "λ_max of Gauss-Newton": (lambda f: c.eigenvalues(c.GaussNewton(f))[..., 0], "≥ 3"),
        "trace": (c.trace, "≥ 3"),
        "spectral density, 2 × 20": (lambda f: c.spectral_density(f, draws=2, steps=20).values, "≥ 3"),
        "worst case": (s.worst_case, "≥ 3"),
        "first order": (s.first_order, "≥ 3"),
    }
    data = fl.data.digits()
    with fl.threads(1):
        small, wide = trained(data.x[:100], data.y[:100], 64, 32, 10), trained(*circles(), 2, 100, 100, 2)
        for name, case in cases.items():
            compare_members(f"{name}, 64-32-10", *case, small)
        for name in ("gradient norm", "λ_max", "trace"):  # so wide that arithmetic, not the overhead, takes the time
            compare_members(f"{name}, 2-100-100-2", cases[name][0], "-", wide)


def trained(x, y, *sizes):
    """100 small classifiers after 300 steps."""
    loss = fl.NetworkLoss(lambda seed: fl.models.mlp(*sizes, seed=seed), x, y, seeds=range(100))
    return fl.train(loss, 300, batch=5, lr=0.01, momentum=0.9, progress=False).loss()


def compare_members(name, measure, aim, loss, repeats=3):
    """Ten of the members alone, times 10, against all in one call."""
    some, times = [loss.member(k) for k in range(5, 100, 10)], []
    for _ in range(repeats):
        ours, whole = timed(lambda: measure(loss))
        theirs, alone = timed(lambda: torch.stack([torch.as_tensor(measure(f)) for f in some]))
        times.append((ours, 10 * theirs))
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    gap = ((whole[5::10] - alone).abs().max() / alone.abs().max()).item()
    row(name, theirs / ours, aim, f"{theirs:.3g} s / {ours:.3g} s, values differ by {gap:.0e}")


def ensembles():
    """100 MLPs 2-100-100-2, batch 5, 300 steps with momentum: one batched program against one by one"""
    x, y, train_all = *circles(), ensemble_of(100)
    for threads in (1, 2):
        with fl.threads(threads):
            train_all(x, y)
            ours = statistics.median(timed(lambda: train_all(x, y))[0] for _ in range(5))
            theirs = 10 * timed(lambda: [one_by_one(x, y, seed) for seed in range(10)])[0]  # 10 of them, times 10
        aim = "≥ 9" if threads == 1 else "≥ 15"
        row(f"one by one / batched, {threads} thread(s)", theirs / ours, aim, f"{theirs:.2f} s / {ours:.2f} s")


def openness():
    """What a reader's own loss, rule or penalty costs the same 100 MLPs, against the built-in one (1 thread)"""
    x, y, train_all = *circles(), ensemble_of(100)
    cases = (
        ("own loss / cross-entropy", {"loss": own_cross_entropy}, {}, "≤ 1.5"),
        ("own plain rule / built-in descent", {"rule": own_descent}, {}, "≤ 1.5"),
        ("own SAM / built-in SAM", {"rule": own_sam, "rho": 0.05}, {"rule": fl.training.sam, "rho": 0.05}, "≤ 1.5"),
        ("GAM, one Hessian product / SAM", {"rule": own_gam, "rho": 0.05}, {"rule": fl.training.sam}, "≤ 4"),
        ("penalty on features / cross-entropy", {"penalty": own_penalty}, {}, "≤ 4"),
    )
    with fl.threads(1):
        for name, own, built_in, aim in cases:
            pairs = [[timed(lambda o=o: train_all(x, y, **o))[0] for o in (own, built_in)] for _ in range(3)]
            mine, theirs = (min(column) for column in zip(*pairs, strict=True))
            row(name, mine / theirs, aim, f"{mine:.2f} s / {theirs:.2f} s")


def own_cross_entropy(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def own_descent(objective, theta):
    return objective.gradient(theta)


def own_sam(objective, theta, rho):
    g = objective.gradient(theta)
    return objective.gradient(theta + rho * g / g.norm(dim=-1, keepdim=True))


def own_gam(objective, theta, rho):
    g = objective.gradient(theta)
    above = theta + rho * g / g.norm(dim=-1, keepdim=True)
    slope = objective.gradient(above)
    return g + rho * objective.hvp(above, slope / slope.norm(dim=-1, keepdim=True))


def own_penalty(loss):
    return 0.1 * fl.sharpness.RelativeFlatness(loss)


def growth():
    """The same program against the number of members: seconds per member, and the memory of weights and momentum"""
    x, y = circles()
    with fl.threads(1):
        for members in (10, 100, 400):
            seconds = timed(lambda m=members: ensemble_of(m)(x, y))[0]
            size = 2 * 4 * members * sum(p.numel() for p in fl.models.mlp(2, 100, 100, 2).parameters()) / 1e6
            row(f"{members} members", seconds / members, "-", f"{seconds:.2f} s, {size:.0f} MB")


def training():
    """Training images/s, ResNet-8, crop and flip: `train` against a plain loop with a DataLoader (1 thread)"""
    x = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8)
    y, device = torch.randint(0, 10, (len(x),)), fl.device()
    with fl.threads(1):
        rates = [epochs(x, y, device) for _ in range(5)]
    ratio = statistics.median(ours / theirs for ours, theirs in rates)  # of neighbours: a busy machine slows both
    ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    row("train / plain loop, batch 128", ratio, "> 1", f"{ours:,.0f} / {theirs:,.0f} images/s on {device}")


def panels():
    """Slider callback of the panels in Part I: a key press to the finished picture, first visits only"""
    for path in sorted(NOTEBOOKS.glob("0[0-3]_*.py")):
        for name, panel in panels_of(path).items():
            times = [move(panel, control, value) for control, value in positions(panel)]
            row(f"{path.stem[:2]} {name}", statistics.median(times) * 1e3, "≤ 50 ms", f"{len(times)} moves")


def imports():
    """`import flatlab` and its measures beyond `import torch`, seconds (medians of 7 fresh processes each)"""
    base = "import torch"
    bare, measures = (f"{base}; import flatlab as fl", f"{base}; import flatlab as fl; fl.NetworkLoss; fl.sharpness")
    times = {code: [] for code in (base, bare, measures)}
    for _ in range(7):
        for code, kept in times.items():
            kept.append(timed(lambda c=code: subprocess.run([sys.executable, "-c", c], check=True))[0])
    torch_alone = statistics.median(times[base])
    for name, code in (("import flatlab", bare), ("… and its measures", measures)):
        row(name, statistics.median(times[code]) - torch_alone, "≤ 0.3", f"import torch {torch_alone:.2f} s")


def kappa_by_autograd(head, x, y):
    """Σ_kl ⟨w_k, w_l⟩ tr H_kl as released: the whole Hessian of the head, one backward pass per entry."""
    weight = head.weight
    gradient = torch.autograd.grad(F.cross_entropy(head(x), y), weight, create_graph=True)[0]
    classes, features = weight.shape
    hessian = torch.empty(classes, features, classes, features)
    for k in range(classes):
        for i in range(features):
            hessian[k, i] = torch.autograd.grad(gradient[k, i], weight, retain_graph=True)[0]
    return ((weight @ weight.T) * torch.einsum("kili->kl", hessian)).sum().item()


def stop_rule(product, size, seed, most=100, tolerance=0.01):
    """Hutchinson that stops when the running mean moves by less than 1 %, as in common Hessian libraries."""
    generator, values = torch.Generator().manual_seed(seed), []
    while len(values) < most:
        v = torch.randint(0, 2, (size,), generator=generator) * 2.0 - 1
        before = statistics.fmean(values) if values else 0.0
        values.append((v @ product(v)).item())
        if abs(statistics.fmean(values) - before) / (abs(before) + 1e-6) < tolerance:
            break
    return statistics.fmean(values), len(values)


def circles():
    from sklearn.datasets import make_circles

    points, labels = make_circles(50, factor=0.5, random_state=0)
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels)


def ensemble_of(members):
    def run(x, y, loss="cross_entropy", penalty=None, **options):
        objective = fl.NetworkLoss(
            lambda seed: fl.models.mlp(2, 100, 100, 2, seed=seed), x, y, loss, seeds=range(members)
        )
        objective = objective if penalty is None else objective + penalty(objective)
        return fl.train(objective, 300, batch=5, lr=0.01, momentum=0.9, progress=False, **options)

    return run


def one_by_one(x, y, seed):
    net = fl.models.mlp(2, 100, 100, 2, seed=seed)
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    for _ in range(30):
        for chosen in torch.randperm(50).split(5):
            optimiser.zero_grad()
            F.cross_entropy(net(x[chosen]), y[chosen]).backward()
            optimiser.step()


def epochs(x, y, device):
    """Images/s of the second epoch of each, so that neither pays for its start nor for evaluation."""
    loss, steps = fl.NetworkLoss(fl.models.resnet(seed=0).to(device), x, y), len(x) // 128
    recipe = {"batch": 128, "momentum": 0.9, "schedule": "cosine", "progress": False, **fl.training.control("aug")}
    first, begin = fl.train(loss, steps, total=3 * steps, **recipe), now(device)
    fl.train(loss, steps, start=first, progress=False)
    ours = len(x) / (now(device) - begin)
    loop = plain_loop(x, y, device)
    next(loop)
    return ours, len(x) / timed(lambda: next(loop))[0]


class Photographs(torch.utils.data.Dataset):
    """One image at a time, cropped and flipped as in the usual tutorial, with torch alone."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        image = F.pad(self.x[i], (4, 4, 4, 4), value=128)
        top, left = torch.randint(9, (2,)).tolist()
        image = image[:, top : top + 32, left : left + 32]
        image = image.flip(2) if torch.rand(()) < 0.5 else image
        return image.float() / 255, self.y[i]


def plain_loop(x, y, device):
    """The usual loop, an epoch for each `next`."""
    batches = torch.utils.data.DataLoader(Photographs(x, y), batch_size=128, shuffle=True)
    model = fl.models.resnet(seed=0).to(device, memory_format=torch.contiguous_format)
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    while True:
        model.train()
        for images, labels in batches:
            optimiser.zero_grad()
            F.cross_entropy(model(images.to(device)), labels.to(device)).backward()
            optimiser.step()
        yield now(device)


def now(device):
    """The time when the device is done."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return time.perf_counter()


def digits_mlp(width=128):
    data = fl.data.digits()
    net = fl.models.mlp(64, width, width, 10, seed=0)
    train(net, data.x, data.y, steps=60, lr=1e-2)
    return fl.NetworkLoss(net, data.x, data.y)


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        conv = lambda i, o, k, s: nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o))  # noqa: E731
        self.first, self.second = conv(before, after, 3, stride), conv(after, after, 3, 1)
        self.shortcut = nn.Identity() if before == after else conv(before, after, 1, stride)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def resnet():
    """A ResNet-8 of width 16 on 256 images of noise, a few steps into training."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    x, y = torch.randn(256, 3, 32, 32), torch.randint(0, 10, (256,))
    train(net, x, y, steps=5, lr=1e-3)
    return fl.NetworkLoss(net, x, y)


def train(net, x, y, steps, lr):
    optimiser = torch.optim.Adam(net.parameters(), lr)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimiser.step()


def panels_of(path):
    """Run a notebook's twin and collect its panels."""
    cells = {"__name__": "__main__", "display": lambda *_, **__: None}
    before = [thing for thing in gc.get_objects() if isinstance(thing, fl.panels.Panel)]
    source = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# %"))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(source, path.name, "exec"), cells)
    found = [thing for thing in gc.get_objects() if isinstance(thing, fl.panels.Panel) and thing not in before]
    return {f"panel {i + 1}": panel for i, panel in enumerate(found)}


def positions(panel, most=12):
    """Up to 12 new positions of every control, one control at a time."""
    for control in panel.controls.values():
        if hasattr(control, "options"):
            values = [value[1] if isinstance(value, tuple) else value for value in control.options]
        elif hasattr(control, "min"):
            values = np.linspace(control.min, control.max, most).tolist()
        else:
            values = [not control.value]
        yield from ((control, value) for value in values[:: max(1, len(values) // most)] if value != control.value)


def move(panel, control, value):
    begin = time.perf_counter()
    control.value = value
    return time.perf_counter() - begin


def median(call, repeats):
    call()
    return statistics.median(timed(call)[0] for _ in range(repeats))


def paired(first, second, repeats):
    """Medians of two calls that take turns, so that a drift of the machine hits both."""
    first(), second()
    times = [(timed(first)[0], timed(second)[0]) for _ in range(repeats)]
    return tuple(statistics.median(column) for column in zip(*times, strict=True))


def timed(call):
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def rms(errors):
    return statistics.fmean(e**2 for e in errors) ** 0.5


def row(what, measured, target, detail=""):
    print(f"  {what:<38} {measured:>12,.4g}   aim {target:<12} {detail}", flush=True)


if __name__ == "__main__":
    main()
