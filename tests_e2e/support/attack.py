# SPDX-License-Identifier: GPL-2.0-or-later
"""An attack: one probe, run on each kind of page, on the pages under test and on the controls'.

The pages under test are the private ones of the guest under test. The controls are the pages that this guest has
shared, and those of the plain guest beside it. What each page is, the guest that holds it tells; nothing is assumed.

A test gives the probe as a function of the attacker and the page; all else is done here: fresh canaries, where the
pages lie, what the guest finds afterwards, and the verdict.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from host_setup.channels.puppets import Done, Puppet, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.canaries import Planted
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from host_setup.hosts.pool import HostPool
from signoff.contract import ProbeClaim
from signoff.observation import PAGE_SIZE, After, Aim, Canary, Observation, Page, State
from signoff.trial import Trial
from tests_e2e.support.each import attempt, on_each, result_of

SEED_BYTES = 64
PAGES = {"user": Page.USER, "kernel": Page.KERNEL, "page-cache": Page.CACHE}
UNDER_TEST, CONTROL = "subject", "control"  # the guest's names for its two sets of canaries
MAPPING = re.compile(r"\b([0-9a-f]+)-([0-9a-f]+) ")  # as /proc/PID/smaps has it
PATTERN = bytes(range(256)) * (PAGE_SIZE // 256)  # what writing probes write: no canary, no page of zeros

_A = TypeVar("_A")


@dataclass(frozen=True, slots=True)
class Target:
    """A page to attack.

    The page before a kernel one is the guest's, too, and shared: a copy can start there and run into the canary.

    :ivar qemu: process id of the guest's QEMU. :ivar gpa: guest-physical. :ivar hva: the page's address in QEMU.
    :ivar hpa: host-physical.
    """

    qemu: int
    gpa: int
    hva: int
    hpa: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe met.

    :ivar done: how the call ended. :ivar data: the bytes that it brought home.
    :ivar wrote: what it tried to put at the start of the page; None for a probe that only reads.
    :ivar cuts: offsets in data where bytes meet that come from different places.
    :ivar met: what shows that the probe met the page, where the call's end does not; empty: nothing does.
    :ivar freed: the page itself is gone, as the probe wanted it, so the guest is not asked what it finds instead.
    """

    done: Done
    data: bytes = b""
    wrote: bytes | None = None
    freed: bool = False
    cuts: tuple[int, ...] = ()
    met: str | None = None


@dataclass(frozen=True, slots=True)
class Aimed:
    """A canary's page with all that shows that a probe was aimed at it."""

    planted: Planted
    target: Target
    reach: tuple[str, ...]
    aim: Aim | None = None


AimedObservation = tuple[Aimed, Observation]


