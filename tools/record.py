"""Run the paper's full protocols and keep the results in data/recorded/: `python tools/record.py NAME`.

NAME is a protocol (single_objective, steepness, circles, random_labels, photographs_path), or a study (photographs,
photographs_annealed, photographs_cooled) that keeps one record per run in a folder NAME. What was stopped goes on
where it was. Beside each NAME.csv or folder lies NAME.json: the command, versions, threads, processor, seeds, date and
wall time. Protocols: Mason-Williams et al. 2025 (released code); what is shorter than there is said in the json.
"""

import argparse
import base64
import json
import math
import os
import platform
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import flatlab as fl
from flatlab import safety, sharpness

FOLDER = Path(__file__).resolve().parent.parent / "data" / "recorded"
RHOS = (5e-4, 5e-3, 5e-2, 5e-1)
LEVELS = (0.1, 0.03)  # train losses at which the circles are compared


def single_objective(seed: int, function: str, targets: str, epochs: int = 10_000) -> pd.DataFrame:
    """An MLP 2-64-64-1 learns one function: 10,000 points, full-batch Adam at 1e-3, the seed's initial weights for all.

    `targets`: "raw", or "standardised" (divided by the sd on the training points, after centring).
    """
    f = getattr(fl.functions, function)
    generator = torch.Generator().manual_seed(seed)
    x, x_test = (torch.rand(10_000, 2, generator=generator) * 7 - 3.5 for _ in range(2))
    y, y_test = f(x.double())[:, None], f(x_test.double())[:, None]
    if targets == "standardised":
        mean, sd = y.mean(), y.std()
        y, y_test = (y - mean) / sd, (y_test - mean) / sd
    marks = [e for e in (0, 1, 10, 100, 1_000, 10_000, 100_000) if e <= epochs]
    loss = fl.NetworkLoss(lambda s: fl.models.mlp(2, 64, 64, 1, seed=s), x, y.float(), "mse", seeds=[seed])
    run, rows = fl.train(loss, epochs, optimiser="adam", lr=1e-3, keep=marks, progress=False), []
    for epoch in marks:
        # Measured in float64: raw targets make losses so large that float32 hides what a small step changes.
        train, test = (run.loss(a, b, step=epoch).member(0).double() for a, b in ((x, y), (x_test, y_test)))
        row = {"epoch": epoch, "train loss": train().item(), "test loss": test().item()}
        row["train R2"] = 1 - row["train loss"] / y.var().item()
        row["test R2"] = 1 - row["test loss"] / y_test.var().item()
        measured = sharpness.table(train, ["gradient norm", "lambda max", "trace"], products=60, seed=seed)
        row |= measured.drop(columns="trace stderr").iloc[0].to_dict()
        samples = 200 if epoch == epochs else 50
        for rho in RHOS:
            drawn = sharpness.random_direction(train, rho=rho, samples=samples, seed=seed)
            row[f"random direction {rho:g}"] = drawn.item()
        rows.append(row | {"samples": samples})
    return pd.DataFrame(rows)


def steepness(seed: int, steps: int = 12_000) -> pd.DataFrame:
    """Notebook 05's functions and waves, standardised, learned below the edge of stability, long after R² = 0.95.

    An MLP 2-32-32-1 with tanh, 150 points, gradient descent on all of them with rate 0.005 and momentum 0.9. A row per
    function and level of R²: the first kept step at which it is reached, and (level "end") the last step; `reached` is
    False where it never gets there, which is measured at the last step too.
    """
    draw = torch.Generator().manual_seed(5)
    x = torch.rand(2_150, 2, generator=draw, dtype=torch.float64)[:150] * 7 - 3.5
    raw = {f.name: f(x) for f in fl.functions.SEVEN}
    raw |= {f"wave k = {k:g}": torch.sin(k * x).sum(-1) for k in (0.5, 1.0, 1.5, 2.0)}
    targets = [((y - y.mean()) / y.std(correction=0))[:, None].float() for y in raw.values()]
    start = fl.NetworkLoss(
        lambda s: fl.models.mlp(2, 32, 32, 1, activation="tanh", seed=s), x.float(), targets, "mse",
        seeds=[seed] * len(raw),
    )  # fmt: skip
    keep = [*range(0, 3_001, 20), *range(3_100, steps + 1, 100)]
    run = fl.train(start, steps, lr=0.005, momentum=0.9, keep=keep, progress=False)
    path = torch.stack([1 - run.loss(step=step)() for step in keep])  # R²: the targets have variance 1
    rows = []
    for level in (0.8, 0.9, 0.95, 0.97, 0.99, 0.995, 0.999, "end"):
        there = path >= level if level != "end" else torch.ones_like(path).cumsum(0) == len(path)
        first = torch.where(there.any(0), there.int().argmax(0), len(path) - 1).tolist()
        loss = start.at(torch.stack([run.kept[keep[i]][k] for k, i in enumerate(first)]))
        top = fl.curvature.eigenvalues(loss, steps=20)[..., 0]
        for k, (name, i) in enumerate(zip(raw, first, strict=True)):
            row = {"function": name, "level": level, "reached": there[:, k].any().item(), "step": keep[i]}
            row |= {"R2": path[i, k].item(), "train loss": 1 - path[i, k].item(), "lambda max": top[k].item()}
            rows.append(row)
    return pd.DataFrame(rows)


