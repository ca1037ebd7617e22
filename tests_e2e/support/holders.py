# SPDX-License-Identifier: GPL-2.0-or-later
"""Who maps each page frame of a guest, and where: the host's kernel, its processes, the nested page tables of its VMs.

All of it is seen in one copy of the host's memory (``translations``, ``nested_tables``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from common.errors import MachineError
from host_setup.channels.qmp import Qmp
from host_setup.hosts.base import Host
from signoff.observation import PAGE_SIZE, Check
from tests_e2e.support.direct_map import DirectMap
from tests_e2e.support.guest_frames import GuestFrames
from tests_e2e.support.kernel_memory import KernelMemory
from tests_e2e.support.live_memory import live_memory_of
from tests_e2e.support.nested_tables import Nested, find_nested_tables
from tests_e2e.support.outside import outside, standing_still
from tests_e2e.support.translations import ADDRESS, Mapped, Walked, root_of, walk

NAMED = 4  # places that a check names
NONE = "none"
MANY, FEW = 4096, 16  # pages: a guest that has booted runs on more of its own; it shares more with its devices
CR3 = re.compile(r"\bCR3=([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Holders:
    """Who maps what of a host, at one moment.

    :ivar walked: the page tables of kernel and processes. :ivar nested: those of VMs.
    :ivar in_use: frame of the topmost table that the host's first CPU has loaded, which runs no guest.
    """

    walked: Walked
    nested: tuple[Nested, ...]
    in_use: int


def holders_of(host: Host, guests: Mapping[str, GuestFrames]) -> Holders:
    """Who maps what of a host now.

    :param guests: all guests' frames, by name; none of them is a table.
    :raises MachineError: QEMU does not show the host's memory.
    """
    root = root_of(host.ssh)
    everybodys = frozenset().union(*(frames.all for frames in guests.values()))
    with live_memory_of(host) as live, standing_still(host):
        in_use = topmost_in_use(outside(host))
        memory = live.all()
    nested = find_nested_tables(memory, everybodys, KernelMemory.of(host.ssh, memory, root).is_allocated)
    mapped = (table.at.values() for table in nested)
    walked = walk(memory, root, everybodys.union(*mapped), not_roots=everybodys)
    return Holders(walked, tuple(nested), in_use)


def topmost_in_use(qmp: Qmp) -> int:
    """The frame of the topmost page table that a host's first CPU has loaded, by that CPU itself.

    :raises MachineError: QEMU does not tell.
    """
    registers = qmp.monitor("info registers")
    match = CR3.search(registers)
    if match is None:
        raise MachineError(f"info registers of the host tells no CR3: {registers[:200]}")
    return (int(match[1], 16) & ADDRESS) // PAGE_SIZE


def owners(guests: Mapping[str, GuestFrames], nested: Iterable[Nested]) -> dict[int, str]:
    """Whose nested page tables are whose, by root: of the guest with whose pages they agree most.

    Those that agree with nobody are not in it: of a VM that is no guest of ours, or of one that has ended.
    """
    places_of = {name: dict(_places(frames)) for name, frames in guests.items()}
    owner_of: dict[int, str] = {}
    for table in nested:
        agree = {
            name: sum(table.at.get(gpa) == frame for gpa, frame in gpas.items()) for name, gpas in places_of.items()
        }
        best = max(agree, key=lambda name: agree[name])
        if agree[best]:
            owner_of[table.root] = best
    return owner_of


def checks(name: str, guests: Mapping[str, GuestFrames], cpus: int, layout: DirectMap, holders: Holders) -> list[Check]:
    """What must be so of a guest.

    :param guests: all guests by name, whether or not they have private pages. :param cpus: how many the guest has.
    :param layout: where the host's kernel has its direct map, and its own image.
    """
    frames = guests[name]
    whose = owners(guests, holders.nested)
    own = [table for table in holders.nested if whose.get(table.root) == name]
    others = [table for table in holders.nested if whose.get(table.root) != name]
    private, rest = _and_as_mapped(frames, own), _its_own(name, frames, guests)
    kernel, processes = holders.walked.kernel, holders.walked.processes
    mapped = frozenset(frame for table in own for frame in table.at.values())
    blocks = sum(len(table.blocks) for table in own)
    return [
        # The walk sees what there is to see.
        Check("the topmost table that a CPU has loaded was found", "yes", _yes(holders.in_use in holders.walked.roots)),
        Check("topmost tables of processes", "some", _some(len(holders.walked.roots) - 1)),
        Check("control blocks of the guest's virtual CPUs", f"at least {cpus}", at_least(cpus, blocks)),
        _none("tables that its nested page tables have twice", ((gpa, gpa) for table in own for gpa in table.again)),
        _none("pages that they and its VMM's page tables have in different frames", _differing(frames, own)),
        # A private page is where it belongs, and nowhere else.
        *_many("private pages that its own nested page tables map", private, mapped, MANY),
        _none("private pages that the kernel maps", _places_mapped(private, kernel)),
        _none("private pages that a process maps", _places_mapped(private, processes)),
        _none(
            "private pages that an address space maps which has nothing else",
            _places_mapped(private, holders.walked.windows),
        ),
        _none("private pages that nested page tables of others map", _in_nested(others, private)),
        _none("private pages that its own map elsewhere", _astray(frames, own, private)),
        # And so is every other page: these are the controls.
        *_many("other pages that its own nested page tables map", rest, mapped, FEW),
        _none("other pages that the kernel does not map", ((rest[frame], 0) for frame in rest.keys() - kernel.at)),
        _none("other pages that it maps elsewhere than in the direct map", _strange(rest, kernel, layout)),
        Check("other pages that its VMM maps", "some", _some(sum(1 for _ in _at_home(frames, rest, processes)))),
        _none("other pages that a process maps elsewhere than its VMM", _abroad(frames, rest, processes)),
        _none("other pages that nested page tables of others map", _in_nested(others, rest)),
        _none("other pages that its own map elsewhere", _astray(frames, own, rest)),
    ]


def counts(name: str, guests: Mapping[str, GuestFrames], holders: Holders) -> str:
    """How many of a guest's pages are mapped by whom, in lines to read."""
    frames = guests[name]
    whose = owners(guests, holders.nested)
    tables = [table for table in holders.nested if whose.get(table.root) == name]
    own = frozenset(frame for table in tables for frame in table.at.values())
    others = frozenset(
        frame for table in holders.nested if whose.get(table.root) != name for frame in table.at.values()
    )
    who = {
        "its own nested page tables": own,
        "nested page tables of others": others,
        "the kernel": holders.walked.kernel.at,
        "a process": _by_processes(holders.walked.processes),
        "an address space that has nothing else": holders.walked.windows.at,
    }
    lines = []
    for kind, pages in (("private", _and_as_mapped(frames, tables)), ("other", frames.open)):
        holding = Counter(" + ".join(by for by, theirs in who.items() if frame in theirs) for frame in pages)
        lines += [f"{name}: {len(pages)} {kind} pages"]
        lines += [f"    {count:8} mapped by {by or 'nobody'}" for by, count in sorted(holding.items())]
    return "\n".join(lines)


