# SPDX-License-Identifier: GPL-2.0-or-later
"""The control of a search for what a guest keeps: a process of the host that has something else in every encoding."""

from __future__ import annotations

from collections.abc import Mapping

from host_setup.channels.puppets import Puppet
from host_setup.channels.ssh import Ssh
from signoff.observation import PAGE_SIZE, Check
from tests_e2e.support.field import REPEATS, Field, fresh_line
from tests_e2e.support.frame_owners import PROCESS, owners_of
from tests_e2e.support.pagemap import places
from tests_e2e.support.residue import encodings
from tests_e2e.support.translations import Memory


def pages_in_each_encoding(line: bytes) -> dict[str, bytes]:
    """A page full of a line in each encoding, by the encoding's name."""
    pages: dict[str, bytes] = {}
    for name, content in encodings(line * REPEATS):
        pages.setdefault(name, (content * PAGE_SIZE)[:PAGE_SIZE])
    return pages


class Decoy:
    """A field that a process of the host has, a page in each encoding, and no guest.

    :ivar field: what to look for.
    """

    def __init__(self, ssh: Ssh, process: Puppet) -> None:
        self.field = Field(fresh_line(), 0)
        pages = pages_in_each_encoding(self.field.line)
        address = process.memory(b"".join(pages.values()))
        entries = places(ssh, process.pid, address, len(pages))
        self._frames = {name: place.frame for name, place in zip(pages, entries, strict=True)}
        self._ssh = ssh

    def checks(self, memory: Memory, frames_of: Mapping[str, frozenset[int]]) -> list[Check]:
        """Whether the search found it in every encoding, and whether whose it is was told.

        :param memory: the host's. :param frames_of: page frames by encoding.
        """
        missed = [name for name, frame in self._frames.items() if frame not in frames_of.get(name, ())]
        whose = owners_of(self._ssh, memory, (frame for frame in self._frames.values() if frame is not None))
        return [
            Check("encodings in which a process of the host has another, and it was not found", "none", _list(missed)),
            Check("whose these pages are", PROCESS, _list(sorted(set(whose.values())))),
        ]


def _list(words: list[str]) -> str:
    return ", ".join(words) or "none"
