# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's direct map stays whole: large mappings that a protected guest costs come back when it has gone."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from common.errors import DeadlineError
from common.waiting import Deadline, poll_until
from host_setup.channels.ssh import Ssh
from host_setup.hosts.base import Host
from host_setup.hosts.guest_spec import PLAIN, PROTECTED, GuestSpec
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.direct_map import FIRST, LAST
from tests_e2e.support.extra import BOOT, make_room
from tests_e2e.support.memory import shell
from tests_e2e.support.page_tables import READABLE, page_tables
from tests_e2e.support.tiny_vm import tiny_vm_works

SETTLES = 60.0  # seconds: what is freed may wait for a worker of the kernel
BLOCK_KIB = 2048  # of memory, which one large entry maps
FILLED = 64  # MiB that the guest uses, beside what it has used to boot


@dataclass(frozen=True, slots=True)
class Whole:
    """How the direct map is made up, KiB by the size of the entry."""

    small: int
    large: int
    huge: int

    @property
    def sizes(self) -> str:
        """The sizes in words."""
        return f"4k: {self.small} kB, 2M: {self.large} kB, 1G: {self.huge} kB"


def test_direct_map_of_the_host_is_whole_when_a_guest_has_gone(trial: Trial, host: Host, pool: HostPool) -> None:
    """Before and after a guest the direct map has the same entries; it costs one split a block at most."""
    alone = pool.shared_with_cmdline("")
    make_room(alone)
    # The first guest has the host's kernel allocate what stays, a plain one too: it is not the one that is looked at.
    specs = [PLAIN] if host.plain_guest is None else [PROTECTED, PLAIN]
    _start_and_end_guest(alone, PLAIN)
    results = [_look(alone, spec) for spec in specs]
    trial.legitimate(*results, protected=None)


def test_private_memory_comes_back_when_its_vm_has_ended(trial: Trial, host: Host, pool: HostPool) -> None:
    """When a VM for each row of tiny_vm has ended, none of the host's pages is held, nor out of its direct map."""
    tiny_vm_works(trial, host, "comes-back", on=pool.shared_with_cmdline(""), ways=["private"])


def test_nested_guest_costs_the_host_no_memory(trial: Trial, host: Host, pool: HostPool) -> None:
    """However often a guest runs a nested one, the host has as much memory left as before."""
    tiny_vm_works(trial, host, "nested-again", on=pool.shared_with_cmdline(""), ways=["private"])


def test_requests_cost_the_hosts_kernel_no_memory(trial: Trial, host: Host, pool: HostPool) -> None:
    """What the host's kernel notes for a guest's requests and for a VM is gone with them, and so is the VM."""
    alone = pool.shared_with_cmdline("")
    tiny_vm_works(trial, host, "kernels-memory", on=alone, ways=["private"])


def test_memory_cgroup_of_a_vmm_pays_for_its_guest(trial: Trial, host: Host, pool: HostPool) -> None:
    """A guest's memory, private or not, is charged to its VMM's memory cgroup, which limits it and can be removed."""
    alone = pool.shared_with_cmdline("")
    tiny_vm_works(trial, host, "group", "group-limit", on=alone, ways=["private"])


def _look(host: Host, spec: GuestSpec) -> list[Check]:
    before, flags = _whole(host.ssh), _flags(host.ssh)
    during, protected = _start_and_end_guest(host, spec)
    with contextlib.suppress(DeadlineError):  # the check below tells what it is instead
        poll_until(
            lambda: (_whole(host.ssh).sizes, _flags(host.ssh)) == (before.sizes, flags),
            Deadline(SETTLES),
            "a direct map that is whole",
            interval=1.0,
        )
    most = spec.memory * 1024 // BLOCK_KIB + 1
    split = max(during.small - before.small, 0) // BLOCK_KIB
    return [
        Check("the guest is protected", str(spec.opts_in), str(protected)),
        Check("the direct map when the guest has gone", before.sizes, _whole(host.ssh).sizes),
        Check("the flags of its entries", flags, _flags(host.ssh)),
        Check(
            f"not more than {most} large entries are split while the guest runs",
            "yes",
            "yes" if split <= most else str(split),
        ),
    ]


def _start_and_end_guest(host: Host, spec: GuestSpec) -> tuple[Whole, bool]:
    with host.extra_guest(replace(spec, name=f"passing-{spec.name}")) as guest:
        guest.wait_for_boot(1, Deadline(BOOT))
        shell(guest, f"dd if=/dev/zero of=/run/filled bs=1M count={FILLED}")
        return _whole(host.ssh), guest.protected


def _whole(ssh: Ssh) -> Whole:
    """What /proc/meminfo tells of it. /proc/vmstat has no counts of splits on this kernel."""
    lines = ssh.run(["grep", "^DirectMap", "/proc/meminfo"], seconds=20).require().text.splitlines()
    sizes = {line.split()[0].rstrip(":"): int(line.split()[1]) for line in lines}
    return Whole(sizes["DirectMap4k"], sizes["DirectMap2M"], sizes.get("DirectMap1G", 0))


def _flags(ssh: Ssh) -> str:
    """The flags of the direct map's entries, with the memory that has them: "RW PSE GLB NX: 2048 kB; ..."."""
    flags: dict[str, int] = {}
    for start, end, words in page_tables(ssh).ranges:
        if FIRST <= start <= LAST and not READABLE.isdisjoint(words):
            name = " ".join(words[:-1])  # the last one says of which level it is
            flags[name] = flags.get(name, 0) + (end - start) // 1024
    return "; ".join(f"{name}: {size} kB" for name, size in sorted(flags.items()))