Place = tuple[int, int]
"""A guest's page that is mapped where it should not be: guest-physical address, and where."""


def _places_mapped(pages: Mapping[int, int], mapped: Mapped) -> Iterator[Place]:
    return ((gpa, mapped.at[frame]) for frame, gpa in pages.items() if frame in mapped.at)


def _in_nested(tables: Iterable[Nested], pages: Mapping[int, int]) -> Iterator[Place]:
    return ((pages[frame], gpa) for table in tables for gpa, frame in table.at.items() if frame in pages)


def _astray(frames: GuestFrames, own: Iterable[Nested], pages: Mapping[int, int]) -> Iterator[Place]:
    # A chipset shows some memory at two addresses of the guest's: it is the same for the VMM.
    address = frames.address
    return (
        (page, gpa)
        for page, gpa in _in_nested(own, pages)
        if page != gpa and (page not in address or address[page] != address.get(gpa))
    )


def _all_of(pages: Mapping[int, int], mapped: Mapped) -> Iterator[tuple[int, int]]:
    """Where frames of pages are mapped: frame, address."""
    yield from ((frame, address) for frame, address in mapped.at.items() if frame in pages)
    yield from ((frame, address) for frame, address in mapped.more if frame in pages)


def _strange(pages: Mapping[int, int], kernel: Mapped, layout: DirectMap) -> Iterator[Place]:
    # What of its own image the kernel needs at its start alone is free memory later, and stays mapped there, too.
    image = layout.image
    for frame, address in _all_of(pages, kernel):
        addresses = (layout.address(frame * PAGE_SIZE), image.virtual + frame * PAGE_SIZE - image.physical)
        if address not in addresses:
            yield pages[frame], address


