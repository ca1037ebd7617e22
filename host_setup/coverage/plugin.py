# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin that has the counters of a run's hosts read, claim by claim.

``python -m host_setup.coverage`` alone loads it. What it leaves is no sign-off: the kernel is another one.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from common.paths import parse_path
from host_setup.coverage.collector import Collector, Image
from host_setup.coverage.counters import STAGE
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.kernel.layers import Layer
from host_setup.provision import Provisioned

FUNCTIONS = "wanted.json"
NOTES = "notes.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that says where what was counted goes."""
    parser.getgroup("sealproof").addoption(
        "--coverage-folder", type=parse_path, metavar="DIR", help="where the counters go; 'make coverage' gives it"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Watch the run, if it is one on such a kernel."""
    if config.option.coverage_folder is None or Layer.COVERAGE not in config.option.layers:
        raise pytest.UsageError(f"{STAGE}: this plugin takes --coverage-folder DIR and --layers coverage")
    config.pluginmanager.register(Watch(config.option.coverage_folder), "sealproof-coverage")


class Watch:
    """Tells the collector which claim runs, and on which hosts. :param folder: what is wanted, and where it goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._collector: Collector | None = None
        self._now = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self) -> Generator[None, object, object]:
        """The kernel and the hosts are there: from now on these are watched."""
        fixture = yield
        if isinstance(fixture, Provisioned):
            if not isinstance(fixture.hosts, EmulatedHosts):
                pytest.exit(
                    "coverage is read from outside the host: it needs one that runs in a QEMU here", returncode=2
                )
            functions = json.loads((self._folder / FUNCTIONS).read_text(encoding="utf-8"))
            self._collector = Collector(Image(fixture.kernel.vmlinux), functions, self._folder, self._note)
            self._collector.watch(fixture.hosts)
        return fixture

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """What is counted meanwhile is the claim's."""
        self._now = str(getattr(item, "originalname", None) or item.name).removeprefix("test_")
        if self._collector is not None:
            self._collector.begin()
        try:
            return (yield)
        finally:
            if self._collector is not None:
                self._collector.end(self._now)

    def _note(self, words: str) -> None:
        with (self._folder / NOTES).open("a", encoding="utf-8") as file:
            file.write(f"{self._now or 'set-up'}: {words}\n")
