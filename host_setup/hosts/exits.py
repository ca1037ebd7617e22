# SPDX-License-Identifier: GPL-2.0-or-later
"""How KVM_RUN has ended in a VMM (guest_images/modules/host_exits.c), and what KVM's emulator has done there.

The module counts from the host's start on, so two looks tell what happened between them.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# linux/kvm.h
MMIO, INTERNAL_ERROR = 6, 17
_REASONS = {
    0: "UNKNOWN", 1: "EXCEPTION", 2: "IO", 3: "HYPERCALL", 4: "DEBUG", 5: "HLT", 6: "MMIO", 8: "SHUTDOWN",
    9: "FAIL_ENTRY", 16: "NMI", 17: "INTERNAL_ERROR", 24: "SYSTEM_EVENT", 26: "IOAPIC_EOI", 39: "MEMORY_FAULT",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KvmExit:
    """An end of KVM_RUN that no working guest gives it.

    :ivar reason: KVM_EXIT_*. :ivar result: 0, or a negative errno; then the reason says nothing.
    :ivar suberror: of KVM_EXIT_INTERNAL_ERROR. :ivar is_write: this, the guest-physical address and the length in bytes
        are of KVM_EXIT_MMIO.
    """

    reason: int
    result: int = 0
    suberror: int = 0
    is_write: bool = False
    gpa: int = 0
    length: int = 0

    def __str__(self) -> str:
        """In words, for a report."""
        if self.result:
            return f"KVM_RUN failed: {errno.errorcode.get(-self.result, self.result)}"
        name = f"KVM_EXIT_{_REASONS.get(self.reason, self.reason)}"
        if self.reason == MMIO:
            access = "store" if self.is_write else "load"
            return f"{name}: {access} of {self.length} bytes at {self.gpa:#x}, which is memory"
        return f"{name}, suberror {self.suberror}" if self.reason == INTERNAL_ERROR else name


@dataclass(frozen=True, slots=True)
class Exits:
    """All ends of KVM_RUN in a VMM.

    :ivar total: how many there were. :ivar device: of them, those for a device's memory.
    :ivar missed: how many were not counted, in any process.
    :ivar noted: how many no working guest gives it. :ivar last: the last of these, up to 16.
    :ivar emulated: instructions that KVM's emulator carried out. :ivar not_emulated: and those that it could not.
    """

    total: int
    device: int
    missed: int
    noted: int
    last: tuple[KvmExit, ...]
    emulated: int
    not_emulated: int

    def lines_since(self, before: int) -> list[str]:
        """In words, what was noted since that number; what is no longer kept is only counted."""
        new = self.noted - before
        notes = [str(note) for note in self.last[-new:]] if new else []
        return [*([f"{new - len(notes)} that are not recorded"] if new > len(notes) else []), *notes]


def parse(account: Mapping[str, Any]) -> Exits:
    """What the program ``page_info`` says."""
    return Exits(
        total=account["exits"],
        device=account["device"],
        missed=account["missed"],
        noted=account["noted"],
        last=tuple(KvmExit(**note) for note in account["last"]),
        emulated=account["emulated"],
        not_emulated=account["not_emulated"],
    )