def circles(factor: float, seeds: int = 100, steps: int = 3_000) -> pd.DataFrame:
    """MLPs 2-100-100-2 on two circles of radius 1 and `factor`: SGD 0.01, momentum 0.9, batch 5, 300 epochs.

    A row per seed and stop: the paper's, and the first of the kept steps where the train loss is below a level, so that
    the tightness can be compared at equal train loss; `reached` is False where it never gets there.
    """
    x, y, x_test, y_test = circle_data(factor)
    every = range(0, steps + 1, 50)
    loss = fl.NetworkLoss(circle_net, x, y, seeds=range(seeds))
    run = fl.train(loss, steps, batch=5, lr=0.01, momentum=0.9, keep=every, progress=False)
    losses = torch.stack([run.loss(step=step)() for step in every])
    last, frames = len(losses) - 1, []
    for stop, level in (("paper", None), *((f"train loss {level:g}", level) for level in LEVELS)):
        below = losses <= (level or torch.inf)
        index = torch.full((seeds,), last) if level is None else torch.where(below.any(0), below.int().argmax(0), last)
        theta = torch.stack([run.kept[every[i]][k] for k, i in enumerate(index.tolist())])
        frame = measure(loss.at(theta), x_test, y_test)
        frame = frame.assign(stop=stop, reached=below.any(0).numpy(), diverged=run.diverged.numpy())
        frames.append(frame.assign(step=[every[i] for i in index.tolist()]))
    return pd.concat(frames)


def random_labels(fraction: float, seeds: int = 20, steps: int = 50_000) -> pd.DataFrame:
    """The circles with f = 0.5, a `fraction` of the 50 training labels redrawn; on average half of them become wrong.

    Each seed has a draw of its own; `wrong` is the share of its labels that became wrong.
    """
    x, clean, x_test, y_test = circle_data(0.5)
    y = torch.stack([fl.data.random_labels(clean, fraction, 2, seed=seed) for seed in range(seeds)])
    wrong = (y != clean).float().mean(-1).numpy()
    marks = [step for step in (3_000, 20_000, 50_000) if step <= steps]
    loss = fl.NetworkLoss(circle_net, [x] * seeds, [*y], seeds=range(seeds))
    run = fl.train(loss, steps, batch=5, lr=0.01, momentum=0.9, keep=marks, progress=False)
    frames = [
        measure(run.loss(step=step), x_test, y_test).assign(step=step, wrong=wrong, diverged=run.diverged.numpy())
        for step in marks
    ]
    return pd.concat(frames)


def circle_data(factor: float):
    """100 points on two circles, the first 50 to train on."""
    from sklearn.datasets import make_circles

    points, labels = make_circles(n_samples=100, noise=0, random_state=0, factor=factor)
    x, y = torch.tensor(points, dtype=torch.float32), torch.tensor(labels)
    return x[:50], y[:50], x[50:], y[50:]


def circle_net(seed: int):
    return fl.models.mlp(2, 100, 100, 2, seed=seed)


