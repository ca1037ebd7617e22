# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks made by the host's kernel, by accident or not, through the addresses that it has for a guest's page."""

from __future__ import annotations

from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Attack, Got, Target
from tests_e2e.support.attack_module import COPY_FROM_USER, DIRECT_MAP_READ, attack_by_module


def test_kernel_cannot_copy_private_page_from_user(attack: Attack) -> None:
    """A driver of the host cannot copy a private page of a guest by copy_from_user() of QEMU's address."""

    def probe(qemu: Puppet, page: Target) -> Got:
        return Got(*attack_by_module(qemu, COPY_FROM_USER, page.hva, PAGE_SIZE))

    attack.by_qemu("copy_from_user", probe)


def test_kernel_cannot_read_private_page_by_direct_map(attack: Attack) -> None:
    """The host's kernel cannot read a private page of a guest at its address in the direct map."""

    def probe(attacker: Puppet, page: Target) -> Got:
        return Got(*attack_by_module(attacker, DIRECT_MAP_READ, page.hpa, PAGE_SIZE))

    attack.by_a_process("copy_from_kernel_nofault", probe)
