# SPDX-License-Identifier: GPL-2.0-or-later
"""What a sweep of all of a guest's pages brought, as its program printed it -> how each page fared.

The program names the memory slots (guest-physical address, pages, address in QEMU, read-only, of system management
mode), what is shared, as KVM has it, before and after, which pages the host has not, and what each page that was tried
met. Beside it stands what the guest has shared by its own account, before and after; null: its kernel keeps none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from verifier.contract import PAGE
from verifier.judge import CheckResult
from verifier.text import UnsoundError, check_names, legible, table

_NAMED = 4
CHECKS = ("pages that were tried", "pages that can be read")
"""Names of checks that are of a sweep."""
BY_FRAME = ("direct_map", "kmap_local")
"""Ways that lead over a page's frame: a page that the host has not cannot be tried by them."""
_REFUSALS = "refusals other than "  # a check's name, with an errno behind it
_MOST = 1 << 22  # pages: 16 GiB, in all slots together
_ROM, _FIRST_HIGH = (4 << 30) - (16 << 20), 4 << 30
"""Where firmware lies that nobody writes (QEMU: hw/i386/pc_sysfw.c); no other slot is read-only."""
_FIRMWARE = frozenset(range(0xC0000, 0x100000, PAGE))  # is shared from the start; no guest asks for it


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep.

    :ivar rate: pages a second. :ivar seconds: that it took. :ivar fates: how each page fared, by its address.
    :ivar absent: pages that the host has not.
    :ivar read: pages of which bytes came.
    :ivar private: pages that are the guest's alone. :ivar refusals: what they met.
    :ivar unasked: pages that KVM has as shared and the guest has not shared, or the other way round.
    :ivar accounted: whether the guest keeps an account of what it shares, if it is protected.
    """

    way: str
    size: int
    rate: int
    seconds: float
    protected: bool
    fates: dict[int, str]
    tried: frozenset[int]
    absent: frozenset[int]
    read: frozenset[int]
    private: frozenset[int]
    refusals: frozenset[str]
    unasked: frozenset[int]
    accounted: bool
    steady: bool

    @property
    def spans(self) -> list[list[Any]]:
        """Pages in a row that fared alike: address of the first, how many, how."""
        ranges: list[list[Any]] = []
        for gpa, fate in sorted(self.fates.items()):
            if ranges and ranges[-1][2] == fate and ranges[-1][0] + ranges[-1][1] * PAGE == gpa:
                ranges[-1][1] += 1
            else:
                ranges.append([gpa, 1, fate])
        return ranges

    def fault(self, checks: Sequence[CheckResult]) -> str:
        """Why a claim that rests on it cannot be PASS, or how its checks differ from it; empty if all is well."""
        if leaked := [gpa for gpa, fate in self.fates.items() if fate == "leaked"]:
            return (
                f"{len(leaked)} pages that are the guest's alone were read by {self.way}, the first at {leaked[0]:#x}"
            )
        if lost := [gpa for gpa, fate in self.fates.items() if fate == "lost"]:
            return f"{len(lost)} pages that are not the guest's alone were refused to {self.way}"
        if not self.protected and not self.read:
            return f"no page was read by {self.way} of a guest that nothing protects"
        if self.protected and "private" not in self.fates.values():
            return f"no page that is the guest's alone was refused to {self.way}"
        if self.protected and 2 * len(self.private) < len(self.fates):
            return f"{len(self.private)} of {len(self.fates)} pages are the guest's alone, which are less than half"
        if untried := set(self.fates) - self.tried - (self.absent if self.way in BY_FRAME else frozenset()):
            return f"{len(untried)} pages were not tried by {self.way}, the first at {min(untried):#x}"
        if not self.steady:
            return "what the guest shares changed during the sweep"
        if not self.accounted:
            return "the guest keeps no account of what it shares"
        if self.unasked:
            return (
                f"{len(self.unasked)} pages are shared by KVM or by the guest's account alone, the first at "
                f"{min(self.unasked):#x}"
            )
        named = {check.name.removeprefix(_REFUSALS) for check in checks if check.name.startswith(_REFUSALS)}
        if named and self.refusals - named:
            return f"private pages met {', '.join(sorted(self.refusals - named))}, which is no refusal that is expected"
        counts = dict(zip(CHECKS, (self.tried, self.read), strict=True))
        for check in checks:
            if check.name in counts and check.got != ranges(counts[check.name]):
                return f"the check '{check.name}' is not what the sweep brought"
        return ""


def read(output: Any, label: str) -> Sweep:
    """The sweep that the program printed.

    :raises UnsoundError: the output is not a sweep.
    """
    accounts = "account", "later_account"
    names = ("way", "ns", "protected", "slots", "shared", "still_shared", "absent", "found", "bytes", *accounts)
    check_names(table(output, label, *names), label, (*names, "pages"))
    if type(output["ns"]) is not int or output["ns"] <= 0:
        raise UnsoundError(f"{label} is a sweep of {legible(output['ns'], 20)} ns")
    if type(output["bytes"]) is not int or not 0 < output["bytes"] <= PAGE:
        raise UnsoundError(f"{label} is a sweep of {legible(output['bytes'], 20)} bytes of each page")
    if (
        not isinstance(output["way"], str)
        or type(output["protected"]) is not bool
        or type(output.get("pages", 0)) is not int
    ):
        raise UnsoundError(f"{label} is not a sweep: its way, its pages or its guest's protection is not valid")
    try:
        _plain(output)
        address: dict[int, int] = {}
        vmms: set[int] = set()
        for gpa, pages, hva, read_only, smm in sorted(output["slots"], key=lambda slot: (slot[4], slot[0])):
            for at in _run(gpa, pages):
                if address.setdefault(at, hva + at - gpa) == hva + at - gpa and read_only:
                    if at not in _FIRMWARE and not _ROM <= at < _FIRST_HIGH:
                        raise ValueError(f"the slot at {gpa:#x} is read-only, and no firmware lies there")
                    vmms.add(at)
            del smm
        book = frozenset(_pages(output["shared"])) & frozenset(address)
        account = output["account"]
        shared = book if account is None else frozenset(address) & (frozenset(_pages(account)) | _FIRMWARE)
        absent = frozenset(_pages(output["absent"]))
        if sum(pages for _, pages, _ in output["found"]) != len(set(_pages(entry[:2] for entry in output["found"]))):
            raise ValueError("a page was tried twice")
        met = {at: errno for first, pages, errno in output["found"] for at in _run(first, pages)}
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise UnsoundError(f"{label} is not a sweep: {error}") from error
    private = frozenset(address) - shared - vmms if output["protected"] is True else frozenset[int]()
    read_pages = frozenset(at for at, errno in met.items() if errno is None)

    def fate(at: int) -> str:
        if at in read_pages:
            return "leaked" if at in private else "shared" if at in shared else "readable"
        if at in absent and (at in private or at not in met):
            return "absent"
        return "private" if at in private else "lost"

    fates = {at: fate(at) for at in address}
    refusals = frozenset(str(met[at]) for at in private & frozenset(met) - read_pages)
    return Sweep(
        way=str(output["way"]),
        size=int(output["bytes"]),
        rate=round(len(met) / output["ns"] * 1e9),
        seconds=output["ns"] / 1e9,
        protected=output["protected"] is True,
        fates=fates,
        tried=frozenset(met),
        absent=absent,
        read=read_pages,
        private=private,
        refusals=refusals,
        unasked=(shared ^ book) if output["protected"] is True else frozenset(),
        accounted=account is not None or output["protected"] is not True,
        steady=(output["shared"], account) == (output["still_shared"], output["later_account"]),
    )


def are_maps(pictures: object) -> bool:
    """Whether these are pictures of memory that can be drawn: of no more pages than a guest can have."""
    if not isinstance(pictures, list) or not all(isinstance(picture, dict) for picture in pictures):
        return False
    lists = [picture.get("spans") for picture in pictures]
    if not all(isinstance(picture, list) for picture in lists):
        return False
    spans = [span for picture in lists for span in picture]
    if not all(isinstance(span, list) and [type(part) for part in span] == [int, int, str] for span in spans):
        return False
    return all(gpa >= 0 < pages for gpa, pages, _ in spans) and sum(pages for _, pages, _ in spans) <= 2 * _MOST


def ranges(pages: Iterable[int]) -> str:
    """A set of pages in a few words and a digest, as the checks have it."""
    runs: list[list[int]] = []
    for at in sorted(pages):
        if runs and runs[-1][0] + runs[-1][1] * PAGE == at:
            runs[-1][1] += 1
        else:
            runs.append([at, 1])
    if not runs:
        return "none"
    named = [f"{first:#x}-{first + count * PAGE - 1:#x}" for first, count in runs]
    more = [f"and {len(named) - _NAMED} ranges more"] if len(named) > _NAMED else []
    digest = hashlib.sha256(", ".join(named).encode()).hexdigest()[:12]
    return f"{sum(count for _, count in runs)} pages: {', '.join([*named[:_NAMED], *more])} (sha256 {digest})"


def _plain(output: dict[str, Any]) -> None:
    """See that ranges are numbers, and not too many pages: a stranger's sweep must not fill the memory.

    :raises ValueError: they are not.
    """
    lists = ("shared", "still_shared", "absent", "account", "later_account")
    runs = [(name, *numbers) for name in lists for numbers in output[name] or ()]
    runs += [("found", first, pages) for first, pages, _ in output["found"]]
    runs += [("slots", slot[0], slot[1]) for slot in output["slots"]]
    if any(type(number) is not int for _, *numbers in runs for number in numbers):
        raise ValueError("an address, or a number of pages, is not a number")
    if any(type(errno) not in (str, type(None)) for _, _, errno in output["found"]):
        raise ValueError("what a page met is no errno")
    slots = [(hva, read_only, smm) for _, _, hva, read_only, smm in output["slots"]]
    if any(type(hva) is not int or hva <= 0 or hva % PAGE or not {*flags} <= {0, 1} for hva, *flags in slots):
        raise ValueError("a memory slot has an address or a flag that none can have")
    if not slots or len({(slot[0], slot[4]) for slot in output["slots"]}) != len(slots):
        raise ValueError("it has no memory slot, or one twice")
    if any(first % PAGE for _, first, _ in runs):
        raise ValueError("an address is not a page's")
    for name in {name for name, *_ in runs}:
        if sum(pages for each, _, pages in runs if each == name) > _MOST:
            raise ValueError("more pages than a guest can have")


def _run(first: int, pages: int) -> range:
    if not 0 <= pages <= _MOST or first < 0:
        raise ValueError("more pages than a guest can have")
    return range(first, first + pages * PAGE, PAGE)


def _pages(runs: Iterable[Sequence[int]]) -> Iterable[int]:
    for first, pages in runs:
        yield from _run(first, pages)
