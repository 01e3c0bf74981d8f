"""Studies survive: what stops a run, a worker or the whole study costs only the runs that were under way."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import record
import torch

from flatlab import data, records, study
from flatlab.records import Lock, path_of

HERE = {"pid": os.getpid(), "host": socket.gethostname()}
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

def dies(seed):
    time.sleep(0.2 if seed != 1 else 0)  # the others are under way when it happens
    if seed == 1:
        os._exit(3)
    return {"twice": 2 * seed}
"""


def double(seed, control="base"):
    return {"twice": 2 * seed}


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def start(tmp_path, *arguments, pause=0.4):
    """`python -m flatlab.study …` in a folder with a module `jobs`, as a process of its own."""
    (tmp_path / "jobs.py").write_text(JOB.replace("PAUSE", str(pause)))
    command = [sys.executable, "-m", "flatlab.study", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # Tests that run in the background may ignore Ctrl-C, and what they start would inherit that; a terminal's does not.
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=tmp_path, start_new_session=True, preexec_fn=listening, **pipes)


def log(tmp_path):
    path = tmp_path / "log"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
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
    cells = study.grid(seed=[10, 9], control=["wd", None, "SAM"])
    frame = study.run(double, cells, tmp_path, 1, progress=False)
    assert frame["seed"].tolist() == [9] * 3 + [10] * 3
    assert frame["control"].where(frame["control"].notna(), "none").tolist() == ["none", "SAM", "wd"] * 2


