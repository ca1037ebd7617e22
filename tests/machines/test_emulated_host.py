# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated host itself, on the real thing: its death is noticed at once, and a restored one is pristine."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Iterator

import pytest

from common.errors import MachineLostError
from host_setup.emulated.host import EmulatedHost, nesting
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.hosts import kernel_log
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from host_setup.hosts.pool import HostPool
from host_setup.provision import Provisioned
from host_setup.this_machine import survey, why_not_nested

AT_ONCE = 15.0  # seconds, far below the deadlines of the calls that must end


@pytest.fixture
def doomed(provisioned: Provisioned) -> Iterator[EmulatedHost]:
    """A host that is broken on purpose: not of the run's pool, whose hosts' logs must show no trouble."""
    assert isinstance(provisioned.hosts, EmulatedHosts)
    host = provisioned.hosts.start()
    yield host
    host.close()


def test_kernel_panic_ends_a_call_at_once_with_the_reason(doomed: EmulatedHost) -> None:
    begun = time.monotonic()
    with pytest.raises(MachineLostError, match="sysrq triggered crash"):
        doomed.ssh.run(["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 300"], seconds=300)
    assert time.monotonic() - begun < AT_ONCE
    with pytest.raises(MachineLostError, match="sysrq triggered crash"):
        doomed.guest.qmp.execute("query-status")


def test_death_of_the_hosts_qemu_ends_a_call_at_once(doomed: EmulatedHost) -> None:
    doomed.ssh.run(["true"], seconds=20)
    begun = time.monotonic()
    with pytest.raises(MachineLostError, match="its QEMU ended"):
        doomed.qemu.qmp.execute("quit")
        doomed.ssh.run(["sleep", "300"], seconds=300)
    assert time.monotonic() - begun < AT_ONCE


def test_death_of_the_guests_qemu_is_noticed_and_the_host_lives_on(doomed: EmulatedHost) -> None:
    doomed.guest.watch()
    begun = time.monotonic()
    doomed.ssh.run(["kill", "-KILL", str(doomed.guest.pid)], seconds=20).require()
    with pytest.raises(MachineLostError, match=f"guest {doomed.guest.spec.name} is lost: its QEMU ended"):
        doomed.guest.ssh.run(["sleep", "300"], seconds=300)
    assert time.monotonic() - begun < AT_ONCE
    assert doomed.ssh.run(["echo", "well"], seconds=20).text == "well"


def test_guests_get_each_interrupt_once_while_all_processors_are_stopped_again_and_again(doomed: EmulatedHost) -> None:
    """Without the module ``host_tcg`` a busy guest is lost within seconds: it waits for a lock that it holds itself."""
    busy = "{ while :; do :; done & while :; do usleep 3000; done & } > /dev/null 2>&1"
    for guest in doomed.guests:
        guest.ssh.run(["sh", "-c", busy], seconds=20).require()
    before = {guest.spec.name: doomed.beats(guest.spec.name) for guest in doomed.guests}
    done = doomed.ssh.run([f"{HOST_PROGRAMS}/split_lock", "10", "1000"], seconds=60).require()
    assert json.loads(done.text)["done"] > 1000
    for guest in doomed.guests:
        assert doomed.beats(guest.spec.name) - before[guest.spec.name] > 10, guest.spec.name  # of 20
        log = guest.ssh.run(["dmesg"], seconds=20).require().text
        assert kernel_log.splats(log) == []


def test_restored_host_is_pristine_and_its_canaries_are_fresh(pool: HostPool) -> None:
    records = []
    for _ in range(2):
        with pool.fresh() as host:
            assert isinstance(host, EmulatedHost)
            assert host.started == "restored"
            assert host.ssh.run(["test", "-e", "/root/was-here"], seconds=20).status == 1
            host.ssh.run(["touch", "/root/was-here"], seconds=20).require()
            records += [canary.content for canary in host.guest.canaries.plant(secrets.token_bytes(64))]
    assert len(set(records)) == len(records) == 12


def test_canary_is_in_no_log_and_on_no_command_line(pool: HostPool) -> None:
    with pool.fresh() as host:
        assert isinstance(host, EmulatedHost)
        planted = host.guest.canaries.plant(secrets.token_bytes(64))
        needle = planted[0].content[:8].hex()
        assert needle not in repr(planted)
        commands = host.ssh.run(["sh", "-c", "cat /proc/*/cmdline | od -An -v -tx1 | tr -d ' \\n'"], seconds=20).text
        assert needle not in commands
        for log in host.qemu.console_log.parent.iterdir():
            assert needle not in log.read_text(errors="replace"), log.name


def test_qemu_knows_the_processor_s_words_and_refuses_what_kvm_does_not_give(provisioned: Provisioned) -> None:
    """Where nesting works QEMU waits to be told to go on (-S), and is ended; elsewhere it says what it lacks."""
    assert isinstance(provisioned.hosts, EmulatedHosts)
    machine = survey()
    extension = machine.processor.extension or "svm"
    qemu, cpu = provisioned.hosts.spec.rootfs.qemu, nesting("any", extension).cpu
    quiet = ("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-S")
    argv = [str(qemu), *quiet, "-machine", "pc", "-accel", "kvm", "-cpu", cpu]
    if not why_not_nested(machine):
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(argv, capture_output=True, timeout=5, check=False)
        return
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Host doesn't support requested features" in done.stderr or "KVM" in done.stderr
