# SPDX-License-Identifier: GPL-2.0-or-later
"""Connects the machines with the sign-off: fixtures only, no logic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from host_setup.hosts.base import Host
from host_setup.hosts.facts import facts
from host_setup.hosts.pool import HostPool
from host_setup.kernel.layers import Layer
from host_setup.kernel.series import Mode
from host_setup.provision import Provisioned, Settings
from signoff.record import Kernel, Patch, Tier
from signoff.trial import Trial
from tests_e2e.support.attack import Attack

if TYPE_CHECKING:  # pytest loads it as a plugin, and wants to be the first to import it
    from signoff.plugin import Signoff

pytest_plugins = ["signoff.plugin", "host_setup.plugin"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With ``--dry-run`` the plan is said, and no test runs."""
    if not session.config.option.dry_run:
        return None
    plugins = session.config.pluginmanager
    run, machines = plugins.get_plugin("sealproof-signoff"), plugins.get_plugin("host_setup.plugin")
    machines.say_plan(session.config, Mode(run.mode), run.forecast(session))
    return True


@pytest.fixture(scope="session")
def hosts_folder(signoff: Signoff) -> Path:
    """Where hosts leave their logs: the run's own folder."""
    return signoff.folder / "hosts"


@pytest.fixture(scope="session")
def guest_mode(signoff: Signoff) -> Mode:
    """How the guest under test is to be protected: the mode that the run is judged by."""
    return Mode(signoff.mode)


@pytest.fixture(scope="session")
def meet_host(provisioned: Provisioned, signoff: Signoff, settings: Settings) -> Callable[[Host], None]:
    """Puts down what is tested: the kernel, and a host that runs it."""
    kernel = provisioned.kernel
    if Layer.COVERAGE in settings.layers:
        signoff.problem("not a sign-off: the kernel counts how often its code runs (layer coverage)")
    patches = tuple(Patch(one.name, one.sha256) for one in kernel.patches)

    def meet(host: Host) -> None:
        signoff.identify(
            kernel=Kernel(kernel.release, kernel.build_id, kernel.source, provisioned.config_sha256, patches),
            tier=Tier(host.tier),
            series=kernel.series,
            host={
                **host.identity(),
                **facts(host.ssh),
                "kernel's compiler": kernel.compiler,
                "kernel's layers": ", ".join(settings.layers) or "none",
            },
        )

    return meet


@pytest.fixture(scope="session")
def pool(pool: HostPool, signoff: Signoff) -> HostPool:
    """The hosts of the run, which the run asks what a probe has harmed."""
    signoff.inquest = pool.inquest
    return pool


@pytest.fixture
def host(pool: HostPool) -> Host:
    """A running host with its guests, shared by the probes that harm nothing."""
    return pool.shared()


@pytest.fixture
def attack(claim: Trial, pool: HostPool) -> Attack:
    """Runs a probe on the pages under test and on the control's, and has the claim judged."""
    return Attack(pool, claim)
