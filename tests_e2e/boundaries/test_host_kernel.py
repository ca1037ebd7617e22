# SPDX-License-Identifier: GPL-2.0-or-later
"""What an attacker can do who has the host's kernel: the protection does not claim to stop him."""

from __future__ import annotations

from host_setup.channels.puppets import Puppet
from host_setup.hosts.base import Host
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Attack, Got, Target
from tests_e2e.support.attack_module import (
    DIRECT_MAP_AGAIN,
    GET_AS_KVM,
    VMAP_READ,
    VMAP_WRITE,
    attack_by_module,
    write_by_module,
)
from tests_e2e.support.direct_map import direct_map
from tests_e2e.support.tlb import attack_around_the_change, read_all_along

LOCAL_FLUSH = "/sys/module/protected_guest_mem/parameters/local_flush"


def test_module_reads_private_page_by_a_new_mapping(attack: Attack) -> None:
    """A module of the host's kernel reads a private page of a guest by mapping it anew."""

    def probe(attacker: Puppet, page: Target) -> Got:
        return Got(*attack_by_module(attacker, VMAP_READ, page.hpa, PAGE_SIZE))

    attack.by_a_process("vmap", probe)


def test_module_overwrites_private_page_by_a_new_mapping(attack: Attack) -> None:
    """A module of the host's kernel overwrites a private page of a guest by mapping it anew."""

    def probe(attacker: Puppet, page: Target) -> Got:
        done, _ = write_by_module(attacker, VMAP_WRITE, page.hpa, PATTERN)
        return Got(done, wrote=PATTERN)

    attack.by_a_process("vmap", probe)


def test_module_gets_private_page_in_the_name_of_kvm(attack: Attack) -> None:
    """A module of the host's kernel gets a private page of a guest by asking for it as KVM does."""

    def probe(qemu: Puppet, page: Target) -> Got:
        return Got(*attack_by_module(qemu, GET_AS_KVM, page.hva, PAGE_SIZE))

    attack.by_qemu("get_user_pages(FOLL_KVM)", probe)


def test_module_puts_private_page_back_into_direct_map(attack: Attack) -> None:
    """A module of the host's kernel reads a private page of a guest by putting it back into the direct map."""

    def probe(attacker: Puppet, page: Target) -> Got:
        return Got(*attack_by_module(attacker, DIRECT_MAP_AGAIN, page.hpa, PAGE_SIZE))

    attack.by_a_process("set_direct_map_default_noflush", probe)


def test_cpu_keeps_access_to_private_page_with_local_flush(attack: Attack) -> None:
    """With the RFC's flush of one CPU's TLB another CPU goes on reading a page that has become private."""
    with attack.pool.fresh() as host:
        _flush_locally(host)
        attack_around_the_change(attack, host, "reads without a break", read_all_along)


def _flush_locally(host: Host) -> None:
    """Have a host flush as the RFC did: set the boot parameter, which is read-only by now, where the kernel has it.

    A kernel without the series has no such parameter, and no private pages.
    """
    if host.ssh.run(["test", "-e", LOCAL_FLUSH], seconds=10).status != 0:
        return
    found = host.ssh.run(["grep", " local_flush$", "/proc/kallsyms"], seconds=20).require().text.split()
    at = direct_map(host.ssh).physical(int(found[0], 16))
    set_it = f"printf '\\001' | dd of=/dev/mem bs=1 seek={at} conv=notrunc status=none"
    host.ssh.run(["sh", "-c", f"{set_it} && grep -q Y {LOCAL_FLUSH}"], seconds=10).require()
