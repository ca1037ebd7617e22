# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by ending a guest while its QEMU lives on, which may use that memory then: by a reset, by closing the VM.

All of the host's memory is searched afterwards, so it makes no difference where QEMU, or the host, finds a page.
"""

from __future__ import annotations

from collections.abc import Callable

from host_setup.channels.puppets import Done, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from tests_e2e.support.attack import Aimed, Answer, Attack
from tests_e2e.support.host_memory import memory_of, pages_with
from tests_e2e.support.vm_end import close_vm, reset


def test_host_has_no_copy_of_private_page_after_reset(attack: Attack) -> None:
    """When QEMU has reset the machine, no page of the host's memory holds what was a private page of its guest."""
    _nothing_left(attack, "system_reset", lambda _host, _puppeteer, guest: reset(guest))


def test_host_has_no_copy_of_private_page_after_its_vm_was_closed(attack: Attack) -> None:
    """When QEMU has closed its VM and lives on, no page of the host's memory holds what was private in it."""
    _nothing_left(attack, "close(VM)", close_vm)


def _nothing_left(attack: Attack, name: str, end: Callable[[Host, Puppeteer, Guest], Done]) -> None:
    """Have both guests end, their QEMUs live on, and all of the host's memory searched.

    :param end: ends a guest, and returns how.
    """

    def probe(host: Host, pages: list[Aimed]) -> list[Answer]:
        with attack.puppeteer(host) as puppeteer:
            done = {guest.pid: end(host, puppeteer, guest) for guest in host.guests}
            with memory_of(host) as memory:
                hits = pages_with(memory, [page.planted.content for page in pages])
        # The guest is no more, so nobody asks it what it finds.
        return [Answer(done[page.target.qemu], data, freed=True) for page, data in zip(pages, hits, strict=True)]

    attack.all_at_once(name, probe)
