"""Grids of runs that survive: one record per run, written as it ends; whatever stops a study, it goes on from there.

From a notebook: `study.run(function, study.grid(control=["base", "SAM"], seed=range(10)), "my_study")`. For a night:
`python -m flatlab.study package.module:function my_study control=base,SAM seed=0:10`.
"""

import argparse
import inspect
import json
import os
import re
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from flatlab.data import read, results
from flatlab.runtime import threads

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["grid", "main", "results", "run"]
PAUSE, PATIENCE = 1.0, 600.0  # seconds at most between two looks, and that workers have to come and to import
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # what other libraries than torch go by
DEATHS = 2  # so often may a run take its process down; then it counts as failed


def grid(**axes: Iterable) -> list[dict]:
    """Every combination of the values, the first axis slowest: `grid(seed=range(2), lr=(0.1, 0.2))` has 4 cells.

    Errors: ValueError for an axis that is one value (a single word, too) or empty.
    """
    for name, values in axes.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ValueError(f"{name} is {values!r}: an axis is a list of values, e.g. {name}=[{values!r}]")
    axes = {name: list(values) for name, values in axes.items()}
    if empty := [name for name, values in axes.items() if not values]:
        raise ValueError(f"{empty[0]} is empty: give this axis at least one value")
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def run(
    function: Callable, cells: Sequence[dict], folder: str | Path, workers: int | Any = -1, inner: int = 1,
    retry: bool = False, progress: bool = True,
) -> "pd.DataFrame":  # fmt: skip
    """Call `function(**cell)` for each cell that has no record in `folder` yet; returns `results(folder)`.

    function: returns one row (a dict of numbers and strings), a list of rows or a DataFrame. Importable, or plain
        Python of a notebook: workers are processes of their own. Records stay when it changes: take another folder.
    cells: dicts of numbers, strings and None, e.g. from `grid`. More values of the same axes may be added later.
    workers: processes on this machine, −1 for one per core, 1 for this process itself; or a `distributed.Client`, whose
        workers must see `folder`.
    inner: CPU threads per run. retry: run again what failed.

    A run that fails, or takes its process down twice, is recorded with its error and the rest goes on. Several studies
    may work in one folder at once: a lock keeps a run to one of them, and of two records the first stays. Ctrl-C or a
    kill loses only the runs that are under way (after a kill, workers may finish theirs: the next study waits for
    them). A study that waits in vain says so, and without any worker it gives up after ten minutes.

    Errors: ValueError for cells that repeat, differ in their names, hold other values or do not fit the function, for a
    function without a name of its own or that workers cannot import, and for a folder of another function or other
    axes. RuntimeError if the workers are gone, or die before they begin.
    """
    from tqdm.auto import tqdm

    cells, folder = [_plain(cell) for cell in cells], Path(folder).absolute()  # a cluster's workers stand elsewhere
    _check(function, cells, workers)
    _claim(folder, function, list(cells[0]))
    if todo := {path: cell for cell in cells if not _recorded(path := _path(folder, cell), retry)}:
        options = {"disable": not progress, "delay": 3, "smoothing": 0, "leave": False, "desc": folder.name}
        try:
            with tqdm(total=len(cells), initial=len(cells) - len(todo), **options) as bar:
                _carry_out(function, todo, workers, inner, bar)
        finally:
            for path in todo:
                _free(path)  # what was killed leaves its lock
    return results(folder)


def _carry_out(function, cells, workers, inner, bar):
    """Have each run of `cells` (by record) done; one that another study has, or whose worker died, comes again."""
    todo, under_way, deaths, pause = list(cells), {}, dict.fromkeys(cells, 0), 0.0
    with _hands(workers, inner, under_way) as (submit, hands):
        _wait(pause, todo, workers)
        _probe(function, submit, 0 if workers == 1 else min(hands, len(cells)))
        while todo or under_way:
            for path in list(todo):
                if len(under_way) < hands and _free(path):
                    todo.remove(path)
                    under_way[submit(_one, function, path, cells[path], inner)] = path
            ended = [future for future in under_way if future.done()]
            for future in ended:
                path = under_way.pop(future)
                deaths[path] += _died(future) or path.with_suffix(".lock").exists() and _free(path)
                if deaths[path] >= DEATHS:
                    _record(path, cells[path], 0.0, error=f"ProcessDied: {DEATHS} times: killed, or out of memory")
                todo += [] if path.exists() else [path]
                bar.update(path.exists())
            pause = 0.0 if ended else min(PAUSE, 1.2 * pause + 0.001)
            _wait(pause, under_way, workers)


def _wait(pause, under_way, workers):
    """Pause between two looks; says so if nothing can come of it. Errors: RuntimeError if the workers stay away."""
    if pause == PAUSE and not under_way:
        warnings.warn("waiting: other processes have all runs that are left (*.lock)", stacklevel=4)
    try:
        if not isinstance(workers, int) and not workers.nthreads():
            warnings.warn(f"waiting: the cluster has no worker; in {PATIENCE:.0f} s the study gives up", stacklevel=4)
            workers.wait_for_workers(1, timeout=PATIENCE)
    except Exception as error:
        raise RuntimeError(f"workers: the cluster has none or is gone ({error}). The same call goes on") from error
    time.sleep(pause)


