# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by a guess: the kernel merges pages of equal content, and whoever holds one of them can tell."""

from __future__ import annotations

import mmap
import secrets

from common.errors import ChannelError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppet
from host_setup.channels.ssh import Ssh
from host_setup.hosts.base import Host
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Aimed, Answer, Attack
from tests_e2e.support.pagemap import merge_places

KSM = "/sys/kernel/mm/ksm"  # Documentation/admin-guide/mm/ksm.rst
SCANS = 3  # one takes note of each page, the next finds it unchanged and merges it; one may be under way
TIMEOUT = 120.0


def test_host_cannot_confirm_a_guess_of_private_page_by_ksm(attack: Attack) -> None:
    """A process of the host that guesses a private page of a guest cannot confirm that by merging with it (KSM).

    QEMU offers all memory of its guest for merging. The guess is right: where it merges, the attacker knows the page.
    """

    def probe(host: Host, pages: list[Aimed]) -> list[Answer]:
        guesses = [page.planted.content for page in pages]
        with attack.puppeteer(host) as puppeteer:
            attacker = puppeteer.spawn()
            # Each in a mapping of its own, as the kernel counts by mappings; the last is a guess at nothing.
            at = [_alone(attacker, guess) for guess in (*guesses, secrets.token_bytes(PAGE_SIZE))]
            dones = [attacker.syscall("madvise", address, PAGE_SIZE, mmap.MADV_MERGEABLE) for address in at]
            _merge(host.ssh)
            merged = merge_places(host.ssh, attacker.pid)
            looked_at = _count_scanned(host.ssh, attacker.pid)
        if looked_at < len(at):
            raise ChannelError(f"KSM has looked at {looked_at} of the attacker's {len(at)} pages")
        if at[-1] in merged:
            raise ChannelError("a page that nobody else has counts as merged")
        return [
            Answer(done, guess if address in merged else b"")
            for guess, address, done in zip(guesses, at[:-1], dones[:-1], strict=True)
        ]

    attack.all_at_once("madvise(MADV_MERGEABLE)", probe)


def _alone(attacker: Puppet, content: bytes) -> int:
    """The address of a page of the attacker's with this content, and with no other page beside it."""
    first = attacker.memory(bytes(3 * PAGE_SIZE))
    for other in (first, first + 2 * PAGE_SIZE):
        attacker.syscall("munmap", other, PAGE_SIZE).require("munmap")
    attacker.write(first + PAGE_SIZE, content)
    return first + PAGE_SIZE


def _count_scanned(ssh: Ssh, pid: int) -> int:
    """How many pages of a process KSM has taken note of."""
    counter_line = ssh.run(["grep", "^ksm_rmap_items", f"/proc/{pid}/ksm_stat"], seconds=20).require().text
    return int(counter_line.split()[1])


def _merge(ssh: Ssh) -> None:
    """Have KSM go over all memory that it may merge, often enough."""

    def scans() -> int:
        return int(ssh.run(["cat", f"{KSM}/full_scans"], seconds=20).require().text)

    begun = scans()
    start = 'cd "$0" && echo 0 > sleep_millisecs && echo 10000 > pages_to_scan && echo 1 > run'
    ssh.run(["sh", "-c", start, KSM], seconds=20).require()
    poll_until(lambda: scans() >= begun + SCANS, Deadline(TIMEOUT), f"{SCANS} scans of KSM", interval=0.1)
    ssh.run(["sh", "-c", 'echo 0 > "$0"', f"{KSM}/run"], seconds=20).require()
