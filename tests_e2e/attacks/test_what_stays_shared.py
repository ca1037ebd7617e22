# SPDX-License-Identifier: GPL-2.0-or-later
"""A page that a guest cannot take back: its VMM has sealed the mapping (mseal()), and the host's kernel changes none.

So the host goes on seeing the page, and the guest must know: to its kernel the page stays shared, and nobody uses it
for anything else.
"""

from __future__ import annotations

from common.errors import HarmError
from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.guest import Guest, Planted
from signoff.observation import PAGE_SIZE, Canary, Check
from signoff.trial import Trial
from tests_e2e.support.attack import CONTROL, Aimed, Attack
from tests_e2e.support.loads import read
from tests_e2e.support.registers import judge_each

REFUSED = "refused"


def test_guest_does_not_use_what_it_cannot_take_back(claim: Trial, attack: Attack) -> None:
    """A page that the host does not let a guest take back stays a shared one to the guest, and is not used again."""
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:
        found = [_taken_back(puppeteer, guest) for guest in host.guests]
        judge_each(claim, host, found)


def _taken_back(puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """Have a guest take back two pages, of which its QEMU has sealed one."""
    shared = {one.planted.kind: one for one in Attack.aim(guest, [CONTROL])}
    sealed, other = shared["kernel"], shared["user"]
    _seal(puppeteer, guest, sealed)
    attacker = puppeteer.spawn()
    checks: list[Check] = []
    for what, aimed in (("a sealed page", sealed), ("another page", other)):
        stays = aimed is sealed and guest.protected
        said = _take_back(guest, aimed.planted)
        expected = REFUSED if stays else "private" if guest.protected else "plain"
        page = read(attacker, aimed.target) or b""
        leaked = Canary(aimed.planted.content).leaked(page)
        size = PAGE_SIZE if stays or not guest.protected else 0
        checks += [
            Check(f"{what} is taken back", expected, said),
            Check(f"bytes of {what} that the host reads then", str(size), str(leaked)),
        ]
    return checks


def _take_back(guest: Guest, planted: Planted) -> str:
    """What a page is when its guest has taken it back; or that the guest cannot."""
    try:
        return guest.take_back(planted)
    except HarmError:
        return REFUSED


def _seal(puppeteer: Puppeteer, guest: Guest, aimed: Aimed) -> None:
    """Have QEMU seal its mapping of a page, for as long as QEMU lives."""
    with puppeteer.inside(guest.pid) as qemu:
        qemu.syscall("mseal", aimed.target.hva, PAGE_SIZE, 0).require("mseal")
