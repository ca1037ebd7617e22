# SPDX-License-Identifier: GPL-2.0-or-later
"""What is private of a VM's memory after any sequence of operations, and so what each of them must answer.

It is written from what the series documents (Documentation/virt/kvm/x86/protected-memory.rst and hypercalls.rst), where
that is silent from its code, and from Linux's system calls (mremap(2), madvise(2), ...; Linux 6.12: mm/mremap.c). An
operation is a line of the program ``driven_vm`` (guest_images/programs/README.md): ``Model.do`` takes the line and
returns the reply that there must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

ARENA = 64  # pages of the VMM's memory that slots can lead to
NUMBERS = range(0x100, 0x130)  # the guest's page numbers for it
MARKS = 0xFFFFF  # the highest
RAM = 4  # pages that the guest runs on
FIRMWARE = range(0xC0, 0x100)  # page numbers that are shared from the start
OK = "ok"
NO_BOOK = "none"  # of a kernel that knows nothing of protection
UNKNOWN = -1000  # KVM_ENOSYS
NO_RIGHT, NO_SUCH_RANGE, BUSY, NOT_OF_THAT_KIND, NO_MEMORY_THERE = -1, -22, -16, -95, -14  # KVM's, as Linux's errno
_NAMES = {NOT_OF_THAT_KIND: "EOPNOTSUPP", NO_MEMORY_THERE: "EFAULT", BUSY: "EBUSY"}
DONTNEED, DOFORK, DODUMP, COLD, PAGEOUT, POPULATE_READ, POPULATE_WRITE = 4, 11, 17, 20, 21, 22, 23
REFUSED_ADVICE = (DOFORK, DODUMP, COLD, PAGEOUT, POPULATE_READ, POPULATE_WRITE)  # of private memory: EINVAL
Reply = Any  # what JSON can say
# The operations, and what each is about.
OPERATIONS: dict[str, str] = {
    "enable": "", "share": "number pages", "unshare": "number pages", "fill": "number pages mark how",
    "look": "number pages how", "slot": "key number pages place kind", "unslot": "key", "store": "place pages mark",
    "map": "place pages mark", "unmap": "place pages", "move": "place goal what", "protect": "place pages rights",
    "advise": "place pages advice", "pin": "place pages", "pinned": "", "unpin": "",
    "register": "holder place", "registered": "holder [mark]", "unregister": "holder", "fork": "", "child": "",
    "reap": "", "await": "place", "arrive": "mark", "second": "place pages", "seconds": "pages", "second_enables": "",
    "reset": "", "destroy": "", "sweep": "", "book": "", "end": "ending",
}  # fmt: skip
_WORDS = {
    "how": ("native", "emulated"), "kind": ("rw", "ro"), "what": ("all", "content"),
    "rights": ("none", "read", "write"), "ending": ("kill", "exit"),
}  # fmt: skip
_OF_THE_VM = ("enable", "share", "unshare", "fill", "look", "slot", "unslot", "reset", "destroy", "book")
_MOST = {"place": ARENA - 1, "goal": ARENA - 1, "pages": ARENA, "number": NUMBERS.stop - 1, "holder": 3, "key": 30}


class UndefinedError(Exception):
    """The documentation does not say how an operation must end. Nothing has changed."""


@dataclass(eq=False, slots=True)
class Frame:
    """A page of the host's memory.

    :ivar mark: the number that fills it; 0 for zeros. :ivar home: the place for which it was made.
    """

    mark: int = 0
    home: int = -1


@dataclass(eq=False, slots=True)
class Mapping:
    """A page of the VMM's address space.

    :ivar home: the place that mremap() has brought it from, or its own. :ivar is_protected: whether it is protected.
    :ivar is_emptied: whether mremap() has taken its content away and left it there.
    """

    home: int
    frame: Frame | None
    is_protected: bool = False
    rights: str = "write"
    is_emptied: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """A memory slot.

    :ivar first: the guest's first page number. :ivar place: the VMM's first page.
    """

    first: int
    pages: int
    place: int
    read_only: bool

    def has(self, number: int) -> bool:
        """Whether a page number of the guest's is in it."""
        return self.first <= number < self.first + self.pages

    @property
    def numbers(self) -> range:
        """The page numbers."""
        return range(self.first, self.first + self.pages)

    @property
    def shift(self) -> int:
        """From the guest's page number to the VMM's page."""
        return self.place - self.first

    @property
    def places(self) -> range:
        """The VMM's pages."""
        return range(self.place, self.place + self.pages)