def test_a_study_goes_on_and_repeats_nothing(tmp_path):
    calls = []

    def counted(seed):
        calls.append(seed)
        return {"twice": 2 * seed}

    study.run(counted, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    frame = study.run(counted, study.grid(seed=range(4)), tmp_path, 1, progress=False)
    assert calls == [0, 1, 2, 3] and frame["twice"].tolist() == [0, 2, 4, 6]


def test_a_record_is_in_the_documented_form(tmp_path):
    """The recorded studies were written in this form: names and keys stay."""
    cell = {"seed": 0, "batch": 128, "lr": 0.05, "control": "base"}
    assert path_of(tmp_path, cell).name == "0_128_0.05_base_f0f6e291.run.json"
    assert path_of(tmp_path, cell | {"control": "SAM"}).name == "0_128_0.05_SAM_f595dba6.run.json"
    study.run(double, [{"seed": 3, "control": "aug+SAM"}], tmp_path, 1, progress=False)
    record = json.loads(path_of(tmp_path, {"seed": 3, "control": "aug+SAM"}).read_text())
    assert list(record) == ["cell", "rows", "seconds", "host"] and record["rows"] == [{"twice": 6}]
    about = json.loads((tmp_path / "study.json").read_text())
    assert about == {"function": f"{__name__}:double", "axes": ["seed", "control"]}


def test_file_names_suit_every_system(tmp_path):
    words = ['a:b\\c/d*?"<>|', "größe ☃", "x" * 300, "con", "", " .", "A", "a"]
    paths = [path_of(tmp_path, {"word": word}).name for word in words]
    assert len({name.lower() for name in paths}) == len(words)
    for name in paths:
        assert name.isascii() and len(name) < 110 and not set(name) & set('\\/:*?"<>| ')
        assert name.split(".")[0].lower() not in ("con", "nul", "aux", "prn")


def test_numbers_of_numpy_and_torch_become_plain_ones_and_nan_stays(tmp_path):
    def numbers(seed, lr):
        return {
            "a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": torch.tensor(1.5, requires_grad=True),
            "e": float("nan"), "f": np.float64("inf"), "g": None, "h": np.str_("word"),
        }  # fmt: skip

    cells = study.grid(seed=np.arange(2), lr=np.array([0.1]))
    frame = study.run(numbers, cells, tmp_path, 1, progress=False)
    assert frame[["a", "b", "d", "f"]].values.tolist() == [[0.5, 3, 1.5, float("inf")]] * 2
    assert frame["c"].tolist() == [True, True] and frame["e"].isna().all() and frame["h"].tolist() == ["word"] * 2
    again = study.run(numbers, study.grid(seed=range(2), lr=[0.1]), tmp_path, 1, progress=False)
    assert len(again) == 2 and len(names(tmp_path)) == 3  # the same cells


def test_a_failing_run_is_recorded_and_the_rest_goes_on(tmp_path):
    fail = {
        1: lambda: (_ for _ in ()).throw(FloatingPointError("the loss is NaN")), 2: lambda: sys.exit(3),
        3: lambda: torch.ones(2), 4: lambda: {"a": torch.ones(2)}, 5: lambda: {"seed": 0}, 6: lambda: {7: 1},
        7: lambda: [],
    }  # fmt: skip

    def sometimes(seed):
        return fail[seed]() if seed in fail else {"twice": 2 * seed}

    frame = study.run(sometimes, study.grid(seed=range(9)), tmp_path, 1, progress=False)
    assert frame["seed"].tolist() == [0, 8]
    errors = study.results(tmp_path, errors=True)
    assert list(errors) == ["seed", "error"] and errors["seed"].tolist() == list(range(1, 8))
    wanted = (
        "FloatingPointError: the loss is NaN", "SystemExit: 3", "it must return a dict", "as 'a'", "cell sets to 5",
        "numbers", "it must return a dict",
    )  # fmt: skip
    assert [text in error for text, error in zip(wanted, errors["error"], strict=True)] == [True] * 7
    assert "in sometimes" in records.records(tmp_path)[1]["traceback"]
    fail.clear()
    assert len(study.run(sometimes, study.grid(seed=range(9)), tmp_path, 1, progress=False)) == 2
    assert len(study.run(sometimes, study.grid(seed=range(9)), tmp_path, 1, retry=True, progress=False)) == 9


def test_a_run_in_a_process_of_its_own_has_the_threads_it_is_given(tmp_path, monkeypatch):
    monkeypatch.delenv("FLATLAB_THREADS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    before = torch.get_num_threads()

    def count(seed):
        return {"threads": torch.get_num_threads()}

    frame = study.run(count, study.grid(seed=[0]), tmp_path / "a", 1, inner=3, progress=False)
    assert frame["threads"].tolist() == [3] and torch.get_num_threads() == before


def test_an_interrupt_ends_the_study_and_leaves_no_lock(tmp_path):
    calls = []

    def interrupted(seed):
        calls.append(seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {"twice": 2 * seed}

    with pytest.raises(KeyboardInterrupt):
        study.run(interrupted, study.grid(seed=range(3)), tmp_path, 1, progress=False)
    assert len(names(tmp_path)) == 2 and not list(tmp_path.glob("*.lock"))
    study.run(interrupted, study.grid(seed=range(3)), tmp_path, 1, progress=False)
    assert calls == [0, 1, 1, 2]


def test_ctrl_c_loses_only_what_is_under_way(tmp_path):
    """In a terminal the workers receive it, too. The runs left would take far longer than any pause of this process."""
    process = start(tmp_path, "jobs:job", "out", "seed=0:20", "--workers=2", pause=1)
    wait_for(lambda: sum(line.startswith("end") for line in log(tmp_path)) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    code, text = process.wait(30), process.stdout.read()
    assert code == 130 and "the same command goes on from here" in text, text
    finished = {path.name for path in (tmp_path / "out").glob("*.run.json")}
    assert 1 <= len(finished) < 20
    assert start(tmp_path, "jobs:job", "out", "seed=0:20", "--workers=2", pause=0).wait(60) == 0
    assert len(study.results(tmp_path / "out")) == 20 and finished <= set(names(tmp_path / "out"))


def test_a_study_killed_in_mid_run_resumes_and_repeats_nothing_that_had_ended(tmp_path):
    process = start(tmp_path, "jobs:job", "out", "seed=0:8", "control=base,SAM", "--workers=2")
    wait_for(lambda: len(list((tmp_path / "out").glob("*.run.json"))) >= 3)
    process.kill()
    process.wait()
    recorded = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.run.json")}
    assert 3 <= len(recorded) < 16
    again = start(tmp_path, "jobs:job", "out", "seed=0:8", "control=base,SAM", "--workers=2")
    assert again.wait(60) == 0, again.stdout.read()
    frame = study.results(tmp_path / "out")
    assert not frame.duplicated(["seed", "control"]).any() and frame["twice"].tolist() == [
        2 * (k // 2) for k in range(16)
    ]
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == when for name, when in recorded.items())
    ended = [line for line in log(tmp_path) if line.startswith("end")]
    assert len(ended) == len(set(ended)) == 16  # also what the orphaned workers went on with ran once
    assert not list((tmp_path / "out").glob("*.lock"))
    os.killpg(process.pid, signal.SIGKILL)  # the orphans, idle by now


def test_two_studies_in_one_folder_share_the_work(tmp_path):
    both = [start(tmp_path, "jobs:job", "out", "seed=0:8", "--workers=1", pause=0.3) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    started = [line for line in log(tmp_path) if line.startswith("start")]
    assert len(started) == len(set(started)) == 8 and len(study.results(tmp_path / "out")) == 8
    assert all("0 runs failed" in process.stdout.read() for process in both)


def test_a_run_that_takes_its_worker_down_is_recorded_and_the_rest_goes_on(tmp_path):
    process = start(tmp_path, "jobs:dies", "out", "seed=0:4", "--workers=2")
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and "1 runs failed" in text, text
    assert study.results(tmp_path / "out")["seed"].tolist() == [0, 2, 3]
    errors = study.results(tmp_path / "out", errors=True)
    assert errors["seed"].tolist() == [1] and errors["error"][0].startswith("ProcessDied: 2 times")
    assert not list((tmp_path / "out").glob("*.lock"))


def test_a_function_of_a_notebook_or_script_reaches_the_workers(tmp_path):
    script = """
import os
from flatlab import study
SCALE = 3
def helper(x): return SCALE * x
def job(seed): return {"value": helper(seed), "pid": os.getpid()}
frame = study.run(job, study.grid(seed=range(4)), "out", workers=2, progress=False)
assert frame["value"].tolist() == [0, 3, 6, 9], frame
assert os.getpid() not in set(frame["pid"])
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
    assert json.loads((tmp_path / "out" / "study.json").read_text())["function"] == "job"

    def job(seed):  # the same one once it is imported from a module: its folder is not refused
        return {"value": 3 * seed, "pid": 0}

    job.__qualname__ = "job"
    assert len(study.run(job, study.grid(seed=range(5)), tmp_path / "out", 1, progress=False)) == 5


def test_the_same_code_runs_on_a_cluster(tmp_path):
    """Two worker processes; one run fails, and one takes its worker down."""
    distributed = pytest.importorskip("distributed")
    joblib = pytest.importorskip("joblib")

    def job(seed):
        time.sleep(0.2)
        if seed == 2:
            raise ValueError("no")
        if seed == 7:
            os._exit(3)
        return {"twice": 2 * seed, "pid": os.getpid()}

    options = {"processes": True, "n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options, local_directory=str(tmp_path / "dask")) as cluster:
        with distributed.Client(cluster) as client, joblib.parallel_config("dask"):
            owners = set(client.run(os.getpid).values())
            frame = study.run(job, study.grid(seed=range(8)), tmp_path / "out", progress=False)
    assert owners & set(frame["pid"]) and len(owners) == 2 and os.getpid() not in set(frame["pid"])
    assert frame["twice"].tolist() == [0, 2, 6, 8, 10, 12]
    errors = study.results(tmp_path / "out", errors=True)
    assert errors["seed"].tolist() == [2, 7] and errors["error"][0] == "ValueError: no"
    assert errors["error"][1].startswith("ProcessDied: 2 times")


def lock(tmp_path, text, age=0.0):
    """A lock of the cell seed=0, last touched `age` seconds ago."""
    held = Lock(path_of(tmp_path, {"seed": 0}))
    held.path.write_text(text)
    then = time.time() - age
    os.utime(held.path, (then, then))
    return held


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "null", json.dumps({"pid": 7, "host": "elsewhere"}), json.dumps(HERE)],
    ids=["empty", "torn", "a list", "null", "elsewhere", "here"],  # two workers must see the same names
)
def test_a_lock_counts_until_it_is_stale(tmp_path, text):
    """Also an empty or torn one, whose writer was killed in between, and one of another machine."""
    assert lock(tmp_path, text, age=records.STALE - 20).held()
    left = lock(tmp_path, text, age=records.STALE + 20)
    assert not left.held()
    with Lock(path_of(tmp_path, {"seed": 0})) as mine:
        assert mine and left.owner() == HERE | {"deaths": 1} and left.held()
        with Lock(path_of(tmp_path, {"seed": 0})) as second:
            assert not second
        assert left.held()
    assert names(tmp_path) == []


def test_a_lock_of_a_process_that_ended_counts_no_more(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not lock(tmp_path, json.dumps(HERE | {"pid": child.pid})).held()
    for pid in (0, -1, "7", None, 10**30):
        assert not lock(tmp_path, json.dumps(HERE | {"pid": pid})).held()


def test_of_two_processes_that_find_a_stale_lock_one_takes_it(tmp_path, monkeypatch):
    left = lock(tmp_path, json.dumps(HERE), age=records.STALE + 20)

    def slow(self):  # between the look and the deed another process takes the lock over
        left.path.unlink()
        left.path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
        return False

    monkeypatch.setattr(Lock, "held", slow)
    with Lock(path_of(tmp_path, {"seed": 0})) as mine:
        assert not mine
    assert left.owner() == {"pid": 1, "host": "elsewhere"} and len(names(tmp_path)) == 1


def test_a_lock_shows_that_its_owner_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BEAT", 0.02)
    with Lock(path_of(tmp_path, {"seed": 0})) as mine:
        path = next(tmp_path.glob("*.lock"))
        os.utime(path, (0, 0))
        wait_for(lambda: path.stat().st_mtime > 0, 5)
        assert mine
    assert names(tmp_path) == []


def test_waiting_for_another_study_is_calm_and_ends(tmp_path, monkeypatch):
    """A lock of another machine: nothing is dispatched while it lives, and it is taken over once it is stale."""
    naps, held = [], lock(tmp_path, json.dumps({"pid": 7, "host": "elsewhere"}))

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            os.utime(held.path, (0, 0))

    monkeypatch.setattr(study.time, "sleep", nap)
    frame = study.run(double, [{"seed": 0}, {"seed": 1}], tmp_path, 1, progress=False)
    assert naps == [study.PAUSE] * 3 and study.PAUSE >= 0.5 and frame["twice"].tolist() == [0, 2]


def test_the_first_record_stays(tmp_path):
    path = tmp_path / "a.run.json"
    assert records.write_first(path, {"a": 1}) and not records.write_first(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1} and names(tmp_path) == ["a.run.json"]


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    assert len(study.run(double, study.grid(seed=range(2)), tmp_path, 1, progress=False)) == 2
    path = path_of(tmp_path, {"seed": 0})
    assert not records.write_first(path, {"a": 2}) and json.loads(path.read_text())["rows"] == [{"twice": 0}]


def test_a_damaged_record_is_named_and_run_again(tmp_path):
    study.run(double, study.grid(seed=range(3)), tmp_path, 1, progress=False)
    for seed, text in enumerate(("", '{"cell": {"se')):
        path_of(tmp_path, {"seed": seed}).write_text(text)
    with pytest.raises(ValueError, match=r"(0_5feceb66|_)\w*\.run\.json is damaged.*start the study again"):
        study.results(tmp_path)
    with pytest.warns(UserWarning, match="damaged"):
        frame = study.run(double, study.grid(seed=range(3)), tmp_path, 1, progress=False)
    assert frame["twice"].tolist() == [0, 2, 4] and len(list(tmp_path.glob("*.damaged"))) == 2


def test_a_folder_of_another_study_is_refused_and_nothing_is_lost(tmp_path):
    study.run(double, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    before = names(tmp_path)

    def other(seed):
        return {}

    for function, cells in ((other, study.grid(seed=[0])), (double, study.grid(seed=[0], control=["a"]))):
        with pytest.raises(ValueError, match="holds another study, of .*double with the axes.*choose another folder"):
            study.run(function, cells, tmp_path, 1, progress=False)
    assert names(tmp_path) == before
    (tmp_path / "study.json").write_text("")
    with pytest.raises(ValueError, match="study.json is damaged"):
        study.run(double, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    with pytest.raises(ValueError, match="there is no study in it"):
        study.results(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no study in it"):
        study.seconds(tmp_path / "nowhere")


def test_bad_cells_and_functions_are_refused_before_anything_is_written(tmp_path):
    class Odd:
        def __call__(self, seed):
            return {}

    bad = (
        (double, [], "cells is empty"),
        (double, [{"seed": 0}, {"control": "a"}], "same names"),
        (double, [{"seed": [1]}], "numbers, strings and None"),
        (double, [{"seed": 0}, {"seed": np.int64(0)}], "cells repeat"),
        (double, [{"size": 0}], "cannot be called with"),
        (Odd(), [{"seed": 0}], "function is"),
    )
    for function, cells, message in bad:
        with pytest.raises(ValueError, match=message):
            study.run(function, cells, tmp_path / "out", 1, progress=False)
    assert not (tmp_path / "out").exists()


def test_seconds_are_those_of_the_runs(tmp_path):
    def slow(seed):
        time.sleep(0.2)
        return {}

    study.run(slow, study.grid(seed=range(2)), tmp_path, 1, progress=False)
    assert 0.4 <= study.seconds(tmp_path) < 4


def test_the_command_line_reads_axes_and_says_what_is_wrong(tmp_path):
    assert study._axis("seed=0:3") == ("seed", [0, 1, 2])
    assert study._axis("lr=0.05,1e-3") == ("lr", [0.05, 1e-3])
    assert study._axis("control=base,aug+SAM,null,true") == ("control", ["base", "aug+SAM", None, True])
    wrong = {
        ("jobs:nothing", "out", "seed=0"): "function is 'jobs:nothing'",
        ("nowhere:job", "out", "seed=0"): "No module named 'nowhere'",
        ("jobs", "out", "seed=0"): "write package.module:function",
        ("jobs:job", "out", "seed"): "write name=value,value",
        ("jobs:job", "out", "seed=3:3"): "seed is empty",
        ("jobs:job", "out", "size=3"): "cannot be called with",
    }
    for arguments, message in wrong.items():
        process = start(tmp_path, *arguments)
        text = process.communicate(timeout=60)[0]
        assert process.returncode == 2 and message in text and "Traceback" not in text, text


def test_a_recorded_study_is_read_like_a_recorded_table(tmp_path, monkeypatch):
    monkeypatch.setenv("FLATLAB_DATA", str(tmp_path))
    place = tmp_path / "recorded" / "tries"
    study.run(double, study.grid(seed=range(2)), place, 1, progress=False)
    (place.parent / "tries.json").write_text('{"rows": 2}')
    frame = data.recorded("tries")
    assert frame["twice"].tolist() == [0, 2] and frame.attrs["about"] == {"rows": 2}
    with pytest.raises(ValueError, match="there are tries"):
        data.recorded("others")


def test_a_recorded_study_says_how_much_of_its_grid_is_in(tmp_path, monkeypatch):
    calls = []

    def tries(seed, lr):
        calls.append(seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        if seed == 1:
            raise FloatingPointError
        return [{"stop": "path"}, {"stop": "end"}]

    monkeypatch.setattr(record, "FOLDER", tmp_path / "recorded")
    monkeypatch.setitem(record.STUDIES, "tries", (tries, study.grid(seed=range(3), lr=[0.1, 0.2]), "a note"))
    monkeypatch.setenv("FLATLAB_DATA", str(tmp_path))
    about = lambda: json.loads((tmp_path / "recorded" / "tries.json").read_text())  # noqa: E731
    record.study("tries", 1, describe=True)
    assert (about()["cells done"], about()["grid cells"], about()["seeds"], calls) == (0, 6, [], [])
    with pytest.raises(KeyboardInterrupt):
        record.study("tries", 1)
    assert [about()[key] for key in ("cells done", "cells failed", "rows", "seeds")] == [2, 1, 4, [0]]
    record.study("tries", 1)
    assert [about()[key] for key in ("cells done", "cells failed", "rows", "seeds")] == [4, 2, 8, [0, 2]]
    assert data.recorded("tries").attrs["about"] == about() and len(data.recorded("tries")) == 8
    path = tmp_path / "recorded" / "tries.json"
    path.write_text(path.read_text().replace('"a note"', '"of another machine"'))
    record.study("tries", 1)  # nothing was run: what the file says of the machine stays
    assert about()["protocol"] == "of another machine" and calls == [0, 0, 1, 1, 1, 2, 2]


def test_studies_that_were_killed_do_not_count_against_a_run(tmp_path):
    for _ in range(study.DEATHS + 1):
        lock(tmp_path, json.dumps(HERE | {"deaths": study.DEATHS}), age=records.STALE + 20)
        frame = study.run(double, [{"seed": 0}], tmp_path, 1, progress=False)
        assert frame["twice"].tolist() == [0] and not list(tmp_path.glob("*.lock"))
        path_of(tmp_path, {"seed": 0}).unlink()
