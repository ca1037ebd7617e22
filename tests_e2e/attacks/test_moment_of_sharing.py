# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host sees of a page in the moment in which the guest shares it: nothing of what was there before.

A guest's kernel clears memory that it shares; that has to be before the host can see the page. So QEMU stops between
KVM's work and the guest's next instruction (``stops``), and the page is read meanwhile. The module that shares a canary
puts its content back afterwards, so that the same read then brings it.
"""

from __future__ import annotations

from common.errors import ChannelError
from common.threads import workers
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Aimed, Attack
from tests_e2e.support.each import on_each
from tests_e2e.support.loads import read
from tests_e2e.support.registers import judge_each
from tests_e2e.support.stops import goes_on, is_stopped, stops_when_it_shares

TIMEOUT = 30.0  # for a guest to share a page, while its QEMU stops now and then


def test_host_sees_no_old_content_at_the_moment_of_sharing(trial: Trial, attack: Attack) -> None:
    """When KVM has just shared a page, and the guest has not run on yet, the host sees none of the page's old bytes."""
    host = attack.host
    with attack.puppeteer(host) as puppeteer:
        attacker = puppeteer.spawn()
        results = on_each(host.guests, lambda guest: _look(host, attacker, guest))
    judge_each(trial, host, results)


def _look(host: Host, attacker: Puppet, guest: Guest) -> list[Check]:
    checks: list[Check] = []
    for aimed in Attack.aim(guest, [UNDER_TEST]):
        canary, kind = Canary(aimed.planted.content), aimed.planted.kind
        private = aimed.planted.state == State.PRIVATE
        before = read(attacker, aimed.target)
        try:
            now = _as_it_is_shared(host, attacker, guest, aimed) if private else before
            later = read(attacker, aimed.target)
        finally:
            if private:  # others attack the page next
                guest.canaries.take_back(aimed.planted)
        size, none = str(PAGE_SIZE), "0" if private else str(PAGE_SIZE)
        checks += [
            Check(f"the {kind} page can be read before", "no" if private else "yes", "no" if before is None else "yes"),
            Check(f"its bytes that the {kind} page shows in the moment", none, str(canary.count_leaked(now or b""))),
            Check(f"its bytes that the {kind} page shows afterwards", size, str(canary.count_leaked(later or b""))),
        ]
    return checks


def _as_it_is_shared(host: Host, attacker: Puppet, guest: Guest, aimed: Aimed) -> bytes:
    """The page at the first stop of the guest's QEMU at which it can be read.

    :raises ChannelError: there was no such stop.
    """
    contents: list[bytes] = []

    with stops_when_it_shares(attacker), workers(1) as asker:
        request = asker.submit(guest.canaries.share, aimed.planted)

        def is_done() -> bool:
            if is_stopped(host.ssh, guest.pid):
                page = read(attacker, aimed.target)
                if page is not None:
                    contents.append(page)
                goes_on(attacker, guest.pid)
            return request.done()

        poll_until(is_done, Deadline(TIMEOUT), f"guest {guest.spec.name} to share a page", interval=0.02)
        request.result()
    if not contents:
        raise ChannelError(f"QEMU {guest.pid} did not stop when its guest shared the page at {aimed.target.gpa:#x}")
    return contents[0]
