# SPDX-License-Identifier: GPL-2.0-or-later
"""A page that a guest cannot take back: its VMM has sealed the mapping (mseal()), and the host's kernel changes none.

So the host goes on seeing the page, and the guest must know: to its kernel the page stays shared, and nobody uses it
for anything else. A guest that is to start another kernel takes all back before, and stops where there is such a page.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from common.errors import HarmError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.canaries import Planted
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GuestSpec
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Canary, Check
from signoff.trial import Trial
from tests_e2e.support.attack import CONTROL, Aimed, Attack
from tests_e2e.support.each import on_each, on_each_at_once
from tests_e2e.support.extra import BOOT, standing
from tests_e2e.support.kexec import kexec, with_its_kernel
from tests_e2e.support.loads import read
from tests_e2e.support.registers import judge_each

REFUSED = "refused"
PANIC = "Kernel panic - not syncing: "
KEXEC_REFUSAL = (
    "kvm-guest: the host holds memory that was shared: no kexec"  # arch/x86/kernel/kvm_protected.c of the series
)


def test_guest_does_not_use_what_it_cannot_take_back(trial: Trial, attack: Attack) -> None:
    """A page that the host does not let a guest take back stays a shared one to the guest, and is not used again."""
    with attack.pool.fresh() as host, attack.puppeteer(host) as puppeteer:
        results = on_each(host.guests, lambda guest: _take_pages_back(puppeteer, guest))
        judge_each(trial, host, results)


def _take_pages_back(puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """Have a guest take back two pages, of which its QEMU has sealed one."""
    shared = {aim.planted.kind: aim for aim in Attack.aim(guest, [CONTROL])}
    sealed, other = shared["kernel"], shared["user"]
    _seal(puppeteer, guest, sealed)
    attacker = puppeteer.spawn()
    checks: list[Check] = []
    for label, aimed in (("a sealed page", sealed), ("another page", other)):
        stays = aimed is sealed and guest.protected
        answer = _take_back(guest, aimed.planted)
        expected = REFUSED if stays else "private" if guest.protected else "plain"
        page = read(attacker, aimed.target) or b""
        leaked = Canary(aimed.planted.content).count_leaked(page)
        size = PAGE_SIZE if stays or not guest.protected else 0
        checks += [
            Check(f"{label} is taken back", expected, answer),
            Check(f"bytes of {label} that the host reads then", str(size), str(leaked)),
        ]
    return checks


def _take_back(guest: Guest, planted: Planted) -> str:
    """What a page is when its guest has taken it back; or that the guest cannot."""
    try:
        return guest.canaries.take_back(planted)
    except HarmError:
        return REFUSED


def _seal(puppeteer: Puppeteer, guest: Guest, aimed: Aimed) -> None:
    """Have QEMU seal its mapping of a page, for as long as QEMU lives; a kernel before Linux 6.10 cannot."""
    with puppeteer.inside(guest.pid) as qemu:
        done = qemu.syscall("mseal", aimed.target.hva, PAGE_SIZE, 0)
    # A guest answers no question while its QEMU is held.
    if guest.protected or done.errno != "ENOSYS":
        done.require("mseal")


def test_guest_starts_no_kernel_by_kexec_if_memory_stays_shared(trial: Trial, pool: HostPool) -> None:
    """A guest starts no other kernel by kexec where its host keeps memory that the guest has shared."""

    def shape(spec: GuestSpec) -> GuestSpec:
        spec = with_its_kernel(spec)
        # At that time its kernel has no console but this one. When it reboots, QEMU stays, and stops.
        return replace(spec, cmdline="earlyprintk=ttyS0", extra=(*spec.extra, "-no-shutdown"))

    with standing(pool, shape) as among:
        protected = among.guest.protected  # later it does not tell any more
        with Attack.puppeteer(among) as puppeteer:
            for guest in among.guests:
                (page,) = (aim for aim in Attack.aim(guest, [CONTROL]) if aim.planted.kind == "kernel")
                _seal(puppeteer, guest, page)
        results = on_each_at_once(among.guests, partial(_start_anew, among), in_time=True)
    trial.legitimate(*results, protected=protected if len(results) > 1 else None)


def _start_anew(host: Host, guest: Guest) -> list[Check]:
    """Have a guest start another kernel; what the guest says last if that does not come up."""
    protected, boots, console = guest.protected, guest.boots(), guest.console()
    kexec(host, guest)
    guest.close()

    def words() -> list[str]:
        return [line.partition(PANIC)[2] for line in guest.console()[len(console) :].splitlines() if PANIC in line]

    poll_until(
        lambda: words() or guest.boots() > boots,
        Deadline(BOOT),
        f"another kernel of guest {guest.spec.name} to come up, or to stop",
        check=guest.check,
        explain=guest.console_tail,
        interval=0.5,
    )
    return [
        Check("the other kernel comes up", str(not protected), str(guest.boots() > boots)),
        Check("the last words of the guest", str([KEXEC_REFUSAL] if protected else []), str(words())),
    ]
