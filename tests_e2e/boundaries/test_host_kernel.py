# SPDX-License-Identifier: GPL-2.0-or-later
"""What an attacker can do who has the host's kernel: the protection does not claim to stop him."""

from __future__ import annotations

from host_setup.channels.puppets import Puppet
from host_setup.channels.uapi import Method
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.attack_module import attack_by_module, write_by_module


def test_module_reads_private_page_by_a_new_mapping(attack: Attack) -> None:
    """A module of the host's kernel reads a private page of a guest by mapping it anew."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        return Answer(*attack_by_module(attacker, Method.VMAP_READ, page.hpa, PAGE_SIZE))

    attack.by_a_process("vmap", probe)


def test_module_overwrites_private_page_by_a_new_mapping(attack: Attack) -> None:
    """A module of the host's kernel overwrites a private page of a guest by mapping it anew."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        done, _ = write_by_module(attacker, Method.VMAP_WRITE, page.hpa, PATTERN)
        return Answer(done, wrote=PATTERN)

    attack.by_a_process("vmap", probe)


def test_module_gets_private_page_in_the_name_of_kvm(attack: Attack) -> None:
    """A module of the host's kernel gets a private page of a guest by asking for it as KVM does."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        return Answer(*attack_by_module(qemu, Method.GET_AS_KVM, page.hva, PAGE_SIZE))

    attack.by_qemu("get_user_pages(FOLL_KVM)", probe)


def test_module_puts_private_page_back_into_direct_map(attack: Attack) -> None:
    """A module of the host's kernel reads a private page of a guest by putting it back into the direct map."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        return Answer(*attack_by_module(attacker, Method.DIRECT_MAP_AGAIN, page.hpa, PAGE_SIZE))

    attack.by_a_process("set_direct_map_default_noflush", probe)
