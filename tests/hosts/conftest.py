# SPDX-License-Identifier: GPL-2.0-or-later
"""One stand-in for all cases; after each it must run its own kernel, with each file as it was and none of ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.errors import SealproofError
from common.paths import cache_root
from common.progress import Terminal
from common.store import Store
from guest_images.keys import keys
from host_setup.provision import Settings
from tests.hosts.bench import Bench, make
from tests.hosts.standin.machine import installed_disk
from tests.hosts.table import CASE, SAID, table

SHOWN = 20  # lines of what is not as it was


@pytest.fixture(scope="session")
def logs(request: pytest.FixtureRequest) -> Path:
    """Where consoles and reports stay."""
    reports = request.config.rootpath / request.config.option.reports
    folder: Path = reports / f"hosts-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="package")
def shared_bench(request: pytest.FixtureRequest, settings: Settings, logs: Path) -> Iterator[Bench]:
    """The stand-in that runs, with a kernel to try on it."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        terminal, store = Terminal(), Store(cache_root())
        disk_image = make(
            settings, store, terminal, lambda: installed_disk(store, keys(store), terminal, logs / "install")
        )
        bench = Bench(disk_image, terminal, logs)
    yield bench
    bench.close()


@pytest.fixture
def bench(request: pytest.FixtureRequest, shared_bench: Bench, logs: Path) -> Iterator[Bench]:
    """The stand-in, which must be as it was after the case; if it is not, the next one gets another."""
    yield shared_bench
    try:
        changed = shared_bench.changed()
        answer = ""
    except SealproofError as error:
        changed, answer = ["it does not answer"], f"\n{error}"
    if changed:
        more = f"\nand {len(changed) - SHOWN} lines more" if len(changed) > SHOWN else ""
        difference = "the machine is not as it was:\n" + "\n".join(changed[:SHOWN]) + more + answer
        # At once: whoever interrupts the boot of the next machine is to find it.
        (logs / f"{request.node.name}.changed").write_text("\n".join(changed) + answer + "\n", encoding="utf-8")
    if changed or request.node.stash.get(FAILED, False):
        try:
            shared_bench.renew(keep_disk=request.config.option.keep_on_failure)
        except SealproofError as error:
            warnings.warn(f"no other stand-in: {error}", stacklevel=1)
    if changed:
        pytest.fail(difference, pytrace=False)


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Puts words into the table's last column."""
    return lambda words: record_property(SAID, words)


@pytest.fixture(autouse=True)
def _name_case(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """The table calls a case what its docstring says."""
    words = (request.function.__doc__ or request.node.name).splitlines()[0]
    values = getattr(request.node, "callspec", None)
    if values is not None:
        words = words.replace("...", values.id) if "..." in words else f"{words.rstrip('.')} ({values.id})"
    record_property(CASE, words.rstrip("."))


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a case failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, case by case."""
    lines = table(terminalreporter.stats)
    if lines:
        terminalreporter.section("hosts")
        for line in lines:
            terminalreporter.write_line(line)