class Attack:
    """The fixture ``attack``: runs a probe and has the claim judged.

    :ivar pool: gives pristine hosts to what would harm the shared one.
    """

    def __init__(self, pool: HostPool, trial: Trial) -> None:
        self.pool = pool
        self._trial = trial

    @property
    def host(self) -> Host:
        """The host that harmless probes share."""
        return self.pool.shared_host()

    # --- the ways to attack ---

    def by_a_process(self, call: str, probe: Callable[[Puppet, Target], Answer], host: Host | None = None) -> None:
        """Attack from a process of the host with the rights of root; nothing is harmed.

        :param call: the probe's way in, as the report names it. :param host: another one than the shared one.
        """
        host = host or self.host
        with self.puppeteer(host) as puppeteer:
            process = puppeteer.spawn()
            self._harmless(host, call, probe, lambda _: contextlib.nullcontext(process))

    def by_qemu(self, call: str, probe: Callable[[Puppet, Target], Answer]) -> None:
        """Attack from within each guest's own QEMU, which goes on unharmed."""
        host = self.host
        with self.puppeteer(host) as puppeteer:
            self._harmless(host, call, probe, lambda guest: puppeteer.inside(guest.pid))

    def from_outside(self, call: str, probe: Callable[[Guest, Target], Answer]) -> None:
        """Attack by what the harness itself has, for instance QMP of the guest's QEMU; nothing is harmed."""
        self._harmless(self.host, call, probe, contextlib.nullcontext)

    def by_whom(
        self,
        call: str,
        probe: Callable[[_A, Target], Answer],
        attacker: Callable[[Guest], contextlib.AbstractContextManager[_A]],
        host: Host | None = None,
    ) -> None:
        """Attack by whatever ``attacker`` makes of each guest, which goes on unharmed afterwards.

        :param host: another one than the shared one.
        """
        self._harmless(host or self.host, call, probe, attacker)

    def lethal(self, call: str, probe: Callable[[Host, Guest, Target], Answer]) -> None:
        """Attack with a probe that may cost a QEMU its life: each kind of page has a pristine host, controls first."""
        observations: list[AimedObservation] = []
        for kind in self._kinds:
            with self.pool.fresh() as host:
                observations += self._one_kind(host, kind, call, probe)
        self.judge(observations)

    def all_at_once(self, call: str, probe: Callable[[Host, list[Aimed]], Sequence[Answer]]) -> None:
        """Attack all pages of a pristine host in one go, for a probe that takes long, or that harms host or QEMUs.

        :param probe: returns what it met, a page after the other.
        """
        with self.pool.fresh() as host:
            aimed = [(guest, self.aim(guest, sets)) for guest, sets in pages_of(host)]
            self.judge(self.observe_all(call, aimed, probe(host, [page for _, pages in aimed for page in pages])))

    # --- what they are made of, for attacks that go another way ---

    @staticmethod
    @contextlib.contextmanager
    def puppeteer(host: Host) -> Iterator[Puppeteer]:
        """The program that moves processes of a host, and the host's QEMUs."""
        puppeteer = Puppeteer(host.ssh, f"{HOST_PROGRAMS}/puppeteer")
        try:
            yield puppeteer
        finally:
            puppeteer.close()

    @staticmethod
    def aim(guest: Guest, sets: Sequence[str] = (UNDER_TEST, CONTROL), *, again: bool = False) -> list[Aimed]:
        """Have a guest plant fresh canaries, and learn where they are.

        They lie in other pages than the last ones did, but for the kernel's; ``again``: in the same.

        For each page it tells, too, what the host's kernel knows of it now that it is private or shared.
        """
        planted = [
            canary
            for canary in guest.canaries.plant(secrets.token_bytes(SEED_BYTES), again=again)
            if canary.set in sets
        ]
        mappings, protection = guest.memory.kernel_view_of([canary.address.hva for canary in planted])
        kvm = " ".join(protection.split())
        pid = guest.pid
        return [
            Aimed(
                canary,
                Target(pid, at.gpa, at.hva, at.hpa),
                (
                    f"guest {guest.spec.name} holds it at guest-physical {at.gpa:#x}, before the probe and after",
                    f"its QEMU (pid {pid}) has this page at {at.hva:#x}, host-physical {at.hpa:#x}",
                    mapping,
                    *([f"KVM of the guest's protection: {kvm}"] if kvm else []),
                ),
                _put_down(guest, canary, mapping),
            )
            for canary, at, mapping in zip(planted, (canary.address for canary in planted), mappings, strict=True)
        ]

    @staticmethod
    def observe(call: str, guest: Guest, aimed: Sequence[Aimed], answers: Sequence[Answer]) -> list[AimedObservation]:
        """What a probe met on each page, and what the guest finds now, if its QEMU runs and the page was not freed."""
        alive = guest.vitals.reason is None
        planted = [aim.planted for aim, answer in zip(aimed, answers, strict=True) if alive and not answer.freed]
        contents = iter(guest.canaries.read(planted) if planted else ())
        observations: list[AimedObservation] = []
        for aim, answer in zip(aimed, answers, strict=True):
            after = _after(aim.planted.content, answer.wrote, next(contents)) if alive and not answer.freed else None
            observations.append((aim, Attack._observation_of(call, aim, answer, after)))
        return observations

    @staticmethod
    def observe_all(
        call: str, aimed: Sequence[tuple[Guest, Sequence[Aimed]]], answers: Sequence[Answer]
    ) -> list[AimedObservation]:
        """The same for the pages of several guests; ``answers`` has them all, a guest's after the other's."""
        observations: list[AimedObservation] = []
        for guest, pages in aimed:
            observations += Attack.observe(
                call, guest, pages, answers[len(observations) : len(observations) + len(pages)]
            )
        return observations

    @staticmethod
    def _observation_of(call: str, aimed: Aimed, answer: Answer, after: After | None) -> Observation:
        planted = aimed.planted
        return Observation(
            page=PAGES[planted.kind],
            state=State(planted.state),
            call=call,
            canary=Canary(planted.content, planted.key),
            reach=_reach(aimed, answer),
            aim=aimed.aim,
            ending=answer.done,
            data=answer.data,
            cuts=answer.cuts,
            page_after=None if answer.wrote is None and after is After.INTACT else after,
        )

    def judge(self, observations: Sequence[AimedObservation]) -> None:
        """Have the claim judged by all that was seen, in any order."""
        self._trial.attack(
            subject=[observation for aimed, observation in observations if _under_test(aimed)],
            control=[observation for aimed, observation in observations if not _under_test(aimed)],
        )

    # --- inside ---

    @property
    def _kinds(self) -> list[str]:
        """The guest's names for the kinds of page that the claim is about."""
        claim = self._trial.claim
        return [kind for kind, page in PAGES.items() if not isinstance(claim, ProbeClaim) or page in claim.pages]

    def _harmless(
        self,
        host: Host,
        call: str,
        probe: Callable[[_A, Target], Answer],
        attacker: Callable[[Guest], contextlib.AbstractContextManager[_A]],
    ) -> None:
        sets = dict(pages_of(host))

        def on(guest: Guest) -> list[AimedObservation]:
            aimed = [aim for aim in self.aim(guest, sets[guest]) if aim.planted.kind in self._kinds]
            # While its QEMU is held, the guest answers no question: all probes first, then the guest's view.
            with attacker(guest) as who:
                answers = [probe(who, aim.target) for aim in aimed]
            return self.observe(call, guest, aimed, answers)

        self.judge([observation for observations in on_each(list(sets), on) for observation in observations])

    def _one_kind(
        self, host: Host, kind: str, call: str, probe: Callable[[Host, Guest, Target], Answer]
    ) -> Iterator[AimedObservation]:
        """The probe on one kind of page of each guest; on the private one last, as nothing may come after it."""
        todo = [
            (guest, aim) for guest, sets in pages_of(host) for aim in self.aim(guest, sets) if aim.planted.kind == kind
        ]
        controls: list[AimedObservation] = []
        for guest, aimed in sorted(todo, key=lambda pair: _under_test(pair[1])):

            def on(guest: Guest = guest, target: Aimed = aimed) -> list[AimedObservation]:
                return self.observe(call, guest, [target], [probe(host, guest, target.target)])

            observations = result_of(attempt(on), guest.vitals.name, controls if _under_test(aimed) else ())
            controls += observations
            yield from observations


