# SPDX-License-Identifier: GPL-2.0-or-later
"""One way to a guest's memory, tried on every page of it (guest_images/programs/sweep.c).

What is the guest's alone nobody assumes and no page table tells: the guest's kernel keeps an account of what it shares
(``account``). KVM has a book of the guest's requests, by guest page number, which our module ``host_oracle`` reads: it
must say the same, page for page. Beside it stand the guest's word on each page of its canaries, the flags of QEMU's
mappings and KVM's counts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from common.errors import MachineError
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_memory import PAGE
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from signoff.memory_map import Fate, MemoryMap, spans
from signoff.observation import Check, State
from signoff.trial import Trial
from tests_e2e.support.account import FIRMWARE, account_of
from tests_e2e.support.attack import Aimed, Attack
from tests_e2e.support.each import on_each, opted_in

TIMEOUT = 60.0  # for a sweep, on a busy machine
NAMED = 4  # ranges that a check names
FEW_BYTES = 64  # of each page, so that a sweep is quick
FEW = 4096  # private pages that a way by physical addresses must have tried at least: a guest that has booted has more
# Pages: the rings of its virtio devices, its clock, areas of its CPU, and what our programs share for a while. 170 were
# seen, of 53,000.
SHARED_BESIDE = 512


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found, by guest-physical address of the page.

    :ivar protected: whether KVM has the guest as protected. :ivar address: of each page, in QEMU.
    :ivar book: what is shared, as KVM has it. :ivar account: what the guest has shared, by its own account; None: its
        kernel keeps none. :ivar changed: whether one of them was another after the sweep than before.
    :ivar vmms: pages whose content is the VMM's: the guest cannot write them.
    :ivar absent: pages that the host did not have before the sweep.
    :ivar met: the errno of each page that was tried; None: its bytes came. :ivar size: bytes asked for of each page.
    :ivar rate: pages a second.
    """

    way: str
    protected: bool
    address: Mapping[int, int]
    book: frozenset[int]
    account: frozenset[int] | None
    changed: bool
    vmms: frozenset[int]
    absent: frozenset[int]
    met: Mapping[int, str | None]
    size: int
    rate: int

    @property
    def shared(self) -> frozenset[int]:
        """Pages that the host may see: the guest has shared them, or did not have to."""
        return self.book if self.account is None else frozenset(self.address) & (self.account | FIRMWARE)

    @property
    def private(self) -> frozenset[int]:
        """Pages that are the guest's alone."""
        return frozenset(self.address) - self.shared - self.vmms if self.protected else frozenset()

    @property
    def read(self) -> frozenset[int]:
        """Pages of which bytes came."""
        return frozenset(gpa for gpa, met in self.met.items() if met is None)

    def fates(self) -> dict[int, Fate]:
        """How each page fared."""
        private, read = self.private, self.read

        def fate(gpa: int) -> Fate:
            if gpa in read:
                return Fate.LEAKED if gpa in private else Fate.SHARED if gpa in self.shared else Fate.READABLE
            if gpa in self.absent and (gpa in private or gpa not in self.met):
                return Fate.ABSENT
            return Fate.PRIVATE if gpa in private else Fate.LOST

        return {gpa: fate(gpa) for gpa in self.address}


def sweep(host: Host, guest: Guest, way: str, size: int, *, keep: Trial | None = None) -> Sweep:
    """Try a way on all pages of a guest, so many bytes of each.

    :param keep: the claim that rests on it, and keeps it as evidence.
    """
    return _keep(run_sweep(host, guest, way, size), guest, keep)


def run_sweep(host: Host, guest: Guest, way: str, size: int) -> dict[str, Any]:
    """What the program ``sweep`` prints, with the guest's account before and after it."""
    before = account_of(guest)
    done = host.ssh.run([f"{HOST_PROGRAMS}/sweep", str(guest.pid), way, str(size)], seconds=TIMEOUT).require()
    return {**json.loads(done.text), "account": before, "later_account": account_of(guest)}


