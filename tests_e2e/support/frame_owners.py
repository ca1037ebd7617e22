# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose a page frame of the host is: for who reads what was found there.

What kind of memory it is the host's kernel tells (Linux 6.12: Documentation/admin-guide/mm/pagemap.rst, and
/proc/vmallocinfo). Which slab it is part of is read in the kernel's memory from outside. No verdict on private memory
hangs on these names: that something was found, wherever it is, is the finding. Of what the host may have, a boundary,
they tell whether the kernel alone has it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator

from host_setup.channels.ssh import Ssh
from tests_e2e.support.kernel_memory import KernelMemory
from tests_e2e.support.translations import Mapped, Memory, root_of, walk_from

FLAGS = "/proc/kpageflags"
FEW = 64  # frames that are asked about
ENTRY = struct.Struct("<Q")
AREA = re.compile(r"0x([0-9a-f]+)-0x([0-9a-f]+)\s+\d+ (\w+)")  # a line of /proc/vmallocinfo
SYMBOLS = ("__per_cpu_offset", "pcpu_unit_size")
CPUS = 64  # at most: CONFIG_NR_CPUS of our kernels
KERNEL, SLAB, FREE = "other memory of the kernel's", "a slab", "free memory"
PROCESS, CACHE = "anonymous memory of a process", "the page cache"
NOT_THE_KERNELS = (FREE, PROCESS, CACHE, "mapped by a process")
ANONYMOUS, ARCH_3 = 12, 42  # bits: a page of a process; what the series calls private (PG_arch_3)
# include/uapi/linux/kernel-page-flags.h; what comes first tells most.
OWNERS = (
    (20, "no memory"),
    (24, "the page of zeros"),
    (10, FREE),
    (26, "a page table"),
    (7, SLAB),
    (ANONYMOUS, PROCESS),
    (5, CACHE),
    (32, "reserved by the kernel"),
    (11, "mapped by a process"),
)


def owner(flags: int) -> str:
    """Whose a frame with these flags is."""
    return next((name for bit, name in OWNERS if flags >> bit & 1), KERNEL)


def is_private_frame(ssh: Ssh, frame: int) -> bool:
    """Whether a guest has the frame, as the series marks it: for when to look closer."""
    read = ["dd", f"if={FLAGS}", f"bs={ENTRY.size}", "count=1", f"skip={frame}", "status=none"]
    (flags,) = ENTRY.unpack(ssh.run(read, seconds=20).require().stdout)
    return bool(flags >> ANONYMOUS & flags >> ARCH_3 & 1)


def owners_of(ssh: Ssh, memory: Memory, frames: Iterable[int]) -> dict[int, str]:
    """Whose some page frames are; of many the first few are asked about.

    :param memory: the host's.
    """
    some = sorted(frames)[:FEW]
    if not some:
        return {}
    read = f"dd if={FLAGS} bs={ENTRY.size} count=1 status=none skip="
    flags = ssh.run(["sh", "-c", "; ".join(f"{read}{frame}" for frame in some)], seconds=60).require().stdout
    kinds = {frame: owner(flags) for frame, (flags,) in zip(some, ENTRY.iter_unpack(flags), strict=True)}
    if KERNEL not in kinds.values() and SLAB not in kinds.values():
        return kinds
    root = root_of(ssh)
    kernel = KernelMemory.of(ssh, memory, root)
    areas = list(_areas(ssh, kernel))
    mapped = walk_from(memory, (root,), some).kernel
    return {frame: _closer(frame, kind, kernel, areas, mapped) for frame, kind in kinds.items()}


Area = tuple[int, int, str]
"""Addresses of the kernel, the first and the one behind the last, and what is there."""


def _closer(frame: int, kind: str, kernel: KernelMemory, areas: list[Area], mapped: Mapped) -> str:
    if kind == SLAB:
        return f"{SLAB}, {kernel.slab(frame)}".rstrip(", ")
    if kind != KERNEL:
        return kind
    addresses = [mapped.at[frame]] if frame in mapped.at else []
    addresses += [address for other, address in mapped.more if other == frame]
    named = (area for first, end, area in areas for address in addresses if first <= address < end)
    return next(named, kind)


def _areas(ssh: Ssh, kernel: KernelMemory) -> Iterator[Area]:
    """What the kernel has at which addresses: what it has mapped there by vmalloc(), and the areas of each CPU."""
    for match in map(AREA.match, ssh.run(["cat", "/proc/vmallocinfo"], seconds=60).require().text.splitlines()):
        if match:
            stack = " (a stack)" if match[3] in ("dup_task_struct", "copy_process") else ""
            yield int(match[1], 16), int(match[2], 16), f"memory of the kernel's, allocated by {match[3]}(){stack}"
    pattern = "|".join(f" {name}$" for name in SYMBOLS)
    symbols = ssh.run(["grep", "-E", pattern, "/proc/kallsyms"], seconds=20).text.splitlines()
    at = {line.split()[2]: int(line.split()[0], 16) for line in symbols}
    if at.keys() == set(SYMBOLS):
        size = kernel.word(at["pcpu_unit_size"]) & 0xFFFFFFFF
        for cpu in range(CPUS):
            first = kernel.word(at["__per_cpu_offset"] + 8 * cpu)
            yield first, first + size, f"the area of CPU {cpu}"