def _by_processes(processes: Mapped) -> frozenset[int]:
    """Frames that are mapped by more than the page table with which a CPU starts (see ``_abroad``)."""
    places = (*processes.at.items(), *processes.more)
    return frozenset(frame for frame, address in places if address != frame * PAGE_SIZE)


def _at_home(frames: GuestFrames, pages: Mapping[int, int], processes: Mapped) -> Iterator[Place]:
    places = ((frame, address) for frame, address in _all_of(pages, processes))
    return ((pages[frame], address) for frame, address in places if address == frames.address.get(pages[frame]))


def _abroad(frames: GuestFrames, pages: Mapping[int, int], processes: Mapped) -> Iterator[Place]:
    for frame, address in _all_of(pages, processes):
        # The page table with which a CPU starts has the direct map once more (Linux: arch/x86/realmode/init.c).
        if address not in (frames.address.get(pages[frame]), frame * PAGE_SIZE):
            yield pages[frame], address


def _many(name: str, pages: Mapping[int, int], mapped: frozenset[int], least: int) -> Iterator[Check]:
    """A guest that has such pages runs on them."""
    if pages:
        yield Check(name, f"at least {least}", at_least(least, len(mapped & pages.keys())))


def _its_own(name: str, frames: GuestFrames, guests: Mapping[str, GuestFrames]) -> dict[int, int]:
    """Pages that are not private, but for frames that another guest has, too: that of all empty pages."""
    others = frozenset().union(*(frames.open for who, frames in guests.items() if who != name))
    return {frame: gpa for frame, gpa in frames.open.items() if frame not in others}


def _and_as_mapped(frames: GuestFrames, own: Iterable[Nested]) -> dict[int, int]:
    """Private pages by frame, as the host tells them and as the guest's processor finds them."""
    gpa_of = {frame: gpa for nested in own for gpa, frame in nested.at.items() if gpa in frames.unshared}
    return {**gpa_of, **frames.private}


def _differing(frames: GuestFrames, own: Iterable[Nested]) -> Iterator[Place]:
    frame_of = dict(_places(frames))
    return ((gpa, frame) for nested in own for gpa, frame in nested.at.items() if frame_of.get(gpa, frame) != frame)


def _places(frames: GuestFrames) -> Iterator[tuple[int, int]]:
    return ((gpa, frame) for pages in (frames.private, frames.open) for frame, gpa in pages.items())


def _none(name: str, places: Iterable[Place]) -> Check:
    return Check(name, NONE, places_named(places))


def places_named(places: Iterable[Place]) -> str:
    """A few of many places, and how many there are."""
    in_order = sorted(places)
    named = ", ".join(f"{gpa:#x} at {where:#x}" for gpa, where in in_order[:NAMED])
    return f"{len(in_order)}: {named}" if in_order else NONE


def at_least(least: int, count: int) -> str:
    """The same words for each count that is enough."""
    return f"at least {least}" if count >= least else str(count)


def _some(count: int) -> str:
    return "some" if count else NONE


def _yes(fact: bool) -> str:  # noqa: FBT001
    return "yes" if fact else "no"