@contextmanager
def _hands(workers, inner, under_way):
    """A function that hands a call over and returns its future, and how many calls may be under way at once."""
    from joblib.externals.loky import ProcessPoolExecutor, cpu_count

    pools, env = {}, dict.fromkeys(THREADS, os.environ.get("FLATLAB_THREADS") or str(inner))
    new = partial(ProcessPoolExecutor, 1, timeout=300, env=env)
    try:
        if not isinstance(workers, int):
            yield partial(workers.submit, pure=False), 1000
        elif workers == 1:
            yield _here, 1
        else:
            yield partial(_elsewhere, new, pools), workers if workers > 0 else max(1, cpu_count() + 1 + workers)
    finally:
        under_way.clear()  # a cluster does not begin what nobody waits for
        for pool in pools:
            pool.shutdown(kill_workers=True)


def _here(function, *arguments):
    future = Future()
    future.set_result(function(*arguments))
    return future


def _elsewhere(new, pools, *call):
    """In an idle process. Each is a pool (with its last future) of its own: one that dies takes no other with it."""
    for pool, last in list(pools.items()):
        if last.done():
            with suppress(BrokenExecutor):
                pools[pool] = pool.submit(*call)
                return pools[pool]
            del pools[pool]  # its process is dead
    pool = new()
    pools[pool] = pool.submit(*call)
    return pools[pool]


def _probe(function, submit, count):
    """Import on workers what the runs need. Errors: ValueError if that fails, takes one down or never ends."""
    by_name = "<locals>" not in function.__qualname__ and function.__module__ != "__main__"  # others are sent whole
    for module in {__name__, function.__module__ if by_name else __name__}:
        probes = [submit(resolve_name, f"{module}:__name__") for _ in range(count)]
        try:
            for probe in probes:
                probe.result(PATIENCE)
        except Exception as error:
            text = f"workers cannot import {module}, which function needs ({type(error).__name__}: {error})"
            raise ValueError(text) from error


def _died(future):
    """Did its worker die? Errors: whatever else went wrong outside the function, e.g. a full disk."""
    try:
        future.result()
    except Exception as error:
        if {kind.__name__ for kind in type(error).__mro__} & {"BrokenExecutor", "KilledWorker", "CancelledError"}:
            return True
        raise
    return False


def _one(function, path, cell, inner):
    """Carry out one run, unless it is recorded, or its lock says that it is under way or took a process down."""
    begin = time.perf_counter()
    if not path.with_suffix(".lock").exists():
        with suppress(Timeout), _lock(path):
            if not path.exists():
                outcome = _outcome(function, cell, inner)
                _record(path, cell, time.perf_counter() - begin, **outcome)


def _outcome(function, cell, inner):
    try:
        with threads(inner):
            return {"rows": _rows(function(**cell), cell)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = "".join(traceback.format_exception_only(error)).strip()  # also where str(error) fails
        return {"error": text, "traceback": traceback.format_exc()}


def _rows(returned, cell):
    """What a run returned, as a list of plain dicts. Errors: ValueError for anything else."""
    returned = returned.to_dict("records") if hasattr(returned, "to_dict") else returned
    rows = returned if isinstance(returned, list) else [returned]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"the function returned {returned!r:.200}: it must return a dict, or a list of dicts")
    rows = [_plain(row) for row in rows]
    if wrong := [row for row in rows if cell | row != row | cell]:
        raise ValueError(f"the function returned {wrong[0]}, but the cell sets {cell}")
    return rows


def _plain(row):
    """A row or cell with numpy's numbers, and tensors without axes, as Python's own. Errors: ValueError for others."""
    row = {name: value.item() if getattr(value, "shape", None) == () else value for name, value in row.items()}
    for name, value in row.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | None):
            raise ValueError(f"{name!r} is {value!r:.200}: rows and cells are made of numbers, strings and None")
    return row


@contextmanager
def _lock(path):
    """Keeps a run to one process. When that dies the file stays, and the kernel frees it: no clock is asked."""
    lock = path.with_suffix(".lock")
    with FileLock(lock, timeout=0):
        yield
        with suppress(PermissionError):  # on Windows it goes when it is freed
            lock.unlink(missing_ok=True)


def _free(path):
    """Has no living process this run? The lock of a dead one is removed."""
    lock = path.with_suffix(".lock")
    if lock.exists():
        with suppress(Timeout), _lock(path):
            pass
    return not lock.exists()


def _record(path, cell, seconds, **outcome):
    _write_first(path, {"cell": cell} | outcome | {"seconds": round(seconds, 1), "host": socket.gethostname()})