@dataclass(frozen=True, slots=True)
class NoneOf:
    """A reply about frames of a process that has ended: none of them may hold one of these marks."""

    secrets: frozenset[int]


@dataclass
class Model:
    """A VM, its VMM, and who may see which page.

    :ivar offered: whether the kernel knows of protection.
    :ivar protected: whether the guest has asked for protection, and got it. :ivar is_gone: whether the VM has ended.
    :ivar secrets: marks that are the guest's alone: it has written them to private pages, and shared none since.
    :ivar shared: page numbers that the guest has shared.
    """

    offered: bool = True
    protected: bool = False
    is_gone: bool = False
    secrets: set[int] = field(default_factory=set)
    shared: set[int] = field(default_factory=set)
    slots: dict[int, Slot] = field(default_factory=dict)
    arena: list[Mapping | None] = field(default_factory=lambda: [Mapping(place, Frame()) for place in range(ARENA)])
    pins: list[Frame] = field(default_factory=list)
    buffers: dict[int, Frame] = field(default_factory=dict)
    child: list[str] | None = None
    awaited: int | None = None
    second: range | None = None
    # The shift of the slot that gave a page number its memory, and of the one that gave the VMM's page its number.
    _memory_of: dict[int, int] = field(default_factory=dict)
    _number_of: dict[int, int] = field(default_factory=dict)

    def do(self, line: str) -> Reply:
        """Do an operation, and return what the program must answer.

        :raises UndefinedError: there is no telling.
        """
        name, operands = parse_operation(line)
        if self.is_gone and name in _OF_THE_VM:
            raise UndefinedError("a VM that has ended")
        handler: Callable[..., Reply] = getattr(self, f"_do_{name}")
        return handler(*operands)

    # --- what is there ------------------------------------------------------------------------------------------------

    def slot_of(self, number: int) -> Slot | None:
        """The slot that a page number of the guest's is in."""
        return next((slot for slot in self.slots.values() if slot.has(number)), None)

    def is_private(self, number: int) -> bool:
        """Whether a page number is the guest's alone: from the first slot on that it was in, until the reset."""
        return self.protected and number not in self.shared and number in self._memory_of

    def private_places(self) -> int:
        """How many pages of the VMM's memory it must not reach, and that have content."""
        return sum(page is not None and page.is_protected and page.frame is not None for page in self.arena)

    def _mappings_of(self, places: Iterable[int]) -> list[Mapping | None]:
        return [self.arena[place] for place in places]

    # --- what protecting and sharing do -------------------------------------------------------------------------------

    def _why_not_protectable(self, places: range) -> int:
        """0, or the error of the first page that cannot be the guest's alone."""
        for place in places:
            page = self.arena[place]
            if page is None:
                return NO_MEMORY_THERE
            if page.rights != "write" or page.home != place:
                return NOT_OF_THAT_KIND
        return BUSY if any(map(self._is_elsewhere, places)) else 0

    def _is_elsewhere(self, place: int) -> bool:
        """Whether mremap() has taken private memory away from a place, so that there must be no other."""
        return any(
            page is not None and page.is_protected and page.home == place != at for at, page in enumerate(self.arena)
        )

    def _protect(self, places: Iterable[int], *, keep: bool) -> list[Mapping]:
        """Keep the VMM out of pages; returns those that change.

        :param keep: whether their content stays. It goes to new frames then, and the old ones are cleared.
        """
        changed = [mapping for mapping in self._mappings_of(places) if mapping is not None and not mapping.is_protected]
        for mapping in changed:
            mapping.is_protected = True
            if mapping.frame is not None and keep:
                mapping.frame, old = Frame(mapping.frame.mark, mapping.home), mapping.frame
                old.mark = 0
            else:
                mapping.frame = None
        return changed

    def _empty(self, places: Iterable[int]) -> None:
        """Drop the content of what is private there."""
        for mapping in self._mappings_of(places):
            if mapping is not None and mapping.is_protected:
                mapping.frame = None

    @staticmethod
    def _release(changed: Iterable[Mapping]) -> None:
        """Let the VMM have pages with their content."""
        for mapping in changed:
            mapping.is_protected = False
            if mapping.frame is not None:
                mapping.frame = Frame(mapping.frame.mark)

    def _note_memory(self, slot: Slot) -> None:
        """Page numbers get the memory of a new slot, which is emptied where that is another than before.

        Memory that another slot has under other page numbers at this time keeps those, and is lost by the new ones.
        """
        has_others = any(self._number_of.get(place, slot.shift) != slot.shift for place in slot.places) and any(
            not other.read_only and other.shift != slot.shift and set(other.places) & set(slot.places)
            for other in self.slots.values()
        )
        moved = [number for number in slot.numbers if not self._is_in_place(slot, number)]
        if has_others:  # what has kept its number is from before that had other memory
            moved = [number for number in moved if self._number_of.get(number + slot.shift) == slot.shift]
        else:
            self._number_of.update(dict.fromkeys(slot.places, slot.shift))
        self._empty(number + slot.shift for number in moved)
        self._memory_of.update(dict.fromkeys(slot.numbers, slot.shift))

    def _is_in_place(self, slot: Slot, number: int) -> bool:
        """Whether a page number has its memory by this slot, and the memory this number: each has one, its last."""
        return self._memory_of.get(number) == slot.shift == self._number_of.get(number + slot.shift)

    def _places_not_shared(self, slot: Slot) -> list[range]:
        """The VMM's pages behind what the guest has not shared of a slot."""
        unshared = runs(number for number in slot.numbers if number not in self.shared)
        return [range(run.start + slot.shift, run.stop + slot.shift) for run in unshared]

    def _lose_everything_private(self) -> None:
        """All that was private is gone, and the memory is the VMM's."""
        for page in self.arena:
            if page is not None and page.is_protected:
                page.is_protected, page.frame = False, None
        self.protected = False
        self.shared.clear()
        self._memory_of.clear()
        self._number_of.clear()

    # --- the guest ----------------------------------------------------------------------------------------------------

    def _do_enable(self) -> Reply:
        if not self.offered:
            return UNKNOWN
        if self.protected:
            return 0
        writable = [slot for slot in self.slots.values() if not slot.read_only]
        places = [place for slot in writable for place in slot.places]
        if len(set(places)) != len(places):
            raise UndefinedError("which of two slots over the same memory comes first")
        errors = {error for slot in writable if (error := self._why_not_protectable(slot.places))}
        if len(errors) > 1:
            raise UndefinedError("which slot comes first")
        if errors:  # all memory is looked at before any of it becomes private
            return errors.pop()
        self.protected = True
        for slot in writable:
            self._note_memory(slot)
        self._protect(places, keep=True)
        return 0

    def _range(self, first: int, pages: int) -> Slot | None:
        slot = self.slot_of(first)
        whole = slot is not None and pages > 0 and slot.has(first + pages - 1) and not slot.read_only
        return slot if whole else None

    def _do_share(self, first: int, pages: int) -> Reply:
        if not self.protected:
            return NO_RIGHT if self.offered else UNKNOWN
        slot, numbers = self._range(first, pages), range(first, first + pages)
        if slot is None or not all(self._is_in_place(slot, number) for number in numbers):
            return NO_SUCH_RANGE
        places = range(first + slot.shift, first + pages + slot.shift)
        protected_pages = [
            (place, page) for place in places if (page := self.arena[place]) is not None and page.is_protected
        ]
        if any(page.home != place for place, page in protected_pages):
            return NOT_OF_THAT_KIND
        for _, page in protected_pages:
            if page.frame is not None:
                self.secrets.discard(page.frame.mark)
        self._release(page for _, page in protected_pages)
        self.shared |= set(numbers)
        return 0

    def _do_unshare(self, first: int, pages: int) -> Reply:
        if not self.protected:
            return NO_RIGHT if self.offered else UNKNOWN
        slot, numbers = self._range(first, pages), range(first, first + pages)
        if slot is None or not all(self._is_in_place(slot, number) for number in numbers):
            return NO_SUCH_RANGE
        changed: list[Mapping] = []
        for run in alike(numbers, self.shared):
            places, was_shared = range(run.start + slot.shift, run.stop + slot.shift), run.start in self.shared
            if was_shared:  # a private page that was away: what is shared is newer
                self._empty(places)
            error = self._why_not_protectable(places)
            if error:
                self._release(changed)
                return error
            # What the VMM has put where nothing was shared is nothing that the guest has had.
            changed += self._protect(places, keep=was_shared)
        self.shared -= set(numbers)
        return 0

    def _access(self, number: int, *, write: bool, emulated: bool) -> tuple[str, Frame | None]:
        """What comes of an access of the guest's, and the frame that it goes to."""
        slot, private = self.slot_of(number), self.is_private(number)
        # KVM's emulator takes what it cannot reach for a device, but not a protected guest's memory.
        memory = self.protected and (private or (slot is not None and not slot.read_only))
        nowhere = "EFAULT" if not emulated else "emulation" if memory else "device"
        if private and (slot is None or slot.read_only or not self._is_in_place(slot, number)):
            return nowhere, None
        if slot is None or (slot.read_only and write):
            return "device", None
        place = number + slot.shift
        page = self.arena[place]
        if page is None or page.is_protected != private or page.rights == "none":
            return nowhere, None
        if page.rights != "write" and (private or write):
            return nowhere, None
        if page.frame is None:
            if private and self._is_elsewhere(place):
                return nowhere, None
            page.frame = Frame(home=page.home)
        if private and page.frame.home != place:
            return nowhere, None
        return OK, page.frame

    def _do_fill(self, first: int, pages: int, mark: int, how: str) -> Reply:
        ends: list[str] = []
        for number in range(first, first + pages):
            end, frame = self._access(number, write=True, emulated=how == "emulated")
            if frame is not None:
                frame.mark = mark
                if self.is_private(number):
                    self.secrets.add(mark)
            ends.append(end)
            mark += 1
        return ends

    def _do_look(self, first: int, pages: int, how: str) -> Reply:
        answers = []
        for number in range(first, first + pages):
            end, frame = self._access(number, write=False, emulated=how == "emulated")
            answers.append(end if frame is None else str(frame.mark))
        return answers

    # --- slots --------------------------------------------------------------------------------------------------------

    def _do_slot(self, key: int, first: int, pages: int, place: int, rights: str) -> Reply:
        if key in self.slots:
            raise UndefinedError("a slot that is there already")
        slot = Slot(first, pages, place, rights == "ro")
        if any(set(slot.numbers) & set(other.numbers) for other in self.slots.values()):
            return "EEXIST"
        if self.protected and not slot.read_only:
            changed: list[Mapping] = []
            for places in self._places_not_shared(slot):
                error = self._why_not_protectable(places)
                if error:
                    self._release(changed)
                    return _NAMES[error]
                # What the VMM has put there is nothing that the guest wrote.
                changed += self._protect(places, keep=False)
            self._note_memory(slot)
        self.slots[key] = slot
        return OK

    def _do_unslot(self, key: int) -> Reply:
        if key not in self.slots:
            raise UndefinedError("no such slot")
        del self.slots[key]
        return OK

    # --- the VMM's memory ---------------------------------------------------------------------------------------------

    def _do_store(self, place: int, pages: int, mark: int) -> Reply:
        ends = []
        for mapping in self._mappings_of(range(place, place + pages)):
            if mapping is None or mapping.rights != "write":
                ends.append("SIGSEGV")
            elif mapping.is_protected:
                ends.append("SIGBUS")
            else:
                mapping.frame = mapping.frame or Frame()
                mapping.frame.mark = mark
                ends.append(OK)
            mark += 1
        return ends

    def _do_map(self, place: int, pages: int, mark: int) -> Reply:
        for at in range(place, place + pages):
            self.arena[at] = Mapping(at, Frame(mark + at - place))
        return OK

    def _do_unmap(self, place: int, pages: int) -> Reply:
        self.arena[place : place + pages] = [None] * pages
        return OK

    def _do_move(self, source: int, target: int, part: str) -> Reply:
        page = self.arena[source]
        if source == target or (page is not None and page.is_emptied):
            raise UndefinedError("what mremap() makes of the place of a page that it has left behind")
        if page is None:
            return "EFAULT"
        if part == "content" and page.home != source and self._goes_on(source, page):
            raise UndefinedError("whether mremap() leaves a whole mapping behind, which it makes a new one")
        self.arena[target] = Mapping(page.home, page.frame, page.is_protected, page.rights)
        self.arena[source] = (
            Mapping(source, None, page.is_protected, page.rights, is_emptied=True) if part == "content" else None
        )
        return OK

    def _goes_on(self, place: int, mapping: Mapping) -> bool:
        """Whether a page beside it may be of the same mapping, having come from beside it as well."""
        beside = [(step, self.arena[place + step]) for step in (-1, 1) if 0 <= place + step < ARENA]
        return any(other is not None and other.home == mapping.home + step for step, other in beside)

    def _do_protect(self, place: int, pages: int, rights: str) -> Reply:
        for mapping in self._mappings_of(range(place, place + pages)):
            if mapping is None:
                return "ENOMEM"
            mapping.rights = rights
        return OK

    def _do_advise(self, place: int, pages: int, advice: int) -> Reply:
        there = self._mappings_of(range(place, place + pages))
        if advice == DONTNEED:
            for page in there:
                if page is not None:
                    page.frame = None
            return OK if all(there) else "ENOMEM"
        if advice not in REFUSED_ADVICE or pages != 1 or (there[0] is not None and there[0].rights != "write"):
            raise UndefinedError("such advice")
        return "ENOMEM" if there[0] is None else "EINVAL" if there[0].is_protected else OK

    # --- what holds a frame -------------------------------------------------------------------------------------------

    def _frames(self, places: range) -> list[Frame] | None:
        """The frames of pages, of which none is refused to the VMM's system calls; else nothing."""
        there = self._mappings_of(places)
        if any(page is None or page.is_protected or page.rights != "write" for page in there):
            return None
        frames = []
        for page in there:
            if page is not None:
                page.frame = page.frame or Frame()
                frames.append(page.frame)
        return frames

    def _do_pin(self, place: int, pages: int) -> Reply:
        if self.pins or not pages:
            raise UndefinedError("a second holder, or one of nothing")
        frames = self._frames(range(place, place + pages))
        self.pins = frames or []
        return "EFAULT" if frames is None else OK

    def _do_pinned(self) -> Reply:
        if not self.pins:
            raise UndefinedError("no holder")
        return [str(frame.mark) for frame in self.pins]

    def _do_unpin(self) -> Reply:
        if not self.pins:
            raise UndefinedError("no holder")
        self.pins = []
        return OK

    def _do_register(self, holder: int, place: int) -> Reply:
        frames = self._frames(range(place, place + 1))
        if holder in self.buffers:
            raise UndefinedError("such a holder is there")
        if frames is None:
            return "EFAULT"
        self.buffers[holder] = frames[0]
        return OK

    def _do_registered(self, holder: int, mark: int | None = None) -> Reply:
        if holder not in self.buffers:
            raise UndefinedError("no such holder")
        if mark is None:
            return str(self.buffers[holder].mark)
        self.buffers[holder].mark = mark
        return OK

    def _do_unregister(self, holder: int) -> Reply:
        if self.buffers.pop(holder, None) is None:
            raise UndefinedError("no such holder")
        return OK

    def _do_fork(self) -> Reply:
        if self.child is not None:
            raise UndefinedError("a second child")
        self.child = [
            _load_result(page) if page is not None and not page.is_protected else "SIGSEGV" for page in self.arena
        ]
        return OK

    def _do_child(self) -> Reply:
        if self.child is None:
            raise UndefinedError("no child")
        return list(self.child)

    def _do_reap(self) -> Reply:
        if self.child is None:
            raise UndefinedError("no child")
        self.child = None
        return OK

    def _do_await(self, place: int) -> Reply:
        if self.awaited is not None:
            raise UndefinedError("a second wait")
        self.awaited = place
        return OK

    def _do_arrive(self, mark: int) -> Reply:
        if self.awaited is None:
            raise UndefinedError("no wait")
        frames = self._frames(range(self.awaited, self.awaited + 1))
        self.awaited = None
        if frames is None:
            return "EFAULT"
        frames[0].mark = mark
        return OK

    def _do_second(self, place: int, pages: int) -> Reply:
        self.second = range(place, place + pages)
        return OK

    def _do_seconds(self, pages: int) -> Reply:
        if self.second is None or pages != len(self.second):
            raise UndefinedError("no second VM")
        return [
            "EFAULT" if mapping is None or mapping.is_protected or mapping.rights == "none" else _load_result(mapping)
            for mapping in self._mappings_of(self.second)
        ]

    def _do_second_enables(self) -> Reply:
        if not self.offered:
            return UNKNOWN
        if not self.protected:
            raise UndefinedError("a second VM that may have protection")
        return (self._why_not_protectable(self.second) if self.second else 0) or BUSY

    # --- ends, and looks ----------------------------------------------------------------------------------------------

    def _do_reset(self) -> Reply:
        self._lose_everything_private()
        return OK

    def _do_destroy(self) -> Reply:
        self._lose_everything_private()
        self.is_gone = True
        return OK

    def _do_sweep(self) -> Reply:
        answers = []
        for page in self.arena:
            if page is not None and not page.is_protected and page.frame is None:
                page.frame = Frame()  # a page of zeros comes with the first load
            answers.append(_sweep_result(page))
        return answers

    def _do_book(self) -> Reply:
        if not self.offered:
            return NO_BOOK
        if not self.protected:
            return {"protected": 0, "private": 0, "shared": 0, "book": []}
        numbers = {number for slot in self.slots.values() if not slot.read_only for number in slot.numbers}
        shared = len(numbers & self.shared)
        book = [[run.start, len(run)] for run in runs(sorted({*FIRMWARE, *self.shared}))]
        return {"protected": 1, "private": RAM + len(numbers) - shared, "shared": shared, "book": book}

    def _do_end(self, _: str) -> Reply:
        return NoneOf(frozenset(self.secrets))