def measure(loss, x_test, y_test) -> pd.DataFrame:
    """One row per member: fit, test, and the sharpness measures on the un-penalised training loss."""
    train, test = loss.outputs(), loss.outputs(inputs=x_test)
    columns = ["train loss", "gradient norm", "fisher rao", "logit fisher rao", "relative flatness"]
    found = sharpness.table(loss, [*columns, "random direction", "lambda max", "trace"], draws=100)
    return found.drop(columns=["random direction stderr", "trace stderr"]).assign(
        **{
            "seed": range(len(train)),
            "train accuracy": safety.accuracy(train, loss.targets).numpy(),
            "test loss": safety.negative_log_likelihood(test, y_test).numpy(),
            "test accuracy": safety.accuracy(test, y_test).numpy(),
        }
    )


SEVEN = ("sphere", "rosenbrock", "rastrigin", "beale", "booth", "three_hump_camel", "himmelblau")
PROTOCOLS = {
    "single_objective": (
        single_objective,
        [{"seed": s, "function": f, "targets": t} for t in ("raw", "standardised") for s in range(3) for f in SEVEN],
        "10,000 of the paper's 100,000 epochs, 3 seeds; random directions with 200 draws at the last epoch, 50 before",
    ),
    "steepness": (steepness, [{"seed": seed} for seed in range(10, 20)], "12,000 steps, ten seeds, eleven functions"),
    "circles": (circles, [{"factor": k / 10} for k in range(1, 10)], "as the paper: 100 seeds, 3,000 steps"),
    "random_labels": (
        random_labels,
        [{"fraction": k / 10} for k in range(11)],
        "50,000 of the paper's 200,000 steps, 20 of its 100 seeds",
    ),
}


def minimum(seed: int, epochs: int, batch: int, lr: float, spectrum: bool, **control) -> list[dict]:
    """Train a ResNet-8 of width 16 on 2,000 CIFAR photographs (FLATLAB_DATA) and measure the end, as one row.

    Fit on all images (eval mode, clean, nats); what needs derivatives on the first 256 training images; `spectrum`:
    λ_max and trace; corruptions on 1,000 test images. "chosen" holds the class of each test image (letters from "a"),
    "probabilities" the softmax outputs of the first 128, in float16 and base64: two seeds are compared by them.
    """
    data = fl.images.cifar(10, train=2000, test=2000)
    loss = fl.NetworkLoss(fl.models.resnet((1, 1, 1), width=16, seed=seed), data.x, data.y, chunk=200)
    steps = epochs * math.ceil(len(data.x) / batch)
    recipe = {"batch": batch, "lr": lr, "momentum": 0.9, "schedule": "cosine", **control}
    end = fl.train(loss, steps, seeds=[seed], progress=False, **recipe).loss().member(0)
    train, test = end.outputs(), end.outputs(inputs=data.x_test)
    row = {"stop": "end", "epoch": epochs} | fit(train, data.y, test, data.y_test)
    columns = [name for name in sharpness.SYMBOLS if name in MEASURES or (spectrum and name in ("lambda max", "trace"))]
    row |= sharpness.table(end, columns, subset=256, products=21).iloc[0].to_dict()
    images = data.x_test[:1000] / 255
    right = safety.corrupted_accuracy(lambda x: end.outputs(inputs=x), images, data.y_test[:1000], severities=(1, 3, 5))
    return [row | {
        "corrupted accuracy": right.item(),
        "chosen": "".join(chr(ord("a") + k) for k in test.argmax(1).tolist()),
        "probabilities": base64.b64encode(test[:128].softmax(1).half().numpy().tobytes()).decode(),
    }]  # fmt: skip


def fit(train, y, test, y_test) -> dict:
    """Loss, accuracy and calibration from the outputs on the training and the test set."""
    accuracy = safety.accuracy(train, y).item(), safety.accuracy(test, y_test).item()
    return {
        "train loss": safety.negative_log_likelihood(train, y).item(),
        "train accuracy": accuracy[0],
        "test loss": safety.negative_log_likelihood(test, y_test).item(),
        "test accuracy": accuracy[1],
        "gap": accuracy[0] - accuracy[1],
        "ece": safety.calibration_error(test, y_test).item(),
    }


MEASURES = (
    "relative flatness", "relative flatness raw", "logit fisher rao", "subset loss", "gradient norm", "fisher rao",
    "one step", "weight norm", "head norm", "random direction", "weight noise",
)  # fmt: skip


