# SPDX-License-Identifier: GPL-2.0-or-later
"""The state machine by which Hypothesis makes up sequences of operations.

Rules ask the model alone. A sequence is carried out when it is complete: as a whole it takes no longer than one
operation of it would take by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from common.errors import SealproofError
from common.paths import PROJECT
from host_setup.search.model import ARENA, DONTNEED, NUMBERS, REFUSED_ADVICE, Model, UndefinedError
from host_setup.search.trial import Disagreement, with_looks

STEPS = 40  # operations of a sequence, at most
MOST = 16  # pages of an operation
NEAR = 6  # pages that a sequence is mostly about
HOLDERS = 2  # buffers at a time
# The guest's page numbers and the VMM's pages are beside each other here and there: ends of ranges and slots meet.
BEGINNINGS: tuple[tuple[str, ...], ...] = (
    (),
    ("slot 1 0x100 16 0 rw", "slot 2 0x110 16 16 rw", "enable", "fill 0x100 32 1 native"),
    ("slot 1 0x100 16 0 rw", "slot 2 0x110 16 16 rw", "fill 0x100 32 1 native", "enable"),
    ("slot 1 0x100 24 8 rw", "enable", "fill 0x100 24 1 emulated"),
    ("slot 1 0x100 32 0 rw", "enable", "fill 0x100 32 1 native"),
)
# What the VMM does to a page, and what the guest does next.
MEDDLING = (
    ("map", "unshare"),
    ("map", "look"),
    ("all", "look"),
    ("all", "share"),
    ("content", "look"),
    ("content", "share"),
    ("unmap", "fill"),
    ("release", "look"),
    ("release", "share"),
    ("read", "unshare"),
    ("read", "share"),
)
Spot = tuple[str, int]
Check = Callable[[Sequence[str]], Disagreement | None]

# Where: anywhere, near the place that this sequence is about, or where the guest shares a page.
spots = st.tuples(st.sampled_from(("any", "near", "near", "shared")), st.integers(0, ARENA - 1))
pages = st.one_of(st.integers(1, 4), st.integers(1, MOST))
holders = st.integers(0, HOLDERS - 1)
hows = st.sampled_from(("native", "emulated"))


class FoundError(Exception):
    """A sequence after which something is not as the model has it."""


class Machine(RuleBasedStateMachine):
    """Guest and VMM.

    :cvar check: carries out a sequence. :cvar protects: whether the guest asks for protection.
    """

    check: ClassVar[Check]
    protects: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.operations: list[str] = []
        self.mark = 1
        self.about = 0
        self.destroys = False

    def do(self, line: str) -> None:
        """Add an operation, unless nobody can say how it must end."""
        if line == "enable" and not self.protects:
            return
        try:
            for look in with_looks(line):
                self.model.do(look)
        except UndefinedError:
            return
        self.operations.append(line)

    def marks(self, count: int) -> int:
        """The first of so many numbers that no page has had."""
        first, self.mark = self.mark, self.mark + count
        return first

    def behind(self, number: int) -> int:
        """The VMM's page that a page number of the guest's leads to, or would have led to in the beginning."""
        slot = self.model.slot_of(number)
        return number - NUMBERS.start if slot is None else number + slot.shift

    def place(self, spot: Spot) -> int:
        """A page of the VMM's."""
        where, at = spot
        if where == "any":
            return at
        if where == "shared" and self.model.shared:
            return self.behind(self.number(spot))
        return self.about + at % NEAR

    def places(self, spot: Spot, count: int) -> str:
        """So many pages of the VMM's, or as many as there are, as operations name them."""
        place = self.place(spot)
        return f"{place} {min(count, ARENA - place)}"

    def number(self, spot: Spot) -> int:
        """A page number of the guest's."""
        where, at = spot
        shared = sorted(self.model.shared)
        if where == "shared" and shared:
            return shared[at % len(shared)]
        return NUMBERS[self.place(spot) % len(NUMBERS)]

    def teardown(self) -> None:
        """Carry it out."""
        if self.destroys:
            self.do("destroy")
        failure = type(self).check(self.operations)
        if failure is not None:
            raise FoundError(str(failure))

    @initialize(lines=st.sampled_from(BEGINNINGS), about=st.integers(0, 26), destroys=st.booleans())
    def begin(self, lines: Sequence[str], *, about: int, destroys: bool) -> None:
        """Begin where something can happen.

        :param about: the place that the sequence is about.
        :param destroys: whether the VM is to end before its VMM does.
        """
        self.about = about
        self.destroys = destroys
        self.marks(64)
        for line in lines:
            self.do(line)

    @rule(at=spots, count=pages)
    def share(self, at: Spot, count: int) -> None:
        """The guest shares pages."""
        self.do(f"share {self.number(at):#x} {count}")

    @rule(
        at=spots, count=pages, holder=st.sampled_from(("", "pin", "register", "transport", "fork", "second")), how=hows
    )
    def borrow(self, at: Spot, count: int, holder: str, how: str) -> None:
        """The guest shares pages, somebody takes hold of them, the guest takes them back and writes: what is held?"""
        number = self.number(at)
        behind: Spot = ("any", self.behind(number))
        self.do(f"share {number:#x} {count}")
        for ends in (False, True):
            if holder == "pin":
                self.pin(behind, 2)
            elif holder == "register":
                self.register(0, behind, 2)
            elif holder == "transport":
                self.transport(behind)
            elif holder == "fork":
                self.fork(ends=False)
            elif holder == "second":
                self.second(behind, count)
            if not ends:
                self.do(f"unshare {number:#x} {count}")
                self.do(f"fill {number:#x} {count} {self.marks(count)} {how}")

    @rule(at=spots, to=spots, count=pages, operation=st.sampled_from(MEDDLING))
    def meddle(self, at: Spot, to: Spot, count: int, operation: tuple[str, str]) -> None:
        """The VMM changes what is behind a page of the guest's, which uses it then."""
        change, request = operation
        number = self.number(to)
        behind: Spot = ("any", self.behind(number))
        if change in ("all", "content"):
            self.move(at, behind, change)
        elif change == "map":
            self.map(behind, count)
        elif change == "unmap":
            self.unmap(behind, count)
        elif change == "release":
            self.release(behind, count)
        else:
            self.protect(behind, count, change)
        if request == "look":
            self.do(f"look {number:#x} {count} native")
        elif request == "fill":
            self.do(f"fill {number:#x} {count} {self.marks(count)} native")
        else:
            self.do(f"{request} {number:#x} {count}")
        if change == "read":
            self.protect(behind, count, "write")

    @rule(data=st.data(), count=pages)
    def share_in_slot(self, data: st.DataObject, count: int) -> None:
        """The guest shares pages of one memory slot."""
        if self.model.slots:
            slot = self.model.slots[data.draw(st.sampled_from(sorted(self.model.slots)))]
            number = data.draw(st.integers(slot.first, slot.numbers.stop - 1))
            self.do(f"share {number:#x} {min(count, slot.numbers.stop - number)}")

    @rule(at=spots, count=pages)
    def unshare(self, at: Spot, count: int) -> None:
        """The guest takes pages back."""
        self.do(f"unshare {self.number(at):#x} {count}")

    @rule(at=spots, count=pages, how=hows)
    def fill(self, at: Spot, count: int, how: str) -> None:
        """The guest writes to pages."""
        self.do(f"fill {self.number(at):#x} {count} {self.marks(count)} {how}")

    @rule(at=spots, count=pages, how=hows)
    def look(self, at: Spot, count: int, how: str) -> None:
        """The guest reads pages."""
        self.do(f"look {self.number(at):#x} {count} {how}")

    @rule(key=st.integers(1, 4), at=spots, count=pages, to=spots, kind=st.sampled_from(("rw", "rw", "ro")))
    def slot(self, key: int, at: Spot, count: int, to: Spot, kind: str) -> None:
        """The VMM adds a memory slot."""
        number, place = self.number(at), self.place(to)
        self.do(f"slot {key} {number:#x} {min(count, NUMBERS.stop - number, ARENA - place)} {place} {kind}")

    @rule(data=st.data(), to=st.none() | spots)
    def unslot(self, data: st.DataObject, to: Spot | None) -> None:
        """The VMM deletes a memory slot, and has other memory there at once, or none."""
        if self.model.slots:
            key = data.draw(st.sampled_from(sorted(self.model.slots)))
            slot = self.model.slots[key]
            self.do(f"unslot {key}")
            if to is not None:
                place = self.place(to)
                self.do(f"slot {key} {slot.first:#x} {min(slot.pages, ARENA - place)} {place} rw")

    @rule(at=spots, count=pages)
    def store(self, at: Spot, count: int) -> None:
        """The VMM writes."""
        self.do(f"store {self.places(at, count)} {self.marks(count)}")

    @rule(at=spots, count=pages)
    def map(self, at: Spot, count: int) -> None:
        """The VMM puts other memory there."""
        self.do(f"map {self.places(at, count)} {self.marks(count)}")

    @rule(at=spots, count=pages)
    def unmap(self, at: Spot, count: int) -> None:
        """The VMM unmaps."""
        self.do(f"unmap {self.places(at, count)}")

    @rule(at=spots, to=spots, part=st.sampled_from(("all", "content")))
    def move(self, at: Spot, to: Spot, part: str) -> None:
        """The VMM moves a page by mremap()."""
        self.do(f"move {self.place(at)} {self.place(to)} {part}")

    @rule(at=spots, count=pages, rights=st.sampled_from(("write", "write", "read", "none")))
    def protect(self, at: Spot, count: int, rights: str) -> None:
        """The VMM changes its rights by mprotect()."""
        self.do(f"protect {self.places(at, count)} {rights}")

    @rule(at=spots, count=pages)
    def release(self, at: Spot, count: int) -> None:
        """The VMM gives memory back to the kernel, as a balloon does."""
        self.do(f"advise {self.places(at, count)} {DONTNEED}")

    @rule(at=spots, advice=st.sampled_from(REFUSED_ADVICE))
    def advise(self, at: Spot, advice: int) -> None:
        """The VMM advises what private memory must not heed."""
        self.do(f"advise {self.place(at)} 1 {advice}")

    @rule(at=spots, count=pages)
    def pin(self, at: Spot, count: int) -> None:
        """A driver pins pages for long; or a device reads those that are pinned, and the driver may let go."""
        if not self.model.pins:
            self.do(f"pin {self.places(at, count)}")
        else:
            self.do("pinned")
            if count == 1:
                self.do("unpin")

    @rule(holder=holders, at=spots, count=pages)
    def register(self, holder: int, at: Spot, count: int) -> None:
        """The VMM registers a buffer with io_uring; or the kernel reads and writes it, and it may be taken away."""
        if holder not in self.model.buffers:
            self.do(f"register {holder} {self.place(at)}")
            return
        if count % 2:
            self.do(f"registered {holder} {self.marks(1)}")
        self.do(f"registered {holder}")
        if count == 1:
            self.do(f"unregister {holder}")

    @rule(ends=st.booleans())
    def fork(self, *, ends: bool) -> None:
        """The VMM forks; or the child looks, and may end."""
        self.do("child" if self.model.child is not None else "fork")
        if ends:
            self.do("reap")

    @rule(at=spots)
    def transport(self, at: Spot) -> None:
        """I/O begins for which nothing is there yet; or something comes for it."""
        self.do(f"await {self.place(at)}" if self.model.awaited is None else f"arrive {self.marks(1)}")

    @rule(at=spots, count=pages)
    def second(self, at: Spot, count: int) -> None:
        """A second VM gets a slot over the memory, and looks."""
        places = self.places(at, count)
        self.do(f"second {places}")
        self.do(f"seconds {places.split()[1]}")

    @rule(asks=st.booleans())
    def seconds(self, *, asks: bool) -> None:
        """The second VM looks again, and may ask for protection."""
        if asks:
            self.do("second_enables")
        if self.model.second is not None:
            self.do(f"seconds {len(self.model.second)}")

    @rule(resets=st.booleans())
    def enable(self, *, resets: bool) -> None:
        """The machine may be reset, and boots; the guest asks for protection."""
        if resets:
            self.do("reset")
        if not self.model.protected:
            self.do("enable")