def parse_operation(line: str) -> tuple[str, list[int | str]]:
    """An operation's name and operands.

    :raises UndefinedError: there is no such operation.
    """
    name, *words = line.split()
    kinds = OPERATIONS.get(name, "no such").split()
    if not len([kind for kind in kinds if kind[0] != "["]) <= len(words) <= len(kinds):
        raise UndefinedError(f"no operation: {line}")
    operands: dict[str, int | str] = {}
    for kind, word in zip((kind.strip("[]") for kind in kinds), words, strict=False):
        try:
            operands[kind] = word if kind in _WORDS else int(word, 0)
        except ValueError as error:
            raise UndefinedError(f"no operand: {line}") from error
        value = operands[kind]
        if value not in _WORDS[kind] if isinstance(value, str) else not 0 <= value <= _MOST.get(kind, MARKS):
            raise UndefinedError(f"no such {kind}: {line}")
    place, pages = operands.get("place", 0), operands.get("pages", 0)
    if isinstance(place, int) and isinstance(pages, int) and place + pages > ARENA:
        raise UndefinedError(f"not in the arena: {line}")
    return name, list(operands.values())


def _load_result(mapping: Mapping) -> str:
    """What a load of the page gets, or the signal that it meets."""
    if mapping.rights == "none":
        return "SIGSEGV"
    return "SIGBUS" if mapping.is_protected else str(mapping.frame.mark if mapping.frame else 0)


def _sweep_result(mapping: Mapping | None) -> str:
    """By load, write(), process_vm_readv(), /proc/self/mem and in the direct map; one word where all agree."""
    if mapping is None:
        return "SIGSEGV EFAULT EFAULT EIO none"
    mark = str(mapping.frame.mark) if mapping.frame else "0"
    if mapping.is_protected:
        return f"{_load_result(mapping)} EFAULT EFAULT EIO {'kept' if mapping.frame else 'none'}"
    return f"SIGSEGV EFAULT EFAULT {mark} {mark}" if mapping.rights == "none" else mark


def runs(numbers: Iterable[int]) -> list[range]:
    """Ascending numbers as ranges."""
    spans: list[range] = []
    for number in numbers:
        if spans and spans[-1].stop == number:
            spans[-1] = range(spans[-1].start, number + 1)
        else:
            spans.append(range(number, number + 1))
    return spans


def alike(numbers: range, members: set[int]) -> list[range]:
    """A range in parts, of which each lies in a set or beside it."""
    spans: list[range] = []
    for number in numbers:
        if spans and (spans[-1].start in members) == (number in members):
            spans[-1] = range(spans[-1].start, number + 1)
        else:
            spans.append(range(number, number + 1))
    return spans