def photographs(seed: int, batch: int, lr: float, control: str) -> list[dict]:
    """The six controls, 60 epochs; λ_max and trace for the first three seeds.

    (The first base runs were also measured on the way: rows with "stop" = "path", from the middle of a schedule.)
    """
    return minimum(seed, 60, batch, lr, seed < 3, **fl.training.control(control))


def photographs_annealed(seed: int, epochs: int) -> list[dict]:
    """The base run of `photographs` (batch 128, lr 0.05) with a complete schedule of its own that is shorter.

    Between two lengths lies one that ends at a regularised run's train loss: a twin that has cooled down.
    """
    return minimum(seed, epochs, 128, 0.05, spectrum=True)


def photographs_cooled(seed: int, batch: int, lr: float, epochs: int) -> list[dict]:
    """`photographs_annealed` in other settings of batch and rate, for more seeds, and for SAM and weight decay."""
    return minimum(seed, epochs, batch, lr, spectrum=seed < 3)


def photographs_path(seed: int) -> pd.DataFrame:
    """A base run of `photographs` (batch 128, lr 0.05, 60 epochs) on its way: snapshots from the middle of a schedule.

    Each is measured with batch norm's statistics as training left them ("as left") and taken anew ("anew").
    """
    data = fl.images.cifar(10, train=2000, test=2000)
    marks = {epoch: epoch * math.ceil(len(data.x) / 128) for epoch in (8, 12, 16, 20, 23, 26, 30, 35, 40, 50, 60)}
    loss = fl.NetworkLoss(fl.models.resnet((1, 1, 1), width=16, seed=seed), data.x, data.y, chunk=200)
    recipe = {"batch": 128, "lr": 0.05, "momentum": 0.9, "schedule": "cosine", **fl.training.control("base")}
    run, rows = fl.train(loss, marks[60], seeds=[seed], keep=[*marks.values()], progress=False, **recipe), []
    for epoch, step in marks.items():
        left = run.loss(step=step)
        for buffers, snapshot in (("as left", left.member(0)), ("anew", left.refreshed().member(0))):
            row = fit(snapshot.outputs(), data.y, snapshot.outputs(inputs=data.x_test), data.y_test)
            row |= (
                sharpness.table(snapshot, ["relative flatness", "lambda max"], subset=256, products=21)
                .iloc[0]
                .to_dict()
            )
            rows.append({"epoch": epoch, "buffers": buffers} | row)
    return pd.DataFrame(rows)


# Lengths that end on both sides of the train losses of augmentation, with and without SAM, in each setting …
COOLED = {(64, 0.05): (12, 16, 20, 25), (64, 0.02): (16, 20, 25), (128, 0.02): (20, 25, 30), (128, 0.05): (16, 20, 25)}
# … and, in one setting, of SAM, of weight decay and of both; the base run itself has 60 epochs.
LONGER = {(128, 0.05): (52, 56)}
SUBSET = "CIFAR-10, JPEG re-encoded, 2,000-image subset (2,000 to train, 2,000 to test); ResNet-8, width 16, float32"
PROTOCOLS["photographs_path"] = (photographs_path, [{"seed": seed} for seed in range(3)], SUBSET)
STUDIES = {
    "photographs": (
        photographs,
        fl.study.grid(seed=range(10), batch=(128, 64), lr=(0.05, 0.02), control=tuple(fl.training.CONTROLS)),
        SUBSET,
    ),
    "photographs_annealed": (
        photographs_annealed,
        fl.study.grid(seed=range(3), epochs=(12, 16, 20, 25, 30)),
        SUBSET,
    ),
    "photographs_cooled": (
        photographs_cooled,
        [
            {"seed": seed, "batch": batch, "lr": lr, "epochs": epochs}
            for seeds, ladder in ((range(4), COOLED), (range(6), LONGER), (range(4, 6), COOLED))
            for seed in seeds
            for (batch, lr), lengths in ladder.items()
            for epochs in lengths
            if seed > 2 or (batch, lr) != (128, 0.05) or epochs > 30  # those are in photographs_annealed
        ],
        SUBSET,
    ),
}


def study(name: str, workers: int = -1, describe: bool = False) -> None:
    """Run what is missing of a study, one record per run in data/recorded/NAME/; `describe` runs nothing.

    NAME.json tells how much of the grid is in. It is written before the first run, and again whatever ends the last.
    """
    run, cells, _ = STUDIES[name]
    _describe(name)
    if not describe:
        try:
            fl.study.run(run, cells, FOLDER / name, workers, inner=torch.get_num_threads())
        finally:
            _describe(name)


