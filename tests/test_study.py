"""Studies survive: what stops a run, a worker or the whole study costs only the runs that were under way."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import record
import torch
from filelock import FileLock

from flatlab import data, study

PATIENCE = 600  # seconds; a safety net
JOB = """
import os, sys, time
from pathlib import Path

def job(seed, control="base"):
    with open(Path(__file__).parent / "log", "a") as log:  # one short line: written at once
        log.write(f"start {seed} {control}\\n")
    time.sleep(PAUSE)
    with open(Path(__file__).parent / "log", "a") as log:
        log.write(f"end {seed} {control}\\n")
    return {"twice": 2 * seed}
"""
CALLS: list = []  # what `counted` has seen
STOP: list = []  # at which of its calls `counted` is interrupted
FAIL: dict = {}  # what `sometimes` does instead


def double(seed, control="base"):
    return {"twice": 2 * seed}


def counted(seed):
    CALLS.append(seed)
    if len(CALLS) in STOP:
        raise KeyboardInterrupt
    return {"twice": 2 * seed}


def sometimes(seed):
    return FAIL[seed]() if seed in FAIL else {"twice": 2 * seed}


def numbers(seed, lr):
    return {
        "a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": torch.tensor(1.5, requires_grad=True),
        "e": float("nan"), "f": np.float64("inf"), "g": None, "h": np.str_("word"),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def fresh():
    for kept in (CALLS, STOP, FAIL):
        kept.clear()


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def place(tmp_path, **cell):
    """The file in which a cell's record is kept, whatever the folder: its name is that of the cell."""
    study.run(double, [cell], tmp_path / "elsewhere", 1, progress=False)
    return next((tmp_path / "elsewhere").glob("*.run.json")).name


def start(tmp_path, *arguments, pause=0.4, options=()):
    """`python -m flatlab.study …` in a folder with a module `jobs`, as a process of its own."""
    (tmp_path / "jobs.py").write_text(JOB.replace("PAUSE", str(pause)))
    command = [sys.executable, *options, "-m", "flatlab.study", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # Tests that run in the background may ignore Ctrl-C, and what they start would inherit that; a terminal's does not.
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=tmp_path, start_new_session=True, preexec_fn=listening, **pipes)


def log(tmp_path):
    path = tmp_path / "log"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_grid_has_every_combination_the_first_axis_slowest():
    assert study.grid(seed=range(2), lr=(0.1, 0.2)) == [
        {"seed": 0, "lr": 0.1}, {"seed": 0, "lr": 0.2}, {"seed": 1, "lr": 0.1}, {"seed": 1, "lr": 0.2},
    ]  # fmt: skip
    for bad, message in (("base", r"control is 'base'.*control=\['base'\]"), (3, "control is 3"), ([], "is empty")):
        with pytest.raises(ValueError, match=message):
            study.grid(control=bad)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_tidy_and_in_the_order_of_the_axes(tmp_path, workers):
    def rows(control, seed):
        return [{"stop": stop, "value": seed + k} for k, stop in enumerate(("path", "end"))]

    cells = study.grid(control=["wd", "SAM"], seed=[10, 9])
    frame = study.run(rows, cells, tmp_path, workers, progress=False)
    assert list(frame) == ["control", "seed", "stop", "value"]
    assert frame["control"].tolist() == ["SAM"] * 4 + ["wd"] * 4
    assert frame["seed"].tolist() == [9, 9, 10, 10] * 2 and frame["value"].tolist() == [9, 10, 10, 11] * 2
    assert frame["stop"].tolist() == ["path", "end"] * 4
    assert len(names(tmp_path)) == 5 and "study.json" in names(tmp_path)
    assert len(study.results(tmp_path, errors=True)) == 0


def test_the_other_order_of_the_axes_is_sorted_by_the_other_first(tmp_path):
    cells = study.grid(seed=[10, 9], control=["wd", None, "", "SAM"])
    frame = study.run(double, cells, tmp_path, 1, progress=False)
    assert frame["seed"].tolist() == [9] * 4 + [10] * 4
    assert frame["control"].where(frame["control"].notna(), "none").tolist() == ["none", "", "SAM", "wd"] * 2


