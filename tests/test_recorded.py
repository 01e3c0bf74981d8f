"""What is recorded says how it was made, and a small cell made again is the recorded one."""

import json
import platform
from datetime import date

import numpy as np
import pandas as pd
import pytest
import record
import torch
from helpers import close

import flatlab as fl
from flatlab import data

NAMES = sorted(path.stem for path in (data.folder() / "recorded").glob("*.csv"))
AT_LARGE = {"seed", "stop", "reached", "diverged", "step", "factor", "fraction", "function", "targets", "samples"}


def recorded(name):
    if name not in NAMES:
        pytest.skip(f"{name} is not recorded yet")
    return data.recorded(name)


def made_here(about) -> bool:
    """Whether this machine can repeat a record to the digits: same torch, threads, architecture and instructions."""
    # Records that do not name the instructions were made with AVX2; other ones move the small measures by a per cent.
    instructions = about.get("instructions", "AVX2") == torch.backends.cpu.get_cpu_capability()
    same_torch = about["versions"]["torch"] == torch.__version__.split("+")[0]
    return instructions and same_torch and about["threads"] == 1 and platform.machine() in about["processor"]


def check(found, wanted, others, about):
    """Every number equals the recorded one, or elsewhere lies within mean ± 4 sd of the recorded seeds (`others`)."""
    columns = [c for c in found.columns if c not in AT_LARGE]
    assert len(columns) >= 8 and len(found) == len(wanted) > 0
    for column in columns:
        new, old = (np.asarray(frame[column], float) for frame in (found, wanted))
        if made_here(about):
            # The records are older than the trainer: thousands of steps in float32 amplify another order of sums, and
            # random directions were recorded from differences of losses in float32.
            rtol = 0.02 if column.startswith("random direction") else 5e-3
            np.testing.assert_allclose(new, old, rtol=rtol, err_msg=column)
        elif others["seed"].nunique() < 3:
            pytest.skip("too few seeds are recorded yet to know their spread")
        else:
            spread = 4 * others[column].std() + 1e-4 * abs(others[column].mean())
            assert (np.abs(new - others[column].mean()) <= spread).all(), (column, new, others[column].describe())


