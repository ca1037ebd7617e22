# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a guest's memory lies, and what its host's kernel knows of it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.errors import MachineError
from host_setup.channels.line_server import LineServer
from host_setup.channels.qmp import Qmp
from host_setup.channels.ssh import Ssh
from host_setup.hosts import exits
from host_setup.hosts.exits import Exits

PAGE = 4096
# Documentation/admin-guide/mm/pagemap.rst
PAGEMAP_ENTRY = struct.Struct("<Q")
PAGEMAP_PRESENT = 1 << 63
PAGEMAP_PFN = (1 << 55) - 1
PAGES_PER_REQUEST = 32  # pages in one request, which has at most 40 words (guest_images/programs/lib/line_server.h)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a page of the guest is: guest-physical, virtual in its QEMU, host-physical; all in bytes."""

    gpa: int
    hva: int
    hpa: int


class GuestMemory:
    """The memory of a guest, as its QEMU and its host's kernel see it.

    :param whose: names the guest. :param page_info: the program on the host that asks the kernel about that QEMU.
    :param qmp: QMP of that QEMU.
    :param host: the session with the host. :param pid: the process id of the QEMU there.
    """

    def __init__(
        self,
        whose: str,
        page_info: LineServer,
        qmp: Callable[[], Qmp],
        host: Callable[[], Ssh],
        pid: Callable[[], int],
    ) -> None:
        self._whose = whose
        self._page_info = page_info
        self._qmp = qmp
        self._host = host
        self._pid = pid
        self._hvas: dict[int, int] = {}

    def addresses(self, gpas: Sequence[int]) -> list[Address]:
        """Where guest-physical addresses lie: in its QEMU as that tells (HMP gpa2hva), on the host by its page tables.

        Not by HMP gpa2hpa: QEMU writes to the page before it looks, and dies of that on a private one.

        :raises MachineError: QEMU knows no memory there, or the page is not in memory.
        """
        hvas = [self._hva(gpa) for gpa in gpas]
        entries = self._page_info.ask(" ".join(["pagemap", *map(hex, hvas)]))["entries"]
        for gpa, entry in zip(gpas, entries, strict=True):
            if not entry & PAGEMAP_PRESENT or not entry & PAGEMAP_PFN:
                raise MachineError(f"the page at guest-physical {gpa:#x} is not in the host's memory: {entry:#x}")
        return [
            Address(gpa, hva, (entry & PAGEMAP_PFN) * PAGE + hva % PAGE)
            for gpa, hva, entry in zip(gpas, hvas, entries, strict=True)
        ]

    def frames(self, gpas: Sequence[int]) -> list[int | None]:
        """Physical addresses of pages in the host's memory; None for one that is not there.

        :param gpas: guest-physical addresses in one piece of its memory, which QEMU is asked about once.
        :raises MachineError: QEMU knows no memory there.
        """
        first = self._hva(gpas[0]) - gpas[0]
        hvas = [hex(first + gpa) for gpa in gpas]
        requests = (
            " ".join(["pagemap", *hvas[at : at + PAGES_PER_REQUEST]]) for at in range(0, len(hvas), PAGES_PER_REQUEST)
        )
        entries = [entry for reply in self._page_info.ask_all(*requests) for entry in reply["entries"]]
        return [(entry & PAGEMAP_PFN) * PAGE if entry & PAGEMAP_PRESENT else None for entry in entries]

    def _hva(self, gpa: int) -> int:
        """Asked once for each page: QEMU's mapping of its guest's memory stays where it is."""
        page = gpa - gpa % PAGE
        if page not in self._hvas:
            self._hvas[page] = self._ask_monitor("gpa2hva", page)
        return self._hvas[page] + gpa % PAGE

    def kernel_view_of(self, hvas: Sequence[int]) -> tuple[list[str], str]:
        """What its host's kernel knows of its QEMU's addresses, and of its protection, now: sharing changes that.

        :returns: the mapping that holds each address, with its flags, of which ``kp`` means private memory of a
            protected guest; and what ``protection`` returns.
        :raises MachineError: no mapping holds it.
        """
        of_pages, of_guest = self._page_info.ask_all(" ".join(["mappings", *map(hex, hvas)]), "protection")
        mappings = of_pages["mappings"]
        for hva, (mapping, _) in zip(hvas, mappings, strict=True):
            if not mapping:
                raise MachineError(f"no mapping of /proc/{self._pid()}/smaps holds {hva:#x}")
        return [f"/proc/{self._pid()}/smaps: {mapping}; {flags}" for mapping, flags in mappings], str(
            of_guest["protection"]
        )

    def mappings_with_flag(self, flag: str) -> list[tuple[int, int]]:
        """All mappings of its QEMU that have a flag: first address of each, and the one after its last."""
        argv = ["grep", "-E", "^[0-9a-f]+-[0-9a-f]+ |^VmFlags:", f"/proc/{self._pid()}/smaps"]
        ranges: list[tuple[int, int]] = []
        span = (0, 0)
        for line in self._host().run(argv, seconds=20).require().text.splitlines():
            first, dash, end = line.split(maxsplit=1)[0].partition("-")
            if dash:
                span = (int(first, 16), int(end, 16))
            elif flag in line.split()[1:]:
                ranges.append(span)
        return ranges

    def protection(self) -> str:
        """What its host's kernel tells of its protection (KVM's debugfs); empty if it tells nothing."""
        return str(self._page_info.ask("protection")["protection"])

    def exits(self) -> Exits:
        """How its QEMU's KVM_RUN has ended, and what KVM has emulated for it, since the host's start.

        :raises MachineError: it has not run yet.
        """
        return exits.parse(self._page_info.ask("exits"))

    def _ask_monitor(self, command: str, gpa: int) -> int:
        answer = self._qmp().monitor(f"{command} {gpa:#x}")
        match = re.search(r" is (0x[0-9a-f]+)$", answer)
        if match is None:
            raise MachineError(f"{command} {gpa:#x} of {self._whose}: {answer}")
        return int(match.group(1), 16)