def test_a_table_is_as_good_as_a_list_of_rows(tmp_path):
    def table(seed):
        return pd.DataFrame({"member": [0, 1], "value": np.array([seed, 0.5], dtype="float32"), "bad": [True, False]})

    frame = study.run(table, study.grid(seed=[3, 4]), tmp_path, 1, progress=False)
    assert frame.to_dict("list") == {
        "seed": [3, 3, 4, 4], "member": [0, 1, 0, 1], "value": [3.0, 0.5, 4.0, 0.5], "bad": [True, False] * 2,
    }  # fmt: skip


def test_a_study_goes_on_and_repeats_nothing(tmp_path):
    study.run(counted, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    frame = study.run(counted, study.grid(seed=range(4)), tmp_path, 1, progress=False)
    assert CALLS == [0, 1, 2, 3] and frame["twice"].tolist() == [0, 2, 4, 6]


def test_a_record_is_in_the_documented_form(tmp_path):
    """The recorded studies were written in this form: names and keys stay."""

    def job(seed, batch, lr, control):
        return {"value": lr}

    cell = {"seed": 0, "batch": 128, "lr": 0.05, "control": "base"}
    study.run(job, [cell, cell | {"control": "SAM"}], tmp_path / "job", 1, progress=False)
    assert names(tmp_path / "job") == [
        "0_128_0.05_SAM_f595dba6.run.json", "0_128_0.05_base_f0f6e291.run.json", "study.json",
    ]  # fmt: skip
    study.run(double, [{"seed": 3, "control": "aug+SAM"}], tmp_path, 1, progress=False)
    found = json.loads(next(tmp_path.glob("3_*.run.json")).read_text())
    assert list(found) == ["cell", "rows", "seconds", "host"] and found["rows"] == [{"twice": 6}]
    about = json.loads((tmp_path / "study.json").read_text())
    assert about == {"function": f"{__name__}:double", "axes": ["seed", "control"]}


def test_file_names_suit_every_system(tmp_path):
    words = ['a:b\\c/d*?"<>|', "größe ☃", "x" * 300, "con", "", " .", "A", "a"]
    frame = study.run(double, [{"seed": 0, "control": word} for word in words], tmp_path, 1, progress=False)
    assert sorted(frame["control"]) == sorted(words)
    files = [name for name in names(tmp_path) if name != "study.json"]
    assert len({name.lower() for name in files}) == len(words)
    for name in files:
        assert name.isascii() and len(name) < 110 and not set(name) & set('\\/:*?"<>| ')
        assert name.split(".")[0].lower() not in ("con", "nul", "aux", "prn")


def test_numbers_of_numpy_and_torch_become_plain_ones_and_nan_stays(tmp_path):
    cells = study.grid(seed=np.arange(2), lr=np.array([0.1]))
    frame = study.run(numbers, cells, tmp_path, 1, progress=False)
    assert frame[["a", "b", "d", "f"]].values.tolist() == [[0.5, 3, 1.5, float("inf")]] * 2
    assert frame["c"].tolist() == [True, True] and frame["e"].isna().all() and frame["h"].tolist() == ["word"] * 2
    again = study.run(numbers, study.grid(seed=range(2), lr=[0.1]), tmp_path, 1, progress=False)
    assert len(again) == 2 and len(names(tmp_path)) == 3  # the same cells


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("not even that")


class Stern(BaseException):
    """Neither an error nor an interrupt, as of some libraries."""


def throw(error):
    raise error


def test_a_failing_run_is_recorded_and_the_rest_goes_on(tmp_path):
    kinds = [
        (lambda: throw(FloatingPointError("the loss is NaN")), "FloatingPointError: the loss is NaN"),
        (lambda: sys.exit(3), "SystemExit: 3"),
        (lambda: throw(Mute()), "Mute"),
        (lambda: throw(Stern("far away")), "Stern: far away"),
        (lambda: torch.ones(2), "it must return a dict"),
        (lambda: {"a": torch.ones(2)}, "'a' is"),
        (lambda: {"a": [1, 2]}, "numbers, strings and None"),
        (lambda: {"seed": 0}, "the cell sets"),
        (lambda: {7: 1}, "numbers"),
        (lambda: [], "it must return a dict"),
    ]
    FAIL.update({seed: action for seed, (action, _) in enumerate(kinds, start=1)})
    cells = study.grid(seed=range(len(kinds) + 2))
    assert study.run(sometimes, cells, tmp_path, 1, progress=False)["seed"].tolist() == [0, len(kinds) + 1]
    errors = study.results(tmp_path, errors=True)
    assert list(errors) == ["seed", "error"] and errors["seed"].tolist() == list(range(1, len(kinds) + 1))
    for (_, text), error in zip(kinds, errors["error"], strict=True):
        assert text in error
    assert "in sometimes" in json.loads(next(tmp_path.glob("1_*.run.json")).read_text())["traceback"]
    FAIL.clear()
    assert len(study.run(sometimes, cells, tmp_path, 1, progress=False)) == 2
    assert len(study.run(sometimes, cells, tmp_path, 1, retry=True, progress=False)) == len(cells)


def test_a_run_has_the_threads_it_is_given(tmp_path, monkeypatch):
    monkeypatch.delenv("FLATLAB_THREADS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    before = torch.get_num_threads()

    def count(seed):
        return {"threads": torch.get_num_threads()}

    frame = study.run(count, study.grid(seed=[0]), tmp_path, 1, inner=3, progress=False)
    assert frame["threads"].tolist() == [3] and torch.get_num_threads() == before


def test_an_interrupt_ends_the_study_and_leaves_no_lock(tmp_path):
    STOP.append(2)
    with pytest.raises(KeyboardInterrupt):
        study.run(counted, study.grid(seed=range(3)), tmp_path, 1, progress=False)
    assert len(names(tmp_path)) == 2 and not list(tmp_path.glob("*.lock"))
    study.run(counted, study.grid(seed=range(3)), tmp_path, 1, progress=False)
    assert CALLS == [0, 1, 1, 2]


def test_ctrl_c_loses_only_what_is_under_way(tmp_path):
    """In a terminal the workers receive it, too. The runs left would take far longer than any pause of this process."""
    process = start(tmp_path, "jobs:job", "out", "seed=0:200", "--workers=2", pause=1)
    wait_for(lambda: sum(line.startswith("end") for line in log(tmp_path)) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    code, text = process.wait(PATIENCE), process.stdout.read()
    assert code == 130 and "the same command goes on from here" in text, text
    finished = {path.name for path in (tmp_path / "out").glob("*.run.json")}
    assert 1 <= len(finished) < 200 and not list((tmp_path / "out").glob("*.lock"))
    seeds = study.results(tmp_path / "out")["seed"]
    assert start(tmp_path, "jobs:job", "out", f"seed=0:{len(finished) + 3}", "--workers=1", pause=0).wait(PATIENCE) == 0
    assert len(study.results(tmp_path / "out")) >= len(finished) + 3 and finished <= set(names(tmp_path / "out"))
    ended = [line.split()[1] for line in log(tmp_path) if line.startswith("end")]
    assert all(ended.count(str(seed)) == 1 for seed in seeds)


def test_a_study_killed_in_mid_run_resumes_and_repeats_nothing_that_had_ended(tmp_path):
    process = start(tmp_path, "jobs:job", "out", "seed=0:6", "control=base,SAM", "--workers=2")
    wait_for(lambda: len(list((tmp_path / "out").glob("*.run.json"))) >= 3)
    process.kill()
    process.wait()
    recorded = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.run.json")}
    assert 3 <= len(recorded) < 12
    again = start(
        tmp_path, "jobs:job", "out", "seed=0:6", "control=base,SAM", "--workers=1", options=["-OO"], pause=0.1
    )
    assert again.wait(PATIENCE) == 0, again.stdout.read()
    frame = study.results(tmp_path / "out")
    assert not frame.duplicated(["seed", "control"]).any()
    assert frame["twice"].tolist() == [2 * (k // 2) for k in range(12)]
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == when for name, when in recorded.items())
    ended = [line for line in log(tmp_path) if line.startswith("end")]
    assert len(ended) == len(set(ended)) == 12  # also what the orphaned workers went on with ran once
    assert not list((tmp_path / "out").glob("*.lock"))
    os.killpg(process.pid, signal.SIGKILL)  # the orphans, idle by now


def test_two_studies_in_one_folder_share_the_work(tmp_path):
    both = [start(tmp_path, "jobs:job", "out", "seed=0:8", "--workers=1", pause=0.3) for _ in range(2)]
    assert [process.wait(PATIENCE) for process in both] == [0, 0]
    started = [line for line in log(tmp_path) if line.startswith("start")]
    assert len(started) == len(set(started)) == 8 and len(study.results(tmp_path / "out")) == 8
    assert all("0 runs failed" in process.stdout.read() for process in both)


def test_kills_cost_one_run_each_and_a_run_that_takes_two_workers_down_is_recorded(tmp_path):
    """Five healthy runs lose their worker once, run 5 ends its own each time; the others are begun once."""
    marks = tmp_path / "marks"
    marks.mkdir()

    def job(seed, marks):
        mine = Path(marks, f"{seed} {os.getpid()}")
        mine.touch()
        begun = len(list(Path(marks).glob(f"{seed} *")))
        if seed == 5 and begun < 9:
            time.sleep(0.3)  # the other worker is in the middle of its run
            os._exit(3)
        if seed < 5 and begun == 1:
            time.sleep(PATIENCE)
        return {"begun": begun}

    def killer():
        for seed in range(5):
            wait_for(lambda seed=seed: list(marks.glob(f"{seed} *")))
            os.kill(int(next(marks.glob(f"{seed} *")).name.split()[1]), signal.SIGKILL)

    thread = threading.Thread(target=killer, daemon=True)
    thread.start()
    frame = study.run(job, study.grid(seed=range(10), marks=[str(marks)]), tmp_path / "out", 2, progress=False)
    thread.join()
    assert dict(zip(frame["seed"], frame["begun"], strict=True)) == {k: 1 + (k < 5) for k in range(10) if k != 5}
    errors = study.results(tmp_path / "out", errors=True)
    assert errors["seed"].tolist() == [5] and errors["error"][0].startswith("ProcessDied: 2 times")
    assert len(list(marks.glob("5 *"))) == 2 and not list((tmp_path / "out").glob("*.lock"))


def test_a_function_of_a_notebook_or_script_reaches_the_workers(tmp_path):
    script = """
import os
import torch
from flatlab import study
SCALE = 3
def helper(x): return SCALE * x
def job(seed):
    threads = torch.get_num_threads(), int(os.environ["OMP_NUM_THREADS"])
    return {"value": helper(seed), "pid": os.getpid(), "torch": threads[0], "others": threads[1]}
frame = study.run(job, study.grid(seed=range(4)), "out", workers=2, inner=3, progress=False)
assert frame["value"].tolist() == [0, 3, 6, 9], frame
assert os.getpid() not in set(frame["pid"])
assert set(frame["torch"]) == set(frame["others"]) == {3}, frame
"""
    plain = {key: value for key, value in os.environ.items() if key not in ("FLATLAB_THREADS", "PYTEST_XDIST_WORKER")}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=plain, check=True, timeout=PATIENCE)
    assert json.loads((tmp_path / "out" / "study.json").read_text())["function"] == "job"

    def job(seed):  # the same one once it is imported from a module: its folder is not refused
        return {"value": 3 * seed, "pid": 0}

    job.__qualname__ = "job"
    assert len(study.run(job, study.grid(seed=range(5)), tmp_path / "out", 1, progress=False)) == 5


CRASH = "import os, multiprocessing\nif multiprocessing.current_process().name != 'MainProcess': os._exit(3)\n"


@pytest.fixture(scope="module")
def crashing(tmp_path_factory):
    """A function of a module that ends every process that imports it, but this one."""
    folder = tmp_path_factory.mktemp("crash")
    (folder / "crashing.py").write_text(CRASH + "def job(seed):\n    return {}\n")
    sys.path.insert(0, str(folder))
    yield pytest.importorskip("crashing").job
    sys.path.remove(str(folder))


@pytest.fixture
def missing(monkeypatch):
    """A function of a module that no other process finds."""
    module = types.ModuleType("nowhere")
    monkeypatch.setitem(sys.modules, "nowhere", module)
    exec("def job(seed):\n    return {}", module.__dict__)
    return module.job


@pytest.fixture(scope="module")
def client(crashing, tmp_path_factory):
    """A cluster of two worker processes, which the runs below take down and its nannies start again."""
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    options = {"processes": True, "n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    scratch = {"local_directory": str(tmp_path_factory.mktemp("dask"))}
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        with distributed.LocalCluster(**options, **scratch) as cluster, distributed.Client(cluster) as client:
            yield client


def test_the_same_code_runs_on_a_cluster(tmp_path, client):
    """Two worker processes; one run fails, and one takes its worker down."""

    def job(seed):
        time.sleep(0.2)
        if seed == 2:
            raise ValueError("no")
        if seed == 7:
            os._exit(3)
        return {"twice": 2 * seed, "pid": os.getpid()}

    owners = set(client.run(os.getpid).values())
    frame = study.run(job, study.grid(seed=range(8)), tmp_path / "out", client, progress=False)
    assert owners & set(frame["pid"]) and len(owners) == 2 and os.getpid() not in set(frame["pid"])
    assert frame["twice"].tolist() == [0, 2, 6, 8, 10, 12]
    errors = study.results(tmp_path / "out", errors=True)
    assert errors["seed"].tolist() == [2, 7] and errors["error"][0] == "ValueError: no"
    assert errors["error"][1].startswith("ProcessDied: 2 times") and not list((tmp_path / "out").glob("*.lock"))


@pytest.mark.parametrize("workers", ["processes", "cluster"])
def test_a_module_that_workers_cannot_import_is_named(tmp_path, request, workers, missing):
    workers = -100 if workers == "processes" else request.getfixturevalue("client")
    with pytest.raises(ValueError, match="workers cannot import nowhere.*No module named 'nowhere'"):
        study.run(missing, study.grid(seed=range(3)), tmp_path, workers, progress=False)
    assert names(tmp_path) == ["study.json"]


@pytest.mark.parametrize("workers", ["processes", "cluster"])
def test_a_module_that_takes_workers_down_is_named(tmp_path, request, workers, crashing):
    workers = -100 if workers == "processes" else request.getfixturevalue("client")
    with pytest.raises(ValueError, match="workers cannot import crashing.*(TerminatedWorker|KilledWorker)"):
        study.run(crashing, study.grid(seed=range(3)), tmp_path, workers, progress=False)
    assert names(tmp_path) == ["study.json"]


def test_a_cluster_without_workers_is_not_waited_for_in_silence_nor_for_ever(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(study, "PATIENCE", 1.0)

    def job(seed):
        time.sleep(0.1)
        return {}

    def leave():
        wait_for(lambda: list(tmp_path.glob("*.run.json")))
        cluster.scale(0)

    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        thread = threading.Thread(target=leave, daemon=True)
        thread.start()
        with pytest.raises(RuntimeError, match="workers: the cluster has none"):
            with pytest.warns(UserWarning, match="waiting: the cluster has no worker"):
                study.run(job, study.grid(seed=range(500)), tmp_path, client, progress=False)
        thread.join()
    assert 1 <= len(study.results(tmp_path, errors=False).reindex(columns=["seed"])) < 500


def test_whatever_the_time_stamp_of_a_lock_only_a_living_process_keeps_it(tmp_path):
    lock = tmp_path / "out" / place(tmp_path, seed=0).replace(".json", ".lock")
    lock.parent.mkdir()
    for age in (1e6, 0, -1e6):  # left behind long ago, just now, and by a clock that is ahead
        for text in ("", "{", json.dumps({"pid": os.getpid(), "host": "elsewhere"})):
            lock.write_text(text)
            os.utime(lock, (time.time() - age,) * 2)
            frame = study.run(double, [{"seed": 0}], lock.parent, 1, progress=False)
            assert frame["twice"].tolist() == [0] and len(names(lock.parent)) == 2
            lock.with_suffix(".json").unlink()


def test_waiting_for_another_study_says_so_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "PAUSE", 0.05)
    lock = tmp_path / "out" / place(tmp_path, seed=0).replace(".json", ".lock")
    lock.parent.mkdir()
    held, began, alone = FileLock(lock, thread_local=False), time.monotonic(), []

    def release():
        wait_for(lambda: time.monotonic() > began + 3)
        alone.extend(names(lock.parent))
        held.release()

    held.acquire()
    thread = threading.Thread(target=release, daemon=True)
    thread.start()
    with pytest.warns(UserWarning, match="waiting: other processes have all runs that are left"):
        frame = study.run(double, [{"seed": 0}, {"seed": 1}], lock.parent, 1, progress=False)
    thread.join()
    assert frame["twice"].tolist() == [0, 2] and sum(name.endswith(".run.json") for name in alone) == 1


def test_studies_that_were_killed_do_not_count_against_a_run(tmp_path):
    name = place(tmp_path, seed=0)
    for _ in range(3):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name.replace(".json", ".lock")).touch()  # a killed process leaves it, and nobody holds it
        frame = study.run(double, [{"seed": 0}], tmp_path / "out", 1, progress=False)
        assert frame["twice"].tolist() == [0] and not list((tmp_path / "out").glob("*.lock"))
        (tmp_path / "out" / name).unlink()


def test_the_first_record_stays(tmp_path):
    path = tmp_path / "out" / place(tmp_path, seed=0)
    first = json.dumps({"cell": {"seed": 0}, "rows": [{"twice": -1}], "seconds": 1.0})

    def late(seed):  # another machine, on which the lock does not count, was quicker
        path.write_text(first)
        return {"twice": 2 * seed}

    assert study.run(late, [{"seed": 0}], tmp_path / "out", 1, progress=False)["twice"].tolist() == [-1]
    assert path.read_text() == first and len(names(tmp_path / "out")) == 2


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    assert len(study.run(double, study.grid(seed=range(2)), tmp_path, 1, progress=False)) == 2
    assert len(names(tmp_path)) == 3
    test_the_first_record_stays(tmp_path / "again")


def test_a_damaged_record_is_named_and_run_again(tmp_path):
    study.run(double, study.grid(seed=range(3)), tmp_path, 1, progress=False)
    for seed, text in enumerate(("", '{"cell": {"se')):
        next(tmp_path.glob(f"{seed}_*.run.json")).write_text(text)
    with pytest.raises(ValueError, match=r"\.run\.json is damaged.*start the study again"):
        study.results(tmp_path)
    with pytest.warns(UserWarning, match="damaged"):
        frame = study.run(double, study.grid(seed=range(3)), tmp_path, 1, progress=False)
    assert frame["twice"].tolist() == [0, 2, 4] and len(list(tmp_path.glob("*.damaged"))) == 2


def test_a_folder_of_another_study_is_refused_and_nothing_is_lost(tmp_path):
    study.run(double, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    before = names(tmp_path)
    for function, cells in ((counted, study.grid(seed=[0])), (double, study.grid(seed=[0], control=["a"]))):
        with pytest.raises(ValueError, match="holds another study, of .*double with the axes.*choose another folder"):
            study.run(function, cells, tmp_path, 1, progress=False)
    assert names(tmp_path) == before
    (tmp_path / "study.json").write_text("")
    with pytest.raises(ValueError, match="study.json is damaged"):
        study.run(double, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    with pytest.raises(ValueError, match="there is no study in it"):
        study.results(tmp_path / "nowhere")


def test_functions_that_share_a_name_do_not_share_records(tmp_path):
    def made(factor):
        def job(seed):
            return {"value": factor * seed}

        return job

    for first, other in ((lambda seed: {}, lambda seed: {"a": seed}), (functools.partial(double, seed=0),) * 2):
        with pytest.raises(ValueError, match="function is .*pass a plain function"):
            study.run(first, [{"seed": 0}], tmp_path / "nameless", 1, progress=False)
        with pytest.raises(ValueError, match="function is .*pass a plain function"):
            study.run(other, [{"seed": 0}], tmp_path / "nameless", 1, progress=False)
    assert not (tmp_path / "nameless").exists()
    assert study.run(made(2), study.grid(seed=[1, 2]), tmp_path, 1, progress=False)["value"].tolist() == [2, 4]
    with pytest.raises(ValueError, match="may be another one at each call.*at the top level"):
        study.run(made(3), study.grid(seed=[1, 2, 3]), tmp_path, 1, progress=False)
    job = made(2)
    job.__qualname__ = "job"  # defined at the top level, it goes on
    frame = study.run(job, study.grid(seed=[1, 2, 3]), tmp_path, 1, progress=False)
    assert frame["value"].tolist() == [2, 4, 6]


def test_bad_cells_functions_and_workers_are_refused_before_anything_is_written(tmp_path):
    class Odd:
        def __call__(self, seed):
            return {}

    bad = (
        (double, [], 1, "cells is empty"),
        (double, [{"seed": 0}, {"control": "a"}], 1, "same names"),
        (double, [{"seed": [1]}], 1, "numbers, strings and None"),
        (double, [{"seed": 0}, {"seed": np.int64(0)}], 1, "cells repeat"),
        (double, [{"size": 0}], 1, "cannot be called with"),
        (Odd(), [{"seed": 0}], 1, "function is"),
        (double, [{"seed": 0}], 0, "workers is 0"),
        (double, [{"seed": 0}], "all", "workers is 'all'"),
    )
    for function, cells, workers, message in bad:
        with pytest.raises(ValueError, match=message):
            study.run(function, cells, tmp_path / "out", workers, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_complete_study_is_read_where_nothing_can_be_written(tmp_path):
    study.run(double, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    os.utime(tmp_path, (0, 0))
    tmp_path.chmod(0o500)
    try:
        frame = study.run(double, study.grid(seed=range(2)), tmp_path, 2, progress=False)
    finally:
        tmp_path.chmod(0o700)
    assert frame["twice"].tolist() == [0, 2] and tmp_path.stat().st_mtime == 0  # root may write, and has not


def test_seconds_are_those_of_the_runs(tmp_path):
    def slow(seed):
        time.sleep(0.2)
        return {}

    study.run(slow, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    assert study.results(tmp_path).attrs["seconds"] >= 0.4
    assert study.results(tmp_path, errors=True).attrs["seconds"] >= 0.4


def test_the_command_line_reads_axes_and_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("tasks.py").write_text("def job(seed, lr, control):\n    return {'value': 1 / seed}\n")
    axes = ("seed=1:3", "lr=0.05,1e-3,2", "control=base,aug+SAM,1.2.3,null,true")
    assert study.main(["tasks:job", "out", *axes, "--workers=1"]) == 0
    cells = [json.loads(path.read_text())["cell"] for path in Path("out").glob("*.run.json")]
    wanted = study.grid(seed=[1, 2], lr=[0.05, 1e-3, 2], control=["base", "aug+SAM", "1.2.3", None, True])
    assert sorted(map(repr, cells)) == sorted(map(repr, wanted))
    assert "0 runs failed" in capsys.readouterr().err
    assert study.main(["tasks:job", "out", "seed=0:1", "lr=1", "control=a", "--workers=1"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    wrong = {
        ("tasks:nothing", "out", "seed=0"): "no attribute 'nothing'",
        ("nobody:job", "out", "seed=0"): "No module named 'nobody'",
        ("tasks", "out", "seed=0"): "pass a plain function",
        ("tasks:job", "out", "seed"): "write name=value,value",
        ("tasks:job", "out", "seed=3:3"): "seed is empty",
        ("tasks:job", "out", "size=3"): "cannot be called with",
    }
    for arguments, message in wrong.items():
        with pytest.raises(SystemExit, match="2"):
            study.main(arguments)
        assert message in capsys.readouterr().err
    sys.modules.pop("tasks")


def test_a_recorded_study_is_read_like_a_recorded_table(tmp_path, monkeypatch):
    monkeypatch.setenv("FLATLAB_DATA", str(tmp_path))
    folder = tmp_path / "recorded" / "tries"
    study.run(double, study.grid(seed=range(2)), folder, 1, progress=False)
    (folder.parent / "tries.json").write_text('{"rows": 2}')
    frame = data.recorded("tries")
    assert frame["twice"].tolist() == [0, 2] and frame.attrs["about"] == {"rows": 2}
    with pytest.raises(ValueError, match="there are tries"):
        data.recorded("others")


def tries(seed, lr):
    CALLS.append(seed)
    if len(CALLS) in STOP:
        raise KeyboardInterrupt
    if seed in FAIL:
        raise FloatingPointError
    return [{"stop": "path"}, {"stop": "end"}]


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    """tools/record.py with a small study and a small protocol; gives what NAME.json says."""
    cells = study.grid(seed=range(3), lr=[0.1, 0.2])
    monkeypatch.setattr(record, "FOLDER", tmp_path / "recorded")
    monkeypatch.setitem(record.STUDIES, "tries", (tries, cells, "a note"))
    monkeypatch.setitem(record.PROTOCOLS, "table", (tries, cells[::-1], "a note"))
    monkeypatch.setenv("FLATLAB_DATA", str(tmp_path))
    return lambda name, *keys: [json.loads((tmp_path / "recorded" / f"{name}.json").read_text())[key] for key in keys]


def test_a_recorded_study_says_how_much_of_its_grid_is_in(tmp_path, recorder):
    FAIL[1] = None
    STOP.append(4)
    keys = ("cells done", "cells failed", "rows", "seeds")
    record.study("tries", 1, describe=True)
    assert recorder("tries", "cells done", "grid cells", "seeds") == [0, 6, []] and not CALLS
    with pytest.raises(KeyboardInterrupt):
        record.study("tries", 1)
    assert recorder("tries", *keys) == [2, 1, 4, [0]]
    record.study("tries", 1)
    assert recorder("tries", *keys) == [4, 2, 8, [0, 2]]
    assert data.recorded("tries").attrs["about"]["rows"] == len(data.recorded("tries")) == 8
    path = tmp_path / "recorded" / "tries.json"
    path.write_text(path.read_text().replace('"a note"', '"of another machine"'))
    record.study("tries", 1)  # nothing was run: what the file says of the machine stays
    assert recorder("tries", "protocol") == ["of another machine"] and CALLS == [0, 0, 1, 1, 1, 2, 2]


def test_a_protocol_is_a_study_whose_rows_go_to_a_table(tmp_path, recorder):
    """It is interrupted, killed, and one of its runs fails; the table is in the order of its grid."""
    FAIL[1] = None
    STOP.append(2)
    with pytest.raises(KeyboardInterrupt):
        record.record("table")
    assert recorder("table", "rows", "grid cells") == [2, 6]
    runs = tmp_path / "recorded" / "runs" / "table"
    study.run(tries, [{"seed": 0, "lr": 0.2}], runs, 1, progress=False)  # was killed before it came to the table
    with pytest.raises(RuntimeError, match="runs failed(.|\n)*FloatingPointError"):
        record.record("table")
    frame = data.recorded("table")
    assert frame["lr"].tolist() == [0.2] * 4 + [0.1] * 4 and frame["seed"].tolist() == [2, 2, 0, 0, 2, 2, 0, 0]
    assert list(frame) == ["stop", "seed", "lr"] and len(list(runs.glob("*.run.json"))) == 2
    FAIL.clear()
    record.record("table")
    assert len(data.recorded("table")) == 12 and sorted(CALLS) == [0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert names(tmp_path / "recorded") == ["table.csv", "table.json"]