def test_an_unknown_name_lists_what_is_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=f"name is 'nothing'.*{', '.join(NAMES)}"):
        data.recorded("nothing")
    shipped = data.recorded("circles")
    monkeypatch.setenv("FLATLAB_DATA", str(tmp_path))
    assert data.recorded("circles").equals(shipped)  # a folder with photographs alone
    (tmp_path / "recorded").mkdir()
    with pytest.raises(ValueError, match="there are none"):
        data.recorded("circles")
    for name in ("moons", "apples"):
        (tmp_path / "recorded" / f"{name}.csv").write_text("seed,a\n0,1.5\n")
        (tmp_path / "recorded" / f"{name}.json").write_text('{"rows": 1}')
    with pytest.raises(ValueError, match="name is 'circles'.*there are apples, moons"):
        data.recorded("circles")
    frame = data.recorded("moons")
    assert frame.attrs["about"] == {"rows": 1} and frame.to_dict("list") == {"seed": [0], "a": [1.5]}


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    cells, calls = [{"factor": 0.1}, {"factor": 0.2}, {"factor": 0.3}], []

    def protocol(factor):
        calls.append(factor)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return pd.DataFrame({"seed": [0, 1], "value": [factor / 3, factor]})

    monkeypatch.setattr(record, "FOLDER", tmp_path / "recorded")
    monkeypatch.setitem(record.PROTOCOLS, "circles", (protocol, cells, "a note"))
    monkeypatch.setenv("FLATLAB_DATA", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        record.record("circles")
    assert len(data.recorded("circles")) == data.recorded("circles").attrs["about"]["rows"] == 2
    record.record("circles")
    frame = data.recorded("circles")
    assert calls == [0.1, 0.2, 0.2, 0.3] and frame["factor"].tolist() == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert close(frame["value"].tolist()[::2], [0.1 / 3, 0.2 / 3, 0.1], 1e-8)
    assert frame.attrs["about"]["rows"] == 6 and frame.attrs["about"]["protocol"] == "a note"
    assert sorted(path.name for path in (tmp_path / "recorded").iterdir()) == ["circles.csv", "circles.json"]


@pytest.mark.parametrize("name", record.PROTOCOLS)
def test_a_record_says_how_it_was_made(name):
    frame = recorded(name)
    about = json.loads((data.folder() / "recorded" / f"{name}.json").read_text(encoding="utf-8"))
    assert about["command"] == f"python tools/record.py {name}" and about["protocol"] == record.PROTOCOLS[name][2]
    assert {"python", "torch", "numpy", "scipy", "scikit-learn", "flatlab"} <= set(about["versions"])
    assert about["threads"] >= 1 and about["processor"] and about["wall seconds"] > 0
    assert date(2026, 1, 1) <= date.fromisoformat(about["date"]) <= date.today()
    assert about["rows"] == len(frame) and about["seeds"] == sorted(frame["seed"].unique())
    assert frame.attrs["about"] == about


@pytest.mark.parametrize("name", record.PROTOCOLS)
def test_a_record_holds_cells_of_its_grid_each_with_the_same_rows(name):
    frame, grid = recorded(name), record.PROTOCOLS[name][1]
    keys = list(grid[0])
    cells = frame.groupby(keys, sort=False)
    assert [dict(zip(keys, cell, strict=True)) for cell, _ in cells] == grid[: len(cells)]
    assert frame.attrs["about"]["grid cells"] == len(grid) and cells.size().nunique() == 1
    named = "seed", "function", "level", "stop", "epoch", "buffers"
    identity = [*keys, *(key for key in named if key in frame and key not in keys)]
    if not {"stop", "level"} & {*identity}:  # with a stop or a level, a step is a result
        identity += ["step"] * ("step" in frame)
    assert not frame.duplicated(identity).any()
    numbers = frame.select_dtypes("number")
    assert np.isfinite(numbers.where(~frame.get("diverged", pd.Series(False, frame.index)), 0.0)).all().all()


def test_circles_made_again_with_two_seeds_are_the_recorded_ones():
    frame = recorded("circles")
    cell = frame[frame["factor"] == 0.1]
    found = record.circles(0.1, seeds=2)
    for stop, rows in found.groupby("stop"):
        others = cell[cell["stop"] == stop]
        wanted = others[others["seed"] < 2]
        assert rows["seed"].tolist() == wanted["seed"].tolist() == [0, 1]
        check(rows, wanted, others, frame.attrs["about"])
        if made_here(frame.attrs["about"]):
            assert all(rows[c].tolist() == wanted[c].tolist() for c in ("step", "reached", "diverged"))


def test_random_labels_made_again_to_the_first_mark_are_the_recorded_ones():
    frame = recorded("random_labels")
    others = frame[(frame["fraction"] == 0.1) & (frame["step"] == 3_000)]
    if others.empty:
        pytest.skip("random_labels is recorded, but not yet at a fraction of 0.1")
    found, wanted = record.random_labels(0.1, seeds=2, steps=3_000), others[others["seed"] < 2]
    assert found["seed"].tolist() == wanted["seed"].tolist() and found["step"].tolist() == [3_000] * 2
    check(found, wanted, others, frame.attrs["about"])


def test_one_function_made_again_to_epoch_100_is_the_recorded_one(monkeypatch):
    frame, draw = recorded("single_objective"), fl.sharpness.random_direction
    others = frame[(frame["function"] == "sphere") & (frame["targets"] == "raw") & (frame["epoch"] <= 100)]
    # The last epoch takes 200 draws, in the record epoch 100 is not the last and takes 50: they are not compared.
    few = lambda *a, samples, **o: torch.tensor(0.0) if samples == 200 else draw(*a, samples=samples, **o)  # noqa: E731
    monkeypatch.setattr(fl.sharpness, "random_direction", few)
    found = record.single_objective(0, "sphere", "raw", epochs=100)
    wanted = others[others["seed"] == 0]
    assert found["epoch"].tolist() == wanted["epoch"].tolist() == [0, 1, 10, 100]
    drawn = [c for c in found.columns if c.startswith("random direction")]
    assert len(drawn) == len(record.RHOS) and wanted["samples"].tolist() == [50] * 4
    for epoch in (0, 1, 10, 100):
        left_out = drawn if epoch == 100 else []
        now, then, all_seeds = (f[f["epoch"] == epoch].drop(columns=left_out) for f in (found, wanted, others))
        check(now, then, all_seeds, frame.attrs["about"])
