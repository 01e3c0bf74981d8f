"""A reader's view, in JupyterLab in a real browser: a panel follows a key, and a notebook is saved as it is kept."""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import jupytext
import nbformat
import pytest

import lessons
import notebooks

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
KEYS = 6
PATIENCE = 600  # seconds; a safety net for a machine that stops to breathe, not a limit

# The first output that holds both a slider and a live picture; a stored picture is no `widget-image`.
PANEL = ".jp-OutputArea-output:has([role=slider]):has(img.widget-image)"

# Focuses the panel's first slider, and from then on notes how long each key takes until the changed picture is loaded.
WATCH = """panel => {
    const picture = panel.querySelector('img.widget-image');
    const slider = panel.querySelector('[role=slider]');
    slider.scrollIntoView({block: 'center'});
    slider.focus();
    window.took = [];
    let pressed = null, shown = picture.src;
    window.addEventListener('keydown', () => { pressed = performance.now(); }, true);
    picture.addEventListener('load', () => {
        if (pressed === null || picture.src === shown) return;
        window.took.push(performance.now() - pressed);
        shown = picture.src;
        pressed = null;
    });
}"""
# Every cell has a number; a cell whose code is hidden shows none.
ALL_RUN = """() => {
    const cells = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
    const prompts = cells.map(p => p.textContent).filter(p => p);
    return prompts.length > 0 && prompts.every(p => /^\\[\\d+\\]:$/.test(p));
}"""


# What a reader does: an untouched question, one that is answered by keyboard, a folded result, a panel.
LESSON = """# %% [markdown]
# # 00 · Small

# %%
import flatlab as fl
import matplotlib.pyplot as plt

# %%
untouched = fl.predictions.ask("browser.untouched", "How many?", slider=(0, 3))

# %%
moved = fl.predictions.ask("browser.moved", "And here?", slider=(0, 3))

# %% tags=["result"] jupyter={"outputs_hidden": true}
print("result")
fig, ax = plt.subplots()
ax.plot([0, 1])
fl.plots.show(fig, "a straight line that rises from zero to one")

# %%
def build(fig):
    (line,) = fig.subplots().plot([0, 1])
    return lambda a: line.set_ydata([0, a])


fl.panels.Panel(build, "a straight line whose right end follows the slider", a=[1, 2, 3]).show()
"""


@pytest.fixture
def page():
    """A page of a headless browser, which waits as long as the machine needs."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        pytest.skip("no Chromium or Chrome on this machine")
    with _playwright()() as playwright:
        with playwright.chromium.launch(executable_path=browser, args=FLAGS) as chromium:
            page = chromium.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(1000 * PATIENCE)
            yield page


def test_arrow_key_moves_the_panel(page, tmp_path, record_property):
    notebook = next(iter(sorted(lessons.NOTEBOOKS.glob("02_*.ipynb"))), None)
    if not notebook:
        pytest.skip("notebook 02 does not exist yet")
    _copy_without_outputs(notebook, tmp_path / "notebooks")
    with _jupyter(tmp_path) as server:
        page.goto(f"{server}/lab/tree/notebooks/{notebook.name}?token=flatlab")
        _run_all(page)
        times = _press(page, KEYS)
    assert len(times) == KEYS
    record_property("browser", f"{statistics.median(times):.0f} ms from key to picture (median of {KEYS} keys)")


def test_a_notebook_is_saved_as_the_repository_keeps_it(page, tmp_path, monkeypatch):
    monkeypatch.setenv("FLATLAB_HOME", str(tmp_path / "home"))
    shutil.copy(lessons.ROOT / "pyproject.toml", tmp_path)  # jupytext's settings
    path, twin = tmp_path / "notebooks" / "00_small.ipynb", tmp_path / "notebooks" / "py" / "00_small.py"
    twin.parent.mkdir(parents=True)
    nb = jupytext.reads(LESSON, fmt="py:percent")
    nb.metadata = {"kernelspec": notebooks.KERNEL}
    nbformat.write(nb, path)
    with _jupyter(tmp_path, f"--config={lessons.ROOT / 'tools' / 'jupyter_server_config.py'}") as server:
        address = f"{server}/lab/tree/notebooks/{path.name}?token=flatlab"
        page.goto(address)
        _run_all(page)
        assert page.get_by_text("a straight line that rises from zero to one").count()  # for screen readers
        page.locator("[role=slider]").nth(1).focus()
        page.keyboard.press("ArrowRight")
        page.get_by_text("kept", exact=True).wait_for()
        page.keyboard.press("Control+s")
        saved = _once(lambda: nbformat.read(path, as_version=4), lambda nb: nb.cells[1].execution_count)
        page.goto("about:blank")
        page.goto(f"{address}&reset")
        page.locator(".jp-OutputArea-output img").first.wait_for()
        assert not page.get_by_text("Error displaying widget").count()
    assert set(predictions(tmp_path)) == {"browser.moved"}  # what nobody has moved is no answer
    assert not any(lessons.WIDGET in output.get("data", {}) for cell in saved.cells[1:] for output in cell.outputs)
    assert saved.cells[4].metadata["jupyter"]["outputs_hidden"]  # running had unfolded it
    assert '"outputs_hidden": true' in twin.read_text(encoding="utf-8")


def predictions(folder):
    return json.loads((folder / "home" / "predictions.json").read_text(encoding="utf-8"))


def _once(read, ready):
    """What `read` gives as soon as it is `ready`."""
    until = time.monotonic() + PATIENCE
    while not ready(found := read()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def _copy_without_outputs(notebook, folder):
    """So that a number beside a cell, or a picture, can only come from this run."""
    nb = nbformat.read(notebook, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    folder.mkdir()
    nbformat.write(nb, folder / notebook.name)


def _playwright():
    """With a browser at hand CI must not pass without this test."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("playwright is not installed")
    return sync_playwright


def _run_all(page):
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("| Idle").wait_for()  # in the status bar: before, JupyterLab drops what is run
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ALL_RUN)


def _press(page, keys):
    """Milliseconds from each key to the changed picture."""
    panel = page.locator(PANEL).first
    panel.wait_for()
    panel.evaluate(WATCH)
    for count in range(1, keys + 1):
        page.keyboard.press("ArrowRight")
        page.wait_for_function("count => window.took.length >= count", arg=count)
    return page.evaluate("window.took")


@contextlib.contextmanager
def _jupyter(folder: Path, *options: str):
    """JupyterLab on a free port of this machine, with settings and caches of its own in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    arguments = f"--no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port={port} --ServerApp.port_retries=0"
    command = [sys.executable, "-m", "jupyterlab", *arguments.split(), *options, "--IdentityProvider.token=flatlab"]
    with open(folder / "jupyter.log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=_environment(folder), stdout=log, stderr=log)
    try:
        _wait_for(f"{server}/api/status?token=flatlab", process, folder / "jupyter.log")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _environment(folder):
    settings = {
        "notebook-extension/tracker": '{"windowingMode": "none"}',  # all cells are in the page, not only the visible
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }
    for name, text in settings.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
    }
    return {**os.environ, "FLATLAB_SCALE": "laptop", **{name: str(folder / place) for name, place in own.items()}}


def _wait_for(url, process, log):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5)
            return
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")
