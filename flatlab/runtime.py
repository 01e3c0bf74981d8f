"""How a run is carried out: how many threads it may use, on which device, and how large it is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SCALES = ("laptop", "paper")


@contextmanager
def threads(count: int) -> Iterator[int]:
    """Use `count` CPU threads inside the `with` block, and put the old number back afterwards.

    The environment variable FLATLAB_THREADS overrides `count`; under `pytest -n` the count is 1. Tiny networks run
    fastest on one thread. Errors: ValueError if `count` is not a positive whole number.
    """
    import torch

    ordered = os.environ.get("FLATLAB_THREADS")
    chosen = ordered or str(1 if "PYTEST_XDIST_WORKER" in os.environ else count)
    if not chosen.isdigit() or int(chosen) < 1:
        raise ValueError(f"{'FLATLAB_THREADS' if ordered else 'count'} is {chosen}: pass a positive whole number")
    before = torch.get_num_threads()
    torch.set_num_threads(int(chosen))
    try:
        yield int(chosen)
    finally:
        torch.set_num_threads(before)


def device(name: "str | torch.device | None" = None) -> "torch.device":
    """The `torch.device` to compute on: `name`, else FLATLAB_DEVICE, else the best there is of cuda, mps and cpu.

    Models and data go there with `.to(fl.device())`; mps has no float64. Errors: ValueError for a device that this
    machine does not have; it lists those it has.
    """
    import torch

    cuda = ["cuda", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    there = [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    chosen = os.environ.get("FLATLAB_DEVICE") or there[0] if name is None else str(name)
    if chosen not in there:
        source = "FLATLAB_DEVICE" if name is None else "name"
        raise ValueError(f"{source} is {chosen!r}: the devices here are {', '.join(there)}")
    return torch.device(chosen)


def scale(name: str | None = None) -> str:
    """The size of the experiments: "laptop" (default) or "paper" (the full protocol, for a GPU or a night).

    `name` chooses for this kernel, else the variable FLATLAB_SCALE decides. Errors: ValueError for any other name.
    """
    source, chosen = ("FLATLAB_SCALE", os.environ.get("FLATLAB_SCALE", "laptop")) if name is None else ("name", name)
    if chosen not in SCALES:
        raise ValueError(f"{source} is {chosen!r}: choose one of {', '.join(SCALES)}")
    if name is not None:
        os.environ["FLATLAB_SCALE"] = name
    return chosen
