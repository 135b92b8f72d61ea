"""A pytest plugin for machines that must not skip: `GOAGENTS_REQUIRED=emulator,peers pytest -p tests.support.required`.

A skipped test with one of these markers fails, with the reason it was skipped for; so does a run that has none of them.
"""

import os
from collections.abc import Generator

import pytest

REQUIRED = tuple(filter(None, os.environ.get("GOAGENTS_REQUIRED", "").split(",")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marker = next((name for name in REQUIRED if item.get_closest_marker(name)), None)
    if marker and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"must not be skipped here ({marker}): {reason}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in REQUIRED if not any(item.get_closest_marker(name) for item in items)]
    if missing:
        raise pytest.UsageError(f"no test is marked {' or '.join(missing)}: nothing of what is required would run")