def _write_first(path, record):
    """Write the whole file or nothing; if there is one already, that one stays."""
    part = path.with_suffix(f".{os.urandom(8).hex()}.part")
    with open(part, "w", encoding="utf-8") as file:
        file.write(json.dumps(record, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())  # else a power failure may leave the name without the content
    with suppress(OSError):  # there is one, or the file system has no hard links
        os.link(part, path)
    if not path.exists():
        part.replace(path)
    part.unlink(missing_ok=True)


def _path(folder, cell):
    """The file of a cell's record: a readable name, and a hash that keeps different cells apart."""
    text = json.dumps(cell, sort_keys=True)
    words = "_".join(str(value) for value in cell.values())
    words = "".join(c if c.isascii() and c.isalnum() or c in "+-._" else "-" for c in words)[:80]
    return Path(folder) / f"{words}_{sha256(text.encode()).hexdigest()[:8]}.run.json"


def _recorded(path, retry):
    """Is the run recorded? A damaged record is put aside and, for `retry`, one of a failure dropped."""
    try:
        if path.exists() and "error" in read(path, "cell", "seconds") and retry:
            path.unlink(missing_ok=True)
    except ValueError:
        warnings.warn(f"{path} is damaged: it is kept as {path.stem}.damaged, and the run repeated", stacklevel=4)
        path.replace(path.with_suffix(".damaged"))
    return path.exists()


def _check(function, cells, workers):
    if "<lambda>" in (name := getattr(function, "__qualname__", "<lambda>")):
        raise ValueError(f"function is {function!r}: a study is known by its function's name, so pass a plain function")
    if workers == 0 or not isinstance(workers, int) and not hasattr(workers, "get_executor"):
        raise ValueError(f"workers is {workers!r}: give a number of processes, -1 for all cores, or a Dask client")
    if not cells:
        raise ValueError("cells is empty: give at least one, e.g. study.grid(seed=range(3))")
    if other := [cell for cell in cells if list(cell) != list(cells[0])]:
        raise ValueError(f"cells name {list(cells[0])} and {list(other[0])}: give the same names in the same order")
    if len({_path("", cell) for cell in cells}) < len(cells):
        raise ValueError("cells repeat: give each cell once")
    try:
        inspect.signature(function).bind(**cells[0])
    except TypeError as error:
        raise ValueError(f"cells name {list(cells[0])}, but {name} cannot be called with them: {error}") from None


def _claim(folder, function, axes):
    """Write study.json, or check that the one in `folder` is of this function and these axes."""
    name, about = f"{function.__module__}:{function.__qualname__}".removeprefix("__main__:"), folder / "study.json"
    if not about.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_first(about, {"function": name, "axes": axes})
    known = read(about, "function", "axes")
    names = known["function"], name
    loose = "<locals>" in names[0] or not all(":" in text for text in names)  # a script's own function has no module
    same = len({text.split(":")[-1].split(".")[-1] if loose else text for text in names}) == 1
    if not same or known["axes"] != axes:
        raise ValueError(f"folder {str(folder)!r} holds another study, of {names[0]} with the axes {known['axes']}, "
                         f"not of {name} with {axes}: choose another folder")  # fmt: skip
    if "<locals>" in name and any(folder.glob("*.run.json")):
        raise ValueError(f"function is {name}, which may be another one at each call, and {str(folder)!r} has records: "
                         "define it at the top level, or choose another folder")  # fmt: skip


def _axis(text):
    """`seed=0:10` → ("seed", range(0, 10)); `lr=0.05,0.02` → ("lr", [0.05, 0.02]); words stay words."""
    name, _, values = text.partition("=")
    if not name or not values:
        raise argparse.ArgumentTypeError(f"{text!r}: write name=value,value or name=first:end, e.g. seed=0:10")
    if re.fullmatch(r"\d+:\d+", values):
        return name, range(*map(int, values.split(":")))
    plain = r"-?\d+(\.\d+)?(e[-+]?\d+)?|true|false|null"
    return name, [json.loads(word) if re.fullmatch(plain, word) else word for word in values.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 1 if a run failed, 130 if it was stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m flatlab.study", description="Carry out a grid of runs.")
    parser.add_argument("function", help="package.module:function")
    parser.add_argument("folder", help="where the records are kept")
    parser.add_argument("axes", nargs="+", type=_axis, help="name=value,value or name=first:end; the first is slowest")
    parser.add_argument("--workers", type=int, default=-1, help="processes; -1: one per core")
    parser.add_argument("--inner", type=int, default=1, help="threads per run")
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    given = vars(parser.parse_args(arguments))
    sys.path.insert(0, os.getcwd())
    try:
        given["function"], cells = resolve_name(given["function"]), grid(**dict(given.pop("axes")))
        frame = run(cells=cells, **given)
    except (ImportError, AttributeError, ValueError, RuntimeError) as error:
        parser.error(f"{error}")
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130
    failed = results(given["folder"], errors=True)
    print(f"{frame.attrs['seconds']:.0f} s of computing, {len(failed)} runs failed", file=sys.stderr)
    print(failed.to_string() if len(failed) else "", file=sys.stderr)
    return min(len(failed), 1)


if __name__ == "__main__":
    from flatlab import study  # as an imported module, so that workers can import it, too

    sys.exit(study.main())
