# SPDX-License-Identifier: GPL-2.0-or-later
"""A field: thousands of a guest's pages with one content, each of whose pieces is known wherever it lies.

A canary is one page of a few; a fault that spares these, as one at a range's end does, is seen by a field alone.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from common.errors import MachineError
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Check
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.memory import MIB, shell
from tests_e2e.support.translations import Memory

LINE = 64  # bytes of which a field is made again and again; a page has so many of them whole
KNOWN = 24  # bytes of a line that tell it, wherever it was cut
FIELD = 24  # MiB
AS_IT_IS = "as it is"
NAMED = 4  # pages that a check names


@dataclass(frozen=True, slots=True)
class Field:
    """A guest's field.

    :ivar line: its content, which nobody else has. :ivar pages: that are full of it.
    """

    line: bytes
    pages: int

    def __repr__(self) -> str:
        """Without the content: it appears in no log."""
        return f"Field(pages={self.pages})"

    @property
    def encodings(self) -> dict[str, bytes]:
        """What to look for: a piece of a line as it is, from its end, and with all bits inverted."""
        piece = self.line[:KNOWN]
        return {AS_IT_IS: piece, "reversed": piece[::-1], "inverted": bytes(0xFF - byte for byte in piece)}

    def frames(self, memory: Memory) -> dict[str, frozenset[int]]:
        """The page frames of a memory that hold a piece of it, by encoding."""
        return {
            name: frozenset(found.start() // PAGE_SIZE for found in re.finditer(re.escape(piece), memory))
            for name, piece in self.encodings.items()
        }


def plant_field(guest: Guest, mib: int = FIELD, name: str = "field") -> Field:
    """Have a guest fill a file of its memory.

    :raises MachineError: it did not.
    """
    words, path = secrets.token_hex(LINE)[: LINE - 1], f"/run/{name}"
    # The guest's own program makes it: what crosses the network is encrypted.
    shell(guest, f"yes {words} | dd of={path} bs=64k count={mib * MIB // 65536} iflag=fullblock 2> /dev/null")
    size = int(shell(guest, f"stat -c %s {path}"))
    if size != mib * MIB:
        raise MachineError(f"guest {guest.spec.name} filled {size} bytes of {mib * MIB}")
    return Field(f"{words}\n".encode(), size // PAGE_SIZE)


def nothing_left(host: Host, end: Callable[[Guest], object]) -> list[list[Check]]:
    """Whether a guest's field is gone from all of its host's memory when the guest has ended, for each guest.

    :param end: ends a guest. A plain one's memory is left as it was: the search is one that finds.
    """
    fields = {guest: plant_field(guest) for guest in host.guests}
    private = {guest: guest.protected for guest in fields}  # none of them can be asked afterwards
    for guest in fields:
        end(guest)
    with memory_of(host) as memory:
        return [_checks(field, field.frames(memory), private=private[guest]) for guest, field in fields.items()]


def _checks(field: Field, left: dict[str, frozenset[int]], *, private: bool) -> list[Check]:
    found, *others = left.items()
    most = f"at least half of {field.pages}"  # the host may have used some of what a guest gave back
    got = named(found[1]) if private or len(found[1]) < field.pages // 2 else most
    return [
        Check(f"pages of the host's memory that hold the field {found[0]}", "none" if private else most, got),
        *(Check(f"pages that hold it {name}", "none", named(frames)) for name, frames in others),
    ]


def named(frames: Collection[int]) -> str:
    """A few of many page frames, and how many there are."""
    few: Sequence[int] = sorted(frames)[:NAMED]
    return f"{len(frames)}: {', '.join(f'{frame * PAGE_SIZE:#x}' for frame in few)}" if frames else "none"
