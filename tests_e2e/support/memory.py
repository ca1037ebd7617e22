# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that a running guest is given, by a module that is plugged in."""

from __future__ import annotations

from dataclasses import replace

from common.waiting import Deadline, poll_until
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GuestSpec
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.sweep import FEW_BYTES, checks, sweep

MIB = 1 << 20
PLUGGED_MIB = 128  # the least that Linux takes: a section
PLUGGED_AT = 1 << 32  # QEMU's choice: right above 4 GiB, with less memory than that
TIMEOUT = 60.0
STATE = f"/sys/devices/system/memory/memory{PLUGGED_AT // (PLUGGED_MIB * MIB)}/state"


def with_a_place(spec: GuestSpec) -> GuestSpec:
    """The same guest with a place where memory can be plugged in."""
    return replace(spec, extra=(*spec.extra, "-m", f"slots=1,maxmem={spec.memory + 1024}M"))


def plug_in(guest: Guest) -> None:
    """Plug memory into a guest, unless it has it: it sees it and does not use any of it yet."""
    if guest.qmp.execute("query-memory-devices"):
        return
    shell(guest, "echo offline > /sys/devices/system/memory/auto_online_blocks")
    backend = {"qom-type": "memory-backend-ram", "id": "plugged", "size": PLUGGED_MIB * MIB}
    guest.qmp.execute("object-add", backend)
    guest.qmp.execute("device_add", {"driver": "pc-dimm", "id": "dimm", "memdev": "plugged"})
    poll_until(
        lambda: shell(guest, f"[ ! -e {STATE} ] || cat {STATE}") == "offline",
        Deadline(TIMEOUT),
        f"guest {guest.spec.name} to see its new memory",
        check=guest.vitals.check,
        interval=0.1,
    )


def put_in_use(guest: Guest, how: str = "online_movable") -> None:
    """Have a guest use memory that was plugged in, before any other for what a process asks for.

    :param how: ``online_kernel``: for what its kernel asks for, too.
    """
    shell(guest, f"[ $(cat {STATE}) = online ] || echo {how} > {STATE}")


def check_kept_out(host: Host, guest: Guest, keep: Trial | None = None) -> list[Check]:
    """Whether the host reads, of all pages of a guest, exactly those that the guest has shared.

    :param keep: the claim that rests on it.
    """
    return checks(sweep(host, guest, "process_vm_readv", FEW_BYTES, keep=keep), "EFAULT", physical=False)


def shell(guest: Guest, script: str) -> str:
    """What a script prints in the guest."""
    return guest.ssh.run(["sh", "-c", script], seconds=TIMEOUT).require().text
