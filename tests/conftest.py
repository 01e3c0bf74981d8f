"""What all tests share: an empty home, one thread per worker, patience, and the closing lines of a run."""

import atexit
import os
import tempfile
from pathlib import Path

pytest_plugins = ["lesson_run"]

MODULE = Path(__file__).resolve().parent.parent / "flatlab"
PATIENCE = 600  # seconds; a safety net for a machine that stops to breathe, not a limit

_home = tempfile.TemporaryDirectory()  # the reader's own predictions must neither change a test nor be changed by one
atexit.register(_home.cleanup)
os.environ["FLATLAB_HOME"] = _home.name
os.environ["FLATLAB_SCALE"] = "laptop"  # tests run what the reader runs

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers on two cores: more threads would only wait for each other. Kernels inherit both settings.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("FLATLAB_THREADS", "1")


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):  # a cell under nbval
            item.output_timeout = PATIENCE


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in ("passed", "failed", "error", "skipped") for report in _of(terminalreporter, kind)]
    terminalreporter.section("flatlab")
    for line in [*_notes(reports, "lesson"), f"browser test: {_browser(reports)}", _module_size()]:
        terminalreporter.write_line(line)


def _of(terminalreporter, kind):
    return [report for report in terminalreporter.stats.get(kind, []) if hasattr(report, "nodeid")]


def _notes(reports, name):
    """What tests have left with `record_property(name, text)`; it also travels from xdist's workers to here."""
    return sorted(text for report in reports for key, text in getattr(report, "user_properties", ()) if key == name)


def _browser(reports):
    """Whether the browser test ran, and if not, why."""
    reports = [report for report in reports if "test_browser.py::" in report.nodeid]
    if not reports:
        return "not part of this run"
    if reports[0].skipped:
        return "SKIPPED: " + reports[0].longrepr[2].removeprefix("Skipped: ")
    return "; ".join(["FAILED" if reports[0].failed else "ran", *_notes(reports, "browser")])


def _module_size():
    files = sorted(MODULE.glob("*.py"))
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    return f"the module: {lines:,} lines in {len(files)} files"