def by_loads(
    host: Host, guest: Guest, load: Callable[[Mapping[int, int]], dict[int, str | None]], keep: Trial
) -> Sweep:
    """The same by something else than the program, which only says before and after it what there is.

    :param load: what each page met, by its guest-physical address; it is given the address of each in QEMU.
    """
    before = run_sweep(host, guest, "process_vm_readv", FEW_BYTES)
    met = load(parse(json.dumps(before)).address)
    after = run_sweep(host, guest, "process_vm_readv", FEW_BYTES)
    later = {key: after[key] for key in ("still_shared", "later_account")}
    # Pages in a row that met the same have their places in common when each is counted back to the first.
    rows = itertools.groupby(enumerate(sorted(met.items())), lambda span: (span[1][0] - span[0] * PAGE, span[1][1]))
    groups = [[(row := [page for _, page in pages])[0][0], len(row), errno] for (_, errno), pages in rows]
    swept = _keep({**before, **later, "way": "load", "bytes": 1, "found": groups}, guest, keep)
    # What changed and changed back in between has changed, too.
    return replace(swept, changed=swept.changed or any(parse(json.dumps(each)).changed for each in (before, after)))


def _keep(output: dict[str, Any], guest: Guest, trial: Trial | None) -> Sweep:
    text = json.dumps(output)
    if trial is not None:
        trial.attach(f"{guest.spec.name}.{output['way']}.json", text)
    return parse(text)


def parse(text: str) -> Sweep:
    """What the program ``sweep`` printed, with the guest's account before and after it."""
    output: dict[str, Any] = json.loads(text)
    address: dict[int, int] = {}
    vmms: set[int] = set()
    # The processor's view of memory first: system management mode only adds what it alone has.
    for gpa, pages, hva, read_only, _ in sorted(output["slots"], key=lambda slot: (slot[4], slot[0])):
        for at in range(0, pages * PAGE, PAGE):
            if address.setdefault(gpa + at, hva + at) == hva + at and read_only:
                vmms.add(gpa + at)
    met = {gpa: met for first, pages, met in output["found"] for gpa in _pages([(first, pages)])}
    return Sweep(
        way=output["way"],
        protected=output["protected"],
        address=address,
        book=frozenset(_pages(output["shared"])) & frozenset(address),
        account=None if output["account"] is None else frozenset(_pages(output["account"])),
        changed=(output["shared"], output["account"]) != (output["still_shared"], output["later_account"]),
        vmms=frozenset(vmms),
        absent=frozenset(_pages(output["absent"])),
        met=met,
        size=output["bytes"],
        rate=round(len(met) / output["ns"] * 1e9),
    )


def exactly_what_is_shared(
    trial: Trial, attack: Attack, way: str, refusal: str, *, size: int = PAGE, physical: bool = False
) -> None:
    """Have it judged whether a way leads to exactly the pages that a guest has not kept to itself.

    :param way: as ``sweep`` names it. :param refusal: errno that each page must meet that is the guest's alone.
    :param size: bytes to read of each page; a page is refused as a whole, so a slow way need not copy all of it.
    :param physical: whether only pages can be tried that the host has.
    """
    host = attack.host

    def look(guest: Guest) -> list[Check]:
        aimed = Attack.aim(guest)
        result = sweep(host, guest, way, size, keep=trial)
        trial.draw(MemoryMap(guest.spec.name, way, result.size, result.rate, spans(result.fates())))
        return [*checks(result, refusal, physical=physical), *witnesses(guest, aimed, result)]

    results = on_each(host.guests, look)
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def checks(sweep: Sweep, refusal: str, *, physical: bool) -> list[Check]:
    """Whether a sweep found what it must, page for page."""
    tried = frozenset(sweep.met)
    addresses = frozenset(sweep.address) - sweep.absent if physical else frozenset(sweep.address)
    others = {met for gpa in sweep.private & tried if (met := sweep.met[gpa]) not in (None, refusal)}
    return [
        Check.that("what the guest shares stays the same meanwhile", not sweep.changed),
        *_check_account(sweep),
        Check("pages that were tried", _ranges(addresses), _ranges(tried)),
        Check("pages that can be read", _ranges(addresses - sweep.private), _ranges(sweep.read)),
        Check("pages that are the guest's alone, and can be read", _ranges(()), _ranges(sweep.read & sweep.private)),
        Check("pages that are not the guest's alone, and cannot be read", _ranges(()), _refusal_text(sweep)),
        *_enough(sweep, physical=physical),
        Check(f"refusals other than {refusal}", "none", ", ".join(sorted(map(str, others))) or "none"),
    ]


def _check_account(sweep: Sweep) -> Iterator[Check]:
    """Whether KVM takes for shared what the guest has shared, and no page more."""
    if sweep.protected:
        yield Check.that("the guest keeps an account of what it shares", sweep.account is not None)
        yield Check(
            "shared pages, as KVM has them: those that the guest has shared", _ranges(sweep.shared), _ranges(sweep.book)
        )


