"""A pytest plugin that writes the events of `go test -json`, one file of tests being a package, for tools/testsum.

It is loaded by `-p testevents`; `--events` names the file,
`--events-of` what stands in front of the names of test files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    group = parser.getgroup("events")
    group.addoption("--events", required=True, help="file, or descriptor's number, that events are written to")
    group.addoption("--events-of", default="", help="what stands in front of the names of test files")


def pytest_configure(config: pytest.Config) -> None:
    """Start to listen."""
    target = config.getoption("--events")
    out = open(int(target) if target.isdigit() else target, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
    config.pluginmanager.register(Events(out, config.getoption("--events-of")), "events")


class Events:
    """Writes what happens, and at the end how each file fared."""

    def __init__(self, out: TextIO, prefix: str) -> None:
        self._out = out
        self._prefix = prefix
        self._seconds: dict[str, float] = {}
        self._bad: set[str] = set()
        self._ended: set[str] = set()

    def _write(self, action: str, package: str, **more: object) -> None:
        self._out.write(json.dumps({"Action": action, "Package": self._prefix + package, **more}) + "\n")

    def _say(self, package: str, test: str, text: str) -> None:
        for line in text.splitlines():
            self._write("output", package, Test=test, Output=line + "\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one phase of a test: it passes by its call alone, and fails or is skipped by any."""
        package, _, test = report.nodeid.partition("::")
        self._seconds[package] = self._seconds.get(package, 0.0) + report.duration
        # A test of which call and teardown fail is one failure, and one that was skipped has a teardown, too.
        first = report.nodeid not in self._ended
        if report.failed:
            self._bad.add(package)
            self._say(package, test, report.longreprtext)
            for name, text in report.sections:
                self._say(package, test, f"{name}:\n{text}")
            if first:
                self._end("fail", report)
        elif report.skipped and first:
            self._end("skip", report)
        elif report.when == "teardown" and first:
            self._end("pass", report)

    def _end(self, action: str, report: pytest.TestReport) -> None:
        self._ended.add(report.nodeid)
        package, _, test = report.nodeid.partition("::")
        self._write(action, package, Test=test, Elapsed=round(report.duration, 2))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take a file that could not be loaded, or asked to be skipped whole."""
        package = report.nodeid.partition("::")[0]
        if report.failed:
            self._seconds.setdefault(package, 0.0)
            self._bad.add(package)
            self._say(package, "", report.longreprtext)
        elif report.skipped:
            self._write("skip", package, Test="(the whole file)")

    def pytest_sessionfinish(self) -> None:
        """Say how each file fared."""
        for package, seconds in self._seconds.items():
            self._write("fail" if package in self._bad else "pass", package, Elapsed=round(seconds, 2))
        self._out.flush()
