# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin of the machines: the options that choose a host and a kernel, and the hosts of a run.

It knows no claim. Root ``conftest.py`` connects it with the sign-off.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from common.errors import SealproofError, SetupError
from common.failure import describe
from common.names import shell_word
from common.paths import parse_path, parse_user_path
from common.program import FAILED, end_as_by_ctrl_c, hear_how_programs_end
from common.progress import Terminal
from host_setup.disks import look
from host_setup.hosts import attach
from host_setup.hosts.base import Host
from host_setup.hosts.pool import HostPool
from host_setup.kernel import layers, series, source
from host_setup.kernel.series import Protection
from host_setup.kernel.toolchain import GCC, Toolchain, parse_compiler, parse_jobs
from host_setup.limits import mounts
from host_setup.plan import Line, plan
from host_setup.provision import EMULATORS, KINDS, Provisioned, Settings, provision

if TYPE_CHECKING:  # no name of pytest's own
    from _pytest.capture import CaptureManager

LAST = "whole_run"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that choose host and kernel."""
    group = parser.getgroup("sealproof", "sealproof: proof that a host cannot read its guests")
    group.addoption(
        "--host",
        default="auto",
        metavar="KIND",
        help=f"host under test: {', '.join(KINDS)}, or a machine of the inventory, by its name or as "
        "ssh://USER@MACHINE; auto (default): as 'make doctor' recommends",
    )
    group.addoption(
        "--emulator",
        choices=EMULATORS,
        default="qemu",
        help="what emulates an emulated host: qemu (default), an AMD machine; bochs, an Intel machine, which is slower",
    )
    group.addoption(
        "--inventory",
        type=parse_path,
        metavar="FILE",
        help="the inventory, a TOML file of machines that may be used; default: sealproof/inventory.toml below "
        "$XDG_CONFIG_HOME or ~/.config",
    )
    group.addoption(
        "--series",
        default=series.DEFAULT,
        metavar="NAME",
        help="patch series on the host's kernel: a name in host_setup/kernel/series, or a folder of yours; "
        f"default: {series.DEFAULT}",
    )
    group.addoption(
        *source.OPTIONS,
        dest="kernel_source",
        type=source.parse,
        metavar="NAME|PATH",
        help=f"{source.HELP}; several: one sign-off after the other",
    )
    group.addoption(
        "--layers",
        default=(),
        type=layers.parse_names,
        metavar="NAMES",
        help="configuration layers of the kernel beyond the base, with commas between them "
        f"({', '.join(layers.Layer)}); default: none",
    )
    group.addoption(
        "--compiler",
        default=GCC.compiler,
        type=parse_compiler,
        metavar="NAME",
        help="compiler of the kernel: gcc-13, clang (with all of LLVM's tools), clang-19, or the whole path of one; "
        f"default: {GCC.compiler}",
    )
    group.addoption(
        "--jobs",
        type=parse_jobs,
        metavar="N",
        help="parallel jobs of the kernel build; default: the number of processors plus one",
    )
    group.addoption(
        "--cache-folder",
        type=parse_user_path,
        metavar="DIR",
        help="folder for kernels and images; default: sealproof below $XDG_CACHE_HOME or ~/.cache",
    )
    group.addoption(
        "--selftests",
        action="store_true",
        help="also run the kernel's own selftests, on a kernel with their configuration layer; takes about 20 minutes",
    )
    group.addoption(
        "--keep-on-failure",
        action="store_true",
        help="after a failed test leave the host running at the end and print how to log in; Ctrl-C ends it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and have every request to end answered as Ctrl-C is: with a report."""
    end_as_by_ctrl_c()
    hear_how_programs_end()
    config.addinivalue_line("markers", f"{LAST}: judges the whole run, so it comes last")
    config.addinivalue_line(
        "markers", "quick: a first selection of attacks and legitimate paths, in seconds with a warm cache"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What judges the whole run comes last."""
    items.sort(key=lambda item: item.get_closest_marker(LAST) is not None)


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest, guest_mode: Protection) -> Settings:
    """What the user chose."""
    return settings_of(request.config, guest_mode)


def settings_of(config: pytest.Config, guest_mode: Protection) -> Settings:
    """What the user chose."""
    option = config.option
    kernel_source: Path | str | None = option.kernel_source
    chosen = {*option.layers, *([layers.Layer.SELFTESTS] if option.selftests else [])}
    ordered = tuple(layer for layer in layers.Layer if layer in chosen)
    return Settings(
        option.host,
        option.series,
        kernel_source,
        ordered,
        mode=guest_mode,
        inventory=option.inventory,
        toolchain=Toolchain(option.compiler, option.jobs),
        cache=option.cache_folder,
        emulator=option.emulator,
    )


def say_plan(config: pytest.Config, guest_mode: Protection, reports: Path, claims: str) -> None:
    """Say what a run would make, boot and lease; nothing is made.

    :param reports: where it would be kept. :param claims: what it would try, in words.
    """
    try:
        if problem := look(reports, mounts()).problem:
            raise SetupError(
                f"reports cannot be written to {reports}: {problem}",
                stage="reports",
                hint="name another folder with --reports DIR",
            )
        settings = settings_of(config, guest_mode)
        lines = plan(settings, settings.store())
    except SealproofError as error:
        pytest.exit(f"the set-up would fail: {error}", returncode=FAILED)
    out = config.get_terminal_writer()
    out.line()
    for line in ["dry run: nothing is made, booted or leased", *lines, Line("claims", claims)]:
        out.line(str(line))


@contextmanager
def set_up(folder: Path) -> Iterator[None]:
    """End the run when anything goes wrong inside, with what it is; no claim fails for it.

    :param folder: where the traceback goes.
    """
    try:
        yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:  # noqa: BLE001  also what pytest would take for a test's own end: SystemExit, a skip
        pytest.exit(f"the set-up failed: {describe(error, folder)}", returncode=FAILED)


@pytest.fixture(scope="session")
def provisioned(request: pytest.FixtureRequest, settings: Settings, hosts_folder: Path) -> Iterator[Provisioned]:
    """Kernel, images and hosts; what is missing is made now, with progress on the terminal.

    Without them no claim can be tried: the run ends with that one error, and the claims are MISS.
    """
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with set_up(hosts_folder), capture.global_and_fixture_disabled():
        result = provision(settings, settings.store(), Terminal(), hosts_folder, note=warnings.warn)
    yield result
    with capture.global_and_fixture_disabled():
        result.hosts.close()


@pytest.fixture(scope="session")
def pool(
    request: pytest.FixtureRequest, provisioned: Provisioned, meet_host: Callable[[Host], None], hosts_folder: Path
) -> Iterator[HostPool]:
    """The hosts of the run; the first one belongs to the set-up: where none starts, no claim can be tried."""
    pool = HostPool(provisioned.hosts, meet_host)
    with set_up(hosts_folder):
        try:
            pool.shared_host()
        except BaseException:
            with suppress(Exception):  # what went wrong first is what is told
                pool.close()
            raise
    try:
        yield pool
        if request.config.option.keep_on_failure and request.session.testsfailed:
            _keep(pool, request.config.pluginmanager.getplugin("capturemanager"), hosts_folder)
    finally:
        pool.close()


def _keep(pool: HostPool, capture: CaptureManager, folder: Path) -> None:
    """Let the user log in. Until then pytest keeps what is said, and the terminal, to itself."""
    capture.suspend_global_capture(in_=True)
    try:
        host = pool.shared_host()
        with attach.keep_address(host, folder):
            _wait_for_user(host, Terminal(), folder)
    finally:
        capture.resume_global_capture()


def _wait_for_user(host: Host, terminal: Terminal, folder: Path) -> None:
    terminal.say(f"\nThe host keeps running. Log in from another terminal with\n  {host.login_command()}")
    for guest in host.guest_specs:
        terminal.say(f"and to its guest '{guest.name}' with\n  {host.login_command(guest)}")
    terminal.say(f"or with ./sealproof shell --attach {shell_word(str(folder.parent))}")
    terminal.say("Ctrl-C here ends them.")
    if not sys.stdin.isatty():
        terminal.say("(there is no terminal for Ctrl-C, so it ends at once)")
        return
    try:
        # A terminal that was closed is none any more, and not everybody behind it is told (make, by ssh -t, keeps it).
        while not host.vitals.reason and sys.stdin.isatty():
            time.sleep(1)
    except KeyboardInterrupt:
        terminal.say("ended")
