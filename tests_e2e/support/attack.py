# SPDX-License-Identifier: GPL-2.0-or-later
"""An attack: one probe, run on each kind of page, on the pages under test and on the controls'.

The pages under test are the private ones of the guest under test. The controls are the pages that this guest has
shared, and those of the plain guest beside it. What each page is, the guest that holds it tells; nothing is assumed.

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
Attacker = Callable[[Guest], contextlib.AbstractContextManager[Puppet]]
"""Gives the process that attacks a guest."""


class Attack:
    """The fixture ``attack``: runs a probe and has the claim judged.

    :param host: the host whose guests are attacked; nothing here harms them.
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
            process = puppeteer.spawn()
            self._judge(call, probe, lambda _: contextlib.nullcontext(process), writes)

    def by_qemu(self, call: str, probe: Probe, *, writes: bytes | None = None) -> None:
        """Attack from within each guest's own QEMU, which goes on unharmed."""
        with self._puppeteer() as puppeteer:
            self._judge(call, probe, lambda guest: puppeteer.inside(guest.pid), writes)

    @contextlib.contextmanager
    def _puppeteer(self) -> Iterator[Puppeteer]:
        puppeteer = Puppeteer(self._host.ssh, f"{HOST_PROGRAMS}/puppeteer")
        try:
            yield puppeteer
        finally:
            puppeteer.close()

    def _judge(self, call: str, probe: Probe, attacker: Attacker, writes: bytes | None) -> None:
        seen = self._on(self._host.guest, (UNDER_TEST, CONTROL), call, probe, attacker, writes)
        control = [one for role, one in seen if role == CONTROL]
        if self._host.plain_guest is not None:
            control += [one for _, one in self._on(self._host.plain_guest, (CONTROL,), call, probe, attacker, writes)]
        self._claim.attack(subject=[one for role, one in seen if role == UNDER_TEST], control=control)

    def _on(
        self, guest: Guest, sets: tuple[str, ...], call: str, probe: Probe, attacker: Attacker, writes: bytes | None
    ) -> list[tuple[str, Observation]]:
        """Run the probe on all pages of a guest that are in these sets; returns what it met, each with its set."""
        planted = [one for one in guest.plant(secrets.token_bytes(SEED_BYTES)) if one.set in sets]
        pid, reach = guest.pid, self._reach(guest, planted)
        # While its QEMU is held, the guest answers no question: all probes first, then the guest's view of its pages.
        with attacker(guest) as puppet:
            got = [probe(puppet, Target(pid, one.address.hva, one.address.hpa)) for one in planted]
        return [
            (one.set, self._observation(call, one, aimed, met, self._after(guest, one, writes), writes))
            for one, aimed, met in zip(planted, reach, got, strict=True)
        ]

    @staticmethod
    def _reach(guest: Guest, planted: list[Planted]) -> list[tuple[str, ...]]:
        """For each page, where it is, and what the host's kernel tells of it now that it is private or shared."""
        mappings = guest.mappings()
        kvm = " ".join(guest.protection().split())
        return [
            (
                f"guest {guest.spec.name} holds the canary at guest-physical {at.gpa:#x}, before and after the probe",
                f"its QEMU (pid {guest.pid}) has this page at {at.hva:#x}, host-physical {at.hpa:#x}",
                mappings.holding(at.hva),
                *([f"KVM of the guest's protection: {kvm}"] if kvm else []),
            )
            for at in (one.address for one in planted)
        ]

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
            state=State(planted.state),
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
