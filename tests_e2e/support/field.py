# SPDX-License-Identifier: GPL-2.0-or-later
"""A field: thousands of a guest's pages with one content, each of whose pieces is known wherever it lies.

A canary is one page of a few; a fault that spares these, as one at a range's end does, is seen by a field alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from common.errors import MachineError
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Check
from tests_e2e.support.frame_owners import owners_of
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.memory import MIB, shell
from tests_e2e.support.residue import common_words, search, words_of
from tests_e2e.support.translations import Memory

LINE = 64  # bytes of which a field is made again and again; a page has so many of them whole
REPEATS = 16  # lines in which every encoding has all that it makes of a field
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # few texts have eight of these in a row: a search passes over nearly all pages
FIELD = 24  # MiB
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
    def words(self) -> dict[int, str]:
        """All words that it has in any encoding, with the encoding's name."""
        return words_of(self.line * REPEATS)


def fields_in(
    memory: Memory, fields: Iterable[Field], skip: Collection[int] = ()
) -> dict[Field, dict[str, frozenset[int]]]:
    """The page frames of a memory that hold a piece of fields: for each field by encoding, all of them named.

    :param skip: frames that are not looked at.
    """
    words = {field: field.words for field in fields}
    frames_of: dict[Field, dict[str, set[int]]] = {
        field: {name: set() for name in theirs.values()} for field, theirs in words.items()
    }
    whose = {word: (field, name) for field, theirs in words.items() for word, name in theirs.items()}
    for frame, names in search(memory, whose, skip).items():
        for field, name in names:
            frames_of[field][name].add(frame)
    return {field: {name: frozenset(frames) for name, frames in names.items()} for field, names in frames_of.items()}


def fresh_line() -> bytes:
    """A line that nobody else has, in capital letters; each word of it can be told from anybody's."""
    line = b""
    while not line or common_words(line * REPEATS):
        line = "".join(secrets.choice(LETTERS) for _ in range(LINE - 1)).encode() + b"\n"
    return line


def plant_field(guest: Guest, mib: int = FIELD, name: str = "field") -> Field:
    """Have a guest fill a file of its memory.

    :raises MachineError: it did not.
    """
    line, path = fresh_line(), f"/run/{name}"
    # The guest's own program makes it: what crosses the network is encrypted.
    shell(
        guest,
        f"yes {line.decode().strip()} | dd of={path} bs=64k count={mib * MIB // 65536} iflag=fullblock 2> /dev/null",
    )
    size = int(shell(guest, f"stat -c %s {path}"))
    if size != mib * MIB:
        raise MachineError(f"guest {guest.spec.name} filled {size} bytes of {mib * MIB}")
    return Field(line, size // PAGE_SIZE)


def nothing_left(host: Host, end: Callable[[Guest], object]) -> list[list[Check]]:
    """Whether a guest's field is gone from all of its host's memory when the guest has ended, for each guest.

    :param end: ends a guest. A plain one's memory is left as it was: the search is one that finds.
    """
    fields = {guest: plant_field(guest) for guest in host.guests}
    private = {guest: guest.protected for guest in fields}  # none of them can be asked afterwards
    for guest in fields:
        end(guest)
    results = []
    with memory_of(host) as memory:
        frames_of_fields = fields_in(memory, fields.values())
        for guest, field in fields.items():
            frames = frozenset().union(*frames_of_fields[field].values()) if private[guest] else ()
            whose = owners_of(host.ssh, memory, frames)
            results.append(_checks(field, frames_of_fields[field], whose, private=private[guest]))
    return results


def _checks(
    field: Field, frames_by_name: dict[str, frozenset[int]], whose: Mapping[int, str], *, private: bool
) -> list[Check]:
    own_frames, *others = frames_by_name.items()
    most = f"at least half of {field.pages}"  # the host may have used some of what a guest gave back
    actual = name_frames(own_frames[1], whose) if private or len(own_frames[1]) < field.pages // 2 else most
    return [
        Check(f"pages of the host's memory that hold the field {own_frames[0]}", "none" if private else most, actual),
        *(Check(f"pages that hold it {name}", "none", name_frames(frames, whose)) for name, frames in others),
    ]


def name_frames(frames: Collection[int], owners: Mapping[int, str] | None = None) -> str:
    """A few of many page frames, and how many there are.

    :param owners: whose they are.
    """
    whose = {frame: f" ({owner})" for frame, owner in (owners or {}).items()}
    few: Sequence[str] = [f"{frame * PAGE_SIZE:#x}{whose.get(frame, '')}" for frame in sorted(frames)[:NAMED]]
    return f"{len(frames)}: {', '.join(few)}" if few else "none"
