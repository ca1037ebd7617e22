# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the pages of a process are: /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""

from __future__ import annotations

from dataclasses import dataclass

from host_setup.channels.puppets import Puppet
from host_setup.channels.ssh import Ssh
from host_setup.hosts.guest_memory import PAGEMAP_ENTRY, PAGEMAP_PFN, PAGEMAP_PRESENT
from signoff.observation import PAGE_SIZE

SWAPPED = 1 << 62
SWAP_TYPE_BITS = 5  # below the offset in the swap area


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page is: a page frame's number, or the offset in the swap area, in pages; neither, if it is nowhere."""

    frame: int | None = None
    slot: int | None = None


def place(process: Puppet, pid: int, address: int) -> Place:
    """Where a page of a process is.

    :param process: one of ours, which asks.
    """
    return place_of(_entry(process, f"/proc/{pid}/pagemap", address // PAGE_SIZE))


def places(ssh: Ssh, pid: int, address: int, count: int) -> list[Place]:
    """Where so many pages of a process are, from an address on."""
    command = (
        f"/usr/bin/dd if=/proc/{pid}/pagemap iflag=skip_bytes,count_bytes bs=64K"
        f" skip={address // PAGE_SIZE * PAGEMAP_ENTRY.size} count={count * PAGEMAP_ENTRY.size} status=none"
    )
    read = ssh.run(["sh", "-c", command], seconds=60).require().stdout
    return [place_of(entry) for (entry,) in PAGEMAP_ENTRY.iter_unpack(read)]


def merge_places(ssh: Ssh, pid: int) -> set[int]:
    """Where the mappings of a process begin that hold a page which KSM has merged (``KSM`` in /proc/PID/smaps).

    Not by /proc/kpageflags: Linux 6.12 sets KPF_KSM for every anonymous page (fs/proc/page.c stable_page_flags() tests
    for any bit of PAGE_MAPPING_KSM, one of which is PAGE_MAPPING_ANON).
    """
    frames: set[int] = set()
    begins = 0
    for line in ssh.run(["cat", f"/proc/{pid}/smaps"], seconds=20).require().text.splitlines():
        name, *values = line.split()
        if name == "KSM:" and values[0] != "0":
            frames.add(begins)
        elif not name.endswith(":"):
            begins = int(name.partition("-")[0], 16)
    return frames


def _entry(process: Puppet, path: str, number: int) -> int:
    file, buffer = process.open(path), process.memory(PAGEMAP_ENTRY.size)
    process.syscall("pread64", file, buffer, PAGEMAP_ENTRY.size, number * PAGEMAP_ENTRY.size).require(f"read {path}")
    process.syscall("close", file).require("close")
    (entry,) = PAGEMAP_ENTRY.unpack(process.read(buffer, PAGEMAP_ENTRY.size))
    return int(entry)


def place_of(entry: int) -> Place:
    """What an entry of pagemap says."""
    if entry & PAGEMAP_PRESENT:
        return Place(frame=entry & PAGEMAP_PFN)
    return Place(slot=(entry & PAGEMAP_PFN) >> SWAP_TYPE_BITS) if entry & SWAPPED else Place()