def search(check: Check, *, number: int, sequences: int, protects: bool) -> tuple[tuple[str, ...], Disagreement] | None:
    """Try sequences; returns the first that failed, and how, or nothing.

    :param check: carries out a sequence. :param number: the seed.
    :param protects: whether the guest asks for protection.
    :raises SealproofError: ``check`` raised it.
    """
    results: dict[tuple[str, ...], Disagreement | None] = {}
    broken: list[SealproofError] = []

    def once(operations: Sequence[str]) -> Disagreement | None:
        key = tuple(operations)
        if broken:  # Hypothesis tries again what raised an error, and must see the same
            raise broken[0]
        if key not in results:
            try:
                results[key] = check(key)
            except SealproofError as error:
                broken.append(error)
                raise
        return results[key]

    machine = type("Machine", (Machine,), {"check": staticmethod(once), "protects": protects})
    chosen = settings(
        max_examples=sequences,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        # A sequence is shortened by trial.shorten(): Hypothesis takes ten times as many attempts to get as far.
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    set_hypothesis_home_dir(PROJECT / ".hypothesis")  # or there is one wherever the user is
    with suppress(FoundError):
        run_state_machine_as_test(seed(number)(machine), settings=chosen)
    return next(((key, failure) for key, failure in results.items() if failure is not None), None)
