# SPDX-License-Identifier: GPL-2.0-or-later
"""What an outcome may depend on: the kernel's release, the processor's vendor, what runs the host's instructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Vendor(StrEnum):
    """Who made the host's processor, as the host sees it."""

    AMD = "amd"
    INTEL = "intel"


class Accelerator(StrEnum):
    """What runs the host's instructions, by QEMU's names where it has one."""

    TCG = "tcg"
    """QEMU's own software: the host is of the tier ``emulated``."""
    BOCHS = "bochs"
    """Bochs: likewise of the tier ``emulated``."""
    KVM = "kvm"
    """Another hypervisor: the host is of the tier ``nested``."""
    NONE = "none"
    """The processor itself: the host is of the tier ``bare-metal``."""


_VENDORS = {"AuthenticAMD": Vendor.AMD, "GenuineIntel": Vendor.INTEL}
EMULATOR = "emulator"
"""What a host says that QEMU does not emulate."""
_ACCELERATORS = {"emulated": Accelerator.TCG, "nested": Accelerator.KVM, "bare-metal": Accelerator.NONE}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a report states of the host under test.

    :ivar kernel: its release, as ``uname -r`` says. None, of each of these: not known, so that it fits nothing.
    """

    kernel: str | None = None
    vendor: Vendor | None = None
    accelerator: Accelerator | None = None

    @staticmethod
    def by_bochs(tier: str | None, host: Mapping[str, str]) -> bool:
        """Whether Bochs emulates a host; parameters as of ``of``."""
        return tier == "emulated" and host.get(EMULATOR, "").startswith("Bochs ")

    @classmethod
    def of(cls, release: str | None, tier: str | None, host: Mapping[str, str]) -> HostFacts:
        """The facts out of a record.

        :param release: of the kernel. :param host: name and value; ``processor`` begins with CPUID's vendor.
        """
        vendor = host.get("processor", "").partition(",")[0]
        release_number = release if release and release[0].isdigit() else None
        runs = Accelerator.BOCHS if cls.by_bochs(tier, host) else _ACCELERATORS.get(tier or "")
        return cls(release_number, _VENDORS.get(vendor), runs)