def _enough(sweep: Sweep, *, physical: bool) -> Iterator[Check]:
    """A way that leaves out what the host does not have must have tried what it does."""
    if physical and sweep.protected:
        tried = len(sweep.private & frozenset(sweep.met))
        yield Check(
            "private pages that the host has, and that were tried", "many", "many" if tried >= FEW else str(tried)
        )


def _refusal_text(sweep: Sweep) -> str:
    return _ranges(frozenset(sweep.met) - sweep.private - sweep.read)


def witnesses(guest: Guest, aimed: Iterable[Aimed], sweep: Sweep) -> Iterator[Check]:
    """What others know of a sweep's pages: the guest of its canaries, QEMU's mappings, KVM's counts."""
    for canary in aimed:
        state, gpa = canary.planted.state, canary.target.gpa
        name = f"the guest's {canary.planted.kind} page at {gpa:#x}, which is {state}"
        yield Check(name, "refused" if state == State.PRIVATE else "read", _page_text(sweep, gpa))
    yield Check("the guest is protected, as its own kernel says", _word(guest.protected), _word(sweep.protected))
    if not sweep.protected:
        return
    bounced = frozenset(bounce_buffers(guest.ssh.run(["dmesg"], seconds=20).require().text))
    yield Check("bounce buffers, as the guest's kernel names them, are shared", _ranges(bounced), _both(bounced, sweep))
    mapped = guest.memory.mappings_with_flag("kp")
    private = frozenset(gpa for gpa, hva in sweep.address.items() if any(first <= hva < end for first, end in mapped))
    yield Check("private pages, by the flags of QEMU's mappings", _ranges(sweep.private), _ranges(private))
    counts = dict(re.findall(r"(\w+): (\d+)", guest.memory.protection()))
    counted = counts.get("shared_pages", "none")
    right, wrong = "as many as its book has", f"{counted}, and its book has {len(sweep.book)}"
    yield Check("shared pages, as KVM counts them", right, right if counted == str(len(sweep.book)) else wrong)


def _page_text(sweep: Sweep, gpa: int) -> str:
    if gpa not in sweep.met:
        return "not tried"
    return "read" if sweep.met[gpa] is None else "refused"


def check_shared_is_little(sweep: Sweep, bounced: Iterable[int]) -> list[Check]:
    """Whether a guest shares its bounce buffers, and little beside them."""
    most = f"at most {SHARED_BESIDE}"
    beside = sweep.shared - frozenset(bounced)
    return [Check("pages that it shares beside them", most, most if len(beside) <= SHARED_BESIDE else _ranges(beside))]


def check_shares(sweep: Sweep, bounced: Iterable[int], least: int) -> Iterator[Check]:
    """Whether a protected guest shares that many pages beside its bounce buffers."""
    if sweep.protected:
        count = len(sweep.shared - frozenset(bounced))
        expected = f"at least {least}"
        yield Check(
            "pages that it shares beside its bounce buffers", expected, expected if count >= least else str(count)
        )


def bounce_buffers(log: str) -> Iterator[int]:
    """The pages that a guest's kernel says it bounces its devices' data through; it shares all of them.

    :raises MachineError: it does not say.
    """
    match = re.search(r"software IO TLB: mapped \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]", log)
    if match is None:
        raise MachineError("the guest's kernel does not name its bounce buffers")
    first, end = (int(word, 16) for word in match.groups())
    return iter(range(first, end, PAGE))


def _both(pages: frozenset[int], sweep: Sweep) -> str:
    return _ranges(pages & sweep.shared)


def _word(value: object) -> str:
    return str(value).lower()


def _pages(runs: Iterable[tuple[int, int]]) -> Iterator[int]:
    for first, pages in runs:
        yield from range(first, first + pages * PAGE, PAGE)


def _ranges(pages: Iterable[int]) -> str:
    """A set of pages in a few words, which are the same for the same set alone: a digest is among them."""
    runs = spans(dict.fromkeys(pages, Fate.READABLE))
    if not runs:
        return "none"
    named = [f"{first:#x}-{first + count * PAGE - 1:#x}" for first, count, _ in runs]
    text = ", ".join([*named[:NAMED], *([f"and {len(named) - NAMED} ranges more"] if len(named) > NAMED else [])])
    digest = hashlib.sha256(", ".join(named).encode()).hexdigest()[:12]
    return f"{sum(run.pages for run in runs)} pages: {text} (sha256 {digest})"