def _describe(name):
    """Write NAME.json, unless the one that is there tells of as many runs: it knows which machine they ran on."""
    _, cells, note = STUDIES[name]
    folder, path = FOLDER / name, FOLDER / f"{name}.json"
    if begun := (folder / "study.json").exists():
        done, failed = fl.study.results(folder), fl.study.results(folder, errors=True)
        seconds = done.attrs["seconds"]
    else:
        done, failed, seconds = pd.DataFrame(columns=list(cells[0])), (), 0.0
    counts = {"cells done": len(done[list(cells[0])].drop_duplicates()), "cells failed": len(failed)}
    if not (begun and path.exists() and json.loads(path.read_text()).items() >= counts.items()):
        about = _about(name, note, seconds, done, len(cells)) | counts  # the seconds of all runs, added up
        _write(path, json.dumps(about, indent=1) + "\n")


def record(name: str, workers: int = 1) -> None:
    """Run what is missing of a protocol: a study of its own in runs/NAME, whose rows go to NAME.csv when it stops.

    Errors: RuntimeError if runs failed; their records, with the traceback, stay in runs/NAME until they are run again.
    """
    run, grid, _ = PROTOCOLS[name]
    folder = FOLDER / "runs" / name
    _gather(name)  # what a killed one has left
    try:
        if missing := [cell for cell in grid if not _has(_table(name), cell)]:
            fl.study.run(run, missing, folder, workers, inner=torch.get_num_threads(), retry=True)
    finally:
        _gather(name)
    if folder.exists():
        raise RuntimeError(f"runs failed: {fl.study.results(folder, errors=True).to_string()}")


def _gather(name):
    """Move what has ended from runs/NAME to NAME.csv, in the order of the grid, and renew NAME.json."""
    _, grid, note = PROTOCOLS[name]
    folder, about, done = FOLDER / "runs" / name, FOLDER / f"{name}.json", _table(name)
    records = {path: fl.data.read(path, "cell", "seconds") for path in folder.glob("*.run.json")}
    ended = {path: record for path, record in records.items() if "rows" in record}
    new = [record for record in ended.values() if not _has(done, record["cell"])]
    if new:
        new.sort(key=lambda record: grid.index(record["cell"]))
        rows = pd.DataFrame([row | record["cell"] for record in new for row in record["rows"]])
        done = pd.concat([done, rows], ignore_index=True)
        seconds = json.loads(about.read_text())["wall seconds"] if about.exists() else 0.0
        seconds += sum(record["seconds"] for record in new)
        _write(FOLDER / f"{name}.csv", done.to_csv(index=False, float_format="%.9g"))
        _write(about, json.dumps(_about(name, note, seconds, done, len(grid)), indent=1) + "\n")
    for path in ended:
        path.unlink()
    if folder.exists() and len(ended) == len(records):
        shutil.rmtree(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def _table(name):
    csv = FOLDER / f"{name}.csv"
    return pd.read_csv(csv) if csv.exists() else pd.DataFrame()


def _has(done, cell):
    return len(done) > 0 and bool(np.logical_and.reduce([done[key] == value for key, value in cell.items()]).any())


def _about(name, note, seconds, done, cells):
    import scipy
    import sklearn

    return {
        "command": f"python tools/record.py {name}",
        "protocol": note,
        "rows": len(done),
        "grid cells": cells,
        "seeds": sorted(int(seed) for seed in done["seed"].unique()),
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__.split("+")[0], "numpy": np.__version__,
            "scipy": scipy.__version__, "scikit-learn": sklearn.__version__, "flatlab": fl.__version__,
        },
        "threads": torch.get_num_threads(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "date": date.today().isoformat(),
        "wall seconds": round(seconds, 1),
    }  # fmt: skip


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*PROTOCOLS, *STUDIES])
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--workers", type=int, default=-1, help="processes; -1: one per core")
    parser.add_argument("--describe", action="store_true", help="of a study: renew NAME.json, run nothing")
    options = parser.parse_args()
    with fl.threads(options.threads):
        if options.name in STUDIES:
            study(options.name, options.workers, options.describe)
        else:
            record(options.name, options.workers)
