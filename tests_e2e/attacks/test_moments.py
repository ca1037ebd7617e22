# SPDX-License-Identifier: GPL-2.0-or-later
"""The host stands still at moments of chance, on the way from one state to another: who maps a guest's content then."""

from __future__ import annotations

from collections.abc import Callable

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_PROGRAMS
from host_setup.hosts.pool import HostPool
from signoff.trial import Trial
from tests_e2e.support.field import Field, plant_field
from tests_e2e.support.memory import shell
from tests_e2e.support.moments import checks, moments_of

LESS = 8  # MiB


def test_host_maps_no_private_content_at_moments_of_sharing(trial: Trial, pool: HostPool) -> None:
    """While pages of a guest are shared and taken back, neither kernel nor process maps what the guest keeps."""

    def begin(_: Host, guest: Guest) -> None:
        shell(guest, f"( while :; do {GUEST_PROGRAMS}/check_share; done ) > /dev/null 2>&1 &")

    _judge(trial, pool, begin)


def test_host_maps_no_private_content_at_moments_of_populating(trial: Trial, pool: HostPool) -> None:
    """While a guest gets memory from its host and fills it, neither kernel nor process maps what the guest keeps."""

    def begin(_: Host, guest: Guest) -> None:
        again = "i=0; while [ $i -lt 2 ]; do cat /run/field /run/field > /run/more$i; i=$((i + 1)); done"
        shell(guest, f"( {again} ) > /dev/null 2>&1 &")

    _judge(trial, pool, begin, mib=LESS)


def test_host_maps_no_private_content_at_moments_of_a_reset(trial: Trial, pool: HostPool) -> None:
    """While a machine is reset, neither kernel nor process maps what the guest kept: it is cleared before."""

    def begin(_: Host, guest: Guest) -> None:
        guest.qmp.execute("set-action", {"reboot": "reset"})  # our guests' QEMUs end by a reset otherwise
        guest.qmp.execute("system_reset")

    _judge(trial, pool, begin)


def test_host_maps_no_private_content_at_moments_of_a_kill(trial: Trial, pool: HostPool) -> None:
    """While QEMU dies of SIGKILL, neither kernel nor process maps what its guest kept: it is cleared before."""

    def begin(host: Host, guest: Guest) -> None:
        guest.may_end()
        shell = f"( sleep 0.05; kill -KILL {guest.pid} ) > /dev/null 2>&1 &"
        host.ssh.run(["sh", "-c", shell], seconds=20).require()

    _judge(trial, pool, begin)


def _judge(trial: Trial, pool: HostPool, begin: Callable[[Host, Guest], None], *, mib: int = 24) -> None:
    """Have something begin in each guest, and look at the host at moments of chance."""
    with pool.fresh() as host:
        private = {guest: guest.protected for guest in host.guests}  # none of them can be asked afterwards
        protected = host.guest.protected if host.plain_guest is not None else None
        fields: dict[Guest, Field] = {guest: plant_field(guest, mib) for guest in host.guests}

        def begin_in_each() -> None:
            for guest in reversed(fields):  # the one under test last: it is looked at next
                begin(host, guest)

        moments_of_each = moments_of(host, fields, begin_in_each)
    for guest, moments in moments_of_each.items():
        trial.attach(f"{guest.spec.name}.txt", "\n".join(map(str, moments)) + "\n")
    results = [checks(moments, private=private[guest]) for guest, moments in moments_of_each.items()]
    trial.legitimate(*results, protected=protected)
