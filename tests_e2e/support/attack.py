# SPDX-License-Identifier: GPL-2.0-or-later
"""An attack: one probe, run on each kind of page, on the pages under test and on the control's.

A test gives the probe as a function of the attacking process and the page; all else is done here: fresh canaries, where
the pages lie, what the guest finds afterwards, and the verdict.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from host_setup.channels.puppets import Done, Puppet, Puppeteer
from host_setup.hosts.base import HOST_PROGRAMS, Host
from host_setup.hosts.guest import Guest, Planted
from signoff.observation import PAGE_SIZE, After, Canary, Observation, Page, State
from signoff.trial import Trial

SEED_BYTES = 64
PAGES = {"user": Page.USER, "kernel": Page.KERNEL, "page-cache": Page.CACHE}
UNDER_TEST, CONTROL = "private", "control"  # the guest's names for its two sets of canaries


@dataclass(frozen=True, slots=True)
class Target:
    """A page to attack.

    :ivar qemu: process id of the guest's QEMU. :ivar hva: the page's address there. :ivar hpa: host-physical.
    """

    qemu: int
    hva: int
    hpa: int


@dataclass(frozen=True, slots=True)
class Got:
    """What a probe met: how the call ended, and the bytes that it brought home."""

    done: Done
    data: bytes = b""


Probe = Callable[[Puppet, Target], Got]


class Attack:
    """The fixture ``attack``: runs a probe and has the claim judged.

    :param host: the host whose guest is attacked; nothing here harms it.
    """

    def __init__(self, host: Host, claim: Trial) -> None:
        self._host = host
        self._claim = claim

    def by_a_process(self, call: str, probe: Probe, *, writes: bytes | None = None) -> None:
        """Attack from a process of the host with the rights of root.

        :param call: the probe's way in, as the report names it.
        :param writes: what the probe writes into the page, if it is one that writes.
        """
        with self._puppeteer() as puppeteer:
            self._judge(call, probe, contextlib.nullcontext(puppeteer.spawn()), writes)

    def by_qemu(self, call: str, probe: Probe, *, writes: bytes | None = None) -> None:
        """Attack from within the guest's own QEMU, which goes on unharmed."""
        with self._puppeteer() as puppeteer:
            self._judge(call, probe, puppeteer.inside(self._host.guest.pid), writes)

    @contextlib.contextmanager
    def _puppeteer(self) -> Iterator[Puppeteer]:
        puppeteer = Puppeteer(self._host.ssh, f"{HOST_PROGRAMS}/puppeteer")
        try:
            yield puppeteer
        finally:
            puppeteer.close()

    def _judge(
        self, call: str, probe: Probe, attacker: contextlib.AbstractContextManager[Puppet], writes: bytes | None
    ) -> None:
        guest = self._host.guest
        planted = guest.plant(secrets.token_bytes(SEED_BYTES))
        pid, reach = guest.pid, [self._reach(guest, one) for one in planted]
        # While its QEMU is held, the guest answers no question: all probes first, then the guest's view of its pages.
        with attacker as puppet:
            got = [probe(puppet, Target(pid, one.address.hva, one.address.hpa)) for one in planted]
        seen = [
            (one.set, self._observation(call, one, aimed, met, self._after(guest, one, writes), writes))
            for one, aimed, met in zip(planted, reach, got, strict=True)
        ]
        self._claim.attack(
            subject=[one for role, one in seen if role == UNDER_TEST],
            control=[one for role, one in seen if role == CONTROL],
        )

    @staticmethod
    def _reach(guest: Guest, planted: Planted) -> tuple[str, ...]:
        at = planted.address
        return (
            f"the guest holds the canary at guest-physical {at.gpa:#x}, before and after the probe",
            f"its QEMU (pid {guest.pid}) has this page at {at.hva:#x}, host-physical {at.hpa:#x}",
            guest.mapping(at.hva),
        )

    @staticmethod
    def _after(guest: Guest, planted: Planted, writes: bytes | None) -> After:
        """What the guest finds; it fails if its page is no longer at that address, so the probe aimed right."""
        found = guest.read(planted)
        if found == planted.content:
            return After.INTACT
        return After.OVERWRITTEN if found == writes else After.CHANGED

    @staticmethod
    def _observation(
        call: str, planted: Planted, reach: tuple[str, ...], got: Got, after: After, writes: bytes | None
    ) -> Observation:
        return Observation(
            page=PAGES[planted.kind],
            # No series protects a guest yet: whatever set a page is of, nothing keeps the host out.
            state=State.PLAIN,
            call=call,
            canary=Canary(planted.content),
            reach=reach,
            returned=got.done.returned,
            errno=got.done.errno,
            signal=got.done.signal,
            si_code=got.done.si_code,
            si_addr=got.done.si_addr,
            data=got.data,
            page_after=None if writes is None and after is After.INTACT else after,
        )


PATTERN = bytes(range(256)) * (PAGE_SIZE // 256)  # what writing probes write: no canary, no page of zeros
