"""Data sets, as float32 tensors. Nothing is fetched from the network."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


class Data(NamedTuple):
    """Training and test set: inputs `x (N, ...)` and targets `y (N,)`, `x_test`, `y_test`."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor

    def to(self, device: torch.device | str) -> "Data":
        """The same data on `device`, whole."""
        return Data(*(part.to(device) for part in self))


def folder() -> Path:
    """Where the course's data lie: FLATLAB_DATA, else the repository's `data/`, else the copy inside the wheel."""
    if "FLATLAB_DATA" in os.environ:
        return Path(os.environ["FLATLAB_DATA"]).expanduser()
    return _shipped()


def _shipped() -> Path:
    here = Path(__file__).resolve().parent
    repository = here.parent / "data"
    return repository if (here.parent / "pyproject.toml").exists() and repository.is_dir() else here / "_data"


def recorded(name: str) -> "pd.DataFrame":
    """A recorded run of a full protocol, or a study's records, as a DataFrame; `.attrs["about"]` says how it was made.

    It comes from `recorded` in FLATLAB_DATA, and where that has no such folder, from the course's own.
    Errors: ValueError for a name that was not recorded.
    """
    import pandas as pd

    place = folder() / "recorded"
    place = place if place.is_dir() else _shipped() / "recorded"
    tables, studies = place.glob("*.csv"), (path.parent for path in place.glob("*/study.json"))
    known = {path.stem: path for path in (*sorted(tables), *sorted(studies))}
    if name not in known:
        raise ValueError(f"name is {name!r}: in {place} there are {', '.join(known) or 'none'}")
    frame = results(known[name]) if known[name].is_dir() else pd.read_csv(known[name])
    frame.attrs["about"] = json.loads((place / f"{name}.json").read_text(encoding="utf-8"))
    return frame


def results(folder: str | Path, errors: bool = False) -> "pd.DataFrame":
    """The records of a study as a tidy table: the cell's values first, then what the function returned.

    Sorted by the cells, the first axis slowest, numbers before words; rows of one run stay in their order. `errors`
    gives the failed runs instead, with their error (the whole traceback is in the record). `.attrs["seconds"]`: what
    all runs took. Errors: ValueError if `folder` holds no study, or names the record that is damaged.
    """
    import pandas as pd

    axes = read(Path(folder) / "study.json", "function", "axes")["axes"]
    found = [read(path, "cell", "seconds") for path in Path(folder).glob("*.run.json")]
    found.sort(
        key=lambda record: [(isinstance(v, str), v is not None, 0 if v is None else v) for v in record["cell"].values()]
    )
    if errors:
        rows = [record["cell"] | {"error": record["error"]} for record in found if "error" in record]
    else:
        rows = [record["cell"] | row for record in found for row in record.get("rows", ())]
    frame = pd.DataFrame(rows, columns=None if rows else [*axes, *["error"] * errors])
    frame.attrs["seconds"] = round(sum(record["seconds"] for record in found), 1)
    return frame


def read(path: Path, *keys: str) -> dict:
    """The JSON object in a study's file. Errors: ValueError if there is none, or it is damaged or lacks a key."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"folder is {str(path.parent)!r}: there is no study in it (no {path.name})") from None
    except ValueError:
        record = None
    if not isinstance(record, dict) or not record.keys() >= set(keys):
        raise ValueError(f"{path} is damaged (cut off by a power failure, or changed by hand): delete it and start the "
                         "study again, which repeats only what is missing")  # fmt: skip
    return record


def digits(train: int = 1000, seed: int = 0, images: bool = False) -> Data:
    """Handwritten digits: 1,797 images of 8 × 8 pixels in 10 classes, shuffled by `seed`, `train` for training.

    Inputs `(N, 64)`, or `(N, 1, 8, 8)` with `images`, in 0 … 1, targets `(N,)` class numbers. Errors: ValueError if
    `train` leaves no test image. Source: UCI "Optical Recognition of Handwritten Digits" test set, shipped with
    scikit-learn.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    if int(train) != train or not 1 <= train < len(pixels):
        raise ValueError(f"train is {train}: choose 1 to {len(pixels) - 1} training images")
    order = np.random.default_rng(seed).permutation(len(pixels))
    x = torch.tensor(pixels[order] / 16, dtype=torch.float32)
    x = x.reshape(-1, 1, 8, 8) if images else x
    y = torch.tensor(labels[order], dtype=torch.long)
    return Data(x[:train], y[:train], x[train:], y[train:])


def random_labels(y: Tensor, fraction: float, classes: int, seed: int = 0) -> Tensor:
    """A `fraction` of the labels `y (N,)` drawn again, uniformly from all `classes`; a new tensor.

    About `fraction · (1 − 1/classes)` become wrong, for a redrawn label may come out right. With the same seed, larger
    fractions redraw the same labels to the same values, and more. Errors: ValueError for a fraction outside 0 … 1, or
    labels that are not class numbers 0 … classes − 1. Source: Zhang et al. 2017.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction!r}: choose 0 (none) to 1 (all labels)")
    if y.ndim != 1 or y.is_floating_point() or (len(y) and not 0 <= y.min() <= y.max() < classes):
        span = f", {y.min()} … {y.max()}" if y.numel() else ""
        raise ValueError(f"y is {y.dtype} {tuple(y.shape)}{span}: expected class numbers (N,), 0 … {classes - 1}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)[: round(fraction * len(y))]
    fresh = torch.randint(classes, y.shape, generator=generator).to(y)
    order = order.to(y.device)
    return y.index_put((order,), fresh[order])
