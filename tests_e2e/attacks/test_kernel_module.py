# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks made by the host's kernel, by accident or not, through the addresses that it has for a guest's page."""

from __future__ import annotations

import itertools

import pytest

from host_setup.channels.puppets import Done, Puppet
from host_setup.channels.uapi import Method
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.attack_module import KGDB_READS, KGDB_WRITES, attack_by_module, write_by_module

# linux/mm_types.h: WRITE, DUMP, FORCE, NOWAIT, NOFAULT, HWPOISON, ANON, SPLIT_PMD, PCI_P2PDMA, INTERRUPTIBLE and
# HONOR_NUMA_FAULT: all that a driver may give, but for LONGTERM, which is for pins. The numbers are Linux 6.12's; the
# module knows what they are on another kernel.
FOLL_FLAGS = (*(1 << bit for bit in (0, 2, 3, 4, 5, 6, 7)), *(1 << bit for bit in (9, 10, 11, 12)))

# --- in QEMU's context, by its address


@pytest.mark.quick
def test_kernel_cannot_copy_private_page_from_user(attack: Attack) -> None:
    """A driver of the host cannot copy a private page of a guest by copy_from_user() of QEMU's address."""
    _read_in_qemu(attack, "copy_from_user", Method.COPY_FROM_USER)


def test_kernel_cannot_get_private_page_by_get_user_pages(attack: Attack) -> None:
    """A driver of the host cannot get a private page of a guest by get_user_pages(), not even with FOLL_FORCE."""
    _read_in_qemu(attack, "get_user_pages", Method.GET_USER_PAGES)


def test_kernel_cannot_get_private_page_by_any_flag_of_get_user_pages(attack: Attack) -> None:
    """No flag that get_user_pages() takes from a driver gets it a private page of a guest."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        answers = [
            Answer(*attack_by_module(qemu, Method.GET_USER_PAGES_WITH, page.hva, PAGE_SIZE, cpu=flags))
            for flags in (*FOLL_FLAGS, sum(FOLL_FLAGS))
        ]
        ends = {answer.done for answer in answers}
        sizes = itertools.accumulate(len(answer.data) for answer in answers)
        # All must end alike: else the observation has no end that a contract knows.
        return Answer(
            ends.pop() if len(ends) == 1 else Done(),
            b"".join(answer.data for answer in answers),
            cuts=tuple(sizes)[:-1],
        )

    attack.by_qemu("get_user_pages with each flag", probe)


def test_kernel_cannot_get_private_page_by_get_user_pages_fast(attack: Attack) -> None:
    """A driver of the host cannot get a private page of a guest by get_user_pages_fast()."""
    _read_in_qemu(attack, "get_user_pages_fast", Method.GET_USER_PAGES_FAST)


def test_kernel_cannot_pin_private_page_for_long(attack: Attack) -> None:
    """A driver of the host cannot pin a private page of a guest to write to it, as those for DMA do."""
    _read_in_qemu(attack, "pin_user_pages_fast", Method.PIN_USER_PAGES)


def test_kernel_cannot_read_private_page_by_access_process_vm(attack: Attack) -> None:
    """A driver of the host cannot read a private page of a guest by access_process_vm()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        done, data = attack_by_module(qemu, Method.ACCESS_VM_READ, page.hva, PAGE_SIZE)
        done.require("access_process_vm")
        return Answer(Done(returned=len(data)), data)

    attack.by_qemu("access_process_vm", probe)


def test_kernel_cannot_write_private_page_by_access_process_vm(attack: Attack) -> None:
    """A driver of the host cannot overwrite a private page of a guest by access_process_vm()."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        done, count = write_by_module(qemu, Method.ACCESS_VM_WRITE, page.hva, PATTERN)
        done.require("access_process_vm")
        return Answer(Done(returned=count), wrote=PATTERN)

    attack.by_qemu("access_process_vm", probe)


# --- in any context, where the kernel itself has all pages


@pytest.mark.quick
def test_kernel_cannot_read_private_page_by_direct_map(attack: Attack) -> None:
    """The host's kernel cannot read a private page of a guest at its address in the direct map."""
    _read(attack, "copy_from_kernel_nofault", Method.DIRECT_MAP_READ)


def test_kernel_cannot_write_private_page_by_direct_map(attack: Attack) -> None:
    """The host's kernel cannot overwrite a private page of a guest at its address in the direct map."""
    _write(attack, "__put_kernel_nofault", Method.DIRECT_MAP_WRITE)


def test_kernel_cannot_load_any_byte_of_private_page_by_direct_map(attack: Attack) -> None:
    """No byte of a private page of a guest can be loaded in the direct map, by a load of any width."""
    _read(attack, "loads of 8, 4, 2 and 1 bytes", Method.DIRECT_MAP_LOADS)


def test_kernel_cannot_read_private_page_by_kmap_local(attack: Attack) -> None:
    """The host's kernel cannot read a private page of a guest where kmap_local_page() maps it."""
    _read(attack, "kmap_local_page", Method.KMAP_LOCAL_READ)


def test_kernel_cannot_write_private_page_by_kmap_local(attack: Attack) -> None:
    """The host's kernel cannot overwrite a private page of a guest where kmap_local_page() maps it."""
    _write(attack, "kmap_local_page", Method.KMAP_LOCAL_WRITE)


def test_kernel_cannot_read_private_page_by_memremap(attack: Attack) -> None:
    """A driver of the host cannot read a private page of a guest where memremap() maps it."""
    _read(attack, "memremap", Method.MEMREMAP_READ)


def test_kernel_debugger_cannot_read_private_page(attack: Attack) -> None:
    """The kernel's debugger kgdb cannot read from a private page of a guest."""
    _read(attack, "kgdb m", Method.KGDB_READ, KGDB_READS)


def test_kernel_debugger_cannot_write_private_page(attack: Attack) -> None:
    """The kernel's debugger kgdb cannot write to a private page of a guest."""
    _write(attack, "kgdb M", Method.KGDB_WRITE, PATTERN[:KGDB_WRITES])


def _read_in_qemu(attack: Attack, call: str, method: Method) -> None:
    def probe(qemu: Puppet, page: Target) -> Answer:
        return Answer(*attack_by_module(qemu, method, page.hva, PAGE_SIZE))

    attack.by_qemu(call, probe)


def _read(attack: Attack, call: str, method: Method, size: int = PAGE_SIZE) -> None:
    def probe(attacker: Puppet, page: Target) -> Answer:
        return Answer(*attack_by_module(attacker, method, page.hpa, size))

    attack.by_a_process(call, probe)


def _write(attack: Attack, call: str, method: Method, content: bytes = PATTERN) -> None:
    def probe(attacker: Puppet, page: Target) -> Answer:
        done, _ = write_by_module(attacker, method, page.hpa, content)
        return Answer(done, wrote=content)

    attack.by_a_process(call, probe)
