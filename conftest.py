# SPDX-License-Identifier: GPL-2.0-or-later
"""Connects the machines with the sign-off: fixtures only, no logic."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from host_setup.hosts.base import Host
from host_setup.hosts.facts import facts
from host_setup.hosts.pool import HostPool
from host_setup.hosts.symbols import with_places
from host_setup.hosts.timeline import Event, timeline
from host_setup.identity import require_kernel
from host_setup.kernel.layers import Layer
from host_setup.kernel.series import Protection
from host_setup.provision import Provisioned, Settings
from signoff.record import CONFIG, LISTS, KernelIdentity, PatchIdentity, Tier
from signoff.trial import Trial
from tests_e2e.support.attack import Attack
from tests_e2e.support.extra import Among, Standing, open_registers

if TYPE_CHECKING:  # pytest loads it as a plugin, and wants to be the first to import it
    from types import ModuleType

    from signoff.plugin import Signoff

pytest_plugins = ["signoff.plugin", "host_setup.plugin"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have an error in an option name pytest, also where our own command called it."""
    parser.prog = "pytest"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With ``--dry-run`` print the plan, and run no test."""
    if not session.config.option.dry_run:
        return None
    plugins = session.config.pluginmanager
    run = cast("Signoff", plugins.get_plugin("sealproof-signoff"))
    machines = cast("ModuleType", plugins.get_plugin("host_setup.plugin"))
    machines.say_plan(session.config, Protection(run.mode), run.reports, run.forecast(session))
    return True


@pytest.fixture(scope="session")
def hosts_folder(signoff: Signoff) -> Path:
    """Where hosts leave their logs: the run's own folder."""
    return signoff.folder / "hosts"


@pytest.fixture(scope="session")
def guest_mode(signoff: Signoff) -> Protection:
    """The protection that the guest under test should have: the mode by which the run is judged."""
    return Protection(signoff.mode)


@pytest.fixture(scope="session")
def meet_host(provisioned: Provisioned, signoff: Signoff, settings: Settings) -> Callable[[Host], None]:
    """Records what is tested: the kernel, and a host that runs it."""
    kernel, made_of = provisioned.kernel, provisioned.made_of
    lists = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in made_of.lists.items()}
    signoff.identify(
        made_of={**made_of.sums, **lists},
        files={CONFIG: kernel.config.read_bytes(), **{LISTS[name]: text for name, text in made_of.lists.items()}},
    )
    if Layer.COVERAGE in settings.layers:
        signoff.problem("not a sign-off: the kernel counts how often its code runs (layer coverage)")

    def meet(host: Host) -> None:
        signoff.identify(
            kernel=KernelIdentity(
                release=kernel.release,
                build_id=kernel.build_id,
                source=kernel.source,
                config_sha256=kernel.sums["config"],
                patches=tuple(PatchIdentity(patch.name, patch.sha256) for patch in kernel.patches),
                running_build_id=require_kernel(host.ssh, kernel),
                source_sha256=kernel.source_identity,
                image_sha256=kernel.sums["image"],
                vmlinux_sha256=kernel.sums["vmlinux"],
                compiler=kernel.compiler,
            ),
            tier=Tier(host.tier),
            series=kernel.series,
            host={
                **host.identity(),
                **facts(host.ssh),
                "kernel's layers": ", ".join(settings.layers) or "none",
            },
        )

    return meet


@pytest.fixture(scope="session")
def pool(pool: HostPool, provisioned: Provisioned, signoff: Signoff) -> HostPool:
    """The hosts of the run; the run asks them which machines a probe has harmed, and what happened when."""
    signoff.inquest = pool.inquest
    signoff.symbolised = lambda text: with_places(text, provisioned.kernel.vmlinux)
    signoff.timeline = lambda begun, end, notes: timeline(
        signoff.folder, begun, end, (Event(*note) for note in notes), pool.last_words(begun)
    )
    return pool


@pytest.fixture
def host(pool: HostPool) -> Host:
    """A running host with its guests, shared by the probes that harm nothing."""
    return pool.shared_host()


@pytest.fixture(scope="session")
def _standing(pool: HostPool) -> Iterator[Standing]:
    guests = Standing(pool, open_registers)
    try:
        yield guests
    finally:
        guests.close()


@pytest.fixture
def steered_host(_standing: Standing) -> Among:
    """A host whose guests' registers QEMU may set, for the probes that do."""
    return _standing.guests()


@pytest.fixture
def host_is_known(host: Host) -> None:
    """After it the run knows the facts of its host: one is running."""


@pytest.fixture
def attack(trial: Trial, pool: HostPool) -> Attack:
    """Runs a probe on the pages under test and on the control's, and has the claim judged."""
    return Attack(pool, trial)