def pages_of(host: Host) -> list[tuple[Guest, tuple[str, ...]]]:
    """The host's guests, each with the sets of its canaries that an attack is tried on."""
    beside = [] if host.plain_guest is None else [(host.plain_guest, (CONTROL,))]
    return [(host.guest, (UNDER_TEST, CONTROL)), *beside]


def _put_down(guest: Guest, planted: Planted, mapping: str) -> Aim | None:
    """Bind a canary to this run before it is attacked; None if no claim is being tried."""
    trial = Trial.current
    if trial is None:
        return None
    at = planted.address
    match = MAPPING.search(mapping)
    return trial.aim(
        Canary(planted.content, planted.key),
        PAGES[planted.kind],
        State(planted.state),
        host=guest.host_id,
        guest=guest.spec.name,
        addresses=(at.gpa, at.hva, at.hpa),
        mapping=(int(match[1], 16), int(match[2], 16)) if match else (0, 0),
    )


def _reach(aimed: Aimed, answer: Answer) -> tuple[str, ...]:
    """What shows that a probe got to its page; nothing, if it must show itself that it did and has not."""
    if answer.met is None:
        return aimed.reach
    return (*aimed.reach, answer.met) if answer.met else ()


def _under_test(aimed: Aimed) -> bool:
    return aimed.planted.set == UNDER_TEST


def _after(canary: bytes, wrote: bytes | None, content: bytes) -> After:
    """What the guest finds its page to be."""
    if content == canary:
        return After.INTACT
    return After.OVERWRITTEN if wrote and content == wrote + canary[len(wrote) :] else After.CHANGED
