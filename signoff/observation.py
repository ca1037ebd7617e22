# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare facts of one probe run. Nothing here says whether they are good or bad."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from common.ending import Ending
from signoff import hidden

PAGE_SIZE = 4096
CANARY_RUN_BYTES = 8
"""Bytes in a row that count as the canary's: by chance they meet with probability 2**-52 for each place looked at."""
CANARY_LEAST_BYTES = 4
"""A shorter answer of a probe leaked if all of it, at least so many bytes, stands in the canary."""


class Page(StrEnum):
    """What the guest uses the page for; each kind lives in another part of the guest's memory."""

    USER = "user"
    KERNEL = "kernel"
    CACHE = "page cache"


class State(StrEnum):
    """Who may see the page."""

    PLAIN = "plain"
    """In a guest that did not ask for protection."""
    PRIVATE = "private"
    """In a guest that asked for protection, a page that it has not shared."""
    SHARED = "shared"
    """In a guest that asked for protection, a page that it has shared by hypercall."""


class After(StrEnum):
    """What the guest found in the page when it read it again after the probe."""

    INTACT = "intact"
    OVERWRITTEN = "overwritten"
    """Exactly what the attacker wrote."""
    CHANGED = "changed"
    """Neither its own bytes nor all of the attacker's."""


class Canary:
    """The random page that a guest holds; it can be compared with, and never printed.

    :param data: 4,096 random bytes. :param key: what the guest made them of; empty if nobody knows.
    :raises ValueError: if the size is wrong or the bytes are visibly not random. A page of zeros would make every
        failed read a leak, and every control a success.
    """

    __slots__ = ("_bytes", "_places", "fingerprint", "key")

    def __init__(self, data: bytes, key: bytes = b"") -> None:
        if len(data) != PAGE_SIZE:
            raise ValueError(f"a canary has {PAGE_SIZE} bytes, not {len(data)}")
        self._bytes = bytes(data)
        self.key = key
        self._places = {self._bytes[at : at + CANARY_RUN_BYTES]: at for at in range(PAGE_SIZE - CANARY_RUN_BYTES + 1)}
        if len(self._places) != PAGE_SIZE - CANARY_RUN_BYTES + 1:
            raise ValueError("a canary must be random: this one repeats itself")
        self.fingerprint = hashlib.sha256(self._bytes).hexdigest()[:16]
        """Names the canary in the evidence and does not disclose it."""

    def __repr__(self) -> str:
        return f"<canary {self.fingerprint}>"

    def reveal(self) -> dict[str, str]:
        """The key, or the bytes where there is none: published when the probe is over, so that anybody can recount."""
        return {"canary_key": self.key.hex()} if self.key else {"canary_bytes": self._bytes.hex()}

    def commitment(self, *where: str) -> str:
        """What binds the canary to words of where it lies before any probe, and does not disclose it: a SHA-256."""
        return hashlib.sha256("\0".join(where).encode() + b"\0" + self._bytes).hexdigest()

    def find_hidden(self, data: bytes) -> hidden.Find | None:
        """Bytes of the canary in ``data`` that ``leaked`` does not count: fewer, or in another form."""
        return hidden.find(self._bytes, data)

    def count_leaked(self, data: bytes, cuts: Sequence[int] = ()) -> int:
        """How many bytes of the canary ``data`` discloses, 0 to 4,096, each counted once.

        Runs of at least 8 bytes count, at any offset in either. Data shorter than that (4 to 7 bytes) counts when all
        of it stands in the canary. No run goes across one of the ``cuts``: behind the end of a run one byte in 256 is
        the canary's next by chance.
        """
        if CANARY_LEAST_BYTES <= len(data) < CANARY_RUN_BYTES:
            return len(data) if data in self._bytes else 0
        marks = bytearray(PAGE_SIZE)
        places = self._places
        for begin, end in itertools.pairwise((0, *cuts, len(data))):
            for start in range(begin, end - CANARY_RUN_BYTES + 1):
                at = places.get(data[start : start + CANARY_RUN_BYTES])
                if at is not None:
                    marks[at : at + CANARY_RUN_BYTES] = b"\1" * CANARY_RUN_BYTES
        return marks.count(1)


@dataclass(frozen=True, slots=True)
class Aim:
    """Which page a probe is aimed at, and when and where that was put down, before the probe.

    :ivar run: of the sign-off. :ivar host: one start of one host. :ivar guest: its name.
    :ivar gpa: guest-physical address, from the guest. :ivar hva: address in QEMU, from QEMU.
    :ivar hpa: host-physical address, from the host's kernel.
    :ivar mapping: first address of QEMU's mapping there and the one after its last, from the host's kernel.
    :ivar planted: when, in seconds since 1970. :ivar commitment: to the canary, see ``Canary.commitment``.
    """

    run: str
    host: str
    guest: str
    gpa: int
    hva: int
    hpa: int
    mapping: tuple[int, int]
    planted: float
    commitment: str

    @property
    def fault(self) -> str:
        """Why these addresses are none of one page; empty if they are."""
        first, end = self.mapping
        if not all((self.run, self.host, self.guest)):
            return "no run, host and guest are named"
        if any(address % PAGE_SIZE for address in (self.gpa, self.hva, self.hpa)):
            return "an address is not a page's"
        if not self.hva or not self.hpa:
            return "the page is nowhere in QEMU or in the host's memory"
        return "" if first <= self.hva < end else "QEMU has no mapping at the page's address"


def where(page: str, state: str, aim: Aim) -> tuple[str, ...]:
    """The words that a commitment binds a canary to."""
    return aim.run, aim.host, aim.guest, page, state, hex(aim.gpa)


Fact = tuple[str, str]
"""One more thing that the probe tells: name and value."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One probe run on one page.

    :ivar page: which page. :ivar state: who may see it.
    :ivar call: the probe's way in, the same word in subject and control: ``process_vm_readv``.
    :ivar canary: what the page held before.
    :ivar reach: evidence that the probe was aimed at that page: guest-physical, virtual and physical address, the
        mapping. Without it a refusal says nothing. :ivar aim: the same as facts that can be checked.
    :ivar seen: when the probe was over, in seconds since 1970.
    :ivar ending: how the call ended.
    :ivar data: what the attacker got. :ivar cuts: offsets in it, ascending, where bytes meet that the attacker has from
        different places. :ivar page_after: what the guest found afterwards; None if it did not look.
    """

    page: Page
    state: State
    call: str
    canary: Canary
    reach: tuple[str, ...]
    ending: Ending = field(default_factory=Ending)
    data: bytes = b""
    cuts: tuple[int, ...] = ()
    page_after: After | None = None
    facts: tuple[Fact, ...] = ()
    aim: Aim | None = None
    seen: float = field(default_factory=time.time)

    @property
    def leaked(self) -> int:
        """Bytes of the page's own canary that the attacker got."""
        return self.canary.count_leaked(self.data, self.cuts)


@dataclass(frozen=True, slots=True)
class Check:
    """One result of a path that must work: what it should be, what it was. Equal text means right."""

    name: str
    expected: str
    got: str

    @classmethod
    def that(cls, name: str, holds: object) -> Check:
        """A check that something is so: ``true`` is expected, and ``holds`` is what was seen."""
        return cls(name, "true", str(holds).lower())

    @classmethod
    def none(cls, name: str, lines: Iterable[str]) -> Check:
        """A check that there is nothing of a kind; what there is stands in the result."""
        return cls(name, "none", "; ".join(lines) or "none")

    @property
    def right(self) -> bool:
        """Whether it is as it should be."""
        return self.expected == self.got
