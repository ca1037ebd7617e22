# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own selftests: what passes on the stock kernel passes on this one (``--selftests``)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import UserInputError
from common.progress import Terminal
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.kernel import source
from host_setup.provision import Provisioned, Settings
from host_setup.selftests import record
from host_setup.selftests.run import SelftestResult
from signoff.trial import Trial
from tests_e2e.support.selftests import as_on_stock, output_of, run_all


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, settings: Settings, provisioned: Provisioned, hosts_folder: Path
) -> Callable[[], list[SelftestResult]]:
    """Runs all of them, once, with progress on the terminal."""

    @functools.cache
    def run() -> list[SelftestResult]:
        hosts = provisioned.hosts
        if not isinstance(hosts, EmulatedHosts):
            raise UserInputError(
                "the kernel's own selftests may take a host down: they run on hosts of QEMU's alone",
                stage="--selftests",
                hint="leave --selftests out, or name no machine",
            )
        store = settings.store()
        tests = source.resolve(settings.kernel_source, store)
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            return run_all(hosts.spec, tests, store, Terminal(), hosts_folder)

    return run


def test_selftests_of_kvm_pass_as_on_the_stock_kernel(
    trial: Trial,
    results: Callable[[], list[SelftestResult]],
) -> None:
    """The kernel's selftests of KVM pass here as they do on the stock kernel, one by one."""
    _judge(trial, results(), "kvm")


def test_selftests_of_mm_pass_as_on_the_stock_kernel(
    trial: Trial,
    results: Callable[[], list[SelftestResult]],
) -> None:
    """The kernel's selftests of memory management that apply pass here as they do on the stock kernel, one by one."""
    _judge(trial, results(), "mm")


def _judge(trial: Trial, results: list[SelftestResult], suite: str) -> None:
    of_suite = [result for result in results if result.test.suite == suite]
    trial.attach("selftests.txt", output_of(of_suite))
    trial.legitimate(as_on_stock(of_suite, record.read()))
