"""Fixtures shared by all tests, and the count of tests that had no real data to run on."""

import os
import sys
from pathlib import Path

import pytest
import torch

REAL_DATA = "RANDOMMIX_TEST_DATA"


@pytest.fixture
def real_data(request: pytest.FixtureRequest) -> Path:
    """The folder of real recordings named by RANDOMMIX_TEST_DATA; tests that need it are counted when it is unset."""
    folder = os.environ.get(REAL_DATA)
    if not folder:
        pytest.skip(f"real data: {REAL_DATA} is not set")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"{REAL_DATA} names {path}, which is not a folder")
    return path


def _forget_lazy_modules() -> None:
    """Take away what speechbrain leaves in sys.modules: modules that fail as soon as hypothesis looks at them."""
    for name, module in list(sys.modules.items()):
        if type(module).__module__ == "speechbrain.utils.importutils":
            del sys.modules[name]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before hypothesis reads the modules that were collected; what needs a device is skipped where there is none."""
    _forget_lazy_modules()
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before each test, because hypothesis reads new modules again."""
    _forget_lazy_modules()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests lacked the real data, so that a run without it is never mistaken for a full one."""
    lacked = sum("real data:" in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if folder := os.environ.get(REAL_DATA):
        terminalreporter.write_line(f"real data: {folder}")
    else:
        terminalreporter.write_line(f"real data: {lacked} tests lacked it (set {REAL_DATA} to the folder)")
